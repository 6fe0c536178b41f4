#include "sandbox/cached_files.h"

#include <errno.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/check.h"
#include "sandbox/cached_file.h"
#include "sandbox/prefetcher.h"
#include "sandbox/read_ahead.h"
#include "sandbox/sandbox_metrics.h"

namespace sbxfs {
namespace {

// How often what lives in a sandbox in use is looked at.
constexpr Duration kLookQuiet = std::chrono::seconds(1);
constexpr Duration kLookShared = std::chrono::milliseconds(250);
// Paths the supervisor looks at before a command may start: each costs it 1 to 2 us.
constexpr std::size_t kMostBaselines = 1024;
constexpr std::size_t kMostMarked = 1024;

ReadAhead::Limits AheadLimits(const ContentStore& store) {
    ReadAhead::Limits limits;
    limits.window = std::min(limits.window, std::max<std::size_t>(store.most() / 16, 128U << 10));
    limits.whole = std::min<std::uint64_t>(limits.whole, store.most() / 4);
    return limits;
}

// Nothing: the supervisor has gone meanwhile.
template <class T>
UniqueFunction<void(Result<T>)> OrNothing(UniqueFunction<void(std::optional<T>)> done) {
    return [done = std::move(done)](Result<T> result) {
        if (!result) return done(std::nullopt);
        done(std::move(*result));
    };
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
    auto known = cache_.Stat(path);
    sandbox_metrics.CacheLooked(CacheKind::kAttributes, known.has_value());
    return known;
}

std::optional<std::vector<FileCache::Name>> CachedFiles::KnownList(const std::string& path) {
    Use();
    OnLoop([path](CachedFiles& self) { self.prefetcher_->Listed(path); });
    auto known = cache_.List(path);
    sandbox_metrics.CacheLooked(CacheKind::kListings, known.has_value());
    return known;
}

std::optional<std::string> CachedFiles::KnownTarget(const std::string& path) {
    Use();
    auto known = cache_.Target(path);
    sandbox_metrics.CacheLooked(CacheKind::kLinks, known.has_value());
    return known;
}

std::optional<CachedFiles::Opened> CachedFiles::KnownOpen(const std::string& path,
                                                          const OpenHow& how) {
    if (!IsPlainRead(how) || !cache_.IsQuiet()) return std::nullopt;
    Use();
    OnLoop([path](CachedFiles& self) { self.prefetcher_->Opened(path); });
    const FileCache::Era era = cache_.era();
    const auto held = cache_.Contents(path);
    if (!held) return std::nullopt;
    CachedFile::Setup setup{weak_from_this(), path,       how,
                            nullptr,          held->stat, held->contents,
                            held->identity,   false,      AheadLimits(*store_)};
    setup.connection = connection_;
    const auto file = std::make_shared<CachedFile>(std::move(setup));
    if (!lazy_->Add(file)) return std::nullopt;
    // Who begins another era, or changes the name, after this look finds it among the lazy ones.
    const auto again = cache_.Contents(path);
    if (!again || again->contents != held->contents || cache_.era() != era) return std::nullopt;
    // Its bytes will be asked for: it is opened meanwhile.
    if (!held->contents->IsWhole())
        OnLoop([file](CachedFiles&) { file->WithReal([](const Result<RemoteFilePtr>&) {}); });
    Opened opened{file, held->stat, held->identity, era, true, false};
    opened.recent = held->identity ? IsRecent(*held->identity, TheirNowNs())
                                   : IsRecent(held->stat, TheirNowNs());
    return opened;
}

std::optional<ContentSlices> CachedFiles::KnownBytes(const RemoteFilePtr& file,
                                                     const BytesAsked& asked) {
    const auto cached = std::dynamic_pointer_cast<CachedFile>(file);
    auto known = cached == nullptr ? std::nullopt : cached->Known(asked);
    sandbox_metrics.CacheLooked(CacheKind::kContents, known.has_value());
    return known;
}

void CachedFiles::SetVersion(const RemoteFilePtr& file, std::uint64_t version) {
    if (const auto cached = std::dynamic_pointer_cast<CachedFile>(file))
        cached->SetVersion(version);
}

RemoteFilePtr CachedFiles::Wrap(const std::string& path, const OpenHow& how, const OpenedFile& file,
                                const Opened& opened, FileCache::Names names, Fetched fetched) {
    CachedFile::Setup setup{weak_from_this(), path,          how,
                            file.file,        file.stat,     {},
                            opened.identity,  opened.recent, AheadLimits(*store_)};
    setup.names = names;
    setup.connection = connection_;
    if (how.read && !how.truncate)
        setup.contents = cache_.ShareContents(path, file.stat, opened.era, *store_);
    if (setup.contents == nullptr && fetched.contents != nullptr) {
        setup.contents = std::move(fetched.contents);
        setup.since = fetched.asked;
    }
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

CachedFiles::Asker CachedFiles::For(std::function<bool()> wanted) {
    Use();
    return {shared_from_this(), std::move(wanted)};
}

void CachedFiles::DropCaches(Done done) {
    cache_.ForgetAll();
    OnLoop([done = std::move(done)](CachedFiles& self) mutable {
        const bool quiet = self.cache_.IsQuiet();
        self.Begin(FileCache::Quiet::kNo);
        self.behind_->ForgetShown();
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
    // Who opens one again needs the supervisor to recognise it.
    if (quiet == FileCache::Quiet::kNo && port_ != nullptr) (void)behind_->OpenLetGo();
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
    fetches_ = hello.fetches;
    stores_ = hello.stores;
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
    DrainThenStart(std::move(go));
}

void CachedFiles::DrainThenStart(Job go) {
    (void)behind_->OpenLetGo();
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
    if (behind_->OpenLetGo()) return DrainThenStart(std::move(go));
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

std::uint64_t CachedFiles::RoomForDirty() const {
    const std::uint64_t others = store_->Claimed() - claimed_;
    return store_->most() - std::min<std::uint64_t>(others, store_->most());
}

std::int64_t CachedFiles::TheirNowNs() const {
    return (EpochMs(loop_.clock().System()) + skew_ms_) * 1'000'000;
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

void CachedFiles::Store(const StoreRequest& what,
                        UniqueFunction<void(std::optional<StoredFile>)> done) {
    DCHECK(loop_.OnThread() && CanStore());
    port_->Store(what, OrNothing<StoredFile>(std::move(done)));
}

void CachedFiles::Rename(const RenameRequest& what, UniqueFunction<void(std::optional<int>)> done) {
    DCHECK(loop_.OnThread() && CanStore());
    port_->Rename(what, OrNothing<int>(std::move(done)));
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

}  // namespace sbxfs
