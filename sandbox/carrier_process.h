// A program that carries a connection (ProgramAddress): started with a socket as stdin and stdout,
// in a session of its own. Owned by the link's attachment and ended with it, together with all it has
// started (ssh's own ProxyCommand): SIGKILL to the whole group, then waited for behind, so that
// nothing hangs and no zombie stays. Loop thread only.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "sandbox/dialer.h"
#include "sandbox/io_loop.h"

namespace sbxfs {

class CarrierProcess final : public Carrier {
 public:
    // `words` is not empty. The program is found in PATH and gets our environment.
    static Result<Connected> Start(IoLoop& loop, const std::vector<std::string>& words);
    CarrierProcess(const CarrierProcess&) = delete;
    CarrierProcess& operator=(const CarrierProcess&) = delete;
    ~CarrierProcess() override;

    std::string Words() override;

 private:
    CarrierProcess(IoLoop& loop, pid_t pid, UniqueFd errors);
    void ReadErrors();

    IoLoop& loop_;
    const pid_t pid_;  // ours until we have waited for it, so it names nobody else
    UniqueFd errors_;
    std::string said_;
    IoLoop::WatchPtr watch_;
};

}  // namespace sbxfs
