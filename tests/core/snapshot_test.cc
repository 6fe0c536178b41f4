// `snapshot NAME` of ctl, .mount/snapshots, and mkdir BOX@NAME: when a copy may be made, what waits meanwhile, and what is
// there afterwards.
#include <fcntl.h>

#include "tests/support/mount_test.h"

namespace sbxfs::testing {
namespace {

using Answers = FakeProvider::Answers;

class Snapshots : public MountTest {
 protected:
    void SetUp() override {
        MountTest::SetUp();
        provider().SetSnapshots(Answers::kAtOnce);
        MakeBox();
        Settle();
    }
    void TearDown() override {
        ctl_.reset();
        MountTest::TearDown();
    }
    int Ctl(std::string_view line) {
        const int code = me().Echo(std::string(line) + "\n", "/box/ctl");
        Settle();
        return code;
    }
    // The write whose answer is held by the provider.
    RecordingPtr StartCtl(std::string_view line) {
        ctl_ = me().Open("/box/ctl", O_WRONLY);
        EXPECT_EQ(ctl_->error(), 0);
        auto write = ctl_->StartWrite(std::string(line) + "\n");
        Settle();
        return write;
    }
    std::string StatusOf(int n) { return me().Cat("/box/events/" + std::to_string(n) + "/status"); }

