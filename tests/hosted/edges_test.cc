// What no story comes to by itself: lies about who attaches, machines that lack something, limits, and the child between
// fork and exec. Also what the faults of faults_test.cc have found, each by name.
#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sandbox/supervisor/attach.h"
#include "sandbox/supervisor/environment.h"
#include "sandbox/supervisor/files.h"
#include "sandbox/supervisor/main.h"
#include "sandbox/supervisor/shells.h"
#include "sandbox/supervisor/spawn.h"
#include "tests/hosted/stories.h"

namespace sbxfs::fuzz {
namespace {

std::string TextOf(const sup::Str& text) {
    return {text.data(), text.size()};
}

int LiveWith(FaultKind kind, long at, bool lasts) {
    World world;
    made_up.fault = kind;
    made_up.fault_at = at;
    made_up.fault_lasts = lasts;
    return Tell(world, {[] {}, [] {}});
}

// --- what was found

TEST(Found, ASupervisorThatCannotWaitForAnythingEndsAndSaysSo) {
    int ended = 0;
    for (long at = 0; at < 30; ++at)
        ended += LiveWith(FaultKind::kNoFiles, at, false) >= 3 ? 1 : 0;
    EXPECT_GE(ended, 6) << "/dev/null twice, epoll, the signals, the spool, its list, the listener";
    EXPECT_EQ(LiveWith(FaultKind::kNoMemory, 0, true), 3) << "no watch on anything";
}

TEST(Found, TooManyOpenFilesKeepNobodyBusyAndTheNextAttachIsTakenWhenTheyAreFewer) {
    World world;
    Tell(world, {
                    [&] {
                        made_up.fault = FaultKind::kNoFiles;
                        made_up.fault_at = made_up.could_fail;
                        made_up.fault_lasts = true;
                    },
                    [&] { world.Attach(); },
                    [&] { world.Advance(1000); },
                    [&] { EXPECT_FALSE(world.peers.back()->greeted); },
                    [&] { made_up.fault = FaultKind::kNone; },
                    [&] { world.Advance(200); },
                    [&] { EXPECT_TRUE(world.peers.back()->greeted); },
                });
    world.Settle();
}

TEST(Found, AConnectionThatCannotBeWatchedIsEndedAtOnce) {
    World world;
    Tell(world, {
                    [&] {
                        made_up.fault = FaultKind::kNoMemory;
                        made_up.fault_at = made_up.could_fail + 1;  // the first is the relay's
                    },
                    [&] { world.Attach(); },
                    [&] { EXPECT_TRUE(world.peers.back()->IsEnded()); },
                });
    world.Settle();
}

TEST(Found, ADirectoryThatSomebodyHasMadeMayHaveRunAndIsNotSaidToHaveNot) {
    World world;
    Tell(world, {
                    [&] { world.Attach(); },
                    [&] { PlantAt(Plant::kDirectory, SpoolPath() + "/commands/7"); },
                    [&] { world.Start(7, true, "true"); },
                    [&] {
                        ASSERT_TRUE(world.told[7].done);
                        EXPECT_EQ(world.told[7].fields.outcome, sup::Outcome::kLost);
                    },
                });
}

TEST(Found, OutputThatCannotBeOpenedAtTheEndIsMeasuredByItsNameOrSaidToBeUnknown) {
    for (const bool nor_looked_at : {false, true}) {
        World world;
        world.conduct[1].out = "12345";
        world.conduct[1].hangs = true;
        Tell(world,
             {
                 [&] { world.Attach(); },
                 [&] { made_up.unopenable = "/stdout"; },
                 [&] { world.Start(1, true, "true"); },
                 [&] {
                     if (!nor_looked_at) return;
                     made_up.fault = FaultKind::kBroken;
                     made_up.fault_at = made_up.could_fail;
                     made_up.fault_lasts = true;
                 },
                 [&] { PlantAt(Plant::kAppend, SpoolPath() + "/commands/report", "R 1 0 hB\n"); },
                 [&] { made_up.fault = FaultKind::kNone; },
                 [&] { made_up.unopenable.clear(); },
             });
        ASSERT_TRUE(world.told[1].done);
        if (nor_looked_at) {
            EXPECT_NE(world.told[1].reason.find("cannot be told"), std::string::npos);
        } else {
            EXPECT_EQ(world.told[1].first_sizes[0], 5U);
        }
        world.Settle();
        EXPECT_EQ(world.told[1].out[0], "12345");
    }
}

TEST(Found, AFifoThatCannotBeMadeAnewIsARefusalNotASilence) {
    World world;
    Tell(world, {
                    [&] { world.Attach(); },
                    [&] { PlantAt(Plant::kRemove, SpoolPath() + "/commands/report"); },
                    [&] { made_up.refuses = "mknodat"; },
                    [&] { world.Start(1, true, "true"); },
                    [&] {
                        made_up.refuses.clear();
                        ASSERT_TRUE(world.told[1].done);
                        EXPECT_EQ(world.told[1].fields.outcome, sup::Outcome::kNotStarted);
                        EXPECT_NE(world.told[1].reason.find("report through"), std::string::npos);
                    },
                });
    world.Settle();
}

TEST(Found, ADirectoryInPlaceOfTheFifoDoesNotLockTheSpoolUp) {
    World world;
    Tell(world, {
                    [&] { world.Attach(); },
                    [&] { PlantAt(Plant::kRemove, SpoolPath() + "/commands/report"); },
                    [&] { PlantAt(Plant::kDirectory, SpoolPath() + "/commands/report"); },
                    [&] { PlantAt(Plant::kDirectory, SpoolPath() + "/commands/report/deep"); },
                    [&] { world.Start(1, true, "true"); },
                    [&] { EXPECT_EQ(world.told[1].fields.outcome, sup::Outcome::kExited); },
                    [&] { PlantAt(Plant::kRemove, SpoolPath() + "/commands/report"); },
                    [&] { PlantAt(Plant::kDirectory, SpoolPath() + "/commands/report"); },
                });
    world.Settle();
}

// --- who attaches, and how

TEST(Attaches, ThatLieOrSayNothingAreNoneAndMakeRoom) {
    World world;
    std::vector<int> relays;
    int ends[2];
    Tell(world, {
                    [&] {
                        for (int i = 0; i < 12; ++i)
                            relays.push_back(HandOver(SpoolPath() + "/socket", {}, '\0'));
                    },
                    [&] { world.Attach(); },
                    [&] { EXPECT_TRUE(world.peers.back()->greeted); },
                    [&] { relays.push_back(HandOver(SpoolPath() + "/socket", {0})); },
                    [&] { relays.push_back(HandOver(SpoolPath() + "/socket", {})); },
                    [&] {
                        relays.push_back(HandOver(SpoolPath() + "/socket", {0, 0, 0, 0}));
                    },
                    [&] {
                        relays.push_back(HandOver(SpoolPath() + "/socket", {0, 0}, 'B'));
                    },
                    [&] {
                        // Gone before it was taken.
                        SocketPair(ends);
                        CloseFd(HandOver(SpoolPath() + "/socket", {ends[0], ends[0]}));
                        CloseFd(ends[0]);
                        CloseFd(ends[1]);
                    },
                    [&] {
                        // A file is nothing to wait for.
                        relays.push_back(
                            HandOver(SpoolPath() + "/socket", {OpenForIt("/etc/hostname", 0), 0}));
                    },
                    [&] { made_up.peer_uid = 4711; },
                    [&] {
                        Peer stranger(nullptr);
                        SUCCEED();
                    },
                    [&] { made_up.peer_uid = 0; },
                    [&] { world.Attach(); },
                    [&] { world.Advance(100); },
                    [&] { EXPECT_TRUE(world.peers.back()->greeted); },
                });
    for (const int relay : relays)
        CloseFd(relay);
    made_up.peer_uid = -1;
    world.Settle();
}

TEST(Attaches, OfProgramsThatEndAreDroppedWithTheirConnection) {
    World world;
    Tell(world,
         {
             [&] { world.Attach(); },
             [&] { world.peers.back()->CloseRelay(); },
             [&] { world.Attach(); },
             [&] { world.Start(1, true, "true"); },
             [&] { world.peers.back()->Close(); },
             // Neither says a word: each is dropped after a minute, or makes room for the ninth.
             [&] {
                 for (int i = 0; i < 9; ++i)
                     world.peers.push_back(std::make_unique<Peer>(nullptr));
             },
             [&] { world.Advance(61'000); },
         });
    world.Settle();
}

TEST(Attaches, ThatDoNotReadCostNoMoreThanTheirBuffers) {
    World world;
    world.conduct[1].out = std::string(3 << 20, 'x');
    Tell(world,
         {
             [&] { world.Attach(); },
             [&] { world.peers.back()->ListenNoMore(); },
             [&] { world.Start(1, true, "yes"); },
             [&] {
                 const std::string stats = Frame(sup::Type::kStat, [](auto& w) {
                     w.U32(1).U32(4096);
                     for (int i = 0; i < 4096; ++i)
                         w.String(AsText("/"));
                 });
                 for (int i = 0; i < 40; ++i)
                     world.Say(stats);
             },
             [&] { world.Advance(1000); },
             [&] { world.Say(Frame(sup::Type::kShutdown, [](auto& w) { w.U32(1).U8(0); })); },
             [&] { Terminate(); },
             [&] { world.Advance(5000); },
         });
    world.Settle();
}

// --- limits

TEST(Limits, MoreCommandsThanAreKeptAreRefusedAndTheOthersRun) {
    World world;
    world.conduct[1].hangs = true;
    Tell(world, {
                    [&] { world.Attach(); },
                    [&] { world.Start(1, true, "waits"); },
                    [&] {
                        for (std::uint64_t n = 400; n > 100; --n) {
                            world.Start(n, true, "true");
                            if (n % 50 == 0) world.Advance(1);
                        }
                    },
                    [&] { EXPECT_EQ(world.told[101].refused.count(EAGAIN), 1U); },
                });
    world.Settle();
    World large;
    large.conduct[1].hangs = true;
    std::uint64_t n = 1;
    Steps steps{[&] { large.Attach(); }};
    for (int i = 0; i < 10; ++i)
        steps.push_back([&] { large.Start(n++, true, std::string(sup::kMaxScript, ' ')); });
    steps.push_back([&] { EXPECT_EQ(large.told[10].refused.count(EAGAIN), 1U); });
    Tell(large, steps);
    large.Settle();
}

TEST(Limits, TimesBeyondTenThousandYearsAreNone) {
    World world;
    world.conduct[1].hangs = true;
    Tell(world,
         {
             [&] { world.Attach(); },
             [&] { world.Start(1, true, "x", [](auto& f) { f.timeout_ms = UINT64_MAX; }); },
             [&] {
                 world.Say(Frame(sup::Type::kTimer,
                                 [](auto& w) { w.U32(1).U64(UINT64_MAX).U64(UINT64_MAX).U8(0); }));
             },
             [&] {
                 world.Say(Frame(sup::Type::kTimer, [](auto& w) { w.U32(1).U64(5).U64(0).U8(9); }));
             },
             [&] { world.Advance(100'000); },
             [&] { EXPECT_FALSE(world.told[1].done); },
         });
    world.Settle();
}

// --- the sandbox's end

TEST(Expiry, EndsTheSandboxStepByStepWhereItsInitDoesNotHear) {
    for (const bool idle : {false, true}) {
        World world;
        Tell(world, {
                        [&] { world.Attach(); },
                        [&] {
                            world.Say(Frame(sup::Type::kTimer, [&](auto& w) {
                                w.U32(1).U64(idle ? 0 : 1000).U64(idle ? 1000 : 0).U8(1);
                            }));
                        },
                        [&] { world.Advance(1500); },
                        [&] { EXPECT_EQ(made_up.kills_of_init, 1); },
                        [&] { world.Advance(2000); },
                        [&] { EXPECT_EQ(made_up.kills_of_init, 2); },
                        [&] { world.Advance(20'000); },
                        [&] { EXPECT_GE(made_up.kills_of_all, 1); },
                    });
    }
}

TEST(Expiry, PowersOffAgainUntilTheMachineIsOff) {
    World world;
    world.conduct[1].hangs = true;
    Tell(world, {
                    [&] { world.Attach(); },
                    [&] { world.Start(1, false, "x"); },
                    [&] {
                        world.Say(Frame(sup::Type::kTimer,
                                        [&](auto& w) { w.U32(1).U64(1000).U64(0).U8(2); }));
                    },
                    [&] { world.Advance(30'000); },
                    [&] { EXPECT_GE(made_up.power_offs, 2); },
                });
}

// --- machines that lack something

TEST(Machines, WithoutAShellAUserOrInotifyAreSaidToBe) {
    World world;
    made_up.programs.clear();
    made_up.uid = 1000;
    made_up.passwd =
        "me:x:1000:1000::/home/me:/bin/sh\nother:x:1001:1001::/:/bin/sh\nodd:x:y:1::/:\n::::\n";
    made_up.has_random = made_up.has_statx = made_up.has_children_files = false;
    made_up.init_name = "systemd";
    const auto as = [](const char* user) {
        return [user](sup::StartFields& f) { f.user = AsText(user); };
    };
    Tell(world,
         {
             [&] { world.Attach(); },
             [&] { world.Start(1, true, "true"); },
             [&] { world.Start(2, false, "true"); },
             [&] {
                 world.Start(3, true, "true", [](auto& f) {
                     f.shell = AsText("/bin/sh");
                     f.user = AsText("nobody-here");
                 });
             },
             [&] { world.Start(4, false, "true", as("nobody-here")); },
             [&] {
                 world.Start(5, true, "true", [](auto& f) {
                     f.shell = AsText("/bin/sh");
                     f.user = AsText("other");
                 });
             },
             [&] { world.Start(6, false, "true", as("1002")); },
             [&] { world.Start(7, false, "#!/bin/sh\n", as("me")); },
             [&] {
                 world.Start(8, true, "true", [](auto& f) { f.shell = AsText("/usr/bin/fish"); });
             },
             [&] { world.Start(9, false, "#!/bin/sh\n", as("4294967295")); },
             [&] { world.Say(Frame(sup::Type::kEnviron, [](auto& w) { w.U32(3); })); },
             [&] {
                 world.Say(
                     Frame(sup::Type::kStat, [](auto& w) { w.U32(3).U32(1).String(AsText("/")); }));
             },
         });
    for (const std::uint64_t n : {1, 2, 3, 4, 5, 6, 8, 9})
        EXPECT_EQ(world.told[n].fields.outcome, sup::Outcome::kNotStarted) << n;
    EXPECT_EQ(world.told[7].fields.outcome, sup::Outcome::kExited);
    world.Settle();
}

TEST(Machines, HaveAShellBehindLinksOrInThePath) {
    World world;
    sup::Environment env;
    env.Set("PATH", "relative::/opt/bin:/usr/local/bin");
    made_up.programs = {"/usr/local/bin/bash"};
    EXPECT_EQ(TextOf(sup::DefaultShell(env)), "/usr/local/bin/bash");
    made_up.programs = {"/bin/bash"};
    EXPECT_EQ(TextOf(sup::DefaultShell(env)), "/bin/bash");
    made_up.programs = {"/bin/sh"};
    EXPECT_EQ(TextOf(sup::DefaultShell(env)), "/bin/sh");
    made_up.programs = {};
    EXPECT_EQ(TextOf(sup::DefaultShell(env)), "");

    sup::Runtime runtime;
    sup::Shell shell;
    EXPECT_FALSE(sup::ChooseShell(runtime, "", &shell));
    made_up.links = {{"/bin/sh", "../etc/sh"}, {"/bin/../etc/sh", "/bin/busybox"}};
    ASSERT_TRUE(sup::ChooseShell(runtime, "/bin/sh", &shell));
    EXPECT_EQ(TextOf(shell.program), "busybox");
    EXPECT_EQ(TextOf(shell.name), "sh");
    ASSERT_TRUE(sup::ChooseShell(runtime, "/x/busybox", &shell));
    EXPECT_EQ(TextOf(shell.name), "sh");
    made_up.links = {{"/l", "/l"}};
    ASSERT_TRUE(sup::ChooseShell(runtime, "/l", &shell));
    EXPECT_EQ(TextOf(shell.program), "l") << "a loop is followed only so far";
}

TEST(Machines, OthersAreCountedWithoutWhatServesOurConnection) {
    World world;
    const auto plant = [](int parent, const std::string& name, const std::string& cmdline = {}) {
        MadeUpProcess one;
        one.parent = parent;
        one.name = name;
        one.cmdline = cmdline;
        made_up.processes.emplace(made_up.next_pid, one);
        return made_up.next_pid++;
    };
    sup::Runtime runtime;
    const int server = plant(1, "sshd");
    const int session = plant(server, "sshd-session");
    const int shell = plant(session, "sh");
    plant(shell, "sbxfs-superviso");
    plant(session, "sftp-server");
    plant(session, "sshd", std::string("sshd: me@internal-sftp\0", 23));
    plant(1, "sshd", "sshd: me@pts/0");
    plant(1, "internal-sftp");  // another's: somebody
    plant(1, "dropbear");
    plant(1, "vim");  // somebody
    made_up.processes[plant(1, "gone")].state = 'Z';
    made_up.processes[plant(1, "leader")] = [] {
        MadeUpProcess one;
        one.state = 'X';
        one.threads = 2;  // lives on
        return one;
    }();
    made_up.processes[plant(1, "kworker")].flags = 0x200000;
    for (int i = 0; i < 2; ++i) {
        sup::Vec<sup::Process> all;
        sup::Vec<sup::Process> others;
        sup::ListProcesses(&all);
        EXPECT_EQ(sup::CountOthers(all, kSelf, 0, &others), 3U);
    }
}

TEST(Machines, TellWhoStillWritesAlsoWithoutLeases) {
    World world;
    made_up.has_leases = false;
    int writer = 0;
    Tell(world, {
                    [&] { world.Attach(); },
                    [&] { world.Start(1, true, "true"); },
                    [&] {
                        MadeUpProcess one;
                        one.parent = 1;
                        one.holds = world.Place(1, "stdout");
                        writer = made_up.next_pid++;
                        made_up.processes.emplace(writer, one);
                    },
                    [&] { world.Forget(1); },
                    [&] { EXPECT_TRUE(IsThere(world.Place(1, "stdout"))); },
                    [&] { PlantAt(Plant::kAppend, world.Place(1, "stdout"), "late"); },
                    [&] { EndProcess(writer, 0); },
                    [&] { PlantAt(Plant::kAppend, world.Place(1, "stdout"), ""); },
                    [&] { EXPECT_FALSE(IsThere(world.Place(1, "stdout"))); },
                });
    EXPECT_EQ(world.told[1].out[0], "late");
    world.Settle();
}

TEST(Machines, WithoutInotifyTheOutputIsPolled) {
    World world;
    made_up.fault = FaultKind::kNoMemory;
    made_up.fault_at = 0;
    world.conduct[1].hangs = true;
    world.conduct[1].any_output = true;
    Tell(world, {
                    [&] { world.Attach(); },
                    [&] { made_up.has_inotify = false; },
                    [&] { world.Start(1, true, "true"); },
                    [&] { world.Advance(50); },
                    [&] { PlantAt(Plant::kAppend, world.Place(1, "stdout"), "grows"); },
                    [&] { world.Advance(100); },
                    [&] { EXPECT_EQ(world.told[1].out[0], "grows"); },
                });
    world.Settle();
}

// --- shells

TEST(ShellReports, TellOfDirectoriesOptionsSignalsAndNothingElse) {
    World world;
    for (std::uint64_t n = 1; n <= 4; ++n)
        world.conduct[n].hangs = world.conduct[n].any_output = true;
    world.conduct[1].status = 143;
    world.conduct[2].status = 130;
    const auto report = [](const std::string& line) {
        return [line] { PlantAt(Plant::kAppend, SpoolPath() + "/commands/report", line); };
    };
    Tell(
        world,
        {
            [&] { world.Attach(); },
            [&] { world.Start(1, true, "kill"); },
            [&] { world.Signal(1, 15); },
            report(
                "R 9 0 -\nX 1 2\nR\nR x 1 -\nR 1 256 -\nC 1 /x //E\nC 1 relative //E\nC 1 /x\n\n"),
            [&] { EXPECT_FALSE(world.told[1].done); },
            report(std::string(9000, 'x') + "\nR 1 143 ex\n"),
            [&] { EXPECT_EQ(world.told[1].fields.outcome, sup::Outcome::kSignaled); },
            [&] { world.Start(2, true, "not by us"); },
            report("R 2 130 hB\n"),
            [&] { EXPECT_EQ(world.told[2].fields.outcome, sup::Outcome::kExited); },
            [&] {
                PlantAt(Plant::kAppend, SpoolPath() + "/commands/report",
                        "C " + std::to_string(world.ShellPid()) + " /there //E\n");
            },
            [&] { EndProcess(world.ShellPid(), 0); },
            [&] { made_up.soft_files = 10; },
            [&] { world.Start(3, true, "ulimit -n 10"); },
            report("R 3 0 hB\n"),
            [&] { EXPECT_NE(world.told[3].reason.find("too few descriptors"), std::string::npos); },
            [&] { made_up.soft_files = 1024; },
            [&] { world.Start(4, true, "true", [](auto& f) { f.timeout_ms = 100; }); },
            [&] { world.Advance(150); },
            report("R 4 0 hB\n"),  // it took the TERM and went on
            [&] { world.Advance(2000); },
            [&] { EXPECT_EQ(world.told[4].fields.outcome, sup::Outcome::kTimedOut); },
        });
    world.runs.clear();  // their ends were made up
    world.damaged = true;
    world.Settle();
}

TEST(Shells, ThatEndBeforeTheyReadAreGivenUpAfterThree) {
    World world;
    Steps steps{[&] { world.Attach(); }, [&] { made_up.exec_held = true; },
                [&] { world.Start(1, true, "true"); }};
    for (int i = 0; i < 4; ++i)
        steps.push_back([&] { EndProcess(world.ShellPid(), 1 << 8); });
    steps.push_back([&] {
        ASSERT_TRUE(world.told[1].done);
        EXPECT_EQ(world.told[1].fields.outcome, sup::Outcome::kNotStarted);
    });
    Tell(world, steps);
    world.Settle();
}

TEST(Parallel, AProgramThatEndsWhileItsStartIsNotKnownIsToldOnce) {
    World world;
    Tell(world, {
                    [&] { world.Attach(); },
                    [&] { made_up.exec_held = true; },
                    [&] { world.Start(1, false, "true"); },
                    [&] { EXPECT_EQ(world.told[1].started, 0); },
                    [&] { EndOldest(0); },
                    [&] { EXPECT_TRUE(world.told[1].done); },
                });
    world.damaged = true;
    world.Settle();
}

// --- trees that commands have made

TEST(RemovedTrees, OfAnyDepthAndWithAnyNamesAreGone) {
    const World world;
    std::string path = SpoolPath() + "/tree";
    PlantAt(Plant::kDirectory, path);
    // Names that moving up would take, and a link that leads elsewhere.
    for (int i = 0; i < 12; ++i)
        PlantAt(Plant::kDirectory, path + "/deep-" + std::to_string(i));
    PlantAt(Plant::kLink, path + "/link", "/etc");
    for (int level = 0; level < 60; ++level) {
        path += "/d";
        PlantAt(Plant::kDirectory, path);
        PlantAt(Plant::kFile, path + "/file", "x");
    }
    const int dir = OpenForIt(SpoolPath().c_str(), 0);
    EXPECT_EQ(sup::RemoveTree(dir, "tree"), 0);
    EXPECT_FALSE(IsThere(SpoolPath() + "/tree"));
    EXPECT_LT(sup::RemoveTree(dir, "tree"), 0);
}

TEST(RemovedTrees, WithWhatCannotBeRemovedEndAllTheSame) {
    for (const FaultKind kind : {FaultKind::kBroken, FaultKind::kNoFiles}) {
        for (const bool lasts : {false, true}) {
            for (long at = 0; at < 60; ++at) {
                const World world;
                std::string path = SpoolPath() + "/tree";
                for (int level = 0; level < 20; ++level, path += "/d")
                    PlantAt(Plant::kDirectory, path);
                const int dir = OpenForIt(SpoolPath().c_str(), 0);
                made_up.fault = kind;
                made_up.fault_at = at;
                made_up.fault_lasts = lasts;
                const long error = sup::RemoveTree(dir, "tree");
                made_up.fault = FaultKind::kNone;
                EXPECT_EQ(error == 0, !IsThere(SpoolPath() + "/tree"));
                EXPECT_TRUE(sup::RemoveTree(dir, "tree") == 0 || error == 0);
                sup::Fd(dir).reset();
            }
        }
    }
}

// --- environments

TEST(Environments, OfTheLoginAndTheImageBecomeOneWithoutWhatIsOfOneConnection) {
    const World world;
    char login[][32] = {"SSH_CLIENT=1",
                        "SSH_CONNECTION=1",
                        "SSH_TTY=1",
                        "SSH_AUTH_SOCK=1",
                        "SSH_ORIGINAL_COMMAND=1",
                        "SHLVL=1",
                        "OLDPWD=/",
                        "PWD=/",
                        "_=x",
                        "ENV=x",
                        "BASH_ENV=x",
                        "SBXFS_X=1",
                        "HOME=/home/me",
                        "USER=me",
                        "=none",
                        "none"};
    std::vector<char*> pointers;
    for (auto& entry : login)
        pointers.push_back(&entry[0]);
    pointers.push_back(nullptr);
    sup::Environment image;
    for (const char* name : {"USER", "LOGNAME", "SHELL", "MAIL", "HOME", "PATH", "SHLVL"})
        image.Set(name, "image");
    sup::View value;
    for (const bool ours : {false, true}) {
        const sup::Environment merged = sup::MergeEnvironment(pointers.data(), image, ours);
        EXPECT_EQ(merged.Entries().size(), 3U);
        ASSERT_TRUE(merged.Get("HOME", &value));
        EXPECT_EQ(std::string(value.data, value.size), ours ? "image" : "/home/me");
        ASSERT_TRUE(merged.Get("PATH", &value));
    }
    sup::Environment env;
    env.Set("EMPTY", "");
    EXPECT_EQ(env.Or("EMPTY", "other").size, 5U);
    env.Remove("EMPTY");
    env.Remove("EMPTY");
    EXPECT_TRUE(env.Entries().empty());
    for (const char* good : {"a", "Z9", "_", "_a_B9", "zz"})
        EXPECT_TRUE(sup::IsShellName(good)) << good;
    for (const char* bad : {"", "9a", "a-b", "{", "a{", "@", "a/", "a:"})
        EXPECT_FALSE(sup::IsShellName(bad)) << bad;
}

TEST(Requests, ThatDoNotParseOrCannotBeEndTheConnectionOrAreRefused) {
    World world;
    std::size_t ended = 0;
    std::vector<std::string> frames;
    for (const sup::Type type :
         {sup::Type::kTimer, sup::Type::kShutdown, sup::Type::kEnviron, sup::Type::kProcesses,
          sup::Type::kStat, sup::Type::kFetch, sup::Type::kStore, sup::Type::kRename,
          sup::Type::kForget, sup::Type::kSignal, sup::Type::kRead, sup::Type::kStart,
          sup::Type::kCredit, sup::Type::kUse}) {
        frames.push_back(Frame(type, [](auto& w) { w.U8(1); }));
    }
    frames.push_back(Frame(sup::Type::kFetch, [](auto& w) { w.U32(1).U32(1).U32(4097); }));
    frames.push_back(Frame(sup::Type::kFetch, [](auto& w) { w.U32(1).U32(1).U32(2); }));
    frames.push_back(Frame(sup::Type::kHello, [](auto& w) { w.U8(1); }));
    Steps steps;
    for (const std::string& frame : frames) {
        steps.push_back([&] { world.Attach(); });
        steps.push_back([&, frame] { world.Say(frame); });
        steps.push_back([&] { ended += world.peers.back()->IsEnded() ? 1 : 0; });
    }
    // No Hello that this one could speak.
    for (const auto& [lowest, highest] : {std::pair(sup::kProtocol + 1, 9U), std::pair(0U, 0U)}) {
        steps.push_back([&, low = lowest, high = highest] {
            world.peers.push_back(std::make_unique<Peer>(nullptr));
            world.peers.back()->Say(
                Frame(sup::Type::kHello, [&](auto& w) { w.U32(low).U32(high).U64(99); }));
        });
        steps.push_back([&] { ended += world.peers.back()->IsEnded() ? 1 : 0; });
    }
    // Refusals.
    steps.push_back([&] { world.Attach(); });
    steps.push_back([&] {
        const std::map<std::string, std::string> odd{{"A=", "b"}};
        world.Start(8, true, "true", {}, odd);
    });
    steps.push_back([&] { EXPECT_EQ(world.told[8].refused.count(EINVAL), 1U); });
    steps.push_back([&] { world.Start(7, true, "true"); });
    steps.push_back([&] {
        world.Say(Frame(sup::Type::kRead, [](auto& w) { w.U64(7).U64(0).U64(5); }));
        world.Say(Frame(sup::Type::kRead, [](auto& w) { w.U64(99).U64(0).U64(5); }));
    });
    steps.push_back([&] { EXPECT_EQ(world.told[7].refused.count(EINVAL), 1U); });
    Tell(world, steps);
    EXPECT_EQ(ended, frames.size() + 2);
    world.told[8].refused.insert(EINVAL);
    world.Settle();
}

// --- the child

std::string ChildSays(const std::string& refuses, bool other_user) {
    World world;
    made_up.refuses = refuses;
    made_up.fork = [] { return 0L; };
    std::string said;
    const int code = RunProcess([&] {
        sup::Inherited inherited;
        inherited.oom_score.Assign("0\n");
        sup::Account account;
        account.uid = account.gid = 77;
        account.groups.Add(78);
        sup::SpawnOrder order;
        order.program = "/bin/none";
        order.cwd = "/somewhere";
        order.argv.Add("none");
        order.in = order.out = order.err = 0;
        if (other_user) {
            order.account = &account;
            order.commands = 0;
            order.script = 0;
        }
        made_up.on_exit = [&](int) {
            // The pipe that tells of it was made first of all.
            sup::SpawnFailure failure;
            if (sup::ReadSpawnStatus(made_up.last_pipe, &failure) == sup::SpawnNews::kFailed) {
                sup::Str text;
                sup::AppendSpawnFailure(&text, failure, "/bin/none", "/somewhere");
                said = TextOf(text);
            }
        };
        (void)sup::Spawn(order, inherited);
        ADD_FAILURE() << "the child came back";
    });
    EXPECT_EQ(code, 127);
    return said;
}

TEST(Child, TellsWhatWasRefusedToIt) {
    EXPECT_EQ(ChildSays("", false).rfind("cannot execute /bin/none: No such file", 0), 0U);
    EXPECT_EQ(ChildSays("", true).rfind("cannot execute /bin/none: No such file", 0), 0U);
    EXPECT_EQ(ChildSays("chdir", true).rfind("cannot enter the directory /somewhere", 0), 0U);
    EXPECT_EQ(ChildSays("getppid", false).rfind("cannot start a process: error 3", 0), 0U);
    for (const char* call : {"setgroups", "setresgid", "setresuid"})
        EXPECT_EQ(ChildSays(call, true).rfind("cannot become that user", 0), 0U) << call;
    sup::Str text;
    sup::AppendSpawnFailure(&text, {sup::SpawnStep::kProgram, E2BIG}, "/x", "/");
    EXPECT_NE(TextOf(text).find("too large"), std::string::npos);
}

// --- the program's words and its attach

int RunWith(const std::vector<std::string>& words) {
    made_up.said.clear();
    std::vector<std::string> all{"sbxfs-supervisor"};
    all.insert(all.end(), words.begin(), words.end());
    return RunProcess([&] {
        std::vector<char*> argv;
        for (std::string& word : all)
            argv.push_back(word.data());
        argv.push_back(nullptr);
        char* none = nullptr;
        const int code = sup::Main(static_cast<int>(all.size()), argv.data(), &none);
        throw Exited{code};
    });
}

TEST(Program, RefusesWhatItDoesNotUnderstand) {
    const World world;
    for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
             {},
             {"serve"},
             {"attach"},
             {"attach", "--spool"},
             {"attach", "--spool", "relative"},
             {"attach", "--spool", "/x", "--kill-grace-ms", "1000001"},
             {"attach", "--spool", "/x", "--kill-grace-ms", "x"},
             {"attach", "--what", "1"},
             {"init"},
             {"init", "--listen-fd"},
             {"init", "--listen-fd", "x"},
             {"init", "--what", "1"},
             {"init", "--listen-fd", "3", "--go-fd", "4", "--note-fd", "5", "--lock-fd", "6",
              "--lifetime-ms", "1", "--"},
             {"init", "--listen-fd", "3", "--lifetime-ms", "18446744073709551615", "--",
              "/bin/true"},
             {"init", "--", "/bin/true"}}) {
        EXPECT_EQ(RunWith(words), 2) << (words.empty() ? "" : words.back());
        EXPECT_NE(made_up.said, "");
    }
    EXPECT_EQ(RunWith({"version"}), 0);
    EXPECT_EQ(made_up.said.rfind("sbxfs-supervisor protocol 3 build ", 0), 0U);
}

// An attach whose supervisor says `answer`; its exit code.
int AttachTo(const std::string& spool, const std::string& answer = "ok\n") {
    made_up.child_says = answer;
    return RunWith({"attach", "--spool", spool});
}

TEST(Attach, SaysWhyASpoolCannotBeUsed) {
    World world;
    const std::string spool = SpoolPath();
    EXPECT_EQ(AttachTo(spool + "//", "it is full: No space left on device\n"), 4);
    EXPECT_EQ(AttachTo(spool, "no\n"), 3);
    EXPECT_EQ(AttachTo(spool, ""), 3);
    EXPECT_NE(made_up.said.find("before it was ready"), std::string::npos);
    EXPECT_EQ(AttachTo(spool), 5) << "it says that it is ready, and nobody is there";
    made_up.fork_fails = true;
    EXPECT_EQ(AttachTo(spool), 3);
    made_up.fork_fails = false;
    made_up.file_uid = 4711;
    EXPECT_EQ(AttachTo(spool), 3);
    EXPECT_NE(made_up.said.find("another user"), std::string::npos);
    made_up.file_uid = -1;
    PlantAt(Plant::kFile, Directory() + "/file", "x");
    EXPECT_EQ(AttachTo(Directory() + "/file"), 3);
    EXPECT_EQ(AttachTo(Directory() + "/file/deeper"), 3);
    EXPECT_EQ(AttachTo(Directory() + "/new/spool"), 5);
    for (const FaultKind kind :
         {FaultKind::kDiskFull, FaultKind::kNoFiles, FaultKind::kBroken, FaultKind::kNoMemory}) {
        for (long at = 0; at < 14; ++at) {
            for (const bool lasts : {false, true}) {
                made_up.fault = kind;
                made_up.could_fail = 0;
                made_up.fault_at = at;
                made_up.fault_lasts = lasts;
                const int code = AttachTo(spool);
                made_up.fault = FaultKind::kNone;
                EXPECT_GE(code, 2);
                EXPECT_NE(made_up.said, "");
            }
        }
    }
}

TEST(Attach, HandsItsChannelOverAndEndsWithIt) {
    World world;
    const int listener = Listen(SpoolPath() + "/socket");
    // Taken, and gone at once: the relay's end is the attach's.
    made_up.on_relay = [&](int relay) { (void)!Put(relay, "A"); };
    EXPECT_EQ(AttachTo(SpoolPath()), 0);
    // Never taken: it tries again, a hundred times.
    made_up.on_relay = [&](int) {};
    EXPECT_EQ(AttachTo(SpoolPath()), 3);
    CloseFd(listener);
}

TEST(Errnos, HaveWordsOrNumbers) {
    for (int error = 1; error < 140; ++error) {
        sup::Str text;
        sup::AppendErrno(&text, error % 2 == 0 ? error : -error);
        EXPECT_GT(text.size(), 4U);
    }
}

}  // namespace
}  // namespace sbxfs::fuzz
