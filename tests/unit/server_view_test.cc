// What a file server's own /proc says of it (sandbox/server_view.h), and mtimes that were shown before the sandbox told
// them (sandbox/shown_times.h).
#include "sandbox/server_view.h"

#include <gtest/gtest.h>

#include "sandbox/shown_times.h"

namespace sbxfs {
namespace {

constexpr std::string_view kStatus =
    "Name:\tsftp-server\nUid:\t0\t1000\t0\t1000\nGid:\t0\t100\t0\t101\n";

TEST(ServerViewTest, SaysWhoseNewFilesAreAndWhatCanBeWrittenTo) {
    const auto view =
        ServerView::Parse(kStatus,
                          "21 1 0:20 / / rw,relatime - overlay overlay rw,lowerdir=/l,upperdir=/u\n"
                          "22 21 0:21 / /usr ro,nosuid shared:1 - ext4 /dev/a rw\n"
                          "23 21 0:22 / /with\\040blank rw - tmpfs tmpfs ro,size=1k\n"
                          "24 21 0:23 / /tmp rw master:1 propagate_from:2 - tmpfs tmpfs rw\n");
    ASSERT_TRUE(view.has_value());
    EXPECT_EQ(view->uid, 1000U);
    EXPECT_EQ(view->gid, 101U);
    EXPECT_TRUE(view->MountOf("/").writable);
    EXPECT_TRUE(view->MountOf("/home/x").writable);
    EXPECT_FALSE(view->MountOf("/usr/bin/a").writable);
    EXPECT_TRUE(view->MountOf("/usrlocal").writable);
    EXPECT_FALSE(view->MountOf("/with blank/f").writable);
    EXPECT_EQ(view->MountOf("/tmp/a/b").path, "/tmp");
}

TEST(ServerViewTest, ALaterMountLiesOverAnEarlierOne) {
    const auto view = ServerView::Parse(kStatus,
                                        "1 0 0:1 / / rw - ext4 a rw\n"
                                        "2 1 0:2 / /d rw - ext4 b rw\n"
                                        "3 1 0:3 / /d ro - ext4 c rw\n");
    ASSERT_TRUE(view.has_value());
    EXPECT_FALSE(view->MountOf("/d").writable);
}

TEST(ServerViewTest, WhatIsNoSuchTextSaysNothing) {
    EXPECT_FALSE(ServerView::Parse("", "").has_value());
    EXPECT_FALSE(ServerView::Parse(kStatus, "").has_value());
    EXPECT_FALSE(ServerView::Parse(kStatus, "1 0 0:1 / relative rw - a b rw\n").has_value());
    EXPECT_FALSE(ServerView::Parse("Uid:\tx\ty\tz\tw\n", "1 0 0:1 / / rw - a b rw\n").has_value());
    EXPECT_FALSE(ServerView::Parse(kStatus, std::string(100'000, '-')).has_value());
}

TEST(ShownTimesTest, WhatWasShownStaysUntilTheFileChanges) {
    ShownTimes times;
    times.Bind("/a", 101, 100);
    RemoteStat stat;
    stat.mtime = 101;
    EXPECT_EQ(times.Apply("/a", stat).mtime, 100);
    EXPECT_EQ(times.Apply("/b", stat).mtime, 101);
    times.Moved("/a", "/b");
    EXPECT_EQ(times.Apply("/a", stat).mtime, 101);
    EXPECT_EQ(times.Apply("/b", stat).mtime, 100);
    stat.mtime = 150;
    EXPECT_EQ(times.Apply("/b", stat).mtime, 150);
    times.Bind("/b", 150, 150);
    stat.mtime = 101;
    EXPECT_EQ(times.Apply("/b", stat).mtime, 101);
}

}  // namespace
}  // namespace sbxfs
