#include "sandbox/linked_files.h"

#include <errno.h>

#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/check.h"
#include "sandbox/clean_path.h"

namespace sbxfs {
namespace {

// How late a deadline may be noticed. Only ticks while something waits.
constexpr Duration kTick = std::chrono::milliseconds(250);

Error TimedOut(bool sent_change) {
    return {
        Errno{ETIMEDOUT},
        sent_change
            ? "the sandbox did not answer in time; the change may or may not have been made: look "
              "before you repeat it"
            : "the sandbox did not answer in time; see its status and error files",
        Blame::kRemote};
}

Error Stale(const std::string& path) {
    return {
        Errno{ESTALE},
        path +
            ": the link was cut, and what is there now is not known to be the file that was open",
        Blame::kRemote};
}

Error Unknown() {
    return {
        Errno{ETIMEDOUT},
        "the link to the sandbox was cut before it answered; the change may or may not have been "
        "made: look before you repeat it",
        Blame::kRemote};
}

}  // namespace

Error LinkedFiles::NotInTime() {
    return TimedOut(false);
}

// One request of a caller, from Submit to its answer.
struct FileOperations::Operation {
    explicit Operation(Kind k) : kind(k) {}
    Operation(const Operation&) = delete;
    Operation& operator=(const Operation&) = delete;
    virtual ~Operation() = default;
    virtual void Run(LinkedFiles& files, std::uint64_t id, RemoteFiles& target) = 0;
    virtual bool CanCheck() const = 0;
    virtual void Check(LinkedFiles& files, std::uint64_t id, RemoteFiles& target) = 0;
    virtual void Fail(const Error& error) = 0;
    bool Unwanted() const { return wanted && !wanted(); }

    const Kind kind;
    std::function<bool()> wanted;  // empty: in any case
    LinkedFilePtr file;            // must be open on the present link before this is sent
    std::string moves;             // of a rename: what
    SteadyTime deadline{};
    bool patient = false;
    bool sent = false;         // on the present link
    bool may_be_made = false;  // a change that was sent and never answered
    bool doubtful = false;     // to be checked before it is sent again
    Alone alone = Alone::kNo;  // when it was sent
    bool vacates = false;      // a name, if it is made
    SteadyTime sent_at{};
};

template <class T>
struct FileOperations::TypedOperation final : Operation {
    TypedOperation(Kind k, FileOperations::Run<T> r, FileOperations::Check<T> c,
                   UniqueFunction<void(Result<T>)> d)
        : Operation(k), run(std::move(r)), check(std::move(c)), done(std::move(d)) {}

    void Run(LinkedFiles& files, std::uint64_t id, RemoteFiles& target) override {
        run(files, target,
            [weak = files.weak_from_this(), id, link = files.link_](Result<T> result) {
                const auto self = weak.lock();
                if (self == nullptr) return;
                // An answer of a link that is gone, or the news that it is: the operation has moved on.
                if (self->link_ != link || self->target_ == nullptr) return self->Lost(id);
                const std::unique_ptr<Operation> operation = self->Take(id);
                if (operation == nullptr) return;  // its caller stopped waiting
                // Of what is never answered here.
                constexpr bool kAsks =
                    std::is_same_v<T, RemoteStat> || std::is_same_v<T, OpenedFile>;
                if (kAsks && result) {
                    const Duration trip = self->loop_.clock().Steady() - operation->sent_at;
                    self->trip_ = std::min(self->trip_, trip);
                }
                static_cast<TypedOperation&>(*operation).done(std::move(result));
            });
    }
    bool CanCheck() const override { return static_cast<bool>(check); }
    void Check(LinkedFiles& files, std::uint64_t id, RemoteFiles& target) override {
        check(files, target, alone,
              [weak = files.weak_from_this(), id, link = files.link_](Verdict<T> verdict) {
                  const auto self = weak.lock();
                  if (self == nullptr) return;
                  if (self->link_ != link || self->target_ == nullptr) return self->Lost(id);
                  const auto it = self->operations_.find(id);
                  if (it == self->operations_.end()) return;
                  switch (verdict.what()) {
                      case Verdict<T>::What::kRepeat:
                          it->second->doubtful = it->second->may_be_made = false;
                          it->second->sent = false;
                          return self->Start(id);
                      case Verdict<T>::What::kFinished: {
                          const std::unique_ptr<Operation> operation = self->Take(id);
                          return static_cast<TypedOperation&>(*operation)
                              .done(std::move(verdict.result()));
                      }
                      case Verdict<T>::What::kUnknown:
                          return self->GiveUp(self->Take(id), Unknown());
                  }
              });
    }
    void Fail(const Error& error) override { done(error); }

