// What the supervisor tells about the sandbox, and the circumstances commands run in: stat, processes, environment,
// interpreters, users, a full disk, its own resources.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/supervisor/client.h"

namespace sbxfs::supervisor {
namespace {

using std::chrono::seconds;

StartOptions Parallel() {
    StartOptions options;
    options.lane = Lane::kParallel;
    return options;
}

// Runs `body` in a child with a mount namespace of its own, where `mount_point` is what the body makes it.
// 77: not possible here.
int InMountNamespace(const std::function<int()>& body) {
    const pid_t child = fork();
    if (child == 0) {
        if (unshare(CLONE_NEWNS) != 0 ||
            mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
            _exit(77);
        }
        _exit(body());
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

TEST(Stat, IsWhatTheKernelSaysInBatches) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    std::ofstream(spool.Root() + "/file") << "12345";
    std::filesystem::create_symlink("nowhere", spool.Root() + "/link");
    const std::vector<std::string> paths = {spool.Root() + "/file",
                                            spool.Root() + "/link",
                                            spool.Root(),
                                            spool.Root() + "/missing",
                                            spool.Root() + "/file/below",
                                            "/" + std::string(5000, 'x'),
                                            "/" + std::string(300, 'x'),
                                            "relative",
                                            "",
                                            std::string("/a\0b", 4),
                                            "/./././dev/null"};
    client.Send(Frame(Type::kStat, [&](auto& w) {
        w.U32(77).U32(static_cast<std::uint32_t>(paths.size()));
        for (const std::string& path : paths)
            w.String(AsText(path));
    }));
    ASSERT_TRUE(client.Await([&] { return !client.answers.empty(); }));
    const std::string& answer = client.answers[0];
    EXPECT_EQ(answer[0], static_cast<char>(Type::kStatOk));
    Reader reader(answer.data() + 1, answer.size() - 1);
    EXPECT_EQ(reader.U32(), 77U);
    ASSERT_EQ(reader.U32(), paths.size());
    std::vector<std::uint32_t> errors;
    for (const std::string& path : paths) {
        const StatFields fields = GetStatFields(reader);
        errors.push_back(fields.error);
        struct stat stat {};
        if (fields.error != 0 || lstat(path.c_str(), &stat) != 0) continue;
        EXPECT_EQ(fields.dev, stat.st_dev);
        EXPECT_EQ(fields.ino, stat.st_ino);
        EXPECT_EQ(fields.mode, stat.st_mode);
        EXPECT_EQ(fields.nlink, stat.st_nlink);
        EXPECT_EQ(fields.uid, stat.st_uid);
        EXPECT_EQ(fields.gid, stat.st_gid);
        EXPECT_EQ(fields.size, static_cast<std::uint64_t>(stat.st_size));
        EXPECT_EQ(fields.mtime_ns, stat.st_mtim.tv_sec * 1000000000 + stat.st_mtim.tv_nsec);
        EXPECT_EQ(fields.ctime_ns, stat.st_ctim.tv_sec * 1000000000 + stat.st_ctim.tv_nsec);
    }
    for (std::size_t i = 0; i < paths.size(); ++i) {
        const auto birth = static_cast<std::int64_t>(reader.U64());
        struct statx stat {};
        const bool told =
            errors[i] == 0 &&
            statx(AT_FDCWD, paths[i].c_str(), AT_SYMLINK_NOFOLLOW, STATX_BTIME, &stat) == 0 &&
            (stat.stx_mask & STATX_BTIME) != 0;
        EXPECT_EQ(birth, told ? stat.stx_btime.tv_sec * 1000000000 + stat.stx_btime.tv_nsec : 0)
            << paths[i];
    }
    EXPECT_TRUE(reader.at_end());
    EXPECT_EQ(errors, (std::vector<std::uint32_t>{0, 0, 0, ENOENT, ENOTDIR, ENAMETOOLONG,
                                                  ENAMETOOLONG, EINVAL, EINVAL, EINVAL, 0}));
}

struct Fetched {
    StatFields fields;
    bool whole = false;
    std::string bytes;
};

std::vector<Fetched> Fetch(Client& client, const std::vector<std::string>& paths,
                           std::uint32_t most) {
    const std::size_t before = client.answers.size();
    client.Send(Frame(Type::kFetch, [&](auto& w) {
        w.U32(5).U32(most).U32(static_cast<std::uint32_t>(paths.size()));
        for (const std::string& path : paths)
            w.String(AsText(path));
    }));
    std::vector<Fetched> found;
    if (!client.Await([&] { return client.answers.size() > before; })) return found;
    const std::string& answer = client.answers.back();
    EXPECT_EQ(answer[0], static_cast<char>(Type::kFetchOk));
    Reader reader(answer.data() + 1, answer.size() - 1);
    EXPECT_EQ(reader.U32(), 5U);
    const std::uint32_t count = reader.U32();
    for (std::uint32_t i = 0; i < count && reader.ok(); ++i) {
        Fetched one;
        one.fields = GetStatFields(reader);
        one.fields.birth_ns = static_cast<std::int64_t>(reader.U64());
        one.whole = reader.U8() != 0;
        one.bytes = AsString(reader.String());
        found.push_back(std::move(one));
    }
    EXPECT_TRUE(reader.at_end());
    return found;
}

TEST(Fetch, IsTheBytesOfSmallRegularFilesAndAStatOfAll) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    const std::string root = spool.Root();
    const std::string small("a\0b", 3);
    std::ofstream(root + "/small") << small;
    std::ofstream(root + "/limit") << std::string(100, 'l');
    std::ofstream(root + "/large") << std::string(101, 'L');
    std::ofstream(root + "/empty") << "";
    std::filesystem::create_symlink("small", root + "/link");
    ASSERT_EQ(mkfifo((root + "/fifo").c_str(), 0600), 0);
    const std::vector<std::string> paths = {root + "/small",
                                            root + "/limit",
                                            root + "/large",
                                            root + "/empty",
                                            root + "/link",
                                            root + "/fifo",
                                            root,
                                            "/dev/zero",
                                            "/proc/self/status",
                                            root + "/missing",
                                            "relative"};
    const std::vector<Fetched> found = Fetch(client, paths, 100);
    ASSERT_EQ(found.size(), paths.size());
    EXPECT_EQ(found[0].bytes, small);
    EXPECT_EQ(found[1].bytes, std::string(100, 'l'));
    for (std::size_t i = 0; i < paths.size(); ++i) {
        EXPECT_EQ(found[i].whole, i < 2) << paths[i];
        EXPECT_EQ(found[i].bytes.empty(), i >= 2) << paths[i];
        struct stat stat {};
        // /proc/self is somebody else's there.
        const bool same = paths[i][0] == '/' && !paths[i].starts_with("/proc");
        if (!same || lstat(paths[i].c_str(), &stat) != 0) continue;
        EXPECT_EQ(found[i].fields.error, 0U) << paths[i];
        EXPECT_EQ(found[i].fields.ino, stat.st_ino) << paths[i];
    }
    EXPECT_EQ(found[9].fields.error, static_cast<std::uint32_t>(ENOENT));
    EXPECT_EQ(found[10].fields.error, static_cast<std::uint32_t>(EINVAL));
    EXPECT_TRUE(Fetch(client, {}, 100).empty());
    EXPECT_TRUE(client.Sync());
}

TEST(Fetch, IsBoundedInAllAndTellsTheRestAllTheSame) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    const std::string bytes(300'000, 'x');
    std::vector<std::string> paths;
    for (int i = 0; i < 12; ++i) {
        paths.push_back(spool.Root() + "/f" + std::to_string(i));
        std::ofstream(paths.back()) << bytes;
    }
    paths.push_back(spool.Root() + "/last");
    std::ofstream(paths.back()) << "last";
    const std::vector<Fetched> found = Fetch(client, paths, 1U << 20);
    ASSERT_EQ(found.size(), paths.size());
    std::size_t sum = 0;
    for (const Fetched& one : found) {
        EXPECT_EQ(one.fields.error, 0U);
        EXPECT_EQ(one.bytes.size(), one.whole ? one.fields.size : 0U);
        sum += one.bytes.size();
    }
    EXPECT_LE(sum, kMaxFetched);
    EXPECT_GE(sum, kMaxFetched - bytes.size());
    EXPECT_EQ(found.back().bytes, "last");
}

TEST(Fetch, AsksForMegabytesInFewBytesAndIsAnsweredAsFastAsTheDaemonReads) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    const std::string path = spool.Root() + "/f";
    std::ofstream(path) << std::string(1U << 20, 'x');
    constexpr std::size_t kRequests = 60;
    std::string frames;
    for (std::size_t i = 0; i < kRequests; ++i) {
        frames += Frame(Type::kFetch, [&](auto& w) {
            w.U32(static_cast<std::uint32_t>(i)).U32(1U << 20).U32(1).String(AsText(path));
        });
    }
    client.Send(frames);  // all there before the first is answered
    client.Number(Type::kPing, 77);
    ASSERT_TRUE(client.Await([&] { return !client.pongs.empty(); }, std::chrono::minutes(1)));
    ASSERT_EQ(client.answers.size(), kRequests);
    for (std::size_t i = 0; i < kRequests; ++i) {
        Reader reader(client.answers[i].data() + 1, client.answers[i].size() - 1);
        EXPECT_EQ(reader.U32(), i);
        EXPECT_GT(client.answers[i].size(), 1U << 20);
    }
    const std::vector<pid_t> holders = HoldersOf(spool.Path() + "/lock");
    ASSERT_EQ(holders.size(), 1U);
    const std::string status = ReadText("/proc/" + std::to_string(holders[0]) + "/status");
    EXPECT_LT(std::stoul(status.substr(status.find("VmHWM:") + 6)), 12U << 10)
        << "KiB, at its most";
}

TEST(Fetch, IsWholeOrNothingWhileTheFileIsWritten) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    const std::string path = spool.Root() + "/log";
    std::ofstream(path) << "0123456789";
    client.Start(1, "while :; do echo 0123456789 >> '" + path + "'; done", Parallel());
    ASSERT_TRUE(client.AwaitStarted(1));
    int whole = 0;
    for (int i = 0; i < 200; ++i) {
        const std::vector<Fetched> found = Fetch(client, {path}, 64U << 10);
        ASSERT_EQ(found.size(), 1U);
        if (!found[0].whole) continue;
        ++whole;
        EXPECT_EQ(found[0].bytes.size(), found[0].fields.size);
    }
    client.Signal(1, SIGKILL);
    EXPECT_TRUE(client.AwaitDone(1));
    RecordProperty("whole", whole);
}

