#include "sandbox/supervisor/shell_lane.h"

#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {
namespace {

constexpr int64_t kFirstLookMs = 250;
constexpr int64_t kLongestLookMs = 1000;
constexpr int64_t kStuckMs =
    2000;  // contract.md: a shell that does not report within 2 s is restarted
constexpr int kUnreadShells = 3;
constexpr unsigned long kFionRead = 0x541B;

void AppendWhy(Str* to, const Ending& ending) {
    if (ending.outcome == Outcome::kSignaled) {
        to->append("killed by signal ").Number(ending.code);
    } else {
        to->append("it exited with status ").Number(ending.code);
    }
}

}  // namespace

void ShellLane::Enqueue(Command& command) {
    waiting_.Add(command.n);
    waiting_bytes_ += command.order->script.size();
    Advance();
}

bool ShellLane::Cancel(Command& command) {
    for (size_t i = 0; i < waiting_.size(); ++i) {
        if (waiting_[i] != command.n || command.phase != Phase::kWaiting) continue;
        waiting_.Remove(i);
        waiting_bytes_ -= command.order->script.size();
        commands_.Finish(command, NotStarted(ECANCELED, "cancelled before its turn"));
        return true;
    }
    return false;
}

void ShellLane::Advance() {
    if (running_ != nullptr && running_->phase == Phase::kDone) running_ = nullptr;
    while (running_ == nullptr && !waiting_.empty()) {
        Command* next = commands_.Find(waiting_[0]);
        waiting_.Remove(0);
        if (next == nullptr || next->phase != Phase::kWaiting) {
            if (waiting_.empty()) waiting_bytes_ = 0;
            continue;
        }
        waiting_bytes_ -= next->order->script.size();
        if (shell_.pid != 0) {
            if (const char* why = RestartReason(*next->order)) RestartShell(*next->order, why);
        }
        if (shell_.pid == 0 ? !StartShell(*next) : !TellSettings(*next)) continue;
        BeginCommand(*next);
    }
}

// Why what this command wants cannot be told to the shell there is; nullptr when it can.
const char* ShellLane::RestartReason(const StartOrder& order) const {
    if (!settings_.known) return nullptr;
    if (!(order.user.view() == settings_.user.view())) return "config/user was changed";
    if (!(order.shell.view() == settings_.shell.view())) return "config/shell was changed";
    if (order.login != settings_.login) return "login_shell was changed";
    // Whether that user may enter it only the system can tell, when it starts the shell there.
    if (other_user_ && !(order.cwd.view() == settings_.cwd.view())) return "config/cwd was changed";
    return nullptr;
}

void ShellLane::RestartShell(const StartOrder& order, const char* why) {
    // Another user may not be let in where this one is.
    directory_ = order.user.view() == settings_.user.view() ? CurrentDirectory() : Str();
    told_.clear();
    sys::Kill(shell_.pid, sys::kKill);  // nothing of it runs: it waits for its next line
    ShellGone(why);
}

// Says what of the settings has changed. False: the command cannot run as they are, and was told so.
bool ShellLane::TellSettings(Command& command) {
    const StartOrder& order = *command.order;
    const bool moved = !(order.cwd.view() == settings_.cwd.view()) && !order.cwd.empty();
    if (moved) {
        Str path(order.cwd.view());
        const Fd there(sys::OpenAt(AT_FDCWD, path.c_str(), O_PATH | O_DIRECTORY));
        if (!there) {
            Str reason;
            reason.append("config/cwd names ").append(order.cwd.view());
            reason.append(", which is no directory there: make it, or write another to config/cwd");
            settings_.cwd
                .clear();  // whatever it is changed to is a change, also back to what it was
            commands_.Finish(command, NotStarted(ENOENT, reason.view()));
            return false;
        }
    }
    AppendSettingsLine(&feed_, dialect_,
                       {.base = base_env_,
                        .before = settings_.env,
                        .after = order.env,
                        .cwd = moved ? order.cwd.view() : View()});
    Remember(order);
    return true;
}

void ShellLane::Remember(const StartOrder& order) {
    settings_.known = true;
    settings_.login = order.login;
    settings_.shell.Assign(order.shell.view());
    settings_.user.Assign(order.user.view());
    settings_.cwd.Assign(order.cwd.view());
    settings_.env = order.env.Copy();
}

