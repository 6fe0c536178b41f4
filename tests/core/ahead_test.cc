// What is fetched before it is asked for, and what is answered without asking: prefetching, lazy open,
// contents in memory (docs/CACHES.md).
#include <errno.h>
#include <fcntl.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sandbox/sandbox_metrics.h"
#include "tests/support/mount_test.h"

namespace sbxfs::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class Ahead : public MountTest {
 protected:
    void SetUp() override {
        MountTest::SetUp();
        MakeBox();
        Settle();
        for (int d = 0; d < 10; ++d) {
            for (int f = 0; f < 10; ++f)
                files().PutFile(Name(d, f), Text(d, f));
        }
        Advance(seconds(5));
        DropCaches();
    }
    static std::string Name(int d, int f) {
        return "/work/t/d" + std::to_string(d) + "/f" + std::to_string(f);
    }
    static std::string Text(int d, int f) {
        return "text " + std::to_string(d) + "." + std::to_string(f);
    }
    static std::string Local(int d, int f) { return "/box/fs" + Name(d, f); }
    // As grep -r: lists each directory, then reads what is in it.
    void Walk() {
        for (const std::string& dir : me().ListPlus("/box/fs/work/t")) {
            for (const std::string& name : me().ListPlus("/box/fs/work/t/" + dir)) {
                const std::string path = dir + "/" + name;
                EXPECT_EQ(me().Cat("/box/fs/work/t/" + path), files().Content("/work/t/" + path));
            }
        }
    }
    // Until the file is answered without asking.
    void Learn(const std::string& path) {
        (void)me().Cat(path);
        (void)me().Cat(path);
        (void)me().Cat(path);
    }
    std::uint64_t Asked() { return files().Log().size(); }
};

TEST_F(Ahead, AWalkThroughATreeListsItsDirectoriesAhead) {
    const std::uint64_t before = files().RoundTrips();
    for (const std::string& dir : me().ListPlus("/box/fs/work/t"))
        EXPECT_EQ(me().ListPlus("/box/fs/work/t/" + dir).size(), 10U);
    // The way there, the top, the first, all the others at once.
    EXPECT_LE(files().RoundTrips() - before, 6U);
}

// More than are listed ahead at a time, the walk being in one part while the others' have been listed.
TEST_F(Ahead, AWalkThroughManyDirectoriesDoesNotLoseItsWay) {
    constexpr int kParts = 10, kEach = 120;
    for (int part = 0; part < kParts; ++part) {
        for (int one = 0; one < kEach; ++one)
            files().PutDir("/work/w/p" + std::to_string(part) + "/c" + std::to_string(one));
    }
    Advance(seconds(5));
    DropCaches();
    const auto used = [] {
        return sandbox_metrics.ahead_used.Value(static_cast<std::size_t>(AheadKind::kListings));
    };
    const std::uint64_t before = used();
    for (const std::string& part : me().ListPlus("/box/fs/work/w")) {
        for (const std::string& one : me().ListPlus("/box/fs/work/w/" + part))
            EXPECT_TRUE(me().ListPlus("/box/fs/work/w/" + part + "/" + one).empty());
    }
    EXPECT_GE(used() - before, kParts * kEach * 8 / 10U);
}

TEST_F(Ahead, OneListingListsNothingAhead) {
    (void)me().ListPlus("/box/fs/work/t");
    Settle();
    EXPECT_EQ(files().Count("list /work/t/"), 0U);
}

// many.py files: each listing had changed before it was there, and was fetched once more for the next name.
TEST_F(Ahead, ADirectoryThatIsBeingFilledIsNotListedAheadForEachName) {
    files().PutDir("/work/many");
    DropCaches();
    const Ino many = me().InoOf("/box/fs/work/many");
    const auto lists = [this] { return files().Count("list /work/many"); };
    const auto look_at_two = [this, many](const std::string& name) {
        for (const char* end : {"1", "2"}) {
            const RecordingPtr look = me().StartLookup(many, name + end);
            EXPECT_EQ(me().FinishCode(look), ENOENT);
        }
        Settle();
    };
    (void)me().StartLookup(many, "a1");
    Settle();
    files().SetAnswers(FakeFiles::Answers::kHeld);
    const RecordingPtr second = me().StartLookup(many, "a2");
    Settle();
    ASSERT_EQ(lists(), 1U);
    const RecordingPtr made = me().StartMkdir("/box/fs/work/many/new");
    Settle();
    Advance(milliseconds(100));
    // Whatever is answered first: what was made is newer than the listing.
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    while (files().Held().size() > 0)
        files().Release(files().Held().size() - 1);
    Settle();
    EXPECT_EQ(me().FinishCode(second), ENOENT);
    EXPECT_EQ(me().FinishCode(made), 0);
    const std::size_t spoiled = lists();
    look_at_two("b");
    look_at_two("c");
    EXPECT_EQ(lists(), spoiled);
    Advance(seconds(4));
    look_at_two("d");
    EXPECT_EQ(lists(), spoiled + 1);
}

