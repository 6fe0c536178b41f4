// A new file that was synced is closed in the sandbox along with its fsync(2): a save is a round trip shorter, and whoever goes on
// with the file notices nothing.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <memory>

#include "tests/support/behind_test.h"

namespace sbxfs::testing {
namespace {

using std::chrono::seconds;

class BehindLetGo : public Behind {
 protected:
    // That files there tell when they were made is known of the first.
    void SetUp() override {
        Behind::SetUp();
        ASSERT_EQ(me().Echo("x", "/box/fs/work/earlier"), 0);
        Settle();
    }
    // Written and synced, and still open here.
    std::unique_ptr<Client::File> Synced(const std::string& name, int flags = O_WRONLY) {
        auto file = me().Create("/box/fs/work/" + name, flags);
        EXPECT_EQ(file->error(), 0);
        EXPECT_EQ(file->Write("new "), 0);
        EXPECT_EQ(file->Fsync(), 0);
        Settle();
        return file;
    }
    // And is written on, which arrives in the same file.
    void ExpectGoesOn(Client::File& file, const std::string& name) {
        EXPECT_EQ(file.Write("content"), 0);
        EXPECT_EQ(file.Flush(), 0);
        Settle();
        EXPECT_EQ(files().Content("/work/" + name), "new content");
        EXPECT_EQ(me().Cat("/box/error"), "");
    }
    int SetMode(const std::string& path, std::uint32_t mode) {
        AttrChange change;
        change.mode = mode;
        const Ino ino = me().InoOf(path);
        return me().SetAttr(ino, change);
    }
};

TEST_F(BehindLetGo, ASaveIsTwoRoundTrips) {
    Hold();
    auto file = me().Create("/box/fs/work/old.tmp", O_WRONLY);
    ASSERT_EQ(file->Write("new content"), 0);
    const RecordingPtr sync = file->StartFsync();
    Settle();
    files().Release();  // it is made
    Settle();
    EXPECT_TRUE(IsHeld("write"));
    EXPECT_TRUE(IsHeld("sync"));
    EXPECT_TRUE(IsHeld("close"));
    files().ReleaseAll();
    EXPECT_EQ(me().FinishCode(sync), 0);
    EXPECT_EQ(file->Close(), 0);
    // As rename(2) does, which asks for both.
    EXPECT_EQ(me().Look("/box/fs/work/old.tmp"), 0);
    ASSERT_EQ(me().Rename("/box/fs/work/old.tmp", "/box/fs/work/old"), 0);
    EXPECT_TRUE(IsHeld("rename"));
    LetGo();
    EXPECT_EQ(files().Content("/work/old"), "new content");
    EXPECT_EQ(files().Count("close /work/old.tmp"), 1U);
    EXPECT_EQ(files().OpenFiles(), 0U);
}

TEST_F(BehindLetGo, WhoGoesOnWritingWritesToTheSameFile) {
    const auto file = Synced("new");
    EXPECT_EQ(files().OpenFiles(), 0U);
    ExpectGoesOn(*file, "new");
    EXPECT_EQ(file->Close(), 0);
    Settle();
    EXPECT_EQ(files().OpenFiles(), 0U);
}

TEST_F(BehindLetGo, WhatIsWrittenBehindAnFsyncThatIsUnderWayGoesThroughTheFileAsItIs) {
    Hold();
    auto file = me().Create("/box/fs/work/new", O_WRONLY);
    ASSERT_EQ(file->Write("new "), 0);
    const RecordingPtr sync = file->StartFsync();
    Settle();
    ASSERT_EQ(file->Write("content"), 0);
    LetGo();
    EXPECT_EQ(me().FinishCode(sync), 0);
    EXPECT_EQ(files().Count("open /work/new"), 1U);
    EXPECT_EQ(files().Content("/work/new"), "new content");
    EXPECT_EQ(file->Close(), 0);
    Settle();
    EXPECT_EQ(files().OpenFiles(), 0U);
}

// One that was wrong costs two round trips: it is not done again at once.
TEST_F(BehindLetGo, AProgramThatGoesOnWithItsFilesKeepsThemOpen) {
    const auto log = Synced("log");
    ExpectGoesOn(*log, "log");
    EXPECT_EQ(log->Fsync(), 0);
    Settle();
    EXPECT_EQ(files().OpenFiles(), 1U);
    const auto other = Synced("other");
    EXPECT_EQ(files().OpenFiles(), 2U);
    Advance(seconds(2));
    const auto third = Synced("third");
    EXPECT_EQ(files().OpenFiles(), 2U);
}

TEST_F(BehindLetGo, WhoReadsOrAppendsKeepsTheFileOpen) {
    const auto both = Synced("both", O_RDWR);
    const auto log = Synced("log", O_WRONLY | O_APPEND);
    EXPECT_EQ(files().OpenFiles(), 2U);
}

TEST_F(BehindLetGo, AnOpenFileIsMovedWithItsName) {
    const auto file = Synced("new");
    ASSERT_EQ(me().Rename("/box/fs/work/new", "/box/fs/work/old"), 0);
    ExpectGoesOn(*file, "old");
}

TEST_F(BehindLetGo, AnOpenFileOutlivesItsName) {
    const auto file = Synced("new");
    ASSERT_EQ(me().Unlink("/box/fs/work/new"), 0);
    Settle();
    EXPECT_FALSE(files().Exists("/work/new"));
    EXPECT_EQ(files().OpenFiles(), 1U);
    EXPECT_EQ(file->Write("content"), 0);
    EXPECT_EQ(file->Fsync(), 0);
    EXPECT_EQ(me().Cat("/box/error"), "");
}

TEST_F(BehindLetGo, AnOpenFileOutlivesAnotherThatTakesItsName) {
    const auto file = Synced("new");
    ASSERT_EQ(me().Rename("/box/fs/work/old", "/box/fs/work/new"), 0);
    Settle();
    EXPECT_EQ(files().OpenFiles(), 1U);
    EXPECT_EQ(file->Write("content"), 0);
    EXPECT_EQ(file->Fsync(), 0);
    EXPECT_EQ(files().Content("/work/new"), "old");
    EXPECT_EQ(me().Cat("/box/error"), "");
}

TEST_F(BehindLetGo, AnOpenFileOutlivesACommandThatRemovesIt) {
    const auto file = Synced("new");
    Command([this] { files().Remove("/work/new"); });
    EXPECT_EQ(file->Write("content"), 0);
    EXPECT_EQ(file->Fsync(), 0);
    EXPECT_EQ(me().Cat("/box/error"), "");
}

TEST_F(BehindLetGo, AnOpenFileIsWrittenToThoughItsModeForbidsToOpenIt) {
    const auto file = Synced("new");
    EXPECT_EQ(files().OpenFiles(), 0U);
    ASSERT_EQ(SetMode("/box/fs/work/new", 0400), 0);
    Settle();
    EXPECT_EQ(files().OpenFiles(), 1U);
    ExpectGoesOn(*file, "new");
}

// tests/harness/model.py saving, seed 1672939831.
TEST_F(BehindLetGo, WhatIsTruncatedByAnotherIsNotShownWithTheTimeThatWasSetBefore) {
    const auto file = Synced("new");
    AttrChange change;
    change.mtime = SystemTime(seconds(1034597431));
    const Ino ino = me().InoOf("/box/fs/work/new");
    ASSERT_EQ(me().SetAttr(ino, change), 0);
    Settle();
    {
        const auto other = me().Open("/box/fs/work/new", O_WRONLY | O_TRUNC);
        ASSERT_EQ(other->error(), 0);
        EXPECT_EQ(other->Close(), 0);
    }
    Settle();
    EXPECT_NE(me().Stat("/box/fs/work/new").mtime, *change.mtime);
}

// tests/harness/saves.py behind --at 378: what is refused is asked about, and the fsync is answered before that has ended.
TEST_F(BehindLetGo, AnFsyncBesideAChangeThatIsRefusedIsNotMadeAgain) {
    Hold();
    auto file = me().Create("/box/fs/work/new", O_WRONLY);
    ASSERT_EQ(file->Write("new "), 0);
    ASSERT_EQ(SetMode("/box/fs/work/new", 0640), 0);
    const RecordingPtr sync = file->StartFsync();
    Settle();
    files().Release();
    Settle();
    for (std::size_t i = 0; i < files().Held().size();) {
        if (files().Held()[i].starts_with("setstat")) {
            ++i;
            continue;
        }
        files().Release(i);
        Settle();
    }
    FailHeld("setstat", Error(Errno{ENOENT}, "no such file"));
    LetGo();
    EXPECT_EQ(me().FinishCode(sync), 0);
    EXPECT_EQ(files().Count("sync /work/new"), 1U);
    EXPECT_NE(me().Cat("/box/error").find("no such file"), std::string::npos);
    Settle();
    EXPECT_EQ(file->Close(), 0);
}

TEST_F(BehindLetGo, AfterACutItIsTheSameFileOrNone) {
    const auto file = Synced("new");
    const auto replaced = Synced("other");
    EXPECT_EQ(files().OpenFiles(), 0U);
    machine().Cut();
    files().ReplaceReusingInode("/work/other", "theirs");
    Advance(seconds(3));
    ExpectGoesOn(*file, "new");
    EXPECT_EQ(replaced->Write("content"), ESTALE);
    EXPECT_EQ(files().Content("/work/other"), "theirs");
}

// It would be told from another by its ctime, which each write moves.
TEST_F(Behind, WhereNobodyKnowsWhenAFileWasMadeNoneIsLetGo) {
    HideBirths();
    for (const char* name : {"/box/fs/work/one", "/box/fs/work/two"}) {
        auto file = me().Create(name, O_WRONLY);
        ASSERT_EQ(file->Write("new "), 0);
        ASSERT_EQ(file->Fsync(), 0);
        Settle();
        EXPECT_EQ(files().OpenFiles(), 1U);
        EXPECT_EQ(file->Write("content"), 0);
        EXPECT_EQ(file->Fsync(), 0);
        EXPECT_EQ(file->Close(), 0);
        Settle();
    }
    EXPECT_EQ(files().Content("/work/two"), "new content");
    EXPECT_EQ(me().Cat("/box/error"), "");
}

TEST_F(BehindLetGo, OneThatIsOpenBlocksNothingWhileTheSupervisorIsAway) {
    const auto file = Synced("new");
    machine().CutSupervisor();
    Settle();
    EXPECT_EQ(me().Unlink("/box/fs/work/old"), 0);
    EXPECT_EQ(me().Stat("/box/fs/work/new").size, 4U);
    EXPECT_FALSE(files().Exists("/work/old"));
    machine().ConnectSupervisor();
    Settle();
    ExpectGoesOn(*file, "new");
}

TEST_F(BehindLetGo, WhatWasSeenOfItIsForgottenWithACommand) {
    auto file = Synced("new");
    const auto reader = me().Open("/box/fs/work/new", O_RDONLY);
    EXPECT_EQ(reader->Read(), "new ");
    EXPECT_EQ(file->Close(), 0);
    Settle();
    Command([this] { files().Append("/work/new", "content"); });
    EXPECT_EQ(me().Stat("/box/fs/work/new").size, 11U);
}

TEST_F(BehindLetGo, WhatIsWrittenThroughAnotherNameShows) {
    auto file = me().Create("/box/fs/work/new", O_WRONLY);
    ASSERT_EQ(file->Write("new "), 0);
    Settle();
    ASSERT_EQ(me().Link("/box/fs/work/new", "/box/fs/work/other"), 0);
    ASSERT_EQ(file->Fsync(), 0);
    Settle();
    {
        const auto other = me().Open("/box/fs/work/other", O_WRONLY);
        EXPECT_EQ(other->WriteAt(4, "content"), 0);
    }
    Settle();
    EXPECT_EQ(me().Stat("/box/fs/work/new").size, 11U);
    EXPECT_EQ(file->Close(), 0);
}

// The rename is held until other data has been acknowledged, and goes out behind the OPEN, before the supervisor has looked.
TEST_F(BehindLetGo, OneThatIsWrittenToWhileItIsRenamedIsFound) {
    const auto file = Synced("new");
    Hold();
    const auto other = me().Create("/box/fs/work/other", O_WRONLY);
    ASSERT_EQ(other->Write("x"), 0);
    ASSERT_EQ(me().Rename("/box/fs/work/new", "/box/fs/work/moved"), 0);
    EXPECT_EQ(file->Write("content"), 0);
    for (int i = 0; i < 40 && !files().Held().empty(); ++i) {
        files().Release();
        Settle();
    }
    LetGo();
    Advance(seconds(2));
    EXPECT_EQ(file->Flush(), 0);
    EXPECT_EQ(files().Content("/work/moved"), "new content");
    EXPECT_EQ(me().Cat("/box/error"), "");
}

// Contract 5: what takes another file's place is closed by then.
TEST_F(BehindLetGo, OneThatIsBeingOpenedAgainIsClosedBeforeItTakesAnothersPlace) {
    const auto file = Synced("old.tmp");
    Hold();
    ASSERT_EQ(file->Write("content"), 0);
    ASSERT_EQ(file->Close(), 0);
    ASSERT_EQ(me().Rename("/box/fs/work/old.tmp", "/box/fs/work/old"), 0);
    bool closed = false;
    for (int i = 0; i < 40 && !IsHeld("rename"); ++i) {
        Advance(std::chrono::milliseconds(300));
        closed = closed || IsHeld("close /work/old.tmp");
        if (!files().Held().empty()) files().Release();
        Settle();
    }
    EXPECT_TRUE(closed);
    EXPECT_TRUE(IsHeld("rename"));
    EXPECT_EQ(files().OpenFiles(), 0U);
    LetGo();
    EXPECT_EQ(files().Content("/work/old"), "new content");
}

TEST_F(BehindLetGo, OneIsOpenedAgainBeforeADirectoryAboveItIsShut) {
    const auto file = Synced("new");
    EXPECT_EQ(files().OpenFiles(), 0U);
    ASSERT_EQ(SetMode("/box/fs/work", 0500), 0);
    Settle();
    EXPECT_EQ(files().OpenFiles(), 1U);
    ExpectGoesOn(*file, "new");
}

TEST_F(BehindLetGo, ItsCloseDoesNotOpenItAgain) {
    auto file = Synced("new");
    const std::size_t opens = files().Count("open /work/new");
    Advance(seconds(30));
    EXPECT_EQ(file->Close(), 0);
    Settle();
    EXPECT_EQ(files().Count("open /work/new"), opens);
    EXPECT_EQ(files().OpenFiles(), 0U);
}

TEST_F(BehindLetGo, AServerThatHasNoHandleLeftDoesNotMakeItStale) {
    const auto file = Synced("new");
    files().FailNext("open /work/new", Error(Errno{EIO}, "no handle left", Blame::kRemote));
    EXPECT_EQ(file->Fsync(), EIO);
    ExpectGoesOn(*file, "new");
}

TEST_F(BehindLetGo, WhatIsCutOffWithItsCloseIsRepeated) {
    Hold();
    auto file = me().Create("/box/fs/work/old.tmp", O_WRONLY);
    ASSERT_EQ(file->Write("new content"), 0);
    const RecordingPtr sync = file->StartFsync();
    Settle();
    files().Release();
    Settle();
    ASSERT_TRUE(IsHeld("close"));
    CutAfterwards();
    Advance(seconds(3));
    EXPECT_EQ(me().FinishCode(sync), 0);
    EXPECT_EQ(file->Close(), 0);
    ASSERT_EQ(me().Rename("/box/fs/work/old.tmp", "/box/fs/work/old"), 0);
    Settle();
    EXPECT_EQ(files().Content("/work/old"), "new content");
    EXPECT_EQ(files().OpenFiles(), 0U);
    EXPECT_EQ(me().Cat("/box/error"), "");
}

}  // namespace
}  // namespace sbxfs::testing
