// The command that becomes the supervisor, by real shells: as login shell, as the sh it calls, and with the tools of
// the system or of busybox.
#include "sandbox/supervisor_bootstrap.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "base/files.h"
#include "base/unique_fd.h"
#include "tests/support/temp_dir.h"

namespace sbxfs {
namespace {

using testing::TempDir;
using Program = SupervisorSite::Program;

// Stands for the supervisor: says with which umask and words it was called, then what comes on stdin.
constexpr std::string_view kProgram = "#!/bin/sh\necho \"$(umask) $*\"\n/bin/cat\n";

struct Kind {
    std::string login;  // runs the command
    std::string sh;     // what `sh` is there; empty: the system's
    bool busybox_tools = false;
};
void PrintTo(const Kind& kind, std::ostream* out) {
    *out << kind.login << " with " << (kind.sh.empty() ? "the system's sh" : kind.sh);
}

// One run of the command.
class Running {
 public:
    Running(const Kind& kind, const std::string& home, const std::string& command) {
        std::array<int, 2> ends{};
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
        ours_ = UniqueFd(ends[0]);
        pid_ = ::fork();
        if (pid_ == 0) {
            (void)::dup2(ends[1], 0);
            (void)::dup2(ends[1], 1);
            const std::string path = home + "/tools:" + (kind.busybox_tools ? "" : "/usr/bin:/bin");
            (void)::setenv("PATH", path.c_str(), 1);
            (void)::setenv("HOME", home.c_str(), 1);
            if (::chdir(home.c_str()) != 0) ::_exit(99);
            (void)::umask(022);
            ::execl(kind.login.c_str(), kind.login.c_str(), "-c", command.c_str(), nullptr);
            ::_exit(98);
        }
        (void)::close(ends[1]);
    }
    ~Running() {
        if (pid_ > 0) (void)End();
    }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;

    void Say(std::string_view words) {
        ASSERT_EQ(::send(ours_.get(), words.data(), words.size(), MSG_NOSIGNAL),
                  static_cast<ssize_t>(words.size()));
    }
    std::optional<SupervisorSite> Site() {
        std::optional<SupervisorSite> site;
        while (!site && More())
            site = TakeSite(said_);
        return site;
    }
    // Until it has said so much; what it has said.
    std::string Hear(std::size_t bytes) {
        while (said_.size() < bytes && More()) {
        }
        return said_;
    }
    // Nothing more is said to it; its exit status.
    int End() {
        (void)::shutdown(ours_.get(), SHUT_WR);
        while (More()) {
        }
        int status = 0;
        (void)::waitpid(std::exchange(pid_, -1), &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }

 private:
    bool More() {
        std::array<char, 4096> buffer{};
        pollfd ready{ours_.get(), POLLIN, 0};
        if (::poll(&ready, 1, 10000) <= 0) return false;
        const ssize_t got = ::recv(ours_.get(), buffer.data(), buffer.size(), 0);
        if (got > 0) said_.append(buffer.data(), static_cast<std::size_t>(got));
        return got > 0;
    }

    UniqueFd ours_;
    pid_t pid_ = -1;
    std::string said_;
};

class Bootstrap : public ::testing::TestWithParam<Kind> {
 protected:
    void SetUp() override {
        std::filesystem::create_directory(home_ / "tools");
        const Kind& kind = GetParam();
        for (const std::string& needed : {kind.login, kind.sh}) {
            if (!needed.empty() && ::access(needed.c_str(), X_OK) != 0)
                GTEST_SKIP() << needed << " is not installed";
        }
        const auto name = [&](const std::string& tool, const std::string& target) {
            std::filesystem::create_symlink(target, home_ / ("tools/" + tool));
        };
        if (!kind.sh.empty()) name("sh", kind.sh);
        if (!kind.busybox_tools) return;
        for (const char* tool : {"uname", "mkdir", "head", "wc", "chmod", "mv", "rm"})
            name(tool, "/bin/busybox");
    }
    std::string Command(const std::vector<std::string>& proofs = {}) const {
        return BootstrapCommand(".sbxfs/a b/bin/prog", ".sbxfs/a b", proofs);
    }
    std::string Spool() const { return home_ / ".sbxfs/a b"; }
    std::string Path() const { return Spool() + "/bin/prog"; }
    std::string Said() const { return "0022 attach --spool " + Spool() + "\n"; }

