// Session: connections, the order in which the daemon hears of things, and pushing output. The
// requests are in requests.cc.

#include "sandbox/supervisor/session.h"

#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {
namespace {

constexpr int64_t kHelloMs = 60000;
// What may wait in our buffer: enough to keep the channel busy, little enough that a Done behind it
// is not late.
constexpr size_t kHighWater = 128U << 10;
// Answers beyond this make us stop reading and handling requests.
constexpr size_t kAnswersWater = 1U << 20;

}  // namespace

void Session::Accept(Fd in, Fd out, Fd relay) {
    uint64_t slot = kNobody;
    for (uint64_t i = 0; i < kSlots; ++i) {
        if (!connections_[i].IsOpen()) {
            slot = i;
            break;
        }
        if (i != daemon_ && (slot == kNobody || opened_[i] < opened_[slot])) slot = i;
    }
    if (connections_[slot].IsOpen()) Drop(slot);
    opened_[slot] = ++open_count_;
    if (!connections_[slot].Open(runtime_, slot, std::move(in), std::move(out), std::move(relay))) {
        return Drop(slot);
    }
    connections_[slot].hello_by_ms = sys::MonotonicMs() + kHelloMs;
    connections_[slot].out().append(kMagic, sizeof kMagic - 1);
    if (connections_[slot].Flush() == Connection::State::kClosed) Drop(slot);
}

void Session::Drop(uint64_t slot) {
    connections_[slot].Close();
    if (slot != daemon_) return;
    daemon_ = kNobody;
    stores_.Forget();
    for (size_t i = 0; i < commands_.Count(); ++i) {
        Command& command = commands_.At(i);
        command.pushing = false;
        command.tell_known = command.tell_started = command.tell_done = false;
        commands_.CloseIfIdle(command);
    }
}

void Session::OnConnection(uint64_t which, uint32_t events) {
    const uint64_t slot = which >> 2;
    const auto end = static_cast<Connection::End>(which & 3);
    if (slot >= kSlots || !connections_[slot].IsOpen()) return;  // closed by an event before this
    Connection& connection = connections_[slot];
    if (end == Connection::End::kRelay) return Drop(slot);
    if (end == Connection::End::kOut) {
        const bool broken = (events & (EPOLLERR | EPOLLHUP)) != 0;
        if (broken || connection.Flush() == Connection::State::kClosed) Drop(slot);
        return;
    }
    const bool closed = connection.Receive() == Connection::State::kClosed;
    HandleFrames(slot);
    if (closed && connection.IsOpen()) Drop(slot);
}

// A few bytes can ask for megabytes: those that find too much waiting are handled when that has gone out.
bool Session::HandleFrames(uint64_t slot) {
    Connection& connection = connections_[slot];
    bool any = false;
    Type type{};
    View payload;
    while (!ended_ && connection.IsOpen() && connection.Unsent() < kAnswersWater &&
           connection.NextFrame(&type, &payload)) {
        any = true;
        if (HandleFrame(slot, type, payload)) continue;
        connection.Flush();  // the error, as far as it goes
        Drop(slot);
    }
    return any;
}

bool Session::HandleWaiting() {
    return daemon_ != kNobody && HandleFrames(daemon_);
}

void Session::Tick(int64_t now_ms) {
    for (uint64_t i = 0; i < kSlots; ++i) {
        if (connections_[i].IsOpen() && now_ms >= connections_[i].hello_by_ms) Drop(i);
    }
}

int64_t Session::NextTick() const {
    int64_t next = kNever;
    for (const Connection& connection : connections_) {
        if (connection.IsOpen()) next = Sooner(next, connection.hello_by_ms);
    }
    return next;
}

bool Session::HasRoom() const {
    return connections_[daemon_].Unsent() < kHighWater;
}

void Session::Pump() {
    if (daemon_ == kNobody) return;
    // As long as the channel takes everything, there may be more to tell.
    for (;;) {
        const size_t before = Daemon().out().size();
        PumpNews();
        PumpOutput();
        const bool added = Daemon().out().size() > before;
        if (Daemon().Flush() == Connection::State::kClosed) return Drop(daemon_);
        if (!added || Daemon().Unsent() > 0) break;
    }
    Daemon().SetReading(Daemon().Unsent() < kAnswersWater);
}

