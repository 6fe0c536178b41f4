// The books of what the kernel knows: nodes and their counts, handles, parked replies, refusals.
#include <errno.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <set>
#include <thread>

#include "fs/handle_table.h"
#include "fs/inode_table.h"
#include "fs/mount_context.h"
#include "fs/parking_lot.h"
#include "fs/refusals.h"
#include "tests/fakes/recording_sink.h"

namespace sbxfs {
namespace {

using testing::RecordedReply;
using testing::Recording;
using testing::RecordingSink;

// No test here lets it look at its mount.
MountContext& NoMount() {
    alignas(MountContext) static std::array<char, sizeof(MountContext)> place;
    return *reinterpret_cast<MountContext*>(place.data());
}

class PlainNode final : public Node {
 public:
    PlainNode(Ino ino, NodePtr parent) : Node(NoMount(), ino, std::move(parent), "x") { ++living; }
    ~PlainNode() override { --living; }
    void GetAttr(const OpenHandlePtr&, AttrReply reply) override { std::move(reply).Is({}); }
    static inline std::atomic<int> living = 0;
};

Child ChildOf(std::string identity) {
    return Child{std::move(identity), [](Ino ino, const NodePtr& parent) -> NodePtr {
                     return std::make_shared<PlainNode>(ino, parent);
                 }};
}

class Inodes : public ::testing::Test {
 protected:
    Inodes() : root_(std::make_shared<PlainNode>(kRootIno, nullptr)) { table_.SetRoot(root_); }
    InodeTable table_;
    NodePtr root_;
};

TEST_F(Inodes, ANodeLivesUntilEveryLookupIsForgotten) {
    const Ino ino = table_.Enter(root_, ChildOf("a"))->ino();
    EXPECT_EQ(table_.Enter(root_, ChildOf("a"))->ino(), ino);
    EXPECT_EQ(PlainNode::living, 2);
    table_.Forget(ino, 1);
    EXPECT_NE(table_.Find(ino), nullptr);
    table_.Forget(ino, 1);
    EXPECT_EQ(table_.Find(ino), nullptr);
    EXPECT_EQ(PlainNode::living, 1);
    EXPECT_EQ(table_.Count(), 1U);
}

TEST_F(Inodes, NumbersAreNeverReused) {
    std::set<Ino> seen = {kRootIno};
    for (int i = 0; i < 1000; ++i) {
        const Ino ino = table_.Enter(root_, ChildOf(i % 2 == 0 ? "a" : "b"))->ino();
        EXPECT_TRUE(seen.insert(ino).second);
        table_.Forget(ino, 1);
    }
}

TEST_F(Inodes, TheRootIsNeverForgotten) {
    table_.Forget(kRootIno, 1000);
    EXPECT_EQ(table_.Find(kRootIno), root_);
}

TEST_F(Inodes, MoreForgetsThanLookupsEndTheProcess) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const Ino ino = table_.Enter(root_, ChildOf("a"))->ino();
    EXPECT_DEATH(table_.Forget(ino, 2), "");
    EXPECT_DEATH(table_.Forget(Ino{4711}, 1), "");
}

TEST_F(Inodes, AChildKeepsItsParentAlive) {
    const Ino parent = table_.Enter(root_, ChildOf("dir"))->ino();
    const Ino child = table_.Enter(table_.Find(parent), ChildOf("x"))->ino();
    table_.Forget(parent, 1);
    EXPECT_EQ(PlainNode::living, 3);
    table_.Forget(child, 1);
    EXPECT_EQ(table_.Find(parent), nullptr);
    EXPECT_EQ(PlainNode::living, 1);
}

// The kernel forgets a directory when it looks its name up again, as after each command, and not the files that are open
// below it. They would be two files: one that is open, and one that its name leads to.
TEST_F(Inodes, AForgottenDirectoryLeadsToTheFilesThatAreStillOpenBelowIt) {
    const Ino top = table_.Enter(root_, ChildOf("top"))->ino();
    const Ino dir = table_.Enter(table_.Find(top), ChildOf("dir"))->ino();
    const Ino open = table_.Enter(table_.Find(dir), ChildOf("f"))->ino();
    table_.Forget(dir, 1);
    table_.Forget(top, 1);
    EXPECT_EQ(table_.Enter(root_, ChildOf("top"))->ino(), top);
    EXPECT_EQ(table_.Enter(table_.Find(top), ChildOf("dir"))->ino(), dir);
    EXPECT_EQ(table_.Enter(table_.Find(dir), ChildOf("f"))->ino(), open);
    table_.Forget(dir, 1);
    table_.Forget(top, 1);
    table_.Forget(open, 2);
    EXPECT_EQ(table_.Count(), 1U);
}

TEST_F(Inodes, AForgottenDirectoryGoesWithTheLastNameBelowIt) {
    const NodePtr other = table_.Enter(root_, ChildOf("other"));
    const auto begin = [&](const std::string& name) {
        const Ino dir = table_.Enter(root_, ChildOf(name))->ino();
        const NodePtr open = table_.Enter(table_.Find(dir), ChildOf("f"));
        table_.Forget(dir, 1);
        return std::pair(table_.Find(dir), open);
    };
    const auto [left, moved] = begin("left");
    table_.Rekey(moved, other, "f");
    EXPECT_EQ(table_.Find(left->ino()), nullptr);
    const auto [emptied, unlinked] = begin("emptied");
    table_.Unkey(emptied, "f");
    EXPECT_EQ(table_.Find(emptied->ino()), nullptr);
    table_.Forget(moved->ino(), 1);
    table_.Forget(unlinked->ino(), 1);
    table_.Forget(other->ino(), 1);
    EXPECT_EQ(table_.Count(), 1U);
}

TEST_F(Inodes, AnUnlinkedNodeIsAnotherThanTheNextOfItsName) {
    const Ino old = table_.Enter(root_, ChildOf("a"))->ino();
    table_.Unkey(root_, "a");
    EXPECT_EQ(table_.Peek(root_, "a"), nullptr);
    EXPECT_NE(table_.Find(old), nullptr);  // still open somewhere
    const Ino fresh = table_.Enter(root_, ChildOf("a"))->ino();
    EXPECT_NE(fresh, old);
    table_.Forget(old, 1);
    EXPECT_EQ(table_.Peek(root_, "a")->ino(), fresh);  // the old one's end is not the new one's
    table_.Forget(fresh, 1);
}

TEST_F(Inodes, ARenamedNodeIsFoundUnderItsNewNameOnly) {
    const NodePtr dir = table_.Enter(root_, ChildOf("dir"));
    const NodePtr moved = table_.Enter(root_, ChildOf("a"));
    const NodePtr replaced = table_.Enter(dir, ChildOf("b"));
    table_.Rekey(moved, dir, "b");
    EXPECT_EQ(table_.Peek(root_, "a"), nullptr);
    EXPECT_EQ(table_.Peek(dir, "b"), moved);
    table_.Forget(replaced->ino(), 1);
    EXPECT_EQ(table_.Peek(dir, "b"), moved);
    table_.Forget(moved->ino(), 1);
    EXPECT_EQ(table_.Peek(dir, "b"), nullptr);
    table_.Rekey(moved, root_, "c");  // forgotten meanwhile: nothing comes of it
    EXPECT_EQ(table_.Peek(root_, "c"), nullptr);
    table_.Forget(dir->ino(), 1);
}

TEST_F(Inodes, LookupsAndForgetsOfManyThreadsAddUp) {
    std::array<std::thread, 4> threads;
    for (std::thread& thread : threads) {
        thread = std::thread([this] {
            for (int i = 0; i < 2000; ++i) {
                const NodePtr node = table_.Enter(root_, ChildOf(std::to_string(i % 7)));
                (void)table_.Peek(root_, "3");
                table_.Forget(node->ino(), 1);
            }
        });
    }
    for (std::thread& thread : threads)
        thread.join();
    EXPECT_EQ(table_.Count(), 1U);
    EXPECT_EQ(PlainNode::living, 1);
}

TEST(Handles, AreFoundUntilRemovedOnceAndNumberedOnce) {
    HandleTable table;
    const auto node = std::make_shared<PlainNode>(kRootIno, nullptr);
    const Handle first = table.Add(std::make_shared<OpenHandle>(node));
    const Handle second = table.Add(std::make_shared<OpenHandle>(node));
    EXPECT_NE(first, second);
    EXPECT_NE(table.Find(first), nullptr);
    EXPECT_NE(table.Remove(first), nullptr);
    EXPECT_EQ(table.Remove(first), nullptr);
    EXPECT_EQ(table.Find(first), nullptr);
    EXPECT_EQ(table.Find(Handle{0}), nullptr);
    EXPECT_NE(table.Add(std::make_shared<OpenHandle>(node)), first);
    EXPECT_EQ(table.Count(), 2U);
}

class Lot : public ::testing::Test {
 protected:
    ManualClock clock_;
    ParkingLot lot_{clock_};
    const std::shared_ptr<Recording> answer_ = std::make_shared<Recording>();
};

TEST_F(Lot, WhoComesFirstAnswersAndTheOtherFindsNothing) {
    auto parked = lot_.Park(RecordedReply<EmptyReply>(answer_));
    EXPECT_EQ(lot_.Count(), 1U);
    EXPECT_TRUE(lot_.Holds(parked.id()));
    auto reply = parked.Take();
    ASSERT_TRUE(reply);
    std::move(*reply).Ok();
    EXPECT_FALSE(parked.Take());
    lot_.Cancel(answer_->interrupt());
    EXPECT_EQ(answer_->Await().kind, "ok");
    EXPECT_EQ(lot_.Count(), 0U);
}

TEST_F(Lot, AnInterruptAnswersEintrAndStopsTheWait) {
    int stopped = 0;
    auto parked = lot_.Park(RecordedReply<EmptyReply>(answer_), [&] { ++stopped; });
    lot_.Cancel(answer_->interrupt());
    EXPECT_EQ(answer_->Await().error, EINTR);
    EXPECT_EQ(stopped, 1);
    EXPECT_FALSE(lot_.Holds(parked.id()));
    EXPECT_FALSE(parked.Take());
    parked.Fail(Error(Errno{EIO}, "late"));
}

TEST_F(Lot, AnInterruptThatCameBeforeItWasParkedIsNotLost) {
    auto sink = std::make_unique<RecordingSink>(answer_);
    sink->on_registered = [this](std::uint64_t id) { lot_.Cancel(id); };
    int stopped = 0;
    auto parked = lot_.Park(EmptyReply(std::move(sink)), [&] { ++stopped; });
    EXPECT_EQ(answer_->Await().error, EINTR);
    EXPECT_EQ(stopped, 1);
    EXPECT_FALSE(parked.Take());
    EXPECT_EQ(lot_.Count(), 0U);
}

TEST_F(Lot, AClaimThatDiesAnswersEio) {
    { const auto parked = lot_.Park(RecordedReply<EmptyReply>(answer_)); }
    EXPECT_EQ(answer_->Await().error, EIO);
}

TEST_F(Lot, WhatStopsAWaitCanBeSaidLaterAndRunsAtOnceWhenItIsTooLate) {
    auto [parked, id] = lot_.ParkWithId(RecordedReply<EmptyReply>(answer_));
    int stopped = 0;
    lot_.SetOnCancel(id, [&] { ++stopped; });
    EXPECT_EQ(stopped, 0);
    lot_.Cancel(id);
    EXPECT_EQ(stopped, 1);
    lot_.SetOnCancel(id, [&] { stopped += 10; });
    EXPECT_EQ(stopped, 11);
}

TEST_F(Lot, UnmountingAnswersEverybody) {
    std::vector<Parked<EmptyReply>> parked;
    std::vector<std::shared_ptr<Recording>> answers;
    for (int i = 0; i < 10; ++i) {
        answers.push_back(std::make_shared<Recording>());
        parked.push_back(lot_.Park(RecordedReply<EmptyReply>(answers.back())));
    }
    lot_.FailAll(Error(Errno{ENOTCONN}, "unmounted"));
    for (const auto& answer : answers)
        EXPECT_EQ(answer->Await().error, ENOTCONN);
}

TEST_F(Lot, UnmountingAnswersAlsoWhoIsJustBeingParked) {
    auto sink = std::make_unique<RecordingSink>(answer_);
    sink->on_registered = [this](std::uint64_t) {
        lot_.FailAll(Error(Errno{ENOTCONN}, "unmounted"));
    };
    const auto parked = lot_.Park(EmptyReply(std::move(sink)));
    EXPECT_EQ(answer_->Await().error, ENOTCONN);
}

TEST_F(Lot, KnowsHowLongTheOldestWaits) {
    EXPECT_EQ(lot_.Oldest(), std::nullopt);
    const auto first = lot_.Park(RecordedReply<EmptyReply>(answer_));
    const SteadyTime then = clock_.Steady();
    clock_.Advance(std::chrono::seconds(5));
    const auto second = lot_.Park(RecordedReply<EmptyReply>(std::make_shared<Recording>()));
    EXPECT_EQ(lot_.Oldest(), then);
}

TEST_F(Lot, AnswersAndInterruptsOfManyThreadsMeetEachReplyOnce) {
    constexpr int kReplies = 500;
    std::vector<Parked<EmptyReply>> parked;
    std::vector<std::shared_ptr<Recording>> answers;
    for (int i = 0; i < kReplies; ++i) {
        answers.push_back(std::make_shared<Recording>());
        parked.push_back(lot_.Park(RecordedReply<EmptyReply>(answers.back())));
    }
    std::thread interrupter([&] {
        for (const auto& answer : answers)
            lot_.PostInterrupt(answer->interrupt());
    });
    for (auto& claim : parked) {
        if (auto reply = claim.Take()) std::move(*reply).Ok();
    }
    interrupter.join();
    for (const auto& answer : answers)
        (void)answer->Await();  // a second answer would abort
}

TEST(LastError, IsNewestFirstBoundedAndOneLineEach) {
    ManualClock clock;
    Refusals refusals(clock);
    EXPECT_EQ(refusals.Text(), "");
    refusals.Add(7, "/box/cmd", Error(Errno{EFBIG}, "too\nlong"));
    clock.Advance(std::chrono::seconds(1));
    refusals.Add(8, "/a\nb", Error(Errno{EPERM}, "no"));
    EXPECT_EQ(refusals.Text(),
              "1971-01-01T00:00:01.000Z pid 8 /a\\x0ab EPERM: no\n"
              "1971-01-01T00:00:00.000Z pid 7 /box/cmd EFBIG: too\\x0along\n");
    for (int i = 0; i < 1000; ++i)
        refusals.Add(i, std::string(10'000, 'p'), Error(Errno{EPERM}, std::string(10'000, 's')));
    const std::string text = refusals.Text();
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 64);
    EXPECT_LT(text.size(), 64U * 2000);
}

TEST(LastError, TheSameAgainAndAgainIsOneLine) {
    ManualClock clock;
    Refusals refusals(clock);
    for (int i = 0; i < 5; ++i)
        refusals.Add(7, "/box/cmd", Error(Errno{EFBIG}, "too long"));
    EXPECT_EQ(refusals.Text(),
              "1971-01-01T00:00:00.000Z pid 7 /box/cmd EFBIG: too long (5 times)\n");
    refusals.Add(8, "/box/cmd", Error(Errno{EFBIG}, "too long"));
    EXPECT_EQ(refusals.Text().find("(6 times)"), std::string::npos);
}

TEST(LastError, AnUnknownErrnoIsStillALine) {
    ManualClock clock;
    Refusals refusals(clock);
    refusals.Add(7, "/x", Error(Errno{4000}, "odd"));
    EXPECT_NE(refusals.Text().find(" ?: odd\n"), std::string::npos);
}

}  // namespace
}  // namespace sbxfs
