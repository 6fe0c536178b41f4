#include "sandbox/supervisor/commands.h"

#include <linux/inotify.h>

#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {
namespace {

// A flood of small writes wakes us this often, not once a write.
constexpr int64_t kMuteMs = 4;
// Without inotify (Linux gives a user 128 instances, who may have more sandboxes; kernels that lack it): how stale output may
// be. The longer none came, the longer it may be, a sixteenth of that: many commands that print nothing must not cost much.
constexpr int64_t kPollMs = 40;
constexpr int64_t kLongestPollMs = 320;
constexpr int64_t kPatience = 16;
// How long a signal waits for a process of its command to hear it, and how often it is tried.
constexpr int64_t kUnheardMs = 2000;
constexpr int64_t kUnheardStepMs = 5;
constexpr char kStdout[] = "stdout";
constexpr char kStderr[] = "stderr";

const char* StreamName(int i) {
    return i == 0 ? kStdout : kStderr;
}

int64_t PollPause(int64_t quiet_ms) {
    const int64_t pause = quiet_ms / kPatience;
    if (pause < kPollMs) return kPollMs;
    return pause < kLongestPollMs ? pause : kLongestPollMs;
}

}  // namespace

long Runtime::Watch(int fd, uint32_t events, uint64_t tag) {
    return sys::EpollControl(epoll, EPOLL_CTL_ADD, fd, events, tag);
}
void Runtime::Rewatch(int fd, uint32_t events, uint64_t tag) {
    sys::EpollControl(epoll, EPOLL_CTL_MOD, fd, events, tag);
}
void Runtime::Unwatch(int fd) {
    sys::EpollControl(epoll, EPOLL_CTL_DEL, fd, 0, 0);
}

Ending EndingOf(int wait_status) {
    Ending ending;
    const int signal = wait_status & 0x7f;
    ending.outcome = signal == 0 ? Outcome::kExited : Outcome::kSignaled;
    ending.code = static_cast<uint32_t>(signal == 0 ? (wait_status >> 8) & 0xff : signal);
    return ending;
}

Ending NotStarted(long error, View reason) {
    Ending ending;
    ending.outcome = Outcome::kNotStarted;
    ending.code = static_cast<uint32_t>(error < 0 ? -error : error);
    ending.reason.Assign(reason);
    return ending;
}

Command* Commands::Find(uint64_t n) {
    size_t low = 0;
    size_t high = all_.size();
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (all_[middle]->n < n) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < all_.size() && all_[low]->n == n ? all_[low].get() : nullptr;
}

Command* Commands::Create(const StartFields& fields, Box<StartOrder> order, const Account* owner) {
    size_t at = all_.size();
    while (at > 0 && all_[at - 1]->n > fields.n)
        --at;
    all_.Insert(at, MakeBox<Command>());
    Command& command = *all_[at];
    command.n = fields.n;
    command.lane = fields.lane;
    command.output_limit = fields.output_limit;
    command.timeout_ms = fields.timeout_ms;
    command.order = std::move(order);
    command.pushing = true;
    started_.Add(fields.n);
    runtime_.spool.AppendEvent(&command.tree.mark, command.n);
    const long error = runtime_.spool.CreateCommand(command.n, owner);
    if (error == -EEXIST) {
        // Made since we looked. Who did, and whether something ran there, nobody knows.
        Ending ending;
        ending.reason.Assign("its directory in the spool was there already");
        Finish(command, std::move(ending));
        return &command;
    }
    if (error < 0) {
        Str reason;
        reason.append("cannot make its directory in the spool ").append(runtime_.spool.path());
        reason.append(": ");
        AppendErrno(&reason, error);
        if (error == -ENOSPC || error == -EDQUOT) reason.append("; free some space there");
        Finish(command, NotStarted(error, reason.view()));
        return &command;
    }
    command.has_files = true;
    EnsureOpen(command);
    Watch(command, Closes::kIgnore);
    return &command;
}

