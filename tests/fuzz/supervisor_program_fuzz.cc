// The supervisor against its daemon and its sandbox: frames in pieces, connections in any number, lies in the FIFO, a
// spool that somebody else writes to, processes that end as they like, calls that fail, and supervisors that are killed
// and come back. What it says is always frames, it comes to rest after each event, it signals nothing but processes it
// has started, and it changes nothing outside its spool (machine.h, world.h).
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/fuzz/fuzz_bytes.h"
#include "tests/fuzz/world.h"

namespace sbxfs::fuzz {
namespace {

// A frame that mostly makes sense.
std::string AnyFrame(FuzzBytes& in) {
    constexpr std::uint8_t kTypes[] = {1, 2, 2,  2,  3,  4,  5,  5,  6,  6, 7,
                                       8, 9, 10, 11, 13, 14, 12, 64, 15, 16};
    const auto type = static_cast<sup::Type>(kTypes[in.Below(sizeof kTypes)]);
    std::string bytes;
    sup::Writer<std::string> w(bytes, type);
    constexpr auto raw = [](sup::Type one) { return static_cast<unsigned>(one); };
    switch (raw(type)) {
        case raw(sup::Type::kHello):
            w.U32(1).U32(2).U64(in.Odd());
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
        case raw(sup::Type::kFetch):
        case raw(sup::Type::kStat): {
            const auto count = static_cast<std::uint32_t>(in.Below(4));
            w.U32(in.U8());
            if (type == sup::Type::kFetch) w.U32(in.U16());
            w.U32(count);
            for (std::uint32_t i = 0; i < count; ++i)
                w.String(AsText(in.Text(16)));
            break;
        }
        case raw(sup::Type::kStore): {
            sup::StoreFields f;
            f.request = in.U8();
            f.flags = in.U8() & 3;
            f.mode = in.U16();
            f.times = in.U8() & 3;
            f.atime = static_cast<std::int64_t>(in.Odd());
            f.mtime = static_cast<std::int64_t>(in.Odd());
            const std::string path = in.Chance()
                                         ? std::string(in.Text(16))
                                         : Directory() + "/store-" + std::to_string(in.U8() % 8);
            const std::string content(in.U16() * std::size_t{5}, 's');
            f.path = AsText(path);
            f.bytes = AsText(content);
            sup::PutStoreFields(w, f);
            break;
        }
        case raw(sup::Type::kRename): {
            // Few names, so that they meet.
            const auto any = [&in] {
                return in.Chance() ? std::string(in.Text(16))
                                   : Directory() + "/store-" + std::to_string(in.U8() % 8);
            };
            const std::string from = any();
            const std::string to = any();
            w.U32(in.U8()).U8(in.U8() & 3).String(AsText(from)).String(AsText(to));
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

struct Story {
    explicit Story(FuzzBytes& bytes) : in(bytes) {
        world.silent = true;
        world.next = [this] { return Step(); };
    }
    std::string PathIn(std::uint64_t n) {
        constexpr const char* kNames[] = {"stdout", "stderr", "run", "outcome", "script", ""};
        return world.Place(n, kNames[in.Below(6)]);
    }
    Peer& AnyPeer() {
        if (world.peers.empty()) Attach();
        return **std::next(world.peers.begin(), static_cast<long>(in.Below(world.peers.size())));
    }
    void Attach() {
        if (world.peers.size() >= 12) world.peers.pop_front();
        world.peers.push_back(std::make_unique<Peer>(nullptr));
    }
    // False: the supervisor is killed.
    bool Step();
    void PlantSomething();
    void ChangeProcesses();

    FuzzBytes& in;
    World world;
    int steps = 0;
};

void Story::PlantSomething() {
    const std::string path = PathIn(in.Odd());
    const auto how = static_cast<Plant>(in.Below(6));
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
    PlantAt(how, path, bytes, how == Plant::kTruncate ? in.U8() : bytes.size());
}

// Of commands, or others; with any name and mark.
void Story::ChangeProcesses() {
    MadeUpProcess one;
    one.parent = in.Chance() ? kSelf : kFirstPid + static_cast<int>(in.Below(8));
    one.session = kFirstPid + static_cast<int>(in.Below(8));
    one.start = in.Odd();
    one.state = "STZR"[in.Below(4)];
    one.flags = in.Chance() ? 0x40 : in.Chance() ? 0x200000 : 0;
    one.name = std::string(in.Text(20));
    one.environ = std::string(in.Text(40)) + std::string(1, '\0');
    one.stubborn = in.Chance();
    made_up.processes.emplace(made_up.next_pid++, std::move(one));
}

bool Story::Step() {
    if (in.empty() || ++steps > 200) return false;
    switch (in.Below(18)) {
        case 0:
            AnyPeer().Say(in.Text());
            break;
        case 1:
        case 2:
        case 3:
        case 4:
        case 5:
            AnyPeer().Say(AnyFrame(in));
            break;
        case 6:
            world.AdvanceAtOnce(1LL << in.Below(24));
            break;
        case 7:
            (void)EndOldest(in.Chance() ? in.U8() << 8 : static_cast<int>(in.Below(127)));
            break;
        case 8: {
            std::string line = in.Chance() ? std::string(in.Text()) + "\n"
                                           : "R " + std::to_string(in.Odd()) + " " +
                                                 std::to_string(in.U8()) + " " +
                                                 std::string(in.Text(6)) + "\n";
            PlantAt(Plant::kAppend, SpoolPath() + "/commands/report", line);
            break;
        }
        case 9:
            PlantAt(Plant::kAppend, PathIn(in.Odd()), std::string(in.U16(), 'o'));
            break;
        case 10:
            PlantSomething();
            break;
        case 11:
            Attach();
            break;
        case 12: {
            Attach();
            const std::uint64_t epoch = in.Odd();
            world.peers.back()->Say(
                Frame(sup::Type::kHello, [&](auto& w) { w.U32(1).U32(1).U64(epoch); }));
            break;
        }
        case 13:
            if (!world.peers.empty()) {
                world.peers.erase(std::next(world.peers.begin(),
                                            static_cast<long>(in.Below(world.peers.size()))));
            }
            break;
        case 14:
            return false;
        case 15:
            ChangeProcesses();
            break;
        case 16:
            made_up.fault = in.Chance() ? FaultKind::kNone : kFaultKinds[in.Below(6)];
            made_up.fault_at = made_up.could_fail + in.U8();
            break;
        default:
            made_up.fork_fails = in.Chance();
            made_up.saves_held = !made_up.saves_held;
            made_up.exec_step = in.Chance() ? static_cast<int>(in.Below(5)) : -1;
            break;
    }
    return true;
}

}  // namespace

}  // namespace sbxfs::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    sbxfs::fuzz::FuzzBytes in(data, size);
    sbxfs::fuzz::Story story(in);
    do {
        story.world.Live();
    } while (!in.empty() && story.steps < 200);
    return 0;
}
