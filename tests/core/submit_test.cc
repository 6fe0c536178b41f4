// The submit rule of contract 4, to the letter: when bytes written to `cmd` become a command, and when
// they never do.
#include <fcntl.h>
#include <signal.h>

#include <array>
#include <atomic>
#include <thread>

#include "tests/support/mount_test.h"
#include "tests/support/processes.h"

namespace sbxfs::testing {
namespace {

using Names = std::vector<std::string>;

class Cmd : public MountTest {
 protected:
    void SetUp() override {
        MountTest::SetUp();
        MakeBox();
    }
    Names Events() { return me().Events("/box"); }
    std::string Script(int n) { return me().Cat("/box/events/" + std::to_string(n) + "/cmd"); }
    std::string StatusOf(int n) { return me().Cat("/box/events/" + std::to_string(n) + "/status"); }
    Client::FilePtr OpenCmd(int flags = O_WRONLY | O_TRUNC) { return me().Open("/box/cmd", flags); }
};

TEST_F(Cmd, WhatIsWrittenIsBufferedUntilTheOpenerCloses) {
    const auto file = OpenCmd();
    EXPECT_EQ(file->Write("echo a"), 0);
    EXPECT_EQ(Events(), Names{});
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(Events(), (Names{"1", "latest"}));
    EXPECT_EQ(Script(1), "echo a");
}

TEST_F(Cmd, TheEmptyFlushOfAShellRedirectionIsNothing) {
    EXPECT_EQ(me().Echo("echo a\n", "/box/cmd"), 0);
    EXPECT_EQ(Events(), (Names{"1", "latest"}));
    EXPECT_EQ(Script(1), "echo a\n");
}

TEST_F(Cmd, SeveralWritesAreOneCommand) {
    const auto file = OpenCmd();
    EXPECT_EQ(file->Write("echo a\n"), 0);
    EXPECT_EQ(file->Write("echo b\n"), 0);
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(Script(1), "echo a\necho b\n");
    EXPECT_EQ(Events().size(), 2U);
}

TEST_F(Cmd, OffsetsAreIgnored) {
    const auto file = OpenCmd();
    EXPECT_EQ(file->WriteAt(1000, "echo a\n"), 0);
    EXPECT_EQ(file->WriteAt(0, "echo b\n"), 0);
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(Script(1), "echo a\necho b\n");
}

TEST_F(Cmd, EmptyOrBlankIsNoCommandAndTakesNoNumber) {
    EXPECT_EQ(OpenCmd()->Close(), 0);
    EXPECT_EQ(me().Echo("", "/box/cmd"), 0);
    EXPECT_EQ(me().Echo(" \n\t\r\n", "/box/cmd"), 0);
    EXPECT_EQ(Events(), Names{});
    EXPECT_EQ(me().Echo("true", "/box/cmd"), 0);
    EXPECT_EQ(Events(), (Names{"1", "latest"}));
}

TEST_F(Cmd, FlushesOfChildrenThatInheritedTheDescriptorAreNothing) {
    ChildProcess child;
    const auto file = OpenCmd();
    EXPECT_EQ(file->Write("a\n"), 0);
    EXPECT_EQ(file->FlushAs(child.pid()), 0);
    EXPECT_EQ(file->Write("b\n"), 0);
    EXPECT_EQ(file->FlushAs(child.pid()), 0);
    EXPECT_EQ(Events(), Names{});
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(Script(1), "a\nb\n");
    EXPECT_EQ(Events().size(), 2U);
}

TEST_F(Cmd, AnyThreadOfTheOpenerMayClose) {
    std::atomic<pid_t> tid{0};
    std::atomic<bool> done{false};
    std::thread thread([&] {
        tid = ::gettid();
        tid.notify_all();
        done.wait(false);
    });
    tid.wait(0);
    const auto file = OpenCmd();
    EXPECT_EQ(file->Write("a"), 0);
    EXPECT_EQ(file->FlushAs(tid), 0);
    EXPECT_EQ(Script(1), "a");
    done = true;
    done.notify_all();
    thread.join();
}

TEST_F(Cmd, EachCloseOfADescriptorWithNewBytesIsACommand) {
    const auto file = OpenCmd();
    EXPECT_EQ(file->Write("echo a\n"), 0);
    EXPECT_EQ(file->Flush(), 0);  // of the duplicate a shell makes for >&3
    EXPECT_EQ(file->Flush(), 0);
    EXPECT_EQ(file->Write("echo b\n"), 0);
    EXPECT_EQ(file->Flush(), 0);
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(Script(1), "echo a\n");
    EXPECT_EQ(Script(2), "echo b\n");
    EXPECT_EQ(Events(), (Names{"1", "2", "latest"}));
}

TEST_F(Cmd, FsyncSubmitsAndTheCloseAfterItIsNothing) {
    const auto file = OpenCmd();
    EXPECT_EQ(file->Write("echo a\n"), 0);
    EXPECT_EQ(file->Fsync(), 0);
    EXPECT_EQ(Script(1), "echo a\n");
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(Events(), (Names{"1", "latest"}));
}

TEST_F(Cmd, TheNumberIsReadBackOnTheSameHandle) {
    EXPECT_EQ(me().Echo("first", "/box/cmd"), 0);
    const auto file = OpenCmd(O_RDWR);
    EXPECT_EQ(file->Write("make\n"), 0);
    EXPECT_EQ(file->Read(), "2\n");  // at offset 5: offsets mean nothing
    EXPECT_EQ(file->Read(), "");
    EXPECT_EQ(Script(2), "make\n");
    EXPECT_EQ(file->Write("test\n"), 0);
    EXPECT_EQ(file->Read(), "3\n");
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(Events().size(), 4U);
}

TEST_F(Cmd, TheNumberCanBeReadByteByByte) {
    const auto file = OpenCmd(O_RDWR);
    EXPECT_EQ(file->Write("make\n"), 0);
    EXPECT_EQ(file->Read(1), "1");
    EXPECT_EQ(file->Read(1), "\n");
    EXPECT_EQ(file->Read(1), "");
}

TEST_F(Cmd, ReadingAHandleThatWroteNothingIsAtItsEnd) {
    EXPECT_EQ(me().Cat("/box/cmd"), "");
    EXPECT_EQ(OpenCmd(O_RDWR)->Read(), "");
    EXPECT_EQ(Events(), Names{});
}

TEST_F(Cmd, TheLastCloseSubmitsWhatNoFlushDid) {
    ChildProcess child;
    const auto file = OpenCmd();
    EXPECT_EQ(file->Write("a"), 0);
    EXPECT_EQ(file->FlushAs(child.pid()), 0);
    EXPECT_EQ(file->Release(), 0);
    EXPECT_EQ(Script(1), "a");
}

TEST_F(Cmd, WhereTheCallerCannotBeSeenOnlyFsyncReadAndLastCloseSubmit) {
    Client stranger(mount(), 0);
    const auto file = stranger.Open("/box/cmd", O_RDWR);
    EXPECT_EQ(file->Write("a"), 0);
    EXPECT_EQ(file->Flush(), 0);
    EXPECT_EQ(Events(), Names{});
    EXPECT_EQ(file->Write("b"), 0);
    EXPECT_EQ(file->Read(), "1\n");
    EXPECT_EQ(Script(1), "ab");
    EXPECT_EQ(file->Write("c"), 0);
    EXPECT_EQ(file->Fsync(), 0);
    EXPECT_EQ(Script(2), "c");
    EXPECT_EQ(file->Write("d"), 0);
    EXPECT_EQ(file->Flush(), 0);
    EXPECT_EQ(file->Release(), 0);
    EXPECT_EQ(Script(3), "d");
}

TEST_F(Cmd, NothingIsSubmittedWhenTheOpenerWasKilledBeforeItClosed) {
    ChildProcess opener;
    Client they(mount(), opener.pid());
    const auto file = they.Open("/box/cmd", O_WRONLY);
    EXPECT_EQ(file->Write("rm -rf /data/ol"), 0);
    opener.Kill(SIGKILL);
    EXPECT_EQ(file->Flush(), 0);
    EXPECT_EQ(file->Release(), 0);
    EXPECT_EQ(Events(), Names{});
    const std::string line = LastError();
    EXPECT_NE(line.find("pid " + std::to_string(opener.pid()) + " /box/cmd ECANCELED"),
              std::string::npos)
        << line;
    EXPECT_NE(line.find("killed before it closed the file; nothing was submitted"),
              std::string::npos);
}

TEST_F(Cmd, AHandleWhoseOpenerWasKilledTakesNothingMore) {
    ChildProcess opener;
    Client they(mount(), opener.pid());
    const auto file = they.Open("/box/cmd", O_WRONLY);
    EXPECT_EQ(file->Write("a"), 0);
    opener.Kill(SIGTERM);
    EXPECT_EQ(file->Flush(), 0);
    EXPECT_EQ(file->Write("b"), ECANCELED);  // of a child that lives on with the descriptor
    EXPECT_EQ(file->Fsync(), ECANCELED);
    EXPECT_EQ(file->Release(), 0);
    EXPECT_EQ(Events(), Names{});
}

TEST_F(Cmd, AnOpenerThatExitsWithoutClosingSubmits) {
    ChildProcess opener;
    Client they(mount(), opener.pid());
    const auto file = they.Open("/box/cmd", O_WRONLY);
    EXPECT_EQ(file->Write("a"), 0);
    opener.Exit();
    EXPECT_EQ(file->Flush(), 0);
    EXPECT_EQ(Script(1), "a");
}

TEST_F(Cmd, AnOpenerKilledAfterAllWasSubmittedIsNoRefusal) {
    ChildProcess opener;
    Client they(mount(), opener.pid());
    const auto file = they.Open("/box/cmd", O_WRONLY);
    EXPECT_EQ(file->Write("a"), 0);
    EXPECT_EQ(file->Flush(), 0);
    opener.Kill(SIGKILL);
    EXPECT_EQ(file->Flush(), 0);
    EXPECT_EQ(file->Release(), 0);
    EXPECT_EQ(Events(), (Names{"1", "latest"}));
    EXPECT_EQ(LastError(), "");
}

TEST_F(Cmd, AScriptAboveTheLimitIsEfbigAndNothingOfItIsSubmitted) {
    const std::string mebibyte(1U << 20, 'x');
    const auto fits = OpenCmd();
    EXPECT_EQ(fits->Write(mebibyte), 0);
    EXPECT_EQ(fits->Close(), 0);
    EXPECT_EQ(Script(1), mebibyte);
    const auto file = OpenCmd();
    EXPECT_EQ(file->Write(mebibyte), 0);
    EXPECT_EQ(file->Write("x"), EFBIG);
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(Events(), (Names{"1", "latest"}));
}

TEST_F(Cmd, ANulByteIsEinvalWhereverItIs) {
    const auto file = OpenCmd();
    EXPECT_EQ(file->Write("echo a\n"), 0);
    EXPECT_EQ(file->Write(std::string_view("echo \0b", 7)), EINVAL);
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(Events(), Names{});
    EXPECT_NE(LastError().find("NUL byte; nothing was submitted"), std::string::npos);
}

TEST_F(Cmd, AHandleWhoseWriteWasRefusedSubmitsNothingAtAll) {
    const auto file = OpenCmd(O_RDWR);
    EXPECT_EQ(file->Write("echo a\n"), 0);
    EXPECT_EQ(file->Write(std::string_view("\0", 1)), EINVAL);
    EXPECT_EQ(file->Write("echo b\n"), EINVAL);
    EXPECT_EQ(file->Fsync(), EINVAL);
    EXPECT_EQ(file->Read(), "<EINVAL>");
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(Events(), Names{});
}

TEST_F(Cmd, AnEndedSandboxIsEhostdownAtOpenAndAtTheFirstWrite) {
    const auto before = OpenCmd();
    provider().SetHealth({Liveness::kEnded, "gone"});
    machine().SetAttaches(FakeMachine::Answers::kHeld);
    machine().Cut();
    Settle();
    machine().Cut();
    Settle();
    EXPECT_EQ(me().Cat("/box/status"), "failed\n");
    EXPECT_EQ(OpenCmd()->error(), EHOSTDOWN);
    EXPECT_EQ(before->Write("a"), EHOSTDOWN);
    EXPECT_EQ(before->Close(), 0);
    EXPECT_EQ(me().Open("/box/cmd", O_RDONLY)->error(), 0);
}

TEST_F(Cmd, WhatWasWrittenBeforeTheSandboxEndedIsRefusedAsAnEventNotLost) {
    const auto file = OpenCmd();
    EXPECT_EQ(file->Write("a"), 0);
    provider().SetHealth({Liveness::kEnded, "gone"});
    machine().SetAttaches(FakeMachine::Answers::kHeld);
    machine().Cut();
    Settle();
    machine().Cut();
    Settle();
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(StatusOf(1), "refused\n");
    EXPECT_NE(me().Cat("/box/events/1/error").find("never started: gone"), std::string::npos);
}

TEST_F(Cmd, ALaunchingSandboxTakesCommands) {
    provider().SetLaunches(FakeProvider::Answers::kHeld);
    MakeBox("new");
    EXPECT_EQ(me().Echo("true", "/new/cmd"), 0);
    EXPECT_EQ(me().Echo("true", "/new/run/t"), 0);
    EXPECT_EQ(me().Cat("/new/events/1/status"), "queued\n");
    provider().FinishLaunch();
    Settle();
    EXPECT_EQ(supervisor("new").starts(), (std::vector<int>{1, 2}));
}

class ShortQueue : public Cmd {
 protected:
    ShortQueue() { setup_.limits.queue = 2; }
};

TEST_F(ShortQueue, AFullQueueIsEagainAtTheFirstWriteAndAPlaceIsFreeAfterAnEnd) {
    EXPECT_EQ(me().Echo("a", "/box/cmd"), 0);
    const auto second = OpenCmd();
    EXPECT_EQ(second->Write("b"), 0);  // has its place now
    const auto third = OpenCmd();
    EXPECT_EQ(third->Write("c"), EAGAIN);
    EXPECT_EQ(me().Create("/box/run/t", O_WRONLY)->error(), EAGAIN);
    EXPECT_EQ(second->Close(), 0);
    EXPECT_EQ(me().Echo("c", "/box/cmd"), EAGAIN);
    Settle();
    supervisor().Run(1);
    EXPECT_EQ(me().Echo("c", "/box/cmd"), 0);
    EXPECT_EQ(Events(), (Names{"1", "2", "3", "latest"}));
}

TEST_F(ShortQueue, AHandleThatIsClosedUnusedGivesItsPlaceBack) {
    for (int i = 0; i < 5; ++i) {
        const auto file = OpenCmd();
        EXPECT_EQ(file->Write(" \n"), 0);
        EXPECT_EQ(file->Close(), 0);
        EXPECT_EQ(me().Create("/box/run/t", O_WRONLY)->Close(), 0);
        const auto refused = OpenCmd();
        EXPECT_EQ(refused->Write(std::string_view("\0", 1)), EINVAL);
        EXPECT_EQ(refused->Close(), 0);
    }
    EXPECT_EQ(Events(), Names{});
}

TEST_F(ShortQueue, AnIdInCmdJsonTakesNoSecondPlace) {
    EXPECT_EQ(me().Echo("a", "/box/cmd"), 0);
    EXPECT_EQ(me().Echo("{\"cmd\": \"true\", \"id\": \"t1\"}", "/box/cmd.json"), 0);
    EXPECT_EQ(Events(), (Names{"1", "2", "t1", "latest"}));
}

class FullDisk : public Cmd {
 protected:
    FullDisk() { setup_.limits.script = std::size_t{1} << 60; }  // more than any disk has room for
};

TEST_F(FullDisk, NoRoomInTheJournalIsEnospcAtTheFirstWrite) {
    const auto file = OpenCmd();
    EXPECT_EQ(file->Write("a"), ENOSPC);
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(me().Create("/box/run/t", O_WRONLY)->error(), ENOSPC);
    EXPECT_EQ(Events(), Names{});
    EXPECT_NE(LastError().find("nearly full"), std::string::npos);
}

TEST_F(Cmd, AcceptedMeansInTheJournal) {
    world_.disk.Hold();
    const auto file = OpenCmd();
    (void)file->StartWrite("a")->Await();
    const auto flush = file->StartFlush(::getpid());
    world_.disk.AwaitHeld();
    EXPECT_FALSE(flush->answered());
    (void)world_.loop.Run();
    EXPECT_TRUE(supervisor().starts().empty());
    world_.disk.Release();
    EXPECT_EQ(me().FinishCode(flush), 0);
    Settle();
    EXPECT_EQ(supervisor().starts(), std::vector<int>{1});
}

TEST_F(Cmd, AJournalThatFailsAtCloseIsHeardThereAndNothingRuns) {
    const auto file = OpenCmd();
    EXPECT_EQ(file->Write("a"), 0);
    world_.disk.Fail(FaultyDisk::Fault::kBroken);
    EXPECT_EQ(file->Close(), EIO);
    world_.disk.Heal();
    EXPECT_EQ(Events(), Names{});
    Settle();
    EXPECT_TRUE(supervisor().starts().empty());
    EXPECT_EQ(me().Echo("b", "/box/cmd"), 0);
    EXPECT_EQ(Script(2), "b");  // the lost number is not given twice
}

TEST_F(Cmd, AJournalThatFailsAtTheLastCloseIsInLastError) {
    const auto file = OpenCmd();
    EXPECT_EQ(file->Write("a"), 0);
    world_.disk.Fail(FaultyDisk::Fault::kBroken);
    EXPECT_EQ(file->Release(), 0);
    world_.disk.Heal();
    EXPECT_NE(LastError().find("/box/cmd EIO"), std::string::npos);
}

TEST_F(Cmd, NumbersGoOnAfterARestart) {
    EXPECT_EQ(me().Echo("a", "/box/cmd"), 0);
    EXPECT_EQ(me().Echo("b", "/box/cmd"), 0);
    Settle();
    supervisor().Run(1);
    Settle();
    EXPECT_EQ(me().Rmdir("/box/events/1"), 0);
    KillAndStart();
    EXPECT_EQ(me().Echo("c", "/box/cmd"), 0);
    EXPECT_EQ(Events(), (Names{"2", "3", "latest"}));
}

TEST_F(Cmd, TheNewestNumberIsNotUsedAgainAlsoWhenItsEventIsForgotten) {
    EXPECT_EQ(me().Echo("a", "/box/cmd"), 0);
    Settle();
    supervisor().Run(1);
    Settle();
    EXPECT_EQ(me().Rmdir("/box/events/1"), 0);
    KillAndStart();
    EXPECT_EQ(me().Echo("c", "/box/cmd"), 0);
    EXPECT_EQ(Events(), (Names{"2", "latest"}));
}

// A handle shared by several threads or processes: writes, reads and flushes come together, since the
// kernel only serialises writes. Whatever the interleaving, no byte is lost or submitted twice.
TEST_F(Cmd, AHandleUsedBySeveralThreadsAtOnceLosesNothing) {
    const auto file = OpenCmd(O_RDWR);
    constexpr int kWrites = 300;
    std::atomic<bool> writing{true};
    std::vector<RecordingPtr> answers;
    std::vector<RecordingPtr> syncs;
    std::thread writer([&] {
        for (int i = 0; i < kWrites; ++i) {
            answers.push_back(file->StartWrite("line\n"));
            if (i % 50 == 49) answers.back()->Await();
        }
        writing = false;
    });
    std::thread syncer([&] {
        while (writing) {
            syncs.push_back(file->StartFsync());
            (void)syncs.back()->Await();
        }
    });
    writer.join();
    syncer.join();
    EXPECT_EQ(file->Close(), 0);
    for (const auto& answer : answers)
        EXPECT_EQ(me().FinishCode(answer), 0);
    for (const auto& sync : syncs)
        EXPECT_EQ(me().FinishCode(sync), 0);
    std::string all;
    for (const std::string& name : Events()) {
        if (name != "latest") all += me().Cat("/box/events/" + name + "/cmd");
    }
    EXPECT_EQ(all.size(), kWrites * 5U);
}

// Commands of one lane start in the order of their numbers, however their commits are mixed.
TEST_F(Cmd, ConcurrentWritersAreStartedInTheOrderOfTheirNumbers) {
    supervisor().RunByItself(true);
    constexpr int kEach = 60;
    std::atomic<int> running{4};
    std::array<std::thread, 4> writers;
    for (std::thread& writer : writers) {
        writer = std::thread([&] {
            for (int i = 0; i < kEach; ++i) {
                const std::shared_ptr<Commands> commands =
                    mount().Box("box")->commands().shared_from_this();
                Result<Commands::Slot> slot = commands->Reserve("");
                if (!slot) continue;
                commands->Submit(std::move(*slot), {}, "true", [](const Result<EventNumber>&) {});
            }
            --running;
        });
    }
    while (running > 0)
        (void)world_.loop.Run();
    for (std::thread& writer : writers)
        writer.join();
    Settle();
    const std::vector<int>& starts = supervisor().starts();
    EXPECT_EQ(starts.size(), 4U * kEach);
    EXPECT_TRUE(std::is_sorted(starts.begin(), starts.end()));
}

}  // namespace
}  // namespace sbxfs::testing
