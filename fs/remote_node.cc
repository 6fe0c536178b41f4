#include "fs/remote_node.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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

SystemTime FromSeconds(std::int64_t seconds) {
    return SystemTime(std::chrono::seconds(seconds));
}

// An answer about the node is about to leave: how long it may be kept. What has other names changes behind
// the kernel's back.
Lease Lend(const Node& node, Sandbox& sandbox) {
    const auto* remote = dynamic_cast<const RemoteNode*>(&node);
    if (remote != nullptr && sandbox.cached().cache().HasOtherNames(remote->RemotePath()))
        return {};
    return node.mount().kernel_cache.Grant(sandbox.generation(), node.ino());
}

std::int64_t ToSeconds(SystemTime time) {
    return std::chrono::floor<std::chrono::seconds>(time.time_since_epoch()).count();
}

// How long statfs(2) waits for a sandbox. Then the last known numbers must do.
constexpr Duration kSpaceLimit = std::chrono::milliseconds(250);

// Within that the kernel has asked again for a name that was not answered for.
constexpr Duration kAskedAgain = std::chrono::milliseconds(100);
constexpr std::size_t kMostUnanswered = 64;  // in one directory

StatfsAnswer ToAnswer(const RemoteStatfs& space) {
    return {space.block_size, space.blocks,     space.blocks_free, space.blocks_available,
            space.files,      space.files_free, space.name_max};
}

