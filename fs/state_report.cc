#include "fs/state_report.h"

#include "base/log.h"
#include "fs/slow_watch.h"
#include "sandbox/cached_files.h"
#include "sandbox/sandbox_metrics.h"

namespace sbxfs {
namespace {

// The newest 500 lines are what .mount/log shows.
constexpr std::size_t kMostRequests = 100;
constexpr std::size_t kMostSandboxes = 200;

void LogRequests(MountContext& mount) {
    for (const ParkingLot::Waiting& waiting : mount.lot.Longest(kMostRequests))
        LogWaiting(LogLevel::kInfo, "state: request", mount, waiting);
}

void LogSandboxes(const MountContext& mount) {
    std::size_t lines = 0;
    for (const SandboxPtr& sandbox : mount.sandboxes.List()) {
        if (++lines > kMostSandboxes) break;
        const Commands::Load load = sandbox->commands().HowMany();
        const WriteBehind::Behind behind = sandbox->cached().behind().HowMuch();
        const FileCache& cache = sandbox->cached().cache();
        Log(LogLevel::kInfo, "state: sandbox",
            {{"box", sandbox->name()},
             {"generation", Raw(sandbox->generation())},
             {"status", ToString(sandbox->status())},
             {"queued", load.queued},
             {"running", load.running},
             {"quiet", cache.IsQuiet() ? "yes" : "no"},
             {"cached", cache.Count()},
             {"dirty_changes", behind.changes},
             {"dirty_bytes", behind.bytes},
             {"first_dirty", sandbox->cached().behind().FirstUnacknowledged().value_or("")}});
    }
}

}  // namespace

void LogState(MountContext& mount) {
    const auto totals = mount.lot.Totals();
    const auto waiting = [&totals](ParkingLot::For what) {
        return totals[static_cast<std::size_t>(what)].count;
    };
    Log(LogLevel::kInfo, "state",
        {{"sandboxes", mount.sandboxes.List().size()},
         {"inodes", mount.inodes.Count()},
         {"handles", mount.handles.Count()},
         {"waiting_for_sandboxes", waiting(ParkingLot::For::kSandbox)},
         {"waiting_as_asked", waiting(ParkingLot::For::kAsked)},
         {"waiting_for_the_journal", waiting(ParkingLot::For::kJournal)},
         {"sftp_in_flight", sandbox_metrics.sftp_in_flight.Value()},
         {"cached_paths", sandbox_metrics.cache_entries.Value()},
         {"cached_bytes", sandbox_metrics.cache_bytes.Value()},
         {"dirty_changes", sandbox_metrics.dirty_changes.Value()},
         {"dirty_bytes", sandbox_metrics.dirty_bytes.Value()}});
    LogRequests(mount);
    LogSandboxes(mount);
    Log(LogLevel::kInfo, "state: that is all");
}

}  // namespace sbxfs
