// Pages of one sandbox that cannot be dropped now hold up nobody else.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <memory>
#include <vector>

#include "fs/kernel_cache.h"

namespace sbxfs {
namespace {

constexpr Generation kStalled{1};
constexpr Generation kOther{2};
constexpr std::chrono::seconds kLong{20};

// A kernel whose pages of one file are locked by a READ.
class LockedPages final : public KernelNotifier {
 public:
    LockedPages(Ino locked, std::shared_future<void> unlocked)
        : locked_(locked), unlocked_(std::move(unlocked)) {}
    bool ForgetNames() override { return true; }
    void ForgetAttributes(Ino) override {}
    void ForgetPages(Ino ino) override {
        if (ino == locked_) unlocked_.wait();
    }

 private:
    const Ino locked_;
    const std::shared_future<void> unlocked_;
};

TEST(PageLanes, ASandboxThatDoesNotAnswerHoldsUpNobodyElsesPages) {
    std::promise<void> unlock;
    KernelCache cache(RealClock());
    cache.Connect(std::make_unique<LockedPages>(Ino{10}, unlock.get_future().share()));
    cache.Opened(kStalled, Ino{10});
    cache.Opened(kOther, Ino{20});
    std::promise<void> stalled;
    std::promise<void> other;
    std::future<void> stalled_done = stalled.get_future();
    std::future<void> other_done = other.get_future();
    cache.DropPages(kStalled, [&] { stalled.set_value(); });
    cache.DropPages(kOther, [&] { other.set_value(); });
    EXPECT_EQ(other_done.wait_for(kLong), std::future_status::ready);
    EXPECT_EQ(stalled_done.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
    unlock.set_value();
    EXPECT_EQ(stalled_done.wait_for(kLong), std::future_status::ready);
}

TEST(PageLanes, JobsOfASandboxRunInOrderAndStopWaitsForAll) {
    std::vector<int> ran;  // by one lane: one at a time
    PageLanes lanes;
    for (int i = 0; i < 100; ++i)
        lanes.Add(kOther, [&ran, i] { ran.push_back(i); });
    lanes.Stop();
    ASSERT_EQ(ran.size(), 100U);
    EXPECT_TRUE(std::is_sorted(ran.begin(), ran.end()));
    lanes.Add(kOther, [&ran] { ran.push_back(-1); });
    lanes.Stop();
    EXPECT_EQ(ran.size(), 100U);
}

}  // namespace
}  // namespace sbxfs