long Commands::Begin(Command& command, ProcessId root, int session) {
    SetRoot(command, root, session);
    command.tree.since = TicksNow();
    command.tree.before.clear();
    Vec<ProcessId> children;
    if (root.pid != 0) ListChildren(root.pid, {}, &command.tree.before);
    ListChildren(runtime_.self, Roots(), &children);
    for (const ProcessId& child : children) {
        if (child.pid != root.pid) command.tree.before.Add(child);
    }
    RunRecord run;
    run.lane = command.lane;
    run.session = session;
    run.since = command.tree.since;
    run.boot = runtime_.spool.boot();
    for (const ProcessId& id : command.tree.before)
        run.before.Add(id);
    if (const long error = runtime_.spool.WriteRun(command.n, run); error < 0) return error;
    command.phase = Phase::kRunning;
    command.started_us = sys::MonotonicUs();
    command.started_ms = sys::WallMs();
    if (command.timeout_ms > 0) {
        constexpr uint64_t kLongest = uint64_t{1} << 50;  // no overflow in sums of times
        const uint64_t ms = command.timeout_ms < kLongest ? command.timeout_ms : kLongest;
        command.deadline_ms = command.started_us / 1000 + static_cast<int64_t>(ms);
    }
    return 0;
}

Vec<ProcessId> Commands::Roots() const {
    Vec<ProcessId> roots;
    for (const Box<Command>& command : all_) {
        const bool runs = command->phase == Phase::kRunning || command->phase == Phase::kEnding;
        if (runs && command->lane == Lane::kParallel && !command->root_gone) {
            roots.Add(command->tree.root);
        }
    }
    return roots;
}

uint32_t Commands::OthersAfter(const Command& ended) const {
    uint32_t running = 0;
    for (const Box<Command>& command : all_) {
        const bool runs = command->phase == Phase::kRunning || command->phase == Phase::kEnding;
        if (runs && command.get() != &ended) ++running;
    }
    // Somebody lives, and who hears of this end waits for those of the others: not all of /proc is read for each of
    // many commands that end side by side.
    if (running > 0) return running;
    Vec<Process> all;
    ListProcesses(&all);
    return CountOthers(all, runtime_.self, shell_pid, nullptr);
}

void Commands::SetRoot(Command& command, ProcessId root, int session) {
    command.tree.root = root;
    command.tree.session = session;
}

bool Commands::MeasureOutput(Command& command) {
    bool known = true;
    EnsureOpen(command);
    for (int i = 0; i < 2 && command.has_files; ++i) {
        OutputStream& stream = command.out[i];
        if (stream.Refresh(command.output_limit)) continue;
        // There may be too many open files; its name is enough. Told as 0, the daemon would wait for nothing more.
        Str name;
        name.Number(command.n).append("/").append(View(StreamName(i)));
        struct stat stat {};
        const long error = sys::StatAt(runtime_.spool.commands(), name.c_str(), &stat);
        if (error == 0) stream.size = static_cast<uint64_t>(stat.st_size);
        known = known && (error == 0 || error == -ENOENT);
    }
    return known;
}

void Commands::Finish(Command& command, Ending ending) {
    const bool known = MeasureOutput(command);
    const int64_t now_us = sys::MonotonicUs();
    DoneFields& done = command.done;
    done.n = command.n;
    done.outcome = ending.outcome;
    done.code = ending.code;
    done.stdout_size = command.out[0].size;
    done.stderr_size = command.out[1].size;
    done.started_ms = ending.outcome == Outcome::kNotStarted ? 0 : command.started_ms;
    done.finished_ms = sys::WallMs();
    done.duration_us =
        command.started_us == 0 ? 0 : static_cast<uint64_t>(now_us - command.started_us);
    done.shell_restarted = static_cast<uint8_t>(ending.shell | command.fresh);
    command.reason = std::move(ending.reason);
    if (!known) {
        if (!command.reason.empty()) command.reason.append("; ");
        command.reason.append("how much it has written cannot be told");
    }
    if (command.fresh != 0) {
        if (!command.reason.empty()) command.reason.append("; ");
        command.reason.append("a new shell, since the one before ended: ");
        command.reason.append(command.fresh_reason.view());
    }
    command.cwd = std::move(ending.cwd);
    done.reason = command.reason.text();
    done.cwd = command.cwd.text();
    done.others = OthersAfter(command);
    // When it cannot be written it is still in memory, and is told for as long as we live.
    if (command.has_files) runtime_.spool.WriteOutcome(done);
    command.phase = Phase::kDone;
    command.deadline_ms = command.kill_ms = command.next_look_ms = kNever;
    command.order.reset();
    command.spawned.reset();
    command.tree.before.reset();
    command.tell_done = true;
    CloseIfIdle(command);
}

