// The frames between the daemon and sbxfs-supervisor, versions 1 to 3. Pure and freestanding: shared by
// both programs, no allocation, no libc beyond memcpy. Each side treats what the other sends as
// hostile input.
//
// Transport: one exec channel. The relay that the channel starts prints kMagic (anything before it,
// such as what a shell's start-up file printed, is skipped), then frames go both ways:
//
//     u32 length of what follows | u8 type | payload            all numbers little-endian
//     text = u32 length | bytes
//
// Conversation: the daemon says Hello with an epoch; the supervisor drops any older connection,
// forgets what that one had not yet delivered in full, and refuses a Hello with a lower epoch
// (kError ESTALE, then it closes), also after its own restart, so a connection that was thought
// dead can never start a command late. It answers HelloOk, one Known per command in its spool (a
// running one's is followed by its Started, a finished one's by its Done), then KnownEnd. Start is
// idempotent by number: a command whose directory exists is not started again, it is reported in
// the same way. Output of a started command is pushed from the offsets given by Start (0) or Read,
// never more than the credit granted (kFirstCredit, then Credit): one flood cannot delay another
// command's Done by more than the credit. Done comes after all of its own Output up to the sizes it
// names when the credit suffices, else before it. Done is repeated at every attach until Forget. A
// Start for a number that was forgotten is a kError (EEXIST): nothing runs twice.
//
// A frame of an unknown type, or one that does not parse, is answered by kError EPROTO and the
// connection is closed.
#pragma once

// Freestanding, so C headers and arrays; the names are those of the standard library's buffers.
// NOLINTBEGIN(modernize-*,readability-identifier-naming)

#include <stddef.h>
#include <stdint.h>

namespace sbxfs::supervisor {

inline constexpr uint32_t kOldestProtocol = 1;
inline constexpr uint32_t kProtocol = 3;  // the newest; 2 has kFetch, 3 kStore and kRename
inline constexpr char kMagic[] = "\n<sbxfs-supervisor>\n";  // without the final NUL
inline constexpr uint32_t kMaxFrame = 4U << 20;             // of `length`
inline constexpr uint32_t kMaxScript = 1U << 20;
inline constexpr uint32_t kMaxOutputChunk = 64U << 10;
inline constexpr uint32_t kFirstCredit = 1U << 20;  // bytes of Output a connection may start with
inline constexpr uint32_t kMaxBatch = 4096;  // paths in a Stat or Fetch, entries in a Processes
inline constexpr uint32_t kMaxFetched = 2U << 20;   // bytes of files in one FetchOk
inline constexpr uint32_t kMaxStored = 256U << 10;  // bytes of the file in one Store

enum class Type : uint8_t {
    // daemon to supervisor
    kHello = 1,  // u32 lowest protocol, u32 highest protocol, u64 epoch
    kStart = 2,  // StartFields
    // u64 n, u64 stdout offset, u64 stderr offset: (re)start pushing both streams from there.
    kRead = 3,
    kCredit = 4,  // u32 bytes of Output that may be sent in addition
    // u64 n, u32 signal: to the command's process tree, not the persistent shell. SIGKILL reaches the
    // shell too when there is no process but the shell, when that has not read its command yet, or when it is
    // sent a second time. One that waits for its turn is cancelled by any signal: kNotStarted ECANCELED. Another signal than SIGKILL
    // that finds no process but the shell goes to the first one that comes within 2 s.
    kSignal = 5,
    // u64 n: outcome and output are safe with the daemon; remove them. Where a background child
    // still writes, or has written since, that output goes on being pushed, and is removed when its last writer is
    // gone and all of it was pushed; a new connection hears of such a command as Known, without Done. Who forgets a
    // command before having all that it printed wants none of it.
    kForget = 6,
    kStat = 7,       // u32 request, u32 count, count x text absolute path; links are not followed
    kProcesses = 8,  // u32 request
    // u32 request, u64 lifetime left in ms (0: none), u64 idle timeout in ms (0: none), u8
    // TimerAction. The idle clock starts at the first kTimer with an idle timeout, restarts at kUse, kStart and a
    // command's end, and stands still while one runs.
    kTimer = 9,
    kUse = 10,       // -: somebody used the sandbox; restarts the idle clock
    kPing = 11,      // u32 request
    kShutdown = 12,  // u32 request, u8 remove spool: kill every command, answer Pong, exit
    kEnviron = 13,   // u32 request
    // u32 request, u32 most, u32 count, count x text absolute path: as kStat, and the bytes of regular files of 1 to
    // `most` bytes, as far as kMaxFetched goes. Since protocol 2.
    kFetch = 14,
    // StoreFields: makes one new file with all its bytes; what is there already stays (EEXIST), links are not followed.
    // Since protocol 3.
    kStore = 15,
    // u32 request, u8 replace, text absolute path, text new path: rename(2), in order with kStore. Without replace what is
    // there stays (EEXIST). Since protocol 3.
    kRename = 16,

