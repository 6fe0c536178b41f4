#include "sandbox/send_window.h"

#include <gtest/gtest.h>

namespace sbxfs {
namespace {

using std::chrono::milliseconds;

constexpr std::uint64_t kMiB = 1U << 20;

TEST(SendWindow, HasRoomUntilItIsFull) {
    const SendWindow window;
    EXPECT_TRUE(window.HasRoom(0));
    EXPECT_TRUE(window.HasRoom(kMiB - 1));
    EXPECT_FALSE(window.HasRoom(kMiB));
}

TEST(SendWindow, AnAnswerAtOnceIsForgotten) {
    SendWindow window;
    window.Answered(1, milliseconds(0), false);
    for (int i = 0; i < 2000; ++i)
        window.Answered(kMiB, milliseconds(30), true);
    EXPECT_EQ(window.room(), SendWindow::kMost);
}

TEST(SendWindow, DoublesWithARoundTripWhereTheWayIsLong) {
    SendWindow window;
    window.Answered(kMiB, milliseconds(20), true);
    EXPECT_EQ(window.room(), 2 * kMiB);
    for (int i = 0; i < 10; ++i)
        window.Answered(kMiB, milliseconds(30), true);
    EXPECT_EQ(window.room(), SendWindow::kMost);
}

TEST(SendWindow, StaysWhereNothingWaitsForItOrAnswersTakeLonger) {
    SendWindow window;
    window.Answered(kMiB, milliseconds(20), false);
    window.Answered(kMiB, milliseconds(45), true);
    EXPECT_EQ(window.room(), SendWindow::kLeast);
}

TEST(SendWindow, NarrowsWhileAnswersTakeThreeTimesAsLong) {
    SendWindow window;
    for (int i = 0; i < 3; ++i)
        window.Answered(kMiB, milliseconds(20), true);
    ASSERT_EQ(window.room(), SendWindow::kMost);
    window.Answered(kMiB, milliseconds(100), true);
    EXPECT_EQ(window.room(), SendWindow::kMost - kMiB);
    for (int i = 0; i < 10; ++i)
        window.Answered(kMiB, milliseconds(200), true);
    EXPECT_EQ(window.room(), SendWindow::kLeast);
}

TEST(SendWindow, WidensSlowlyOverAShortWay) {
    SendWindow window;
    EXPECT_FALSE(window.IsNear());  // not known
    window.Answered(kMiB, milliseconds(55), false);  // a server's first steps
    window.Answered(kMiB, milliseconds(2), true);
    EXPECT_TRUE(window.IsNear());
    EXPECT_EQ(window.room(), kMiB + kMiB / 64);
}

TEST(SendWindow, ALongerWayIsNoticedByAndBy) {
    SendWindow window;
    window.Answered(kMiB, milliseconds(2), true);
    for (int i = 0; i < 1000; ++i)
        window.Answered(kMiB / 4, milliseconds(30), true);
    EXPECT_FALSE(window.IsNear());
    EXPECT_EQ(window.room(), SendWindow::kMost);
}

}  // namespace
}  // namespace sbxfs
