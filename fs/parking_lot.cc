#include "fs/parking_lot.h"

#include <errno.h>

#include <algorithm>
#include <vector>

namespace sbxfs {

ParkingLot::ParkingLot(Clock& clock)
    : clock_(clock),
      cancel_("cancel", LockRank::kCancelQueue, [this](std::vector<std::uint64_t>& ids) {
          for (const std::uint64_t id : ids)
              Cancel(id);
      }) {}

ParkingLot::~ParkingLot() {
    cancel_.Stop();
    FailAll(Error(Errno{ENOTCONN}, "the file system was unmounted"));
}

// A sink that is known to the lot until it answers.
class ParkingLot::WatchedSink final : public ReplySink {
 public:
    WatchedSink(ParkingLot& lot, SinkPtr sink, std::uint64_t id)
        : lot_(lot), sink_(std::move(sink)), id_(id) {}
    ~WatchedSink() override { lot_.Unwatch(id_); }

    Delivery SendEntry(const Entry& entry) override { return Answering().SendEntry(entry); }
    Delivery SendCreated(const Entry& entry, const Opened& opened) override {
        return Answering().SendCreated(entry, opened);
    }
    Delivery SendOpened(const Opened& opened) override { return Answering().SendOpened(opened); }
    void SendAttr(const Entry& entry) override { Answering().SendAttr(entry); }
    void SendBytes(std::span<const char> bytes) override { Answering().SendBytes(bytes); }
    void SendWritten(std::size_t count) override { Answering().SendWritten(count); }
    void SendText(const std::string& text) override { Answering().SendText(text); }
    void SendStatfs(const StatfsAnswer& answer) override { Answering().SendStatfs(answer); }
    void SendPoll(std::uint32_t events) override { Answering().SendPoll(events); }
    void SendOk() override { Answering().SendOk(); }
    void SendError(const Error& error) override { Answering().SendError(error); }
    pid_t caller() const override { return sink_->caller(); }
    const RequestFacts* facts() const override { return sink_->facts(); }
    void OnInterrupt(std::uint64_t id) override { sink_->OnInterrupt(id); }

 private:
    // Who has the answer finds nobody waiting.
    ReplySink& Answering() {
        lot_.Unwatch(id_);
        return *sink_;
    }