bool ShellLane::ChooseDirectory(const StartOrder& order, Str* cwd) {
    if (settings_.known && !order.cwd.empty() && !(order.cwd.view() == settings_.cwd.view())) {
        cwd->Assign(order.cwd.view());  // config/cwd was changed
        return true;
    }
    for (const View candidate : {told_.view(), directory_.view()}) {
        if (candidate.empty()) continue;
        Str path(candidate);
        const Fd there(sys::OpenAt(AT_FDCWD, path.c_str(), O_PATH | O_DIRECTORY));
        if (there) {
            cwd->Assign(candidate);
            return true;
        }
    }
    cwd->Assign(!order.cwd.empty()       ? order.cwd.view()
                : !runtime_.home.empty() ? runtime_.home.view()
                                         : View("/"));
    return true;
}

bool ShellLane::StartShell(Command& command) {
    const StartOrder& order = *command.order;
    if (!runtime_.spool.HasReports()) {
        // Somebody cleaned up below us. Without it no shell could ever report again.
        runtime_.Unwatch(runtime_.spool.reports());
        long error = runtime_.spool.OpenReports();
        if (error == 0) {
            error = runtime_.Watch(runtime_.spool.reports(), EPOLLIN, Tag(Source::kReports));
        }
        if (error < 0) {
            Str reason;
            reason.append("cannot make what shells report through in the spool: ");
            AppendErrno(&reason, error);
            commands_.Finish(command, NotStarted(error, reason.view()));
            return false;
        }
    }
    Shell shell;
    if (!ChooseShell(runtime_, order.shell.view(), &shell)) {
        commands_.Finish(command, NotStarted(ENOENT,
                                             "there is no shell in the sandbox: neither "
                                             "bash nor /bin/sh; name one in config/shell"));
        return false;
    }
    dialect_ = DialectOf(shell.program.view());
    if (!dialect_.known) {
        Str reason;
        reason.append(shell.path.view()).append(" cannot be a persistent shell; write one of ");
        reason.append(View(static_cast<const char*>(kKnownShells))).append(" to config/shell");
        commands_.Finish(command, NotStarted(EINVAL, reason.view()));
        return false;
    }
    Account account;
    const WhoResult who = ChooseUser(runtime_, order.user.view(), &account);
    if (who == WhoResult::kUnknown || who == WhoResult::kForbidden) {
        Str reason;
        AppendUserProblem(&reason, who, order.user.view());
        commands_.Finish(command,
                         NotStarted(who == WhoResult::kUnknown ? ENOENT : EPERM, reason.view()));
        return false;
    }
    other_user_ = who == WhoResult::kOther;

    SpawnOrder spawn;
    Str cwd;
    ChooseDirectory(order, &cwd);
    spawn.program = shell.path.view();
    spawn.argv.Add(shell.name.c_str());
    AddShellOptions(shell.program.view(), order.login, &spawn.argv);
    spawn.env = runtime_.env.Copy();
    if (other_user_) {
        SetIdentity(account, &spawn.env);
        if (order.cwd.empty() && told_.empty() && directory_.empty())
            cwd.Assign(account.home.view());
        spawn.account = &account;
        spawn.commands = runtime_.spool.commands();
    }
    base_env_ = spawn.env.Copy();
    for (const Str& entry : order.env.Entries())
        spawn.env.SetPair(entry.view());
    spawn.env.Set("PWD", cwd.view());
    spawn.cwd = cwd.view();
    int ends[2] = {-1, -1};
    const long piped = sys::Pipe(ends, O_CLOEXEC);
    const Fd read_end(piped < 0 ? -1 : ends[0]);
    input_ = Fd(piped < 0 ? -1 : ends[1]);
    spawn.in = read_end.get();
    spawn.out = spawn.err = runtime_.null.get();
    Spawned spawned;
    spawned.pid = piped;
    if (piped == 0) spawned = Spawn(spawn, runtime_.inherited);
    if (spawned.pid < 0) {
        Str reason;
        AppendSpawnFailure(&reason, {SpawnStep::kFork, static_cast<int32_t>(-spawned.pid)},
                           shell.path.view(), cwd.view());
        commands_.Finish(command, NotStarted(spawned.pid, reason.view()));
        return false;
    }
    Process process;
    ReadProcess(static_cast<int>(spawned.pid), &process);
    shell_ = {static_cast<int>(spawned.pid), process.start};
    commands_.shell_pid = shell_.pid;
    spawned_ = std::move(spawned.status);
    runtime_.Watch(spawned_.get(), EPOLLIN, Tag(Source::kSpawned));
    sys::Control(input_.get(), F_SETFL, O_NONBLOCK);
    struct stat stat {};
    sys::StatFd(input_.get(), &stat);
    input_inode_ = stat.st_ino;
    directory_ = std::move(cwd);
    told_.clear();
    Remember(order);
    status_ = 0;
    traced_ = false;
    errexit_ = false;
    killed_stuck_ = false;
    feed_.reset();
    fed_ = 0;
    feed_watched_ = false;
    runtime_.Watch(input_.get(), 0, Tag(Source::kShellInput));
    Str fifo(other_user_ ? View("/proc/self/fd/200") : runtime_.spool.path());
    fifo.append(other_user_ ? "/report" : "/commands/report");
    AppendInitLines(&feed_, dialect_, fifo.view());
    return true;
}

