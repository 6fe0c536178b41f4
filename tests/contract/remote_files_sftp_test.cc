// SftpFiles over a real sftp-server: transfers, round trips, a server's umask, the end of a
// session.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <random>

#include "base/strings.h"
#include "sandbox/sftp_diagnosis.h"
#include "tests/contract/remote_files_worlds.h"

namespace sbxfs::testing {
namespace {

template <class T>
int Code(const Result<T>& result) {
    return result ? 0 : static_cast<int>(result.error().code());
}

constexpr OpenHow kToRead{.read = true};
constexpr OpenHow kToCreate{.read = true, .write = true, .create = true};

class SftpServerTest : public ::testing::Test {
 protected:
    void SetUp() override {
        if (!SftpWorld::ServerIsThere()) GTEST_SKIP() << "no sftp-server here";
    }
};

// Counts the round trips of what `act` does.
template <class Act>
std::uint64_t Trips(SftpWorld& w, Act act) {
    const std::uint64_t before = w.client().RoundTrips();
    act();
    return w.client().RoundTrips() - before;
}

TEST_F(SftpServerTest, OperationsCostTheRoundTripsTheyPromise) {
    SftpWorld w;
    w.Put(w / "f", "content");
    StatChange both = TimesChange(5, 5);
    both.mode = 0600;
    EXPECT_EQ(Trips(w, [&] { (void)w.Lstat(w / "f"); }), 1U);
    EXPECT_EQ(Trips(w, [&] { (void)w.Lstat(w / "missing"); }), 1U);
    EXPECT_EQ(Trips(w, [&] { (void)w.SetStat(w / "f", both); }), 1U);
    EXPECT_EQ(Trips(w, [&] { (void)w.SetStat(w / "f", SizeChange(3)); }), 2U);
    EXPECT_EQ(Trips(w, [&] { (void)w.MakeDir(w / "d", 0755); }), 1U);
    EXPECT_EQ(Trips(w, [&] { (void)w.RemoveDir(w / "d"); }), 1U);
    EXPECT_EQ(Trips(w, [&] { (void)w.Symlink("f", w / "l"); }), 1U);
    EXPECT_EQ(Trips(w, [&] { (void)w.ReadLink(w / "l"); }), 1U);
    EXPECT_EQ(Trips(w, [&] { (void)w.Link(w / "f", w / "g"); }), 1U);
    EXPECT_EQ(Trips(w, [&] { (void)w.Rename(w / "g", w / "h"); }), 1U);
    EXPECT_EQ(Trips(w, [&] { (void)w.Unlink(w / "h"); }), 1U);
    EXPECT_EQ(Trips(w, [&] { (void)w.Statfs(w / "f"); }), 1U);
    EXPECT_EQ(Trips(w, [&] { (void)w.Open(w / "f", kToRead); }), 1U);
    EXPECT_EQ(Trips(w, [&] { (void)w.Open(w / "l", kToRead); }), 2U);
    EXPECT_EQ(Trips(w, [&] { (void)w.Open(w / "new", kToCreate); }), 1U);
    EXPECT_EQ(Trips(w, [&] { (void)w.Open(w / "new", kToCreate); }), 2U);
    const Result<OpenedFile> file = w.Open(w / "f", kToCreate);
    ASSERT_TRUE(file.has_value());
    EXPECT_EQ(Trips(w, [&] { (void)w.Write(file->file, 0, std::string(1U << 20, 'x')); }), 1U);
    EXPECT_EQ(Trips(w, [&] { (void)w.Read(file->file, {0, 1U << 20}); }), 1U);
    EXPECT_EQ(Trips(w, [&] { (void)w.SetFileStat(file->file, SizeChange(3)); }), 1U);
    EXPECT_EQ(Trips(w, [&] { (void)w.Sync(file->file); }), 1U);
    EXPECT_EQ(Trips(w, [&] { (void)w.Close(file->file); }), 1U);
}

TEST_F(SftpServerTest, ALongListingTakesFewRoundTrips) {
    SftpWorld w;
    ASSERT_TRUE(w.MakeDir(w / "many").has_value());
    for (int i = 0; i < 10000; ++i)
        std::ofstream(w / ("many/file-" + std::to_string(i)));
    ASSERT_TRUE(w.MakeDir(w / "few").has_value());
    for (int i = 0; i < 90; ++i)
        std::ofstream(w / ("few/file-" + std::to_string(i)));
    const auto list = [&](const std::string& name) {
        const Result<std::vector<RemoteEntry>> entries = w.List(w / name);
        return entries ? entries->size() : 0;
    };
    EXPECT_EQ(Trips(w, [&] { EXPECT_EQ(list("few"), 90U); }), 2U);
    EXPECT_LE(Trips(w, [&] { EXPECT_EQ(list("many"), 10000U); }), 7U);
    w.Until([&] { return w.sftp_files().OpenHandles() == 0; });
}

TEST_F(SftpServerTest, LargeFilesArriveWhole) {
    SftpWorld w;
    constexpr std::size_t kSize = 64U << 20;
    std::string content(kSize, '\0');
    std::mt19937_64 random(42);
    for (std::size_t at = 0; at < kSize; at += 8) {
        const std::uint64_t word = random();
        content.replace(at, 8, reinterpret_cast<const char*>(&word), 8);
    }
    const Result<OpenedFile> opened = w.Open(w / "big", kToCreate);
    ASSERT_TRUE(opened.has_value());
    int writes = 0;
    for (std::size_t at = 0; at < kSize; at += 8U << 20) {
        w.files().Write(opened->file, at, content.substr(at, 8U << 20), [&](const Status& written) {
            EXPECT_TRUE(written.has_value());
            ++writes;
        });
    }
    w.Until([&] { return writes == 8; });
    EXPECT_TRUE(w.Sync(opened->file).has_value());
    EXPECT_EQ(w.FileStat(opened->file)->size, kSize);
    const Result<std::string> back = w.Read(opened->file, {0, kSize + 1000});
    ASSERT_TRUE(back.has_value());
    EXPECT_EQ(Fnv1a(*back), Fnv1a(content));
    EXPECT_TRUE(*back == content);
}

TEST_F(SftpServerTest, ModesAreExactUnderAnyUmask) {
    SftpWorld w({.arguments = {"-u", "077"}});
    EXPECT_EQ(w.MakeDir(w / "d", 0755)->mode, S_IFDIR | 0755U);
    OpenHow how = kToCreate;
    how.mode = 0664;
    EXPECT_EQ(w.Open(w / "f", how)->stat.mode, S_IFREG | 0664U);
    how.exclusive = true;
    how.mode = 0777;
    EXPECT_EQ(w.Open(w / "g", how)->stat.mode, S_IFREG | 0777U);
    EXPECT_EQ(w.Lstat(w / "d")->mode, S_IFDIR | 0755U);
    EXPECT_EQ(w.Lstat(w / "f")->mode, S_IFREG | 0664U);
    // A directory below one that hands down its group keeps that bit.
    ASSERT_TRUE(w.SetStat(w / "d", ModeChange(02755)).has_value());
    EXPECT_EQ(w.MakeDir(w / "d/e", 0711)->mode, S_IFDIR | 02711U);
}

TEST_F(SftpServerTest, WorksWithAServerThatHasNoLimitsToTell) {
    SftpWorld w(
        {.arguments = {"-P", "limits,statvfs,fsync,posix-rename,hardlink,lsetstat,fstatvfs"}});
    w.Put(w / "f", std::string(100000, 'x'));
    EXPECT_EQ(w.Get(w / "f").size(), 100000U);
}

TEST_F(SftpServerTest, TheServerCopiesFiles) {
    SftpWorld w;
    w.Put(w / "a", "0123456789");
    const Result<OpenedFile> from = w.Open(w / "a", kToRead);
    const Result<OpenedFile> to = w.Open(w / "b", kToCreate);
    ASSERT_TRUE(from && to);
    const std::uint64_t written = w.client().counters().bytes_out;
    const std::uint64_t trips = w.client().RoundTrips();
    EXPECT_EQ(*w.Copy(from->file, {2, 5}, to->file, 0), 5U);
    EXPECT_EQ(w.client().RoundTrips() - trips, 1U);
    EXPECT_LT(w.client().counters().bytes_out - written, 300U);
    EXPECT_EQ(w.Get(w / "b"), "23456");
}

TEST_F(SftpServerTest, ADyingServerAnswersEverythingOnce) {
    SftpWorld w;
    const Result<OpenedFile> opened = w.Open(w / "f", kToCreate);
    ASSERT_TRUE(opened.has_value());
    int answers = 0;
    for (int i = 0; i < 100; ++i) {
        w.files().Write(opened->file, 0, std::string(500000, 'x'),
                        [&](const Status&) { ++answers; });
        w.files().List(w.root(), [&](const auto&) { ++answers; });
    }
    w.Turn();
    w.KillServer();
    w.Until([&] { return answers == 200; });
    EXPECT_EQ(Code(w.Lstat(w / "f")), EHOSTUNREACH);
    EXPECT_EQ(Code(w.Read(opened->file, {0, 5})), ESTALE);
}

TEST_F(SftpServerTest, PathsOfOtherUsersAndDevicesAreOnlyLookedAt) {
    SftpWorld w;
    EXPECT_TRUE(S_ISCHR(w.Lstat("/dev/null")->mode));
    EXPECT_TRUE(S_ISDIR(w.Lstat("/")->mode));
    EXPECT_GT(w.List("/")->size(), 3U);
}

}  // namespace
}  // namespace sbxfs::testing
