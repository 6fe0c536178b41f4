// Provider local: stop and start.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <thread>

#include "base/strings.h"
#include "sandbox/providers/local/box.h"
#include "tests/contract/local_case.h"

namespace sbxfs::testing {

class LocalPower : public LocalCase {};
INSTANTIATE_TEST_SUITE_P(Who, LocalPower, ::testing::Values(Who::kRoot, Who::kUser),
                         [](const auto& who) { return WhoName(who.param); });

TEST_P(LocalPower, AStoppedSandboxHasNoProcessAndComesBackWithItsFiles) {
    if (over_) return;
    const std::string token = Token("stop");
    const Launched first = MustLaunch(token);
    const std::string file = "/usr/local/bin/sbxfs-test-" + Hex(RandomBytes(4));
    const Output made = world_->Ssh(first, "set -e; echo one > " + file +
                                               "; echo two > /etc/two; echo three > three; " +
                                               "rm /etc/hosts; (sleep 1000 &) >/dev/null 2>&1");
    EXPECT_EQ(made.exit_code, 0) << made.err;
    for (int round = 1; round <= 2; ++round) {
        ASSERT_TRUE(StopAndWait(world_->provider(), token));
        EXPECT_EQ(ProbeAndWait(world_->provider(), token).liveness, Liveness::kEnded);
        EXPECT_FALSE(Box::Open(world_->state_dir(), token)->IsAlive());
        ASSERT_TRUE(StopAndWait(world_->provider(), token)) << "a second time";

        const Result<Launched> again = StartAndWait(world_->provider(), world_->Spec(token));
        ASSERT_TRUE(again) << TextOf(again);
        EXPECT_EQ(again->id, first.id);
        EXPECT_EQ(again->connect.ToJson().Dump(), first.connect.ToJson().Dump());
        EXPECT_EQ(again->facts.Dump(), first.facts.Dump());
        const Output kept = world_->Ssh(
            *again,
            "cat " + file + " /etc/two three; ls /etc/hosts; ps ax | grep -c '[s]leep 1000'");
        EXPECT_EQ(kept.out, "one\ntwo\nthree\n0\n") << kept.err;
    }
    const pid_t init = InitOf(token);
    ASSERT_TRUE(StartAndWait(world_->provider(), world_->Spec(token)));
    EXPECT_EQ(InitOf(token), init) << "one that runs is left alone";
}

TEST_P(LocalPower, AStoppedSandboxIsNotLaunchedAnewAndCanBeDestroyed) {
    if (over_) return;
    const std::string token = Token("stopped");
    (void)MustLaunch(token);
    ASSERT_TRUE(StopAndWait(world_->provider(), token));
    const Result<Launched> launched = LaunchAndWait(world_->provider(), world_->Spec(token));
    ASSERT_FALSE(launched);
    EXPECT_EQ(launched.error().code(), Errno{EHOSTDOWN});
    ASSERT_TRUE(DestroyAndWait(world_->provider(), token));
    EXPECT_EQ(world_->LeftOf(token), "");
    EXPECT_FALSE(StartAndWait(world_->provider(), world_->Spec(token)));
}

// Of a daemon that was killed: what it asked for is over by the time the helper has its turn.
TEST_P(LocalPower, AStopOrStartThatComesLateDoesNothing) {
    if (over_) return;
    const std::string token = Token("late-stop");
    (void)MustLaunch(token);
    const std::string before = Box::Open(world_->state_dir(), token)->Read("pid").value_or("");
    ASSERT_TRUE(StopAndWait(world_->provider(), token));
    ASSERT_TRUE(StartAndWait(world_->provider(), world_->Spec(token)));
    const pid_t init = InitOf(token);
    const StopOrder stop{token, world_->state_dir(), before};
    AwaitExit(StartHelper("stop", stop.ToJson().Dump()));
    EXPECT_EQ(InitOf(token), init);
    EXPECT_TRUE(Box::Open(world_->state_dir(), token)->IsAlive());

    ASSERT_TRUE(StopAndWait(world_->provider(), token));
    LaunchOrder start = world_->Order(token);
    start.init = before;
    AwaitExit(StartHelper("start", start.ToJson().Dump()));
    EXPECT_FALSE(Box::Open(world_->state_dir(), token)->IsAlive());
}

TEST_P(LocalPower, AStartThatWasKilledAnywhereIsFinishedByTheNext) {
    if (over_) return;
    const std::string token = Token("killed-start");
    const Launched first = MustLaunch(token);
    ASSERT_EQ(world_->Ssh(first, "echo kept > kept").exit_code, 0);
    ASSERT_TRUE(StopAndWait(world_->provider(), token));
    LaunchOrder order = world_->Order(token);
    for (int ms = 0; ms < 40; ms += 3) {
        order.init = Box::Open(world_->state_dir(), token)->Read("pid").value_or("");
        const pid_t helper = StartHelper("start", order.ToJson().Dump());
        std::this_thread::sleep_for(std::chrono::milliseconds(ms));  // where to kill it
        (void)::kill(helper, SIGKILL);
        AwaitExit(helper);
        const Result<Launched> again = StartAndWait(world_->provider(), world_->Spec(token));
        ASSERT_TRUE(again) << "killed after " << ms << " ms: " << TextOf(again);
        EXPECT_EQ(world_->Ssh(*again, "cat kept").out, "kept\n") << "killed after " << ms << " ms";
        ASSERT_TRUE(StopAndWait(world_->provider(), token));
    }
}

// What it left where something is mounted leads nowhere out of it.
TEST_P(LocalPower, AStoppedSandboxThatBentItsTreeStaysInIt) {
    if (over_) return;
    const std::string token = Token("bent");
    const Launched first = MustLaunch(token);
    const Output bent = world_->Ssh(first, "mv /run /gone && ln -s ../../../../../../" +
                                               world_->directory() + " /run && echo bent");
    EXPECT_EQ(bent.out, "bent\n") << bent.err;
    ASSERT_TRUE(StopAndWait(world_->provider(), token));
    const Result<Launched> again = StartAndWait(world_->provider(), world_->Spec(token));
    ASSERT_FALSE(again);
    EXPECT_NE(again.error().what().find("/run in the sandbox is no directory"), std::string::npos)
        << TextOf(again);
    EXPECT_FALSE(std::filesystem::exists(world_->directory() + "/sshd"));
    EXPECT_FALSE(Box::Open(world_->state_dir(), token)->IsAlive());
}

}  // namespace sbxfs::testing
