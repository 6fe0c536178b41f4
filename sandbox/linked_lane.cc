// LinkedFiles: a second way to the same files, for data that is written while nobody else is there.
//
// A server takes so much of one channel within a round trip and no more (OpenSSH: 2 MiB), however wide the link is. What is
// written at an offset may as well arrive by another channel, that is by another file server, which has to open the file
// by its path. It is the same file when the supervisor sees the inode at the path that it saw when the file was opened first,
// while nobody can have put another one there: no removal or rename was under way from before the open was sent until
// the supervisor has looked, and the sandbox was quiet all that time. Whatever is missing of that, there is no second way.
// docs/adr/005-a-second-lane-for-writing.md; guarded by tests/core/two_ways_test.cc.
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "sandbox/linked_files.h"

namespace sbxfs {

// What the answers are compared with.
struct LinkedFiles::Widening {
    std::uint64_t lane = 0;
    std::uint64_t link = 0;
    std::uint64_t vacated = 0;
    std::uint64_t stretch = 0;
    bool opened = false;
    std::optional<IdentityStat> seen;
};

void LinkedFiles::SetLane(RemoteFiles* lane) {
    DCHECK(loop_.OnThread());
    lane_ = lane;
    if (lane != nullptr) ++lane_number_;
}

void LinkedFiles::WantLane() {
    const auto witness = witness_.lock();
    const bool far = trip_ >= timeouts_.wide_from && trip_ != Duration::max();
    if (lane_ == nullptr && target_ != nullptr && far && witness != nullptr && witness->IsAlone() &&
        want_lane)
        want_lane();
}

// What was given up and may still be made is made in the order of the first way only.
bool LinkedFiles::IsWide(const RemoteFilePtr& file) const {
    const auto& linked = static_cast<const LinkedFile&>(*file);
    return target_ != nullptr && linked.link == link_ && !linked.lost && unheard_on_ != link_ &&
           HasAside(linked);
}

void LinkedFiles::MakeWide(const RemoteFilePtr& file) {
    const auto linked = std::static_pointer_cast<LinkedFile>(file);
    if (target_ == nullptr || linked->link != link_ || linked->lost) return;
    // Once tried on a lane is enough: a file that may not be opened for writing, for one, stays so.
    if (lane_ == nullptr || linked->widening || linked->lane == lane_number_) return;
    if (MayWiden(*linked)) Widen(linked);
}

void LinkedFiles::Widen(const LinkedFilePtr& file) {
    const auto witness = witness_.lock();
    const auto by = std::make_shared<Widening>();
    by->lane = file->lane = lane_number_;
    by->link = link_;
    by->vacated = vacated_;
    by->stretch = witness->Stretch();
    file->aside.reset();
    file->proven = false;
    file->widening = true;
    // Neither made nor cut, whatever is there.
    OpenHow how;
    how.write = true;
    lane_->Open(
        file->path, how, [weak = weak_from_this(), file, by](const Result<OpenedFile>& opened) {
            by->opened = opened.has_value();
            if (opened) file->aside = opened->file;
            file->widening = false;
            // Answered also when all is over.
            if (file->when_widened) return std::exchange(file->when_widened, {})();
            const auto self = weak.lock();
            const auto looker = self == nullptr ? nullptr : self->witness_.lock();
            if (looker == nullptr) return;
            // Not before: what was there then may have been another file than what was opened.
            looker->Identify(file->path, [weak, file, by](const std::optional<IdentityStat>& seen) {
                by->seen = seen;
                if (const auto later = weak.lock()) later->Widened(file, by);
            });
        });
}

void LinkedFiles::Widened(const LinkedFilePtr& file, const std::shared_ptr<Widening>& by) {
    const auto witness = witness_.lock();
    const bool ours = by->opened && file->aside != nullptr && by->seen && by->seen->error == 0 &&
                      file->identity && SameFile(*file->identity, *by->seen);
    const bool alone = witness != nullptr && witness->Stretch() == by->stretch &&
                       by->vacated == vacated_ && MayWiden(*file);
    const bool lasts = lane_ != nullptr && by->lane == lane_number_ && target_ != nullptr &&
                       by->link == link_ && file->link == link_ && file->lane == by->lane;
    file->proven = ours && alone && lasts;
    if (file->proven) return;
    Log(LogLevel::kDebug, "a file has no second way", {{"path", file->path}});
    if (file->aside == nullptr || file->widening || lane_ == nullptr || by->lane != lane_number_)
        return;
    // It may be any file, and must not be kept open; who closes ours waits for that, too.
    file->widening = true;
    lane_->Close(std::exchange(file->aside, nullptr), [file](const Status&) {
        file->widening = false;
        if (file->when_widened) std::exchange(file->when_widened, {})();
    });
}

// That lane has ended, and its link goes on: the first way takes over.
bool LinkedFiles::HasLostLaneOnly(std::uint64_t lane, std::uint64_t link) const {
    const bool ended = lane_ == nullptr || lane_number_ != lane;
    return ended && target_ != nullptr && link_ == link;
}

void LinkedFiles::WriteAside(const LinkedFilePtr& file, std::uint64_t offset,
                             const FileBytes& bytes, Done done) {
    file->most = std::max(file->most, offset + bytes.size());
    if (!HasAside(*file)) return target_->Write(file->inner, offset, bytes, std::move(done));
    lane_->Write(file->aside, offset, bytes,
                 [weak = weak_from_this(), file, offset, bytes, lane = lane_number_, link = link_,
                  done = std::move(done)](Status status) mutable {
                     const auto self = weak.lock();
                     // It may or may not have been written: once more does no harm.
                     if (!status && self != nullptr && self->HasLostLaneOnly(lane, link))
                         return self->target_->Write(file->inner, offset, std::move(bytes),
                                                     std::move(done));
                     done(std::move(status));
                 });
}

// Each file server is asked behind what it was given to write, so that together they speak of all of it.
void LinkedFiles::SyncBoth(const LinkedFilePtr& file, Done done) {
    if (!HasAside(*file)) return target_->Sync(file->inner, std::move(done));
    struct Both {
        int open = 2;
        Status status = Ok();
        Done done;
        void CountOff(Status one) {
            if (status) status = std::move(one);
            if (--open == 0) done(std::move(status));
        }
    };
    const auto both = std::make_shared<Both>();
    both->done = std::move(done);
    lane_->Sync(file->aside, [weak = weak_from_this(), file, both, lane = lane_number_,
                              link = link_](Status status) {
        const auto self = weak.lock();
        // What it had not acknowledged has just been written again by the first way: behind that.
        if (!status && self != nullptr && self->HasLostLaneOnly(lane, link))
            return self->target_->Sync(file->inner,
                                       [both](Status again) { both->CountOff(std::move(again)); });
        both->CountOff(std::move(status));
    });
    target_->Sync(file->inner, [both](Status status) { both->CountOff(std::move(status)); });
}

// Answered when neither server holds it any more: a program that was written can be started then, and not before.
void LinkedFiles::CloseBoth(const LinkedFilePtr& file, Done done) {
    if (file->widening) {
        file->when_widened = [weak = weak_from_this(), file, inner = file->inner, link = link_,
                              done = std::move(done)]() mutable {
            const auto self = weak.lock();
            if (self == nullptr || self->target_ == nullptr || self->link_ != link)
                return done(Ok());
            // It may have been let go, and opened again meanwhile.
            if (inner != file->inner) return self->target_->Close(inner, std::move(done));
            self->CloseBoth(file, std::move(done));
        };
        return;
    }
    const bool held = lane_ != nullptr && file->lane == lane_number_ && file->aside != nullptr;
    if (!held) return target_->Close(file->inner, std::move(done));
    struct Both {
        bool closed = false;
        std::optional<Status> status;
        Done done;
        void Finish() {
            if (closed && status) done(std::move(*status));
        }
    };
    const auto both = std::make_shared<Both>();
    both->done = std::move(done);
    // Its writes have spoken for themselves, and its end closes it, too.
    lane_->Close(std::exchange(file->aside, nullptr), [both](const Status&) {
        both->closed = true;
        both->Finish();
    });
    target_->Close(file->inner, [both](Status status) {
        both->status = std::move(status);
        both->Finish();
    });
}

}  // namespace sbxfs
