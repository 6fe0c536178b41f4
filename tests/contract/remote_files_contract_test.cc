// The contract of RemoteFiles, tried on every implementation: FakeFiles in memory, and SftpFiles
// over a real sftp-server. What only a real server can show is in remote_files_sftp_test.cc and
// remote_files_errno_test.cc.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cerrno>
#include <set>

#include "base/strings.h"
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
constexpr OpenHow kToAppend{.write = true, .append = true, .create = true};

template <class World>
class RemoteFilesTest : public ::testing::Test {
 protected:
    void SetUp() override {
        if (std::is_same_v<World, SftpWorld> && !SftpWorld::ServerIsThere()) {
            GTEST_SKIP() << "no sftp-server here: install openssh-sftp-server";
        }
        world_ = std::make_unique<World>();
    }
    std::string At(const std::string& name) { return *world_ / name; }

    std::unique_ptr<World> world_;
};

using Worlds = ::testing::Types<FakeWorld, SftpWorld>;

class WorldNames {
 public:
    template <class World>
    static std::string GetName(int) {
        return std::is_same_v<World, FakeWorld> ? "Fake" : "Sftp";
    }
};
TYPED_TEST_SUITE(RemoteFilesTest, Worlds, WorldNames);

TYPED_TEST(RemoteFilesTest, CopySaysHowMuchItCopied) {
    auto& w = *this->world_;
    w.Put(this->At("from"), "0123456789");
    w.Put(this->At("to"), "abcdef");
    const Result<OpenedFile> from = w.Open(this->At("from"), kToRead);
    const Result<OpenedFile> to = w.Open(this->At("to"), kToCreate);
    const Result<OpenedFile> log = w.Open(this->At("log"), kToAppend);
    ASSERT_TRUE(from.has_value() && to.has_value() && log.has_value());
    if (Code(w.Copy(from->file, {0, 1}, to->file, 0)) == EOPNOTSUPP)
        GTEST_SKIP() << "this sftp-server does not copy: OpenSSH 9.0 does";
    EXPECT_EQ(*w.Copy(from->file, {2, 3}, to->file, 1), 3U);
    EXPECT_EQ(w.Get(this->At("to")), "0234ef");
    EXPECT_EQ(*w.Copy(from->file, {8, 1000}, to->file, 6), 2U);  // it ends before that
    EXPECT_EQ(w.Get(this->At("to")), "0234ef89");
    EXPECT_EQ(*w.Copy(from->file, {10, 5}, to->file, 0), 0U);
    EXPECT_EQ(*w.Copy(from->file, {1000, 5}, to->file, 0), 0U);
    EXPECT_EQ(w.Get(this->At("to")), "0234ef89");
    // Whoever asks reads and writes instead.
    EXPECT_EQ(Code(w.Copy(to->file, {0, 5}, to->file, 20)), EOPNOTSUPP);
    EXPECT_EQ(Code(w.Copy(from->file, {0, 5}, log->file, 0)), EOPNOTSUPP);
}

TYPED_TEST(RemoteFilesTest, AnswersAreNeverGivenWithinTheCall) {
    auto& w = *this->world_;
    int answers = 0;
    const auto count = [&](const auto&) { ++answers; };
    w.files().Lstat(w.root(), count);
    w.files().Lstat("relative", count);
    w.files().Open(this->At("f"), kToCreate, count);
    w.files().Rename(this->At("f"), "", RemoteFiles::Replace::kYes, count);
    EXPECT_EQ(answers, 0);
    w.Until([&] { return answers == 4; });
}

