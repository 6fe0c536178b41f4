// config/ of a sandbox (contract 2 and 4): what shells and editors do to its files, values that are refused where the
// caller hears it, and what commands start with from then on, also after kill -9.
#include <fcntl.h>
#include <signal.h>

#include "tests/support/mount_test.h"
#include "tests/support/processes.h"

namespace sbxfs::testing {
namespace {

using Names = std::vector<std::string>;

class Config : public MountTest {
 protected:
    void SetUp() override {
        setup_.templates["default"].env = {{"FROM", "template"}, {"CI", "template"}};
        MountTest::SetUp();
        MakeBox();
    }
    int Set(const std::string& key, const std::string& value) {
        return me().Echo(value + "\n", "/box/config/" + key);
    }
    std::string Get(const std::string& key) { return me().Cat("/box/config/" + key); }
    // The Start of a command that is submitted now.
    StartRequest Started(const std::string& file = "cmd") {
        ++n_;
        const std::string name = file == "run" ? "/box/run/t" + std::to_string(n_) : "/box/" + file;
        EXPECT_EQ(me().Echo(file == "cmd.json" ? R"({"cmd": "true", "timeout": 5})" : "true", name),
                  0);
        Settle();
        StartRequest request = supervisor().Request(n_);
        supervisor().Run(n_);
        Settle();
        return request;
    }
    int n_ = 0;
};

TEST_F(Config, ShowsWhatIsInEffect) {
    EXPECT_EQ(me().List("/box/config"), (Names{"cwd", "shell", "timeout", "user", "env"}));
    supervisor().hello.shell = "/bin/bash";
    EXPECT_EQ(Get("cwd"), "/work\n");
    EXPECT_EQ(Get("timeout"), "0\n");
    EXPECT_EQ(me().List("/box/config/env"), Names{});
    EXPECT_EQ(me().Stat("/box/config/cwd").size, 6U);
    EXPECT_EQ(me().Stat("/box/config/cwd").mode & 07777U, 0600U);
}

TEST_F(Config, EveryCommandThatStartsAfterwardsHasIt) {
    const StartRequest before = Started();
    EXPECT_EQ(before.cwd, "/work");
    EXPECT_EQ(before.timeout_ms, 0);
    EXPECT_EQ(before.env.at("CI"), "template") << "the template has the last word over ours";
    EXPECT_EQ(before.env.at("PAGER"), "cat");
    EXPECT_EQ(Set("cwd", "/srv"), 0);
    EXPECT_EQ(Set("shell", "/bin/dash"), 0);
    EXPECT_EQ(Set("timeout", "2m"), 0);
    EXPECT_EQ(Set("user", "nobody"), 0);
    EXPECT_EQ(Set("env/FROM", "config"), 0);
    EXPECT_EQ(Set("env/TOKEN", "s3cret"), 0);
    for (const char* file : {"cmd", "run"}) {
        SCOPED_TRACE(file);
        const StartRequest after = Started(file);
        EXPECT_EQ(after.cwd, "/srv");
        EXPECT_EQ(after.shell, "/bin/dash");
        EXPECT_EQ(after.timeout_ms, 120000);
        EXPECT_EQ(after.user, "nobody");
        EXPECT_EQ(after.env.at("FROM"), "config");
        EXPECT_EQ(after.env.at("TOKEN"), "s3cret");
        EXPECT_EQ(after.env.at("NO_COLOR"), "1");
    }
    EXPECT_EQ(Started("cmd.json").timeout_ms, 5000) << "what a command says itself counts";
    EXPECT_EQ(Get("timeout"), "120\n");
    EXPECT_EQ(me().Unlink("/box/config/env/FROM"), 0);
    EXPECT_EQ(Started().env.at("FROM"), "template");
    for (const char* key : {"cwd", "shell", "timeout", "user"})
        EXPECT_EQ(Set(key, ""), 0) << "empty goes back to the default";
    const StartRequest last = Started();
    EXPECT_EQ(last.cwd, "/work");
    EXPECT_EQ(last.shell, "");
    EXPECT_EQ(last.timeout_ms, 0);
    EXPECT_EQ(last.user, "");
}

TEST_F(Config, CountsForWhatIsQueuedAlready) {
    ASSERT_EQ(me().Echo("first", "/box/cmd"), 0);
    ASSERT_EQ(me().Echo("second", "/box/cmd"), 0);
    EXPECT_EQ(Set("cwd", "/srv"), 0);
    supervisor().Run(1);
    Settle();
    EXPECT_EQ(supervisor().Request(2).cwd, "/srv");
    supervisor().Run(2);
}

TEST_F(Config, SurvivesKillAndRemount) {
    EXPECT_EQ(Set("cwd", "/srv"), 0);
    EXPECT_EQ(Set("timeout", "90"), 0);
    EXPECT_EQ(Set("env/TOKEN", "s3\ncret \\ \"ä"), 0);
    KillAndStart();
    Settle();
    EXPECT_EQ(Get("cwd"), "/srv\n");
    EXPECT_EQ(Get("timeout"), "90\n");
    EXPECT_EQ(me().List("/box/config/env"), Names{"TOKEN"});
    const StartRequest request = Started();
    EXPECT_EQ(request.cwd, "/srv");
    EXPECT_EQ(request.env.at("TOKEN"), "s3\ncret \\ \"ä");
}

TEST_F(Config, IsAnsweredWhenTheJournalHasIt) {
    world_.disk.Fail(FaultyDisk::Fault::kFull);
    const auto file = me().Open("/box/config/cwd", O_WRONLY | O_TRUNC);
    EXPECT_EQ(file->Write("/srv\n"), 0);
    EXPECT_EQ(file->Close(), ENOSPC);
    world_.disk.Heal();
    EXPECT_EQ(Get("cwd"), "/work\n");
    EXPECT_EQ(Started().cwd, "/work");
}

TEST_F(Config, VariablesAreNeverShown) {
    EXPECT_EQ(Set("env/TOKEN", "s3cret"), 0);
    EXPECT_EQ(Get("env/TOKEN"), "<set>\n");
    EXPECT_EQ(me().Stat("/box/config/env/TOKEN").mode & 07777U, 0200U);
    EXPECT_EQ(me().Stat("/box/config/env/TOKEN").size, 6U);
    (void)Started();
    for (const char* file : {"result.json", "report", "cmd"}) {
        EXPECT_EQ(me().Cat(std::string("/box/events/1/") + file).find("s3cret"), std::string::npos)
            << file;
    }
    EXPECT_EQ(me().Cat("/box/info.json").find("s3cret"), std::string::npos);
    // What an editor has read it cannot write back.
    EXPECT_EQ(Set("env/TOKEN", "<set>"), EINVAL);
    EXPECT_EQ(Started().env.at("TOKEN"), "s3cret");
}

TEST_F(Config, BadValuesAreRefusedAtTheWriteAndChangeNothing) {
    struct Case {
        const char* key;
        std::string value;
        int code;
        const char* sentence;
    };
    const std::vector<Case> table = {
        {"cwd", "work", EINVAL, "must be an absolute path"},
        {"cwd", "/a\n/b", EINVAL, "one path on one line"},
        {"cwd", std::string("/a\0b", 4), EINVAL, "one path on one line"},
        {"cwd", "/" + std::string(5000, 'x'), EFBIG, "may have 4096 bytes"},
        {"shell", "bash", EINVAL, "like /bin/bash"},
        {"timeout", "soon", EINVAL, "like 90, 90s, 30m"},
        {"timeout", "-1", EINVAL, "0 means none"},
        {"timeout", "1.5", EINVAL, "0 means none"},
        {"timeout", "99999999999999", EINVAL, "0 means none"},
        {"user", "a b", EINVAL, "name or the number"},
        {"user", "-x", EINVAL, "name or the number"},
        {"env/A", std::string("a\0b", 3), EINVAL, "without NUL bytes"},
        {"env/A", "\xff", EINVAL, "UTF-8"},
        {"env/A", std::string(70000, 'x'), EFBIG, "may have 65537 bytes"},
        {"env/1A", "x", EINVAL, "cannot name a variable"},
        {"env/A-B", "x", EINVAL, "cannot name a variable"},
        {"env/SBXFS_X", "x", EINVAL, "sbxfs's own"},
    };
    for (const Case& one : table) {
        SCOPED_TRACE(std::string(one.key) + "=" + one.value.substr(0, 20));
        EXPECT_EQ(Set(one.key, one.value), one.code);
        const std::string newest = LastError().substr(0, LastError().find('\n'));
        EXPECT_NE(newest.find(one.sentence), std::string::npos) << newest;
    }
    EXPECT_EQ(Get("cwd"), "/work\n");
    EXPECT_EQ(Get("timeout"), "0\n");
    EXPECT_EQ(me().List("/box/config/env"), Names{});
}

TEST_F(Config, AShellHearsABadValueAtItsWrite) {
    const auto file = me().Open("/box/config/timeout", O_WRONLY | O_TRUNC);
    EXPECT_EQ(file->Flush(), 0);
    EXPECT_EQ(file->Write("so"), EINVAL);
    EXPECT_EQ(file->Write("90\n"), EINVAL) << "a handle whose write was refused sets nothing";
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(Get("timeout"), "0\n");
}

TEST_F(Config, EditorsWays) {
    {
        SCOPED_TRACE("vim: truncate, write, fsync, chmod to the same, close");
        const auto file = me().Open("/box/config/cwd", O_WRONLY);
        AttrChange cut;
        cut.size = 0;
        EXPECT_EQ(me().Set("/box/config/cwd", cut), 0);
        EXPECT_EQ(file->Write("/vim\n"), 0);
        EXPECT_EQ(file->Fsync(), 0);
        EXPECT_EQ(Get("cwd"), "/vim\n");
        AttrChange same;
        same.mode = 0100600;
        EXPECT_EQ(me().Set("/box/config/cwd", same), 0);
        EXPECT_EQ(file->Close(), 0);
        EXPECT_EQ(Get("cwd"), "/vim\n");
    }
    {
        SCOPED_TRACE("append replaces: one value a file");
        const auto file = me().Open("/box/config/cwd", O_WRONLY | O_APPEND);
        EXPECT_EQ(file->WriteAt(5, "/append\n"), 0);
        EXPECT_EQ(file->Close(), 0);
        EXPECT_EQ(Get("cwd"), "/append\n");
    }
    {
        SCOPED_TRACE("several writes, each flushed, are several values");
        const auto file = me().Open("/box/config/cwd", O_WRONLY | O_TRUNC);
        EXPECT_EQ(file->Write("/a\n"), 0);
        EXPECT_EQ(file->Flush(), 0);
        EXPECT_EQ(Get("cwd"), "/a\n");
        EXPECT_EQ(file->Write("/b\n"), 0);
        EXPECT_EQ(file->Close(), 0);
        EXPECT_EQ(Get("cwd"), "/b\n");
    }
    {
        SCOPED_TRACE("one value in two writes");
        const auto file = me().Open("/box/config/cwd", O_WRONLY | O_TRUNC);
        EXPECT_EQ(file->Write("/wo"), 0);
        EXPECT_EQ(file->Write("rk\n"), 0);
        EXPECT_EQ(file->Close(), 0);
        EXPECT_EQ(Get("cwd"), "/work\n");
    }
    {
        SCOPED_TRACE("temporary files and renames are not for here, and say so");
        EXPECT_EQ(me().Create("/box/config/sedX1", O_WRONLY)->error(), EPERM);
        EXPECT_EQ(me().Create("/box/config/env/4913", O_WRONLY)->error(), EINVAL);
        EXPECT_EQ(me().Rename("/box/config/cwd", "/box/config/cwd~"), EPERM);
        EXPECT_EQ(me().Unlink("/box/config/cwd"), EPERM);
    }
}

TEST_F(Config, EmptyingCountsOnlyAtTheLastClose) {
    EXPECT_EQ(Set("cwd", "/srv"), 0);
    const auto file = me().Open("/box/config/cwd", O_WRONLY | O_TRUNC);
    EXPECT_EQ(file->Flush(), 0);
    EXPECT_EQ(Get("cwd"), "/srv\n");
    EXPECT_EQ(file->Close(), 0);
    Settle();
    EXPECT_EQ(Get("cwd"), "/work\n");
    EXPECT_EQ(me().Create("/box/config/env/EMPTY", O_WRONLY)->Close(), 0);
    Settle();
    EXPECT_EQ(Started().env.at("EMPTY"), "");
}

TEST_F(Config, AChildThatInheritedTheHandleKeepsNothing) {
    const auto file = me().Open("/box/config/cwd", O_WRONLY | O_TRUNC);
    EXPECT_EQ(file->Write("/us"), 0);
    EXPECT_EQ(file->FlushAs(1), 0);
    EXPECT_EQ(file->Write("r\n"), 0);
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(me().Cat("/box/config/cwd"), "/usr\n");
}

TEST_F(Config, AWriterThatWasKilledChangesNothing) {
    ChildProcess child;
    Client other(mount(), child.pid());
    {
        const auto file = other.Open("/box/config/cwd", O_WRONLY | O_TRUNC);
        EXPECT_EQ(file->Write("/half"), 0);
        child.Kill(SIGKILL);
        EXPECT_EQ(file->FlushAs(child.pid()), 0);
        EXPECT_EQ(file->Release(), 0);
    }
    Settle();
    EXPECT_EQ(Get("cwd"), "/work\n");
    other.ForgetAll();
}

TEST_F(Config, OfASandboxThatHasEndedIsClosed) {
    EXPECT_EQ(Set("env/A", "1"), 0);
    provider().SetHealth({Liveness::kEnded, "gone"});
    machine().SetAttaches(FakeMachine::Answers::kHeld);
    machine().Cut();
    Settle();
    machine().Cut();
    Settle();
    EXPECT_EQ(me().Open("/box/config/cwd", O_WRONLY)->error(), EHOSTDOWN);
    EXPECT_EQ(me().Create("/box/config/env/B", O_WRONLY)->error(), EHOSTDOWN);
    EXPECT_EQ(Get("cwd"), "/work\n") << "reading goes on";
}

TEST_F(Config, RmDashRDoesNotUnsetWhatItMeets) {
    EXPECT_EQ(Set("env/A", "1"), 0);
    EXPECT_EQ(me().Unlink("/box/README.md"), EPERM);
    EXPECT_EQ(me().Unlink("/box/config/env/A"), EPERM);
    Advance(std::chrono::seconds(3));
    EXPECT_EQ(me().Unlink("/box/config/env/A"), 0);
    EXPECT_EQ(me().Unlink("/box/config/env/A"), ENOENT);
}

}  // namespace
}  // namespace sbxfs::testing
