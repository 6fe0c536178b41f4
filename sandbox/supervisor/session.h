// The conversation with the daemon that protocol.h describes: one connection at a time counts, the
// newest by epoch; others may be open but have not said Hello. Requests are answered here, commands
// are started, and what happened to them is told in the right order and within the credit.
#pragma once

#include <stdint.h>

#include "sandbox/supervisor/connection.h"
#include "sandbox/supervisor/parallel.h"
#include "sandbox/supervisor/shell_lane.h"
#include "sandbox/supervisor/stores.h"
#include "sandbox/supervisor/timers.h"

namespace sbxfs::supervisor {

class Session {
 public:
    Session(Runtime& runtime, Commands& commands, ShellLane& shell, ParallelLane& parallel,
            Timers& timers)
        : runtime_(runtime),
          commands_(commands),
          shell_(shell),
          parallel_(parallel),
          timers_(timers),
          stores_(runtime) {}

    // An attach hands over its channel. The oldest one that never said Hello makes room.
    void Accept(Fd in, Fd out, Fd relay);
    // `which` is the tag's.
    void OnConnection(uint64_t which, uint32_t events);
    // False: it is no child of a request.
    bool OnExit(int pid, int wait_status) { return stores_.OnExit(pid, wait_status); }
    // Tells the daemon what is new, as far as the channel takes it.
    void Pump();
    // Requests that came while too many answers waited, when they no longer do; whether there were any.
    bool HandleWaiting();
    void Tick(int64_t now_ms);
    int64_t NextTick() const;
    bool HasUnsent() const { return daemon_ != kNobody && connections_[daemon_].Unsent() > 0; }
    // After a kShutdown: the answer is on its way or gone, and the program may end.
    bool Ended() const { return ended_; }

 private:
    static constexpr uint64_t kSlots = 8;
    static constexpr uint64_t kNobody = kSlots;

    Connection& Daemon() { return connections_[daemon_]; }
    void Drop(uint64_t slot);
    bool HandleFrames(uint64_t slot);
    bool HandleFrame(uint64_t slot, Type type, View payload);
    bool HandleHello(uint64_t slot, Reader& reader);
    bool HandleStart(Reader& reader);
    bool HandleRead(Reader& reader);
    bool HandleSignal(Reader& reader);
    bool HandleStat(Reader& reader);
    bool HandleFetch(Reader& reader);
    bool HandleStore(Reader& reader);
    bool HandleRename(Reader& reader);
    void TellStored(const StoreOkFields& answer);
    bool HandleProcesses(Reader& reader);
    bool HandleTimer(Reader& reader);
    bool HandleEnviron(Reader& reader);
    bool HandleShutdown(Reader& reader);
    void Refuse(uint32_t request, uint64_t n, long error, View text);
    void TellHello(uint64_t slot, uint32_t protocol);
    void TellKnown(Command& command);

    bool HasRoom() const;
    void PumpNews();
    bool PumpDone(Command& command);
    void PumpOutput();
    bool PushChunk(Command& command, int stream);

    Runtime& runtime_;
    Commands& commands_;
    ShellLane& shell_;
    ParallelLane& parallel_;
    Timers& timers_;
    Stores stores_;
    Connection connections_[kSlots];
    uint64_t opened_[kSlots] = {};  // counts up, to find the oldest
    uint64_t open_count_ = 0;
    uint64_t daemon_ = kNobody;
    bool tell_known_end_ = false;
    uint64_t next_turn_ = 0;  // whose output goes next: command and stream, round robin
    bool ended_ = false;
};

}  // namespace sbxfs::supervisor
