// `init` as PID 1 of a namespace of its own, with /bin/cat in the place of sshd.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "tests/supervisor/client.h"

namespace sbxfs::supervisor {
namespace {

class InitTest : public testing::Test {
 protected:
    struct Options {
        std::string lifetime_ms = "60000";
        std::vector<std::string> program = {"/bin/cat"};
        bool go = true;
    };

    // False when there are no namespaces here.
    bool Launch(const Options& options) {
        address_.sun_family = AF_UNIX;
        const std::string path = dir_.Root() + "/socket";
        path.copy(&address_.sun_path[0], sizeof address_.sun_path - 1);
        listener_ = UniqueFd(socket(AF_UNIX, SOCK_STREAM, 0));
        EXPECT_EQ(
            bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address_), sizeof address_),
            0);
        EXPECT_EQ(listen(listener_.get(), 128), 0);
        std::array<int, 2> go{};
        std::array<int, 2> note{};
        EXPECT_EQ(pipe2(go.data(), 0), 0);
        EXPECT_EQ(pipe2(note.data(), 0), 0);
        fcntl(go[1], F_SETFD, FD_CLOEXEC);
        fcntl(note[0], F_SETFD, FD_CLOEXEC);
        std::vector<std::string> words = {"unshare"};
        // As root a user namespace is not needed, and would not let a test be killed by its pid alone.
        if (geteuid() != 0) words.insert(words.end(), {"--user", "--map-root-user"});
        words.insert(
            words.end(),
            {"--pid", "--fork", "--kill-child", "--mount-proc", NativeProgram(), "init",
             "--listen-fd", std::to_string(listener_.get()), "--go-fd", std::to_string(go[0]),
             "--note-fd", std::to_string(note[1]), "--lifetime-ms", options.lifetime_ms, "--"});
        words.insert(words.end(), options.program.begin(), options.program.end());
        launcher_ = fork();
        if (launcher_ == 0) {
            std::vector<char*> argv;
            for (std::string& word : words)
                argv.push_back(word.data());
            argv.push_back(nullptr);
            execvp(argv[0], argv.data());
            _exit(126);
        }
        close(go[0]);
        close(note[1]);
        listener_.reset();  // only init has it now
        note_ = UniqueFd(note[0]);
        UniqueFd say_go(go[1]);
        if (!options.go) return true;
        EXPECT_EQ(write(say_go.get(), "g", 1), 1);
        // The first connection tells whether namespaces work at all.
        const UniqueFd probe = Connect();
        return Talk(probe, "probe\n") == "probe\n";
    }

    UniqueFd Connect() {
        UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address_), sizeof address_) != 0) {
            fd.reset();
        }
        return fd;
    }

    // What comes back after `text` until as much came or the deadline or the end.
    static std::string Talk(const UniqueFd& fd, const std::string& text, int limit_ms = 5000) {
        if (!fd) return "";
        if (!text.empty() && send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL) < 0) return "";
        std::string heard;
        const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(limit_ms);
        while (text.empty() || heard.size() < text.size()) {
            const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
                end - std::chrono::steady_clock::now());
            pollfd poll_fd{fd.get(), POLLIN, 0};
            if (left.count() <= 0 || poll(&poll_fd, 1, static_cast<int>(left.count())) <= 0) break;
            std::array<char, 4096> page{};
            const ssize_t got = read(fd.get(), page.data(), page.size());
            if (got <= 0) break;
            heard.append(page.data(), static_cast<std::size_t>(got));
        }
        return heard;
    }

    // Everything init noted, at its end.
    std::string Note() { return Talk(note_, "", 10000); }

    int AwaitExit() {
        int status = 0;
        if (!AwaitTrue([&] { return waitpid(launcher_, &status, WNOHANG) == launcher_; }))
            return -1;
        launcher_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }

    void TearDown() override {
        if (launcher_ <= 0) return;
        kill(launcher_, SIGKILL);
        waitpid(launcher_, nullptr, 0);
    }

    // init's pid as we see it.
    pid_t InitPid() const {
        const std::string children = ReadText("/proc/" + std::to_string(launcher_) + "/task/" +
                                              std::to_string(launcher_) + "/children");
        return children.empty() ? -1 : std::stoi(children);
    }

    SpoolDir dir_;
    sockaddr_un address_{};
    UniqueFd listener_;
    UniqueFd note_;
    pid_t launcher_ = -1;
};

TEST_F(InitTest, WithoutGoNothingIsLeft) {
    Options options;
    options.go = false;
    ASSERT_TRUE(Launch(options));
    EXPECT_EQ(AwaitExit(), 1);
    EXPECT_FALSE(Connect());
}

