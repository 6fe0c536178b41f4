// ttl (contract 8): what it shows, what a write does and when it is answered, what counts as use and how the timer
// there hears of it, and the status `expiring`.
#include <fcntl.h>

#include "base/json.h"
#include "tests/support/mount_test.h"

namespace sbxfs::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

class Ttl : public MountTest {
 protected:
    void SetUp() override {
        setup_.templates["default"].max_lifetime_s = 3600;
        setup_.templates["default"].idle_timeout_s = 600;
        MountTest::SetUp();
        MakeBox();
        Settle();
    }
    void Use(std::int64_t lifetime_s, std::int64_t idle_s) {
        Unmount();
        setup_.templates["default"].max_lifetime_s = lifetime_s;
        setup_.templates["default"].idle_timeout_s = idle_s;
        Start();
        MakeBox("other");
        Settle();
    }
    int Left(const std::string& box = "box") {
        const std::string text = me().Cat("/" + box + "/ttl");
        return text == "none\n" ? -1 : std::stoi(text);
    }
    int Set(const std::string& text, const std::string& box = "box") {
        return me().Echo(text + "\n", "/" + box + "/ttl");
    }
    std::string StatusOf(const std::string& box = "box") { return me().Cat("/" + box + "/status"); }
    std::pair<std::int64_t, std::int64_t> Timer() { return supervisor().timer().value(); }
};

TEST_F(Ttl, IsTheEarlierOfLifetimeAndIdleTime) {
    EXPECT_EQ(Left(), 600);
    Advance(minutes(2));
    EXPECT_EQ(Left(), 480);
    EXPECT_EQ(me().Echo("sleep", "/box/cmd"), 0);
    Settle();
    supervisor().Started(1);
    Advance(minutes(54));
    EXPECT_EQ(Left(), 240) << "what runs is in use, but a lifetime is a lifetime";
    supervisor().Exit(1);
    Settle();
    EXPECT_EQ(me().Stat("/box/ttl").size, 4U);
    const Json info = Json::Parse(me().Cat("/box/info.json")).value();
    EXPECT_EQ(info.GetNumber("idle_timeout_seconds"), 600);
}

// Each command, and each use told to the timer there, left one for as long as the sandbox may idle.
TEST_F(Ttl, UseLeavesNoTimersBehind) {
    const auto use = [this](int from, int to) {
        for (int n = from; n < to; ++n) {
            ASSERT_EQ(me().Echo("true", "/box/cmd"), 0);
            Settle();
            supervisor().Run(n, "", 0);
            Settle();
        }
        Advance(seconds(30));  // what is for a moment only is over
    };
    use(1, 3);
    const std::size_t before = world_.loop.timers();
    use(3, 33);
    EXPECT_LE(world_.loop.timers(), before + 1);
    EXPECT_EQ(StatusOf(), "ready\n");
    Advance(minutes(9));
    EXPECT_EQ(StatusOf(), "expiring\n") << "and it is still looked in time";
}

TEST_F(Ttl, WithoutLimitsIsNone) {
    Use(0, 0);
    EXPECT_EQ(Left("other"), -1);
    EXPECT_EQ(Set("+60", "other"), EINVAL);
    EXPECT_NE(LastError().find("no limit that could be extended"), std::string::npos);
    EXPECT_EQ(Set("60", "other"), 0);
    EXPECT_EQ(Left("other"), 60);
    EXPECT_EQ(me().Rmdir("/other"), 0);
}

