// Changes whose answer was lost with the link, and open files over a cut (contract 5, "link down").
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <functional>

#include "tests/support/mount_test.h"

namespace sbxfs::testing {
namespace {

using std::chrono::seconds;

class LinkCut : public MountTest {
 protected:
    enum class Fate { kArrived, kLost };

    void SetUp() override {
        MountTest::SetUp();
        MakeBox();
        Settle();
        files().PutFile("/work/a", "hello");
        files().PutFile("/work/b", "world");
        files().PutDir("/work/d");
        files().PutDir("/work/e");
        work_ = me().InoOf("/box/fs/work");
        a_ = me().InoOf("/box/fs/work/a");
        Advance(seconds(5));
    }
    // Starts a request; the link is cut when it has arrived but nobody has heard, or before it arrived.
    template <class R>
    RecordingPtr CutDuring(Fate fate, const std::function<void(R)>& request) {
        files().SetAnswers(FakeFiles::Answers::kHeld);
        const RecordingPtr recording = me().Ask<R>("change", work_, "x", request);
        (void)world_.loop.Run();
        EXPECT_FALSE(files().Held().empty());
        files().SetAnswers(FakeFiles::Answers::kAtOnce);
        if (fate == Fate::kArrived) files().ReleaseAll();
        machine().Cut();
        Settle();
        return recording;
    }
    int CodeAfterCut(Fate fate, const std::function<void(EntryReply)>& request) {
        return me().FinishCode(CutDuring<EntryReply>(fate, request));
    }
    int CodeOf(Fate fate, const std::function<void(EmptyReply)>& request) {
        return me().FinishCode(CutDuring<EmptyReply>(fate, request));
    }
    std::string NextCommand() {
        EXPECT_EQ(me().Echo("x", "/box/cmd"), 0);
        Settle();
        if (supervisor().Knows(++commands_)) supervisor().Run(commands_);
        Settle();
        return me().Cat("/box/events/" + std::to_string(commands_) + "/status");
    }

