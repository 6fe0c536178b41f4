// Provider local on real namespaces: what every provider keeps, then what only this one promises (docs/LOCAL.md).
#include "sandbox/providers/local/local_provider.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/files.h"
#include "base/strings.h"
#include "sandbox/providers/local/box.h"
#include "tests/contract/local_world.h"
#include "tests/contract/provider_contract.h"

namespace sbxfs::testing {

INSTANTIATE_TYPED_TEST_SUITE_P(Local, ProviderContract, LocalWorld);

TEST(LocalProviderAsUser, KeepsTheProviderContractToo) {
    if (::geteuid() != 0) GTEST_SKIP() << "the contract already ran as this user";
    RunAsUser("Local/ProviderContract*");
}

class LocalProviderTest : public ::testing::TestWithParam<Who> {
 protected:
    void SetUp() override {
        if (RanElsewhere(GetParam())) {
            over_ = true;
            return;
        }
        world_ = std::make_unique<LocalWorld>();
    }
    void TearDown() override {
        if (!world_) return;
        for (const std::string& token : tokens_) {
            const Status destroyed = DestroyAndWait(world_->provider(), token);
            EXPECT_TRUE(destroyed) << TextOf(destroyed);
            EXPECT_EQ(world_->LeftOf(token), "") << "of " << token;
        }
    }

    LaunchSpec Spec(const std::string& token, const Template& what) {
        tokens_.push_back(token);
        return world_->Spec(token, what);
    }
    Launched MustLaunch(const std::string& token) {
        return MustLaunch(token, world_->SomeTemplate());
    }
    Launched MustLaunch(const std::string& token, const Template& what) {
        Result<Launched> launched = LaunchAndWait(world_->provider(), Spec(token, what));
        if (launched) return *std::move(launched);
        ADD_FAILURE() << TextOf(launched);
        const auto log = ReadWholeFile(world_->BoxPath(token) + "/log");
        if (log) ADD_FAILURE() << *log;
        std::abort();
    }
    // The pid of a sandbox's init, as this machine counts.
    pid_t InitOf(const std::string& token) const {
        const auto box = Box::Open(world_->state_dir(), token);
        const auto init = box ? box->Init() : std::nullopt;
        return init ? init->pid : -1;
    }

