#include "fs/fuse_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <memory>
#include <string>
#include <utility>

#include "fs/file_system.h"
#include "fs/fuse_reply.h"
#include "fs/request_metrics.h"

namespace sbxfs {
namespace {

FileSystem& Fs(fuse_req_t req) {
    return *static_cast<FileSystem*>(fuse_req_userdata(req));
}

// The libfuse names and buffers die when the handler returns: `name` is copied here, once.
SinkPtr Sink(fuse_req_t req, FileOp op, fuse_ino_t ino, const char* name = "",
             bool only_reads = false) {
    FileSystem& fs = Fs(req);
    return std::make_unique<FuseSink>(
        req, fs,
        RequestFacts{op, Ino{ino}, name, CallerOf(req), only_reads, fs.context().clock.Steady()});
}

bool OnlyReads(const fuse_file_info* info) {
    return (info->flags & O_ACCMODE) == O_RDONLY;
}

Handle HandleOf(const fuse_file_info* info) {
    return info == nullptr ? Handle{} : Handle{info->fh};
}

SystemTime FromTimespec(const timespec& spec) {
    return SystemTime(std::chrono::duration_cast<SystemTime::duration>(
        std::chrono::seconds(spec.tv_sec) + std::chrono::nanoseconds(spec.tv_nsec)));
}

AttrChange ToChange(const struct stat& attr, int to_set) {
    AttrChange change;
    if ((to_set & FUSE_SET_ATTR_SIZE) != 0) change.size = static_cast<std::uint64_t>(attr.st_size);
    if ((to_set & FUSE_SET_ATTR_MODE) != 0) change.mode = attr.st_mode;
    if ((to_set & FUSE_SET_ATTR_UID) != 0) change.uid = attr.st_uid;
    if ((to_set & FUSE_SET_ATTR_GID) != 0) change.gid = attr.st_gid;
    // UTIME_NOW has bits of its own; libfuse sets the plain ones too.
    change.atime_now = (to_set & FUSE_SET_ATTR_ATIME_NOW) != 0;
    change.mtime_now = (to_set & FUSE_SET_ATTR_MTIME_NOW) != 0;
    if ((to_set & FUSE_SET_ATTR_ATIME) != 0 && !change.atime_now) {
        change.atime = FromTimespec(attr.st_atim);
    }
    if ((to_set & FUSE_SET_ATTR_MTIME) != 0 && !change.mtime_now) {
        change.mtime = FromTimespec(attr.st_mtim);
    }
    return change;
}

OpenRequest ToRequest(fuse_req_t req, const fuse_file_info* info) {
    return OpenRequest{info->flags, CallerOf(req)};
}

void ll_init(void*, fuse_conn_info* conn) noexcept {
    // 12 background requests, the kernel's default, are 75 MB/s at 20 ms.
    conn->max_background = 64;
    conn->congestion_threshold = 48;
    conn->max_readahead = 1U << 20;
    // Our own consistency: see docs/adr/002-no-kernel-writeback.md.
    conn->want &= ~static_cast<unsigned>(FUSE_CAP_WRITEBACK_CACHE);
}

void ll_lookup(fuse_req_t req, fuse_ino_t parent, const char* name) noexcept {
    Fs(req).Lookup(Ino{parent}, name, EntryReply(Sink(req, FileOp::kLookup, parent, name)));
}

void ll_forget(fuse_req_t req, fuse_ino_t ino, std::uint64_t count) noexcept {
    Fs(req).Forget(Ino{ino}, count);
    request_metrics.forgotten.Add();
    fuse_reply_none(req);
}

void ll_forget_multi(fuse_req_t req, std::size_t count, fuse_forget_data* forgets) noexcept {
    for (std::size_t i = 0; i < count; ++i)
        Fs(req).Forget(Ino{forgets[i].ino}, forgets[i].nlookup);
    request_metrics.forgotten.Add(count);
    fuse_reply_none(req);
}

void ll_getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info* info) noexcept {
    Fs(req).GetAttr(Ino{ino}, HandleOf(info), AttrReply(Sink(req, FileOp::kGetattr, ino)));
}

void ll_setattr(fuse_req_t req, fuse_ino_t ino, struct stat* attr, int to_set,
                fuse_file_info* info) noexcept {
    Fs(req).SetAttr(Ino{ino}, ToChange(*attr, to_set), HandleOf(info), CallerOf(req),
                    AttrReply(Sink(req, FileOp::kSetattr, ino)));
}

void ll_readlink(fuse_req_t req, fuse_ino_t ino) noexcept {
    Fs(req).ReadLink(Ino{ino}, TextReply(Sink(req, FileOp::kReadlink, ino)));
}

void ll_mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t) noexcept {
    Fs(req).MakeNode(Ino{parent}, name, mode, EntryReply(Sink(req, FileOp::kMknod, parent, name)));
}

