// Reading ahead together with what comes in between: cuts of the link, changes that were answered before they
// were made, and files that were just written here (docs/CACHES.md, "Contents").
#include <errno.h>
#include <fcntl.h>

#include <functional>
#include <string>
#include <utility>

#include "tests/support/mount_test.h"

namespace sbxfs::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// The link, and files that are known or being fetched.
class AheadCut : public MountTest {
 protected:
    explicit AheadCut(MountSetup setup = DefaultSetup()) : MountTest(std::move(setup)) {}
    void SetUp() override {
        MountTest::SetUp();
        MakeBox();
        Settle();
        TellTheServer();
        for (int d = 0; d < 4; ++d)
            files().PutFile("/work/t/d" + std::to_string(d) + "/f", "text");
        Advance(seconds(5));
        DropCaches();
    }
    void Cut() {
        machine().SetAttaches(FakeMachine::Answers::kHeld);
        machine().Cut();
        Settle();
    }
    void Mend() {
        files().SetAnswers(FakeFiles::Answers::kAtOnce);
        machine().SetAttaches(FakeMachine::Answers::kAtOnce);
        machine().Connect();
        Settle();
    }
    // Until the file is answered without asking.
    void Learn(const std::string& path) {
        for (int i = 0; i < 3; ++i)
            EXPECT_EQ(me().Cat(path), "text");
    }
    // A walk that has the other directories listed ahead; none of them is answered.
    RecordingPtr Walk() {
        EXPECT_EQ(me().ListPlus("/box/fs/work/t").size(), 4U);
        const Ino d0 = me().InoOf("/box/fs/work/t/d0");
        files().SetAnswers(FakeFiles::Answers::kHeld);
        const auto listed = me().Ask<OpenReply>(
            "opendir", d0, "", [&](OpenReply reply) { me().fs().OpenDir(d0, std::move(reply)); });
        Settle();
        EXPECT_EQ(files().Count("list /work/t/d2"), 1U);
        return listed;
    }
    void Release(const Answer& opened) {
        const auto released = me().Ask<EmptyReply>(
            "release", opened.entry.ino, "",
            [&](EmptyReply reply) { me().fs().Release(opened.opened.handle, std::move(reply)); });
        EXPECT_EQ(me().FinishCode(released), 0);
    }
};

TEST_F(AheadCut, WhatIsFetchedAheadIsNotAskedForAgainAfterACut) {
    const auto listed = Walk();
    Cut();
    Mend();
    const Answer answer = me().Finish(listed);
    EXPECT_EQ(answer.error, 0);
    Release(answer);
    EXPECT_EQ(files().Count("list /work/t/d0"), 2U);
    EXPECT_EQ(files().Count("list /work/t/d2"), 1U);
}

TEST_F(AheadCut, WhoWaitsForAListingThatWasFetchedAheadHasItAfterACut) {
    const auto first = Walk();
    const auto joined = me().StartOpenDir("/box/fs/work/t/d2");
    Settle();
    EXPECT_FALSE(joined->answered());
    EXPECT_EQ(files().Count("list /work/t/d2"), 1U);
    Cut();
    Mend();
    for (const auto& listed : {first, joined}) {
        const Answer answer = me().Finish(listed);
        EXPECT_EQ(answer.error, 0);
        Release(answer);
    }
}

