// The way to a machine through others: the command line of ssh(1) that carries the connection
// (ProgramAddress). ssh's own -J would take no options of ours along, so every hop is spelled out as
// the ProxyCommand of the next. Pure.
#pragma once

#include "sandbox/provider.h"
#include "sandbox/providers/ssh/ssh_settings.h"

namespace sbxfs {

// `settings.jumps` is not empty. The hops are logged into with the same identity and agent; their
// host keys must be in the same known_hosts file, or where host_key is pinned in the user's own. What
// else is known of them, the user's ssh_config says.
ProgramAddress ThroughJumps(const SshSettings& settings);

}  // namespace sbxfs
