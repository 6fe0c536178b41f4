#include "sandbox/commands.h"

#include <errno.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/strings.h"
#include "sandbox/command_event.h"

namespace sbxfs {

Commands::Commands(Loop& loop, Store& store, Outputs& outputs, OutputBudget* budget,
                   Generation generation, Limits limits, CommandDefaults defaults)
    : loop_(loop),
      store_(store),
      outputs_(outputs),
      budget_(budget),
      generation_(generation),
      limits_(limits),
      defaults_(std::move(defaults)) {}

Commands::~Commands() = default;

void Commands::Restore(std::vector<CommandRecord> records, EverAttached ever_attached,
                       std::optional<NextRefusal> refusal) {
    RestoreLog(records);
    refusal_ = std::move(refusal);
    const MutexLock lock(mu_);
    for (CommandRecord& record : records) {
        const EventNumber n = record.n;
        next_ = std::max(next_, Raw(n) + 1);
        if (!record.spec.name.empty()) names_[record.spec.name] = n;
        if (record.forgotten) continue;
        auto event = std::make_shared<Event>();
        event->committed = event->inherited = true;
        event->may_have_run = ever_attached == EverAttached::kYes;
        const auto [sizes, made] = outputs_.FindNow(generation_, n);
        event->have = event->taken = sizes;
        event->record = std::move(record);
        EventState& state = event->record.state;
        // Killed before the journal was told: a copy of its output, with or without a byte, says that it was started.
        const bool started =
            state.status == EventStatus::kQueued && (made.out_ms != 0 || made.err_ms != 0);
        if (started) state.status = EventStatus::kRunning;
        const bool late =
            event->have.out > state.stdout_size || event->have.err > state.stderr_size;
        if (!IsFinished(state.status) || late) event->arrived = made;
        RestoreHoles(*event);
        if (!IsFinished(event->record.state.status)) {
            ++unfinished_;
            (state.status == EventStatus::kRunning ? running_ : queued_).Add(1);
            event->sent = state.status == EventStatus::kRunning;
            event->recorded = event->sent && !started;
            const bool serial = event->record.spec.lane == CommandLane::kSerial;
            // Whether it was ever started is told by the supervisor at the first attach.
            (serial ? waiting_serial_ : waiting_parallel_).insert(n);
        }
        events_[n] = std::move(event);
    }
}

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
    if (first_unarrived) record.unarrived = first_unarrived().value_or("");
    if (script.size() <= limits_.cached_script) event->script = script;
    CommandRecord copy;
    {
        const MutexLock lock(mu_);
        record.n = EventNumber{next_++};
        if (!record.spec.name.empty()) names_[record.spec.name] = record.n;
        events_[record.n] = event;
        ++unfinished_;
        queued_.Add(1);
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
                    self->queued_.Add(-1);
                } else {
                    sandbox_metrics.commands_accepted.Add();
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

bool Commands::AnyRunning() const {
    const MutexLock lock(mu_);
    if (unfinished_ == 0) return false;
    return std::any_of(events_.begin(), events_.end(), [](const auto& event) {
        return event.second->record.state.status == EventStatus::kRunning;
    });
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
    return EventView{event.record, event.have, event.arrived, event.stdout_holes,
                     event.stderr_holes};
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

}  // namespace sbxfs
