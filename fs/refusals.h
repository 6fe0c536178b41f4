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

    // What is folded into one line with a count: the same again; or whatever one process meets in a row with this
    // errno, as find(1) does in directories it may not read. The line is the newest's.
    enum class Alike { kTheSame, kOfOneProcess };
    void Add(pid_t pid, const std::string& path, const Error& error, Alike alike = Alike::kTheSame);
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
        std::uint64_t times = 1;
        Alike alike = Alike::kTheSame;
    };
    Clock& clock_;
    mutable Mutex mu_{LockRank::kRefusals};
    std::deque<Refusal> refusals_ GUARDED_BY(mu_);  // newest first
};

}  // namespace sbxfs
