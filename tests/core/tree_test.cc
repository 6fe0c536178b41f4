// The tree of contract 2: what is listed, what is only reachable, and what its attributes say.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "tests/support/mount_test.h"

namespace sbxfs::testing {
namespace {

using Names = std::vector<std::string>;

class Tree : public MountTest {
 protected:
    // Every listed path below `top`, depth first; links are not followed.
    Names Walk(const std::string& top) {
        Names paths;
        for (const std::string& name : me().ListPlus(top)) {
            const std::string path = (top == "/" ? "" : top) + "/" + name;
            paths.push_back(path);
            if (S_ISDIR(me().Stat(path).mode)) {
                for (const std::string& below : Walk(path))
                    paths.push_back(below);
            }
        }
        return paths;
    }
    bool IsFile(const std::string& path) { return S_ISREG(me().Stat(path).mode); }
};

TEST_F(Tree, TheRootListsReadmeMountAndSandboxes) {
    EXPECT_EQ(me().List("/"), (Names{"README.md", ".mount"}));
    MakeBox("b2");
    MakeBox("b1@default");
    EXPECT_EQ(me().List("/"), (Names{"README.md", ".mount", "b1@default", "b2"}));
    EXPECT_EQ(me().Cat("/b2/status"), "ready\n");
}

TEST_F(Tree, ASandboxListsItsControlFilesButNeitherFsNorWhatWaits) {
    MakeBox();
    EXPECT_EQ(me().List("/box"),
              (Names{"README.md", "cmd", "cmd.json", "config", "ctl", "error", "events",
                     "info.json", "run", "ssh", "status", "ttl", "work"}));
    EXPECT_EQ(me().Look("/box/fs"), 0);
    EXPECT_EQ(me().Look("/box/ready"), 0);
    EXPECT_EQ(me().ReadLink("/box/work"), "fs/work");
    EXPECT_EQ(me().Echo("true", "/box/cmd"), 0);
    EXPECT_EQ(me().List("/box/events"), (Names{"1", "latest", "log.jsonl"}));
    EXPECT_EQ(me().List("/box/events/1"),
              (Names{"cmd", "ctl", "error", "exit_code", "report", "result.json", "signal",
                     "status", "stderr", "stdout"}));
    EXPECT_EQ(me().Look("/box/events/1/follow"), 0);
    EXPECT_EQ(me().Look("/box/events/1/wait"), 0);
    EXPECT_EQ(me().Look("/box/events/1/wait.60"), 0);
    EXPECT_EQ(me().List("/box/run"), Names{});
}

TEST_F(Tree, ListFsListsIt) {
    Unmount();
    setup_.templates["open"] = TestTemplate("open");
    setup_.templates["open"].list_fs = true;
    Start();
    MakeBox("box@open");
    const Names names = me().ListPlus("/box@open");
    EXPECT_EQ(std::count(names.begin(), names.end(), "fs"), 1);
    EXPECT_EQ(me().List("/box@open"), names);
}

TEST_F(Tree, NothingMetByListingTouchesTheSandboxOrWaits) {
    MakeBox("here");
    provider().SetLaunches(FakeProvider::Answers::kHeld);
    MakeBox("launching");
    EXPECT_EQ(me().Echo("true", "/here/cmd"), 0);
    EXPECT_EQ(me().Echo("true", "/here/run/t1"), 0);
    EXPECT_EQ(me().Echo("true", "/launching/cmd"), 0);
    const std::size_t before = files("here").Log().size();
    const Names paths = Walk("/");
    EXPECT_GT(paths.size(), 50U);
    for (const std::string& path : paths) {
        if (IsFile(path)) {
            EXPECT_FALSE(me().Cat(path).starts_with("<E")) << path;
        }
    }
    EXPECT_EQ(files("here").Log().size(), before);
    provider().FinishLaunch();
}

TEST_F(Tree, SizesAreTrue) {
    MakeBox();
    EXPECT_EQ(me().Echo("echo hi", "/box/cmd"), 0);
    supervisor().Started(1);
    supervisor().Print(1, "hi\n");
    supervisor().Exit(1, 3);
    EXPECT_EQ(me().Rmdir("/gone"), ENOENT);  // a line for last_error
    for (const std::string& path : Walk("/")) {
        if (IsFile(path)) {
            EXPECT_EQ(me().Stat(path).size, me().Cat(path).size()) << path;
        } else if (S_ISLNK(me().Stat(path).mode)) {
            EXPECT_EQ(me().Stat(path).size, me().ReadLink(path).size()) << path;
        }
    }
}

TEST_F(Tree, ValuesEndWithANewline) {
    MakeBox();
    EXPECT_EQ(me().Echo("false", "/box/cmd"), 0);
    supervisor().Run(1, "", 1);
    EXPECT_EQ(me().Cat("/box/status"), "ready\n");
    EXPECT_EQ(me().Cat("/box/error"), "");
    EXPECT_EQ(me().Cat("/box/events/1/status"), "exited\n");
    EXPECT_EQ(me().Cat("/box/events/1/exit_code"), "1\n");
    EXPECT_EQ(me().Cat("/box/events/1/signal"), "");
    EXPECT_EQ(me().Cat("/box/events/1/cmd"), "false");
    EXPECT_EQ(me().Cat("/.mount/version").back(), '\n');
}

TEST_F(Tree, ModesAreThoseOfTheContract) {
    MakeBox();
    EXPECT_EQ(me().Echo("true", "/box/cmd"), 0);
    for (const char* dir : {"/", "/box", "/box/run", "/box/events", "/box/events/1", "/.mount",
                            "/.mount/history", "/.mount/templates"}) {
        EXPECT_EQ(me().Stat(dir).mode, S_IFDIR | 0700U) << dir;
    }
    for (const char* file : {"/box/cmd", "/box/cmd.json", "/box/ctl", "/box/events/1/ctl"})
        EXPECT_EQ(me().Stat(file).mode, S_IFREG | 0600U) << file;
    for (const char* file : {"/box/status", "/box/info.json", "/README.md", "/box/events/1/stdout",
                             "/box/ready", "/box/events/1/wait"}) {
        EXPECT_EQ(me().Stat(file).mode, S_IFREG | 0444U) << file;
    }
    EXPECT_EQ(me().Stat("/box/work").mode, S_IFLNK | 0777U);
    EXPECT_EQ(me().Stat("/box/status").uid, 1000U);
    EXPECT_EQ(me().Stat("/box/status").gid, 1001U);
}

TEST_F(Tree, MtimesAreReal) {
    const SystemTime mounted = world_.loop.clock().System();
    Advance(std::chrono::seconds(5));
    MakeBox();
    const SystemTime made = world_.loop.clock().System();
    EXPECT_EQ(me().Stat("/README.md").mtime, mounted);
    EXPECT_EQ(me().Stat("/").mtime, made);
    EXPECT_EQ(me().Stat("/box").mtime, made);
    Advance(std::chrono::seconds(5));
    EXPECT_EQ(me().Echo("true", "/box/cmd"), 0);
    const SystemTime accepted = world_.loop.clock().System();
    EXPECT_EQ(me().Stat("/box/events").mtime, accepted);
    EXPECT_EQ(me().Stat("/box/events/1").mtime, accepted);
    EXPECT_EQ(me().Stat("/box/cmd").mtime, accepted);
    EXPECT_EQ(me().Stat("/box/events/1/cmd").mtime, accepted);
    supervisor().Started(1, EpochMs(accepted) + 1000);
    EXPECT_EQ(me().Stat("/box/events/1/status").mtime, accepted + std::chrono::seconds(1));
}

TEST_F(Tree, InodeNumbersAreDistinctAndSurviveARemount) {
    MakeBox();
    EXPECT_EQ(me().Echo("true", "/box/run/t1"), 0);
    Settle();
    supervisor().Run(1);
    std::map<std::string, std::uint64_t> before;
    std::set<std::uint64_t> distinct;
    for (const std::string& path : Walk("/")) {
        before[path] = me().Stat(path).st_ino;
        distinct.insert(before[path]);
    }
    EXPECT_EQ(distinct.size(), before.size());
    Unmount();
    Start();
    std::map<std::string, std::uint64_t> after;
    for (const std::string& path : Walk("/"))
        after[path] = me().Stat(path).st_ino;
    EXPECT_EQ(after, before);
}

TEST_F(Tree, ANodeIsTheSameForAsLongAsItIsKnown) {
    MakeBox();
    EXPECT_EQ(me().InoOf("/box/status"), me().InoOf("/box/status"));
    const Ino first = me().InoOf("/box");
    EXPECT_EQ(me().Rmdir("/box"), 0);
    MakeBox();
    EXPECT_NE(me().InoOf("/box"), first);  // a name used again is another sandbox
}

TEST_F(Tree, LatestIsAnotherNodeWhenItPointsElsewhere) {
    MakeBox();
    EXPECT_EQ(me().Echo("a", "/box/cmd"), 0);
    const Ino first = me().InoOf("/box/events/latest");
    EXPECT_EQ(me().ReadLink("/box/events/latest"), "1");
    EXPECT_EQ(me().Echo("b", "/box/cmd"), 0);
    EXPECT_EQ(me().ReadLink("/box/events/latest"), "2");
    EXPECT_NE(me().InoOf("/box/events/latest"), first);
}

TEST_F(Tree, ControlEntriesCannotBeMadeRemovedLinkedOrRenamed) {
    MakeBox();
    MakeBox("other");
    EXPECT_EQ(me().Echo("true", "/box/cmd"), 0);
    EXPECT_EQ(me().Create("/file", O_WRONLY)->error(), EPERM);
    EXPECT_EQ(me().Create("/box/file", O_WRONLY)->error(), EPERM);
    EXPECT_EQ(me().Mknod("/box/file", S_IFREG | 0600), EPERM);
    EXPECT_EQ(me().Mkdir("/box/dir"), EPERM);
    EXPECT_EQ(me().Mkdir("/box/events/7"), EPERM);
    EXPECT_EQ(me().Symlink("x", "/box/link"), EPERM);
    EXPECT_EQ(me().Link("/box/status", "/box/again"), EPERM);
    EXPECT_EQ(me().Unlink("/box/status"), EPERM);
    EXPECT_EQ(me().Unlink("/box/events/1/stdout"), EPERM);
    EXPECT_EQ(me().Unlink("/box/events/latest"), EPERM);
    EXPECT_EQ(me().Rmdir("/box/events"), EPERM);
    EXPECT_EQ(me().Rmdir("/.mount"), EPERM);
    EXPECT_EQ(me().Rename("/box", "/box2"), EPERM);
    EXPECT_EQ(me().Rename("/box/status", "/box/x"), EPERM);
    EXPECT_EQ(me().Rename("/box/status", "/box/fs/x"), EPERM);
    EXPECT_NE(LastError().find("EPERM: this is a control entry"), std::string::npos);
    EXPECT_EQ(provider().destroys(), 0U);
}

TEST_F(Tree, WhatEditorsDoToAFileIsTakenAndWhatWouldChangeItRefused) {
    MakeBox();
    AttrChange truncate;
    truncate.size = 0;
    AttrChange times;
    times.mtime_now = true;
    AttrChange same_mode;
    same_mode.mode = S_IFREG | 0600;
    AttrChange same_owner;
    same_owner.uid = 1000;
    same_owner.gid = 1001;
    for (const AttrChange& change : {truncate, times, same_mode, same_owner})
        EXPECT_EQ(me().Set("/box/cmd", change), 0);
    AttrChange mode;
    mode.mode = S_IFREG | 0644;
    AttrChange owner;
    owner.uid = 0;
    EXPECT_EQ(me().Set("/box/cmd", mode), EPERM);
    EXPECT_EQ(me().Set("/box/status", mode), EPERM);
    EXPECT_EQ(me().Set("/box/cmd", owner), EPERM);
}

TEST_F(Tree, WhatCanOnlyBeReadCannotBeOpenedForWriting) {
    MakeBox();
    EXPECT_EQ(me().Echo("true", "/box/cmd"), 0);
    for (const char* path : {"/README.md", "/box/status", "/box/info.json", "/box/ready",
                             "/box/events/1/stdout", "/box/events/1/wait", "/box/events/1/cmd"}) {
        EXPECT_EQ(me().Open(path, O_WRONLY)->error(), EACCES) << path;
        EXPECT_EQ(me().Open(path, O_RDWR)->error(), EACCES) << path;
        EXPECT_EQ(me().Open(path, O_RDONLY | O_TRUNC)->error(), EACCES) << path;
    }
}

TEST_F(Tree, WhatIsNotThereIsEnoentAndNotWorthALine) {
    MakeBox();
    for (const char* path : {"/nothing", "/box/nothing", "/box/events/1", "/box/events/0",
                             "/box/events/01", "/box/events/latest", "/.mount/nothing",
                             "/.mount/templates/x.toml", "/.mount/history/box.1"}) {
        EXPECT_EQ(me().Look(path), ENOENT) << path;
    }
    EXPECT_EQ(LastError(), "");
    EXPECT_EQ(me().Look("/box/status/x"), ENOTDIR);
}

TEST_F(Tree, WaitTakesWholeSecondsOnly) {
    MakeBox();
    EXPECT_EQ(me().Echo("true", "/box/cmd"), 0);
    EXPECT_EQ(me().Look("/box/events/1/wait.0"), 0);
    for (const char* name : {"wait.", "wait.1.5", "wait.-1", "wait.1s", "wait.99999999999"})
        EXPECT_EQ(me().Look(std::string("/box/events/1/") + name), ENOENT) << name;
    EXPECT_NE(LastError().find("whole number of seconds"), std::string::npos);
}

TEST_F(Tree, MountShowsTemplatesConfigurationAndVersion) {
    EXPECT_EQ(me().List("/.mount"),
              (Names{"README.md", "bin", "config.toml", "history", "info.json", "last_error", "log",
                     "metrics", "new", "snapshots", "templates", "version"}));
    EXPECT_EQ(me().List("/.mount/templates"), Names{"default.toml"});
    const std::string text = me().Cat("/.mount/templates/default.toml");
    EXPECT_TRUE(text.starts_with("[templates.default]\nprovider = \"local\"\n")) << text;
    EXPECT_TRUE(me().Cat("/.mount/config.toml").starts_with("default_template = \"default\"\n"));
    EXPECT_TRUE(me().Cat("/.mount/config.toml").ends_with("\n" + text));
}

TEST_F(Tree, AReloadedConfigurationHoldsForWhatIsMadeNext) {
    EXPECT_EQ(me().Mkdir("/b@late"), ENOENT);
    Config next;
    next.default_template = "late";
    next.templates["late"] = TestTemplate("late");
    mount().context().config.Replace(next, mount().context().clock.System());
    EXPECT_EQ(me().List("/.mount/templates"), Names{"late.toml"});
    EXPECT_EQ(me().Look("/.mount/templates/default.toml"), ENOENT);
    EXPECT_EQ(me().Mkdir("/b@late"), 0);
    EXPECT_EQ(me().Mkdir("/c@default"), ENOENT);
    EXPECT_EQ(me().Mkdir("/c"), 0);
    EXPECT_EQ(mount().Box("c")->what().name, "late");
}

TEST_F(Tree, ALoweredLimitIsForNewSandboxesOnly) {
    mount().sandboxes().SetLimit(1);
    EXPECT_EQ(me().Mkdir("/first"), 0);
    EXPECT_EQ(me().Mkdir("/second"), EDQUOT);
    EXPECT_NE(LastError().find("max_sandboxes"), std::string::npos);
    mount().sandboxes().SetLimit(2);
    EXPECT_EQ(me().Mkdir("/second"), 0);
    mount().sandboxes().SetLimit(0);
    EXPECT_EQ(me().Mkdir("/third"), EDQUOT);
    EXPECT_EQ(me().List("/").size(), 4U);
}

TEST_F(Tree, LastErrorIsNewestFirstAndSaysWhoWhatAndWhy) {
    EXPECT_EQ(me().Mkdir("/b@d"), ENOENT);
    EXPECT_EQ(me().Rmdir("/nothing"), ENOENT);
    EXPECT_EQ(me().Rmdir("/nothing"), ENOENT);
    const std::string text = LastError();
    const std::string pid = "pid " + std::to_string(::getpid());
    EXPECT_NE(text.find("1971-01-01T00:00:00.000Z " + pid +
                        " /nothing ENOENT: no sandbox named 'nothing' (2 times)\n"),
              std::string::npos)
        << text;
    EXPECT_LT(text.find("/nothing"), text.find("/b@d ENOENT: no template 'd'"));
}

TEST_F(Tree, StatfsOfTheMountAnswersFromMemory) {
    const auto recording = me().Ask<StatfsReply>("statfs", kRootIno, "", [&](StatfsReply reply) {
        me().fs().Statfs(kRootIno, std::move(reply));
    });
    EXPECT_EQ(me().Finish(recording).kind, "statfs");
}

TEST_F(Tree, ARequestAboutWhatTheKernelForgotIsStale) {
    const auto recording = me().StartLookup(Ino{4711}, "x");
    EXPECT_EQ(me().FinishCode(recording), ESTALE);
}

TEST_F(Tree, AListingGoesOnWhereItWasWhileEntriesComeAndGo) {
    MakeBox("a");
    MakeBox("c");
    const Answer opened = me().Finish(me().StartOpenDir("/"));
    const Client::File dir(me(), kRootIno, opened);
    // One entry a page, as with the smallest buffer.
    class OnePage final : public DirectoryPage {
     public:
        OnePage(std::string& name, std::uint64_t& next) : name_(name), next_(next) {}
        bool Add(const Listed& listed, std::uint64_t next) override {
            if (full_) return false;
            full_ = true;
            name_ = listed.name;
            next_ = next;
            return true;
        }
        bool AddPlus(const Listed& listed, const Entry&, std::uint64_t next) override {
            return Add(listed, next);
        }
        std::span<const char> bytes() const override { return {}; }

     private:
        std::string& name_;
        std::uint64_t& next_;
        bool full_ = false;
    };
    Names seen;
    std::uint64_t next = 0;
    for (int i = 0; i < 20; ++i) {
        std::string name;
        const std::uint64_t from = next;
        (void)me().Finish(me().Ask<DataReply>("readdir", kRootIno, "", [&](DataReply reply) {
            me().fs().ReadDir(opened.opened.handle, from, false,
                              std::make_unique<OnePage>(name, next), std::move(reply));
        }));
        if (next == from) break;
        seen.push_back(name);
        if (name == "a") {
            MakeBox("b");
            EXPECT_EQ(me().Rmdir("/a"), 0);
        }
    }
    EXPECT_EQ(seen, (Names{".", "..", "README.md", ".mount", "a", "c"}));
}

}  // namespace
}  // namespace sbxfs::testing
