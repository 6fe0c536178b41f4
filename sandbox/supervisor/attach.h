// `attach`: what the daemon starts over an ssh exec channel. Finds or starts the spool's
// supervisor, hands it this channel's two ends, and stays only to be the channel's process: sshd
// closes the channel when it ends.
#pragma once

#include "sandbox/supervisor/bytes.h"

namespace sbxfs::supervisor {

// Exit codes: 0 the connection ended; 2 wrong arguments; 3 the spool cannot be used; 4 no space for
// it; 5 the supervisor does not answer.
int Attach(View spool, int grace_ms, char** environment);

}  // namespace sbxfs::supervisor
