// Each refusal leaves a sentence with cause and remedy in .mount/last_error: time, pid, path, errno
// (contract 1.5, 2, 10). Ordinary answers of ordinary files do not.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <functional>

#include "tests/support/mount_test.h"

namespace sbxfs::testing {
namespace {

class Sentences : public MountTest {
 protected:
    void SetUp() override {
        MountTest::SetUp();
        MakeBox();
        Settle();
        files().PutFile("/work/a", "hello");
        files().PutDir("/work/d");
    }
    std::string Newest() {
        const std::string text = LastError();
        return text.substr(0, text.find('\n'));
    }
    int OpenCode(const std::string& path, int flags) { return me().Open(path, flags)->error(); }
    int Chmod(const std::string& path, std::uint32_t mode) {
        AttrChange change;
        change.mode = mode;
        return me().Set(path, change);
    }
    int Chown(const std::string& path, uid_t uid) {
        AttrChange change;
        change.uid = uid;
        return me().Set(path, change);
    }
};

TEST_F(Sentences, SayWhoWhatWhyAndWhatToDo) {
    ASSERT_EQ(me().Echo("true", "/box/cmd"), 0);
    ASSERT_EQ(me().Echo("true", "/box/run/t"), 0);
    struct Case {
        std::string path;
        int code;
        const char* name;
        std::string sentence;
        std::function<int()> act;
    };
    const std::vector<Case> table = {
        {"/-bad", EINVAL, "EINVAL", "is not a name for a sandbox: use a letter or digit",
         [&] { return me().Mkdir("/-bad"); }},
        {"/x@none", ENOENT, "ENOENT", "no template 'none' in the configuration; there are: default",
         [&] { return me().Mkdir("/x@none"); }},
        {"/box", EEXIST, "EEXIST", "a sandbox named 'box' is there already",
         [&] { return me().Mkdir("/box"); }},
        {"/README.md", EEXIST, "EEXIST", "that name is the mount's own",
         [&] { return me().Mkdir("/README.md"); }},
        {"/.mount", EPERM, "EPERM", "end the mount with umount",
         [&] { return me().Rmdir("/.mount"); }},
        {"/none", ENOENT, "ENOENT", "no sandbox named 'none'", [&] { return me().Rmdir("/none"); }},
        {"/box/status", EACCES, "EACCES", "'status' can only be read",
         [&] { return OpenCode("/box/status", O_WRONLY); }},
        {"/box/events/1/stdout", EACCES, "EACCES", "'stdout' can only be read",
         [&] { return OpenCode("/box/events/1/stdout", O_RDWR); }},
        {"/box/cmd", EPERM, "EPERM", "control entry of sbxfs",
         [&] { return me().Unlink("/box/cmd"); }},
        {"/box/x", EPERM, "EPERM", "its own files are below NAME/fs",
         [&] { return me().Mkdir("/box/x"); }},
        {"/box", EPERM, "EPERM", "control entry of sbxfs",
         [&] { return me().Rename("/box", "/other"); }},
        {"/box/status", EPERM, "EPERM", "mode and owner of control entries are fixed",
         [&] { return Chmod("/box/status", 0100777); }},
        {"/box/run/t", EEXIST, "EEXIST", "its result is in events/t. A name is used once",
         [&] { return me().Echo("true", "/box/run/t"); }},
        {"/box/run/7", EINVAL, "EINVAL", "numbers, 'latest' and 'log.jsonl' are taken by events/",
         [&] { return me().Echo("true", "/box/run/7"); }},
        {"/box/run/a.swp", EINVAL, "EINVAL", "editors make such files",
         [&] { return me().Echo("true", "/box/run/a.swp"); }},
        {"/box/cmd", EINVAL, "EINVAL", "a script cannot contain a NUL byte",
         [&] { return me().Echo(std::string_view("\0", 1), "/box/cmd"); }},
        {"/box/cmd", EFBIG, "EFBIG", "put more into a file below fs/ and run that",
         [&] { return me().Echo(std::string((1U << 20) + 1, 'x'), "/box/cmd"); }},
        {"/box/cmd.json", EINVAL, "EINVAL", "Like this: {\"cmd\": \"make\", \"timeout\": 60}",
         [&] { return me().Echo("make", "/box/cmd.json"); }},
        {"/box/ctl", EOPNOTSUPP, "EOPNOTSUPP", "'hibernate' is not a verb here; there are: protect",
         [&] { return me().Echo("hibernate", "/box/ctl"); }},
        {"/box/events/1", EBUSY, "EBUSY", "end it first, with events/1/ctl, or wait",
         [&] { return me().Rmdir("/box/events/1"); }},
        {"/box/events/1/wait.x", ENOENT, "ENOENT", "whole number of seconds",
         [&] { return me().Look("/box/events/1/wait.x"); }},
        {"/box/fs/work/a", EPERM, "EPERM", "change owners with a command in the sandbox",
         [&] { return Chown("/box/fs/work/a", 4711); }},
        {"/box/fs/work/a", EPERM, "EPERM", "set them with a command in the sandbox",
         [&] { return Chmod("/box/fs/work/a", 0104755); }},
        {"/box/fs/work/p", EOPNOTSUPP, "EOPNOTSUPP", "SFTP has no way to make a FIFO",
         [&] { return me().Mknod("/box/fs/work/p", S_IFIFO | 0644); }},
        {"/box/fs/work/a", EXDEV, "EXDEV", "cannot become a control entry",
         [&] { return me().Rename("/box/fs/work/a", "/box/a"); }},
        {"/box/fs/work/a", EINVAL, "EINVAL", "names cannot be exchanged over SFTP",
         [&] { return me().Rename("/box/fs/work/a", "/box/fs/work/d", RENAME_EXCHANGE); }},
    };
    for (const Case& one : table) {
        SCOPED_TRACE(one.path + " " + one.sentence);
        EXPECT_EQ(one.act(), one.code);
        const std::string line = Newest();
        EXPECT_NE(line.find(" pid " + std::to_string(::getpid()) + " " + one.path + " " + one.name +
                            ": "),
                  std::string::npos)
            << line;
        EXPECT_NE(line.find(one.sentence), std::string::npos) << line;
    }
}

TEST_F(Sentences, OrdinaryAnswersOfOrdinaryFilesAreNoRefusals) {
    EXPECT_EQ(me().Look("/box/fs/work/none"), ENOENT);
    EXPECT_EQ(me().Mkdir("/box/fs/work/d"), EEXIST);
    EXPECT_EQ(me().Unlink("/box/fs/work/none"), ENOENT);
    EXPECT_EQ(me().Look("/none"), ENOENT);
    EXPECT_EQ(me().Look("/box/none"), ENOENT);
    EXPECT_EQ(me().Look("/box/events/77"), ENOENT);
    EXPECT_EQ(me().Look("/box/fs/work/" + std::string(256, 'x')), ENAMETOOLONG);
    EXPECT_EQ(LastError(), "");
}

TEST_F(Sentences, AreOneLineWhateverWasNamed) {
    EXPECT_EQ(me().Mkdir("/a\nb\x1b[31m"), EINVAL);
    EXPECT_EQ(me().Unlink("/box/x\ny"), EPERM);
    const std::string text = LastError();
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
}

TEST_F(Sentences, WhatOneProcessMayNotEnterInARowIsOneLine) {
    for (const char* path : {"/box/fs/work", "/box/fs/work/d", "/box/fs/work"}) {
        DropCaches();
        files().FailNext("list", Error(Errno{EACCES}, "you may not: ls -l shows the mode"));
        EXPECT_EQ(me().FinishCode(me().StartOpenDir(path)), EACCES);
    }
    const std::string text = LastError();
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
    EXPECT_NE(text.find("(3 times)"), std::string::npos) << text;
}

TEST_F(Sentences, AnErrnoThatTheTableLacksIsAnsweredAsEIOAndSaysWhy) {
    for (const int code : {ENOSYS, 0, -5, 100000, EUCLEAN}) {
        const RequestFacts facts{FileOp::kWrite, me().InoOf("/box/fs/work/a"), "", me().who()};
        EXPECT_EQ(me().fs().OnFailure(facts, Error(Errno{code}, "it says so")), Errno{EIO}) << code;
        EXPECT_NE(Newest().find("EIO: it says so"), std::string::npos) << Newest();
    }
}

class Hostile : public Sentences {};

TEST_F(Hostile, ALinkThatHidesAStepUpBehindANulByteIsShownWithoutIt) {
    using namespace std::string_literals;
    files().PutLink("/work/up", "..\0/etc"s);
    files().PutLink("/up", "..\0"s);
    files().PutLink("/work/away", "../../../../etc/passwd");
    EXPECT_EQ(me().ReadLink("/box/fs/work/up"), "..");
    EXPECT_EQ(me().ReadLink("/box/fs/up"), ".");
    EXPECT_EQ(me().ReadLink("/box/fs/work/away"), "../etc/passwd");
}

TEST_F(Hostile, SpecialFilesShowAsSocketsSoThatNobodyBlocksOnThem) {
    files().PutSpecial("/work/fifo", S_IFIFO | 0666);
    files().PutSpecial("/work/disk", S_IFBLK | 0666);
    EXPECT_EQ(me().Stat("/box/fs/work/fifo").mode & S_IFMT, static_cast<unsigned>(S_IFSOCK));
    EXPECT_EQ(me().Stat("/box/fs/work/disk").mode & S_IFMT, static_cast<unsigned>(S_IFSOCK));
}

TEST_F(Hostile, WhatIsHiddenIsNotThereAndCannotBeMade) {
    files().PutFile("/proc/1/environ", "SECRET");
    files().PutFile("/home/user/.sbxfs/1/stdout", "spool");
    EXPECT_EQ(me().Look("/box/fs/proc"), ENOENT);
    EXPECT_EQ(me().Look("/box/fs/home/user/.sbxfs"), ENOENT);
    EXPECT_EQ(me().Mkdir("/box/fs/proc"), EPERM);
    EXPECT_EQ(me().Rename("/box/fs/work/d", "/box/fs/home/user/.sbxfs"), EPERM);
    for (const std::string& name : me().ListPlus("/box/fs"))
        EXPECT_NE(name, "proc");
    for (const std::string& name : me().List("/box/fs/home/user"))
        EXPECT_NE(name, ".sbxfs");
}

TEST_F(Hostile, AFileThatBecomesAnotherKindOfFileIsAnotherNode) {
    const Ino before = me().InoOf("/box/fs/work/a");
    files().Remove("/work/a");
    files().PutDir("/work/a");
    DropCaches();
    EXPECT_NE(me().InoOf("/box/fs/work/a"), before);
}

}  // namespace
}  // namespace sbxfs::testing
