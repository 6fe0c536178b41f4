// Changes of a sandbox's files whose callers need not wait (contract 5, "Write-behind"). Stands between
// CachedFiles and LinkedFiles. While the sandbox is quiet a change that cannot but succeed is answered at
// once and sent right behind those before it, many in flight; every other one waits for its answer, and for
// whatever it would overtake. docs/WRITE_BEHIND.md has the design.
//
// "Cannot but succeed" is known, not hoped: the name is known to be free (or to be there), the directory is ours
// to write to, by its owner and mode, or has taken a change since the sandbox became quiet, and its file system
// can be written to and has room (TrustedDirs, ServerView).
//
// Order. The server works off its channel in order, so a change need only be sent behind those it builds on.
// Those that remove or replace something (unlink, rename, truncate) are held until all data given before
// them has been acknowledged; if some of it was lost they are not sent. A question waits for the changes it
// asks about, unless the answer is known.
//
// One that fails late is reported (Owner::OnLost) and ends the writing behind, until somebody has heard of it:
// Acknowledge(). Until then creates and writes are EIO.
//
// Owned by CachedFiles. Loop thread only, but for ForAsker, FirstUnacknowledged and what it says otherwise.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/loop.h"
#include "base/result.h"
#include "base/sync.h"
#include "sandbox/linked_files.h"
#include "sandbox/remote_files.h"
#include "sandbox/sandbox_metrics.h"
#include "sandbox/send_window.h"
#include "sandbox/server_view.h"
#include "sandbox/shown_times.h"
#include "sandbox/trusted_dirs.h"

namespace sbxfs {

class WriteBehind final : public std::enable_shared_from_this<WriteBehind> {
 public:
    struct Limits {
        std::uint64_t dirty = 64U << 20;    // bytes that are not acknowledged, in all
        std::uint64_t at_close = 1U << 20;  // of a file: with more, close(2) waits
        std::size_t changes = 8192;         // not acknowledged
        std::size_t open_files = 400;       // that the server holds for us
        Duration wait = std::chrono::seconds(30);
        Duration name_wait = std::chrono::seconds(5);
    };
    enum class Mode {
        kOff,     // every change waits
        kShared,  // others write there too: data may follow until close(2), names wait
        kQuiet,
    };
    // What is known of a name, and of its directory, just before it is changed; nothing: nothing.
    struct Before {
        std::optional<Result<RemoteStat>> itself;
        std::optional<Result<RemoteStat>> parent;
        bool empty = false;  // a directory without names

        bool IsFree() const {
            return itself && !*itself && itself->error().code() == Errno{ENOENT};
        }
        bool IsThere() const { return itself && *itself; }
    };

    // What it needs to know, and whom it tells. On the loop.
    class Owner {
     public:
        Owner() = default;
        Owner(const Owner&) = delete;
        Owner& operator=(const Owner&) = delete;
        virtual ~Owner() = default;
        virtual std::int64_t TheirNowNs() const = 0;  // since the epoch, the sandbox's clock
        virtual bool HasOtherNames(const std::string& path) const = 0;
        // A change that was told to have succeeded has not: what is cached of it is wrong.
        virtual void OnLost(const std::string& path, const Error& why) = 0;
        // The attributes of a file that was written are known again.
        virtual void OnSettled(const std::string& path) = 0;
        // So many bytes are unacknowledged now.
        virtual void OnDirty(std::uint64_t bytes) = 0;
        // How many may be, as far as the memory of the mount goes and what its other sandboxes have of it.
        virtual std::uint64_t RoomForDirty() const = 0;
    };

    WriteBehind(Loop& loop, std::shared_ptr<LinkedFiles> files, Limits limits);
    ~WriteBehind();
    void SetOwner(Owner* owner) { owner_ = owner; }

    // The operations of one caller. Any thread; answers come on the loop.
    class ForAsker;