void ll_mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) noexcept {
    Fs(req).MakeDir(Ino{parent}, name, mode, EntryReply(Sink(req, FileOp::kMkdir, parent, name)));
}

void ll_unlink(fuse_req_t req, fuse_ino_t parent, const char* name) noexcept {
    Fs(req).Unlink(Ino{parent}, name, EmptyReply(Sink(req, FileOp::kUnlink, parent, name)));
}

void ll_rmdir(fuse_req_t req, fuse_ino_t parent, const char* name) noexcept {
    Fs(req).RemoveDir(Ino{parent}, name, EmptyReply(Sink(req, FileOp::kRmdir, parent, name)));
}

void ll_symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) noexcept {
    Fs(req).Symlink(Ino{parent}, name, target,
                    EntryReply(Sink(req, FileOp::kSymlink, parent, name)));
}

void ll_rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t to_parent,
               const char* to_name, unsigned flags) noexcept {
    Fs(req).Rename(Ino{parent}, name, Ino{to_parent}, to_name, flags,
                   EmptyReply(Sink(req, FileOp::kRename, parent, name)));
}

void ll_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t to_parent, const char* name) noexcept {
    Fs(req).Link(Ino{ino}, Ino{to_parent}, name,
                 EntryReply(Sink(req, FileOp::kLink, to_parent, name)));
}

void ll_open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* info) noexcept {
    Fs(req).Open(Ino{ino}, ToRequest(req, info),
                 OpenReply(Sink(req, FileOp::kOpen, ino, "", OnlyReads(info))));
}

void ll_create(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
               fuse_file_info* info) noexcept {
    Fs(req).Create(Ino{parent}, name, mode, ToRequest(req, info),
                   CreateReply(Sink(req, FileOp::kCreate, parent, name, OnlyReads(info))));
}

void ll_read(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset,
             fuse_file_info* info) noexcept {
    Fs(req).Read(HandleOf(info), static_cast<std::uint64_t>(offset), size,
                 DataReply(Sink(req, FileOp::kRead, ino)));
}

void ll_write(fuse_req_t req, fuse_ino_t ino, const char* bytes, std::size_t size, off_t offset,
              fuse_file_info* info) noexcept {
    Fs(req).Write(HandleOf(info), static_cast<std::uint64_t>(offset), {bytes, size},
                  info->writepage != 0, WrittenReply(Sink(req, FileOp::kWrite, ino)));
}

void ll_copy_file_range(fuse_req_t req, fuse_ino_t, off_t from, fuse_file_info* source,
                        fuse_ino_t ino, off_t to, fuse_file_info* target, std::size_t size,
                        int) noexcept {
    Fs(req).CopyRange(HandleOf(source), {static_cast<std::uint64_t>(from), size}, HandleOf(target),
                      static_cast<std::uint64_t>(to),
                      WrittenReply(Sink(req, FileOp::kCopyRange, ino)));
}

void ll_flush(fuse_req_t req, fuse_ino_t ino, fuse_file_info* info) noexcept {
    Fs(req).Flush(HandleOf(info), CallerOf(req), EmptyReply(Sink(req, FileOp::kFlush, ino)));
}