// A daemon of an older version says that it speaks 1 only.
TEST(Hello, OfAnOlderDaemonIsAnsweredInItsProtocol) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.AwaitMagic());
    client.Send(Frame(Type::kHello, [](auto& w) { w.U32(1).U32(1).U64(1); }));
    ASSERT_TRUE(client.Await([&] { return client.known_ends > 0; }));
    EXPECT_EQ(client.hello.protocol, 1U);
}

TEST(Hello, SaysWhoAndWhere) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    EXPECT_EQ(client.hello.protocol, kProtocol);
    EXPECT_NE(client.hello.spool, 0U);
    EXPECT_NE(client.hello.boot, 0U);
    EXPECT_EQ(client.hello.uid, geteuid());
    EXPECT_EQ(AsString(client.hello.home), "/root");
    EXPECT_EQ(AsString(client.hello.default_shell), "/bin/bash");
    EXPECT_EQ(AsString(client.hello.build).size(), 16U);
    const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
                         std::chrono::system_clock::now().time_since_epoch())
                         .count();
    EXPECT_NEAR(static_cast<double>(client.hello.clock_ms), static_cast<double>(now), 60000);
}

TEST(Commands, HaveTheLoginsEnvironmentTheirOwnAndTheMark) {
    const SpoolDir spool;
    AttachOptions attach;
    attach.environment = {"FROM_LOGIN=1", "SBXFS_SECRET=no"};
    Client client(spool.Path(), attach);
    ASSERT_TRUE(client.Greet(1));
    for (const Lane lane : {Lane::kSerial, Lane::kParallel}) {
        StartOptions options;
        options.lane = lane;
        options.cwd = "/usr";
        options.env = {{"MINE", "a b"}, {"FROM_LOGIN", lane == Lane::kSerial ? "1" : "2"}};
        const std::string text =
            client.Run("env; echo \"PWD is $(pwd)\"; umask; cat /proc/self/oom_score_adj", options)
                .out[0];
        EXPECT_NE(text.find("\nMINE=a b\n"), std::string::npos) << text;
        EXPECT_NE(text.find(lane == Lane::kSerial ? "FROM_LOGIN=1\n" : "FROM_LOGIN=2\n"),
                  std::string::npos);
        EXPECT_NE(text.find("HOME=/root\n"), std::string::npos);
        EXPECT_NE(text.find("SBXFS_EVENT="), std::string::npos);
        EXPECT_NE(text.find("-" + std::to_string(client.last_n) + "\n"), std::string::npos);
        EXPECT_EQ(text.find("SBXFS_SECRET"), std::string::npos);
        EXPECT_EQ(text.find("SSH_CONNECTION"), std::string::npos);
        EXPECT_NE(text.find("PWD is /usr\n"), std::string::npos);
        EXPECT_NE(text.find("0022\n0\n"), std::string::npos)
            << "not the supervisor's umask or score";
    }
}