TEST_F(Ahead, AWalkThatReadsEveryFileWaitsAFewTimes) {
    const std::uint64_t before = files().RoundTrips();
    Walk();
    EXPECT_LE(files().RoundTrips() - before, 20U);
    // The others came many at a time, each once.
    EXPECT_LE(files().Count("open /work/t"), 4U);
    std::vector<std::string> fetched;
    for (const auto& paths : supervisor().fetches())
        fetched.insert(fetched.end(), paths.begin(), paths.end());
    EXPECT_GE(fetched.size(), 97U);
    EXPECT_LE(fetched.size(), 104U);
    EXPECT_LE(supervisor().fetches().size(), 20U);
}

// An older supervisor does not read files.
class AheadAlone : public Ahead {
 protected:
    AheadAlone() {
        world_.machines.furnish = [furnish = world_.machines.furnish](FakeMachine& machine) {
            furnish(machine);
            machine.supervisor().hello.fetches = false;
        };
    }
};

TEST_F(AheadAlone, AWalkThatReadsEveryFileWaitsAFewTimes) {
    const std::uint64_t before = files().RoundTrips();
    Walk();
    EXPECT_LE(files().RoundTrips() - before, 20U);
    EXPECT_EQ(files().Count("open /work/t"), 100U);  // each once
    EXPECT_TRUE(supervisor().fetches().empty());
}

TEST_F(Ahead, AnOpenAndTheReadThatFollowsAreOneRoundTrip) {
    (void)me().InoOf(Local(0, 0));
    const std::uint64_t before = files().RoundTrips();
    const auto file = me().Open(Local(0, 0), O_RDONLY);
    EXPECT_EQ(file->ReadAt(0, 100), Text(0, 0));
    EXPECT_EQ(files().RoundTrips() - before, 1U);
    EXPECT_EQ(files().Count("read "), 0U);
}

TEST_F(Ahead, WhileNotQuietAnOpenAndTheReadThatFollowsAreOneRoundTrip) {
    supervisor().others.resize(1);
    Command([] {});
    for (int round = 0; round < 3; ++round) {
        (void)me().InoOf(Local(0, 0));
        const std::uint64_t before = files().RoundTrips();
        const auto file = me().Open(Local(0, 0), O_RDONLY);
        EXPECT_EQ(file->ReadAt(0, 100), files().Content(Name(0, 0)));
        EXPECT_EQ(files().RoundTrips() - before, 1U);
        // As large as it was, in the second it was made: somebody there writes.
        files().PutFile(Name(0, 0), "text" + std::to_string(round) + ".0.");
    }
    EXPECT_EQ(files().Count("read "), 0U);
}

// The bytes that came with the open are of it, and no older than a second later.
TEST_F(Ahead, WhileNotQuietBytesThatCameWithAnOpenAreReadAnewAfterASecond) {
    supervisor().others.resize(1);
    Command([] {});
    const auto file = me().Open(Local(0, 0), O_RDONLY);
    EXPECT_EQ(file->ReadAt(0, 100), "text 0.0");
    files().PutFile(Name(0, 0), "TEXT 0.0");
    Advance(milliseconds(1001));
    EXPECT_EQ(file->ReadAt(0, 100), "TEXT 0.0");
}

TEST_F(Ahead, AWriteThroughAnotherHandleIsSeenThoughTheBytesCameWithTheOpen) {
    supervisor().others.resize(1);
    Command([] {});
    const auto file = me().Open(Local(0, 0), O_RDONLY);
    EXPECT_EQ(me().Echo("TEXT 0.0", Local(0, 0)), 0);
    EXPECT_EQ(file->ReadAt(0, 100), "TEXT 0.0");
}

