// Connecting without blocking the loop.
#include "sandbox/dialer.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <future>
#include <thread>

#include "tests/support/temp_dir.h"

namespace sbxfs {
namespace {

using testing::TempDir;

class Dials : public ::testing::Test {
 protected:
    // The errno, 0 for a connection.
    int Try(const Address& address, Duration limit = std::chrono::seconds(10)) {
        std::promise<int> result;
        bool within = true;  // the loop's own while it runs
        loop_->Post([&] {
            dialing_ = Dial(*loop_, address, limit, [&](Result<Connected> connected) {
                EXPECT_FALSE(within);
                what_ = connected ? "" : connected.error().what();
                const int code = connected ? 0 : static_cast<int>(connected.error().code());
                if (connected) connected_ = *std::move(connected);
                result.set_value(code);
            });
            within = false;
        });
        const int code = result.get_future().get();
        Drop();
        return code;
    }
    void Drop() {
        std::promise<void> dropped;
        loop_->Post([&] {
            dialing_.reset();
            if (drop_connection_) connected_ = {};
            dropped.set_value();
        });
        dropped.get_future().wait();
    }
    UniqueFd Listen(const std::string& directory, const std::string& name) {
        UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const std::string here = std::filesystem::current_path();
        std::filesystem::current_path(directory);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path, name.c_str(), name.size() + 1);
        EXPECT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        std::filesystem::current_path(here);
        EXPECT_EQ(::listen(socket.get(), 5), 0);
        return socket;
    }

    std::unique_ptr<IoLoop> loop_ = std::move(*IoLoop::Start("test", RealClock()));
    std::unique_ptr<Dialing> dialing_;
    Connected connected_;
    bool drop_connection_ = true;
    std::string what_;
};

TEST_F(Dials, AUnixSocketAlsoOnALongPath) {
    const TempDir dir;
    std::string deep = dir.path();
    for (int i = 0; i < 10; ++i)
        deep += "/a-directory-with-a-long-name";
    std::filesystem::create_directories(deep);
    const UniqueFd listening = Listen(deep, "socket");
    EXPECT_EQ(Try(UnixAddress{deep + "/socket"}), 0) << what_;
}

TEST_F(Dials, NobodyThereIsEhostunreachWithTheReason) {
    const TempDir dir;
    EXPECT_EQ(Try(UnixAddress{dir / "none"}), EHOSTUNREACH);
    EXPECT_NE(what_.find(dir / "none"), std::string::npos);
    EXPECT_EQ(Try(UnixAddress{dir / "no/such/directory"}), EHOSTUNREACH);
    { const UniqueFd closed = Listen(dir.path(), "dead"); }
    EXPECT_EQ(Try(UnixAddress{dir / "dead"}), EHOSTUNREACH);
    EXPECT_EQ(Try(UnixAddress{dir.path() + "/" + std::string(300, 'n')}), EHOSTUNREACH);
    EXPECT_EQ(Try(UnixAddress{"relative"}), EINVAL);
}

TEST_F(Dials, TcpByAddressAndByName) {
    const UniqueFd listening(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(::bind(listening.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    socklen_t size = sizeof address;
    ASSERT_EQ(::getsockname(listening.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    const std::uint16_t port = ntohs(address.sin_port);
    EXPECT_EQ(Try(TcpAddress{"127.0.0.1", port}), EHOSTUNREACH);  // bound, not listening
    EXPECT_NE(what_.find("127.0.0.1:"), std::string::npos);
    ASSERT_EQ(::listen(listening.get(), 5), 0);
    EXPECT_EQ(Try(TcpAddress{"127.0.0.1", port}), 0) << what_;
    // Where a name has several addresses, the next one is tried: nobody listens on ::1.
    EXPECT_EQ(Try(TcpAddress{"localhost", port}), 0) << what_;
    EXPECT_EQ(Try(TcpAddress{"no-such-name.invalid", port}), EHOSTUNREACH);
    EXPECT_NE(what_.find("looking up 'no-such-name.invalid'"), std::string::npos) << what_;
}

TEST_F(Dials, AProgramIsTheConnectionAndEndsWithIt) {
    drop_connection_ = false;
    ASSERT_EQ(Try(ProgramAddress{{"sh", "-c", "echo $$; echo oops >&2; sleep 1000"}, "a program"}),
              0)
        << what_;
    std::string said;
    char byte = 0;
    while (said.find('\n') == std::string::npos) {
        if (::read(connected_.socket.get(), &byte, 1) == 1) said += byte;
    }
    std::string words;
    while (words.empty()) {  // stderr is another pipe
        std::promise<std::string> heard;
        loop_->Post([&] { heard.set_value(connected_.carrier->Words()); });
        words = heard.get_future().get();
    }
    EXPECT_EQ(words, "oops");
    drop_connection_ = true;
    Drop();
    // Killed and waited for, with the child it had.
    const std::string process = "/proc/" + said.substr(0, said.size() - 1);
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (std::filesystem::exists(process) && std::chrono::steady_clock::now() < deadline)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_FALSE(std::filesystem::exists(process));
}

TEST_F(Dials, AProgramThatIsNotThereSaysSo) {
    EXPECT_EQ(Try(ProgramAddress{{"no-such-program-here"}, "it"}), ENOENT);
    EXPECT_NE(what_.find("no-such-program-here"), std::string::npos);
}

TEST_F(Dials, OneThatIsGivenUpNeverAnswers) {
    const TempDir dir;
    std::atomic<bool> answered{false};
    std::promise<void> started;
    loop_->Post([&] {
        dialing_ = Dial(*loop_, UnixAddress{dir / "none"}, std::chrono::seconds(10),
                        [&](const Result<Connected>&) { answered = true; });
        dialing_.reset();
        started.set_value();
    });
    started.get_future().wait();
    Drop();
    EXPECT_FALSE(answered);
}

}  // namespace
}  // namespace sbxfs