TEST(Commands, NothingOfTheSupervisorsIsOpenInThem) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    for (const Lane lane : {Lane::kSerial, Lane::kParallel}) {
        StartOptions options;
        options.lane = lane;
        // 3 is ls's own. A shell keeps copies above 9, closed on exec.
        EXPECT_EQ(client.Run("/bin/ls /proc/self/fd | tr '\\n' ' '", options).out[0], "0 1 2 3 ");
        EXPECT_EQ(
            client.Run("readlink /proc/self/fd/0; ulimit -n", options).out[0], "/dev/null\n" + [] {
                rlimit limit{};
                getrlimit(RLIMIT_NOFILE, &limit);
                return std::to_string(limit.rlim_cur);
            }() + "\n");
    }
}

TEST(Commands, AnInterpreterLineIsHonouredAlsoWhereTheSpoolIsNoexec) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    EXPECT_EQ(client.Run("#!/bin/cat\nmy own text\n", Parallel()).out[0],
              "#!/bin/cat\nmy own text\n");
    EXPECT_EQ(client.Run("#!/bin/sh -e\necho a; false; echo b\n", Parallel()).out[0], "a\n");
    const Heard& missing = client.Run("#!/no/such/interpreter x\n", Parallel());
    EXPECT_EQ(missing.end.fields.outcome, Outcome::kNotStarted);
    EXPECT_EQ(missing.end.fields.code, static_cast<std::uint32_t>(ENOENT));
    EXPECT_NE(missing.end.reason.find("/no/such/interpreter"), std::string::npos);
    StartOptions nowhere = Parallel();
    nowhere.cwd = "/no/such/place";
    EXPECT_EQ(client.Run("true", nowhere).end.fields.code, static_cast<std::uint32_t>(ENOENT));
    const int result = InMountNamespace([&] {
        const std::string where = spool.Root() + "/noexec";
        std::filesystem::create_directory(where);
        if (mount("tmpfs", where.c_str(), "tmpfs", MS_NOEXEC, "size=1m") != 0) return 77;
        Client inner(where + "/spool");
        if (!inner.Greet(1)) return 1;
        const bool ok = inner.Run("#!/bin/sh\necho yes", Parallel()).out[0] == "yes\n" &&
                        inner.Run("echo yes").out[0] == "yes\n";
        inner.Shutdown(true);
        return ok ? 0 : 2;
    });
    if (result == 77) GTEST_SKIP() << "no mount namespaces here";
    EXPECT_EQ(result, 0);
}

