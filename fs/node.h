// A node of the tree and an open file, as the kernel's requests see them. One small class per kind of
// node implements what it offers; what it does not override is refused here, with a fitting errno and
// sentence. No libfuse type in sight: FileSystem translates numbers to nodes, fuse_ops.cc translates
// libfuse to FileSystem.
//
// A Node is held by the inode table while the kernel knows its number, by handles and by its children.
// It holds its sandbox, never the other way round. Any FUSE thread may call any node at any time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_function.h"
#include "fs/poll_slot.h"
#include "fs/reply.h"
#include "fs/types.h"
#include "sandbox/remote_files.h"

namespace sbxfs {

class Node;
class OpenHandle;
struct MountContext;
using NodePtr = std::shared_ptr<Node>;
using OpenHandlePtr = std::shared_ptr<OpenHandle>;

// A child that a directory could have: enough to find its node again, or to make one.
struct Child {
    // Tells it from every other child this directory has or had (a name, or a name and a generation).
    std::string identity;
    UniqueFunction<NodePtr(Ino ino, const NodePtr& parent)> make;
};

// What open(2) asked for.
struct OpenRequest {
    int flags = 0;  // O_*
    Caller who;
    bool Reads() const;
    bool Writes() const;
};

// Which attributes SETATTR sets; absent ones stay.
struct AttrChange {
    std::optional<std::uint64_t> size;
    std::optional<std::uint32_t> mode;
    std::optional<uid_t> uid;
    std::optional<gid_t> gid;
    std::optional<SystemTime> atime;
    std::optional<SystemTime> mtime;
    bool atime_now = false;
    bool mtime_now = false;
    bool AnyTime() const { return atime || mtime || atime_now || mtime_now; }
};

enum class RenameMode { kReplace, kNoReplace };

class Node : public std::enable_shared_from_this<Node> {
 public:
    // `name` is the one below `parent`; the root has neither.
    Node(MountContext& mount, Ino ino, NodePtr parent, std::string name);
    Node(const Node&) = delete;
    Node& operator=(const Node&) = delete;
    virtual ~Node();

    Ino ino() const { return ino_; }
    MountContext& mount() const { return mount_; }

    // What programs see as st_ino: made of the names on the way here, so that it is the same after a
    // remount.
    std::uint64_t StableIno() const;
    // A hard link was made: as long as the kernel knows this name it shows the number of the other one,
    // which is how programs see that they are one file (git clone insists).
    void ShareInoWith(const Node& twin);
    // From the mount point, "/box/events/3"; "/" for the root.
    std::string Path() const;
    NodePtr Parent() const;
    std::string Name() const;
    // RENAME told that this node is elsewhere now.
    void MoveTo(NodePtr parent, std::string name);

    // What can be said of it from memory, for listings and look-ups that must not wait.
    virtual std::optional<Entry> EntryNow() const { return std::nullopt; }

    virtual void GetAttr(const OpenHandlePtr& open, AttrReply reply) = 0;
    virtual void SetAttr(const AttrChange& change, const OpenHandlePtr& open, const Caller& who,
                         AttrReply reply);
    virtual void Lookup(std::string_view name, EntryReply reply);
    virtual void ReadLink(TextReply reply);
    virtual void Open(const OpenRequest& request, OpenReply reply);
    virtual void OpenDir(OpenReply reply);
    virtual void Create(std::string_view name, std::uint32_t mode, const OpenRequest& request,
                        CreateReply reply);
    virtual void MakeNode(std::string_view name, std::uint32_t mode, EntryReply reply);
    virtual void MakeDir(std::string_view name, std::uint32_t mode, EntryReply reply);
    virtual void Symlink(std::string_view name, std::string_view target, EntryReply reply);
    virtual void Link(std::string_view name, const NodePtr& existing, EntryReply reply);
    virtual void Unlink(std::string_view name, EmptyReply reply);
    virtual void RemoveDir(std::string_view name, EmptyReply reply);
    virtual void Rename(std::string_view name, const NodePtr& to_parent, std::string_view to_name,
                        RenameMode mode, EmptyReply reply);
    virtual void Statfs(StatfsReply reply);

 protected:
    // EPERM, and the process that asked does not get to remove what is above either (RemovalGuard).
    void RefuseRemoval(std::string_view name, EmptyReply reply);

 private:
    MountContext& mount_;
    const Ino ino_;
    // Guarded by MountContext::tree_mu: RENAME changes all.
    NodePtr parent_;
    std::string name_;
    std::uint64_t twin_ino_ = 0;  // 0: none
};

// An open file. Released exactly once; requests on it may still be on their way then.
class OpenHandle {
 public:
    explicit OpenHandle(NodePtr node) : node_(std::move(node)) {}
    OpenHandle(const OpenHandle&) = delete;
    OpenHandle& operator=(const OpenHandle&) = delete;
    virtual ~OpenHandle() = default;

    const NodePtr& node() const { return node_; }

    virtual void Read(std::uint64_t offset, std::size_t size, DataReply reply);
    // `from_cache`: the kernel writes back a page of a shared mapping; who did it is not known.
    virtual void Write(std::uint64_t offset, std::span<const char> bytes, bool from_cache,
                       WrittenReply reply);
    // copy_file_range(2) to another open file of this mount. EOPNOTSUPP where that is not offered: the
    // kernel reads and writes instead.
    virtual void CopyTo(FileRange range, const OpenHandlePtr& to, std::uint64_t offset,
                        WrittenReply reply);
    virtual void Flush(const Caller& who, EmptyReply reply);
    virtual void Fsync(EmptyReply reply);
    virtual void Release();
    virtual void ReadDir(std::uint64_t offset, bool plus, PagePtr page, DataReply reply);
    // Ready at once unless a file knows better.
    virtual void Poll(PollWaker waker, PollReply reply);

 private:
    NodePtr node_;
};

}  // namespace sbxfs
