// Locks, threads that wait, the loop, and secrets.
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <future>
#include <ostream>
#include <thread>
#include <type_traits>

#include "base/batch_thread.h"
#include "base/secret.h"
#include "base/sync.h"
#include "sandbox/io_loop.h"

namespace sbxfs {
namespace {

#ifdef SBXFS_DEBUG

TEST(LockOrder, AViolationEndsTheProcessAtOnce) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    Mutex low(LockRank::kHandle);
    Mutex high(LockRank::kCommands);
    {
        const MutexLock first(low);
        const MutexLock second(high);
    }
    const auto wrong = [&] {
        const MutexLock first(high);
        const MutexLock second(low);
    };
    EXPECT_DEATH(wrong(), "ranks");
}

TEST(LockOrder, NobodyHoldsTwoOfAKind) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    Mutex one(LockRank::kHandle);
    Mutex two(LockRank::kHandle);
    const auto wrong = [&] {
        const MutexLock first(one);
        const MutexLock second(two);
    };
    EXPECT_DEATH(wrong(), "ranks");
}

TEST(LockOrder, IsEachThreadsOwn) {
    Mutex low(LockRank::kHandle);
    Mutex high(LockRank::kCommands);
    const MutexLock held(high);
    std::thread([&] { const MutexLock other(low); }).join();
}

#endif

TEST(CondVar, WakesAndTimesOut) {
    Mutex mu(LockRank::kStore);
    CondVar changed;
    bool flag = false;
    std::thread thread([&] {
        const MutexLock lock(mu);
        flag = true;
        changed.NotifyAll();
    });
    {
        const MutexLock lock(mu);
        while (!flag)
            changed.Wait(mu);
        EXPECT_FALSE(changed.WaitFor(mu, std::chrono::milliseconds(1)));
    }
    thread.join();
}