    Ino work_{};
    Ino a_{};
};

TEST_F(LinkCut, AChangeOfANameIsDoneOnceWhereverTheLinkWasCut) {
    for (const Fate fate : {Fate::kArrived, Fate::kLost}) {
        const std::string to = fate == Fate::kArrived ? "1" : "2";
        SCOPED_TRACE(to);
        FileSystem& fs = me().fs();
        EXPECT_EQ(CodeAfterCut(fate,
                               [&](EntryReply reply) {
                                   fs.MakeDir(work_, "m" + to, 0755, std::move(reply));
                               }),
                  0);
        EXPECT_TRUE(files().Exists("/work/m" + to));
        EXPECT_EQ(CodeAfterCut(fate,
                               [&](EntryReply reply) {
                                   fs.Symlink(work_, "s" + to, "a", std::move(reply));
                               }),
                  0);
        EXPECT_EQ(
            CodeAfterCut(fate,
                         [&](EntryReply reply) { fs.Link(a_, work_, "h" + to, std::move(reply)); }),
            0);
        EXPECT_EQ(CodeAfterCut(fate,
                               [&](EntryReply reply) {
                                   fs.MakeNode(work_, "n" + to, S_IFREG | 0640, std::move(reply));
                               }),
                  0);
        EXPECT_EQ(files().Stat("/work/n" + to)->mode, S_IFREG | 0640U);
        EXPECT_EQ(CodeOf(fate,
                         [&](EmptyReply reply) {
                             fs.Rename(work_, "n" + to, work_, "r" + to, 0, std::move(reply));
                         }),
                  0);
        EXPECT_TRUE(files().Exists("/work/r" + to));
        EXPECT_FALSE(files().Exists("/work/n" + to));
        EXPECT_EQ(CodeOf(fate,
                         [&](EmptyReply reply) {
                             fs.Unlink(work_, fate == Fate::kArrived ? "b" : "s1",
                                       std::move(reply));
                         }),
                  0);
        EXPECT_EQ(CodeOf(fate,
                         [&](EmptyReply reply) {
                             fs.RemoveDir(work_, fate == Fate::kArrived ? "d" : "e",
                                          std::move(reply));
                         }),
                  0);
    }
    EXPECT_FALSE(files().Exists("/work/b"));
    EXPECT_FALSE(files().Exists("/work/d"));
    EXPECT_FALSE(files().Exists("/work/e"));
    EXPECT_EQ(NextCommand(), "exited\n");
}

TEST_F(LinkCut, RefusalsStayRefusals) {
    FileSystem& fs = me().fs();
    EXPECT_EQ(
        CodeAfterCut(Fate::kArrived,
                     [&](EntryReply reply) { fs.MakeDir(work_, "a", 0755, std::move(reply)); }),
        EEXIST);
    EXPECT_EQ(CodeAfterCut(Fate::kLost,
                           [&](EntryReply reply) {
                               fs.MakeNode(work_, "a", S_IFREG | 0644, std::move(reply));
                           }),
              EEXIST);
    EXPECT_EQ(CodeOf(Fate::kArrived,
                     [&](EmptyReply reply) { fs.RemoveDir(work_, "a", std::move(reply)); }),
              ENOTDIR);
}

TEST_F(LinkCut, AWriteAtAnOffsetAndATruncationAreRepeated) {
    for (const Fate fate : {Fate::kArrived, Fate::kLost}) {
        const auto file = me().Open("/box/fs/work/a", O_RDWR);
        const Handle handle = file->opened().handle;
        const auto write = CutDuring<WrittenReply>(fate, [&](WrittenReply reply) {
            me().fs().Write(handle, 2, std::span<const char>("XY", 2), false, std::move(reply));
        });
        EXPECT_EQ(me().Finish(write).written, 2U);
        EXPECT_EQ(files().Content("/work/a").substr(0, 4), "heXY");
        const auto cut = CutDuring<AttrReply>(fate, [&](AttrReply reply) {
            AttrChange change;
            change.size = 4;
            me().fs().SetAttr(a_, change, handle, me().who(), std::move(reply));
        });
        EXPECT_EQ(me().Finish(cut).entry.attr.size, 4U);
    }
    EXPECT_EQ(files().Content("/work/a"), "heXY");
}

TEST_F(LinkCut, AnAppendIsMadeOnceTheSizeTells) {
    std::string expected = "hello";
    for (const Fate fate : {Fate::kArrived, Fate::kLost}) {
        const auto file = me().Open("/box/fs/work/a", O_WRONLY | O_APPEND);
        // The size is heard, the write is not.
        files().SetAnswers(FakeFiles::Answers::kHeld);
        const auto write = me().Ask<WrittenReply>("write", a_, "", [&](WrittenReply reply) {
            me().fs().Write(file->opened().handle, 0, std::span<const char>("++", 2), false,
                            std::move(reply));
        });
        (void)world_.loop.Run();
        ASSERT_EQ(files().Held().size(), 2U);
        files().Release();
        (void)world_.loop.Run();
        if (fate == Fate::kArrived) files().Release();
        files().SetAnswers(FakeFiles::Answers::kAtOnce);
        machine().Cut();
        Settle();
        EXPECT_EQ(me().Finish(write).written, 2U);
        expected += "++";
        EXPECT_EQ(files().Content("/work/a"), expected);
    }
}

TEST_F(LinkCut, AnAppendOfWhichNothingWasHeardIsReportedAndStopsTheNextCommand) {
    const auto file = me().Open("/box/fs/work/a", O_WRONLY | O_APPEND);
    files().SetAnswers(FakeFiles::Answers::kHeld);
    const auto write = me().Ask<WrittenReply>("write", a_, "", [&](WrittenReply reply) {
        me().fs().Write(file->opened().handle, 0, std::span<const char>("++", 2), false,
                        std::move(reply));
    });
    (void)world_.loop.Run();
    files().LoseAnswer(Error(Errno{EHOSTUNREACH}, "cut"));
    files().Release();
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    machine().Cut();
    Settle();
    EXPECT_EQ(me().Finish(write).error, ETIMEDOUT);
    EXPECT_NE(LastError().find("may or may not have been made"), std::string::npos);
    EXPECT_EQ(NextCommand(), "refused\n");
    EXPECT_NE(me().Cat("/box/events/1/error").find("run it again"), std::string::npos);
    EXPECT_EQ(NextCommand(), "exited\n");
}

TEST_F(LinkCut, AChangeOfWhichNobodyCanTellStopsTheNextCommandAlsoOfTheNextDaemon) {
    supervisor().others.resize(1);
    EXPECT_EQ(NextCommand(), "exited\n");  // from now on not quiet
    const auto lose = [this](const std::string& name) {
        const auto made = CutDuring<EntryReply>(Fate::kArrived, [&](EntryReply reply) {
            me().fs().MakeNode(work_, name, S_IFREG | 0644, std::move(reply));
        });
        EXPECT_EQ(me().Finish(made).error, ETIMEDOUT);
    };
    const auto next_life = [this] {
        Kill();
        Start();
        Settle();
        work_ = me().InoOf("/box/fs/work");
    };
    lose("one");
    next_life();
    EXPECT_EQ(NextCommand(), "refused\n");
    EXPECT_NE(me().Cat("/box/events/2/error").find("may or may not have been made"),
              std::string::npos);
    next_life();
    EXPECT_EQ(NextCommand(), "exited\n") << "one command, once";

    // Accepted and not yet begun when the daemon was killed.
    lose("two");
    machine().SetAttaches(FakeMachine::Answers::kHeld);
    machine().Cut();
    Settle();
    EXPECT_EQ(me().Echo("x", "/box/cmd"), 0);
    EXPECT_EQ(me().Echo("y", "/box/cmd"), 0);
    machine().SetAttaches(FakeMachine::Answers::kAtOnce);
    next_life();
    EXPECT_EQ(me().Cat("/box/events/4/status"), "refused\n");
    EXPECT_TRUE(supervisor().Knows(5));
    EXPECT_FALSE(supervisor().Knows(4));
}

TEST_F(LinkCut, AnEmptyFileThatOthersMayHaveMadeIsNotTakenForOurs) {
    supervisor().others.resize(1);
    EXPECT_EQ(NextCommand(), "exited\n");  // from now on not quiet
    const auto made = CutDuring<EntryReply>(Fate::kArrived, [&](EntryReply reply) {
        me().fs().MakeNode(work_, "lock", S_IFREG | 0644, std::move(reply));
    });
    EXPECT_EQ(me().Finish(made).error, ETIMEDOUT);
    EXPECT_EQ(NextCommand(), "refused\n");
}

TEST_F(LinkCut, WhatSomebodyElseMadeMeanwhileIsNotRemovedMovedOrTruncatedForOurs) {
    supervisor().others.resize(1);
    EXPECT_EQ(NextCommand(), "exited\n");  // from now on not quiet
    FileSystem& fs = me().fs();
    using Act = std::function<RecordingPtr()>;
    const auto arrived = [&](const std::string& path, const Act& act) {
        machine().SetAttaches(FakeMachine::Answers::kHeld);
        const RecordingPtr change = act();
        files().PutFile(path, "theirs");
        machine().SetAttaches(FakeMachine::Answers::kAtOnce);
        machine().Connect();
        Settle();
        EXPECT_EQ(me().Finish(change).error, ETIMEDOUT);
        EXPECT_EQ(files().Content(path), "theirs");
        EXPECT_EQ(NextCommand(), "refused\n");
    };
    arrived("/work/b", [&] {
        return CutDuring<EmptyReply>(
            Fate::kArrived, [&](EmptyReply reply) { fs.Unlink(work_, "b", std::move(reply)); });
    });
    files().PutFile("/work/log", "old");
    arrived("/work/log", [&] {
        return CutDuring<EmptyReply>(Fate::kArrived, [&](EmptyReply reply) {
            fs.Rename(work_, "log", work_, "log.1", 0, std::move(reply));
        });
    });
    EXPECT_EQ(files().Content("/work/log.1"), "old");
    arrived("/work/a", [&] {
        return CutDuring<AttrReply>(Fate::kArrived, [&](AttrReply reply) {
            AttrChange change;
            change.size = 0;
            fs.SetAttr(a_, change, Handle{}, me().who(), std::move(reply));
        });
    });
}

TEST_F(LinkCut, AnotherWritersLineOfTheSameLengthIsNotTakenForOurs) {
    supervisor().others.resize(1);
    EXPECT_EQ(NextCommand(), "exited\n");  // from now on not quiet
    const auto file = me().Open("/box/fs/work/a", O_WRONLY | O_APPEND);
    files().SetAnswers(FakeFiles::Answers::kHeld);
    const auto write = me().Ask<WrittenReply>("write", a_, "", [&](WrittenReply reply) {
        me().fs().Write(file->opened().handle, 0, std::span<const char>("++", 2), false,
                        std::move(reply));
    });
    (void)world_.loop.Run();
    files().Release();  // the size is heard
    (void)world_.loop.Run();
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    machine().SetAttaches(FakeMachine::Answers::kHeld);
    machine().Cut();
    Settle();
    // Into the file itself, as another writer there appends.
    files().Append("/work/a", "--");
    machine().Connect();
    Settle();
    EXPECT_EQ(me().Finish(write).error, ETIMEDOUT);
    EXPECT_EQ(NextCommand(), "refused\n");
}

TEST_F(LinkCut, OpenFilesGoOn) {
    const auto file = me().Open("/box/fs/work/a", O_RDWR);
    EXPECT_EQ(me().Rename("/box/fs/work/a", "/box/fs/work/moved"), 0);
    machine().Cut();
    Settle();
    EXPECT_EQ(file->Read(), "hello");
    EXPECT_EQ(file->WriteAt(0, "HELLO"), 0);
    EXPECT_EQ(file->Fsync(), 0);
    EXPECT_EQ(files().Content("/work/moved"), "HELLO");
}

TEST_F(LinkCut, OpenFilesWaitForTheSupervisorThatKnowsThemAgain) {
    const auto file = me().Open("/box/fs/work/a", O_RDONLY);
    machine().SetAttaches(FakeMachine::Answers::kHeld);
    machine().Cut();
    Settle();
    machine().ConnectFiles();
    const auto read = file->StartRead();
    Settle();
    EXPECT_FALSE(read->answered());
    machine().ConnectSupervisor();
    Settle();
    EXPECT_EQ(me().Finish(read).bytes, "hello");
}

TEST_F(LinkCut, AWriteThatTimedOutWaitingForItsFileIsNeverSent) {
    const auto file = me().Open("/box/fs/work/a", O_RDWR);
    machine().SetAttaches(FakeMachine::Answers::kHeld);
    machine().Cut();
    Settle();
    machine().ConnectFiles();
    const auto late = file->StartWrite("LATE!");
    Settle();
    Advance(seconds(31));
    EXPECT_EQ(me().Finish(late).error, ETIMEDOUT);
    machine().ConnectSupervisor();
    Settle();
    EXPECT_EQ(files().Content("/work/a"), "hello");
    EXPECT_EQ(file->WriteAt(0, "J"), 0);
    EXPECT_EQ(files().Content("/work/a"), "Jello");
    EXPECT_EQ(NextCommand(), "exited\n");
}

TEST_F(LinkCut, AnInterruptedWriteThatWaitsForItsFileIsNeverSent) {
    const auto file = me().Open("/box/fs/work/a", O_RDWR);
    machine().SetAttaches(FakeMachine::Answers::kHeld);
    machine().Cut();
    Settle();
    machine().ConnectFiles();
    const auto write = file->StartWrite("LATE!");
    Settle();
    mount_->context().lot.PostInterrupt(write->interrupt());
    EXPECT_EQ(write->Await().error, EINTR);
    machine().ConnectSupervisor();
    Settle();
    EXPECT_EQ(files().Content("/work/a"), "hello");
    EXPECT_EQ(NextCommand(), "exited\n");
}

TEST_F(LinkCut, AnOpenFileIsLookedAtAgainWhenTheSupervisorWouldNot) {
    const auto file = me().Open("/box/fs/work/a", O_RDONLY);
    const auto look = std::exchange(supervisor().look, {});
    machine().Cut();
    Settle();
    const auto read = file->StartRead();
    Settle();
    EXPECT_FALSE(read->answered());
    supervisor().look = look;
    Advance(seconds(1));
    EXPECT_EQ(me().Finish(read).bytes, "hello");
}

TEST_F(LinkCut, AFileThatIsAnotherOneIsStale) {
    const auto file = me().Open("/box/fs/work/a", O_RDONLY);
    const auto gone = me().Open("/box/fs/work/b", O_RDONLY);
    machine().SetAttaches(FakeMachine::Answers::kHeld);
    machine().Cut();
    Settle();
    files().Remove("/work/a");
    files().PutFile("/work/a", "hello");
    files().Remove("/work/b");
    machine().Connect();
    Settle();
    EXPECT_EQ(file->Read(), "<ESTALE>");
    EXPECT_EQ(gone->Read(), "<ESTALE>");
    EXPECT_EQ(file->Read(), "<ESTALE>");
}

TEST_F(LinkCut, AFileThatWasGivenTheSameInodeNumberIsStaleAndNotWrittenTo) {
    files().ForgetBirth("/work/b");
    const auto file = me().Open("/box/fs/work/a", O_RDWR);
    const auto ageless = me().Open("/box/fs/work/b", O_RDWR);
    machine().SetAttaches(FakeMachine::Answers::kHeld);
    machine().Cut();
    Settle();
    for (const std::string path : {"/work/a", "/work/b"})
        files().ReplaceReusingInode(path, "another");
    files().ForgetBirth("/work/b");
    machine().Connect();
    Settle();
    EXPECT_EQ(file->WriteAt(0, "XXXX"), ESTALE);
    EXPECT_EQ(ageless->WriteAt(0, "XXXX"), ESTALE);
    EXPECT_EQ(files().Content("/work/a"), "another");
    EXPECT_EQ(files().Content("/work/b"), "another");
}

TEST_F(LinkCut, AnUnchangedFileGoesOnAlsoWhereNobodyKnowsWhenItWasMade) {
    files().ForgetBirth("/work/a");
    const auto file = me().Open("/box/fs/work/a", O_RDONLY);
    machine().Cut();
    Settle();
    EXPECT_EQ(file->Read(), "hello");
}

TEST_F(LinkCut, AQuestionIsAskedAgain) {
    DropCaches();
    const auto look = CutDuring<EntryReply>(
        Fate::kArrived, [&](EntryReply reply) { me().fs().Lookup(work_, "a", std::move(reply)); });
    EXPECT_EQ(me().FinishCode(look), 0);
}

TEST_F(LinkCut, AChangeThatCannotBeCheckedInTimeIsReportedAndNotSentLater) {
    machine().SetAttaches(FakeMachine::Answers::kHeld);
    const auto made = CutDuring<EntryReply>(Fate::kLost, [&](EntryReply reply) {
        me().fs().MakeDir(work_, "m", 0755, std::move(reply));
    });
    Advance(seconds(6));
    EXPECT_EQ(me().Finish(made).error, ETIMEDOUT);
    machine().SetAttaches(FakeMachine::Answers::kAtOnce);
    machine().Connect();
    Settle();
    EXPECT_FALSE(files().Exists("/work/m"));
    EXPECT_EQ(NextCommand(), "refused\n");
}

}  // namespace
}  // namespace sbxfs::testing
