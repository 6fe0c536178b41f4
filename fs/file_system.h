// The file system, free of libfuse: numbers in, answers out. Finds the node or open file a request is
// about and lets it answer, now or later; keeps the books of what the kernel knows. fuse_ops.cc calls it
// in production, tests call it directly.
//
// Any thread. Nothing here waits.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fs/errno_table.h"
#include "fs/mount_context.h"
#include "fs/node.h"
#include "fs/reply.h"
#include "fs/slow_watch.h"
#include "fs/types.h"

namespace sbxfs {

class FileSystem {
 public:
    FileSystem(Sandboxes& sandboxes, Loop& timer_loop, Clock& clock, MountSettings settings,
               Config config);
    ~FileSystem();
    FileSystem(const FileSystem&) = delete;
    FileSystem& operator=(const FileSystem&) = delete;

    void Lookup(Ino parent, std::string_view name, EntryReply reply);
    void Forget(Ino ino, std::uint64_t count);
    void GetAttr(Ino ino, Handle handle, AttrReply reply);
    void SetAttr(Ino ino, const AttrChange& change, Handle handle, const Caller& who,
                 AttrReply reply);
    void ReadLink(Ino ino, TextReply reply);
    void MakeNode(Ino parent, std::string_view name, std::uint32_t mode, EntryReply reply);
    void MakeDir(Ino parent, std::string_view name, std::uint32_t mode, EntryReply reply);
    void Unlink(Ino parent, std::string_view name, EmptyReply reply);
    void RemoveDir(Ino parent, std::string_view name, EmptyReply reply);
    void Symlink(Ino parent, std::string_view name, std::string_view target, EntryReply reply);
    void Rename(Ino parent, std::string_view name, Ino to_parent, std::string_view to_name,
                unsigned flags, EmptyReply reply);
    void Link(Ino ino, Ino to_parent, std::string_view name, EntryReply reply);
    void Open(Ino ino, const OpenRequest& request, OpenReply reply);
    void Create(Ino parent, std::string_view name, std::uint32_t mode, const OpenRequest& request,
                CreateReply reply);
    void Read(Handle handle, std::uint64_t offset, std::size_t size, DataReply reply);
    void Write(Handle handle, std::uint64_t offset, std::span<const char> bytes, bool from_cache,
               WrittenReply reply);
    void CopyRange(Handle from, FileRange range, Handle to, std::uint64_t offset,
                   WrittenReply reply);
    void Flush(Handle handle, const Caller& who, EmptyReply reply);
    void Fsync(Handle handle, EmptyReply reply);
    void Release(Handle handle, EmptyReply reply);
    void OpenDir(Ino ino, OpenReply reply);
    void ReadDir(Handle handle, std::uint64_t offset, bool plus, PagePtr page, DataReply reply);
    void Poll(Handle handle, PollWaker waker, PollReply reply);
    void Statfs(Ino ino, StatfsReply reply);

    // A request is about to be answered with an error: keeps its line of last_error, and says which errno to answer
    // with: its own if it is one for this request (errno_table.h), else EIO.
    Errno OnFailure(const RequestFacts& facts, const Error& error);
    // Unmounting: everyone who still waits hears ENOTCONN.
    void FailParked();

    MountContext& context() { return context_; }

 private:
    MountContext context_;
    const std::shared_ptr<SlowWatch> slow_watch_;
};

}  // namespace sbxfs
