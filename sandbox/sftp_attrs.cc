// SftpFiles: what makes names and changes attributes. Each is one flight of a change and a look at
// what it made.
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "sandbox/sftp_files.h"
#include "sandbox/sftp_flight.h"

namespace sbxfs {
namespace {

using AttrsBack = SftpClient::AttrsBack;
using DoneBack = SftpClient::DoneBack;

auto LookAt(const std::string& path) {
    return [path](SftpClient& client, AttrsBack done) { client.Lstat(path, std::move(done)); };
}

std::uint32_t ToWireTime(std::int64_t seconds) {
    return static_cast<std::uint32_t>(std::clamp<std::int64_t>(seconds, 0, UINT32_MAX));
}

// All but the size.
SftpAttrs ToAttrs(const StatChange& change) {
    SftpAttrs attrs;
    if (change.uid && change.gid) attrs.owner = SftpAttrs::Owner{*change.uid, *change.gid};
    if (change.mode) attrs.permissions = *change.mode & 07777;
    if (change.atime && change.mtime) {
        attrs.times = SftpAttrs::Times{ToWireTime(*change.atime), ToWireTime(*change.mtime)};
    }
    return attrs;
}

bool IsFar(std::uint64_t size) {
    return size > std::uint64_t{16} << 40;
}

}  // namespace

void SftpFiles::Symlink(const std::string& target, const std::string& path, StatDone done) {
    const Result<ClientPtr> client = Begin(path);
    if (!client) return Later(std::move(done), client.error());
    if (!SftpTextFits(target)) {
        const bool is_long = target.size() >= 4096;
        return Later(
            std::move(done),
            SftpFaultError(is_long ? SftpFault::kPathTooLong : SftpFault::kEmptyTarget, path));
    }
    MakeName(
        *client,
        [target, path](SftpClient& to, DoneBack back) {
            to.Symlink(target, path, std::move(back));
        },
        {.op = SftpOp::kSymlink, .path = path}, std::move(done));
}

void SftpFiles::Link(const std::string& from, const std::string& to, StatDone done) {
    const Result<ClientPtr> client = Begin(from, to);
    if (!client) return Later(std::move(done), client.error());
    if (!(*client)->extensions().hardlink) {
        return Later(std::move(done), SftpFaultError(SftpFault::kNotOffered, to));
    }
    MakeName(
        *client,
        [from, to](SftpClient& out, DoneBack back) { out.Hardlink(from, to, std::move(back)); },
        {.op = SftpOp::kLink, .path = from, .to = to}, std::move(done));
}

void SftpFiles::MakeName(const ClientPtr& client, const SendChange& send, const SftpCase& what,
                         StatDone done, int attempt) {
    const std::string name = what.to.empty() ? what.path : what.to;
    auto finish = [self = shared_from_this(), send, what, done = std::move(done),
                   attempt](SftpLooked looked) mutable {
        const ClientPtr again = self->client_.lock();
        const bool given_back =
            !looked.change && IsGivenBack(looked.change.refusal(), KindOfLook(looked.look));
        if (given_back && again != nullptr && attempt < kMostAttempts)
            return self->MakeName(again, send, what, std::move(done), attempt + 1);
        self->FinishMaking(std::move(what), std::move(done))(std::move(looked));
    };
    ChangeAndLook(
        client, [send](SftpClient& out, DoneBack back) { send(out, std::move(back)); },
        LookAt(name), std::move(finish));
}

UniqueFunction<void(SftpLooked)> SftpFiles::FinishMaking(SftpCase what, StatDone done) {
    return [self = shared_from_this(), what = std::move(what),
            done = std::move(done)](SftpLooked looked) mutable {
        const bool two_paths = !what.to.empty();
        if (looked.change && looked.look) {
            return done(ToRemoteStat(*looked.look, two_paths ? what.to : what.path));
        }
        if (looked.change) {  // made, and gone again before we looked
            what.op = SftpOp::kLstat;
            return self->Refuse(std::move(what), std::move(looked.look).refusal(), {},
                                Failing(std::move(done)));
        }
        // What stands in the way has been seen already.
        (two_paths ? what.facts.to : what.facts.path) = KindOfLook(looked.look);
        self->Refuse(std::move(what), std::move(looked.change).refusal(), {},
                     Failing(std::move(done)));
    };
}

void SftpFiles::MakeDir(const std::string& path, std::uint32_t mode, StatDone done) {
    const Result<ClientPtr> client = Begin(path);
    if (!client) return Later(std::move(done), client.error());
    SftpAttrs attrs;
    attrs.permissions = mode & 07777;
    MakeName(
        *client,
        [path, attrs](SftpClient& out, DoneBack back) { out.Mkdir(path, attrs, std::move(back)); },
        {.op = SftpOp::kMkdir, .path = path},
        [self = shared_from_this(), path, mode,
         done = std::move(done)](Result<RemoteStat> made) mutable {
            if (!made) return done(std::move(made));
            self->FixDirMode(path, mode, *made, std::move(done));
        });
}

// mkdir(2) there took away the bits of the server's umask, which is not the caller's.
void SftpFiles::FixDirMode(const std::string& path, std::uint32_t mode, const RemoteStat& made,
                           StatDone done) {
    // S_ISGID is inherited from the directory above and stays.
    const std::uint32_t exact = (mode & 07777) | (made.mode & S_ISGID);
    const ClientPtr client = client_.lock();
    if (client == nullptr || !S_ISDIR(made.mode) || (made.mode & 07777) == exact) return done(made);
    SftpAttrs attrs;
    attrs.permissions = exact;
    ChangeAndLook(
        client,
        [path, attrs](SftpClient& out, DoneBack back) {
            if (out.extensions().lsetstat) return out.Lsetstat(path, attrs, std::move(back));
            out.Setstat(path, attrs, std::move(back));
        },
        LookAt(path),
        [path, made, done = std::move(done)](SftpLooked looked) {
            // The directory is there: a file system without modes is no reason to say otherwise.
            if (!looked.change || !looked.look) return done(made);
            done(ToRemoteStat(*looked.look, path));
        });
}

void SftpFiles::SetStat(const std::string& path, const StatChange& change, StatDone done) {
    const Result<ClientPtr> client = Begin(path);
    if (!client) return Later(std::move(done), client.error());
    if (change.size) return Truncate(path, change, std::move(done));
    SetAttrs(*client, path, ToAttrs(change), std::move(done));
}

// SETSTAT with a size follows links, and lsetstat@openssh.com takes none: so look first. The kernel
// asks this of inodes it knows to be regular; the look is for names that changed their meaning
// since.
void SftpFiles::Truncate(const std::string& path, const StatChange& change, StatDone done) {
    const ClientPtr client = client_.lock();
    client->Lstat(path,
                  AnswerStat({.op = SftpOp::kLstat, .path = path},
                             [self = shared_from_this(), path, change,
                              done = std::move(done)](Result<RemoteStat> seen) mutable {
                                 if (!seen) return done(std::move(seen));
                                 if (S_ISDIR(seen->mode))
                                     return done(SftpFaultError(SftpFault::kIsDirectory, path));
                                 if (!S_ISREG(seen->mode))
                                     return done(SftpFaultError(SftpFault::kNotRegular, path));
                                 self->TruncateRegular(path, change, std::move(done));
                             }));
}

void SftpFiles::TruncateRegular(const std::string& path, const StatChange& change, StatDone done) {
    const Result<ClientPtr> client = Begin(path);
    if (!client) return done(client.error());
    SftpAttrs size;
    size.size = change.size;
    const SftpAttrs rest = ToAttrs(change);
    SftpCase what{.op = SftpOp::kTruncate, .path = path};
    what.facts.far_offset = IsFar(*change.size);
    auto finish =
        FinishMaking(std::move(what), [self = shared_from_this(), path, rest,
                                       done = std::move(done)](Result<RemoteStat> stat) mutable {
            const ClientPtr now = self->client_.lock();
            if (!stat || rest == SftpAttrs{} || now == nullptr) return done(std::move(stat));
            self->SetAttrs(now, path, rest, std::move(done));
        });
    ChangeAndLook(
        *client,
        [path, size](SftpClient& out, DoneBack back) { out.Setstat(path, size, std::move(back)); },
        LookAt(path), std::move(finish));
}

void SftpFiles::SetAttrs(const ClientPtr& client, const std::string& path, const SftpAttrs& attrs,
                         StatDone done) {
    const SftpCase what{.op = SftpOp::kSetstat, .path = path};
    if (attrs == SftpAttrs{}) return client->Lstat(path, AnswerStat(what, std::move(done)));
    if (!client->extensions().lsetstat) {
        return client->Lstat(
            path, AnswerStat(what, [self = shared_from_this(), path, attrs,
                                    done = std::move(done)](Result<RemoteStat> seen) mutable {
                if (!seen) return done(std::move(seen));
                if (S_ISLNK(seen->mode)) return done(SftpFaultError(SftpFault::kIsLink, path));
                self->SetAttrsOfNonLink(path, attrs, std::move(done));
            }));
    }
    ChangeAndLook(
        client,
        [path, attrs](SftpClient& out, DoneBack back) {
            out.Lsetstat(path, attrs, std::move(back));
        },
        LookAt(path),
        [self = shared_from_this(), path, attrs, what,
         done = std::move(done)](SftpLooked looked) mutable {
            // chmod without following needs /proc in glibc and musl, and fails on all files without
            // it.
            const SftpKind kind = KindOfLook(looked.look);
            const bool settled =
                looked.change || looked.change.refusal().status != SftpStatus::kFailure;
            const bool link = kind == SftpKind::kSymlink;
            const bool retry = !settled && attrs.permissions && looked.look && !link;
            if (retry) return self->SetAttrsOfNonLink(path, attrs, std::move(done));
            self->FinishMaking(what, std::move(done))(std::move(looked));
        });
}

// `path` was no link a moment ago.
void SftpFiles::SetAttrsOfNonLink(const std::string& path, const SftpAttrs& attrs, StatDone done) {
    const Result<ClientPtr> client = Begin(path);
    if (!client) return done(client.error());
    ChangeAndLook(
        *client,
        [path, attrs](SftpClient& out, DoneBack back) {
            out.Setstat(path, attrs, std::move(back));
        },
        LookAt(path), FinishMaking({.op = SftpOp::kSetstat, .path = path}, std::move(done)));
}

void SftpFiles::FileStat(const RemoteFilePtr& file, StatDone done) {
    const auto* ours = dynamic_cast<const SftpFile*>(file.get());
    const Result<ClientPtr> client = Begin(ours);
    if (!client) return Later(std::move(done), client.error());
    (*client)->Fstat(ours->handle_,
                     AnswerStat({.op = SftpOp::kFstat, .path = ours->path_}, std::move(done)));
}

void SftpFiles::SetFileStat(const RemoteFilePtr& file, const StatChange& change, StatDone done) {
    const auto* ours = dynamic_cast<const SftpFile*>(file.get());
    const Result<ClientPtr> client = Begin(ours);
    if (!client) return Later(std::move(done), client.error());
    SftpAttrs attrs = ToAttrs(change);
    attrs.size = change.size;
    SftpCase what{.op = change.size ? SftpOp::kFtruncate : SftpOp::kFsetstat, .path = ours->path_};
    if (attrs == SftpAttrs{}) {
        return (*client)->Fstat(ours->handle_, AnswerStat(std::move(what), std::move(done)));
    }
    what.facts.far_offset = IsFar(change.size.value_or(0));
    const std::string handle = ours->handle_;
    ChangeAndLook(
        *client,
        [handle, attrs](SftpClient& out, DoneBack back) {
            out.Fsetstat(handle, attrs, std::move(back));
        },
        [handle](SftpClient& out, AttrsBack back) { out.Fstat(handle, std::move(back)); },
        FinishMaking(std::move(what), std::move(done)));
}

}  // namespace sbxfs
