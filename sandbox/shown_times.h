// mtimes that were shown before the sandbox had told them (contract 5: "an mtime once shown stays"). A file
// that is written behind has a new mtime at once, as its caller sees it; the one it gets in the sandbox may
// be another second's. Whoever has seen the first goes on seeing it, until the file changes again or drop_caches is asked
// for. Setting it
// there would not do: SFTP has whole seconds only, and make(1) in the sandbox compares nanoseconds.
//
// Owned by WriteBehind; loop thread only. Bounded: what is forgotten shows the sandbox's time from then on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>

#include "sandbox/remote_files.h"

namespace sbxfs {

class ShownTimes {
 public:
    // The file at `path` has the mtime `real`, and `shown` was shown for it. In seconds.
    void Bind(const std::string& path, std::int64_t real, std::int64_t shown) {
        if (real == shown) {
            times_.erase(path);
            return;
        }
        if (times_.size() >= kMost) times_.clear();
        times_[path] = {real, shown};
    }
    // It has been changed since.
    void Forget(const std::string& path) { times_.erase(path); }
    void Clear() { times_.clear(); }
    void Moved(const std::string& from, const std::string& to) {
        times_.erase(to);
        auto node = times_.extract(from);
        if (node.empty()) return;
        node.key() = to;
        times_.insert(std::move(node));
    }
    RemoteStat Apply(const std::string& path, RemoteStat stat) const {
        if (times_.empty()) return stat;
        const auto it = times_.find(path);
        if (it != times_.end() && it->second.real == stat.mtime) stat.mtime = it->second.shown;
        return stat;
    }

 private:
    static constexpr std::size_t kMost = 100'000;
    struct Pair {
        std::int64_t real = 0;
        std::int64_t shown = 0;
    };
    std::unordered_map<std::string, Pair> times_;
};

}  // namespace sbxfs