    ParkingLot& lot_;
    const SinkPtr sink_;
    const std::uint64_t id_;
};

SteadyTime ParkingLot::Since(const ReplySink& sink) const {
    const RequestFacts* facts = sink.facts();
    return facts != nullptr ? facts->since : clock_.Steady();
}

SinkPtr ParkingLot::WatchSink(SinkPtr sink) {
    const Watched watched{sink.get(), Since(*sink)};
    std::uint64_t id = 0;
    bool first = false;
    {
        const MutexLock lock(mu_);
        id = next_++;
        watched_.emplace(id, watched);
        first = on_waiting_ && !std::exchange(looked_after_, true);
    }
    if (first) on_waiting_();
    return std::make_unique<WatchedSink>(*this, std::move(sink), id);
}

void ParkingLot::Unwatch(std::uint64_t id) {
    const MutexLock lock(mu_);
    watched_.erase(id);
}

ParkingLot::Waiting ParkingLot::Describe(For what, SteadyTime since, const ReplySink* sink) {
    Waiting waiting{what, since, {}};
    if (sink != nullptr && sink->facts() != nullptr) waiting.facts = *sink->facts();
    return waiting;
}

std::uint64_t ParkingLot::ParkSink(SinkPtr sink, Job on_cancel, For what) {
    ReplySink& raw = *sink;
    const SteadyTime since = Since(raw);
    std::uint64_t id = 0;
    bool first = false;
    {
        const MutexLock lock(mu_);
        id = next_++;
        places_.emplace(id, Place{nullptr, {}, since, what});
        first = what != For::kAsked && on_waiting_ && !std::exchange(looked_after_, true);
    }
    if (first) on_waiting_();
    raw.OnInterrupt(id);  // may call back from within
    Error why(Errno{EINTR}, "interrupted");
    {
        const MutexLock lock(mu_);
        const auto it = places_.find(id);
        if (it != places_.end() && !it->second.cancelled) {
            it->second.sink = std::move(sink);
            it->second.on_cancel = std::move(on_cancel);
        } else if (it != places_.end()) {
            places_.erase(it);
        } else if (failed_) {
            why = *failed_;  // the unmount was faster
        }
    }
    if (sink != nullptr) {
        sink->SendError(why);
        if (on_cancel) on_cancel();
    }
    return id;
}

void ParkingLot::SetOnCancel(std::uint64_t id, Job on_cancel) {
    {
        const MutexLock lock(mu_);
        const auto it = places_.find(id);
        if (it != places_.end()) {
            it->second.on_cancel = std::move(on_cancel);
            return;
        }
    }
    on_cancel();
}

SinkPtr ParkingLot::TakeSink(std::uint64_t id) {
    Place taken;  // on_cancel dies after the lock
    const MutexLock lock(mu_);
    const auto it = places_.find(id);
    if (it == places_.end()) return nullptr;
    taken = std::move(it->second);
    places_.erase(it);
    return std::move(taken.sink);
}

void ParkingLot::Cancel(std::uint64_t id) {
    Place taken;
    {
        const MutexLock lock(mu_);
        const auto it = places_.find(id);
        if (it == places_.end()) return;
        if (it->second.sink == nullptr) {
            it->second.cancelled = true;
            return;
        }
        taken = std::move(it->second);
        places_.erase(it);
    }
    taken.sink->SendError(Error(Errno{EINTR}, "interrupted"));
    if (taken.on_cancel) taken.on_cancel();
}

void ParkingLot::FailAll(const Error& error) {
    std::map<std::uint64_t, Place> places;
    {
        const MutexLock lock(mu_);
        places.swap(places_);
        failed_ = error;
    }
    for (auto& [id, place] : places) {
        if (place.sink != nullptr) place.sink->SendError(error);
        if (place.on_cancel) place.on_cancel();
    }
}

bool ParkingLot::Holds(std::uint64_t id) const {
    const MutexLock lock(mu_);
    return places_.contains(id);
}

std::size_t ParkingLot::Count() const {
    const MutexLock lock(mu_);
    return places_.size();
}

std::optional<SteadyTime> ParkingLot::Oldest() const {
    std::optional<SteadyTime> oldest;
    const MutexLock lock(mu_);
    for (const auto& [id, place] : places_)
        oldest = std::min(place.since, oldest.value_or(place.since));
    return oldest;
}

// --- Who waits

// `call(what, since, sink, told)`; no sink: being parked.
template <class F>
void ParkingLot::ForEach(F call) {
    for (auto& [id, place] : places_)
        call(place.what, place.since, place.sink.get(), place.told);
    for (auto& [id, watched] : watched_)
        call(For::kJournal, watched.since, watched.sink, watched.told);
}

std::array<ParkingLot::Total, ParkingLot::kFors> ParkingLot::Totals() {
    std::array<Total, kFors> totals{};
    const MutexLock lock(mu_);
    ForEach([&](For what, SteadyTime since, const ReplySink*, bool) {
        Total& total = totals[static_cast<std::size_t>(what)];
        ++total.count;
        total.oldest = std::min(since, total.oldest.value_or(since));
    });
    return totals;
}

std::vector<ParkingLot::Waiting> ParkingLot::Longest(std::size_t most) {
    std::vector<Waiting> all;
    {
        const MutexLock lock(mu_);
        ForEach([&](For what, SteadyTime since, const ReplySink* sink, bool) {
            all.push_back(Describe(what, since, sink));
        });
    }
    std::sort(all.begin(), all.end(),
              [](const Waiting& a, const Waiting& b) { return a.since < b.since; });
    if (all.size() > most) all.resize(most);
    return all;
}

ParkingLot::Late ParkingLot::TakeLate(SteadyTime before) {
    Late late;
    const MutexLock lock(mu_);
    ForEach([&](For what, SteadyTime since, const ReplySink* sink, bool& told) {
        if (what == For::kAsked || told) return;
        if (since > before || sink == nullptr) {
            late.next = std::min(since, late.next.value_or(since));
            return;
        }
        told = true;
        late.requests.push_back(Describe(what, since, sink));
    });
    if (!late.next) looked_after_ = false;
    return late;
}

}  // namespace sbxfs
