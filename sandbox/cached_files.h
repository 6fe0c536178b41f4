// A sandbox's files as the mount uses them: FileCache in front of LinkedFiles. Decides when the sandbox
// is quiet, begins an era around every command and whenever the link or what lives there changes, and
// has the supervisor look at many paths in one question. Owned by Sandbox.
//
// Any thread may ask what is known, and make an Asker; what an Asker asks is answered on the loop. The
// rest is the loop's.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/loop.h"
#include "sandbox/commands.h"
#include "sandbox/content_store.h"
#include "sandbox/file_cache.h"
#include "sandbox/linked_files.h"
#include "sandbox/mount_caches.h"
#include "sandbox/names.h"
#include "sandbox/remote_files.h"
#include "sandbox/space_memory.h"
#include "sandbox/supervisor_port.h"
#include "sandbox/write_behind.h"

namespace sbxfs {

class CachedFile;
class LazyFiles;
class Prefetcher;

class CachedFiles final : public CommandObserver,
                          public LinkWitness,
                          public WriteBehind::Owner,
                          public std::enable_shared_from_this<CachedFiles> {
 public:
    struct Setup {
        Generation box{};
        bool exclusive = true;  // nobody but us and its own processes writes there
        bool write_behind = true;
        LinkedFiles::Timeouts timeouts{};
        std::shared_ptr<ContentStore> store{};  // the mount's; none: one of its own
    };
    CachedFiles(Loop& loop, std::shared_ptr<LinkedFiles> files, Setup setup);
    ~CachedFiles() override;

    // --- any thread ---
    FileCache& cache() { return cache_; }
    const FileCache& cache() const { return cache_; }
    SpaceMemory& space() { return space_; }
    // What the cache knows, noting that the sandbox is in use: while it is, its processes are looked at
    // once a second.
    std::optional<Result<RemoteStat>> KnownStat(const std::string& path);
    std::optional<std::vector<FileCache::Name>> KnownList(const std::string& path);
    std::optional<std::string> KnownTarget(const std::string& path);

    // What was open(2)ed, and how far its pages can be trusted.
    struct Opened {
        RemoteFilePtr file;
        RemoteStat stat;
        std::optional<IdentityStat> identity;  // of the path, read while it was opened
        FileCache::Era era = 0;                // all of this was seen in it
        bool quiet = false;
        bool recent = false;  // changed too shortly before to tell changes apart
    };
    // An open that needs nobody to be asked, because all of the file is known.
    std::optional<Opened> KnownOpen(const std::string& path, const OpenHow& how);
    // What is known of an open file's bytes: see CachedFile.
    static std::optional<ContentSlices> KnownBytes(const RemoteFilePtr& file,
                                                   const BytesAsked& asked);

    // Of the file's count of changes, at the open.
    static void SetVersion(const RemoteFilePtr& file, std::uint64_t version);

    class Asker;
    // `wanted`: see LinkedFiles::For().
    Asker For(std::function<bool()> wanted);
    // `stat` is that of the file after all that was written through this handle, and nobody has changed it but through
    // it: its bytes are known.
    void PutWritten(const RemoteFilePtr& file, FileCache::Question question,
                    const RemoteStat& stat);
    std::uint64_t connection() const { return connection_; }
    Duration bound() const { return setup_.timeouts.operation; }
    void SetMount(MountCaches* mount) { mount_ = mount; }
    // Changes whose callers were answered before the sandbox had them.
    WriteBehind& behind() { return *behind_; }
    // `echo drop_caches > ctl`.
    void DropCaches(Done done);

    // --- loop thread only ---
    void SupervisorUp(SupervisorPort& port, const SupervisorHello& hello);
    void SupervisorLost();
    void BeforeStart(Job go) override;
    void AfterEnd(std::uint32_t others, std::size_t active, Job go) override;
    void Settled(std::size_t active) override;
    bool IsAlone() const override { return cache_.IsQuiet(); }
    std::uint64_t Stretch() const override { return cache_.era(); }
    void Identify(const std::string& path, Identified done) override;
    void IdentifyOpened(const std::string& path, const RemoteStat& opened,
                        Identified done) override;
    void OnUnknownOutcome() override;
    bool CanStore() const override { return port_ != nullptr && stores_; }
    void Store(const StoreRequest& what,
               UniqueFunction<void(std::optional<StoredFile>)> done) override;
    void Rename(const RenameRequest& what, UniqueFunction<void(std::optional<int>)> done) override;
    bool HasOtherNames(const std::string& path) const override {
        return cache_.HasOtherNames(path);
    }
    void OnLost(const std::string& path, const Error& why) override;
    void OnSettled(const std::string& path) override { cache_.Changed(path); }
    std::int64_t TheirNowNs() const override;
    void OnDirty(std::uint64_t bytes) override;
    std::uint64_t RoomForDirty() const override;
    // Called when a change came to nothing that its caller was told had been made.
    std::function<void(const std::string& path, const Error& why)> on_lost;
    // Called when nobody can tell whether a change was made.
    std::function<void()> on_unknown_outcome;

    using OpenedDone = UniqueFunction<void(Result<Opened>)>;

    // --- for CachedFile and Prefetcher. Any thread ---
    SteadyTime Now() const { return loop_.clock().Steady(); }
    ContentStore& store() { return *store_; }
    // An open that was answered before: however long it takes.
    void OpenLate(const std::string& path, const OpenHow& how, OpenDone done);

    // --- what is asked for nobody in particular. Loop thread only. Only while the link is up, and not again
    // after a cut: whoever waits for it by then asks for himself ---
    bool CanFetch() const { return files_->IsUp(); }
    void FetchRead(const RemoteFilePtr& real, FileRange range, BytesDone done);
    void FetchList(const std::string& path, Done done);
    // All of a small file, into the cache.
    void FetchWhole(const std::string& path, const RemoteStat& stat, Done done);
    // So large are files that the supervisor reads: what it says of commands waits behind them.
    static constexpr std::uint32_t kMostFetched = 64U << 10;
    // Whether the file can be one of FetchMany()'s.
    bool CanFetchMany(const FileCache::Small& file) const;
    // All of these, their identities, and how many names they have, in one question. Those that have changed since do
    // not come.
    void FetchMany(std::vector<FileCache::Small> files, Job done);
    // Somebody's wait for what others have asked for: ends with ETIMEDOUT in time, whatever becomes of that.
    template <class T>
    UniqueFunction<void(Result<T>)> Bounded(UniqueFunction<void(Result<T>)> done, Duration bound);
    // How many names each has, and their identities, into the cache. Loop thread only.
    void LookAtNames(const std::vector<std::string>& paths, Job done);
    void LookAt(const std::string& path, Identified done);
    template <class F>
    void OnLoop(F job) {
        loop_.Post([weak = weak_from_this(), job = std::move(job)]() mutable {
            if (const auto self = weak.lock()) job(*self);
        });
    }
    const Prefetcher& prefetcher() const { return *prefetcher_; }

 private:
    struct Opening;
    struct Fetching;
    template <class T>
    using SeenDone = UniqueFunction<void(T)>;
    // What asks for nothing but bytes that are there.
    static bool IsPlainRead(const OpenHow& how) {
        return how.read && !how.write && !how.append && !how.create && !how.truncate;
    }
    void Use();
    void DrainThenStart(Job go);
    void BeginStart(Job go);
    void SetMode(FileCache::Quiet quiet);
    void IdentifyBatch();
    void LookAtProcesses();
    void Decide();
    void Begin(FileCache::Quiet quiet);
    // Nothing when nobody can look, or does not in time.
    void Look(const std::vector<std::string>& paths,
              SeenDone<std::optional<std::vector<IdentityStat>>> done);
    // With the bytes of a small file.
    void LookInto(const std::string& path, SeenDone<std::optional<FetchedFile>> done);
    template <class T>
    SeenDone<Result<std::vector<T>>> InTime(SeenDone<std::optional<std::vector<T>>> done);
    FileContentsPtr Whole(std::string bytes) const;
    bool IsOf(const IdentityStat& identity, const std::string& path, const RemoteStat& shown);
    void Recheck(const std::string& path, Job then);
    struct Fetched {
        FileContentsPtr contents;
        SteadyTime asked{};
    };
    RemoteFilePtr Wrap(const std::string& path, const OpenHow& how, const OpenedFile& file,
                       const Opened& opened, FileCache::Names names, Fetched fetched);
    // Those that have not been opened there are now; `then` runs on the loop when they are.
    void OpenLazy(std::vector<std::shared_ptr<CachedFile>> files, Job then);
    void CountOffStarts();
    std::function<bool()> OnThisLink() const;
    void LookBehind(const std::string& directory, FileCache::Question question);
    // A look that was sent behind a change is answered right behind it: then the caller is.
    template <class D, class R>
    void AfterLook(D done, R result) {
        if (setup_.write_behind && cache_.IsQuiet()) return done(std::move(result));
        loop_.Post([done = std::move(done), result = std::move(result)]() mutable {
            done(std::move(result));
        });
    }
    std::optional<std::vector<RemoteEntry>> KnownEntries(const std::string& path) const;

    Loop& loop_;
    const std::shared_ptr<LinkedFiles> files_;
    const std::shared_ptr<WriteBehind> behind_;
    const Setup setup_;
    FileCache cache_;
    SpaceMemory space_;
    const std::shared_ptr<ContentStore> store_;
    const std::unique_ptr<LazyFiles> lazy_;
    const std::shared_ptr<Prefetcher> prefetcher_;
    std::atomic<MountCaches*> mount_{nullptr};
    std::atomic<std::int64_t> skew_ms_{0};       // the sandbox's clock minus ours
    std::atomic<SteadyTime::rep> looked_at_{0};  // when the processes there were last asked for

    // Counts supervisors: an answer of an earlier one says nothing.
    std::atomic<std::uint64_t> connection_{0};

    // Loop thread's own.
    SupervisorPort* port_ = nullptr;
    bool fetches_ = false;  // it knows Fetch()
    bool stores_ = false;   // and Store()
    std::uint64_t boot_id_ = 0;
    bool settled_ = false;    // what runs there is known
    std::size_t active_ = 0;  // commands that run, or are about to
    // Those that wait until the kernel has given back what it had, in order.
    std::optional<std::vector<Job>> starts_;
    std::size_t starts_wait_for_ = 0;
    std::optional<std::uint32_t> others_;  // processes that are not ours; none: not known yet
    bool looking_ = false;
    std::uint64_t claimed_ = 0;  // of the store, for what has been written and is not acknowledged
    std::vector<std::pair<std::string, Identified>> identify_;  // to be asked about together
};

template <class T>
UniqueFunction<void(Result<T>)> CachedFiles::Bounded(UniqueFunction<void(Result<T>)> done,
                                                     Duration bound) {
    struct Wait {
        UniqueFunction<void(Result<T>)> done;
        TimerPtr limit;
        void End(Result<T> result) {
            limit.reset();
            if (done) std::exchange(done, {})(std::move(result));
        }
    };
    const auto wait = std::make_shared<Wait>();
    wait->done = std::move(done);
    wait->limit = loop_.After(bound, [weak = std::weak_ptr(wait)] {
        if (const auto late = weak.lock()) late->End(LinkedFiles::NotInTime());
    });
    return [wait](Result<T> result) { wait->End(std::move(result)); };
}

// The operations of one parked request. Fills the cache with what it hears, and keeps it true of what
// it changes.
class CachedFiles::Asker final : public RemoteFiles {
 public:
    Asker(std::shared_ptr<CachedFiles> owner, std::function<bool()> wanted)
        : owner_(std::move(owner)), wanted_(std::move(wanted)), files_(owner_->behind_, wanted_) {}

