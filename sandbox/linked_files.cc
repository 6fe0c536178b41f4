#include "sandbox/linked_files.h"

#include <errno.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/check.h"

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

}  // namespace

// One request of a caller, from Submit to its answer.
struct LinkedFiles::Operation {
    Operation(Kind k, SteadyTime d) : kind(k), deadline(d) {}
    Operation(const Operation&) = delete;
    Operation& operator=(const Operation&) = delete;
    virtual ~Operation() = default;
    virtual void Run(LinkedFiles& files, std::uint64_t id, RemoteFiles& target) = 0;
    virtual void Fail(const Error& error) = 0;

    const Kind kind;
    const SteadyTime deadline;
    bool sent = false;
};

template <class T>
struct LinkedFiles::TypedOperation final : Operation {
    TypedOperation(Kind k, SteadyTime limit, LinkedFiles::Run<T> r,
                   UniqueFunction<void(Result<T>)> d)
        : Operation(k, limit), run(std::move(r)), done(std::move(d)) {}

    void Run(LinkedFiles& files, std::uint64_t id, RemoteFiles& target) override {
        run(target, [weak = files.weak_from_this(), id, link = files.link_](Result<T> result) {
            const auto self = weak.lock();
            if (self == nullptr) return;
            // An answer of a link that is gone, or the news that it is: the operation has moved on.
            if (self->link_ != link || self->target_ == nullptr) return self->Lost(id);
            const std::unique_ptr<Operation> operation = self->Take(id);
            if (operation == nullptr) return;  // its caller stopped waiting
            static_cast<TypedOperation&>(*operation).done(std::move(result));
        });
    }
    void Fail(const Error& error) override { done(error); }

    LinkedFiles::Run<T> run;
    UniqueFunction<void(Result<T>)> done;
};

LinkedFiles::LinkedFiles(Loop& loop, Timeouts timeouts) : loop_(loop), timeouts_(timeouts) {}

LinkedFiles::~LinkedFiles() = default;

template <class T>
void LinkedFiles::Submit(Kind kind, Run<T> run, UniqueFunction<void(Result<T>)> done) {
    const Duration limit = kind == Kind::kNameChange ? timeouts_.name_change : timeouts_.operation;
    auto operation = std::make_unique<TypedOperation<T>>(kind, loop_.clock().Steady() + limit,
                                                         std::move(run), std::move(done));
    loop_.Post([self = shared_from_this(), operation = std::move(operation)]() mutable {
        self->Accept(std::move(operation));
    });
}

void LinkedFiles::Accept(std::unique_ptr<Operation> operation) {
    if (down_) return operation->Fail(*down_);
    const std::uint64_t id = next_++;
    operations_.emplace(id, std::move(operation));
    ArmDeadline();
    if (target_ != nullptr) Start(id);
}

void LinkedFiles::Start(std::uint64_t id) {
    Operation& operation = *operations_.at(id);
    operation.sent = true;
    operation.Run(*this, id, *target_);
}

// The link went away under an operation that had been sent.
void LinkedFiles::Lost(std::uint64_t id) {
    const auto it = operations_.find(id);
    if (it == operations_.end()) return;
    if (it->second->kind == Kind::kQuestion) {
        it->second->sent = false;
        if (down_) return Take(id)->Fail(*down_);
        if (target_ != nullptr) Start(id);
        return;
    }
    Take(id)->Fail(
        Error(Errno{ETIMEDOUT},
              "the link to the sandbox was cut before it answered; the change may or may not have "
              "been made: look before you repeat it",
              Blame::kRemote));
}

std::unique_ptr<LinkedFiles::Operation> LinkedFiles::Take(std::uint64_t id) {
    const auto it = operations_.find(id);
    if (it == operations_.end()) return nullptr;
    std::unique_ptr<Operation> operation = std::move(it->second);
    operations_.erase(it);
    return operation;
}

void LinkedFiles::Up(RemoteFiles& target) {
    DCHECK(loop_.OnThread());
    target_ = &target;
    ++link_;
    down_.reset();
    std::vector<std::uint64_t> waiting;
    for (const auto& [id, operation] : operations_) {
        if (!operation->sent) waiting.push_back(id);
    }
    for (const std::uint64_t id : waiting) {
        if (operations_.contains(id)) Start(id);
    }
}

void LinkedFiles::Cut() {
    DCHECK(loop_.OnThread());
    if (target_ == nullptr) return;
    target_ = nullptr;
    // Those that were sent hear of it from their session's end, each once: see Lost().
}

void LinkedFiles::Down(const Error& why) {
    Cut();
    down_ = why;
    FailWaiting(why);
}

void LinkedFiles::End(const Error& why) {
    Down(why);
}

