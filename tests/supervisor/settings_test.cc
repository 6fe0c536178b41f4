// What config/ says reaches the persistent shell with the next Start, once for each change: what scripts set
// themselves stays until somebody changes the setting (contract 4).
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/supervisor/client.h"

namespace sbxfs::supervisor {
namespace {

class Settings : public ::testing::TestWithParam<const char*> {
 protected:
    void SetUp() override {
        if (access(GetParam(), X_OK) != 0) GTEST_SKIP() << GetParam() << " is not here";
        options_.shell = GetParam();
        client_ = std::make_unique<Client>(spool_.Path());
        ASSERT_TRUE(client_->Greet(1));
    }
    // Exited 0 in the same shell; what it printed.
    std::string Out(const std::string& script) {
        const Heard& heard = client_->Run(script, options_);
        EXPECT_EQ(heard.end.fields.outcome, Outcome::kExited) << heard.end.reason;
        EXPECT_EQ(heard.end.fields.code, 0U) << script << ": " << heard.out[1];
        EXPECT_EQ(heard.end.fields.shell_restarted, 0) << heard.end.reason;
        EXPECT_EQ(heard.out[1], "") << script;
        return heard.out[0];
    }
    const SpoolDir spool_;
    StartOptions options_;
    std::unique_ptr<Client> client_;
};

TEST_P(Settings, ChangedVariablesAreSetGivenBackAndUnset) {
    options_.env = {{"A", "1"}, {"PATH", "/nowhere:/usr/bin:/bin"}};
    EXPECT_EQ(Out("echo $A; f() { echo f $A; }"), "1\n");
    const bool zsh = std::string(GetParam()) == "/bin/zsh";  // splits no words
    options_.env["A"] = "it's \"$B\" `x`\n two";
    EXPECT_EQ(Out("f"), (zsh ? "f it's \"$B\" `x`\n two\n" : "f it's \"$B\" `x` two\n"))
        << "of the same shell";
    EXPECT_EQ(Out("printf '%s.' \"$A\"; sh -c 'printf \"%s\" \"$A\"'"),
              "it's \"$B\" `x`\n two.it's \"$B\" `x`\n two");
    EXPECT_EQ(Out("A=mine"), "");
    EXPECT_EQ(Out("echo $A"), "mine\n") << "nobody has changed the setting";
    options_.env["A"] = "2";
    EXPECT_EQ(Out("echo $A"), "2\n");
    options_.env.clear();
    EXPECT_EQ(Out("echo ${A-unset}; case $PATH in /nowhere*) echo bad;; esac; ls / >/dev/null"),
              "unset\n")
        << "PATH is what it was below the setting";
}

TEST_P(Settings, AChangedDirectoryIsEnteredOnceAndAMissingOneIsSaid) {
    const std::string a = spool_.Root() + "/it's a";
    std::filesystem::create_directory(a);
    EXPECT_EQ(Out("pwd; X=kept"), "/\n");
    options_.cwd = a;
    EXPECT_EQ(Out("pwd; cd /usr"), a + "\n");
    EXPECT_EQ(Out("pwd; echo $X"), "/usr\nkept\n");
    options_.cwd = spool_.Root() + "/none";
    const End refused = client_->Run("echo ran", options_).end;
    EXPECT_EQ(refused.fields.outcome, Outcome::kNotStarted);
    EXPECT_EQ(refused.fields.code, static_cast<std::uint32_t>(ENOENT));
    EXPECT_NE(refused.reason.find("config/cwd names"), std::string::npos) << refused.reason;
    std::filesystem::create_directory(options_.cwd);
    EXPECT_EQ(Out("pwd; echo $X"), options_.cwd + "\nkept\n");
}

TEST_P(Settings, ADirectoryThatWasChangedToAMissingOneAndBackIsEnteredAgain) {
    options_.cwd = "/usr";
    EXPECT_EQ(Out("pwd; cd /tmp"), "/usr\n");
    for (int tries = 0; tries < 2; ++tries) {
        options_.cwd = spool_.Root() + "/none";
        EXPECT_EQ(client_->Run("pwd", options_).end.fields.outcome, Outcome::kNotStarted);
    }
    options_.cwd = "/usr";
    EXPECT_EQ(Out("pwd; cd /tmp"), "/usr\n");
    EXPECT_EQ(Out("pwd"), "/tmp\n") << "once";
}

TEST_P(Settings, LeaveStatusOptionsAndTrapsAlone) {
    client_->Run("(exit 7)", options_);
    options_.env["A"] = "1";
    EXPECT_EQ(Out("echo $?"), "7\n");
    EXPECT_EQ(Out("set -e; readonly A"), "");
    options_.env["A"] = "2";
    options_.env["B"] = "3";
    EXPECT_EQ(Out("echo $A $B; set +e"), "1 3\n") << "what is readonly stays, the rest is told";
    // POSIX lets no function be named as a special builtin.
    const bool any_name = std::string(GetParam()) == "/bin/bash";
    EXPECT_EQ(Out(std::string(any_name ? "export() { echo no; }; " : "") +
                  "cd() { echo no; }; alias unset='echo no'"),
              "");
    options_.env = {{"C", "4"}};
    options_.cwd = "/usr";
    EXPECT_EQ(Out("echo ${B-unset} $C; pwd"), "unset 4\n/usr\n");
}

TEST_P(Settings, AreNotTracedIntoTheOutput) {
    EXPECT_EQ(Out("true"), "");
    client_->Run("set -x", options_);
    options_.env["SECRET"] = "hush";
    const Heard& heard = client_->Run("echo ${#SECRET}", options_);
    EXPECT_EQ(heard.out[0], "4\n");
    EXPECT_EQ(heard.out[1].find("hush"), std::string::npos) << heard.out[1];
}

TEST_P(Settings, AnotherShellIsANewOneInTheSameDirectoryAndSaysWhy) {
    EXPECT_EQ(Out("cd /usr; X=1"), "");
    options_.shell = std::string(GetParam()) == "/bin/dash" ? "/bin/bash" : "/bin/dash";
    const Heard& heard = client_->Run("pwd; echo ${X-gone}; readlink /proc/$$/exe", options_);
    EXPECT_EQ(heard.out[0].find("/usr\ngone\n"), 0U) << heard.out[0];
    EXPECT_NE(heard.out[0].find(options_.shell.substr(5)), std::string::npos) << heard.out[0];
    EXPECT_EQ(heard.end.fields.shell_restarted, kShellFresh);
    EXPECT_NE(heard.end.reason.find("config/shell was changed"), std::string::npos)
        << heard.end.reason;
    EXPECT_EQ(Out("pwd"), "/usr\n");
}

TEST_P(Settings, HoldAlsoForTheShellAfterOneThatEnded) {
    EXPECT_EQ(Out("cd /"), "");
    client_->Run("cd /usr; exit 3", options_);
    options_.cwd = "/tmp";
    options_.env["A"] = "1";
    const Heard& heard = client_->Run("pwd; echo $A", options_);
    EXPECT_EQ(heard.out[0], "/tmp\n1\n");
    EXPECT_EQ(heard.end.fields.shell_restarted, kShellFresh);
}

TEST_P(Settings, AnotherUserNeedsANewShellThere) {
    if (geteuid() != 0) GTEST_SKIP() << "only root can become another user";
    EXPECT_EQ(Out("id -u"), "0\n");
    options_.user = "nobody";
    options_.cwd = "/usr";
    const Heard& heard = client_->Run("id -un; pwd", options_);
    EXPECT_EQ(heard.out[0], "nobody\n/usr\n");
    EXPECT_NE(heard.end.reason.find("config/user was changed"), std::string::npos);
    options_.env["A"] = "1";
    EXPECT_EQ(Out("echo $A"), "1\n");
    options_.cwd = "/root";  // not for that user
    EXPECT_EQ(client_->Run("pwd", options_).end.fields.outcome, Outcome::kNotStarted);
    options_.user.clear();
    EXPECT_EQ(client_->Run("id -u; pwd", options_).out[0], "0\n/root\n");
}

INSTANTIATE_TEST_SUITE_P(Shells, Settings,
                         ::testing::Values("/bin/bash", "/bin/dash", "/bin/busybox", "/bin/zsh",
                                           "/bin/mksh", "/bin/ksh93", "/usr/bin/yash"),
                         [](const auto& param) {
                             const std::string path = param.param;
                             return path.substr(path.rfind('/') + 1);
                         });

}  // namespace
}  // namespace sbxfs::supervisor