TEST_F(Ahead, OneFileReadsNoOther) {
    EXPECT_EQ(me().Cat(Local(0, 0)), Text(0, 0));
    EXPECT_EQ(me().Cat(Local(0, 0)), Text(0, 0));
    Settle();
    EXPECT_EQ(files().Count("open /work/t/d0/f1"), 0U);
}

TEST_F(Ahead, ASecondWalkWhileQuietAsksNothing) {
    Walk();
    Settle();
    Walk();
    const std::uint64_t before = Asked();
    Walk();
    EXPECT_EQ(Asked(), before);
}

TEST_F(Ahead, AFileThatACommandChangedAfterItWasFetchedIsReadAnew) {
    Walk();
    Command([this] {
        const std::int64_t mtime = files().Stat(Name(3, 3))->mtime;
        files().PutFile(Name(3, 3), "TEXT 3.3");  // the size and mtime it had
        files().SetTimes(Name(3, 3), mtime);
        files().Remove(Name(4, 4));
    });
    EXPECT_EQ(me().Cat(Local(3, 3)), "TEXT 3.3");
    EXPECT_EQ(me().Cat(Local(4, 4)), "<ENOENT>");
}

TEST_F(Ahead, WhatACommandLeftAloneIsStillKnownAfterIt) {
    Walk();
    Walk();
    Command([] {});
    const std::size_t reads = files().Count("read ");
    Walk();
    EXPECT_EQ(files().Count("read "), reads);
}

TEST_F(Ahead, AWriteIsSeenByEverybodyWhoHasTheFileOpen) {
    Learn(Local(0, 0));
    const auto lazy = me().Open(Local(0, 0), O_RDONLY);
    EXPECT_EQ(lazy->ReadAt(0, 4), "text");
    const auto writer = me().Open(Local(0, 0), O_WRONLY);
    EXPECT_EQ(writer->Write("TEXT"), 0);
    EXPECT_EQ(lazy->ReadAt(0, 100), "TEXT 0.0");
    EXPECT_EQ(me().Cat(Local(0, 0)), "TEXT 0.0");
}

// The name was about to change in between, and with it what was known of it.
TEST_F(Ahead, AWriteIsSeenByAHandleWhoseNameSomebodyWantedToMakeInBetween) {
    Learn(Local(0, 0));
    const auto lazy = me().Open(Local(0, 0), O_RDONLY);
    EXPECT_EQ(me().Create(Local(0, 0), O_WRONLY | O_CREAT | O_EXCL)->error(), EEXIST);
    EXPECT_EQ(me().Echo("TEXT 0.0", Local(0, 0)), 0);
    EXPECT_EQ(lazy->ReadAt(0, 100), "TEXT 0.0");
}

TEST_F(Ahead, AFileOpenedWithoutAskingSurvivesItsUnlink) {
    Learn(Local(0, 0));
    const std::size_t opens = files().Count("open /work/t");
    const auto lazy = me().Open(Local(0, 0), O_RDONLY);
    ASSERT_EQ(files().Count("open /work/t"), opens);
    EXPECT_EQ(me().Unlink(Local(0, 0)), 0);
    EXPECT_EQ(lazy->Read(), "text 0.0");
    EXPECT_EQ(lazy->Fsync(), 0);
    EXPECT_EQ(me().Cat(Local(0, 0)), "<ENOENT>");
}

TEST_F(Ahead, AFileOpenedWithoutAskingFollowsItsRename) {
    Learn(Local(0, 0));
    const auto lazy = me().Open(Local(0, 0), O_RDONLY);
    EXPECT_EQ(me().Rename("/box/fs/work/t/d0", "/box/fs/work/t/e"), 0);
    EXPECT_EQ(me().Echo("another", "/box/fs/work/t/x"), 0);
    EXPECT_EQ(me().Rename("/box/fs/work/t/x", "/box/fs/work/t/e/f0"), 0);
    EXPECT_EQ(lazy->Read(), "text 0.0");
    EXPECT_EQ(me().Cat("/box/fs/work/t/e/f0"), "another");
}

