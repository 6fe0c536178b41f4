// Connecting without blocking the loop.
#include "sandbox/dialer.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <future>

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
            dialing_ = Dial(*loop_, address, limit, [&](Result<UniqueFd> socket) {
                EXPECT_FALSE(within);
                what_ = socket ? "" : socket.error().what();
                result.set_value(socket ? 0 : static_cast<int>(socket.error().code()));
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

TEST_F(Dials, TcpByNumericAddressOnly) {
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
    // A name would be looked up, on the loop.
    EXPECT_EQ(Try(TcpAddress{"localhost", port}), EINVAL);
}

TEST_F(Dials, OneThatIsGivenUpNeverAnswers) {
    const TempDir dir;
    std::atomic<bool> answered{false};
    std::promise<void> started;
    loop_->Post([&] {
        dialing_ = Dial(*loop_, UnixAddress{dir / "none"}, std::chrono::seconds(10),
                        [&](const Result<UniqueFd>&) { answered = true; });
        dialing_.reset();
        started.set_value();
    });
    started.get_future().wait();
    Drop();
    EXPECT_FALSE(answered);
}

}  // namespace
}  // namespace sbxfs
