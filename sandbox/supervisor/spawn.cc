#include "sandbox/supervisor/spawn.h"

#include <linux/prctl.h>

#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {
namespace {

[[noreturn]] void Fail(int status, SpawnStep step, long error) {
    const SpawnFailure failure{step, static_cast<int32_t>(-error)};
    sys::Write(status, &failure, sizeof failure);
    sys::Exit(127);
}

void BecomeUser(const Account& account, int status) {
    const auto* groups = account.groups.begin();
    long error =
        sys::Call(__NR_setgroups, static_cast<long>(account.groups.size()), sys::AsLong(groups));
    if (error == 0) error = sys::Call(__NR_setresgid, account.gid, account.gid, account.gid);
    if (error == 0) error = sys::Call(__NR_setresuid, account.uid, account.uid, account.uid);
    if (error < 0) Fail(status, SpawnStep::kUser, error);
}

[[noreturn]] void RunChild(const SpawnOrder& order, const Inherited& inherited, int status,
                           int parent, const char* program, const char* cwd,
                           const char* const* argv, const char* const* envp) {
    sys::SetSid();
    for (int signal = 1; signal <= sys::kLastSignal; ++signal)
        sys::Disposition(signal, false);
    sys::Duplicate(order.in, 0);
    sys::Duplicate(order.out, 1);
    sys::Duplicate(order.err, 2);
    if (order.commands >= 0) sys::Duplicate(order.commands, kCommandsFd);
    if (order.script >= 0) sys::Control(order.script, F_SETFD, 0);
    if (!inherited.oom_score.empty()) {
        WriteFile(AT_FDCWD, "/proc/self/oom_score_adj", inherited.oom_score.view());
    }
    const rlimit64 files{inherited.soft_files, inherited.hard_files};
    sys::SetLimit(RLIMIT_NOFILE, files);
    sys::Umask(inherited.umask);
    if (order.account != nullptr) BecomeUser(*order.account, status);
    // After the change of user, which clears it.
    sys::Prctl(PR_SET_PDEATHSIG, sys::kKill);
    if (sys::GetPpid() != parent) Fail(status, SpawnStep::kGone, -ESRCH);
    if (const long error = sys::ChangeDir(cwd); error < 0) {
        Fail(status, SpawnStep::kDirectory, error);
    }
    sys::SetMask(0);
    Fail(status, SpawnStep::kProgram, sys::Execve(program, argv, envp));
}

}  // namespace

Spawned Spawn(SpawnOrder& order, const Inherited& inherited) {
    Spawned spawned;
    int ends[2] = {-1, -1};
    if (const long error = sys::Pipe(ends, O_CLOEXEC | O_NONBLOCK); error < 0) {
        spawned.pid = error;
        return spawned;
    }
    spawned.status = Fd(ends[0]);
    const Fd tell(ends[1]);
    Str program(order.program);
    Str cwd(order.cwd);
    program.c_str();
    cwd.c_str();
    Vec<const char*> envp;
    order.env.Pointers(&envp);
    order.argv.Add(nullptr);
    const int parent = sys::GetPid();
    spawned.pid = sys::Fork();
    if (spawned.pid == 0) {
        RunChild(order, inherited, tell.get(), parent, program.data(), cwd.data(),
                 order.argv.begin(), envp.begin());
    }
    return spawned;
}

SpawnNews ReadSpawnStatus(int status, SpawnFailure* failure) {
    long got = -EINTR;
    while (got == -EINTR)
        got = sys::Read(status, failure, sizeof *failure);
    if (got == -EAGAIN) return SpawnNews::kNothingYet;
    return got == sizeof *failure ? SpawnNews::kFailed : SpawnNews::kRunning;
}

void AppendSpawnFailure(Str* to, const SpawnFailure& failure, View program, View cwd) {
    switch (failure.step) {
        case SpawnStep::kDirectory:
            to->append("cannot enter the directory ").append(cwd).append(": ");
            AppendErrno(to, failure.error);
            to->append("; create it, or write another one to config/cwd");
            return;
        case SpawnStep::kProgram:
            to->append("cannot execute ").append(program).append(": ");
            AppendErrno(to, failure.error);
            to->append(
                failure.error == E2BIG
                    ? "; the environment or the script is too large"
                    : "; name one that exists in the sandbox (config/shell, or the #! line)");
            return;
        case SpawnStep::kUser:
            to->append("cannot become that user: ");
            AppendErrno(to, failure.error);
            to->append("; only root may, leave config/user empty");
            return;
        case SpawnStep::kFork:
        case SpawnStep::kGone:
            to->append("cannot start a process: ");
            AppendErrno(to, failure.error);
            to->append("; the sandbox has too many, or too little memory");
            return;
    }
}

}  // namespace sbxfs::supervisor