TEST_F(Ttl, AWriteSetsTheSandboxesOwnTimer) {
    EXPECT_EQ(Set("1800"), 0);
    EXPECT_EQ(Left(), 1800) << "idle time is at least that";
    EXPECT_EQ(Timer(), (std::pair<std::int64_t, std::int64_t>(1800'000, 1800'000)));
    EXPECT_EQ(Set("+10m"), 0);
    EXPECT_EQ(Left(), 2400);
    EXPECT_EQ(Set("60"), 0);
    EXPECT_EQ(Left(), 60) << "less is possible too";
    EXPECT_EQ(Timer().second, 2400'000) << "the idle time stays what it became";
    EXPECT_EQ(Set("99999"), 0);
    EXPECT_EQ(Timer().first, 3600'000) << "never past max_lifetime";
    EXPECT_EQ(Left(), 3600);
}

TEST_F(Ttl, AWriteIsAnsweredWhenTheTimerHasIt) {
    supervisor().HoldTimers();
    const auto file = me().Open("/box/ttl", O_WRONLY | O_TRUNC);
    EXPECT_EQ(file->Flush(), 0);
    const auto write = file->StartWrite("1800\n");
    Settle();
    EXPECT_FALSE(write->answered());
    EXPECT_EQ(Left(), 600);
    supervisor().AnswerTimers();
    EXPECT_EQ(me().FinishCode(write), 0);
    EXPECT_EQ(Left(), 1800);
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(supervisor().timers_set(), 2) << "at the attach, and once for the write";
}

TEST_F(Ttl, WithTheLinkDownAWriteIsEhostunreachAndNothingChanges) {
    supervisor().HoldTimers();
    const auto file = me().Open("/box/ttl", O_WRONLY | O_TRUNC);
    const auto write = file->StartWrite("1800\n");
    Settle();
    machine().SetAttaches(FakeMachine::Answers::kHeld);
    machine().Cut();
    Settle();
    EXPECT_EQ(me().FinishCode(write), EHOSTUNREACH);
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(Set("1800"), EHOSTUNREACH);
    EXPECT_NE(LastError().find("its ttl is what it was"), std::string::npos);
    supervisor().AnswerTimers();  // no more of them are held
    machine().Connect();
    Settle();
    EXPECT_EQ(Timer().second, 600'000) << "not even the one that had arrived there";
    EXPECT_EQ(Set("1800"), 0);
}

TEST_F(Ttl, AJournalThatFailsChangesNothing) {
    world_.disk.Fail(FaultyDisk::Fault::kFull);
    EXPECT_EQ(Set("1800"), ENOSPC);
    world_.disk.Heal();
    Settle();
    EXPECT_EQ(Left(), 600);
    EXPECT_EQ(Timer().second, 600'000);
}

TEST_F(Ttl, TwoWritesAtOnceBothCount) {
    supervisor().HoldTimers();
    const auto one = me().Open("/box/ttl", O_WRONLY);
    const auto two = me().Open("/box/ttl", O_WRONLY);
    const auto first = one->StartWrite("+100\n");
    const auto second = two->StartWrite("+100\n");
    Settle();
    supervisor().AnswerTimers();
    EXPECT_EQ(me().FinishCode(first), 0);
    EXPECT_EQ(me().FinishCode(second), 0);
    EXPECT_EQ(Left(), 800);
}

TEST_F(Ttl, MoreIsNeverLess) {
    EXPECT_EQ(Set("+900"), 0);
    EXPECT_EQ(Left(), 1500);
    EXPECT_EQ(Timer(), (std::pair<std::int64_t, std::int64_t>(3600'000, 1500'000)))
        << "the lifetime is what it was";
    Use(0, 600);
    EXPECT_EQ(Set("+10", "other"), 0);
    EXPECT_EQ(Left("other"), 610);
    EXPECT_EQ(supervisor("other").timer()->first, 0) << "there was no end, and there is none";
    EXPECT_EQ(me().Rmdir("/other"), 0);
}

TEST_F(Ttl, WhatCannotLiveLongerSaysSo) {
    EXPECT_EQ(Set("3600"), 0);
    EXPECT_EQ(Set("+60"), EINVAL);
    EXPECT_NE(LastError().find("cannot live longer"), std::string::npos);
    EXPECT_EQ(Left(), 3600);
}

TEST_F(Ttl, AWriteThatIsNotAnsweredEndsInTimeAndChangesNothing) {
    supervisor().HoldTimers();
    const auto file = me().Open("/box/ttl", O_WRONLY | O_TRUNC);
    const auto write = file->StartWrite("1800\n");
    Settle();
    EXPECT_FALSE(write->answered());
    Advance(seconds(31));
    EXPECT_EQ(me().FinishCode(write), ETIMEDOUT);
    EXPECT_EQ(file->Close(), 0);
    EXPECT_LT(Left(), 600);
    supervisor().AnswerTimers();
    Settle();
    EXPECT_EQ(Timer().second, 600'000) << "what came late is taken back";
}

TEST_F(Ttl, BadValuesAreRefused) {
    for (const char* bad : {"soon", "-5", "1.5", "++5", "5x", "+", "0", "0s"}) {
        SCOPED_TRACE(bad);
        EXPECT_EQ(Set(bad), std::string(bad) == "+" ? 0 : EINVAL);
    }
    EXPECT_NE(LastError().find("to end the sandbox now, use rmdir"), std::string::npos);
    EXPECT_EQ(Left(), 600);
}

TEST_F(Ttl, SurvivesKillAndIsSetAgainWithoutRestartingTheIdleClock) {
    EXPECT_EQ(Set("1800"), 0);
    Advance(minutes(1));
    supervisor().idle_left_ms = 1000'000;
    KillAndStart();
    Settle();
    EXPECT_EQ(Timer(), (std::pair<std::int64_t, std::int64_t>(1740'000, 1800'000)));
    EXPECT_EQ(Left(), 1000) << "what the supervisor says of its idle clock";
}

TEST_F(Ttl, TheTimeOfAWriteIsItsMtimeAlsoAfterKill) {
    const SystemTime made = me().Stat("/box/ttl").mtime;
    Advance(minutes(1));
    EXPECT_EQ(me().Stat("/box/ttl").mtime, made);
    EXPECT_EQ(Set("1800"), 0);
    const SystemTime set = me().Stat("/box/ttl").mtime;
    EXPECT_GE(set, made + minutes(1));
    KillAndStart();
    EXPECT_EQ(me().Stat("/box/ttl").mtime, set);
}

TEST_F(Ttl, FileAccessIsUseAndIsToldInTimeStatAndListingAreNot) {
    files().PutFile("/work/a", "hello");
    Advance(minutes(5));
    EXPECT_EQ(me().Look("/box/fs/work/a"), 0);
    (void)me().List("/box/fs/work");
    (void)me().Stat("/box/fs/work/a");
    (void)me().Cat("/box/status");
    Settle();
    EXPECT_EQ(Left(), 300);
    EXPECT_EQ(supervisor().uses(), 0);
    EXPECT_EQ(me().Cat("/box/fs/work/a"), "hello");
    Settle();
    EXPECT_EQ(Left(), 600);
    EXPECT_EQ(supervisor().uses(), 1) << "once for a burst";
    EXPECT_EQ(me().Cat("/box/fs/work/a"), "hello");
    Settle();
    EXPECT_EQ(supervisor().uses(), 1);
    Advance(seconds(11));
    EXPECT_EQ(supervisor().uses(), 2) << "its end is told too";
    Advance(minutes(1));
    EXPECT_EQ(supervisor().uses(), 2);
    EXPECT_EQ(Left(), 529);
}

TEST_F(Ttl, UseWhileTheLinkIsDownIsToldAfterwards) {
    machine().SetAttaches(FakeMachine::Answers::kHeld);
    machine().Cut();
    Settle();
    mount().Box("box")->Used();
    Settle();
    EXPECT_EQ(supervisor().uses(), 0);
    machine().Connect();
    Settle();
    EXPECT_EQ(supervisor().uses(), 1);
}

TEST_F(Ttl, TheLastMinuteIsExpiringAndUseEndsThat) {
    Advance(minutes(9) - seconds(1));
    EXPECT_EQ(StatusOf(), "ready\n");
    Advance(seconds(2));
    EXPECT_EQ(StatusOf(), "expiring\n");
    EXPECT_NE(me().Cat("/box/error").find("echo +3600 > ttl"), std::string::npos);
    EXPECT_EQ(me().Cat("/box/ready"), "ready\n");
    EXPECT_EQ(me().Look("/box/fs/work"), 0);
    EXPECT_EQ(StatusOf(), "expiring\n") << "a look is no use";
    EXPECT_EQ(me().Create("/box/fs/work/b", O_WRONLY)->Close(), 0);
    Settle();
    EXPECT_EQ(StatusOf(), "ready\n");
    Advance(minutes(9) + seconds(1));
    EXPECT_EQ(StatusOf(), "expiring\n");
    EXPECT_EQ(Set("+1h"), 0);
    EXPECT_EQ(StatusOf(), "ready\n");
    EXPECT_EQ(me().Cat("/box/error"), "");
    EXPECT_EQ(me().Echo("true", "/box/cmd"), 0);
    Settle();
    supervisor().Run(1);
}

TEST_F(Ttl, OfAMachineThatStaysIsNone) {
    provider().SetOwnsMachine(false);
    EXPECT_EQ(Left(), -1);
    EXPECT_EQ(Set("60"), EOPNOTSUPP);
    provider().SetOwnsMachine(true);
}

TEST_F(Ttl, OfALaunchingSandboxCannotBeSetYet) {
    provider().SetLaunches(FakeProvider::Answers::kHeld);
    MakeBox("new");
    EXPECT_EQ(Set("60", "new"), EHOSTUNREACH);
    EXPECT_NE(LastError().find("is still launching"), std::string::npos);
    provider().FinishLaunch();
    EXPECT_EQ(Set("60", "new"), 0);
}

}  // namespace
}  // namespace sbxfs::testing
