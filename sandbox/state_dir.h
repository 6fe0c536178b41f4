// The state directory: everything a mount must remember, one per mount point, 0700. Opening it
// takes its lock, so that two daemons never share one (contract 7); the lock ends with the process,
// however it ends. Created by the mount command before threads start; the paths are fixed for the
// daemon's life.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace sbxfs {

class StateDir {
 public:
    // Makes `path` when it is not there. EBUSY, naming the process and mount point that hold it,
    // when another daemon does; EACCES when it belongs to somebody else. `holder` is what we leave
    // for the next one to read.
    static Result<StateDir> Open(std::string path, const std::string& holder);
    // The default for a mount point: below $XDG_STATE_HOME or ~/.local/state, for root
    // /var/lib/sbxfs, in a directory named after the mount point.
    static Result<std::string> DefaultFor(const std::string& mountpoint);
    // The directory those defaults are in, for this user.
    static Result<std::string> DefaultBase();
    // What the last holder left: "process N for the mount on /x".
    static std::string LastHolder(const std::string& path);
    // Whether a daemon holds it now.
    static bool IsHeld(const std::string& path);

    const std::string& path() const { return path_; }
    std::string journal() const { return path_ + "/journal.db"; }
    std::string reserve() const { return path_ + "/reserve"; }
    std::string outputs() const { return path_ + "/events"; }
    std::string log() const { return path_ + "/sbxfs.log"; }

 private:
    StateDir(std::string path, UniqueFd lock) : path_(std::move(path)), lock_(std::move(lock)) {}
    std::string path_;
    UniqueFd lock_;
};

}  // namespace sbxfs
