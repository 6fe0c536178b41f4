// The files of a sandbox for as long as the sandbox lives: passes operations to whatever SFTP
// session is up, holds them while there is none, and bounds every wait (contract 5, "link down").
// Any thread may call; answers come on the sandbox's loop. Owned by Sandbox.
//
// A request waits at most op_timeout (name changes: name_timeout, because the kernel holds their
// directory), then ETIMEDOUT. While the link is known to be down, EHOSTUNREACH at once.
//
// A cut in the middle: what only asked is asked again on the next link, and so is what may be done twice
// without harm (a write at an offset, chmod; a truncation where nobody else writes). Other changes whose
// answer was lost are checked first (linked_checks.h). What nobody can tell is ETIMEDOUT, outcome
// unknown, and the witness hears of it. What a caller was told had failed is never sent afterwards. Open
// files go on where the supervisor finds the same file at their path, else ESTALE (linked_reopen.cc).
//
// Changes whose callers were answered before (Patient, for WriteBehind) are sent in the order they were given,
// wait for the link however long it takes, and after a cut are taken up one after the other: checks answer in an
// order of their own, and a file must not be made before its directory.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/loop.h"
#include "base/result.h"
#include "sandbox/file_operations.h"
#include "sandbox/linked_checks.h"
#include "sandbox/linked_file.h"
#include "sandbox/remote_files.h"
#include "sandbox/supervisor_port.h"

namespace sbxfs {

// What the links themselves cannot know. Called on the loop.
class LinkWitness {
 public:
    LinkWitness() = default;
    LinkWitness(const LinkWitness&) = delete;
    LinkWitness& operator=(const LinkWitness&) = delete;
    virtual ~LinkWitness() = default;
    // Nobody but this mount changes files there now.
    virtual bool IsAlone() const = 0;
    // Counts the beginnings of being alone, and their ends.
    virtual std::uint64_t Stretch() const = 0;
    // The identity of what is at `path`; nothing while nobody can look.
    using Identified = UniqueFunction<void(std::optional<IdentityStat>)>;
    virtual void Identify(const std::string& path, Identified done) = 0;
    // The same of a file that has just been opened there; nothing, too, when it may be another by now.
    virtual void IdentifyOpened(const std::string& path, const RemoteStat& opened,
                                Identified done) = 0;
    // A change may or may not have been made.
    virtual void OnUnknownOutcome() = 0;
    // Whether the supervisor is there to Store().
    virtual bool CanStore() const = 0;
    // Has it make a new file. Nothing: it has gone meanwhile, and may or may not have made it.
    virtual void Store(const StoreRequest& what,
                       UniqueFunction<void(std::optional<StoredFile>)> done) = 0;
    // And move a file: an errno or 0.
    virtual void Rename(const RenameRequest& what,
                        UniqueFunction<void(std::optional<int>)> done) = 0;
};

// A file that Patient::Store() has made: closed there, and opened again by who goes on with it.
struct MadeFile {
    RemoteFilePtr file;
    RemoteStat stat;
    std::optional<IdentityStat> identity;
    std::optional<Error> incomplete;  // it is there, and lacks something
};
using MadeDone = UniqueFunction<void(Result<MadeFile>)>;

class LinkedFiles final : public FileOperations, public std::enable_shared_from_this<LinkedFiles> {
 public:
    struct Timeouts {
        Duration operation = std::chrono::seconds(30);
        Duration name_change = std::chrono::seconds(5);
        // Of a round trip: over a shorter way one channel carries what the server takes.
        Duration wide_from = std::chrono::milliseconds(5);
    };
    LinkedFiles(Loop& loop, Timeouts timeouts);
    ~LinkedFiles() override;

    // The same files for somebody who may stop waiting. What has not been sent by the time `wanted` says
    // no is never sent: a signal that ended an mkdir(2) must not leave a directory behind later. `wanted`
    // is asked on the loop.
    class ForAsker;
    class Patient;