    bool over_ = false;
    std::unique_ptr<LocalWorld> world_;
    std::vector<std::string> tokens_;
};
INSTANTIATE_TEST_SUITE_P(Who, LocalProviderTest, ::testing::Values(Who::kRoot, Who::kUser),
                         [](const auto& who) { return WhoName(who.param); });

TEST_P(LocalProviderTest, LoginAndSftpWorkWithThePinnedHostKeyOnly) {
    if (over_) return;
    Launched box = MustLaunch(Token("login"));
    const Output id = world_->Ssh(box, "id -un; pwd; echo $PATH; echo $LANG; echo err >&2; exit 7");
    EXPECT_EQ(id.exit_code, 7) << id.err;
    EXPECT_EQ(id.err, "err\n");
    const std::string home = GetParam() == Who::kRoot ? "/root" : "/home/" + box.connect.user;
    EXPECT_EQ(id.out,
              box.connect.user + "\n" + home +
                  "\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nC.UTF-8\n");

    ASSERT_TRUE(ReplaceFile(world_->directory() + "/up", "bytes\n", 0644));
    const Output sftp = world_->Sftp(
        box, "put " + world_->directory() + "/up /workspace/there\nget /workspace/there " +
                 world_->directory() + "/down\nls -l " + box.connect.spool_dir + "\n");
    EXPECT_EQ(sftp.exit_code, 0) << sftp.err;
    EXPECT_EQ(*ReadWholeFile(world_->directory() + "/down"), "bytes\n");

    const Output spool = world_->Ssh(box, "stat -c '%a %U' " + box.connect.spool_dir);
    EXPECT_EQ(spool.out, "700 " + box.connect.user + "\n");

    ASSERT_TRUE(ReplaceFile(world_->directory() + "/known_hosts",
                            "box " + GenerateSshKeyPair()->public_line + "\n", 0600));
    EXPECT_EQ(world_->Ssh(box, "true").exit_code, 255);
}

// --- stop and start

void AwaitExit(pid_t helper) {
    ASSERT_EQ(::waitpid(helper, nullptr, 0), helper);
}

TEST_P(LocalProviderTest, AStoppedSandboxHasNoProcessAndComesBackWithItsFiles) {
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

TEST_P(LocalProviderTest, AStoppedSandboxIsNotLaunchedAnewAndCanBeDestroyed) {
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
TEST_P(LocalProviderTest, AStopOrStartThatComesLateDoesNothing) {
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

TEST_P(LocalProviderTest, AStartThatWasKilledAnywhereIsFinishedByTheNext) {
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
TEST_P(LocalProviderTest, AStoppedSandboxThatBentItsTreeStaysInIt) {
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

SnapshotFacts FactsOf(const std::string& name, const Template& what) {
    SnapshotFacts facts;
    facts.name = name;
    facts.from = "box";
    facts.what = what;
    return facts;
}

Status SnapshotAndWait(Provider& provider, const std::string& token, const SnapshotFacts& facts) {
    Awaited<Status> done;
    dynamic_cast<Snapshotter&>(provider).Snapshot(token, facts, done.Callback());
    return done.Get("snapshot of " + token);
}

std::vector<SnapshotFacts> SnapshotsOf(Provider& provider) {
    return dynamic_cast<Snapshotter&>(provider).Snapshots();
}

Status RemoveSnapshotAndWait(Provider& provider, const std::string& name) {
    Awaited<Status> done;
    dynamic_cast<Snapshotter&>(provider).RemoveSnapshot(name, done.Callback());
    return done.Get("removal of snapshot " + name);
}

TEST_P(LocalProviderTest, ASnapshotHasEverythingAndASandboxBeginsWithIt) {
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

TEST_P(LocalProviderTest, SnapshotsOfAStoppedSandboxAndOfOneMadeFromASnapshot) {
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

TEST_P(LocalProviderTest, ASnapshotThatWasKilledAnywhereIsWholeOrNotThere) {
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

TEST_P(LocalProviderTest, ASnapshotThatNobodyWaitsForOrThatComesLateIsNotKept) {
    if (over_) return;
    const std::string token = Token("snap-late");
    (void)MustLaunch(token);
    SnapshotOrder order{token, world_->state_dir(), "another",
                        FactsOf("late", world_->SomeTemplate())};
    AwaitExit(StartHelper("snapshot", order.ToJson().Dump()));
    EXPECT_FALSE(std::filesystem::exists(world_->state_dir() + "/snapshots/late"));
}

TEST_P(LocalProviderTest, AHostileTreeIsCopiedAsItIsAndNothingElse) {
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

TEST_P(LocalProviderTest, WhatASandboxChangesInUsrIsItsOwn) {
    if (over_) return;
    const Launched one = MustLaunch(Token("one"));
    const Launched two = MustLaunch(Token("two"));
    const std::string file = "/usr/local/bin/sbxfs-test-" + Hex(RandomBytes(4));
    const Output made =
        world_->Ssh(one, "printf '#!/bin/sh\\necho mine\\n' > " + file + " && chmod +x " + file +
                             " && " + file + " && rm /usr/bin/env && echo gone > /etc/profile");
    EXPECT_EQ(made.out, "mine\n") << made.err;
    EXPECT_EQ(made.exit_code, 0) << made.err;
    const Output other =
        world_->Ssh(two, "test ! -e " + file + " && env true && grep -c PATH /etc/profile");
    EXPECT_EQ(other.exit_code, 0) << other.err;
    EXPECT_NE(::access(file.c_str(), F_OK), 0);
    EXPECT_EQ(::access("/usr/bin/env", X_OK), 0);
}

TEST_P(LocalProviderTest, WritingAnywhereWorks) {
    if (over_) return;
    const Launched box = MustLaunch(Token("write"));
    const Output wrote = world_->Ssh(box,
                                     "for d in / /etc /usr /usr/bin /usr/lib /usr/share /usr/local "
                                     "/usr/local/lib /var/lib /var/cache /var/log"
                                     " /tmp /run /opt /srv /workspace $HOME; do echo x > "
                                     "$d/written && rm $d/written || echo $d; done");
    EXPECT_EQ(wrote.out, "") << wrote.err;
}

TEST_P(LocalProviderTest, NothingElseOfTheMachineIsVisible) {
    if (over_) return;
    ASSERT_EQ(::setenv("SBXFS_TEST_SECRET", "hidden", 1), 0);
    const Launched box = MustLaunch(Token("blind"));
    const Launched other = MustLaunch(Token("other"));
    (void)world_->Ssh(
        other, "sleep 1000 </dev/null >/dev/null 2>&1 & echo secret > /workspace/other-file");
    const Output seen = world_->Ssh(
        box,
        "for p in " + world_->state_dir() + " " + world_->directory() +
            " /etc/shadow /etc/gshadow /etc/sudoers /etc/ssh/ssh_host_ed25519_key /run/docker.sock"
            " /var/run/docker.sock /run/systemd /boot /sys/kernel /sys/fs /lost+found /oldroot "
            "/newroot"
            " /workspace/other-file /dev/vda /dev/sda /dev/kmsg /dev/mem /dev/fuse;"
            " do [ -e $p ] && echo \"$p is there\"; done;"
            " ls /home | grep -vx \"$(id -un)\"; ls -A /root | grep -v ^.cache;"
            " cat /proc/*/cmdline | tr '\\0' ' ' | grep -o 'sleep 100[0]';"
            " cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | grep SBXFS_TEST;"
            " ls /proc/self/fd | grep -v '^[0-3]$';"
            " tty");
    EXPECT_EQ(seen.out, "not a tty\n") << seen.err;
    ASSERT_EQ(::unsetenv("SBXFS_TEST_SECRET"), 0);
    // What it runs as elsewhere on this machine: nobody's ids as root, else the mounting user's.
    const ProcessRecord init = *Box::Open(world_->state_dir(), Token("blind"))->Init();
    struct stat process {};
    ASSERT_EQ(::stat(("/proc/" + std::to_string(init.pid)).c_str(), &process), 0);
    const auto status = *ReadWholeFile("/proc/" + std::to_string(init.pid) + "/status");
    const std::size_t uid = status.find("\nUid:\t") + 6;
    const auto real_uid =
        *ParseNumber<uid_t>(std::string_view(status).substr(uid, status.find('\t', uid) - uid));
    if (GetParam() == Who::kRoot) {
        EXPECT_GE(real_uid, 524288U);
    } else {
        EXPECT_EQ(real_uid, ::geteuid());
    }
}

TEST_P(LocalProviderTest, DescriptorsOfTheHelperDoNotReachASession) {
    if (over_) return;
    const Launched box = MustLaunch(Token("fds"));
    const Output fds = world_->Ssh(
        box,
        "for f in /proc/self/fd/*; do readlink $f; done | grep -v -e pipe: -e fd$ -e ^/dev/null");
    EXPECT_EQ(fds.out, "");
}

TEST_P(LocalProviderTest, NetworkNoneHasNothingAndSharedHasTheMachines) {
    if (over_) return;
    // An abstract socket and a TCP port of this machine.
    const UniqueFd abstract(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const std::string name = "sbxfs-test-" + Hex(RandomBytes(6));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, name.data(), name.size());
    ASSERT_EQ(::bind(abstract.get(), reinterpret_cast<sockaddr*>(&address),
                     static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size())),
              0);
    ASSERT_EQ(::listen(abstract.get(), 1), 0);
    Template none = world_->SomeTemplate();
    none.options["network"] = std::string("none");
    const Launched alone = MustLaunch(Token("alone"), none);
    const Launched shared = MustLaunch(Token("shared"));
    const std::string look =
        "grep -c " + name +
        " /proc/net/unix; tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' | tr '\\n' ' ';"
        " ls /etc/resolv.conf";
    const Output inside = world_->Ssh(alone, look);
    EXPECT_EQ(inside.out, "0\nlo ") << inside.err;
    const Output open = world_->Ssh(shared, look);
    EXPECT_EQ(open.out.substr(0, 2), "1\n") << open.out;
    // Seen in the list of a shared network, and still out of reach where the kernel can do that.
    const Output connected = world_->Ssh(
        shared, "perl -MIO::Socket::UNIX -e 'print IO::Socket::UNIX->new(Peer => \"\\0" + name +
                    "\") ? 1 : 0'");
    const bool reachable = shared.facts.Find("abstract_sockets").has_value();
    EXPECT_EQ(connected.out, reachable ? "1" : "0") << connected.err;
    // Its own loopback works.
    const Output lo = world_->Ssh(
        alone,
        "perl -MIO::Socket::INET -e '$s=IO::Socket::INET->new(Listen=>1,LocalAddr=>\"127.0.0.1\")"
        " or die; print "
        "IO::Socket::INET->new(PeerAddr=>\"127.0.0.1\",PeerPort=>$s->sockport)?1:0'");
    EXPECT_EQ(lo.out, "1") << lo.err;
}

TEST_P(LocalProviderTest, TheLifetimeEndsItWithoutTheDaemon) {
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

TEST_P(LocalProviderTest, ProbeSaysWhyItEnded) {
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

TEST_P(LocalProviderTest, LimitsAreAppliedOrSaidNotToBe) {
    if (over_) return;
    Template small = world_->SomeTemplate();
    small.memory = 128;
    small.cpu = 512;
    small.options["pids"] = std::int64_t{40};
    const Launched box = MustLaunch(Token("small"), small);
    const Json limits = *box.facts.Find("limits");
    for (const char* name : {"cpu", "memory", "pids"}) {
        EXPECT_TRUE(limits.GetString(name).has_value()) << name << " in " << limits.Dump();
    }
    const auto applied = [&](const char* name) {
        return !limits.GetString(name)->starts_with("not applied");
    };
    EXPECT_TRUE(applied("pids")) << limits.Dump();  // in one way or the other
    if (applied("memory")) {
        EXPECT_EQ(*limits.GetString("memory"), "128 MiB");
        const Output eaten = world_->Ssh(box, "perl -e '$x = \"a\" x (400 << 20); print 1'");
        EXPECT_EQ(eaten.out, "") << "400 MiB fitted into 128";
        EXPECT_EQ(world_->Ssh(box, "echo alive").out, "alive\n");
    }
    if (applied("pids")) {
        const Output forked =
            world_->Ssh(box,
                        "perl -e '$| = 1; for (1..200) { my $p = fork; last if !defined $p; if "
                        "(!$p) { sleep 60; exit }"
                        " $n++ } print $n < 100 ? \"bounded\" : $n; kill 9, -getpgrp'");
        EXPECT_EQ(forked.out.substr(0, 7), "bounded") << forked.out << forked.err;
    }
    for (const char* name : {"cpu", "memory", "pids"}) {
        if (!applied(name)) std::cerr << name << ": " << *limits.GetString(name) << "\n";
    }
}

TEST_P(LocalProviderTest, BindsShowWhatTheySayAndNoMore) {
    if (over_) return;
    const std::string host = world_->directory() + "/shown";
    ASSERT_TRUE(MakeDirs(host + "/sub", 0755));
    ASSERT_TRUE(ReplaceFile(host + "/file", "text\n", 0644));
    ASSERT_TRUE(ReplaceFile(world_->directory() + "/single", "one\n", 0600));
    Template bound = world_->SomeTemplate();
    bound.options["binds"] =
        std::vector<std::string>{host + ":/shown", host + ":/srv/deep/writable:rw",
                                 world_->directory() + "/single:/etc/single:ro"};
    const Launched box = MustLaunch(Token("binds"), bound);
    const Output used =
        world_->Ssh(box,
                    "cat /shown/file /etc/single; touch /shown/no 2>&1; touch /etc/single 2>&1;"
                    " echo new > /srv/deep/writable/sub/made; stat -c %U /srv/deep/writable/file");
    EXPECT_NE(used.out.find("text\none\n"), std::string::npos) << used.out << used.err;
    EXPECT_NE(used.out.find("'/shown/no': Read-only file system"), std::string::npos) << used.out;
    EXPECT_NE(used.out.find("'/etc/single': Read-only file system"), std::string::npos) << used.out;
    EXPECT_NE(used.out.find(box.connect.user + "\n"), std::string::npos) << used.out;
    EXPECT_EQ(*ReadWholeFile(host + "/sub/made"), "new\n");
    struct stat made {};
    ASSERT_EQ(::stat((host + "/sub/made").c_str(), &made), 0);
    EXPECT_EQ(made.st_uid, ::geteuid());  // the owner of what is bound
}

TEST_P(LocalProviderTest, BindsOfOurOwnPlacesAreRefused) {
    if (over_) return;
    const auto refused = [&](const std::string& bind) {
        Template what = world_->SomeTemplate();
        what.options["binds"] = std::vector<std::string>{bind};
        return world_->provider().Check(what);
    };
    for (const std::string& source :
         {world_->state_dir(), world_->state_dir() + "/boxes", world_->directory(),
          world_->directory() + "/mount", std::string("/")}) {
        const Status status = refused(source + ":/x");
        ASSERT_FALSE(status) << source;
        EXPECT_EQ(status.error().code(), Errno{EINVAL}) << source;
    }
    // A link that leads there is only found out by the helper.
    ASSERT_EQ(::symlink(world_->state_dir().c_str(), (world_->directory() + "/link").c_str()), 0);
    Template sly = world_->SomeTemplate();
    sly.options["binds"] = std::vector<std::string>{world_->directory() + "/link:/x"};
    const Result<Launched> launched = LaunchAndWait(world_->provider(), Spec(Token("sly"), sly));
    ASSERT_FALSE(launched);
    EXPECT_EQ(launched.error().code(), Errno{EINVAL}) << TextOf(launched);
    Template missing = world_->SomeTemplate();
    missing.options["binds"] = std::vector<std::string>{"/no/such/place:/x"};
    const Result<Launched> nothing =
        LaunchAndWait(world_->provider(), Spec(Token("missing"), missing));
    ASSERT_FALSE(nothing);
    EXPECT_EQ(nothing.error().code(), Errno{ENOENT}) << TextOf(nothing);
}

TEST_P(LocalProviderTest, NothingOfOursMayLieWhereSandboxesLook) {
    if (over_) return;
    LocalOptions options;
    options.state_dir = world_->state_dir();
    options.forbidden = {"/usr/local/boxes"};
    const auto provider = *LocalProvider::Open(world_->loop(), options);
    const Status refused = provider->Check(world_->SomeTemplate());
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().what().find("/usr/local/boxes"), std::string::npos);
}

TEST_P(LocalProviderTest, TheWorkdirIsMadeWhereverItLies) {
    if (over_) return;
    Template what = world_->SomeTemplate();
    for (const std::string& workdir : {std::string("/a/b/c"), std::string("/usr/local/src/x"),
                                       std::string("/var/run/w"), std::string("/")}) {
        what.workdir = workdir;
        const std::string token = Token("wd") + std::to_string(tokens_.size());
        const Launched box = MustLaunch(token, what);
        EXPECT_EQ(
            world_->Ssh(box, "cd " + workdir + " && touch here && rm here && pwd -P | head -c 4")
                .exit_code,
            0)
            << workdir;
    }
    EXPECT_FALSE(std::filesystem::exists("/run/w"));
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

TEST_P(LocalProviderTest, ItOutlivesTheDaemonAndIsFoundAgain) {
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
TEST_P(LocalProviderTest, KillingTheHelperAnywhereLeavesNothing) {
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

TEST_P(LocalProviderTest, KillingTheDestroyAnywhereIsFinishedByTheNext) {
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
TEST_P(LocalProviderTest, AProcessWithoutARecordIsFoundAndEnded) {
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
TEST_P(LocalProviderTest, AHelperThatComesAfterTheDestroyMakesNothing) {
    if (over_) return;
    ASSERT_TRUE(Box::Create(world_->state_dir(), Token("stale")));
    ASSERT_TRUE(DestroyAndWait(world_->provider(), Token("stale")));
    const pid_t helper = StartHelper("launch", world_->Order(Token("stale")).ToJson().Dump());
    int status = 0;
    ASSERT_EQ(::waitpid(helper, &status, 0), helper);
    EXPECT_NE(status, 0);
    EXPECT_EQ(world_->LeftOf(Token("stale")), "");
}

TEST_P(LocalProviderTest, EscapesFail) {
    if (over_) return;
    const Launched box = MustLaunch(Token("escape"));
    // Each line must fail; those that succeed are printed.
    const std::string attempts =
        "mount -t tmpfs none /mnt\n"
        "mount --bind / /mnt\n"
        "mount -o remount,rw,suid,dev /usr\n"
        "mount -t proc none /mnt\n"
        "umount /usr\n"
        "umount -l /proc\n"
        "mknod /tmp/disk b 254 0 && dd if=/tmp/disk of=/dev/null count=1\n"
        "mknod /tmp/mem c 1 1 && dd if=/tmp/mem of=/dev/null count=1\n"
        "dd if=/proc/kcore of=/dev/null count=1\n"
        "echo x > /proc/sys/kernel/core_pattern\n"
        "echo x > /proc/sys/kernel/hostname\n"
        "echo h > /proc/sysrq-trigger\n"
        "echo 1 > /proc/sys/vm/drop_caches\n"
        "echo x > /run/sbxfs/init\n"
        "rm /run/sbxfs/init\n"
        "cat /run/sbxfs/init\n"
        "cat /proc/1/environ\n"
        "readlink /proc/1/exe\n"
        "ls /proc/1/root/\n"
        "dd if=/proc/1/mem of=/dev/null bs=1 count=1\n"
        "nsenter -t 1 -m true\n"
        "unshare -m true\n"
        "unshare -n ip link add x type dummy\n"
        "unshare -Ur mount -t proc none /proc\n"
        "unshare -Urm mount -o remount,suid,dev /usr\n"
        "unshare -Urm umount /usr\n"
        "unshare -Urm umount /proc\n"
        "chroot /proc/1/root true\n"
        "reboot -f\n"
        "date -s '2001-01-01'\n"
        "swapoff -a && false || swapon /dev/zero\n"
        "hwclock -w\n"
        "nice -n -5 true 2>&1 | grep -q . && false\n"
        "perl -e 'exit(syscall(101, 16, 1, 0, 0) == -1)'\n"  // ptrace(PTRACE_ATTACH, 1) on x86_64
        "perl -e 'exit(syscall(304, -100, \"x\", 0) == -1)'\n"  // open_by_handle_at on x86_64
        "perl -e 'exit(syscall(321, 5, 0, 0) == -1)'\n";        // bpf on x86_64
    const Output run = world_->Ssh(box,
                                   "while IFS= read -r line; do ( eval \"$line\" ) >/dev/null 2>&1 "
                                   "</dev/null && echo \"$line\"; done; true",
                                   attempts);
    EXPECT_EQ(run.out, "") << "these succeeded";
    EXPECT_EQ(run.exit_code, 0) << run.err;
    // Its init takes no signal from inside that would kill it, and what root may do inside is bounded.
    const Output alive =
        world_->Ssh(box,
                    "kill -9 1; kill -STOP 1; grep -e CapBnd -e CapPrm -e NoNewPrivs "
                    "/proc/self/status; stat -c %u /proc/1/root/.. 2>&1 | tail -1");
    const std::string capabilities =
        GetParam() == Who::kRoot ? "00000000a80425fb" : "0000000000000000";
    EXPECT_NE(alive.out.find("CapPrm:\t" + capabilities), std::string::npos) << alive.out;
    EXPECT_NE(alive.out.find("CapBnd:\t" + capabilities), std::string::npos) << alive.out;
    EXPECT_NE(alive.out.find("NoNewPrivs:\t1"), std::string::npos) << alive.out;
    EXPECT_EQ(world_->Ssh(box, "echo alive").out, "alive\n");
}

TEST_P(LocalProviderTest, AHostileTreeIsRemovedAndNothingElse) {
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

TEST_P(LocalProviderTest, ASandboxFullOfProcessesIsDestroyedAsFast) {
    if (over_) return;
    const Launched box = MustLaunch(Token("busy"));
    (void)world_->Ssh(box,
                      "for i in $(seq 200); do setsid sh -c 'trap \"\" TERM; while :; do sleep 1; "
                      "done' </dev/null >/dev/null 2>&1 & done");
    const Status destroyed = DestroyAndWait(world_->provider(), Token("busy"));
    EXPECT_TRUE(destroyed) << TextOf(destroyed);
    EXPECT_EQ(world_->LeftOf(Token("busy")), "");
}

// The figures of docs/LOCAL.md come from here; the bounds only catch what has gone wrong altogether.
TEST_P(LocalProviderTest, LaunchAndDestroyAreQuick) {
    if (over_) return;
    using std::chrono::steady_clock;
    const auto ms_since = [](steady_clock::time_point start) {
        return std::chrono::duration<double, std::milli>(steady_clock::now() - start).count();
    };
    std::vector<double> launch_ms;
    std::vector<double> destroy_ms;
    for (int i = 0; i < 15; ++i) {
        const std::string token = Token("quick-") + std::to_string(i);
        auto start = steady_clock::now();
        const Result<Launched> launched = LaunchAndWait(world_->provider(), world_->Spec(token));
        launch_ms.push_back(ms_since(start));
        EXPECT_TRUE(launched) << TextOf(launched);
        start = steady_clock::now();
        EXPECT_TRUE(DestroyAndWait(world_->provider(), token));
        destroy_ms.push_back(ms_since(start));
    }
    std::cerr << "first launch " << launch_ms.front() << " ms";
    std::sort(launch_ms.begin(), launch_ms.end());
    std::sort(destroy_ms.begin(), destroy_ms.end());
    std::cerr << ", median launch " << launch_ms[7] << " ms, destroy " << destroy_ms[7] << " ms\n";
    EXPECT_LT(launch_ms[7], 2000);
    EXPECT_LT(destroy_ms[7], 2000);
}

TEST_P(LocalProviderTest, FiftyAtOnce) {
    if (over_) return;
    constexpr int kCount = 50;
    const auto start = std::chrono::steady_clock::now();
    std::vector<Awaited<Result<Launched>>> answers(kCount);
    for (int i = 0; i < kCount; ++i) {
        const std::string token = Token("many-") + std::to_string(i);
        world_->provider().Launch(
            Spec(token, world_->SomeTemplate()), [](std::string_view) {},
            answers[static_cast<std::size_t>(i)].Callback());
    }
    std::vector<Launched> boxes;
    for (auto& answer : answers) {
        Result<Launched> launched = answer.Get("one of fifty");
        ASSERT_TRUE(launched) << TextOf(launched);
        boxes.push_back(*std::move(launched));
    }
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::steady_clock::now() - start);
    std::cerr << kCount << " launches in " << ms.count() << " ms\n";
    EXPECT_EQ(world_->Ssh(boxes.front(), "hostname").out, "box\n");
    EXPECT_EQ(world_->Ssh(boxes.back(), "hostname").out, "box\n");
    std::set<std::string> ids;
    for (const Launched& box : boxes)
        ids.insert(box.facts.GetString("host_ids").value_or(""));
    EXPECT_EQ(ids.size(),
              GetParam() == Who::kRoot ? kCount : 1U);  // each its own range of user ids
}

TEST_P(LocalProviderTest, AStateDirectoryOfAnyLengthWorks) {
    if (over_) return;
    world_ =
        std::make_unique<LocalWorld>("/" + std::string(120, 'a') + "/" + std::string(120, 'b'));
    const Launched box = MustLaunch(Token("long"));
    EXPECT_EQ(world_->Ssh(box, "echo in").out, "in\n");
}

TEST_P(LocalProviderTest, AFullProgramRuns) {
    if (over_) return;
    const Launched box = MustLaunch(Token("use"));
    const Output used =
        world_->Ssh(box,
                    "awk 'BEGIN { print 6 * 7 }' && perl -e 'print \"perl\\n\"' && ls "
                    "/etc/ssl/certs | grep -c . | grep -vx 0 >/dev/null &&"
                    " getent passwd $(id -un) | cut -d: -f1 && date +%Z && test -w /dev/shm && "
                    "test -c /dev/null && mktemp >/dev/null && echo done");
    EXPECT_EQ(used.exit_code, 0) << used.err;
    EXPECT_TRUE(used.out.starts_with("42\nperl\n" + box.connect.user + "\n")) << used.out;
}

}  // namespace sbxfs::testing