    // --- any thread ---
    // The oldest change that its caller was told of and the sandbox has not acknowledged.
    std::optional<std::string> FirstUnacknowledged() const;
    // How much it is, for people: true a moment ago.
    struct Behind {
        std::int64_t changes = 0;
        std::int64_t bytes = 0;
    };
    Behind HowMuch() const { return {dirty_changes_.value(), dirty_bytes_.value()}; }
    // Somebody has heard of the changes that were lost.
    void Acknowledge();

    // --- loop thread ---
    // Begins anew what is trusted.
    void SetMode(Mode mode);
    Mode mode() const { return mode_; }
    // With the mtime that is shown of what the sandbox says of a path.
    RemoteStat Shown(const std::string& path, RemoteStat stat);
    // From now on the sandbox's own mtimes are shown of what it has.
    void ForgetShown();
    // When every change told so far has been acknowledged, or is lost: the first's error. With a bound: ETIMEDOUT, naming
    // the first.
    void Drain(std::optional<Duration> bound, Done done);
    bool IsClean() const;
    // Files that are open here and were let go there (write_behind_let_go.cc) are opened again, as changes under way. Whether
    // there are any.
    bool OpenLetGo();
    // A change of the file, its name or a name above it is under way.
    bool HasChanges(const std::string& path) const {
        return !Conflicts(path, Reach::kPath).empty();
    }

 private:
    struct Change;
    struct FileState;
    struct Payload;
    class BehindFile;
    using ChangePtr = std::shared_ptr<Change>;
    using StatePtr = std::shared_ptr<FileState>;
    using FilePtr = std::shared_ptr<BehindFile>;
    enum class After { kSent, kEnded };
    enum class Reach { kPath, kTree };  // a name and those above it, or what is below it, too
    struct What {
        std::string text;  // for people: "unlink /a"
        std::string path;
        std::string other;  // of a rename or link
        Reach reach = Reach::kPath;
        bool removes = false;
        bool vacates = false;       // a name that it changes is free, or another file's, afterwards
        std::uint64_t carries = 0;  // bytes of the file that it renames, if they are known
        bool named = true;          // changes a name: the bound is shorter
        bool shuts = false;  // a directory: nothing below it can be changed by name afterwards
    };

    using Through_ = std::shared_ptr<FileOperations>;

    // --- write_behind.cc: order
    ChangePtr New(What what, bool deferred);
    void Enter(const ChangePtr& change);
    void DependOn(const ChangePtr& change, const ChangePtr& earlier, After when);
    void DependOnConflicts(const ChangePtr& change, Reach reach);
    std::vector<ChangePtr> Conflicts(std::string_view path, Reach reach) const;
    void Hold(const ChangePtr& change);
    void Release(const ChangePtr& change);
    void Run();
    void Send(const ChangePtr& change);
    void Ended(const ChangePtr& change, const Status& status);
    void Lost(const Change& change, const Error& why);
    void FailHeld(const Error& why);
    void CheckWaiters();
    void ArmDeadline();
    void CheckDeadlines();
    bool MayDefer() const;
    // Why a change is not begun at all: nobody waits for it any more; also, with kMakes, something was lost before.
    enum class Kind { kMakes, kRemoves };
    std::optional<Error> Refusal(const Through_& to, Kind kind) const;
    std::optional<Error> Unheard() const;
    // No change is under way there whose outcome nobody knows yet.
    bool IsSettled(std::string_view path) const;
    template <class T>
    using Runner = UniqueFunction<void(UniqueFunction<void(Result<T>)>)>;
    template <class T>
    void Through(What what, Runner<T> run, UniqueFunction<void(Result<T>)> done);
    template <class T>
    void Question(const std::string& path, Reach reach, Runner<T> run,
                  UniqueFunction<void(Result<T>)> done);
    // `apart`: by the supervisor.
    void Defer(What what, bool apart, UniqueFunction<void(Done)> send);

