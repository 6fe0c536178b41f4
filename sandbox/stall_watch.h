// Notices a file server that has stopped inside an answer. Nothing that follows can be understood, and everyone who asks
// waits in vain, while the link itself is well: sshd and the supervisor go on answering. Only that is a stall. A server that
// has said nothing of an answer yet may be waiting for its disk; one whose bytes still come is slow; and where the supervisor
// does not answer either, it is the link or the machine that is slow, and others judge that.
//
// What shows the difference is a question to the supervisor that is asked when the packet has not come on for a while: sshd
// serves its channels in turn, so whatever the file server had said before must be here before the answer.
//
// Owned by what owns the client's channel; loop thread only. Guarded by tests/unit/stall_watch_test.cc.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "base/loop.h"
#include "sandbox/sftp_client.h"

namespace sbxfs {

class StallWatch {
 public:
    static constexpr Duration kTick = std::chrono::seconds(15);
    // A packet of which less comes within a tick does not come on: answers to what is asked meanwhile may still fill it up.
    static constexpr std::uint64_t kLeast = 1024;

    // Asks the supervisor; the job runs when it has answered, and never where it has not.
    using Ask = UniqueFunction<void(Job answered)>;

    // `stalled` runs at most once, from a timer; it may destroy the watch.
    StallWatch(Loop& loop, std::shared_ptr<SftpClient> client, Ask ask, Job stalled);
    StallWatch(const StallWatch&) = delete;
    StallWatch& operator=(const StallWatch&) = delete;
    ~StallWatch();

    // After each piece that the client was fed.
    void Heard() {
        if (timer_ == nullptr && client_->InPacket()) Begin();
    }

 private:
    void Begin();
    void Tick();

    Loop& loop_;
    const std::shared_ptr<SftpClient> client_;
    Ask ask_;
    Job stalled_;
    TimerPtr timer_;                     // while there may be a stall
    SftpCounters before_;                // at the last tick
    std::uint64_t doubt_ = 0;            // counts the times that a packet came on
    bool answered_ = false;              // a question that was asked since then
    std::shared_ptr<StallWatch*> self_;  // cleared by the destructor: answers may come after it
};

}  // namespace sbxfs