TYPED_TEST(RemoteFilesTest, LstatTellsTypeModeSizeAndTime) {
    auto& w = *this->world_;
    w.Put(this->At("f"), "12345", 0640);
    ASSERT_TRUE(w.Symlink("f", this->At("l")).has_value());
    w.MakeFifo(this->At("p"));
    EXPECT_EQ(w.Lstat(this->At("f"))->mode, S_IFREG | 0640U);
    EXPECT_EQ(w.Lstat(this->At("f"))->size, 5U);
    EXPECT_TRUE(S_ISDIR(w.Lstat(w.root())->mode));
    EXPECT_TRUE(S_ISLNK(w.Lstat(this->At("l"))->mode));
    EXPECT_EQ(w.Lstat(this->At("l"))->size, 1U);
    EXPECT_TRUE(S_ISFIFO(w.Lstat(this->At("p"))->mode));
    EXPECT_GT(w.Lstat(this->At("f"))->mtime, 0);
    EXPECT_EQ(Code(w.Lstat(this->At("nothing"))), ENOENT);
}

TYPED_TEST(RemoteFilesTest, MkdirMakesExactlyTheMode) {
    auto& w = *this->world_;
    for (const std::uint32_t mode : {0700U, 0755U, 0777U, 0500U, 01777U}) {
        const std::string path = this->At("d" + std::to_string(mode));
        EXPECT_EQ(w.MakeDir(path, mode)->mode, S_IFDIR | mode);
        EXPECT_EQ(w.Lstat(path)->mode, S_IFDIR | mode);
    }
    w.Put(this->At("f"), "");
    EXPECT_EQ(Code(w.MakeDir(this->At("f"))), EEXIST);
    EXPECT_EQ(Code(w.MakeDir(this->At("d448"))), EEXIST);
    EXPECT_EQ(Code(w.MakeDir(this->At("no/d"))), ENOENT);
    EXPECT_EQ(Code(w.MakeDir(this->At("f/d"))), ENOTDIR);
    EXPECT_EQ(Code(w.MakeDir(this->At("f/d/e"))), ENOTDIR);
}

TYPED_TEST(RemoteFilesTest, RmdirTakesEmptyDirectoriesOnly) {
    auto& w = *this->world_;
    ASSERT_TRUE(w.MakeDir(this->At("d")).has_value());
    ASSERT_TRUE(w.MakeDir(this->At("d/e")).has_value());
    w.Put(this->At("f"), "");
    ASSERT_TRUE(w.Symlink("d", this->At("l")).has_value());
    EXPECT_EQ(Code(w.RemoveDir(this->At("d"))), ENOTEMPTY);
    EXPECT_EQ(Code(w.RemoveDir(this->At("f"))), ENOTDIR);
    EXPECT_EQ(Code(w.RemoveDir(this->At("l"))), ENOTDIR);
    EXPECT_EQ(Code(w.RemoveDir(this->At("f/x"))), ENOTDIR);
    EXPECT_EQ(Code(w.RemoveDir(this->At("no"))), ENOENT);
    EXPECT_TRUE(w.RemoveDir(this->At("d/e")).has_value());
    EXPECT_TRUE(w.RemoveDir(this->At("d")).has_value());
    EXPECT_EQ(Code(w.Lstat(this->At("d"))), ENOENT);
}

TYPED_TEST(RemoteFilesTest, UnlinkTakesNamesNotDirectories) {
    auto& w = *this->world_;
    w.Put(this->At("f"), "");
    ASSERT_TRUE(w.MakeDir(this->At("d")).has_value());
    ASSERT_TRUE(w.Symlink("d", this->At("l")).has_value());
    EXPECT_EQ(Code(w.Unlink(this->At("d"))), EISDIR);
    EXPECT_EQ(Code(w.Unlink(this->At("no"))), ENOENT);
    EXPECT_EQ(Code(w.Unlink(this->At("f/x"))), ENOTDIR);
    EXPECT_TRUE(w.Unlink(this->At("l")).has_value());
    EXPECT_TRUE(w.Unlink(this->At("f")).has_value());
    EXPECT_TRUE(w.Lstat(this->At("d")).has_value());
}

