// The two ends of an exec channel that an attach handed over, as frames. Never blocks: what does
// not go out waits here, what came in only in part too. The session decides how much may wait.
#pragma once

#include <stdint.h>

#include "sandbox/supervisor/files.h"
#include "sandbox/supervisor/protocol.h"
#include "sandbox/supervisor/runtime.h"

namespace sbxfs::supervisor {

class Connection {
 public:
    enum class End : uint64_t { kIn = 0, kOut = 1, kRelay = 2 };
    enum class State { kOpen, kClosed };

    // `relay` is the socket to the attach that waits for the end of this. False: it cannot be waited for.
    bool Open(Runtime& runtime, uint64_t slot, Fd in, Fd out, Fd relay);
    void Close();
    bool IsOpen() const { return static_cast<bool>(in_); }

    // Reads what is there. kClosed: the other side is gone or what it says cannot be a frame.
    State Receive();
    // The next whole frame; false when there is none. It is valid until the next call of anything
    // here.
    bool NextFrame(Type* type, View* payload);
    // Writes what the channel takes.
    State Flush();

    Str& out() { return out_bytes_; }
    size_t Unsent() const { return out_bytes_.size() - sent_; }
    // Stops or starts reading: a daemon that does not read its answers gets no new ones.
    void SetReading(bool reading);

    bool greeted = false;
    uint32_t credit = kFirstCredit;
    int64_t hello_by_ms = kNever;

 private:
    uint64_t TagOf(End end) const {
        return Tag(Source::kConnection, slot_ << 2 | static_cast<uint64_t>(end));
    }
    void UpdateOut();

    Runtime* runtime_ = nullptr;
    uint64_t slot_ = 0;
    Fd in_;
    Fd out_;
    Fd relay_;
    Str in_bytes_;
    size_t taken_ = 0;  // of in_bytes_, by NextFrame
    Str out_bytes_;
    size_t sent_ = 0;
    bool reading_ = true;
    bool writing_ = false;  // waits for room
};

}  // namespace sbxfs::supervisor
