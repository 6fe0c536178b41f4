// Ending commands: signals, timeouts, trees that try to get away, the dead-man timers.

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/supervisor/client.h"

namespace sbxfs::supervisor {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

StartOptions In(Lane lane) {
    StartOptions options;
    options.lane = lane;
    return options;
}

AttachOptions WithGrace(int ms) {
    AttachOptions options;
    options.extra = {"--kill-grace-ms", std::to_string(ms)};
    return options;
}

std::vector<pid_t> PidsIn(const std::string& text) {
    std::istringstream words(text);
    std::vector<pid_t> pids;
    for (pid_t pid = 0; words >> pid;)
        pids.push_back(pid);
    return pids;
}

// Processes that leave by every door: a child, one with its own session, a double fork, a subshell
// without exec, one that ignores TERM. Each prints its pid.
constexpr char kRunaways[] =
    "sleep 300 & echo $!\n"
    "setsid sh -c 'echo $$; sleep 300' &\n"
    "sh -c 'setsid sh -c \"echo \\$\\$; sleep 300\" & exit 0'\n"
    "sh -c '(sh -c \"echo \\$\\$; while :; do sleep 300; done\" &) ; exit 0'\n"
    "sh -c 'trap \"\" TERM HUP INT; echo $$; while :; do sleep 1; done' &\n";
constexpr std::size_t kRunawayCount = 5;

bool AllPrinted(Client& client, std::uint64_t n) {
    return client.Await([&] { return PidsIn(client.heard[n].out[0]).size() == kRunawayCount; });
}

TEST(Signals, ReachTheTreeNotTheShell) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    client.Run("x=kept; cd /usr");
    client.Start(2, "sleep 300; echo \"after $?\"");
    ASSERT_TRUE(client.AwaitStarted(2));
    // The shell is there before its sleep is, so once may be too early.
    ASSERT_TRUE(AwaitTrue([&] {
        if (client.heard[2].done == 0) client.Signal(2, SIGTERM);
        return client.Sync() && client.heard[2].done > 0;
    }));
    client.refusals.clear();
    EXPECT_EQ(client.heard[2].out[0], "after 143\n");
    EXPECT_EQ(client.heard[2].end.fields.outcome, Outcome::kExited);
    EXPECT_EQ(client.heard[2].end.fields.code, 0U);
    EXPECT_EQ(client.heard[2].end.fields.shell_restarted, 0U);
    client.last_n = 2;
    EXPECT_EQ(client.Run("pwd; echo $x").out[0], "/usr\nkept\n");
}

TEST(Signals, OneThatComesBeforeTheFirstProcessIsNotLost) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    const std::string go = spool.Path() + "/go";
    client.Start(1, "until [ -e '" + go + "' ]; do :; done; sleep 300");
    ASSERT_TRUE(client.AwaitStarted(1));
    client.Signal(1, SIGTERM);  // no process but the shell, which must not get it
    ASSERT_TRUE(client.Sync());
    std::ofstream(go).put('x');
    ASSERT_TRUE(client.Await([&] { return client.heard[1].done > 0; }));
    EXPECT_EQ(client.heard[1].end.fields.outcome, Outcome::kSignaled);
    EXPECT_EQ(client.heard[1].end.fields.code, static_cast<std::uint32_t>(SIGTERM));
    EXPECT_EQ(client.heard[1].end.fields.shell_restarted, 0U);
}

TEST(Signals, AKillThatComesBeforeTheShellHasReadItsCommandEndsIt) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    const int shell = std::stoi(client.Run("echo $$").out[0]);
    // What a busy machine does to it.
    ASSERT_EQ(kill(shell, SIGSTOP), 0);
    const std::uint64_t n = ++client.last_n;
    client.Start(n, "sleep 300");
    ASSERT_TRUE(client.AwaitStarted(n));
    client.Signal(n, SIGKILL);
    ASSERT_TRUE(client.AwaitDone(n));
    EXPECT_EQ(client.heard[n].end.fields.outcome, Outcome::kSignaled);
    EXPECT_EQ(client.heard[n].end.fields.code, static_cast<std::uint32_t>(SIGKILL));
    EXPECT_EQ(client.Run("echo on").out[0], "on\n");
}

