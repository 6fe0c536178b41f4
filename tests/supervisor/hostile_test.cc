// Frames that make no sense, processes of the same user that lie, and connections in any number: nothing crashes
// or wedges the supervisor, and the next attach works.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "tests/supervisor/client.h"

namespace sbxfs::supervisor {
namespace {

struct Dice {
    explicit Dice(unsigned seed) : engine(seed) {}
    unsigned operator()() { return static_cast<unsigned>(engine()); }
    std::mt19937 engine;
};

std::string AnyFrame(Dice& random) {
    constexpr int kTypes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 64, 0, 255};
    const auto type = static_cast<Type>(kTypes[random() % std::size(kTypes)]);
    return Frame(type, [&](auto& w) {
        if (type == Type::kStart && random() % 4 != 0) {
            StartFields fields;
            fields.n = 1000 + random() % 50;
            fields.lane = static_cast<Lane>(random() % 3);
            fields.timeout_ms = random() % 2 == 0 ? 0 : 1 + random() % 50;
            fields.output_limit = random() % 3;
            const std::string script = random() % 2 == 0 ? "true" : "exit 1";
            fields.script = AsText(script);
            PutStartFields(w, fields);
            const std::uint32_t variables = random() % 3;
            w.U32(variables);
            for (std::uint32_t i = 0; i < variables; ++i) {
                w.String(AsText("V")).String(AsText(random() % 2 == 0 ? "v" : "="));
            }
            return;
        }
        const std::size_t words = random() % 6;
        for (std::size_t i = 0; i < words; ++i) {
            // Small numbers hit more than random ones.
            switch (random() % 4) {
                case 0:
                    w.U32(random() % 20);
                    break;
                case 1:
                    w.U64(1000 + random() % 60);
                    break;
                case 2:
                    w.U8(static_cast<std::uint8_t>(random()));
                    break;
                default:
                    w.String(AsText(random() % 2 == 0 ? "/dev/null" : ""));
                    break;
            }
        }
    });
}

TEST(Hostile, RandomAndMutatedFramesAreRefusedAndTheNextAttachWorks) {
    const SpoolDir spool;
    const unsigned seed = std::random_device()();
    std::cout << "seed " << seed << '\n';
    Dice random(seed);
    std::uint64_t epoch = 1;
    for (int round = 0; round < 60; ++round) {
        Client client(spool.Path());
        if (round % 4 == 0) {
            ASSERT_TRUE(client.AwaitMagic());  // no Hello at all
        } else {
            ASSERT_TRUE(client.Greet(epoch++)) << "seed " << seed << " round " << round;
        }
        std::string bytes;
        for (int i = 0; i < 40; ++i) {
            std::string frame = AnyFrame(random);
            for (unsigned changes = random() % 3; changes > 0 && round % 3 != 0; --changes) {
                frame[random() % frame.size()] = static_cast<char>(random());
            }
            if (random() % 20 == 0) frame.resize(random() % frame.size());
            bytes += frame;
            if (random() % 4 == 0) {
                if (!client.TrySend(bytes)) break;
                bytes.clear();
            }
        }
        client.TrySend(bytes);
    }
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(UINT64_MAX)) << "seed " << seed;
    client.last_n = 5000;
    EXPECT_EQ(client.Run("echo ok").out[0], "ok\n") << "seed " << seed;
    StartOptions parallel;
    parallel.lane = Lane::kParallel;
    EXPECT_EQ(client.Run("echo ok", parallel).out[0], "ok\n") << "seed " << seed;
    EXPECT_EQ(HoldersOf(spool.Path() + "/lock").size(), 1U) << "the same one all along";
}

