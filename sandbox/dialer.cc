#include "sandbox/dialer.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <utility>

#include "base/strings.h"

namespace sbxfs {
namespace {

Error Unreachable(const std::string& where, int code) {
    return {Errno{EHOSTUNREACH},
            "connecting to " + where + ": " + std::string(ErrnoText(Errno{code})), Blame::kRemote};
}

// sun_path has 108 bytes; a longer path is reached through a descriptor of its directory.
Result<UniqueFd> ConnectUnix(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos)
        return Error(Errno{EINVAL}, "a socket path must be absolute: " + path);
    const UniqueFd directory(
        ::open(path.substr(0, slash + 1).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!directory) return Unreachable(path, errno);
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) return SystemError(errno, "socket");
    const std::string name =
        "/proc/self/fd/" + std::to_string(directory.get()) + "/" + path.substr(slash + 1);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (name.size() >= sizeof address.sun_path) return Unreachable(path, ENAMETOOLONG);
    std::memcpy(address.sun_path, name.c_str(), name.size() + 1);
    // Never EINPROGRESS: a Unix socket connects at once, or says EAGAIN when the backlog is full.
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        return Unreachable(path, errno);
    }
    return socket;
}

// Starts connecting; the socket becomes writable when it has succeeded or failed.
Result<UniqueFd> StartTcp(const TcpAddress& address, const std::string& where) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;  // no look-up: this is an I/O thread
    addrinfo* found = nullptr;
    const std::string port = std::to_string(address.port);
    if (::getaddrinfo(address.host.c_str(), port.c_str(), &hints, &found) != 0) {
        return Error(Errno{EINVAL}, "'" + Printable(address.host) + "' is not a numeric address");
    }
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> guard(found, ::freeaddrinfo);
    UniqueFd socket(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) return SystemError(errno, "socket");
    if (::connect(socket.get(), found->ai_addr, found->ai_addrlen) != 0 && errno != EINPROGRESS) {
        return Unreachable(where, errno);
    }
    return socket;
}

class TcpDialing final : public Dialing {
 public:
    TcpDialing(IoLoop& loop, UniqueFd socket, std::string where, Duration limit, DialDone done)
        : where_(std::move(where)), socket_(std::move(socket)), done_(std::move(done)) {
        watch_ = loop.Add(socket_.get(), EPOLLOUT, [this](std::uint32_t) { Connected(); });
        timer_ = loop.After(limit, [this] {
            Finish(
                Error(Errno{ETIMEDOUT}, "connecting to " + where_ + ": no answer", Blame::kRemote));
        });
    }

 private:
    void Connected() {
        int code = 0;
        socklen_t size = sizeof code;
        (void)::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &code, &size);
        if (code != 0) return Finish(Unreachable(where_, code));
        watch_.reset();
        Finish(std::move(socket_));
    }
    void Finish(Result<UniqueFd> result) {
        watch_.reset();
        timer_.reset();
        const DialDone done = std::move(done_);
        done(std::move(result));  // may destroy this
    }

    const std::string where_;
    UniqueFd socket_;
    DialDone done_;
    IoLoop::WatchPtr watch_;
    TimerPtr timer_;
};

// The answer is known already; it is given from the loop all the same.
class DecidedDialing final : public Dialing {
 public:
    DecidedDialing(IoLoop& loop, Result<UniqueFd> result, DialDone done)
        : result_(std::move(result)), done_(std::move(done)) {
        timer_ = loop.After(Duration::zero(), [this] {
            Result<UniqueFd> mine = std::move(result_);
            const DialDone call = std::move(done_);
            call(std::move(mine));  // may destroy this
        });
    }

 private:
    Result<UniqueFd> result_;
    DialDone done_;
    TimerPtr timer_;
};

}  // namespace

std::unique_ptr<Dialing> Dial(IoLoop& loop, const Address& address, Duration limit, DialDone done) {
    if (const auto* unix_address = std::get_if<UnixAddress>(&address)) {
        return std::make_unique<DecidedDialing>(loop, ConnectUnix(unix_address->path),
                                                std::move(done));
    }
    const auto& tcp = *std::get_if<TcpAddress>(&address);
    const std::string where = tcp.host + ":" + std::to_string(tcp.port);
    Result<UniqueFd> socket = StartTcp(tcp, where);
    if (!socket) return std::make_unique<DecidedDialing>(loop, std::move(socket), std::move(done));
    return std::make_unique<TcpDialing>(loop, std::move(*socket), where, limit, std::move(done));
}

}  // namespace sbxfs
