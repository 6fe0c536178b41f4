// SftpFiles: opening and closing.
//
// Open wants the attributes of the very file it opened. OPEN then FSTAT is exact and costs two
// round trips. One is enough when OPEN is sent between two LSTATs of the path, in one flight: if
// both see the same regular file, and the answers came in the order asked, it is the one that was
// opened. A file that OPEN has just created or emptied is recognised by the look behind it alone:
// nothing can be there but an empty regular file. In all other cases (a link, a file that changed
// that very moment, a server that works out of order) FSTAT is asked after all.
//
// A file is created with exactly the mode that was asked for, whatever the server's umask. That
// needs to know whether OPEN created it, so creating is tried with O_EXCL first; what exists
// already is opened in a second attempt.
#include <sys/stat.h>

#include <optional>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "sandbox/sftp_diagnosis.h"
#include "sandbox/sftp_files.h"
#include "sandbox/sftp_flight.h"

namespace sbxfs {
namespace {

// A few handles are left for listings when files use up the others.
constexpr std::uint64_t kKeptForListings = 4;

std::uint32_t WireFlags(const OpenHow& how, bool exclusive) {
    std::uint32_t flags = 0;
    const bool write = how.write || how.append;
    if (how.read || !write) flags |= kSftpRead;
    if (write) flags |= kSftpWrite;
    if (how.append) flags |= kSftpAppend;
    if (how.create) flags |= kSftpCreate;
    if (how.truncate) flags |= kSftpTruncate;
    if (exclusive) flags |= kSftpExclusive;
    return flags;
}

}  // namespace

struct SftpFiles::Opening {
    std::string path;
    OpenHow how;
    OpenDone done;
    bool exclusive = false;  // of this attempt
    int attempts = 0;        // to make what was there each time and gone when looked at
    int answers_left = 0;
    bool in_order = true;
    std::optional<SftpAnswer<SftpAttrs>> before;
    std::optional<SftpAnswer<std::string>> handle;
    std::optional<SftpAnswer<SftpAttrs>> after;

