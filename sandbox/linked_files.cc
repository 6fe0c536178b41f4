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
struct FileOperations::Operation {
    explicit Operation(Kind k) : kind(k) {}
    Operation(const Operation&) = delete;
    Operation& operator=(const Operation&) = delete;
    virtual ~Operation() = default;
    virtual void Run(LinkedFiles& files, std::uint64_t id, RemoteFiles& target) = 0;
    virtual void Fail(const Error& error) = 0;

    const Kind kind;
    std::function<bool()> wanted;  // empty: in any case
    SteadyTime deadline{};
    bool sent = false;
};

template <class T>
struct FileOperations::TypedOperation final : Operation {
    TypedOperation(Kind k, FileOperations::Run<T> r, UniqueFunction<void(Result<T>)> d)
        : Operation(k), run(std::move(r)), done(std::move(d)) {}

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

    FileOperations::Run<T> run;
    UniqueFunction<void(Result<T>)> done;
};

template <class T>
void FileOperations::Make(Kind kind, Run<T> run, UniqueFunction<void(Result<T>)> done) {
    Submit(std::make_unique<TypedOperation<T>>(kind, std::move(run), std::move(done)));
}

LinkedFiles::LinkedFiles(Loop& loop, Timeouts timeouts) : loop_(loop), timeouts_(timeouts) {}

LinkedFiles::~LinkedFiles() = default;

LinkedFiles::ForAsker LinkedFiles::For(std::function<bool()> wanted) {
    return {shared_from_this(), std::move(wanted)};
}

void LinkedFiles::ForAsker::Submit(std::unique_ptr<Operation> operation) {
    operation->wanted = wanted_;
    files_->Submit(std::move(operation));
}

void LinkedFiles::Submit(std::unique_ptr<Operation> operation) {
    operation->deadline =
        loop_.clock().Steady() +
        (operation->kind == Kind::kNameChange ? timeouts_.name_change : timeouts_.operation);
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
    if (operation.wanted && !operation.wanted()) {
        return Take(id)->Fail(Error(Errno{EINTR}, "interrupted"));
    }
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

void FileOperations::Lstat(const std::string& path, StatDone done) {
    Make<RemoteStat>(
        Kind::kQuestion, [path](RemoteFiles& to, StatDone d) { to.Lstat(path, std::move(d)); },
        std::move(done));
}

void FileOperations::List(const std::string& path, EntriesDone done) {
    Make<std::vector<RemoteEntry>>(
        Kind::kQuestion, [path](RemoteFiles& to, EntriesDone d) { to.List(path, std::move(d)); },
        std::move(done));
}

void FileOperations::ReadLink(const std::string& path, TextDone done) {
    Make<std::string>(
        Kind::kQuestion, [path](RemoteFiles& to, TextDone d) { to.ReadLink(path, std::move(d)); },
        std::move(done));
}

void FileOperations::SetStat(const std::string& path, const StatChange& change, StatDone done) {
    Make<RemoteStat>(
        Kind::kChange,
        [path, change](RemoteFiles& to, StatDone d) { to.SetStat(path, change, std::move(d)); },
        std::move(done));
}

void FileOperations::MakeDir(const std::string& path, std::uint32_t mode, StatDone done) {
    Make<RemoteStat>(
        Kind::kNameChange,
        [path, mode](RemoteFiles& to, StatDone d) { to.MakeDir(path, mode, std::move(d)); },
        std::move(done));
}

void FileOperations::RemoveDir(const std::string& path, Done done) {
    Make<Unit>(
        Kind::kNameChange, [path](RemoteFiles& to, Done d) { to.RemoveDir(path, std::move(d)); },
        std::move(done));
}

void FileOperations::Unlink(const std::string& path, Done done) {
    Make<Unit>(
        Kind::kNameChange, [path](RemoteFiles& to, Done d) { to.Unlink(path, std::move(d)); },
        std::move(done));
}

void FileOperations::Symlink(const std::string& target, const std::string& path, StatDone done) {
    Make<RemoteStat>(
        Kind::kNameChange,
        [target, path](RemoteFiles& to, StatDone d) { to.Symlink(target, path, std::move(d)); },
        std::move(done));
}

void FileOperations::Link(const std::string& from, const std::string& to_path, StatDone done) {
    Make<RemoteStat>(
        Kind::kNameChange,
        [from, to_path](RemoteFiles& to, StatDone d) { to.Link(from, to_path, std::move(d)); },
        std::move(done));
}

void FileOperations::Rename(const std::string& from, const std::string& to_path, Replace replace,
                            Done done) {
    Make<Unit>(
        Kind::kNameChange,
        [from, to_path, replace](RemoteFiles& to, Done d) {
            to.Rename(from, to_path, replace, std::move(d));
        },
        std::move(done));
}

void FileOperations::Statfs(const std::string& path, StatfsDone done) {
    Make<RemoteStatfs>(
        Kind::kQuestion, [path](RemoteFiles& to, StatfsDone d) { to.Statfs(path, std::move(d)); },
        std::move(done));
}

void FileOperations::Open(const std::string& path, const OpenHow& how, OpenDone done) {
    const Kind kind = how.create     ? Kind::kNameChange
                      : how.truncate ? Kind::kChange
                                     : Kind::kQuestion;
    Make<OpenedFile>(
        kind, [path, how](RemoteFiles& to, OpenDone d) { to.Open(path, how, std::move(d)); },
        std::move(done));
}

void FileOperations::Read(const RemoteFilePtr& file, FileRange range, BytesDone done) {
    Make<std::string>(
        Kind::kQuestion,
        [file, range](RemoteFiles& to, BytesDone d) { to.Read(file, range, std::move(d)); },
        std::move(done));
}

void FileOperations::Write(const RemoteFilePtr& file, std::uint64_t offset, std::string bytes,
                           Done done) {
    Make<Unit>(
        Kind::kChange,
        [file, offset, bytes = std::move(bytes)](RemoteFiles& to, Done d) mutable {
            to.Write(file, offset, std::move(bytes), std::move(d));
        },
        std::move(done));
}

void FileOperations::FileStat(const RemoteFilePtr& file, StatDone done) {
    Make<RemoteStat>(
        Kind::kQuestion, [file](RemoteFiles& to, StatDone d) { to.FileStat(file, std::move(d)); },
        std::move(done));
}

void FileOperations::SetFileStat(const RemoteFilePtr& file, const StatChange& change,
                                 StatDone done) {
    Make<RemoteStat>(
        Kind::kChange,
        [file, change](RemoteFiles& to, StatDone d) { to.SetFileStat(file, change, std::move(d)); },
        std::move(done));
}

void FileOperations::Sync(const RemoteFilePtr& file, Done done) {
    Make<Unit>(
        Kind::kQuestion, [file](RemoteFiles& to, Done d) { to.Sync(file, std::move(d)); },
        std::move(done));
}

void FileOperations::Close(const RemoteFilePtr& file, Done done) {
    Make<Unit>(
        Kind::kChange, [file](RemoteFiles& to, Done d) { to.Close(file, std::move(d)); },
        std::move(done));
}

}  // namespace sbxfs
