// A command inside Commands. Private to the commands*.cc files.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "sandbox/commands.h"

namespace sbxfs {

// Guarded by Commands::mu_: record.state, have, arrived, the holes, committed, waiters. All else in record never
// changes. The rest is the loop's.
struct Commands::Event {
    CommandRecord record;
    OutputSizes have;     // bytes here, without gaps
    OutputTimes arrived;  // of the newest of them, as far as is known
    OutputHoles stdout_holes;
    OutputHoles stderr_holes;
    bool committed = false;
    std::map<std::uint64_t, Job> waiters;

    std::optional<std::string> script;  // when small, until it was sent
    OutputSizes taken;      // bytes accepted from the supervisor: here or on the way to the disk
    bool sent = false;      // Start went out, or may have in an earlier life of the daemon
    bool recorded = false;  // the journal has been told that it runs
    bool may_have_run = false;    // of an earlier life of the daemon, and not yet looked for there
    bool finishing = false;       // its outcome is on the way to the journal
    bool rereading = false;       // a Read was sent because something is missing
    bool retrying = false;        // a Read will be sent once the disk may have room again
    bool spends_refusal = false;  // refused for what RefuseNext() was told
    bool files_arrived = false;   // the journal has it that record.unarrived is no more
    bool inherited = false;       // accepted by an earlier daemon
    bool observed = false;        // ended; the observer has not let it be seen yet
    bool repairing = false;       // finished in an earlier life of the link; the spool still has it
    bool releasing = false;       // its copy is being synced so that the spool can forget it
    std::optional<CommandEnd> end;

    std::uint64_t& Have(OutputStream stream) {
        return stream == OutputStream::kStdout ? have.out : have.err;
    }
    OutputHoles& Holes(OutputStream stream) {
        return stream == OutputStream::kStdout ? stdout_holes : stderr_holes;
    }
    std::int64_t& Arrived(OutputStream stream) {
        return stream == OutputStream::kStdout ? arrived.out_ms : arrived.err_ms;
    }
    std::uint64_t& Taken(OutputStream stream) {
        return stream == OutputStream::kStdout ? taken.out : taken.err;
    }
};

}  // namespace sbxfs
