// Open files by number. Numbers are never reused. Owned by FileSystem; any thread.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <utility>

#include "base/sync.h"
#include "fs/node.h"
#include "fs/types.h"

namespace sbxfs {

class HandleTable {
 public:
    HandleTable() = default;
    HandleTable(const HandleTable&) = delete;
    HandleTable& operator=(const HandleTable&) = delete;

    Handle Add(OpenHandlePtr file) {
        const MutexLock lock(mu_);
        const std::uint64_t number = next_++;
        files_.emplace(number, std::move(file));
        return Handle{number};
    }
    // Null for a number that was released, or never given.
    OpenHandlePtr Find(Handle handle) const {
        const MutexLock lock(mu_);
        const auto it = files_.find(Raw(handle));
        return it == files_.end() ? nullptr : it->second;
    }
    // The file, which is no longer found; it dies with the caller's reference, outside the lock.
    OpenHandlePtr Remove(Handle handle) {
        const MutexLock lock(mu_);
        const auto it = files_.find(Raw(handle));
        if (it == files_.end()) return nullptr;
        OpenHandlePtr file = std::move(it->second);
        files_.erase(it);
        return file;
    }
    std::size_t Count() const {
        const MutexLock lock(mu_);
        return files_.size();
    }

 private:
    mutable Mutex mu_{LockRank::kHandleTable};
    std::unordered_map<std::uint64_t, OpenHandlePtr> files_ GUARDED_BY(mu_);
    std::uint64_t next_ GUARDED_BY(mu_) = 1;
};

}  // namespace sbxfs
