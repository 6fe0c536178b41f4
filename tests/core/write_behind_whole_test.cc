// Small new files that go to the supervisor as a whole: one message, told from others after a cut, and made by the server as
// soon as anybody waits for them.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/support/behind_test.h"

namespace sbxfs::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Names = std::vector<std::string>;

class BehindWhole : public Behind {
 protected:
    void SetUp() override {
        Behind::SetUp();
        supervisor().hello.stores = true;
        machine().CutSupervisor();
        Settle();
        machine().ConnectSupervisor();
        Settle();
        Learn("second");
        // That files there tell when they were made is known of the first.
        ASSERT_EQ(me().Echo("x", "/box/fs/work/earlier"), 0);
        Settle();
        ASSERT_EQ(supervisor().stores().size(), 0U);
    }
    // Written and closed here, and under way.
    void Write(const std::string& name, const std::string& text) {
        auto file = me().Create("/box/fs/work/" + name, O_WRONLY);
        ASSERT_EQ(file->error(), 0);
        ASSERT_EQ(file->Write(text), 0);
        EXPECT_EQ(file->Close(), 0);
        file.reset();
        Settle();
    }
    void ExpectWhole(const std::string& name, const std::string& text) {
        EXPECT_EQ(files().Content("/work/" + name), text);
        EXPECT_EQ(me().Cat("/box/fs/work/" + name), text);
        EXPECT_EQ(me().Cat("/box/error"), "");
    }
    void CutForAWhile() {
        machine().Cut();
        Advance(seconds(3));
    }
};

TEST_F(BehindWhole, AFileThatWasWrittenAndClosedIsOneMessage) {
    supervisor().HoldStores(true);
    Write("new", "content");
    EXPECT_EQ(me().Stat("/box/fs/work/new").size, 7U);
    EXPECT_EQ(supervisor().HeldStores(), Names{"/work/new"});
    EXPECT_EQ(files().Count("open /work/new"), 0U);
    supervisor().ReleaseStore();
    Settle();
    ExpectWhole("new", "content");
    EXPECT_EQ(files().OpenFiles(), 0U);
}

