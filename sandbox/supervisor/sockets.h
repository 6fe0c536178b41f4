// Unix sockets inside the spool, and passing descriptors over them. Names are relative to the
// current directory, since sun_path holds 108 bytes and a spool's path may be longer.
#pragma once

#include <stdint.h>

#include "sandbox/supervisor/files.h"

namespace sbxfs::supervisor {

// Negative errno, or the descriptor.
long ListenAt(const char* name);
long ConnectTo(const char* name);
// Non-blocking; negative errno, or the descriptor.
long AcceptFrom(int listener);
// Whether the other end runs as us, or as root.
bool PeerIsTrusted(int fd, uint32_t uid);
long SendFds(int socket, const int* fds, int count);
// One message with exactly two descriptors. -EAGAIN: not yet; other errors: not what attach sends.
long ReceiveTwoFds(int socket, Fd* first, Fd* second);

}  // namespace sbxfs::supervisor
