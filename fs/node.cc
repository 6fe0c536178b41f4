#include "fs/node.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include "base/strings.h"
#include "fs/mount_context.h"

namespace sbxfs {
namespace {

Error Refused() {
    return {Errno{EPERM},
            "this is a control entry of sbxfs: it cannot be created, linked, renamed or removed. "
            "`mkdir NAME` in the mount launches a sandbox, `rmdir NAME` destroys it, and its own "
            "files are below NAME/fs"};
}

Error NotADirectory() {
    return {Errno{ENOTDIR}, "not a directory"};
}

}  // namespace

bool OpenRequest::Reads() const {
    return (flags & O_ACCMODE) != O_WRONLY;
}

bool OpenRequest::Writes() const {
    return (flags & O_ACCMODE) != O_RDONLY;
}

Node::Node(MountContext& mount, Ino ino, NodePtr parent, std::string name)
    : mount_(mount), ino_(ino), parent_(std::move(parent)), name_(std::move(name)) {}

Node::~Node() = default;

NodePtr Node::Parent() const {
    const MutexLock lock(mount_.tree_mu);
    return parent_;
}

std::string Node::Name() const {
    const MutexLock lock(mount_.tree_mu);
    return name_;
}

void Node::MoveTo(NodePtr parent, std::string name) {
    // `parent` and `name` leave with the old values, which die after the lock.
    const MutexLock lock(mount_.tree_mu);
    parent_.swap(parent);
    name_.swap(name);
    twin_ino_ = 0;
}

std::uint64_t Node::StableIno() const {
    if (ino_ == kRootIno) return 1;
    {
        const MutexLock lock(mount_.tree_mu);
        if (twin_ino_ != 0) return twin_ino_;
    }
    return Fnv1a(Path());
}

void Node::ShareInoWith(const Node& twin) {
    const std::uint64_t ino = twin.StableIno();
    const MutexLock lock(mount_.tree_mu);
    twin_ino_ = ino;
}

std::string Node::Path() const {
    std::vector<const std::string*> names;
    std::string path;
    {
        const MutexLock lock(mount_.tree_mu);
        for (const Node* node = this; node->parent_ != nullptr; node = node->parent_.get()) {
            names.push_back(&node->name_);
        }
        for (auto it = names.rbegin(); it != names.rend(); ++it) {
            path += '/';
            path += **it;
        }
    }
    return path.empty() ? "/" : path;
}

void Node::SetAttr(const AttrChange&, const OpenHandlePtr&, const Caller&, AttrReply reply) {
    std::move(reply).Fail(Refused());
}
void Node::Lookup(std::string_view, EntryReply reply) {
    std::move(reply).Fail(NotADirectory());
}
void Node::ReadLink(TextReply reply) {
    std::move(reply).Fail(Error(Errno{EINVAL}, "not a symbolic link"));
}
void Node::Open(const OpenRequest&, OpenReply reply) {
    std::move(reply).Fail(Refused());
}
void Node::OpenDir(OpenReply reply) {
    std::move(reply).Fail(NotADirectory());
}
void Node::Create(std::string_view, std::uint32_t, const OpenRequest&, CreateReply reply) {
    std::move(reply).Fail(Refused());
}
void Node::MakeNode(std::string_view, std::uint32_t, EntryReply reply) {
    std::move(reply).Fail(Refused());
}
void Node::MakeDir(std::string_view, std::uint32_t, EntryReply reply) {
    std::move(reply).Fail(Refused());
}
void Node::Symlink(std::string_view, std::string_view, EntryReply reply) {
    std::move(reply).Fail(Refused());
}
void Node::Link(std::string_view, const NodePtr&, EntryReply reply) {
    std::move(reply).Fail(Refused());
}
void Node::Unlink(std::string_view name, EmptyReply reply) {
    RefuseRemoval(name, std::move(reply));
}
void Node::RemoveDir(std::string_view name, EmptyReply reply) {
    RefuseRemoval(name, std::move(reply));
}
void Node::RefuseRemoval(std::string_view name, EmptyReply reply) {
    mount_.removals.Refused(reply.caller(), Path() + "/" + std::string(name));
    std::move(reply).Fail(Refused());
}
void Node::Rename(std::string_view, const NodePtr&, std::string_view, RenameMode,
                  EmptyReply reply) {
    std::move(reply).Fail(Refused());
}

void Node::Statfs(StatfsReply reply) {
    // From memory: a df(1) that hangs hangs desktops and suspend.
    std::move(reply).Is(StatfsAnswer{});
}

void OpenHandle::Read(std::uint64_t, std::size_t, DataReply reply) {
    std::move(reply).Fail(Error(Errno{EBADF}, "not open for reading"));
}
void OpenHandle::Write(std::uint64_t, std::span<const char>, bool, WrittenReply reply) {
    std::move(reply).Fail(Error(Errno{EBADF}, "not open for writing"));
}
void OpenHandle::CopyTo(FileRange, const OpenHandlePtr&, std::uint64_t, WrittenReply reply) {
    std::move(reply).Fail(Error(Errno{EOPNOTSUPP}, ""));
}
void OpenHandle::Flush(const Caller&, EmptyReply reply) {
    std::move(reply).Ok();
}
void OpenHandle::Fsync(EmptyReply reply) {
    std::move(reply).Ok();
}
void OpenHandle::Release() {}
void OpenHandle::ReadDir(std::uint64_t, bool, PagePtr, DataReply reply) {
    std::move(reply).Fail(NotADirectory());
}

void OpenHandle::Poll(PollWaker, PollReply reply) {
    std::move(reply).Ready(POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM);
}

}  // namespace sbxfs
