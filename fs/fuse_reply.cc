#include "fs/fuse_reply.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <utility>
#include <vector>

#include "fs/request_metrics.h"

namespace sbxfs {
namespace {

double Seconds(Duration lease) {
    return std::chrono::duration<double>(lease).count();
}

timespec ToTimespec(SystemTime time) {
    const auto since = time.time_since_epoch();
    const auto seconds = std::chrono::floor<std::chrono::seconds>(since);
    timespec spec{};
    spec.tv_sec = static_cast<time_t>(seconds.count());
    spec.tv_nsec = static_cast<long>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(since - seconds).count());
    return spec;
}

struct stat ToStat(const Attr& attr) {
    struct stat st {};
    st.st_ino = attr.st_ino;
    st.st_mode = attr.mode;
    st.st_nlink = attr.nlink;
    st.st_uid = attr.uid;
    st.st_gid = attr.gid;
    st.st_size = static_cast<off_t>(attr.size);
    st.st_blksize = 4096;
    st.st_blocks = static_cast<blkcnt_t>((attr.size + 511) / 512);
    st.st_atim = ToTimespec(attr.atime);
    st.st_mtim = ToTimespec(attr.mtime);
    st.st_ctim = ToTimespec(attr.ctime);
    return st;
}

fuse_entry_param ToParam(const Entry& entry) {
    fuse_entry_param param{};
    param.ino = Raw(entry.ino);
    param.generation = 0;  // numbers are never reused
    param.attr = ToStat(entry.attr);
    param.attr_timeout = Seconds(entry.lease.attributes);
    param.entry_timeout = Seconds(entry.lease.name);
    return param;
}

// Who can only read has nothing a close could say of: no FLUSH then (Linux 5.18, FOPEN_NOFLUSH).
fuse_file_info ToFileInfo(const Opened& opened, bool only_reads) {
    fuse_file_info info{};
    info.noflush = only_reads ? 1 : 0;
    info.fh = Raw(opened.handle);
    info.direct_io = opened.direct_io ? 1 : 0;
    info.keep_cache = opened.keep_cache ? 1 : 0;
    info.nonseekable = opened.nonseekable ? 1 : 0;
    return info;
}

// -ENOENT: the caller was interrupted and the kernel never took the answer.
Delivery ToDelivery(int code) {
    return code == -ENOENT ? Delivery::kUndelivered : Delivery::kDelivered;
}

class FusePage final : public DirectoryPage {
 public:
    explicit FusePage(std::size_t size) : buffer_(size) {}

    bool Add(const Listed& listed, std::uint64_t next) override {
        struct stat st {};
        st.st_ino = listed.st_ino;
        st.st_mode = listed.type;
        return Took(fuse_add_direntry(nullptr, Free(), Left(), listed.name.c_str(), &st,
                                      static_cast<off_t>(next)));
    }
    bool AddPlus(const Listed& listed, const Entry& entry, std::uint64_t next) override {
        fuse_entry_param param = ToParam(entry);
        if (Raw(entry.ino) == 0) {
            // Not a look-up: "." and "..", and what cannot be told without asking.
            param.attr = {};
            param.attr.st_ino = listed.st_ino;
            param.attr.st_mode = listed.type;
        }
        return Took(fuse_add_direntry_plus(nullptr, Free(), Left(), listed.name.c_str(), &param,
                                           static_cast<off_t>(next)));
    }
    std::span<const char> bytes() const override { return std::span(buffer_).first(used_); }

 private:
    char* Free() { return buffer_.data() + used_; }
    std::size_t Left() const { return buffer_.size() - used_; }
    // libfuse says how much it would have needed; more than there was means it did nothing.
    bool Took(std::size_t needed) {
        if (needed > Left()) return false;
        used_ += needed;
        return true;
    }

    std::vector<char> buffer_;
    std::size_t used_ = 0;
};

}  // namespace

PagePtr MakeFusePage(std::size_t size) {
    return std::make_unique<FusePage>(size);
}

Caller CallerOf(fuse_req_t req) {
    const fuse_ctx* context = fuse_req_ctx(req);
    return Caller{context->uid, context->gid, context->pid};
}

FuseSink::FuseSink(fuse_req_t req, FileSystem& fs, RequestFacts facts)
    : req_(req), fs_(fs), facts_(std::move(facts)) {}

void FuseSink::Count() const {
    request_metrics.seconds.Add(static_cast<std::size_t>(facts_.op),
                                fs_.context().clock.Steady() - facts_.since);
}

Delivery FuseSink::SendEntry(const Entry& entry) {
    Count();
    const fuse_entry_param param = ToParam(entry);
    return ToDelivery(fuse_reply_entry(req_, &param));
}

Delivery FuseSink::SendCreated(const Entry& entry, const Opened& opened) {
    Count();
    const fuse_entry_param param = ToParam(entry);
    const fuse_file_info info = ToFileInfo(opened, facts_.only_reads);
    return ToDelivery(fuse_reply_create(req_, &param, &info));
}

Delivery FuseSink::SendOpened(const Opened& opened) {
    Count();
    const fuse_file_info info = ToFileInfo(opened, facts_.only_reads);
    return ToDelivery(fuse_reply_open(req_, &info));
}

void FuseSink::SendAttr(const Entry& entry) {
    Count();
    const struct stat st = ToStat(entry.attr);
    (void)fuse_reply_attr(req_, &st, Seconds(entry.lease.attributes));
}

void FuseSink::SendBytes(std::span<const char> bytes) {
    Count();
    (void)fuse_reply_buf(req_, bytes.data(), bytes.size());
}

void FuseSink::SendWritten(std::size_t count) {
    Count();
    (void)fuse_reply_write(req_, count);
}

void FuseSink::SendText(const std::string& text) {
    Count();
    (void)fuse_reply_readlink(req_, text.c_str());
}

void FuseSink::SendStatfs(const StatfsAnswer& answer) {
    Count();
    struct statvfs st {};
    st.f_bsize = st.f_frsize = answer.block_size;
    st.f_blocks = answer.blocks;
    st.f_bfree = answer.blocks_free;
    st.f_bavail = answer.blocks_available;
    st.f_files = answer.files;
    st.f_ffree = st.f_favail = answer.files_free;
    st.f_namemax = answer.name_max;
    (void)fuse_reply_statfs(req_, &st);
}

void FuseSink::SendPoll(std::uint32_t events) {
    Count();
    (void)fuse_reply_poll(req_, events);
}

void FuseSink::SendOk() {
    Count();
    (void)fuse_reply_err(req_, 0);
}

void FuseSink::SendError(const Error& error) {
    // First: who reads last_error after the failure finds it there.
    const Errno code = fs_.OnFailure(facts_, error);
    Count();
    request_metrics.errors.Add(facts_.op, code);
    (void)fuse_reply_err(req_, static_cast<int>(code));
}

void FuseSink::OnInterrupt(std::uint64_t id) {
    // The number itself is the data: while libfuse calls, another thread may answer, and this sink dies.
    // NOLINTNEXTLINE(performance-no-int-to-ptr): it is never followed.
    fuse_req_interrupt_func(req_, &FuseSink::Interrupted, reinterpret_cast<void*>(id));
}

void FuseSink::Interrupted(fuse_req_t req, void* data) {
    auto* fs = static_cast<FileSystem*>(fuse_req_userdata(req));
    fs->context().lot.PostInterrupt(reinterpret_cast<std::uint64_t>(data));
}

}  // namespace sbxfs