    // supervisor to daemon
    kHelloOk = 64,   // HelloOkFields
    kKnown = 65,     // u64 n, u8 State, u64 stdout size now, u64 stderr size now
    kKnownEnd = 66,  // -
    kStarted = 67,   // u64 n, u32 pid, u64 wall clock in ms
    kOutput = 68,    // u64 n, u8 stream (1 stdout, 2 stderr), u64 offset, text bytes
    kHole = 69,      // u64 n, u8 stream, u64 offset, u64 length: bytes the supervisor no longer has
    kDone = 70,      // DoneFields
    // u32 request, u32 count, count x StatFields, count x u64 birth in ns (0: not known; older
    // supervisors do not say)
    kStatOk = 71,
    kProcessesOk = 72,  // u32 request, u32 count, count x (u32 pid, u32 parent, text command name)
    kTimerOk = 73,      // u32 request, u64 lifetime left in ms, u64 idle left in ms (0: none)
    kPong = 74,         // u32 request
    // u32 request, u32 count, count x text "KEY=value": PID 1's, minus what is sbxfs's own.
    kEnvironOk = 75,
    // u32 request or 0, u64 n or 0, u32 errno, text: a refused Start, Signal, Read, Forget or request.
    kError = 76,
    // u32 request, u32 count, count x (StatFields, u64 birth in ns, u8 whole, text bytes). Whole: the attributes are those
    // of the file that was read, before and after; else there are no bytes.
    kFetchOk = 77,
    kStoreOk = 78,   // StoreOkFields
    kRenameOk = 79,  // u32 request, u32 errno or 0
};

// What the dead-man timer does when it runs out.
enum class TimerAction : uint8_t {
    kEndCommands = 0,  // ends our own commands and the persistent shell; nothing else
    // SIGUSR1 (idle) or SIGUSR2 (lifetime) to PID 1; 2 s later SIGTERM to it; 5 s later SIGKILL to
    // everything we may kill.
    kEndSandbox = 1,
    kPowerOff = 2,  // ends our own commands, then reboot(2) powers the machine off
};

enum class Lane : uint8_t { kSerial = 0, kParallel = 1 };
enum class State : uint8_t { kRunning = 1, kDone = 2 };
enum class Stream : uint8_t { kStdout = 1, kStderr = 2 };

// Each is what happened to a process, never a guess:
//
// - A serial command's outcome is the status its shell reported, or, when the shell ended with it,
//   the shell's own wait status.
// - A shell that does not report within 2 s of its script's end (set -n, closed descriptors) is
//   killed by us: kSignaled 9, and `reason` says so. What the script returned is unknown.
// - A command that kSignal hit with signal s and whose shell then reports 128+s is kSignaled s.
enum class Outcome : uint8_t {
    kExited = 1,      // code = exit status
    kSignaled = 2,    // code = signal
    kTimedOut = 3,    // code = 124
    kLost = 4,        // ran, but nobody saw its end (the supervisor was killed)
    kNotStarted = 5,  // never ran; code = errno, reason says why and what to do
};

// Bits of DoneFields::shell_restarted; `reason` says why.
inline constexpr uint8_t kShellEnded = 1;  // the persistent shell ended with this command
inline constexpr uint8_t kShellFresh =
    2;  // this command was the first in a new shell, since the one before ended

// Text is not owned: it points into the frame it was read from, or into the writer's caller.
struct Text {
    const char* data = nullptr;
    uint32_t size = 0;
};

// kHelloOk, in this order.
struct HelloOkFields {
    uint32_t protocol = 0;
    // Random, made once with the spool: another number means another, empty spool.
    uint64_t spool = 0;
    uint64_t clock_ms = 0;  // wall clock
    uint32_t uid = 0;
    uint32_t gid = 0;
    Text machine;        // "x86_64", "aarch64"
    Text build;          // of the supervisor that runs; an older one serves until kShutdown
    Text home;           // of the login user
    Text default_shell;  // what an empty StartFields::shell means here; empty: there is none
    // Of the kernel's boot id. After another boot a Start that was never answered may have run and
    // been forgotten by a disk that lost its last seconds.
    uint64_t boot = 0;
};

// kStart: the fields in this order, then u32 count, count x (text name, text value) of environment.
struct StartFields {
    uint64_t n = 0;
    Lane lane = Lane::kSerial;
    uint8_t login_shell = 0;
    uint64_t timeout_ms = 0;    // from the start; 0: none
    uint64_t output_limit = 0;  // bytes kept per stream: the first MiB and the newest rest; 0: all
    Text shell;                 // a path; empty: bash where there is one, else sh
    // Of a parallel command, or of the first persistent shell; empty: the home directory.
    Text cwd;
    // Of a parallel command, or of a new persistent shell; empty: the login user. Another one needs
    // root.
    Text user;
    Text script;  // at most kMaxScript bytes, no NUL
};

// kDone, in this order.
struct DoneFields {
    uint64_t n = 0;
    Outcome outcome = Outcome::kExited;
    uint32_t code = 0;
    uint64_t stdout_size = 0;  // at the end; a background child may append later
    uint64_t stderr_size = 0;
    uint64_t started_ms = 0;  // wall clock of the sandbox; 0 when it never started
    uint64_t finished_ms = 0;
    uint64_t duration_us = 0;     // monotonic
    uint8_t shell_restarted = 0;  // kShellEnded, kShellFresh
    // Living processes that are not init, sshd, our sessions or the supervisor. While another command runs it may be
    // fewer than there are, but never 0.
    uint32_t others = 0;
    Text reason;  // why it did not start, why the shell restarted
    Text cwd;     // of the persistent shell after it; empty for a parallel command
};

// kStatOk, per path, in this order.
struct StatFields {
    uint32_t error = 0;  // an errno; all else is 0 then
    uint64_t dev = 0;
    uint64_t ino = 0;
    uint32_t mode = 0;
    uint32_t nlink = 0;
    uint32_t uid = 0;
    uint32_t gid = 0;
    uint64_t size = 0;
    int64_t mtime_ns = 0;
    int64_t ctime_ns = 0;
    int64_t birth_ns = 0;  // not among the others: see kStatOk
};

// Bits of StoreFields::flags.
inline constexpr uint8_t kStoreSync = 1;  // answered when the file is on the disk

// kStore, in this order.
struct StoreFields {
    uint32_t request = 0;
    uint8_t flags = 0;
    uint32_t mode = 0;  // of 07777; exactly, whatever the umask
    uint8_t times = 0;  // 1: the next two are meant
    int64_t atime = 0;  // seconds
    int64_t mtime = 0;
    Text path;   // absolute
    Text bytes;  // at most kMaxStored
};

// kStoreOk, in this order.
struct StoreOkFields {
    uint32_t request = 0;
    uint32_t error = 0;  // an errno of whatever failed first; 0: all of it was done
    uint8_t made = 0;    // 1: the file is there, by this Store, and stays as far as it came
    // Of the file at its end, with birth_ns; zeros when it was not made.
    StatFields file;
};

// Reads the payload of one frame. After the first failure everything reads as zero and ok() is
// false: check once at the end, and that at_end() holds.
class Reader {
 public:
    Reader(const char* data, size_t size) : at_(data), left_(size) {}

