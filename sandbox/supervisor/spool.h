// The directory that outlives connections and supervisors:
//
//     DIR/lock             flock held by the living supervisor
//     DIR/socket           where attach finds it
//     DIR/id               random, made once
//     DIR/epoch            the highest epoch a daemon attached with
//     DIR/commands/report  the FIFO shells report through
//     DIR/commands/N/      one command; whoever makes it with mkdir(2) starts it, once
//         stdout stderr    opened O_APPEND by what writes them
//         run              written just before the start: where to look for what is left of it
//         outcome          written under another name and renamed, when it ended
//         script           only where an interpreter reads it from a file
//
// Nothing is synced: a power cut of the sandbox takes its processes too. Other programs of our user
// may write here; what is read back is checked, and the worst they do is lose their own commands.
#pragma once

#include <stdint.h>

#include "sandbox/supervisor/accounts.h"
#include "sandbox/supervisor/files.h"
#include "sandbox/supervisor/process.h"
#include "sandbox/supervisor/protocol.h"

namespace sbxfs::supervisor {

// What `run` says.
struct RunRecord {
    Lane lane = Lane::kSerial;
    int session = 0;     // of the persistent shell
    uint64_t since = 0;  // ticks since the boot
    uint64_t boot = 0;
    Vec<ProcessId> before;
};

class Spool {
 public:
    // `dir` is open, ours and private. Makes what is missing; negative errno when it cannot.
    long Open(Fd dir);

    int dir() const { return dir_.get(); }
    int commands() const { return commands_.get(); }
    uint64_t id() const { return id_; }
    uint64_t boot() const { return boot_; }
    uint64_t epoch() const { return epoch_; }
    void SetEpoch(uint64_t epoch);
    View path() const { return path_.view(); }  // absolute
    int reports() const { return reports_.get(); }
    // Whether shells still find the FIFO by its name; OpenReports makes it anew.
    bool HasReports() const;
    long OpenReports();

    // SBXFS_EVENT of a command.
    void AppendEvent(Str* to, uint64_t n) const;

    // -EEXIST when it was there. The output files belong to `owner` where one is given.
    long CreateCommand(uint64_t n, const Account* owner);
    void RemoveCommand(uint64_t n);
    long OpenInCommand(uint64_t n, const char* name, int flags) const;
    long WriteInCommand(uint64_t n, const char* name, View bytes) const;
    long WriteOutcome(const DoneFields& done) const;
    // `storage` holds the texts of `done`.
    bool ReadOutcome(uint64_t n, Str* storage, DoneFields* done) const;
    long WriteRun(uint64_t n, const RunRecord& run) const;
    // False when there is no usable one; `exists` tells whether there is any.
    bool ReadRun(uint64_t n, RunRecord* run, bool* exists) const;
    // Every number that has a directory, ascending. Negative errno: there may be more.
    long ListCommands(Vec<uint64_t>* to) const;
    // Everything in the spool, and the spool itself where its parent allows.
    void RemoveAll();

 private:
    long ReadOrMakeId();
    long OpenCommands();

    Fd dir_;
    Fd commands_;
    Fd reports_;
    Str path_;
    uint64_t id_ = 0;
    uint64_t boot_ = 0;
    uint64_t epoch_ = 0;
};

}  // namespace sbxfs::supervisor
