// RemoteNode: what makes, moves and removes names.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cstdint>

#include "fs/remote_node.h"
#include "fs/remote_open_file.h"

namespace sbxfs {
namespace {

// Whatever a file is, it shows as one of these.
constexpr std::array<std::uint32_t, 4> kShownTypes = {S_IFREG, S_IFDIR, S_IFLNK, S_IFSOCK};

// Of what is made here: set-user-id and set-group-id bits are not passed on, as with chmod(2); the sticky bit is
// (mount.posix, open_modes_and_umask).
constexpr std::uint32_t kNewModes = S_ISVTX | 0777;

Error NotOffered(std::string_view what) {
    return {Errno{EOPNOTSUPP}, "SFTP has no way to make " + std::string(what) +
                                   ": make it with a command in the sandbox"};
}

}  // namespace

OpenHow HowToOpen(int flags) {
    OpenHow how;
    const int access = flags & O_ACCMODE;
    how.write = access != O_RDONLY;
    how.read = access != O_WRONLY;
    how.append = (flags & O_APPEND) != 0;
    how.truncate = (flags & O_TRUNC) != 0;
    return how;
}

// A name below this directory is gone, or means another file now.
void RemoteNode::Vanished(const std::string& name) {
    for (const std::uint32_t type : kShownTypes) {
        const Child child = ChildNode(name, type);
        if (const NodePtr node = mount().inodes.Peek(shared_from_this(), child.identity)) {
            const MutexLock lock(static_cast<RemoteNode&>(*node).open_mu_);
            static_cast<RemoteNode&>(*node).unlinked_ = true;
        }
        mount().inodes.Unkey(shared_from_this(), child.identity);
    }
}

void RemoteNode::Create(std::string_view name, std::uint32_t mode, const OpenRequest& request,
                        CreateReply reply) {
    sandbox_->Used();
    const Result<std::string> path = ChildPath(name);
    if (!path) return std::move(reply).Fail(path.error());
    OpenHow how = HowToOpen(request.flags);
    how.create = true;
    how.exclusive = (request.flags & O_EXCL) != 0;
    how.mode = mode & kNewModes;
    auto parked = mount().lot.Park(std::move(reply));
    FilesFor(parked.id())
        .OpenVerified(*path, how, CachedFiles::Asker::Verify::kNo,
                      [self = Self(), name = std::string(name), flags = request.flags,
                       parked = std::move(parked)](Result<CachedFiles::Opened> opened) mutable {
                          if (!opened) return parked.Fail(opened.error());
                          auto taken = parked.Take();
                          if (!taken) return;
                          MountContext& m = self->mount();
                          const NodePtr node = m.inodes.Enter(
                              self, self->ChildNode(name, ShownMode(opened->stat.mode)));
                          const auto remote = std::static_pointer_cast<RemoteNode>(node);
                          sbxfs::Opened handle{.handle = m.handles.Add(remote->MakeOpen(
                                                   *opened, remote->changes(), flags))};
                          handle.direct_io = AppendsOnly(flags);
                          handle.keep_cache = remote->MayKeepPages(*opened);
                          const Entry entry = self->ToEntry(*node, opened->stat);
                          if (std::move(*taken).Created(entry, handle) == Delivery::kDelivered)
                              return;
                          m.inodes.Forget(node->ino(), 1);
                          (void)m.handles.Remove(handle.handle);
                      });
}

void RemoteNode::MakeNode(std::string_view name, std::uint32_t mode, EntryReply reply) {
    sandbox_->Used();
    switch (mode & S_IFMT) {
        case S_IFREG:
            return MakeFile(name, mode, std::move(reply));
        case S_IFIFO:
            return std::move(reply).Fail(NotOffered("a FIFO"));
        case S_IFSOCK:
            return std::move(reply).Fail(NotOffered("a socket"));
        default:
            return std::move(reply).Fail(NotOffered("a device"));
    }
}

void RemoteNode::MakeFile(std::string_view name, std::uint32_t mode, EntryReply reply) {
    const Result<std::string> path = ChildPath(name);
    if (!path) return std::move(reply).Fail(path.error());
    OpenHow how;
    how.write = how.create = how.exclusive = true;
    how.mode = mode & kNewModes;
    auto parked = mount().lot.Park(std::move(reply));
    FilesFor(parked.id())
        .Open(*path, how,
              [self = Self(), name = std::string(name),
               parked = std::move(parked)](const Result<OpenedFile>& opened) mutable {
                  if (!opened) return parked.Fail(opened.error());
                  if (auto taken = parked.Take()) {
                      self->AnswerChild(name, opened->stat, std::move(*taken));
                  }
              });
}

void RemoteNode::MakeDir(std::string_view name, std::uint32_t mode, EntryReply reply) {
    sandbox_->Used();
    const Result<std::string> path = ChildPath(name);
    if (!path) return std::move(reply).Fail(path.error());
    auto parked = mount().lot.Park(std::move(reply));
    FilesFor(parked.id())
        .MakeDir(*path, mode & kNewModes,
                 [self = Self(), name = std::string(name),
                  parked = std::move(parked)](const Result<RemoteStat>& stat) mutable {
                     if (!stat) return parked.Fail(stat.error());
                     if (auto taken = parked.Take()) {
                         self->AnswerChild(name, *stat, std::move(*taken));
                     }
                 });
}

void RemoteNode::Symlink(std::string_view name, std::string_view target, EntryReply reply) {
    sandbox_->Used();
    const Result<std::string> path = ChildPath(name);
    if (!path) return std::move(reply).Fail(path.error());
    auto parked = mount().lot.Park(std::move(reply));
    FilesFor(parked.id())
        .Symlink(std::string(target), *path,
                 [self = Self(), name = std::string(name),
                  parked = std::move(parked)](const Result<RemoteStat>& stat) mutable {
                     if (!stat) return parked.Fail(stat.error());
                     if (auto taken = parked.Take()) {
                         self->AnswerChild(name, *stat, std::move(*taken));
                     }
                 });
}

void RemoteNode::Link(std::string_view name, const NodePtr& existing, EntryReply reply) {
    sandbox_->Used();
    const auto from = std::dynamic_pointer_cast<RemoteNode>(existing);
    if (from == nullptr || from->sandbox_ != sandbox_) {
        return std::move(reply).Fail(Error(Errno{EXDEV}, "a hard link cannot leave its sandbox"));
    }
    const Result<std::string> path = ChildPath(name);
    if (!path) return std::move(reply).Fail(path.error());
    auto parked = mount().lot.Park(std::move(reply));
    FilesFor(parked.id())
        .Link(from->RemotePath(), *path,
              [self = Self(), from, name = std::string(name),
               parked = std::move(parked)](const Result<RemoteStat>& stat) mutable {
                  if (!stat) return parked.Fail(stat.error());
                  // From now on each name is asked for: what the kernel has of the old one must go first.
                  MountContext& m = self->mount();
                  m.kernel_cache.Recall(
                      self->sandbox_->generation(), from->ino(),
                      [self, from, name, stat = *stat, parked = std::move(parked)]() mutable {
                          auto taken = parked.Take();
                          if (!taken) return;
                          self->AnswerLinked(name, *from, stat, std::move(*taken));
                      });
              });
}

void RemoteNode::AnswerLinked(const std::string& name, const RemoteNode& twin,
                              const RemoteStat& stat, EntryReply reply) {
    const NodePtr node =
        mount().inodes.Enter(shared_from_this(), ChildNode(name, ShownMode(stat.mode)));
    node->ShareInoWith(twin);
    if (std::move(reply).Found(ToEntry(*node, stat)) == Delivery::kUndelivered)
        mount().inodes.Forget(node->ino(), 1);
}

void RemoteNode::Unlink(std::string_view name, EmptyReply reply) {
    sandbox_->Used();
    const Result<std::string> path = ChildPath(name);
    if (!path) return std::move(reply).Fail(path.error());
    auto parked = mount().lot.Park(std::move(reply));
    FilesFor(parked.id())
        .Unlink(*path, [self = Self(), name = std::string(name),
                        parked = std::move(parked)](const Status& status) mutable {
            if (status) self->Vanished(name);
            if (auto taken = parked.Take()) std::move(*taken).Done(status);
        });
}

void RemoteNode::RemoveDir(std::string_view name, EmptyReply reply) {
    sandbox_->Used();
    const Result<std::string> path = ChildPath(name);
    if (!path) return std::move(reply).Fail(path.error());
    auto parked = mount().lot.Park(std::move(reply));
    FilesFor(parked.id())
        .RemoveDir(*path, [self = Self(), name = std::string(name),
                           parked = std::move(parked)](const Status& status) mutable {
            if (status) self->Vanished(name);
            if (auto taken = parked.Take()) std::move(*taken).Done(status);
        });
}

void RemoteNode::Rename(std::string_view name, const NodePtr& to_parent, std::string_view to_name,
                        RenameMode mode, EmptyReply reply) {
    sandbox_->Used();
    const auto to = std::dynamic_pointer_cast<RemoteNode>(to_parent);
    if (to == nullptr) {
        return std::move(reply).Fail(
            Error(Errno{EXDEV},
                  "a file of the sandbox cannot become a control entry; its files stay in fs/"));
    }
    if (to->sandbox_ != sandbox_) {
        return std::move(reply).Fail(Error(Errno{EXDEV}, "from one sandbox to another: copy it"));
    }
    const Result<std::string> from_path = ChildPath(name);
    if (!from_path) return std::move(reply).Fail(from_path.error());
    const Result<std::string> to_path = to->ChildPath(to_name);
    if (!to_path) return std::move(reply).Fail(to_path.error());
    const auto replace =
        mode == RenameMode::kReplace ? RemoteFiles::Replace::kYes : RemoteFiles::Replace::kNo;
    auto parked = mount().lot.Park(std::move(reply));
    FilesFor(parked.id())
        .Rename(*from_path, *to_path, replace,
                [self = Self(), to, name = std::string(name), to_name = std::string(to_name),
                 parked = std::move(parked)](const Status& status) mutable {
                    if (status) {
                        to->Vanished(to_name);
                        InodeTable& inodes = self->mount().inodes;
                        for (const std::uint32_t type : kShownTypes) {
                            const NodePtr moved =
                                inodes.Peek(self, self->ChildNode(name, type).identity);
                            if (moved == nullptr) continue;
                            moved->MoveTo(to, to_name);
                            inodes.Rekey(moved, to, to->ChildNode(to_name, type).identity);
                        }
                    }
                    if (auto taken = parked.Take()) std::move(*taken).Done(status);
                });
}

}  // namespace sbxfs
