#include "sandbox/departure.h"

#include <errno.h>

#include <utility>

#include "base/strings.h"
#include "sandbox/remote_removal.h"
#include "sandbox/spool_place.h"

namespace sbxfs {
namespace {

constexpr Duration kLimit = std::chrono::seconds(90);

}  // namespace

Departure::Departure(Loop& loop, Attacher& attacher, AttachRequest request,
                     std::atomic<std::uint64_t>& next_epoch, Done done)
    : loop_(loop),
      attacher_(attacher),
      request_(std::move(request)),
      next_epoch_(next_epoch),
      done_(std::move(done)),
      self_(std::make_shared<Departure*>(this)) {
    request_.bring = AttachRequest::Bring::kIfSpool;
    limit_ = loop_.After(kLimit, [this] {
        Finish(Error(Errno{ETIMEDOUT}, "the machine did not answer in time", Blame::kRemote));
    });
    Attach();
}

Departure::~Departure() {
    finished_ = true;
    *self_ = nullptr;
}

void Departure::Attach() {
    files_ = nullptr;
    request_.epoch = next_epoch_.fetch_add(1);
    attachment_ = attacher_.Attach(loop_, request_, *this, *this);
    if (without_supervisor_) attachment_->LeaveSupervisor();
}

void Departure::OnFiles(RemoteFiles& files) {
    files_ = &files;
    if (supervisor_ended_ || without_supervisor_) RemoveSpool();
}

void Departure::OnSupervisor(SupervisorPort& port, const SupervisorHello&, const std::string&) {
    if (without_supervisor_) return;
    port.Shutdown(/*clear_spool=*/true, [self = self_](const Status& status) {
        if (*self == nullptr) return;
        Departure& departure = **self;
        if (!status || departure.finished_) return;  // the link was lost: OnDetached follows
        departure.supervisor_ended_ = true;
        departure.attachment_->LeaveSupervisor();
        if (departure.files_ != nullptr) departure.RemoveSpool();
    });
}

void Departure::OnSupervisorLost(const Error& why) {
    if (why.code() != Errno{ENOENT} || files_ == nullptr) return;
    attachment_->LeaveSupervisor();
    RemoveParent();
}

void Departure::OnDetached(const Error& why) {
    files_ = nullptr;
    if (finished_) return;
    // It cannot run there, so nothing of it does.
    const bool unable = why.code() == Errno{ENOEXEC} || why.code() == Errno{EOPNOTSUPP};
    if (!unable || without_supervisor_) return Finish(why);
    without_supervisor_ = true;
    loop_.Post([self = self_] {
        if (*self != nullptr && !(*self)->finished_) (*self)->Attach();
    });
}

void Departure::RemoveSpool() {
    RemoveRemoteTree(*files_, SpoolDirOf(request_.connect), [self = self_](const Status& status) {
        if (*self == nullptr || (*self)->finished_ || (*self)->files_ == nullptr) return;
        if (!status) return (*self)->Finish(status);
        (*self)->RemoveParent();
    });
}

void Departure::RemoveParent() {
    const std::string parent = SpoolParentOf(SpoolDirOf(request_.connect));
    if (parent.empty()) return Finish(Ok());
    // Another sandbox's spool may be in it: then it stays.
    files_->RemoveDir(parent, [self = self_](const Status& status) {
        if (*self == nullptr || (*self)->finished_ || (*self)->files_ == nullptr) return;
        const bool fine = status || status.error().code() == Errno{ENOTEMPTY} ||
                          status.error().code() == Errno{ENOENT} ||
                          status.error().code() == Errno{EEXIST};
        (*self)->Finish(fine ? Ok() : status);
    });
}

void Departure::Finish(Status status) {
    if (std::exchange(finished_, true)) return;
    limit_.reset();
    // Not from within a callback of the attachment.
    loop_.Post([self = self_, done = std::move(done_), status = std::move(status)] {
        if (*self != nullptr) done(status);
    });
}

}  // namespace sbxfs