TEST(Commands, AFullDiskIsSaidNotGuessed) {
    const SpoolDir spool;
    const int result = InMountNamespace([&] {
        const std::string where = spool.Root() + "/small";
        std::filesystem::create_directory(where);
        if (mount("tmpfs", where.c_str(), "tmpfs", 0, "size=256k,nr_inodes=40") != 0) return 77;
        Client client(where + "/spool");
        if (!client.Greet(1)) return 1;
        // Output that does not fit ends as the program decides, and the outcome is told all the same.
        const Heard& flood = client.Run("head -c 1000000 /dev/zero", Parallel());
        if (flood.end.fields.outcome != Outcome::kExited || flood.end.fields.code == 0) return 2;
        // No inodes are left for further ones.
        std::uint64_t refused = 0;
        for (int i = 0; i < 30 && refused == 0; ++i) {
            const Heard& heard = client.Run("true", Parallel());
            if (heard.end.fields.outcome != Outcome::kNotStarted) continue;
            if (heard.end.fields.code != ENOSPC || heard.end.reason.empty()) return 3;
            refused = client.last_n;
        }
        if (refused == 0) return 4;
        client.Forget(refused);
        for (std::uint64_t n = 1; n < refused; ++n)
            client.Forget(n);
        if (client.Run("echo again", Parallel()).out[0] != "again\n") return 5;
        if (client.Run("echo again").out[0] != "again\n") return 6;
        client.Shutdown(true);
        // A disk that has no room for the spool itself.
        const std::string full = spool.Root() + "/full";
        std::filesystem::create_directory(full);
        if (mount("tmpfs", full.c_str(), "tmpfs", 0, "size=64k,nr_inodes=2") != 0) return 77;
        Client hopeless(full + "/spool");
        if (hopeless.AwaitMagic() || hopeless.AwaitExit() != 4) return 7;
        return 0;
    });
    if (result == 77) GTEST_SKIP() << "no mount namespaces here";
    EXPECT_EQ(result, 0);
}

