// How many keys an ssh-agent holds: the one question libssh does not answer, and the one whose
// answer a person needs when a login fails. Blocks, for seconds at most: never from FUSE or I/O
// threads.
#pragma once

#include <cstddef>
#include <string>

#include "base/result.h"

namespace sbxfs {

// `socket`: a path; empty: SSH_AUTH_SOCK. EACCES with a remedy when no agent answers there.
Result<std::size_t> CountAgentKeys(const std::string& socket);

// `socket`, or SSH_AUTH_SOCK where that is empty; empty when neither is there.
std::string AgentSocket(const std::string& socket);

}  // namespace sbxfs
