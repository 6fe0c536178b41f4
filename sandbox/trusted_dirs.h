// Directories of a sandbox in which a change is known to succeed before the sandbox says so: they have taken
// one since it became quiet, or have been made since, and their file system has room. What WriteBehind
// answers ahead of the sandbox it answers on this ground. Also what the attributes of such a directory are
// by now.
//
// Owned by WriteBehind; loop thread only.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/clock.h"
#include "sandbox/remote_files.h"

namespace sbxfs {

// A file system of the sandbox, as far as its room is known here.
struct Volume {
    std::string path;             // of a directory on it
    std::uint64_t available = 0;  // bytes, when it was asked
    std::uint64_t used = 0;       // by us since
    SteadyTime asked{};
    bool asking = false;
};
using VolumePtr = std::shared_ptr<Volume>;

class TrustedDirs {
 public:
    struct Directory {
        RemoteStat stat;
        VolumePtr volume;
        SteadyTime seen{};  // when the sandbox last said so; nobody but us has changed it since
        bool told = false;  // its mtime, by us, and the sandbox may have another
    };
    // Who we are there, once something of ours has been seen.
    struct Owner {
        std::uint32_t uid = 0;
        std::uint32_t gid = 0;
    };

    Directory* Find(std::string_view path) {
        const auto it = dirs_.find(path);
        return it == dirs_.end() ? nullptr : &it->second;
    }
    void Add(const std::string& path, Directory directory) {
        if (dirs_.size() >= kMost) dirs_.clear();
        dirs_.insert_or_assign(path, std::move(directory));
    }
    // And what is below it.
    void Drop(const std::string& path) {
        dirs_.erase(path);
        const std::string below = path == "/" ? path : path + "/";
        auto it = dirs_.lower_bound(below);
        while (it != dirs_.end() && it->first.starts_with(below))
            it = dirs_.erase(it);
    }
    void Clear() { dirs_.clear(); }

    const std::optional<Owner>& me() const { return me_; }
    void SetMe(std::uint32_t uid, std::uint32_t gid) { me_ = Owner{uid, gid}; }
    // Whether names of this directory may be changed by its owner, who we are.
    bool MayWrite(const RemoteStat& directory) const {
        return me_ &&
               (me_->uid == 0 || (directory.mode & (S_IWUSR | S_IXUSR)) == (S_IWUSR | S_IXUSR));
    }
    // Where the sticky bit is set only the owner of a thing, or of the directory, may remove it.
    bool MayRemove(const RemoteStat& directory, const RemoteStat& thing) const {
        if ((directory.mode & S_ISVTX) == 0) return true;
        return me_ && (me_->uid == 0 || me_->uid == thing.uid || me_->uid == directory.uid);
    }

 private:
    static constexpr std::size_t kMost = 100'000;
    std::map<std::string, Directory, std::less<>> dirs_;
    std::optional<Owner> me_;
};

}  // namespace sbxfs
