// What a daemon that was killed leaves to the next one: each command's state told truly, nothing run twice,
// nothing invented (contract 1.2, 4).
#include <fcntl.h>

#include <algorithm>
#include <set>

#include "tests/support/mount_test.h"

namespace sbxfs::testing {
namespace {

using Names = std::vector<std::string>;

class Restart : public MountTest {
 protected:
    void SetUp() override {
        MountTest::SetUp();
        MakeBox();
        Settle();
        box_ = &machine();
    }
    void Submit(std::string_view script = "true") {
        ASSERT_EQ(me().Echo(script, "/box/cmd"), 0);
        Settle();
    }
    std::string Get(int n, const std::string& file) {
        return me().Cat("/box/events/" + std::to_string(n) + "/" + file);
    }
    FakeMachine* box_ = nullptr;
};

TEST_F(Restart, AQueuedCommandIsStartedOnceInItsOrder) {
    Submit("first");
    Submit("second");
    Submit(std::string(100'000, '#'));
    KillAndStart();
    EXPECT_EQ(Get(2, "status"), "queued\n");
    box_->supervisor().Run(1);
    Settle();
    box_->supervisor().Run(2);
    Settle();
    EXPECT_EQ(box_->supervisor().runs(), (std::vector<int>{1, 2, 3}));
    EXPECT_EQ(box_->supervisor().Request(3).script, std::string(100'000, '#'));
}

TEST_F(Restart, ARunningCommandIsTakenOverWithItsOutput) {
    Submit();
    box_->supervisor().Started(1);
    box_->supervisor().Print(1, "before ");
    Advance(std::chrono::milliseconds(100));  // `running` is in the journal
    Kill();
    box_->supervisor().Print(1, "meanwhile ");
    Start();
    EXPECT_EQ(Get(1, "status"), "running\n");
    box_->supervisor().Print(1, "after");
    box_->supervisor().Exit(1, 4);
    Settle();
    EXPECT_EQ(Get(1, "stdout"), "before meanwhile after");
    EXPECT_EQ(Get(1, "exit_code"), "4\n");
    EXPECT_EQ(box_->supervisor().TimesRun(1), 1);
}

TEST_F(Restart, ACommandThatEndedMeanwhileEndsWithItsTrueOutcome) {
    Submit();
    box_->supervisor().Started(1);
    Kill();
    box_->supervisor().Print(1, "all of it");
    box_->supervisor().Exit(1, 9);
    Start();
    EXPECT_EQ(Get(1, "status"), "exited\n");
    EXPECT_EQ(Get(1, "exit_code"), "9\n");
    EXPECT_EQ(Get(1, "stdout"), "all of it");
}

TEST_F(Restart, WithoutNetworkARunningCommandReadsRunning) {
    Submit();
    Submit();
    box_->supervisor().Started(1);
    Advance(std::chrono::milliseconds(100));
    box_->SetAttaches(FakeMachine::Answers::kHeld);
    for (int life = 0; life < 2; ++life) {
        KillAndStart();
        EXPECT_EQ(me().Cat("/box/status"), "unreachable\n");
        EXPECT_EQ(Get(1, "status"), "running\n");
        EXPECT_EQ(Get(2, "status"), "queued\n");
    }
}

TEST_F(Restart, WhatReadRunningReadsRunningAfterAKillHoweverShortItHasRun) {
    Submit();
    ASSERT_EQ(me().Echo("cat", "/box/run/quiet"), 0);
    Settle();
    box_->supervisor().Started(1);
    box_->supervisor().Print(1, "a word");
    box_->supervisor().Started(2);
    Settle();
    Advance(std::chrono::milliseconds(2));  // far from the 50 that bring it into the journal
    EXPECT_EQ(Get(1, "stdout"), "a word");
    box_->SetAttaches(FakeMachine::Answers::kHeld);
    for (int life = 0; life < 2; ++life) {
        KillAndStart();
        EXPECT_EQ(me().Cat("/box/status"), "unreachable\n");
        EXPECT_EQ(Get(1, "status"), "running\n");
        EXPECT_EQ(Get(2, "status"), "running\n");
    }
    box_->SetAttaches(FakeMachine::Answers::kAtOnce);
    box_->Connect();
    box_->supervisor().Exit(1, 3);
    box_->supervisor().Exit(2, 4);
    Settle();
    EXPECT_EQ(Get(1, "exit_code"), "3\n");
    EXPECT_EQ(Get(1, "stdout"), "a word");
    EXPECT_EQ(Get(2, "exit_code"), "4\n");
    EXPECT_EQ(Get(2, "stdout"), "");
    EXPECT_EQ(box_->supervisor().TimesRun(2), 1);
}

TEST_F(Restart, WhatWasTakenOverReadsRunningAlsoInTheNextLife) {
    Submit();
    box_->supervisor().Started(1);
    KillAndStart();  // before the journal knew
    Advance(std::chrono::milliseconds(100));
    box_->SetAttaches(FakeMachine::Answers::kHeld);
    KillAndStart();
    EXPECT_EQ(Get(1, "status"), "running\n");
}

TEST_F(Restart, WhatRunsWhenTheDaemonEndsReadsRunningHoweverShortItHasRun) {
    Submit();
    box_->supervisor().Started(1);
    Settle();
    box_->SetAttaches(FakeMachine::Answers::kHeld);
    Unmount();
    Start();
    EXPECT_EQ(Get(1, "status"), "running\n");
}

TEST_F(Restart, WithoutNetworkAQueuedCommandStaysQueued) {
    Submit();
    box_->SetAttaches(FakeMachine::Answers::kHeld);
    KillAndStart();
    EXPECT_EQ(me().Cat("/box/status"), "unreachable\n");
    EXPECT_EQ(Get(1, "status"), "queued\n");
    EXPECT_EQ(me().Echo("more", "/box/cmd"), 0);
    EXPECT_EQ(me().Events("/box"), (Names{"1", "2", "latest"}));
    box_->SetAttaches(FakeMachine::Answers::kAtOnce);
    box_->Connect();
    Settle();
    EXPECT_EQ(box_->supervisor().TimesRun(1), 1);
}

TEST_F(Restart, AWipedSpoolMakesWhatMayHaveRunLostAndNothingElse) {
    Submit("ran, as far as anybody knows");
    Submit("never came so far");
    Kill();
    box_->supervisor().NewSpool();
    Start();
    // After a restart nobody can tell which of them was sent.
    EXPECT_EQ(Get(1, "status"), "lost\n");
    EXPECT_EQ(Get(1, "exit_code"), "");
    EXPECT_NE(Get(1, "error").find("it may have run"), std::string::npos);
    EXPECT_EQ(Get(2, "status"), "lost\n");
    Submit("fresh");
    EXPECT_EQ(box_->supervisor().runs(), (std::vector<int>{1, 3}));
}

TEST_F(Restart, AWipedSpoolUnderALivingDaemonLosesOnlyWhatWasSent) {
    Submit("sent");
    Submit("waits");
    box_->supervisor().NewSpool();
    box_->Cut();
    Settle();
    EXPECT_EQ(Get(1, "status"), "lost\n");
    Settle();
    EXPECT_EQ(box_->supervisor().runs(), (std::vector<int>{1, 2}));
}

TEST_F(Restart, AMachineThatWasRestartedLosesWhatRanThere) {
    Submit();
    box_->supervisor().Started(1);
    Kill();
    box_->supervisor().Reboot();
    Start();
    EXPECT_EQ(Get(1, "status"), "lost\n");
    EXPECT_NE(Get(1, "error").find("restarted"), std::string::npos);
}

TEST_F(Restart, ARecordThatIsGoneThereIsLostWhenItRanAndRunWhenItNeverDid) {
    Submit();
    box_->supervisor().Started(1);
    Advance(std::chrono::milliseconds(100));
    Kill();
    box_->supervisor().LoseRecord(1);
    Start();
    EXPECT_EQ(Get(1, "status"), "lost\n");
}

TEST_F(Restart, ASandboxThatEndedMeanwhileRefusesWhatWaitsAndLosesWhatRan) {
    Submit();
    Submit();
    box_->supervisor().Started(1);
    Advance(std::chrono::milliseconds(100));
    Kill();
    provider().SetHealth({Liveness::kExpired, "its max_lifetime was over"});
    box_->SetAttaches(FakeMachine::Answers::kHeld);
    Start();
    box_->Cut();
    Settle();
    if (box_->attached()) box_->Cut();
    Settle();
    EXPECT_EQ(me().Cat("/box/status"), "expired\n");
    EXPECT_EQ(Get(1, "status"), "lost\n");
    EXPECT_NE(Get(2, "status"), "queued\n");
    EXPECT_EQ(me().Echo("x", "/box/cmd"), EHOSTDOWN);
}

TEST_F(Restart, EventsNamesAndForgottenOnesAreAsTheyWere) {
    ASSERT_EQ(me().Echo("true", "/box/run/t1"), 0);
    Submit();
    Settle();
    box_->supervisor().Run(1, "out");
    Settle();
    box_->supervisor().Run(2);
    Settle();
    const std::string result = Get(1, "result.json");
    KillAndStart();
    EXPECT_EQ(me().Events("/box"), (Names{"1", "2", "t1", "latest"}));
    EXPECT_EQ(Get(1, "result.json"), result);
    EXPECT_EQ(Get(1, "stdout"), "out");
    EXPECT_EQ(me().Rmdir("/box/events/1"), 0);
    KillAndStart();
    EXPECT_EQ(me().Events("/box"), (Names{"2", "latest"}));
    EXPECT_EQ(me().Echo("true", "/box/run/t1"), EEXIST);
}

// kill -9 at every commit of a session of commands: what was answered is there, and nothing ran twice.
TEST_F(Restart, WhereverTheDaemonIsKilledWhatWasAcceptedIsThereAndRunsOnce) {
    for (std::uint64_t commits = 0; commits < 12; ++commits) {
        SCOPED_TRACE("after " + std::to_string(commits) + " commits");
        const std::size_t before = me().Events("/box").size();
        const std::size_t ran = box_->supervisor().runs().size();
        world_.disk.BreakAfter(commits);
        std::vector<std::string> accepted;
        box_->supervisor().RunByItself(true);
        for (int i = 0; i < 3; ++i) {
            const std::string script = std::to_string(commits) + "." + std::to_string(i);
            if (me().Echo(script, "/box/cmd") == 0) accepted.push_back(script);
            Settle();
        }
        KillAndStart();
        Advance(std::chrono::seconds(3));
        std::vector<std::string> there;
        for (const std::string& name : me().Events("/box")) {
            if (name == "latest") continue;
            there.push_back(me().Cat("/box/events/" + name + "/cmd"));
            EXPECT_EQ(me().Cat("/box/events/" + name + "/status"), "exited\n") << name;
            EXPECT_EQ(me().Cat("/box/events/" + name + "/stdout"), there.back());
        }
        for (const std::string& script : accepted)
            EXPECT_EQ(std::count(there.begin(), there.end(), script), 1) << script;
        EXPECT_GE(me().Events("/box").size(), before);
        EXPECT_LE(box_->supervisor().runs().size(), ran + 3);
        const std::vector<int>& runs = box_->supervisor().runs();
        EXPECT_EQ(std::set<int>(runs.begin(), runs.end()).size(), runs.size());
    }
}

}  // namespace
}  // namespace sbxfs::testing
