// What .mount/metrics says is there now (sandbox/sandbox_metrics.h): each gauge goes up and comes back down again,
// however things end.
#include <errno.h>
#include <fcntl.h>

#include "sandbox/cached_files.h"
#include "sandbox/sandbox_metrics.h"
#include "tests/support/mount_test.h"

namespace sbxfs::testing {
namespace {

using std::chrono::seconds;

class Gauges : public MountTest {
 protected:
    Gauges() : MountTest(WithWriteBehind()) {}
    void SetUp() override {
        MountTest::SetUp();
        MakeBox();
        Settle();
    }
    static std::pair<std::int64_t, std::int64_t> Commands() {
        return {sandbox_metrics.commands_queued.Value(), sandbox_metrics.commands_running.Value()};
    }
    static std::uint64_t Ended(const char* outcome) {
        const Counter& ended = sandbox_metrics.commands_ended;
        return ended.Value(ended.PlaceOf(outcome));
    }
    // A value of the text, which has no such line: -1.
    double Shown(const std::string& name) {
        const std::string text = me().Cat("/.mount/metrics");
        const std::size_t at = text.find("\n" + name + " ");
        return at == std::string::npos ? -1 : std::stod(text.substr(at + 1 + name.size()));
    }
};
using Pair = std::pair<std::int64_t, std::int64_t>;

TEST_F(Gauges, CommandsAreCountedWhereTheyAre) {
    EXPECT_EQ(Commands(), Pair(0, 0));
    const std::uint64_t exited = Ended("exited");
    const std::uint64_t failed = Ended("failed");
    const std::uint64_t refused = Ended("refused");
    const std::uint64_t lost = Ended("lost");
    for (int i = 0; i < 4; ++i)
        EXPECT_EQ(me().Echo("true", "/box/cmd"), 0);
    Settle();
    EXPECT_EQ(Commands(), Pair(4, 0));
    supervisor().Started(1);
    Settle();
    EXPECT_EQ(Commands(), Pair(3, 1));
    EXPECT_EQ(Shown("sbxfs_commands_running"), 1);
    supervisor().Exit(1);
    Settle();
    EXPECT_EQ(Commands(), Pair(3, 0));
    supervisor().Run(2, "", 7);
    Settle();
    EXPECT_EQ(Commands(), Pair(2, 0));
    EXPECT_EQ(me().Rmdir("/box"), 0);
    Settle();
    EXPECT_EQ(Commands(), Pair(0, 0));
    EXPECT_EQ(Ended("exited"), exited + 1);
    EXPECT_EQ(Ended("failed"), failed + 1);
    EXPECT_EQ(Ended("refused"), refused + 1);
    EXPECT_EQ(Ended("lost"), lost + 1) << "the third: told to start, and nobody knows";
}

TEST_F(Gauges, ARestartCountsWhatStillRunsOnce) {
    EXPECT_EQ(me().Echo("true", "/box/cmd"), 0);
    EXPECT_EQ(me().Echo("true", "/box/cmd"), 0);
    Settle();
    supervisor().Started(1);
    Settle();
    Advance(seconds(10));  // the journal knows, too
    EXPECT_EQ(Commands(), Pair(1, 1));
    KillAndStart();
    EXPECT_EQ(Commands().first + Commands().second, 2);
    Settle();
    EXPECT_EQ(Commands(), Pair(1, 1));
    Kill();
    EXPECT_EQ(Commands(), Pair(0, 0)) << "of a mount that is not there any more";
    Start();
}

TEST_F(Gauges, WhatIsOnItsWayIsCountedUntilItHasArrived) {
    TellTheServer();
    Advance(seconds(5));
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(me().Mkdir("/box/fs/work/d" + std::to_string(i)), 0);
        Settle();
    }
    EXPECT_FALSE(me().ListPlus("/box/fs/work").empty());
    const auto dirty = [] {
        return Pair(sandbox_metrics.dirty_changes.Value(), sandbox_metrics.dirty_bytes.Value());
    };
    EXPECT_EQ(dirty(), Pair(0, 0));
    files().SetAnswers(FakeFiles::Answers::kHeld);
    EXPECT_EQ(me().Echo("hello", "/box/fs/work/new"), 0);
    EXPECT_GE(dirty().first, 2);
    EXPECT_EQ(dirty().second, 5);
    EXPECT_EQ(Shown("sbxfs_dirty_bytes"), 5);
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    files().ReleaseAll();
    Settle();
    EXPECT_EQ(dirty(), Pair(0, 0));
}

TEST_F(Gauges, WhatIsCachedIsCountedUntilItIsForgotten) {
    files().PutFile("/work/a", "hello");
    DropCaches();
    EXPECT_EQ(sandbox_metrics.cache_entries.Value(), 0);
    EXPECT_EQ(me().Cat("/box/fs/work/a"), "hello");
    EXPECT_GT(sandbox_metrics.cache_entries.Value(), 0);
    EXPECT_EQ(sandbox_metrics.cache_entries.Value(),
              static_cast<std::int64_t>(mount().Box("box")->cached().cache().Count()));
    DropCaches();
    EXPECT_EQ(sandbox_metrics.cache_entries.Value(), 0);
    EXPECT_EQ(sandbox_metrics.cache_bytes.Value(), 0);
}

TEST_F(Gauges, LaunchesAreCountedByOutcomeAndStep) {
    const Counter& launches = sandbox_metrics.launches;
    const std::uint64_t ready = launches.Value(launches.PlaceOf("ready"));
    const std::uint64_t failed = launches.Value(launches.PlaceOf("failed"));
    MakeBox("other");
    Settle();
    EXPECT_EQ(launches.Value(launches.PlaceOf("ready")), ready + 1);
    provider().SetLaunches(FakeProvider::Answers::kHeld);
    MakeBox("bad");
    provider().FailLaunch(Error(Errno{EIO}, "no capacity"));
    Settle();
    EXPECT_EQ(launches.Value(launches.PlaceOf("failed")), failed + 1);
    EXPECT_EQ(Shown("sbxfs_sandboxes{status=\"failed\"}"), 1);
    EXPECT_EQ(Shown("sbxfs_sandboxes{status=\"ready\"}"), 2);
    EXPECT_GT(Shown("sbxfs_launch_phase_seconds_count{phase=\"ready\"}"), 0);
    EXPECT_EQ(me().Rmdir("/bad"), 0);
    Settle();
    EXPECT_EQ(Shown("sbxfs_sandboxes{status=\"failed\"}"), 0);
}

}  // namespace
}  // namespace sbxfs::testing
