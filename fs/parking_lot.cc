#include "fs/parking_lot.h"

#include <errno.h>

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

std::uint64_t ParkingLot::ParkSink(SinkPtr sink, Job on_cancel) {
    ReplySink& raw = *sink;
    std::uint64_t id = 0;
    {
        const MutexLock lock(mu_);
        id = next_++;
        places_.emplace(id, Place{nullptr, {}, clock_.Steady(), false});
    }
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
    const MutexLock lock(mu_);
    if (places_.empty()) return std::nullopt;
    return places_.begin()->second.since;
}

}  // namespace sbxfs
