#include "sandbox/supervisor/parallel.h"

#include "sandbox/supervisor/dialect.h"
#include "sandbox/supervisor/shebang.h"
#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {
namespace {

// One argument may be 128 KiB (MAX_ARG_STRLEN); above this the shell reads a file.
constexpr size_t kLongestArgument = 96U << 10;

}  // namespace

// Another user cannot walk the path to the spool: it gets the open file by number.
long ParallelLane::WriteScript(Command& command, const Account* account, Fd* kept, Str* path) {
    const long error =
        runtime_.spool.WriteInCommand(command.n, "script", command.order->script.view());
    if (error < 0) return error;
    if (account == nullptr) {
        path->append(runtime_.spool.path()).append("/commands/").Number(command.n);
        path->append("/script");
        return 0;
    }
    *kept = Fd(runtime_.spool.OpenInCommand(command.n, "script", O_RDONLY));
    sys::ChangeOwnerFd(kept->get(), account->uid, account->gid);
    path->append("/proc/self/fd/").Number(static_cast<uint64_t>(kept->get()));
    return 0;
}

void ParallelLane::Start(Command& command) {
    StartOrder& order = *command.order;
    Account account;
    Str reason;
    const WhoResult who = ChooseUser(runtime_, order.user.view(), &account);
    if (who == WhoResult::kUnknown || who == WhoResult::kForbidden) {
        AppendUserProblem(&reason, who, order.user.view());
        return commands_.Finish(
            command, NotStarted(who == WhoResult::kUnknown ? ENOENT : EPERM, reason.view()));
    }
    const Account* other = who == WhoResult::kOther ? &account : nullptr;
    Shebang shebang;
    const bool has_shebang = ParseShebang(order.script.view(), &shebang);
    Shell shell;
    if (!has_shebang && !ChooseShell(runtime_, order.shell.view(), &shell)) {
        return commands_.Finish(command, NotStarted(ENOENT,
                                                    "there is no shell in the sandbox; "
                                                    "name one in config/shell"));
    }
    SpawnOrder spawn;
    Str program(has_shebang ? shebang.interpreter : shell.path.view());
    Str argument(has_shebang ? shebang.argument : View());
    Str path;
    Fd kept;
    const bool needs_file = has_shebang || order.script.size() > kLongestArgument;
    const long written = needs_file ? WriteScript(command, other, &kept, &path) : 0;
    if (written < 0) {
        reason.append("cannot write its script to the spool: ");
        AppendErrno(&reason, written);
        return commands_.Finish(command, NotStarted(written, reason.view()));
    }
    spawn.program = program.view();
    if (has_shebang) {
        spawn.argv.Add(program.c_str());
        if (!argument.empty()) spawn.argv.Add(argument.c_str());
    } else {
        spawn.argv.Add(shell.name.c_str());
        AddShellOptions(shell.program.view(), order.login, &spawn.argv);
    }
    if (needs_file) {
        spawn.argv.Add(path.c_str());
    } else {
        spawn.argv.Add("-c");
        spawn.argv.Add(order.script.c_str());
    }
    spawn.script = kept.get();
    // First, where ReadMark finds it soonest.
    spawn.env.Set("SBXFS_EVENT", command.tree.mark.view());
    for (const Str& entry : runtime_.env.Entries())
        spawn.env.SetPair(entry.view());
    if (other != nullptr) {
        SetIdentity(account, &spawn.env);
        spawn.account = other;
    }
    for (const Str& entry : order.env.Entries())
        spawn.env.SetPair(entry.view());
    const View home = other != nullptr ? account.home.view() : runtime_.home.view();
    Str cwd(!order.cwd.empty() ? order.cwd.view() : home.empty() ? View("/") : home);
    spawn.env.Set("PWD", cwd.view());
    spawn.cwd = cwd.view();
    const Fd out(runtime_.spool.OpenInCommand(command.n, "stdout", O_WRONLY | O_APPEND));
    const Fd err(runtime_.spool.OpenInCommand(command.n, "stderr", O_WRONLY | O_APPEND));
    spawn.in = runtime_.null.get();
    spawn.out = out.get();
    spawn.err = err.get();
    long error = !out || !err ? -EIO : commands_.Begin(command, {}, 0);
    if (error == 0) {
        Spawned spawned = Spawn(spawn, runtime_.inherited);
        error = spawned.pid < 0 ? spawned.pid : 0;
        if (error == 0) {
            Process process;
            ReadProcess(static_cast<int>(spawned.pid), &process);
            const int pid = static_cast<int>(spawned.pid);
            commands_.SetRoot(command, {pid, process.start}, pid);
            command.spawned = std::move(spawned.status);
            runtime_.Watch(command.spawned.get(), EPOLLIN, Tag(Source::kSpawned, command.n));
            order.script.reset();
            return;
        }
    }
    AppendSpawnFailure(&reason, {SpawnStep::kFork, static_cast<int32_t>(-error)}, program.view(),
                       cwd.view());
    commands_.Finish(command, NotStarted(error, reason.view()));
}

void ParallelLane::OnSpawned(uint64_t n) {
    Command* command = commands_.Find(n);
    if (command == nullptr || !command->spawned) return;
    SpawnFailure failure;
    const SpawnNews news = ReadSpawnStatus(command->spawned.get(), &failure);
    if (news == SpawnNews::kNothingYet) return;
    runtime_.Unwatch(command->spawned.get());
    command->spawned.reset();
    if (news == SpawnNews::kRunning) {
        command->tell_started = true;
        return;
    }
    Str reason;
    Shell shell;
    Shebang shebang;
    const StartOrder* order = command->order.get();
    Str program;
    // The script is still in its file where it had a #! line.
    Str script;
    Str path;
    path.Number(n).append("/script");
    ReadFile(runtime_.spool.commands(), path.c_str(), &script, 4096);
    if (ParseShebang(script.view(), &shebang)) {
        program.Assign(shebang.interpreter);
    } else {
        ChooseShell(runtime_, order != nullptr ? order->shell.view() : View(), &shell);
        program.Assign(shell.path.view());
    }
    const View cwd =
        order != nullptr && !order->cwd.empty() ? order->cwd.view() : runtime_.home.view();
    AppendSpawnFailure(&reason, failure, program.view(), cwd);
    commands_.Finish(*command, NotStarted(failure.error, reason.view()));
}

bool ParallelLane::OnExit(int pid, int wait_status) {
    for (size_t i = 0; i < commands_.Count(); ++i) {
        Command& command = commands_.At(i);
        if (command.lane != Lane::kParallel || command.tree.root.pid != pid) continue;
        if (command.phase == Phase::kRunning) {
            OnSpawned(command.n);  // it may have failed before exec
            if (command.phase == Phase::kRunning) {
                commands_.Finish(command, EndingOf(wait_status));
            }
        } else if (command.phase == Phase::kEnding) {
            command.root_gone = true;
        } else {
            continue;  // an old one with the same pid
        }
        return true;
    }
    return false;
}

}  // namespace sbxfs::supervisor
