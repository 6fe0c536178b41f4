#include "sandbox/cached_files.h"

#include <errno.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/check.h"
#include "sandbox/cached_file.h"
#include "sandbox/prefetcher.h"
#include "sandbox/read_ahead.h"

namespace sbxfs {
namespace {

// How often what lives in a sandbox in use is looked at.
constexpr Duration kLookQuiet = std::chrono::seconds(1);
constexpr Duration kLookShared = std::chrono::milliseconds(250);
// How long the supervisor's view of a path is waited for. Then the server's must do.
constexpr Duration kLookLimit = std::chrono::seconds(1);
// Paths the supervisor looks at before a command may start: each costs it 1 to 2 us.
constexpr std::size_t kMostBaselines = 1024;
constexpr std::size_t kMostMarked = 1024;

// What asks for nothing but bytes that are there.
bool IsPlainRead(const OpenHow& how) {
    return how.read && !how.write && !how.append && !how.create && !how.truncate;
}

ReadAhead::Limits AheadLimits(const ContentStore& store) {
    ReadAhead::Limits limits;
    limits.window = std::min(limits.window, std::max<std::size_t>(store.most() / 16, 128U << 10));
    limits.whole = std::min<std::uint64_t>(limits.whole, store.most() / 4);
    return limits;
}

// Told to nobody: whoever waits asks for himself.
Error NoLink() {
    return {Errno{EAGAIN}, "there is no link"};
}

std::string ParentOf(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
}

}  // namespace

CachedFiles::CachedFiles(Loop& loop, std::shared_ptr<LinkedFiles> files, Setup setup)
    : loop_(loop),
      files_(std::move(files)),
      behind_(std::make_shared<WriteBehind>(
          loop, files_,
          WriteBehind::Limits{.wait = setup.timeouts.operation,
                              .name_wait = setup.timeouts.name_change})),
      setup_(std::move(setup)),
      cache_(loop.clock()),
      space_(loop.clock()),
      store_(setup_.store != nullptr ? setup_.store : std::make_shared<ContentStore>()),
      lazy_(std::make_unique<LazyFiles>()),
      prefetcher_(std::make_shared<Prefetcher>(*this)) {
    behind_->SetOwner(this);
}

CachedFiles::~CachedFiles() {
    prefetcher_->Stop();
    behind_->SetOwner(nullptr);
    store_->Unclaim(claimed_);
}

std::optional<Result<RemoteStat>> CachedFiles::KnownStat(const std::string& path) {
    Use();
    return cache_.Stat(path);
}

std::optional<std::vector<FileCache::Name>> CachedFiles::KnownList(const std::string& path) {
    Use();
    OnLoop([path](CachedFiles& self) { self.prefetcher_->Listed(path); });
    return cache_.List(path);
}

std::optional<std::string> CachedFiles::KnownTarget(const std::string& path) {
    Use();
    return cache_.Target(path);
}

std::optional<CachedFiles::Opened> CachedFiles::KnownOpen(const std::string& path,
                                                          const OpenHow& how) {
    if (!IsPlainRead(how) || !cache_.IsQuiet()) return std::nullopt;
    Use();
    OnLoop([path](CachedFiles& self) { self.prefetcher_->Opened(path); });
    const FileCache::Era era = cache_.era();
    const auto held = cache_.Contents(path);
    if (!held || !held->contents->IsWhole()) return std::nullopt;
    const auto file = std::make_shared<CachedFile>(CachedFile::Setup{weak_from_this(),
                                                                     path,
                                                                     how,
                                                                     nullptr,
                                                                     held->stat,
                                                                     held->contents,
                                                                     held->identity,
                                                                     AheadLimits(*store_),
                                                                     {},
                                                                     FileCache::Names::kUnknown,
                                                                     connection_});
    if (!lazy_->Add(file)) return std::nullopt;
    // Who begins another era, or changes the name, after this look finds it among the lazy ones.
    const auto again = cache_.Contents(path);
    if (!again || again->contents != held->contents || cache_.era() != era) return std::nullopt;
    Opened opened{file, held->stat, held->identity, era, true, false};
    opened.recent = held->identity ? IsRecent(*held->identity, TheirNowNs())
                                   : IsRecent(held->stat, TheirNowNs());
    return opened;
}

std::optional<ContentSlices> CachedFiles::KnownBytes(const RemoteFilePtr& file,
                                                     const BytesAsked& asked) {
    const auto cached = std::dynamic_pointer_cast<CachedFile>(file);
    return cached == nullptr ? std::nullopt : cached->Known(asked);
}

void CachedFiles::SetVersion(const RemoteFilePtr& file, std::uint64_t version) {
    if (const auto cached = std::dynamic_pointer_cast<CachedFile>(file))
        cached->SetVersion(version);
}

RemoteFilePtr CachedFiles::Wrap(const std::string& path, const OpenHow& how, const OpenedFile& file,
                                const Opened& opened, FileCache::Names names) {
    CachedFile::Setup setup{weak_from_this(),
                            path,
                            how,
                            file.file,
                            file.stat,
                            {},
                            opened.recent ? std::nullopt : opened.identity,
                            AheadLimits(*store_),
                            {},
                            names,
                            connection_};
    if (how.read && !how.truncate)
        setup.contents = cache_.ShareContents(path, file.stat, opened.era, *store_);
    const bool empty = file.stat.size == 0 && (how.truncate || names == FileCache::Names::kOne);
    if (opened.quiet && how.write && !how.append && empty) setup.written = store_->Make();
    return std::make_shared<CachedFile>(std::move(setup));
}

void CachedFiles::PutWritten(const RemoteFilePtr& file, FileCache::Question question,
                             const RemoteStat& stat) {
    const auto cached = std::dynamic_pointer_cast<CachedFile>(file);
    FileContentsPtr written = cached == nullptr ? nullptr : cached->TakeWritten(stat.size);
    if (written == nullptr) return cache_.Drop(question);
    cache_.PutContents(question, stat, std::move(written), cached->names());
}

// Many that have changed are told faster by a listing than one by one: nothing then.
std::optional<std::vector<RemoteEntry>> CachedFiles::KnownEntries(const std::string& path) const {
    const auto names = cache_.List(path);
    if (!names || !cache_.KnowsWholly(path)) return std::nullopt;
    std::vector<RemoteEntry> entries;
    for (const FileCache::Name& name : *names) {
        RemoteEntry entry{name.name, {}};
        entry.stat.mode = name.type;
        entries.push_back(std::move(entry));
    }
    return entries;
}

void CachedFiles::OpenLazy(std::vector<std::shared_ptr<CachedFile>> files, Job then) {
    struct Waiting {
        std::atomic<std::size_t> left;
        Job then;
    };
    const auto waiting = std::make_shared<Waiting>();
    waiting->left = files.size() + 1;
    waiting->then = std::move(then);
    const auto count = [waiting] {
        if (--waiting->left == 0) waiting->then();
    };
    for (const auto& file : files)
        file->WithReal([count](const Result<RemoteFilePtr>&) { count(); });
    count();
}

void CachedFiles::OpenLate(const std::string& path, const OpenHow& how, OpenDone done) {
    For({}).OpenReal(path, how, std::move(done));
}

// --- What is asked for nobody in particular

std::function<bool()> CachedFiles::OnThisLink() const {
    DCHECK(loop_.OnThread());
    return [files = files_, link = files_->WhichLink()] { return files->WhichLink() == link; };
}

void CachedFiles::FetchRead(const RemoteFilePtr& real, FileRange range, BytesDone done) {
    if (!CanFetch()) return done(NoLink());
    For(OnThisLink()).ReadReal(real, range, std::move(done));
}

void CachedFiles::FetchList(const std::string& path, Done done) {
    if (!CanFetch()) return done(NoLink());
    For(OnThisLink())
        .AskList(path, [done = std::move(done)](Result<std::vector<RemoteEntry>> entries) {
            if (!entries) return done(std::move(entries).error());
            done(Ok());
        });
}

// A small file on its way into the cache.
struct CachedFiles::Whole {
    std::shared_ptr<CachedFiles> owner;
    FileCache::Question question;
    RemoteStat stat;
    Done done;