    FileOperations::Run<T> run;
    FileOperations::Check<T> check;
    UniqueFunction<void(Result<T>)> done;
};

template <class T>
void FileOperations::Make(Kind kind, Run<T> run, Check<T> check,
                          UniqueFunction<void(Result<T>)> done, bool vacates) {
    auto operation = std::make_unique<TypedOperation<T>>(kind, std::move(run), std::move(check),
                                                         std::move(done));
    operation->vacates = vacates;
    Submit(std::move(operation));
}

LinkedFiles::LinkedFiles(Loop& loop, Timeouts timeouts) : loop_(loop), timeouts_(timeouts) {}

LinkedFiles::~LinkedFiles() = default;

void LinkedFiles::ForAsker::Submit(std::unique_ptr<Operation> operation) {
    operation->wanted = wanted_;
    files_->Submit(std::move(operation));
}

void LinkedFiles::Patient::Submit(std::unique_ptr<Operation> operation) {
    operation->patient = true;
    files_->Submit(std::move(operation));
}

void LinkedFiles::Submit(std::unique_ptr<Operation> operation) {
    if (operation->patient) {
        operation->deadline = SteadyTime::max();
    } else {
        operation->deadline =
            loop_.clock().Steady() +
            (operation->kind == Kind::kNameChange ? timeouts_.name_change : timeouts_.operation);
    }
    loop_.Post([self = shared_from_this(), operation = std::move(operation)]() mutable {
        self->Accept(std::move(operation));
    });
}

void LinkedFiles::Accept(std::unique_ptr<Operation> operation) {
    const bool patient = operation->patient;
    if (down_ && (!patient || ended_)) return operation->Fail(*down_);
    const std::uint64_t id = next_++;
    operations_.emplace(id, std::move(operation));
    if (!patient) ArmDeadline();
    if (patient && (target_ == nullptr || !recovering_.empty())) {
        recovering_.insert(id);
        return;
    }
    if (target_ != nullptr) Start(id);
}

// The next patient operation that a cut has left open, when the one before it has ended.
void LinkedFiles::Recover() {
    while (target_ != nullptr && recovers_ == 0 && !recovering_.empty()) {
        const std::uint64_t id = *recovering_.begin();
        const auto it = operations_.find(id);
        if (it == operations_.end()) {
            recovering_.erase(recovering_.begin());
            continue;
        }
        if (it->second->sent) return;  // on the link that is gone, which is about to say so
        recovers_ = id;
        Start(id);
    }
}

void LinkedFiles::Start(std::uint64_t id) {
    Operation& operation = *operations_.at(id);
    // One that may have been made is still looked after, but never sent again.
    if (operation.Unwanted() && !operation.doubtful)
        return GiveUp(Take(id), Error(Errno{EINTR}, "interrupted"));
    if (operation.file != nullptr && operation.file->link != link_) {
        if (!IsMoving(id)) return Reach(operation.file, id);
        behind_moves_.push_back(id);
        return;
    }
    operation.sent = true;
    operation.sent_at = loop_.clock().Steady();
    if (operation.vacates) ++vacated_;
    if (operation.doubtful) return operation.Check(*this, id, *target_);
    const auto witness = witness_.lock();
    // A change of a name that nobody waits for was accepted while we were alone, and no command is started before it has
    // been acknowledged. After a cut nobody can tell for a while.
    const bool accepted_alone = operation.patient && operation.kind == Kind::kNameChange;
    const bool alone = accepted_alone || (witness != nullptr && witness->IsAlone());
    sending_ = operation.alone = alone ? Alone::kYes : Alone::kNo;
    operation.Run(*this, id, *target_);
}

// Nothing is under way that may take a name away, and nobody but us is there to do so.
bool LinkedFiles::MayWiden(const LinkedFile& file) const {
    const auto witness = witness_.lock();
    if (witness == nullptr || !witness->IsAlone() || unheard_on_ == link_) return false;
    if (!file.identity || file.how.append || !recovering_.empty()) return false;
    return std::none_of(operations_.begin(), operations_.end(), [](const auto& entry) {
        return entry.second->vacates && (entry.second->sent || entry.second->may_be_made);
    });
}

// Whether nobody knows yet at which path the file of this operation is: a rename may have been made before the cut. What
// is taken up before the rename itself does not wait for it.
bool LinkedFiles::IsMoving(std::uint64_t id) const {
    const Operation& operation = *operations_.at(id);
    return std::any_of(operations_.begin(), operations_.end(), [&](const auto& entry) {
        const auto& [number, move] = entry;
        if (move->moves.empty() || !(move->may_be_made || move->sent)) return false;
        if (operation.patient && move->patient && number > id) return false;
        return IsWithin(operation.file->path, move->moves);
    });
}

void LinkedFiles::StartBehindMoves() {
    for (const std::uint64_t id : std::exchange(behind_moves_, {})) {
        if (target_ != nullptr && operations_.contains(id)) Start(id);
    }
}

// The link went away under an operation that had been sent.
void LinkedFiles::Lost(std::uint64_t id) {
    const auto it = operations_.find(id);
    if (it == operations_.end()) return;
    Operation& operation = *it->second;
    operation.sent = false;
    if (operation.kind != Kind::kQuestion) {
        operation.may_be_made = true;
        operation.doubtful = operation.CanCheck();
    }
    // What may have been made waits on: the next link tells, if it comes in time.
    const bool patient = operation.patient;
    if (down_ && (ended_ || !patient) && !operation.may_be_made) return Take(id)->Fail(*down_);
    if (!patient) {
        if (target_ != nullptr) Start(id);
        return;
    }
    recovering_.insert(id);
    if (recovers_ == id) recovers_ = 0;
    Recover();
}

// Ends an operation without an answer of the server.
void LinkedFiles::GiveUp(std::unique_ptr<Operation> operation, const Error& error) {
    const bool unknown =
        operation->kind != Kind::kQuestion && (operation->sent || operation->may_be_made);
    if (unknown) unheard_on_ = link_;
    if (const auto witness = witness_.lock(); unknown && witness != nullptr) {
        witness->OnUnknownOutcome();
    }
    operation->Fail(error);
}

// Its file cannot be told from another any more.
void LinkedFiles::FailStale(std::uint64_t id) {
    std::unique_ptr<Operation> operation = Take(id);
    const Error error = operation->may_be_made ? Unknown() : Stale(operation->file->path);
    GiveUp(std::move(operation), error);
}

std::unique_ptr<LinkedFiles::Operation> LinkedFiles::Take(std::uint64_t id) {
    const auto it = operations_.find(id);
    if (it == operations_.end()) return nullptr;
    std::unique_ptr<Operation> operation = std::move(it->second);
    operations_.erase(it);
    if (!operation->moves.empty() && !behind_moves_.empty()) {
        loop_.Post([weak = weak_from_this()] {
            if (const auto self = weak.lock()) self->StartBehindMoves();
        });
    }
    if (operation->patient && recovering_.erase(id) > 0) {
        if (recovers_ == id) recovers_ = 0;
        loop_.Post([weak = weak_from_this()] {
            if (const auto self = weak.lock()) self->Recover();
        });
    }
    return operation;
}

void LinkedFiles::Up(RemoteFiles& target) {
    DCHECK(loop_.OnThread());
    target_ = &target;
    ++link_;
    trip_ = Duration::max();
    down_.reset();
    std::vector<std::uint64_t> waiting;
    for (const auto& [id, operation] : operations_) {
        if (!operation->sent && !operation->patient) waiting.push_back(id);
    }
    for (const std::uint64_t id : waiting) {
        if (operations_.contains(id)) Start(id);
    }
    Recover();
}

void LinkedFiles::Cut() {
    DCHECK(loop_.OnThread());
    if (target_ == nullptr) return;
    target_ = nullptr;
    SetLane(nullptr);
    recovers_ = 0;
    behind_moves_.clear();
    for (const auto& [id, operation] : operations_) {
        if (operation->patient) recovering_.insert(id);
    }
    // Those that were sent hear of it from their session's end, each once: see Lost(). Those whose file
    // was being opened again hear of it here.
    DropReopens();
}

void LinkedFiles::Down(const Error& why) {
    Cut();
    down_ = why;
    FailWaiting(why);
}

void LinkedFiles::End(const Error& why) {
    ended_ = true;
    Down(why);
    recovering_.clear();
    std::vector<std::unique_ptr<Operation>> left;
    for (auto it = operations_.begin(); it != operations_.end();) {
        if (!it->second->may_be_made && !(it->second->patient && !it->second->sent)) {
            ++it;
            continue;
        }
        left.push_back(std::move(it->second));
        it = operations_.erase(it);
    }
    for (const auto& operation : left)
        operation->Fail(operation->may_be_made ? Unknown() : why);
}

void LinkedFiles::Reopen() {
    DCHECK(loop_.OnThread());
    ended_ = false;
    down_.reset();
}

void LinkedFiles::FailWaiting(const Error& why) {
    std::vector<std::unique_ptr<Operation>> failed;
    for (auto it = operations_.begin(); it != operations_.end();) {
        if (it->second->sent || it->second->may_be_made || it->second->patient) {
            ++it;
            continue;
        }
        failed.push_back(std::move(it->second));
        it = operations_.erase(it);
    }
    for (const auto& operation : failed)
        operation->Fail(why);
}

void LinkedFiles::ArmDeadline() {
    if (std::exchange(deadline_armed_, true)) return;
    RunLater(loop_, kTick, [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->CheckDeadlines();
    });
}

void LinkedFiles::CheckDeadlines() {
    deadline_armed_ = false;
    const SteadyTime now = loop_.clock().Steady();
    std::vector<std::unique_ptr<Operation>> late;
    for (auto it = operations_.begin(); it != operations_.end();) {
        if (it->second->deadline > now) {
            ++it;
            continue;
        }
        late.push_back(std::move(it->second));
        it = operations_.erase(it);
    }
    for (auto& operation : late) {
        const bool change = operation->kind != Kind::kQuestion;
        const Error error = TimedOut(change && (operation->sent || operation->may_be_made));
        GiveUp(std::move(operation), error);
    }
    StartBehindMoves();
    const bool more = std::any_of(operations_.begin(), operations_.end(),
                                  [](const auto& entry) { return !entry.second->patient; });
    if (more) ArmDeadline();
}

// Truncates again only where nobody else can have written meanwhile.
template <class T>
FileOperations::Check<T> FileOperations::IfAlone() {
    return [](LinkedFiles&, RemoteFiles&, Alone alone, VerdictDone<T> done) {
        done(alone == Alone::kYes ? Verdict<T>::Repeat() : Verdict<T>::Unknown());
    };
}

// --- the operations

void FileOperations::Lstat(const std::string& path, StatDone done) {
    Make<RemoteStat>(
        Kind::kQuestion,
        [path](LinkedFiles&, RemoteFiles& to, StatDone d) { to.Lstat(path, std::move(d)); }, {},
        std::move(done));
}

void FileOperations::List(const std::string& path, EntriesDone done) {
    Make<std::vector<RemoteEntry>>(
        Kind::kQuestion,
        [path](LinkedFiles&, RemoteFiles& to, EntriesDone d) { to.List(path, std::move(d)); }, {},
        std::move(done));
}

void FileOperations::ReadLink(const std::string& path, TextDone done) {
    Make<std::string>(
        Kind::kQuestion,
        [path](LinkedFiles&, RemoteFiles& to, TextDone d) { to.ReadLink(path, std::move(d)); }, {},
        std::move(done));
}

void FileOperations::Statfs(const std::string& path, StatfsDone done) {
    Make<RemoteStatfs>(
        Kind::kQuestion,
        [path](LinkedFiles&, RemoteFiles& to, StatfsDone d) { to.Statfs(path, std::move(d)); }, {},
        std::move(done));
}

void FileOperations::SetStat(const std::string& path, const StatChange& change, StatDone done) {
    Make<RemoteStat>(
        Kind::kChange,
        [path, change](LinkedFiles&, RemoteFiles& to, StatDone d) {
            to.SetStat(path, change, std::move(d));
        },
        change.size ? IfAlone<RemoteStat>() : Check<RemoteStat>{}, std::move(done));
}

void FileOperations::MakeDir(const std::string& path, std::uint32_t mode, StatDone done) {
    Make<RemoteStat>(
        Kind::kNameChange,
        [path, mode](LinkedFiles&, RemoteFiles& to, StatDone d) {
            to.MakeDir(path, mode, std::move(d));
        },
        [path](LinkedFiles&, RemoteFiles& to, Alone, VerdictDone<RemoteStat> d) {
            CheckMakeDir(to, path, std::move(d));
        },
        std::move(done));
}

void FileOperations::RemoveDir(const std::string& path, Done done) {
    Make<Unit>(
        Kind::kNameChange,
        [path](LinkedFiles&, RemoteFiles& to, Done d) { to.RemoveDir(path, std::move(d)); },
        [path](LinkedFiles&, RemoteFiles& to, Alone alone, VerdictDone<Unit> d) {
            CheckRemoval(to, path, alone, std::move(d));
        },
        std::move(done), true);
}

void FileOperations::Unlink(const std::string& path, Done done) {
    Make<Unit>(
        Kind::kNameChange,
        [path](LinkedFiles&, RemoteFiles& to, Done d) { to.Unlink(path, std::move(d)); },
        [path](LinkedFiles&, RemoteFiles& to, Alone alone, VerdictDone<Unit> d) {
            CheckRemoval(to, path, alone, std::move(d));
        },
        std::move(done), true);
}

void FileOperations::Symlink(const std::string& target, const std::string& path, StatDone done) {
    Make<RemoteStat>(
        Kind::kNameChange,
        [target, path](LinkedFiles&, RemoteFiles& to, StatDone d) {
            to.Symlink(target, path, std::move(d));
        },
        [target, path](LinkedFiles&, RemoteFiles& to, Alone, VerdictDone<RemoteStat> d) {
            CheckSymlink(to, target, path, std::move(d));
        },
        std::move(done));
}

void FileOperations::Link(const std::string& from, const std::string& to_path, StatDone done) {
    Make<RemoteStat>(
        Kind::kNameChange,
        [from, to_path](LinkedFiles&, RemoteFiles& to, StatDone d) {
            to.Link(from, to_path, std::move(d));
        },
        [from, to_path](LinkedFiles&, RemoteFiles& to, Alone, VerdictDone<RemoteStat> d) {
            CheckLink(to, from, to_path, std::move(d));
        },
        std::move(done));
}

void FileOperations::RenameFile(const std::string& from, const std::string& to_path,
                                Replace replace, std::uint64_t size, Done done) {
    // What is moved is looked at in the same flight: after a cut it tells whether it has arrived.
    const auto moved = std::make_shared<std::optional<RemoteStat>>();
    auto operation = std::make_unique<TypedOperation<Unit>>(
        Kind::kNameChange,
        [from, to_path, replace, moved](LinkedFiles& files, RemoteFiles& to, Done d) {
            to.Lstat(from, [moved](const Result<RemoteStat>& stat) {
                if (stat) *moved = *stat;
            });
            to.Rename(
                from, to_path, replace,
                [weak = files.weak_from_this(), from, to_path, d = std::move(d)](Status status) {
                    if (const auto self = weak.lock(); self && status) self->Moved(from, to_path);
                    d(std::move(status));
                });
        },
        [from, to_path, replace, size, moved](LinkedFiles& files, RemoteFiles& to, Alone alone,
                                              VerdictDone<Unit> d) {
            CheckRename(to, from, to_path, replace, {*moved, size}, alone,
                        [weak = files.weak_from_this(), from, to_path,
                         d = std::move(d)](Verdict<Unit> verdict) {
                            const auto self = weak.lock();
                            if (self && verdict.what() == Verdict<Unit>::What::kFinished)
                                self->Moved(from, to_path);
                            d(std::move(verdict));
                        });
        },
        std::move(done));
    operation->moves = from;
    operation->vacates = true;
    Submit(std::move(operation));
}

void FileOperations::Open(const std::string& path, const OpenHow& how, OpenDone done) {
    const Kind kind = how.create     ? Kind::kNameChange
                      : how.truncate ? Kind::kChange
                                     : Kind::kQuestion;
    Check<OpenedFile> check;
    if (how.create && how.exclusive) {
        check = [path, how](LinkedFiles& files, RemoteFiles& to, Alone alone,
                            VerdictDone<OpenedFile> d) {
            CheckExclusive(to, path, how, alone,
                           [weak = files.weak_from_this(), path, how, alone,
                            d = std::move(d)](Verdict<OpenedFile> verdict) {
                               const auto self = weak.lock();
                               if (self && verdict.what() == Verdict<OpenedFile>::What::kFinished &&
                                   verdict.result()) {
                                   OpenedFile& opened = *verdict.result();
                                   opened.file = self->Adopt(path, how, opened, alone);
                               }
                               d(std::move(verdict));
                           });
        };
    } else if (how.truncate) {
        check = IfAlone<OpenedFile>();
    }
    Make<OpenedFile>(
        kind,
        [path, how](LinkedFiles& files, RemoteFiles& to, OpenDone d) {
            to.Open(path, how,
                    [weak = files.weak_from_this(), path, how, alone = files.sending_,
                     d = std::move(d)](Result<OpenedFile> opened) {
                        if (const auto self = weak.lock(); self && opened)
                            opened->file = self->Adopt(path, how, *opened, alone);
                        d(std::move(opened));
                    });
        },
        std::move(check), std::move(done));
}

template <class T>
void FileOperations::MakeOn(const RemoteFilePtr& file, Kind kind, OnFile<T> run, Check<T> check,
                            UniqueFunction<void(Result<T>)> done) {
    MakeOnLinked<T>(
        file, kind,
        [run = std::move(run)](LinkedFiles&, RemoteFiles& to, const LinkedFilePtr& linked,
                               UniqueFunction<void(Result<T>)> d) {
            run(to, linked->inner, std::move(d));
        },
        std::move(check), std::move(done));
}

template <class T>
void FileOperations::MakeOnLinked(const RemoteFilePtr& file, Kind kind, OnLinked<T> run,
                                  Check<T> check, UniqueFunction<void(Result<T>)> done) {
    auto linked = std::dynamic_pointer_cast<LinkedFile>(file);
    CHECK(linked != nullptr);  // of other files: a bug of the layer above
    auto operation = std::make_unique<TypedOperation<T>>(
        kind,
        [linked, run = std::move(run)](LinkedFiles& files, RemoteFiles& to,
                                       UniqueFunction<void(Result<T>)> d) {
            run(files, to, linked, std::move(d));
        },
        std::move(check), std::move(done));
    operation->file = std::move(linked);
    Submit(std::move(operation));
}

void FileOperations::Read(const RemoteFilePtr& file, FileRange range, BytesDone done) {
    MakeOn<std::string>(
        file, Kind::kQuestion,
        [range](RemoteFiles& to, const RemoteFilePtr& inner, BytesDone d) {
            to.Read(inner, range, std::move(d));
        },
        {}, std::move(done));
}

void FileOperations::Write(const RemoteFilePtr& file, std::uint64_t offset, FileBytes bytes,
                           Done done) {
    if (static_cast<const LinkedFile&>(*file).how.append)
        return Append(file, std::move(bytes), std::nullopt, std::move(done));
    // Kept until it is answered: a cut may want it sent again.
    const FileBytes kept = std::move(bytes);
    MakeOn<Unit>(
        file, Kind::kChange,
        [file, offset, kept](RemoteFiles& to, const RemoteFilePtr& inner, Done d) {
            auto& linked = static_cast<LinkedFile&>(*file);
            linked.most = std::max(linked.most, offset + kept.size());
            to.Write(inner, offset, kept, std::move(d));
        },
        {}, std::move(done));
}

void LinkedFiles::Patient::Write(const RemoteFilePtr& file, std::uint64_t offset, FileBytes bytes,
                                 Done done) {
    if (static_cast<const LinkedFile&>(*file).how.append)
        return Append(file, std::move(bytes), offset, std::move(done));
    FileOperations::Write(file, offset, std::move(bytes), std::move(done));
}

void LinkedFiles::Patient::WriteAside(const RemoteFilePtr& file, std::uint64_t offset,
                                      FileBytes bytes, Done done) {
    CHECK(!static_cast<const LinkedFile&>(*file).how.append);
    const FileBytes kept = std::move(bytes);
    MakeOnLinked<Unit>(
        file, Kind::kChange,
        [offset, kept](LinkedFiles& files, RemoteFiles&, const LinkedFilePtr& linked, Done d) {
            files.WriteAside(linked, offset, kept, std::move(d));
        },
        {}, std::move(done));
}

void FileOperations::Append(const RemoteFilePtr& file, FileBytes bytes,
                            std::optional<std::uint64_t> size, Done done) {
    const FileBytes kept = std::move(bytes);
    const auto before = std::make_shared<std::optional<std::uint64_t>>(size);
    // The size in the same flight: after a cut it tells whether this has been appended.
    MakeOn<Unit>(
        file, Kind::kChange,
        [file, kept, before, size](RemoteFiles& to, const RemoteFilePtr& inner, Done d) {
            static_cast<LinkedFile&>(*file).most += kept.size();
            if (!size) {
                before->reset();
                to.FileStat(inner, [before](const Result<RemoteStat>& stat) {
                    if (stat) *before = stat->size;
                });
            }
            to.Write(inner, 0, kept, std::move(d));
        },
        [file, kept, before, size](LinkedFiles&, RemoteFiles& to, Alone alone,
                                   VerdictDone<Unit> d) {
            CheckAppend(to, static_cast<const LinkedFile&>(*file).inner,
                        {*before, kept.size(), size.has_value()}, alone, std::move(d));
        },
        std::move(done));
}

void FileOperations::FileStat(const RemoteFilePtr& file, StatDone done) {
    MakeOn<RemoteStat>(
        file, Kind::kQuestion,
        [](RemoteFiles& to, const RemoteFilePtr& inner, StatDone d) {
            to.FileStat(inner, std::move(d));
        },
        {}, std::move(done));
}

void FileOperations::SetFileStat(const RemoteFilePtr& file, const StatChange& change,
                                 StatDone done) {
    MakeOn<RemoteStat>(
        file, Kind::kChange,
        [change](RemoteFiles& to, const RemoteFilePtr& inner, StatDone d) {
            to.SetFileStat(inner, change, std::move(d));
        },
        change.size ? IfAlone<RemoteStat>() : Check<RemoteStat>{}, std::move(done));
}

void FileOperations::Sync(const RemoteFilePtr& file, Done done) {
    MakeOnLinked<Unit>(
        file, Kind::kQuestion,
        [](LinkedFiles& files, RemoteFiles&, const LinkedFilePtr& linked, Done d) {
            files.SyncBoth(linked, std::move(d));
        },
        {}, std::move(done));
}

void FileOperations::Copy(const RemoteFilePtr& from, FileRange range, const RemoteFilePtr& to_file,
                          std::uint64_t offset, CopiedDone done) {
    auto source = std::dynamic_pointer_cast<LinkedFile>(from);
    auto target = std::dynamic_pointer_cast<LinkedFile>(to_file);
    CHECK(source != nullptr && target != nullptr);
    MakeOn<std::uint64_t>(
        to_file, Kind::kChange,
        [source, target, range, offset](RemoteFiles& to, const RemoteFilePtr& inner, CopiedDone d) {
            // Whoever reads it instead has it opened again on this link.
            if (source->link != target->link)
                return d(Error(Errno{EOPNOTSUPP}, source->path + ": not open on this link"));
            to.Copy(source->inner, range, inner, offset, std::move(d));
        },
        {}, std::move(done));
}

void FileOperations::Close(const RemoteFilePtr& file, Done done) {
    Make<Unit>(
        Kind::kQuestion,
        [file](LinkedFiles& files, RemoteFiles&, Done d) {
            auto linked = std::static_pointer_cast<LinkedFile>(file);
            // The handle of a link that is gone was closed with it.
            if (linked->link != files.link_) return d(Ok());
            files.CloseBoth(linked, std::move(d));
        },
        {}, std::move(done));
}

void FileOperations::LetGo(const RemoteFilePtr& file, Done done) {
    Make<Unit>(
        Kind::kQuestion,
        [file](LinkedFiles& files, RemoteFiles&, Done d) {
            auto linked = std::static_pointer_cast<LinkedFile>(file);
            if (linked->link != files.link_) return d(Ok());
            files.CloseBoth(linked, std::move(d));
            linked->link = 0;
        },
        {}, std::move(done));
}

}  // namespace sbxfs
