// A thread that exists to wait: items are queued by any thread and handed over in order, all that
// have gathered at once. The store, outputs, kernel and cancel threads are such. Items queued after
// Stop() are dropped unhandled.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/sync.h"
#include "base/unique_function.h"

namespace sbxfs {

template <class Item>
class BatchThread {
 public:
    using Handle = UniqueFunction<void(std::vector<Item>&)>;

    // `name`, at most 15 bytes, is the thread's. `handle` runs on it, never twice at once.
    BatchThread(const char* name, LockRank rank, Handle handle)
        : mu_(rank), handle_(std::move(handle)), thread_([this, name] { Run(name); }) {}
    ~BatchThread() { Stop(); }
    BatchThread(const BatchThread&) = delete;
    BatchThread& operator=(const BatchThread&) = delete;

    // False, and the item unused, once stopped. The caller then still owns what it must answer.
    bool Add(Item& item) {
        const MutexLock lock(mu_);
        if (stopping_) return false;
        queue_.push_back(std::move(item));
        wake_.NotifyOne();
        return true;
    }

    // Handles what is queued, then joins. Idempotent; not from the thread itself.
    void Stop() {
        {
            const MutexLock lock(mu_);
            stopping_ = true;
        }
        wake_.NotifyOne();
        if (thread_.joinable()) thread_.join();
    }

    // Waits until everything queued so far is handled. Not from the thread itself.
    void Flush() {
        const MutexLock lock(mu_);
        while (!queue_.empty() || busy_)
            idle_.Wait(mu_);
    }

 private:
    void Run(const char* name) noexcept {
        (void)::pthread_setname_np(::pthread_self(), name);
        sigset_t all;
        (void)::sigfillset(&all);
        (void)::pthread_sigmask(SIG_BLOCK, &all, nullptr);  // main takes signals
        for (;;) {
            std::vector<Item> batch;
            {
                const MutexLock lock(mu_);
                busy_ = false;
                if (queue_.empty()) idle_.NotifyAll();
                while (queue_.empty() && !stopping_)
                    wake_.Wait(mu_);
                if (queue_.empty()) return;
                batch.swap(queue_);
                busy_ = true;
            }
            handle_(batch);
        }
    }

    Mutex mu_;
    CondVar wake_;
    CondVar idle_;
    std::vector<Item> queue_ GUARDED_BY(mu_);
    bool busy_ GUARDED_BY(mu_) = false;
    bool stopping_ GUARDED_BY(mu_) = false;
    Handle handle_;
    std::thread thread_;  // last: started after, joined before all it uses
};

}  // namespace sbxfs
