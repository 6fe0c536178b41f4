// The journal: what was promised to a user is in here before the promise is answered. One thread,
// `store`, puts all waiting records into one SQLite transaction, commits it to the disk (WAL,
// synchronous=FULL), then completes all their callbacks on that thread. Owned by the daemon; every
// method but Load* is for any thread.
//
// Full disk: a `reserve` file beside the journal is given up when a commit finds no room, so that
// what was already accepted can still be recorded, and made again when there is room. Admit()
// refuses new promises long before.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/batch_thread.h"
#include "base/loop.h"
#include "base/result.h"
#include "base/unique_function.h"
#include "sandbox/records.h"
#include "sandbox/state_dir.h"

namespace sbxfs {

class StoreDatabase;  // the SQLite side

using ScriptDone = UniqueFunction<void(Result<std::string>)>;

class Store {
 public:
    // Opens or makes the journal. EIO with a remedy when it is damaged or from a newer version.
    static Result<std::unique_ptr<Store>> Open(const StateDir& dir);
    // Commits what is queued, completes it, ends the thread.
    ~Store();
    Store(const Store&) = delete;
    Store& operator=(const Store&) = delete;

    // Reading back, before StartThread().
    Result<std::vector<SandboxRecord>> LoadSandboxes();
    Result<std::vector<CommandRecord>> LoadCommands(Generation generation);  // in order of n
    Result<std::optional<NextRefusal>> LoadRefusal(Generation generation);
    // Templates written in the mount, and, without a text, those removed there.
    Result<std::map<std::string, std::optional<Template>>> LoadTemplates();
    const std::string& mount_id() const { return mount_id_; }  // random, made with the journal
    Generation last_generation() const { return last_generation_; }
    // Higher than any an earlier daemon used with this journal, also with a copy of it that was
    // restored: attach epochs of this daemon start here (supervisor/protocol.h).
    std::uint64_t first_epoch() const { return first_epoch_; }
    void StartThread();

    // Room for a promise of `bytes`? ENOSPC with a remedy otherwise. Cheap; for FUSE threads.
    Status Admit(std::uint64_t bytes) const;

    // Written as a whole, new or again.
    void Put(const SandboxRecord& record, Done done);
    void PutCommand(const CommandRecord& record, std::string script, Done done);
    void UpdateCommand(Generation generation, EventNumber n, const EventState& state, Done done);
    // What it has to see has been acknowledged (CommandRecord::unarrived).
    void FilesArrived(Generation generation, EventNumber n, Done done);
    void PutRefusal(Generation generation, const NextRefusal& refusal);
    void DropRefusal(Generation generation);  // a command has been refused for it
    // Keeps the number and the name as used, drops the script.
    void ForgetCommand(Generation generation, EventNumber n, Done done);
    // Drops a sandbox and its commands: after its time in the history.
    void Remove(Generation generation, Done done);
    void PutTemplate(const std::string& name, const std::optional<Template>& what, Done done);
    void LoadScript(Generation generation, EventNumber n, ScriptDone done);

    // Waits until everything queued so far is committed and completed. Not from the store thread.
    void Flush();

 private:
    using Write = UniqueFunction<Status(StoreDatabase&)>;
    struct Job {
        Write write;
        Done done;
    };

    Store(const StateDir& dir, std::unique_ptr<StoreDatabase> database);
    void Enqueue(Write write, Done done);
    void CommitBatch(std::vector<Job>& batch);
    Status TryCommit(std::vector<Job>& batch);
    void RefillReserve();

    const std::string directory_;
    const std::string reserve_;
    std::unique_ptr<StoreDatabase> database_;
    std::string mount_id_;
    Generation last_generation_{};
    std::uint64_t first_epoch_ = 0;
    std::atomic<bool> reserve_there_{false};  // written by the store thread

    std::unique_ptr<BatchThread<Job>> thread_;  // last
};

}  // namespace sbxfs
