// SftpClient's requests: how each is written, in the order the draft (and OpenSSH's PROTOCOL file,
// for extensions) gives its fields.
#include <algorithm>

#include "base/check.h"
#include "sandbox/sftp_client.h"

namespace sbxfs {
namespace {

constexpr std::size_t kHead = 9;  // length, type, id

}  // namespace

std::string& SftpClient::Begin(SftpType type) {
    scratch_.assign(kHead, '\0');
    scratch_[4] = static_cast<char>(type);
    kind_ = static_cast<std::size_t>(type) - static_cast<std::size_t>(SftpType::kOpen);
    return scratch_;
}

std::string& SftpClient::BeginExtended(std::string_view name) {
    PutText(name, Begin(SftpType::kExtended));
    kind_ = sandbox_metrics.sftp_requests.PlaceOf(name);
    return scratch_;
}

std::uint32_t SftpClient::NewId() {
    while (waiting_.contains(next_id_))
        ++next_id_;
    return next_id_++;
}

void SftpClient::Finish(Want want, Back back, Extra extra) {
    if (state_ == State::kEnded) return Refuse(back, SftpRefusal::Lost(*failure_));
    CHECK(state_ == State::kReady);
    const std::size_t length = scratch_.size() - 4 + extra.data.size();
    CHECK(length <= limits_.packet);  // callers know the limits, and bound paths by PATH_MAX

    const std::uint32_t id = NewId();
    std::string numbers;
    Put32(static_cast<std::uint32_t>(length), numbers);
    Put32(id, numbers);
    scratch_.replace(0, 4, numbers, 0, 4);
    scratch_.replace(5, 4, numbers, 4, 4);

    // What nobody waits for neither makes a round trip nor lets a later request begin one.
    const std::uint64_t trip = extra.awaited == Awaited::kYes ? answered_trip_ + 1 : 0;
    counters_.round_trips = std::max(counters_.round_trips, trip);
    ++counters_.requests;
    sandbox_metrics.sftp_requests.AddTo(kind_);
    if (!extra.data.empty()) {
        sandbox_metrics.file_bytes.AddTo(static_cast<std::size_t>(Direction::kSent),
                                         extra.data.size());
    }
    waiting_.emplace(id, Waiting{want, extra.asked, trip, order_++, std::move(back)});
    in_flight_.Set(static_cast<std::int64_t>(waiting_.size()));

    const bool was_empty = output_.size() == 0;
    output_.Append(scratch_);
    if (!extra.data.empty()) output_.Append(std::move(extra.whole), extra.data);
    if (was_empty) Wake();
}

void SftpClient::Open(std::string_view path, std::uint32_t flags, const SftpAttrs& attrs,
                      TextBack done) {
    std::string& out = Begin(SftpType::kOpen);
    PutText(path, out);
    Put32(flags, out);
    PutAttrs(attrs, out);
    Finish(Want::kHandle, std::move(done));
}

void SftpClient::Close(std::string_view handle, Awaited awaited, DoneBack done) {
    PutText(handle, Begin(SftpType::kClose));
    Finish(Want::kStatus, std::move(done),
           Extra{.whole = {}, .data = {}, .asked = 0, .awaited = awaited});
}

void SftpClient::Read(std::string_view handle, std::uint64_t offset, std::uint32_t size,
                      TextBack done) {
    CHECK(size <= limits_.read);
    std::string& out = Begin(SftpType::kRead);
    PutText(handle, out);
    Put64(offset, out);
    Put32(size, out);
    Finish(Want::kData, std::move(done),
           Extra{.whole = {}, .data = {}, .asked = size, .awaited = Awaited::kYes});
}

void SftpClient::Write(std::string_view handle, std::uint64_t offset, FileBytes whole,
                       std::string_view part, DoneBack done) {
    CHECK(part.size() <= limits_.write);
    std::string& out = Begin(SftpType::kWrite);
    PutText(handle, out);
    Put64(offset, out);
    Put32(static_cast<std::uint32_t>(part.size()), out);
    Finish(Want::kStatus, std::move(done),
           Extra{.whole = std::move(whole), .data = part, .asked = 0, .awaited = Awaited::kYes});
}

void SftpClient::Lstat(std::string_view path, AttrsBack done) {
    PutText(path, Begin(SftpType::kLstat));
    Finish(Want::kAttrs, std::move(done));
}

void SftpClient::Stat(std::string_view path, AttrsBack done) {
    PutText(path, Begin(SftpType::kStat));
    Finish(Want::kAttrs, std::move(done));
}

void SftpClient::Fstat(std::string_view handle, AttrsBack done) {
    PutText(handle, Begin(SftpType::kFstat));
    Finish(Want::kAttrs, std::move(done));
}

void SftpClient::Setstat(std::string_view path, const SftpAttrs& attrs, DoneBack done) {
    std::string& out = Begin(SftpType::kSetstat);
    PutText(path, out);
    PutAttrs(attrs, out);
    Finish(Want::kStatus, std::move(done));
}

void SftpClient::Fsetstat(std::string_view handle, const SftpAttrs& attrs, DoneBack done) {
    std::string& out = Begin(SftpType::kFsetstat);
    PutText(handle, out);
    PutAttrs(attrs, out);
    Finish(Want::kStatus, std::move(done));
}

void SftpClient::Opendir(std::string_view path, TextBack done) {
    PutText(path, Begin(SftpType::kOpendir));
    Finish(Want::kHandle, std::move(done));
}

void SftpClient::Readdir(std::string_view handle, NamesBack done) {
    PutText(handle, Begin(SftpType::kReaddir));
    Finish(Want::kNames, std::move(done));
}

void SftpClient::Remove(std::string_view path, DoneBack done) {
    PutText(path, Begin(SftpType::kRemove));
    Finish(Want::kStatus, std::move(done));
}

void SftpClient::Mkdir(std::string_view path, const SftpAttrs& attrs, DoneBack done) {
    std::string& out = Begin(SftpType::kMkdir);
    PutText(path, out);
    PutAttrs(attrs, out);
    Finish(Want::kStatus, std::move(done));
}

void SftpClient::Rmdir(std::string_view path, DoneBack done) {
    PutText(path, Begin(SftpType::kRmdir));
    Finish(Want::kStatus, std::move(done));
}

void SftpClient::Realpath(std::string_view path, TextBack done) {
    PutText(path, Begin(SftpType::kRealpath));
    Finish(Want::kOneName, std::move(done));
}

void SftpClient::Readlink(std::string_view path, TextBack done) {
    PutText(path, Begin(SftpType::kReadlink));
    Finish(Want::kOneName, std::move(done));
}

void SftpClient::Symlink(std::string_view target, std::string_view path, DoneBack done) {
    // The draft says link path first, OpenSSH has always read the target first, and says so in its
    // PROTOCOL file.
    std::string& out = Begin(SftpType::kSymlink);
    PutText(target, out);
    PutText(path, out);
    Finish(Want::kStatus, std::move(done));
}

void SftpClient::Rename(std::string_view from, std::string_view to, DoneBack done) {
    std::string& out = Begin(SftpType::kRename);
    PutText(from, out);
    PutText(to, out);
    Finish(Want::kStatus, std::move(done));
}

void SftpClient::PosixRename(std::string_view from, std::string_view to, DoneBack done) {
    std::string& out = BeginExtended("posix-rename@openssh.com");
    PutText(from, out);
    PutText(to, out);
    Finish(Want::kStatus, std::move(done));
}

void SftpClient::Hardlink(std::string_view from, std::string_view to, DoneBack done) {
    std::string& out = BeginExtended("hardlink@openssh.com");
    PutText(from, out);
    PutText(to, out);
    Finish(Want::kStatus, std::move(done));
}

void SftpClient::Fsync(std::string_view handle, DoneBack done) {
    PutText(handle, BeginExtended("fsync@openssh.com"));
    Finish(Want::kStatus, std::move(done));
}

void SftpClient::Statvfs(std::string_view path, StatvfsBack done) {
    PutText(path, BeginExtended("statvfs@openssh.com"));
    Finish(Want::kStatvfs, std::move(done));
}

void SftpClient::Fstatvfs(std::string_view handle, StatvfsBack done) {
    PutText(handle, BeginExtended("fstatvfs@openssh.com"));
    Finish(Want::kStatvfs, std::move(done));
}

void SftpClient::Lsetstat(std::string_view path, const SftpAttrs& attrs, DoneBack done) {
    std::string& out = BeginExtended("lsetstat@openssh.com");
    PutText(path, out);
    PutAttrs(attrs, out);
    Finish(Want::kStatus, std::move(done));
}

void SftpClient::ExpandPath(std::string_view path, TextBack done) {
    PutText(path, BeginExtended("expand-path@openssh.com"));
    Finish(Want::kOneName, std::move(done));
}

void SftpClient::CopyData(std::string_view from, std::uint64_t from_offset, std::uint64_t size,
                          std::string_view to, std::uint64_t to_offset, DoneBack done) {
    std::string& out = BeginExtended("copy-data");
    PutText(from, out);
    Put64(from_offset, out);
    Put64(size, out);
    PutText(to, out);
    Put64(to_offset, out);
    Finish(Want::kStatus, std::move(done));
}

}  // namespace sbxfs
