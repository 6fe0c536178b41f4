// FileCache: what is served from memory, until when, and what makes it forget.
#include "sandbox/file_cache.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

namespace sbxfs::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::int64_t kReadAt = 5'000'000'000'000;

class Cache : public ::testing::Test {
 protected:
    static RemoteStat File(std::uint64_t size = 3, std::int64_t mtime = 100) {
        RemoteStat stat;
        stat.mode = S_IFREG | 0644;
        stat.size = size;
        stat.mtime = mtime;
        return stat;
    }
    static RemoteStat Dir() {
        RemoteStat stat;
        stat.mode = S_IFDIR | 0755;
        return stat;
    }
    static IdentityStat Identity(const RemoteStat& stat, std::uint64_t ino = 7,
                                 std::int64_t ctime_ns = 1) {
        IdentityStat identity;
        identity.ino = ino;
        identity.nlink = 1;
        identity.mode = stat.mode;
        identity.size = stat.size;
        identity.mtime_ns = stat.mtime * 1'000'000'000;
        identity.ctime_ns = ctime_ns;
        return identity;
    }
    void Put(const std::string& path, const RemoteStat& stat) {
        cache_.PutStat(cache_.Ask(path), stat);
    }
    void PutList(const std::string& path, std::vector<RemoteEntry> entries) {
        cache_.PutList(cache_.AskList(path), std::move(entries));
    }
    bool Knows(const std::string& path) { return cache_.Stat(path).has_value(); }
    bool KnowsMissing(const std::string& path) {
        const auto stat = cache_.Stat(path);
        return stat && !*stat && stat->error().code() == Errno{ENOENT};
    }
    // A command of which the supervisor looked at `paths` before it started.
    void Command(const std::vector<std::string>& paths, const std::vector<IdentityStat>& stats) {
        const FileCache::Era era = cache_.era();
        cache_.BeginEra(FileCache::Quiet::kNo);
        cache_.SetBaselines(era, paths, stats, kReadAt);
        cache_.BeginEra(FileCache::Quiet::kYes);
    }
    void SetUp() override { cache_.BeginEra(FileCache::Quiet::kYes); }

    ManualClock clock_;
    FileCache cache_{clock_};
};

TEST_F(Cache, ServesTwentySecondsWhileQuietAndOneWhileNot) {
    Put("/a", File());
    clock_.Advance(seconds(20) - milliseconds(1));
    EXPECT_TRUE(Knows("/a"));
    clock_.Advance(milliseconds(1));
    EXPECT_FALSE(Knows("/a"));
    cache_.BeginEra(FileCache::Quiet::kNo);
    Put("/a", File());
    clock_.Advance(milliseconds(999));
    EXPECT_TRUE(Knows("/a"));
    clock_.Advance(milliseconds(1));
    EXPECT_FALSE(Knows("/a"));
}

TEST_F(Cache, AListingTellsOfEveryNameThereAndOfEveryOtherThatItIsNot) {
    PutList("/d", {{"a", File(5)}, {"s", Dir()}});
    EXPECT_EQ((*cache_.Stat("/d/a"))->size, 5U);
    EXPECT_TRUE(Knows("/d/s"));
    EXPECT_TRUE(KnowsMissing("/d/none"));
    EXPECT_FALSE(Knows("/d/s/below"));
    EXPECT_EQ(cache_.List("/d")->size(), 2U);
    EXPECT_TRUE(cache_.KnowsWholly("/d"));
}

TEST_F(Cache, AnAnswerThatWasOnItsWayDuringAChangeIsNotKept) {
    const auto question = cache_.Ask("/d/a");
    const auto list = cache_.AskList("/d");
    const auto other = cache_.Ask("/e");
    cache_.Changed("/d/a");
    cache_.PutStat(question, File());
    cache_.PutList(list, std::vector<RemoteEntry>{{"a", File()}});
    cache_.PutStat(other, File());
    EXPECT_FALSE(Knows("/d/a"));
    EXPECT_TRUE(Knows("/e"));
}

TEST_F(Cache, AnAnswerOfAnEarlierEraIsNotKept) {
    const auto question = cache_.Ask("/a");
    cache_.BeginEra(FileCache::Quiet::kNo);
    cache_.PutStat(question, File());
    EXPECT_FALSE(Knows("/a"));
}

