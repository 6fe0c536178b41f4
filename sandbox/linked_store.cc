// LinkedFiles: new files that are made with all their bytes at once.
//
// The supervisor does it in one message, where the file server needs three that wait for one another. The message has no order
// with what goes the server's way: who sends it has waited for what it builds on.
//
// A rename of such a file goes the same way: a new file may take the old name right behind it then.
//
// What is lost with its answer is looked for by the next supervisor, which has nothing of the connection before it left to do:
// a file is ours when it was made since, has one name and no more in it than was sent, while nobody else was there. It
// is written once more then, by the file server; where there is none, the message is sent again.
#include <errno.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "sandbox/linked_operation.h"

namespace sbxfs {
namespace {

// The kernel's clock for files ticks every few milliseconds, and the sandbox's is not known exactly.
constexpr std::int64_t kClocksDifferSeconds = 1;

// Saves follow one another under one name.
constexpr std::size_t kMostAcknowledged = 64;

OpenHow HowOf(const StoreRequest& what) {
    OpenHow how;
    how.write = how.create = how.exclusive = true;
    how.mode = what.mode;
    return how;
}

RemoteStat StatOf(const IdentityStat& identity) {
    constexpr std::int64_t kSecond = 1'000'000'000;
    RemoteStat stat;
    stat.size = identity.size;
    stat.mode = identity.mode & (S_IFMT | 07777);
    stat.uid = identity.uid;
    stat.gid = identity.gid;
    stat.atime = stat.mtime = identity.mtime_ns / kSecond;
    return stat;
}

}  // namespace

struct LinkedFiles::Storing {
    StoreRequest request;
    std::int64_t from;  // the sandbox's clock before it was sent first, in seconds

    bool IsOurs(const IdentityStat& now) const {
        const std::int64_t birth = now.birth_ns / 1'000'000'000;
        return S_ISREG(now.mode) && now.nlink == 1 && now.size <= request.bytes.size() &&
               birth >= from - kClocksDifferSeconds;
    }
    // Of ours: the bytes come first, then the mode, then the times. Whether it is on the disk nobody sees.
    bool IsComplete(const IdentityStat& now) const {
        const std::int64_t mtime = now.mtime_ns / 1'000'000'000;
        return now.size == request.bytes.size() && (now.mode & 07777) == request.mode &&
               (!request.mtime || *request.mtime == mtime) && !request.sync;
    }
};

struct LinkedFiles::Moving {
    std::string from;
    std::string to;
    RemoteFiles::Replace replace;
    IdentityStat moved;
};

// A new file by the file server, step by step, on one link. Each step's end by a cut is heard by LinkedFiles first.
class LinkedFiles::ByHand final : public std::enable_shared_from_this<ByHand> {
 public:
    ByHand(std::shared_ptr<LinkedFiles> owner, StoringPtr what, MadeDone done)
        : owner_(std::move(owner)),
          whole_(std::move(what)),
          what_(whole_->request),
          done_(std::move(done)) {}

    void Make() { Open(HowOf(what_)); }
    // What has been made, if not written, with this mode so far.
    void Complete(std::uint32_t mode) {
        OpenHow how;
        how.write = true;
        if ((mode & S_IWUSR) != 0) return Open(how);
        StatChange writable;
        writable.mode = (mode & 07777) | S_IWUSR;
        Target()->SetStat(what_.path, writable,
                          [self = shared_from_this(), how, link = owner_->link_](const auto&) {
                              if (self->Target() == nullptr || self->owner_->link_ != link)
                                  return self->done_(LinkedFiles::UnknownOutcome());
                              self->Open(how);
                          });
    }

 private:
    void Open(const OpenHow& how) {
        owner_->target_->Open(
            what_.path, how, [self = shared_from_this()](const Result<OpenedFile>& opened) {
                if (!opened) return self->done_(opened.error());
                // As one that was made by us, whichever of the two it is.
                self->made_.file =
                    self->owner_->Adopt(self->what_.path, HowOf(self->what_), *opened, Alone::kYes);
                self->made_.stat = opened->stat;
                self->file_ = opened->file;
                self->Write();
            });
    }

