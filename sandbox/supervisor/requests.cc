// Session: what the daemon asks for. Every handler reads its whole frame first and is false when
// that does not parse, which ends the connection; what parses but cannot be done is a kError.

#include <linux/limits.h>

#include "sandbox/supervisor/build.h"
#include "sandbox/supervisor/session.h"
#include "sandbox/supervisor/stats.h"
#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {
namespace {

// Scripts that wait for the persistent shell; the daemon sends one at a time.
constexpr size_t kMaxWaiting = 256;
constexpr size_t kMaxWaitingBytes = 8U << 20;
constexpr size_t kMaxCommands = 4096;
constexpr uint32_t kMaxVariables = 4096;
constexpr uint32_t kMaxCredit = 1U << 30;

bool IsPlain(Text text) {
    return !View(text).Has('\0');
}

// Why a Start is no command; nullptr when it is one.
const char* WhyNot(const StartFields& f) {
    // Tags of the epoll set have room for this much (runtime.h).
    if (f.n == 0 || WhichOf(f.n) != f.n) return "a command's number is above 0 and below 2^56";
    if (f.lane != Lane::kSerial && f.lane != Lane::kParallel) return "no such lane";
    if (f.script.size > kMaxScript) return "the script is over 1 MiB";
    if (!IsPlain(f.script)) return "the script has a NUL byte";
    for (const Text text : {f.shell, f.cwd, f.user}) {
        if (!IsPlain(text) || text.size >= PATH_MAX) return "a path or name is too long";
    }
    if (f.shell.size > 0 && f.shell.data[0] != '/') return "the shell is not an absolute path";
    if (f.cwd.size > 0 && f.cwd.data[0] != '/') return "the directory is not an absolute path";
    return nullptr;
}

bool AreAlike(const StatFields& one, const StatFields& other) {
    return one.dev == other.dev && one.ino == other.ino && one.size == other.size &&
           one.mtime_ns == other.mtime_ns && one.ctime_ns == other.ctime_ns;
}

bool IsStill(int file, const StatFields& fields) {
    struct stat stat {};
    return sys::StatFd(file, &stat) == 0 && AreAlike(FieldsOf(stat), fields);
}

// Appends the bytes of the regular file that has these attributes; false, and nothing, when it is not there like
// that any more or cannot be read.
bool AppendFile(View path, const StatFields& fields, Str* to) {
    Str name(path);
    const Fd file(
        sys::OpenAt(AT_FDCWD, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
    // Something else may have been put there since: of a pipe not a byte is taken.
    if (!file || !IsStill(file.get(), fields)) return false;
    const size_t start = to->size();
    size_t left = fields.size;
    while (left > 0) {
        const long got = sys::Read(file.get(), to->Room(left), left);
        if (got == -EINTR) continue;
        if (got <= 0) break;
        to->Grown(static_cast<size_t>(got));
        left -= static_cast<size_t>(got);
    }
    if (left == 0 && IsStill(file.get(), fields)) return true;
    to->Shrink(start);
    return false;
}

}  // namespace

void Session::Refuse(uint32_t request, uint64_t n, long error, View text) {
    Writer<Str>(Daemon().out(), Type::kError)
        .U32(request)
        .U64(n)
        .U32(static_cast<uint32_t>(error < 0 ? -error : error))
        .String(text.AsText());
}

bool Session::HandleFrame(uint64_t slot, Type type, View payload) {
    Reader reader(payload.data, payload.size);
    if (slot != daemon_) {
        const bool hello = type == Type::kHello && HandleHello(slot, reader);
        if (!hello && type != Type::kHello) {
            Writer<Str>(connections_[slot].out(), Type::kError)
                .U32(0)
                .U64(0)
                .U32(EPROTO)
                .String(View("say Hello first").AsText());
        }
        return hello;
    }
    bool good = false;
    switch (type) {
        case Type::kStart:
            good = HandleStart(reader);
            break;
        case Type::kRead:
            good = HandleRead(reader);
            break;
        case Type::kSignal:
            good = HandleSignal(reader);
            break;
        case Type::kStat:
            good = HandleStat(reader);
            break;
        case Type::kFetch:
            good = HandleFetch(reader);
            break;
        case Type::kStore:
            good = HandleStore(reader);
            break;
        case Type::kRename:
            good = HandleRename(reader);
            break;
        case Type::kProcesses:
            good = HandleProcesses(reader);
            break;
        case Type::kTimer:
            good = HandleTimer(reader);
            break;
        case Type::kEnviron:
            good = HandleEnviron(reader);
            break;
        case Type::kShutdown:
            good = HandleShutdown(reader);
            break;
        case Type::kCredit: {
            const uint64_t credit = uint64_t{reader.U32()} + Daemon().credit;
            good = reader.at_end();
            Daemon().credit = static_cast<uint32_t>(credit < kMaxCredit ? credit : kMaxCredit);
            break;
        }
        case Type::kForget: {
            const uint64_t n = reader.U64();
            good = reader.at_end();
            const long error = good ? commands_.Forget(n) : 0;
            if (error < 0) Refuse(0, n, error, "it still runs");
            break;
        }
        case Type::kUse:
            good = reader.at_end();
            timers_.Use(sys::MonotonicMs());
            break;
        case Type::kPing: {
            const uint32_t request = reader.U32();
            good = reader.at_end();
            if (good) Writer<Str>(Daemon().out(), Type::kPong).U32(request);
            break;
        }
        default:
            break;  // Hello again, our own types, what does not exist
    }
    if (!good) Refuse(0, 0, EPROTO, "a frame that makes no sense");
    return good;
}

bool Session::HandleHello(uint64_t slot, Reader& reader) {
    const uint32_t lowest = reader.U32();
    const uint32_t highest = reader.U32();
    const uint64_t epoch = reader.U64();
    const bool good = reader.at_end();
    const bool speaks = lowest <= kProtocol && highest >= kOldestProtocol;
    if (!good || !speaks || epoch < runtime_.spool.epoch()) {
        const char* why = !good    ? "a Hello that makes no sense"
                          : speaks ? "a newer connection has taken over"
                                   : "this supervisor speaks protocols 1 to 3 only; end its "
                                     "commands and shut it down to start another";
        Writer<Str>(connections_[slot].out(), Type::kError)
            .U32(0)
            .U64(0)
            .U32(!good    ? EPROTO
                 : speaks ? ESTALE
                          : EPROTONOSUPPORT)
            .String(View(why).AsText());
        return false;
    }
    if (daemon_ != kNobody) Drop(daemon_);
    runtime_.spool.SetEpoch(epoch);
    daemon_ = slot;
    Daemon().greeted = true;
    Daemon().hello_by_ms = kNever;
    TellHello(slot, highest < kProtocol ? highest : kProtocol);
    for (size_t i = 0; i < commands_.Count(); ++i) {
        Command& command = commands_.At(i);
        command.pushing = false;
        command.tell_known = true;
    }
    tell_known_end_ = true;
    return true;
}

void Session::TellHello(uint64_t slot, uint32_t protocol) {
    HelloOkFields hello;
    hello.protocol = protocol;
    hello.spool = runtime_.spool.id();
    hello.boot = runtime_.spool.boot();
    hello.clock_ms = sys::WallMs();
    hello.uid = runtime_.uid;
    hello.gid = runtime_.gid;
    hello.machine = View(static_cast<const char*>(sys::kMachine)).AsText();
    hello.build = View(static_cast<const char*>(kBuild)).AsText();
    hello.home = runtime_.home.text();
    hello.default_shell = runtime_.default_shell.text();
    Writer<Str> writer(connections_[slot].out(), Type::kHelloOk);
    PutHelloOkFields(writer, hello);
}

void Session::TellKnown(Command& command) {
    command.tell_known = false;
    const bool done = command.phase == Phase::kDone;
    if (commands_.EnsureOpen(command)) commands_.Refresh(command);
    Writer<Str>(Daemon().out(), Type::kKnown)
        .U64(command.n)
        .U8(static_cast<uint8_t>(done ? State::kDone : State::kRunning))
        .U64(command.out[0].size)
        .U64(command.out[1].size);
    command.tell_started = command.phase == Phase::kRunning || command.phase == Phase::kEnding;
    command.tell_done = done && !command.forgotten;
    commands_.CloseIfIdle(command);
}

bool Session::HandleStart(Reader& reader) {
    const StartFields fields = GetStartFields(reader);
    auto order = MakeBox<StartOrder>();
    const uint32_t count = reader.U32();
    bool names = count <= kMaxVariables;
    for (uint32_t i = 0; i < count && names && reader.ok(); ++i) {
        const Text name = reader.String();
        const Text value = reader.String();
        names = IsVariableName(name) && IsPlain(value);
        if (names && reader.ok()) order->env.Set(name, value);
    }
    if (names && !reader.at_end()) return false;
    const char* why = names ? WhyNot(fields) : "a variable's name or value is malformed";
    if (why != nullptr) {
        Refuse(0, fields.n, EINVAL, why);
        return true;
    }
    Command* known = commands_.Find(fields.n);
    if (known != nullptr && !known->forgotten) {
        known->tell_known = true;
        return true;
    }
    if (known != nullptr || commands_.WasForgotten(fields.n)) {
        Refuse(0, fields.n, EEXIST, "that number was used before; nothing runs twice");
        return true;
    }
    const bool serial = fields.lane == Lane::kSerial;
    if (commands_.Count() >= kMaxCommands ||
        (serial && (shell_.Waiting() >= kMaxWaiting ||
                    shell_.WaitingBytes() + fields.script.size > kMaxWaitingBytes))) {
        Refuse(0, fields.n, EAGAIN, "too many commands wait; forget finished ones first");
        return true;
    }
    timers_.Use(sys::MonotonicMs());
    order->shell.Assign(fields.shell);
    order->cwd.Assign(fields.cwd);
    order->user.Assign(fields.user);
    order->script.Assign(fields.script);
    order->login = fields.login_shell != 0;
    Account account;
    const bool other = ChooseUser(runtime_, fields.user, &account) == WhoResult::kOther;
    Command* command = commands_.Create(fields, std::move(order), other ? &account : nullptr);
    if (command->phase != Phase::kWaiting) return true;
    if (serial) {
        shell_.Enqueue(*command);
    } else {
        parallel_.Start(*command);
    }
    return true;
}

bool Session::HandleRead(Reader& reader) {
    const uint64_t n = reader.U64();
    const uint64_t from[2] = {reader.U64(), reader.U64()};
    if (!reader.at_end()) return false;
    Command* command = commands_.Find(n);
    if (command == nullptr) {
        Refuse(0, n, ENOENT, "there is no such command in the spool");
        return true;
    }
    if (commands_.EnsureOpen(*command)) {
        commands_.Refresh(*command);
    } else {
        for (OutputStream& stream : command->out)
            stream.size = 0;
        commands_.KeepPromise(*command);
    }
    if (from[0] > command->out[0].size || from[1] > command->out[1].size) {
        Refuse(0, n, EINVAL, "there is less output than that");
        return true;
    }
    command->pushing = true;
    for (int i = 0; i < 2; ++i)
        command->out[i].pushed = from[i];
    return true;
}

bool Session::HandleSignal(Reader& reader) {
    const uint64_t n = reader.U64();
    const uint32_t signal = reader.U32();
    if (!reader.at_end()) return false;
    Command* command = commands_.Find(n);
    if (command == nullptr || command->phase == Phase::kDone) {
        Refuse(0, n, ESRCH, "it does not run");
    } else if (signal == 0 || signal > sys::kLastSignal) {
        Refuse(0, n, EINVAL, "there is no such signal");
    } else if (!shell_.Cancel(*command) && command->phase == Phase::kRunning) {
        const bool with_shell = signal == sys::kKill && shell_.HasNotRead(*command);
        commands_.Signal(*command, static_cast<int>(signal), with_shell);
    }
    return true;
}

bool Session::HandleStat(Reader& reader) {
    const uint32_t request = reader.U32();
    const uint32_t count = reader.U32();
    if (!reader.ok() || count > kMaxBatch) return false;
    Str& out = Daemon().out();
    const size_t start = out.size();
    {
        Writer<Str> writer(out, Type::kStatOk);
        writer.U32(request).U32(count);
        Vec<int64_t> births;
        for (uint32_t i = 0; i < count; ++i) {
            const Text path = reader.String();
            if (!reader.ok()) break;
            const StatFields fields = StatOf(path);
            PutStatFields(writer, fields);
            births.Add(fields.birth_ns);
        }
        for (const int64_t birth : births)
            writer.U64(static_cast<uint64_t>(birth));
    }
    if (reader.at_end()) return true;
    out.Shrink(start);
    return false;
}

bool Session::HandleFetch(Reader& reader) {
    const uint32_t request = reader.U32();
    const uint32_t most = reader.U32();
    const uint32_t count = reader.U32();
    if (!reader.ok() || count > kMaxBatch) return false;
    Str& out = Daemon().out();
    const size_t start = out.size();
    {
        Writer<Str> writer(out, Type::kFetchOk);
        writer.U32(request).U32(count);
        size_t room = kMaxFetched;
        for (uint32_t i = 0; i < count; ++i) {
            const Text path = reader.String();
            if (!reader.ok()) break;
            const StatFields fields = StatOf(path);
            PutStatFields(writer, fields);
            writer.U64(static_cast<uint64_t>(fields.birth_ns));
            // An empty one may be of /proc. What is no file is not opened: that can have effects.
            const bool wanted = fields.error == 0 &&
                                (fields.mode & sys::kTypeMask) == sys::kRegular &&
                                fields.size > 0 && fields.size <= most && fields.size <= room;
            const size_t front = out.size();
            writer.U8(1).U32(static_cast<uint32_t>(fields.size));
            if (wanted && AppendFile(path, fields, &out)) {
                room -= fields.size;
            } else {
                out.Shrink(front);
                writer.U8(0).U32(0);
            }
        }
    }
    if (reader.at_end()) return true;
    out.Shrink(start);
    return false;
}

bool Session::HandleStore(Reader& reader) {
    const StoreFields fields = GetStoreFields(reader);
    const bool sane = (fields.flags & ~kStoreSync) == 0 && (fields.mode & ~07777U) == 0 &&
                      fields.times <= 1 && fields.bytes.size <= kMaxStored;
    if (!reader.at_end() || !sane) return false;
    StoreOkFields answer;
    if (stores_.Make(fields, &answer)) TellStored(answer);
    return true;
}

void Session::TellStored(const StoreOkFields& answer) {
    Writer<Str> writer(Daemon().out(), Type::kStoreOk);
    PutStoreOkFields(writer, answer);
}

bool Session::HandleRename(Reader& reader) {
    const uint32_t request = reader.U32();
    const uint8_t replace = reader.U8();
    const Text from = reader.String();
    const Text to = reader.String();
    if (!reader.at_end() || replace > 1) return false;
    uint32_t error = WhyNoPath(from);
    if (error == 0) error = WhyNoPath(to);
    if (error == 0) {
        Str old_name{View(from)};
        Str new_name{View(to)};
        const long renamed =
            replace != 0 ? sys::RenameAt(AT_FDCWD, old_name.c_str(), new_name.c_str())
                         : sys::MoveAt(AT_FDCWD, old_name.c_str(), AT_FDCWD, new_name.c_str());
        error = static_cast<uint32_t>(-renamed);
    }
    Writer<Str>(Daemon().out(), Type::kRenameOk).U32(request).U32(error);
    return true;
}

bool Session::HandleProcesses(Reader& reader) {
    const uint32_t request = reader.U32();
    if (!reader.at_end()) return false;
    Vec<Process> all;
    Vec<Process> others;
    ListProcesses(&all);
    CountOthers(all, runtime_.self, commands_.shell_pid, &others);
    const size_t count = others.size() < kMaxBatch ? others.size() : kMaxBatch;
    Writer<Str> writer(Daemon().out(), Type::kProcessesOk);
    writer.U32(request).U32(static_cast<uint32_t>(count));
    for (size_t i = 0; i < count; ++i) {
        writer.U32(static_cast<uint32_t>(others[i].pid));
        writer.U32(static_cast<uint32_t>(others[i].parent));
        writer.String(others[i].Name().AsText());
    }
    return true;
}

bool Session::HandleTimer(Reader& reader) {
    const uint32_t request = reader.U32();
    const uint64_t lifetime = reader.U64();
    const uint64_t idle = reader.U64();
    const uint8_t action = reader.U8();
    if (!reader.at_end()) return false;
    if (action > static_cast<uint8_t>(TimerAction::kPowerOff)) {
        Refuse(request, 0, EINVAL, "there is no such timer action");
        return true;
    }
    const int64_t now = sys::MonotonicMs();
    timers_.Set(now, lifetime, idle, static_cast<TimerAction>(action));
    Writer<Str>(Daemon().out(), Type::kTimerOk)
        .U32(request)
        .U64(timers_.LifetimeLeft(now))
        .U64(timers_.IdleLeft(now));
    return true;
}

bool Session::HandleEnviron(Reader& reader) {
    const uint32_t request = reader.U32();
    if (!reader.at_end()) return false;
    Environment image;
    if (!ReadImageEnvironment(&image)) {
        Refuse(request, 0, EACCES, "the environment of PID 1 cannot be read as this user");
        return true;
    }
    Writer<Str> writer(Daemon().out(), Type::kEnvironOk);
    writer.U32(request).U32(static_cast<uint32_t>(image.Entries().size()));
    for (const Str& entry : image.Entries())
        writer.String(entry.text());
    return true;
}

bool Session::HandleShutdown(Reader& reader) {
    const uint32_t request = reader.U32();
    const uint8_t remove = reader.U8();
    if (!reader.at_end()) return false;
    commands_.KillAll();
    shell_.KillShell();
    if (remove != 0) runtime_.spool.RemoveAll();
    Writer<Str>(Daemon().out(), Type::kPong).U32(request);
    ended_ = true;
    return true;
}

}  // namespace sbxfs::supervisor