TEST_F(Cache, NothingOfAnEarlierEraIsServed) {
    Put("/a", File());
    PutList("/d", {{"b", File()}});
    cache_.BeginEra(FileCache::Quiet::kYes);
    EXPECT_FALSE(Knows("/a"));
    EXPECT_FALSE(Knows("/d/b"));
    EXPECT_FALSE(KnowsMissing("/d/none"));
    EXPECT_FALSE(cache_.List("/d"));
}

TEST_F(Cache, NamesThatWeMakeAndRemoveComeIntoAKnownListing) {
    PutList("/d", {{"a", File()}});
    cache_.Made(cache_.ChangingName("/d/b"), File(9));
    cache_.Gone(cache_.ChangingName("/d/a"), Ok());
    ASSERT_TRUE(cache_.List("/d"));
    EXPECT_EQ(cache_.List("/d")->front().name, "b");
    EXPECT_EQ(cache_.List("/d")->size(), 1U);
    EXPECT_EQ((*cache_.Stat("/d/b"))->size, 9U);
    EXPECT_TRUE(KnowsMissing("/d/a"));
}

TEST_F(Cache, AChangeThatFailedLeavesNothingKnownOfItsDirectory) {
    PutList("/d", {{"a", File()}});
    cache_.Gone(cache_.ChangingName("/d/a"), Error(Errno{ETIMEDOUT}, "unknown"));
    EXPECT_FALSE(cache_.List("/d"));
    EXPECT_FALSE(Knows("/d/a"));
}

TEST_F(Cache, OfTwoChangesOfANameOnTheirWayNeitherIsBelieved) {
    PutList("/d", {});
    const auto made = cache_.ChangingName("/d/a");
    const auto gone = cache_.ChangingName("/d/a");
    cache_.Gone(gone, Ok());
    cache_.Made(made, File());
    EXPECT_FALSE(cache_.Stat("/d/a"));
    EXPECT_FALSE(cache_.List("/d"));
}

TEST_F(Cache, ADirectoryThatMovesTakesWhatWasBelowItAlong) {
    Put("/d/a/b", File());
    Put("/d2", File());
    (void)cache_.ChangingName("/d");
    EXPECT_FALSE(Knows("/d/a/b"));
    EXPECT_TRUE(Knows("/d2"));
}

TEST_F(Cache, WhatLooksTheSameAfterACommandIsServedAgain) {
    Put("/a", File());
    PutList("/d", {{"b", File()}});
    Command({"/a", "/d", "/d/b"}, {Identity(File()), Identity(Dir(), 8), Identity(File(), 9)});
    EXPECT_FALSE(Knows("/a"));
    const std::vector<std::string> marked = cache_.Marked("/d", 10);
    EXPECT_EQ(marked.front(), "/d");
    EXPECT_EQ(marked.size(), 3U);
    cache_.Recheck(cache_.era(), {"/d", "/d/b", "/a"},
                   {Identity(Dir(), 8), Identity(File(), 9), Identity(File())});
    EXPECT_TRUE(Knows("/a"));
    EXPECT_TRUE(cache_.KnowsWholly("/d"));
}

TEST_F(Cache, EqualSizeAndMtimeAreNotEnoughToBeServedAgain) {
    Put("/a", File());
    Command({"/a"}, {Identity(File())});
    cache_.Recheck(cache_.era(), {"/a"}, {Identity(File(), 7, 2)});  // ctime moved
    EXPECT_FALSE(Knows("/a"));
    EXPECT_TRUE(cache_.Marked("/a", 10).empty());
}

TEST_F(Cache, ANameThatIsMissingIsLookedAtAgainToo) {
    cache_.PutStat(cache_.Ask("/none"), Error(Errno{ENOENT}, ""));
    IdentityStat missing;
    missing.error = ENOENT;
    Command({"/none"}, {missing});
    EXPECT_FALSE(Knows("/none"));
    cache_.Recheck(cache_.era(), {"/none"}, {missing});
    EXPECT_TRUE(KnowsMissing("/none"));
}

