// Tells when our mount is gone for everybody who could unmount it, although the kernel goes on: a mount
// namespace that was made meanwhile (a container, `unshare --mount`) got a copy and may keep it for ever. A
// daemon that stayed with that copy would hold the state directory, and nobody could mount again.
#pragma once

#include <string>
#include <thread>

#include "base/unique_fd.h"
#include "base/unique_function.h"

namespace sbxfs {

class MountWatch {
 public:
    // Calls `gone` at most once, on a thread of its own: when no mount of this namespace is of the file
    // system that is on `mountpoint` now, and `idle` (called on that thread) agrees. Files that are still
    // open after a lazy unmount go on until they are closed.
    MountWatch(const std::string& mountpoint, UniqueFunction<bool()> idle,
               UniqueFunction<void()> gone);
    ~MountWatch();
    MountWatch(const MountWatch&) = delete;
    MountWatch& operator=(const MountWatch&) = delete;

 private:
    void Run(const std::string& device);

    UniqueFunction<bool()> idle_;
    UniqueFunction<void()> gone_;
    UniqueFd changes_;  // /proc/self/mountinfo, which polls as exceptional at each change (proc(5))
    UniqueFd stop_;     // the writing end of a pipe, closed to stop
    UniqueFd stopped_;
    std::thread thread_;
};

}  // namespace sbxfs
