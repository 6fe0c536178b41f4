// What a service manager hears: one datagram to the socket it named.
#include "fs/service_manager.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstddef>
#include <cstring>

#include "base/unique_fd.h"
#include "tests/support/temp_dir.h"

namespace sbxfs {
namespace {

class Listener {
 public:
    explicit Listener(const std::string& address)
        : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
        sockaddr_un name{};
        name.sun_family = AF_UNIX;
        std::memcpy(name.sun_path, address.data(), address.size());
        if (name.sun_path[0] == '@') name.sun_path[0] = '\0';
        const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.size());
        EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&name), size), 0);
    }
    std::string Heard() {
        std::array<char, 512> text{};
        const ssize_t got = ::recv(socket_.get(), text.data(), text.size(), 0);
        return got < 0 ? "" : std::string(text.data(), static_cast<std::size_t>(got));
    }

 private:
    UniqueFd socket_;
};

TEST(ServiceManager, HearsWhatItIsTold) {
    const testing::TempDir dir;
    const std::string path = dir / "notify";
    for (const std::string& address : {path, "@" + path}) {
        Listener listener(address);
        const ServiceManager manager(address);
        manager.Tell("READY=1\nSTATUS=mounted");
        EXPECT_EQ(listener.Heard(), "READY=1\nSTATUS=mounted");
        manager.TellReloading();
        EXPECT_TRUE(listener.Heard().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    }
}

TEST(ServiceManager, WithoutOneNothingHappens) {
    for (const char* address : {"", "@", "vsock:2:1", "relative", "/nobody/listens"})
        ServiceManager(address).Tell("READY=1");
    ServiceManager(std::string(500, '/')).Tell("READY=1");
}

TEST(ServiceManager, ProgramsWeStartDoNotSpeakInOurName) {
    ASSERT_EQ(::setenv("NOTIFY_SOCKET", "/nobody/listens", 1), 0);
    (void)ServiceManager::FromEnvironment();
    EXPECT_EQ(::getenv("NOTIFY_SOCKET"), nullptr);
}

}  // namespace
}  // namespace sbxfs
