// Keeps a sandbox that shares this machine's network from its abstract Unix sockets. They belong to the network
// namespace, so nothing else stands in between, and some servers there trust whoever has the right uid (an X server
// the mounting user's, which an ordinary user's sandbox has) or anybody at all. Linux 6.12 and newer.
#pragma once

#include "base/result.h"

namespace sbxfs {

// From now on this process and all it starts can connect to abstract sockets of each other only. EOPNOTSUPP where
// the kernel cannot. Needs root of a user namespace.
Status LeaveAbstractSocketsAlone();

}  // namespace sbxfs