// A copy of the shell has the shell's handlers until it calls exec: what they take is for the program it becomes.
TEST(Signals, OneThatACopyOfTheShellTookReachesTheProgramItBecomes) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    const std::string go = spool.Path() + "/go";
    client.Start(1, "(trap : TERM; echo up; until [ -e '" + go +
                        "' ]; do :; done; trap - TERM; exec sleep 300)");
    ASSERT_TRUE(client.AwaitOutput(1, 0, "up"));
    client.Signal(1, SIGTERM);
    ASSERT_TRUE(client.Sync());
    std::ofstream(go).put('x');
    ASSERT_TRUE(client.Await([&] { return client.heard[1].done > 0; }));
    EXPECT_EQ(client.heard[1].end.fields.outcome, Outcome::kSignaled);
    EXPECT_EQ(client.heard[1].end.fields.code, static_cast<std::uint32_t>(SIGTERM));
}

TEST(Signals, ManySentWhileTheirCommandStartsAreAllHeard) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    for (std::uint64_t n = 1; n <= 300; ++n) {
        client.Start(n, "sleep 300");
        ASSERT_TRUE(client.AwaitStarted(n));
        for (std::uint64_t turns = 0; turns < n % 100; ++turns)
            sched_yield();
        client.Signal(n, SIGTERM);
        ASSERT_TRUE(client.AwaitDone(n)) << n;
        ASSERT_EQ(client.heard[n].end.fields.outcome, Outcome::kSignaled) << n;
    }
}

TEST(Signals, ACommandEndedByOneIsSignaledInBothLanes) {
    for (const Lane lane : {Lane::kSerial, Lane::kParallel}) {
        const SpoolDir spool;
        Client client(spool.Path());
        ASSERT_TRUE(client.Greet(1));
        // The shell that prints is the one that is hit: exec would make it the sleep itself.
        client.Start(1, "sh -c 'echo up; kill -STOP $$; sleep 300'", In(lane));
        ASSERT_TRUE(client.AwaitOutput(1, 0, "up"));
        client.Signal(1, SIGTERM);  // also reaches what is stopped
        ASSERT_TRUE(client.AwaitDone(1));
        EXPECT_EQ(client.heard[1].end.fields.outcome, Outcome::kSignaled);
        EXPECT_EQ(client.heard[1].end.fields.code, static_cast<std::uint32_t>(SIGTERM));
        client.Signal(1, SIGTERM);
        ASSERT_TRUE(client.Await([&] { return !client.refusals.empty(); }));
        EXPECT_EQ(client.refusals[0].error, static_cast<std::uint32_t>(ESRCH));
    }
}

TEST(Signals, AStatusThatLooksLikeASignalButWasNotOursIsAStatus) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    const Heard& heard = client.Run("(exit 143)");
    EXPECT_EQ(heard.end.fields.outcome, Outcome::kExited);
    EXPECT_EQ(heard.end.fields.code, 143U);
}

TEST(Signals, KillTakesTheWholeTreeAndNothingOlder) {
    for (const Lane lane : {Lane::kSerial, Lane::kParallel}) {
        SCOPED_TRACE(static_cast<int>(lane));
        const SpoolDir spool;
        Client client(spool.Path());
        ASSERT_TRUE(client.Greet(1));
        client.Run("(while :; do sleep 5; done) & echo $!; setsid sleep 30 & echo $!", In(lane));
        const std::vector<pid_t> older = PidsIn(client.heard[1].out[0]);
        ASSERT_EQ(older.size(), 2U);
        client.Start(2, std::string(kRunaways) + "sleep 300", In(lane));
        ASSERT_TRUE(AllPrinted(client, 2));
        const std::vector<pid_t> runaways = PidsIn(client.heard[2].out[0]);
        client.Signal(2, SIGKILL);
        ASSERT_TRUE(client.AwaitDone(2));
        EXPECT_TRUE(
            AwaitTrue([&] { return std::none_of(runaways.begin(), runaways.end(), IsAlive); }));
        for (const pid_t pid : older) {
            EXPECT_TRUE(IsAlive(pid)) << pid;
            kill(pid, SIGKILL);
        }
        EXPECT_EQ(client.Run("echo ok", In(lane)).out[0], "ok\n");
    }
}

