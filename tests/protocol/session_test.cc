// Hello, interrupts, answers out of order, and the end of a session, through the real libfuse (engineering
// facts 5.1, 5.2, 5.4).
#include <errno.h>
#include <fcntl.h>

#include "tests/protocol/protocol_test.h"

namespace sbxfs::testing {
namespace {

class Protocol : public ProtocolTest {
 protected:
    // A READ of a running command's `wait`, which is parked.
    std::uint64_t SendWait(std::uint64_t node, std::uint64_t handle) {
        return kernel_->Send(FUSE_READ, node, ReadBody(handle, 0, 4096));
    }
    void Submit(std::string_view script) {
        const std::uint64_t cmd = Walk("/box/cmd");
        const std::uint64_t handle = Open(cmd, O_WRONLY);
        EXPECT_EQ(kernel_->Ask(FUSE_WRITE, cmd, WriteBody(handle, 0, script)).error, 0);
        EXPECT_EQ(Flush(cmd, handle).error, 0);
        EXPECT_EQ(Release(cmd, handle).error, 0);
        Settle();
    }
};

TEST_F(Protocol, LookupsOfOneDirectoryMayRunSideBySide) {
    EXPECT_NE(init_.flags & FUSE_PARALLEL_DIROPS, 0U);
}

TEST_F(Protocol, HelloSaysWhatTheFileSystemWants) {
    EXPECT_EQ(init_.major, 7U);
    EXPECT_EQ(init_.flags & FUSE_WRITEBACK_CACHE, 0U);
    EXPECT_NE(init_.flags & FUSE_DO_READDIRPLUS, 0U);
    EXPECT_NE(init_.flags & FUSE_AUTO_INVAL_DATA, 0U);
    EXPECT_NE(init_.flags & FUSE_ATOMIC_O_TRUNC, 0U);  // OPEN carries O_TRUNC
    EXPECT_EQ(init_.flags & FUSE_POSIX_LOCKS, 0U);     // locks stay on this machine
    EXPECT_EQ(init_.flags & FUSE_FLOCK_LOCKS, 0U);
    EXPECT_EQ(init_.max_background, 64U);
    EXPECT_EQ(init_.congestion_threshold, 48U);
    EXPECT_EQ(init_.max_write, 1U << 20);
}

TEST_F(Protocol, WhatAKernelDoesNotOfferIsNotAskedOfIt) {
    kernel_->Close();
    Down();
    hello_ = false;
    SetUp();
    const fuse_init_out init = kernel_->Init(FUSE_ASYNC_READ | FUSE_BIG_WRITES, 31);
    EXPECT_EQ(init.flags & (FUSE_DO_READDIRPLUS | FUSE_AUTO_INVAL_DATA | FUSE_WRITEBACK_CACHE), 0U);
    EXPECT_EQ(kernel_->Ask(FUSE_STATFS, 1).error, 0);
}

TEST_F(Protocol, AParkedReadHoldsNobodyUpAndAnInterruptFreesItOnce) {
    MakeBox();
    Submit("sleep 1000");
    const std::uint64_t wait = Walk("/box/events/1/wait");
    const std::uint64_t handle = Open(wait, O_RDONLY);
    const std::uint64_t read = SendWait(wait, handle);
    AwaitParked(1);
    EXPECT_EQ(Cat("/box/events/1/status"), "queued\n");
    EXPECT_EQ(kernel_->Look(read), std::nullopt);
    kernel_->Interrupt(read);
    EXPECT_EQ(kernel_->Await(read).error, EINTR);
    kernel_->Interrupt(read);  // of nobody
    EXPECT_EQ(kernel_->Ask(FUSE_STATFS, 1).error, 0);
    EXPECT_EQ(Release(wait, handle).error, 0);
}

TEST_F(Protocol, MoreWaitersThanThreadsDoNotStopTheMount) {
    MakeBox();
    Submit("sleep 1000");
    const std::uint64_t wait = Walk("/box/events/1/wait");
    const std::uint64_t handle = Open(wait, O_RDONLY);
    std::vector<std::uint64_t> reads;
    for (int i = 0; i < 50; ++i)
        reads.push_back(SendWait(wait, handle));
    AwaitParked(50);
    EXPECT_EQ(Cat("/box/status"), "ready\n");
    for (std::size_t i = 0; i < reads.size(); i += 2)
        kernel_->Interrupt(reads[i]);
    for (std::size_t i = 0; i < reads.size(); i += 2)
        EXPECT_EQ(kernel_->Await(reads[i]).error, EINTR);
    supervisor().Run(1);
    std::string all;
    for (std::size_t i = 1; i < reads.size(); i += 2)
        all += kernel_->Await(reads[i]).body;
    EXPECT_EQ(all, "exited 0\n");  // one reader at a time gets the text, the others its end
    EXPECT_EQ(Release(wait, handle).error, 0);
}

TEST_F(Protocol, AnInterruptBeforeTheRequestOfItFreesItAsSoonAsItIsParked) {
    MakeBox();
    Submit("sleep 1000");
    const std::uint64_t wait = Walk("/box/events/1/wait");
    const std::uint64_t handle = Open(wait, O_RDONLY);
    for (int i = 0; i < 20; ++i) {
        const std::uint64_t read = SendWait(wait, handle);
        kernel_->Interrupt(read);  // another thread may have it first
        EXPECT_EQ(kernel_->Await(read).error, EINTR);
    }
    EXPECT_EQ(Release(wait, handle).error, 0);
}

TEST_F(Protocol, AnswersComeInTheOrderTheyAreKnown) {
    MakeBox();
    Submit("first");
    Submit("second");
    const std::uint64_t one = Walk("/box/events/1/wait");
    const std::uint64_t two = Walk("/box/events/2/wait.1000");
    const std::uint64_t first = Open(one, O_RDONLY);
    const std::uint64_t second = Open(two, O_RDONLY);
    const std::uint64_t slow = SendWait(one, first);
    const std::uint64_t fast = SendWait(two, second);
    AwaitParked(2);
    mount_->Box("box")->commands().Signal(EventNumber{2}, 15, [](const Status&) {});
    EXPECT_EQ(kernel_->Await(fast).body.substr(0, 7), "refused");
    EXPECT_EQ(kernel_->Look(slow), std::nullopt);
    supervisor().Run(1);
    EXPECT_EQ(kernel_->Await(slow).body, "exited 0\n");
    EXPECT_EQ(Release(one, first).error, 0);
    EXPECT_EQ(Release(two, second).error, 0);
}

TEST_F(Protocol, AnInterruptedChangeOfTheSandboxIsEintrAndItsLateAnswerNothing) {
    MakeBox();
    const std::uint64_t work = Walk("/box/fs/work");
    files().SetAnswers(FakeFiles::Answers::kHeld);
    const std::uint64_t mkdir =
        kernel_->Send(FUSE_MKDIR, work, Pack(fuse_mkdir_in{0755, 022}) + Name("d"));
    AwaitParked(1);
    while (files().Held().empty())
        (void)world_.loop.Run();
    kernel_->Interrupt(mkdir);
    EXPECT_EQ(kernel_->Await(mkdir).error, EINTR);
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    files().ReleaseAll();
    Settle();
    EXPECT_EQ(Lookup(work, "d").error, 0);  // what was sent is not pretended away
}

TEST_F(Protocol, DestroyIsAnswered) {
    MakeBox();
    lookups_.clear();  // at unmount counts drop without FORGET
    EXPECT_EQ(kernel_->Ask(FUSE_DESTROY, 0).error, 0);
    EXPECT_EQ(kernel_->Close(), 0);
    Down();
}

TEST_F(Protocol, AKernelThatGoesAwayWithRequestsParkedEndsTheSessionCleanly) {
    MakeBox();
    Submit("sleep 1000");
    const std::uint64_t wait = Walk("/box/events/1/wait");
    const std::uint64_t handle = Open(wait, O_RDONLY);
    const std::uint64_t work = Walk("/box/fs/work");
    files().SetAnswers(FakeFiles::Answers::kHeld);
    for (int i = 0; i < 10; ++i) {
        (void)SendWait(wait, handle);
        (void)kernel_->Send(FUSE_LOOKUP, work, Name("a"));
        (void)kernel_->Send(FUSE_MKDIR, work, Pack(fuse_mkdir_in{0755, 022}) + Name("d"));
    }
    AwaitParked(30);
    EXPECT_EQ(kernel_->Close(), 0);
    Down();  // everybody who waits is answered into nowhere
}

TEST_F(Protocol, AKernelThatGoesAwayBeforeHelloEndsTheSessionCleanly) {
    kernel_->Close();
    Down();
    hello_ = false;
    SetUp();
    EXPECT_EQ(kernel_->Close(), 0);
    Down();
}

TEST_F(Protocol, UnmountingAnswersWhoWaitsWhileTheKernelIsStillThere) {
    MakeBox();
    Submit("sleep 1000");
    const std::uint64_t wait = Walk("/box/events/1/wait");
    const std::uint64_t handle = Open(wait, O_RDONLY);
    const std::uint64_t read = SendWait(wait, handle);
    AwaitParked(1);
    mount_->fs().FailParked();
    EXPECT_EQ(kernel_->Await(read).error, ENOTCONN);
    EXPECT_EQ(Release(wait, handle).error, 0);
}

TEST_F(Protocol, APacketTooShortForARequestEndsTheSessionAndNotTheProcess) {
    MakeBox();
    lookups_.clear();
    kernel_->SendRaw("short");
    const int code = kernel_->Close();  // another thread may have seen the end first
    EXPECT_TRUE(code == -EIO || code == 0) << code;
    Down();
}

}  // namespace
}  // namespace sbxfs::testing