TYPED_TEST(RemoteFilesTest, LinkTargetsAreKeptVerbatim) {
    auto& w = *this->world_;
    const std::string target = "../a//b/./c \n\xff";
    EXPECT_TRUE(S_ISLNK(w.Symlink(target, this->At("l"))->mode));
    EXPECT_EQ(*w.ReadLink(this->At("l")), target);
    const std::string longest(4095, 'x');
    EXPECT_TRUE(w.Symlink(longest, this->At("long")).has_value());
    EXPECT_EQ(*w.ReadLink(this->At("long")), longest);
    w.Put(this->At("f"), "");
    EXPECT_EQ(Code(w.Symlink("x", this->At("f"))), EEXIST);
    EXPECT_EQ(Code(w.Symlink("x", this->At("l"))), EEXIST);
    EXPECT_EQ(Code(w.Symlink("x", this->At("no/l"))), ENOENT);
    EXPECT_EQ(Code(w.Symlink("x", this->At("f/l"))), ENOTDIR);
    EXPECT_EQ(Code(w.Symlink("", this->At("e"))), ENOENT);
    EXPECT_EQ(Code(w.Symlink(std::string(4096, 'x'), this->At("e"))), ENAMETOOLONG);
    EXPECT_EQ(Code(w.ReadLink(this->At("f"))), EINVAL);
    EXPECT_EQ(Code(w.ReadLink(this->At("no"))), ENOENT);
}

TYPED_TEST(RemoteFilesTest, HardLinksAreTheSameFile) {
    auto& w = *this->world_;
    w.Put(this->At("a"), "one");
    EXPECT_EQ(w.Link(this->At("a"), this->At("b"))->size, 3U);
    w.Put(this->At("b"), "three");
    EXPECT_EQ(w.Get(this->At("a")), "three");
    ASSERT_TRUE(w.MakeDir(this->At("d")).has_value());
    EXPECT_EQ(Code(w.Link(this->At("a"), this->At("b"))), EEXIST);
    EXPECT_EQ(Code(w.Link(this->At("a"), this->At("d"))), EEXIST);
    EXPECT_EQ(Code(w.Link(this->At("d"), this->At("e"))), EPERM);
    EXPECT_EQ(Code(w.Link(this->At("no"), this->At("e"))), ENOENT);
    EXPECT_EQ(Code(w.Link(this->At("a"), this->At("no/e"))), ENOENT);
    EXPECT_EQ(Code(w.Link(this->At("a"), this->At("b/e"))), ENOTDIR);
}

TYPED_TEST(RemoteFilesTest, RenameReplaces) {
    auto& w = *this->world_;
    w.Put(this->At("a"), "new");
    w.Put(this->At("b"), "old");
    EXPECT_TRUE(w.Rename(this->At("a"), this->At("b")).has_value());
    EXPECT_EQ(w.Get(this->At("b")), "new");
    EXPECT_EQ(Code(w.Lstat(this->At("a"))), ENOENT);
    ASSERT_TRUE(w.MakeDir(this->At("d")).has_value());
    ASSERT_TRUE(w.MakeDir(this->At("e")).has_value());
    w.Put(this->At("d/x"), "x");
    EXPECT_TRUE(w.Rename(this->At("d"), this->At("e")).has_value());  // over an empty directory
    EXPECT_EQ(w.Get(this->At("e/x")), "x");
    ASSERT_TRUE(w.Symlink("nowhere", this->At("l")).has_value());
    EXPECT_TRUE(w.Rename(this->At("b"), this->At("l")).has_value());
    EXPECT_EQ(w.Get(this->At("l")), "new");
    EXPECT_TRUE(w.Rename(this->At("l"), this->At("l")).has_value());
}

