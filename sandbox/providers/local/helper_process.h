// One helper process as the daemon sees it: an order goes in, lines of JSON come out, then it ends.
// Spawned without a shell, with its own session and an empty environment; the order is an anonymous
// file on its stdin, so nothing waits for a pipe. The loop hears of output and of the end through
// descriptors (no SIGCHLD).
//
// Loop thread only. Destroying it forgets the process, which goes on.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "base/unique_function.h"
#include "sandbox/io_loop.h"

namespace sbxfs {

class HelperProcess {
 public:
    using OnLine = UniqueFunction<void(const Json& line)>;
    // Runs once, last; the caller may destroy the object from it. Empty text: exit code 0.
    using OnEnd = UniqueFunction<void(std::string how)>;

    static Result<std::unique_ptr<HelperProcess>> Spawn(IoLoop& loop,
                                                        const std::vector<std::string>& argv,
                                                        std::string_view order, OnLine line,
                                                        OnEnd end);
    HelperProcess(const HelperProcess&) = delete;
    HelperProcess& operator=(const HelperProcess&) = delete;
    ~HelperProcess();

    void Kill();
    pid_t pid() const { return pid_; }

 private:
    HelperProcess(IoLoop& loop, pid_t pid, UniqueFd pidfd, UniqueFd output, OnLine line, OnEnd end);
    void Watch();
    void ReadLines();
    void Ended();

    IoLoop& loop_;
    const pid_t pid_;
    UniqueFd pidfd_;
    UniqueFd output_;
    OnLine line_;
    OnEnd end_;
    std::string unread_;
    IoLoop::WatchPtr watch_output_;
    IoLoop::WatchPtr watch_end_;
};

}  // namespace sbxfs
