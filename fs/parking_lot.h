// Where requests wait for the network, a command's end or a disk: out of the way of FUSE threads,
// and in reach of an interrupt. Owned by FileSystem; any thread.
//
// A parked reply is taken by whoever comes first, the one who has the answer or the `cancel` thread
// with EINTR; the other finds nothing. libfuse calls back with the request's lock held, maybe from
// within the registration itself; that is why the callback only posts a number, and why the place
// is reserved before it is registered:
//
//     reserve -> tell the sink -> park (answers EINTR if the interrupt was faster) -> only then
//     start the work
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "base/batch_thread.h"
#include "base/clock.h"
#include "base/sync.h"
#include "fs/reply.h"
#include "base/loop.h"

namespace sbxfs {

class ParkingLot;

// A claim to a parked reply. Take() gives the reply once, or nothing when somebody else had it
// first. A claim that dies untaken takes the reply and drops it, which answers EIO.
template <class R>
class [[nodiscard]] Parked {
 public:
    Parked(ParkingLot& lot, std::uint64_t id) : lot_(&lot), id_(id) {}
    Parked(Parked&& other) noexcept : lot_(std::exchange(other.lot_, nullptr)), id_(other.id_) {}
    Parked& operator=(Parked&&) = delete;
    ~Parked() {
        if (lot_ != nullptr) (void)Take();
    }
    std::optional<R> Take();
    std::uint64_t id() const { return id_; }
    void Fail(const Error& error) {
        if (auto reply = Take()) std::move(*reply).Fail(error);
    }

 private:
    ParkingLot* lot_;
    std::uint64_t id_;
};

class ParkingLot {
 public:
    explicit ParkingLot(Clock& clock);
    ~ParkingLot();
    ParkingLot(const ParkingLot&) = delete;
    ParkingLot& operator=(const ParkingLot&) = delete;

    // `on_cancel` runs after an interrupt took the reply: to stop the wait it was for. It may be
    // empty.
    template <class R>
    Parked<R> Park(R reply, Job on_cancel = {}) {
        return Parked<R>(*this, ParkSink(reply.Take(), std::move(on_cancel)));
    }
    // Attached later, where stopping a wait needs what starting it returned.
    template <class R>
    std::pair<Parked<R>, std::uint64_t> ParkWithId(R reply) {
        const std::uint64_t id = ParkSink(reply.Take(), {});
        return {Parked<R>(*this, id), id};
    }
    // Runs at once when the reply is gone already.
    void SetOnCancel(std::uint64_t id, Job on_cancel);

    SinkPtr TakeSink(std::uint64_t id);
    // Nobody has taken it yet.
    bool Holds(std::uint64_t id) const;
    // Any thread, also with libfuse's request lock held: only takes a note for the `cancel` thread.
    void PostInterrupt(std::uint64_t id) { (void)cancel_.Add(id); }
    // What the `cancel` thread does; for tests.
    void Cancel(std::uint64_t id);
    // Unmounting: everyone who waits gets `error`.
    void FailAll(const Error& error);

    std::size_t Count() const;
    // When the oldest was parked.
    std::optional<SteadyTime> Oldest() const;

 private:
    struct Place {
        SinkPtr sink;  // null while it is only reserved
        Job on_cancel;
        SteadyTime since;
        bool cancelled = false;  // the interrupt was faster than the parking
    };
    std::uint64_t ParkSink(SinkPtr sink, Job on_cancel);

    Clock& clock_;
    mutable Mutex mu_{LockRank::kParkingLot};
    std::map<std::uint64_t, Place> places_ GUARDED_BY(mu_);
    std::uint64_t next_ GUARDED_BY(mu_) = 1;
    std::optional<Error> failed_ GUARDED_BY(mu_);  // what FailAll() told everyone

    BatchThread<std::uint64_t> cancel_;  // last
};

template <class R>
std::optional<R> Parked<R>::Take() {
    if (lot_ == nullptr) return std::nullopt;
    SinkPtr sink = std::exchange(lot_, nullptr)->TakeSink(id_);
    if (sink == nullptr) return std::nullopt;
    return std::optional<R>(std::in_place, std::move(sink));
}

}  // namespace sbxfs