    // --- loop thread only ---
    void SetWitness(std::weak_ptr<LinkWitness> witness) { witness_ = std::move(witness); }
    // The witness can look again.
    void WitnessIsBack();
    bool IsUp() const { return target_ != nullptr; }
    bool HasEnded() const { return ended_; }
    // Which link is up; 0: none.
    std::uint64_t WhichLink() const { return IsUp() ? link_ : 0; }
    // Whether an open file of ours that is written to goes on over a cut of the link, as far as is known now.
    static bool OutlivesACut(const RemoteFile& file);
    // Whether that is so of a file that is written to: by when it was made, as far as files of this link have told.
    bool TellsBirths() const { return births_.value_or(false); }
    // Whether Patient::Store() is one message, and can be told after a cut.
    bool MayStore() const;
    // What a question ends with that was not answered in time.
    static Error NotInTime();
    // And a change that may or may not have been made.
    static Error UnknownOutcome();
    // What the sandbox knows of the link:
    // `target` outlives Cut(), Down() or End().
    void Up(RemoteFiles& target);
    // The link is gone or not there yet; a new one is being made. Requests wait.
    void Cut();
    // Making a new one fails: requests fail at once with `why` until Up().
    void Down(const Error& why);
    // The sandbox has ended; for good, or until Reopen().
    void End(const Error& why);
    // It was started again: requests wait for the link.
    void Reopen();
    // A second way to the same files beside `target` (linked_lane.cc), until it is gone: null. It outlives this call with
    // null, Cut(), Down() or End().
    void SetLane(RemoteFiles* lane);
    // Asked for one.
    std::function<void()> want_lane;
    // Much is going to be written: has a second way made, if the first is long and nobody else is there.
    void WantLane();
    // Whether Patient::WriteAside() has a way of its own for this file, and Patient::Sync() and Close() go by both.
    bool IsWide(const RemoteFilePtr& file) const;
    // Opens it there, if there is a second way and nothing speaks against it.
    void MakeWide(const RemoteFilePtr& file);

 private:
    template <class T>
    friend struct FileOperations::TypedOperation;
    friend class FileOperations;
    void Submit(std::unique_ptr<Operation> operation) override;
    void Accept(std::unique_ptr<Operation> operation);
    void Start(std::uint64_t id);
    void Lost(std::uint64_t id);
    void Recover();
    void GiveUp(std::unique_ptr<Operation> operation, const Error& error);
    // linked_reopen.cc
    void Remember(const LinkedFilePtr& file);
    // `alone`: when it was asked for.
    RemoteFilePtr Adopt(const std::string& path, const OpenHow& how, const OpenedFile& opened,
                        Alone alone);
    // Starts the operation once the file is open on this link, or fails it. Only its number waits: it
    // may end meanwhile.
    void Reach(const LinkedFilePtr& file, std::uint64_t id);
    void Reopen(const LinkedFilePtr& file);
    void Compare(const LinkedFilePtr& file);
    void CompareLater(const LinkedFilePtr& file);
    void LookLater(UniqueFunction<void(LinkedFiles*)> look);
    // `why`: nothing is known of it, and whoever waits hears that.
    void Reached(const LinkedFilePtr& file, const std::optional<Error>& why = std::nullopt);
    bool IsAwaited(const LinkedFile& file) const;
    bool IsMoving(std::uint64_t id) const;
    bool MayHaveMoved(const std::string& path) const;
    void StartBehindMoves();
    // linked_store.cc
    class ByHand;
    struct Storing;
    using StoringPtr = std::shared_ptr<const Storing>;
    struct Moving;
    using MovingPtr = std::shared_ptr<const Moving>;
    void StoreFile(const StoringPtr& what, MadeDone done);
    void CheckStored(const StoringPtr& what, VerdictDone<MadeFile> done);
    void SupervisorLeft(const StoringPtr& what, MadeDone done);
    void Move(const MovingPtr& what, Done done);
    void MoveByHand(const std::string& from, const std::string& to, Replace replace, Done done);
    void CheckMoved(const MovingPtr& what, VerdictDone<Unit> done);
    void SupervisorLeft(const MovingPtr& what, Done done);
    template <class T, class F>
    VerdictDone<T> AfterAll(UniqueFunction<void(Result<T>)> done, F again);
    template <class P, class T>
    void CheckLater(void (LinkedFiles::*check)(const P&, VerdictDone<T>), const P& what,
                    VerdictDone<T> done);
    MadeFile AdoptStored(const StoreRequest& what, const StoredFile& stored);
    void FailStale(std::uint64_t id);
    void Moved(const std::string& from, const std::string& to);
    void DropReopens();
    // linked_lane.cc
    struct Widening;
    bool MayWiden(const LinkedFile& file) const;
    void Widen(const LinkedFilePtr& file);
    void Widened(const LinkedFilePtr& file, const std::shared_ptr<Widening>& by);
    bool HasAside(const LinkedFile& file) const {
        return lane_ != nullptr && file.lane == lane_number_ && file.aside != nullptr &&
               file.proven;
    }
    bool HasLostLaneOnly(std::uint64_t lane, std::uint64_t link) const;
    void WriteAside(const LinkedFilePtr& file, std::uint64_t offset, const FileBytes& bytes,
                    Done done);
    void SyncBoth(const LinkedFilePtr& file, Done done);
    void CloseBoth(const LinkedFilePtr& file, Done done);
    std::unique_ptr<Operation> Take(std::uint64_t id);
    void FailWaiting(const Error& why);
    void ArmDeadline();
    void CheckDeadlines();