TEST(Signals, KillEndsALoopOfBuiltinsAndAStubbornOneTheSecondTime) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    client.Start(1, "echo up; while :; do :; done");
    ASSERT_TRUE(client.AwaitOutput(1, 0, "up"));
    client.Signal(1, SIGKILL);
    ASSERT_TRUE(client.AwaitDone(1));
    EXPECT_EQ(client.heard[1].end.fields.outcome, Outcome::kSignaled);
    EXPECT_EQ(client.heard[1].end.fields.shell_restarted, kShellEnded);
    client.Start(2, "echo up; while :; do sleep 300; done");
    ASSERT_TRUE(client.AwaitOutput(2, 0, "up"));
    client.Signal(2, SIGKILL);
    client.Signal(2, SIGKILL);
    ASSERT_TRUE(client.AwaitDone(2));
    EXPECT_EQ(client.heard[2].end.fields.outcome, Outcome::kSignaled);
    client.last_n = 2;
    EXPECT_EQ(client.Run("echo ok").out[0], "ok\n");
}

TEST(Signals, CancelWhatWaits) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    client.Start(1, "sleep 300");
    client.Start(2, "echo no");
    client.Start(3, "echo yes");
    client.Signal(2, SIGINT);
    ASSERT_TRUE(client.AwaitDone(2));
    EXPECT_EQ(client.heard[2].end.fields.outcome, Outcome::kNotStarted);
    EXPECT_EQ(client.heard[2].end.fields.code, static_cast<std::uint32_t>(ECANCELED));
    client.Forget(1);
    ASSERT_TRUE(client.Await([&] { return !client.refusals.empty(); }));
    EXPECT_EQ(client.refusals[0].error, static_cast<std::uint32_t>(EBUSY));
    ASSERT_TRUE(AwaitTrue([&] {
        if (client.heard[1].done == 0) client.Signal(1, SIGKILL);
        return client.Sync() && client.heard[1].done > 0;
    }));
    ASSERT_TRUE(client.AwaitDone(3));
    EXPECT_EQ(client.heard[3].out[0], "yes\n");
}

TEST(Timeouts, EndTheWholeTreeAndKeepTheOutput) {
    for (const Lane lane : {Lane::kSerial, Lane::kParallel}) {
        SCOPED_TRACE(static_cast<int>(lane));
        const SpoolDir spool;
        Client client(spool.Path(), WithGrace(300));
        ASSERT_TRUE(client.Greet(1));
        client.Run("cd /usr", In(lane));
        StartOptions options = In(lane);
        options.timeout_ms = 700;
        const Heard& heard =
            client.Run(std::string(kRunaways) + "echo err >&2; sleep 300", options);
        EXPECT_EQ(heard.end.fields.outcome, Outcome::kTimedOut);
        EXPECT_EQ(heard.end.fields.code, 124U);
        EXPECT_EQ(heard.out[1], "err\n");
        EXPECT_GE(heard.end.fields.duration_us, 1000000U)
            << "the one that ignores TERM has its grace";
        EXPECT_LT(heard.end.fields.duration_us, 4000000U);
        const std::vector<pid_t> pids = PidsIn(heard.out[0]);
        EXPECT_EQ(pids.size(), kRunawayCount);
        for (const pid_t pid : pids)
            EXPECT_FALSE(IsAlive(pid)) << pid;
        if (lane == Lane::kSerial) {
            EXPECT_EQ(heard.end.fields.shell_restarted, kShellEnded);
            const Heard& next = client.Run("pwd", In(lane));
            EXPECT_EQ(next.out[0], "/usr\n");
            EXPECT_EQ(next.end.fields.shell_restarted, kShellFresh);
            EXPECT_NE(next.end.reason.find("timeout"), std::string::npos) << next.end.reason;
        }
    }
}

TEST(Timeouts, AreQuickWhereTermIsHeard) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    StartOptions options;
    options.timeout_ms = 200;
    EXPECT_LT(client.Run("sleep 300", options).end.fields.duration_us, 2000000U);
    // A shell that catches TERM and goes on to its next line is not kept either.
    const Heard& heard = client.Run("trap 'echo caught' TERM; sleep 300; echo next line", options);
    EXPECT_EQ(heard.end.fields.outcome, Outcome::kTimedOut);
    EXPECT_LT(heard.end.fields.duration_us, 3000000U);
    EXPECT_EQ(client.Run("echo ok").out[0], "ok\n");
}

