#include "sandbox/sandbox_metrics.h"

namespace sbxfs {
namespace {

using Words = std::vector<std::string_view>;

Words Caches() {
    return {"attributes", "listings", "links", "contents"};
}

Words Ahead() {
    return {"listings", "files"};
}

}  // namespace

SandboxMetrics::SandboxMetrics()
    : sftp_requests("sftp_requests_total", "Requests sent to sandboxes over SFTP.", "type",
                    {"open",
                     "close",
                     "read",
                     "write",
                     "lstat",
                     "fstat",
                     "setstat",
                     "fsetstat",
                     "opendir",
                     "readdir",
                     "remove",
                     "mkdir",
                     "rmdir",
                     "realpath",
                     "stat",
                     "rename",
                     "readlink",
                     "symlink",
                     "posix-rename@openssh.com",
                     "hardlink@openssh.com",
                     "fsync@openssh.com",
                     "statvfs@openssh.com",
                     "fstatvfs@openssh.com",
                     "lsetstat@openssh.com",
                     "limits@openssh.com",
                     "expand-path@openssh.com",
                     "copy-data",
                     "init",
                     "other"}),
      sftp_in_flight("sftp_requests_in_flight", "SFTP requests that are not answered yet."),
      sftp_bytes("sftp_bytes_total", "Bytes of SFTP, packets as a whole.", "direction",
                 {"received", "sent"}),
      file_bytes("file_bytes_total", "Bytes of files read from sandboxes and written to them.",
                 "direction", {"read", "written"}),
      supervisor_requests(
          "supervisor_requests_total", "Messages sent to the supervisors in sandboxes.", "type",
          {"hello", "start", "read", "credit", "signal", "forget", "stat", "processes", "timer",
           "use", "ping", "shutdown", "environ", "fetch", "store", "rename"}),
      link_losses("link_losses_total", "Links to sandboxes that were cut, or could not be made."),
      cache_hits("cache_hits_total", "Questions about files that were answered from memory.",
                 "cache", Caches()),
      cache_misses("cache_misses_total", "Questions about files that memory could not answer.",
                   "cache", Caches()),
      cache_entries("cache_entries", "Paths in sandboxes of which something is cached."),
      cache_bytes("cache_bytes", "Bytes of files' contents that are cached."),
      ahead_begun("prefetched_total", "Listings and small files fetched before anybody asked.",
                  "kind", Ahead()),
      ahead_used("prefetched_used_total", "Of those fetched ahead, what was then asked for.",
                 "kind", Ahead()),
      ahead_unused("prefetched_unused_total",
                   "Of those fetched ahead, what nobody asked for in time.", "kind", Ahead()),
      dirty_bytes("dirty_bytes", "Bytes written that the sandboxes have not acknowledged."),
      dirty_changes("dirty_changes",
                    "Changes answered ahead that the sandboxes have not acknowledged."),
      lost_changes("lost_changes_total", "Changes answered ahead that then failed."),
      commands_queued("commands_queued", "Commands that wait for their turn."),
      commands_running("commands_running", "Commands that run."),
      commands_accepted("commands_accepted_total", "Commands taken into the journal."),
      commands_ended("commands_ended_total", "Commands that came to an end.", "outcome",
                     {"exited", "failed", "timed_out", "killed", "lost", "refused"}),
      output_bytes("command_output_bytes_total", "Bytes of commands' output received."),
      launches("launches_total", "Launches that ended, the first time a sandbox was ready or not.",
               "outcome", {"ready", "failed"}),
      launch_phases(
          "launch_phase_seconds", "Steps of launches, each since the one before.", "phase",
          // What providers say of themselves beyond these is "other".
          {"prepare",      "namespaces", "sshd",       "run_task",  "waiting_for_capacity",
           "provisioning", "pending",    "activating", "running",   "address",
           "host_key",     "launched",   "connected",  "logged_in", "sftp",
           "proven",       "uploaded",   "supervisor", "ready",     "other"}) {}

SandboxMetrics sandbox_metrics;

}  // namespace sbxfs
