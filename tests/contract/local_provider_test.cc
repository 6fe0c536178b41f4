// Provider local on real namespaces: what every provider keeps, then what only this one promises (docs/LOCAL.md).
#include "sandbox/providers/local/local_provider.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/files.h"
#include "tests/contract/local_case.h"

namespace sbxfs::testing {

INSTANTIATE_TYPED_TEST_SUITE_P(Local, ProviderContract, LocalWorld);

TEST(LocalProviderAsUser, KeepsTheProviderContractToo) {
    if (::geteuid() != 0) GTEST_SKIP() << "the contract already ran as this user";
    RunAsUser("Local/ProviderContract*");
}

class LocalProviderTest : public LocalCase {};
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