    uint8_t U8() { return static_cast<uint8_t>(Number(1)); }
    uint32_t U32() { return static_cast<uint32_t>(Number(4)); }
    uint64_t U64() { return Number(8); }
    Text String() {
        const uint32_t size = U32();
        if (!ok_ || size > left_) {
            ok_ = false;
            return {};
        }
        const Text text{at_, size};
        at_ += size;
        left_ -= size;
        return text;
    }
    // What was read makes no sense.
    void Fail() { ok_ = false; }
    bool ok() const { return ok_; }
    bool at_end() const { return ok_ && left_ == 0; }
    size_t left() const { return left_; }

 private:
    uint64_t Number(unsigned size) {
        if (!ok_ || left_ < size) {
            ok_ = false;
            return 0;
        }
        uint64_t value = 0;
        for (unsigned i = 0; i < size; ++i) {
            value |= static_cast<uint64_t>(static_cast<unsigned char>(at_[i])) << (8 * i);
        }
        at_ += size;
        left_ -= size;
        return value;
    }

    const char* at_;
    size_t left_;
    bool ok_ = true;
};

// Appends one frame to `Buffer`, which has size(), append(const char*, size_t) and data(). The
// length is filled in by the destructor.
template <class Buffer>
class Writer {
 public:
    Writer(Buffer& out, Type type) : out_(out), start_(out.size()) {
        U32(0);
        U8(static_cast<uint8_t>(type));
    }
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;
    ~Writer() {
        const auto length = static_cast<uint32_t>(out_.size() - start_ - 4);
        for (unsigned i = 0; i < 4; ++i) {
            out_.data()[start_ + i] = static_cast<char>((length >> (8 * i)) & 0xff);
        }
    }

