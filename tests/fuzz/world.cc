#include "tests/fuzz/world.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "base/check.h"
#include "sandbox/supervisor/serve.h"

namespace sbxfs::fuzz {
namespace {

constexpr std::string_view kMagic(sup::kMagic, sizeof sup::kMagic - 1);
// O_RDWR, O_CREAT, O_DIRECTORY: the headers of libc do not go with those of the supervisor.
constexpr int kReadWrite = 2;
constexpr int kReadDirectory = 0200000;

std::string AsString(sup::Text text) {
    return {text.data, text.size};
}

bool IsOutput(sup::Type type) {
    return type == sup::Type::kOutput || type == sup::Type::kHole;
}

}  // namespace

sup::Text AsText(std::string_view text) {
    return {text.data(), static_cast<std::uint32_t>(text.size())};
}

std::string Frame(sup::Type type, const std::function<void(sup::Writer<std::string>&)>& payload) {
    std::string bytes;
    {
        sup::Writer<std::string> writer(bytes, type);
        if (payload) payload(writer);
    }
    return bytes;
}

Peer::Peer(OnFrame on_frame) : on_frame_(std::move(on_frame)) {
    int ends[2];
    SocketPair(ends);
    relay_ = HandOver(SpoolPath() + "/socket", {ends[1], ends[1]});
    CloseFd(ends[1]);
    if (relay_ >= 0) {
        end_ = ends[0];
    } else {
        CloseFd(ends[0]);
    }
}

void Peer::Close() {
    CloseFd(end_);
    CloseFd(relay_);
    end_ = relay_ = -1;
}

bool Peer::IsEnded() const {
    return end_ >= 0 && HasEnded(end_);
}

void Peer::CloseRelay() {
    CloseFd(relay_);
    relay_ = -1;
}

void Peer::Say(std::string_view bytes) {
    unsaid_ += bytes;
    (void)Flush();
}

bool Peer::Flush() {
    if (end_ < 0 || unsaid_.empty()) return false;
    const long put = Put(end_, unsaid_);
    if (put > 0) unsaid_.erase(0, static_cast<std::size_t>(put));
    return put > 0;
}

void Peer::Listen() {
    if (deaf_) return;
    char page[65536];
    while (end_ >= 0) {
        const long got = Get(end_, page, sizeof page);
        if (got <= 0) break;
        heard_.append(page, static_cast<std::size_t>(got));
    }
    if (!past_magic_) {
        if (heard_.size() < kMagic.size()) return;
        CHECK(heard_.compare(0, kMagic.size(), kMagic) == 0);
        heard_.erase(0, kMagic.size());
        past_magic_ = true;
    }
    std::size_t at = 0;
    while (heard_.size() - at >= 5) {
        sup::Reader header(heard_.data() + at, 5);
        const std::uint32_t length = header.U32();
        const std::uint8_t type = header.U8();
        CHECK(length >= 1 && length <= sup::kMaxFrame);
        CHECK(type >= 64 && type <= 79);
        if (heard_.size() - at - 4 < length) break;
        const std::string payload = heard_.substr(at + 5, length - 1);
        at += 4 + length;
        if (!on_frame_) continue;
        sup::Reader reader(payload.data(), payload.size());
        on_frame_(*this, static_cast<sup::Type>(type), reader);
    }
    heard_.erase(0, at);
}

World::World() {
    NewMachine();
    PlantAt(Plant::kDirectory, SpoolPath());
}

World::~World() {
    peers.clear();
    made_up.idle = nullptr;
}

int World::Live() {
    ++lives;
    // What was there dies with the supervisor before (PR_SET_PDEATHSIG), or is adopted by init.
    std::vector<int> children;
    for (auto& [pid, one] : made_up.processes)
        if (one.parent == kSelf) children.push_back(pid);
    for (const int pid : children) {
        const bool orphan = made_up.processes.at(pid).n == 0 && made_up.processes.at(pid).input < 0;
        if (!orphan) EndProcess(pid, 9);
    }
    for (auto& [pid, one] : made_up.processes)
        if (one.parent == kSelf) one.parent = 1;
    made_up.ended.clear();
    inputs_.clear();
    peers.clear();
    PlantAt(Plant::kDirectory, SpoolPath());
    int ready[2];
    SocketPair(ready);
    made_up.idle = [this](int timeout_ms) { return Idle(timeout_ms); };
    const int code = RunProcess([&] {
        sup::ServeOptions options;
        options.dir = sup::Fd(OpenForIt(SpoolPath().c_str(), kReadDirectory));
        options.lock = sup::Fd(OpenForIt("/dev/null", kReadWrite));
        options.ready = sup::Fd(GiveToIt(ready[1]));
        options.grace_ms = 1000;
        static char home[] = "HOME=/";
        static char* environment[] = {home, nullptr};
        options.environment = environment;
        sup::Serve(std::move(options));
    });
    CloseFd(ready[0]);
    made_up.idle = nullptr;
    for (const auto& peer : peers)
        peer->Listen();
    return code;
}

int World::ShellPid() const {
    for (const auto& [pid, one] : made_up.processes)
        if (one.input >= 0) return pid;
    return 0;
}

bool World::Idle(int timeout_ms) {
    bool said = false;
    for (const auto& peer : peers) {
        peer->Listen();
        said = peer->Flush() || said;
    }
    if (said || PeopleAct()) return true;
    if (wait_ms_ > 0) {
        CHECK(++rounds_ < 100000);  // time does not pass
        const long long hop = timeout_ms < 0 ? wait_ms_ : std::min<long long>(timeout_ms, wait_ms_);
        wait_ms_ -= hop;
        AdvanceAtOnce(hop);
        return true;
    }
    rounds_ = 0;
    return next && next();
}

void World::RunScript(std::uint64_t n, int pid, MadeUpProcess* shell) {
    const Conduct& how = conduct[n];
    ++runs[n];
    PlantAt(Plant::kAppend, Place(n, "stdout"), how.out);
    PlantAt(Plant::kAppend, Place(n, "stderr"), how.err);
    if (shell != nullptr) shell->stdin_link = how.hangs ? "/dev/null" : "";
    if (how.hangs) return;
    if (shell == nullptr) return EndProcess(pid, how.status << 8);
    if (how.shell_dies) return EndProcess(pid, how.status);
    if (how.says_nothing) return;
    PlantAt(Plant::kAppend, SpoolPath() + "/commands/report",
            "\nR " + std::to_string(n) + " " + std::to_string(how.status) + " hB\n");
}

bool World::PeopleAct() {
    if (silent) return false;
    std::vector<int> pids;
    for (const auto& [pid, one] : made_up.processes)
        if (one.exec < 0 && (one.input >= 0 || (one.n > 0 && acted_.count(pid) == 0)))
            pids.push_back(pid);
    bool any = false;
    for (const int pid : pids) {
        const auto found = made_up.processes.find(pid);
        if (found == made_up.processes.end()) continue;
        MadeUpProcess& one = found->second;
        if (one.input < 0) {
            acted_.insert(pid);
            RunScript(one.n, pid, nullptr);
            any = true;
            continue;
        }
        std::string& text = inputs_[pid];
        text += TakeInput(one);
        // The end of a command's lines, from which on it runs (dialect.cc).
        constexpr std::string_view kBefore = "; _sbxfs_report ";
        for (;;) {
            const std::size_t report = text.find(kBefore);
            const std::size_t line = report == std::string::npos ? report : text.find('\n', report);
            if (line == std::string::npos) break;
            const std::uint64_t n =
                std::strtoull(text.c_str() + report + kBefore.size(), nullptr, 10);
            text.erase(0, line + 1);
            any = true;
            RunScript(n, pid, &one);
            if (made_up.processes.count(pid) == 0) break;
        }
    }
    return any;
}

Peer& World::Attach() {
    peers.push_back(std::make_unique<Peer>(
        [this](Peer& peer, sup::Type type, sup::Reader& reader) { Hear(peer, type, reader); }));
    Peer& peer = *peers.back();
    peer.epoch = ++epoch;
    peer.Say(Frame(sup::Type::kHello,
                   [&](auto& w) { w.U32(sup::kOldestProtocol).U32(sup::kProtocol).U64(epoch); }));
    return peer;
}

Peer* World::Daemon() {
    return !peers.empty() && peers.back()->IsOpen() ? peers.back().get() : nullptr;
}

void World::Say(std::string_view bytes) {
    if (Peer* peer = Daemon()) peer->Say(bytes);
}

void World::Start(std::uint64_t n, bool serial, std::string_view script,
                  const std::function<void(sup::StartFields&)>& change,
                  const std::map<std::string, std::string>& env) {
    Told& one = told[n];
    one.serial = serial;
    one.start = Frame(sup::Type::kStart, [&](auto& w) {
        sup::StartFields fields;
        fields.n = n;
        fields.lane = serial ? sup::Lane::kSerial : sup::Lane::kParallel;
        fields.script = AsText(script);
        if (change) change(fields);
        sup::PutStartFields(w, fields);
        w.U32(static_cast<std::uint32_t>(env.size()));
        for (const auto& [name, value] : env)
            w.String(AsText(name)).String(AsText(value));
    });
    if (Peer* peer = Daemon()) {
        one.said_in = peer->epoch;
        peer->Say(one.start);
    }
}

void World::Forget(std::uint64_t n) {
    if (!told[n].done) return;  // a daemon forgets what it has
    if (!settles_) told[n].forgotten_early = true;
    told[n].forgotten = true;
    Say(Frame(sup::Type::kForget, [&](auto& w) { w.U64(n); }));
}

void World::Signal(std::uint64_t n, int signal) {
    Say(Frame(sup::Type::kSignal,
              [&](auto& w) { w.U64(n).U32(static_cast<std::uint32_t>(signal)); }));
}

void World::Hear(Peer& peer, sup::Type type, sup::Reader& reader) {
    ++heard[type];
    if (IsOutput(type)) return HearOutput(type, reader);
    constexpr auto raw = [](sup::Type one) { return static_cast<unsigned>(one); };
    switch (raw(type)) {
        case raw(sup::Type::kHelloOk):
            (void)sup::GetHelloOkFields(reader);
            peer.greeted = true;
            break;
        case raw(sup::Type::kKnown): {
            const std::uint64_t n = reader.U64();
            const std::uint8_t state = reader.U8();
            (void)reader.U64();
            (void)reader.U64();
            CHECK(state == 1 || state == 2);
            CHECK(told.count(n) > 0);
            Told& one = told[n];
            one.known_in = peer.epoch;
            if (one.said_in == peer.epoch) break;  // it is being pushed
            // What came in part before is asked for again.
            for (std::size_t i = 0; i < 2; ++i) {
                one.out[i].clear();
                one.next[i] = 0;
            }
            peer.Say(Frame(sup::Type::kRead, [&](auto& w) { w.U64(n).U64(0).U64(0); }));
            break;
        }
        case raw(sup::Type::kKnownEnd):
            // What was never answered is asked for again.
            for (auto& [n, one] : told)
                if (one.known_in != peer.epoch && one.said_in != peer.epoch && !one.done &&
                    one.refused.empty()) {
                    one.said_in = peer.epoch;
                    peer.Say(one.start);
                }
            break;
        case raw(sup::Type::kStarted):
            CHECK(told.count(reader.U64()) > 0);
            (void)reader.U32();
            (void)reader.U64();
            break;
        case raw(sup::Type::kDone):
            HearDone(reader);
            break;
        case raw(sup::Type::kError): {
            (void)reader.U32();
            const std::uint64_t n = reader.U64();
            const std::uint32_t error = reader.U32();
            CHECK(!AsString(reader.String()).empty());
            CHECK(error > 0);
            if (n > 0 && told.count(n) > 0) told[n].refused.insert(error);
            break;
        }
        case raw(sup::Type::kStatOk): {
            (void)reader.U32();
            const std::uint32_t count = reader.U32();
            for (std::uint32_t i = 0; i < count; ++i)
                (void)sup::GetStatFields(reader);
            for (std::uint32_t i = 0; i < count; ++i)
                (void)reader.U64();
            break;
        }
        case raw(sup::Type::kFetchOk): {
            (void)reader.U32();
            const std::uint32_t count = reader.U32();
            for (std::uint32_t i = 0; i < count; ++i) {
                const sup::StatFields fields = sup::GetStatFields(reader);
                (void)reader.U64();
                const bool whole = reader.U8() != 0;
                const sup::Text bytes = reader.String();
                CHECK(whole ? bytes.size == fields.size : bytes.size == 0);
            }
            break;
        }
        case raw(sup::Type::kStoreOk):
            HearStored(peer, reader);
            break;
        case raw(sup::Type::kRenameOk):
            HearRenamed(peer, reader);
            break;
        case raw(sup::Type::kProcessesOk): {
            (void)reader.U32();
            const std::uint32_t count = reader.U32();
            for (std::uint32_t i = 0; i < count; ++i) {
                (void)reader.U32();
                (void)reader.U32();
                (void)reader.String();
            }
            break;
        }
        case raw(sup::Type::kTimerOk):
            (void)reader.U32();
            (void)reader.U64();
            (void)reader.U64();
            break;
        case raw(sup::Type::kPong):
            (void)reader.U32();
            break;
        case raw(sup::Type::kEnvironOk): {
            (void)reader.U32();
            const std::uint32_t count = reader.U32();
            for (std::uint32_t i = 0; i < count; ++i)
                (void)reader.String();
            break;
        }
        default:
            CHECK(false);
    }
    CHECK(reader.at_end());
}

void World::Store(std::uint32_t request, const std::string& name, const std::string& bytes,
                  std::uint32_t mode, std::uint8_t flags) {
    Wanted wanted;
    wanted.path = Directory() + "/" + name;
    wanted.bytes = bytes;
    wanted.mode = mode;
    sup::StoreFields fields;
    fields.request = request;
    fields.flags = flags;
    fields.mode = mode;
    fields.times = 1;
    fields.atime = 1;
    fields.mtime = 1'700'000'000;
    fields.path = AsText(wanted.path);
    fields.bytes = AsText(wanted.bytes);
    wanted.there = InodeAt(wanted.path);
    if (const Peer* peer = Daemon()) wanted.said_in = peer->epoch;
    const std::string frame = Frame(sup::Type::kStore, [&](auto& w) { PutStoreFields(w, fields); });
    stores[request] = std::move(wanted);
    Say(frame);
}

void World::Rename(std::uint32_t request, const std::string& from, const std::string& to,
                   bool replace) {
    Moved& one = renames[request];
    one.from = Directory() + "/" + from;
    one.to = Directory() + "/" + to;
    one.replace = replace;
    one.from_there = InodeAt(one.from);
    one.to_there = InodeAt(one.to);
    if (const Peer* peer = Daemon()) one.said_in = peer->epoch;
    Say(Frame(sup::Type::kRename, [&](auto& w) {
        w.U32(request).U8(replace ? 1 : 0).String(AsText(one.from)).String(AsText(one.to));
    }));
}

void World::HearStored(const Peer& peer, sup::Reader& reader) {
    const std::uint32_t request = reader.U32();
    const sup::StoreOkFields answer = sup::GetStoreOkFields(request, reader);
    CHECK(answer.made <= 1 && (answer.made == 1 || answer.error != 0));
    CHECK(stores.count(answer.request) > 0);
    Wanted& one = stores[answer.request];
    CHECK(!one.answered && one.said_in == peer.epoch);
    one.answered = true;
    one.answer = answer;
    if (answer.made == 0) {
        // What was there is there as it was, and nothing else.
        CHECK(answer.file.ino == 0 && answer.file.birth_ns == 0);
        CHECK(InodeAt(one.path) == one.there);
        CHECK(answer.error != 17 || one.there != 0);  // EEXIST
        return;
    }
    CHECK(one.there == 0 && IsThere(one.path));
    if (answer.error != 0) return;
    CHECK(ReadPlace(one.path) == one.bytes);
    if (answer.file.error != 0) return;
    CHECK(answer.file.ino == InodeAt(one.path));
    CHECK((answer.file.mode & 07777) == one.mode);
    CHECK(answer.file.size == one.bytes.size());
    CHECK(answer.file.mtime_ns == 1'700'000'000'000'000'000);
}

void World::HearRenamed(const Peer& peer, sup::Reader& reader) {
    const std::uint32_t request = reader.U32();
    const std::uint32_t error = reader.U32();
    CHECK(renames.count(request) > 0);
    Moved& one = renames[request];
    CHECK(!one.answered && one.said_in == peer.epoch);
    one.answered = true;
    one.error = error;
    if (error != 0) {
        CHECK(InodeAt(one.from) == one.from_there && InodeAt(one.to) == one.to_there);
        CHECK(error != 17 || (!one.replace && one.to_there != 0));  // EEXIST
        return;
    }
    CHECK(one.from_there != 0 && (one.replace || one.to_there == 0));
    CHECK(!IsThere(one.from) && InodeAt(one.to) == one.from_there);
}

void World::HearDone(sup::Reader& reader) {
    sup::DoneFields fields = sup::GetDoneFields(reader);
    CHECK(reader.at_end());
    CHECK(told.count(fields.n) > 0);
    CHECK(fields.outcome >= sup::Outcome::kExited && fields.outcome <= sup::Outcome::kNotStarted);
    Told& one = told[fields.n];
    const std::string reason = AsString(fields.reason);
    one.fields.stdout_size = fields.stdout_size;
    one.fields.stderr_size = fields.stderr_size;
    if (one.done) {
        // The same again; after a death what could not be written down is lost, and said to be.
        const bool same = one.fields.outcome == fields.outcome && one.fields.code == fields.code;
        CHECK(damaged || same ||
              (one.done_in_life < lives && (fields.outcome == sup::Outcome::kLost ||
                                            fields.outcome == sup::Outcome::kNotStarted)));
        return;
    }
    one.done = true;
    one.first_sizes = {fields.stdout_size, fields.stderr_size};
    one.done_in_life = lives;
    one.reason = reason;
    one.fields = fields;
    one.fields.reason = one.fields.cwd = {};
}

void World::HearOutput(sup::Type type, sup::Reader& reader) {
    const std::uint64_t n = reader.U64();
    const std::uint8_t stream = reader.U8();
    const std::uint64_t offset = reader.U64();
    CHECK(stream == 1 || stream == 2);
    CHECK(told.count(n) > 0);
    Told& one = told[n];
    const std::size_t i = stream - 1U;
    CHECK(offset == one.next[i]);
    if (type == sup::Type::kHole) {
        const std::uint64_t length = reader.U64();
        CHECK(reader.at_end() && length > 0);
        one.next[i] += length;
        one.has_hole[i] = true;
        return;
    }
    const std::string bytes = AsString(reader.String());
    CHECK(reader.at_end() && !bytes.empty() && bytes.size() <= sup::kMaxOutputChunk);
    one.next[i] += bytes.size();
    one.out[i] += bytes;
    const auto credit = static_cast<std::uint32_t>(bytes.size());
    Say(Frame(sup::Type::kCredit, [&](auto& w) { w.U32(credit); }));
}

bool World::AllIsTold() const {
    for (const auto& [n, one] : told) {
        if (!one.done && one.refused.empty()) return false;
        if (!one.done || one.forgotten) continue;
        if (one.next[0] < one.fields.stdout_size || one.next[1] < one.fields.stderr_size)
            return false;
    }
    return true;
}

void World::CheckTold() const {
    for (const auto& [n, one] : told) {
        const auto ran = runs.find(n);
        const int times = ran == runs.end() ? 0 : ran->second;
        const auto broken = [times, &n = n, &one = one](bool holds) {
            if (holds) return;
            (void)std::fprintf(stderr,
                               "command %llu: ran %d, outcome %d code %u, %s; %zu and %zu bytes of "
                               "%llu and %llu\n",
                               static_cast<unsigned long long>(n), times,
                               static_cast<int>(one.fields.outcome), one.fields.code,
                               one.reason.c_str(), one.out[0].size(), one.out[1].size(),
                               static_cast<unsigned long long>(one.fields.stdout_size),
                               static_cast<unsigned long long>(one.fields.stderr_size));
            CHECK(holds);
        };
        broken(times <= 1);  // nothing runs twice
        if (damaged) continue;
        if (!one.done) {
            broken(!one.refused.empty());
            broken(times == 0 ||
                   one.refused.count(17) > 0);  // EEXIST: "that number was used before"
            continue;
        }
        const bool began = one.fields.outcome != sup::Outcome::kNotStarted;
        broken(began || times == 0);  // what is said not to have started has not
        const bool exited = one.fields.outcome == sup::Outcome::kExited;
        broken(!exited || times == 1);
        if (!exited) continue;
        const auto found = conduct.find(n);
        const Conduct how = found == conduct.end() ? Conduct() : found->second;
        const int status = how.shell_dies ? how.status >> 8 : how.status;
        broken(one.fields.code == static_cast<std::uint32_t>(status));
        if (one.has_hole[0] || one.has_hole[1] || one.forgotten_early || how.any_output) continue;
        broken(one.reason.find("cannot be told") != std::string::npos ||
               (one.first_sizes[0] == how.out.size() && one.first_sizes[1] == how.err.size()));
        broken(one.out[0] == how.out && one.out[1] == how.err);
    }
}

void World::Settle() {
    settles_ = true;
    made_up.fault = FaultKind::kNone;
    made_up.fork_fails = made_up.exec_held = false;
    made_up.exec_step = -1;
    made_up.saves_held = false;
    made_up.save_status = 0;
    for (auto& [n, how] : conduct)
        how.hangs = how.says_nothing = false;
    std::vector<int> held;
    for (const auto& [pid, one] : made_up.processes)
        if (one.exec >= 0) held.push_back(pid);
    for (const int pid : held)
        LetExec(pid);
    wait_ms_ = 0;
    bool ended = false;
    for (int tries = 0; !ended; ++tries) {
        CHECK(tries < 5);
        int step = 0;
        std::size_t open_at_first = 0;
        next = [&]() -> bool {
            if (step++ == 0) {
                open_at_first = OpenOfIt();
                Attach();
                return true;
            }
            if (!AllIsTold() && step < 200) {
                if (Daemon() == nullptr) Attach();
                // Who hangs is killed, in the end with its shell.
                if (step > 5) {
                    for (const auto& [n, one] : told)
                        if (!one.done) Signal(n, 9);
                }
                Advance(500);
                return true;
            }
            CHECK(AllIsTold());
            if (step < 1000) {
                for (auto& [n, one] : told)
                    Forget(n);
                step = 1000;
                return true;
            }
            if (step == 1001) {
                // A shell's pipe may be there now, and a connection.
                CHECK(OpenOfIt() <= open_at_first + 1 + 3);
                Say(Frame(sup::Type::kShutdown, [](auto& w) { w.U32(7).U8(1); }));
                return true;
            }
            return step < 1100;
        };
        ended = Live() == 0;
    }
    CHECK(AllIsTold());
    CheckTold();
    CHECK(!IsThere(SpoolPath()));
    CHECK(LeftOpen() > 0);  // the listener and the like: they are the process's until its end
}

}  // namespace sbxfs::fuzz