TEST(Timeouts, AForkStormLoses) {
    const SpoolDir spool;
    Client client(spool.Path(), WithGrace(100));
    ASSERT_TRUE(client.Greet(1));
    StartOptions options = In(Lane::kParallel);
    options.timeout_ms = 300;
    // Each generation ignores TERM and leaves two behind, with sessions of their own; bounded by a
    // depth.
    const std::string script =
        "storm() { trap '' TERM; [ $1 -gt 0 ] || { sleep 1; exit; }; "
        "setsid sh -c \"$S\" sh $(($1 - 1)) & setsid sh -c \"$S\" sh $(($1 - 1)) & }; "
        "S='trap \"\" TERM; [ $1 -gt 0 ] || exec sleep 300; sh -c \"$S\" sh $(($1 - 1)) & "
        "setsid sh -c \"$S\" sh $(($1 - 1)) & wait'; export S; sh -c \"$S\" sh 7";
    const Heard& heard = client.Run(script, options);
    EXPECT_EQ(heard.end.fields.outcome, Outcome::kTimedOut);
    // Its own: other tests may storm at the same time.
    std::array<char, 32> mark{};
    snprintf(mark.data(), mark.size(), "SBXFS_EVENT=%016llx",
             static_cast<unsigned long long>(client.hello.spool));
    EXPECT_TRUE(AwaitTrue([&] {
        client.answers.clear();
        client.Number(Type::kProcesses, 1);
        client.Await([&] { return !client.answers.empty(); });
        const std::string& answer = client.answers[0];
        Reader reader(answer.data() + 1, answer.size() - 1);
        reader.U32();
        const std::uint32_t count = reader.U32();
        for (std::uint32_t i = 0; i < count; ++i) {
            const std::string pid = std::to_string(reader.U32());
            reader.U32();
            reader.String();
            const std::string environ = ReadText("/proc/" + pid + "/environ");
            if (environ.find(mark.data()) != std::string::npos) return false;
        }
        return true;
    })) << "survivors of the storm";
}

TEST(Timers, EndOnlyOurOwnCommandsWhenToldSo) {
    const SpoolDir spool;
    Client client(spool.Path(), WithGrace(200));
    ASSERT_TRUE(client.Greet(1));
    client.Start(1, "sleep 300", In(Lane::kSerial));
    client.Start(2, "sleep 300", In(Lane::kParallel));
    client.Start(3, "echo no", In(Lane::kSerial));
    ASSERT_TRUE(client.AwaitStarted(1));
    ASSERT_TRUE(client.AwaitStarted(2));
    client.Send(Frame(Type::kTimer, [](auto& w) {
        w.U32(9).U64(300).U64(3600000).U8(static_cast<std::uint8_t>(TimerAction::kEndCommands));
    }));
    ASSERT_TRUE(client.Await([&] { return !client.answers.empty(); }));
    Reader answer(client.answers[0].data() + 1, client.answers[0].size() - 1);
    EXPECT_EQ(answer.U32(), 9U);
    EXPECT_LE(answer.U64(), 300U);
    EXPECT_LE(answer.U64(), 3600000U);
    EXPECT_TRUE(answer.at_end());
    for (const std::uint64_t n : {1U, 2U, 3U})
        ASSERT_TRUE(client.AwaitDone(n));
    EXPECT_EQ(client.heard[1].end.fields.outcome, Outcome::kSignaled);
    EXPECT_EQ(client.heard[2].end.fields.outcome, Outcome::kSignaled);
    EXPECT_EQ(client.heard[3].end.fields.outcome, Outcome::kNotStarted);
    client.last_n = 3;
    EXPECT_EQ(client.Run("echo on").out[0], "on\n");
    client.Send(Frame(Type::kTimer, [](auto& w) { w.U32(1).U64(0).U64(0).U8(3); }));
    ASSERT_TRUE(client.Await([&] { return !client.refusals.empty(); }));
    EXPECT_EQ(client.refusals[0].request, 1U);
}

TEST(Shutdown, KillsEverythingAndRemovesTheSpool) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    client.Start(1, std::string(kRunaways) + "wait", In(Lane::kParallel));
    ASSERT_TRUE(AllPrinted(client, 1));
    client.Start(2, "sleep 300");
    ASSERT_TRUE(client.AwaitStarted(2));
    ASSERT_TRUE(client.Shutdown(true));
    EXPECT_EQ(client.AwaitExit(), 0);
    for (const pid_t pid : PidsIn(client.heard[1].out[0]))
        EXPECT_FALSE(IsAlive(pid));
    EXPECT_TRUE(HoldersOf(spool.Path() + "/lock").empty());
    EXPECT_NE(access(spool.Path().c_str(), F_OK), 0);
}

}  // namespace
}  // namespace sbxfs::supervisor
