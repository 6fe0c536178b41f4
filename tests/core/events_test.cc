// events/N: the life of a command as its files tell it, its signals, its waits, and how it is forgotten
// (contract 4).
#include <fcntl.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>

#include "tests/support/mount_test.h"

namespace sbxfs::testing {
namespace {

using Names = std::vector<std::string>;

class Events : public MountTest {
 protected:
    void SetUp() override {
        MountTest::SetUp();
        MakeBox();
        Settle();
    }
    int Submit(std::string_view script = "true") { return me().Echo(script, "/box/cmd"); }
    int Run(const std::string& name) { return me().Echo("true", "/box/run/" + name); }
    std::string Get(int n, const std::string& file) {
        return me().Cat("/box/events/" + std::to_string(n) + "/" + file);
    }
    int Ctl(int n, std::string_view verb) {
        return me().Echo(verb, "/box/events/" + std::to_string(n) + "/ctl");
    }
    CommandEnd Ended(CommandOutcome outcome, int code) {
        CommandEnd end;
        end.outcome = outcome;
        end.code = code;
        return end;
    }
    void CutAndHold() {
        machine().SetAttaches(FakeMachine::Answers::kHeld);
        machine().Cut();
        Settle();
    }
    void Reconnect() {
        machine().SetAttaches(FakeMachine::Answers::kAtOnce);
        machine().Connect();
        Settle();
    }
};

// The disk has its line a moment later, or much later.
TEST_F(Events, TheLogHasTheLineOfWhateverStatusSaysHasEnded) {
    EXPECT_EQ(Submit(), 0);
    Settle();
    supervisor().Started(1);
    supervisor().Exit(1, 3);
    Settle();
    const std::string first = me().Cat("/box/events/log.jsonl");
    const std::string log = world_.dir / "state/events/1/log.jsonl";
    std::filesystem::rename(log, log + ".aside");
    std::filesystem::create_directory(log);  // no line can be written

    EXPECT_EQ(Submit(), 0);
    Settle();
    supervisor().Started(2);
    supervisor().Exit(2, 4);
    Settle();
    EXPECT_EQ(Get(2, "status"), "exited\n");
    const std::string second =
        me().Open("/box/events/log.jsonl", O_RDONLY)->ReadAt(first.size(), 65536);
    EXPECT_TRUE(second.starts_with("{\"n\":2,")) << second;
    EXPECT_EQ(std::count(second.begin(), second.end(), '\n'), 1);

    std::filesystem::remove(log);
    std::filesystem::rename(log + ".aside", log);
    EXPECT_EQ(me().Cat("/box/events/log.jsonl"), first + second) << "from the file and from memory";
    Advance(std::chrono::seconds(2));
    Settle();
    EXPECT_EQ(std::filesystem::file_size(log), first.size() + second.size());
    EXPECT_EQ(me().Cat("/box/events/log.jsonl"), first + second);
    KillAndStart();
    EXPECT_EQ(me().Cat("/box/events/log.jsonl"), first + second);
}

TEST_F(Events, AreQueuedThenRunningThenExited) {
    EXPECT_EQ(Submit("make"), 0);
    EXPECT_EQ(Submit("later"), 0);
    EXPECT_EQ(Get(1, "status"), "queued\n");
    Settle();
    supervisor().Started(1);
    EXPECT_EQ(Get(1, "status"), "running\n");
    EXPECT_EQ(Get(1, "exit_code"), "");
    EXPECT_EQ(Get(2, "status"), "queued\n");
    supervisor().Print(1, "so far");
    Settle();
    EXPECT_EQ(Get(1, "stdout"), "so far");
    supervisor().Print(1, "oh\n", OutputStream::kStderr);
    supervisor().Exit(1, 3);
    Settle();
    EXPECT_EQ(Get(1, "status"), "exited\n");
    EXPECT_EQ(Get(1, "exit_code"), "3\n");
    EXPECT_EQ(Get(1, "signal"), "");
    EXPECT_EQ(Get(1, "stderr"), "oh\n");
    EXPECT_EQ(Get(1, "cmd"), "make");
    EXPECT_EQ(Get(1, "error"), "");
    EXPECT_EQ(supervisor().starts(), (std::vector<int>{1, 2}));
}

TEST_F(Events, SaySignalAndTimeoutAsAShellWould) {
    for (int i = 0; i < 3; ++i)
        EXPECT_EQ(Submit(), 0);
    Settle();
    supervisor().End(1, Ended(CommandOutcome::kSignaled, SIGKILL));
    Settle();
    EXPECT_EQ(Get(1, "status"), "killed\n");
    EXPECT_EQ(Get(1, "exit_code"), "137\n");
    EXPECT_EQ(Get(1, "signal"), "9\n");
    supervisor().End(2, Ended(CommandOutcome::kTimedOut, 0));
    Settle();
    EXPECT_EQ(Get(2, "status"), "timed_out\n");
    EXPECT_EQ(Get(2, "exit_code"), "124\n");
    supervisor().End(3, Ended(CommandOutcome::kNotStarted, 0));
    Settle();
    EXPECT_EQ(Get(3, "status"), "refused\n");
    EXPECT_EQ(Get(3, "exit_code"), "");
}

TEST_F(Events, AreNotFinishedBeforeEveryByteIsHere) {
    EXPECT_EQ(Submit(), 0);
    Settle();
    supervisor().Started(1);
    supervisor().listener().OnOutput(EventNumber{1}, OutputStream::kStdout, 0, "half");
    CommandEnd end = Ended(CommandOutcome::kExited, 0);
    end.sizes.out = 8;
    supervisor().listener().OnDone(EventNumber{1}, end);
    Settle();
    EXPECT_EQ(Get(1, "status"), "running\n");
    supervisor().listener().OnOutput(EventNumber{1}, OutputStream::kStdout, 4, "half");
    Settle();
    EXPECT_EQ(Get(1, "status"), "exited\n");
    EXPECT_EQ(Get(1, "stdout"), "halfhalf");
}

TEST_F(Events, EndAlsoWhenSomebodyCutTheirOutputShortInTheSandbox) {
    EXPECT_EQ(Submit(), 0);
    Settle();
    supervisor().Started(1);
    SupervisorListener& listener = supervisor().listener();
    listener.OnOutput(EventNumber{1}, OutputStream::kStdout, 0, "ab");
    listener.OnHole(EventNumber{1}, OutputStream::kStdout, 2, 3);
    listener.OnOutput(EventNumber{1}, OutputStream::kStdout, 5, "cd");
    CommandEnd end = Ended(CommandOutcome::kExited, 0);
    end.sizes.out = 7;
    listener.OnDone(EventNumber{1}, end);
    Settle();
    EXPECT_EQ(Get(1, "status"), "exited\n");
    EXPECT_EQ(Get(1, "stdout"), std::string("ab\0\0\0cd", 7));
}

TEST_F(Events, WhatAChildWritesAfterTheEndGrowsStdoutAndMovesItsMtimeAndNothingElse) {
    const auto mtime = [&](const std::string& file) {
        return me().Stat("/box/events/1/" + file).mtime;
    };
    ASSERT_EQ(me().Echo("(sleep 9; echo late) & echo now", "/box/cmd"), 0);
    Settle();
    supervisor().Started(1);
    Advance(std::chrono::seconds(1));
    const SystemTime started = mtime("stdout");
    supervisor().Print(1, "now\n");
    Settle();
    EXPECT_GT(mtime("stdout"), started) << "also while it runs";
    EXPECT_EQ(mtime("stderr"), started);
    supervisor().Exit(1);
    Settle();
    const SystemTime ended = mtime("status");
    EXPECT_EQ(mtime("stdout"), ended);
    const std::string result = me().Cat("/box/events/1/result.json");
    const std::string report = me().Cat("/box/events/1/report");
    Advance(std::chrono::seconds(9));
    supervisor().listener().OnOutput(EventNumber{1}, OutputStream::kStdout, 4, "late\n");
    Settle();
    EXPECT_EQ(me().Cat("/box/events/1/stdout"), "now\nlate\n");
    EXPECT_EQ(me().Stat("/box/events/1/stdout").size, 9U);
    EXPECT_GT(mtime("stdout"), ended);
    EXPECT_EQ(mtime("stderr"), ended);
    EXPECT_EQ(mtime("status"), ended);
    EXPECT_EQ(me().Cat("/box/events/1/result.json"), result);
    EXPECT_EQ(me().Cat("/box/events/1/report"), report);
}

TEST_F(Events, AGapInTheOutputIsAskedForAgain) {
    EXPECT_EQ(Submit(), 0);
    Settle();
    supervisor().Started(1);
    supervisor().listener().OnOutput(EventNumber{1}, OutputStream::kStdout, 4, "late");
    Settle();
    ASSERT_EQ(supervisor().reads().size(), 1U);
    EXPECT_EQ(supervisor().reads().back().second.out, 0U);
    EXPECT_EQ(Get(1, "stdout"), "");
}

TEST_F(Events, LatestFollowsTheNewestThatIsThere) {
    EXPECT_EQ(me().Look("/box/events/latest"), ENOENT);
    EXPECT_EQ(Submit(), 0);
    EXPECT_EQ(Run("t"), 0);
    EXPECT_EQ(me().ReadLink("/box/events/latest"), "2");
    Settle();
    supervisor().Run(2);
    Settle();
    EXPECT_EQ(me().Rmdir("/box/events/2"), 0);
    EXPECT_EQ(me().ReadLink("/box/events/latest"), "1");
    EXPECT_EQ(me().Look("/box/events/t"), ENOENT);
}

TEST_F(Events, ParallelOnesStartAtOnceUpToTheLimitAndASerialOneBesideThem) {
    EXPECT_EQ(Submit(), 0);
    for (int i = 0; i < 18; ++i)
        EXPECT_EQ(Run("p" + std::to_string(i)), 0);
    Settle();
    EXPECT_EQ(supervisor().starts().size(), 17U);  // 16, and the serial one
    supervisor().Run(5);
    Settle();
    EXPECT_EQ(supervisor().starts().back(), 18);
    supervisor().Run(6);
    Settle();
    EXPECT_EQ(supervisor().starts().back(), 19);
}

TEST_F(Events, SignalsGoToTheRunningCommand) {
    EXPECT_EQ(Submit(), 0);
    Settle();
    supervisor().Started(1);
    for (const char* verb : {"int\n", "term", "kill", "hup", "usr1", "usr2"})
        EXPECT_EQ(Ctl(1, verb), 0) << verb;
    Settle();
    EXPECT_EQ(
        supervisor().signals(),
        (std::vector<std::pair<int, int>>{
            {1, SIGINT}, {1, SIGTERM}, {1, SIGKILL}, {1, SIGHUP}, {1, SIGUSR1}, {1, SIGUSR2}}));
    EXPECT_EQ(Ctl(1, "stop"), EOPNOTSUPP);
    EXPECT_NE(LastError().find("there are: int, term, kill, hup, usr1, usr2"), std::string::npos);
    supervisor().Exit(1);
    Settle();
    EXPECT_EQ(Ctl(1, "term"), ESRCH);
    EXPECT_EQ(me().Cat("/box/events/1/ctl"), "int\nterm\nkill\nhup\nusr1\nusr2\n");
}

TEST_F(Events, ASignalWhileTheLinkIsDownIsEhostunreachAndNeverSentLater) {
    EXPECT_EQ(Submit(), 0);
    Settle();
    supervisor().Started(1);
    CutAndHold();
    EXPECT_EQ(Ctl(1, "term"), EHOSTUNREACH);
    Reconnect();
    EXPECT_TRUE(supervisor().signals().empty());
}

TEST_F(Events, AQueuedOneIsCancelledAndNeverStarted) {
    EXPECT_EQ(Submit(), 0);
    EXPECT_EQ(Submit(), 0);
    EXPECT_EQ(Submit(), 0);
    Settle();
    EXPECT_EQ(Ctl(2, "int"), 0);
    EXPECT_EQ(Get(2, "status"), "refused\n");
    EXPECT_NE(Get(2, "error").find("cancelled before it started"), std::string::npos);
    supervisor().Run(1);
    Settle();
    EXPECT_EQ(supervisor().starts(), (std::vector<int>{1, 3}));
}

TEST_F(Events, AQueuedOneIsCancelledAlsoWhileNobodyCanBeAsked) {
    provider().SetLaunches(FakeProvider::Answers::kHeld);
    MakeBox("new");
    EXPECT_EQ(me().Echo("true", "/new/cmd"), 0);
    EXPECT_EQ(me().Echo("term", "/new/events/1/ctl"), 0);
    EXPECT_EQ(me().Cat("/new/events/1/status"), "refused\n");
    provider().FinishLaunch();
    Settle();
    EXPECT_TRUE(supervisor("new").starts().empty());

    EXPECT_EQ(Submit(), 0);
    EXPECT_EQ(Submit(), 0);
    Settle();
    CutAndHold();
    EXPECT_EQ(Ctl(2, "term"), 0);
    Reconnect();
    supervisor().Run(1);
    Settle();
    EXPECT_EQ(supervisor().starts(), std::vector<int>{1});
}

TEST_F(Events, WhatMayHaveRunInAnEarlierLifeIsNotCancelledBlindly) {
    EXPECT_EQ(Submit(), 0);
    Settle();
    EXPECT_EQ(supervisor().TimesRun(1), 1);
    machine().SetAttaches(FakeMachine::Answers::kHeld);
    KillAndStart();
    EXPECT_EQ(Ctl(1, "term"), EHOSTUNREACH);
    Reconnect();
    EXPECT_EQ(Get(1, "status"), "running\n");
}

TEST_F(Events, OneCancelledWhileItsScriptIsReadBackIsNeverStarted) {
    CutAndHold();
    // Longer than what is kept in memory.
    EXPECT_EQ(Submit(std::string(100'000, '#')), 0);
    const auto ctl = me().Open("/box/events/1/ctl", O_WRONLY);
    const auto other = me().Open("/box/cmd", O_WRONLY);
    world_.disk.Hold();
    (void)other->StartWrite("other")->Await();
    const auto flush = other->StartFlush(::getpid());
    world_.disk.AwaitHeld();
    machine().SetAttaches(FakeMachine::Answers::kAtOnce);
    machine().Connect();
    (void)world_.loop.Run();  // its turn has come; the journal is busy
    const auto cancelled = ctl->StartWrite("term");
    (void)world_.loop.Run();
    world_.disk.Release();
    EXPECT_EQ(cancelled->Await().error, 0);
    EXPECT_EQ(flush->Await().error, 0);
    Settle();
    EXPECT_EQ(Get(1, "status"), "refused\n");
    EXPECT_EQ(supervisor().starts(), std::vector<int>{2});
}

TEST_F(Events, WhatRunsCannotBeForgotten) {
    EXPECT_EQ(Submit(), 0);
    EXPECT_EQ(me().Rmdir("/box/events/1"), EBUSY);
    Settle();
    supervisor().Started(1);
    EXPECT_EQ(me().Rmdir("/box/events/1"), EBUSY);
    EXPECT_NE(LastError().find("has not finished"), std::string::npos);
    EXPECT_EQ(me().Rmdir("/box/events/2"), ENOENT);
    EXPECT_EQ(me().Rmdir("/box/events/latest"), ENOTDIR);
    EXPECT_EQ(me().Unlink("/box/events/latest"), EPERM);
}

TEST_F(Events, AForgetThatTheJournalRefusesChangesNothing) {
    EXPECT_EQ(Run("t"), 0);
    Settle();
    supervisor().Run(1, "output");
    Settle();
    world_.disk.Fail(FaultyDisk::Fault::kBroken);
    EXPECT_EQ(me().Rmdir("/box/events/1"), EIO);
    world_.disk.Heal();
    EXPECT_EQ(me().Events("/box"), (Names{"1", "t", "latest"}));
    EXPECT_EQ(Get(1, "stdout"), "output");
    EXPECT_EQ(me().Rmdir("/box/events/1"), 0);
    EXPECT_EQ(me().Events("/box"), Names{});
}

TEST_F(Events, NumbersThatASandboxClaimsToKnowDoNotUseUpOurs) {
    CutAndHold();
    machine().ConnectFiles();
    SupervisorPort& port = supervisor().Connect(mount().Box("box")->commands());
    mount().Box("box")->OnSupervisor(port, supervisor().hello, "/home/user/.sbxfs");
    for (const std::uint64_t n : {~0ULL, ~1ULL, 1ULL << 63, 1ULL << 40})
        supervisor().listener().OnKnown(EventNumber{n}, true, {});
    supervisor().listener().OnKnownEnd();
    Settle();
    EXPECT_EQ(Submit(), 0);
    EXPECT_EQ(me().Events("/box"), (Names{"1", "latest"}));
}

TEST_F(Events, NumbersOfAnOlderStateDirectoryStayTheirs) {
    EXPECT_EQ(Submit(), 0);
    Settle();
    CutAndHold();
    machine().ConnectFiles();
    SupervisorPort& port = supervisor().Connect(mount().Box("box")->commands());
    mount().Box("box")->OnSupervisor(port, supervisor().hello, "/home/user/.sbxfs");
    supervisor().listener().OnKnown(EventNumber{1}, false, {});
    supervisor().listener().OnKnown(EventNumber{40}, true, {});
    supervisor().listener().OnKnownEnd();
    Settle();
    EXPECT_EQ(Submit(), 0);
    EXPECT_EQ(me().Events("/box"), (Names{"1", "41", "latest"}));
}

TEST_F(Events, WhatTheSupervisorSaysOfCommandsItWasNeverGivenIsIgnored) {
    EXPECT_EQ(Submit(), 0);
    EXPECT_EQ(Submit(), 0);
    Settle();
    SupervisorListener& listener = supervisor().listener();
    for (const std::uint64_t n : {2, 3, 99}) {
        listener.OnStarted(EventNumber{n}, 1000);
        listener.OnOutput(EventNumber{n}, OutputStream::kStdout, 0, "invented");
        listener.OnDone(EventNumber{n}, Ended(CommandOutcome::kExited, 0));
        listener.OnCommandError(EventNumber{n}, Error(Errno{EIO}, "invented"));
    }
    Settle();
    EXPECT_EQ(Get(2, "status"), "queued\n");
    EXPECT_EQ(Get(2, "stdout"), "");
}

TEST_F(Events, AnOutcomeOnceReadNeverChanges) {
    EXPECT_EQ(Submit(), 0);
    Settle();
    supervisor().Run(1, "", 3);
    Settle();
    EXPECT_EQ(Get(1, "exit_code"), "3\n");
    SupervisorListener& listener = supervisor().listener();
    listener.OnDone(EventNumber{1}, Ended(CommandOutcome::kExited, 0));
    listener.OnStarted(EventNumber{1}, 5);
    listener.OnCommandError(EventNumber{1}, Error(Errno{EIO}, "late"));
    Settle();
    EXPECT_EQ(Get(1, "exit_code"), "3\n");
    KillAndStart();
    EXPECT_EQ(Get(1, "exit_code"), "3\n");
}

TEST_F(Events, AnOutcomeIsNotShownBeforeTheJournalHasIt) {
    EXPECT_EQ(Submit(), 0);
    Settle();
    world_.disk.Fail(FaultyDisk::Fault::kBroken);
    supervisor().Run(1, "", 3);
    Settle();
    EXPECT_NE(Get(1, "status"), "exited\n");
    world_.disk.Heal();
    Advance(std::chrono::seconds(2));
    EXPECT_EQ(Get(1, "status"), "exited\n");
}

}  // namespace
}  // namespace sbxfs::testing