// As tar(1) and cp -a do at the end.
TEST_F(BehindWhole, ADirectoryKeepsTheTimeThatWasSetBehindItsFiles) {
    ASSERT_EQ(me().Mkdir("/box/fs/work/dir"), 0);
    Settle();
    supervisor().HoldStores(true);
    Write("dir/new", "content");
    ASSERT_EQ(supervisor().HeldStores(), Names{"/work/dir/new"});
    AttrChange change;
    change.mtime = SystemTime(seconds(1'000'000'000));
    EXPECT_EQ(me().Set("/box/fs/work/dir", change), 0);
    Settle();
    EXPECT_EQ(files().Count("setstat /work/dir"), 0U);
    supervisor().ReleaseStore();
    Settle();
    EXPECT_EQ(files().Count("setstat /work/dir"), 1U);
    EXPECT_EQ(files().Stat("/work/dir")->mtime, 1'000'000'000);
    EXPECT_EQ(me().Stat("/box/fs/work/dir").mtime, *change.mtime);
}

TEST_F(BehindWhole, AnEmptyFileIsOneMessage) {
    Write("new", "");
    EXPECT_EQ(supervisor().stores().size(), 1U);
    ExpectWhole("new", "");
}

TEST_F(BehindWhole, PiecesThatLieSideBySideAreOne) {
    {
        auto file = me().Create("/box/fs/work/new", O_WRONLY);
        ASSERT_EQ(file->WriteAt(0, "one "), 0);
        ASSERT_EQ(file->WriteAt(4, "two "), 0);
        ASSERT_EQ(file->WriteAt(8, "three"), 0);
        EXPECT_EQ(file->Close(), 0);
    }
    Settle();
    ASSERT_EQ(supervisor().stores().size(), 1U);
    ExpectWhole("new", "one two three");
}

TEST_F(BehindWhole, WhatHasHolesIsMadeByTheServer) {
    {
        auto file = me().Create("/box/fs/work/new", O_WRONLY);
        ASSERT_EQ(file->WriteAt(4, "two"), 0);
        EXPECT_EQ(file->Close(), 0);
    }
    Settle();
    EXPECT_EQ(supervisor().stores().size(), 0U);
    ExpectWhole("new", std::string("\0\0\0\0two", 7));
}

TEST_F(BehindWhole, ASaveIsOneRoundTrip) {
    supervisor().HoldStores(true);
    auto file = me().Create("/box/fs/work/old.tmp", O_WRONLY);
    ASSERT_EQ(file->Write("new content"), 0);
    const RecordingPtr sync = file->StartFsync();
    Settle();
    ASSERT_EQ(supervisor().HeldStores(), Names{"/work/old.tmp"});
    EXPECT_TRUE(supervisor().stores().back().sync);
    supervisor().ReleaseStore();
    EXPECT_EQ(me().FinishCode(sync), 0);
    EXPECT_EQ(file->Close(), 0);
    ASSERT_EQ(me().Rename("/box/fs/work/old.tmp", "/box/fs/work/old"), 0);
    Settle();
    ExpectWhole("old", "new content");
    EXPECT_EQ(files().Count("open /work/old.tmp"), 0U);
    EXPECT_EQ(files().OpenFiles(), 0U);
}

// Editors write under one temporary name again and again: the next file follows the rename in the same flight.
class BehindWholeMoved : public BehindWhole {
 protected:
    // What was saved is being moved, and the next one under way behind it.
    void SetUp() override {
        BehindWhole::SetUp();
        auto file = me().Create("/box/fs/work/old.tmp", O_WRONLY);
        ASSERT_EQ(file->Write("first"), 0);
        ASSERT_EQ(file->Fsync(), 0);
        EXPECT_EQ(file->Close(), 0);
        file.reset();
        supervisor().HoldRenames(true);
        supervisor().HoldStores(true);
        ASSERT_EQ(me().Rename("/box/fs/work/old.tmp", "/box/fs/work/old"), 0);
        BehindWhole::Write("old.tmp", "second");
        ASSERT_EQ(supervisor().HeldStores(), Names{"/work/old.tmp"});
        ASSERT_EQ(supervisor().renames().size(), 1U);
    }
    void GoOn() {
        supervisor().HoldRenames(false);
        supervisor().HoldStores(false);
    }
    void ExpectBoth() {
        ExpectWhole("old", "first");
        ExpectWhole("old.tmp", "second");
        ASSERT_EQ(me().Rename("/box/fs/work/old.tmp", "/box/fs/work/old"), 0);
        Settle();
        ExpectWhole("old", "second");
    }
};

TEST_F(BehindWholeMoved, TheNextSaveFollowsTheRename) {
    GoOn();
    supervisor().ReleaseRename();
    supervisor().ReleaseStore();
    Settle();
    ExpectBoth();
    EXPECT_EQ(files().Count("rename"), 0U);
}

TEST_F(BehindWholeMoved, OneThatWasNotMovedIsMovedAfterACut) {
    GoOn();
    CutForAWhile();
    ExpectBoth();
}

TEST_F(BehindWholeMoved, OneThatWasMovedUnheardIsFoundAfterACut) {
    supervisor().LoseRenameAnswer();
    GoOn();
    CutForAWhile();
    ExpectBoth();
}

TEST_F(BehindWholeMoved, OneThatWasMovedBeforeTheNextWasMadeIsFoundAfterACut) {
    supervisor().LoseRenameAnswer();
    supervisor().LoseStoreAnswer();
    GoOn();
    CutForAWhile();
    ExpectBoth();
}

// The supervisor alone has gone: the file that is to be moved is not taken for the one that comes behind it.
TEST_F(BehindWholeMoved, OneThatTheSupervisorDidNotMoveIsMovedByTheNext) {
    GoOn();
    machine().CutSupervisor();
    Settle();
    machine().ConnectSupervisor();
    Advance(seconds(3));
    ExpectBoth();
}

TEST_F(BehindWholeMoved, ARefusalIsTheServersAndIsReported) {
    GoOn();
    files().FailNext("move", Error(Errno{EACCES}, "no"));
    files().FailNext("rename", Error(Errno{EACCES}, "not yours"));
    supervisor().ReleaseRename();
    Settle();
    EXPECT_NE(me().Cat("/box/error").find("not yours"), std::string::npos);
    EXPECT_EQ(files().Content("/work/old"), "old");
    supervisor().ReleaseStore();
    Settle();
}

TEST_F(BehindWhole, ModeAndTimesTravelWithIt) {
    {
        auto file = me().Create("/box/fs/work/new", O_WRONLY);
        ASSERT_EQ(file->Write("content"), 0);
        AttrChange change;
        change.mode = 0640;
        change.mtime = change.atime = SystemTime(seconds(1034597431));
        const Ino ino = me().InoOf("/box/fs/work/new");
        ASSERT_EQ(me().SetAttr(ino, change), 0);
        EXPECT_EQ(file->Close(), 0);
    }
    Settle();
    ASSERT_EQ(supervisor().stores().size(), 1U);
    const auto stat = files().Stat("/work/new");
    ASSERT_TRUE(stat);
    EXPECT_EQ(stat->mode & 07777, 0640U);
    EXPECT_EQ(stat->mtime, 1034597431);
    EXPECT_EQ(files().Count("setstat /work/new"), 0U);
    ExpectWhole("new", "content");
}

TEST_F(BehindWhole, AWriteBehindTimesThatWereSetMovesThem) {
    {
        auto file = me().Create("/box/fs/work/new", O_WRONLY);
        ASSERT_EQ(file->Write("one "), 0);
        AttrChange change;
        change.mtime = change.atime = SystemTime(seconds(1034597431));
        const Ino ino = me().InoOf("/box/fs/work/new");
        ASSERT_EQ(me().SetAttr(ino, change), 0);
        ASSERT_EQ(file->WriteAt(4, "two"), 0);
        EXPECT_EQ(file->Close(), 0);
    }
    Settle();
    EXPECT_NE(files().Stat("/work/new")->mtime, 1034597431);
    ExpectWhole("new", "one two");
}

TEST_F(BehindWhole, AFileInANewDirectoryWaitsForThat) {
    Hold();
    ASSERT_EQ(me().Mkdir("/box/fs/work/d"), 0);
    Write("d/new", "content");
    EXPECT_EQ(supervisor().stores().size(), 0U);
    LetGo();
    EXPECT_EQ(supervisor().stores().size(), 1U);
    ExpectWhole("d/new", "content");
}

// The server works off its channel in order, and the supervisor another.
TEST_F(BehindWhole, AFileInThePlaceOfAnotherWaitsUntilThatHasGone) {
    Hold();
    ASSERT_EQ(me().Rename("/box/fs/work/old", "/box/fs/work/old~"), 0);
    Write("old", "new content");
    EXPECT_TRUE(IsHeld("rename"));
    EXPECT_EQ(supervisor().stores().size(), 0U);
    LetGo();
    ExpectWhole("old", "new content");
    ExpectWhole("old~", "old");
}

TEST_F(BehindWhole, WhatRemovesOrReplacesWaitsForIt) {
    supervisor().HoldStores(true);
    Write("old.tmp", "new content");
    ASSERT_EQ(me().Rename("/box/fs/work/old.tmp", "/box/fs/work/old"), 0);
    ASSERT_EQ(me().Unlink("/box/fs/work/earlier"), 0);
    Settle();
    EXPECT_EQ(files().Content("/work/old"), "old");
    EXPECT_TRUE(files().Exists("/work/earlier"));
    supervisor().ReleaseStore();
    Settle();
    ExpectWhole("old", "new content");
    EXPECT_FALSE(files().Exists("/work/earlier"));
}

TEST_F(BehindWhole, WhoWaitsForItHasItMadeAtOnce) {
    auto file = me().Create("/box/fs/work/new", O_WRONLY);
    ASSERT_EQ(file->Write("content"), 0);
    Settle();
    EXPECT_EQ(files().Count("open /work/new"), 0U);
    EXPECT_EQ(me().Cat("/box/fs/work/new"), "content");
    EXPECT_EQ(files().Content("/work/new"), "content");
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(supervisor().stores().size(), 0U);
}

TEST_F(BehindWhole, WhatReplacesAnotherFileDoesNotWaitForOneThatIsStillOpen) {
    const auto log = me().Create("/box/fs/work/log", O_WRONLY);
    ASSERT_EQ(log->Write("one "), 0);
    ASSERT_EQ(me().Unlink("/box/fs/work/old"), 0);
    Settle();
    EXPECT_FALSE(files().Exists("/work/old"));
    EXPECT_EQ(files().Content("/work/log"), "one ");
}

TEST_F(BehindWhole, WhoWritesSlowlyHasItMadeMeanwhile) {
    auto file = me().Create("/box/fs/work/new", O_WRONLY);
    ASSERT_EQ(file->Write("one "), 0);
    Advance(milliseconds(200));
    EXPECT_EQ(files().Content("/work/new"), "one ");
    EXPECT_EQ(file->WriteAt(4, "two"), 0);
    EXPECT_EQ(file->Close(), 0);
    Settle();
    ExpectWhole("new", "one two");
    EXPECT_EQ(supervisor().stores().size(), 0U);
}

TEST_F(BehindWhole, ALargeFileIsMadeByTheServer) {
    const std::string much(300U << 10, 'x');
    Write("new", much);
    EXPECT_EQ(supervisor().stores().size(), 0U);
    ExpectWhole("new", much);
}

TEST_F(BehindWhole, ACommandWaitsForIt) {
    supervisor().HoldStores(true);
    Write("new", "content");
    ASSERT_EQ(me().Echo("make", "/box/cmd"), 0);
    Settle();
    EXPECT_TRUE(supervisor().starts().empty());
    supervisor().ReleaseStore();
    Settle();
    EXPECT_EQ(supervisor().starts().size(), 1U);
}

TEST_F(BehindWhole, WhoGoesOnWritingBehindAnFsyncWritesToTheSameFile) {
    auto file = me().Create("/box/fs/work/new", O_WRONLY);
    ASSERT_EQ(file->Write("one "), 0);
    ASSERT_EQ(file->Fsync(), 0);
    EXPECT_EQ(supervisor().stores().size(), 1U);
    ASSERT_EQ(file->WriteAt(4, "two"), 0);
    EXPECT_EQ(file->Close(), 0);
    Settle();
    ExpectWhole("new", "one two");
    EXPECT_EQ(files().OpenFiles(), 0U);
}

TEST_F(BehindWhole, WhatIsWrittenBehindAnFsyncThatIsUnderWayComesBehindIt) {
    supervisor().HoldStores(true);
    auto file = me().Create("/box/fs/work/new", O_WRONLY);
    ASSERT_EQ(file->Write("one "), 0);
    const RecordingPtr sync = file->StartFsync();
    Settle();
    ASSERT_EQ(file->WriteAt(4, "two"), 0);
    EXPECT_EQ(file->Close(), 0);
    supervisor().ReleaseStore();
    EXPECT_EQ(me().FinishCode(sync), 0);
    Settle();
    ExpectWhole("new", "one two");
    EXPECT_EQ(files().OpenFiles(), 0U);
}

TEST_F(BehindWhole, AnFsyncWaitsNoLongerThanOthers) {
    supervisor().HoldStores(true);
    auto file = me().Create("/box/fs/work/new", O_WRONLY);
    ASSERT_EQ(file->Write("content"), 0);
    const RecordingPtr sync = file->StartFsync();
    Settle();
    Advance(seconds(31));
    EXPECT_EQ(me().FinishCode(sync), ETIMEDOUT);
    supervisor().ReleaseStore();
    Settle();
    EXPECT_EQ(file->Close(), 0);
    ExpectWhole("new", "content");
}

TEST_F(BehindWhole, WhatIsRemovedBeforeItHasLeftDoesNotTravel) {
    Hold();
    ASSERT_EQ(me().Mkdir("/box/fs/work/d"), 0);
    Write("d/new", "content");
    ASSERT_EQ(me().Unlink("/box/fs/work/d/new"), 0);
    LetGo();
    ASSERT_EQ(supervisor().stores().size(), 1U);
    EXPECT_EQ(supervisor().stores().back().bytes.size(), 0U);
    EXPECT_FALSE(files().Exists("/work/d/new"));
    EXPECT_EQ(me().Cat("/box/error"), "");
}

// --- What goes wrong

TEST_F(BehindWhole, OneThatCannotBeMadeIsReported) {
    files().PutFile("/work/new", "theirs");
    Write("new", "content");
    EXPECT_EQ(files().Content("/work/new"), "theirs");
    EXPECT_NE(me().Cat("/box/error").find("/work/new"), std::string::npos);
}

// Found by reading: it was let go, and opened again, though it had never been there.
TEST_F(BehindWhole, AnFsyncOfOneThatCannotBeMadeSaysSo) {
    files().PutFile("/work/new", "theirs");
    auto file = me().Create("/box/fs/work/new", O_WRONLY);
    ASSERT_EQ(file->Write("content"), 0);
    EXPECT_EQ(file->Fsync(), EIO);
    EXPECT_EQ(file->Fsync(), EIO);
    EXPECT_NE(me().Cat("/box/error").find("/work/new"), std::string::npos);
    (void)file->Close();
    file.reset();
    Settle();
    EXPECT_EQ(files().Content("/work/new"), "theirs");
    // Whoever opens what is there is not told of it any more.
    Advance(seconds(25));
    EXPECT_EQ(me().Echo("ours", "/box/fs/work/new"), 0);
    Settle();
    EXPECT_EQ(files().Content("/work/new"), "ours");
    EXPECT_EQ(files().OpenFiles(), 0U);
}

TEST_F(BehindWhole, WhatIsDoneToOneThatCannotBeMadeIsDoneToNoOther) {
    files().PutFile("/work/new", "theirs");
    const auto before = files().Stat("/work/new");
    supervisor().HoldStores(true);
    Write("new", "content");
    AttrChange change;
    change.mode = 0600;
    const Ino ino = me().InoOf("/box/fs/work/new");
    ASSERT_EQ(me().SetAttr(ino, change), 0);
    supervisor().HoldStores(false);
    supervisor().ReleaseStore();
    Settle();
    EXPECT_NE(me().Cat("/box/error").find("/work/new"), std::string::npos);
    EXPECT_EQ(files().Stat("/work/new")->mode, before->mode);
    // And nothing is waited for any more.
    ASSERT_EQ(me().Echo("true", "/box/cmd"), 0);
    Settle();
    ASSERT_EQ(me().Echo("true", "/box/cmd"), 0);
    Settle();
    EXPECT_FALSE(supervisor().starts().empty());
}

// Sealed, and its directory not there yet: it is open here, and will be closed there.
TEST_F(BehindWhole, AnOpenFileOutlivesItsNameThoughItHasNotLeftYet) {
    Hold();
    ASSERT_EQ(me().Mkdir("/box/fs/work/d"), 0);
    auto file = me().Create("/box/fs/work/d/new", O_WRONLY);
    ASSERT_EQ(file->Write("one "), 0);
    const RecordingPtr sync = file->StartFsync();
    Settle();
    ASSERT_EQ(me().Rename("/box/fs/work/d/new", "/box/fs/work/d/moved"), 0);
    LetGo();
    EXPECT_EQ(me().FinishCode(sync), 0);
    ASSERT_EQ(supervisor().stores().size(), 1U);
    EXPECT_EQ(files().OpenFiles(), 1U);
    EXPECT_EQ(file->WriteAt(4, "two"), 0);
    EXPECT_EQ(file->Close(), 0);
    Settle();
    EXPECT_EQ(files().Content("/work/d/moved"), "one two");
    EXPECT_EQ(me().Cat("/box/error"), "");
}

TEST_F(BehindWhole, ManyThatCannotBeMadeHoldUpNoOthers) {
    supervisor().HoldStores(true);
    const std::string much(200U << 10, 'x');
    for (int i = 0; i < 12; ++i)
        Write("no" + std::to_string(i), much);
    Write("yes", much);
    const std::size_t sent = supervisor().HeldStores().size();
    ASSERT_LT(sent, 13U);  // the others wait for room on the way
    for (std::size_t i = 0; i < sent; ++i) {
        files().FailNext("store /work/no", Error(Errno{EACCES}, "no"));
        files().FailNext("open /work/no", Error(Errno{EACCES}, "no"));
        supervisor().ReleaseStore();
        Settle();
    }
    supervisor().HoldStores(false);
    while (!supervisor().HeldStores().empty()) {
        supervisor().ReleaseStore();
        Settle();
    }
    EXPECT_EQ(files().Content("/work/yes"), much);
}

TEST_F(BehindWhole, OneThatCouldNotBeWrittenTakesNoOthersPlace) {
    files().FailNext("store bytes", Error(Errno{ENOSPC}, "full"));
    Write("old.tmp", "new content");
    (void)me().Rename("/box/fs/work/old.tmp", "/box/fs/work/old");
    Settle();
    EXPECT_EQ(files().Content("/work/old"), "old");
    EXPECT_NE(me().Cat("/box/error").find("old.tmp"), std::string::npos);
}

TEST_F(BehindWhole, AnFsyncTellsThatItCouldNotBeWritten) {
    files().FailNext("store bytes", Error(Errno{ENOSPC}, "full"));
    auto file = me().Create("/box/fs/work/new", O_WRONLY);
    ASSERT_EQ(file->Write("content"), 0);
    EXPECT_EQ(file->Fsync(), ENOSPC);
}

// --- Cuts of the link

TEST_F(BehindWhole, OneThatDidNotArriveIsMadeAfterACut) {
    supervisor().HoldStores(true);
    Write("new", "content");
    supervisor().HoldStores(false);
    CutForAWhile();
    ExpectWhole("new", "content");
}

TEST_F(BehindWhole, OneThatWasMadeUnheardIsFoundAfterACut) {
    supervisor().HoldStores(true);
    Write("new", "content");
    supervisor().LoseStoreAnswer();
    supervisor().HoldStores(false);
    CutForAWhile();
    ExpectWhole("new", "content");
    EXPECT_EQ(files().OpenFiles(), 0U);
}

TEST_F(BehindWhole, OneThatWasMadeInPartIsCompletedAfterACut) {
    supervisor().HoldStores(true);
    Write("new", "content");
    files().FailNext("store bytes", Error(Errno{EIO}, "full"));
    supervisor().LoseStoreAnswer();
    EXPECT_EQ(files().Content("/work/new"), "");
    supervisor().HoldStores(false);
    CutForAWhile();
    ExpectWhole("new", "content");
}

TEST_F(BehindWhole, AnothersFileIsNotTakenForOursAfterACut) {
    supervisor().HoldStores(true);
    Write("new", "content");
    files().PutFile("/work/new", "theirs, and longer");
    supervisor().HoldStores(false);
    CutForAWhile();
    EXPECT_EQ(files().Content("/work/new"), "theirs, and longer");
    EXPECT_NE(me().Cat("/box/error").find("/work/new"), std::string::npos);
}

TEST_F(BehindWhole, ASaveGoesOnOverACut) {
    supervisor().HoldStores(true);
    Write("old.tmp", "new content");
    ASSERT_EQ(me().Rename("/box/fs/work/old.tmp", "/box/fs/work/old"), 0);
    supervisor().LoseStoreAnswer();
    supervisor().HoldStores(false);
    CutForAWhile();
    ExpectWhole("old", "new content");
    EXPECT_FALSE(files().Exists("/work/old.tmp"));
}

// The supervisor alone has gone: what it had in hand is looked for when there is another.
TEST_F(BehindWhole, OneThatTheSupervisorTookWithItIsLookedFor) {
    for (const bool made : {false, true}) {
        const std::string name = made ? "made" : "not";
        supervisor().HoldStores(true);
        Write(name, "content");
        if (made) supervisor().LoseStoreAnswer();
        supervisor().HoldStores(false);
        machine().CutSupervisor();
        Settle();
        machine().ConnectSupervisor();
        Advance(seconds(1));
        ExpectWhole(name, "content");
        Advance(seconds(2));
        Learn(name + "-");
    }
}

}  // namespace
}  // namespace sbxfs::testing
