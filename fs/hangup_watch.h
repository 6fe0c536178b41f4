// Hears SIGHUP, the word of old for "read your configuration again", on a thread of its own, where reading a
// file may take its time. Owned by RunDaemon.
#pragma once

#include <thread>

#include "base/result.h"
#include "base/unique_fd.h"
#include "base/unique_function.h"

namespace sbxfs {

// Before any thread is started: none of them is to be ended or interrupted by SIGHUP from now on.
void BlockHangup();

class HangupWatch {
 public:
    // Calls `heard` for each SIGHUP (several in a row may be one) until destroyed, on the watch's thread.
    explicit HangupWatch(UniqueFunction<void()> heard);
    ~HangupWatch();
    HangupWatch(const HangupWatch&) = delete;
    HangupWatch& operator=(const HangupWatch&) = delete;

 private:
    void Run();

    UniqueFunction<void()> heard_;
    UniqueFd signals_;
    UniqueFd stop_;     // the writing end of a pipe, closed to stop
    UniqueFd stopped_;  // the reading end
    std::thread thread_;
};

}  // namespace sbxfs
