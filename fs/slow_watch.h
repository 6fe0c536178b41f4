// Says in the log which requests have waited for more than a second: each once, while it waits. A wait that was asked for
// (wait, follow, ready) is not one of them. Owned by FileSystem; looks on the timer loop, and only while somebody waits.
#pragma once

#include <memory>
#include <string_view>

#include "base/log.h"
#include "fs/parking_lot.h"

namespace sbxfs {

struct MountContext;

class SlowWatch : public std::enable_shared_from_this<SlowWatch> {
 public:
    static constexpr Duration kSlow = std::chrono::seconds(1);

    explicit SlowWatch(MountContext& mount) : mount_(mount) {}
    // From now on. The loop has stopped before the mount dies.
    void Start();

 private:
    void LookIn(Duration delay);
    void Look();
    MountContext& mount_;
};

// A line of the log about a request that waits: op, path, box, pid of the process that asks as far as it can be seen, what
// for, how long.
void LogWaiting(LogLevel level, std::string_view event, MountContext& mount,
                const ParkingLot::Waiting& waiting);
std::string_view ToString(ParkingLot::For what);

}  // namespace sbxfs