TEST_F(Cache, WhatChangedWithinTheLastSecondThereIsNotTrustedAfterACommand) {
    const RemoteStat recent = File(3, kReadAt / 1'000'000'000);
    Put("/a", recent);
    Command({"/a"}, {Identity(recent)});
    EXPECT_TRUE(cache_.Marked("/a", 10).empty());
}

TEST_F(Cache, WhatNobodyLookedAtBeforeACommandIsAskedAnew) {
    Put("/a", File());
    Command({}, {});
    EXPECT_TRUE(cache_.Marked("/a", 10).empty());
    EXPECT_FALSE(Knows("/a"));
}

TEST_F(Cache, AChangeOfOursDuringALookIsNotUndoneByIt) {
    Put("/a", File());
    Command({"/a"}, {Identity(File())});
    cache_.Changed("/a");
    cache_.Recheck(cache_.era(), {"/a"}, {Identity(File())});
    EXPECT_FALSE(Knows("/a"));
}

TEST_F(Cache, ALookOfAnEarlierEraSaysNothing) {
    Put("/a", File());
    Command({"/a"}, {Identity(File())});
    const FileCache::Era asked = cache_.era();
    cache_.BeginEra(FileCache::Quiet::kNo);
    cache_.Recheck(asked, {"/a"}, {Identity(File())});
    EXPECT_FALSE(Knows("/a"));
}

TEST_F(Cache, AttributesOfAFileWithSeveralNamesAreAskedEachTime) {
    Put("/a", File());
    cache_.Linked("/a");
    EXPECT_FALSE(Knows("/a"));
    Put("/a", File());
    EXPECT_FALSE(Knows("/a"));
}

TEST_F(Cache, FilesWithSeveralNamesAreKnownAsSuchAlsoWhenAllElseIsForgotten) {
    FileCache small(clock_, {.entries = 100});
    small.BeginEra(FileCache::Quiet::kYes);
    small.Linked("/l1");
    small.ForgetAll();
    EXPECT_TRUE(small.HasOtherNames("/l1"));
    for (int i = 0; i < 1000; ++i)
        small.PutStat(small.Ask("/" + std::to_string(i)), File());
    small.PutStat(small.Ask("/l1"), File());
    EXPECT_FALSE(small.Stat("/l1"));
    small.Gone(small.ChangingName("/l1"), Ok());
    EXPECT_FALSE(small.HasOtherNames("/l1"));
}

TEST_F(Cache, MoreFilesWithSeveralNamesThanCanBeKnownAreNotServedAtAll) {
    FileCache small(clock_, {.entries = 100});
    small.BeginEra(FileCache::Quiet::kYes);
    for (int i = 0; i <= 100; ++i)
        small.Linked("/" + std::to_string(i));
    small.PutStat(small.Ask("/0"), File());
    EXPECT_FALSE(small.Stat("/0"));
}

TEST_F(Cache, ALockTakenForgetsItsDirectoryAndNothingElse) {
    PutList("/d", {{"index", File()}});
    Put("/d/sub/x", File());
    Put("/e", File());
    cache_.Made(cache_.ChangingName("/d/lock"), File(), FileCache::Directory::kForget);
    EXPECT_TRUE(Knows("/d/lock"));
    EXPECT_FALSE(Knows("/d/index"));
    EXPECT_FALSE(KnowsMissing("/d/none"));
    EXPECT_TRUE(Knows("/d/sub/x"));
    EXPECT_TRUE(Knows("/e"));
}

TEST_F(Cache, ADirectoryIsKnownAfterAChangeByALookBehindIt) {
    for (const FileCache::Directory how :
         {FileCache::Directory::kKeep, FileCache::Directory::kForget}) {
        const auto change = cache_.ChangingName("/d/f");
        const auto behind = cache_.AskBehind("/d", {change});
        cache_.Made(change, File(), how);
        EXPECT_FALSE(Knows("/d"));
        cache_.PutStat(behind, Dir());
        EXPECT_TRUE(Knows("/d"));
    }
}

TEST_F(Cache, ALookBehindAChangeSaysNothingWhenItIsAnsweredFirst) {
    const auto change = cache_.ChangingName("/d/f");
    const auto behind = cache_.AskBehind("/d", {change});
    cache_.PutStat(behind, Dir());
    EXPECT_FALSE(Knows("/d"));
    cache_.Gone(change, Ok());
    EXPECT_FALSE(Knows("/d"));
}

TEST_F(Cache, ALookBehindAChangeSaysNothingAfterAnother) {
    const auto change = cache_.ChangingName("/d/f");
    const auto behind = cache_.AskBehind("/d", {change});
    const auto other = cache_.ChangingName("/d/g");
    cache_.Made(change, File());
    cache_.Made(other, File());
    cache_.PutStat(behind, Dir());
    EXPECT_FALSE(Knows("/d"));
    // A rename is two.
    const auto from = cache_.ChangingName("/d/f");
    const auto to = cache_.ChangingName("/d/h");
    const auto both = cache_.AskBehind("/d", {from, to});
    cache_.Gone(from, Ok());
    cache_.Made(to, File());
    cache_.PutStat(both, Dir());
    EXPECT_TRUE(Knows("/d"));
}

TEST_F(Cache, AListingSaysNothingOfWhatChangedWhileItCame) {
    const auto listing = cache_.AskList("/d");
    cache_.Gone(cache_.ChangingName("/d/gone"), Ok());
    cache_.Made(cache_.ChangingName("/d/made"), File(5));
    cache_.PutList(listing, std::vector<RemoteEntry>{{"gone", File()}, {"other", File()}});
    EXPECT_TRUE(KnowsMissing("/d/gone"));
    EXPECT_EQ((*cache_.Stat("/d/made"))->size, 5U);
    EXPECT_TRUE(Knows("/d/other"));
    // Nor which names there are.
    EXPECT_FALSE(cache_.List("/d"));
    EXPECT_FALSE(KnowsMissing("/d/none"));
}

TEST_F(Cache, AListingSaysNothingOfTheAttributesOfADirectoryInWhichANameChangedWhileItCame) {
    const auto listing = cache_.AskList("/d");
    cache_.Made(cache_.ChangingName("/d/sub/f"), File());
    cache_.PutList(listing, std::vector<RemoteEntry>{{"sub", Dir()}, {"other", File()}});
    EXPECT_FALSE(Knows("/d/sub"));
    EXPECT_TRUE(Knows("/d/other"));
    EXPECT_TRUE(cache_.List("/d"));
}

TEST_F(Cache, AListingSaysNothingOfAFileThatWasWrittenWhileItCame) {
    const auto listing = cache_.AskList("/d");
    cache_.Changed("/d/f");
    cache_.PutList(listing, std::vector<RemoteEntry>{{"f", File()}, {"other", File()}});
    EXPECT_FALSE(Knows("/d/f"));
    EXPECT_TRUE(Knows("/d/other"));
    EXPECT_TRUE(cache_.List("/d"));
}

TEST_F(Cache, IsBounded) {
    FileCache small(clock_, {.entries = 100});
    small.BeginEra(FileCache::Quiet::kYes);
    for (int i = 0; i < 1000; ++i)
        small.PutStat(small.Ask("/" + std::to_string(i)), File());
    EXPECT_LE(small.Count(), 100U);
    EXPECT_TRUE(small.Stat("/999"));
}

TEST_F(Cache, BaselinesAreAskedForWhatIsKnownAndNotLookedAt) {
    Put("/a", File());
    Put("/b", File());
    EXPECT_EQ(cache_.WithoutBaseline(10).size(), 2U);
    EXPECT_EQ(cache_.WithoutBaseline(1).size(), 1U);
    const FileCache::Era born = cache_.era();
    Command({"/a"}, {Identity(File())});
    EXPECT_TRUE(cache_.Baseline("/a", born));
    EXPECT_FALSE(cache_.Baseline("/a", cache_.era()));
    EXPECT_FALSE(cache_.Baseline("/b", born));
}

// What a sandbox calls its files is not to fill this machine's memory.
TEST_F(Cache, LongNamesAndTargetsAreKeptUpToTheirBytes) {
    FileCache cache(clock_, {.entries = 1000, .texts = 10'000});
    cache.BeginEra(FileCache::Quiet::kYes);
    const auto listing = [](std::size_t count, std::size_t length) {
        std::vector<RemoteEntry> entries;
        for (std::size_t i = 0; i < count; ++i) {
            std::string name = std::to_string(i);
            entries.push_back({name + std::string(length - name.size(), 'x'), File()});
        }
        return entries;
    };
    cache.PutList(cache.AskList("/d"), listing(100, 10));
    EXPECT_TRUE(cache.List("/d").has_value());
    cache.PutList(cache.AskList("/long"), listing(100, 200));
    EXPECT_FALSE(cache.List("/long").has_value());
    EXPECT_TRUE(cache.List("/d").has_value());
    // One by one: it never has more than it may.
    std::size_t known = 0;
    std::vector<std::string> paths;
    for (int i = 0; i < 500; ++i) {
        paths.push_back("/e/" + std::to_string(i) + std::string(200, 'y'));
        cache.PutStat(cache.Ask(paths.back()), File());
        cache.PutTarget(cache.Ask(paths.back()), std::string(200, 't'));
        known = 0;
        for (const std::string& path : paths)
            known += cache.Stat(path).has_value() ? 1 : 0;
        ASSERT_LE(known * 400, 10'000U + 800U);
    }
    EXPECT_GT(known, 0U);
}

}  // namespace
}  // namespace sbxfs::testing
