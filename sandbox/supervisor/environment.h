// The environment commands are started with: what the image gave PID 1, what the login gave us,
// what the daemon asks for. An ordered list of "NAME=value" without repeated names.
#pragma once

#include "sandbox/supervisor/bytes.h"

namespace sbxfs::supervisor {

class Environment {
 public:
    void Set(View name, View value);
    // "NAME=value"; anything else is ignored.
    void SetPair(View pair);
    void Remove(View name);
    // Whether there is such a variable; `value` points into the list until its next change.
    bool Get(View name, View* value) const;
    View Or(View name, View otherwise) const;
    Environment Copy() const;
    // As execve(2) wants it; valid until the next change.
    void Pointers(Vec<const char*>* to);
    const Vec<Str>& Entries() const { return entries_; }

 private:
    size_t IndexOf(View name) const;
    Vec<Str> entries_;
};

// Whether a name may be set from outside: not empty, no '=', no NUL.
bool IsVariableName(View name);

// Whether a shell can have a variable of this name (XBD 3.235).
bool IsShellName(View name);

// PID 1's environment as `image`, without what is ours (SBXFS_*). False when it cannot be read.
bool ReadImageEnvironment(Environment* image);

// What commands get: the login's, under the image's. The image wins, since contract.md promises the
// entrypoint's environment and sshd gives every login a PATH of its own; but who we are (USER,
// LOGNAME, SHELL, and HOME unless PID 1 runs as our user) is the login's. Of a machine booted by a
// real init nothing is taken: that is no image. The traces of one ssh connection are dropped: a
// command outlives it.
Environment MergeEnvironment(char** login, const Environment& image, bool image_is_ours);

}  // namespace sbxfs::supervisor
