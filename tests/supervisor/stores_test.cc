// kStore: new files with all their bytes, as the real program makes them; and kRename, which moves them.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "tests/supervisor/client.h"

namespace sbxfs::supervisor {
namespace {

struct Wanted {
    std::string path = {};
    std::string bytes = {};
    std::uint32_t mode = 0644;
    std::uint8_t flags = 0;
    std::uint8_t times = 0;
    std::int64_t atime = 0;
    std::int64_t mtime = 0;
};

std::string StoreFrame(std::uint32_t request, const Wanted& wanted) {
    StoreFields fields;
    fields.request = request;
    fields.flags = wanted.flags;
    fields.mode = wanted.mode;
    fields.times = wanted.times;
    fields.atime = wanted.atime;
    fields.mtime = wanted.mtime;
    fields.path = AsText(wanted.path);
    fields.bytes = AsText(wanted.bytes);
    return Frame(Type::kStore, [&](auto& w) { PutStoreFields(w, fields); });
}

StoreOkFields ReadStored(const std::string& answer) {
    EXPECT_EQ(answer[0], static_cast<char>(Type::kStoreOk));
    Reader reader(answer.data() + 1, answer.size() - 1);
    const std::uint32_t request = reader.U32();
    const StoreOkFields fields = GetStoreOkFields(request, reader);
    EXPECT_TRUE(reader.at_end());
    return fields;
}

StoreOkFields Store(Client& client, const Wanted& wanted) {
    const std::size_t before = client.answers.size();
    client.Send(StoreFrame(7, wanted));
    if (!client.Await([&] { return client.answers.size() > before; })) return {};
    const StoreOkFields fields = ReadStored(client.answers.back());
    EXPECT_EQ(fields.request, 7U);
    return fields;
}

void ExpectNotMade(const StoreOkFields& stored, int error, const std::string& path) {
    EXPECT_EQ(stored.error, static_cast<std::uint32_t>(error)) << path;
    EXPECT_EQ(stored.made, 0U) << path;
    EXPECT_EQ(stored.file.ino, 0U) << path;
    EXPECT_EQ(stored.file.birth_ns, 0) << path;
}

TEST(Store, MakesAFileWithAllItsBytesAndExactlyItsModeAndTimes) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    for (const std::uint32_t mode : {0U, 0644U, 0600U, 0777U, 06755U, 01666U, 0444U, 02070U}) {
        for (const std::uint8_t flags : {std::uint8_t{0}, kStoreSync}) {
            const std::string path =
                spool.Root() + "/f" + std::to_string(mode) + "-" + std::to_string(flags);
            const std::string bytes = std::string("bytes\0of ", 9) + path;
            const StoreOkFields stored = Store(client, {.path = path,
                                                        .bytes = bytes,
                                                        .mode = mode,
                                                        .flags = flags,
                                                        .times = 1,
                                                        .atime = -7,
                                                        .mtime = 2'000'000'000});
            struct stat stat {};
            ASSERT_EQ(lstat(path.c_str(), &stat), 0);
            EXPECT_EQ(stored.error, 0U);
            EXPECT_EQ(stored.made, 1U);
            EXPECT_EQ(stat.st_mode, S_IFREG | mode);
            EXPECT_EQ(stored.file.error, 0U);
            EXPECT_EQ(stored.file.mode, stat.st_mode);
            EXPECT_EQ(stored.file.ino, stat.st_ino);
            EXPECT_EQ(stored.file.dev, stat.st_dev);
            EXPECT_EQ(stored.file.nlink, 1U);
            EXPECT_EQ(stored.file.uid, stat.st_uid);
            EXPECT_EQ(stored.file.gid, stat.st_gid);
            EXPECT_EQ(stored.file.size, bytes.size());
            EXPECT_EQ(stored.file.mtime_ns,
                      stat.st_mtim.tv_sec * 1'000'000'000 + stat.st_mtim.tv_nsec);
            EXPECT_EQ(stored.file.ctime_ns,
                      stat.st_ctim.tv_sec * 1'000'000'000 + stat.st_ctim.tv_nsec);
            EXPECT_EQ(stat.st_atim.tv_nsec, 0);
            EXPECT_EQ(stat.st_mtim.tv_nsec, 0);
            struct statx found {};
            if (statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, STATX_BTIME, &found) == 0 &&
                (found.stx_mask & STATX_BTIME) != 0) {
                EXPECT_EQ(stored.file.birth_ns,
                          found.stx_btime.tv_sec * 1'000'000'000 + found.stx_btime.tv_nsec);
            }
            ASSERT_EQ(chmod(path.c_str(), 0600), 0);
            EXPECT_EQ(ReadText(path), bytes);
        }
    }
    const StoreOkFields dated = Store(client, {.path = spool.Root() + "/dated",
                                               .times = 1,
                                               .atime = 1'234'567'890,
                                               .mtime = 987'654'321});
    EXPECT_EQ(dated.file.mtime_ns, 987'654'321'000'000'000);
    struct stat stat {};
    ASSERT_EQ(lstat((spool.Root() + "/dated").c_str(), &stat), 0);
    EXPECT_EQ(stat.st_atim.tv_sec, 1'234'567'890);
    EXPECT_EQ(stat.st_size, 0);
    // Without times it is of now.
    const std::string large(kMaxStored, 'x');
    const StoreOkFields now = Store(client, {.path = spool.Root() + "/large", .bytes = large});
    EXPECT_EQ(now.file.size, kMaxStored);
    EXPECT_GT(now.file.mtime_ns, 1'500'000'000'000'000'000);
    EXPECT_TRUE(ReadText(spool.Root() + "/large") == large);
}

TEST(Store, LeavesWhatIsThereAndSaysWhyThereIsNone) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    const std::string root = spool.Root();
    std::ofstream(root + "/file") << "old";
    std::filesystem::create_symlink("file", root + "/link");
    std::filesystem::create_symlink("nowhere", root + "/dangling");
    ASSERT_EQ(mkfifo((root + "/fifo").c_str(), 0600), 0);
    const std::vector<std::pair<std::string, int>> refused = {
        {root + "/file", EEXIST},
        {root + "/link", EEXIST},
        {root + "/dangling", EEXIST},
        {root + "/fifo", EEXIST},
        {root, EEXIST},
        {root + "/none/file", ENOENT},
        {root + "/file/below", ENOTDIR},
        {root + "/" + std::string(256, 'x'), ENAMETOOLONG},
        {"/" + std::string(5000, 'x'), ENAMETOOLONG},
        {"relative", EINVAL},
        {"", EINVAL},
        {std::string("/a\0b", 4), EINVAL},
    };
    for (const auto& [path, error] : refused) {
        for (const std::uint8_t flags : {std::uint8_t{0}, kStoreSync})
            ExpectNotMade(Store(client, {.path = path, .bytes = "new", .flags = flags}), error,
                          path);
    }
    EXPECT_EQ(ReadText(root + "/file"), "old");
    EXPECT_FALSE(std::filesystem::exists(root + "/nowhere"));
    // Through a link above it is where the path says.
    std::filesystem::create_directory(root + "/dir");
    std::filesystem::create_directory_symlink("dir", root + "/to-dir");
    EXPECT_EQ(Store(client, {.path = root + "/to-dir/a", .bytes = "a"}).error, 0U);
    EXPECT_EQ(ReadText(root + "/dir/a"), "a");
    if (geteuid() != 0) {
        ASSERT_EQ(chmod((root + "/dir").c_str(), 0500), 0);
        ExpectNotMade(Store(client, {.path = root + "/dir/b"}), EACCES, "dir");
        ASSERT_EQ(chmod((root + "/dir").c_str(), 0700), 0);
    }
    EXPECT_TRUE(client.Sync());
}

// Runs `body` where `path` is a file system of its own that is full after `bytes`; 77: not possible here.
int OnSmallDisk(const std::string& path, const std::string& options,
                const std::function<int()>& body) {
    const pid_t child = fork();
    if (child == 0) {
        if (unshare(CLONE_NEWNS) != 0 ||
            mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
            mount("tmpfs", path.c_str(), "tmpfs", 0, options.c_str()) != 0) {
            _exit(77);
        }
        _exit(body());
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

TEST(Store, OnAFullDiskSaysThatItIsMadeInPart) {
    const SpoolDir spool;
    const std::string disk = spool.Root() + "/disk";
    std::filesystem::create_directory(disk);
    const int result = OnSmallDisk(disk, "size=64k,nr_inodes=4", [&] {
        Client client(spool.Path());
        if (!client.Greet(1)) return 1;
        const StoreOkFields torn =
            Store(client, {.path = disk + "/a", .bytes = std::string(100'000, 'a'), .mode = 0666});
        struct stat stat {};
        if (lstat((disk + "/a").c_str(), &stat) != 0) return 2;
        if (torn.error != ENOSPC || torn.made != 1 || torn.file.ino != stat.st_ino) return 3;
        if (torn.file.size != static_cast<std::uint64_t>(stat.st_size) || torn.file.size >= 100'000)
            return 4;
        if ((stat.st_mode & 077) != 0) return 5;  // half a file is not for everybody
        const StoreOkFields synced = Store(
            client, {.path = disk + "/b", .bytes = std::string(100'000, 'b'), .flags = kStoreSync});
        if (synced.error != ENOSPC || synced.made != 1) return 6;
        if (Store(client, {.path = disk + "/c"}).error != 0) return 7;
        const StoreOkFields none = Store(client, {.path = disk + "/d"});  // no inode left
        if (none.error != ENOSPC || none.made != 0) return 8;
        return 0;
    });
    if (result == 77) GTEST_SKIP() << "mount namespaces need root";
    EXPECT_EQ(result, 0);
}

// Copies of the supervisor that wait for the disk are nobody's processes, and nothing waits for them.
TEST(Store, ManyAtOnceAreOnTheDiskWhenTheyAreAnsweredAndPingsGoOn) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    constexpr std::uint32_t kFiles = 200;
    const std::string bytes(20'000, 's');
    std::string frames;
    for (std::uint32_t i = 0; i < kFiles; ++i) {
        frames += StoreFrame(i, {.path = spool.Root() + "/s" + std::to_string(i),
                                 .bytes = bytes,
                                 .mode = 0640,
                                 .flags = kStoreSync});
    }
    client.Send(frames);
    client.Number(Type::kProcesses, 2);
    client.Number(Type::kPing, 1);
    ASSERT_TRUE(client.AwaitPong(1));
    ASSERT_TRUE(
        client.Await([&] { return client.answers.size() == kFiles + 1; }, std::chrono::minutes(1)));
    std::vector<bool> answered(kFiles);
    for (const std::string& answer : client.answers) {
        if (answer[0] == static_cast<char>(Type::kProcessesOk)) {
            Reader reader(answer.data() + 1, answer.size() - 1);
            (void)reader.U32();
            for (std::uint32_t left = reader.U32(); left > 0 && reader.ok(); --left) {
                (void)reader.U64();
                EXPECT_NE(AsString(reader.String()), "sbxfs-superviso");
            }
            continue;
        }
        const StoreOkFields stored = ReadStored(answer);
        EXPECT_EQ(stored.error, 0U);
        EXPECT_EQ(stored.made, 1U);
        EXPECT_EQ(stored.file.size, bytes.size());
        ASSERT_LT(stored.request, kFiles);
        EXPECT_FALSE(answered[stored.request]);
        answered[stored.request] = true;
    }
    EXPECT_EQ(ReadText(spool.Root() + "/s199"), bytes);
    const std::vector<pid_t> holders = HoldersOf(spool.Path() + "/lock");
    ASSERT_EQ(holders.size(), 1U);
    // Nothing is left of it.
    EXPECT_EQ(ReadText("/proc/" + std::to_string(holders[0]) + "/task/" +
                       std::to_string(holders[0]) + "/children"),
              "");
    for (const auto& entry :
         std::filesystem::directory_iterator("/proc/" + std::to_string(holders[0]) + "/fd")) {
        std::error_code gone;
        const std::string open = std::filesystem::read_symlink(entry.path(), gone).string();
        EXPECT_FALSE(open.starts_with(spool.Root() + "/s") && !open.starts_with(spool.Path()))
            << open;
    }
}

TEST(Store, WhoseDaemonHasGoneIsAnsweredToNobody) {
    const SpoolDir spool;
    const std::string root = spool.Root();
    {
        Client client(spool.Path());
        ASSERT_TRUE(client.Greet(1));
        std::string frames;
        for (std::uint32_t i = 0; i < 100; ++i)
            frames += StoreFrame(i, {.path = root + "/s" + std::to_string(i),
                                     .bytes = std::string(10'000, 's'),
                                     .flags = kStoreSync});
        client.Send(frames);
        Client next(spool.Path());
        ASSERT_TRUE(next.Greet(2));
        EXPECT_EQ(Store(next, {.path = root + "/last", .flags = kStoreSync}).error, 0U);
        EXPECT_TRUE(next.Sync());
        EXPECT_EQ(next.answers.size(), 1U);
    }
    Client last(spool.Path());
    ASSERT_TRUE(last.Greet(3));
    EXPECT_TRUE(last.Sync());
    EXPECT_TRUE(last.answers.empty());
}

// flock(2) is shared with forked copies: the next attach would wait for the disk.
TEST(Store, OfAKilledSupervisorDoesNotKeepTheSpool) {
    const SpoolDir spool;
    for (std::uint64_t life = 1; life <= 5; ++life) {
        Client client(spool.Path());
        ASSERT_TRUE(client.Greet(life));
        std::string frames;
        for (std::uint32_t i = 0; i < 30; ++i) {
            frames += StoreFrame(
                i, {.path = spool.Root() + "/s" + std::to_string(life) + "-" + std::to_string(i),
                    .bytes = std::string(50'000, 's'),
                    .flags = kStoreSync});
        }
        client.Send(frames);
        client.Number(Type::kPing, 1);
        ASSERT_TRUE(client.AwaitPong(1));
        // In the moment of a fork its copy may be there too, with all that it has.
        std::vector<pid_t> holders;
        ASSERT_TRUE(AwaitTrue([&] {
            holders = HoldersOf(spool.Path() + "/lock");
            return holders.size() == 1;
        }));
        kill(holders[0], SIGKILL);
        ASSERT_TRUE(client.AwaitClosed());
    }
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(100));
    EXPECT_TRUE(client.Sync());
}

TEST(Store, ThatMakesNoSenseEndsTheConnection) {
    const SpoolDir spool;
    const std::string path = spool.Root() + "/never";
    const auto whole = [&](const Wanted& wanted) { return StoreFrame(1, wanted); };
    std::string trailing = whole({.path = path}) + "x";
    ++trailing[0];
    std::string cut = whole({.path = path});
    cut.pop_back();
    --cut[0];
    std::uint64_t epoch = 0;
    for (const std::string& frame :
         {whole({.path = path, .flags = 2}), whole({.path = path, .mode = 010644}),
          whole({.path = path, .mode = 0100644}), whole({.path = path, .times = 2}),
          whole({.path = path, .bytes = std::string(kMaxStored + 1, 'x')}), trailing, cut}) {
        Client client(spool.Path());
        ASSERT_TRUE(client.Greet(++epoch));
        client.Send(frame);
        ASSERT_TRUE(client.Await([&] { return !client.refusals.empty(); }));
        EXPECT_EQ(client.refusals[0].error, static_cast<std::uint32_t>(EPROTO));
        EXPECT_TRUE(client.AwaitClosed());
        EXPECT_FALSE(std::filesystem::exists(path));
    }
}

// --- kRename

std::string RenameFrame(const std::string& from, const std::string& to, std::uint8_t replace) {
    return Frame(Type::kRename,
                 [&](auto& w) { w.U32(9).U8(replace).String(AsText(from)).String(AsText(to)); });
}

int Rename(Client& client, const std::string& from, const std::string& to,
           std::uint8_t replace = 1) {
    const std::size_t before = client.answers.size();
    client.Send(RenameFrame(from, to, replace));
    if (!client.Await([&] { return client.answers.size() > before; })) return -1;
    const std::string& answer = client.answers.back();
    EXPECT_EQ(answer[0], static_cast<char>(Type::kRenameOk));
    Reader reader(answer.data() + 1, answer.size() - 1);
    EXPECT_EQ(reader.U32(), 9U);
    const auto error = static_cast<int>(reader.U32());
    EXPECT_TRUE(reader.at_end());
    return error;
}

TEST(Rename, TakesAnothersPlaceOrLeavesIt) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    const std::string from = spool.Root() + "/from";
    const std::string to = spool.Root() + "/to";
    ASSERT_EQ(Store(client, {.path = from, .bytes = "new"}).error, 0U);
    ASSERT_EQ(Store(client, {.path = to, .bytes = "old"}).error, 0U);
    EXPECT_EQ(Rename(client, from, to, 0), EEXIST);
    EXPECT_EQ(ReadText(to), "old");
    EXPECT_EQ(Rename(client, from, to), 0);
    EXPECT_EQ(ReadText(to), "new");
    EXPECT_EQ(Rename(client, from, to), ENOENT);
    EXPECT_EQ(Rename(client, to, from, 0), 0);
    EXPECT_EQ(ReadText(from), "new");
    EXPECT_EQ(Rename(client, "from", to), EINVAL);
    EXPECT_EQ(Rename(client, from, ""), EINVAL);
    EXPECT_EQ(Rename(client, from, to + std::string("\0x", 2)), EINVAL);
    EXPECT_EQ(Rename(client, from, "/" + std::string(5000, 'x')), ENAMETOOLONG);
}

TEST(Rename, ComesInOrderWithStores) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    const std::string file = spool.Root() + "/file";
    const std::string fresh = file + ".new";
    std::string all;
    for (int i = 0; i < 20; ++i) {
        all += StoreFrame(7, {.path = fresh, .bytes = std::to_string(i)});
        all += RenameFrame(fresh, file, 1);
    }
    const std::size_t before = client.answers.size();
    client.Send(all);
    ASSERT_TRUE(client.Await([&] { return client.answers.size() == before + 40; }));
    for (std::size_t i = 0; i < 20; ++i) {
        EXPECT_EQ(ReadStored(client.answers[before + 2 * i]).error, 0U);
        EXPECT_EQ(client.answers[before + 2 * i + 1][0], static_cast<char>(Type::kRenameOk));
    }
    EXPECT_EQ(ReadText(file), "19");
    EXPECT_FALSE(std::filesystem::exists(fresh));
}

TEST(Rename, ThatMakesNoSenseEndsTheConnection) {
    const SpoolDir spool;
    std::string cut = RenameFrame("/a", "/b", 1);
    cut.pop_back();
    --cut[0];
    std::uint64_t epoch = 0;
    for (const std::string& frame : {RenameFrame("/a", "/b", 2), cut}) {
        Client client(spool.Path());
        ASSERT_TRUE(client.Greet(++epoch));
        client.Send(frame);
        EXPECT_TRUE(client.AwaitClosed());
    }
}

}  // namespace
}  // namespace sbxfs::supervisor