TYPED_TEST(RemoteFilesTest, RenameRefusesWhatLinuxRefuses) {
    auto& w = *this->world_;
    w.Put(this->At("f"), "f");
    ASSERT_TRUE(w.MakeDir(this->At("d")).has_value());
    ASSERT_TRUE(w.MakeDir(this->At("full")).has_value());
    w.Put(this->At("full/x"), "");
    EXPECT_EQ(Code(w.Rename(this->At("f"), this->At("d"))), EISDIR);
    EXPECT_EQ(Code(w.Rename(this->At("d"), this->At("f"))), ENOTDIR);
    EXPECT_EQ(Code(w.Rename(this->At("d"), this->At("full"))), ENOTEMPTY);
    EXPECT_EQ(Code(w.Rename(this->At("d"), this->At("d/e"))), EINVAL);
    EXPECT_EQ(Code(w.Rename(this->At("no"), this->At("f"))), ENOENT);
    EXPECT_EQ(Code(w.Rename(this->At("f"), this->At("no/f"))), ENOENT);
    EXPECT_EQ(Code(w.Rename(this->At("f"), this->At("full/x/y"))), ENOTDIR);
    EXPECT_EQ(Code(w.Rename(this->At("f/x"), this->At("g"))), ENOTDIR);
    EXPECT_EQ(w.Get(this->At("f")), "f");
}

TYPED_TEST(RemoteFilesTest, RenameWithoutReplacing) {
    auto& w = *this->world_;
    constexpr auto kNo = RemoteFiles::Replace::kNo;
    w.Put(this->At("a"), "a");
    w.Put(this->At("b"), "b");
    ASSERT_TRUE(w.MakeDir(this->At("d")).has_value());
    ASSERT_TRUE(w.MakeDir(this->At("e")).has_value());
    ASSERT_TRUE(w.Symlink("nowhere", this->At("l")).has_value());
    EXPECT_EQ(Code(w.Rename(this->At("a"), this->At("b"), kNo)), EEXIST);
    EXPECT_EQ(Code(w.Rename(this->At("a"), this->At("l"), kNo)), EEXIST);
    EXPECT_EQ(Code(w.Rename(this->At("d"), this->At("e"), kNo)), EEXIST);
    EXPECT_EQ(Code(w.Rename(this->At("no"), this->At("x"), kNo)), ENOENT);
    EXPECT_EQ(Code(w.Rename(this->At("a"), this->At("no/x"), kNo)), ENOENT);
    EXPECT_TRUE(w.Rename(this->At("a"), this->At("c"), kNo).has_value());
    EXPECT_TRUE(w.Rename(this->At("d"), this->At("d2"), kNo).has_value());
    EXPECT_TRUE(w.Rename(this->At("l"), this->At("l2"), kNo).has_value());
    EXPECT_EQ(w.Get(this->At("c")), "a");
    EXPECT_EQ(w.Get(this->At("b")), "b");
    EXPECT_EQ(*w.ReadLink(this->At("l2")), "nowhere");
}

TYPED_TEST(RemoteFilesTest, FilesAreCreatedWithExactlyTheMode) {
    auto& w = *this->world_;
    for (const std::uint32_t mode : {0644U, 0600U, 0666U, 0777U, 0400U, 0U}) {
        OpenHow how = kToCreate;
        how.mode = mode;
        const std::string path = this->At("f" + std::to_string(mode));
        const Result<OpenedFile> opened = w.Open(path, how);
        ASSERT_TRUE(opened.has_value());
        EXPECT_EQ(opened->stat.mode, S_IFREG | mode);
        EXPECT_EQ(opened->stat.size, 0U);
        EXPECT_EQ(w.Lstat(path)->mode, S_IFREG | mode);
        EXPECT_TRUE(w.Write(opened->file, 0, "x").has_value());  // whatever the mode says
    }
    w.Put(this->At("there"), "content", 0600);
    OpenHow how = kToCreate;
    how.mode = 0777;
    const Result<OpenedFile> there = w.Open(this->At("there"), how);
    EXPECT_EQ(there->stat.mode, S_IFREG | 0600U);  // it was there: its mode stays
    EXPECT_EQ(there->stat.size, 7U);
}

