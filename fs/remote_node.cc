#include "fs/remote_node.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/check.h"
#include "fs/control_node.h"
#include "fs/remote_open_file.h"
#include "fs/remote_paths.h"

namespace sbxfs {
namespace {

// Whatever a file is, it shows as one of these.
constexpr std::array<std::uint32_t, 4> kShownTypes = {S_IFREG, S_IFDIR, S_IFLNK, S_IFSOCK};

SystemTime FromSeconds(std::int64_t seconds) {
    return SystemTime(std::chrono::seconds(seconds));
}

std::int64_t ToSeconds(SystemTime time) {
    return std::chrono::floor<std::chrono::seconds>(time.time_since_epoch()).count();
}

OpenHow HowToOpen(int flags) {
    OpenHow how;
    const int access = flags & O_ACCMODE;
    how.write = access != O_RDONLY;
    how.read = access != O_WRONLY;
    how.append = (flags & O_APPEND) != 0;
    how.truncate = (flags & O_TRUNC) != 0;
    return how;
}

Error TooLong() {
    return {Errno{ENAMETOOLONG}, "a name may have 255 bytes"};
}

Error NotOffered(std::string_view what) {
    return {Errno{EOPNOTSUPP}, "SFTP has no way to make " + std::string(what) +
                                   ": make it with a command in the sandbox"};
}

}  // namespace

std::uint32_t ShownMode(std::uint32_t mode) {
    switch (mode & S_IFMT) {
        case S_IFREG:
        case S_IFDIR:
        case S_IFLNK:
            return mode & ~static_cast<std::uint32_t>(S_ISUID | S_ISGID);
        default:
            return S_IFSOCK | (mode & 0777);
    }
}

std::shared_ptr<RemoteNode> RemoteNode::Self() {
    return std::static_pointer_cast<RemoteNode>(shared_from_this());
}

std::string RemoteNode::RemotePath() const {
    // Path() is "/box/fs/a/b", or "/.mount/..." never: fs/ is only below a sandbox.
    const std::string path = Path();
    std::size_t below = path.find('/', 1);                                         // "/fs/a/b"
    below = below == std::string::npos ? path.size() : path.find('/', below + 1);  // "/a/b"
    const std::string rest = below == std::string::npos ? "" : path.substr(below);
    const std::string& root = sandbox_->what().fs_root;
    if (rest.empty()) return root;
    return root == "/" ? rest : root + rest;
}

LinkedFiles::ForAsker RemoteNode::FilesFor(std::uint64_t parked) const {
    return sandbox_->files().For([&lot = mount().lot, parked] { return lot.Holds(parked); });
}

Result<std::string> RemoteNode::ChildPath(std::string_view name) const {
    if (name.size() > 255) return TooLong();
    if (!IsComponent(name)) return Error(Errno{EINVAL}, "not a file name");
    std::string path = JoinPath(RemotePath(), name);
    if (IsHidden(sandbox_->what(), sandbox_->SpoolDir(), path)) {
        return Error(Errno{EPERM}, "'" + path + "' in the sandbox is not shown in fs/");
    }
    return path;
}

Entry RemoteNode::ToEntry(const Node& node, const RemoteStat& stat) const {
    Entry entry{node.ino(), {}};
    entry.attr.st_ino = node.StableIno();
    entry.attr.mode = ShownMode(stat.mode);
    const MountSettings& settings = mount().settings;
    const bool remote = settings.idmap == IdMap::kRemote;
    entry.attr.uid = remote ? stat.uid : settings.uid;
    entry.attr.gid = remote ? stat.gid : settings.gid;
    entry.attr.size = stat.size;
    entry.attr.atime = FromSeconds(stat.atime);
    entry.attr.mtime = entry.attr.ctime = FromSeconds(stat.mtime);
    return entry;
}

Child RemoteNode::ChildNode(std::string_view name, std::uint32_t type) const {
    // Another type is another node: the kernel must not see a number change its type.
    return MakeChild<RemoteNode>(mount(), std::string(name),
                                 std::string(name) + "/" + std::to_string(type & S_IFMT), sandbox_);
}

void RemoteNode::AnswerChild(const std::string& name, const RemoteStat& stat, EntryReply reply) {
    const NodePtr node =
        mount().inodes.Enter(shared_from_this(), ChildNode(name, ShownMode(stat.mode)));
    if (std::move(reply).Found(ToEntry(*node, stat)) == Delivery::kUndelivered) {
        mount().inodes.Forget(node->ino(), 1);
    }
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

void RemoteNode::Opened(const std::shared_ptr<RemoteOpenFile>& file) {
    const MutexLock lock(open_mu_);
    std::erase_if(open_, [](const auto& weak) { return weak.expired(); });
    open_.push_back(file);
}

RemoteFilePtr RemoteNode::AnyOpenFile() const {
    const MutexLock lock(open_mu_);
    if (!unlinked_) return nullptr;
    for (const auto& weak : open_) {
        if (const auto file = weak.lock()) return file->file();
    }
    return nullptr;
}

std::optional<Entry> RemoteNode::EntryNow() const {
    // Only fs/ itself is told from memory: nothing in a sandbox's top directory may wait.
    const NodePtr parent = Parent();
    if (std::dynamic_pointer_cast<RemoteNode>(parent) != nullptr) return std::nullopt;
    RemoteStat stat;
    stat.mode = S_IFDIR | 0755;
    stat.atime = stat.mtime = ToSeconds(FromEpochMs(sandbox_->created_ms()));
    return ToEntry(*this, stat);
}

StatDone RemoteNode::AnswerAttr(Parked<AttrReply> parked) {
    return [self = Self(), parked = std::move(parked)](const Result<RemoteStat>& stat) mutable {
        if (!stat) return parked.Fail(stat.error());
        if (auto reply = parked.Take()) std::move(*reply).Is(self->ToEntry(*self, *stat));
    };
}

void RemoteNode::GetAttr(const OpenHandlePtr& open, AttrReply reply) {
    if (const auto entry = EntryNow()) return std::move(reply).Is(*entry);
    auto parked = mount().lot.Park(std::move(reply));
    LinkedFiles::ForAsker asker = FilesFor(parked.id());
    StatDone done = AnswerAttr(std::move(parked));
    const auto file = std::dynamic_pointer_cast<RemoteOpenFile>(open);
    // fstat(2) of a file whose name is gone comes without a handle: any open one of this node will do.
    const RemoteFilePtr handle = file != nullptr ? file->file() : AnyOpenFile();
    if (handle != nullptr) return asker.FileStat(handle, std::move(done));
    asker.Lstat(RemotePath(), std::move(done));
}

void RemoteNode::SetAttr(const AttrChange& change, const OpenHandlePtr& open, const Caller&,
                         AttrReply reply) {
    const MountSettings& settings = mount().settings;
    if (settings.idmap == IdMap::kMount && ((change.uid && *change.uid != settings.uid) ||
                                            (change.gid && *change.gid != settings.gid))) {
        return std::move(reply).Fail(
            Error(Errno{EPERM},
                  "files show as owned by the user of the mount and stay so: change "
                  "owners with a command in the sandbox, or mount with idmap=none"));
    }
    if (change.mode && (*change.mode & (S_ISUID | S_ISGID)) != 0) {
        return std::move(reply).Fail(
            Error(Errno{EPERM},
                  "set-user-id and set-group-id bits are not passed on: set them with a "
                  "command in the sandbox"));
    }
    StatChange wanted;
    wanted.size = change.size;
    if (change.mode) wanted.mode = *change.mode & 07777;
    const std::int64_t now =
        ToSeconds(mount().clock.System() + std::chrono::milliseconds(sandbox_->ClockSkewMs()));
    if (change.atime_now) wanted.atime = now;
    if (change.mtime_now) wanted.mtime = now;
    if (change.atime) wanted.atime = ToSeconds(*change.atime);
    if (change.mtime) wanted.mtime = ToSeconds(*change.mtime);
    if (settings.idmap == IdMap::kRemote) {
        wanted.uid = change.uid;
        wanted.gid = change.gid;
    }
    if (!wanted.size && !wanted.mode && !wanted.atime && !wanted.mtime && !wanted.uid &&
        !wanted.gid) {
        return GetAttr(open, std::move(reply));  // chown to the shown owner
    }

    const auto file = std::dynamic_pointer_cast<RemoteOpenFile>(open);
    const RemoteFilePtr handle = file != nullptr ? file->file() : AnyOpenFile();
    auto parked = mount().lot.Park(std::move(reply));
    const auto apply = [self = Self(), handle, id = parked.id()](const StatChange& what,
                                                                 StatDone done) {
        if (handle != nullptr) {
            self->FilesFor(id).SetFileStat(handle, what, std::move(done));
        } else {
            self->FilesFor(id).SetStat(self->RemotePath(), what, std::move(done));
        }
    };
    if (wanted.atime.has_value() == wanted.mtime.has_value() &&
        wanted.uid.has_value() == wanted.gid.has_value()) {
        return apply(wanted, AnswerAttr(std::move(parked)));
    }
    // SFTP v3 sets both times or none, and user and group together: the other one is asked for first.
    StatDone complete = [self = Self(), wanted, apply,
                         parked = std::move(parked)](const Result<RemoteStat>& stat) mutable {
        if (!stat) return parked.Fail(stat.error());
        if (wanted.atime.has_value() != wanted.mtime.has_value()) {
            wanted.atime = wanted.atime.value_or(stat->atime);
            wanted.mtime = wanted.mtime.value_or(stat->mtime);
        }
        if (wanted.uid.has_value() != wanted.gid.has_value()) {
            wanted.uid = wanted.uid.value_or(stat->uid);
            wanted.gid = wanted.gid.value_or(stat->gid);
        }
        apply(wanted, self->AnswerAttr(std::move(parked)));
    };
    if (handle != nullptr) return sandbox_->files().FileStat(handle, std::move(complete));
    sandbox_->files().Lstat(RemotePath(), std::move(complete));
}

void RemoteNode::Lookup(std::string_view name, EntryReply reply) {
    const Result<std::string> path = ChildPath(name);
    if (!path) {
        // What is hidden is not there.
        const Errno code =
            path.error().code() == Errno{EPERM} ? Errno{ENOENT} : path.error().code();
        return std::move(reply).Fail(Error(code, path.error().what()));
    }
    auto parked = mount().lot.Park(std::move(reply));
    FilesFor(parked.id())
        .Lstat(*path, [self = Self(), name = std::string(name),
                       parked = std::move(parked)](const Result<RemoteStat>& stat) mutable {
            if (!stat) return parked.Fail(stat.error());
            if (auto taken = parked.Take()) self->AnswerChild(name, *stat, std::move(*taken));
        });
}

void RemoteNode::ReadLink(TextReply reply) {
    auto parked = mount().lot.Park(std::move(reply));
    FilesFor(parked.id())
        .ReadLink(RemotePath(), [self = Self(), parked = std::move(parked)](
                                    const Result<std::string>& target) mutable {
            if (!target) return parked.Fail(target.error());
            const std::string& root = self->sandbox_->what().fs_root;
            const std::string path = self->RemotePath();
            std::string dir = path.substr(0, path.rfind('/'));
            if (root != "/") dir = dir.substr(std::min(root.size(), dir.size()));
            if (auto taken = parked.Take()) std::move(*taken).Text(ContainLink(*target, dir, root));
        });
}

void RemoteNode::Open(const OpenRequest& request, OpenReply reply) {
    auto parked = mount().lot.Park(std::move(reply));
    FilesFor(parked.id())
        .Open(RemotePath(), HowToOpen(request.flags),
              [self = Self(), parked = std::move(parked)](Result<OpenedFile> opened) mutable {
                  if (!opened) return parked.Fail(opened.error());
                  auto taken = parked.Take();
                  if (!taken) return;
                  auto file = std::make_shared<RemoteOpenFile>(self, std::move(opened->file));
                  self->Opened(file);
                  AnswerOpen(self->mount(), std::move(file), sbxfs::Opened{}, std::move(*taken));
              });
}

void RemoteNode::OpenDir(OpenReply reply) {
    auto parked = mount().lot.Park(std::move(reply));
    FilesFor(parked.id())
        .List(RemotePath(), [self = Self(), parked = std::move(parked)](
                                Result<std::vector<RemoteEntry>> entries) mutable {
            if (!entries) return parked.Fail(entries.error());
            if (auto taken = parked.Take()) {
                auto dir = std::make_shared<RemoteOpenDir>(self, std::move(*entries));
                AnswerOpen(self->mount(), std::move(dir), sbxfs::Opened{}, std::move(*taken));
            }
        });
}

void RemoteNode::Create(std::string_view name, std::uint32_t mode, const OpenRequest& request,
                        CreateReply reply) {
    const Result<std::string> path = ChildPath(name);
    if (!path) return std::move(reply).Fail(path.error());
    OpenHow how = HowToOpen(request.flags);
    how.create = true;
    how.exclusive = (request.flags & O_EXCL) != 0;
    how.mode = mode & 0777;
    auto parked = mount().lot.Park(std::move(reply));
    FilesFor(parked.id())
        .Open(*path, how,
              [self = Self(), name = std::string(name),
               parked = std::move(parked)](Result<OpenedFile> opened) mutable {
                  if (!opened) return parked.Fail(opened.error());
                  auto taken = parked.Take();
                  if (!taken) return;
                  MountContext& m = self->mount();
                  const NodePtr node =
                      m.inodes.Enter(self, self->ChildNode(name, ShownMode(opened->stat.mode)));
                  const auto remote = std::static_pointer_cast<RemoteNode>(node);
                  auto file = std::make_shared<RemoteOpenFile>(remote, std::move(opened->file));
                  remote->Opened(file);
                  sbxfs::Opened handle{.handle = m.handles.Add(std::move(file))};
                  const Entry entry = self->ToEntry(*node, opened->stat);
                  if (std::move(*taken).Created(entry, handle) == Delivery::kDelivered) return;
                  m.inodes.Forget(node->ino(), 1);
                  (void)m.handles.Remove(handle.handle);
              });
}

void RemoteNode::MakeNode(std::string_view name, std::uint32_t mode, EntryReply reply) {
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
    how.mode = mode & 0777;
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
    const Result<std::string> path = ChildPath(name);
    if (!path) return std::move(reply).Fail(path.error());
    auto parked = mount().lot.Park(std::move(reply));
    FilesFor(parked.id())
        .MakeDir(*path, mode & 0777,
                 [self = Self(), name = std::string(name),
                  parked = std::move(parked)](const Result<RemoteStat>& stat) mutable {
                     if (!stat) return parked.Fail(stat.error());
                     if (auto taken = parked.Take()) {
                         self->AnswerChild(name, *stat, std::move(*taken));
                     }
                 });
}

void RemoteNode::Symlink(std::string_view name, std::string_view target, EntryReply reply) {
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
                  auto taken = parked.Take();
                  if (!taken) return;
                  const Child child = self->ChildNode(name, ShownMode(stat->mode));
                  const NodePtr node = self->mount().inodes.Enter(self, child);
                  node->ShareInoWith(*from);
                  if (std::move(*taken).Found(self->ToEntry(*node, *stat)) ==
                      Delivery::kUndelivered) {
                      self->mount().inodes.Forget(node->ino(), 1);
                  }
              });
}

void RemoteNode::Unlink(std::string_view name, EmptyReply reply) {
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

void RemoteNode::Statfs(StatfsReply reply) {
    if (sandbox_->status() != SandboxStatus::kReady) return Node::Statfs(std::move(reply));
    auto parked = mount().lot.Park(std::move(reply));
    sandbox_->files().Statfs(
        RemotePath(), [parked = std::move(parked)](const Result<RemoteStatfs>& space) mutable {
            auto taken = parked.Take();
            if (!taken) return;
            StatfsAnswer answer;
            if (space) {
                answer = {space->block_size,       space->blocks, space->blocks_free,
                          space->blocks_available, space->files,  space->files_free,
                          space->name_max};
            }
            std::move(*taken).Is(answer);
        });
}

}  // namespace sbxfs
