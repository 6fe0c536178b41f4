// `stop` and `start` of ctl (contract 2, 4 and 9): what ends and what stays, who is told, and that a daemon that is
// killed at any point goes on with it.
#include <fcntl.h>

#include "tests/support/mount_test.h"

namespace sbxfs::testing {
namespace {

using Answers = FakeProvider::Answers;

class Power : public MountTest {
 protected:
    void SetUp() override {
        setup_.templates["default"].max_lifetime_s = 3600;
        setup_.templates["default"].idle_timeout_s = 600;
        MountTest::SetUp();
        MakeBox();
        Settle();
    }
    int Ctl(std::string_view verb) {
        const int code = me().Echo(std::string(verb) + "\n", "/box/ctl");
        Settle();
        return code;
    }
    std::string Status() { return me().Cat("/box/status"); }
    std::string Get(int n, const std::string& file) {
        return me().Cat("/box/events/" + std::to_string(n) + "/" + file);
    }
    void Submit(std::string_view script = "true") {
        ASSERT_EQ(me().Echo(script, "/box/cmd"), 0);
        Settle();
    }
    std::string token() { return provider().Existing().at(0); }
};

TEST_F(Power, StopEndsWhatRunsAndRefusesWhatWaits) {
    Submit();
    supervisor().Started(1);
    Submit();
    EXPECT_EQ(Ctl("stop"), 0);
    EXPECT_EQ(Status(), "stopped\n");
    EXPECT_EQ(me().Cat("/box/events/1/wait"), "lost\n");
    EXPECT_EQ(me().Cat("/box/events/2/wait"), "refused\n");
    EXPECT_TRUE(provider().IsStopped(token()));
    EXPECT_EQ(me().Open("/box/cmd", O_WRONLY)->error(), EHOSTDOWN);
    EXPECT_EQ(me().Look("/box/fs/x"), EHOSTDOWN);
    EXPECT_NE(LastError().find("echo start > ctl"), std::string::npos) << LastError();
    EXPECT_EQ(me().Cat("/box/error"), "");
}

TEST_F(Power, StartBringsBackTheSameSandboxWhoseNumbersGoOn) {
    files().PutFile("/work/kept", "bytes");
    Submit();
    supervisor().Run(1);
    Settle();
    const std::string before = me().Cat("/box/info.json");
    EXPECT_EQ(Ctl("stop"), 0);
    EXPECT_EQ(Ctl("start"), 0);
    EXPECT_EQ(Status(), "ready\n");
    EXPECT_EQ(provider().TimesMade(token()), 1);
    EXPECT_EQ(provider().launches(), 1U);
    EXPECT_EQ(me().Cat("/box/fs/work/kept"), "bytes");
    Submit("second");
    supervisor().Run(2);
    Settle();
    EXPECT_EQ(Get(2, "status"), "exited\n");
    EXPECT_EQ(Get(1, "status"), "exited\n");
    EXPECT_EQ(mount().Box("box")->generation(), Generation{1});
}

TEST_F(Power, BothAreHarmlessWhereThereIsNothingToDo) {
    EXPECT_EQ(Ctl("start"), 0);
    EXPECT_EQ(Status(), "ready\n");
    EXPECT_EQ(Ctl("stop"), 0);
    EXPECT_EQ(Ctl("stop"), 0);
    EXPECT_EQ(Status(), "stopped\n");
    EXPECT_EQ(Ctl("start\nstart"), 0);
    EXPECT_EQ(Status(), "ready\n");
}

TEST_F(Power, WhatIsOnItsWayIsBusy) {
    provider().SetStops(Answers::kHeld);
    provider().SetStarts(Answers::kHeld);
    EXPECT_EQ(Ctl("stop"), 0);
    EXPECT_EQ(Status(), "stopping\n");
    EXPECT_EQ(Ctl("start"), EBUSY);
    provider().FinishStop();
    Settle();
    EXPECT_EQ(Ctl("start"), 0);
    EXPECT_EQ(Status(), "launching\n");
    EXPECT_EQ(Ctl("stop"), EBUSY);
    provider().FinishStart();
    Settle();
    EXPECT_EQ(Status(), "ready\n");
}

TEST_F(Power, AStopThatFailsIsTriedAgainUntilItIsConfirmed) {
    provider().SetStops(Answers::kHeld);
    EXPECT_EQ(Ctl("stop"), 0);
    provider().FinishStop(Error(Errno{EBUSY}, "processes of this sandbox still run"));
    Settle();
    EXPECT_EQ(Status(), "stopping\n");
    EXPECT_NE(me().Cat("/box/error").find("still run"), std::string::npos);
    Advance(std::chrono::seconds(2));
    provider().FinishStop();
    Settle();
    EXPECT_EQ(Status(), "stopped\n");
}

TEST_F(Power, AStartThatFailsLeavesItStoppedWithItsFilesAndSaysWhy) {
    EXPECT_EQ(Ctl("stop"), 0);
    provider().SetStarts(Answers::kHeld);
    EXPECT_EQ(Ctl("start"), 0);
    Submit("queued meanwhile");
    provider().FinishStart(Error(Errno{ENOSPC}, "the disk is full"));
    Settle();
    EXPECT_EQ(Status(), "stopped\n");
    EXPECT_NE(me().Cat("/box/error").find("the disk is full"), std::string::npos);
    EXPECT_EQ(Get(1, "status"), "refused\n");
    EXPECT_EQ(provider().destroys(), 0U);
    KillAndStart();
    EXPECT_NE(me().Cat("/box/error").find("the disk is full"), std::string::npos);
    provider().SetStarts(Answers::kAtOnce);
    EXPECT_EQ(Ctl("start"), 0);
    EXPECT_EQ(Status(), "ready\n");
    EXPECT_EQ(me().Cat("/box/error"), "");
}

TEST_F(Power, ADaemonKilledWhileItStopsGoesOnStopping) {
    provider().SetStops(Answers::kHeld);
    Submit();
    supervisor().Started(1);
    EXPECT_EQ(Ctl("stop"), 0);
    KillAndStart();
    EXPECT_EQ(Status(), "stopping\n");
    ASSERT_EQ(provider().held_stops(), 1U);
    EXPECT_EQ(me().Open("/box/cmd", O_WRONLY)->error(), EHOSTDOWN);
    provider().FinishStop();
    Settle();
    EXPECT_EQ(Status(), "stopped\n");
    EXPECT_EQ(Get(1, "status"), "lost\n");
}

TEST_F(Power, AStoppedOneIsStoppedAfterARemountAndCanBeStartedOrRemoved) {
    EXPECT_EQ(Ctl("stop"), 0);
    KillAndStart();
    EXPECT_EQ(Status(), "stopped\n");
    EXPECT_EQ(me().Look("/box/fs/x"), EHOSTDOWN);
    EXPECT_EQ(Ctl("start"), 0);
    EXPECT_EQ(Status(), "ready\n");
    EXPECT_EQ(Ctl("stop"), 0);
    KillAndStart();
    EXPECT_EQ(me().Rmdir("/box"), 0);
    Settle();
    EXPECT_TRUE(provider().Existing().empty());
    EXPECT_EQ(me().Cat("/.mount/history/box.1/status"), "stopped\n");
}

TEST_F(Power, ADaemonKilledWhileItStartsAsksAgain) {
    EXPECT_EQ(Ctl("stop"), 0);
    provider().SetStarts(Answers::kHeld);
    EXPECT_EQ(Ctl("start"), 0);
    Submit("queued");
    KillAndStart();
    EXPECT_EQ(Status(), "launching\n");
    ASSERT_EQ(provider().held_starts(), 1U);
    provider().FinishStart();
    Settle();
    EXPECT_EQ(Status(), "ready\n");
    EXPECT_EQ(provider().launches(), 1U);
}

TEST_F(Power, WhatTheJournalDidNotTakeDidNotHappen) {
    world_.disk.Fail(FaultyDisk::Fault::kBroken);
    EXPECT_NE(Ctl("stop"), 0);
    EXPECT_EQ(Status(), "ready\n");
    world_.disk.Heal();
}

TEST_F(Power, RmdirOvertakesAStopAndAStart) {
    provider().SetStops(Answers::kHeld);
    EXPECT_EQ(Ctl("stop"), 0);
    EXPECT_EQ(me().Rmdir("/box"), 0);
    Settle();
    provider().FinishStop();
    Settle();
    EXPECT_TRUE(provider().Existing().empty());

    provider().SetStops(Answers::kAtOnce);
    provider().SetStarts(Answers::kHeld);
    MakeBox();
    Settle();
    EXPECT_EQ(Ctl("stop"), 0);
    EXPECT_EQ(Ctl("start"), 0);
    EXPECT_EQ(me().Rmdir("/box"), 0);
    Settle();
    EXPECT_TRUE(provider().Existing().empty());
    provider().DropHeld();
}

TEST_F(Power, MaxLifetimeCountsFromTheLaunchAndIdleFromTheStart) {
    Advance(std::chrono::minutes(5));
    EXPECT_EQ(Ctl("stop"), 0);
    Advance(std::chrono::minutes(20));
    EXPECT_EQ(Status(), "stopped\n");
    provider().SetStarts(Answers::kHeld);
    EXPECT_EQ(Ctl("start"), 0);
    const std::int64_t left = provider().held_start().what.max_lifetime_s;
    EXPECT_GE(left, 2090);
    EXPECT_LE(left, 2100);
    provider().FinishStart();
    Settle();
    EXPECT_EQ(Status(), "ready\n");
    const int ttl = std::stoi(me().Cat("/box/ttl"));
    EXPECT_GE(ttl, 590);
    EXPECT_LE(ttl, 600);

    EXPECT_EQ(Ctl("stop"), 0);
    Advance(std::chrono::hours(1));
    EXPECT_EQ(Ctl("start"), EHOSTDOWN);
    EXPECT_EQ(Status(), "stopped\n");
}

TEST_F(Power, WhatHasEndedOrHasNoSuchVerbSaysSo) {
    EXPECT_EQ(me().Cat("/box/ctl"), "protect\nunprotect\ndrop_caches\nstop\nstart\n");
    provider().SetHealth({Liveness::kEnded, "as the test has it"});
    machine().SetAttaches(FakeMachine::Answers::kHeld);
    machine().Cut();
    Settle();
    machine().Cut();
    Settle();
    EXPECT_EQ(Status(), "failed\n");
    EXPECT_EQ(Ctl("start"), EHOSTDOWN);
    EXPECT_EQ(Ctl("stop"), EHOSTDOWN);
    EXPECT_EQ(me().Rmdir("/box"), 0);
    Settle();
    provider().SetOwnsMachine(false);
    MakeBox("lab");
    Settle();
    EXPECT_EQ(me().Cat("/lab/ctl"), "protect\nunprotect\ndrop_caches\n");
    EXPECT_EQ(me().Echo("stop\n", "/lab/ctl"), EOPNOTSUPP);
}

}  // namespace
}  // namespace sbxfs::testing