TEST_F(Ahead, AFileOpenedWithoutAskingIsTheOneThatWasThereWhenACommandReplacesIt) {
    Learn(Local(0, 0));
    const auto lazy = me().Open(Local(0, 0), O_RDONLY);
    Command([this] {
        files().Remove(Name(0, 0));
        files().PutFile(Name(0, 0), "another");
    });
    EXPECT_EQ(lazy->Read(), "text 0.0");
    EXPECT_EQ(me().Cat(Local(0, 0)), "another");
}

TEST_F(Ahead, AFileOpenedWithoutAskingShowsWhatACommandWroteToIt) {
    Learn(Local(0, 0));
    const auto lazy = me().Open(Local(0, 0), O_RDONLY);
    EXPECT_EQ(lazy->ReadAt(0, 4), "text");
    Command([this] { files().PutFile(Name(0, 0), "written by the command"); });
    EXPECT_EQ(lazy->ReadAt(0, 100), "written by the command");
}

TEST_F(Ahead, ACommandStartsOnlyWhenFilesOpenedWithoutAskingAreOpenThere) {
    Learn(Local(0, 0));
    const auto lazy = me().Open(Local(0, 0), O_RDONLY);
    files().SetAnswers(FakeFiles::Answers::kHeld);
    ASSERT_EQ(me().Echo("x", "/box/cmd"), 0);
    Settle();
    EXPECT_TRUE(supervisor().starts().empty());
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    files().ReleaseAll();
    Settle();
    EXPECT_EQ(supervisor().starts().size(), 1U);
    supervisor().Run(1);
    Settle();
    EXPECT_EQ(lazy->Read(), "text 0.0");
}

// Parts of it are in memory: what else is read waits for the open that is under way.
TEST_F(Ahead, AFileOfWhichPartsAreKnownIsOpenedWithoutWaiting) {
    const std::string large = std::string(1U << 20, 'a') + std::string(1U << 20, 'b');
    files().PutFile("/work/t/large", large);
    Advance(seconds(5));
    for (int i = 0; i < 2; ++i)
        EXPECT_EQ(me().Open("/box/fs/work/t/large", O_RDONLY)->ReadAt(1U << 20, 4096).size(),
                  4096U);
    Settle();
    const std::size_t opens = files().Count("open /work/t/large");
    files().SetAnswers(FakeFiles::Answers::kHeld);
    const auto file = me().Open("/box/fs/work/t/large", O_RDONLY);
    EXPECT_EQ(file->error(), 0);
    EXPECT_EQ(file->ReadAt(1U << 20, 4096), large.substr(1U << 20, 4096));
    Settle();
    EXPECT_EQ(files().Count("open /work/t/large"), opens + 1);
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    files().ReleaseAll();
    Settle();
    EXPECT_EQ(file->ReadAt(0, 4096), large.substr(0, 4096));
}

TEST_F(Ahead, WhatIsWrittenWhileARenameIsUnderWayIsRead) {
    Learn(Local(0, 0));
    const auto file = me().Open(Local(0, 0), O_RDWR);
    EXPECT_EQ(file->ReadAt(0, 4), "text");
    files().SetAnswers(FakeFiles::Answers::kHeld);
    const auto renamed = me().StartRename(Local(0, 0), "/box/fs/work/t/moved");
    Settle();
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    EXPECT_EQ(file->Write("TEXT"), 0);
    files().ReleaseAll();
    Settle();
    EXPECT_EQ(me().FinishCode(renamed), 0);
    EXPECT_EQ(me().Cat("/box/fs/work/t/moved"), "TEXT 0.0");
}

TEST_F(Ahead, DropCachesForgetsContents) {
    Learn(Local(0, 0));
    const std::int64_t mtime = files().Stat(Name(0, 0))->mtime;
    files().PutFile(Name(0, 0), "TEXT 0.0");
    files().SetTimes(Name(0, 0), mtime);
    DropCaches();
    EXPECT_EQ(me().Cat(Local(0, 0)), "TEXT 0.0");
}

TEST_F(Ahead, AFileWithAnotherNameIsReadAnewEachTime) {
    Learn(Local(0, 0));
    EXPECT_EQ(me().Link(Local(0, 0), "/box/fs/work/t/h"), 0);
    EXPECT_EQ(me().Cat(Local(0, 0)), "text 0.0");
    EXPECT_EQ(me().Echo("TEXT 0.0", "/box/fs/work/t/h"), 0);
    EXPECT_EQ(me().Cat(Local(0, 0)), "TEXT 0.0");
}

