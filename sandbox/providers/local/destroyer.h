// The end of one local sandbox: its processes, control groups, ids and files, in that order, so
// that whatever stops it half-way is found and finished by the next call. Runs in the helper, which
// may wait.
#pragma once

#include "base/result.h"
#include "sandbox/providers/local/box.h"
#include "sandbox/providers/local/launch_order.h"

namespace sbxfs {

// Success when nothing is left, also when there never was anything. Stops a launch that is under
// way.
Status DestroyBox(const DestroyOrder& order);

// Ends every process of the box and waits until the last has gone. The caller holds the box's lock.
Status EndProcesses(Box& box, int limit_ms);

// What only the processes needed: mounts, control groups, the socket. Nothing may run in the box any more.
Status ClearAfterRun(Box& box);

enum class Clear {
    kForAnotherLaunch,  // keeps the lock and the directory
    kForGood,           // keeps lock and tombstone, for the directory's removal
};
// Mounts, control groups, ids, files. Nothing may run in the box any more.
Status ClearBox(Box& box, Clear clear);

}  // namespace sbxfs
