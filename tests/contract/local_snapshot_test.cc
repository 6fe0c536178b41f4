// Provider local: snapshots, and sandboxes that begin with one.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "base/strings.h"
#include "sandbox/providers/local/box.h"
#include "tests/contract/local_case.h"

namespace sbxfs::testing {

class LocalSnapshot : public LocalCase {};
INSTANTIATE_TEST_SUITE_P(Who, LocalSnapshot, ::testing::Values(Who::kRoot, Who::kUser),
                         [](const auto& who) { return WhoName(who.param); });

namespace {

SnapshotFacts FactsOf(const std::string& name, const Template& what) {
    SnapshotFacts facts;
    facts.name = name;
    facts.from = "box";
    facts.what = what;
    return facts;
}

Status SnapshotAndWait(Provider& provider, const std::string& token, const SnapshotFacts& facts) {
    Awaited<Status> done;
    provider.snapshotter()->Snapshot(token, facts, done.Callback());
    return done.Get("snapshot of " + token);
}

std::vector<SnapshotFacts> SnapshotsOf(Provider& provider) {
    return provider.snapshotter()->Snapshots();
}

Status RemoveSnapshotAndWait(Provider& provider, const std::string& name) {
    Awaited<Status> done;
    provider.snapshotter()->RemoveSnapshot(name, done.Callback());
    return done.Get("removal of snapshot " + name);
}

}  // namespace

TEST_P(LocalSnapshot, ASnapshotHasEverythingAndASandboxBeginsWithIt) {
    if (over_) return;
    const std::string token = Token("snap");
    const Launched first = MustLaunch(token);
    const std::string file = "/usr/local/bin/sbxfs-test-" + Hex(RandomBytes(4));
    const Output made = world_->Ssh(
        first, "set -e; cd /workspace; echo one > " + file +
                   "; echo two > /etc/two; echo three > three; chmod 4751 three; touch -d "
                   "2001-02-03 three;"
                   " ln three again; ln -s ../nowhere link; mkfifo pipe; mkdir -p d/e; chmod 0 d/e;"
                   " truncate -s 1G holes; echo end >> holes; rm /etc/profile; mkdir -p /opt/x; : "
                   "> /opt/x/none;"
                   " chmod 0 /opt/x/none; echo leftover > /run/leftover;"
                   " echo spool > /var/lib/sbxfs/secret");
    ASSERT_EQ(made.exit_code, 0) << made.err;
    const Template what = world_->SomeTemplate();
    ASSERT_TRUE(SnapshotAndWait(world_->provider(), token, FactsOf("base", what)));

    ASSERT_EQ(SnapshotsOf(world_->provider()).size(), 1U);
    const SnapshotFacts facts = SnapshotsOf(world_->provider()).front();
    EXPECT_EQ(facts.name, "base");
    EXPECT_GT(facts.files, 20U);
    EXPECT_LT(facts.bytes, 64U << 20) << "a hole takes no room";
    // Its own life goes on, and is another's no more.
    EXPECT_EQ(world_->Ssh(first, "echo changed > /workspace/three; cat /run/leftover").out,
              "leftover\n");

    const std::string second_token = Token("from-snap");
    const Launched second = MustLaunch(second_token, facts.what);
    const Output there =
        world_->Ssh(second, "cd /workspace; cat " + file +
                                " /etc/two three; stat -c '%a %h %y' three | cut -c1-17; stat -c "
                                "%i three again | uniq | wc -l;"
                                " readlink link; stat -c '%F' pipe; stat -c '%a' d/e; stat -c %s "
                                "holes; tail -c 4 holes;"
                                " ls /etc/profile /run/leftover /var/lib/sbxfs/secret 2>/dev/null; "
                                "stat -c %a /opt/x/none;"
                                " stat -c %U three; test -s /etc/hosts; echo end");
    EXPECT_EQ(there.out,
              "one\ntwo\nthree\n4751 2 2001-02-03\n1\n../nowhere\nfifo\n0\n1073741828\nend\n0\n" +
                  second.connect.user + "\nend\n")
        << there.err;
    // Names of its own, also for the kernel.
    EXPECT_NE(world_->Ssh(second, "cat /etc/machine-id").out,
              world_->Ssh(first, "cat /etc/machine-id").out);

    // Stopping and starting needs the snapshot no more, nor do those made from it.
    ASSERT_TRUE(RemoveSnapshotAndWait(world_->provider(), "base"));
    EXPECT_TRUE(SnapshotsOf(world_->provider()).empty());
    EXPECT_EQ(world_->Ssh(second, "cat /etc/two").out, "two\n");
    ASSERT_TRUE(StopAndWait(world_->provider(), second_token));
    const Result<Launched> again =
        StartAndWait(world_->provider(), world_->Spec(second_token, facts.what));
    ASSERT_TRUE(again) << TextOf(again);
    EXPECT_EQ(world_->Ssh(*again, "cat /etc/two").out, "two\n");
    const Status refused = world_->provider().Check(facts.what);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errno{ENOENT});
    EXPECT_TRUE(std::filesystem::is_empty(world_->state_dir() + "/snapshots"));
}

