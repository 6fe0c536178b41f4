// The newest refusals, for .mount/last_error: what a shell or an agent reads when a command only said
// "Operation not permitted". Bounded. Owned by FileSystem; any thread.
#pragma once

#include <sys/types.h>

#include <deque>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "base/sync.h"

namespace sbxfs {

class Refusals {
 public:
    explicit Refusals(Clock& clock) : clock_(clock) {}
    Refusals(const Refusals&) = delete;
    Refusals& operator=(const Refusals&) = delete;

    void Add(pid_t pid, const std::string& path, const Error& error);
    // Newest first; per refusal one line: time, pid, path, errno, sentence.
    std::string Text() const;
    SystemTime Newest() const;

 private:
    static constexpr std::size_t kKept = 64;
    struct Refusal {
        SystemTime time;
        pid_t pid = 0;
        std::string path;
        Errno code{};
        std::string sentence;
        std::uint64_t times = 1;  // the same again and again is one line
    };
    Clock& clock_;
    mutable Mutex mu_{LockRank::kRefusals};
    std::deque<Refusal> refusals_ GUARDED_BY(mu_);  // newest first
};

}  // namespace sbxfs
