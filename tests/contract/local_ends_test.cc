// Provider local: how sandboxes end, with the daemon there or killed at any moment.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <string>
#include <thread>

#include "base/files.h"
#include "sandbox/providers/local/box.h"
#include "tests/contract/local_case.h"

namespace sbxfs::testing {

class LocalEnds : public LocalCase {};
INSTANTIATE_TEST_SUITE_P(Who, LocalEnds, ::testing::Values(Who::kRoot, Who::kUser),
                         [](const auto& who) { return WhoName(who.param); });

TEST_P(LocalEnds, TheLifetimeEndsItWithoutTheDaemon) {
    if (over_) return;
    Template brief = world_->SomeTemplate();
    brief.max_lifetime_s = 1;
    const Launched box = MustLaunch(Token("brief"), brief);
    const pid_t init = InitOf(Token("brief"));
    (void)world_->Ssh(box, "setsid sleep 1000 </dev/null >/dev/null 2>&1 &");
    ASSERT_TRUE(Eventually([&] {
        return ProbeAndWait(world_->provider(), Token("brief")).liveness != Liveness::kAlive;
    }));
    const Health health = ProbeAndWait(world_->provider(), Token("brief"));
    EXPECT_EQ(health.liveness, Liveness::kExpired) << health.why;
    EXPECT_NE(health.why.find("max_lifetime"), std::string::npos) << health.why;
    EXPECT_TRUE(Eventually([&] { return ::kill(init, 0) != 0; }));
    // An expired one is not brought back by a repeated launch.
    const Result<Launched> again =
        LaunchAndWait(world_->provider(), world_->Spec(Token("brief"), brief));
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code(), Errno{EHOSTDOWN});
}

TEST_P(LocalEnds, ProbeSaysWhyItEnded) {
    if (over_) return;
    (void)MustLaunch(Token("idle"));
    ASSERT_EQ(::kill(InitOf(Token("idle")), SIGUSR1), 0);
    EXPECT_TRUE(Eventually([&] {
        return ProbeAndWait(world_->provider(), Token("idle")).liveness == Liveness::kExpired;
    }));
    (void)MustLaunch(Token("killed"));
    ASSERT_EQ(::kill(InitOf(Token("killed")), SIGKILL), 0);
    ASSERT_TRUE(Eventually([&] {
        return ProbeAndWait(world_->provider(), Token("killed")).liveness == Liveness::kEnded;
    }));
    EXPECT_NE(ProbeAndWait(world_->provider(), Token("killed")).why.find("killed"),
              std::string::npos);
    // As if that had been before a restart of the machine.
    ASSERT_TRUE(
        ReplaceFile(world_->BoxPath(Token("killed")) + "/pid", "12345 67 another-boot\n", 0600));
    EXPECT_NE(ProbeAndWait(world_->provider(), Token("killed")).why.find("restarted"),
              std::string::npos);
}

// Not a test: what ItOutlivesTheDaemonAndIsFoundAgain starts as another process, to kill it.
TEST(LocalDaemon, DISABLED_LaunchesAndStays) {
    const char* directory = ::getenv("SBXFS_TEST_DAEMON");
    if (directory == nullptr) GTEST_SKIP() << "only started by another test";
    const LaunchOrder order =
        *LaunchOrder::FromJson(*Json::Parse(*ReadWholeFile(std::string(directory) + "/order")));
    const auto loop = *IoLoop::Start("daemon", RealClock());
    LocalOptions options;
    options.state_dir = order.state_dir;
    const auto provider = *LocalProvider::Open(*loop, options);
    LaunchSpec spec;
    spec.token = order.token;
    spec.name = SandboxName{order.hostname, ""};
    spec.client_key = order.client_key;
    spec.host_key = order.host_key;
    const Result<Launched> launched = LaunchAndWait(*provider, spec);
    const std::string text = launched ? launched->connect.ToJson().Dump() : TextOf(launched);
    ASSERT_TRUE(ReplaceFile(std::string(directory) + "/answer", text, 0600));
    for (;;)
        ::pause();
}