    Loop& loop_;
    const Timeouts timeouts_;

    // Loop thread's own.
    RemoteFiles* target_ = nullptr;
    std::uint64_t link_ =
        0;  // counts Up()s: tells an answer of a lost link from one of the present
    std::optional<Error> down_;
    std::map<std::uint64_t, std::unique_ptr<Operation>> operations_;  // by number, oldest first
    std::uint64_t next_ = 1;
    bool deadline_armed_ = false;
    bool ended_ = false;  // down_ for good, or until Reopen()
    // Patient operations that a cut has left open, and those that came since; the first of them is under way.
    std::set<std::uint64_t> recovering_;
    std::uint64_t recovers_ = 0;               // that one; 0: none
    std::vector<std::uint64_t> behind_moves_;  // wait to hear where their file is
    Alone sending_ = Alone::kNo;               // of the operation that is being sent
    std::weak_ptr<LinkWitness> witness_;
    RemoteFiles* lane_ = nullptr;
    std::uint64_t lane_number_ = 0;  // counts them
    std::uint64_t vacated_ = 0;      // counts what may take a name away, when it is sent
    std::uint64_t unheard_on_ =
        0;  // the link on which a change was given up that may still be made
    Duration trip_ = Duration::max();        // the shortest on this link
    std::deque<IdentityStat> acknowledged_;  // of what Patient::Store() has made, the newest last
    std::optional<bool> births_;             // all files that were made on this link had one
    std::vector<std::weak_ptr<LinkedFile>> files_;  // that are open
    std::size_t prune_at_ = 64;                     // when closed ones are dropped from it
};

class LinkedFiles::ForAsker final : public FileOperations {
 public:
    ForAsker(std::shared_ptr<LinkedFiles> files, std::function<bool()> wanted)
        : files_(std::move(files)), wanted_(std::move(wanted)) {}
    bool IsWanted() const override { return !wanted_ || wanted_(); }

 private:
    void Submit(std::unique_ptr<Operation> operation) override;

    const std::shared_ptr<LinkedFiles> files_;
    const std::function<bool()> wanted_;
};

// For changes nobody waits for. Loop thread only.
class LinkedFiles::Patient final : public FileOperations {
 public:
    explicit Patient(std::shared_ptr<LinkedFiles> files) : files_(std::move(files)) {}
    // With OpenHow::append, `offset` is the size that the file has before.
    void Write(const RemoteFilePtr& file, std::uint64_t offset, FileBytes bytes,
               Done done) override;
    // By the second way, where there is one. What was sent before and comes after may overtake it, but for Sync() and
    // Close() of the same file: nothing that touches the same bytes or tells their outcome may be under way with it.
    void WriteAside(const RemoteFilePtr& file, std::uint64_t offset, FileBytes bytes, Done done);
    // A new file with all its bytes, in one message to the supervisor where LinkedFiles::MayStore(). That has no order with
    // what goes the server's way. `from`: the sandbox's clock before it is sent first, in seconds; none of its files that was
    // made earlier is taken for this one.
    void Store(StoreRequest what, std::int64_t from, MadeDone done);
    // Of a file that was made like that: in order with those.
    void RenameStored(const std::string& from, const std::string& to, Replace replace,
                      const IdentityStat& moved, Done done);

 private:
    void Submit(std::unique_ptr<Operation> operation) override;

    const std::shared_ptr<LinkedFiles> files_;
};

}  // namespace sbxfs