void ll_fsync(fuse_req_t req, fuse_ino_t ino, int, fuse_file_info* info) noexcept {
    Fs(req).Fsync(HandleOf(info), EmptyReply(Sink(req, FileOp::kFsync, ino)));
}

void ll_release(fuse_req_t req, fuse_ino_t ino, fuse_file_info* info) noexcept {
    Fs(req).Release(HandleOf(info), EmptyReply(Sink(req, FileOp::kRelease, ino)));
}

void ll_opendir(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) noexcept {
    Fs(req).OpenDir(Ino{ino}, OpenReply(Sink(req, FileOp::kOpendir, ino)));
}

void ll_readdir(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset,
                fuse_file_info* info) noexcept {
    Fs(req).ReadDir(HandleOf(info), static_cast<std::uint64_t>(offset), false, MakeFusePage(size),
                    DataReply(Sink(req, FileOp::kReaddir, ino)));
}

void ll_readdirplus(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset,
                    fuse_file_info* info) noexcept {
    Fs(req).ReadDir(HandleOf(info), static_cast<std::uint64_t>(offset), true, MakeFusePage(size),
                    DataReply(Sink(req, FileOp::kReaddir, ino)));
}

void ll_statfs(fuse_req_t req, fuse_ino_t ino) noexcept {
    Fs(req).Statfs(Ino{ino}, StatfsReply(Sink(req, FileOp::kStatfs, ino)));
}

struct DestroyPollHandle {
    void operator()(fuse_pollhandle* handle) const { fuse_pollhandle_destroy(handle); }
};

void ll_poll(fuse_req_t req, fuse_ino_t ino, fuse_file_info* info,
             fuse_pollhandle* handle) noexcept {
    PollWaker waker;
    if (handle != nullptr) {
        waker = [&mount = Fs(req).context(),
                 owned = std::unique_ptr<fuse_pollhandle, DestroyPollHandle>(handle)]() mutable {
            Job notify = [owned = std::move(owned)] {
                (void)fuse_lowlevel_notify_poll(owned.get());
            };
            (void)mount.kernel.Add(notify);
        };
    }
    Fs(req).Poll(HandleOf(info), std::move(waker), PollReply(Sink(req, FileOp::kPoll, ino)));
}

fuse_lowlevel_ops MakeOps() {
    fuse_lowlevel_ops ops{};
    ops.init = ll_init;
    ops.lookup = ll_lookup;
    ops.forget = ll_forget;
    ops.forget_multi = ll_forget_multi;
    ops.getattr = ll_getattr;
    ops.setattr = ll_setattr;
    ops.readlink = ll_readlink;
    ops.mknod = ll_mknod;
    ops.mkdir = ll_mkdir;
    ops.unlink = ll_unlink;
    ops.rmdir = ll_rmdir;
    ops.symlink = ll_symlink;
    ops.rename = ll_rename;
    ops.link = ll_link;
    ops.open = ll_open;
    ops.create = ll_create;
    ops.read = ll_read;
    ops.write = ll_write;
    ops.copy_file_range = ll_copy_file_range;
    ops.flush = ll_flush;
    ops.fsync = ll_fsync;
    ops.fsyncdir = ll_fsync;
    ops.release = ll_release;
    ops.opendir = ll_opendir;
    ops.readdir = ll_readdir;
    ops.readdirplus = ll_readdirplus;
    ops.releasedir = ll_release;
    ops.statfs = ll_statfs;
    ops.poll = ll_poll;
    // No handler, so that the kernel never asks again: xattrs, ioctl, locks (flock and fcntl then work
    // between programs on this machine), access (default_permissions), lseek, fallocate.
    return ops;
}

}  // namespace

const fuse_lowlevel_ops& FuseOps() {
    static const fuse_lowlevel_ops ops = MakeOps();
    return ops;
}

}  // namespace sbxfs
