// A large file that is written by two channels (sandbox/linked_lane.cc; docs/WRITE_BEHIND.md, "Two ways"): which bytes go by
// which, what waits for both, what becomes of it when one of them ends.
#include <errno.h>
#include <fcntl.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/behind_test.h"

namespace sbxfs::testing {
namespace {

using std::chrono::seconds;

class TwoWays : public Behind {
 protected:
    static constexpr std::uint64_t kMiB = 1U << 20;
    static MountSetup HoweverNear() {
        MountSetup setup = WithWriteBehind();
        setup.timeouts.wide_from = Duration::zero();
        return setup;
    }
    TwoWays() : Behind(HoweverNear()) {}

    FakeLane& lane() { return machine().lane(); }
    static std::string Block(char letter) { return std::string(kMiB, letter); }
    // So much of a new file at once that a second way is wanted; nothing of it is under way afterwards.
    Client::FilePtr WriteMuch(const std::string& name) {
        auto file = me().Create("/box/fs/work/" + name, O_WRONLY);
        EXPECT_EQ(file->error(), 0);
        Settle();
        Hold();
        for (int i = 0; i < 6; ++i)
            EXPECT_EQ(file->Write(Block('.')), 0);
        Settle();
        EXPECT_EQ(file->Write(Block('.')), 0);
        Settle();
        LetGo();
        return file;
    }
    // Holds both ways, and writes one block by each: A, then B.
    void WriteByBoth(Client::File& file) {
        Hold();
        lane().Hold();
        ASSERT_EQ(file.WriteAt(0, Block('A')), 0);
        ASSERT_EQ(file.WriteAt(kMiB, Block('B')), 0);
        Settle();
        ASSERT_EQ(files().Held(), (std::vector<std::string>{"write /work/new 0+1048576"}));
        ASSERT_EQ(lane().Held(), (std::vector<std::string>{"write 1048576+1048576"}));
    }
    void LetBothGo() {
        LetGo();
        lane().LetGo();
        Settle();
    }
    std::string Letters() {
        std::string letters;
        for (std::uint64_t at = 0; at < files().Content("/work/new").size(); at += kMiB)
            letters += files().Content("/work/new")[at];
        return letters;
    }
};

TEST_F(TwoWays, ALargeFileIsWrittenByBothAndClosedByBoth) {
    auto file = WriteMuch("new");
    WriteByBoth(*file);
    LetBothGo();
    EXPECT_EQ(Letters(), "AB.....");
    EXPECT_EQ(file->Close(), 0);
    Settle();
    EXPECT_EQ(lane().Count("close"), 1U);
    EXPECT_EQ(files().OpenFiles(), 0U);
}

TEST_F(TwoWays, AWriteIsNotSentBesideOneOfTheSameBytes) {
    auto file = WriteMuch("new");
    WriteByBoth(*file);
    ASSERT_EQ(file->WriteAt(kMiB, "C"), 0);
    ASSERT_EQ(file->WriteAt(kMiB / 2, Block('D')), 0);
    LetGo();
    EXPECT_EQ(Letters(), "A......");
    lane().LetGo();
    Settle();
    EXPECT_EQ(Letters(), "AD.....");
    EXPECT_EQ(files().Content("/work/new")[kMiB * 3 / 2], 'B');
}

TEST_F(TwoWays, WhatSpeaksOfTheWholeFileWaitsForBoth) {
    auto file = WriteMuch("new");
    WriteByBoth(*file);
    AttrChange change;
    change.mtime = SystemTime(seconds(1));
    change.mode = 0600;
    ASSERT_EQ(me().Set("/box/fs/work/new", change), 0);
    ASSERT_EQ(me().Rename("/box/fs/work/new", "/box/fs/work/old"), 0);
    LetGo();
    EXPECT_NE(files().Stat("/work/new")->mtime, 1);
    EXPECT_EQ(files().Content("/work/old"), "old");
    lane().LetGo();
    Settle();
    EXPECT_EQ(files().Stat("/work/old")->mtime, 1);
    EXPECT_EQ(files().Content("/work/old")[kMiB], 'B');
}

TEST_F(TwoWays, FsyncIsAnsweredWhenBothHaveBeenSynced) {
    auto file = WriteMuch("new");
    WriteByBoth(*file);
    const auto sync = file->StartFsync();
    LetGo();
    EXPECT_EQ(files().Count("sync /work/new"), 1U);
    lane().Release();  // the write
    Settle();
    EXPECT_FALSE(sync->Now().has_value());
    ASSERT_EQ(lane().Held(), (std::vector<std::string>{"sync"}));
    lane().LetGo();
    EXPECT_EQ(me().FinishCode(sync), 0);
}

// It has not been opened by the second way, so that only the first server would be asked.
TEST_F(TwoWays, FsyncThroughAnotherHandleWaitsForWhatWentByTheSecond) {
    const auto file = WriteMuch("new");
    Settle();
    const auto other = me().Open("/box/fs/work/new", O_RDONLY);
    ASSERT_EQ(other->error(), 0);
    Settle();
    WriteByBoth(*file);
    const auto synced = other->StartFsync();
    LetGo();
    EXPECT_FALSE(synced->Now().has_value());
    EXPECT_EQ(files().Count("sync /work/new"), 0U);
    LetBothGo();
    EXPECT_EQ(me().FinishCode(synced), 0);
    EXPECT_EQ(files().Count("sync /work/new"), 1U);
}

// It may still be made, behind what is written next.
TEST_F(TwoWays, AfterATruncationThatWasGivenUpThereIsOneWay) {
    const auto file = WriteMuch("new");
    WriteByBoth(*file);
    LetBothGo();
    const std::size_t aside = lane().Count("write");
    Hold();
    AttrChange change;
    change.size = 5 * kMiB;
    const Ino ino = file->ino();
    const auto cut = me().StartSetAttr(ino, change);
    Advance(seconds(40));
    EXPECT_EQ(me().FinishCode(cut), ETIMEDOUT);
    ASSERT_EQ(file->WriteAt(0, Block('C')), 0);
    ASSERT_EQ(file->WriteAt(kMiB, Block('D')), 0);
    Settle();
    EXPECT_EQ(lane().Count("write"), aside);
    LetBothGo();
}

TEST_F(TwoWays, AFailureByTheSecondIsToldAsAnyOther) {
    auto file = WriteMuch("new");
    WriteByBoth(*file);
    LetGo();
    lane().FailWith(Error(Errno{ENOSPC}, "no space left there", Blame::kRemote));
    LetBothGo();
    EXPECT_EQ(file->Fsync(), ENOSPC);
    EXPECT_NE(me().Cat("/box/error").find("no space left there"), std::string::npos);
    Settle();
}

TEST_F(TwoWays, WhenTheSecondEndsItsWritesAreRepeatedByTheFirst) {
    auto file = WriteMuch("new");
    WriteByBoth(*file);
    const auto sync = file->StartFsync();
    Settle();
    machine().CutLane();
    Settle();
    EXPECT_FALSE(sync->Now().has_value());
    LetGo();
    EXPECT_EQ(me().FinishCode(sync), 0);
    EXPECT_EQ(Letters(), "AB.....");
    EXPECT_EQ(me().Cat("/box/error"), "");
}

TEST_F(TwoWays, AfterACutWhatWentByBothIsRepeated) {
    auto file = WriteMuch("new");
    WriteByBoth(*file);
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    lane().Hold(false);
    machine().Cut();
    Advance(seconds(3));
    EXPECT_EQ(Letters(), "AB.....");
    EXPECT_EQ(me().Cat("/box/error"), "");
}

// It could not be run while anybody has it open for writing.
TEST_F(TwoWays, ACommandIsSentWhenNeitherHoldsTheFileAnyMore) {
    auto file = WriteMuch("new");
    lane().Hold();
    ASSERT_EQ(file->Close(), 0);
    ASSERT_EQ(me().Echo("./new", "/box/cmd"), 0);
    Settle();
    ASSERT_EQ(lane().Held(), (std::vector<std::string>{"close"}));
    EXPECT_FALSE(supervisor().Knows(1));
    lane().LetGo();
    Settle();
    EXPECT_TRUE(supervisor().Knows(1));
}

TEST_F(TwoWays, AFileIsClosedBeforeItsOpenByTheSecondIsForgotten) {
    auto file = me().Create("/box/fs/work/new", O_WRONLY);
    Settle();
    lane().Hold();
    Hold();
    for (int i = 0; i < 7; ++i) {
        ASSERT_EQ(file->Write(Block('.')), 0);
        Settle();
    }
    LetGo();
    ASSERT_EQ(lane().Held(), (std::vector<std::string>{"open /work/new"}));
    ASSERT_EQ(file->Close(), 0);
    ASSERT_EQ(me().Echo("./new", "/box/cmd"), 0);
    Settle();
    EXPECT_FALSE(supervisor().Knows(1));
    lane().LetGo();
    Settle();
    EXPECT_TRUE(supervisor().Knows(1));
    EXPECT_EQ(lane().Count("close"), 1U);
    EXPECT_EQ(files().OpenFiles(), 0U);
}

TEST_F(TwoWays, AServerThatRefusesASecondIsWrittenToByTheFirst) {
    machine().OfferLanes(false);
    auto file = WriteMuch("new");
    Hold();
    ASSERT_EQ(file->WriteAt(0, Block('A')), 0);
    ASSERT_EQ(file->WriteAt(kMiB, Block('B')), 0);
    LetGo();
    EXPECT_EQ(Letters(), "AB.....");
    EXPECT_EQ(lane().log().size(), 0U);
    EXPECT_EQ(me().Cat("/box/error"), "");
}

// Opened by its path, which leads to another file. It has another number: the first one is still open there.
TEST_F(TwoWays, AnotherFileAtItsPathIsNotWrittenTo) {
    auto file = me().Create("/box/fs/work/new", O_WRONLY);
    Settle();
    Hold();
    for (int i = 0; i < 6; ++i)
        ASSERT_EQ(file->Write(Block('.')), 0);
    Settle();
    files().Remove("/work/new");
    files().PutFile("/work/new", "another");
    ASSERT_EQ(file->Write(Block('.')), 0);
    LetGo();
    EXPECT_EQ(lane().Count("open"), 1U);
    EXPECT_EQ(lane().Count("close"), 1U);
    Hold();
    ASSERT_EQ(file->WriteAt(0, Block('A')), 0);
    ASSERT_EQ(file->WriteAt(kMiB, Block('B')), 0);
    LetGo();
    EXPECT_EQ(lane().Count("write"), 0U);
    EXPECT_EQ(files().Content("/work/new"), "another");
}

TEST_F(TwoWays, ARemovalMeanwhileLeavesOneWay) {
    auto file = me().Create("/box/fs/work/new", O_WRONLY);
    Settle();
    lane().Hold();
    Hold();
    for (int i = 0; i < 7; ++i) {
        ASSERT_EQ(file->Write(Block('.')), 0);
        Settle();
    }
    ASSERT_EQ(lane().Held(), (std::vector<std::string>{"open /work/new"}));
    ASSERT_EQ(me().Unlink("/box/fs/work/old"), 0);
    LetGo();
    EXPECT_FALSE(files().Exists("/work/old"));
    lane().LetGo();
    Settle();
    Hold();
    ASSERT_EQ(file->WriteAt(0, Block('A')), 0);
    ASSERT_EQ(file->WriteAt(kMiB, Block('B')), 0);
    LetGo();
    EXPECT_EQ(lane().Count("write"), 0U);
    EXPECT_EQ(Letters(), "AB.....");
}

// A command could see a later block without an earlier one.
TEST_F(TwoWays, WhileACommandRunsThereIsOne) {
    auto file = WriteMuch("new");
    ASSERT_EQ(me().Echo("x", "/box/cmd"), 0);
    Settle();
    const std::size_t before = lane().Count("write");
    Hold();
    ASSERT_EQ(file->WriteAt(0, Block('A')), 0);
    ASSERT_EQ(file->WriteAt(kMiB, Block('B')), 0);
    LetGo();
    EXPECT_EQ(lane().Count("write"), before);
    EXPECT_EQ(Letters(), "AB.....");
}

}  // namespace
}  // namespace sbxfs::testing
