// kStore where the machine has no process, no mode or no patience for it. What goes wrong at any call: faults_test.cc.
#include <gtest/gtest.h>

#include <cerrno>
#include <string>

#include "tests/hosted/stories.h"

namespace sbxfs::fuzz {
namespace {

void EndAll() {
    while (EndOldest(0)) {
    }
}

TEST(Stores, ACopyThatSavesHasNothingButTheFile) {
    World world;
    made_up.fork = [] { return 0L; };  // the life goes on as the copy
    std::size_t open = 0;
    made_up.on_exit = [&](int) { open = OpenOfIt(); };
    const int code = Tell(world, {
                                     [&] { world.Attach(); },
                                     [&] { world.Store(1, "a", "bytes", 0644, sup::kStoreSync); },
                                 });
    EXPECT_EQ(code, 0);
    EXPECT_EQ(open, 1U);
    made_up.fork = nullptr;
    made_up.on_exit = nullptr;
    world.Settle();
}

TEST(Stores, WhereThereIsNoProcessAreSavedAllTheSame) {
    World world;
    Tell(world, {
                    [&] { world.Attach(); },
                    [&] { made_up.fork_fails = true; },
                    [&] { world.Store(1, "a", "bytes", 0644, sup::kStoreSync); },
                    [&] { EXPECT_TRUE(world.stores[1].answered); },
                    [&] {
                        made_up.fork_fails = false;
                        made_up.saves_held = true;
                    },
                    [&] { world.Store(2, "b", "bytes", 0644, sup::kStoreSync); },
                    [&] { made_up.fork_fails = true; },
                    [&] { world.Store(3, "c", "bytes", 0644, sup::kStoreSync); },
                    [&] {
                        // A process ends sooner or later; until then nothing waits for the disk.
                        EXPECT_FALSE(world.stores[3].answered);
                        EndAll();
                    },
                    [&] {
                        EXPECT_TRUE(world.stores[2].answered);
                        EXPECT_TRUE(world.stores[3].answered);
                    },
                });
    for (const auto& [request, one] : world.stores)
        EXPECT_EQ(one.answer.error, 0U) << request;
    world.Settle();
}

TEST(Stores, SayWhatTheDiskSaid) {
    World world;
    Tell(world, {
                    [&] { world.Attach(); },
                    [&] { made_up.save_status = ENOSPC << 8; },
                    [&] { world.Store(1, "a", "bytes", 0644, sup::kStoreSync); },
                    [&] { made_up.save_status = 9; },  // a signal
                    [&] { world.Store(2, "b", "bytes", 0644, sup::kStoreSync); },
                    [&] {},
                });
    EXPECT_EQ(world.stores[1].answer.error, static_cast<std::uint32_t>(ENOSPC));
    EXPECT_EQ(world.stores[2].answer.error, static_cast<std::uint32_t>(EIO));
    EXPECT_EQ(world.stores[2].answer.made, 1U);
    EXPECT_EQ(world.stores[2].answer.file.size, 5U);
    world.Settle();
}

TEST(Stores, OfWhichTooManyWaitAreRefusedBeforeTheyAreMade) {
    World world;
    constexpr std::uint32_t kMost = 256;
    Tell(world, {
                    [&] { world.Attach(); },
                    [&] { made_up.saves_held = true; },
                    [&] {
                        for (std::uint32_t i = 0; i <= kMost; ++i)
                            world.Store(i, "s" + std::to_string(i), "", 0600, sup::kStoreSync);
                        world.Store(1000, "at-once", "bytes");
                    },
                    [&] {
                        EXPECT_EQ(made_up.processes.size(), 8U);
                        EXPECT_EQ(world.stores[kMost].answer.error,
                                  static_cast<std::uint32_t>(EAGAIN));
                        EXPECT_TRUE(world.stores[1000].answered);
                        made_up.saves_held = false;
                        EndAll();
                    },
                    [&] {
                        for (std::uint32_t i = 0; i < kMost; ++i)
                            EXPECT_TRUE(world.stores[i].answered) << i;
                    },
                });
    world.Settle();
}

// A new connection is answered what it asks, and not what another one has asked.
TEST(Stores, OfADaemonThatHasGoneAreAnsweredToNobody) {
    World world;
    Tell(world, {
                    [&] { world.Attach(); },
                    [&] { made_up.saves_held = true; },
                    [&] {
                        for (std::uint32_t i = 0; i < 10; ++i)
                            world.Store(i, "s" + std::to_string(i), "bytes", 0600, sup::kStoreSync);
                    },
                    [&] { world.Attach(); },
                    [&] { EndAll(); },
                    [&] { world.Store(20, "last", "bytes", 0600, sup::kStoreSync); },
                    [&] { EndAll(); },
                    [&] {},
                });
    for (const auto& [request, one] : world.stores)
        EXPECT_EQ(one.answered, request == 20) << request;
    world.Settle();
}

TEST(Stores, WhereThereAreNoModesAreMadeWithoutThem) {
    World world;
    made_up.refuses = "fchmod";
    Tell(world, {
                    [&] { world.Attach(); },
                    [&] { world.Store(1, "a", "bytes", 0600); },
                    [&] {},
                });
    made_up.refuses.clear();
    EXPECT_TRUE(world.stores[1].answered);
    EXPECT_EQ(world.stores[1].answer.error, 0U);
    world.Settle();
}

}  // namespace
}  // namespace sbxfs::fuzz