TEST_F(AheadCut, WhoWaitsForAListingThatWasFetchedAheadIsFreeWithinHisOwnBound) {
    const auto first = Walk();
    Advance(seconds(5));
    const auto joined = me().StartOpenDir("/box/fs/work/t/d2");
    Advance(milliseconds(30'500));
    EXPECT_EQ(me().FinishCode(first), ETIMEDOUT);
    EXPECT_EQ(me().FinishCode(joined), ETIMEDOUT);
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    files().ReleaseAll();
    Settle();
}

TEST_F(AheadCut, AFileOpenedWithoutAskingGoesOnAfterACut) {
    Learn("/box/fs/work/t/d0/f");
    const auto lazy = me().Open("/box/fs/work/t/d0/f", O_RDONLY);
    Cut();
    Mend();
    EXPECT_EQ(lazy->Read(), "text");
    EXPECT_EQ(lazy->Fsync(), 0);
}

TEST_F(AheadCut, AFileOpenedWithoutAskingThatWasReplacedDuringACutIsStale) {
    Learn("/box/fs/work/t/d0/f");
    const auto lazy = me().Open("/box/fs/work/t/d0/f", O_RDONLY);
    Cut();
    const std::int64_t mtime = files().Stat("/work/t/d0/f")->mtime;
    files().Remove("/work/t/d0/f");
    files().PutFile("/work/t/d0/f", "TEXT");
    files().SetTimes("/work/t/d0/f", mtime);
    Mend();
    EXPECT_EQ(lazy->Read(), "<ESTALE>");
    EXPECT_EQ(me().Cat("/box/fs/work/t/d0/f"), "TEXT");
}

// What was written here, with changes answered at once and without.
class AheadWritten : public AheadCut {
 protected:
    explicit AheadWritten(MountSetup setup = DefaultSetup()) : AheadCut(std::move(setup)) {}
    void SetUp() override {
        AheadCut::SetUp();
        for (int i = 0; i < 3; ++i) {
            EXPECT_EQ(me().Mkdir("/box/fs/work/first" + std::to_string(i)), 0);
            Settle();
        }
        EXPECT_FALSE(me().ListPlus("/box/fs/work").empty());
    }
    std::size_t Fetched() { return files().Count("read "); }
};

class AheadBehind : public AheadWritten {
 protected:
    AheadBehind() : AheadWritten(WithWriteBehind()) {}
};

TEST_F(AheadWritten, AFileJustWrittenIsReadWithoutAsking) {
    ASSERT_EQ(me().Echo("new", "/box/fs/work/new"), 0);
    Settle();
    const std::size_t opens = files().Count("open /work/new");
    const std::size_t reads = Fetched();
    EXPECT_EQ(me().Cat("/box/fs/work/new"), "new");
    EXPECT_EQ(files().Count("open /work/new"), opens);
    EXPECT_EQ(Fetched(), reads);
}

// As tar(1) and cp -p make it.
TEST_F(AheadBehind, AFileWhoseTimeAndModeWereSetWhenItWasWrittenIsReadWithoutAsking) {
    auto file = me().Create("/box/fs/work/new", O_WRONLY);
    EXPECT_EQ(file->Write("new"), 0);
    AttrChange change;
    change.mode = 0600;
    change.mtime = SystemTime(seconds(1'000'000'000));
    EXPECT_EQ(me().SetAttr(file->ino(), change), 0);
    EXPECT_EQ(file->Close(), 0);
    Settle();
    const std::size_t opens = files().Count("open /work/new");
    const std::size_t reads = Fetched();
    EXPECT_EQ(me().Stat("/box/fs/work/new").mtime, *change.mtime);
    EXPECT_EQ(me().Cat("/box/fs/work/new"), "new");
    EXPECT_EQ(files().Count("open /work/new"), opens);
    EXPECT_EQ(Fetched(), reads);
    Command([this] { files().PutFile("/work/new", "won"); });
    EXPECT_EQ(me().Cat("/box/fs/work/new"), "won");
}

TEST_F(AheadBehind, AFileThatIsStillOnItsWayIsReadWithoutAsking) {
    files().SetAnswers(FakeFiles::Answers::kHeld);
    ASSERT_EQ(me().Echo("new", "/box/fs/work/new"), 0);
    EXPECT_EQ(me().Cat("/box/fs/work/new"), "new");
    EXPECT_FALSE(files().Exists("/work/new"));
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    files().ReleaseAll();
    Settle();
    EXPECT_EQ(me().Cat("/box/fs/work/new"), "new");
    EXPECT_EQ(files().Content("/work/new"), "new");
    EXPECT_EQ(Fetched(), 0U + files().Count("read /proc"));
}

TEST_F(AheadBehind, AFileOpenedWithoutAskingSurvivesItsUnlinkWhileItIsStillOnItsWay) {
    files().SetAnswers(FakeFiles::Answers::kHeld);
    ASSERT_EQ(me().Echo("new", "/box/fs/work/new"), 0);
    const auto lazy = me().Open("/box/fs/work/new", O_RDONLY);
    ASSERT_EQ(lazy->error(), 0);
    const auto unlink = me().StartUnlink("/box/fs/work/new");
    Settle();
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    files().ReleaseAll();
    Settle();
    EXPECT_EQ(me().FinishCode(unlink), 0);
    EXPECT_EQ(lazy->Read(), "new");
    EXPECT_EQ(lazy->Fsync(), 0);
    EXPECT_FALSE(files().Exists("/work/new"));
}

TEST_F(AheadBehind, AFileOpenedWithoutAskingSurvivesItsReplacementWhileItIsStillOnItsWay) {
    files().SetAnswers(FakeFiles::Answers::kHeld);
    ASSERT_EQ(me().Echo("old", "/box/fs/work/new"), 0);
    const auto lazy = me().Open("/box/fs/work/new", O_RDONLY);
    ASSERT_EQ(lazy->error(), 0);
    ASSERT_EQ(me().Echo("another", "/box/fs/work/tmp"), 0);
    const auto rename = me().StartRename("/box/fs/work/tmp", "/box/fs/work/new");
    Settle();
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    files().ReleaseAll();
    Settle();
    EXPECT_EQ(me().FinishCode(rename), 0);
    EXPECT_EQ(lazy->Read(), "old");
    EXPECT_EQ(me().Cat("/box/fs/work/new"), "another");
}

// As git does with its index, and editors with what they save.
TEST_F(AheadBehind, WhatIsKnownOfAFileGoesAlongWithItsRename) {
    ASSERT_EQ(me().Echo("old", "/box/fs/work/file"), 0);
    ASSERT_EQ(me().Echo("new content", "/box/fs/work/tmp"), 0);
    Settle();
    EXPECT_EQ(me().Cat("/box/fs/work/tmp"), "new content");
    EXPECT_EQ(me().Rename("/box/fs/work/tmp", "/box/fs/work/file"), 0);
    Settle();
    const std::size_t opens = files().Count("open /work/file");
    const std::size_t reads = Fetched();
    EXPECT_EQ(me().Cat("/box/fs/work/file"), "new content");
    EXPECT_EQ(files().Count("open /work/file"), opens);
    EXPECT_EQ(Fetched(), reads);
    EXPECT_EQ(me().Echo("newer", "/box/fs/work/file"), 0);
    EXPECT_EQ(me().Cat("/box/fs/work/file"), "newer");
}

TEST_F(AheadBehind, WhatIsKnownOfAFileGoesAlongWithItsRenameWhileThatIsOnItsWay) {
    ASSERT_EQ(me().Echo("old", "/box/fs/work/file"), 0);
    Settle();
    files().SetAnswers(FakeFiles::Answers::kHeld);
    ASSERT_EQ(me().Echo("new content", "/box/fs/work/tmp"), 0);
    EXPECT_EQ(me().Cat("/box/fs/work/tmp"), "new content");
    EXPECT_EQ(me().Rename("/box/fs/work/tmp", "/box/fs/work/file"), 0);
    EXPECT_EQ(me().Cat("/box/fs/work/file"), "new content");
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    files().ReleaseAll();
    Settle();
    EXPECT_EQ(me().Cat("/box/fs/work/file"), "new content");
}

TEST_F(AheadWritten, WhatWasWrittenThroughTwoHandlesIsReadFromTheSandbox) {
    const auto one = me().Create("/box/fs/work/new", O_WRONLY);
    const auto two = me().Open("/box/fs/work/new", O_WRONLY);
    EXPECT_EQ(one->Write("abc"), 0);
    EXPECT_EQ(two->WriteAt(1, "X"), 0);
    EXPECT_EQ(one->Close(), 0);
    EXPECT_EQ(two->Close(), 0);
    EXPECT_EQ(me().Cat("/box/fs/work/new"), "aXc");
    EXPECT_EQ(files().Content("/work/new"), "aXc");
}

TEST_F(AheadBehind, WhatWasWrittenThroughTwoHandlesIsReadFromTheSandbox) {
    const auto one = me().Create("/box/fs/work/new", O_WRONLY);
    const auto two = me().Open("/box/fs/work/new", O_WRONLY);
    EXPECT_EQ(one->Write("abc"), 0);
    EXPECT_EQ(two->WriteAt(1, "X"), 0);
    EXPECT_EQ(one->Close(), 0);
    EXPECT_EQ(two->Close(), 0);
    EXPECT_EQ(me().Cat("/box/fs/work/new"), "aXc");
}

TEST_F(AheadWritten, WhatWasWrittenOverAnotherPlaceIsReadAsItIs) {
    const auto file = me().Create("/box/fs/work/new", O_WRONLY);
    EXPECT_EQ(file->Write("abcdef"), 0);
    EXPECT_EQ(file->WriteAt(1, "XY"), 0);
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(me().Cat("/box/fs/work/new"), "aXYdef");
    AttrChange change;
    change.size = 2;
    const auto cut = me().Open("/box/fs/work/new", O_WRONLY | O_TRUNC);
    EXPECT_EQ(cut->Write("123456"), 0);
    EXPECT_EQ(me().Set("/box/fs/work/new", change), 0);
    EXPECT_EQ(cut->Close(), 0);
    EXPECT_EQ(me().Cat("/box/fs/work/new"), "12");
}

TEST_F(AheadBehind, WhatWasTruncatedAndWrittenIsReadAsItIs) {
    ASSERT_EQ(me().Echo("a longer text", "/box/fs/work/new"), 0);
    EXPECT_EQ(me().Cat("/box/fs/work/new"), "a longer text");
    ASSERT_EQ(me().Echo("short", "/box/fs/work/new"), 0);
    EXPECT_EQ(me().Cat("/box/fs/work/new"), "short");
    AttrChange change;
    change.size = 2;
    EXPECT_EQ(me().Set("/box/fs/work/new", change), 0);
    EXPECT_EQ(me().Cat("/box/fs/work/new"), "sh");
    EXPECT_EQ(files().Content("/work/new"), "sh");
}

TEST_F(AheadWritten, AWriteThatFailedIsNotReadBack) {
    const auto file = me().Create("/box/fs/work/new", O_WRONLY);
    EXPECT_EQ(file->Write("abc"), 0);
    files().FailNext("write /work/new", Error(Errno{EIO}, "a bad disk", Blame::kRemote));
    EXPECT_EQ(file->WriteAt(3, "def"), EIO);
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(me().Cat("/box/fs/work/new"), "abc");
}

TEST_F(AheadBehind, AWriteThatWasLostIsNotReadBack) {
    files().FailNext("write /work/new", Error(Errno{EIO}, "a bad disk", Blame::kRemote));
    (void)me().Echo("abc", "/box/fs/work/new");
    Settle();
    EXPECT_EQ(me().Cat("/box/fs/work/new"), files().Content("/work/new"));
    EXPECT_NE(me().Cat("/box/error"), "");
}

// The supervisor has a way of its own there, and would read what was before.
TEST_F(AheadBehind, WhileNotQuietBytesOnTheirWayAreNotOvertaken) {
    supervisor().others.resize(1);
    Command([this] { files().PutFile("/work/f", "old"); });
    Advance(seconds(5));
    (void)me().ListPlus("/box/fs/work");
    const auto writer = me().Open("/box/fs/work/f", O_WRONLY);
    ASSERT_EQ(writer->error(), 0);
    for (int i = 0; i < 3; ++i) {
        ASSERT_EQ(writer->WriteAt(0, "old"), 0);  // what must be known of its file system is asked
        Settle();
    }
    const Ino ino = me().InoOf("/box/fs/work/f");
    files().SetAnswers(FakeFiles::Answers::kHeld);
    ASSERT_EQ(writer->WriteAt(0, "new"), 0);
    const std::size_t before = supervisor().fetches().size();
    const auto opened = me().Ask<OpenReply>("open", ino, "", [&](OpenReply reply) {
        me().fs().Open(ino, OpenRequest{O_RDONLY, me().who()}, std::move(reply));
    });
    Settle();
    EXPECT_EQ(supervisor().fetches().size(), before);
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    files().ReleaseAll();
    Settle();
    const Answer answer = me().Finish(opened);
    EXPECT_EQ(answer.error, 0);
    Release(answer);
    EXPECT_EQ(me().Cat("/box/fs/work/f"), "new");
    EXPECT_EQ(writer->Close(), 0);
}

TEST_F(AheadBehind, WhatACommandDidToAFileJustWrittenIsSeen) {
    ASSERT_EQ(me().Echo("abc", "/box/fs/work/new"), 0);
    ASSERT_EQ(me().Echo("def", "/box/fs/work/other"), 0);
    EXPECT_EQ(me().Cat("/box/fs/work/new"), "abc");
    Command([this] {
        const std::int64_t mtime = files().Stat("/work/new")->mtime;
        files().PutFile("/work/new", "ABC");
        files().SetTimes("/work/new", mtime);
    });
    EXPECT_EQ(me().Cat("/box/fs/work/new"), "ABC");
    EXPECT_EQ(me().Cat("/box/fs/work/other"), "def");
}

}  // namespace
}  // namespace sbxfs::testing
