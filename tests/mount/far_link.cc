// Loaded into a daemon under test (LD_PRELOAD) by tests/live/far.py: a connection to a local sandbox's ssh.sock goes by a
// relay from its first byte on, which lets every byte take its time. The connection itself is made as before, so that
// its errors are the true ones; then its descriptor is sent to the relay, and the daemon has another in its place.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace {

// Of the relay's socket, an abstract one.
std::string& RelayName() {
    static std::string name;
    return name;
}

// What the daemon starts is not its business.
__attribute__((constructor)) void TakeName() {
    const char* name = std::getenv("SBXFS_FAR_RELAY");
    if (name != nullptr) RelayName() = name;
    (void)::unsetenv("SBXFS_FAR_RELAY");
    (void)::unsetenv("LD_PRELOAD");
}

bool LeadsToASandbox(const sockaddr* address, socklen_t size) {
    if (address->sa_family != AF_UNIX || RelayName().empty()) return false;
    const auto* at = reinterpret_cast<const sockaddr_un*>(address);
    const std::size_t most = size - offsetof(sockaddr_un, sun_path);
    const std::string_view path(at->sun_path, ::strnlen(at->sun_path, most));
    return path.ends_with("/ssh.sock");
}

bool SendBoth(int near, int real) {
    const int socket = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (socket < 0) return false;
    sockaddr_un relay{};
    relay.sun_family = AF_UNIX;
    RelayName().copy(&relay.sun_path[1], sizeof relay.sun_path - 1);
    char byte = 0;
    iovec text{&byte, 1};
    const std::array<int, 2> both{near, real};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof both)> control{};
    msghdr message{};
    message.msg_name = &relay;
    message.msg_namelen =
        static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + RelayName().size());
    message.msg_iov = &text;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof both);
    std::memcpy(CMSG_DATA(header), both.data(), sizeof both);
    const bool sent = ::sendmsg(socket, &message, MSG_NOSIGNAL) == 1;
    (void)::close(socket);
    return sent;
}

}  // namespace

extern "C" int connect(int socket, const sockaddr* address, socklen_t size) {
    using Connect = int (*)(int, const sockaddr*, socklen_t);
    static const auto real = reinterpret_cast<Connect>(::dlsym(RTLD_NEXT, "connect"));
    const int result = real(socket, address, size);
    if (result != 0 || !LeadsToASandbox(address, size)) return result;
    const int flags = ::fcntl(socket, F_GETFL);
    const int on_exec = ::fcntl(socket, F_GETFD);
    std::array<int, 2> pair{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0) std::abort();
    if (!SendBoth(pair[1], socket) || ::dup2(pair[0], socket) < 0) std::abort();
    (void)::fcntl(socket, F_SETFL, flags);
    (void)::fcntl(socket, F_SETFD, on_exec);
    (void)::close(pair[0]);
    (void)::close(pair[1]);
    return 0;
}
