// The errno table against what a real sftp-server says: other users, small disks, read-only disks,
// mounts, running programs. Needs root for most of it; skipped with a reason elsewhere.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "tests/contract/remote_files_worlds.h"

namespace sbxfs::testing {
namespace {

template <class T>
int Code(const Result<T>& result) {
    return result ? 0 : static_cast<int>(result.error().code());
}

constexpr OpenHow kToRead{.read = true};
constexpr OpenHow kToWrite{.write = true};
constexpr OpenHow kToCreate{.read = true, .write = true, .create = true};
constexpr OpenHow kToCreateNew{.write = true, .create = true, .exclusive = true};

class SftpErrnoTest : public ::testing::Test {
 protected:
    void SetUp() override {
        if (!SftpWorld::ServerIsThere()) GTEST_SKIP() << "no sftp-server here";
    }
};

#define SKIP_UNLESS_MOUNTS_WORK()                                                \
    if (!SftpWorld::MayMount()) {                                                \
        GTEST_SKIP() << "mounting in a private namespace is not permitted here"; \
    }                                                                            \
    static_assert(true)

TEST_F(SftpErrnoTest, OrdinaryUsersMeetPermissions) {
    if (!SftpWorld::IsRoot())
        GTEST_SKIP() << "needs root, to own what the server's user may not touch";
    SftpWorld w({.ordinary_user = true});
    const std::string closed = w / "closed";
    ASSERT_EQ(::mkdir(closed.c_str(), 0700), 0);
    ASSERT_EQ(::mkdir((w / "readonly").c_str(), 0755), 0);
    std::filesystem::copy_file("/etc/hostname", w / "readonly/f");
    ASSERT_EQ(::chmod((w / "readonly/f").c_str(), 0600), 0);
    w.Put(w / "own", "");

    EXPECT_EQ(Code(w.Lstat(closed + "/x")), EACCES);
    EXPECT_EQ(Code(w.List(closed)), EACCES);
    EXPECT_EQ(Code(w.MakeDir(closed + "/d")), EACCES);
    EXPECT_EQ(Code(w.Open(w / "readonly/f", kToRead)), EACCES);
    EXPECT_EQ(Code(w.Open(w / "readonly/f", kToWrite)), EACCES);
    EXPECT_EQ(Code(w.Open(w / "readonly/new", kToCreate)), EACCES);
    EXPECT_EQ(Code(w.Open(w / "readonly/new", kToCreateNew)), EACCES);
    EXPECT_EQ(Code(w.MakeDir(w / "readonly/d")), EACCES);
    EXPECT_EQ(Code(w.Unlink(w / "readonly/f")), EACCES);
    EXPECT_EQ(Code(w.Symlink("x", w / "readonly/l")), EACCES);
    EXPECT_EQ(Code(w.Link(w / "own", w / "readonly/l")), EACCES);
    EXPECT_EQ(Code(w.Rename(w / "readonly/f", w / "f")), EACCES);
    EXPECT_EQ(Code(w.Rename(w / "own", w / "readonly/own")), EACCES);
    EXPECT_EQ(Code(w.SetStat(w / "readonly/f", SizeChange(0))), EACCES);
    // Only the owner may do these, so Linux says EPERM.
    EXPECT_EQ(Code(w.SetStat(w / "readonly/f", ModeChange(0666))), EPERM);
    EXPECT_EQ(Code(w.SetStat(w / "readonly/f", TimesChange(1, 1))), EPERM);
    StatChange owner;
    owner.uid = owner.gid = 0;
    EXPECT_EQ(Code(w.SetStat(w / "own", owner)), EPERM);
}

TEST_F(SftpErrnoTest, StickyDirectoriesSayEperm) {
    if (!SftpWorld::IsRoot())
        GTEST_SKIP() << "needs root, to own what the server's user may not touch";
    SftpWorld w({.ordinary_user = true});
    const std::string sticky = w / "sticky";
    ASSERT_EQ(::mkdir(sticky.c_str(), 0700), 0);
    ASSERT_EQ(::chmod(sticky.c_str(), 01777), 0);
    std::filesystem::copy_file("/etc/hostname", sticky + "/f");
    ASSERT_EQ(::mkdir((sticky + "/d").c_str(), 0755), 0);
    EXPECT_EQ(Code(w.Unlink(sticky + "/f")), EPERM);
    EXPECT_EQ(Code(w.RemoveDir(sticky + "/d")), EPERM);
    EXPECT_EQ(Code(w.Rename(sticky + "/f", w / "f")), EPERM);
    EXPECT_TRUE(w.MakeDir(sticky + "/own").has_value());
    EXPECT_TRUE(w.RemoveDir(sticky + "/own").has_value());
}

TEST_F(SftpErrnoTest, FullDisksSayEnospc) {
    SKIP_UNLESS_MOUNTS_WORK();
    SftpWorld w({.mount = "mount -t tmpfs -o size=1m,nr_inodes=20 none $ROOT"});
    const Result<OpenedFile> opened = w.Open(w / "f", kToCreate);
    ASSERT_TRUE(opened.has_value());
    EXPECT_EQ(Code(w.Write(opened->file, 0, std::string(3U << 20, 'x'))), ENOSPC);
    EXPECT_EQ(Code(w.Write(opened->file, 8U << 20, "x")), ENOSPC);
    EXPECT_TRUE(w.Close(opened->file).has_value());
    EXPECT_EQ(w.Statfs(w.root())->blocks_available, 0U);
    EXPECT_EQ(Code(w.Symlink(std::string(4000, 'x'), w / "long")), ENOSPC);

    ASSERT_TRUE(w.Unlink(w / "f").has_value());
    int made = 0;
    Status last = Ok();
    while (made < 50 && last) {
        last = w.MakeDir(w / ("d" + std::to_string(made++))) ? Ok() : Status(Error(Errno{1}, ""));
    }
    EXPECT_LT(made, 50);  // out of inodes
    EXPECT_EQ(Code(w.MakeDir(w / "more")), ENOSPC);
    EXPECT_EQ(Code(w.Open(w / "new", kToCreate)), ENOSPC);
    EXPECT_EQ(Code(w.Open(w / "new", kToCreateNew)), ENOSPC);
    EXPECT_EQ(Code(w.MakeDir(w / "d0")),
              EEXIST);  // what stands in the way comes first, as in Linux
}

TEST_F(SftpErrnoTest, ReadOnlyDisksSayErofs) {
    SKIP_UNLESS_MOUNTS_WORK();
    SftpWorld w({.mount = "mount -t tmpfs none $ROOT; mkdir $ROOT/d $ROOT/e; echo x > $ROOT/f; "
                          "mount -o remount,ro $ROOT"});
    EXPECT_EQ(w.Get(w / "f"), "x\n");
    EXPECT_EQ(Code(w.Open(w / "f", kToWrite)), EROFS);
    EXPECT_EQ(Code(w.Open(w / "new", kToCreate)), EROFS);
    EXPECT_EQ(Code(w.Open(w / "new", kToCreateNew)), EROFS);
    EXPECT_EQ(Code(w.MakeDir(w / "new")), EROFS);
    EXPECT_EQ(Code(w.MakeDir(w / "d")), EEXIST);
    EXPECT_EQ(Code(w.RemoveDir(w / "d")), EROFS);
    EXPECT_EQ(Code(w.Unlink(w / "f")), EROFS);
    EXPECT_EQ(Code(w.Symlink("x", w / "l")), EROFS);
    EXPECT_EQ(Code(w.Link(w / "f", w / "l")), EROFS);
    EXPECT_EQ(Code(w.Rename(w / "f", w / "g")), EROFS);
    EXPECT_EQ(Code(w.Rename(w / "d", w / "e")), EROFS);
    EXPECT_EQ(Code(w.Rename(w / "f", w / "g", RemoteFiles::Replace::kNo)), EROFS);
    EXPECT_EQ(Code(w.SetStat(w / "f", ModeChange(0600))), EROFS);
    EXPECT_EQ(Code(w.SetStat(w / "f", TimesChange(1, 1))), EROFS);
    EXPECT_EQ(Code(w.SetStat(w / "f", SizeChange(0))), EROFS);
    EXPECT_EQ(Code(w.Unlink(w / "no")), EROFS);  // Linux asks the mount before it looks
}

TEST_F(SftpErrnoTest, MountsBetweenNamesSayExdevAndMountPointsEbusy) {
    SKIP_UNLESS_MOUNTS_WORK();
    SftpWorld w({.mount =
                     "mkdir $ROOT/a $ROOT/b $ROOT/c; mount -t tmpfs none $ROOT/a; mkdir $ROOT/a/d; "
                     "echo x > $ROOT/a/f; mkdir $ROOT/c/same; mount --bind $ROOT/c $ROOT/b; "
                     "echo y > $ROOT/c/g; touch $ROOT/file; mount --bind $ROOT/c/g $ROOT/file"});
    EXPECT_EQ(Code(w.Rename(w / "a/f", w / "f")), EXDEV);
    EXPECT_EQ(Code(w.Rename(w / "a/d", w / "d")), EXDEV);
    EXPECT_EQ(Code(w.Rename(w / "a/f", w / "f", RemoteFiles::Replace::kNo)), EXDEV);
    EXPECT_EQ(Code(w.Link(w / "a/d/no", w / "f2")), ENOENT);
    w.Put(w / "a/g", "g");
    EXPECT_EQ(Code(w.Link(w / "a/g", w / "g2")), EXDEV);
    // Bind mounts of one file system look alike; nothing else explains the refusal.
    EXPECT_EQ(Code(w.Rename(w / "c/g", w / "b/g2")), EXDEV);
    EXPECT_EQ(Code(w.RemoveDir(w / "a")), EBUSY);
    EXPECT_EQ(Code(w.Unlink(w / "file")), EBUSY);
}

TEST_F(SftpErrnoTest, RunningProgramsSayEtxtbsy) {
    SftpWorld w;
    std::filesystem::copy_file("/bin/sleep", w / "prog");
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        ::execl((w / "prog").c_str(), "prog", "60", nullptr);
        ::_exit(1);
    }
    w.Until([&] {
        std::error_code error;
        const auto exe =
            std::filesystem::read_symlink("/proc/" + std::to_string(child) + "/exe", error);
        return !error && exe.filename() == "prog";
    });
    EXPECT_EQ(Code(w.Open(w / "prog", kToWrite)), ETXTBSY);
    EXPECT_EQ(Code(w.SetStat(w / "prog", SizeChange(0))), ETXTBSY);
    EXPECT_EQ(Code(w.Open(w / "prog", kToRead)), 0);
    (void)::kill(child, SIGKILL);
    (void)::waitpid(child, nullptr, 0);
}

TEST_F(SftpErrnoTest, SocketsSayEnxio) {
    SftpWorld w;
    const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    ASSERT_LT((w / "s").size(), sizeof address.sun_path);
    std::strcpy(address.sun_path, (w / "s").c_str());
    ASSERT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(Code(w.Open(w / "s", kToRead)), ENXIO);
    EXPECT_EQ(Code(w.Open(w / "s", kToWrite)), ENXIO);
    EXPECT_TRUE(S_ISSOCK(w.Lstat(w / "s")->mode));
}

TEST_F(SftpErrnoTest, TooManyOpenFilesSayEmfile) {
    SftpWorld w({.open_files = 25});
    w.Put(w / "f", "x");
    EXPECT_EQ(w.client().limits().handles, 20U);  // known with the first answer
    std::vector<RemoteFilePtr> files;
    Result<OpenedFile> opened = w.Open(w / "f", kToRead);
    while (opened && files.size() < 100) {
        files.push_back(opened->file);
        opened = w.Open(w / "f", kToRead);
    }
    EXPECT_EQ(Code(opened), EMFILE);
    EXPECT_EQ(files.size(), 16U);
    EXPECT_TRUE(w.List(w.root()).has_value());  // some are kept for listings
    opened = Error(Errno{0}, "");
    files.pop_back();
    w.Until([&] { return w.sftp_files().OpenHandles() < 16; });
    EXPECT_TRUE(w.Open(w / "f", kToRead).has_value());
}

TEST_F(SftpErrnoTest, ImpossibleSizesSayEfbig) {
    SftpWorld w;
    const Result<OpenedFile> opened = w.Open(w / "f", kToCreate);
    ASSERT_TRUE(opened.has_value());
    EXPECT_EQ(Code(w.Write(opened->file, 1ULL << 62, "x")), EFBIG);
    EXPECT_EQ(Code(w.SetFileStat(opened->file, SizeChange(1ULL << 62))), EFBIG);
    EXPECT_EQ(Code(w.SetStat(w / "f", SizeChange(1ULL << 62))), EFBIG);
    EXPECT_EQ(w.FileStat(opened->file)->size, 0U);
}

TEST_F(SftpErrnoTest, AServerMadeReadOnlySaysEacces) {
    SftpWorld w({.arguments = {"-R"}});
    EXPECT_EQ(Code(w.MakeDir(w / "d")), EACCES);
    EXPECT_EQ(Code(w.Open(w / "f", kToCreate)), EACCES);
}

}  // namespace
}  // namespace sbxfs::testing
