// mkdir and rmdir: what is decided at once, what goes on behind, and what a journal that fails or a
// daemon that is killed leaves behind (contract 3 and 6).
#include <fcntl.h>

#include "tests/support/mount_test.h"

namespace sbxfs::testing {
namespace {

using Held = FakeProvider::Answers;
using Disk = FaultyDisk::Fault;

class Launching : public MountTest {
 protected:
    std::string Status(const std::string& box = "box") { return me().Cat("/" + box + "/status"); }
    std::string ErrorOf(const std::string& box = "box") { return me().Cat("/" + box + "/error"); }
};

TEST_F(Launching, MkdirIsAnsweredBeforeTheProviderIs) {
    provider().SetLaunches(Held::kHeld);
    EXPECT_EQ(me().Mkdir("/box"), 0);
    EXPECT_EQ(Status(), "launching\n");
    EXPECT_EQ(provider().held_launches(), 1U);
    provider().FinishLaunch();
    EXPECT_EQ(Status(), "ready\n");
}

TEST_F(Launching, MkdirIsAnsweredWhenTheJournalHasItAndTheProviderIsAskedNotBefore) {
    world_.disk.Hold();
    const auto mkdir = me().StartMkdir("/box");
    world_.disk.AwaitHeld();
    EXPECT_FALSE(mkdir->answered());
    (void)world_.loop.Run();
    EXPECT_EQ(provider().launches(), 0U);
    world_.disk.Release();
    EXPECT_EQ(me().FinishCode(mkdir), 0);
    EXPECT_EQ(provider().launches(), 1U);
}

TEST_F(Launching, NamesFollowTheGrammar) {
    const std::string longest(63, 'a');
    for (const std::string& name : {std::string("a"), std::string("0"), std::string("A.b_c-9"),
                                    std::string("a@default"), longest}) {
        EXPECT_EQ(me().Mkdir("/" + name), 0) << name;
    }
    for (const std::string& name :
         {std::string(".a"), std::string("_a"), std::string("-a"), std::string("a b"),
          std::string("a\n"), std::string("ä"), std::string("a@"), std::string("@default"),
          std::string("a@default@default"), longest + "a", std::string("a*"), std::string("a~")}) {
        EXPECT_EQ(me().Mkdir("/" + name), EINVAL) << name;
    }
    EXPECT_NE(LastError().find("is not a name for a sandbox"), std::string::npos);
}

TEST_F(Launching, ANameThatIsThereIsEexistAlsoBeforeItsJournalCommit) {
    world_.disk.Hold();
    const auto first = me().StartMkdir("/box");
    world_.disk.AwaitHeld();
    const auto second = me().StartMkdir("/box");
    EXPECT_EQ(second->Await().error, EEXIST);
    world_.disk.Release();
    EXPECT_EQ(me().FinishCode(first), 0);
    EXPECT_EQ(me().Mkdir("/box"), EEXIST);
    EXPECT_EQ(provider().launches(), 1U);
}

TEST_F(Launching, NamesOfTheMountItselfAreTaken) {
    EXPECT_EQ(me().Mkdir("/README.md"), EEXIST);
}

TEST_F(Launching, AnUnknownTemplateIsEnoentAndThoseThereAreAreNamed) {
    EXPECT_EQ(me().Mkdir("/box@py"), ENOENT);
    EXPECT_NE(LastError().find("no template 'py' in the configuration; there are: default"),
              std::string::npos);
}

TEST_F(Launching, TheLimitIsEdquotAndASandboxBeingDestroyedDoesNotCount) {
    Unmount();
    setup_.config.limit = 2;
    Start();
    provider().SetDestroys(Held::kHeld);
    MakeBox("a");
    MakeBox("b");
    EXPECT_EQ(me().Mkdir("/c"), EDQUOT);
    EXPECT_EQ(me().Rmdir("/a"), 0);
    EXPECT_EQ(me().Mkdir("/c"), 0);
    provider().FinishDestroy();
}

TEST_F(Launching, WhatTheProviderRefusesIsHeardAtMkdir) {
    provider().RefuseAll(Error(Errno{EKEYEXPIRED}, "the credentials have expired: log in again"));
    EXPECT_EQ(me().Mkdir("/box"), EKEYEXPIRED);
    EXPECT_EQ(me().Look("/box"), ENOENT);
    EXPECT_NE(LastError().find("EKEYEXPIRED: the credentials have expired"), std::string::npos);
}

TEST_F(Launching, AJournalThatFailsRefusesMkdirAndTheNameStaysFree) {
    world_.disk.Fail(Disk::kBroken);
    EXPECT_EQ(me().Mkdir("/box"), EIO);
    world_.disk.Fail(Disk::kFull);
    EXPECT_EQ(me().Mkdir("/box"), ENOSPC);
    EXPECT_EQ(me().Look("/box"), ENOENT);
    EXPECT_EQ(provider().launches(), 0U);
    world_.disk.Heal();
    EXPECT_EQ(me().Mkdir("/box"), 0);
    EXPECT_EQ(Status(), "ready\n");
}

TEST_F(Launching, AFailedLaunchSaysWhyAndTheDirectoryStaysUntilRmdir) {
    provider().SetLaunches(Held::kHeld);
    MakeBox();
    provider().FailLaunch(Error(Errno{EACCES}, "no such image: pull it first", Blame::kRemote));
    EXPECT_EQ(Status(), "failed\n");
    EXPECT_EQ(ErrorOf(), "no such image: pull it first\n");
    EXPECT_EQ(me().Cat("/box/ready"), "failed: no such image: pull it first\n");
    EXPECT_EQ(provider().destroys(), 1U);  // what may have been half made
    EXPECT_EQ(me().Open("/box/cmd", O_WRONLY)->error(), EHOSTDOWN);
    EXPECT_EQ(me().Create("/box/run/t1", O_WRONLY)->error(), EHOSTDOWN);
    EXPECT_EQ(me().Look("/box/fs/x"), EHOSTDOWN);
    EXPECT_EQ(me().Rmdir("/box"), 0);
    EXPECT_EQ(me().Look("/box"), ENOENT);
}

TEST_F(Launching, RmdirIsAnsweredBeforeTheProviderIsAndTheNameIsFreeAtOnce) {
    provider().SetDestroys(Held::kHeld);
    MakeBox();
    EXPECT_EQ(me().Rmdir("/box"), 0);
    EXPECT_EQ(me().Look("/box"), ENOENT);
    EXPECT_EQ(me().List("/.mount/history"), std::vector<std::string>{"box.1"});
    EXPECT_EQ(me().Cat("/.mount/history/box.1/status"), "stopping\n");
    MakeBox();
    EXPECT_EQ(Status(), "ready\n");
    EXPECT_EQ(provider().Existing().size(), 2U);
    provider().FinishDestroy();
    EXPECT_EQ(me().Cat("/.mount/history/box.1/status"), "stopped\n");
    EXPECT_EQ(me().List("/.mount/history/box.1"),
              (std::vector<std::string>{"error", "events", "info.json", "status"}));
    EXPECT_EQ(Status(), "ready\n");
    EXPECT_EQ(provider().Existing().size(), 1U);
}

TEST_F(Launching, RmdirOfNothingIsEnoent) {
    EXPECT_EQ(me().Rmdir("/box"), ENOENT);
}

TEST_F(Launching, RmdirWhileItLaunchesDestroysWhatTheLaunchMakes) {
    provider().SetLaunches(Held::kHeld);
    MakeBox();
    EXPECT_EQ(me().Rmdir("/box"), 0);
    EXPECT_EQ(provider().destroys(), 1U);
    EXPECT_EQ(me().Cat("/.mount/history/box.1/status"), "stopped\n");
    EXPECT_EQ(provider().Existing().size(), 0U);
}

TEST_F(Launching, AJournalThatFailsRefusesRmdirAndTheSandboxGoesOn) {
    MakeBox();
    world_.disk.Fail(Disk::kBroken);
    EXPECT_EQ(me().Rmdir("/box"), EIO);
    world_.disk.Heal();
    EXPECT_EQ(Status(), "ready\n");
    EXPECT_EQ(provider().destroys(), 0U);
    EXPECT_EQ(me().Echo("true", "/box/cmd"), 0);
    Settle();
    EXPECT_EQ(supervisor().TimesRun(1), 1);
    EXPECT_EQ(me().Rmdir("/box"), 0);
    EXPECT_EQ(provider().destroys(), 1U);
}

TEST_F(Launching, ALaunchThatIsAnsweredDuringARefusedRmdirIsNotLost) {
    provider().SetLaunches(Held::kHeld);
    MakeBox();
    world_.disk.Hold();
    const auto rmdir = me().StartRmdir("/box");
    (void)world_.loop.Run();
    world_.disk.AwaitHeld();
    provider().FinishLaunch();
    (void)world_.loop.Run();
    world_.disk.Fail(Disk::kBroken);
    world_.disk.Release();
    EXPECT_EQ(me().FinishCode(rmdir), EIO);
    world_.disk.Heal();
    Settle();
    EXPECT_EQ(Status(), "ready\n");
}

TEST_F(Launching, ALinkThatIsCutDuringARefusedRmdirIsMadeAgain) {
    MakeBox();
    world_.disk.Hold();
    const auto rmdir = me().StartRmdir("/box");
    (void)world_.loop.Run();
    world_.disk.AwaitHeld();
    machine().Cut();
    (void)world_.loop.Run();
    world_.disk.Fail(Disk::kBroken);
    world_.disk.Release();
    EXPECT_EQ(me().FinishCode(rmdir), EIO);
    world_.disk.Heal();
    Advance(std::chrono::seconds(1));
    EXPECT_EQ(Status(), "ready\n");
}

TEST_F(Launching, AProtectedSandboxIsEbusyAlsoAfterARestart) {
    MakeBox();
    EXPECT_EQ(me().Cat("/box/ctl"), "protect\nunprotect\ndrop_caches\nstop\nstart\n");
    EXPECT_EQ(me().Echo("protect\n", "/box/ctl"), 0);
    EXPECT_EQ(me().Rmdir("/box"), EBUSY);
    KillAndStart();
    EXPECT_EQ(me().Rmdir("/box"), EBUSY);
    EXPECT_NE(LastError().find("unprotect"), std::string::npos);
    EXPECT_EQ(me().Echo("unprotect\n", "/box/ctl"), 0);
    EXPECT_EQ(me().Rmdir("/box"), 0);
}

TEST_F(Launching, AProtectThatWasRefusedDoesNotProtect) {
    MakeBox();
    world_.disk.Fail(Disk::kBroken);
    EXPECT_EQ(me().Echo("protect", "/box/ctl"), EIO);
    world_.disk.Heal();
    EXPECT_EQ(me().Rmdir("/box"), 0);
}

TEST_F(Launching, AVerbThatIsNotOfferedDoesNothingAtAll) {
    MakeBox();
    EXPECT_EQ(me().Echo("protect\nsnapshot\n", "/box/ctl"), EOPNOTSUPP);
    EXPECT_NE(LastError().find("'snapshot' is not a verb here"), std::string::npos);
    EXPECT_EQ(me().Rmdir("/box"), 0);
}

TEST_F(Launching, WhoWasJustRefusedARemovalBelowDoesNotDestroyTheSandboxAtTheEndOfTheWalk) {
    MakeBox();
    EXPECT_EQ(me().Unlink("/box/status"), EPERM);
    EXPECT_EQ(me().Rmdir("/box"), EPERM);
    Client other(mount(), ::getppid());
    Advance(std::chrono::seconds(3));
    EXPECT_EQ(me().Rmdir("/box"), 0);
    MakeBox();
    EXPECT_EQ(me().Unlink("/box/status"), EPERM);
    EXPECT_EQ(other.Rmdir("/box"), 0);
}

TEST_F(Launching, TwoRmdirsAtOnceAreBothAnsweredByTheSameCommit) {
    MakeBox();
    world_.disk.Hold();
    const auto first = me().StartRmdir("/box");
    (void)world_.loop.Run();
    world_.disk.AwaitHeld();
    const auto second = me().StartRmdir("/box");
    (void)world_.loop.Run();
    EXPECT_FALSE(second->answered());
    world_.disk.Fail(Disk::kBroken);
    world_.disk.Release();
    EXPECT_EQ(me().FinishCode(first), EIO);
    EXPECT_EQ(me().FinishCode(second), EIO);
    world_.disk.Heal();
    EXPECT_EQ(Status(), "ready\n");
}

TEST_F(Launching, DestroyIsRepeatedUntilTheProviderConfirms) {
    MakeBox();
    provider().Throttle(3);
    EXPECT_EQ(me().Rmdir("/box"), 0);
    EXPECT_EQ(me().Cat("/.mount/history/box.1/status"), "stopping\n");
    EXPECT_NE(me().Cat("/.mount/history/box.1/error").find("slow down"), std::string::npos);
    EXPECT_EQ(provider().Existing().size(), 1U);
    Advance(std::chrono::seconds(3));
    EXPECT_EQ(provider().destroys(), 4U);
    EXPECT_EQ(provider().Existing().size(), 0U);
    EXPECT_EQ(me().Cat("/.mount/history/box.1/status"), "stopped\n");
}

TEST_F(Launching, StatusStaysStoppingWhateverTheLinkDoes) {
    provider().SetDestroys(Held::kHeld);
    MakeBox();
    EXPECT_EQ(me().Echo("true", "/box/cmd"), 0);
    Settle();
    // Its output has not all arrived: rmdir's work behind waits for it, with the link up.
    supervisor().Started(1);
    CommandEnd end;
    end.sizes.out = 10;
    supervisor().listener().OnDone(EventNumber{1}, end);
    EXPECT_EQ(me().Rmdir("/box"), 0);
    EXPECT_EQ(provider().destroys(), 0U);
    FakeMachine& inside = *all_machines_.front();
    inside.CutSupervisor();
    EXPECT_EQ(me().Cat("/.mount/history/box.1/status"), "stopping\n");
    inside.ConnectSupervisor();
    EXPECT_EQ(me().Cat("/.mount/history/box.1/status"), "stopping\n");
    inside.Cut();
    EXPECT_EQ(me().Cat("/.mount/history/box.1/status"), "stopping\n");
    Advance(std::chrono::milliseconds(100));
    EXPECT_EQ(provider().destroys(), 1U);
    provider().FinishDestroy();
    EXPECT_EQ(me().Cat("/.mount/history/box.1/events/1/status"), "lost\n");
}

TEST_F(Launching, HistoryIsKeptSevenDays) {
    MakeBox();
    EXPECT_EQ(me().Rmdir("/box"), 0);
    world_.loop.clock().Advance(std::chrono::hours(24 * 7) - std::chrono::hours(1));
    KillAndStart();
    EXPECT_EQ(me().List("/.mount/history"), std::vector<std::string>{"box.1"});
    world_.loop.clock().Advance(std::chrono::hours(2));
    KillAndStart();
    EXPECT_EQ(me().List("/.mount/history"), std::vector<std::string>{});
    MakeBox();
    EXPECT_EQ(me().Rmdir("/box"), 0);
    EXPECT_EQ(me().List("/.mount/history"), std::vector<std::string>{"box.2"});  // never reused
}

TEST_F(Launching, HistoryIsGoneAfterSevenDaysAlsoWhenNothingElseHappens) {
    MakeBox();
    MakeBox("later");
    EXPECT_EQ(me().Rmdir("/box"), 0);
    Advance(std::chrono::seconds(1));
    world_.loop.Advance(std::chrono::hours(24));
    EXPECT_EQ(me().Rmdir("/later"), 0);
    Settle();
    world_.loop.Advance(std::chrono::hours(24 * 6) - std::chrono::minutes(1));
    EXPECT_EQ(me().List("/.mount/history"), (std::vector<std::string>{"box.1", "later.2"}));
    world_.loop.Advance(std::chrono::minutes(2));
    EXPECT_EQ(me().List("/.mount/history"), std::vector<std::string>{"later.2"});
    EXPECT_EQ(me().Look("/.mount/history/box.1"), ENOENT);
    KillAndStart();
    world_.loop.Advance(std::chrono::hours(25));
    EXPECT_EQ(me().List("/.mount/history"), std::vector<std::string>{});
    KillAndStart();
    EXPECT_EQ(me().List("/.mount/history"), std::vector<std::string>{}) << "for good";
}

TEST_F(Launching, ADaemonKilledWhileItLaunchedAsksAgainAndMakesOneSandboxOnly) {
    provider().SetLaunches(Held::kHeld);
    MakeBox();
    KillAndStart();
    EXPECT_EQ(Status(), "launching\n");
    EXPECT_EQ(provider().launches(), 2U);
    provider().FinishLaunch();
    EXPECT_EQ(Status(), "ready\n");
    EXPECT_EQ(provider().Existing().size(), 1U);
    EXPECT_EQ(provider().TimesMade(provider().Existing().front()), 1);
}

TEST_F(Launching, ADaemonKilledWhileItDestroyedGoesOnDestroying) {
    provider().SetDestroys(Held::kHeld);
    MakeBox();
    EXPECT_EQ(me().Rmdir("/box"), 0);
    KillAndStart();
    EXPECT_EQ(me().Look("/box"), ENOENT);
    EXPECT_EQ(me().Cat("/.mount/history/box.1/status"), "stopping\n");
    EXPECT_EQ(provider().held_destroys(), 1U);
    provider().FinishDestroy();
    Settle();
    EXPECT_EQ(provider().Existing().size(), 0U);
    EXPECT_EQ(me().Cat("/.mount/history/box.1/status"), "stopped\n");
}

TEST_F(Launching, WhatIsKnownOfASandboxIsShownFromTheFirstMomentAfterARestart) {
    MakeBox("ready");
    provider().SetLaunches(Held::kHeld);
    MakeBox("failed");
    provider().FailLaunch(Error(Errno{EACCES}, "no such image", Blame::kRemote));
    Settle();
    MakeBox("launching");
    provider().SetDestroys(Held::kHeld);
    EXPECT_EQ(me().Rmdir("/ready"), 0);
    provider().SetLaunches(Held::kAtOnce);
    MakeBox("ready");
    Kill();
    mount_ = std::make_unique<TestMount>(world_, setup_);  // the loops have not run yet
    me_ = std::make_unique<Client>(*mount_);
    const SandboxPtr failed = mount().Box("failed");
    EXPECT_EQ(failed->status(), SandboxStatus::kFailed);
    EXPECT_EQ(failed->Snapshot().error, "no such image");
    EXPECT_TRUE(failed->commands().Closed().has_value());
    EXPECT_EQ(mount().Box("launching")->status(), SandboxStatus::kLaunching);
    EXPECT_EQ(mount().Box("ready")->status(), SandboxStatus::kUnreachable);
    ASSERT_EQ(mount().sandboxes().History().size(), 1U);
    EXPECT_EQ(mount().sandboxes().History().front()->status(), SandboxStatus::kStopping);
    Settle();
    EXPECT_EQ(Status("ready"), "ready\n");
    provider().SetDestroys(Held::kAtOnce);
    while (provider().held_destroys() > 0)
        provider().FinishDestroy();
}

TEST_F(Launching, WhatCannotBeReachedAfterItsLaunchFailsWithTheLastReason) {
    world_.machines.furnish = [](FakeMachine& m) { m.SetAttaches(FakeMachine::Answers::kHeld); };
    MakeBox();
    const auto try_for = [&](std::chrono::minutes time) {
        for (auto end = world_.loop.clock().Steady() + time;
             world_.loop.clock().Steady() < end && machine().attached();) {
            machine().Cut(Error(Errno{EHOSTUNREACH}, "connection refused", Blame::kRemote));
            Advance(std::chrono::seconds(2));
        }
    };
    try_for(std::chrono::minutes(9));
    EXPECT_EQ(Status(), "launching\n");
    EXPECT_EQ(ErrorOf(), "not reachable yet: connection refused\n");
    try_for(std::chrono::minutes(2));
    EXPECT_EQ(Status(), "failed\n");
    EXPECT_EQ(ErrorOf(),
              "it was launched, but could not be reached: not reachable yet: connection refused\n");
}

TEST_F(Launching, WhatDoesNotAnswerYetIsTriedAgainAtOnceAndItsEndIsNoticedAllTheSame) {
    world_.machines.furnish = [](FakeMachine& m) { m.SetAttaches(FakeMachine::Answers::kHeld); };
    MakeBox();
    const auto knock = [&](int times) {
        for (int i = 0; i < times && machine().attached(); ++i) {
            machine().Cut(Error(Errno{EHOSTUNREACH}, "connection refused", Blame::kRemote));
            Advance(std::chrono::milliseconds(130));
        }
    };
    const std::size_t tries = machine().attaches();
    const std::size_t probes = provider().probes();
    knock(30);
    EXPECT_EQ(machine().attaches() - tries, 30U);
    EXPECT_LE(provider().probes() - probes, 5U) << "within four seconds";
    EXPECT_EQ(Status(), "launching\n");
    provider().SetHealth({Liveness::kEnded, "its image cannot be pulled"});
    knock(10);
    EXPECT_EQ(Status(), "failed\n");
    EXPECT_EQ(ErrorOf(), "its image cannot be pulled\n");
}

// Its task may end in the moment in which it can be reached at last.
TEST_F(Launching, AnEndThatIsToldOfBehindItsReadinessComesWithTheLossOfItsLink) {
    world_.machines.furnish = [](FakeMachine& m) { m.SetAttaches(FakeMachine::Answers::kHeld); };
    MakeBox();
    Advance(std::chrono::seconds(1));
    provider().SetProbes(FakeProvider::Answers::kHeld);
    machine().SetAttaches(FakeMachine::Answers::kAtOnce);
    machine().Cut(Error(Errno{EHOSTUNREACH}, "connection refused", Blame::kRemote));
    Advance(std::chrono::milliseconds(130));
    ASSERT_EQ(provider().held_probes(), 1U);
    EXPECT_EQ(Status(), "ready\n");
    const Health ended{Liveness::kEnded, "the task stopped"};
    provider().AnswerProbe(ended);
    Settle();
    EXPECT_EQ(Status(), "ready\n");
    machine().SetAttaches(FakeMachine::Answers::kHeld);
    provider().SetProbes(FakeProvider::Answers::kAtOnce);
    provider().SetHealth(ended);
    machine().Cut();
    Settle();
    machine().Cut();
    Settle();
    EXPECT_EQ(Status(), "failed\n");
    EXPECT_EQ(ErrorOf(), "the task stopped\n");
}

TEST_F(Launching, ASandboxThatWasReadyIsNotGivenUpBecauseTheNetworkIsDownAfterARestart) {
    MakeBox();
    EXPECT_EQ(me().Echo("sleep 1000", "/box/cmd"), 0);
    Settle();
    supervisor().Started(1);
    Settle();
    FakeMachine& inside = machine();
    inside.SetAttaches(FakeMachine::Answers::kHeld);
    KillAndStart();
    for (int i = 0; i < 100; ++i) {
        if (inside.attached()) inside.Cut();
        Advance(std::chrono::seconds(12));
    }
    EXPECT_EQ(Status(), "unreachable\n");
    inside.SetAttaches(FakeMachine::Answers::kAtOnce);
    if (inside.attached()) inside.Cut();
    Advance(std::chrono::seconds(30));
    EXPECT_EQ(Status(), "ready\n");
    EXPECT_EQ(me().Cat("/box/events/1/status"), "running\n");
}

TEST_F(Launching, ALinkThatWasCutIsMadeAgainAtOnceThenWithPauses) {
    MakeBox();
    machine().Cut();
    Settle();
    EXPECT_EQ(Status(), "ready\n");
    EXPECT_EQ(machine().attaches(), 2U);
    machine().SetAttaches(FakeMachine::Answers::kHeld);
    machine().Cut();
    Settle();
    machine().Cut();
    Settle();
    EXPECT_EQ(Status(), "unreachable\n");
    EXPECT_NE(ErrorOf().find("link cut"), std::string::npos);
    EXPECT_FALSE(machine().attached());
    Advance(std::chrono::seconds(1));
    EXPECT_TRUE(machine().attached());
    machine().Connect();
    EXPECT_EQ(Status(), "ready\n");
    EXPECT_EQ(ErrorOf(), "");
}

TEST_F(Launching, ASandboxThatEndedByItselfSaysHow) {
    MakeBox("a");
    MakeBox("b");
    provider().SetHealth({Liveness::kExpired, "its max_lifetime was over"});
    for (const char* name : {"a", "b"}) {
        machine(name).SetAttaches(FakeMachine::Answers::kHeld);
        machine(name).Cut();
        Settle();
        machine(name).Cut();
        Settle();
        provider().SetHealth({Liveness::kEnded, "the instance was terminated"});
    }
    EXPECT_EQ(Status("a"), "expired\n");
    EXPECT_EQ(ErrorOf("a"), "its max_lifetime was over\n");
    EXPECT_EQ(Status("b"), "failed\n");
    EXPECT_EQ(me().Open("/a/cmd", O_WRONLY)->error(), EHOSTDOWN);
}

TEST_F(Launching, PhasesOfTheLaunchAreTimedOnce) {
    provider().SetLaunches(Held::kHeld);
    MakeBox();
    Advance(std::chrono::milliseconds(100));
    provider().SayPhase("image");
    Advance(std::chrono::milliseconds(50));
    provider().FinishLaunch();
    Settle();
    const auto phases = [this] {
        std::string words;
        const Json info = *Json::Parse(me().Cat("/box/info.json"));
        for (const Json& phase : info.Find("phases")->Elements()) {
            words += *phase.GetString("phase") + " " + std::to_string(*phase.GetNumber("took_ms")) +
                     ", ";
        }
        return words;
    };
    EXPECT_EQ(phases(), "requested 0, image 100, launched 50, sftp 0, supervisor 0, ready 0, ");
    const std::string before = phases();
    KillAndStart();
    EXPECT_EQ(phases(), before);
}

TEST_F(Launching, InfoJsonSaysWhatItIs) {
    MakeBox();
    const Json info = *Json::Parse(me().Cat("/box/info.json"));
    EXPECT_EQ(info.GetString("name"), "box");
    EXPECT_EQ(info.GetNumber("generation"), 1);
    EXPECT_EQ(info.GetString("status"), "ready");
    EXPECT_EQ(info.GetString("zone"), "a");  // a fact of the provider's
    EXPECT_EQ(info.GetString("created"), "1971-01-01T00:00:00.000Z");
    EXPECT_EQ(info.GetNumber("created_ms"), EpochMs(world_.loop.clock().System()));
    EXPECT_EQ(info.GetString("expires"), "1971-01-01T04:00:00.000Z");
    EXPECT_TRUE(info.GetString("expires"));
    EXPECT_EQ(info.GetString("path"), "/mnt/box");
}

TEST_F(Launching, TheSandboxesOwnTimerIsSetToWhatIsLeftOfItsLife) {
    MakeBox();
    ASSERT_TRUE(supervisor().timer().has_value());
    EXPECT_EQ(supervisor().timer()->first, 4 * 3600 * 1000);
    world_.loop.clock().Advance(std::chrono::hours(1));
    machine().Cut();
    Settle();
    EXPECT_EQ(supervisor().timer()->first, 3 * 3600 * 1000);
}

}  // namespace
}  // namespace sbxfs::testing