TEST(Hostile, EveryKindOfNonsenseEndsTheConnectionWithAnError) {
    const SpoolDir spool;
    std::uint64_t epoch = 0;
    const auto close_after = [&](const std::string& bytes) {
        Client client(spool.Path());
        ASSERT_TRUE(client.Greet(++epoch));
        client.TrySend(bytes);
        EXPECT_TRUE(client.Await([&] { return !client.refusals.empty() || client.closed; }));
        if (!client.refusals.empty()) {
            EXPECT_EQ(client.refusals[0].error, static_cast<std::uint32_t>(EPROTO));
        }
        EXPECT_TRUE(client.AwaitClosed());
    };
    close_after(std::string(4, '\0'));  // no type
    close_after(
        "\xff\xff\xff\xff"
        "x");                                                                    // absurd length
    close_after(Frame(static_cast<Type>(99), [](auto&) {}));                     // unknown
    close_after(Frame(Type::kHelloOk, [](auto&) {}));                            // ours
    close_after(Frame(Type::kHello, [](auto& w) { w.U32(1).U32(1).U64(99); }));  // again
    close_after(Frame(Type::kPing, [](auto&) {}));                               // too short
    close_after(Frame(Type::kPing, [](auto& w) { w.U64(1); }));                  // too long
    close_after(Frame(Type::kStat, [](auto& w) { w.U32(1).U32(kMaxBatch + 1); }));
    close_after(Frame(Type::kStat, [](auto& w) { w.U32(1).U32(3).String(AsText("/")); }));
    close_after(Frame(Type::kStart, [](auto& w) { w.U64(1).U8(0); }));
    close_after(Frame(Type::kUse, [](auto& w) { w.U8(1); }));
}

TEST(Hostile, StartsThatCannotBeAreRefusedAndTheConnectionGoesOn) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    std::size_t refused = 0;
    const auto expect_refused = [&](const std::function<void(StartFields&)>& change,
                                    const std::string& name = "A", const std::string& value = "b") {
        StartFields fields;
        fields.n = 7;
        fields.script = AsText("true");
        change(fields);
        client.Send(Frame(Type::kStart, [&](auto& w) {
            PutStartFields(w, fields);
            w.U32(1).String(AsText(name)).String(AsText(value));
        }));
        ++refused;
        ASSERT_TRUE(client.Await([&] { return client.refusals.size() >= refused; }));
        EXPECT_EQ(client.refusals.back().error, static_cast<std::uint32_t>(EINVAL));
        EXPECT_FALSE(client.refusals.back().text.empty());
    };
    const std::string nul("a\0b", 3);
    const std::string large(kMaxScript + 1, ' ');
    const std::string deep = "/" + std::string(5000, 'x');
    expect_refused([](auto& f) { f.n = 0; });
    expect_refused([](auto& f) { f.n = UINT64_MAX; });
    // It would be taken for an event of another kind.
    expect_refused([](auto& f) {
        f.n = uint64_t{1} << 56;
        f.lane = Lane::kParallel;
    });
    expect_refused([](auto& f) { f.lane = static_cast<Lane>(2); });
    expect_refused([&](auto& f) { f.script = AsText(nul); });
    expect_refused([&](auto& f) { f.script = AsText(large); });
    expect_refused([&](auto& f) { f.cwd = AsText(deep); });
    expect_refused([&](auto& f) { f.cwd = AsText("relative"); });
    expect_refused([&](auto& f) { f.shell = AsText("sh"); });
    expect_refused([&](auto& f) { f.user = AsText(nul); });
    expect_refused([](auto&) {}, "");
    expect_refused([](auto&) {}, "A=B");
    expect_refused([](auto&) {}, nul);
    expect_refused([](auto&) {}, "A", nul);
    client.last_n = 6;
    EXPECT_EQ(client.Run("echo ok").out[0], "ok\n") << "the number was not used up";
}