    bool Trusted() const;
};

bool SftpFiles::Opening::Trusted() const {
    if (!in_order || !*after || !after->has_value()) return false;
    const SftpAttrs& seen = **after;
    if (!seen.size || !seen.permissions || !seen.times || !S_ISREG(*seen.permissions)) return false;
    if (exclusive || how.truncate) return *seen.size == 0;
    return before && before->has_value() && **before == seen;
}

SftpFile::~SftpFile() {
    if (closed_ || loop_ == nullptr) return;
    loop_->Post([files = files_, link = link_, handle = std::move(handle_)] {
        if (const std::shared_ptr<SftpFiles> alive = files.lock())
            alive->CloseQuietly(link, handle);
    });
}

bool SftpFiles::HandlesExhausted(const SftpClient& client, std::uint64_t kept) const {
    const std::uint64_t most = client.limits().handles;
    if (most == 0) return false;
    return handles_ + (most > 2 * kept ? kept : 0) >= most;
}

void SftpFiles::Open(const std::string& path, const OpenHow& how, OpenDone done) {
    const Result<ClientPtr> client = Begin(path);
    if (!client) return Later(std::move(done), client.error());
    if (HandlesExhausted(**client, kKeptForListings)) {
        return Later(std::move(done), SftpFaultError(SftpFault::kNoHandles, path));
    }
    const auto opening = std::make_shared<Opening>();
    opening->path = path;
    opening->how = how;
    opening->done = std::move(done);
    opening->exclusive = how.create;
    TryOpen(*client, opening);
}

void SftpFiles::TryOpen(const ClientPtr& client, const std::shared_ptr<Opening>& opening) {
    const auto count = [self = shared_from_this(), opening] {
        if (--opening->answers_left == 0) self->TakeOpening(opening);
    };
    const bool fresh = opening->exclusive || opening->how.truncate;
    opening->answers_left = fresh ? 2 : 3;
    opening->in_order = true;
    opening->before.reset();
    opening->handle.reset();
    opening->after.reset();
    ++handles_;

    if (!fresh) {
        client->Lstat(opening->path, [opening, count](SftpAnswer<SftpAttrs> attrs) {
            opening->in_order &= !opening->handle && !opening->after;
            opening->before = std::move(attrs);
            count();
        });
    }
    SftpAttrs attrs;
    if (opening->how.create) attrs.permissions = opening->how.mode & 07777;
    client->Open(opening->path, WireFlags(opening->how, opening->exclusive), attrs,
                 [opening, count](SftpAnswer<std::string> handle) {
                     opening->in_order &= !opening->after;
                     opening->handle = std::move(handle);
                     count();
                 });
    client->Lstat(opening->path, [opening, count](SftpAnswer<SftpAttrs> seen) {
        opening->after = std::move(seen);
        count();
    });
}

void SftpFiles::TakeOpening(const std::shared_ptr<Opening>& opening) {
    if (!*opening->handle) return RetryOrRefuse(opening);
    if (opening->Trusted()) return TakeLook(opening, **opening->after);
    const ClientPtr client = client_.lock();
    if (client == nullptr) return FailOpening(opening, SftpRefusal::Lost(EndedError()));
    client->Fstat(**opening->handle,
                  [self = shared_from_this(), opening](SftpAnswer<SftpAttrs> attrs) {
                      if (attrs) return self->TakeLook(opening, *attrs);
                      self->FailOpening(opening, std::move(attrs).refusal());
                  });
}

void SftpFiles::RetryOrRefuse(const std::shared_ptr<Opening>& opening) {
    --handles_;
    SftpRefusal refusal = std::move(*opening->handle).refusal();
    const ClientPtr client = client_.lock();
    const SftpKind seen = KindOfLook(*opening->after);
    const bool ours_to_open = opening->exclusive && !opening->how.exclusive;
    if (ours_to_open && client != nullptr && refusal.status == SftpStatus::kFailure &&
        seen != SftpKind::kMissing) {
        opening->exclusive = false;
        return TryOpen(client, opening);
    }
    // Nothing was made, so it may be tried again; another reason will be the same one then.
    if (opening->exclusive && client != nullptr && IsGivenBack(refusal, seen) &&
        ++opening->attempts < kMostAttempts)
        return TryOpen(client, opening);
    SftpCase what{.path = opening->path};
    const OpenHow& how = opening->how;
    if (how.exclusive) {
        what.op = SftpOp::kOpenExclusive;
        what.facts.path = seen;
    } else if (how.write || how.append || how.create || how.truncate) {
        what.op = SftpOp::kOpenWrite;
    } else {
        what.op = SftpOp::kOpenRead;
    }
    what.facts.many_handles = client != nullptr && HandlesExhausted(*client, 2 * kKeptForListings);
    Refuse(std::move(what), std::move(refusal), {}, Failing(std::move(opening->done)));
}

void SftpFiles::TakeLook(const std::shared_ptr<Opening>& opening, const SftpAttrs& attrs) {
    const std::uint32_t exact = opening->how.mode & 07777;
    const ClientPtr client = client_.lock();
    const bool is_exact = attrs.permissions && (*attrs.permissions & 07777) == exact;
    if (!opening->exclusive || is_exact || client == nullptr) return FinishOpening(opening, attrs);
    SftpAttrs mode;
    mode.permissions = exact;
    const std::string handle = **opening->handle;
    ChangeAndLook(
        client,
        [handle, mode](SftpClient& out, SftpClient::DoneBack back) {
            out.Fsetstat(handle, mode, std::move(back));
        },
        [handle](SftpClient& out, SftpClient::AttrsBack back) {
            out.Fstat(handle, std::move(back));
        },
        [self = shared_from_this(), opening, attrs](SftpLooked looked) mutable {
            if (!looked.look && looked.look.refusal().lost) {
                return self->FailOpening(opening, std::move(looked.look).refusal());
            }
            // The file is there and open: a file system without modes is no reason to say
            // otherwise.
            self->FinishOpening(opening, looked.look ? *looked.look : attrs);
        });
}

void SftpFiles::FinishOpening(const std::shared_ptr<Opening>& opening, const SftpAttrs& attrs) {
    Result<RemoteStat> stat = ToRemoteStat(attrs, opening->path);
    const ClientPtr client = client_.lock();
    if (client == nullptr) return FailOpening(opening, SftpRefusal::Lost(EndedError()));
    if (!stat) {
        CloseQuietly(client->link(), **opening->handle);
        return opening->done(std::move(stat).error());
    }
    std::shared_ptr<SftpFile> file(new SftpFile);
    file->loop_ = &loop_;
    file->files_ = weak_from_this();
    file->link_ = client->link();
    file->handle_ = std::move(**opening->handle);
    file->path_ = opening->path;
    file->how_ = opening->how;
    file->opened_ = *stat;
    opening->done(OpenedFile{std::move(file), *stat});
}

// Opened, but nothing can be said about the file.
void SftpFiles::FailOpening(const std::shared_ptr<Opening>& opening, SftpRefusal refusal) {
    const ClientPtr client = client_.lock();
    if (client != nullptr) CloseQuietly(client->link(), **opening->handle);
    Refuse({.op = SftpOp::kFstat, .path = opening->path}, std::move(refusal), {},
           Failing(std::move(opening->done)));
}

void SftpFiles::Close(const RemoteFilePtr& file, Done done) {
    auto* ours = dynamic_cast<SftpFile*>(file.get());
    const Result<ClientPtr> client = Begin(ours);
    if (!client) return Later(std::move(done), client.error());
    ours->closed_ = true;
    (*client)->Close(ours->handle_, SftpClient::Awaited::kYes,
                     [self = shared_from_this(), path = ours->path_,
                      done = std::move(done)](SftpAnswer<Unit> answer) mutable {
                         --self->handles_;
                         if (answer) return done(Ok());
                         self->Refuse({.op = SftpOp::kClose, .path = path},
                                      std::move(answer).refusal(), {}, Failing(std::move(done)));
                     });
}

// Nobody waits, but a failure counts: it may be a write that did not reach the disk.
void SftpFiles::CloseQuietly(std::uint64_t link, const std::string& handle) {
    const ClientPtr client = client_.lock();
    if (client == nullptr || !client->Usable() || client->link() != link) return;
    client->Close(handle, SftpClient::Awaited::kNo,
                  [self = shared_from_this()](const SftpAnswer<Unit>& answer) {
                      --self->handles_;
                      if (answer || answer.refusal().lost) return;
                      Log(LogLevel::kWarning, "sftp close failed",
                          {{"status", static_cast<unsigned>(answer.refusal().status)}});
                  });
}

}  // namespace sbxfs
