// Kept copies of sandboxes' own files, from which others are launched:
//
//   <state_dir>/snapshots/NAME/layer/    as in a box (root_view.h), without what belongs to one run: /run, the spool, the
//                                        sandbox's keys, the work directories of overlays
//                              base      over which common layer it was made (base_layer.h)
//                              snapshot.json
//
// A snapshot is made below another name and gets its own by one rename(2), so there is either all of it or nothing; it is
// synced before, since it shall outlive a power cut. Names that begin with a dot are half made or half removed: whoever
// works on one holds a flock on its directory, anybody else's is swept away. A launch holds a shared one while it
// copies. Files keep the numeric ids of the sandbox they come from; nobody but the mounting user gets there.
//
// Helper only, but for ReadSnapshots() and HasLeftovers(), which the daemon calls when it starts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "sandbox/providers/local/box.h"
#include "sandbox/providers/local/launch_order.h"
#include "sandbox/snapshotter.h"

namespace sbxfs {

Json ToJson(const SnapshotFacts& facts);
Result<SnapshotFacts> SnapshotFromJson(const Json& json);

// Those that are whole.
std::vector<SnapshotFacts> ReadSnapshots(const std::string& state_dir);
bool HasLeftovers(const std::string& state_dir);

// Copies the box, in which nothing of the sandbox may be at work. `wanted` is asked before it becomes final: whether
// anybody still waits for it. EEXIST, ENOSPC, ENAMETOOLONG for directories too deep in each other.
Result<SnapshotFacts> TakeSnapshot(const SnapshotOrder& order,
                                   const UniqueFunction<bool()>& wanted);
// ENOENT. An empty name: only sweeps.
Status DropSnapshot(const DropOrder& order);

// Makes layer/ in the box from a snapshot, for `first_id`'s range of ids where the mounting user is root, and has the box
// remember the snapshot's base. ENOENT.
Status CopySnapshot(const std::string& state_dir, const std::string& name, Box& box,
                    std::optional<std::uint32_t> first_id);

// Base layers that snapshots were made over; they must stay.
std::vector<std::string> BasesOfSnapshots(const std::string& state_dir);

}  // namespace sbxfs