long Commands::Forget(uint64_t n) {
    Command* command = Find(n);
    if (command == nullptr) return 0;
    if (command->phase != Phase::kDone) return -EBUSY;
    command->tell_done = command->tell_known = command->tell_started = false;
    command->forgotten = true;
    if (!command->has_files || !EnsureOpen(*command)) {
        Remove(n);
        return 0;
    }
    // Told of the last close; RemoveIfDone() asks again, for it may have come in between.
    if (HasWriters(*command)) Watch(*command, Closes::kTell);
    // Who forgets a command before having all that it printed wants none of it. Everybody else gets what a child of it has
    // printed since, though that has just ended: Output.ThatAChildPrintedJustBeforeForgetIsStillTold.
    command->wanted = command->pushing && command->out[0].pushed >= command->done.stdout_size &&
                      command->out[1].pushed >= command->done.stderr_size;
    RemoveIfDone(*command);
    return 0;
}

void Commands::Signal(Command& command, int signal, bool with_shell) {
    if (signal > 0) command.signalled |= sys::SignalBit(signal);
    const WithRoot root =
        command.lane == Lane::kParallel || with_shell ? WithRoot::kYes : WithRoot::kNo;
    if (signal == sys::kKill) {
        // A builtin that loops has no process but the shell; and who asks twice means it.
        const bool shell_too =
            Scan(command.tree, runtime_.self, root).members.empty() || command.killed_before;
        command.killed_before = true;
        KillTree(command.tree, runtime_.self, shell_too ? WithRoot::kYes : root, 200);
        return;
    }
    command.unheard = 0;
    if (SignalTree(command, root, signal) > 0 || signal <= 0) return;
    // Its shell is between two programs, or about to start the first one: that one shall hear it.
    if (command.phase != Phase::kRunning) return;
    const int64_t now = sys::MonotonicMs();
    command.unheard = signal;
    command.unheard_until_ms = now + kUnheardMs;
    command.next_look_ms = now + kUnheardStepMs;
}

size_t Commands::SignalTree(const Command& command, WithRoot with_root, int signal) {
    Scan scan(command.tree, runtime_.self, with_root);
    // As of now: one that has called exec since it was listed hears it as the program it is.
    for (Process& process : scan.all) {
        Process now;
        if (process.IsCopy() && ReadProcess(process.pid, &now)) process.flags = now.flags;
    }
    SignalAll(scan.members, signal);
    if (scan.members.empty() || signal <= 0) return 0;
    const Scan after(command.tree, runtime_.self, with_root);
    Vec<LateSignals::Missed> missed;
    LateSignals::SelectMissed(scan.all, scan.members, after.all, after.members, runtime_.self,
                              &missed);
    late_signals_.Add(signal, sys::MonotonicMs(), std::move(missed));
    return scan.members.size();
}

void Commands::TellUnheard(Command& command, int64_t now_ms) {
    const bool heard = SignalTree(command, WithRoot::kNo, command.unheard) > 0;
    const bool over = heard || now_ms >= command.unheard_until_ms;
    if (over) command.unheard = 0;
    command.next_look_ms = over ? kNever : now_ms + kUnheardStepMs;
}

void Commands::End(Command& command, EndCause cause) {
    if (command.phase != Phase::kRunning) return;
    const int64_t now = sys::MonotonicMs();
    command.phase = Phase::kEnding;
    command.unheard = 0;
    command.cause = cause;
    command.deadline_ms = kNever;
    command.kill_ms = now + runtime_.grace_ms;
    command.next_look_ms = now + 5;
    SignalTree(command, WithRoot::kYes, sys::kTerm);
}

void Commands::EndAll(EndCause cause) {
    for (Box<Command>& command : all_) {
        if (command->phase == Phase::kWaiting) {
            Finish(*command, NotStarted(ECANCELED, "the sandbox's time ran out before its turn"));
        } else {
            End(*command, cause);
        }
    }
}

