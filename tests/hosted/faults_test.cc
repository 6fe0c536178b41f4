// Every system call of every story fails, one after the other: with each error that it can have, once and from then on,
// and by the death of the supervisor just before it. What was promised holds all the same (World::Settle): nothing runs
// twice, nothing that was accepted is lost without a word, what is said is whole frames, it comes to rest, and nothing
// is left.
// SBXFS_EVERY_CALL=1 has every call fail, not a sample; SBXFS_CALL=K the K-th alone; SBXFS_SAY=1 says which is next.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <tuple>

#include "tests/hosted/stories.h"

namespace sbxfs::fuzz {
namespace {

class Faults : public testing::TestWithParam<std::tuple<int, FaultKind>> {};

// How many calls could have failed; `failed`: how many did.
long Once(const Story& story, FaultKind kind, long at, bool lasts, long* failed) {
    World world;
    made_up.fault = kind;
    made_up.fault_at = at;
    made_up.fault_lasts = lasts;
    story.tell(world);
    *failed = made_up.failed;
    const long calls = made_up.could_fail;
    world.Settle();
    return calls;
}

TEST_P(Faults, AtAnyCallBreakNoPromise) {
    const auto [which, kind] = GetParam();
    const Story& story = AllStories()[static_cast<std::size_t>(which)];
    long failed = 0;
    const long calls = Once(story, kind, -1, false, &failed);
    const long most = std::getenv("SBXFS_EVERY_CALL") != nullptr ? calls : 40;
    const long stride = calls / most + 1;
    const bool both = kind != FaultKind::kKill && kind != FaultKind::kInterrupted;
    const char* only = std::getenv("SBXFS_CALL");
    for (long at = only != nullptr ? std::atol(only) : 0; at < calls;
         at += only != nullptr ? calls : stride) {
        for (const bool lasts : {false, true}) {
            if (lasts && !both) continue;
            SCOPED_TRACE(story.name + std::string(": ") + NameOf(kind) + " at call " +
                         std::to_string(at) + (lasts ? " and after" : ""));
            if (std::getenv("SBXFS_SAY") != nullptr)
                std::fprintf(stderr, "%s %s %ld%s\n", story.name, NameOf(kind), at,
                             lasts ? " on" : "");
            Once(story, kind, at, lasts, &failed);
            ASSERT_GT(failed, 0);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(
    All, Faults, testing::Combine(testing::Range(0, 9), testing::ValuesIn(kFaultKinds)),
    [](const auto& one) {
        std::string name = AllStories()[static_cast<std::size_t>(std::get<0>(one.param))].name;
        name += "_";
        for (const char c : std::string(NameOf(std::get<1>(one.param))))
            name += c == ' ' || c == '/' ? '_' : c;
        return name;
    });

TEST(Stories, HaveTheirEndWithoutFaults) {
    ASSERT_EQ(AllStories().size(), 9U) << "as many as Faults are told for";
    for (const Story& story : AllStories()) {
        SCOPED_TRACE(story.name);
        if (std::getenv("SBXFS_SAY") != nullptr) std::fprintf(stderr, "%s\n", story.name);
        World world;
        story.tell(world);
        world.Settle();
        for (const auto& [request, one] : world.renames)
            EXPECT_TRUE(one.answered) << request;
    }
}

}  // namespace
}  // namespace sbxfs::fuzz
