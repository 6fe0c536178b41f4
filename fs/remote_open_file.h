// An open file or directory of the sandbox. A write is answered when the sandbox has acknowledged it, or before
// (WriteBehind); what went wrong later is told by fsync(2) and close(2). Read is for the kernel's page cache, in pieces of its own choosing; each piece is
// pipelined by SftpFiles.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fs/remote_node.h"

namespace sbxfs {

class RemoteOpenFile final : public OpenHandle,
                             public std::enable_shared_from_this<RemoteOpenFile> {
 public:
    // `changes`: of the node, before it was opened. `flags`: of open(2).
    RemoteOpenFile(const std::shared_ptr<RemoteNode>& node, const CachedFiles::Opened& opened,
                   std::uint64_t changes, int flags);
    ~RemoteOpenFile() override;

    const RemoteFilePtr& file() const { return file_; }
    // Whether this one and what has been opened under the same name now are known to be one file: a
    // command may have put another in its place.
    bool IsFileOf(const CachedFiles::Opened& opened) const;

    // The attributes of this very file, whatever its name leads to by now; nothing when the sandbox
    // must be asked.
    std::optional<Result<RemoteStat>> KnownStat() const;
    // For the kernel, which asks before each write(2): as old as attributes may be where others work in the sandbox, and
    // as large as what nobody here but this handle has written. stat(2) is not answered so: its mtime is the sandbox's.
    std::optional<Result<RemoteStat>> KnownToWriter() const;
    // They were set through it, or its node; `changes`: of the node, with that one.
    void WereSet(const RemoteStat& stat, FileCache::Era era, std::uint64_t changes);
    void Stat(CachedFiles::Asker& asker, StatDone done);

    void Read(std::uint64_t offset, std::size_t size, DataReply reply) override;
    void Write(std::uint64_t offset, std::span<const char> bytes, bool from_cache,
               WrittenReply reply) override;
    void CopyTo(FileRange range, const OpenHandlePtr& to, std::uint64_t offset,
                WrittenReply reply) override;
    void Flush(const Caller& who, EmptyReply reply) override;
    void Fsync(EmptyReply reply) override;
    void Release() override;

 private:
    // What was seen, and what must still be so for it to be true.
    struct Seen {
        RemoteStat stat;
        FileCache::Era era = 0;
        std::uint64_t changes = 0;
        SteadyTime when{};
        std::uint64_t own = 0;         // of the changes
        std::uint64_t written_to = 0;  // through this handle since
    };
    void Keep(const RemoteStat& stat, FileCache::Era era, std::uint64_t changes);
    bool HasOneName() const;
    void Wrote(std::uint64_t end);

    const std::shared_ptr<RemoteNode> remote_;
    const RemoteFilePtr file_;
    const FileCache::Era opened_in_;
    const std::optional<IdentityStat> identity_;  // when it was opened, if anybody looked
    const std::uint64_t changes_before_;          // of the node
    const std::uint64_t sets_before_;
    std::atomic<std::uint64_t> changes_{0};  // of them, through this handle
    const bool direct_;
    const bool appends_;
    std::atomic<bool> wrote_{false};
    mutable Mutex mu_{LockRank::kHandle};
    std::optional<Seen> seen_ GUARDED_BY(mu_);
};

std::vector<FileCache::Name> NamesOf(const std::vector<RemoteEntry>& entries);

// A directory listed once at opendir, and again at rewinddir.
class RemoteOpenDir final : public OpenHandle, public std::enable_shared_from_this<RemoteOpenDir> {
 public:
    RemoteOpenDir(const std::shared_ptr<RemoteNode>& node, std::vector<FileCache::Name> entries)
        : OpenHandle(node), remote_(node), entries_(std::move(entries)) {}

    void ReadDir(std::uint64_t offset, bool plus, PagePtr page, DataReply reply) override;
    // Waits for every earlier change in the sandbox.
    void Fsync(EmptyReply reply) override;

 private:
    void Fill(std::uint64_t offset, bool plus, DirectoryPage& page);

    const std::shared_ptr<RemoteNode> remote_;
    Mutex mu_{LockRank::kHandle};
    std::vector<FileCache::Name> entries_ GUARDED_BY(mu_);
    bool read_ GUARDED_BY(mu_) = false;
};

}  // namespace sbxfs