void Commands::KillAll() {
    for (Box<Command>& command : all_) {
        if (command->phase == Phase::kWaiting) {
            Finish(*command, NotStarted(ECANCELED, "the supervisor was shut down before its turn"));
        } else if (command->phase != Phase::kDone) {
            KillTree(command->tree, runtime_.self, WithRoot::kYes, 500);
            Ending ending;
            ending.outcome = Outcome::kSignaled;
            ending.code = sys::kKill;
            ending.reason.Assign("the supervisor was shut down");
            Finish(*command, std::move(ending));
        }
    }
}

bool Commands::AnyRunning() const {
    for (const Box<Command>& command : all_) {
        if (command->phase != Phase::kDone) return true;
    }
    return false;
}

void Commands::LookAtEnding(Command& command, int64_t now_ms) {
    if (now_ms >= command.kill_ms) {
        KillTree(command.tree, runtime_.self, WithRoot::kYes, 200);
    }
    const Scan scan(command.tree, runtime_.self, WithRoot::kYes);
    // Two seconds of SIGKILL are enough to say so: what is left is in the kernel's hands (D state).
    const bool give_up = command.kill_ms != kNever && now_ms >= command.kill_ms + 2000;
    if ((scan.members.empty() && command.root_gone) || give_up) {
        Ending ending;
        const bool timeout = command.cause == EndCause::kTimeout;
        ending.outcome = timeout ? Outcome::kTimedOut : Outcome::kSignaled;
        ending.code = timeout ? 124 : static_cast<uint32_t>(sys::kTerm);
        ending.reason.Assign(timeout ? "timeout" : "the sandbox's time ran out");
        if (command.lane == Lane::kSerial) ending.shell = kShellEnded;
        Finish(command, std::move(ending));
        return;
    }
    command.next_look_ms = now_ms + 25;
}

void Commands::Tick(int64_t now_ms) {
    late_signals_.Tick(now_ms);
    for (size_t i = 0; i < all_.size(); ++i) {
        Command& command = *all_[i];
        if (now_ms >= command.deadline_ms) End(command, EndCause::kTimeout);
        if (now_ms < command.next_look_ms) continue;
        if (command.phase == Phase::kEnding) LookAtEnding(command, now_ms);
        if (command.phase == Phase::kRunning && command.unheard != 0) TellUnheard(command, now_ms);
    }
    if (now_ms >= rearm_ms_) {
        rearm_ms_ = kNever;
        runtime_.Rewatch(inotify_.get(), EPOLLIN, Tag(Source::kFiles));
    }
    if (inotify_) return;
    bool needed = false;
    for (size_t i = 0; i < all_.size(); ++i) {
        Command& command = *all_[i];
        if (command.phase == Phase::kDone && !command.pushing && !command.forgotten) continue;
        needed = true;
        if (now_ms < poll_ms_ || !EnsureOpen(command)) continue;
        const uint64_t before = command.out[0].size + command.out[1].size;
        Refresh(command);
        if (command.out[0].size + command.out[1].size != before) heard_ms_ = now_ms;
    }
    if (now_ms >= poll_ms_ || poll_ms_ == kNever) {
        poll_ms_ = needed ? now_ms + (AnyRunning() ? PollPause(now_ms - heard_ms_) : 1000) : kNever;
    }
}

int64_t Commands::NextTick() const {
    int64_t next = Sooner(Sooner(rearm_ms_, poll_ms_), late_signals_.NextTick());
    for (const Box<Command>& command : all_) {
        next = Sooner(next, Sooner(command->deadline_ms, command->next_look_ms));
    }
    return next;
}

void Commands::OpenWatch() {
    inotify_ = Fd(sys::InotifyCreate());
    if (inotify_) {
        runtime_.Watch(inotify_.get(), EPOLLIN, Tag(Source::kFiles));
    } else {
        poll_ms_ = 0;
    }
}