TEST_F(Ahead, AFileThatACommandLinkedIsReadAnewEachTime) {
    Command([this] {
        files().Link(Name(1, 1), "/work/t/d1/h", [](const Result<RemoteStat>&) {});
        Settle();
    });
    Walk();
    Walk();
    EXPECT_EQ(me().Echo("TEXT 1.1", "/box/fs/work/t/d1/h"), 0);
    EXPECT_EQ(me().Cat(Local(1, 1)), "TEXT 1.1");
}

// Who heard that a question had failed asked the next, of the supervisor that was being given up: that file was waited for
// by everybody who opened it from then on.
TEST_F(Ahead, ASupervisorThatDiesDuringAWalkTakesNoFileWithIt) {
    for (int f = 0; f < 3; ++f)
        EXPECT_EQ(me().Cat(Local(0, f)), Text(0, f));
    supervisor().holds_fetches = true;
    for (int f = 3; f < 10; ++f)
        EXPECT_EQ(me().Cat(Local(0, f)), Text(0, f));
    Settle();
    machine().CutSupervisor();
    Settle();
    supervisor().holds_fetches = false;
    machine().ConnectSupervisor();
    Settle();
    Advance(seconds(5));
    for (int d = 0; d < 10; ++d) {
        for (int f = 0; f < 10; ++f)
            EXPECT_EQ(me().Cat(Local(d, f)), Text(d, f));
    }
}

// A supervisor that is stuck holds up no file for longer than a second: the file server has it, too.
TEST_F(Ahead, ASupervisorThatDoesNotAnswerHoldsUpNoFileForLong) {
    for (int f = 0; f < 3; ++f)
        EXPECT_EQ(me().Cat(Local(0, f)), Text(0, f));
    supervisor().holds_fetches = true;
    for (int f = 3; f < 10; ++f)
        EXPECT_EQ(me().Cat(Local(0, f)), Text(0, f));
    const Ino ino = me().InoOf(Local(9, 9));
    const auto opened = me().Ask<OpenReply>("open", ino, "", [&](OpenReply reply) {
        me().fs().Open(ino, OpenRequest{O_RDONLY, me().who()}, std::move(reply));
    });
    Settle();
    Advance(milliseconds(1001));
    Advance(milliseconds(1001));
    ASSERT_TRUE(opened->Now().has_value());
    const Answer answer = me().Finish(opened);
    EXPECT_EQ(answer.error, 0);
    const auto released = me().Ask<EmptyReply>("release", ino, "", [&](EmptyReply reply) {
        me().fs().Release(answer.opened.handle, std::move(reply));
    });
    EXPECT_EQ(me().FinishCode(released), 0);
}

TEST_F(Ahead, WhileNotQuietEveryOpenAsks) {
    supervisor().others.resize(1);
    Command([] {});
    Walk();
    const std::size_t opens = files().Count("open /work/t");
    Walk();
    EXPECT_EQ(files().Count("open /work/t"), opens + 100);
}

TEST_F(Ahead, ALargeFileArrivesWhole) {
    std::string bytes;
    while (bytes.size() < (16U << 20))
        bytes += std::to_string(bytes.size()) + ",";
    files().PutFile("/work/large", bytes);
    Advance(seconds(5));
    DropCaches();
    const auto file = me().Open("/box/fs/work/large", O_RDONLY);
    std::string read;
    while (read.size() < bytes.size())
        read += file->ReadAt(read.size(), 128U << 10);
    EXPECT_TRUE(read == bytes);
    EXPECT_EQ(file->ReadAt(bytes.size(), 4096), "");
}

TEST_F(Ahead, AFileThatGrowsWhileNotQuietIsReadToItsNewEnd) {
    supervisor().others.resize(1);
    Command([] {});
    const auto file = me().Open(Local(0, 0), O_RDONLY);
    EXPECT_EQ(file->ReadAt(0, 4096), "text 0.0");
    files().Append(Name(0, 0), " and more");
    Advance(milliseconds(1001));
    EXPECT_EQ(file->ReadAt(0, 4096), "text 0.0 and more");
}

}  // namespace
}  // namespace sbxfs::testing
