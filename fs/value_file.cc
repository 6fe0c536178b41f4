#include "fs/value_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include <algorithm>

#include "fs/caller.h"

namespace sbxfs {

Attr ValueFile::Stat() const {
    Attr attr;
    attr.mode = S_IFREG | Permissions();
    attr.size = Text().size();
    attr.atime = attr.mtime = attr.ctime = Time();
    return attr;
}

void ValueFile::Open(const OpenRequest& request, OpenReply reply) {
    const bool empties = (request.flags & O_TRUNC) != 0;
    if (request.Writes() || empties) {
        if (const auto closed = Closed()) return std::move(reply).Fail(*closed);
    }
    auto file = std::make_shared<OpenValue>(
        std::static_pointer_cast<ValueFile>(shared_from_this()), request,
        empties ? OpenValue::Begins::kEmptied : OpenValue::Begins::kAsItIs);
    AnswerOpen(mount(), std::move(file), Opened{.direct_io = true}, std::move(reply));
}

void ValueFile::SetAttr(const AttrChange& change, const OpenHandlePtr& open, const Caller& who,
                        AttrReply reply) {
    if (!change.size) return ControlNode::SetAttr(change, open, who, std::move(reply));
    if (const auto handle = std::dynamic_pointer_cast<OpenValue>(open)) {
        if (const Status done = handle->Truncate(*change.size); !done)
            return std::move(reply).Fail(done.error());
        return ControlNode::SetAttr(change, open, who, std::move(reply));
    }
    // truncate(2) by name comes before a write or means the empty value; longer ones keep what is there.
    if (*change.size > 0) return ControlNode::SetAttr(change, open, who, std::move(reply));
    if (const auto closed = Closed()) return std::move(reply).Fail(*closed);
    if (const Status good = Check("", Part::kWhole); !good)
        return std::move(reply).Fail(good.error());
    Commit("", [self = std::static_pointer_cast<ValueFile>(shared_from_this()), change, who,
                reply = mount().lot.Watch(std::move(reply))](const Status& kept) mutable {
        if (!kept) return std::move(reply).Fail(kept.error());
        self->ControlNode::SetAttr(change, nullptr, who, std::move(reply));
    });
}

OpenValue::OpenValue(const std::shared_ptr<ValueFile>& file, const OpenRequest& request,
                     Begins begins)
    : OpenHandle(file),
      file_(file),
      appends_((request.flags & O_APPEND) != 0),
      opener_(LookUpCaller(request.who.tid).group),
      text_(begins == Begins::kAsItIs ? file->Text() : std::string()),
      shows_value_(begins == Begins::kAsItIs),
      emptied_(begins == Begins::kEmptied) {}

OpenValue::~OpenValue() {
    const MutexLock lock(mu_);
    Wipe();
}

// It may have been a secret.
void OpenValue::Wipe() {
    ::explicit_bzero(text_.data(), text_.size());
    text_.clear();
}

void OpenValue::Read(std::uint64_t offset, std::size_t size, DataReply reply) {
    std::string part;
    {
        const MutexLock lock(mu_);
        if (offset < text_.size()) part = text_.substr(offset, size);
    }
    std::move(reply).Bytes(part);
}

Status OpenValue::Fits(std::uint64_t size) const {
    if (size <= file_->Limit()) return Ok();
    return Error(Errno{EFBIG}, "'" + file_->Name() + "' may have " +
                                   std::to_string(file_->Limit()) +
                                   " bytes; what was there before stays");
}

void OpenValue::Write(std::uint64_t offset, std::span<const char> bytes, bool, WrittenReply reply) {
    const Status taken = Take(offset, bytes);
    if (!taken) {
        Poison(taken.error());
        return std::move(reply).Fail(taken.error());
    }
    const bool line = !bytes.empty() && bytes.back() == '\n';
    if (!line || file_->WhenKept() == ValueFile::Keeps::kAtClose)
        return std::move(reply).Wrote(bytes.size());
    auto parked = node()->mount().lot.Park(std::move(reply));
    Keep(false, [self = shared_from_this(), size = bytes.size(),
                 parked = std::move(parked)](const Status& kept) mutable {
        if (!kept) {
            self->Poison(kept.error());
            return parked.Fail(kept.error());
        }
        if (auto still = parked.Take()) std::move(*still).Wrote(size);
    });
}

Status OpenValue::Take(std::uint64_t offset, std::span<const char> bytes) {
    std::string text;
    {
        const MutexLock lock(mu_);
        if (poisoned_) return *poisoned_;
        const bool whole = file_->HowWritten() == ValueFile::Writes::kWhole;
        // Writers of the same handle one after the other, as `exec 3>FILE; echo a >&3; echo b >&3`.
        if (whole && (shows_value_ || kept_)) {
            Wipe();
            offset = 0;
        }
        if (appends_ || (whole && offset > text_.size())) offset = text_.size();
        (void)TRY(Fits(offset + bytes.size()));
        if (offset + bytes.size() > text_.size()) text_.resize(offset + bytes.size());
        std::copy(bytes.begin(), bytes.end(), text_.begin() + static_cast<std::ptrdiff_t>(offset));
        shows_value_ = kept_ = false;
        written_ = true;
        text = text_;
    }
    Status good = file_->Check(text, ValueFile::Part::kBeginning);
    ::explicit_bzero(text.data(), text.size());
    return good;
}

Status OpenValue::Truncate(std::uint64_t size) {
    (void)TRY(Fits(size));
    const MutexLock lock(mu_);
    if (poisoned_) return *poisoned_;
    if (size > 0 && file_->HowWritten() == ValueFile::Writes::kWhole) return Ok();
    text_.resize(size);
    shows_value_ = kept_ = false;
    (size == 0 ? emptied_ : written_) = true;
    if (size == 0) written_ = false;
    return Ok();
}

void OpenValue::Poison(const Error& why) {
    const MutexLock lock(mu_);
    if (!poisoned_) poisoned_ = why;
    Wipe();
}

void OpenValue::Flush(const Caller& who, EmptyReply reply) {
    // A child that inherited the descriptor ends with a flush too, in the middle of its parent's text.
    const CallerFacts caller = LookUpCaller(who.tid);
    if (opener_ == 0 || caller.group != opener_) return std::move(reply).Ok();
    if (caller.killed) {
        Poison(Error(Errno{ECANCELED},
                     "the process that was writing was killed before it closed the file; what was "
                     "there before stays"));
        return std::move(reply).Ok();
    }
    KeepAndAnswer(std::move(reply));
}

void OpenValue::Fsync(EmptyReply reply) {
    KeepAndAnswer(std::move(reply));
}

void OpenValue::KeepAndAnswer(EmptyReply reply) {
    if (file_->WhenKept() == ValueFile::Keeps::kAtClose) {
        return Keep(false, [reply = node()->mount().lot.Watch(std::move(reply))](
                               const Status& status) mutable { std::move(reply).Done(status); });
    }
    // The sandbox is asked: a signal ends the wait, as that of a write.
    auto parked = node()->mount().lot.Park(std::move(reply));
    Keep(false, [parked = std::move(parked)](const Status& status) mutable {
        if (auto still = parked.Take()) std::move(*still).Done(status);
    });
}

void OpenValue::Release() {
    Keep(true, [self = shared_from_this()](const Status& status) {
        // Nobody hears errors of the last close.
        MountContext& mount = self->node()->mount();
        if (!status) mount.refusals.Add(self->opener_, self->node()->Path(), status.error());
    });
}

// Makes what was written the value, once.
void OpenValue::Keep(bool at_last, Done done) {
    std::string text;
    bool written = false;
    bool emptied = false;
    bool nothing = false;
    {
        const MutexLock lock(mu_);
        // Whoever was refused has heard it.
        nothing = poisoned_ || !(written_ || (at_last && emptied_));
        if (!nothing) {
            text = text_;
            written = std::exchange(written_, false);
            emptied = std::exchange(emptied_, false);
            kept_ = true;
        }
    }
    if (nothing) return done(Ok());
    Status good = file_->Check(text, ValueFile::Part::kWhole);
    if (good) return file_->Commit(std::move(text), std::move(done));
    {
        const MutexLock lock(mu_);
        // The rest of it may still come.
        written_ = written_ || written;
        emptied_ = emptied_ || emptied;
        kept_ = false;
    }
    if (at_last) Poison(good.error());
    done(std::move(good));
}

}  // namespace sbxfs
