#include "sandbox/sftp_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "sandbox/sftp_diagnosis.h"
#include "sandbox/sftp_flight.h"

namespace sbxfs {

Result<RemoteStat> ToRemoteStat(const SftpAttrs& attrs, const std::string& path) {
    // Without a type a directory would pass for a file. OpenSSH always sends one.
    if (KindOf(attrs) == SftpKind::kUnknown) return SftpFaultError(SftpFault::kNoType, path);
    RemoteStat stat;
    stat.mode = *attrs.permissions & (S_IFMT | 07777);
    stat.size = attrs.size.value_or(0);
    if (stat.size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        return SftpFaultError(SftpFault::kAbsurdSize, path);
    }
    const SftpAttrs::Owner owner = attrs.owner.value_or(SftpAttrs::Owner{});
    stat.uid = owner.uid;
    stat.gid = owner.gid;
    const SftpAttrs::Times times = attrs.times.value_or(SftpAttrs::Times{});
    stat.atime = times.atime;
    stat.mtime = times.mtime;
    return stat;
}

namespace {

// Hostile numbers must not overflow in whoever multiplies them.
RemoteStatfs ToRemoteStatfs(const SftpStatvfs& space) {
    constexpr std::uint64_t kLargestUnit = 1U << 30;
    constexpr auto kMostBytes =
        static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    RemoteStatfs result;
    const std::uint64_t unit = space.fragment_size != 0 ? space.fragment_size : space.block_size;
    if (unit != 0 && unit <= kLargestUnit) result.block_size = unit;
    result.blocks = std::min(space.blocks, kMostBytes / result.block_size);
    result.blocks_free = std::min(space.blocks_free, result.blocks);
    result.blocks_available = std::min(space.blocks_available, result.blocks_free);
    result.files = space.files;
    result.files_free = std::min(space.files_free, space.files);
    result.name_max = std::clamp<std::uint64_t>(space.name_max, 1, 255);
    return result;
}

}  // namespace

std::shared_ptr<SftpFiles> SftpFiles::Make(std::weak_ptr<SftpClient> client, Loop& loop) {
    return std::shared_ptr<SftpFiles>(new SftpFiles(std::move(client), loop));
}

Result<SftpFiles::ClientPtr> SftpFiles::Begin(const std::string& path) const {
    DCHECK(loop_.OnThread());
    ClientPtr client = client_.lock();
    if (client == nullptr || client->failure()) return EndedError();
    CHECK(client->Usable());
    (void)TRY(CheckSftpPath(path));
    return client;
}

Result<SftpFiles::ClientPtr> SftpFiles::Begin(const std::string& path,
                                              const std::string& other) const {
    ClientPtr client = TRY(Begin(path));
    (void)TRY(CheckSftpPath(other));
    return client;
}

Result<SftpFiles::ClientPtr> SftpFiles::Begin(const SftpFile* file) const {
    DCHECK(loop_.OnThread());
    CHECK(file != nullptr);  // a file of another RemoteFiles: a bug of the layer above
    ClientPtr client = client_.lock();
    if (client == nullptr || !client->Usable() || client->link() != file->link_) {
        return SftpFaultError(SftpFault::kStale, file->path_);
    }
    if (file->closed_) return SftpFaultError(SftpFault::kClosed, file->path_);
    return client;
}

Error SftpFiles::EndedError() const {
    const ClientPtr client = client_.lock();
    if (client != nullptr && client->failure()) return *client->failure();
    return {Errno{EHOSTUNREACH}, "sftp: the connection was closed", Blame::kRemote};
}

void SftpFiles::Refuse(SftpCase what, SftpRefusal refusal, const std::string& handle,
                       UniqueFunction<void(Error)> done) {
    if (refusal.lost) return done(*std::move(refusal.lost));
    what.status = refusal.status;
    what.text = std::move(refusal.text);
    DiagnoseSftp(client_.lock(), std::move(what), handle, std::move(done));
}

SftpClient::DoneBack SftpFiles::AnswerDone(SftpCase what, Done done) {
    return [self = shared_from_this(), what = std::move(what),
            done = std::move(done)](SftpAnswer<Unit> answer) mutable {
        if (answer) return done(Ok());
        self->Refuse(std::move(what), std::move(answer).refusal(), {}, Failing(std::move(done)));
    };
}

SftpClient::AttrsBack SftpFiles::AnswerStat(SftpCase what, StatDone done) {
    return [self = shared_from_this(), what = std::move(what),
            done = std::move(done)](SftpAnswer<SftpAttrs> attrs) mutable {
        if (attrs) return done(ToRemoteStat(*attrs, what.path));
        self->Refuse(std::move(what), std::move(attrs).refusal(), {}, Failing(std::move(done)));
    };
}

void SftpFiles::Lstat(const std::string& path, StatDone done) {
    const Result<ClientPtr> client = Begin(path);
    if (!client) return Later(std::move(done), client.error());
    (*client)->Lstat(path, AnswerStat({.op = SftpOp::kLstat, .path = path}, std::move(done)));
}

void SftpFiles::ReadLink(const std::string& path, TextDone done) {
    const Result<ClientPtr> client = Begin(path);
    if (!client) return Later(std::move(done), client.error());
    (*client)->Readlink(path, [self = shared_from_this(), path,
                               done = std::move(done)](SftpAnswer<std::string> target) mutable {
        if (!target) {
            return self->Refuse({.op = SftpOp::kReadlink, .path = path},
                                std::move(target).refusal(), {}, Failing(std::move(done)));
        }
        if (!SftpTextFits(*target)) return done(SftpFaultError(SftpFault::kAbsurdTarget, path));
        done(std::move(*target));
    });
}

void SftpFiles::RemoveDir(const std::string& path, Done done) {
    const Result<ClientPtr> client = Begin(path);
    if (!client) return Later(std::move(done), client.error());
    (*client)->Rmdir(path, AnswerDone({.op = SftpOp::kRmdir, .path = path}, std::move(done)));
}

void SftpFiles::Unlink(const std::string& path, Done done) {
    const Result<ClientPtr> client = Begin(path);
    if (!client) return Later(std::move(done), client.error());
    (*client)->Remove(path, AnswerDone({.op = SftpOp::kRemove, .path = path}, std::move(done)));
}

void SftpFiles::Rename(const std::string& from, const std::string& to, Replace replace, Done done) {
    const Result<ClientPtr> client = Begin(from, to);
    if (!client) return Later(std::move(done), client.error());
    const bool posix = (*client)->extensions().posix_rename;
    SftpCase what{.path = from, .to = to};
    if (replace == Replace::kYes && posix) {
        what.op = SftpOp::kRename;
        return (*client)->PosixRename(from, to, AnswerDone(std::move(what), std::move(done)));
    }
    // Without the extension nothing replaces atomically, and nothing else will do: refused when
    // `to` exists.
    what.op = replace == Replace::kYes ? SftpOp::kRenameOver : SftpOp::kRenameNew;
    (*client)->Rename(from, to, AnswerDone(std::move(what), std::move(done)));
}

void SftpFiles::Statfs(const std::string& path, StatfsDone done) {
    const Result<ClientPtr> client = Begin(path);
    if (!client) return Later(std::move(done), client.error());
    if (!(*client)->extensions().statvfs) {
        return Later(std::move(done), SftpFaultError(SftpFault::kNotOffered, path));
    }
    (*client)->Statvfs(path, [self = shared_from_this(), path,
                              done = std::move(done)](SftpAnswer<SftpStatvfs> space) mutable {
        if (!space) {
            return self->Refuse({.op = SftpOp::kStatvfs, .path = path}, std::move(space).refusal(),
                                {}, Failing(std::move(done)));
        }
        done(ToRemoteStatfs(*space));
    });
}

}  // namespace sbxfs
