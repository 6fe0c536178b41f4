// What the mount's kernel has been given of a sandbox's files, and must give back: told by the sandbox
// around every command (contract 5, "Consistency"). Real: KernelCache in fs/; a sandbox without a mount
// has none.
#pragma once

#include "base/loop.h"
#include "sandbox/names.h"

namespace sbxfs {

class MountCaches {
 public:
    MountCaches() = default;
    MountCaches(const MountCaches&) = delete;
    MountCaches& operator=(const MountCaches&) = delete;
    virtual ~MountCaches() = default;

    // Any thread. Names and attributes of this sandbox may be given for a moment.
    virtual void Allow(Generation box) = 0;
    // None any more; `done` runs on any thread when the kernel has forgotten those it had.
    virtual void Revoke(Generation box, Job done) = 0;
    // `done` runs on any thread when no page that was read before this call is left of a file of this
    // sandbox that is open. Pages of others are looked at when they are opened.
    virtual void DropPages(Generation box, Job done) = 0;
};

}  // namespace sbxfs