TYPED_TEST(RemoteFilesTest, OpenRefusesWhatLinuxRefuses) {
    auto& w = *this->world_;
    w.Put(this->At("f"), "f");
    ASSERT_TRUE(w.MakeDir(this->At("d")).has_value());
    ASSERT_TRUE(w.Symlink("loop", this->At("loop")).has_value());
    ASSERT_TRUE(w.Symlink("b", this->At("a")).has_value());
    ASSERT_TRUE(w.Symlink("a", this->At("b")).has_value());
    ASSERT_TRUE(w.Symlink("no", this->At("dangling")).has_value());
    ASSERT_TRUE(w.Symlink("no/where", this->At("dangling2")).has_value());
    EXPECT_EQ(Code(w.Open(this->At("no"), kToRead)), ENOENT);
    EXPECT_EQ(Code(w.Open(this->At("dangling"), kToRead)), ENOENT);
    EXPECT_EQ(Code(w.Open(this->At("dangling2"), kToRead)), ENOENT);
    EXPECT_EQ(Code(w.Open(this->At("no/f"), kToCreate)), ENOENT);
    EXPECT_EQ(Code(w.Open(this->At("f/x"), kToRead)), ENOTDIR);
    EXPECT_EQ(Code(w.Open(this->At("f/x"), kToCreate)), ENOTDIR);
    EXPECT_EQ(Code(w.Open(this->At("loop"), kToRead)), ELOOP);
    EXPECT_EQ(Code(w.Open(this->At("a"), kToWrite)), ELOOP);
    EXPECT_EQ(Code(w.Open(this->At("d"), kToWrite)), EISDIR);
    EXPECT_EQ(Code(w.Open(this->At("d"), kToCreate)), EISDIR);
    EXPECT_EQ(Code(w.Open(this->At("f"), kToCreateNew)), EEXIST);
    EXPECT_EQ(Code(w.Open(this->At("d"), kToCreateNew)), EEXIST);
    EXPECT_EQ(Code(w.Open(this->At("dangling"), kToCreateNew)), EEXIST);
    EXPECT_EQ(Code(w.List(this->At("f"))), ENOTDIR);
    EXPECT_EQ(Code(w.List(this->At("no"))), ENOENT);
    EXPECT_EQ(Code(w.List(this->At("loop"))), ELOOP);
    // A directory opens for reading, as with open(2), but has no bytes.
    const Result<OpenedFile> directory = w.Open(this->At("d"), kToRead);
    ASSERT_TRUE(directory.has_value());
    EXPECT_TRUE(S_ISDIR(directory->stat.mode));
    EXPECT_EQ(Code(w.Read(directory->file, {0, 10})), EISDIR);
}

TYPED_TEST(RemoteFilesTest, OpeningALinkOpensWhatItPointsTo) {
    auto& w = *this->world_;
    w.Put(this->At("f"), "content");
    ASSERT_TRUE(w.Symlink("f", this->At("l")).has_value());
    ASSERT_TRUE(w.Symlink("made", this->At("dangling")).has_value());
    const Result<OpenedFile> opened = w.Open(this->At("l"), kToRead);
    ASSERT_TRUE(opened.has_value());
    EXPECT_TRUE(S_ISREG(opened->stat.mode));
    EXPECT_EQ(opened->stat.size, 7U);
    EXPECT_TRUE(w.Open(this->At("dangling"), kToCreate).has_value());
    EXPECT_TRUE(S_ISREG(w.Lstat(this->At("made"))->mode));
}

TYPED_TEST(RemoteFilesTest, OneOfManyExclusiveCreatorsWins) {
    auto& w = *this->world_;
    int won = 0;
    int lost = 0;
    for (int i = 0; i < 20; ++i) {
        w.files().Open(this->At("lock"), kToCreateNew, [&](const Result<OpenedFile>& opened) {
            opened ? ++won : ++lost;
            EXPECT_EQ(Code(opened), opened ? 0 : EEXIST);
        });
    }
    w.Until([&] { return won + lost == 20; });
    EXPECT_EQ(won, 1);
}

