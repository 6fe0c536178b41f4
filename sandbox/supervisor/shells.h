// Which shell to run and as whom: from what a Start names, the environment, /etc/passwd and the
// links behind a path.
#pragma once

#include "sandbox/supervisor/accounts.h"
#include "sandbox/supervisor/runtime.h"

namespace sbxfs::supervisor {

struct Shell {
    Str path;
    Str name;     // argv[0]: the last part of the path, so that messages say "bash: line 1:"
    Str program;  // the last part of what the links lead to: dash for a /bin/sh that is dash
};

// What an empty shell means: /bin/bash, a bash in the PATH, /bin/sh. Empty when there is none.
Str DefaultShell(const Environment& env);
// `wanted` may be empty. False when there is no shell at all.
bool ChooseShell(const Runtime& runtime, View wanted, Shell* to);

enum class WhoResult { kOurselves, kOther, kUnknown, kForbidden };
// Who a command runs as. kOther fills `account` and needs root, which we are then.
WhoResult ChooseUser(const Runtime& runtime, View wanted, Account* account);
// For kUnknown and kForbidden.
void AppendUserProblem(Str* to, WhoResult result, View wanted);
// HOME, USER, LOGNAME and SHELL of that account.
void SetIdentity(const Account& account, Environment* env);

}  // namespace sbxfs::supervisor
