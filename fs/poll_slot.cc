#include "fs/poll_slot.h"

#include <utility>

namespace sbxfs {

PollSlot::PollSlot(std::shared_ptr<void> keeper, ChangeSignal& signal, std::uint64_t key,
                   std::function<std::uint32_t()> events_now)
    : keeper_(std::move(keeper)), signal_(signal), key_(key), events_now_(std::move(events_now)) {}

PollSlot::~PollSlot() {
    std::uint64_t watch = 0;
    {
        const MutexLock lock(mu_);
        watch = watch_;
    }
    if (watch != 0) signal_.Unwatch(key_, watch);
}

void PollSlot::Poll(PollWaker waker, PollReply reply) {
    bool arm = false;
    {
        const MutexLock lock(mu_);
        waker_.swap(
            waker);  // an older one, which leaves with `waker`, is void: the kernel has asked again
        arm = waker_ && !std::exchange(armed_, true);
    }
    if (arm) Arm();
    // After arming: what changes from here on is told.
    const std::uint32_t events = events_now_();
    PollWaker unneeded;
    if (events != 0) {
        const MutexLock lock(mu_);
        waker_.swap(unneeded);
    }
    std::move(reply).Ready(events);
}

void PollSlot::Arm() {
    const std::uint64_t watch = signal_.Watch(key_, [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->Changed();
    });
    const MutexLock lock(mu_);
    watch_ = watch;
}

void PollSlot::Changed() {
    bool arm = false;
    {
        const MutexLock lock(mu_);
        arm = armed_ = static_cast<bool>(waker_);
    }
    if (!arm) return;
    Arm();
    WakeIfReady();
}

void PollSlot::WakeIfReady() {
    if (events_now_() == 0) return;
    PollWaker waker;
    {
        const MutexLock lock(mu_);
        waker_.swap(waker);
    }
    if (waker) waker();
}

}  // namespace sbxfs
