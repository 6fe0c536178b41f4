// Bytes of the sandboxes' files, kept in memory: at most so many for the whole mount, and what was used
// longest ago goes first. Shared by all sandboxes; made by the daemon.
//
// FileContents are those of one file as it was from one moment on: extents of a large one, all of a small
// one. What they are true of, and until when, is their holder's to know (FileCache, CachedFile);
// docs/CACHES.md has the rules. Any thread; one lock for all, held for bookkeeping only: bytes are
// shared, never copied under it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/sync.h"
#include "sandbox/remote_files.h"
#include "sandbox/sandbox_metrics.h"

namespace sbxfs {

class FileContents;
using FileContentsPtr = std::shared_ptr<FileContents>;

class ContentStore : public std::enable_shared_from_this<ContentStore> {
 public:
    static constexpr std::size_t kDefaultBytes = 256U << 20;

    explicit ContentStore(std::size_t most = kDefaultBytes) : most_(most) {}
    ContentStore(const ContentStore&) = delete;
    ContentStore& operator=(const ContentStore&) = delete;
    ~ContentStore() = default;

    FileContentsPtr Make();
    // Bytes that others hold under the same bound (dirty data): so many more, or fewer.
    void Claim(std::size_t bytes);
    void Unclaim(std::size_t bytes);
    std::size_t Claimed() const;

    std::size_t most() const { return most_; }
    std::size_t Bytes() const;

 private:
    friend class FileContents;
    struct Extent;
    using Used = std::list<Extent*>;  // the least recently used first
    struct Extent {
        std::shared_ptr<const std::string> bytes;
        FileContents* of = nullptr;
        std::uint64_t offset = 0;
        Used::iterator used;
    };
    using Doomed = std::vector<std::shared_ptr<const std::string>>;

    void MakeRoom(Doomed& doomed) REQUIRES(mu_);
    void Held() REQUIRES(mu_) { held_.Set(static_cast<std::int64_t>(bytes_)); }

    const std::size_t most_;
    mutable Mutex mu_{LockRank::kKernelCache};
    std::size_t bytes_ GUARDED_BY(mu_) = 0;
    std::size_t claimed_ GUARDED_BY(mu_) = 0;
    GaugeShare held_ GUARDED_BY(mu_){sandbox_metrics.cache_bytes};
    Used used_ GUARDED_BY(mu_);
};

// A piece of kept bytes.
struct ContentSlice {
    std::shared_ptr<const std::string> bytes;
    std::size_t at = 0;
    std::size_t size = 0;
};
using ContentSlices = std::vector<ContentSlice>;

// What a program reads of an open file.
struct BytesAsked {
    FileRange range;
    std::uint64_t version = 0;  // how often the file has been changed through this mount
    bool cacheable = true;      // nobody changes it by a name that is not known here
};

class FileContents {
 public:
    explicit FileContents(std::shared_ptr<ContentStore> store) : store_(std::move(store)) {}
    ~FileContents();
    FileContents(const FileContents&) = delete;
    FileContents& operator=(const FileContents&) = delete;

    // Of what is there already nothing is replaced. Nothing is kept after Spoil().
    void Put(std::uint64_t offset, std::string bytes);
    // The file ends there.
    void SetEnd(std::uint64_t end);
    // All of the range, cut at the end of the file; nothing when a part of it is not here.
    std::optional<ContentSlices> Read(FileRange range) const;
    // What of the range is not here, in order.
    std::vector<FileRange> Missing(FileRange range) const;
    // From the first byte to a known end.
    bool IsWhole() const;
    // The file has changed: nothing is told or taken any more.
    void Spoil();
    bool spoiled() const { return spoiled_.load(); }

    // The era that they are of: FileCache's.
    std::atomic<std::uint64_t> era{0};

 private:
    friend class ContentStore;
    using Extents = std::map<std::uint64_t, ContentStore::Extent>;

    void Add(std::uint64_t offset, std::string bytes);
    // The extent that holds the byte, or the next one behind it.
    Extents::const_iterator From(std::uint64_t offset) const;

    const std::shared_ptr<ContentStore> store_;
    std::atomic<bool> spoiled_{false};
    // Guarded by the store's mutex.
    Extents extents_;
    std::optional<std::uint64_t> end_;
};

}  // namespace sbxfs
