// poll(2) on an open file that changes: keeps the waker of the last poll and calls it once when the file has
// something new. Held by the open file (make_shared); any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/sync.h"
#include "base/unique_function.h"
#include "fs/reply.h"
#include "sandbox/change_signal.h"

namespace sbxfs {

// Wakes whoever sleeps in poll(2); called at most once. Empty when the kernel does not want to be told.
using PollWaker = UniqueFunction<void()>;

class PollSlot final : public std::enable_shared_from_this<PollSlot> {
 public:
    // `events_now` gives the POLL* bits of this moment, 0 while there is nothing new. `keeper` keeps `signal`
    // alive.
    PollSlot(std::shared_ptr<void> keeper, ChangeSignal& signal, std::uint64_t key,
             std::function<std::uint32_t()> events_now);
    ~PollSlot();
    PollSlot(const PollSlot&) = delete;
    PollSlot& operator=(const PollSlot&) = delete;

    void Poll(PollWaker waker, PollReply reply);

 private:
    void Arm();
    void Changed();
    void WakeIfReady();

    const std::shared_ptr<void> keeper_;
    ChangeSignal& signal_;
    const std::uint64_t key_;
    const std::function<std::uint32_t()> events_now_;

    Mutex mu_{LockRank::kHandle};
    PollWaker waker_ GUARDED_BY(mu_);
    bool armed_ GUARDED_BY(mu_) = false;
    std::uint64_t watch_ GUARDED_BY(mu_) = 0;
};

}  // namespace sbxfs