TEST_P(LocalSnapshot, SnapshotsOfAStoppedSandboxAndOfOneMadeFromASnapshot) {
    if (over_) return;
    const std::string token = Token("snap-stopped");
    const Launched first = MustLaunch(token);
    ASSERT_EQ(world_->Ssh(first, "echo one > one").exit_code, 0);
    ASSERT_TRUE(StopAndWait(world_->provider(), token));
    const Template what = world_->SomeTemplate();
    ASSERT_TRUE(SnapshotAndWait(world_->provider(), token, FactsOf("one", what)));
    const Status twice = SnapshotAndWait(world_->provider(), token, FactsOf("one", what));
    ASSERT_FALSE(twice);
    EXPECT_EQ(twice.error().code(), Errno{EEXIST}) << TextOf(twice);

    const std::string next = Token("snap-next");
    const Launched second = MustLaunch(next, SnapshotsOf(world_->provider()).front().what);
    ASSERT_EQ(world_->Ssh(second, "echo two > two").exit_code, 0);
    ASSERT_TRUE(SnapshotAndWait(world_->provider(), next, FactsOf("two", what)));
    Template third_what = what;
    third_what.options["snapshot"] = std::string("two");
    const Launched third = MustLaunch(Token("snap-third"), third_what);
    EXPECT_EQ(world_->Ssh(third, "cat one two").out, "one\ntwo\n");
    ASSERT_TRUE(StartAndWait(world_->provider(), world_->Spec(token)));
}

TEST_P(LocalSnapshot, ASnapshotThatWasKilledAnywhereIsWholeOrNotThere) {
    if (over_) return;
    const std::string token = Token("snap-cut");
    const Launched box = MustLaunch(token);
    ASSERT_EQ(
        world_->Ssh(box, "mkdir many && cd many && seq 2000 | xargs touch && echo last > ../last")
            .exit_code,
        0);
    const Template what = world_->SomeTemplate();
    SnapshotOrder order{token,
                        world_->state_dir(),
                        Box::Open(world_->state_dir(), token)->Read("pid").value_or(""),
                        {}};
    const std::string snapshots = world_->state_dir() + "/snapshots";
    for (int step = 0; step < 12; ++step) {
        order.facts = FactsOf("cut" + std::to_string(step), what);
        const pid_t helper = StartHelper("snapshot", order.ToJson().Dump());
        ASSERT_GT(helper, 0);
        // Not to wait for something: the moment itself is what varies.
        std::this_thread::sleep_for(std::chrono::milliseconds(8 * step));
        (void)::kill(helper, SIGKILL);
        AwaitExit(helper);
        const std::string name = snapshots + "/" + order.facts.name;
        if (!std::filesystem::exists(name)) continue;
        EXPECT_TRUE(std::filesystem::exists(name + "/snapshot.json")) << step;
        EXPECT_EQ(std::distance(std::filesystem::directory_iterator(name), {}),
                  GetParam() == Who::kRoot ? 4 : 3);
    }
    // Whoever comes next sweeps up.
    ASSERT_TRUE(SnapshotAndWait(world_->provider(), token, FactsOf("whole", what)));
    for (const auto& entry : std::filesystem::directory_iterator(snapshots))
        EXPECT_NE(entry.path().filename().string().front(), '.') << entry.path();
}

TEST_P(LocalSnapshot, ASnapshotThatNobodyWaitsForOrThatComesLateIsNotKept) {
    if (over_) return;
    const std::string token = Token("snap-late");
    (void)MustLaunch(token);
    SnapshotOrder order{token, world_->state_dir(), "another",
                        FactsOf("late", world_->SomeTemplate())};
    AwaitExit(StartHelper("snapshot", order.ToJson().Dump()));
    EXPECT_FALSE(std::filesystem::exists(world_->state_dir() + "/snapshots/late"));
}

TEST_P(LocalSnapshot, AHostileTreeIsCopiedAsItIsAndNothingElse) {
    if (over_) return;
    const std::string token = Token("snap-hostile");
    const Launched box = MustLaunch(token);
    const Output made = world_->Ssh(
        box, "cd /workspace; ln -s / root; ln -s " + world_->state_dir() +
                 " state; "
                 "ln -s /etc/shadow shadow; rm -rf /etc/ssh/x; "
                 "mv /etc/hosts /etc/was && ln -s ../../../../../../etc/shadow /etc/hosts; "
                 "mkdir -- '-rf' 'a\nb'; echo made");
    EXPECT_EQ(made.out, "made\n") << made.err;
    const Template what = world_->SomeTemplate();
    ASSERT_TRUE(SnapshotAndWait(world_->provider(), token, FactsOf("hostile", what)));
    const Launched second =
        MustLaunch(Token("snap-hostile2"), SnapshotsOf(world_->provider()).front().what);
    const Output there = world_->Ssh(
        second,
        "cd /workspace; readlink root shadow; test -L /etc/hosts || echo file; ls -d ./-rf");
    EXPECT_EQ(there.out, "/\n/etc/shadow\nfile\n./-rf\n") << there.err;

    const Output deep = world_->Ssh(box,
                                    "perl -e 'chdir \"/workspace\"; for (1..700) { mkdir \"d\"; "
                                    "chdir \"d\" or die }'; echo made");
    EXPECT_EQ(deep.out, "made\n") << deep.err;
    const Status refused = SnapshotAndWait(world_->provider(), token, FactsOf("deep", what));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errno{ENAMETOOLONG}) << TextOf(refused);
    EXPECT_FALSE(std::filesystem::exists(world_->state_dir() + "/snapshots/deep"));
}

}  // namespace sbxfs::testing
