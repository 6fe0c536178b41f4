#include "sandbox/commands.h"

#include <errno.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "base/strings.h"
#include "sandbox/command_event.h"
#include "sandbox/scoped_script.h"

namespace sbxfs {
namespace {

// A full disk here, or a refused journal, is tried again this often; nothing is lost meanwhile.
constexpr Duration kRetry = std::chrono::seconds(1);
// `running` reaches the journal only for commands that run longer: it is a courtesy to the next
// daemon's readers.
constexpr Duration kWorthRecording = std::chrono::milliseconds(50);
// More commands than this in a spool is not a spool but an attack.
constexpr std::size_t kMaxKnown = 1'000'000;

}  // namespace

Commands::Commands(Loop& loop, Store& store, Outputs& outputs, OutputBudget* budget,
                   Generation generation, Limits limits, Defaults defaults)
    : loop_(loop),
      store_(store),
      outputs_(outputs),
      budget_(budget),
      generation_(generation),
      limits_(limits),
      defaults_(std::move(defaults)) {}

Commands::~Commands() = default;

void Commands::Restore(std::vector<CommandRecord> records, EverAttached ever_attached) {
    RestoreLog(records);
    const MutexLock lock(mu_);
    for (CommandRecord& record : records) {
        const EventNumber n = record.n;
        next_ = std::max(next_, Raw(n) + 1);
        if (!record.spec.name.empty()) names_[record.spec.name] = n;
        if (record.forgotten) continue;
        auto event = std::make_shared<Event>();
        event->committed = true;
        event->may_have_run = ever_attached == EverAttached::kYes;
        event->have = event->taken = outputs_.SizesNow(generation_, n);
        event->record = std::move(record);
        RestoreHoles(*event);
        if (!IsFinished(event->record.state.status)) {
            ++unfinished_;
            event->sent = event->record.state.status == EventStatus::kRunning;
            const bool serial = event->record.spec.lane == CommandLane::kSerial;
            // Whether it was ever started is told by the supervisor at the first attach.
            (serial ? waiting_serial_ : waiting_parallel_).insert(n);
        }
        events_[n] = std::move(event);
    }
}

// --- any thread
// -------------------------------------------------------------------------------------------------

Commands::Slot& Commands::Slot::operator=(Slot&& other) noexcept {
    if (this != &other) {
        GiveBack();
        owner_ = std::move(other.owner_);
        name_ = std::move(other.name_);
    }
    return *this;
}

void Commands::Slot::GiveBack() {
    if (owner_ == nullptr) return;
    const std::shared_ptr<Commands> owner = std::exchange(owner_, nullptr);
    const MutexLock lock(owner->mu_);
    --owner->slots_;
    owner->reserved_names_.erase(name_);
    owner->closing_names_.erase(name_);
}

Result<Commands::Slot> Commands::Reserve(const std::string& name) {
    (void)TRY(store_.Admit(limits_.script));
    const MutexLock lock(mu_);
    if (closed_) return *closed_;
    (void)TRY(CheckUnused(name));
    if (slots_ + unfinished_ >= limits_.queue) {
        return Error(Errno{EAGAIN},
                     std::to_string(unfinished_) +
                         " commands are waiting or running in this sandbox, which is the limit: "
                         "wait for some to finish (cat events/latest/wait)");
    }
    ++slots_;
    if (!name.empty()) reserved_names_.insert(name);
    Slot slot;
    slot.owner_ = shared_from_this();
    slot.name_ = name;
    return slot;
}

Status Commands::Rename(Slot& slot, const std::string& name) {
    CHECK(slot.owner_.get() == this);
    if (slot.name_ == name) return Ok();
    const MutexLock lock(mu_);
    (void)TRY(CheckUnused(name));
    reserved_names_.erase(slot.name_);
    if (!name.empty()) reserved_names_.insert(name);
    slot.name_ = name;
    return Ok();
}

void Commands::MayBeClosed(const Slot& slot) {
    const MutexLock lock(mu_);
    if (reserved_names_.contains(slot.name_)) closing_names_.insert(slot.name_);
}

bool Commands::MayBeFreeSoon(const std::string& name) const {
    const MutexLock lock(mu_);
    return closing_names_.contains(name);
}

Status Commands::CheckUnused(const std::string& name) const {
    if (name.empty() || (!names_.contains(name) && !reserved_names_.contains(name))) return Ok();
    return Error(Errno{EEXIST},
                 "a command named '" + name +
                     "' was already given to this sandbox; its result is in events/" + name +
                     ". A name is used once, so that a retry cannot run twice");
}

std::optional<Error> Commands::Closed() const {
    const MutexLock lock(mu_);
    return closed_;
}

Status Commands::CheckScript(std::size_t size, std::string_view part) const {
    if (size > limits_.script) {
        return Error(
            Errno{EFBIG},
            "a script may have " + std::to_string(limits_.script) +
                " bytes: put more into a file below fs/ and run that. Nothing was submitted");
    }
    if (part.find('\0') != std::string_view::npos) {
        return Error(Errno{EINVAL}, "a script cannot contain a NUL byte; nothing was submitted");
    }
    return Ok();
}

void Commands::Submit(Slot slot, CommandSpec spec, std::string script, SubmitDone done) {
    CHECK(slot.owner_.get() == this);
    auto event = std::make_shared<Event>();
    CommandRecord& record = event->record;
    record.generation = generation_;
    record.spec = std::move(spec);
    record.script_size = script.size();
    record.accepted_ms = EpochMs(loop_.clock().System());
    if (script.size() <= limits_.cached_script) event->script = script;
    CommandRecord copy;
    {
        const MutexLock lock(mu_);
        record.n = EventNumber{next_++};
        if (!record.spec.name.empty()) names_[record.spec.name] = record.n;
        events_[record.n] = event;
        ++unfinished_;
        committing_.insert(record.n);
        copy = record;
    }
    slot.GiveBack();
    store_.PutCommand(
        copy, std::move(script),
        [self = shared_from_this(), event, done = std::move(done)](const Status& status) {
            const EventNumber n = event->record.n;
            {
                const MutexLock lock(self->mu_);
                event->committed = status.has_value();
                if (!status) {
                    // It never existed: nobody was told the number.
                    self->names_.erase(event->record.spec.name);
                    self->events_.erase(n);
                    --self->unfinished_;
                }
            }
            if (!status) {
                self->Post([n](Commands& commands) {
                    commands.CommitHeard(n);
                    commands.Dispatch();
                });
                return done(status.error());
            }
            self->Post([n, event](Commands& commands) {
                commands.CommitHeard(n);
                if (event->finishing) return commands.Dispatch();  // cancelled already
                if (commands.ended_) {
                    // Accepted while the sandbox came to its end.
                    return commands.FinishAs(event, EventStatus::kRefused,
                                             "it was never started: " + *commands.ended_);
                }
                const bool serial = event->record.spec.lane == CommandLane::kSerial;
                (serial ? commands.waiting_serial_ : commands.waiting_parallel_).insert(n);
                commands.Dispatch();
            });
            done(n);
        });
}

std::vector<EventNumber> Commands::Numbers() const {
    const MutexLock lock(mu_);
    std::vector<EventNumber> numbers;
    numbers.reserve(events_.size());
    for (const auto& [n, event] : events_) {
        if (event->committed) numbers.push_back(n);
    }
    return numbers;
}

std::vector<std::pair<std::string, EventNumber>> Commands::Names() const {
    const MutexLock lock(mu_);
    std::vector<std::pair<std::string, EventNumber>> names;
    for (const auto& [name, n] : names_) {
        const auto it = events_.find(n);
        if (it != events_.end() && it->second->committed) names.emplace_back(name, n);
    }
    return names;
}

bool Commands::NameUsed(const std::string& name) const {
    const MutexLock lock(mu_);
    return names_.contains(name) || reserved_names_.contains(name);
}

std::optional<EventNumber> Commands::Latest() const {
    const MutexLock lock(mu_);
    for (auto it = events_.rbegin(); it != events_.rend(); ++it) {
        if (it->second->committed) return it->first;
    }
    return std::nullopt;
}

std::optional<EventNumber> Commands::FindName(const std::string& name) const {
    const MutexLock lock(mu_);
    const auto it = names_.find(name);
    if (it == names_.end()) return std::nullopt;
    const auto event = events_.find(it->second);
    if (event == events_.end() || !event->second->committed) return std::nullopt;
    return it->second;
}

std::optional<EventView> Commands::Find(EventNumber n) const {
    const MutexLock lock(mu_);
    const auto it = events_.find(n);
    if (it == events_.end() || !it->second->committed) return std::nullopt;
    const Event& event = *it->second;
    return EventView{event.record, event.have, event.stdout_holes, event.stderr_holes};
}

void Commands::ReadScript(EventNumber n, TextDone done) {
    store_.LoadScript(generation_, n, std::move(done));
}

std::uint64_t Commands::WhenFinished(EventNumber n, Job job) {
    {
        const MutexLock lock(mu_);
        const auto it = events_.find(n);
        if (it != events_.end() && !IsFinished(it->second->record.state.status)) {
            const std::uint64_t id = next_wait_++;
            it->second->waiters.emplace(id, std::move(job));
            return id;
        }
    }
    job();
    return 0;
}

void Commands::CancelWait(EventNumber n, std::uint64_t id) {
    Job doomed;  // dies after the lock: it owns a reply
    const MutexLock lock(mu_);
    const auto it = events_.find(n);
    if (it == events_.end()) return;
    const auto waiter = it->second->waiters.find(id);
    if (waiter == it->second->waiters.end()) return;
    doomed = std::move(waiter->second);
    it->second->waiters.erase(waiter);
}

void Commands::Signal(EventNumber n, int signal, Done done) {
    Post([n, signal, done = std::move(done)](Commands& commands) {
        const EventPtr event = commands.FindEvent(n);
        if (event == nullptr) return done(Error(Errno{ENOENT}, "no event " + ToString(n)));
        if (event->finishing || event->end || IsFinished(commands.StatusOf(event))) {
            return done(Error(Errno{ESRCH}, "command " + ToString(n) + " has finished already"));
        }
        // What no supervisor can have heard of needs no link to be cancelled.
        if (!event->sent && (commands.reconciled_ || !event->may_have_run)) {
            commands.FinishAs(event, EventStatus::kRefused, "it was cancelled before it started");
            return done(Ok());
        }
        if (commands.port_ == nullptr || !commands.reconciled_) {
            return done(Error(Errno{EHOSTUNREACH},
                              "the sandbox cannot be reached now; the signal was not sent",
                              Blame::kRemote));
        }
        commands.port_->Signal(n, signal);
        done(Ok());
    });
}

void Commands::Forget(EventNumber n, Done done) {
    EventPtr event;
    std::optional<Error> refused;
    {
        const MutexLock lock(mu_);
        const auto it = events_.find(n);
        if (it == events_.end() || !it->second->committed) {
            refused = Error(Errno{ENOENT}, "no event " + ToString(n));
        } else if (!IsFinished(it->second->record.state.status)) {
            refused = Error(Errno{EBUSY}, "command " + ToString(n) +
                                              " has not finished: end it first, with events/" +
                                              ToString(n) + "/ctl, or wait");
        } else {
            event = it->second;
            events_.erase(it);
        }
    }
    if (refused) return done(*std::move(refused));
    store_.ForgetCommand(
        generation_, n,
        [self = shared_from_this(), n, event, done = std::move(done)](Status status) mutable {
            if (!status) {
                {
                    const MutexLock lock(self->mu_);
                    self->events_.emplace(n, std::move(event));
                }
                return done(std::move(status));
            }
            self->outputs_.Remove(self->generation_, n);
            if (self->budget_ != nullptr) self->budget_->Forget(self->generation_, n);
            self->changes_.Fire(Raw(n));
            self->Post([n](Commands& commands) {
                if (commands.port_ != nullptr) commands.port_->Forget(n);
            });
            done(std::move(status));
        });
}

void Commands::Close(const Error& why) {
    const MutexLock lock(mu_);
    if (!closed_) closed_ = why;
}

// --- loop thread
// ------------------------------------------------------------------------------------------------

void Commands::Start() {
    DCHECK(loop_.OnThread());
    WriteLog();
    for (const EventNumber n : Numbers())
        TellBudget(FindEvent(n));
}

void Commands::Post(UniqueFunction<void(Commands&)> job) {
    loop_.Post([self = shared_from_this(), job = std::move(job)] { job(*self); });
}

void Commands::Later(Duration delay, UniqueFunction<void(Commands&)> job) {
    RunLater(loop_, delay, [weak = weak_from_this(), job = std::move(job)] {
        if (const auto self = weak.lock()) job(*self);
    });
}

std::vector<Commands::EventPtr> Commands::Unfinished() const {
    const MutexLock lock(mu_);
    std::vector<EventPtr> unfinished;
    for (const auto& [n, event] : events_) {
        if (event->committed && !IsFinished(event->record.state.status))
            unfinished.push_back(event);
    }
    return unfinished;
}

EventState Commands::StateOf(const EventPtr& event) const {
    const MutexLock lock(mu_);
    return event->record.state;
}

EventStatus Commands::StatusOf(const EventPtr& event) const {
    const MutexLock lock(mu_);
    return event->record.state.status;
}

Commands::EventPtr Commands::FindEvent(EventNumber n) const {
    const MutexLock lock(mu_);
    const auto it = events_.find(n);
    return it == events_.end() ? nullptr : it->second;
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
        event->record.state.status = EventStatus::kRunning;
    }
    changes_.Fire(Raw(n));
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

void Commands::Begin(const EventPtr& event) {
    const EventNumber n = event->record.n;
    const bool serial = event->record.spec.lane == CommandLane::kSerial;
    (serial ? active_serial_ : active_parallel_).insert(n);
    if (event->script) return Send(event, *event->script);
    store_.LoadScript(
        generation_, n, [self = shared_from_this(), event](Result<std::string> script) {
            self->Post([event, script = std::move(script)](Commands& commands) mutable {
                if (script) return commands.Send(event, std::move(*script));
                if (event->finishing) return;
                commands.FinishAs(event, EventStatus::kRefused,
                                  "its script could not be read back: " + script.error().what());
            });
        });
}

void Commands::Send(const EventPtr& event, std::string script) {
    const CommandSpec& spec = event->record.spec;
    const bool serial = spec.lane == CommandLane::kSerial;
    const bool its_turn = (serial ? active_serial_ : active_parallel_).contains(event->record.n);
    if (port_ == nullptr || !reconciled_ || !its_turn || event->sent || event->finishing) {
        // While the script was read the link went away, and the next attach puts it back in the queue, or
        // has done so; or somebody cancelled it.
        return;
    }
    StartRequest request;
    request.n = event->record.n;
    request.parallel = spec.lane == CommandLane::kParallel;
    request.login_shell = spec.login_shell || defaults_.login_shell;
    request.timeout_ms = spec.timeout_ms;
    request.output_limit = limits_.output;
    request.shell = spec.shell.empty() ? defaults_.shell : spec.shell;
    request.user = spec.user;
    request.cwd = defaults_.cwd;
    request.env = defaults_.env;
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
}

void Commands::OnStarted(EventNumber n, std::int64_t started_ms) {
    const EventPtr event = FindEvent(n);
    if (event == nullptr || !event->sent || event->finishing) return;
    {
        const MutexLock lock(mu_);
        if (IsFinished(event->record.state.status)) return;
        event->record.state.status = EventStatus::kRunning;
        event->record.state.started_ms = started_ms;
    }
    changes_.Fire(Raw(n));
    Later(kWorthRecording, [event](Commands& commands) {
        const EventState state = commands.StateOf(event);
        if (state.status == EventStatus::kRunning && !event->finishing) {
            commands.store_.UpdateCommand(commands.generation_, event->record.n, state, {});
        }
    });
}

void Commands::OnDone(EventNumber n, const CommandEnd& end) {
    others_ = end.others;
    const EventPtr event = FindEvent(n);
    if (event == nullptr || !event->sent || event->finishing || IsFinished(StatusOf(event))) return;
    if (!event->end) {
        event->end = end;
        if (before_visible) before_visible();
        active_serial_.erase(n);
        active_parallel_.erase(n);
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
    FinishAs(event, EventStatus::kLost, error.what());
}

void Commands::FinishIfComplete(const EventPtr& event) {
    if (!event->end || event->finishing) return;
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
    {
        const MutexLock lock(mu_);
        state.stdout_holes = event->stdout_holes;
        state.stderr_holes = event->stderr_holes;
    }
    event->script.reset();
    const EventNumber n = event->record.n;
    waiting_serial_.erase(n);
    waiting_parallel_.erase(n);
    active_serial_.erase(n);
    active_parallel_.erase(n);
    store_.UpdateCommand(
        generation_, n, state, [self = shared_from_this(), event, state](const Status& status) {
            if (status) return self->Publish(event, state);
            // Not shown before it is kept: an outcome, once read, never changes.
            self->Post([event, state](Commands& commands) {
                commands.Later(kRetry,
                               [event, state](Commands& later) { later.Finish(event, state); });
            });
        });
    Dispatch();
}

void Commands::Publish(const EventPtr& event, const EventState& state) {
    std::map<std::uint64_t, Job> waiters;
    {
        const MutexLock lock(mu_);
        event->record.state = state;
        waiters.swap(event->waiters);
        --unfinished_;
        ++unlogged_;
    }
    for (auto& [id, job] : waiters)
        job();
    changes_.Fire(Raw(event->record.n));
    Post([event](Commands& commands) {
        commands.AppendToLog(event);
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
        complete = event->have.out >= state.stdout_size && event->have.err >= state.stderr_size;
    }
    if (!complete) return;  // the rest is on its way
    event->releasing = true;
    event->repairing = false;
    outputs_.Sync(generation_, n, [self = shared_from_this(), event](const Status& status) {
        self->Post([event, ok = status.has_value()](Commands& commands) {
            event->releasing = false;
            if (ok && commands.port_ != nullptr) commands.port_->Forget(event->record.n);
        });
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

bool Commands::OutputPending() const {
    const std::vector<EventPtr> unfinished = Unfinished();
    return std::any_of(unfinished.begin(), unfinished.end(),
                       [](const EventPtr& event) { return event->end.has_value(); });
}

}  // namespace sbxfs
