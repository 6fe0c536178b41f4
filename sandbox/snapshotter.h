// Kept copies of sandboxes' own files, from which others are launched: what a provider can do that has them, beside
// Provider, and when a copy may be made.
//
// A copy is one moment's: it is made only of a stopped sandbox, or of a quiet one (CachedFiles), and no command is started
// until it is whole; those that are accepted meanwhile wait. Nothing of it is in the journal: a provider makes it whole or
// not at all, and what a killed one left is never offered.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/loop.h"
#include "base/result.h"
#include "sandbox/names.h"
#include "sandbox/template.h"

namespace sbxfs {

class Sandbox;

struct SnapshotFacts {
    std::string name;
    std::string from;  // the sandbox's name
    Generation generation{};
    std::int64_t made_ms = 0;
    std::uint64_t bytes = 0;  // on the disk
    std::uint64_t files = 0;
    Template what;  // a sandbox like the one it was made of, beginning with it
};

// What Provider::snapshotter() is of.
class Snapshotter {
 public:
    Snapshotter() = default;
    Snapshotter(const Snapshotter&) = delete;
    Snapshotter& operator=(const Snapshotter&) = delete;
    virtual ~Snapshotter() = default;

    // Keeps the sandbox's own files as they are now under facts.name; `bytes` and `files` are filled in, and whatever
    // `what` needs to be launched from it. Nothing of the sandbox is at work meanwhile. `id` as in Provider. All or
    // nothing, also when we are killed. `done` runs on a loop. EEXIST, ENOSPC.
    virtual void Snapshot(const std::string& id, SnapshotFacts facts, Done done) = 0;
    // Those that can be launched from, from memory. Any thread.
    virtual std::vector<SnapshotFacts> Snapshots() const = 0;
    // Sandboxes launched from it stay as they are. ENOENT.
    virtual void RemoveSnapshot(const std::string& name, Done done) = 0;
};

// `done` runs when the copy is whole and there for whoever wants to launch from it, or when there is none: EBUSY while
// commands wait or run or other processes live there, EHOSTDOWN for a sandbox that has ended. Of `facts` name and time
// count. A sandbox that has just come up is not known to be quiet yet, so a moment is waited, by `timers`.
void TakeSnapshot(Loop& timers, const std::shared_ptr<Sandbox>& sandbox, SnapshotFacts facts,
                  Done done);

}  // namespace sbxfs
