// The pure halves of provider local: what is read from /proc, what is written for other programs.
#include <gtest/gtest.h>

#include "base/strings.h"
#include "sandbox/providers/local/bwrap_args.h"
#include "sandbox/providers/local/cgroups.h"
#include "sandbox/providers/local/etc_files.h"
#include "sandbox/providers/local/health.h"
#include "sandbox/providers/local/mounts.h"
#include "sandbox/providers/local/process_record.h"
#include "sandbox/providers/local/sshd_config.h"
#include "sandbox/providers/local/uid_range.h"

namespace sbxfs {
namespace {

std::vector<std::string> Args(const BwrapPlan& plan) {
    return Split(BwrapArgs(plan), '\0');
}

bool HasPair(const std::vector<std::string>& words, const std::string& option,
             const std::string& value) {
    for (std::size_t i = 0; i + 1 < words.size(); ++i) {
        if (words[i] == option && words[i + 1] == value) return true;
    }
    return false;
}

bool Has(const std::vector<std::string>& words, const std::string& option) {
    return std::find(words.begin(), words.end(), option) != words.end();
}

TEST(BwrapArgs, RootGetsABoundedSetAndAUserNone) {
    BwrapPlan plan;
    plan.range_mapped = true;
    plan.hostname = "b1";
    auto words = Args(plan);
    EXPECT_TRUE(HasPair(words, "--cap-drop", "ALL"));
    EXPECT_TRUE(HasPair(words, "--cap-add", "CAP_SETUID"));
    EXPECT_FALSE(HasPair(words, "--cap-add", "CAP_SYS_ADMIN"));
    EXPECT_FALSE(HasPair(words, "--cap-add", "CAP_SYS_PTRACE"));
    EXPECT_FALSE(Has(words, "--unshare-user"));
    EXPECT_TRUE(HasPair(words, "--hostname", "b1"));
    EXPECT_EQ(RootCapabilities().size(), 14U);

    plan.range_mapped = false;
    plan.login = {"me", 1000, 1001, "/home/me", "/bin/sh"};
    words = Args(plan);
    EXPECT_TRUE(Has(words, "--unshare-user"));
    EXPECT_TRUE(HasPair(words, "--uid", "1000"));
    EXPECT_TRUE(HasPair(words, "--gid", "1001"));
    EXPECT_FALSE(Has(words, "--cap-add"));
}

TEST(BwrapArgs, ItOutlivesUsAndTheNetworkIsAsAsked) {
    BwrapPlan plan;
    EXPECT_FALSE(Has(Args(plan), "--die-with-parent"));
    EXPECT_FALSE(Has(Args(plan), "--unshare-net"));
    plan.own_network = true;
    EXPECT_TRUE(Has(Args(plan), "--unshare-net"));
    EXPECT_TRUE(Has(Args(plan), "--clearenv"));
    EXPECT_TRUE(Has(Args(plan), "--new-session"));
}

TEST(SshdConfig, LetsInOneUserByKeyOnly) {
    const std::string text = SshdConfig("me");
    for (const char* line :
         {"AllowUsers me\n", "PasswordAuthentication no\n", "KbdInteractiveAuthentication no\n",
          "UsePAM no\n", "PermitRootLogin prohibit-password\n", "Subsystem sftp internal-sftp\n",
          "PermitUserEnvironment no\n", "Ciphers aes128-gcm@openssh.com,"}) {
        EXPECT_NE(text.find(line), std::string::npos) << line;
    }
}

TEST(EtcFiles, EveryNumberAndNameAppearsOnce) {
    const Login root;
    const Login daemon{"daemon", 1, 1, "/home/daemon", "/bin/bash"};
    const Login me{"me", 1000, 100, "/home/me", "/bin/bash"};
    for (const Login& login : {root, daemon, me}) {
        for (const std::string& text : {PasswdText(login), GroupText(login)}) {
            std::vector<std::string> names;
            std::vector<std::string> numbers;
            for (const std::string& line : Split(Trim(text), '\n')) {
                const auto fields = Split(line, ':');
                EXPECT_FALSE(Has(names, fields[0])) << line;
                EXPECT_FALSE(Has(numbers, fields[2])) << line;
                names.push_back(fields[0]);
                numbers.push_back(fields[2]);
            }
            EXPECT_TRUE(Has(names, "root"));
        }
    }
    EXPECT_NE(PasswdText(root).find("root:*:0:0:root:/root:/bin/sh\n"), std::string::npos);
    EXPECT_NE(PasswdText(me).find("me:*:1000:100::/home/me:/bin/bash\n"), std::string::npos);
    EXPECT_NE(PasswdText(me).find("sshd:"),
              std::string::npos);  // its privilege separation needs one
}

TEST(Mounts, PointsBelowAreFoundUnescapedAndParentsFirst) {
    const char* text =
        "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
        "30 27 0:5 / /usr/local/share rw shared:7 - fuse.x /dev/b rw\n"
        "29 27 0:4 / /usr/local rw - ext4 /dev/a rw\n"
        "31 27 0:6 / /usr/with\\040blank\\134 rw - ext4 /dev/c rw\n"
        "32 27 0:7 / /usrlocal rw - ext4 /dev/d rw\n"
        "33 27 0:8 / /usr rw - ext4 /dev/e rw\n"
        "broken line\n";
    const std::vector<MountPoint> expected = {
        {"/usr/local", "ext4"}, {"/usr/local/share", "fuse.x"}, {"/usr/with blank\\", "ext4"}};
    EXPECT_EQ(ParseMountPointsBelow(text, "/usr"), expected);
}

TEST(ProcessRecord, ComesBackAndNonsenseDoesNot) {
    const ProcessRecord record{4711, 123456789, "boot-id"};
    EXPECT_EQ(ProcessRecord::FromText(record.ToText()), record);
    for (const char* text : {"", "1 2 x", "0 2 x", "-5 2 x", "12", "12 x y", "12 3", "12 3 4 5"}) {
        EXPECT_FALSE(ProcessRecord::FromText(text)) << text;
    }
}

TEST(ProcessRecord, NamesThisProcessAndNoOtherOfItsNumber) {
    ProcessRecord self = *ProcessRecord::Of(::getpid());
    EXPECT_TRUE(self.Open());
    self.start += 1;
    EXPECT_FALSE(self.Open());
    self.start -= 1;
    self.boot = "another";
    EXPECT_FALSE(self.Open());
    EXPECT_FALSE(ProcessRecord::Of(0x3fffffff));
}

TEST(UidRange, KeepsAwayFromSubordinateIds) {
    const char* subuid = "me:100000:65536\nyou:600000:65536\n#comment\nbad:x:y\n";
    EXPECT_FALSE(OverlapsSubids(subuid, 524288));
    EXPECT_TRUE(OverlapsSubids(subuid, 589824));          // contains 600000
    EXPECT_TRUE(OverlapsSubids(subuid, 589824 + 65536));  // contains 665535
    EXPECT_FALSE(OverlapsSubids(subuid, 589824 + 131072));
    EXPECT_FALSE(OverlapsSubids("", 524288));
}

TEST(UidRange, TakesOnlyWhatThisProcessMayMap) {
    EXPECT_TRUE(IsMapped("         0          0 4294967295\n", 524288));
    EXPECT_FALSE(IsMapped("         0     100000      65536\n", 524288));
    EXPECT_FALSE(IsMapped("         0     100000      524289\n", 524288));
    EXPECT_TRUE(IsMapped("         0     100000      589824\n", 524288));
}

TEST(Cgroups, HybridHierarchiesAreFoundWithOurPlaceInEach) {
    const auto found = ParseHierarchies(
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
        "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
        "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        "4:memory:/user/a\n3:cpu,cpuacct:/\n9:name=systemd:/x\n0::/init.scope\n");
    ASSERT_EQ(found.size(), 4U);
    EXPECT_EQ(found[0].own, "/sys/fs/cgroup/cpu,cpuacct");
    EXPECT_EQ(found[1].own, "/sys/fs/cgroup/memory/user/a");
    EXPECT_FALSE(found[1].v2);
    EXPECT_EQ(found[3].own, "/sys/fs/cgroup/unified/init.scope");
    EXPECT_TRUE(found[3].v2);
}

TEST(Cgroups, AMountOfPartOfATreeIsSeenFromThere) {
    const auto found =
        ParseHierarchies("41 31 0:38 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
                         "0::/docker/abc/child\n");
    ASSERT_EQ(found.size(), 1U);
    EXPECT_EQ(found[0].own, "/sys/fs/cgroup/child");
}

TEST(Health, NotesBecomeSentences) {
    EXPECT_EQ(HealthFromNote("expired lifetime\n").liveness, Liveness::kExpired);
    EXPECT_EQ(HealthFromNote("expired idle\n").liveness, Liveness::kExpired);
    EXPECT_EQ(HealthFromNote("stopped\n").liveness, Liveness::kEnded);
    EXPECT_EQ(HealthFromNote("").liveness, Liveness::kEnded);
    // What a sandbox's init writes is not to be trusted, only shown.
    const Health hostile = HealthFromNote(std::string("\x1b[2J\xff", 5) + std::string(5000, 'x'));
    EXPECT_EQ(hostile.liveness, Liveness::kEnded);
    EXPECT_LT(hostile.why.size(), 400U);
    EXPECT_EQ(hostile.why.find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace sbxfs