    Writer& U8(uint8_t value) { return Number(value, 1); }
    Writer& U32(uint32_t value) { return Number(value, 4); }
    Writer& U64(uint64_t value) { return Number(value, 8); }
    Writer& String(Text text) {
        U32(text.size);
        if (text.size > 0) out_.append(text.data, text.size);
        return *this;
    }

 private:
    Writer& Number(uint64_t value, unsigned size) {
        char bytes[8];
        for (unsigned i = 0; i < size; ++i)
            bytes[i] = static_cast<char>((value >> (8 * i)) & 0xff);
        out_.append(bytes, size);
        return *this;
    }

    Buffer& out_;
    size_t start_;
};

// The multi-field messages, once for both sides.
template <class Buffer>
void PutHelloOkFields(Writer<Buffer>& w, const HelloOkFields& f) {
    w.U32(f.protocol).U64(f.spool).U64(f.clock_ms).U32(f.uid).U32(f.gid);
    w.String(f.machine).String(f.build).String(f.home).String(f.default_shell).U64(f.boot);
}

inline HelloOkFields GetHelloOkFields(Reader& r) {
    HelloOkFields f;
    f.protocol = r.U32();
    f.spool = r.U64();
    f.clock_ms = r.U64();
    f.uid = r.U32();
    f.gid = r.U32();
    f.machine = r.String();
    f.build = r.String();
    f.home = r.String();
    f.default_shell = r.String();
    f.boot = r.U64();
    return f;
}

template <class Buffer>
void PutStartFields(Writer<Buffer>& w, const StartFields& f) {
    w.U64(f.n)
        .U8(static_cast<uint8_t>(f.lane))
        .U8(f.login_shell)
        .U64(f.timeout_ms)
        .U64(f.output_limit);
    w.String(f.shell).String(f.cwd).String(f.user).String(f.script);
}

inline StartFields GetStartFields(Reader& r) {
    StartFields f;
    f.n = r.U64();
    f.lane = static_cast<Lane>(r.U8());
    f.login_shell = r.U8();
    f.timeout_ms = r.U64();
    f.output_limit = r.U64();
    f.shell = r.String();
    f.cwd = r.String();
    f.user = r.String();
    f.script = r.String();
    return f;
}

template <class Buffer>
void PutDoneFields(Writer<Buffer>& w, const DoneFields& f) {
    w.U64(f.n)
        .U8(static_cast<uint8_t>(f.outcome))
        .U32(f.code)
        .U64(f.stdout_size)
        .U64(f.stderr_size);
    w.U64(f.started_ms).U64(f.finished_ms).U64(f.duration_us).U8(f.shell_restarted).U32(f.others);
    w.String(f.reason).String(f.cwd);
}

inline DoneFields GetDoneFields(Reader& r) {
    DoneFields f;
    f.n = r.U64();
    f.outcome = static_cast<Outcome>(r.U8());
    f.code = r.U32();
    f.stdout_size = r.U64();
    f.stderr_size = r.U64();
    f.started_ms = r.U64();
    f.finished_ms = r.U64();
    f.duration_us = r.U64();
    f.shell_restarted = r.U8();
    f.others = r.U32();
    f.reason = r.String();
    f.cwd = r.String();
    return f;
}

template <class Buffer>
void PutStatFields(Writer<Buffer>& w, const StatFields& f) {
    w.U32(f.error).U64(f.dev).U64(f.ino).U32(f.mode).U32(f.nlink).U32(f.uid).U32(f.gid).U64(f.size);
    w.U64(static_cast<uint64_t>(f.mtime_ns)).U64(static_cast<uint64_t>(f.ctime_ns));
}

inline StatFields GetStatFields(Reader& r) {
    StatFields f;
    f.error = r.U32();
    f.dev = r.U64();
    f.ino = r.U64();
    f.mode = r.U32();
    f.nlink = r.U32();
    f.uid = r.U32();
    f.gid = r.U32();
    f.size = r.U64();
    f.mtime_ns = static_cast<int64_t>(r.U64());
    f.ctime_ns = static_cast<int64_t>(r.U64());
    return f;
}

template <class Buffer>
void PutStoreFields(Writer<Buffer>& w, const StoreFields& f) {
    w.U32(f.request).U8(f.flags).U32(f.mode).U8(f.times);
    w.U64(static_cast<uint64_t>(f.atime)).U64(static_cast<uint64_t>(f.mtime));
    w.String(f.path).String(f.bytes);
}

inline StoreFields GetStoreFields(Reader& r) {
    StoreFields f;
    f.request = r.U32();
    f.flags = r.U8();
    f.mode = r.U32();
    f.times = r.U8();
    f.atime = static_cast<int64_t>(r.U64());
    f.mtime = static_cast<int64_t>(r.U64());
    f.path = r.String();
    f.bytes = r.String();
    return f;
}

template <class Buffer>
void PutStoreOkFields(Writer<Buffer>& w, const StoreOkFields& f) {
    w.U32(f.request).U32(f.error).U8(f.made);
    PutStatFields(w, f.file);
    w.U64(static_cast<uint64_t>(f.file.birth_ns));
}

// What follows the request's number.
inline StoreOkFields GetStoreOkFields(uint32_t request, Reader& r) {
    StoreOkFields f;
    f.request = request;
    f.error = r.U32();
    f.made = r.U8();
    f.file = GetStatFields(r);
    f.file.birth_ns = static_cast<int64_t>(r.U64());
    return f;
}

}  // namespace sbxfs::supervisor
// NOLINTEND(modernize-*,readability-identifier-naming)