// On the files, not their directory, where our own notes would wake us. Only a forgotten command
// needs to know when somebody closes them.
void Commands::Watch(Command& command, Closes closes) {
    heard_ms_ = sys::MonotonicMs();
    if (!inotify_) poll_ms_ = heard_ms_ + kPollMs;
    const uint32_t mask = IN_MODIFY | (closes == Closes::kTell ? IN_CLOSE_WRITE : 0);
    for (int i = 0; i < 2 && inotify_; ++i) {
        Str path(runtime_.spool.path());
        path.append("/commands/").Number(command.n).append("/").append(View(StreamName(i)));
        const long watch = sys::InotifyAdd(inotify_.get(), path.c_str(), mask);
        if (watch >= 0) {
            command.watch[i] = static_cast<int>(watch);
        } else {
            // Out of watches: everything is polled from now on.
            runtime_.Unwatch(inotify_.get());
            inotify_.reset();
            rearm_ms_ = kNever;
            poll_ms_ = 0;
        }
    }
}

void Commands::OnFileEvents() {
    alignas(8) char page[4096];
    bool modified = false;
    for (int rounds = 0; rounds < 16 && inotify_; ++rounds) {
        const long got = sys::Read(inotify_.get(), page, sizeof page);
        if (got <= 0) break;
        for (long at = 0; at < got;) {
            const auto* event = reinterpret_cast<const inotify_event*>(page + at);
            at += static_cast<long>(sizeof *event + event->len);
            const bool overflow = (event->mask & IN_Q_OVERFLOW) != 0;
            modified = modified || (event->mask & IN_MODIFY) != 0;
            for (size_t i = 0; i < all_.size(); ++i) {
                Command& command = *all_[i];
                const int watch = event->wd;
                if (!overflow && command.watch[0] != watch && command.watch[1] != watch) continue;
                if (EnsureOpen(command)) Refresh(command);
                if (command.forgotten) {
                    const size_t before = all_.size();
                    RemoveIfDone(command);
                    if (all_.size() < before) --i;
                }
            }
        }
    }
    if (modified && inotify_) {
        runtime_.Rewatch(inotify_.get(), 0, Tag(Source::kFiles));
        rearm_ms_ = sys::MonotonicMs() + kMuteMs;
    }
}

bool Commands::EnsureOpen(Command& command) {
    if (!command.has_files) return false;
    for (int i = 0; i < 2; ++i) {
        if (command.out[i].file) continue;
        command.out[i].file = Fd(runtime_.spool.OpenInCommand(command.n, StreamName(i), O_RDONLY));
        if (!command.out[i].file) return false;
    }
    return true;
}

void Commands::Refresh(Command& command) {
    for (OutputStream& stream : command.out)
        stream.Refresh(command.output_limit);
    KeepPromise(command);
}

void Commands::KeepPromise(Command& command) {
    if (command.phase != Phase::kDone) return;
    command.out[0].Promise(command.done.stdout_size);
    command.out[1].Promise(command.done.stderr_size);
}

void Commands::CloseIfIdle(Command& command) {
    if (command.phase != Phase::kDone) return;
    for (OutputStream& stream : command.out) {
        if (!command.pushing || !stream.HasMore()) stream.file.reset();
    }
}

bool Commands::HasWriters(Command& command) {
    for (int i = 0; i < 2; ++i) {
        if (HasWriter(command.out[i].file.get(), runtime_.spool.path(), command.n, StreamName(i))) {
            return true;
        }
    }
    return false;
}

void Commands::RemoveIfDone(Command& command) {
    if (!command.forgotten || !EnsureOpen(command) || HasWriters(command)) return;
    // Behind the last close: what came just before it counts, too.
    Refresh(command);
    for (const OutputStream& stream : command.out) {
        if (command.wanted && stream.HasMore()) return;
    }
    Remove(command.n);
}

void Commands::Remove(uint64_t n) {
    for (size_t i = 0; i < all_.size(); ++i) {
        if (all_[i]->n == n) return RemoveAt(i);
    }
}

void Commands::RemoveAt(size_t i) {
    const Command& command = *all_[i];
    for (const int watch : command.watch) {
        if (watch >= 0 && inotify_) sys::InotifyRemove(inotify_.get(), watch);
    }
    if (command.has_files) runtime_.spool.RemoveCommand(command.n);
    all_.Remove(i);
}

}  // namespace sbxfs::supervisor
