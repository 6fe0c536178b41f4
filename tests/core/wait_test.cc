// Files whose read waits: events/N/wait, wait.SECONDS and box/ready (contract 3 and 4).
#include <fcntl.h>

#include <thread>

#include "tests/support/mount_test.h"

namespace sbxfs::testing {
namespace {

class WaitFiles : public MountTest {
 protected:
    void SetUp() override {
        MountTest::SetUp();
        MakeBox();
        Settle();
    }
    void Submit() {
        ASSERT_EQ(me().Echo("true", "/box/cmd"), 0);
        Settle();
    }
    Client::FilePtr OpenWait(const std::string& name = "wait", int n = 1) {
        return me().Open("/box/events/" + std::to_string(n) + "/" + name, O_RDONLY);
    }
};

TEST_F(WaitFiles, WaitBlocksUntilTheEndAndThenPrintsTheOutcome) {
    Submit();
    const auto wait = OpenWait();
    const auto read = wait->StartRead();
    supervisor().Started(1);
    Advance(std::chrono::hours(2));
    EXPECT_FALSE(read->answered());
    supervisor().Exit(1, 3);
    Settle();
    EXPECT_EQ(read->Await().bytes, "exited 3\n");
    EXPECT_EQ(wait->Read(), "");  // cat's second read is at the end
    EXPECT_EQ(me().Cat("/box/events/1/wait"), "exited 3\n");
}

TEST_F(WaitFiles, WaitSecondsPrintsTheStatusSoFarAndStops) {
    Submit();
    const auto wait = OpenWait("wait.60");
    const auto read = wait->StartRead();
    Advance(std::chrono::milliseconds(59'900));
    EXPECT_FALSE(read->answered());
    Advance(std::chrono::milliseconds(200));
    ASSERT_TRUE(read->answered());
    EXPECT_EQ(read->Await().bytes, "queued\n");
    EXPECT_EQ(wait->Read(), "");
    supervisor().Started(1);
    const auto again = OpenWait("wait.1");
    const auto second = again->StartRead();
    Advance(std::chrono::milliseconds(1100));
    EXPECT_EQ(second->Await().bytes, "running\n");
}

TEST_F(WaitFiles, WaitSecondsEndsWithTheCommand) {
    Submit();
    const auto wait = OpenWait("wait.60");
    const auto read = wait->StartRead();
    (void)world_.loop.Run();
    supervisor().Run(1);
    Settle();
    EXPECT_EQ(read->Await().bytes, "exited 0\n");
    Advance(std::chrono::seconds(61));  // its limit finds nothing any more
}

// Who waits for a day at most, for what is over in a second, left a timer for a day.
TEST_F(WaitFiles, ALimitThatIsFarAwayLeavesNoTimerBehind) {
    Submit();
    Advance(std::chrono::seconds(30));
    const std::size_t before = world_.loop.timers();
    for (int i = 0; i < 20; ++i) {
        const auto wait = OpenWait("wait.86400");
        const auto read = wait->StartRead();
        Advance(std::chrono::milliseconds(10));
        mount().context().lot.Cancel(read->interrupt());
        EXPECT_EQ(read->Await().error, EINTR);
    }
    const auto last = OpenWait("wait.86400");
    const auto read = last->StartRead();
    Advance(std::chrono::hours(1));
    EXPECT_FALSE(read->answered());
    EXPECT_LE(world_.loop.timers(), before + 1);
    Advance(std::chrono::hours(23));
    EXPECT_EQ(read->Await().bytes, "queued\n");
    EXPECT_LE(world_.loop.timers(), before);
}

TEST_F(WaitFiles, WaitOfNoTimeAsks) {
    Submit();
    const auto wait = OpenWait("wait.0");
    const auto read = wait->StartRead();
    Advance(std::chrono::milliseconds(50));
    EXPECT_EQ(read->Await().bytes, "queued\n");
}

TEST_F(WaitFiles, OfOneThatHasFinishedDoNotWait) {
    Submit();
    supervisor().Run(1);
    Settle();
    EXPECT_EQ(me().Cat("/box/events/1/wait"), "exited 0\n");
    EXPECT_EQ(me().Cat("/box/events/1/wait.1000"), "exited 0\n");
}

TEST_F(WaitFiles, ASignalFreesTheReaderAndLeavesNothingBehind) {
    Submit();
    const auto wait = OpenWait("wait.100000");
    const auto read = wait->StartRead();
    (void)world_.loop.Run();
    mount().context().lot.PostInterrupt(read->interrupt());
    EXPECT_EQ(read->Await().error, EINTR);
    EXPECT_EQ(mount().context().lot.Count(), 0U);
    const auto again = wait->StartRead();
    supervisor().Run(1);
    Settle();
    EXPECT_EQ(again->Await().bytes, "exited 0\n");
}

TEST_F(WaitFiles, ALimitThatIsFarAwayKeepsNothingAliveThatWasInterrupted) {
    Submit();
    auto wait = OpenWait("wait.4000000000");
    const std::weak_ptr<OpenHandle> open = mount().context().handles.Find(wait->opened().handle);
    const auto read = wait->StartRead();
    (void)world_.loop.Run();
    mount().context().lot.PostInterrupt(read->interrupt());
    EXPECT_EQ(read->Await().error, EINTR);
    wait.reset();
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!open.expired() && std::chrono::steady_clock::now() < deadline)
        std::this_thread::yield();  // the `cancel` thread stops the wait after it has answered
    EXPECT_TRUE(open.expired());
}

TEST_F(WaitFiles, CanBeReadByteByByte) {
    Submit();
    supervisor().Run(1);
    Settle();
    const auto wait = OpenWait();
    std::string all;
    for (std::string part; !(part = wait->Read(1)).empty();)
        all += part;
    EXPECT_EQ(all, "exited 0\n");
}

TEST_F(WaitFiles, EndForEveryReaderWhateverEndsTheCommand) {
    Submit();
    Submit();
    supervisor().Started(1);
    const auto running = OpenWait("wait", 1);
    const auto queued = OpenWait("wait", 2);
    const auto first = running->StartRead();
    const auto second = queued->StartRead();
    EXPECT_EQ(me().Rmdir("/box"), 0);
    Settle();
    EXPECT_EQ(first->Await().bytes.substr(0, 4), "lost");
    EXPECT_EQ(second->Await().bytes.substr(0, 7), "refused");
}

class ShortRequests : public WaitFiles {
 protected:
    ShortRequests() { setup_.longest_wait = std::chrono::seconds(50); }
};

TEST_F(ShortRequests, NoWaitIsLongerThanTheAdministratorAllowsARequestToBe) {
    Submit();
    const auto wait = OpenWait();
    const auto read = wait->StartRead();
    Advance(std::chrono::seconds(49));
    EXPECT_FALSE(read->answered());
    Advance(std::chrono::seconds(2));
    EXPECT_EQ(read->Await().bytes, "queued\n");
}

TEST_F(WaitFiles, ReadyWaitsForTheLaunch) {
    provider().SetLaunches(FakeProvider::Answers::kHeld);
    MakeBox("new");
    const auto ready = me().Open("/new/ready", O_RDONLY);
    const auto read = ready->StartRead();
    Advance(std::chrono::minutes(5));
    EXPECT_FALSE(read->answered());
    provider().FinishLaunch();
    Settle();
    EXPECT_EQ(read->Await().bytes, "ready\n");
    EXPECT_EQ(me().Cat("/new/ready"), "ready\n");
}

TEST_F(WaitFiles, ReadySaysWhyThereIsNothingToWaitFor) {
    provider().SetLaunches(FakeProvider::Answers::kHeld);
    MakeBox("new");
    const auto ready = me().Open("/new/ready", O_RDONLY);
    const auto read = ready->StartRead();
    provider().FailLaunch(Error(Errno{EIO}, "no capacity"));
    Settle();
    EXPECT_EQ(read->Await().bytes, "failed: no capacity\n");
}

TEST_F(WaitFiles, ReadyEndsWhenTheSandboxIsRemoved) {
    provider().SetLaunches(FakeProvider::Answers::kHeld);
    MakeBox("new");
    const auto ready = me().Open("/new/ready", O_RDONLY);
    const auto read = ready->StartRead();
    EXPECT_EQ(me().Rmdir("/new"), 0);
    Settle();
    EXPECT_EQ(read->Await().bytes, "stopping\n");
}

TEST_F(WaitFiles, CannotBeWritten) {
    Submit();
    EXPECT_EQ(me().Open("/box/events/1/wait", O_WRONLY)->error(), EACCES);
    EXPECT_EQ(me().Open("/box/ready", O_RDWR)->error(), EACCES);
}

}  // namespace
}  // namespace sbxfs::testing