TEST(Hostile, LiesInTheReportFifoDoNotEndACommand) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    const std::string fifo = spool.Path() + "/commands/report";
    const std::string lies =
        "exec 7>" + fifo +
        "; echo 'R 1 5 -' >&7; echo garbage >&7; echo 'R 99999 0 -' >&7; "
        "head -c 200000 /dev/zero | tr '\\0' x >&7; echo >&7; echo 'C 1 /nowhere //E' >&7; "
        "printf 'R 2' >&7; exec 7>&-; echo \"still $?\"; (exit 3)";
    client.Run("true");
    const Heard& heard = client.Run(lies);
    EXPECT_EQ(heard.out[0], "still 0\n");
    EXPECT_EQ(heard.end.fields.outcome, Outcome::kExited);
    EXPECT_EQ(heard.end.fields.code, 3U);
    EXPECT_EQ(client.Run("echo ok").out[0], "ok\n");
}

TEST(Hostile, ASpoolThatIsTakenApartLosesItsCommandsAndNothingElse) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    client.Run("true");
    client.Run("rm -rf " + spool.Path() + "/commands/*; echo gone");
    client.Run("echo x");  // it cannot report: whatever it may be, an answer comes
    EXPECT_EQ(client.Run("echo better").out[0], "better\n");
    client.Run("rm -rf " + spool.Path() + "/commands; echo gone");
    client.Run("echo x");
    EXPECT_EQ(client.Run("echo better").out[0], "better\n");
    client.Forget(1);
    client.Forget(2);
    StartOptions parallel;
    parallel.lane = Lane::kParallel;
    EXPECT_EQ(client.Run("echo ok", parallel).out[0], "ok\n");
    client.CloseChannel();
    // Directories nobody made sense of, and an outcome of lies.
    std::filesystem::create_directories(spool.Path() + "/commands/77/outcome/x");
    std::filesystem::create_directories(spool.Path() + "/commands/not-a-number");
    std::filesystem::create_directories(spool.Path() + "/commands/78");
    FILE* lie = fopen((spool.Path() + "/commands/78/outcome").c_str(), "we");
    ASSERT_NE(lie, nullptr);
    fputs("\xff\xff\xff\xff\x46garbage", lie);
    fclose(lie);
    for (const pid_t pid : HoldersOf(spool.Path() + "/lock"))
        kill(pid, SIGKILL);
    ASSERT_TRUE(AwaitTrue([&] { return HoldersOf(spool.Path() + "/lock").empty(); }));
    Client next(spool.Path());
    ASSERT_TRUE(next.Greet(2));
    ASSERT_TRUE(next.AwaitDone(77));
    ASSERT_TRUE(next.AwaitDone(78));
    EXPECT_NE(next.heard[78].end.fields.outcome, Outcome::kExited);
    next.last_n = 100;
    EXPECT_EQ(next.Run("echo ok").out[0], "ok\n");
}