TEST(BatchThread, HandsOverInOrderWhatHasGathered) {
    std::vector<int> seen;
    std::vector<std::size_t> sizes;
    std::promise<void> entered;
    std::promise<void> go_on;
    BatchThread<int> thread("test", LockRank::kStore, [&](std::vector<int>& batch) {
        if (seen.empty()) {
            entered.set_value();
            go_on.get_future().wait();
        }
        sizes.push_back(batch.size());
        seen.insert(seen.end(), batch.begin(), batch.end());
    });
    for (int i = 0; i < 10; ++i) {
        int item = i;
        EXPECT_TRUE(thread.Add(item));
        if (i == 0) entered.get_future().wait();
    }
    go_on.set_value();
    thread.Flush();
    EXPECT_EQ(seen, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
    EXPECT_EQ(sizes, (std::vector<std::size_t>{1, 9}));
}

TEST(BatchThread, StoppingHandlesWhatIsQueuedAndTakesNothingMore) {
    std::atomic<int> handled{0};
    BatchThread<std::unique_ptr<int>> thread(
        "test", LockRank::kStore, [&](auto& batch) { handled += static_cast<int>(batch.size()); });
    for (int i = 0; i < 5; ++i) {
        auto item = std::make_unique<int>(i);
        EXPECT_TRUE(thread.Add(item));
    }
    thread.Stop();
    EXPECT_EQ(handled, 5);
    auto late = std::make_unique<int>(7);
    EXPECT_FALSE(thread.Add(late));
    ASSERT_NE(late, nullptr);  // still the caller's
    thread.Stop();
}

TEST(BatchThread, FlushWaitsForWhatIsBeingHandledToo) {
    std::atomic<bool> done{false};
    BatchThread<int> thread("test", LockRank::kStore, [&](std::vector<int>&) {
        for (int i = 0; i < 1000; ++i)
            std::this_thread::yield();
        done = true;
    });
    int item = 1;
    (void)thread.Add(item);
    thread.Flush();
    EXPECT_TRUE(done);
}

class LoopTest : public ::testing::Test {
 protected:
    std::unique_ptr<IoLoop> loop_ = std::move(*IoLoop::Start("test", RealClock()));
    // Runs on the loop and waits for it.
    void OnLoop(const std::function<void()>& job) {
        std::promise<void> done;
        loop_->Post([&] {
            job();
            done.set_value();
        });
        done.get_future().wait();
    }
};

TEST_F(LoopTest, JobsRunInTheOrderPostedOnTheLoopsThread) {
    std::vector<int> order;
    for (int i = 0; i < 100; ++i)
        loop_->Post([&, i] { order.push_back(loop_->OnThread() ? i : -1); });
    OnLoop([] {});
    EXPECT_FALSE(loop_->OnThread());
    ASSERT_EQ(order.size(), 100U);
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
    EXPECT_EQ(order.front(), 0);
}

TEST_F(LoopTest, TimersRunInTheOrderOfTheirTimes) {
    std::vector<int> order;
    std::promise<void> done;
    std::vector<TimerPtr> timers;
    OnLoop([&] {
        timers.push_back(loop_->After(std::chrono::milliseconds(20), [&] {
            order.push_back(3);
            done.set_value();
        }));
        timers.push_back(loop_->After(std::chrono::milliseconds(10), [&] { order.push_back(2); }));
        timers.push_back(loop_->After(Duration::zero(), [&] { order.push_back(1); }));
    });
    done.get_future().wait();
    OnLoop([&] { timers.clear(); });
    EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

TEST_F(LoopTest, ATimerThatDiesDoesNotRun) {
    bool ran = false;
    OnLoop([&] { loop_->After(Duration::zero(), [&] { ran = true; }).reset(); });
    OnLoop([] {});
    EXPECT_FALSE(ran);
}

TEST_F(LoopTest, ADescriptorIsWatchedUntilItsWatchDiesAlsoFromWithin) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    const UniqueFd in(ends[0]);
    const UniqueFd out(ends[1]);
    IoLoop::WatchPtr watch;
    std::promise<std::uint32_t> ready;
    int calls = 0;
    OnLoop([&] {
        watch = loop_->Add(in.get(), EPOLLIN, [&](std::uint32_t events) {
            ++calls;
            watch.reset();  // within its own call
            ready.set_value(events);
        });
    });
    ASSERT_EQ(::write(out.get(), "x", 1), 1);
    EXPECT_EQ(ready.get_future().get(), EPOLLIN);
    OnLoop([] {});
    EXPECT_EQ(calls, 1);  // though there is still something to read
}

TEST_F(LoopTest, StoppingRunsWhatIsPostedAndDestroysWhatComesLater) {
    std::atomic<bool> ran{false};
    loop_->Post([&] { ran = true; });
    loop_->Stop();
    EXPECT_TRUE(ran);
    const auto owned = std::make_shared<int>(1);
    bool late = false;
    loop_->Post([&late, owned] { late = true; });
    EXPECT_FALSE(late);
    EXPECT_EQ(owned.use_count(), 1);
    loop_->Stop();
}

TEST_F(LoopTest, StoppingDropsTimersAndWhatTheyOwn) {
    const auto owned = std::make_shared<int>(1);
    OnLoop([&] { RunLater(*loop_, std::chrono::hours(1), [owned] {}); });
    EXPECT_EQ(owned.use_count(), 2);
    loop_->Stop();
    EXPECT_EQ(owned.use_count(), 1);
}

template <class T, class = void>
struct CanBePrinted : std::false_type {};
template <class T>
struct CanBePrinted<T, std::void_t<decltype(std::declval<std::ostream&>() << std::declval<T>())>>
    : std::true_type {};

TEST(Secrets, CannotBePrintedOrTurnedIntoTextByAccident) {
    static_assert(!CanBePrinted<Secret>::value);
    static_assert(CanBePrinted<std::string>::value);
    static_assert(!std::is_convertible_v<Secret, std::string>);
    static_assert(!std::is_convertible_v<Secret, std::string_view>);
    static_assert(!std::is_convertible_v<std::string, Secret>);
    static_assert(!std::is_constructible_v<std::string, Secret>);
}

TEST(Secrets, AMovedFromOneIsEmptyAlsoWhenShort) {
    for (const std::string& bytes : {std::string("short"), std::string(1000, 'x')}) {
        Secret from(bytes);
        Secret to(std::move(from));
        EXPECT_TRUE(from.empty());  // NOLINT(bugprone-use-after-move): that is the promise
        EXPECT_EQ(to.Reveal(), bytes);
        Secret assigned(std::string("old"));
        assigned = std::move(to);
        EXPECT_TRUE(to.empty());  // NOLINT(bugprone-use-after-move)
        const Secret& same = assigned;
        assigned = same;
        EXPECT_EQ(assigned.Reveal(), bytes);
    }
}

}  // namespace
}  // namespace sbxfs
