// The supervisor against its daemon and its sandbox: frames in pieces, connections in any number, lies in the FIFO, a
// spool that somebody else writes to, processes that end as they like, and supervisors that are killed and come back.
// What it says is always frames, it comes to rest after each event, it signals nothing but processes it has started, and
// it changes nothing outside its spool (supervisor_calls.cc).
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "sandbox/supervisor/expiry.h"
#include "sandbox/supervisor/session.h"
#include "tests/fuzz/fuzz_bytes.h"
#include "tests/fuzz/supervisor_calls.h"

namespace sbxfs::fuzz {
namespace {

namespace sup = supervisor;

constexpr std::size_t kMagicSize = sizeof sup::kMagic - 1;

// One attach: what the daemon has of it, and what it has heard.
struct Peer {
    int end = -1;
    int relay = -1;
    std::string heard;

    ~Peer() {
        if (end >= 0) CloseFd(end);
        if (relay >= 0) CloseFd(relay);
    }
    void Listen() {
        char page[65536];
        while (end >= 0) {
            const long got = Get(end, page, sizeof page);
            if (got <= 0) break;
            heard.append(page, static_cast<std::size_t>(got));
        }
        if (heard.size() < kMagicSize) return;
        CHECK(heard.compare(0, kMagicSize, sup::kMagic, kMagicSize) == 0);
        std::size_t at = kMagicSize;
        while (heard.size() - at >= 5) {
            sup::Reader header(heard.data() + at, 5);
            const std::uint32_t length = header.U32();
            const std::uint8_t type = header.U8();
            CHECK(length >= 1 && length <= sup::kMaxFrame);
            CHECK(type >= 64 && type <= 76);
            if (heard.size() - at - 4 < length) break;
            at += 4 + length;
        }
        heard.erase(kMagicSize, at - kMagicSize);
    }
};

// serve.cc's Server without its sockets and signals.
struct Server {
    explicit Server(const char* spool) {
        runtime.self = kFirstPid - 1;
        runtime.epoll = NewEpoll();
        runtime.home.Assign("/");
        runtime.default_shell.Assign("/bin/sh");
        runtime.env.Set("PATH", "/usr/bin:/bin");
        up = runtime.spool.Open(sup::Fd(OpenDirectory(spool))) >= 0;
        if (!up) return;
        runtime.Watch(runtime.spool.reports(), 1, sup::Tag(sup::Source::kReports));
        commands.OpenWatch();
        commands.Recover();
    }
    ~Server() { CloseFd(runtime.epoll); }

    void Accept(Peer& peer) {
        int channel[2];
        int relay[2];
        SocketPair(channel);
        SocketPair(relay);
        peer.end = channel[0];
        peer.relay = relay[0];
        session.Accept(sup::Fd(channel[1]), sup::Fd(DuplicateFd(channel[1])), sup::Fd(relay[1]));
    }

    void Handle(const EpollNews& news) {
        switch (sup::SourceOf(news.tag)) {
            case sup::Source::kReports:
                return shell.OnReports();
            case sup::Source::kFiles:
                return commands.OnFileEvents();
            case sup::Source::kShellInput:
                return shell.OnRoom((news.events & 0x18) != 0);  // EPOLLERR, EPOLLHUP
            case sup::Source::kSpawned:
                return sup::WhichOf(news.tag) == 0 ? shell.OnSpawned()
                                                   : parallel.OnSpawned(sup::WhichOf(news.tag));
            case sup::Source::kConnection:
                return session.OnConnection(sup::WhichOf(news.tag), news.events);
            case sup::Source::kChildren:
            case sup::Source::kListener:
                break;
        }
        CHECK(false);  // nothing of the kind is watched
    }
    void Reap() {
        int status = 0;
        for (;;) {
            const long pid = WaitForOne(&status);
            if (pid <= 0) return;
            if (!shell.OnExit(static_cast<int>(pid), status))
                parallel.OnExit(static_cast<int>(pid), status);
        }
    }
    void Tick() {
        const std::int64_t now = made_up.now_ns / 1'000'000;
        commands.Tick(now);
        shell.Tick(now);
        session.Tick(now);
        expiry.Tick(now);
        const sup::Timers::Due due = timers.Check(now, commands.AnyRunning());
        if (due != sup::Timers::Due::kNothing) expiry.Begin(due, timers.action(), now);
        shell.Advance();
        session.Pump();
    }
    // As Server::Run, until nothing more comes.
    void Work(std::vector<std::unique_ptr<Peer>>& peers) {
        for (int round = 0;; ++round) {
            CHECK(round < 3000);  // it never comes to rest
            EpollNews news[16];
            const int count = LookAtEpoll(runtime.epoll, news, 16);
            for (int i = 0; i < count; ++i)
                Handle(news[i]);
            Reap();
            Tick();
            for (const auto& peer : peers)
                peer->Listen();
            if (count <= 0) return;
        }
    }

