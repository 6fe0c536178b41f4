// A Loop that runs posted jobs and timers when the test says so, on the thread that made it, with a
// clock that moves when told to. Post() is for any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "base/sync.h"
#include "base/loop.h"

namespace sbxfs::testing {

class ManualLoop final : public Loop {
 public:
    ~ManualLoop() override { Clear(); }

    void Post(Job job) override {
        const MutexLock lock(mu_);
        if (!stopped_) posted_.push_back(std::move(job));
    }
    TimerPtr After(Duration delay, Job job) override {
        const Key key{clock_.Steady() + delay, next_timer_++};
        timers_.emplace(key, std::move(job));
        return std::make_unique<Pending>(*this, key);
    }
    bool OnThread() const override { return std::this_thread::get_id() == thread_; }
    ManualClock& clock() override { return clock_; }

    // Runs one posted job; false when there is none.
    bool RunOne() {
        Job job = Next();
        if (job) job();
        return static_cast<bool>(job);
    }
    // Runs posted jobs, also those they post; how many ran.
    std::size_t Run() {
        std::size_t count = 0;
        while (RunOne())
            ++count;
        return count;
    }
    // Moves the clock on; timers run at their time, in their order, each followed by what it
    // posted.
    void Advance(Duration by) {
        const SteadyTime end = clock_.Steady() + by;
        Run();
        while (!timers_.empty() && timers_.begin()->first.first <= end)
            RunTimer();
        clock_.Advance(end - clock_.Steady());
    }
    // Whatever waits is destroyed unrun, as when the process is killed.
    void Clear() {
        std::deque<Job> unrun;  // dies after the lock
        {
            const MutexLock lock(mu_);
            unrun.swap(posted_);
        }
        // Jobs may own timers of this loop, which take themselves out while they die.
        const auto timers = std::exchange(timers_, {});
    }
    // From now on posted jobs are destroyed unrun, as by a loop that has stopped.
    void Stop() {
        std::deque<Job> unrun;  // dies after the lock
        const MutexLock lock(mu_);
        stopped_ = true;
        unrun.swap(posted_);
    }

    std::size_t posted() {
        const MutexLock lock(mu_);
        return posted_.size();
    }
    std::size_t timers() const { return timers_.size(); }

 private:
    using Key = std::pair<SteadyTime, std::uint64_t>;

    class Pending final : public Timer {
     public:
        Pending(ManualLoop& loop, Key key) : loop_(loop), key_(key) {}
        ~Pending() override { loop_.timers_.erase(key_); }

     private:
        ManualLoop& loop_;
        Key key_;
    };

    Job Next() {
        const MutexLock lock(mu_);
        if (posted_.empty()) return {};
        Job job = std::move(posted_.front());
        posted_.pop_front();
        return job;
    }
    void RunTimer() {
        const auto first = timers_.begin();
        if (first->first.first > clock_.Steady())
            clock_.Advance(first->first.first - clock_.Steady());
        Job job = std::move(first->second);
        timers_.erase(first);
        job();
        Run();
    }

    const std::thread::id thread_ = std::this_thread::get_id();
    ManualClock clock_;
    Mutex mu_{LockRank::kLoopInbox};
    std::deque<Job> posted_ GUARDED_BY(mu_);
    bool stopped_ GUARDED_BY(mu_) = false;
    std::map<Key, Job> timers_;
    std::uint64_t next_timer_ = 1;
};

}  // namespace sbxfs::testing