TEST(Users, AnotherOneHasItsOwnIdentityAndReachesItsOutput) {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    StartOptions options;
    options.user = "nobody";
    for (const Lane lane : {Lane::kParallel, Lane::kSerial}) {
        options.lane = lane;
        SCOPED_TRACE(static_cast<int>(lane));
        const Heard& heard =
            client.Run("id -un; id -G; echo $USER; echo err >&2; (exit 3)", options);
        EXPECT_TRUE(heard.out[0].starts_with("nobody\n65534\nnobody\n")) << heard.out[0];
        EXPECT_EQ(heard.out[1], "err\n");
        EXPECT_EQ(heard.end.fields.code, 3U);
        EXPECT_EQ(client.Run("#!/bin/sh\necho hi", options).out[0],
                  lane == Lane::kSerial ? "hi\n" : "hi\n");
    }
    EXPECT_EQ(client.Run("cd /usr; x=1", options).end.cwd, "/usr");
    EXPECT_EQ(client.Run("pwd; echo $x; id -un; echo \"$?\"", options).out[0],
              "/usr\n1\nnobody\n0\n");
    options.lane = Lane::kParallel;
    options.user = "no-such-user";
    const Heard& unknown = client.Run("true", options);
    EXPECT_EQ(unknown.end.fields.outcome, Outcome::kNotStarted);
    EXPECT_EQ(unknown.end.fields.code, static_cast<std::uint32_t>(ENOENT));
    options.user = "12345";
    EXPECT_EQ(client.Run("id -u", options).out[0], "12345\n");
}

