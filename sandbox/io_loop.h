// The real Loop: one thread around one epoll set, an inbox with an eventfd, and a heap of timers.
// Owned by IoLoops; every ssh session is pinned to one IoLoop for life, so 1,000 idle sandboxes are
// 1,000 entries in a few epoll sets. Post() is for any thread, everything else for the loop's own.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/sync.h"
#include "base/unique_fd.h"
#include "base/loop.h"

namespace sbxfs {

class IoLoop final : public Loop {
 public:
    using Ready =
        UniqueFunction<void(std::uint32_t events)>;  // EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP

    // Keeps a descriptor in the epoll set; destroying it takes the descriptor out. The descriptor
    // stays its owner's and must outlive the watch.
    class Watch {
     public:
        Watch(const Watch&) = delete;
        Watch& operator=(const Watch&) = delete;
        ~Watch();
        // Replaces the set of events waited for.
        void Want(std::uint32_t events);

     private:
        friend class IoLoop;
        Watch(IoLoop& loop, int fd, std::uint64_t id, std::uint32_t events)
            : loop_(loop), fd_(fd), id_(id), events_(events) {}
        IoLoop& loop_;
        int fd_;
        std::uint64_t id_;
        std::uint32_t events_;
    };
    using WatchPtr = std::unique_ptr<Watch>;

    // `name` (at most 15 bytes) is the thread's. `clock` outlives the loop.
    static Result<std::unique_ptr<IoLoop>> Start(std::string name, Clock& clock);
    // Stops: see Stop().
    ~IoLoop() override;

    void Post(Job job) override;
    TimerPtr After(Duration delay, Job job) override;
    bool OnThread() const override;
    Clock& clock() override { return clock_; }

    // Loop thread only. Level-triggered.
    [[nodiscard]] WatchPtr Add(int fd, std::uint32_t events, Ready ready);

    // Runs what is posted, then joins the thread; jobs posted later are destroyed unrun.
    // Idempotent; not from the loop's own thread.
    void Stop();

 private:
    class HeapTimer;
    using TimerKey = std::pair<SteadyTime, std::uint64_t>;

    IoLoop(std::string name, Clock& clock, UniqueFd epoll, UniqueFd wake);
    void Run() noexcept;
    bool RunInbox();  // false once stopped
    void RunTimers();
    int WaitMs() const;

    const std::string name_;
    Clock& clock_;
    UniqueFd epoll_;
    UniqueFd wake_;

    Mutex mu_{LockRank::kLoopInbox};
    std::vector<Job> inbox_ GUARDED_BY(mu_);
    bool stopping_ GUARDED_BY(mu_) = false;

    // The loop thread's own.
    std::uint64_t next_id_ = 1;
    std::map<std::uint64_t, std::shared_ptr<Ready>> watches_;
    std::map<TimerKey, Job> timers_;

    std::atomic<std::thread::id> thread_id_{};
    std::thread thread_;  // last: started after, joined before all it uses
};

}  // namespace sbxfs
