// SftpFiles over a scripted server: listings, friendly and hostile.

#include <gtest/gtest.h>

#include <cerrno>
#include <functional>

#include "tests/fakes/fake_tree.h"
#include "tests/unit/sftp_script.h"

namespace sbxfs::testing {
namespace {

class SftpListTest : public SftpScript {};

SftpName Entry(const std::string& name) {
    return {name, FileAttrs(1)};
}

TEST_F(SftpListTest, ListingWithTheStatOfEachEntryCostsTwoRoundTrips) {
    Got<std::vector<RemoteEntry>> got;
    files_->List("/d", got.Done());
    Answer(PeerHandle(Asked()[0].id, "h"));
    const auto asked = Asked();
    ASSERT_EQ(asked.size(), 4U);
    std::string answers = PeerNames(asked[0].id, {Entry("."), Entry(".."), Entry("a"), Entry("b")});
    for (std::size_t i = 1; i < 4; ++i)
        answers += PeerStatus(asked[i].id, SftpStatus::kEof);
    Answer(answers);
    ASSERT_TRUE(got.ok());
    const auto close = Asked();
    ASSERT_EQ(close.size(), 1U);
    EXPECT_EQ(close[0].type, SftpType::kClose);
    Answer(PeerStatus(close[0].id, SftpStatus::kOk));
    ASSERT_EQ((*got.result)->size(), 2U);
    EXPECT_EQ((**got.result)[1].name, "b");
    EXPECT_EQ((**got.result)[1].stat.mode, 0100644U);
    EXPECT_EQ(files_->DroppedEntries(), 0U);
    EXPECT_EQ(files_->OpenHandles(), 0U);
    EXPECT_EQ(Trips(), 2U);
}

// Answers a listing until it is done; `batch(n)` are the entries of the n-th READDIR, none at the
// end.
void Serve(SftpClient& client, ManualLoop& loop,
           const std::function<std::vector<SftpName>(std::size_t)>& batch) {
    std::size_t next = 0;
    for (int round = 0; round < 100000; ++round) {
        loop.Run();
        const auto asked = TakeRequests(client);
        if (asked.empty()) return;
        for (const PeerRequest& request : asked) {
            std::string answer = PeerStatus(request.id, SftpStatus::kOk);
            if (request.type == SftpType::kOpendir) answer = PeerHandle(request.id, "h");
            if (request.type == SftpType::kLstat)
                answer = PeerAttrs(request.id, FileAttrs(3, kDirMode));
            if (request.type == SftpType::kReaddir) {
                const std::vector<SftpName> names = batch(next++);
                answer = names.empty() ? PeerStatus(request.id, SftpStatus::kEof)
                                       : PeerNames(request.id, names);
            }
            ASSERT_TRUE(client.Feed(answer).has_value());
        }
    }
}

TEST_F(SftpListTest, ThousandsOfEntriesTakeFewRoundTrips) {
    Got<std::vector<RemoteEntry>> got;
    files_->List("/d", got.Done());
    Serve(*client_, loop_, [](std::size_t n) {
        std::vector<SftpName> names;
        if (n >= 25) return names;
        for (int i = 0; i < 100; ++i)
            names.push_back(Entry(std::to_string(n) + "-" + std::to_string(i)));
        return names;
    });
    ASSERT_TRUE(got.ok());
    EXPECT_EQ((*got.result)->size(), 2500U);
    EXPECT_LE(Trips(), 5U);
}

TEST_F(SftpListTest, HostileNamesAreDroppedAndCounted) {
    Got<std::vector<RemoteEntry>> got;
    files_->List("/d", got.Done());
    Serve(*client_, loop_, [](std::size_t n) {
        std::vector<SftpName> names;
        if (n > 0) return names;
        names = {Entry(""),
                 Entry("."),
                 Entry(".."),
                 Entry("a/b"),
                 Entry("/"),
                 Entry("../up"),
                 Entry(std::string("n\0l", 3)),
                 Entry(std::string(256, 'x')),
                 Entry("twice"),
                 Entry("twice"),
                 Entry("ok\n"),
                 {"huge", FileAttrs(1ULL << 63)}};
        return names;
    });
    ASSERT_TRUE(got.ok());
    std::vector<std::string> names;
    for (const RemoteEntry& entry : **got.result)
        names.push_back(entry.name);
    EXPECT_EQ(names, (std::vector<std::string>{"twice", "ok\n"}));
    EXPECT_EQ(files_->DroppedEntries(), 7U);
}

TEST_F(SftpListTest, EntriesWithoutATypeAreAskedAbout) {
    Got<std::vector<RemoteEntry>> got;
    files_->List("/", got.Done());
    Serve(*client_, loop_, [](std::size_t n) {
        std::vector<SftpName> names;
        for (int i = 0; n == 0 && i < 100; ++i)
            names.push_back({"e" + std::to_string(i), {}});
        return names;
    });
    ASSERT_TRUE(got.ok());
    ASSERT_EQ((*got.result)->size(), 100U);
    for (const RemoteEntry& entry : **got.result)
        EXPECT_EQ(entry.stat.mode, kDirMode);
}

TEST_F(SftpListTest, EndlessListingsAreGivenUp) {
    files_->BoundListings(1000, 1 << 20);
    Got<std::vector<RemoteEntry>> got;
    files_->List("/d", got.Done());
    Serve(*client_, loop_, [](std::size_t) { return std::vector<SftpName>(10, Entry("same")); });
    EXPECT_EQ(got.code(), E2BIG);
    EXPECT_EQ(got.times, 1);
    EXPECT_EQ(files_->OpenHandles(), 0U);
    files_->BoundListings(1000000, 10000);
    Got<std::vector<RemoteEntry>> bytes;
    files_->List("/d", bytes.Done());
    Serve(*client_, loop_,
          [](std::size_t) { return std::vector<SftpName>(10, Entry(std::string(255, 'x'))); });
    EXPECT_EQ(bytes.code(), E2BIG);
}

TEST_F(SftpListTest, TwoHundredThousandLongNamesAreListed) {
    Got<std::vector<RemoteEntry>> got;
    files_->List("/d", got.Done());
    Serve(*client_, loop_, [](std::size_t n) {
        std::vector<SftpName> names;
        if (n >= 200) return names;
        for (std::size_t i = 0; i < 1000; ++i) {
            std::string name = std::to_string(n * 1000 + i);
            names.push_back(Entry(name + std::string(200 - name.size(), 'x')));
        }
        return names;
    });
    ASSERT_TRUE(got.ok());
    EXPECT_EQ((*got.result)->size(), 200'000U);
}

// Answers the listing's READDIRs with that many names each, and leaves it under way.
class SftpListsTest : public SftpListTest {
 protected:
    void Begin(const std::string& path, Got<std::vector<RemoteEntry>>& got) {
        files_->List(path, got.Done());
        std::string answers;
        for (const PeerRequest& request : Asked()) {
            answers += request.type == SftpType::kOpendir ? PeerHandle(request.id, path)
                                                          : PeerStatus(request.id, SftpStatus::kOk);
        }
        Answer(answers);
    }
    // None: its end.
    void Give(const std::vector<PeerRequest>& asked, int count) {
        std::string answers;
        for (const PeerRequest& request : asked) {
            if (request.type != SftpType::kReaddir) {
                answers += PeerStatus(request.id, SftpStatus::kOk);
                continue;
            }
            std::vector<SftpName> names;
            for (int i = 0; i < count; ++i)
                names.push_back(Entry(std::to_string(next_++)));
            answers += names.empty() ? PeerStatus(request.id, SftpStatus::kEof)
                                     : PeerNames(request.id, names);
        }
        Answer(answers);
    }
    int next_ = 0;
};

TEST_F(SftpListsTest, ListingsUnderWayShareOneBudgetAndSmallOnesAreNeverRefused) {
    files_->BoundListings(1'000'000, 512'000);
    Got<std::vector<RemoteEntry>> first;
    Begin("/first", first);
    Give(Asked(), 500);  // 2,000 entries of 192 bytes
    const auto more = Asked();
    Got<std::vector<RemoteEntry>> second;
    Begin("/second", second);
    Give(Asked(), 500);
    Give(Asked(), 0);
    EXPECT_EQ(second.code(), ENOMEM);
    EXPECT_EQ(second.times, 1);
    EXPECT_EQ(first.times, 0) << "who was there first goes on";
    Got<std::vector<RemoteEntry>> small;
    Begin("/small", small);
    Give(Asked(), 2);
    Give(Asked(), 0);
    EXPECT_TRUE(small.ok());
    Give(more, 0);
    ASSERT_TRUE(first.ok());
    EXPECT_EQ((*first.result)->size(), 2000U);
    // It is over, and so there is room again.
    Got<std::vector<RemoteEntry>> again;
    Begin("/second", again);
    Give(Asked(), 500);
    Give(Asked(), 0);
    EXPECT_TRUE(again.ok());
}

TEST_F(SftpListTest, AListingThatFailsHalfWayFails) {
    Got<std::vector<RemoteEntry>> got;
    files_->List("/d", got.Done());
    Answer(PeerHandle(Asked()[0].id, "h"));
    for (const PeerRequest& request : Asked())
        Answer(PeerStatus(request.id, SftpStatus::kPermissionDenied));
    EXPECT_EQ(got.code(), EACCES);
    EXPECT_EQ(got.times, 1);
}

}  // namespace
}  // namespace sbxfs::testing
