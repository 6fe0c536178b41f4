#include "sandbox/io_loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/check.h"

namespace sbxfs {

class IoLoop::HeapTimer final : public Timer {
 public:
    HeapTimer(IoLoop& loop, TimerKey key) : loop_(loop), key_(key) {}
    HeapTimer(const HeapTimer&) = delete;
    HeapTimer& operator=(const HeapTimer&) = delete;
    ~HeapTimer() override { loop_.timers_.erase(key_); }

 private:
    IoLoop& loop_;
    TimerKey key_;
};

IoLoop::Watch::~Watch() {
    DCHECK(loop_.OnThread() || !loop_.thread_.joinable());
    (void)::epoll_ctl(loop_.epoll_.get(), EPOLL_CTL_DEL, fd_, nullptr);
    loop_.watches_.erase(id_);
}

void IoLoop::Watch::Want(std::uint32_t events) {
    if (events == events_) return;
    epoll_event event{.events = events, .data = {.u64 = id_}};
    CHECK(::epoll_ctl(loop_.epoll_.get(), EPOLL_CTL_MOD, fd_, &event) == 0);
    events_ = events;
}

IoLoop::IoLoop(std::string name, Clock& clock, UniqueFd epoll, UniqueFd wake)
    : name_(std::move(name)), clock_(clock), epoll_(std::move(epoll)), wake_(std::move(wake)) {}

Result<std::unique_ptr<IoLoop>> IoLoop::Start(std::string name, Clock& clock) {
    UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
    if (!epoll) return SystemError(errno, "epoll_create1");
    UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake) return SystemError(errno, "eventfd");
    epoll_event event{.events = EPOLLIN, .data = {.u64 = 0}};  // id 0 is the inbox
    if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0) {
        return SystemError(errno, "epoll_ctl");
    }
    std::unique_ptr<IoLoop> loop(
        new IoLoop(std::move(name), clock, std::move(epoll), std::move(wake)));
    loop->thread_ = std::thread([raw = loop.get()] { raw->Run(); });
    return loop;
}

IoLoop::~IoLoop() {
    Stop();
}

void IoLoop::Post(Job job) {
    Job unrun;  // dies after the lock: its destructor may answer a request
    bool wake = false;
    {
        const MutexLock lock(mu_);
        if (stopping_) {
            unrun = std::move(job);
        } else {
            wake = inbox_.empty();
            inbox_.push_back(std::move(job));
        }
    }
    if (wake) {
        const std::uint64_t one = 1;
        (void)!::write(wake_.get(), &one, sizeof one);  // EAGAIN means: already awake
    }
}

TimerPtr IoLoop::After(Duration delay, Job job) {
    DCHECK(OnThread());
    const TimerKey key{clock_.Steady() + delay, next_id_++};
    timers_.emplace(key, std::move(job));
    return std::make_unique<HeapTimer>(*this, key);
}

bool IoLoop::OnThread() const {
    return thread_id_.load(std::memory_order_relaxed) == std::this_thread::get_id();
}

IoLoop::WatchPtr IoLoop::Add(int fd, std::uint32_t events, Ready ready) {
    DCHECK(OnThread());
    const std::uint64_t id = next_id_++;
    watches_.emplace(id, std::make_shared<Ready>(std::move(ready)));
    epoll_event event{.events = events, .data = {.u64 = id}};
    CHECK(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0);
    return WatchPtr(new Watch(*this, fd, id, events));
}

void IoLoop::Stop() {
    {
        const MutexLock lock(mu_);
        stopping_ = true;
    }
    const std::uint64_t one = 1;
    (void)!::write(wake_.get(), &one, sizeof one);
    if (thread_.joinable()) thread_.join();
}

void IoLoop::Run() noexcept {
    thread_id_.store(std::this_thread::get_id(), std::memory_order_relaxed);
    (void)::pthread_setname_np(::pthread_self(), name_.substr(0, 15).c_str());
    sigset_t all;
    (void)::sigfillset(&all);
    (void)::pthread_sigmask(SIG_BLOCK, &all, nullptr);  // main takes signals

    std::array<epoll_event, 64> events{};
    for (;;) {
        const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), WaitMs());
        for (int i = 0; i < count; ++i) {
            const epoll_event& event = events[static_cast<std::size_t>(i)];
            if (event.data.u64 == 0) {
                std::uint64_t ignored = 0;
                (void)!::read(wake_.get(), &ignored, sizeof ignored);
                continue;
            }
            // A callback of this round may have removed the watch, or itself: look it up, and keep
            // it alive.
            const auto it = watches_.find(event.data.u64);
            if (it == watches_.end()) continue;
            const std::shared_ptr<Ready> ready = it->second;
            (*ready)(event.events);
        }
        RunTimers();
        if (!RunInbox()) break;
    }
    // Here and not in the destructor: what the jobs own may hold timers and watches of this loop.
    const auto timers = std::exchange(timers_, {});
}

bool IoLoop::RunInbox() {
    std::vector<Job> jobs;
    bool stopping = false;
    {
        const MutexLock lock(mu_);
        jobs.swap(inbox_);
        stopping = stopping_;
    }
    for (Job& job : jobs) {
        job();
        job = Job();  // what it owned dies in order, not at the end of the batch
    }
    return !stopping;
}

void IoLoop::RunTimers() {
    const SteadyTime now = clock_.Steady();
    while (!timers_.empty() && timers_.begin()->first.first <= now) {
        Job job = std::move(timers_.begin()->second);
        timers_.erase(timers_.begin());
        job();
    }
}

int IoLoop::WaitMs() const {
    if (timers_.empty()) return -1;
    const Duration left = timers_.begin()->first.first - clock_.Steady();
    // Rounded up: waking a fraction too early would spin.
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
    return static_cast<int>(std::clamp<std::int64_t>(ms, 0, 60'000));
}

}  // namespace sbxfs