TYPED_TEST(RemoteFilesTest, ReadAndWriteAtOffsets) {
    auto& w = *this->world_;
    const Result<OpenedFile> opened = w.Open(this->At("f"), kToCreate);
    ASSERT_TRUE(opened.has_value());
    const RemoteFilePtr& file = opened->file;
    EXPECT_TRUE(w.Write(file, 0, "0123456789").has_value());
    EXPECT_TRUE(w.Write(file, 3, "abc").has_value());
    EXPECT_EQ(*w.Read(file, {0, 100}), "012abc6789");
    EXPECT_EQ(*w.Read(file, {4, 3}), "bc6");
    EXPECT_EQ(*w.Read(file, {10, 5}), "");
    EXPECT_EQ(*w.Read(file, {1000000, 5}), "");
    EXPECT_EQ(*w.Read(file, {0, 0}), "");
    EXPECT_TRUE(w.Write(file, 0, "").has_value());
    EXPECT_EQ(w.FileStat(file)->size, 10U);
    EXPECT_TRUE(w.Sync(file).has_value());
}

TYPED_TEST(RemoteFilesTest, HolesReadAsZeroes) {
    auto& w = *this->world_;
    const Result<OpenedFile> opened = w.Open(this->At("f"), kToCreate);
    ASSERT_TRUE(opened.has_value());
    EXPECT_TRUE(w.Write(opened->file, 600000, "end").has_value());
    const Result<std::string> bytes = w.Read(opened->file, {0, 1000000});
    ASSERT_TRUE(bytes.has_value());
    EXPECT_TRUE(*bytes == std::string(600000, '\0') + "end");
    EXPECT_EQ(w.SetFileStat(opened->file, SizeChange(700000))->size, 700000U);
    EXPECT_EQ(*w.Read(opened->file, {600002, 3}), std::string("d\0\0", 3));
}

TYPED_TEST(RemoteFilesTest, AppendersDoNotOverwriteEachOther) {
    auto& w = *this->world_;
    const Result<OpenedFile> a = w.Open(this->At("log"), kToAppend);
    const Result<OpenedFile> b = w.Open(this->At("log"), kToAppend);
    ASSERT_TRUE(a && b);
    int answers = 0;
    for (int i = 0; i < 50; ++i) {
        w.files().Write((i % 2 == 0 ? a : b)->file, 0, "line\n", [&](const Status& status) {
            EXPECT_TRUE(status.has_value());
            ++answers;
        });
    }
    w.Until([&] { return answers == 50; });
    EXPECT_EQ(w.Get(this->At("log")).size(), 250U);
}

TYPED_TEST(RemoteFilesTest, TruncatingAtOpenAndLater) {
    auto& w = *this->world_;
    w.Put(this->At("f"), "0123456789");
    OpenHow how = kToCreate;
    how.truncate = true;
    EXPECT_EQ(w.Open(this->At("f"), how)->stat.size, 0U);
    w.Put(this->At("f"), "0123456789");
    EXPECT_EQ(w.SetStat(this->At("f"), SizeChange(4))->size, 4U);
    EXPECT_EQ(w.Get(this->At("f")), "0123");
    ASSERT_TRUE(w.Symlink("f", this->At("l")).has_value());
    ASSERT_TRUE(w.MakeDir(this->At("d")).has_value());
    EXPECT_EQ(Code(w.SetStat(this->At("l"), SizeChange(0))), EINVAL);  // never through a link
    EXPECT_EQ(Code(w.SetStat(this->At("d"), SizeChange(0))), EISDIR);
    EXPECT_EQ(Code(w.SetStat(this->At("no"), SizeChange(0))), ENOENT);
    EXPECT_EQ(w.Get(this->At("f")), "0123");
    const Result<OpenedFile> reader = w.Open(this->At("f"), kToRead);
    EXPECT_EQ(Code(w.SetFileStat(reader->file, SizeChange(1))), EINVAL);
    EXPECT_EQ(Code(w.SetFileStat(reader->file, ModeChange(0600))), 0);
}

