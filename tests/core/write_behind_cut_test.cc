// Changes that were answered before the sandbox had them, and a cut of the link before it said so: each is made once, in its
// order, and to the file that it was meant for.
#include <errno.h>
#include <fcntl.h>

#include <cstddef>
#include <memory>

#include "tests/support/behind_test.h"

namespace sbxfs::testing {
namespace {

using std::chrono::seconds;

TEST_F(Behind, WhatWasOnItsWayArrivesAfterACutOnce) {
    Hold();
    ASSERT_EQ(me().Mkdir("/box/fs/work/d"), 0);
    ASSERT_EQ(me().Echo("hello", "/box/fs/work/d/f"), 0);
    ASSERT_EQ(me().Rename("/box/fs/work/d/f", "/box/fs/work/d/g"), 0);
    ASSERT_EQ(me().Unlink("/box/fs/work/old"), 0);
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    files().Release();  // the directory is made, and nobody has heard
    machine().Cut();
    Advance(seconds(3));
    EXPECT_EQ(files().Content("/work/d/g"), "hello");
    EXPECT_FALSE(files().Exists("/work/d/f"));
    EXPECT_FALSE(files().Exists("/work/old"));
    EXPECT_EQ(me().Cat("/box/error"), "");
}

// What is asked about the file in the same flight is cut off with the answer.
TEST_F(Behind, ARenameOfWhichNothingWasHeardBeforeACutIsFoundByItsTarget) {
    Hold();
    ASSERT_EQ(me().Rename("/box/fs/work/old", "/box/fs/work/kept"), 0);
    HappenUnheard();
    EXPECT_EQ(files().Content("/work/kept"), "old");
    EXPECT_EQ(me().Cat("/box/error"), "");
}

// As editors save that keep the old file. Both are on their way at once: a look at the name after a cut finds the old file, or
// none, or the new one, which is empty.
class BehindARename : public Behind {
 protected:
    void SetUp() override {
        Behind::SetUp();
        Hold();
        ASSERT_EQ(me().Rename("/box/fs/work/old", "/box/fs/work/old~"), 0);
        ASSERT_EQ(me().Echo("new content", "/box/fs/work/old"), 0);
        EXPECT_TRUE(IsHeld("open /work/old"));
    }
    // Of what is on its way so much happens that nobody hears of.
    void CutAfter(std::size_t answers) {
        files().SetAnswers(FakeFiles::Answers::kAtOnce);
        for (; answers > 0; --answers)
            files().LoseAnswer(Error(Errno{EIO}, "cut", Blame::kRemote));
        machine().Cut();
        Advance(seconds(3));
    }
    void ExpectBoth() {
        EXPECT_EQ(files().Content("/work/old~"), "old");
        EXPECT_EQ(files().Content("/work/old"), "new content");
        EXPECT_EQ(me().Cat("/box/error"), "");
    }
};

TEST_F(BehindARename, AfterACutItDoesNotMoveTheNewFileThatHasTakenTheName) {
    HappenUnheard();
    ExpectBoth();
}

TEST_F(BehindARename, AfterACutItIsRepeatedBeforeTheNewFileIsMade) {
    CutAfter(0);
    ExpectBoth();
}

TEST_F(BehindARename, AfterACutTheNewFileIsMadeIfItHasHappened) {
    ASSERT_TRUE(files().Held().at(0).starts_with("lstat"));
    ASSERT_TRUE(files().Held().at(1).starts_with("rename"));
    CutAfter(2);
    ExpectBoth();
}

// The old file keeps its name and its content.
TEST_F(BehindARename, WhereThatIsRefusedTheNewFileTakesNothingAway) {
    FailHeld("rename", Error(Errno{EACCES}, "permission denied"));
    LetGo();
    EXPECT_EQ(files().Content("/work/old"), "old");
    EXPECT_FALSE(files().Exists("/work/old~"));
    EXPECT_NE(me().Cat("/box/error").find("permission denied"), std::string::npos);
    Settle();
}

// An empty file looks like the new one.
TEST_F(Behind, ANewFileIsNotMadeBeforeTheEmptyOneThatLeavesItsNameHasGone) {
    ASSERT_EQ(me().Echo("", "/box/fs/work/empty"), 0);
    Settle();
    Hold();
    ASSERT_EQ(me().Rename("/box/fs/work/empty", "/box/fs/work/empty~"), 0);
    ASSERT_EQ(me().Echo("new content", "/box/fs/work/empty"), 0);
    EXPECT_TRUE(IsHeld("rename"));
    EXPECT_FALSE(IsHeld("open /work/empty"));
    HappenUnheard();
    EXPECT_EQ(files().Content("/work/empty~"), "");
    EXPECT_EQ(files().Content("/work/empty"), "new content");
}

TEST_F(Behind, AfterACutARemovalDoesNotTakeAwayWhatHasTakenTheName) {
    ASSERT_EQ(me().Echo("new content", "/box/fs/work/new"), 0);
    Settle();
    Hold();
    ASSERT_EQ(me().Unlink("/box/fs/work/old"), 0);
    ASSERT_EQ(me().Rename("/box/fs/work/new", "/box/fs/work/old"), 0);
    HappenUnheard();
    EXPECT_EQ(files().Content("/work/old"), "new content");
    EXPECT_FALSE(files().Exists("/work/new"));
    EXPECT_EQ(me().Cat("/box/error"), "");
}

// It need not wait for the removal.
TEST_F(Behind, AfterACutANewFileInThePlaceOfARemovedOneIsThere) {
    Hold();
    ASSERT_EQ(me().Unlink("/box/fs/work/old"), 0);
    ASSERT_EQ(me().Echo("new content", "/box/fs/work/old"), 0);
    EXPECT_TRUE(IsHeld("open /work/old"));
    HappenUnheard();
    EXPECT_EQ(files().Content("/work/old"), "new content");
    EXPECT_EQ(me().Cat("/box/error"), "");
}

TEST_F(Behind, AfterACutAChainOfRenamesIsMadeToItsEnd) {
    Hold();
    ASSERT_EQ(me().Rename("/box/fs/work/old", "/box/fs/work/one"), 0);
    ASSERT_EQ(me().Rename("/box/fs/work/one", "/box/fs/work/two"), 0);
    HappenUnheard();
    EXPECT_EQ(files().Content("/work/two"), "old");
    EXPECT_EQ(me().Cat("/box/error"), "");
}

// One that failed has left another file at the name.
TEST_F(Behind, WhatBuildsOnALostRenameIsNotSent) {
    ASSERT_EQ(me().Echo("other", "/box/fs/work/other"), 0);
    Settle();
    Hold();
    ASSERT_EQ(me().Rename("/box/fs/work/old", "/box/fs/work/other"), 0);
    ASSERT_EQ(me().Rename("/box/fs/work/other", "/box/fs/work/last"), 0);
    FailHeld("rename", Error(Errno{EACCES}, "permission denied"));
    LetGo();
    EXPECT_EQ(files().Content("/work/old"), "old");
    EXPECT_EQ(files().Content("/work/other"), "other");
    EXPECT_FALSE(files().Exists("/work/last"));
    EXPECT_NE(me().Cat("/box/error").find("permission denied"), std::string::npos);
    Settle();
}

TEST_F(Behind, AnOpenFileWhoseRenameWasCutOffIsFoundAgain) {
    const auto file = me().Open("/box/fs/work/old", O_WRONLY);
    ASSERT_EQ(file->error(), 0);
    Settle();
    Hold();
    ASSERT_EQ(me().Rename("/box/fs/work/old", "/box/fs/work/kept"), 0);
    CutAfterwards();
    const auto write = me().Ask<WrittenReply>("write", file->ino(), "", [&](WrittenReply reply) {
        me().fs().Write(file->opened().handle, 0, {"new", 3}, false, std::move(reply));
    });
    Advance(seconds(3));
    EXPECT_EQ(me().FinishCode(write), 0);
    EXPECT_EQ(files().Content("/work/kept"), "new");
    EXPECT_EQ(me().Cat("/box/error"), "");
}

// The two channels of a link do not end at once: by the time the new file was open nobody could tell any more whether
// the sandbox was ours alone.
TEST_F(Behind, AFileWhoseIdentityWasNotReadBeforeTheCutIsStillOurs) {
    Hold();
    ASSERT_EQ(me().Echo("hello", "/box/fs/work/new"), 0);
    machine().CutSupervisor();
    files().Release();  // it is made, and open
    Settle();
    ASSERT_TRUE(IsHeld("write"));
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    machine().Cut();
    Advance(seconds(3));
    EXPECT_EQ(files().Content("/work/new"), "hello");
    EXPECT_EQ(me().Cat("/box/error"), "");
}

// What is written while the link is down waits for its answer; it must not come before what was told already.
TEST_F(Behind, AWriteDuringACutIsNotOvertakenByTheOneBeforeIt) {
    const auto file = UnderWay("AAAA");
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    machine().Cut();
    const RecordingPtr later = StartWrite(*file, 0, "BBBB");
    Advance(seconds(3));
    EXPECT_EQ(me().FinishCode(later), 0);
    EXPECT_EQ(files().Content("/work/new"), "BBBB");
}

// Whoever waited for it was told so. What was given behind it, and the commands that wait for that, are not held up by it.
TEST_F(Behind, AWriteThatWasGivenUpDuringACutHoldsNothingUp) {
    const auto file = UnderWay("AAAA");
    machine().Cut();
    const RecordingPtr later = StartWrite(*file, 4, "BBBB");
    Advance(seconds(60));
    EXPECT_EQ(me().FinishCode(later), ETIMEDOUT);
    ASSERT_EQ(file->Close(), 0);
    LetGo();
    Advance(seconds(3));
    EXPECT_EQ(files().Content("/work/new"), "AAAA");
    EXPECT_EQ(files().OpenFiles(), 0U);
    ASSERT_EQ(me().Echo("true", "/box/cmd"), 0);
    Settle();
    EXPECT_TRUE(supervisor().Knows(1));
}

}  // namespace
}  // namespace sbxfs::testing