void ShellLane::BeginCommand(Command& command) {
    if (const long error = commands_.Begin(command, shell_, shell_.pid); error < 0) {
        Str reason;
        reason.append("cannot write to the spool ").append(runtime_.spool.path()).append(": ");
        AppendErrno(&reason, error);
        commands_.Finish(command, NotStarted(error, reason.view()));
        return;
    }
    running_ = &command;
    if (!ended_why_.empty()) {
        command.fresh = kShellFresh;
        command.fresh_reason.Assign(ended_why_.view());
    }
    Str base;
    if (other_user_) {
        base.append("/proc/self/fd/200/");
    } else {
        base.append(runtime_.spool.path()).append("/commands/");
    }
    base.Number(command.n);
    Str out(base.view());
    out.append("/stdout");
    Str err(base.view());
    err.append("/stderr");
    ShellCommand said;
    said.n = command.n;
    said.event = command.tree.mark.view();
    said.script = command.order->script.view();
    said.out = out.view();
    said.err = err.view();
    said.status = status_;
    said.exec = has_exec_ = NeedsExec(dialect_, said.script, traced_, errexit_);
    AppendCommandLines(&feed_, dialect_, said);
    command.tell_started = !spawned_;
    stuck_since_ms_ = kNever;
    look_step_ms_ = kFirstLookMs;
    next_look_ms_ = sys::MonotonicMs() + look_step_ms_;
    Feed();
}

void ShellLane::Feed() {
    while (fed_ < feed_.size()) {
        const long put = sys::Write(input_.get(), feed_.data() + fed_, feed_.size() - fed_);
        if (put == -EINTR) continue;
        if (put < 0) break;  // full, or the shell is gone: its exit follows
        fed_ += static_cast<size_t>(put);
    }
    const bool more = fed_ < feed_.size();
    if (!more) {
        // The order is kept until the script was read: a shell may end before it.
        feed_.size() > 65536 ? feed_.reset() : feed_.clear();
        fed_ = 0;
    }
    if (more != feed_watched_) {
        feed_watched_ = more;
        runtime_.Rewatch(input_.get(), more ? EPOLLOUT : 0, Tag(Source::kShellInput));
    }
}

void ShellLane::OnRoom(bool closed) {
    if (!input_) return;
    // A script may close its shell's input, and go on for long: told once, not for as long as that lasts.
    if (closed) return runtime_.Unwatch(input_.get());
    Feed();
}

void ShellLane::OnSpawned() {
    if (!spawned_) return;
    SpawnFailure failure;
    const SpawnNews news = ReadSpawnStatus(spawned_.get(), &failure);
    if (news == SpawnNews::kNothingYet) return;
    if (news == SpawnNews::kRunning) {
        runtime_.Unwatch(spawned_.get());
        spawned_.reset();
        if (running_ != nullptr && running_->phase != Phase::kDone) running_->tell_started = true;
        return;
    }
    runtime_.Unwatch(spawned_.get());
    spawned_.reset();
    Str reason;
    Process process;
    const Str asked(running_ != nullptr && running_->order ? running_->order->shell.view()
                                                           : View());
    Shell shell;
    ChooseShell(runtime_, asked.view(), &shell);
    AppendSpawnFailure(&reason, failure, shell.path.view(), directory_.view());
    directory_.clear();  // it never was there
    ShellGone("it could not be started");
    ended_why_.clear();
    if (running_ != nullptr) EndRunning(NotStarted(failure.error, reason.view()));
    Advance();
}

