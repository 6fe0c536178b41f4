// Sandboxes on a machine that stays: what is looked at before they are ready, and how everything of ours
// leaves again, over fakes that hold every answer.
#include <gtest/gtest.h>

#include <string>

#include "tests/support/mount_test.h"

namespace sbxfs::testing {
namespace {

using Held = FakeProvider::Answers;

class Departing : public MountTest {
 protected:
    Departing() { world_.provider.SetOwnsMachine(false); }

    std::string Status() { return me().Cat("/box/status"); }
    std::string ErrorOf() { return me().Cat("/box/error"); }
    std::string Past(const std::string& file) { return me().Cat("/.mount/history/box.1/" + file); }
    std::string Spool() { return "/home/user/.sbxfs/" + provider().Existing().front(); }
    void BringSpool() {
        files().PutFile(Spool() + "/bin/program", "x");
        files().PutFile(Spool() + "/commands/1/stdout", "y");
    }
};

TEST_F(Departing, RmdirEndsTheSupervisorAndRemovesTheSpoolBeforeTheProviderForgets) {
    MakeBox();
    FakeMachine& inside = machine();
    BringSpool();
    inside.files().PutFile("/home/user/mine", "z");
    provider().SetDestroys(Held::kHeld);
    EXPECT_EQ(me().Rmdir("/box"), 0);
    Settle();
    EXPECT_EQ(inside.supervisor().shutdowns(), 1);
    EXPECT_FALSE(inside.files().Exists("/home/user/.sbxfs"));
    EXPECT_TRUE(inside.files().Exists("/home/user/mine"));
    EXPECT_EQ(provider().held_destroys(), 1U);
    provider().FinishDestroy();
    Settle();
    EXPECT_EQ(Past("status"), "stopped\n");
    EXPECT_EQ(me().Look("/.mount/history/box.1/ctl"), ENOENT);
}

TEST_F(Departing, TheSpoolsOfOthersStay) {
    MakeBox();
    FakeMachine& inside = machine();
    BringSpool();
    inside.files().PutFile("/home/user/.sbxfs/other/id", "z");
    EXPECT_EQ(me().Rmdir("/box"), 0);
    Settle();
    EXPECT_TRUE(inside.files().Exists("/home/user/.sbxfs/other/id"));
    EXPECT_EQ(Past("status"), "stopped\n");
}

TEST_F(Departing, WhatCannotBeReachedIsTriedAgainAlsoByTheNextDaemon) {
    MakeBox();
    FakeMachine& inside = machine();
    BringSpool();
    inside.SetAttaches(FakeMachine::Answers::kHeld);
    EXPECT_EQ(me().Rmdir("/box"), 0);
    Settle();
    inside.Cut(Error(Errno{EHOSTUNREACH}, "no route", Blame::kRemote));
    Settle();
    EXPECT_EQ(Past("status"), "stopping\n");
    EXPECT_NE(Past("error").find("no route"), std::string::npos) << Past("error");
    EXPECT_NE(Past("error").find("forget"), std::string::npos) << Past("error");
    EXPECT_EQ(provider().destroys(), 0U);
    KillAndStart();
    EXPECT_EQ(Past("status"), "stopping\n");
    EXPECT_TRUE(inside.attached());
    inside.SetAttaches(FakeMachine::Answers::kAtOnce);
    inside.Cut();
    Advance(std::chrono::minutes(2));
    EXPECT_EQ(Past("status"), "stopped\n");
    EXPECT_EQ(inside.supervisor().shutdowns(), 1);
    EXPECT_FALSE(inside.files().Exists("/home/user/.sbxfs"));
}

TEST_F(Departing, ForgetGivesUpWhatCannotBeReached) {
    MakeBox();
    FakeMachine& inside = machine();
    BringSpool();
    inside.SetAttaches(FakeMachine::Answers::kHeld);
    EXPECT_EQ(me().Rmdir("/box"), 0);
    Settle();
    inside.Cut();
    Settle();
    EXPECT_EQ(Past("ctl"), "forget\n");
    EXPECT_EQ(me().Echo("forget", "/.mount/history/box.1/ctl"), 0);
    Settle();
    EXPECT_EQ(Past("status"), "stopped\n");
    EXPECT_EQ(provider().Existing().size(), 0U);
    EXPECT_EQ(inside.supervisor().shutdowns(), 0);
}

TEST_F(Departing, WhereNobodyWasEverLetInOneAttemptIsEnough) {
    world_.machines.furnish = [](FakeMachine& m) { m.SetAttaches(FakeMachine::Answers::kHeld); };
    MakeBox();
    FakeMachine& inside = machine();
    inside.Cut();
    Settle();
    EXPECT_EQ(me().Rmdir("/box"), 0);
    Settle();
    if (inside.attached()) inside.Cut();
    Settle();
    EXPECT_EQ(Past("status"), "stopped\n");
}

TEST_F(Departing, WhereTheSupervisorCannotRunItsDirectoryIsRemovedWithoutIt) {
    MakeBox();
    FakeMachine& inside = machine();
    BringSpool();
    inside.SetAttaches(FakeMachine::Answers::kHeld);
    EXPECT_EQ(me().Rmdir("/box"), 0);
    Settle();
    inside.ConnectFiles();
    Settle();
    EXPECT_TRUE(inside.files().Exists("/home/user/.sbxfs"));
    inside.Cut(Error(Errno{ENOEXEC}, "the supervisor does not start", Blame::kRemote));
    Settle();
    ASSERT_TRUE(inside.attached());
    inside.ConnectFiles();
    Settle();
    EXPECT_FALSE(inside.files().Exists("/home/user/.sbxfs"));
    EXPECT_EQ(Past("status"), "stopped\n");
}

TEST_F(Departing, ARefusedLoginIsFinal) {
    world_.machines.furnish = [](FakeMachine& m) { m.SetAttaches(FakeMachine::Answers::kHeld); };
    MakeBox();
    machine().Cut(Error(Errno{EACCES}, "another host key", Blame::kRemote));
    Settle();
    EXPECT_EQ(Status(), "failed\n");
    EXPECT_EQ(ErrorOf(), "another host key\n");
}

TEST_F(Departing, AWorkdirThatIsNotThereFailsTheSandboxBeforeAnyCommandRuns) {
    world_.machines.furnish = [this](FakeMachine& m) {
        m.SetAttaches(FakeMachine::Answers::kHeld);
        all_machines_.push_back(&m);
    };
    MakeBox();
    EXPECT_EQ(me().Echo("touch x", "/box/cmd"), 0);
    machine().Connect();
    Settle();
    EXPECT_EQ(Status(), "failed\n");
    EXPECT_NE(ErrorOf().find("/work cannot be used"), std::string::npos) << ErrorOf();
    EXPECT_EQ(me().Cat("/box/events/1/status"), "refused\n");
}

TEST_F(Departing, AMachineOfItsOwnIsLeftToItsProvider) {
    provider().SetOwnsMachine(true);
    MakeBox();
    FakeMachine& inside = machine();
    EXPECT_EQ(me().Rmdir("/box"), 0);
    Settle();
    EXPECT_EQ(inside.supervisor().shutdowns(), 0);
    EXPECT_EQ(inside.attaches(), 1U);
    EXPECT_EQ(Past("status"), "stopped\n");
}

class SshFiles : public MountTest {};

TEST_F(SshFiles, SshFindsItsConfigurationAndAKeyThatIsNotListed) {
    MakeBox("b1@default");
    Settle();
    const std::string config = me().Cat("/b1@default/ssh/config");
    EXPECT_NE(config.find("Host b1 box\n"), std::string::npos) << config;
    EXPECT_NE(config.find("User user\n"), std::string::npos) << config;
    EXPECT_NE(config.find("IdentityFile \"/mnt/b1@default/ssh/key\"\n"), std::string::npos)
        << config;
    EXPECT_NE(config.find("ProxyUseFdpass yes\n"), std::string::npos) << config;
    EXPECT_NE(me().Cat("/b1@default/ssh/known_hosts").find("b1 ssh-ed25519 "), std::string::npos);
    EXPECT_EQ(me().List("/b1@default/ssh"), (std::vector<std::string>{"config", "known_hosts"}));
    EXPECT_NE(me().Cat("/b1@default/ssh/key").find("PRIVATE KEY"), std::string::npos);
    EXPECT_EQ(me().Stat("/b1@default/ssh/key").mode & 07777, 0600U);
}

TEST_F(SshFiles, BeforeTheLaunchThereIsNoAddressAndNothingWaits) {
    provider().SetLaunches(Held::kHeld);
    MakeBox();
    EXPECT_NE(me().Cat("/box/ssh/config").find("no address yet"), std::string::npos);
    EXPECT_EQ(me().Cat("/box/ssh/known_hosts"), "");
    provider().FinishLaunch();
    Settle();
    EXPECT_NE(me().Cat("/box/ssh/config").find("Host box\n"), std::string::npos);
}

}  // namespace
}  // namespace sbxfs::testing
