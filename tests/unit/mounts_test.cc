// Mount options, and the mounts there are as /proc/self/mountinfo tells them.
#include "fs/mounts.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "fs/mount_options.h"
#include "tests/support/temp_dir.h"

namespace sbxfs {
namespace {

using Words = std::vector<std::string>;

TEST(MountOptions, AreOursGenericOrAnError) {
    const auto options = ParseMountOptions(
        {"ro,allow_other,config=/c.toml", "state_dir=/s,op_timeout=5m,exec,_netdev,nofail,x-y=z"},
        false);
    ASSERT_TRUE(options);
    EXPECT_EQ(options->ForKernel(), (Words{"ro", "allow_other"}));
    EXPECT_EQ(options->config, "/c.toml");
    EXPECT_EQ(options->state_dir, "/s");
    EXPECT_EQ(options->op_timeout, std::chrono::minutes(5));
}

TEST(MountOptions, NoexecUnlessAskedFor) {
    EXPECT_EQ(ParseMountOptions({}, false)->ForKernel(), Words{"noexec"});
    EXPECT_EQ(ParseMountOptions({""}, false)->ForKernel(), Words{"noexec"});
    EXPECT_EQ(ParseMountOptions({"defaults,rw,,noatime"}, false)->ForKernel(), Words{"noexec"});
    EXPECT_EQ(ParseMountOptions({"exec"}, false)->ForKernel(), Words{});
}

TEST(MountOptions, TheLastOfTwoOppositesCounts) {
    EXPECT_EQ(ParseMountOptions({"ro,rw,exec,noexec"}, false)->ForKernel(), Words{"noexec"});
    EXPECT_EQ(ParseMountOptions({"rw,ro", "noexec,exec"}, false)->ForKernel(), Words{"ro"});
}

TEST(MountOptions, SayWhoseTheFilesAreAndWhatOthersMay) {
    const auto options = ParseMountOptions({"uid=root,gid=7,umask=022,idmap=none"}, false);
    ASSERT_TRUE(options) << options.error().what();
    EXPECT_EQ(options->uid, 0U);
    EXPECT_EQ(options->gid, 7U);
    EXPECT_EQ(options->umask, 022U);
    EXPECT_EQ(options->idmap, IdMap::kRemote);
    EXPECT_EQ(options->Text(), "uid=0,gid=7,umask=022,idmap=none");
    EXPECT_EQ(ParseMountOptions({}, false)->umask, 077U);
    EXPECT_FALSE(ParseMountOptions({}, false)->uid);
}

TEST(MountOptions, ShowWhatIsNotAsByDefaultSoThatItCanBeGivenAgain) {
    EXPECT_EQ(ParseMountOptions({"rw,writeback=on,op_timeout=30s,umask=077"}, false)->Text(), "");
    const std::string all =
        "ro,allow_other,exec,umask=0,writeback=off,op_timeout=5s,on_unmount=destroy,config=/c,"
        "state_dir=/s";
    const auto options = ParseMountOptions({all}, false);
    ASSERT_TRUE(options);
    EXPECT_EQ(ParseMountOptions({options->Text()}, false)->Text(), options->Text());
    EXPECT_EQ(options->on_unmount, OnUnmount::kDestroy);
    EXPECT_FALSE(options->writeback);
}

TEST(MountOptions, ABadValueSaysWhatItMustBe) {
    const std::vector<std::pair<std::string, std::string>> wrong = {
        {"umask=9", "octal"},
        {"umask=01000", "octal"},
        {"umask=", "octal"},
        {"uid=no-such-user", "user"},
        {"gid=-1", "group"},
        {"writeback=maybe", "on or off"},
        {"idmap=user", "mount or none"},
        {"on_unmount=ask", "keep or destroy"},
        {"op_timeout=0", "duration"},
        {"config=c.toml", "absolute"},
        {"state_dir=", "absolute"},
        {"ro=1", "no value"},
        {"uid", "a value"},
        {"remount", "umount"}};
    for (const auto& [option, wanted] : wrong) {
        const auto parsed = ParseMountOptions({option}, true);
        ASSERT_FALSE(parsed) << option;
        EXPECT_EQ(parsed.error().code(), Errno{EINVAL});
        EXPECT_NE(parsed.error().what().find(wanted), std::string::npos) << parsed.error().what();
    }
}

TEST(MountOptions, WhatFstabAndMountSayForThemselvesPasses) {
    for (const char* option : {"defaults", "_netdev", "nofail", "x-systemd.automount",
                               "X-mount.mkdir", "noauto", "users", "user=alice", "comment=x",
                               "strictatime", "sync", "nosuid", "nodev", "dev", "suid"})
        EXPECT_TRUE(ParseMountOptions({option}, false)) << option;
}

TEST(MountOptions, AnUnknownOneNamesTheNearestAndIsTakenWhenSloppy) {
    const auto wrong = ParseMountOptions({"op_timout=5"}, false);
    ASSERT_FALSE(wrong);
    EXPECT_EQ(wrong.error().code(), Errno{EINVAL});
    EXPECT_EQ(wrong.error().what(),
              "unknown mount option 'op_timout=5'; did you mean 'op_timeout'?");
    EXPECT_TRUE(ParseMountOptions({"op_timout=5"}, true));
    for (const char* bad : {"op_timeout=", "op_timeout=0", "op_timeout=x", "op_timeout",
                            "config=", "config", "ro=1", "state_dir="})
        EXPECT_FALSE(ParseMountOptions({bad}, false)) << bad;
}

TEST(MountInfo, OnlyOursInTheirOrderWithWhoMayUseThem) {
    const auto mounts = ParseSbxfsMounts(
        "22 28 0:21 / /proc rw,nosuid shared:5 - proc proc rw\n"
        "99 28 0:42 / /mnt/a\\040b\\011c\\134d rw,nosuid,nodev,noexec shared:9 - fuse.sbxfs sbxfs "
        "rw,user_id=1000,group_id=1000,default_permissions\n"
        "100 28 0:43 / /x rw - fuse.sbxfs sbxfs rw,user_id=0,allow_other\n"
        "101 28 0:44 / /y rw shared:1 master:2 - fuse.sshfs me@host: rw,user_id=1000\n"
        "102 28 0:45 / /fuse.sbxfs rw - tmpfs fuse.sbxfs rw\n");
    ASSERT_EQ(mounts.size(), 2U);
    EXPECT_EQ(mounts[0].path, "/mnt/a b\tc\\d");
    EXPECT_EQ(mounts[0].device, "0:42");
    EXPECT_EQ(mounts[0].user, 1000U);
    EXPECT_FALSE(mounts[0].for_all);
    EXPECT_EQ(mounts[1].path, "/x");
    EXPECT_TRUE(mounts[1].for_all);
}

TEST(MountInfo, WhatAnotherUserSharesIsNotTrusted) {
    const uid_t self = ::geteuid();
    EXPECT_TRUE(IsTrusted({"/own", "0:1", self, false}));
    EXPECT_TRUE(IsTrusted({"/own", "0:1", self, true}));
    EXPECT_TRUE(IsTrusted({"/of-root", "0:1", 0, true}));
    EXPECT_FALSE(IsTrusted({"/of-another", "0:1", self + 1, true}));
    EXPECT_FALSE(IsTrusted({"/of-another", "0:1", self + 1, false}));
}

TEST(MountInfo, WhatIsNoMountinfoIsNoMount) {
    for (const char* text : {"", "\n\n", "-", "1 2 3 - fuse.sbxfs", "a b c d e f g h i -",
                             "1 2 3 4 5 6 7 8 9 fuse.sbxfs", "\\\\\\ \\1 \\ - fuse.sbxfs x"})
        EXPECT_TRUE(ParseSbxfsMounts(text).empty()) << text;
}

TEST(MountPoint, IsAbsoluteWithoutAskingItself) {
    const testing::TempDir dir;
    std::filesystem::create_directory(dir / "real");
    std::filesystem::create_symlink("real", dir / "link");
    const std::string base = std::filesystem::canonical(dir.path());
    EXPECT_EQ(*AbsoluteMountPoint(dir / "link/m"), base + "/real/m");
    EXPECT_EQ(*AbsoluteMountPoint(dir / "link/m///"), base + "/real/m");
    EXPECT_EQ(*AbsoluteMountPoint("/mnt"), "/mnt");
    for (const char* bad : {"/", "", ".", "..", "a/..", "/.."})
        EXPECT_FALSE(AbsoluteMountPoint(bad)) << bad;
    EXPECT_EQ(AbsoluteMountPoint(dir / "none/m").error().code(), Errno{ENOENT});
}

TEST(MountPoint, MustBeADirectoryThatIsThere) {
    const testing::TempDir dir;
    EXPECT_EQ(PrepareMountPoint(dir / "none").error().code(), Errno{ENOENT});
    EXPECT_NE(PrepareMountPoint(dir / "none").error().what().find("make the directory first"),
              std::string::npos);
    std::filesystem::create_directory(dir / "there");
    EXPECT_EQ(*PrepareMountPoint(dir / "there"),
              std::filesystem::canonical(dir / "there").string());
    std::filesystem::create_symlink("/dev/null", dir / "file");
    EXPECT_EQ(PrepareMountPoint(dir / "file").error().code(), Errno{ENOTDIR});
}

}  // namespace
}  // namespace sbxfs