TYPED_TEST(RemoteFilesTest, FilesDoOnlyWhatTheyWereOpenedFor) {
    auto& w = *this->world_;
    w.Put(this->At("f"), "content");
    const Result<OpenedFile> reader = w.Open(this->At("f"), kToRead);
    const Result<OpenedFile> writer = w.Open(this->At("f"), kToWrite);
    EXPECT_EQ(Code(w.Write(reader->file, 0, "x")), EBADF);
    EXPECT_EQ(Code(w.Read(writer->file, {0, 5})), EBADF);
    EXPECT_TRUE(w.Close(reader->file).has_value());
    EXPECT_EQ(Code(w.Read(reader->file, {0, 5})), EBADF);
    EXPECT_EQ(Code(w.Close(reader->file)), EBADF);
}

TYPED_TEST(RemoteFilesTest, SetStatChangesWhatIsGivenAndNothingElse) {
    auto& w = *this->world_;
    w.Put(this->At("f"), "content", 0644);
    const Result<RemoteStat> times = w.SetStat(this->At("f"), TimesChange(1000000, 2000000000));
    EXPECT_EQ(times->atime, 1000000);
    EXPECT_EQ(times->mtime, 2000000000);
    EXPECT_EQ(times->mode, S_IFREG | 0644U);
    const Result<RemoteStat> mode = w.SetStat(this->At("f"), ModeChange(0755));
    EXPECT_EQ(mode->mode, S_IFREG | 0755U);
    EXPECT_EQ(mode->mtime, 2000000000);
    StatChange both = SizeChange(3);
    both.mode = 0600;
    EXPECT_EQ(w.SetStat(this->At("f"), both)->size, 3U);
    EXPECT_EQ(w.Lstat(this->At("f"))->mode, S_IFREG | 0600U);
    EXPECT_EQ(w.SetStat(this->At("f"), {})->size, 3U);
    EXPECT_EQ(Code(w.SetStat(this->At("no"), ModeChange(0600))), ENOENT);
}

TYPED_TEST(RemoteFilesTest, AttributesOfALinkAreItsOwn) {
    auto& w = *this->world_;
    w.Put(this->At("f"), "content", 0644);
    ASSERT_TRUE(w.SetStat(this->At("f"), TimesChange(5, 5)).has_value());
    ASSERT_TRUE(w.Symlink("f", this->At("l")).has_value());
    EXPECT_EQ(w.SetStat(this->At("l"), TimesChange(77, 78))->mtime, 78);
    EXPECT_EQ(w.Lstat(this->At("l"))->mtime, 78);
    EXPECT_EQ(w.Lstat(this->At("f"))->mtime, 5);
    EXPECT_EQ(Code(w.SetStat(this->At("l"), ModeChange(0600))), EOPNOTSUPP);
    EXPECT_EQ(w.Lstat(this->At("f"))->mode, S_IFREG | 0644U);
}

TYPED_TEST(RemoteFilesTest, OpenFilesSurviveUnlinkAndRename) {
    auto& w = *this->world_;
    w.Put(this->At("f"), "old");
    w.Put(this->At("g"), "new");
    OpenHow how = kToRead;
    how.write = true;
    const Result<OpenedFile> unlinked = w.Open(this->At("f"), how);
    ASSERT_TRUE(w.Unlink(this->At("f")).has_value());
    EXPECT_EQ(*w.Read(unlinked->file, {0, 10}), "old");
    EXPECT_TRUE(w.Write(unlinked->file, 3, "er").has_value());
    EXPECT_EQ(w.FileStat(unlinked->file)->size, 5U);
    const Result<OpenedFile> moved = w.Open(this->At("g"), how);
    ASSERT_TRUE(w.Rename(this->At("g"), this->At("h")).has_value());
    EXPECT_TRUE(w.Write(moved->file, 0, "NEW").has_value());
    EXPECT_EQ(w.Get(this->At("h")), "NEW");
    w.Put(this->At("i"), "other");
    const Result<OpenedFile> replaced = w.Open(this->At("h"), how);
    ASSERT_TRUE(w.Rename(this->At("i"), this->At("h")).has_value());
    EXPECT_EQ(*w.Read(replaced->file, {0, 10}), "NEW");
    EXPECT_EQ(w.Get(this->At("h")), "other");
}

