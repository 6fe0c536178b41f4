#include "tests/fakes/fake_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "base/check.h"
#include "sandbox/sftp_diagnosis.h"  // ParentPath

namespace sbxfs::testing {

class FakeFiles::File final : public RemoteFile {
 public:
    File(FakeTree::NodePtr n, std::string p, const OpenHow& h, std::uint64_t l,
         std::shared_ptr<std::atomic<std::size_t>> open_files)
        : node(std::move(n)),
          path(std::move(p)),
          how(h),
          link(l),
          open_files_(std::move(open_files)) {
        ++*open_files_;
    }
    ~File() override { Close(); }
    void Close() {
        if (!std::exchange(closed, true)) --*open_files_;
    }

    const FakeTree::NodePtr node;
    const std::string path;
    const OpenHow how;
    const std::uint64_t link;
    bool closed = false;

 private:
    const std::shared_ptr<std::atomic<std::size_t>> open_files_;
};

FakeFiles::FakeFiles(Loop& loop, Answers answers)
    : loop_(loop),
      open_files_(std::make_shared<std::atomic<std::size_t>>(0)),
      answered_trip_(std::make_shared<std::atomic<std::uint64_t>>(0)),
      tree_(loop.clock()),
      answers_(answers) {}

FakeFiles::~FakeFiles() {
    Cut(Error(Errno{EHOSTUNREACH}, "the fake is gone", Blame::kRemote));
}

// --- Operations on their way

template <class T, class Act>
void FakeFiles::Take(std::string what, Act act, UniqueFunction<void(Result<T>)> done) {
    DCHECK(loop_.OnThread());
    Arrive(std::move(what), std::nullopt,
           [act = std::move(act), done = std::move(done)](
               FakeTree& tree, Fate fate, const std::optional<Error>& error) mutable -> Job {
               Result<T> result = fate == Fate::kFails ? Result<T>(*error) : act(tree);
               if (fate == Fate::kUnheard) result = *error;
               return [done = std::move(done), result = std::move(result)]() mutable {
                   done(std::move(result));
               };
           });
}

template <class T, class Act>
void FakeFiles::TakeFile(std::string_view verb, const RemoteFilePtr& file,
                         const std::string& detail, Act act, UniqueFunction<void(Result<T>)> done) {
    DCHECK(loop_.OnThread());
    auto ours = std::dynamic_pointer_cast<File>(file);
    CHECK(ours != nullptr);
    std::optional<Error> refused;
    {
        const MutexLock lock(mu_);
        if (ours->link != link_) refused = Error(Errno{ESTALE}, ours->path + ": stale");
    }
    if (!refused && ours->closed)
        refused = Error(Errno{EBADF}, ours->path + ": closed", Blame::kBug);
    std::string what = std::string(verb) + " " + ours->path + detail;
    Arrive(std::move(what), std::move(refused),
           [ours = std::move(ours), act = std::move(act), done = std::move(done)](
               FakeTree& tree, Fate fate, const std::optional<Error>& error) mutable -> Job {
               Result<T> result = fate == Fate::kFails ? Result<T>(*error) : act(tree, *ours);
               if (fate == Fate::kUnheard) result = *error;
               return [done = std::move(done), result = std::move(result)]() mutable {
                   done(std::move(result));
               };
           });
}

void FakeFiles::Arrive(std::string what, std::optional<Error> refused, Settle settle) {
    Job answer;
    std::uint64_t trip = 0;
    {
        const MutexLock lock(mu_);
        log_.push_back(what);
        trip = answered_trip_->load() + 1;
        round_trips_ = std::max(round_trips_, trip);
        if (!refused) refused = cut_ ? cut_ : PlannedFailure(what);
        if (!refused && answers_ == Answers::kHeld) {
            held_.push_back({std::move(what), trip, std::move(settle)});
            return;
        }
        answer = settle(tree_, refused ? Fate::kFails : Fate::kHappens, refused);
    }
    PostAnswer(trip, std::move(answer));
}

void FakeFiles::PostAnswer(std::uint64_t trip, Job answer) {
    loop_.Post([answered = answered_trip_, trip, answer = std::move(answer)] {
        answered->store(std::max(answered->load(), trip));
        answer();
    });
}

void FakeFiles::SettleAt(std::size_t index, Fate fate, const std::optional<Error>& error) {
    Operation operation;
    Job answer;
    {
        const MutexLock lock(mu_);
        CHECK(index <
              held_.size());  // the test expected an operation that did not come: see Held()
        const auto at = held_.begin() + static_cast<std::ptrdiff_t>(index);
        operation = std::move(*at);
        held_.erase(at);
        answer = operation.settle(tree_, fate, error);
    }
    PostAnswer(operation.trip, std::move(answer));
}

std::optional<Error> FakeFiles::PlannedFailure(const std::string& what) {
    const auto at = std::find_if(planned_.begin(), planned_.end(),
                                 [&](const auto& plan) { return what.starts_with(plan.first); });
    if (at == planned_.end()) return std::nullopt;
    Error error = std::move(at->second);
    planned_.erase(at);
    return error;
}

// --- The test's hand

void FakeFiles::SetAnswers(Answers answers) {
    const MutexLock lock(mu_);
    answers_ = answers;
}

std::vector<std::string> FakeFiles::Held() {
    const MutexLock lock(mu_);
    std::vector<std::string> whats;
    for (const Operation& operation : held_)
        whats.push_back(operation.what);
    return whats;
}

void FakeFiles::Release(std::size_t index) {
    SettleAt(index, Fate::kHappens, std::nullopt);
}

void FakeFiles::ReleaseAll() {
    while (!Held().empty())
        Release();
}

void FakeFiles::FailWith(const Error& error, std::size_t index) {
    SettleAt(index, Fate::kFails, error);
}

void FakeFiles::LoseAnswer(const Error& error, std::size_t index) {
    SettleAt(index, Fate::kUnheard, error);
}

void FakeFiles::FailNext(std::string_view beginning, const Error& error) {
    const MutexLock lock(mu_);
    planned_.emplace_back(beginning, error);
}

void FakeFiles::Cut(const Error& error) {
    {
        const MutexLock lock(mu_);
        cut_ = error;
        ++link_;
    }
    while (!Held().empty())
        FailWith(error);
}

void FakeFiles::Mend() {
    const MutexLock lock(mu_);
    cut_.reset();
}

std::vector<std::string> FakeFiles::Log() {
    const MutexLock lock(mu_);
    return log_;
}

std::size_t FakeFiles::Count(std::string_view beginning) {
    const MutexLock lock(mu_);
    return static_cast<std::size_t>(
        std::count_if(log_.begin(), log_.end(),
                      [&](const std::string& what) { return what.starts_with(beginning); }));
}

std::uint64_t FakeFiles::RoundTrips() {
    const MutexLock lock(mu_);
    return round_trips_;
}

// --- The test as a program of the sandbox

void FakeFiles::PutFile(const std::string& path, std::string_view bytes, std::uint32_t mode) {
    PutDir(ParentPath(path));
    const MutexLock lock(mu_);
    const Result<FakeTree::NodePtr> node =
        tree_.Open(path, {.write = true, .create = true, .truncate = true, .mode = mode});
    CHECK(node.has_value());
    CHECK(tree_.Write(**node, 0, bytes).has_value());
    CHECK(tree_.Change(**node, ModeChange(mode)).has_value());
}

void FakeFiles::PutDir(const std::string& path, std::uint32_t mode) {
    if (path == "/") return;
    PutDir(ParentPath(path));
    const MutexLock lock(mu_);
    if (tree_.Lstat(path)) return;
    CHECK(tree_.MakeDir(path, mode).has_value());
}

void FakeFiles::PutLink(const std::string& path, const std::string& target) {
    PutDir(ParentPath(path));
    const MutexLock lock(mu_);
    CHECK(tree_.Symlink(target, path).has_value());
}

void FakeFiles::PutSpecial(const std::string& path, std::uint32_t type_and_mode) {
    PutDir(ParentPath(path));
    const MutexLock lock(mu_);
    CHECK(tree_.MakeSpecial(path, type_and_mode).has_value());
}

void FakeFiles::ReplaceReusingInode(const std::string& path, std::string_view bytes) {
    const std::uint64_t ino = Identity(path).ino;
    Remove(path);
    PutFile(path, bytes);
    const MutexLock lock(mu_);
    const Result<FakeTree::NodePtr> node = tree_.Find(path, FakeTree::Follow::kNo);
    CHECK(node.has_value());
    (*node)->ino = ino;
}

void FakeFiles::ForgetBirth(const std::string& path) {
    const MutexLock lock(mu_);
    const Result<FakeTree::NodePtr> node = tree_.Find(path, FakeTree::Follow::kNo);
    CHECK(node.has_value());
    (*node)->birth_ns = 0;
}

void FakeFiles::Append(const std::string& path, std::string_view bytes) {
    const MutexLock lock(mu_);
    const Result<FakeTree::NodePtr> node = tree_.Find(path, FakeTree::Follow::kNo);
    CHECK(node.has_value());
    CHECK(tree_.Write(**node, (*node)->stat.size, bytes).has_value());
}

void FakeFiles::Remove(const std::string& path) {
    std::vector<RemoteEntry> below;
    {
        const MutexLock lock(mu_);
        const Result<RemoteStat> stat = tree_.Lstat(path);
        CHECK(stat.has_value());
        if (!S_ISDIR(stat->mode)) {
            CHECK(tree_.Unlink(path).has_value());
            return;
        }
        below = *tree_.List(path);
    }
    for (const RemoteEntry& entry : below)
        Remove(path + "/" + entry.name);
    const MutexLock lock(mu_);
    CHECK(tree_.RemoveDir(path).has_value());
}

void FakeFiles::SetTimes(const std::string& path, std::int64_t mtime) {
    const MutexLock lock(mu_);
    CHECK(tree_.SetStat(path, TimesChange(mtime, mtime)).has_value());
}

std::optional<RemoteStat> FakeFiles::Stat(const std::string& path) {
    const MutexLock lock(mu_);
    const Result<RemoteStat> stat = tree_.Lstat(path);
    if (!stat) return std::nullopt;
    return *stat;
}

StoredFile FakeFiles::Store(const StoreRequest& request) {
    const MutexLock lock(mu_);
    const std::string what = request.path + " " + std::to_string(request.bytes.size());
    log_.push_back("store " + what);
    if (const std::optional<Error> refused = PlannedFailure("store " + what))
        return {.error = static_cast<int>(refused->code()), .made = false, .identity = {}};
    const std::optional<Error> torn = PlannedFailure("store bytes " + what);
    return tree_.Store(request,
                       torn ? std::optional(static_cast<int>(torn->code())) : std::nullopt);
}

int FakeFiles::RenameApart(const RenameRequest& request) {
    const MutexLock lock(mu_);
    const std::string what = "move " + request.from + " " + request.to;
    log_.push_back(what);
    if (const std::optional<Error> refused = PlannedFailure(what))
        return static_cast<int>(refused->code());
    const Status moved =
        tree_.Rename(request.from, request.to, request.replace ? Replace::kYes : Replace::kNo);
    return moved ? 0 : static_cast<int>(moved.error().code());
}

IdentityStat FakeFiles::Identity(const std::string& path) {
    const MutexLock lock(mu_);
    return tree_.Identity(path);
}

std::string FakeFiles::Content(const std::string& path) {
    const MutexLock lock(mu_);
    const Result<FakeTree::NodePtr> node = tree_.Find(path, FakeTree::Follow::kYes);
    CHECK(node.has_value());
    return (*node)->content;
}

void FakeFiles::SetCapacity(std::uint64_t bytes) {
    const MutexLock lock(mu_);
    tree_.SetCapacity(bytes);
}

void FakeFiles::SetReadOnly(bool read_only) {
    const MutexLock lock(mu_);
    tree_.SetReadOnly(read_only);
}

// --- RemoteFiles

void FakeFiles::Lstat(const std::string& path, StatDone done) {
    Take<RemoteStat>(
        "lstat " + path, [path](FakeTree& tree) { return tree.Lstat(path); }, std::move(done));
}

void FakeFiles::List(const std::string& path, EntriesDone done) {
    Take<std::vector<RemoteEntry>>(
        "list " + path, [path](FakeTree& tree) { return tree.List(path); }, std::move(done));
}

void FakeFiles::ReadLink(const std::string& path, TextDone done) {
    Take<std::string>(
        "readlink " + path, [path](FakeTree& tree) { return tree.ReadLink(path); },
        std::move(done));
}

void FakeFiles::SetStat(const std::string& path, const StatChange& change, StatDone done) {
    Take<RemoteStat>(
        "setstat " + path, [path, change](FakeTree& tree) { return tree.SetStat(path, change); },
        std::move(done));
}

void FakeFiles::MakeDir(const std::string& path, std::uint32_t mode, StatDone done) {
    Take<RemoteStat>(
        "mkdir " + path, [path, mode](FakeTree& tree) { return tree.MakeDir(path, mode); },
        std::move(done));
}

void FakeFiles::RemoveDir(const std::string& path, Done done) {
    Take<Unit>(
        "rmdir " + path, [path](FakeTree& tree) { return tree.RemoveDir(path); }, std::move(done));
}

void FakeFiles::Unlink(const std::string& path, Done done) {
    Take<Unit>(
        "unlink " + path, [path](FakeTree& tree) { return tree.Unlink(path); }, std::move(done));
}

void FakeFiles::Symlink(const std::string& target, const std::string& path, StatDone done) {
    Take<RemoteStat>(
        "symlink " + path + " -> " + target,
        [target, path](FakeTree& tree) { return tree.Symlink(target, path); }, std::move(done));
}

void FakeFiles::Link(const std::string& from, const std::string& to, StatDone done) {
    Take<RemoteStat>(
        "link " + from + " " + to, [from, to](FakeTree& tree) { return tree.Link(from, to); },
        std::move(done));
}

void FakeFiles::Rename(const std::string& from, const std::string& to, Replace replace, Done done) {
    Take<Unit>(
        "rename " + from + " " + to + (replace == Replace::kNo ? " new" : ""),
        [from, to, replace](FakeTree& tree) { return tree.Rename(from, to, replace); },
        std::move(done));
}

void FakeFiles::Statfs(const std::string& path, StatfsDone done) {
    const auto act = [path](FakeTree& tree) -> Result<RemoteStatfs> {
        (void)TRY(tree.Find(path, FakeTree::Follow::kYes));
        return tree.Statfs();
    };
    Take<RemoteStatfs>("statfs " + path, act, std::move(done));
}

void FakeFiles::Open(const std::string& path, const OpenHow& how, OpenDone done) {
    std::string what = "open " + path;
    if (how.read) what += " read";
    if (how.write) what += " write";
    if (how.append) what += " append";
    if (how.create) what += " create";
    if (how.exclusive) what += " exclusive";
    if (how.truncate) what += " truncate";
    std::uint64_t link = 0;
    {
        const MutexLock lock(mu_);
        link = link_;
    }
    Take<OpenedFile>(
        std::move(what),
        [path, how, link, open_files = open_files_](FakeTree& tree) -> Result<OpenedFile> {
            const FakeTree::NodePtr node = TRY(tree.Open(path, how));
            auto file = std::make_shared<File>(node, path, how, link, open_files);
            return OpenedFile{std::move(file), node->stat};
        },
        std::move(done));
}

void FakeFiles::Read(const RemoteFilePtr& file, FileRange range, BytesDone done) {
    const auto act = [range](FakeTree& tree, const File& of) -> Result<std::string> {
        if (!of.how.read && (of.how.write || of.how.append)) {
            return Error(Errno{EBADF}, of.path + ": not open for reading");
        }
        return tree.Read(*of.node, range);
    };
    TakeFile<std::string>("read", file,
                          " " + std::to_string(range.offset) + "+" + std::to_string(range.size),
                          act, std::move(done));
}

void FakeFiles::Write(const RemoteFilePtr& file, std::uint64_t offset, FileBytes bytes, Done done) {
    std::string detail = " " + std::to_string(offset) + "+" + std::to_string(bytes.size());
    const auto act = [offset, bytes = std::move(bytes)](FakeTree& tree, const File& of) -> Status {
        if (!of.how.write && !of.how.append) {
            return Error(Errno{EBADF}, of.path + ": not open for writing");
        }
        const std::uint64_t at = of.how.append ? of.node->content.size() : offset;
        return tree.Write(*of.node, at, bytes.view());
    };
    TakeFile<Unit>("write", file, detail, act, std::move(done));
}

void FakeFiles::Copy(const RemoteFilePtr& from, FileRange range, const RemoteFilePtr& to,
                     std::uint64_t offset, CopiedDone done) {
    auto source = std::dynamic_pointer_cast<File>(from);
    CHECK(source != nullptr);
    const std::string detail =
        " " + std::to_string(offset) + "+" + std::to_string(range.size) + " from " + source->path;
    const auto act = [source, range, offset](FakeTree& tree,
                                             const File& of) -> Result<std::uint64_t> {
        if (of.how.append || source->node == of.node)
            return Error(Errno{EOPNOTSUPP}, of.path + ": not copied to");
        const std::string bytes = TRY(tree.Read(*source->node, range));
        (void)TRY(tree.Write(*of.node, offset, bytes));
        return bytes.size();
    };
    TakeFile<std::uint64_t>("copy", to, detail, act, std::move(done));
}

void FakeFiles::FileStat(const RemoteFilePtr& file, StatDone done) {
    const auto act = [](FakeTree&, const File& of) -> Result<RemoteStat> { return of.node->stat; };
    TakeFile<RemoteStat>("fstat", file, "", act, std::move(done));
}

void FakeFiles::SetFileStat(const RemoteFilePtr& file, const StatChange& change, StatDone done) {
    const auto act = [change](FakeTree& tree, const File& of) -> Result<RemoteStat> {
        if (change.size && !of.how.write && !of.how.append) {
            return Error(Errno{EINVAL}, of.path + ": not open for writing");
        }
        return tree.Change(*of.node, change);
    };
    TakeFile<RemoteStat>("fsetstat", file, "", act, std::move(done));
}

void FakeFiles::Sync(const RemoteFilePtr& file, Done done) {
    TakeFile<Unit>(
        "sync", file, "", [](FakeTree&, const File&) { return Ok(); }, std::move(done));
}

void FakeFiles::Close(const RemoteFilePtr& file, Done done) {
    const auto act = [](FakeTree&, File& of) {
        of.Close();
        return Ok();
    };
    TakeFile<Unit>("close", file, "", act, std::move(done));
}

}  // namespace sbxfs::testing