    void Fail(Status why) const {
        owner->cache_.Drop(question);
        done(std::move(why));
    }
    void Keep(std::string bytes) const {
        if (bytes.size() != stat.size) return Fail(Error(Errno{EAGAIN}, "its size has changed"));
        const FileContentsPtr contents = owner->store_->Make();
        contents->SetEnd(stat.size);
        contents->Put(0, std::move(bytes));
        owner->cache_.PutContents(question, stat, contents, FileCache::Names::kUnknown);
        done(Ok());
    }
};

void CachedFiles::FetchWhole(const std::string& path, const RemoteStat& stat, Done done) {
    const auto whole =
        std::make_shared<Whole>(Whole{shared_from_this(), cache_.Ask(path), stat, std::move(done)});
    if (stat.size == 0) return whole->Keep({});
    if (!CanFetch()) return whole->Fail(NoLink());
    OpenHow how;
    how.read = true;
    For(OnThisLink()).OpenReal(path, how, [whole](Result<OpenedFile> opened) {
        if (!opened) return whole->Fail(opened.error());
        if (opened->stat.size != whole->stat.size || opened->stat.mtime != whole->stat.mtime)
            return whole->Fail(Error(Errno{EAGAIN}, "it has changed"));
        whole->owner->FetchRead(opened->file, {0, static_cast<std::size_t>(whole->stat.size)},
                                [whole, file = opened->file](Result<std::string> bytes) {
                                    if (!bytes) return whole->Fail(bytes.error());
                                    whole->Keep(std::move(*bytes));
                                });
    });
}

void CachedFiles::LookAtNames(const std::vector<std::string>& paths, Job done) {
    Look(paths, [weak = weak_from_this(), paths, era = cache_.era(), at = TheirNowNs(),
                 done = std::move(done)](const std::optional<std::vector<IdentityStat>>& stats) {
        const auto self = weak.lock();
        if (self != nullptr && stats) self->cache_.SetBaselines(era, paths, *stats, at);
        done();
    });
}

void CachedFiles::LookAt(const std::string& path, Identified done) {
    Look({path}, [done = std::move(done)](std::optional<std::vector<IdentityStat>> stats) {
        if (!stats || stats->size() != 1) return done(std::nullopt);
        done(stats->front());
    });
}

CachedFiles::Asker CachedFiles::For(std::function<bool()> wanted) {
    Use();
    return {shared_from_this(), std::move(wanted)};
}

void CachedFiles::DropCaches(Done done) {
    cache_.ForgetAll();
    OnLoop([done = std::move(done)](CachedFiles& self) mutable {
        const bool quiet = self.cache_.IsQuiet();
        self.Begin(FileCache::Quiet::kNo);
        MountCaches* mount = self.mount_;
        Job finish = [weak = self.weak_from_this(), quiet, done = std::move(done)] {
            if (const auto alive = weak.lock(); alive != nullptr && quiet) {
                alive->OnLoop([](CachedFiles& later) { later.Decide(); });
            }
            done(Ok());
        };
        if (mount == nullptr) return finish();
        mount->DropPages(self.setup_.box, std::move(finish));
    });
}

// --- Quiet

void CachedFiles::Use() {
    if (!setup_.exclusive) return;
    const SteadyTime::rep now = loop_.clock().Steady().time_since_epoch().count();
    SteadyTime::rep last = looked_at_;
    const Duration every = cache_.IsQuiet() ? kLookQuiet : kLookShared;
    if (now - last < every.count() || !looked_at_.compare_exchange_strong(last, now)) return;
    OnLoop([](CachedFiles& self) { self.LookAtProcesses(); });
}

void CachedFiles::LookAtProcesses() {
    DCHECK(loop_.OnThread());
    if (!setup_.exclusive || port_ == nullptr || !settled_ || active_ > 0 || looking_) return;
    looking_ = true;
    port_->Processes([weak = weak_from_this(), connection = connection(),
                      era = cache_.era()](const Result<std::vector<RemoteProcess>>& found) {
        const auto self = weak.lock();
        if (self == nullptr || self->connection_ != connection) return;
        self->looking_ = false;
        // A command has come or gone meanwhile: what was seen is its own.
        if (!found || self->cache_.era() != era) return;
        self->others_ = static_cast<std::uint32_t>(found->size());
        self->Decide();
    });
}

void CachedFiles::SetMode(FileCache::Quiet quiet) {
    if (!setup_.write_behind) return;
    behind_->SetMode(quiet == FileCache::Quiet::kYes ? WriteBehind::Mode::kQuiet
                                                     : WriteBehind::Mode::kShared);
}

void CachedFiles::Begin(FileCache::Quiet quiet) {
    cache_.BeginEra(quiet);
    SetMode(quiet);
    prefetcher_->Restart();
    // While the link is down they wait for its return, when the supervisor can tell whether they are the same.
    const bool up = port_ != nullptr || files_->IsUp();
    if (quiet == FileCache::Quiet::kNo && up) OpenLazy(lazy_->All(), [] {});
    MountCaches* mount = mount_;
    if (mount == nullptr) return;
    if (quiet == FileCache::Quiet::kYes) return mount->Allow(setup_.box);
    mount->Revoke(setup_.box, [] {});
}

void CachedFiles::Decide() {
    const bool quiet =
        setup_.exclusive && port_ != nullptr && settled_ && active_ == 0 && others_ == 0U;
    if (quiet != cache_.IsQuiet()) Begin(quiet ? FileCache::Quiet::kYes : FileCache::Quiet::kNo);
}

void CachedFiles::SupervisorUp(SupervisorPort& port, const SupervisorHello& hello) {
    DCHECK(loop_.OnThread());
    if (boot_id_ != 0 && boot_id_ != hello.boot_id)
        cache_.ForgetAll();  // other numbers, other times
    boot_id_ = hello.boot_id;
    skew_ms_ = hello.clock_ms - EpochMs(loop_.clock().System());
    port_ = &port;
    ++connection_;
    looking_ = settled_ = false;
    others_.reset();
    Begin(FileCache::Quiet::kNo);
    files_->WitnessIsBack();
}

void CachedFiles::SupervisorLost() {
    DCHECK(loop_.OnThread());
    if (port_ == nullptr) return;
    port_ = nullptr;
    ++connection_;
    looking_ = settled_ = false;
    others_.reset();
    Begin(FileCache::Quiet::kNo);
}

void CachedFiles::Settled(std::size_t active) {
    DCHECK(loop_.OnThread());
    settled_ = true;
    if (std::exchange(active_, active) > 0 && active == 0) others_.reset();
    if (!others_) LookAtProcesses();
    Decide();
}

// It sees every byte that was written before it: what is on its way arrives first.
void CachedFiles::BeforeStart(Job go) {
    DCHECK(loop_.OnThread());
    ++active_;
    if (behind_->IsClean()) return BeginStart(std::move(go));
    behind_->Drain(std::nullopt,
                   [weak = weak_from_this(), go = std::move(go)](const Status&) mutable {
                       if (const auto self = weak.lock()) self->BeginStart(std::move(go));
                   });
}

void CachedFiles::BeginStart(Job go) {
    if (starts_) return starts_->push_back(std::move(go));
    // Those of the quiet that has just ended may still be on their way.
    if (!cache_.IsQuiet()) return OpenLazy(lazy_->All(), std::move(go));
    // On the channel the command goes out on, and before it: the supervisor looks first.
    std::vector<std::string> paths = cache_.WithoutBaseline(kMostBaselines);
    if (!paths.empty() && port_ != nullptr) {
        Look(paths, [weak = weak_from_this(), paths, era = cache_.era(),
                     at = TheirNowNs()](const std::optional<std::vector<IdentityStat>>& stats) {
            const auto self = weak.lock();
            if (self != nullptr && stats) self->cache_.SetBaselines(era, paths, *stats, at);
        });
    }
    cache_.BeginEra(FileCache::Quiet::kNo);
    SetMode(FileCache::Quiet::kNo);
    prefetcher_->Restart();
    starts_.emplace();
    starts_->push_back(std::move(go));
    MountCaches* mount = mount_;
    starts_wait_for_ = mount == nullptr ? 1 : 2;
    if (mount != nullptr) {
        mount->Revoke(setup_.box, [weak = weak_from_this()] {
            if (const auto self = weak.lock())
                self->OnLoop([](CachedFiles& owner) { owner.CountOffStarts(); });
        });
    }
    // What has been opened here must be open there before the command may replace it.
    OpenLazy(lazy_->All(), [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->CountOffStarts();
    });
}

void CachedFiles::CountOffStarts() {
    DCHECK(loop_.OnThread());
    if (--starts_wait_for_ > 0) return;
    const auto starts = std::exchange(starts_, std::nullopt);
    for (const Job& start : *starts)
        start();
}

void CachedFiles::AfterEnd(std::uint32_t others, std::size_t active, Job go) {
    DCHECK(loop_.OnThread());
    active_ = active;
    others_ = others;
    looked_at_ = loop_.clock().Steady().time_since_epoch().count();
    const bool quiet =
        setup_.exclusive && port_ != nullptr && settled_ && active == 0 && others == 0;
    Begin(quiet ? FileCache::Quiet::kYes : FileCache::Quiet::kNo);
    MountCaches* mount = mount_;
    if (mount == nullptr) return go();
    mount->DropPages(setup_.box, [weak = weak_from_this(), go = std::move(go)]() mutable {
        if (const auto self = weak.lock()) self->loop_.Post(std::move(go));
    });
}

// --- Identities

std::int64_t CachedFiles::TheirNow() const {
    return TheirNowNs() / 1'000'000'000;
}

// What was taken for true has turned out not to be: nothing that is cached is believed any more.
void CachedFiles::OnLost(const std::string& path, const Error& why) {
    cache_.ForgetAll();
    Begin(FileCache::Quiet::kNo);
    if (MountCaches* mount = mount_; mount != nullptr) mount->DropPages(setup_.box, [] {});
    OnLoop([](CachedFiles& later) { later.Decide(); });
    if (on_lost) on_lost(path, why);
}

void CachedFiles::OnDirty(std::uint64_t bytes) {
    if (bytes > claimed_) {
        store_->Claim(bytes - claimed_);
    } else if (bytes < claimed_) {
        store_->Unclaim(claimed_ - bytes);
    }
    claimed_ = bytes;
}

std::int64_t CachedFiles::TheirNowNs() const {
    return (EpochMs(loop_.clock().System()) + skew_ms_) * 1'000'000;
}

// Nothing when nobody can look, or does not in time.
void CachedFiles::Look(const std::vector<std::string>& paths,
                       UniqueFunction<void(std::optional<std::vector<IdentityStat>>)> done) {
    DCHECK(loop_.OnThread());
    if (port_ == nullptr) return done(std::nullopt);
    struct Looking {
        UniqueFunction<void(std::optional<std::vector<IdentityStat>>)> done;
        TimerPtr limit;
        void End(std::optional<std::vector<IdentityStat>> stats) {
            limit.reset();
            if (done) std::exchange(done, {})(std::move(stats));
        }
    };
    const auto looking = std::make_shared<Looking>();
    looking->done = std::move(done);
    looking->limit = loop_.After(kLookLimit, [weak = std::weak_ptr(looking)] {
        if (const auto late = weak.lock()) late->End(std::nullopt);
    });
    port_->StatBatch(paths, [looking](Result<std::vector<IdentityStat>> stats) {
        if (!stats) return looking->End(std::nullopt);
        looking->End(std::move(*stats));
    });
}

void CachedFiles::Identify(const std::string& path, Identified done) {
    DCHECK(loop_.OnThread());
    if (port_ == nullptr) return done(std::nullopt);
    // Files are opened many at a time: those whose answers came together are looked at together.
    identify_.emplace_back(path, std::move(done));
    if (identify_.size() > 1) return;
    OnLoop([](CachedFiles& self) { self.IdentifyBatch(); });
}

void CachedFiles::IdentifyBatch() {
    std::vector<std::string> paths;
    std::vector<Identified> askers;
    for (auto& [path, done] : std::exchange(identify_, {})) {
        paths.push_back(std::move(path));
        askers.push_back(std::move(done));
    }
    if (port_ == nullptr) {
        for (const Identified& done : askers)
            done(std::nullopt);
        return;
    }
    // However long it takes: whoever waits for it has a bound of its own.
    port_->StatBatch(paths,
                     [askers = std::move(askers)](const Result<std::vector<IdentityStat>>& stats) {
                         for (std::size_t i = 0; i < askers.size(); ++i) {
                             if (!stats || stats->size() != askers.size()) {
                                 askers[i](std::nullopt);
                             } else {
                                 askers[i]((*stats)[i]);
                             }
                         }
                     });
}

void CachedFiles::IdentifyOpened(const std::string& path, const RemoteStat& opened,
                                 Identified done) {
    // While nobody else changes files it is the one that was opened, whatever was written since.
    const bool quiet = cache_.IsQuiet();
    Identify(path, [weak = weak_from_this(), path, opened, quiet, era = cache_.era(),
                    done = std::move(done)](const std::optional<IdentityStat>& seen) {
        const auto self = weak.lock();
        const bool alone = quiet && self != nullptr && self->cache_.era() == era;
        const bool known = seen && seen->error == 0 && (alone || Agrees(*seen, opened));
        if (known && self != nullptr && seen->nlink > 1) self->cache_.Linked(path);
        done(known ? seen : std::nullopt);
    });
}

void CachedFiles::OnUnknownOutcome() {
    if (on_unknown_outcome) on_unknown_outcome();
}

// Has what is marked around `path` looked at, then goes on.
void CachedFiles::Recheck(const std::string& path, Job then) {
    std::vector<std::string> paths = cache_.Marked(path, kMostMarked);
    if (paths.empty() || port_ == nullptr) return then();
    Look(paths, [weak = weak_from_this(), paths, era = cache_.era(),
                 then = std::move(then)](const std::optional<std::vector<IdentityStat>>& stats) {
        const auto self = weak.lock();
        if (self == nullptr) return;
        if (stats) self->cache_.Recheck(era, paths, *stats);
        then();
    });
}

// --- Asker: what asks

void CachedFiles::Asker::AskStat(const std::string& path, StatDone done) {
    const FileCache::Question question = owner_->cache_.Ask(path);
    files_.Lstat(path, [owner = owner_, question, done = std::move(done)](Result<RemoteStat> stat) {
        owner->cache_.PutStat(question, stat);
        done(std::move(stat));
    });
}

void CachedFiles::Asker::Lstat(const std::string& path, StatDone done) {
    owner_->OnLoop(
        [parent = ParentOf(path)](CachedFiles& owner) { owner.prefetcher_->Looked(parent); });
    if (owner_->cache_.Marked(path, 1).empty()) return AskStat(path, std::move(done));
    owner_->OnLoop([wanted = wanted_, path, done = std::move(done)](CachedFiles& owner) mutable {
        owner.Recheck(path, [&owner, wanted, path, done = std::move(done)]() mutable {
            if (auto known = owner.cache_.Stat(path)) return done(std::move(*known));
            owner.For(wanted).AskStat(path, std::move(done));
        });
    });
}

void CachedFiles::Asker::AskList(const std::string& path, EntriesDone done) {
    const FileCache::Question question = owner_->cache_.Ask(path);
    files_.List(path, [owner = owner_, question, path,
                       done = std::move(done)](Result<std::vector<RemoteEntry>> entries) {
        owner->cache_.PutList(question, entries);
        owner->prefetcher_->Arrived(path);
        done(std::move(entries));
    });
}

void CachedFiles::Asker::List(const std::string& path, EntriesDone done) {
    owner_->OnLoop([wanted = wanted_, path, done = std::move(done)](CachedFiles& owner) mutable {
        const auto answer = std::make_shared<EntriesDone>(std::move(done));
        const auto tell = [owner = owner.shared_from_this(), wanted, path, answer] {
            auto entries = owner->KnownEntries(path);
            if (!entries) return owner->For(wanted).AskList(path, std::move(*answer));
            owner->prefetcher_->Arrived(path);
            (*answer)(std::move(*entries));
        };
        // Where it is being listed ahead, that is it.
        if (!owner.prefetcher_->WhenListed(path, tell)) return owner.Recheck(path, tell);
        *answer = owner.Bounded(std::move(*answer), owner.setup_.timeouts.operation);
    });
}

void CachedFiles::Asker::ReadLink(const std::string& path, TextDone done) {
    const FileCache::Question question = owner_->cache_.Ask(path);
    files_.ReadLink(path,
                    [owner = owner_, question, done = std::move(done)](Result<std::string> target) {
                        owner->cache_.PutTarget(question, target);
                        done(std::move(target));
                    });
}

void CachedFiles::Asker::Statfs(const std::string& path, StatfsDone done) {
    owner_->space_.Ask(path);
    files_.Statfs(path, [owner = owner_, path, done = std::move(done)](Result<RemoteStatfs> space) {
        owner->space_.Answered(path, space);
        done(std::move(space));
    });
}

// --- Asker: open files

template <class D, class F>
void CachedFiles::Asker::On(const RemoteFilePtr& file, D done, F use) {
    const auto cached = std::dynamic_pointer_cast<CachedFile>(file);
    if (cached == nullptr) return use(files_, file, std::move(done));
    if (const RemoteFilePtr real = cached->Real()) return use(files_, real, std::move(done));
    cached->WithReal([owner = owner_, wanted = wanted_, done = std::move(done),
                      use = std::move(use)](const Result<RemoteFilePtr>& real) mutable {
        if (!real) return done(real.error());
        Asker asker = owner->For(wanted);
        use(asker.files_, *real, std::move(done));
    });
}

void CachedFiles::Asker::Read(const RemoteFilePtr& file, FileRange range, BytesDone done) {
    if (const auto cached = std::dynamic_pointer_cast<CachedFile>(file))
        return cached->Read(range, wanted_, std::move(done));
    files_.Read(file, range, std::move(done));
}

void CachedFiles::Asker::FileStat(const RemoteFilePtr& file, StatDone done) {
    On(file, std::move(done), [](auto& files, const RemoteFilePtr& real, StatDone answer) {
        files.FileStat(real, std::move(answer));
    });
}

// --- Asker: what changes

// Before the cache is told of the change: that makes it forget.
WriteBehind::Before CachedFiles::Asker::BeforeChange(const std::string& path) const {
    if (!owner_->setup_.write_behind || !owner_->cache_.IsQuiet()) return {};
    return {owner_->cache_.Stat(path), owner_->cache_.Stat(ParentOf(path))};
}

void CachedFiles::Asker::SetStat(const std::string& path, const StatChange& change, StatDone done) {
    WriteBehind::Before before = BeforeChange(path);
    owner_->cache_.Changed(path);
    files_.SetStat(path, change, std::move(before),
                   [owner = owner_, path, done = std::move(done)](Result<RemoteStat> stat) {
                       owner->cache_.Changed(path);
                       done(std::move(stat));
                   });
}

StatDone CachedFiles::Asker::Making(const std::string& path, StatDone done) {
    return [owner = owner_, path, question = owner_->cache_.ChangingName(path),
            done = std::move(done)](Result<RemoteStat> stat) {
        owner->cache_.Made(question, stat);
        done(std::move(stat));
    };
}

Done CachedFiles::Asker::Removing(const std::string& path, Done done) {
    const FileCache::Question question = owner_->cache_.ChangingName(path);
    return [owner = owner_, path, question, done = std::move(done)](Status status) {
        owner->cache_.Gone(question, status);
        done(std::move(status));
    };
}

void CachedFiles::Asker::MakeDir(const std::string& path, std::uint32_t mode, StatDone done) {
    WriteBehind::Before before = BeforeChange(path);
    files_.MakeDir(path, mode, std::move(before), Making(path, std::move(done)));
}

void CachedFiles::Asker::RemoveDir(const std::string& path, Done done) {
    WriteBehind::Before before = BeforeChange(path);
    const auto names = owner_->cache_.List(path);
    before.empty = names && names->empty();
    files_.RemoveDir(path, std::move(before), Removing(path, std::move(done)));
}

void CachedFiles::Asker::Unlink(const std::string& path, Done done) {
    WriteBehind::Before before = BeforeChange(path);
    Done removed = Removing(path, std::move(done));
    auto lazy = owner_->lazy_->At(path);
    if (lazy.empty()) return files_.Unlink(path, std::move(before), std::move(removed));
    AfterOpening(std::move(lazy), [owner = owner_, wanted = wanted_, path,
                                   removed = std::move(removed)](Status opened) mutable {
        if (!opened) return removed(std::move(opened));
        owner->For(wanted).files_.Unlink(path, {}, std::move(removed));
    });
}

// What has been opened here alone stays open when its name goes: it is opened there first, and nothing about
// the name is taken for known any more by then.
void CachedFiles::Asker::AfterOpening(std::vector<std::shared_ptr<CachedFile>> lazy, Done go) {
    owner_->OnLoop([lazy = std::move(lazy), go = std::move(go)](CachedFiles& owner) mutable {
        Done bounded = owner.Bounded(std::move(go), owner.setup_.timeouts.name_change);
        owner.OpenLazy(std::move(lazy), [bounded = std::move(bounded)] { bounded(Ok()); });
    });
}

void CachedFiles::Asker::Symlink(const std::string& target, const std::string& path,
                                 StatDone done) {
    WriteBehind::Before before = BeforeChange(path);
    files_.Symlink(target, path, std::move(before), Making(path, std::move(done)));
}

void CachedFiles::Asker::Link(const std::string& from, const std::string& to, StatDone done) {
    owner_->cache_.Changed(from);
    files_.Link(
        from, to,
        Making(to, [owner = owner_, from, to, done = std::move(done)](Result<RemoteStat> stat) {
            owner->cache_.Changed(from);
            if (stat) {
                // A lock may have been taken by it: what was seen here before is of no use.
                if (!owner->cache_.IsQuiet()) owner->cache_.ForgetDirectory(ParentOf(to));
                owner->cache_.Linked(from);
                owner->cache_.Linked(to);
            }
            done(std::move(stat));
        }));
}

void CachedFiles::Asker::Rename(const std::string& from, const std::string& to, Replace replace,
                                Done done) {
    FileCache& cache = owner_->cache_;
    const bool linked = cache.HasOtherNames(from);
    WriteBehind::Before before_from = BeforeChange(from);
    WriteBehind::Before before_to = BeforeChange(to);
    // What arrives is what was there before, with all its attributes but those that nobody is shown.
    Result<RemoteStat> arrives = Error(Errno{EAGAIN}, "");
    if (before_from.IsThere() && !S_ISDIR((*before_from.itself)->mode) && !linked)
        arrives = **before_from.itself;
    std::vector<std::string> below = cache.LinkedBelow(from);
    const FileCache::Question gone = cache.ChangingName(from);
    const FileCache::Question came = cache.ChangingName(to);
    auto lazy = owner_->lazy_->At(from);
    for (auto& file : owner_->lazy_->At(to))
        lazy.push_back(std::move(file));
    Done renamed = [owner = owner_, from, to, linked, below = std::move(below), gone, came,
                    arrives = std::move(arrives), done = std::move(done)](Status status) {
        FileCache& known = owner->cache_;
        // Where both names lead to one file rename(2) does nothing, and says that all is well.
        if (linked) {
            known.Made(gone, Error(Errno{EAGAIN}, ""));
        } else {
            known.Gone(gone, status);
        }
        // Else what is there now is known by type at best; the next look tells all.
        known.Made(came, status ? arrives : Error(Errno{EAGAIN}, ""));
        if (status && linked) known.Linked(to);
        if (status) {
            for (const std::string& path : below)
                known.Linked(to + path.substr(from.size()));
        }
        if (status && !known.IsQuiet()) {
            known.ForgetDirectory(ParentOf(from));
            known.ForgetDirectory(ParentOf(to));
        }
        done(std::move(status));
    };
    if (lazy.empty()) {
        return files_.Rename(from, to, replace, std::move(before_from), std::move(before_to),
                             std::move(renamed));
    }
    AfterOpening(std::move(lazy), [owner = owner_, wanted = wanted_, from, to, replace,
                                   renamed = std::move(renamed)](Status opened) mutable {
        if (!opened) return renamed(std::move(opened));
        owner->For(wanted).files_.Rename(from, to, replace, {}, {}, std::move(renamed));
    });
}

void CachedFiles::Asker::Write(const RemoteFilePtr& file, std::uint64_t offset, std::string bytes,
                               Done done) {
    const auto cached = std::dynamic_pointer_cast<CachedFile>(file);
    if (cached != nullptr && cached->KeepWritten(offset, bytes)) {
        done = [cached, done = std::move(done)](Status status) {
            if (!status) cached->DropWritten();
            done(std::move(status));
        };
    }
    On(file, std::move(done),
       [offset, bytes = std::move(bytes)](auto& files, const RemoteFilePtr& real,
                                          Done answer) mutable {
           files.Write(real, offset, std::move(bytes), std::move(answer));
       });
}

void CachedFiles::Asker::SetFileStat(const RemoteFilePtr& file, const StatChange& change,
                                     StatDone done) {
    On(file, std::move(done), [change](auto& files, const RemoteFilePtr& real, StatDone answer) {
        files.SetFileStat(real, change, std::move(answer));
    });
}

void CachedFiles::Asker::Copy(const RemoteFilePtr& from, FileRange range, const RemoteFilePtr& to,
                              std::uint64_t offset, CopiedDone done) {
    On(from, std::move(done),
       [owner = owner_, wanted = wanted_, range, to, offset](auto&, const RemoteFilePtr& source,
                                                             CopiedDone answer) {
           owner->For(wanted).On(to, std::move(answer),
                                 [source, range, offset](auto& files, const RemoteFilePtr& target,
                                                         CopiedDone copied) {
                                     files.Copy(source, range, target, offset, std::move(copied));
                                 });
       });
}

void CachedFiles::Asker::Sync(const RemoteFilePtr& file, Done done) {
    On(file, std::move(done), [](auto& files, const RemoteFilePtr& real, Done answer) {
        files.Sync(real, std::move(answer));
    });
}

void CachedFiles::Asker::Close(const RemoteFilePtr& file, Done done) {
    const auto cached = std::dynamic_pointer_cast<CachedFile>(file);
    const RemoteFilePtr real = cached == nullptr ? file : cached->Real();
    if (real != nullptr) files_.Close(real);
    done(Ok());
}

void CachedFiles::Asker::Flush(const RemoteFilePtr& file, Done done) {
    On(file, std::move(done), [](auto& files, const RemoteFilePtr& real, Done answer) {
        files.Flush(real, std::move(answer));
    });
}

void CachedFiles::Asker::Drain(Done done) {
    files_.Drain(std::move(done));
}

// --- Asker: open

void CachedFiles::Asker::Open(const std::string& path, const OpenHow& how, OpenDone done) {
    OpenVerified(path, how, Verify::kNo, [done = std::move(done)](Result<Opened> opened) {
        if (!opened) return done(std::move(opened).error());
        done(OpenedFile{std::move(opened->file), opened->stat});
    });
}

// What the server and the supervisor say of an open, until both have.
struct CachedFiles::Opening {
    std::shared_ptr<CachedFiles> owner;
    std::string path;
    OpenHow how;
    std::optional<Result<OpenedFile>> server;
    bool looked = false;
    std::int64_t looked_at_ns = 0;
    FileCache::Names names = FileCache::Names::kUnknown;
    Opened opened;
    OpenedDone done;

