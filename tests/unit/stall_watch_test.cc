// When a file server counts as stopped inside an answer, and when it is only slow.
#include "sandbox/stall_watch.h"

#include <gtest/gtest.h>

#include <optional>
#include <utility>
#include <vector>

#include "tests/fakes/manual_loop.h"
#include "tests/fakes/sftp_peer.h"

namespace sbxfs {
namespace {

using testing::FileAttrs;
using testing::ManualLoop;
using testing::PeerAttrs;
using testing::PeerData;
using testing::ReadyClient;
using testing::TakeRequests;

class StallWatchTest : public ::testing::Test {
 protected:
    void Feed(std::string_view bytes) {
        ASSERT_TRUE(client_->Feed(bytes).has_value());
        watch_->Heard();
    }
    std::string AnswerTo(std::size_t size) {
        client_->Read("h", 0, static_cast<std::uint32_t>(size),
                      [](const SftpAnswer<std::string>&) {});
        return PeerData(TakeRequests(*client_).front().id, std::string(size, 'x'));
    }
    // So many ticks, at each of which the supervisor answers what it is asked, if it does.
    void Wait(int ticks, bool answers = true) {
        for (int i = 0; i < ticks; ++i) {
            loop_.Advance(StallWatch::kTick);
            if (answers) AnswerAll();
        }
    }
    void AnswerAll() {
        for (Job& answered : std::exchange(asked_, {}))
            answered();
    }

    ManualLoop loop_;
    std::shared_ptr<SftpClient> client_ = ReadyClient();
    std::vector<Job> asked_;
    int stalls_ = 0;
    std::optional<StallWatch> watch_{
        std::in_place, loop_, client_,
        [this](Job answered) { asked_.push_back(std::move(answered)); }, [this] { ++stalls_; }};
};

TEST_F(StallWatchTest, AServerThatStopsInsideAnAnswerIsNoticedWithinTwoTicks) {
    for (const std::size_t size : {std::size_t{1}, std::size_t{13}, std::size_t{500}}) {
        SCOPED_TRACE(size);
        client_ = ReadyClient();
        watch_.emplace(
            loop_, client_, [this](Job answered) { asked_.push_back(std::move(answered)); },
            [this] { ++stalls_; });
        stalls_ = 0;
        Feed(AnswerTo(1000).substr(0, size));
        Wait(1);
        EXPECT_EQ(stalls_, 0);
        Wait(1);
        EXPECT_EQ(stalls_, 1);
        Wait(5);
        EXPECT_EQ(stalls_, 1);
    }
}

TEST_F(StallWatchTest, OneThatHasSaidNothingOfItsAnswerIsWaitedFor) {
    const std::string bytes = AnswerTo(1000);
    Wait(100);
    Feed(bytes);
    Wait(100);
    EXPECT_EQ(stalls_, 0);
    EXPECT_TRUE(asked_.empty());
    EXPECT_EQ(loop_.timers(), 0U);
}

TEST_F(StallWatchTest, OneWhoseBytesStillComeIsSlow) {
    const std::string bytes = AnswerTo(30'000);
    std::size_t fed = 0;
    while (fed < bytes.size()) {
        Feed(std::string_view(bytes).substr(fed, 1100));
        fed += 1100;
        Wait(1);
    }
    EXPECT_EQ(stalls_, 0);
    EXPECT_EQ(loop_.timers(), 0U);
}

// Each tick finds the client inside a packet, never the same one.
TEST_F(StallWatchTest, OneThatGoesOnFromPacketToPacketIsNotStopped) {
    std::string rest;
    for (int i = 0; i < 20; ++i) {
        const std::string next = AnswerTo(20);
        Feed(rest + next.substr(0, 15));
        rest = next.substr(15);
        Wait(1);
    }
    EXPECT_EQ(stalls_, 0);
}

// What is asked meanwhile is answered into the rest of the packet, a few bytes at a time.
TEST_F(StallWatchTest, AnswersThatFillAPacketWhichWasNeverFinishedDoNotKeepIt) {
    Feed(AnswerTo(30'000).substr(0, 100));
    for (int i = 0; i < 2; ++i) {
        client_->Lstat("/a", [](const SftpAnswer<SftpAttrs>&) {});
        Feed(PeerAttrs(TakeRequests(*client_).front().id, FileAttrs(1)));
        Wait(1);
    }
    EXPECT_EQ(stalls_, 1);
}

TEST_F(StallWatchTest, NobodyIsBlamedWhileTheSupervisorDoesNotAnswerEither) {
    Feed(AnswerTo(1000).substr(0, 500));
    Wait(20, false);
    EXPECT_EQ(stalls_, 0);
    AnswerAll();
    Wait(1);
    EXPECT_EQ(stalls_, 1);
}

// The whole machine was stopped, or the link was full: what had been said comes first.
TEST_F(StallWatchTest, WhatComesWithTheSupervisorsAnswerCounts) {
    const std::string bytes = AnswerTo(1000);
    Feed(bytes.substr(0, 500));
    Wait(10, false);
    const std::string next = AnswerTo(1000);
    Feed(bytes.substr(500) + next.substr(0, 500));
    AnswerAll();  // of questions before
    Wait(1, false);
    Wait(3, false);
    EXPECT_EQ(stalls_, 0);
    AnswerAll();
    Wait(1);
    EXPECT_EQ(stalls_, 1);
}

TEST_F(StallWatchTest, ASessionThatHasEndedIsNotWatched) {
    Feed(AnswerTo(1000).substr(0, 500));
    client_->FailAll(Error(Errno{EHOSTUNREACH}, "cut", Blame::kRemote));
    Wait(5);
    EXPECT_EQ(stalls_, 0);
    EXPECT_EQ(loop_.timers(), 0U);
}

TEST_F(StallWatchTest, AnAnswerAfterItsEndIsNoMatter) {
    Feed(AnswerTo(1000).substr(0, 500));
    Wait(1, false);
    ASSERT_EQ(asked_.size(), 1U);
    watch_.reset();
    AnswerAll();
    Wait(5);
    EXPECT_EQ(stalls_, 0);
}

}  // namespace
}  // namespace sbxfs