    void Lstat(const std::string& path, StatDone done) override;
    void List(const std::string& path, EntriesDone done) override;
    void ReadLink(const std::string& path, TextDone done) override;
    void SetStat(const std::string& path, const StatChange& change, StatDone done) override;
    void MakeDir(const std::string& path, std::uint32_t mode, StatDone done) override;
    void RemoveDir(const std::string& path, Done done) override;
    void Unlink(const std::string& path, Done done) override;
    void Symlink(const std::string& target, const std::string& path, StatDone done) override;
    void Link(const std::string& from, const std::string& to, StatDone done) override;
    void Rename(const std::string& from, const std::string& to, Replace replace,
                Done done) override;
    void Statfs(const std::string& path, StatfsDone done) override;
    void Open(const std::string& path, const OpenHow& how, OpenDone done) override;
    // Of open files the path is the caller's to know: FileCache::Changed() before and after.
    void Read(const RemoteFilePtr& file, FileRange range, BytesDone done) override;
    void Write(const RemoteFilePtr& file, std::uint64_t offset, FileBytes bytes,
               Done done) override;
    void FileStat(const RemoteFilePtr& file, StatDone done) override;
    void SetFileStat(const RemoteFilePtr& file, const StatChange& change, StatDone done) override;
    void Copy(const RemoteFilePtr& from, FileRange range, const RemoteFilePtr& to,
              std::uint64_t offset, CopiedDone done) override;
    void Sync(const RemoteFilePtr& file, Done done) override;
    // `done` says nothing of what the server said: Flush() has what went wrong.
    void Close(const RemoteFilePtr& file, Done done) override;
    // What close(2) waits for.
    void Flush(const RemoteFilePtr& file, Done done);
    // Every change told so far, for fsync(2) of a directory.
    void Drain(Done done);