    sup::Runtime runtime;
    bool up = false;
    sup::Commands commands{runtime};
    sup::ShellLane shell{runtime, commands};
    sup::ParallelLane parallel{runtime, commands};
    sup::Timers timers;
    sup::Session session{runtime, commands, shell, parallel, timers};
    sup::Expiry expiry{commands, shell};
};

sup::Text AsText(std::string_view text) {
    return {text.data(), static_cast<std::uint32_t>(text.size())};
}

// A frame that mostly makes sense.
std::string AnyFrame(FuzzBytes& in) {
    constexpr std::uint8_t kTypes[] = {1, 2, 2, 2,  3,  4,  5,  5,  6, 6,
                                       7, 8, 9, 10, 11, 13, 12, 64, 99};
    const auto type = static_cast<sup::Type>(kTypes[in.Below(sizeof kTypes)]);
    std::string bytes;
    sup::Writer<std::string> w(bytes, type);
    constexpr auto raw = [](sup::Type one) { return static_cast<unsigned>(one); };
    switch (raw(type)) {
        case raw(sup::Type::kHello):
            w.U32(1).U32(1).U64(in.Odd());
            break;
        case raw(sup::Type::kStart): {
            sup::StartFields f;
            f.n = in.Odd();
            const std::uint8_t how = in.U8();
            f.lane = static_cast<sup::Lane>(how & 1);
            f.login_shell = (how >> 1) & 1;
            if ((how & 4) != 0) f.timeout_ms = in.Odd();
            if ((how & 8) != 0) f.output_limit = in.Odd();
            if ((how & 16) != 0) f.shell = AsText(in.Text(16));
            if ((how & 32) != 0) f.cwd = AsText(in.Text(16));
            if ((how & 64) != 0) f.user = AsText(in.Text(8));
            f.script = AsText(in.Text(64));
            sup::PutStartFields(w, f);
            const auto count = static_cast<std::uint32_t>(in.Below(3));
            w.U32(count);
            for (std::uint32_t i = 0; i < count; ++i)
                w.String(AsText(in.Text(8))).String(AsText(in.Text(8)));
            break;
        }
        case raw(sup::Type::kRead):
            w.U64(in.Odd()).U64(in.Odd()).U64(in.Odd());
            break;
        case raw(sup::Type::kCredit):
            w.U32(in.U32());
            break;
        case raw(sup::Type::kSignal):
            w.U64(in.Odd()).U32(in.U8());
            break;
        case raw(sup::Type::kForget):
            w.U64(in.Odd());
            break;
        case raw(sup::Type::kStat): {
            const auto count = static_cast<std::uint32_t>(in.Below(4));
            w.U32(in.U8()).U32(count);
            for (std::uint32_t i = 0; i < count; ++i)
                w.String(AsText(in.Text(16)));
            break;
        }
        case raw(sup::Type::kTimer):
            w.U32(in.U8()).U64(in.Odd()).U64(in.Odd()).U8(static_cast<std::uint8_t>(in.Below(4)));
            break;
        case raw(sup::Type::kShutdown):
            w.U32(in.U8()).U8(in.U8() & 1);
            break;
        case raw(sup::Type::kUse):
            break;
        default:
            w.U32(in.U8());
            break;
    }
    return bytes;
}

struct World {
    explicit World(FuzzBytes& bytes)
        : in(bytes), directory(std::string(EmptyDirectory()) + "/spool") {
        ResetCalls(directory.c_str());
        Restart();
    }
    void Restart() {
        server.reset();
        PlantAt(Plant::kDirectory, directory.c_str(), "", 0);
        server = std::make_unique<Server>(directory.c_str());
    }
    std::string PathIn(std::uint64_t n) {
        constexpr const char* kNames[] = {"stdout", "stderr", "run", "outcome", "script", ""};
        return directory + "/commands/" + std::to_string(n) + "/" + kNames[in.Below(6)];
    }
    Peer& AnyPeer() {
        if (peers.empty()) Attach();
        return *peers[in.Below(peers.size())];
    }
    void Attach() {
        if (peers.size() >= 12) peers.erase(peers.begin());
        peers.push_back(std::make_unique<Peer>());
        server->Accept(*peers.back());
    }
    void Say(Peer& peer, std::string_view bytes) {
        if (peer.end >= 0) (void)Put(peer.end, bytes.data(), bytes.size());
    }
    void Step();
    void Plant();

