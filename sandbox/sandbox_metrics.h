// What the sandboxes' side counts (base/metrics.h): requests to sandboxes, what is cached of them, what is on its way
// there, their commands and launches. Each is counted by the class that does it.
#pragma once

#include "base/metrics.h"

namespace sbxfs {

// Values of SandboxMetrics' labels, by place.
enum class CacheKind : unsigned { kAttributes, kListings, kLinks, kContents };
enum class AheadKind : unsigned { kListings, kFiles };
enum class Direction : unsigned { kReceived, kSent };

struct SandboxMetrics {
    // By type: the draft's at SftpType - 3, then extensions, and "init".
    Counter sftp_requests;
    Gauge sftp_in_flight;
    Counter sftp_bytes;
    Counter file_bytes;
    Counter supervisor_requests;  // at supervisor::Type - 1
    Counter link_losses;

    Counter cache_hits;
    Counter cache_misses;
    Gauge cache_entries;
    Gauge cache_bytes;
    Counter ahead_begun;
    Counter ahead_used;
    Counter ahead_unused;

    Gauge dirty_bytes;
    Gauge dirty_changes;
    Counter lost_changes;

    Gauge commands_queued;
    Gauge commands_running;
    Counter commands_accepted;
    Counter commands_ended;  // by outcome
    Counter output_bytes;

    Counter launches;  // by outcome
    Durations launch_phases;

    SandboxMetrics();
    void CacheLooked(CacheKind kind, bool hit) {
        (hit ? cache_hits : cache_misses).AddTo(static_cast<std::size_t>(kind));
    }
};
extern SandboxMetrics sandbox_metrics;

}  // namespace sbxfs