    // --- write_behind_names.cc
    void Lstat(const Through_& to, const std::string& path, StatDone done);
    void List(const Through_& to, const std::string& path, EntriesDone done);
    void ReadLink(const Through_& to, const std::string& path, TextDone done);
    void MakeDir(const Through_& to, const std::string& path, std::uint32_t mode,
                 const Before& before, StatDone done);
    void RemoveDir(const Through_& to, const std::string& path, const Before& before, Done done);
    void Unlink(const Through_& to, const std::string& path, const Before& before, Done done);
    void Symlink(const Through_& to, const std::string& target, const std::string& path,
                 const Before& before, StatDone done);
    void Link(const Through_& to, const std::string& from, const std::string& path, StatDone done);
    void Rename(const Through_& to, const std::string& from, const std::string& path,
                RemoteFiles::Replace replace, const Before& before_from, const Before& before_to,
                Done done);
    void SetStat(const Through_& to, const std::string& path, const StatChange& change,
                 const Before& before, StatDone done);
    // What is known to be at `path`: as it will be once all that was told has been made.
    std::optional<RemoteStat> Known(const std::string& path, const Before& before);
    TrustedDirs::Directory* Trusted(const std::string& path, const Before& before);
    void Trust(const std::string& path, const std::optional<RemoteStat>& made);
    void AskForView(const std::string& path);
    void LookedAt(const std::string& path);
    RemoteStat NewStat(std::uint32_t type_and_mode, const TrustedDirs::Directory& parent) const;
    StatDone Making(const std::string& path, StatDone done);
    void Made(const std::string& path, std::uint64_t trusts);
    void Touched(const std::string& path);
    void ChangedThere(const std::string& path);
    std::int64_t TheirNow() const { return owner_->TheirNowNs() / 1'000'000'000; }
    // What the sandbox says of a file that has nothing under way.
    void Learned(FileState& state, const RemoteStat& real);
    // An mtime that somebody may have been shown.
    void Seen(std::int64_t mtime);
    // What is shown of a file whose changes are under way.
    const RemoteStat& Tell(FileState& state);

    // --- write_behind_data.cc
    void Open(const Through_& to, const std::string& path, const OpenHow& how, const Before& before,
              OpenDone done);
    void CreateBehind(const std::string& path, const OpenHow& how,
                      const TrustedDirs::Directory& parent, OpenDone done);
    void Opened(const StatePtr& state, const OpenHow& how, OpenedFile opened, const OpenDone& done);
    void Read(const Through_& to, const FilePtr& file, FileRange range, BytesDone done);
    void Write(const Through_& to, const FilePtr& file, std::uint64_t offset, FileBytes bytes,
               Done done);
    void WriteNow(const Through_& to, const FilePtr& file, Payload payload, Done done);
    void FileStat(const Through_& to, const FilePtr& file, StatDone done);
    void AskFileStat(const Through_& to, const FilePtr& file, StatDone done);
    void SetFileStat(const Through_& to, const FilePtr& file, const StatChange& change,
                     StatDone done);
    bool MaySetBehind(const BehindFile& file, const StatChange& change);
    void Copy(const Through_& to, const FilePtr& from, FileRange range, const FilePtr& target,
              std::uint64_t offset, CopiedDone done);
    void Sync(const Through_& to, const FilePtr& file, Done done);
    void Flush(const FilePtr& file, Done done);
    void Close(const FilePtr& file);
    void QueueClose(const FilePtr& file);
    StatePtr StateAt(const std::string& path) const;
    void DropIfIdle(const StatePtr& state);
    void Moved(const std::string& from, const std::string& to);
    void Unnamed(const std::string& path);

    // --- write_behind_let_go.cc
    bool MayLetGo(const BehindFile& file) const;
    void LetGo(const FilePtr& file);
    bool HasJustLetGo(const FileState& state) const;
    void Keep(const FilePtr& file);
    void OpenLetGo(const std::string& path);

    // --- write_behind_whole.cc
    struct Parts;
    bool MayGather(const OpenHow& how) const;
    void Gather(const StatePtr& state, const ChangePtr& creation, const FilePtr& file);
    void ArmGather();
    void UngatherUntil(SteadyTime until);
    void Ungather(const StatePtr& state);
    void MakeAtOnce(const Change& awaited);
    void Seal(const StatePtr& state);
    void PumpWhole(const StatePtr& state);
    void SendWhole(const StatePtr& state);
    void WholeEnded(const StatePtr& state, const FilePtr& file, const Parts& parts,
                    Result<MadeFile> made);
    void RememberStored(const std::string& path, const std::optional<IdentityStat>& identity);
    std::optional<IdentityStat> Stored(const std::string& path) const;

    // --- write_behind_order.cc
    void Queue(const StatePtr& state, const ChangePtr& change, const FilePtr& file);
    void Pump(const StatePtr& state);
    static bool Overlaps(const FileState& state, const Change& change, bool asides_only);
    bool MayFollow(const FileState& state, const Change& change, const FilePtr& file) const;
    bool MayGoAside(const FileState& state, const Change& change, const FilePtr& file);
    void Discount(FileState& state, const Change& change);
    void DataEnded(const StatePtr& state, const ChangePtr& change, const FilePtr& file,
                   const Status& status);
    void PumpStalled();
    void CreationFailed(const StatePtr& state, const Error& why);
    void DropUnsent(const StatePtr& state);
    void DependOnUnderWay(const ChangePtr& change, const FileState& state);
    void WhenClean(const StatePtr& state, Done done);
    void Settle(const StatePtr& state, std::uint64_t change, const RemoteStat& real);

    // --- write_behind_room.cc
    VolumePtr VolumeOf(const std::string& path);
    void FindVolume(FileState& state);
    bool MayDefer(const FileState& state, std::uint64_t bytes);
    bool HasRoom(const VolumePtr& volume, std::uint64_t bytes);
    std::uint64_t DirtyBound() const;
    void Measure(const Change& change);
    void LetRoom();
    void SetDirty(std::uint64_t bytes);

    Loop& loop_;
    const std::shared_ptr<LinkedFiles> files_;
    const std::shared_ptr<LinkedFiles::Patient> patient_;
    const Limits limits_;
    Owner* owner_ = nullptr;

    mutable Mutex mu_{LockRank::kWriteBehind};
    std::map<std::uint64_t, std::string> unacknowledged_ GUARDED_BY(mu_);  // what, by number
    GaugeShare dirty_changes_{sandbox_metrics.dirty_changes};
    GaugeShare dirty_bytes_{sandbox_metrics.dirty_bytes};

    // Loop thread's own.
    Mode mode_ = Mode::kOff;
    std::optional<Error> lost_;    // and nobody has heard of it
    std::optional<Error> newest_;  // the last that was lost
    std::uint64_t losses_ = 0;
    // Files that lack what was written to them: they take no other's place. Until they are made anew or removed.
    std::set<std::string, std::less<>> damaged_;
    std::uint64_t next_ = 1;
    std::map<std::uint64_t, ChangePtr> pending_;  // not ended
    std::map<std::string, std::vector<ChangePtr>, std::less<>> by_path_;
    std::set<std::uint64_t> data_;  // of them, those that removals wait for
    std::deque<ChangePtr> held_;    // removals, in order
    std::deque<ChangePtr> ready_;
    bool running_ = false;
    bool deadline_armed_ = false;
    struct Waiter {
        std::uint64_t last;    // all up to this one
        std::uint64_t losses;  // before it began to wait
        SteadyTime deadline;
        Done done;
    };
    std::list<Waiter> waiters_;
    TrustedDirs dirs_;
    std::uint64_t trusts_ = 0;  // counts their beginnings: an answer to an earlier one says nothing
    std::optional<ServerView> view_;
    bool view_asked_ = false;
    // In this era: something was looked at, and changed. Who did both in the one before is likely to do it again.
    bool looked_ = false;
    bool changed_ = false;
    bool expects_changes_ = true;
    std::map<std::string, VolumePtr> volumes_;  // by mount point
    ShownTimes times_;
    std::int64_t newest_mtime_ = 0;         // that was seen, but none of the future
    std::unordered_set<std::string> made_;  // in this era: theirs is ours to change
    std::map<std::string, StatePtr, std::less<>>
        states_;                   // files that are open or have changes under way, by name
    std::list<StatePtr> stalled_;  // have something to send, when there is room in the flight
    std::uint64_t dirty_ = 0;
    std::uint64_t in_flight_ = 0;  // bytes sent and not acknowledged
    std::uint64_t aside_ = 0;      // of them, by the second way
    SendWindow window_;
    struct RoomWaiter {
        SteadyTime deadline;
        Done go;
    };
    std::list<RoomWaiter> room_;  // writes that wait for room
    std::size_t open_files_ = 0;
    // Files that went as a whole, the newest last: what they are renamed by.
    std::deque<std::pair<std::string, IdentityStat>> stored_;
    // New files that gather, and until when; also what no longer does.
    std::deque<std::pair<SteadyTime, std::weak_ptr<FileState>>> gathering_;
    bool gather_armed_ = false;
    std::vector<std::weak_ptr<BehindFile>> let_go_;
    SteadyTime lets_go_from_{};  // nothing is let go before
    // What the link carries, in bytes a second; 0: not measured yet.
    double rate_ = 0;
    SteadyTime rate_from_{};
    std::uint64_t rate_bytes_ = 0;
};

class WriteBehind::ForAsker final {
 public:
    // `wanted`: see LinkedFiles::For().
    ForAsker(std::shared_ptr<WriteBehind> owner, const std::function<bool()>& wanted);