TEST(Users, OnlyRootBecomesAnother) {
    if (geteuid() != 0) GTEST_SKIP() << "needs root to become somebody first";
    const SpoolDir spool;
    ASSERT_EQ(chown(spool.Root().c_str(), 65534, 65534), 0);
    AttachOptions attach;
    attach.prefix = {"setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"};
    // The build may be where nobody can reach it.
    attach.program = spool.Root() + "/supervisor";
    std::filesystem::copy(NativeProgram(), attach.program);
    Client client(spool.Path(), attach);
    ASSERT_TRUE(client.Greet(1));
    StartOptions options;
    options.user = "root";
    for (const Lane lane : {Lane::kSerial, Lane::kParallel}) {
        options.lane = lane;
        const Heard& heard = client.Run("id", options);
        EXPECT_EQ(heard.end.fields.outcome, Outcome::kNotStarted);
        EXPECT_EQ(heard.end.fields.code, static_cast<std::uint32_t>(EPERM));
        EXPECT_NE(heard.end.reason.find("root"), std::string::npos);
    }
    options.user = "nobody";
    EXPECT_EQ(client.Run("id -un", options).out[0], "nobody\n");
}

// In a pid namespace of its own, where everybody is known.
TEST(Processes, AreCountedWithoutOurOwn) {
    const SpoolDir spool;
    AttachOptions attach;
    attach.prefix = {
        "unshare", "--pid", "--fork", "--mount-proc", "sh", "-c",
        // PID 1, and "sshd" with a session of ours below it.
        "cp /bin/sleep " + spool.Root() + "/sshd; " + spool.Root() + "/sshd 300 & \"$@\"; exit",
        "sh"};
    Client client(spool.Path(), attach);
    if (!client.Greet(1)) GTEST_SKIP() << "no pid namespaces here";
    EXPECT_EQ(client.Run("true").end.fields.others, 0U);
    EXPECT_EQ(client.Run("sleep 300 & sleep 300 & true").end.fields.others, 2U);
    client.Number(Type::kProcesses, 6);
    ASSERT_TRUE(client.Await([&] { return !client.answers.empty(); }));
    Reader reader(client.answers[0].data() + 1, client.answers[0].size() - 1);
    EXPECT_EQ(reader.U32(), 6U);
    ASSERT_EQ(reader.U32(), 2U);
    for (int i = 0; i < 2; ++i) {
        reader.U32();
        EXPECT_GT(reader.U32(), 1U);
        const std::string name = AsString(reader.String());
        EXPECT_TRUE(name == "sleep" || name == "bash") << name;  // before exec
    }
    EXPECT_TRUE(reader.at_end());
    client.Run("kill %1 %2; wait");
    EXPECT_EQ(client.Run("true").end.fields.others, 0U);
    client.answers.clear();
    client.Number(Type::kEnviron, 8);
    ASSERT_TRUE(client.Await([&] { return !client.answers.empty(); }));
    Reader environ(client.answers[0].data() + 1, client.answers[0].size() - 1);
    EXPECT_EQ(environ.U32(), 8U);
    std::vector<std::string> pairs(environ.U32());
    for (std::string& pair : pairs)
        pair = AsString(environ.String());
    EXPECT_TRUE(environ.at_end());
    EXPECT_NE(std::find(pairs.begin(), pairs.end(), "LC_ALL=C.UTF-8"), pairs.end());
    client.Shutdown(true);
}

// A user has 128 instances for all sandboxes of a machine together.
TEST(Output, ArrivesAlsoWhereThereIsNoInotifyInstanceLeft) {
    const SpoolDir spool;
    const std::string go = spool.Root() + "/go";
    AttachOptions attach;
    attach.prefix = {
        "unshare", "--user", "--map-root-user",
        "sh",      "-c",     "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$@\"",
        "sh"};
    Client client(spool.Path(), attach);
    if (!client.Greet(1)) GTEST_SKIP() << "no user namespaces here";
    client.Start(1,
                 "echo first; until [ -e " + go + " ]; do sleep 0.05; done; echo second; sleep 60");
    EXPECT_TRUE(client.AwaitOutput(1, 0, "first\n"));
    std::ofstream(go) << "";
    EXPECT_TRUE(client.AwaitOutput(1, 0, "first\nsecond\n"));
    client.Shutdown(true);
}