void ShellLane::OnReports() {
    char page[8192];
    for (int rounds = 0; rounds < 64; ++rounds) {
        const long got = sys::Read(runtime_.spool.reports(), page, sizeof page);
        if (got <= 0) break;
        const View bytes(page, static_cast<size_t>(got));
        for (size_t at = 0; at < bytes.size;) {
            const size_t end = bytes.Find('\n', at);
            // A path is 4096 bytes at most; a longer line is nobody's report, and is dropped by its
            // own end.
            if (reports_.size() < 8192) reports_.append(bytes.data + at, end - at);
            if (end == bytes.size) break;
            OnReport(ParseReport(reports_.view()));
            reports_.clear();
            at = end + 1;
        }
    }
}

void ShellLane::OnReport(const Report& report) {
    if (report.kind == Report::Kind::kDirectory) {
        if (shell_.pid != 0 && report.number == static_cast<uint64_t>(shell_.pid)) {
            told_.Assign(report.directory);
        }
        return;
    }
    if (report.kind != Report::Kind::kStatus || running_ == nullptr || shell_.pid == 0) return;
    if (report.number != running_->n) return;
    if (running_->phase == Phase::kEnding) {
        // It caught the TERM and finished its script; a shell is not kept beyond a timeout.
        sys::Kill(shell_.pid, sys::kKill);
        return;
    }
    if (running_->phase != Phase::kRunning) return;
    unread_ = 0;
    ended_why_.clear();
    status_ = report.status;
    traced_ = report.traced;
    errexit_ = report.errexit;
    Ending ending;
    ending.outcome = Outcome::kExited;
    ending.code = report.status;
    const uint32_t signal = report.status - 128;
    if (report.status > 128 && signal <= sys::kLastSignal &&
        (running_->signalled & sys::SignalBit(static_cast<int>(signal))) != 0) {
        ending.outcome = Outcome::kSignaled;
        ending.code = signal;
    }
    directory_ = CurrentDirectory();
    ending.cwd.Assign(directory_.view());
    if (has_exec_ && !traced_) AppendIdleLine(&feed_);
    // A shell without descriptors could not run another command, only pretend to.
    rlimit64 files{};
    constexpr uint64_t kFilesNeeded = 24;
    if (sys::GetLimit(shell_.pid, RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < kFilesNeeded) {
        ending.shell = kShellEnded;
        ending.reason.Assign("ulimit -n left the shell too few descriptors to go on");
        sys::Kill(shell_.pid, sys::kKill);
    }
    EndRunning(std::move(ending));
    Feed();
    Advance();
}

void ShellLane::EndRunning(Ending ending) {
    next_look_ms_ = kNever;
    Command& command = *running_;
    running_ = nullptr;
    commands_.Finish(command, std::move(ending));
}

// Whether the shell ended before it had read the whole of its command: eval's word ends with the
// line, so then nothing of it ran. What the pipe still holds tells, since we kept our end of it
// open.
bool ShellLane::NeverRead() const {
    int unread = 0;
    sys::Ioctl(input_.get(), kFionRead, &unread);
    return unread > 0 || fed_ < feed_.size();
}

bool ShellLane::OnExit(int pid, int wait_status) {
    if (shell_.pid == 0 || pid != shell_.pid) return false;
    OnReports();  // what it said before it ended comes first
    OnSpawned();
    if (shell_.pid == 0) return true;
    Ending ending = EndingOf(wait_status);
    Str why;
    AppendWhy(&why, ending);
    Command* command = running_;
    // Signals.AKillThatComesBeforeTheShellHasReadItsCommandEndsIt
    const bool never_read = NeverRead();
    const bool killed = never_read && command != nullptr && command->killed_before;
    const bool unread = never_read && !killed && !killed_stuck_;
    if (killed) {
        ending = {};
        ending.outcome = Outcome::kSignaled;
        ending.code = sys::kKill;
    }
    ShellGone(why.view());
    if (command == nullptr || command->phase == Phase::kDone) {
        Advance();
        return true;
    }
    if (command->phase == Phase::kEnding) {
        command->root_gone = true;
        ended_why_.Assign(command->cause == EndCause::kTimeout ? "timeout"
                                                               : "the sandbox's time ran out");
        return true;
    }
    if (unread && ++unread_ < kUnreadShells) {
        // The one before it broke the shell. This one never ran, so it may start again, in a new
        // shell.
        running_ = nullptr;
        if (StartShell(*command)) BeginCommand(*command);
        return true;
    }
    ending.shell = kShellEnded;
    ending.cwd.Assign(told_.empty() ? directory_.view() : told_.view());
    if (unread) {
        ending = NotStarted(EIO,
                            "the shell ends before it reads a command; look at its start-up "
                            "files, or name another in config/shell");
        unread_ = 0;
    } else if (killed_stuck_) {
        ending.reason.Assign(
            "the shell did not report within 2 s of the script's end (set -n, or "
            "closed descriptors) and was killed");
        ended_why_.Assign("it did not report");
    } else {
        ending.reason.append("the shell ended with it: ").append(why.view());
    }
    EndRunning(std::move(ending));
    Advance();
    return true;
}

void ShellLane::ShellGone(View why) {
    ended_why_.Assign(why);
    shell_ = {};
    commands_.shell_pid = 0;
    if (spawned_) runtime_.Unwatch(spawned_.get());
    spawned_.reset();
    input_.reset();
    feed_.reset();
    fed_ = 0;
    next_look_ms_ = kNever;
}

void ShellLane::KillShell() {
    if (shell_.pid != 0) sys::Kill(shell_.pid, sys::kKill);
}

Str ShellLane::CurrentDirectory() const {
    Str path;
    path.append("/proc/").Number(static_cast<uint64_t>(shell_.pid)).append("/cwd");
    char target[4096];
    const long length = sys::ReadLinkAt(AT_FDCWD, path.c_str(), target, sizeof target);
    return Str(length > 0 ? View(target, static_cast<size_t>(length)) : directory_.view());
}

// Its script is over (stdin is our pipe again), the pipe is empty, and it does nothing.
bool ShellLane::IsStuck() {
    if (fed_ < feed_.size() || NeverRead()) return false;
    Str path;
    path.append("/proc/").Number(static_cast<uint64_t>(shell_.pid)).append("/fd/0");
    char target[64];
    const long length = sys::ReadLinkAt(AT_FDCWD, path.c_str(), target, sizeof target);
    if (length <= 0) return false;
    Str pipe;
    pipe.append("pipe:[").Number(input_inode_).append("]");
    if (!(View(target, static_cast<size_t>(length)) == pipe.view())) return false;
    Process process;
    if (!ReadProcess(shell_.pid, &process) || process.state != 'S') return false;
    if (process.cpu == stuck_cpu_) return true;
    stuck_cpu_ = process.cpu;
    return false;
}

void ShellLane::Tick(int64_t now_ms) {
    if (now_ms < next_look_ms_) return;
    if (running_ == nullptr || shell_.pid == 0 || running_->phase != Phase::kRunning) {
        next_look_ms_ = kNever;
        return;
    }
    directory_ = CurrentDirectory();  // exec and signals leave no other trace of it
    // Read to its end, so it will never have to be said again.
    if (running_->order && !NeverRead()) running_->order->script.reset();
    if (!IsStuck()) {
        stuck_since_ms_ = kNever;
        look_step_ms_ = look_step_ms_ * 2 < kLongestLookMs ? look_step_ms_ * 2 : kLongestLookMs;
    } else if (stuck_since_ms_ == kNever) {
        stuck_since_ms_ = now_ms;
        look_step_ms_ = kFirstLookMs;
    } else if (now_ms - stuck_since_ms_ >= kStuckMs - kFirstLookMs) {
        killed_stuck_ = true;
        sys::Kill(shell_.pid, sys::kKill);
    }
    next_look_ms_ = now_ms + look_step_ms_;
}

}  // namespace sbxfs::supervisor
