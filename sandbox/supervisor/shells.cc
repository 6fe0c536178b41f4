#include "sandbox/supervisor/shells.h"

#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {
namespace {

constexpr char kUsualPath[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// The last part of what a path leads to, through at most eight links.
Str ProgramBehind(View path) {
    Str at(path);
    char target[4096];
    for (int links = 0; links < 8; ++links) {
        const long length = sys::ReadLinkAt(AT_FDCWD, at.c_str(), target, sizeof target);
        if (length <= 0) break;
        const View text(target, static_cast<size_t>(length));
        if (text[0] == '/') {
            at.Assign(text);
            continue;
        }
        const View here = at.view();
        Str next(here.First(here.size - BaseName(here).size));
        next.append(text);
        at = std::move(next);
    }
    return Str(BaseName(at.view()));
}

}  // namespace

Str DefaultShell(const Environment& env) {
    if (sys::AccessExecute("/bin/bash") == 0) return Str("/bin/bash");
    View path = env.Or("PATH", View(static_cast<const char*>(kUsualPath)));
    while (!path.empty()) {
        const size_t end = path.Find(':');
        Str candidate(path.First(end));
        path = path.From(end + 1);
        if (candidate.empty() || candidate.view()[0] != '/') continue;
        candidate.append("/bash");
        if (sys::AccessExecute(candidate.c_str()) == 0) return candidate;
    }
    if (sys::AccessExecute("/bin/sh") == 0) return Str("/bin/sh");
    return {};
}

bool ChooseShell(const Runtime& runtime, View wanted, Shell* to) {
    to->path.Assign(wanted.empty() ? runtime.default_shell.view() : wanted);
    if (to->path.empty()) return false;
    to->program = ProgramBehind(to->path.view());
    to->name.Assign(BaseName(to->path.view()));
    // busybox looks at its own name to know what it is.
    if (to->name.view() == "busybox") to->name.Assign("sh");
    return true;
}

WhoResult ChooseUser(const Runtime& runtime, View wanted, Account* account) {
    if (wanted.empty()) return WhoResult::kOurselves;
    Str passwd;
    ReadFile(AT_FDCWD, "/etc/passwd", &passwd, 4 << 20);
    if (!FindAccount(passwd.view(), wanted, account)) {
        uint64_t number = 0;
        if (!ParseNumber(wanted, &number) || number >= UINT32_MAX) return WhoResult::kUnknown;
        account->uid = account->gid = static_cast<uint32_t>(number);
        account->name.Assign(wanted);
        account->home.Assign("/");
    }
    if (account->uid == runtime.uid) return WhoResult::kOurselves;
    if (runtime.uid != 0) return WhoResult::kForbidden;
    Str group;
    ReadFile(AT_FDCWD, "/etc/group", &group, 4 << 20);
    AddGroups(group.view(), account);
    return WhoResult::kOther;
}

void AppendUserProblem(Str* to, WhoResult result, View wanted) {
    if (result == WhoResult::kUnknown) {
        to->append("there is no user ").append(wanted);
        to->append(" in the sandbox's /etc/passwd; write another to config/user");
    } else {
        to->append("only root can run commands as ").append(wanted);
        to->append("; leave config/user empty");
    }
}

void SetIdentity(const Account& account, Environment* env) {
    env->Set("HOME", account.home.empty() ? View("/") : account.home.view());
    env->Set("USER", account.name.view());
    env->Set("LOGNAME", account.name.view());
    if (!account.shell.empty()) env->Set("SHELL", account.shell.view());
}

}  // namespace sbxfs::supervisor