TEST(Timers, EndTheSandboxByItsInit) {
    const SpoolDir spool;
    const std::string note = spool.Root() + "/note";
    AttachOptions attach;
    // PID 1 writes down which signal it got.
    attach.prefix = {"unshare",
                     "--pid",
                     "--fork",
                     "--kill-child",
                     "--mount-proc",
                     "sh",
                     "-c",
                     "trap 'echo idle > " + note + "; exit' USR1; trap 'echo lifetime > " + note +
                         "; exit' USR2; exec 3<&0; \"$@\" <&3 & while :; do sleep 0.05; done",
                     "sh"};
    for (const bool idle : {true, false}) {
        Client client(spool.Path(), attach);
        if (!client.Greet(1)) GTEST_SKIP() << "no pid namespaces here";
        client.Send(Frame(Type::kTimer, [&](auto& w) {
            w.U32(1)
                .U64(idle ? 0 : 300)
                .U64(idle ? 300 : 0)
                .U8(static_cast<std::uint8_t>(TimerAction::kEndSandbox));
        }));
        if (idle) {
            // Stands still while a command runs, and begins again after it.
            const Heard& heard = client.Run("sleep 0.6; echo lived");
            EXPECT_EQ(heard.out[0], "lived\n");
        }
        EXPECT_TRUE(client.AwaitClosed());
        EXPECT_EQ(ReadText(note), idle ? "idle\n" : "lifetime\n");
        std::filesystem::remove_all(spool.Path());
    }
}

TEST(Attach, NeedsAChannelItCanWaitFor) {
    const SpoolDir spool;
    const std::string command =
        NativeProgram() + " attach --spool " + spool.Path() + " </dev/null 2>/dev/null";
    EXPECT_EQ(WEXITSTATUS(system(command.c_str())), 2);
}

TEST(Resources, AnIdleSupervisorSleepsAndIsSmall) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    // Work first: nothing of it may stay.
    client.keep_output = false;
    for (int i = 0; i < 20; ++i)
        client.Run("head -c 300000 /dev/zero", Parallel());
    std::string big(900000, '#');
    client.Run(big);
    for (std::uint64_t n = 1; n <= client.last_n; ++n)
        client.Forget(n);
    ASSERT_TRUE(client.Sync());
    const std::vector<pid_t> holders = HoldersOf(spool.Path() + "/lock");
    ASSERT_EQ(holders.size(), 1U);
    const std::string proc = "/proc/" + std::to_string(holders[0]);
    const auto switches = [&] {
        const std::string status = ReadText(proc + "/status");
        return std::stoul(status.substr(status.find("\nvoluntary_ctxt_switches:") + 26));
    };
    // Its last events settle; then it is not woken at all for a second.
    unsigned long last = 0;
    EXPECT_TRUE(AwaitTrue([&] {
        last = switches();
        usleep(1000000);
        return switches() == last;
    })) << "it wakes though nothing happens";
    const std::string status = ReadText(proc + "/status");
    const unsigned long kib = std::stoul(status.substr(status.find("VmRSS:") + 6));
    EXPECT_LT(kib, 400U);
    RecordProperty("rss_kib", static_cast<int>(kib));
}

TEST(Resources, TheStartOfACommandIsQuick) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    std::vector<std::int64_t> us;
    std::vector<std::uint64_t> shell_us;
    for (int i = 0; i < 200; ++i) {
        const auto start = std::chrono::steady_clock::now();
        shell_us.push_back(client.Run("true").end.fields.duration_us);
        us.push_back(std::chrono::duration_cast<std::chrono::microseconds>(
                         std::chrono::steady_clock::now() - start)
                         .count());
        client.Forget(client.last_n);
    }
    std::sort(us.begin(), us.end());
    std::sort(shell_us.begin(), shell_us.end());
    std::cout << "Start to Done of `true`: median " << us[100] << " us, 95% " << us[190]
              << " us; of it the shell " << shell_us[100] << " us\n";
    EXPECT_LT(us[100], 20000) << "far above what it takes, for slow machines";
}

}  // namespace
}  // namespace sbxfs::supervisor
