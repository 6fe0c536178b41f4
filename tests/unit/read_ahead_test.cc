// ReadAhead and AheadWindow: how much is fetched before anybody asks for it.
#include "sandbox/read_ahead.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "sandbox/ahead_window.h"

namespace sbxfs::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Known = ReadAhead::Known;

constexpr std::size_t kKernelRead = 128U << 10;
constexpr std::uint64_t kMiB = 1U << 20;
constexpr std::uint64_t kGiB = 1U << 30;

// A reader of a file, and what has been fetched of it by the page.
class Reader {
 public:
    Reader(std::uint64_t size, Duration wait) : size_(size), wait_(wait) {}
    void Read(std::uint64_t offset, std::size_t size) {
        const bool known = Has(offset, size);
        if (!known) {
            ++misses;
            Add({offset, size});
            ahead_.Waited(wait_);
        }
        read += size;
        if (const auto range =
                ahead_.OnRead({offset, size}, known ? Known::kYes : Known::kNo, size_))
            Add(*range);
    }
    std::uint64_t fetched() const { return pages_.size() * 4096; }
    ReadAhead& ahead() { return ahead_; }

    std::uint64_t misses = 0;
    std::uint64_t read = 0;

 private:
    bool Has(std::uint64_t offset, std::size_t size) const {
        for (std::uint64_t at = offset / 4096; at <= (offset + size - 1) / 4096; ++at) {
            if (!pages_.contains(at)) return false;
        }
        return true;
    }
    void Add(FileRange range) {
        for (std::uint64_t at = range.offset; at < range.offset + range.size; at += 4096)
            pages_.insert(at / 4096);
    }

    const std::uint64_t size_;
    const Duration wait_;
    ReadAhead ahead_{ReadAhead::Limits{}};
    std::set<std::uint64_t> pages_;
};

TEST(ReadAhead, ASmallFileIsFetchedWholeAndOnce) {
    ReadAhead ahead{ReadAhead::Limits{}};
    const auto range = ahead.OnRead({0, 4096}, Known::kNo, 10'000);
    ASSERT_TRUE(range);
    EXPECT_EQ(range->offset, 0U);
    EXPECT_EQ(range->size, 10'000U);
    EXPECT_FALSE(ahead.OnRead({4096, 4096}, Known::kYes, 10'000));
    EXPECT_FALSE(ahead.OnRead({20'000, 4096}, Known::kNo, 10'000));
}

TEST(ReadAhead, ASequentialReaderWaitsAFewTimesHoweverLongTheFile) {
    Reader reader(kGiB, milliseconds(20));
    for (std::uint64_t at = 0; at < 64 * kMiB; at += kKernelRead)
        reader.Read(at, kKernelRead);
    EXPECT_LE(reader.misses, 5U);
    EXPECT_LE(reader.fetched(), 64 * kMiB + ReadAhead::Limits{}.window);
}

TEST(ReadAhead, TheTwoReadsAKernelHasInFlightMayComeInAnyOrder) {
    Reader reader(kGiB, milliseconds(20));
    for (std::uint64_t at = 0; at < 64 * kMiB; at += 2 * kKernelRead) {
        reader.Read(at + kKernelRead, kKernelRead);
        reader.Read(at, kKernelRead);
    }
    EXPECT_LE(reader.misses, 8U);
}

TEST(ReadAhead, TheWindowGrowsOnlyWhileTheReaderHasToWait) {
    ReadAhead ahead{ReadAhead::Limits{}};
    (void)ahead.OnRead({0, kKernelRead}, Known::kNo, kGiB);
    const std::size_t first = ahead.window();
    for (std::uint64_t at = kKernelRead; at < 16 * kMiB; at += kKernelRead)
        (void)ahead.OnRead({at, kKernelRead}, Known::kYes, kGiB);
    EXPECT_EQ(ahead.window(), first);
    (void)ahead.OnRead({16 * kMiB, kKernelRead}, Known::kNo, kGiB);
    EXPECT_EQ(ahead.window(), 2 * first);
}

TEST(ReadAhead, RandomReadsOfAFileThatMayBeKeptCostAFewRoundTrips) {
    Reader reader(64 * kMiB, milliseconds(20));
    std::mt19937 random(1);
    for (int i = 0; i < 1024; ++i)
        reader.Read(random() % (64 * kMiB / 4096) * 4096, 4096);
    EXPECT_LE(reader.misses, 100U);
}

TEST(ReadAhead, RandomReadsOverAFastLinkFetchLittleMoreThanTheyNeed) {
    Reader reader(64 * kMiB, std::chrono::microseconds(100));
    std::mt19937 random(1);
    for (int i = 0; i < 256; ++i)
        reader.Read(random() % (64 * kMiB / 4096) * 4096, 4096);
    EXPECT_LE(reader.fetched(), 256U * (8U << 10));
}

TEST(ReadAhead, RandomReadsOfAHugeFileFetchAtMost32TimesWhatTheyRead) {
    for (const unsigned seed : {1U, 2U, 3U}) {
        Reader reader(4 * kGiB, milliseconds(20));
        std::mt19937 random(seed);
        for (int i = 0; i < 1000; ++i)
            reader.Read(random() % (4 * kGiB / 4096) * 4096, 4096);
        EXPECT_LE(reader.fetched(), 32 * reader.read) << "seed " << seed;
        // Also where they come in clusters, which makes extents grow.
        for (int i = 0; i < 1000; ++i) {
            const std::uint64_t near = random() % 64 * 64 * kMiB;
            for (int j = 0; j < 4; ++j)
                reader.Read(near + random() % 16 * 4096, 4096);
        }
        EXPECT_LE(reader.fetched(), 32 * reader.read) << "seed " << seed;
    }
}

TEST(AheadWindow, GrowsWithWhatIsUsedAndShrinksWithWhatIsNot) {
    AheadWindow window(AheadKind::kFiles, AheadWindow::Limits{.first = 4, .least = 1, .most = 16});
    const SteadyTime start{};
    const auto fill = [&](SteadyTime now) {
        std::size_t count = 0;
        for (int i = 0; window.Fits(1); ++i, ++count)
            window.Begin(
                "f" + std::to_string(now.time_since_epoch().count()) + "." + std::to_string(i), 1,
                now);
        return count;
    };
    EXPECT_EQ(fill(start), 4U);
    EXPECT_TRUE(window.Use("f0.0"));
    EXPECT_FALSE(window.Use("f0.0"));
    EXPECT_EQ(fill(start + seconds(1)), 5U);  // 8 in all
    window.Expire(start + seconds(60), seconds(20));
    EXPECT_EQ(window.size(), 0U);
    EXPECT_EQ(fill(start + seconds(60)), 4U);
    EXPECT_EQ(window.counters().used, 1U);
    EXPECT_EQ(window.counters().wasted, 8U);
}

TEST(AheadWindow, IsBoundedInBytes) {
    AheadWindow window(AheadKind::kFiles,
                       AheadWindow::Limits{.first = 100, .first_bytes = 1000, .most_bytes = 4000});
    window.Begin("a", 900, SteadyTime{});
    EXPECT_FALSE(window.Fits(101));
    EXPECT_TRUE(window.Fits(100));
    (void)window.Use("a");
    EXPECT_TRUE(window.Fits(2000));
}

}  // namespace
}  // namespace sbxfs::testing