// 2 KiB of stack and a descriptor a level would end it.
TEST(Hostile, ATreeOfAnyDepthIsRemovedWithTheCommand) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    client.Run("true");
    const std::string command = spool.Path() + "/commands/1";
    {
        UniqueFd at(::open(command.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        for (int depth = 0; depth < 5000; ++depth) {
            ASSERT_EQ(::mkdirat(at.get(), "d", 0700), 0);
            // What lies deep gets such a name on its way up.
            if (depth % 50 == 0) {
                ASSERT_EQ(::mkdirat(at.get(), "deep-1", 0700), 0);
            }
            at = UniqueFd(::openat(at.get(), "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
            ASSERT_TRUE(at);
        }
    }
    const std::vector<pid_t> holders = HoldersOf(spool.Path() + "/lock");
    client.Forget(1);
    client.Number(Type::kPing, 7);
    ASSERT_TRUE(client.Await([&] { return !client.pongs.empty(); }, std::chrono::minutes(1)));
    EXPECT_FALSE(std::filesystem::exists(command));
    EXPECT_EQ(HoldersOf(spool.Path() + "/lock"), holders);
    EXPECT_EQ(client.Run("echo ok").out[0], "ok\n");
}

TEST(Hostile, OutputThatSomebodyRemovedIsToldAsGone) {
    const SpoolDir spool;
    {
        Client client(spool.Path());
        ASSERT_TRUE(client.Greet(1));
        client.Run("echo 0123456789; echo err >&2");
        client.Run("echo 0123456789");
        ASSERT_TRUE(client.Sync());
    }
    ASSERT_EQ(truncate((spool.Path() + "/commands/1/stdout").c_str(), 4), 0);
    std::filesystem::remove_all(spool.Path() + "/commands/2");
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(2));
    client.Read(1, 2, 0);
    client.Read(2, 0, 0);
    ASSERT_TRUE(client.Await(
        [&] { return client.heard[1].next[0] == 11 && client.heard[2].next[0] == 11; }));
    EXPECT_EQ(client.heard[1].out[0], "23");
    ASSERT_EQ(client.heard[1].holes.size(), 1U);
    EXPECT_EQ(client.heard[1].holes[0], (std::array<std::uint64_t, 3>{0, 4, 7}));
    EXPECT_EQ(client.heard[2].holes.at(0), (std::array<std::uint64_t, 3>{0, 0, 11}));
    EXPECT_TRUE(client.AwaitOutput(1, 1, "err\n"));
}

TEST(Hostile, AttachesThatNeverSpeakMakeRoom) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    std::vector<std::unique_ptr<Client>> silent;
    for (int i = 0; i < 20; ++i) {
        silent.push_back(std::make_unique<Client>(spool.Path()));
        ASSERT_TRUE(silent.back()->AwaitMagic());
    }
    EXPECT_TRUE(client.Sync()) << "the one that counts stays";
    EXPECT_TRUE(silent.front()->AwaitClosed());
    EXPECT_EQ(HoldersOf(spool.Path() + "/lock").size(), 1U);
}

// Ticks of a hundredth of a second that a process has used.
long TicksOf(pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    std::string text;
    std::getline(file, text);
    std::istringstream rest(text.substr(text.rfind(')') + 2));
    std::string skipped;
    for (int field = 3; field < 14; ++field)
        rest >> skipped;
    long user = 0;
    long system = 0;
    rest >> user >> system;
    return user + system;
}

TEST(Hostile, AShellThatClosesItsInputDoesNotKeepTheSupervisorBusy) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    client.Run("true");
    const std::vector<pid_t> holders = HoldersOf(spool.Path() + "/lock");
    ASSERT_EQ(holders.size(), 1U);
    const long before = TicksOf(holders[0]);
    // With the copies that the shell itself keeps.
    // With the copies that the shell itself keeps.
    client.Run(
        "for n in /proc/$$/fd/*; do n=${n##*/}; case $n in 0|1|2) ;; *) eval \"exec $n<&-\";; "
        "esac; done; "
        "exec </dev/null; sleep 1");
    // The second is the script's own; a supervisor that is told of the closed pipe again and again takes all of it.
    EXPECT_LE(TicksOf(holders[0]) - before, 12);
    EXPECT_EQ(client.Run("echo ok").out[0], "ok\n");
}

TEST(Hostile, AFrameThatComesInPiecesIsOneFrame) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    const std::string ping = Frame(Type::kPing, [](auto& w) { w.U32(31); });
    for (const char byte : ping) {
        client.Send(std::string(1, byte));
        poll(nullptr, 0, 1);
    }
    EXPECT_TRUE(client.AwaitPong(31));
    // The largest there may be, of a type that takes it: refused for its batch, not for its size.
    std::string paths = Frame(Type::kStat, [](auto& w) {
        w.U32(32).U32(1000);
        const std::string path = "/" + std::string(4000, 'p');
        for (int i = 0; i < 1000; ++i)
            w.String(AsText(path));
    });
    client.Send(paths);
    ASSERT_TRUE(client.Await([&] { return !client.answers.empty(); }));
}

}  // namespace
}  // namespace sbxfs::supervisor