TYPED_TEST(RemoteFilesTest, ListingsHaveEveryNameWithItsStat) {
    auto& w = *this->world_;
    EXPECT_TRUE(w.List(w.root())->empty());
    const std::vector<std::string> odd{"plain", " blank ", "new\nline", "\xff\xfe",
                                       "-rf",   "...",     "ü",         std::string(255, 'n')};
    for (const std::string& name : odd)
        w.Put(this->At(name), "12345");
    ASSERT_TRUE(w.MakeDir(this->At("dir"), 0700).has_value());
    ASSERT_TRUE(w.Symlink("plain", this->At("link")).has_value());
    const Result<std::vector<RemoteEntry>> entries = w.List(w.root());
    ASSERT_TRUE(entries.has_value());
    std::set<std::string> names;
    for (const RemoteEntry& entry : *entries) {
        names.insert(entry.name);
        if (entry.name == "dir") {
            EXPECT_EQ(entry.stat.mode, S_IFDIR | 0700U);
        }
        if (entry.name == "link") {
            EXPECT_TRUE(S_ISLNK(entry.stat.mode));
        }
        if (entry.name == "plain") {
            EXPECT_EQ(entry.stat.size, 5U);
        }
    }
    EXPECT_EQ(names.size(), odd.size() + 2);
    for (const std::string& name : odd)
        EXPECT_TRUE(names.contains(name)) << Printable(name);
}

TYPED_TEST(RemoteFilesTest, LongNamesAreRefusedByEveryOperation) {
    auto& w = *this->world_;
    w.Put(this->At("f"), "");
    const std::string name = this->At(std::string(256, 'n'));
    EXPECT_EQ(Code(w.Lstat(name)), ENAMETOOLONG);
    EXPECT_EQ(Code(w.Lstat(name + "/x")), ENAMETOOLONG);
    EXPECT_EQ(Code(w.List(name)), ENAMETOOLONG);
    EXPECT_EQ(Code(w.ReadLink(name)), ENAMETOOLONG);
    EXPECT_EQ(Code(w.SetStat(name, ModeChange(0600))), ENAMETOOLONG);
    EXPECT_EQ(Code(w.MakeDir(name)), ENAMETOOLONG);
    EXPECT_EQ(Code(w.RemoveDir(name)), ENAMETOOLONG);
    EXPECT_EQ(Code(w.Unlink(name)), ENAMETOOLONG);
    EXPECT_EQ(Code(w.Symlink("x", name)), ENAMETOOLONG);
    EXPECT_EQ(Code(w.Link(this->At("f"), name)), ENAMETOOLONG);
    EXPECT_EQ(Code(w.Rename(this->At("f"), name)), ENAMETOOLONG);
    EXPECT_EQ(Code(w.Rename(this->At("f"), name, RemoteFiles::Replace::kNo)), ENAMETOOLONG);
    EXPECT_EQ(Code(w.Open(name, kToRead)), ENAMETOOLONG);
    EXPECT_EQ(Code(w.Open(name, kToCreate)), ENAMETOOLONG);
    EXPECT_EQ(Code(w.Statfs(name)), ENAMETOOLONG);
    EXPECT_EQ(Code(w.Lstat("/" + std::string(5000, 'n'))), ENAMETOOLONG);
}

TYPED_TEST(RemoteFilesTest, StatfsTellsSpace) {
    auto& w = *this->world_;
    const Result<RemoteStatfs> space = w.Statfs(w.root());
    ASSERT_TRUE(space.has_value());
    EXPECT_GE(space->block_size, 512U);
    EXPECT_GT(space->blocks, 0U);
    EXPECT_LE(space->blocks_available, space->blocks_free);
    EXPECT_EQ(space->name_max, 255U);
    EXPECT_EQ(Code(w.Statfs(this->At("no"))), ENOENT);
}

}  // namespace
}  // namespace sbxfs::testing
