// Where the work of a sandbox happens: one thread that runs posted jobs and timers in order. State
// owned by one loop needs no lock. IoLoop is the real one (epoll); ManualLoop in tests/ runs when
// the test says so.
#pragma once

#include <memory>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_function.h"

namespace sbxfs {

using Job = UniqueFunction<void()>;
// How an operation without a value ends; runs exactly once.
using Done = UniqueFunction<void(Status)>;

// A pending timer; destroying it cancels it. Loop thread only.
class Timer {
 public:
    Timer() = default;
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;
    virtual ~Timer() = default;
};
using TimerPtr = std::unique_ptr<Timer>;

class Loop {
 public:
    Loop() = default;
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;
    virtual ~Loop() = default;

    // From any thread. Jobs run in the order posted. A job posted to a loop that has stopped is
    // destroyed without running, so that what it owns (a reply) answers by its destructor.
    virtual void Post(Job job) = 0;
    // Loop thread only. Runs `job` once, `delay` from now, unless the timer dies first.
    [[nodiscard]] virtual TimerPtr After(Duration delay, Job job) = 0;
    virtual bool OnThread() const = 0;
    virtual Clock& clock() = 0;
};

// Loop thread only. Runs `job` after `delay` unless the loop stops first; nobody can cancel it, so
// it must check for itself (a weak_ptr) that what it is about is still there.
inline void RunLater(Loop& loop, Duration delay, Job job) {
    auto timer = std::make_shared<TimerPtr>();
    *timer = loop.After(delay, [timer, job = std::move(job)] { job(); });
}

}  // namespace sbxfs