    void Finish() {
        if (!server || !looked) return;
        if (!*server) return done(std::move(*server).error());
        FileCache& cache = owner->cache_;
        if (opened.identity && opened.quiet)
            cache.SetBaselines(opened.era, {path}, {*opened.identity}, looked_at_ns);
        opened.file = owner->Wrap(path, how, **server, opened, names);
        opened.stat = (*server)->stat;
        done(std::move(opened));
    }
};

void CachedFiles::Asker::OpenVerified(const std::string& path, const OpenHow& how, Verify verify,
                                      OpenedDone done) {
    if (!IsPlainRead(how) || !owner_->cache_.IsQuiet())
        return OpenPlain(path, how, verify, std::move(done));
    // Where it is being fetched ahead, that is it.
    owner_->OnLoop([wanted = wanted_, path, how, verify,
                    done = std::move(done)](CachedFiles& owner) mutable {
        const auto answer = std::make_shared<OpenedDone>(std::move(done));
        const auto open = [owner = owner.shared_from_this(), wanted, path, how, verify, answer] {
            if (auto known = owner->KnownOpen(path, how)) return (*answer)(std::move(*known));
            owner->For(wanted).OpenPlain(path, how, verify, std::move(*answer));
        };
        if (!owner.prefetcher_->WhenFetched(path, open))
            return owner.For(wanted).OpenPlain(path, how, verify, std::move(*answer));
        *answer = owner.Bounded(std::move(*answer), owner.setup_.timeouts.operation);
    });
}

void CachedFiles::Asker::OpenPlain(const std::string& path, const OpenHow& how, Verify verify,
                                   OpenedDone done) {
    FileCache& cache = owner_->cache_;
    const auto opening = std::make_shared<Opening>();
    opening->owner = owner_;
    opening->path = path;
    opening->how = how;
    opening->done = std::move(done);
    opening->opened.era = cache.era();
    opening->opened.quiet = cache.IsQuiet();
    // In the same flight: that it has no other names, so that it can be told unasked next time.
    if (IsPlainRead(how) && opening->opened.quiet && !cache.IsSingle(path)) verify = Verify::kYes;
    opening->looked = verify == Verify::kNo;
    if (verify == Verify::kYes) {
        owner_->OnLoop([path, opening](CachedFiles& owner) {
            opening->looked_at_ns = owner.TheirNowNs();
            owner.Look({path}, [opening](std::optional<std::vector<IdentityStat>> stats) {
                opening->looked = true;
                if (stats && stats->size() == 1 && stats->front().error == 0)
                    opening->opened.identity = stats->front();
                opening->Finish();
            });
        });
    }
    WriteBehind::Before before;
    if (how.create) {
        before = BeforeChange(path);
        const auto itself = cache.Stat(path);
        const bool is_free = itself && !*itself;
        if (is_free || how.exclusive) opening->names = FileCache::Names::kOne;
    }
    if (how.truncate) cache.Changed(path);
    const FileCache::Question question = how.create ? cache.ChangingName(path) : cache.Ask(path);
    files_.Open(path, how, std::move(before),
                [owner = owner_, path, how, question, opening](Result<OpenedFile> file) {
                    FileCache& known = owner->cache_;
                    const Result<RemoteStat> stat =
                        file ? Result<RemoteStat>(file->stat) : Result<RemoteStat>(file.error());
                    if (how.truncate && !how.create) known.Changed(path);
                    if (how.create) {
                        known.Made(question, stat);
                    } else if (how.truncate) {
                        known.Drop(question);
                    } else {
                        known.PutStat(question, stat);
                    }
                    if (file && how.exclusive && !known.IsQuiet())
                        known.ForgetDirectory(ParentOf(path));
                    Opened& opened = opening->opened;
                    const std::int64_t now = owner->TheirNowNs();
                    if (file) opened.recent = IsRecent(file->stat, now);
                    if (opened.identity) opened.recent = IsRecent(*opened.identity, now);
                    opening->server = std::move(file);
                    opening->Finish();
                });
}

}  // namespace sbxfs