    FuzzBytes& in;
    std::string directory;
    std::unique_ptr<Server> server;
    std::vector<std::unique_ptr<Peer>> peers;
};

void World::Plant() {
    const std::string path = PathIn(in.Odd());
    const auto how = static_cast<fuzz::Plant>(in.Below(6));
    std::string bytes;
    switch (in.Below(3)) {
        case 0:
            bytes = in.Text();
            break;
        case 1: {  // an outcome that could be
            sup::Writer<std::string> w(bytes, sup::Type::kDone);
            sup::DoneFields f;
            f.n = in.Odd();
            f.outcome = static_cast<sup::Outcome>(in.Below(7));
            f.stdout_size = in.Odd();
            f.stderr_size = in.Odd();
            f.reason = AsText(in.Text(8));
            sup::PutDoneFields(w, f);
            break;
        }
        default:  // a run that could be
            for (std::size_t i = in.Below(9); i > 0; --i)
                bytes += std::to_string(in.Odd()) + " ";
            break;
    }
    PlantAt(how, path.c_str(), bytes.data(), how == Plant::kTruncate ? in.U8() : bytes.size());
}

void World::Step() {
    switch (in.Below(16)) {
        case 0:
            Say(AnyPeer(), in.Text());
            break;
        case 1:
        case 2:
        case 3:
        case 4:
        case 5:
            Say(AnyPeer(), AnyFrame(in));
            break;
        case 6:
            made_up.now_ns += 1'000'000LL << in.Below(24);
            break;
        case 7:
            (void)EndOneProcess(in.Chance() ? in.U8() << 8 : static_cast<int>(in.Below(127)));
            break;
        case 8: {
            std::string line = in.Chance() ? std::string(in.Text()) + "\n"
                                           : "R " + std::to_string(in.Odd()) + " " +
                                                 std::to_string(in.U8()) + " " +
                                                 std::string(in.Text(6)) + "\n";
            PlantAt(Plant::kAppend, (directory + "/commands/report").c_str(), line.data(),
                    line.size());
            break;
        }
        case 9: {
            const std::string bytes(in.U16(), 'o');
            PlantAt(Plant::kAppend, PathIn(in.Odd()).c_str(), bytes.data(), bytes.size());
            break;
        }
        case 10:
            Plant();
            break;
        case 11:
            Attach();
            break;
        case 12: {
            Attach();
            std::string hello;
            {
                sup::Writer<std::string> w(hello, sup::Type::kHello);
                w.U32(1).U32(1).U64(in.Odd());
            }
            Say(*peers.back(), hello);
            break;
        }
        case 13:
            if (!peers.empty())
                peers.erase(peers.begin() + static_cast<long>(in.Below(peers.size())));
            break;
        case 14:
            Restart();
            break;
        default:
            made_up.fork_fails = in.Chance();
            break;
    }
    if (server->up) server->Work(peers);
    if (server->up && server->session.Ended()) {
        server->commands.KillAll();
        server->shell.KillShell();
        server->session.Pump();
        Restart();
    }
}

}  // namespace

}  // namespace sbxfs::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    sbxfs::fuzz::FuzzBytes in(data, size);
    sbxfs::fuzz::World world(in);
    for (int step = 0; step < 200 && !in.empty() && world.server->up; ++step)
        world.Step();
    return 0;
}