    void Lstat(const std::string& path, StatDone done);
    void List(const std::string& path, EntriesDone done);
    void ReadLink(const std::string& path, TextDone done);
    void Statfs(const std::string& path, StatfsDone done);
    void SetStat(const std::string& path, const StatChange& change, Before before, StatDone done);
    void MakeDir(const std::string& path, std::uint32_t mode, Before before, StatDone done);
    void RemoveDir(const std::string& path, Before before, Done done);
    void Unlink(const std::string& path, Before before, Done done);
    void Symlink(const std::string& target, const std::string& path, Before before, StatDone done);
    void Link(const std::string& from, const std::string& to, StatDone done);
    void Rename(const std::string& from, const std::string& to, RemoteFiles::Replace replace,
                Before before_from, Before before_to, Done done);
    void Open(const std::string& path, const OpenHow& how, Before before, OpenDone done);
    void Read(const RemoteFilePtr& file, FileRange range, BytesDone done);
    void Write(const RemoteFilePtr& file, std::uint64_t offset, FileBytes bytes, Done done);
    void FileStat(const RemoteFilePtr& file, StatDone done);
    void SetFileStat(const RemoteFilePtr& file, const StatChange& change, StatDone done);
    void Copy(const RemoteFilePtr& from, FileRange range, const RemoteFilePtr& to,
              std::uint64_t offset, CopiedDone done);
    // On the server's disk, and all that was written before.
    void Sync(const RemoteFilePtr& file, Done done);
    // What close(2) waits for, and what went wrong with what was written through this file before.
    void Flush(const RemoteFilePtr& file, Done done);
    // Nobody waits for it.
    void Close(const RemoteFilePtr& file);
    // fsync(2) of a directory: every change told so far.
    void Drain(Done done);

 private:
    template <class F>
    void OnLoop(F job);
    const std::shared_ptr<WriteBehind> owner_;
    const Through_ to_;
};

}  // namespace sbxfs