TEST_F(InitTest, StartsOneServerAConnectionAndReaps) {
    Options options;
    // Prints what is open in it, leaves an orphan behind, then echoes.
    options.program = {"/bin/sh", "-c", "(sleep 0.1 &); exec cat"};
    if (!Launch(options)) GTEST_SKIP() << "no namespaces here";
    std::vector<UniqueFd> connections;
    for (int i = 0; i < 10; ++i) {
        connections.push_back(Connect());
        EXPECT_EQ(Talk(connections.back(), "hello " + std::to_string(i)),
                  "hello " + std::to_string(i));
    }
    connections.clear();
    const pid_t init = InitPid();
    ASSERT_GT(init, 0);
    EXPECT_TRUE(AwaitTrue([&] {
        const std::string pid = std::to_string(init);
        return ReadText("/proc/" + pid + "/task/" + pid + "/children").empty();
    })) << "zombies or servers stay";
}

TEST_F(InitTest, AServerHasItsConnectionAndNothingElse) {
    Options options;
    options.program = {"/bin/sh", "-c",
                       "read x; ls /proc/self/fd | tr '\\n' ' '; readlink /proc/self/fd/2"};
    // The probe says "probe", and gets a list back, which starts as short.
    Launch(options);
    const UniqueFd connection = Connect();
    if (!connection) GTEST_SKIP() << "no namespaces here";
    ASSERT_EQ(send(connection.get(), "x\n", 2, MSG_NOSIGNAL), 2);
    EXPECT_EQ(Talk(connection, ""), "0 1 2 3 /dev/null\n");  // 3 is ls's own
}

TEST_F(InitTest, AFloodOfConnectionsIsNoForkBomb) {
    if (!Launch({})) GTEST_SKIP() << "no namespaces here";
    std::vector<UniqueFd> connections;
    for (int i = 0; i < 100; ++i) {
        connections.push_back(Connect());
        ASSERT_TRUE(connections.back());
        ASSERT_EQ(send(connections.back().get(), "x", 1, MSG_NOSIGNAL), 1);
    }
    const pid_t init = InitPid();
    const auto servers = [&] {
        const std::string pid = std::to_string(init);
        const std::string children = ReadText("/proc/" + pid + "/task/" + pid + "/children");
        return std::count(children.begin(), children.end(), ' ');
    };
    EXPECT_TRUE(AwaitTrue([&] { return servers() == 64; }));
    for (int i = 0; i < 50; ++i)
        connections[static_cast<std::size_t>(i)].reset();
    // Whoever waited is served now.
    EXPECT_EQ(Talk(connections.back(), "y").substr(0, 1), "x");
    EXPECT_LE(servers(), 64);
}

TEST_F(InitTest, EndsWithItsLifetimeAndSaysSo) {
    Options options;
    options.lifetime_ms = "700";
    if (!Launch(options)) GTEST_SKIP() << "no namespaces here";
    const UniqueFd connection = Connect();
    EXPECT_EQ(Talk(connection, "hi"), "hi");
    EXPECT_EQ(Note(), "expired lifetime\n");
    EXPECT_EQ(Talk(connection, ""), "") << "and takes everybody along";
    EXPECT_EQ(AwaitExit(), 0);
}

TEST_F(InitTest, StubbornProcessesGetTwoSecondsThenNothing) {
    Options options;
    options.lifetime_ms = "300";
    options.program = {"/bin/sh", "-c", "trap '' TERM; cat; while :; do sleep 1; done"};
    if (!Launch(options)) GTEST_SKIP() << "no namespaces here";
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(Note(), "expired lifetime\n");
    EXPECT_EQ(AwaitExit(), 0);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST_F(InitTest, SignalsEndItAndAreTold) {
    const std::array<std::pair<int, const char*>, 3> cases = {
        {{SIGTERM, "stopped\n"}, {SIGUSR1, "expired idle\n"}, {SIGUSR2, "expired lifetime\n"}}};
    for (const auto& [signal, note] : cases) {
        SpoolDir own;
        unlink((dir_.Root() + "/socket").c_str());
        Options options;
        // From inside, as the supervisor does it: PID 1 of the namespace.
        options.program = {
            "/bin/sh", "-c",
            "read x; echo $x; [ $x = probe ] || kill -" + std::to_string(signal) + " 1"};
        if (!Launch(options)) GTEST_SKIP() << "no namespaces here";
        EXPECT_EQ(Talk(Connect(), "now\n"), "now\n");
        EXPECT_EQ(Note(), note);
        EXPECT_EQ(AwaitExit(), 0);
    }
}

TEST(Init, RefusesToRunWhereItIsNotPidOne) {
    const std::string command =
        NativeProgram() + " init --listen-fd 0 --lifetime-ms 1 -- /bin/true 2>/dev/null";
    const int status = system(command.c_str());
    EXPECT_EQ(WEXITSTATUS(status), 2) << "kill(-1) would end the whole machine";
}

}  // namespace
}  // namespace sbxfs::supervisor