    RemoteFiles* Target() const { return owner_->target_; }
    bool IsCut() const {
        return Target() == nullptr ||
               std::static_pointer_cast<LinkedFile>(made_.file)->link != owner_->link_;
    }
    // What comes next, if the link is still there.
    template <class T, class F>
    UniqueFunction<void(Result<T>)> Then(F next) {
        return [self = shared_from_this(), next = std::move(next)](Result<T> result) {
            if (self->IsCut()) return self->done_(LinkedFiles::UnknownOutcome());
            if (!result && !self->made_.incomplete) self->made_.incomplete = result.error();
            next(*self, result);
        };
    }

    void Write() {
        if (IsCut()) return done_(LinkedFiles::UnknownOutcome());
        std::static_pointer_cast<LinkedFile>(made_.file)->most = what_.bytes.size();
        if (what_.bytes.empty()) return Set();
        Target()->Write(file_, 0, what_.bytes,
                        Then<Unit>([](ByHand& self, const Status&) { self.Set(); }));
    }
    void Set() {
        if ((made_.stat.mode & 07777) == what_.mode) return SetTimes();
        StatChange change;
        change.mode = what_.mode;
        // A file system without modes is no reason to say that the file is not there.
        Target()->SetFileStat(file_, change, [self = shared_from_this()](const auto&) {
            if (self->IsCut()) return self->done_(LinkedFiles::UnknownOutcome());
            self->SetTimes();
        });
    }
    void SetTimes() {
        StatChange change;
        change.atime = what_.atime;
        change.mtime = what_.mtime;
        if (!change.mtime) return Sync();
        Target()->SetFileStat(file_, change,
                              Then<RemoteStat>([](ByHand& self, const auto&) { self.Sync(); }));
    }
    void Sync() {
        if (!what_.sync) return Look();
        Target()->Sync(file_, Then<Unit>([](ByHand& self, const Status&) { self.Look(); }));
    }
    void Look() {
        // What cannot be looked at has been written nevertheless.
        Target()->FileStat(file_, [self = shared_from_this()](const Result<RemoteStat>& stat) {
            RemoteStat& known = self->made_.stat;
            known.size = self->what_.bytes.size();
            known.mode = (known.mode & S_IFMT) | self->what_.mode;
            if (stat) known = *stat;
            if (self->IsCut()) return self->done_(LinkedFiles::UnknownOutcome());
            self->Close();
        });
    }
    void Close() {
        Target()->Close(file_, Then<Unit>([](ByHand& self, const Status&) {
                            std::static_pointer_cast<LinkedFile>(self.made_.file)->link = 0;
                            self.done_(std::move(self.made_));
                        }));
    }