Error TooLong() {
    return {Errno{ENAMETOOLONG}, "a name may have 255 bytes, and a path in the sandbox 4095"};
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

CachedFiles::Asker RemoteNode::FilesFor(std::uint64_t parked) const {
    return files().For([&lot = mount().lot, parked] { return lot.Holds(parked); });
}

Result<std::string> RemoteNode::ChildPath(std::string_view name) const {
    if (name.size() > 255) return TooLong();
    if (!IsComponent(name)) return Error(Errno{EINVAL}, "not a file name");
    std::string path = JoinPath(RemotePath(), name);
    // The server is told whole paths. Not left to it to refuse: what is made would be answered ahead
    // (Behind.WhatIsKnownToFailFailsAtOnce).
    if (path.size() >= PATH_MAX) return TooLong();
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

// For the node's own attributes, with a lease. A file that became something of another type is
// another node: ESTALE has the kernel look the name up again.
Result<Entry> RemoteNode::ToAttr(const RemoteStat& stat) const {
    if ((ShownMode(stat.mode) & S_IFMT) != type_)
        return Error(Errno{ESTALE}, "it was replaced by something of another type");
    Entry entry = ToEntry(*this, stat);
    entry.lease = Lend(*this, *sandbox_);
    return entry;
}

Child RemoteNode::ChildNode(std::string_view name, std::uint32_t type) const {
    return MakeChild<RemoteNode>(mount(), std::string(name),
                                 std::string(name) + "/" + std::to_string(type & S_IFMT), sandbox_,
                                 type & S_IFMT);
}

void RemoteNode::AnswerChild(const std::string& name, const RemoteStat& stat, EntryReply reply) {
    const NodePtr node =
        mount().inodes.Enter(shared_from_this(), ChildNode(name, ShownMode(stat.mode)));
    Entry entry = ToEntry(*node, stat);
    entry.lease = Lend(*node, *sandbox_);
    if (std::move(reply).Found(entry) == Delivery::kUndelivered) {
        mount().inodes.Forget(node->ino(), 1);
    }
}

// --- Open files

bool RemoteNode::HasLostItsName() const {
    const MutexLock lock(open_mu_);
    return unlinked_;
}

std::shared_ptr<RemoteOpenFile> RemoteNode::AnyOpenFile() const {
    const MutexLock lock(open_mu_);
    if (!unlinked_) return nullptr;
    for (const auto& weak : open_) {
        if (auto file = weak.lock()) return file;
    }
    return nullptr;
}

std::optional<RemoteStat> RemoteNode::KnownToWriter() const {
    std::vector<std::shared_ptr<RemoteOpenFile>> open;  // dies after the lock
    {
        const MutexLock lock(open_mu_);
        for (const auto& weak : open_) {
            if (auto file = weak.lock()) open.push_back(std::move(file));
        }
    }
    for (const auto& file : open) {
        if (const auto known = file->KnownToWriter(); known && *known) return **known;
    }
    return std::nullopt;
}

void RemoteNode::Changed() {
    ++changes_;
    if (!HasLostItsName()) files().cache().Changed(RemotePath());
}

void RemoteNode::WroteAll(FileCache::Era era, const RemoteStat& stat) {
    if (files().cache().HasOtherNames(RemotePath())) return;
    const MutexLock lock(open_mu_);
    if (pages_ && pages_->era == era) pages_->stat = stat;
}

void RemoteNode::ForgetPages() {
    const MutexLock lock(open_mu_);
    pages_.reset();
}

void RemoteNode::DropTwins() {
    const FileCache& cache = files().cache();
    if (!HasLostItsName() && !cache.HasOtherNames(RemotePath())) return;
    std::vector<Ino> twins;
    for (const Ino other : mount().kernel_cache.OpenFiles(sandbox_->generation())) {
        const auto node = std::dynamic_pointer_cast<RemoteNode>(mount().inodes.Find(other));
        if (node == nullptr || node.get() == this) continue;
        if (node->HasLostItsName() || cache.HasOtherNames(node->RemotePath()))
            twins.push_back(other);
    }
    mount().kernel_cache.DropPagesOf(sandbox_->generation(), std::move(twins), [] {});
}

std::shared_ptr<RemoteOpenFile> RemoteNode::MakeOpen(const CachedFiles::Opened& opened,
                                                     std::uint64_t changes, int flags) {
    CachedFiles::SetVersion(opened.file, changes);
    auto file = std::make_shared<RemoteOpenFile>(Self(), opened, changes, flags);
    const MutexLock lock(open_mu_);
    std::erase_if(open_, [](const auto& weak) { return weak.expired(); });
    open_.push_back(file);
    return file;
}

CachedFiles::Asker::Verify RemoteNode::MustVerify() const {
    const FileCache& cache = files().cache();
    const FileCache::Era era = cache.era();
    const bool quiet = cache.IsQuiet();
    const MutexLock lock(open_mu_);
    const bool verified = quiet && (!pages_ || pages_->era == era);
    return verified ? CachedFiles::Asker::Verify::kNo : CachedFiles::Asker::Verify::kYes;
}

bool RemoteNode::MayKeepPages(const CachedFiles::Opened& opened) {
    const FileCache& cache = files().cache();
    const std::string path = RemotePath();
    // The file is in kernel_cache's books by now: who begins another era later than this drops its pages.
    const bool present = cache.era() == opened.era;
    Pages now{opened.era, opened.stat, opened.recent,
              opened.recent ? std::nullopt : opened.identity};
    std::vector<std::shared_ptr<RemoteOpenFile>> open;  // dies after the lock
    const MutexLock lock(open_mu_);
    const std::optional<Pages> before = std::exchange(pages_, std::move(now));
    if (!before || !present) return false;
    // What is read through a handle of the file that was here before goes into the same pages.
    for (const auto& weak : open_) {
        if (auto file = weak.lock()) open.push_back(std::move(file));
    }
    for (const auto& file : open) {
        if (!file->IsFileOf(opened)) return false;
    }
    // Written through another name within the second, it looks alike.
    if (cache.HasOtherNames(path)) return false;
    const bool alike = before->stat.size == opened.stat.size &&
                       before->stat.mtime == opened.stat.mtime &&
                       before->stat.mode == opened.stat.mode;
    if (before->era == opened.era && opened.quiet) return alike;
    if (opened.identity) {
        const auto known = before->identity ? before->identity : cache.Baseline(path, before->era);
        return known && SameAndUnchanged(*known, *opened.identity);
    }
    // Nobody can look closer. A command, which would have begun another era, may have done anything.
    return before->era == opened.era && alike && !before->recent;
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
        const Result<Entry> entry = self->ToAttr(*stat);
        if (!entry) return parked.Fail(entry.error());
        if (auto reply = parked.Take()) std::move(*reply).Is(*entry);
    };
}

void RemoteNode::GetAttr(const OpenHandlePtr& open, AttrReply reply) {
    if (const auto entry = EntryNow()) return std::move(reply).Is(*entry);
    const auto handle = std::dynamic_pointer_cast<RemoteOpenFile>(open);
    // fstat(2) comes without a handle: where the file's name is gone any open one of this node will do.
    const auto file = handle != nullptr ? handle : AnyOpenFile();
    auto known = file != nullptr ? file->KnownStat() : files().KnownStat(RemotePath());
    if (!known && handle != nullptr) known = handle->KnownToWriter();
    if (known) {
        const Result<Entry> entry = *known ? ToAttr(**known) : Result<Entry>(known->error());
        if (!entry) return std::move(reply).Fail(entry.error());
        return std::move(reply).Is(*entry);
    }
    auto parked = mount().lot.Park(std::move(reply));
    CachedFiles::Asker asker = FilesFor(parked.id());
    if (file != nullptr) return file->Stat(asker, AnswerAttr(std::move(parked)));
    asker.Lstat(RemotePath(), AnswerAttr(std::move(parked)));
}

void RemoteNode::SetAttr(const AttrChange& change, const OpenHandlePtr& open, const Caller&,
                         AttrReply reply) {
    sandbox_->Used();
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

    auto file = std::dynamic_pointer_cast<RemoteOpenFile>(open);
    if (file == nullptr) file = AnyOpenFile();
    const RemoteFilePtr handle = file != nullptr ? file->file() : nullptr;
    auto parked = mount().lot.Park(std::move(reply));
    const auto apply = [self = Self(), file, handle, id = parked.id()](const StatChange& what,
                                                                       StatDone answer) {
        const FileCache::Era era = self->files().cache().era();
        const std::uint64_t before = self->changes();
        const auto changed = [self, set = !what.size] {
            self->Changed();
            if (set) ++self->sets_;
        };
        changed();
        StatDone done = [self, file, era, before, changed,
                         answer = std::move(answer)](Result<RemoteStat> stat) {
            changed();
            if (stat && file != nullptr) file->WereSet(*stat, era, before + 2);
            // tar(1) sets several, one after the other, and the kernel asks in between.
            FileCache& cache = self->files().cache();
            if (stat && !cache.IsQuiet() && !self->HasLostItsName())
                cache.PutStat(cache.Ask(self->RemotePath()), *stat);
            answer(std::move(stat));
        };
        if (handle != nullptr) {
            self->FilesFor(id).SetFileStat(handle, what, std::move(done));
        } else {
            self->FilesFor(id).SetStat(self->RemotePath(), what, std::move(done));
        }
    };
    // tar(1) and cp(1) set the mtime alone of what they have just written.
    if (wanted.mtime && !wanted.atime) {
        if (const auto known = KnownToWriter()) wanted.atime = known->atime;
    }
    if (wanted.atime.has_value() == wanted.mtime.has_value() &&
        wanted.uid.has_value() == wanted.gid.has_value()) {
        return apply(wanted, AnswerAttr(std::move(parked)));
    }
    // SFTP v3 sets both times or none, and user and group together: the other one is asked for first.
    const std::uint64_t id = parked.id();
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
    if (handle != nullptr) return FilesFor(id).FileStat(handle, std::move(complete));
    FilesFor(id).Lstat(RemotePath(), std::move(complete));
}

std::optional<Error> RemoteNode::Unanswered(std::string_view name, pid_t caller) {
    const SteadyTime now = mount().clock.Steady();
    const MutexLock lock(open_mu_);
    std::erase_if(unanswered_, [now](const Wait& wait) { return wait.until < now; });
    const auto last = std::find_if(unanswered_.begin(), unanswered_.end(), [&](const Wait& wait) {
        return wait.name == name && wait.caller == caller;
    });
    if (last == unanswered_.end()) return std::nullopt;
    const Error error = last->error;
    unanswered_.erase(last);  // once: who asks again later wants to wait
    return error;
}

void RemoteNode::Lookup(std::string_view name, EntryReply reply) {
    const Result<std::string> path = ChildPath(name);
    if (!path) {
        // What is hidden is not there.
        const Errno code =
            path.error().code() == Errno{EPERM} ? Errno{ENOENT} : path.error().code();
        return std::move(reply).Fail(Error(code, path.error().what()));
    }
    if (const auto known = files().KnownStat(*path)) {
        if (!*known) return std::move(reply).Fail(known->error());
        return AnswerChild(std::string(name), **known, std::move(reply));
    }
    const pid_t caller = reply.caller();
    if (const auto error = Unanswered(name, caller)) return std::move(reply).Fail(*error);
    auto parked = mount().lot.Park(std::move(reply));
    FilesFor(parked.id())
        .Lstat(*path, [self = Self(), name = std::string(name), caller,
                       parked = std::move(parked)](const Result<RemoteStat>& stat) mutable {
            if (!stat && stat.error().code() == Errno{ETIMEDOUT}) {
                const SteadyTime until = self->mount().clock.Steady() + kAskedAgain;
                const MutexLock lock(self->open_mu_);
                if (self->unanswered_.size() < kMostUnanswered)
                    self->unanswered_.push_back({name, caller, until, stat.error()});
            }
            if (!stat) return parked.Fail(stat.error());
            if (auto taken = parked.Take()) self->AnswerChild(name, *stat, std::move(*taken));
        });
}

std::string RemoteNode::Contained(const std::string& target, const std::string& path) const {
    const std::string& root = sandbox_->what().fs_root;
    std::string dir = path.substr(0, path.rfind('/'));
    if (root != "/") dir = dir.substr(std::min(root.size(), dir.size()));
    return ContainLink(target, dir, root);
}

void RemoteNode::ReadLink(TextReply reply) {
    const std::string path = RemotePath();
    if (const auto known = files().KnownTarget(path))
        return std::move(reply).Text(Contained(*known, path));
    auto parked = mount().lot.Park(std::move(reply));
    FilesFor(parked.id())
        .ReadLink(path, [self = Self(), path,
                         parked = std::move(parked)](const Result<std::string>& target) mutable {
            if (!target) return parked.Fail(target.error());
            if (auto taken = parked.Take()) std::move(*taken).Text(self->Contained(*target, path));
        });
}

void RemoteNode::Open(const OpenRequest& request, OpenReply reply) {
    sandbox_->Used();
    const std::string path = RemotePath();
    const std::uint64_t changes = changes_;
    const auto known = files().KnownStat(path);
    if (const auto opened = files().KnownOpen(path, HowToOpen(request.flags)))
        return AnswerOpened(*opened, changes, request.flags, std::move(reply));
    auto parked = mount().lot.Park(std::move(reply));
    const bool truncates = (request.flags & O_TRUNC) != 0;
    if (truncates) Changed();
    FilesFor(parked.id())
        .OpenVerified(path, HowToOpen(request.flags), MustVerify(),
                      [self = Self(), truncates, known, changes, flags = request.flags,
                       parked = std::move(parked)](Result<CachedFiles::Opened> opened) mutable {
                          if (truncates) self->Changed();
                          if (!opened) return parked.Fail(opened.error());
                          // Its own two changes are none of somebody else's.
                          const std::uint64_t before = changes + (truncates ? 2 : 0);
                          Job answer = [self, before, flags, opened = *opened,
                                        parked = std::move(parked)]() mutable {
                              if (auto taken = parked.Take())
                                  self->AnswerOpened(opened, before, flags, std::move(*taken));
                          };
                          const bool as_known = known && *known &&
                                                (*known)->size == opened->stat.size &&
                                                (*known)->mtime == opened->stat.mtime;
                          if (as_known) return answer();
                          // The kernel reads no further than the size it knows, which may be an old one.
                          self->mount().kernel_cache.Recall(self->sandbox_->generation(),
                                                            self->ino(), std::move(answer));
                      });
}

bool AppendsOnly(int flags) {
    return (flags & O_APPEND) != 0 && (flags & O_ACCMODE) == O_WRONLY;
}

void RemoteNode::AnswerOpened(const CachedFiles::Opened& opened, std::uint64_t changes, int flags,
                              OpenReply reply) {
    auto file = MakeOpen(opened, changes, flags);
    sbxfs::Opened how;
    how.direct_io = AppendsOnly(flags);
    how.keep_cache = MayKeepPages(opened);
    AnswerOpen(mount(), std::move(file), how, std::move(reply));
}

void RemoteNode::OpenDir(OpenReply reply) {
    const std::string path = RemotePath();
    if (auto known = files().KnownList(path)) {
        auto dir = std::make_shared<RemoteOpenDir>(Self(), std::move(*known));
        return AnswerOpen(mount(), std::move(dir), sbxfs::Opened{}, std::move(reply));
    }
    auto parked = mount().lot.Park(std::move(reply));
    FilesFor(parked.id())
        .List(path, [self = Self(), parked = std::move(parked)](
                        const Result<std::vector<RemoteEntry>>& entries) mutable {
            if (!entries) return parked.Fail(entries.error());
            if (auto taken = parked.Take()) {
                auto dir = std::make_shared<RemoteOpenDir>(self, NamesOf(*entries));
                AnswerOpen(self->mount(), std::move(dir), sbxfs::Opened{}, std::move(*taken));
            }
        });
}

void RemoteNode::Statfs(StatfsReply reply) {
    const std::string path = RemotePath();
    const auto known = files().space().Find(path);
    const bool up = IsUp(sandbox_->status()) && sandbox_->status() != SandboxStatus::kUnreachable;
    if (!up || (known && (known->fresh || known->asking)))
        return std::move(reply).Is(known ? ToAnswer(known->space) : StatfsAnswer{});

    // The sandbox is asked, and waited for a moment only: after that, memory answers.
    const auto claim = std::make_shared<Parked<StatfsReply>>(mount().lot.Park(std::move(reply)));
    const std::uint64_t id = claim->id();
    Loop& timers = mount().timer_loop;
    timers.Post([&timers, self = Self(), path, id, weak = std::weak_ptr(claim)] {
        RunLater(timers, kSpaceLimit, [self, path, id, weak] {
            if (weak.lock() == nullptr) return;
            Parked<StatfsReply> late(self->mount().lot, id);
            auto taken = late.Take();
            if (!taken) return;
            const auto last = self->files().space().Find(path);
            std::move(*taken).Is(last ? ToAnswer(last->space) : StatfsAnswer{});
        });
    });
    files().For({}).Statfs(path,
                           [self = Self(), path, claim](const Result<RemoteStatfs>& space) mutable {
                               auto taken = claim->Take();
                               if (!taken) return;
                               if (space) return std::move(*taken).Is(ToAnswer(*space));
                               const auto last = self->files().space().Find(path);
                               std::move(*taken).Is(last ? ToAnswer(last->space) : StatfsAnswer{});
                           });
}

}  // namespace sbxfs