void Session::PumpNews() {
    StoreOkFields stored;
    while (HasRoom() && stores_.TakeAnswer(&stored))
        TellStored(stored);
    for (size_t i = 0; i < commands_.Count() && HasRoom(); ++i) {
        Command& command = commands_.At(i);
        if (command.tell_known) TellKnown(command);
        if (command.tell_started) {
            command.tell_started = false;
            Writer<Str>(Daemon().out(), Type::kStarted)
                .U64(command.n)
                .U32(static_cast<uint32_t>(command.tree.root.pid))
                .U64(command.started_ms);
        }
        if (command.tell_done && !PumpDone(command)) return;
    }
    if (!tell_known_end_ || !HasRoom()) return;
    tell_known_end_ = false;
    Writer<Str>(Daemon().out(), Type::kKnownEnd);
}

// Its own output first, up to the sizes that Done names, when the credit suffices for all of it;
// other commands' output waits meanwhile. False when there is no room: later.
bool Session::PumpDone(Command& command) {
    const uint64_t ends[2] = {command.done.stdout_size, command.done.stderr_size};
    uint64_t left = 0;
    for (int i = 0; i < 2; ++i) {
        const OutputStream& stream = command.out[i];
        if (!command.pushing || stream.pushed >= ends[i]) continue;
        const bool in_hole = stream.pushed >= stream.hole.from && stream.pushed < stream.hole.to;
        left += ends[i] - (in_hole ? stream.hole.to : stream.pushed);
    }
    if (left > 0 && left <= Daemon().credit) {
        for (int i = 0; i < 2; ++i) {
            while (command.out[i].pushed < ends[i]) {
                if (!HasRoom()) return false;
                if (!PushChunk(command, i)) break;
            }
        }
    }
    command.tell_done = false;
    Writer<Str> writer(Daemon().out(), Type::kDone);
    PutDoneFields(writer, command.done);
    return true;
}

void Session::PumpOutput() {
    const size_t turns = commands_.Count() * 2;
    size_t idle = 0;
    while (idle < turns && HasRoom() && Daemon().credit > 0) {
        if (next_turn_ >= turns) next_turn_ = 0;
        Command& command = commands_.At(next_turn_ / 2);
        const int stream = static_cast<int>(next_turn_ % 2);
        ++next_turn_;
        if (command.pushing && command.out[stream].HasMore() && PushChunk(command, stream)) {
            idle = 0;
        } else {
            ++idle;
        }
    }
    for (size_t i = commands_.Count(); i > 0; --i) {
        Command& command = commands_.At(i - 1);
        if (!command.pushing || command.phase != Phase::kDone) continue;
        commands_.CloseIfIdle(command);
        if (command.forgotten && !command.out[0].HasMore() && !command.out[1].HasMore()) {
            commands_.RemoveIfDone(command);
        }
    }
}

bool Session::PushChunk(Command& command, int index) {
    OutputStream& stream = command.out[index];
    const auto name = static_cast<uint8_t>(index + 1);
    Str& out = Daemon().out();
    if (stream.pushed >= stream.hole.from && stream.pushed < stream.hole.to) {
        Writer<Str>(out, Type::kHole)
            .U64(command.n)
            .U8(name)
            .U64(stream.pushed)
            .U64(stream.hole.to - stream.pushed);
        stream.pushed = stream.hole.to;
        return true;
    }
    if (!commands_.EnsureOpen(command)) return false;
    uint64_t end = stream.size;
    if (stream.pushed < stream.hole.from && stream.hole.from < end) end = stream.hole.from;
    uint64_t size = end > stream.pushed ? end - stream.pushed : 0;
    if (size > kMaxOutputChunk) size = kMaxOutputChunk;
    if (size > Daemon().credit) size = Daemon().credit;
    if (size == 0) return false;
    // The frame is laid out by hand, so that the bytes go from the file to their place at once.
    constexpr size_t kFront = 4 + 1 + 8 + 1 + 8 + 4;
    char* frame = out.Room(kFront + size);
    long got = -EINTR;
    while (got == -EINTR)
        got = sys::ReadAt(stream.file.get(), frame + kFront, size, stream.pushed);
    if (got <= 0) {
        stream.size = stream.pushed;  // somebody truncated it, or it cannot be read
        command.wanted = false;
        commands_.KeepPromise(command);
        return stream.HasMore();
    }
    {
        Writer<Str> writer(out, Type::kOutput);
        writer.U64(command.n).U8(name).U64(stream.pushed).U32(static_cast<uint32_t>(got));
        out.Grown(static_cast<size_t>(got));
    }
    stream.pushed += static_cast<uint64_t>(got);
    Daemon().credit -= static_cast<uint32_t>(got);
    return true;
}

}  // namespace sbxfs::supervisor
