// Commands: whose turn it is, what is said to the supervisor and what it answers, from the journal's commit to
// the outcome. Everything here runs on the sandbox's loop, but Publish, which the journal calls.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "sandbox/command_event.h"
#include "sandbox/scoped_script.h"

namespace sbxfs {
namespace {

// A full disk here, or a refused journal, is tried again this often; nothing is lost meanwhile.
constexpr Duration kRetry = std::chrono::seconds(1);
// `running` reaches the journal only for commands that run longer: it is a courtesy to the next
// daemon's readers.
constexpr Duration kWorthRecording = std::chrono::milliseconds(50);
// Until then the copy of its stdout says so, made without a byte for those that run longer than most and print nothing:
// see Restore().
constexpr Duration kWorthMarking = std::chrono::milliseconds(2);
// More commands than this in a spool is not a spool but an attack.
constexpr std::size_t kMaxKnown = 1'000'000;

}  // namespace

void Commands::Start() {
    DCHECK(loop_.OnThread());
    WriteLog();
    for (const EventNumber n : Numbers())
        TellBudget(FindEvent(n));
}

void Commands::SetDefaults(CommandDefaults defaults) {
    DCHECK(loop_.OnThread());
    defaults_ = std::move(defaults);
}

void Commands::Attached(SupervisorPort& port, const Spool& spool) {
    DCHECK(loop_.OnThread());
    port_ = &port;
    spool_ = spool;
    reconciled_ = false;
    allowed_ = false;
    known_.clear();
}

void Commands::Allow() {
    allowed_ = true;
    Dispatch();
}

void Commands::AllowFor(std::uint64_t spool_id) {
    if (port_ != nullptr && spool_.id == spool_id) Allow();
}

void Commands::Detached() {
    DCHECK(loop_.OnThread());
    port_ = nullptr;
    reconciled_ = false;
    known_.clear();
}

void Commands::OnKnown(EventNumber n, bool done, OutputSizes) {
    // Another spool's numbers mean other commands.
    if (!spool_.same || known_.size() >= kMaxKnown) return;
    known_[n] = done;
    const EventPtr event = FindEvent(n);
    if (event != nullptr && !event->finishing && !IsFinished(StatusOf(event))) TakeOver(event);
}

void Commands::OnKnownEnd() {
    std::vector<EventNumber> strangers;
    {
        const MutexLock lock(mu_);
        for (const auto& [n, done] : known_) {
            if (events_.contains(n)) continue;
            if (Raw(n) >= next_) {
                // Newer than this journal: somebody restored an old state directory. Their numbers
                // stay theirs, as far as anybody can have counted.
                if (Raw(n) - next_ < kMaxKnown) next_ = Raw(n) + 1;
            } else {
                strangers.push_back(n);
            }
        }
    }
    for (const EventNumber n : strangers)
        port_->Forget(n);  // rmdir events/N was faster than the spool
    for (const EventPtr& event : Unfinished()) {
        if (!known_.contains(event->record.n)) Reconcile(event);
    }
    for (const auto& [n, done] : std::exchange(known_, {})) {
        const EventPtr event = FindEvent(n);
        if (event == nullptr || !IsFinished(StatusOf(event))) continue;
        // A background child may still write, and a power cut may have shortened the copy.
        event->sent = true;
        event->repairing = true;
        port_->Read(n, event->taken);
        ReleaseSpool(n);
    }
    reconciled_ = true;
    if (observer_ != nullptr) observer_->Settled(Active());
    Dispatch();
}

// What to think of a command that the supervisor does not know.
void Commands::Reconcile(const EventPtr& event) {
    if (event->finishing) return;
    const bool may_have_run = event->sent || event->may_have_run;
    if (may_have_run && !(spool_.same && spool_.same_boot)) {
        return FinishAs(event, EventStatus::kLost,
                        "the sandbox came back without its record of this command: it may have "
                        "run. Look at its "
                        "effects before you run it again");
    }
    if (event->sent && StatusOf(event) == EventStatus::kRunning) {
        return FinishAs(event, EventStatus::kLost,
                        "the sandbox's record of this running command is gone");
    }
    // Never arrived there: it waits for its turn (again).
    const EventNumber n = event->record.n;
    const bool serial = event->record.spec.lane == CommandLane::kSerial;
    event->sent = event->may_have_run = false;
    (serial ? active_serial_ : active_parallel_).erase(n);
    (serial ? waiting_serial_ : waiting_parallel_).insert(n);
}

void Commands::TakeOver(const EventPtr& event) {
    const EventNumber n = event->record.n;
    const bool serial = event->record.spec.lane == CommandLane::kSerial;
    (serial ? waiting_serial_ : waiting_parallel_).erase(n);
    (serial ? active_serial_ : active_parallel_).insert(n);
    event->sent = true;
    {
        const MutexLock lock(mu_);
        Count(event->record.state.status, EventStatus::kRunning);
        event->record.state.status = EventStatus::kRunning;
    }
    changes_.Fire(Raw(n));
    RecordSoon(event);
    port_->Read(n, event->taken);
}

// Whether no earlier number is still on its way through the journal to this loop: of two writers the later
// one's commit may be the first to arrive.
bool Commands::IsNext(EventNumber n) const {
    const MutexLock lock(mu_);
    return committing_.empty() || n < *committing_.begin();
}

void Commands::CommitHeard(EventNumber n) {
    const MutexLock lock(mu_);
    committing_.erase(n);
}

void Commands::Dispatch() {
    if (port_ == nullptr || !reconciled_ || !allowed_) return;
    while (active_serial_.empty() && !waiting_serial_.empty() && IsNext(*waiting_serial_.begin())) {
        const EventPtr event = FindEvent(*waiting_serial_.begin());
        waiting_serial_.erase(waiting_serial_.begin());
        if (event != nullptr) Begin(event);
    }
    while (active_parallel_.size() < limits_.parallel && !waiting_parallel_.empty()) {
        const EventPtr event = FindEvent(*waiting_parallel_.begin());
        waiting_parallel_.erase(waiting_parallel_.begin());
        if (event != nullptr) Begin(event);
    }
}

void Commands::RefuseNext(const std::string& why) {
    DCHECK(loop_.OnThread());
    if (refusal_) return;  // the earlier one will be heard
    {
        const MutexLock lock(mu_);
        refusal_ = NextRefusal{EventNumber{next_}, why};
    }
    store_.PutRefusal(generation_, *refusal_);
}

void Commands::RefuseQueuedAndNext(const std::string& why) {
    DCHECK(loop_.OnThread());
    for (const EventPtr& event : Unfinished()) {
        if (event->sent || event->finishing || event->may_have_run) continue;
        FinishAs(event, EventStatus::kRefused, why);
        if (on_refused) on_refused();
    }
    RefuseNext(why);
}

void Commands::Begin(const EventPtr& event) {
    const EventNumber n = event->record.n;
    const bool serial = event->record.spec.lane == CommandLane::kSerial;
    (serial ? active_serial_ : active_parallel_).insert(n);
    if (refusal_ && n >= refusal_->from) {
        const std::string why = std::exchange(refusal_, std::nullopt)->why;
        if (on_refused) on_refused();
        event->spends_refusal = true;
        return FinishAs(event, EventStatus::kRefused, why);
    }
    if (event->inherited && !event->files_arrived && !event->record.unarrived.empty()) {
        return FinishAs(event, EventStatus::kRefused,
                        "sbxfs ended before the sandbox had acknowledged files that were changed "
                        "before this command, the first: " +
                            event->record.unarrived + ". Make them again, then run it again");
    }
    if (event->script) return Prepare(event, *event->script);
    store_.LoadScript(
        generation_, n, [self = shared_from_this(), event](Result<std::string> script) {
            self->Post([event, script = std::move(script)](Commands& commands) mutable {
                if (script) return commands.Prepare(event, std::move(*script));
                if (event->finishing) return;
                commands.FinishAs(event, EventStatus::kRefused,
                                  "its script could not be read back: " + script.error().what());
            });
        });
}

void Commands::Prepare(const EventPtr& event, std::string script) {
    if (observer_ == nullptr) return NoteFilesArrived(event, std::move(script));
    observer_->BeforeStart([weak = weak_from_this(), event, script = std::move(script)]() mutable {
        if (const auto self = weak.lock()) self->NoteFilesArrived(event, std::move(script));
    });
}

// Not sent before the journal has it: a daemon that takes over could not tell it from one whose files are lost.
void Commands::NoteFilesArrived(const EventPtr& event, std::string script) {
    if (event->record.unarrived.empty() || event->files_arrived || event->finishing)
        return Send(event, std::move(script));
    store_.FilesArrived(
        generation_, event->record.n,
        [self = shared_from_this(), event, script = std::move(script)](const Status& kept) mutable {
            self->Post([event, kept, script = std::move(script)](Commands& commands) mutable {
                if (!kept) {
                    return commands.Later(
                        kRetry, [event, script = std::move(script)](Commands& later) mutable {
                            later.NoteFilesArrived(event, std::move(script));
                        });
                }
                event->files_arrived = true;
                commands.Send(event, std::move(script));
            });
        });
}

void Commands::Send(const EventPtr& event, std::string script) {
    const CommandSpec& spec = event->record.spec;
    const bool serial = spec.lane == CommandLane::kSerial;
    const bool its_turn = (serial ? active_serial_ : active_parallel_).contains(event->record.n);
    if (port_ == nullptr || !reconciled_ || !its_turn || event->sent || event->finishing) {
        // While the script was read, or the observer made ready, the link went away, and the next attach
        // puts it back in the queue, or has done so; or somebody cancelled it.
        return;
    }
    StartRequest request;
    request.n = event->record.n;
    request.parallel = spec.lane == CommandLane::kParallel;
    request.login_shell = spec.login_shell || defaults_.login_shell;
    request.timeout_ms = spec.timeout_ms != 0 ? spec.timeout_ms : defaults_.timeout_ms;
    request.output_limit = limits_.output;
    request.shell = spec.shell.empty() ? defaults_.shell : spec.shell;
    request.user = spec.user.empty() ? defaults_.user : spec.user;
    request.cwd = defaults_.cwd;
    request.env = defaults_.env;
    for (const auto& [key, value] : defaults_.secrets)
        request.env[key] = value.Reveal();
    if (request.parallel) {
        if (!spec.cwd.empty()) request.cwd = spec.cwd;
        for (const auto& [key, value] : spec.env)
            request.env[key] = value;
        request.script = std::move(script);
    } else {
        // Those of the request are the shell's, and it lives on.
        request.script = ScopedScript(spec, std::move(script));
    }
    event->sent = true;
    port_->Start(request);
    if (on_use) on_use();
}

void Commands::OnStarted(EventNumber n, std::int64_t started_ms) {
    const EventPtr event = FindEvent(n);
    if (event == nullptr || !event->sent || event->finishing) return;
    {
        const MutexLock lock(mu_);
        if (IsFinished(event->record.state.status)) return;
        Count(event->record.state.status, EventStatus::kRunning);
        event->record.state.status = EventStatus::kRunning;
        event->record.state.started_ms = started_ms;
    }
    changes_.Fire(Raw(n));
    RecordSoon(event);
}

// That it runs: the next daemon's readers see it also before the sandbox was reached again.
void Commands::RecordSoon(const EventPtr& event) {
    if (event->recorded) return;
    Later(kWorthMarking, [event](Commands& commands) {
        const bool printed = event->taken.out + event->taken.err > 0;
        if (printed || event->recorded || event->finishing ||
            commands.StatusOf(event) != EventStatus::kRunning)
            return;
        commands.outputs_.Write(commands.generation_, event->record.n, OutputStream::kStdout, 0, "",
                                [](const Status&) {});
    });
    Later(kWorthRecording, [event](Commands& commands) { commands.RecordRunning(event); });
}

void Commands::RecordRunning(const EventPtr& event) {
    const EventState state = StateOf(event);
    if (event->recorded || event->finishing || state.status != EventStatus::kRunning) return;
    event->recorded = true;
    store_.UpdateCommand(generation_, event->record.n, state, {});
}

void Commands::Stop() {
    for (const EventPtr& event : Unfinished())
        RecordRunning(event);
    Detached();
}

void Commands::OnDone(EventNumber n, const CommandEnd& end) {
    const EventPtr event = FindEvent(n);
    if (event == nullptr || !event->sent || event->finishing || IsFinished(StatusOf(event))) return;
    if (!event->end) {
        event->end = end;
        active_serial_.erase(n);
        active_parallel_.erase(n);
        if (on_use) on_use();
        if (observer_ != nullptr) {
            event->observed = true;
            observer_->AfterEnd(end.others, Active(), [weak = weak_from_this(), event] {
                const auto self = weak.lock();
                if (self == nullptr) return;
                event->observed = false;
                self->FinishIfComplete(event);
            });
        }
        Dispatch();  // the next one need not wait for this one's output to arrive
    }
    FinishIfComplete(event);
}

void Commands::OnCommandError(EventNumber n, const Error& error) {
    const EventPtr event = FindEvent(n);
    if (event == nullptr || !event->sent || event->finishing) return;
    const EventStatus status = StatusOf(event);
    if (IsFinished(status)) return;
    if (status == EventStatus::kRunning) {
        Log(LogLevel::kWarning, "supervisor refused a request",
            {{"event", Raw(n)}, {"why", error}});
        return;
    }
    // What it takes for malformed it has not started.
    const bool refused = error.code() == Errno{EINVAL};
    FinishAs(event, refused ? EventStatus::kRefused : EventStatus::kLost, error.what());
}

void Commands::FinishIfComplete(const EventPtr& event) {
    if (!event->end || event->finishing || event->observed) return;
    const CommandEnd& end = *event->end;
    EventState state;
    {
        const MutexLock lock(mu_);
        if (IsFinished(event->record.state.status)) return;
        if (event->have.out < end.sizes.out || event->have.err < end.sizes.err) return;
    }
    state.started_ms = end.started_ms;
    state.finished_ms = end.finished_ms;
    state.duration_us = end.duration_us;
    state.stdout_size = end.sizes.out;
    state.stderr_size = end.sizes.err;
    state.shell_restarted = end.shell_restarted;
    state.reason = end.reason;
    switch (end.outcome) {
        case CommandOutcome::kExited:
            state.status = EventStatus::kExited;
            state.exit_code = end.code & 0xff;
            break;
        case CommandOutcome::kSignaled:
            state.status = EventStatus::kKilled;
            state.signal = end.code & 0x7f;
            state.exit_code = 128 + state.signal;
            break;
        case CommandOutcome::kTimedOut:
            state.status = EventStatus::kTimedOut;
            state.exit_code = 124;
            break;
        case CommandOutcome::kLost:
            state.status = EventStatus::kLost;
            break;
        case CommandOutcome::kNotStarted:
            state.status = EventStatus::kRefused;
            break;
    }
    Finish(event, state);
}

void Commands::FinishAs(const EventPtr& event, EventStatus status, const std::string& reason) {
    EventState state;
    {
        const MutexLock lock(mu_);
        state = event->record.state;
        state.stdout_size = event->have.out;
        state.stderr_size = event->have.err;
    }
    state.status = status;
    state.reason = reason;
    state.finished_ms = EpochMs(loop_.clock().System());
    Finish(event, state);
}

void Commands::Finish(const EventPtr& event, EventState state) {
    event->finishing = true;
    if (state.finish_order == 0) state.finish_order = next_finish_++;
    CommandRecord record;
    {
        const MutexLock lock(mu_);
        state.stdout_holes = event->stdout_holes;
        state.stderr_holes = event->stderr_holes;
        record = event->record;
    }
    record.state = state;
    event->script.reset();
    const EventNumber n = event->record.n;
    waiting_serial_.erase(n);
    waiting_parallel_.erase(n);
    const bool was_active = active_serial_.erase(n) + active_parallel_.erase(n) > 0;
    if (was_active && observer_ != nullptr && reconciled_) observer_->Settled(Active());
    store_.UpdateCommand(
        generation_, n, state,
        [self = shared_from_this(), event, state, line = LogLine(record)](const Status& status) {
            if (status) return self->Publish(event, state, line);
            // Not shown before it is kept: an outcome, once read, never changes.
            self->Post([event, state](Commands& commands) {
                commands.Later(kRetry,
                               [event, state](Commands& later) { later.Finish(event, state); });
            });
        });
    Dispatch();
}

void Commands::Count(EventStatus from, EventStatus to) {
    if (from == to) return;
    if (from == EventStatus::kQueued) queued_.Add(-1);
    if (from == EventStatus::kRunning) running_.Add(-1);
    if (to == EventStatus::kRunning) running_.Add(1);
}

void Commands::Publish(const EventPtr& event, const EventState& state, const std::string& line) {
    std::map<std::uint64_t, Job> waiters;
    {
        const MutexLock lock(mu_);
        DCHECK(MayFollow(event->record.state.status, state.status));
        Count(event->record.state.status, state.status);
        event->record.state = state;
        waiters.swap(event->waiters);
        --unfinished_;
        log_tail_ += line;  // whoever reads the outcome finds the line, too
    }
    const bool failed = state.status == EventStatus::kExited && state.exit_code != 0;
    Counter& ended = sandbox_metrics.commands_ended;
    ended.AddTo(ended.PlaceOf(failed ? "failed" : ToString(state.status)));
    for (auto& [id, job] : waiters)
        job();
    changes_.Fire(Raw(event->record.n));
    changes_.Fire(kLogChanged);
    Post([event](Commands& commands) {
        // Not before its outcome is kept. Another refusal meanwhile is in the journal in its place.
        if (std::exchange(event->spends_refusal, false) && !commands.refusal_)
            commands.store_.DropRefusal(commands.generation_);
        commands.WriteLog();
        commands.TellBudget(event);
        commands.ReleaseSpool(event->record.n);
    });
}

void Commands::ReleaseSpool(EventNumber n) {
    const EventPtr event = FindEvent(n);
    if (event == nullptr || event->releasing || port_ == nullptr) return;
    bool complete = false;
    {
        const MutexLock lock(mu_);
        const EventState& state = event->record.state;
        complete = event->have.out >= state.stdout_size && event->have.err >= state.stderr_size &&
                   event->taken.out >= state.stdout_size && event->taken.err >= state.stderr_size;
    }
    if (!complete) return;  // the rest is on its way
    event->releasing = true;
    event->repairing = false;
    outputs_.Sync(generation_, n, [self = shared_from_this(), event](const Status& status) {
        self->Post([event, ok = status.has_value()](Commands& commands) {
            event->releasing = false;
            if (!ok) return commands.FetchAgain(event);
            if (commands.port_ != nullptr) commands.port_->Forget(event->record.n);
        });
    });
}

// The copy reads well now, but nobody knows what of it is on the disk: Linux forgets a page that it could not write. The
// spool still has all.
void Commands::FetchAgain(const EventPtr& event) {
    Later(kRetry, [event](Commands& commands) {
        if (commands.port_ == nullptr) return;  // the next attach finds it in the spool
        event->taken = {};
        event->repairing = true;
        commands.Reread(event);
        commands.ReleaseSpool(event->record.n);  // nothing comes where there is nothing
    });
}

void Commands::End(const std::string& why) {
    DCHECK(loop_.OnThread());
    Detached();
    ended_ = why;
    for (const EventPtr& event : Unfinished()) {
        if (event->finishing) continue;
        if (event->end) {
            FinishAs(event, EventStatus::kLost,
                     "it ended, but its output had not all arrived when the sandbox ended: " + why);
        } else if (event->sent) {
            FinishAs(event, EventStatus::kLost, "the sandbox ended while it ran: " + why);
        } else if (event->may_have_run) {
            FinishAs(event, EventStatus::kLost,
                     "it may have run: the sandbox ended before sbxfs, started again, could ask: " +
                         why);
        } else {
            FinishAs(event, EventStatus::kRefused, "it was never started: " + why);
        }
    }
}

void Commands::Reopen() {
    DCHECK(loop_.OnThread());
    ended_.reset();
    const MutexLock lock(mu_);
    closed_.reset();
}

bool Commands::OutputPending() const {
    const std::vector<EventPtr> unfinished = Unfinished();
    return std::any_of(unfinished.begin(), unfinished.end(),
                       [](const EventPtr& event) { return event->end.has_value(); });
}

}  // namespace sbxfs