    const std::shared_ptr<LinkedFiles> owner_;
    const StoringPtr whole_;
    const StoreRequest& what_;
    MadeDone done_;
    MadeFile made_;
    RemoteFilePtr file_;
};

bool LinkedFiles::MayStore() const {
    const auto witness = witness_.lock();
    return IsUp() && recovering_.empty() && TellsBirths() && witness != nullptr &&
           witness->IsAlone() && witness->CanStore();
}

void LinkedFiles::Patient::Store(StoreRequest what, std::int64_t from, MadeDone done) {
    const auto kept = std::make_shared<const Storing>(Storing{std::move(what), from});
    Submit(std::make_unique<TypedOperation<MadeFile>>(
        Kind::kNameChange,
        [kept](LinkedFiles& files, RemoteFiles&, MadeDone d) {
            files.StoreFile(kept, std::move(d));
        },
        [kept](LinkedFiles& files, RemoteFiles&, Alone, VerdictDone<MadeFile> d) {
            files.CheckStored(kept, std::move(d));
        },
        std::move(done)));
}

void LinkedFiles::StoreFile(const StoringPtr& what, MadeDone done) {
    const auto witness = witness_.lock();
    if (witness == nullptr || !witness->CanStore()) {
        std::make_shared<ByHand>(shared_from_this(), what, std::move(done))->Make();
        return;
    }
    witness->Store(what->request, [weak = weak_from_this(), what, done = std::move(done)](
                                      const std::optional<StoredFile>& stored) mutable {
        const auto self = weak.lock();
        if (self == nullptr) return done(UnknownOutcome());
        if (!stored || self->target_ == nullptr) return self->SupervisorLeft(what, std::move(done));
        // Made, and not seen.
        if (stored->made && stored->identity.error != 0)
            return self->SupervisorLeft(what, std::move(done));
        if (stored->made) return done(self->AdoptStored(what->request, *stored));
        // The server says why, as it does of other files; or it is not as busy.
        std::make_shared<ByHand>(self, what, std::move(done))->Make();
    });
}

// It may have been made, and the link may be there still: then nobody else hears of this.
void LinkedFiles::SupervisorLeft(const StoringPtr& what, MadeDone done) {
    CheckStored(what, AfterAll<MadeFile>(std::move(done), [what](LinkedFiles& files, MadeDone d) {
                    files.StoreFile(what, std::move(d));
                }));
}

void LinkedFiles::SupervisorLeft(const MovingPtr& what, Done done) {
    CheckMoved(what, AfterAll<Unit>(std::move(done), [what](LinkedFiles& files, Done d) {
                   files.Move(what, std::move(d));
               }));
}

// Answers by what was found, or has it done again.
template <class T, class F>
VerdictDone<T> LinkedFiles::AfterAll(UniqueFunction<void(Result<T>)> done, F again) {
    return [weak = weak_from_this(), done = std::move(done),
            again = std::move(again)](Verdict<T> verdict) mutable {
        const auto self = weak.lock();
        const bool up = self != nullptr && self->target_ != nullptr;
        if (verdict.what() == Verdict<T>::What::kFinished) return done(std::move(verdict.result()));
        if (verdict.what() != Verdict<T>::What::kRepeat || !up) return done(UnknownOutcome());
        // Not at once: one that always answers like that would have it again and again.
        self->LookLater(
            [done = std::move(done), again = std::move(again)](LinkedFiles* later) mutable {
                if (later == nullptr || later->target_ == nullptr) return done(UnknownOutcome());
                again(*later, std::move(done));
            });
    };
}

// However long it takes: while there is no supervisor to look, the one before may still be at it.
template <class P, class T>
void LinkedFiles::CheckLater(void (LinkedFiles::*check)(const P&, VerdictDone<T>), const P& what,
                             VerdictDone<T> done) {
    LookLater([check, what, done = std::move(done)](LinkedFiles* later) mutable {
        if (later == nullptr) return done(Verdict<T>::Unknown());
        (later->*check)(what, std::move(done));
    });
}

MadeFile LinkedFiles::AdoptStored(const StoreRequest& what, const StoredFile& stored) {
    auto file = std::make_shared<LinkedFile>(what.path, HowOf(what), nullptr, 0);
    file->identity = stored.identity;
    file->made = true;
    file->made_at = stored.identity.birth_ns / 1'000'000'000;
    file->most = what.bytes.size();
    Remember(file);
    // One that is found later is not this one.
    if (acknowledged_.size() >= kMostAcknowledged) acknowledged_.pop_front();
    acknowledged_.push_back(stored.identity);
    births_ = stored.identity.birth_ns != 0 && births_.value_or(true);
    MadeFile made{file, StatOf(stored.identity), stored.identity, std::nullopt};
    if (what.atime) made.stat.atime = *what.atime;
    if (stored.error != 0)
        made.incomplete =
            Error(Errno{stored.error}, what.path + ": it could not be written", Blame::kRemote);
    return made;
}

void LinkedFiles::CheckStored(const StoringPtr& what, VerdictDone<MadeFile> done) {
    using Found = Verdict<MadeFile>;
    const auto witness = witness_.lock();
    if (witness == nullptr || target_ == nullptr) return done(Found::Unknown());
    // What is there may be about to be moved away, by what was sent before this.
    if (MayHaveMoved(what->request.path))
        return CheckLater(&LinkedFiles::CheckStored, what, std::move(done));
    witness->Identify(
        what->request.path, [weak = weak_from_this(), what, link = link_, done = std::move(done)](
                                const std::optional<IdentityStat>& now) mutable {
            const auto self = weak.lock();
            if (self == nullptr || self->link_ != link || self->target_ == nullptr)
                return done(Found::Unknown());
            if (!now) return self->CheckLater(&LinkedFiles::CheckStored, what, std::move(done));
            if (now->error == ENOENT || now->error == ENOTDIR) return done(Found::Repeat());
            if (now->error != 0 || now->birth_ns == 0) return done(Found::Unknown());
            const bool earlier =
                std::any_of(self->acknowledged_.begin(), self->acknowledged_.end(),
                            [&](const IdentityStat& known) { return SameFile(known, *now); });
            if (earlier || !what->IsOurs(*now))
                return done(Found::Finished(Exists(what->request.path)));
            if (what->IsComplete(*now))
                return done(Found::Finished(self->AdoptStored(what->request, {0, true, *now})));
            std::make_shared<ByHand>(self, what, [done = std::move(done)](Result<MadeFile> made) {
                done(made ? Found::Finished(std::move(made)) : Found::Unknown());
            })->Complete(now->mode);
        });
}

// --- Renames

void LinkedFiles::Patient::RenameStored(const std::string& from, const std::string& to,
                                        Replace replace, const IdentityStat& moved, Done done) {
    const auto kept = std::make_shared<const Moving>(Moving{from, to, replace, moved});
    auto operation = std::make_unique<TypedOperation<Unit>>(
        Kind::kNameChange,
        [kept](LinkedFiles& files, RemoteFiles&, Done d) { files.Move(kept, std::move(d)); },
        [kept](LinkedFiles& files, RemoteFiles&, Alone, VerdictDone<Unit> d) {
            files.CheckMoved(kept, std::move(d));
        },
        std::move(done));
    operation->moves = from;
    operation->takes = Takes::kName;
    Submit(std::move(operation));
}

void LinkedFiles::Move(const MovingPtr& what, Done done) {
    const auto witness = witness_.lock();
    if (witness == nullptr || !witness->CanStore())
        return MoveByHand(what->from, what->to, what->replace, std::move(done));
    witness->Rename(
        {what->from, what->to, what->replace == RemoteFiles::Replace::kYes},
        [weak = weak_from_this(), what, done = std::move(done)](std::optional<int> error) mutable {
            const auto self = weak.lock();
            if (self == nullptr) return done(UnknownOutcome());
            if (!error || self->target_ == nullptr)
                return self->SupervisorLeft(what, std::move(done));
            // The server says why, as it does of others; or it can.
            if (*error != 0)
                return self->MoveByHand(what->from, what->to, what->replace, std::move(done));
            self->Moved(what->from, what->to);
            done(Ok());
        });
}

void LinkedFiles::MoveByHand(const std::string& from, const std::string& to, Replace replace,
                             Done done) {
    target_->Rename(from, to, replace,
                    [weak = weak_from_this(), from, to, done = std::move(done)](Status status) {
                        if (const auto self = weak.lock(); self && status) self->Moved(from, to);
                        done(std::move(status));
                    });
}

// It is where it has arrived, or where it was. A new file may be at the old name by now.
void LinkedFiles::CheckMoved(const MovingPtr& what, VerdictDone<Unit> done) {
    using Found = Verdict<Unit>;
    struct Both {
        std::optional<IdentityStat> source;
        std::optional<IdentityStat> target;
    };
    const auto witness = witness_.lock();
    if (witness == nullptr || target_ == nullptr) return done(Found::Unknown());
    const auto both = std::make_shared<Both>();
    witness->Identify(what->from,
                      [both](const std::optional<IdentityStat>& seen) { both->source = seen; });
    witness->Identify(
        what->to, [weak = weak_from_this(), what, both, link = link_,
                   done = std::move(done)](const std::optional<IdentityStat>& seen) mutable {
            both->target = seen;
            const auto self = weak.lock();
            if (self == nullptr || self->link_ != link || self->target_ == nullptr)
                return done(Found::Unknown());
            if (!both->source || !both->target)
                return self->CheckLater(&LinkedFiles::CheckMoved, what, std::move(done));
            const auto is_it = [&](const IdentityStat& there) {
                return there.error == 0 && SameFile(what->moved, there);
            };
            if (is_it(*both->target)) {
                self->Moved(what->from, what->to);
                return done(Found::Finished(Ok()));
            }
            done(is_it(*both->source) ? Found::Repeat() : Found::Unknown());
        });
}

}  // namespace sbxfs