    TempDir home_;
};

TEST_P(Bootstrap, BringsTheProgramAndBecomesIt) {
    // More than any pipe holds, and not a multiple of anybody's buffer.
    const std::string program = std::string(kProgram) + "exit 0\n" + std::string(200001, '#');
    Running running(GetParam(), home_.path(), Command());
    const auto site = running.Site();
    ASSERT_TRUE(site);
    EXPECT_EQ(site->program, Program::kNoSpool);
    EXPECT_FALSE(site->machine.empty());
    EXPECT_FALSE(std::filesystem::exists(home_ / ".sbxfs"));
    running.Say(BringWords(program.size(), "0abc"));
    running.Say(program);
    EXPECT_EQ(running.Hear(Said().size()), Said());
    running.Say("hello\n");
    EXPECT_EQ(running.Hear(Said().size() + 6), Said() + "hello\n");
    EXPECT_EQ(running.End(), 0);
    EXPECT_EQ(*ReadWholeFile(Path()), program);
    struct stat made {};
    for (const std::string& path : {Path(), Spool(), home_ / ".sbxfs"}) {
        ASSERT_EQ(::stat(path.c_str(), &made), 0);
        EXPECT_EQ(made.st_mode & 0777, 0700U) << path;
    }
}

TEST_P(Bootstrap, RunsWhatIsThereAndLosesNothingThatWasSaidAtOnce) {
    std::filesystem::create_directories(Spool() + "/bin");
    ASSERT_TRUE(ReplaceFile(Path(), kProgram, 0700).has_value());
    ASSERT_TRUE(ReplaceFile(home_ / "token", "the token\n", 0600).has_value());
    Running running(GetParam(), home_.path(), Command({"/no/such/file", "token", "tools"}));
    const auto site = running.Site();
    ASSERT_TRUE(site);
    EXPECT_EQ(site->program, Program::kPresent);
    EXPECT_EQ(site->proof, "the");
    running.Say(std::string(kRunWord) + "hello\n");
    EXPECT_EQ(running.Hear(Said().size() + 6), Said() + "hello\n");
    EXPECT_EQ(running.End(), 0);
}

TEST_P(Bootstrap, ALinkThatIsCutLeavesNoHalfOfAProgram) {
    std::filesystem::create_directories(Spool());
    Running running(GetParam(), home_.path(), Command());
    const auto site = running.Site();
    ASSERT_TRUE(site);
    EXPECT_EQ(site->program, Program::kMissing);
    running.Say(BringWords(100000, "0abc"));
    running.Say(kProgram);
    EXPECT_EQ(running.End(), kNotBrought);
    EXPECT_TRUE(std::filesystem::is_empty(Spool() + "/bin"));
}

TEST_P(Bootstrap, WithoutAWordItChangesNothing) {
    for (const std::string_view word : {std::string_view(), kLeaveWord}) {
        Running running(GetParam(), home_.path(), Command());
        ASSERT_TRUE(running.Site());
        running.Say(word);
        EXPECT_EQ(running.End(), 0);
        EXPECT_FALSE(std::filesystem::exists(home_ / ".sbxfs"));
    }
}

INSTANTIATE_TEST_SUITE_P(Shells, Bootstrap,
                         ::testing::Values(Kind{"/bin/sh", ""}, Kind{"/bin/bash", "/bin/bash"},
                                           Kind{"/bin/dash", "/bin/dash"},
                                           Kind{"/bin/zsh", "/bin/zsh"},
                                           Kind{"/bin/sh", "/bin/busybox", true},
                                           Kind{"/bin/csh", ""}, Kind{"/usr/bin/fish", ""}),
                         [](const auto& kind) {
                             std::string name = kind.param.login + "_" + kind.param.sh;
                             std::erase(name, '/');
                             return name;
                         });

TEST(SupervisorSite, IsTakenFromBehindNoiseAndOnlyWhenWhole) {
    std::string said = "motd\nsbxfs-attach 1 x86_64 ";
    EXPECT_FALSE(TakeSite(said));
    said += "nowhere \nmore";
    const auto site = TakeSite(said);
    ASSERT_TRUE(site);
    EXPECT_EQ(site->machine, "x86_64");
    EXPECT_EQ(site->program, Program::kNoSpool);
    EXPECT_EQ(site->proof, "");
    EXPECT_EQ(said, "more");
    std::string odd = "sbxfs-attach 1 \n";
    const auto nothing = TakeSite(odd);
    ASSERT_TRUE(nothing);
    EXPECT_EQ(nothing->machine, "");
    EXPECT_EQ(nothing->program, Program::kMissing);
}

}  // namespace
}  // namespace sbxfs
