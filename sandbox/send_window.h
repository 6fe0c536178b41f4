// How many bytes of WRITEs may be on their way at once. More than the way and the server can use only wait in queues, so the
// window widens only while answers take hardly longer than the fastest one did, in the way of delay-based congestion
// control (Brakmo and Peterson, TCP Vegas, 1995). Over a short way it widens slowly: a server that has just
// started first makes room for all that comes at once, which took 64 MiB a fifth longer with 4 MiB at once than with 1
// MiB, while 256 MiB gained a tenth by them. Pure; not locked.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/clock.h"

namespace sbxfs {

class SendWindow {
 public:
    static constexpr std::uint64_t kLeast = 1U << 20;
    // OpenSSH takes 2 MiB of a channel before it wants to be asked; what its permission shall find, a round
    // trip later, is as much again.
    static constexpr std::uint64_t kMost = 4U << 20;

    // One may reach beyond it: a large one would wait for ever beside many small ones.
    bool HasRoom(std::uint64_t in_flight) const { return in_flight < room_; }
    // The server has taken them, so long after they were sent. `limited`: something waits for room in the window.
    void Answered(std::uint64_t bytes, Duration trip, bool limited) {
        trip = std::max(trip, kLeastTrip);
        // Forgotten by and by: the way may have become longer.
        least_ = least_ == Duration::max() ? trip : std::min(trip, least_ + least_ / 256);
        if (trip > 3 * least_) {
            room_ = std::max(kLeast, room_ - std::min(room_, bytes));
        } else if (limited && trip <= 2 * least_) {
            room_ = std::min(kMost, room_ + (IsNear() ? bytes / 64 : bytes));
        }
    }
    std::uint64_t room() const { return room_; }
    // By the fastest answer lately. It is not known before the first.
    bool IsNear() const { return least_ < std::chrono::milliseconds(10); }

 private:
    // No server answers sooner, and from nothing nothing grows.
    static constexpr Duration kLeastTrip = std::chrono::microseconds(100);

    std::uint64_t room_ = kLeast;
    Duration least_ = Duration::max();
};

}  // namespace sbxfs
