// How much room the file systems of one sandbox have, as they last said: statfs(2) is answered from here
// when the sandbox does not answer, because a df(1) that hangs hangs desktops and suspend. Owned by
// CachedFiles; any thread.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/sync.h"
#include "sandbox/remote_files.h"

namespace sbxfs {

class SpaceMemory {
 public:
    // So old it may be while the sandbox answers.
    static constexpr Duration kFresh = std::chrono::seconds(1);

    explicit SpaceMemory(Clock& clock) : clock_(clock) {}

    struct Known {
        RemoteStatfs space;
        bool fresh = false;
        bool asking = false;  // a question about it is unanswered: another one will not help
    };
    // Of `path`, or where nothing is known of it, of whatever was asked for last.
    std::optional<Known> Find(const std::string& path) const;
    // Each is followed by one Answered().
    void Ask(const std::string& path);
    void Answered(const std::string& path, const Result<RemoteStatfs>& space);

 private:
    struct Entry {
        std::optional<RemoteStatfs> space;
        SteadyTime seen{};
        int questions = 0;
    };
    Clock& clock_;
    mutable Mutex mu_{LockRank::kFileCache};
    std::map<std::string, Entry> entries_ GUARDED_BY(mu_);
    std::optional<RemoteStatfs> last_ GUARDED_BY(mu_);
};

}  // namespace sbxfs