    Client::FilePtr ctl_;
};

TEST_F(Snapshots, AreListedAndLaunchedFrom) {
    EXPECT_EQ(me().Cat("/box/ctl"), "protect\nunprotect\ndrop_caches\nstop\nstart\nsnapshot\n");
    EXPECT_EQ(Ctl("snapshot base"), 0);
    EXPECT_EQ(me().List("/.mount/snapshots"), std::vector<std::string>{"base.json"});
    const std::string info = me().Cat("/.mount/snapshots/base.json");
    EXPECT_NE(info.find("\"from\": \"box\""), std::string::npos) << info;
    EXPECT_NE(me().Cat("/.mount/templates/base.toml").find("snapshot = \"base\""),
              std::string::npos);

    EXPECT_EQ(me().Mkdir("/next@base"), 0);
    Settle();
    const Template what = mount().Box("next@base")->what();
    EXPECT_EQ(std::get<std::string>(what.options.at("snapshot")), "base");

    EXPECT_EQ(me().Unlink("/.mount/snapshots/base.json"), 0);
    EXPECT_TRUE(me().List("/.mount/snapshots").empty());
    EXPECT_EQ(me().Mkdir("/more@base"), ENOENT);
    EXPECT_EQ(me().Unlink("/.mount/snapshots/base.json"), ENOENT);
}

TEST_F(Snapshots, NeedANameThatNothingElseHas) {
    EXPECT_EQ(Ctl("snapshot"), EINVAL);
    EXPECT_NE(LastError().find("a snapshot needs a name"), std::string::npos) << LastError();
    for (const char* name : {"a b", "../x", "a@b", ".x", "a/b"})
        EXPECT_EQ(Ctl(std::string("snapshot ") + name), EINVAL) << name;
    EXPECT_EQ(Ctl("snapshot default"), EEXIST);
    EXPECT_EQ(Ctl("snapshot base"), 0);
    EXPECT_EQ(Ctl("snapshot base"), EEXIST);
    EXPECT_NE(LastError().find("choose another name"), std::string::npos) << LastError();
    EXPECT_EQ(Ctl("stop base"), EINVAL);
    EXPECT_EQ(me().Cat("/box/status"), "ready\n");
    EXPECT_EQ(Ctl("snapshots x"), EOPNOTSUPP);
}

TEST_F(Snapshots, AreRefusedWhileCommandsWaitOrRun) {
    ASSERT_EQ(me().Echo("sleep", "/box/cmd"), 0);
    Settle();
    supervisor().Started(1);
    EXPECT_EQ(Ctl("snapshot base"), EBUSY);
    EXPECT_NE(LastError().find("commands that wait or run"), std::string::npos) << LastError();
    EXPECT_TRUE(me().List("/.mount/snapshots").empty());
    supervisor().Run(1);
    Settle();
    EXPECT_EQ(Ctl("snapshot base"), 0);
}

TEST_F(Snapshots, AreRefusedWhileProcessesLive) {
    supervisor().others.resize(1);  // left by this command
    ASSERT_EQ(me().Echo("server &", "/box/cmd"), 0);
    Settle();
    supervisor().Run(1);
    Settle();
    const RecordingPtr write = StartCtl("snapshot base");
    Advance(std::chrono::seconds(3));
    EXPECT_EQ(me().FinishCode(write), EBUSY);
    EXPECT_NE(LastError().find("processes in it"), std::string::npos) << LastError();

    // It ends while the next one waits for the sandbox to be quiet.
    const RecordingPtr again = StartCtl("snapshot base");
    supervisor().others.clear();
    Advance(std::chrono::seconds(2));
    EXPECT_EQ(me().FinishCode(again), 0);
}

TEST_F(Snapshots, CommandsWaitUntilTheCopyIsWhole) {
    provider().SetSnapshots(Answers::kHeld);
    const RecordingPtr write = StartCtl("snapshot base");
    ASSERT_EQ(provider().held_snapshots(), 1U);
    ASSERT_EQ(me().Echo("true", "/box/cmd"), 0);
    ASSERT_EQ(me().Echo("true", "/box/run/t"), 0);
    Settle();
    EXPECT_EQ(StatusOf(1), "queued\n");
    EXPECT_FALSE(supervisor().Knows(1));
    EXPECT_FALSE(supervisor().Knows(2));
    EXPECT_EQ(me().List("/.mount/snapshots").size(), 0U);
    provider().FinishSnapshot();
    Settle();
    EXPECT_EQ(me().FinishCode(write), 0);
    EXPECT_TRUE(supervisor().Knows(1));
    EXPECT_TRUE(supervisor().Knows(2));
    EXPECT_EQ(me().List("/.mount/snapshots").size(), 1U);
}

TEST_F(Snapshots, WhatFailsIsSaidAndLeavesNothing) {
    provider().SetSnapshots(Answers::kHeld);
    const RecordingPtr write = StartCtl("snapshot base");
    provider().FinishSnapshot(Error(Errno{ENOSPC}, "no room: free some"));
    Settle();
    EXPECT_EQ(me().FinishCode(write), ENOSPC);
    EXPECT_TRUE(me().List("/.mount/snapshots").empty());
    ASSERT_EQ(me().Echo("true", "/box/cmd"), 0);
    Settle();
    EXPECT_TRUE(supervisor().Knows(1)) << "commands go on";
}

TEST_F(Snapshots, ASecondOneIsRefusedMeanwhileAndRmdirIsNot) {
    provider().SetSnapshots(Answers::kHeld);
    const RecordingPtr write = StartCtl("snapshot base");
    EXPECT_EQ(Ctl("snapshot other"), EBUSY);
    EXPECT_EQ(me().Rmdir("/box"), 0);
    Settle();
    provider().FinishSnapshot(Error(Errno{ECANCELED}, "destroyed"));
    Settle();
    EXPECT_EQ(me().FinishCode(write), ECANCELED);
    EXPECT_TRUE(provider().Existing().empty());
}

TEST_F(Snapshots, WhoeverWaitsIsFreeWithASignalAndTheCopyGoesOn) {
    provider().SetSnapshots(Answers::kHeld);
    const RecordingPtr write = StartCtl("snapshot base\nprotect");
    mount().fs().context().lot.Cancel(write->interrupt());
    EXPECT_EQ(me().FinishCode(write), EINTR);
    provider().FinishSnapshot();
    Settle();
    EXPECT_EQ(me().List("/.mount/snapshots").size(), 1U);
    EXPECT_EQ(me().Rmdir("/box"), 0) << "what came after the interrupted order is not done";
}

TEST_F(Snapshots, AStoppedSandboxIsCopiedAndAnEndedOneIsNot) {
    EXPECT_EQ(Ctl("stop"), 0);
    EXPECT_EQ(Ctl("snapshot base"), 0);
    EXPECT_EQ(me().Cat("/box/status"), "stopped\n");
    EXPECT_EQ(Ctl("start"), 0);
    provider().SetHealth({Liveness::kEnded, "it is gone"});
    machine().SetAttaches(FakeMachine::Answers::kHeld);
    machine().Cut();
    Settle();
    machine().Cut();
    Settle();
    EXPECT_EQ(me().Cat("/box/status"), "failed\n");
    EXPECT_EQ(Ctl("snapshot late"), EHOSTDOWN);
}

TEST_F(Snapshots, TheirTemplateGoesWithThemOnly) {
    EXPECT_EQ(Ctl("snapshot base"), 0);
    EXPECT_EQ(me().Unlink("/.mount/templates/base.toml"), EBUSY);
    EXPECT_NE(LastError().find("rm .mount/snapshots/base.json"), std::string::npos) << LastError();
    EXPECT_EQ(me().Mkdir("/next@base"), 0);
}

TEST_F(Snapshots, WhereTheProviderHasNoneTheVerbIsNotThere) {
    EXPECT_EQ(me().Look("/.mount/snapshots"), 0);
    EXPECT_EQ(me().Mkdir("/.mount/snapshots/x"), EPERM);
}

}  // namespace
}  // namespace sbxfs::testing