void LinkedFiles::FailWaiting(const Error& why) {
    std::vector<std::unique_ptr<Operation>> failed;
    for (auto it = operations_.begin(); it != operations_.end();) {
        if (it->second->sent) {
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
    for (const auto& operation : late) {
        operation->Fail(TimedOut(operation->sent && operation->kind != Kind::kQuestion));
    }
    if (!operations_.empty()) ArmDeadline();
}

void LinkedFiles::Lstat(const std::string& path, StatDone done) {
    Submit<RemoteStat>(
        Kind::kQuestion, [path](RemoteFiles& to, StatDone d) { to.Lstat(path, std::move(d)); },
        std::move(done));
}

void LinkedFiles::List(const std::string& path, EntriesDone done) {
    Submit<std::vector<RemoteEntry>>(
        Kind::kQuestion, [path](RemoteFiles& to, EntriesDone d) { to.List(path, std::move(d)); },
        std::move(done));
}

void LinkedFiles::ReadLink(const std::string& path, TextDone done) {
    Submit<std::string>(
        Kind::kQuestion, [path](RemoteFiles& to, TextDone d) { to.ReadLink(path, std::move(d)); },
        std::move(done));
}

void LinkedFiles::SetStat(const std::string& path, const StatChange& change, StatDone done) {
    Submit<RemoteStat>(
        Kind::kChange,
        [path, change](RemoteFiles& to, StatDone d) { to.SetStat(path, change, std::move(d)); },
        std::move(done));
}

void LinkedFiles::MakeDir(const std::string& path, std::uint32_t mode, StatDone done) {
    Submit<RemoteStat>(
        Kind::kNameChange,
        [path, mode](RemoteFiles& to, StatDone d) { to.MakeDir(path, mode, std::move(d)); },
        std::move(done));
}

void LinkedFiles::RemoveDir(const std::string& path, Done done) {
    Submit<Unit>(
        Kind::kNameChange, [path](RemoteFiles& to, Done d) { to.RemoveDir(path, std::move(d)); },
        std::move(done));
}

void LinkedFiles::Unlink(const std::string& path, Done done) {
    Submit<Unit>(
        Kind::kNameChange, [path](RemoteFiles& to, Done d) { to.Unlink(path, std::move(d)); },
        std::move(done));
}

void LinkedFiles::Symlink(const std::string& target, const std::string& path, StatDone done) {
    Submit<RemoteStat>(
        Kind::kNameChange,
        [target, path](RemoteFiles& to, StatDone d) { to.Symlink(target, path, std::move(d)); },
        std::move(done));
}

void LinkedFiles::Link(const std::string& from, const std::string& to_path, StatDone done) {
    Submit<RemoteStat>(
        Kind::kNameChange,
        [from, to_path](RemoteFiles& to, StatDone d) { to.Link(from, to_path, std::move(d)); },
        std::move(done));
}

void LinkedFiles::Rename(const std::string& from, const std::string& to_path, Replace replace,
                         Done done) {
    Submit<Unit>(
        Kind::kNameChange,
        [from, to_path, replace](RemoteFiles& to, Done d) {
            to.Rename(from, to_path, replace, std::move(d));
        },
        std::move(done));
}

void LinkedFiles::Statfs(const std::string& path, StatfsDone done) {
    Submit<RemoteStatfs>(
        Kind::kQuestion, [path](RemoteFiles& to, StatfsDone d) { to.Statfs(path, std::move(d)); },
        std::move(done));
}

void LinkedFiles::Open(const std::string& path, const OpenHow& how, OpenDone done) {
    const Kind kind = how.create     ? Kind::kNameChange
                      : how.truncate ? Kind::kChange
                                     : Kind::kQuestion;
    Submit<OpenedFile>(
        kind, [path, how](RemoteFiles& to, OpenDone d) { to.Open(path, how, std::move(d)); },
        std::move(done));
}

void LinkedFiles::Read(const RemoteFilePtr& file, FileRange range, BytesDone done) {
    Submit<std::string>(
        Kind::kQuestion,
        [file, range](RemoteFiles& to, BytesDone d) { to.Read(file, range, std::move(d)); },
        std::move(done));
}

void LinkedFiles::Write(const RemoteFilePtr& file, std::uint64_t offset, std::string bytes,
                        Done done) {
    Submit<Unit>(
        Kind::kChange,
        [file, offset, bytes = std::move(bytes)](RemoteFiles& to, Done d) mutable {
            to.Write(file, offset, std::move(bytes), std::move(d));
        },
        std::move(done));
}

void LinkedFiles::FileStat(const RemoteFilePtr& file, StatDone done) {
    Submit<RemoteStat>(
        Kind::kQuestion, [file](RemoteFiles& to, StatDone d) { to.FileStat(file, std::move(d)); },
        std::move(done));
}

void LinkedFiles::SetFileStat(const RemoteFilePtr& file, const StatChange& change, StatDone done) {
    Submit<RemoteStat>(
        Kind::kChange,
        [file, change](RemoteFiles& to, StatDone d) { to.SetFileStat(file, change, std::move(d)); },
        std::move(done));
}

void LinkedFiles::Sync(const RemoteFilePtr& file, Done done) {
    Submit<Unit>(
        Kind::kQuestion, [file](RemoteFiles& to, Done d) { to.Sync(file, std::move(d)); },
        std::move(done));
}

void LinkedFiles::Close(const RemoteFilePtr& file, Done done) {
    Submit<Unit>(
        Kind::kChange, [file](RemoteFiles& to, Done d) { to.Close(file, std::move(d)); },
        std::move(done));
}

}  // namespace sbxfs
