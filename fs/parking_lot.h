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
//
// It also knows who waits for how long, of those it has parked and of those it only watches.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/batch_thread.h"
#include "base/clock.h"
#include "base/loop.h"
#include "base/sync.h"
#include "fs/reply.h"

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
    // What a request waits for. kAsked: something to happen, for as long as that takes, as its caller wants (wait,
    // follow, ready). kJournal: a disk of this machine.
    enum class For : unsigned { kSandbox, kAsked, kJournal };
    static constexpr std::size_t kFors = 3;

    explicit ParkingLot(Clock& clock);
    ~ParkingLot();
    ParkingLot(const ParkingLot&) = delete;
    ParkingLot& operator=(const ParkingLot&) = delete;

    // `on_cancel` runs after an interrupt took the reply: to stop the wait it was for. It may be
    // empty.
    template <class R>
    Parked<R> Park(R reply, Job on_cancel = {}) {
        return Parked<R>(*this, ParkSink(reply.Take(), std::move(on_cancel), For::kSandbox));
    }
    // For one that is asked to wait. What stops it is attached later, where that needs what starting it returned.
    template <class R>
    std::pair<Parked<R>, std::uint64_t> ParkWithId(R reply) {
        const std::uint64_t id = ParkSink(reply.Take(), {}, For::kAsked);
        return {Parked<R>(*this, id), id};
    }
    // The same reply, known here until it is answered: for those that wait for the journal, which no interrupt ends.
    template <class R>
    R Watch(R reply) {
        return R(WatchSink(reply.Take()));
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

    std::size_t Count() const;  // parked ones
    // When the oldest of these came.
    std::optional<SteadyTime> Oldest() const;

    // --- Who waits, parked or watched.

    struct Waiting {
        For what{};
        SteadyTime since{};
        std::optional<RequestFacts> facts;
    };
    struct Total {
        std::size_t count = 0;
        std::optional<SteadyTime> oldest;
    };
    std::array<Total, kFors> Totals();
    // The oldest first, at most so many.
    std::vector<Waiting> Longest(std::size_t most);

    // Called, without a lock, when a request waits and nobody has looked after those for long: to call TakeLate() in
    // a while. Set before the first.
    void SetOnWaiting(UniqueFunction<void()> on_waiting) { on_waiting_ = std::move(on_waiting); }
    // Those that were not asked to wait and have since before `before`, each once; and when the oldest of the others
    // came. Without any of those SetOnWaiting()'s is called for the next.
    struct Late {
        std::vector<Waiting> requests;
        std::optional<SteadyTime> next;
    };
    Late TakeLate(SteadyTime before);

 private:
    class WatchedSink;
    struct Place {
        SinkPtr sink;  // null while it is only reserved
        Job on_cancel;
        SteadyTime since;
        For what{};
        bool cancelled = false;  // the interrupt was faster than the parking
        bool told = false;       // that it is late
    };
    struct Watched {
        const ReplySink* sink;
        SteadyTime since;
        bool told = false;
    };
    std::uint64_t ParkSink(SinkPtr sink, Job on_cancel, For what);
    SinkPtr WatchSink(SinkPtr sink);
    void Unwatch(std::uint64_t id);
    SteadyTime Since(const ReplySink& sink) const;
    static Waiting Describe(For what, SteadyTime since, const ReplySink* sink);
    template <class F>
    void ForEach(F call) REQUIRES(mu_);

    Clock& clock_;
    mutable Mutex mu_{LockRank::kParkingLot};
    std::map<std::uint64_t, Place> places_ GUARDED_BY(mu_);
    std::map<std::uint64_t, Watched> watched_ GUARDED_BY(mu_);
    bool looked_after_ GUARDED_BY(mu_) = false;  // TakeLate() will be called
    UniqueFunction<void()> on_waiting_;
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
