// Hears the signals that ask for something while the mount goes on, on a thread of its own, where answering may take
// its time: SIGHUP, the word of old for "read your configuration again", and SIGUSR1, "write into the log how you are".
// Owned by RunDaemon.
#pragma once

#include <thread>

#include "base/result.h"
#include "base/unique_fd.h"
#include "base/unique_function.h"

namespace sbxfs {

// Before any thread is started: none of them is to be ended or interrupted by these signals from now on.
void BlockWatchedSignals();

class SignalWatch {
 public:
    // Calls `heard` for each SIGHUP or SIGUSR1 (several of one kind in a row may be one) until destroyed, on the
    // watch's thread.
    explicit SignalWatch(UniqueFunction<void(int signal)> heard);
    ~SignalWatch();
    SignalWatch(const SignalWatch&) = delete;
    SignalWatch& operator=(const SignalWatch&) = delete;

 private:
    void Run();

    UniqueFunction<void(int signal)> heard_;
    UniqueFd signals_;
    UniqueFd stop_;     // the writing end of a pipe, closed to stop
    UniqueFd stopped_;  // the reading end
    std::thread thread_;
};

}  // namespace sbxfs