    // Open, and the supervisor's look at the path at the same time.
    enum class Verify { kNo, kYes };
    void OpenVerified(const std::string& path, const OpenHow& how, Verify verify, OpenedDone done);
    // Of the sandbox's own open files, past everything that is known.
    void OpenReal(const std::string& path, const OpenHow& how, OpenDone done) {
        files_.Open(path, how, WriteBehind::Before{}, std::move(done));
    }
    void ReadReal(const RemoteFilePtr& real, FileRange range, BytesDone done) {
        files_.Read(real, range, std::move(done));
    }
    void AskList(const std::string& path, EntriesDone done);

 private:
    // `use` gets the sandbox's own open file; within the call where it is open there already.
    template <class D, class F>
    void On(const RemoteFilePtr& file, D done, F use);
    void AskStat(const std::string& path, StatDone done);
    WriteBehind::Before BeforeChange(const std::string& path) const;
    void OpenPlain(const std::string& path, const OpenHow& how, Verify verify, OpenedDone done);
    void AfterOpening(std::vector<std::shared_ptr<CachedFile>> lazy, Done go);
    StatDone Making(FileCache::Question question, StatDone done);
    Done Removing(FileCache::Question question, Done done);
    void LookBehind(const std::string& path, const std::vector<FileCache::Question>& changes);

    const std::shared_ptr<CachedFiles> owner_;
    const std::function<bool()> wanted_;
    WriteBehind::ForAsker files_;
};

}  // namespace sbxfs