TEST_P(LocalEnds, ItOutlivesTheDaemonAndIsFoundAgain) {
    if (over_) return;
    const LaunchSpec spec = Spec(Token("orphan"), world_->SomeTemplate());
    const std::string& directory = world_->directory();
    ASSERT_TRUE(
        ReplaceFile(directory + "/order", world_->Order(Token("orphan")).ToJson().Dump(), 0600));
    ASSERT_EQ(::setenv("SBXFS_TEST_DAEMON", directory.c_str(), 1), 0);
    const pid_t daemon = StartProgram(
        {"/proc/self/exe", "--gtest_also_run_disabled_tests", "--gtest_filter=LocalDaemon.*"});
    ASSERT_EQ(::unsetenv("SBXFS_TEST_DAEMON"), 0);
    ASSERT_GT(daemon, 0);
    const bool answered =
        Eventually([&] { return ::access((directory + "/answer").c_str(), R_OK) == 0; });
    ASSERT_EQ(::kill(daemon, SIGKILL), 0);
    ASSERT_EQ(::waitpid(daemon, nullptr, 0), daemon);
    ASSERT_TRUE(answered);

    EXPECT_EQ(ProbeAndWait(world_->provider(), Token("orphan")).liveness, Liveness::kAlive);
    const Result<Launched> found = LaunchAndWait(world_->provider(), spec);
    ASSERT_TRUE(found) << TextOf(found);
    EXPECT_EQ(found->connect.ToJson().Dump(), *ReadWholeFile(directory + "/answer"));
    EXPECT_EQ(world_->Ssh(*found, "echo still here").out, "still here\n");
}

// At growing delays, so that every step of a launch is the one that is cut off.
TEST_P(LocalEnds, KillingTheHelperAnywhereLeavesNothing) {
    if (over_) return;
    (void)MustLaunch(
        Token("warm"));  // the common base is there: the delays are those of a usual launch
    for (int step = 0; step < 24; ++step) {
        const std::string token = Token("cut-") + std::to_string(step);
        ASSERT_TRUE(Box::Create(world_->state_dir(), token));
        const pid_t helper = StartHelper("launch", world_->Order(token).ToJson().Dump());
        ASSERT_GT(helper, 0);
        // Not to wait for something: the moment itself is what varies.
        std::this_thread::sleep_for(std::chrono::microseconds(1500 * step));
        ASSERT_EQ(::kill(helper, SIGKILL), 0);
        ASSERT_EQ(::waitpid(helper, nullptr, 0), helper);
        const auto box = Box::Open(world_->state_dir(), token);
        if (box && !box->Has("launched.json")) {
            // Not yet launched: it ends by itself, unless its init had been told to go.
            EXPECT_TRUE(Eventually([&] { return !box->IsAlive() || box->Init(); })) << token;
        }
        if (step % 2 == 0) {  // the daemon's next life asks again...
            const Result<Launched> launched =
                LaunchAndWait(world_->provider(), world_->Spec(token));
            EXPECT_TRUE(launched) << token << ": " << TextOf(launched);
            if (launched) {
                EXPECT_EQ(world_->Ssh(*launched, "echo ok").out, "ok\n") << token;
            }
        }
        const Status destroyed = DestroyAndWait(world_->provider(), token);  // ...or gives it up
        EXPECT_TRUE(destroyed) << token << ": " << TextOf(destroyed);
        EXPECT_EQ(world_->LeftOf(token), "") << token;
    }
}

TEST_P(LocalEnds, KillingTheDestroyAnywhereIsFinishedByTheNext) {
    if (over_) return;
    for (int step = 0; step < 10; ++step) {
        const std::string token = Token("end-") + std::to_string(step);
        (void)MustLaunch(token);
        const pid_t helper =
            StartHelper("destroy", DestroyOrder{token, world_->state_dir()}.ToJson().Dump());
        ASSERT_GT(helper, 0);
        std::this_thread::sleep_for(std::chrono::microseconds(1000 * step));  // as above
        ASSERT_EQ(::kill(helper, SIGKILL), 0);
        ASSERT_EQ(::waitpid(helper, nullptr, 0), helper);
        const Result<Launched> late = LaunchAndWait(world_->provider(), world_->Spec(token));
        if (late) {
            EXPECT_EQ(ProbeAndWait(world_->provider(), token).liveness, Liveness::kAlive) << token;
        }
        const Status destroyed = DestroyAndWait(world_->provider(), token);
        EXPECT_TRUE(destroyed) << token << ": " << TextOf(destroyed);
        EXPECT_EQ(world_->LeftOf(token), "") << token;
    }
}

// bubblewrap's second half, should its first be killed at the wrong moment: alive, and no pid written down.
TEST_P(LocalEnds, AProcessWithoutARecordIsFoundAndEnded) {
    if (over_) return;
    ASSERT_TRUE(Box::Create(world_->state_dir(), Token("stray")));
    pid_t stray = -1;
    {
        const UniqueFd alive = *Box::Open(world_->state_dir(), Token("stray"))->HoldAlive(0);
        ASSERT_EQ(::fcntl(alive.get(), F_SETFD, 0), 0);  // inherited, as the init does
        stray = StartProgram(
            {"bwrap", "--unshare-user", "--unshare-pid", "--dev-bind", "/", "/", "sleep", "1000"});
    }
    ASSERT_GT(stray, 0);
    EXPECT_EQ(ProbeAndWait(world_->provider(), Token("stray")).liveness, Liveness::kAlive);
    const Status destroyed = DestroyAndWait(world_->provider(), Token("stray"));
    EXPECT_TRUE(destroyed) << TextOf(destroyed);
    EXPECT_EQ(world_->LeftOf(Token("stray")), "");
    EXPECT_EQ(::waitpid(stray, nullptr, 0), stray);
}

// A helper of a daemon that died, scheduled only after the next daemon has destroyed the sandbox.
TEST_P(LocalEnds, AHelperThatComesAfterTheDestroyMakesNothing) {
    if (over_) return;
    ASSERT_TRUE(Box::Create(world_->state_dir(), Token("stale")));
    ASSERT_TRUE(DestroyAndWait(world_->provider(), Token("stale")));
    const pid_t helper = StartHelper("launch", world_->Order(Token("stale")).ToJson().Dump());
    int status = 0;
    ASSERT_EQ(::waitpid(helper, &status, 0), helper);
    EXPECT_NE(status, 0);
    EXPECT_EQ(world_->LeftOf(Token("stale")), "");
}

TEST_P(LocalEnds, AHostileTreeIsRemovedAndNothingElse) {
    if (over_) return;
    const std::string canary = world_->directory() + "/canary";
    ASSERT_TRUE(MakeDirs(canary + "/dir", 0755));
    ASSERT_TRUE(ReplaceFile(canary + "/dir/file", "alive", 0644));
    const Launched box = MustLaunch(Token("hostile"));
    const Output made = world_->Ssh(
        box,
        "cd /workspace && ln -s " + canary + " a && ln -s / b && ln -s .. c && ln -s " + canary +
            "/dir/file d &&"
            " mkdir -p closed/in && touch closed/in/f && chmod 000 closed/in closed &&"
            " mkdir $(printf 'new\\nline') $(printf '\\377') -- -rf && mkfifo pipe && touch "
            ".gone-1 &&"
            " perl -e 'for (1..3000) { mkdir \"deep\"; chdir \"deep\" } symlink \"" +
            canary +
            "\", \"end\"; open F, \">f\"' &&"
            " mkdir many && cd many && seq 5000 | xargs touch && mkdir full && ln 1 full/hard && "
            "cd .. &&"
            " mkdir /usr/local/x && chmod 000 /usr/local/x && ln -s " +
            canary +
            " /usr/local/y &&"
            " perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => \"sock\", Listen => 1) or "
            "die'");
    EXPECT_EQ(made.exit_code, 0) << made.err;
    const Status destroyed = DestroyAndWait(world_->provider(), Token("hostile"));
    EXPECT_TRUE(destroyed) << TextOf(destroyed);
    EXPECT_EQ(world_->LeftOf(Token("hostile")), "");
    EXPECT_EQ(*ReadWholeFile(canary + "/dir/file"), "alive");
}

TEST_P(LocalEnds, ASandboxFullOfProcessesIsDestroyedAsFast) {
    if (over_) return;
    const Launched box = MustLaunch(Token("busy"));
    (void)world_->Ssh(box,
                      "for i in $(seq 200); do setsid sh -c 'trap \"\" TERM; while :; do sleep 1; "
                      "done' </dev/null >/dev/null 2>&1 & done");
    const Status destroyed = DestroyAndWait(world_->provider(), Token("busy"));
    EXPECT_TRUE(destroyed) << TextOf(destroyed);
    EXPECT_EQ(world_->LeftOf(Token("busy")), "");
}

}  // namespace sbxfs::testing
