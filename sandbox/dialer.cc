#include "sandbox/dialer.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <optional>
#include <utility>

#include "base/strings.h"
#include "sandbox/carrier_process.h"
#include "sandbox/resolver.h"

namespace sbxfs {
namespace {

Error Unreachable(const std::string& where, int code) {
    return {Errno{EHOSTUNREACH},
            "connecting to " + where + ": " + std::string(ErrnoText(Errno{code})), Blame::kRemote};
}

// Starts connecting; the socket becomes writable when it has succeeded or failed.
Result<UniqueFd> StartTcp(const SocketAddress& address, const std::string& where) {
    const auto* socket_address = reinterpret_cast<const sockaddr*>(&address.bytes);
    UniqueFd socket(
        ::socket(socket_address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) return Unreachable(where, errno);
    if (::connect(socket.get(), socket_address, address.size) != 0 && errno != EINPROGRESS) {
        return Unreachable(where, errno);
    }
    return socket;
}

// Looks the name up where it is one, then tries the addresses one after the other.
class TcpDialing final : public Dialing {
 public:
    TcpDialing(IoLoop& loop, const TcpAddress& address, Duration limit, DialDone done)
        : loop_(loop), where_(AddressText(address)), done_(std::move(done)) {
        timer_ = loop.After(limit, [this] {
            Finish(
                Error(Errno{ETIMEDOUT}, "connecting to " + where_ + ": no answer", Blame::kRemote));
        });
        addresses_ = NumericAddress(address.host, address.port);
        if (!addresses_.empty()) {
            // Not from within Dial.
            soon_ = loop.After(Duration::zero(), [this] { TryNext(); });
            return;
        }
        auto lookup = NameLookup::Start(loop, address.host, address.port,
                                        [this](Result<SocketAddresses> found) {
                                            if (!found) return Finish(std::move(found).error());
                                            addresses_ = *std::move(found);
                                            TryNext();
                                        });
        if (lookup) {
            lookup_ = *std::move(lookup);
        } else {
            soon_ = loop.After(Duration::zero(), [this, why = lookup.error()] { Finish(why); });
        }
    }

 private:
    void TryNext() {
        while (next_ < addresses_.size()) {
            Result<UniqueFd> socket = StartTcp(addresses_[next_++], where_);
            if (!socket) {
                last_ = std::move(socket).error();
                continue;
            }
            socket_ = *std::move(socket);
            watch_ = loop_.Add(socket_.get(), EPOLLOUT, [this](std::uint32_t) { Answered(); });
            return;
        }
        Finish(last_.value_or(Unreachable(where_, EADDRNOTAVAIL)));
    }
    void Answered() {
        int code = 0;
        socklen_t size = sizeof code;
        (void)::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &code, &size);
        watch_.reset();
        if (code != 0) {
            last_ = Unreachable(where_, code);
            socket_.reset();
            return TryNext();
        }
        Finish(Connected{std::move(socket_), nullptr});
    }
    void Finish(Result<Connected> result) {
        watch_.reset();
        timer_.reset();
        const DialDone done = std::move(done_);
        done(std::move(result));  // may destroy this
    }

    IoLoop& loop_;
    const std::string where_;
    DialDone done_;
    SocketAddresses addresses_;
    std::size_t next_ = 0;
    std::optional<Error> last_;
    UniqueFd socket_;
    std::unique_ptr<NameLookup> lookup_;
    IoLoop::WatchPtr watch_;
    TimerPtr timer_;
    TimerPtr soon_;
};

// The answer is known already; it is given from the loop all the same.
class DecidedDialing final : public Dialing {
 public:
    DecidedDialing(IoLoop& loop, Result<Connected> result, DialDone done)
        : result_(std::move(result)), done_(std::move(done)) {
        timer_ = loop.After(Duration::zero(), [this] {
            Result<Connected> mine = std::move(result_);
            const DialDone call = std::move(done_);
            call(std::move(mine));  // may destroy this
        });
    }

 private:
    Result<Connected> result_;
    DialDone done_;
    TimerPtr timer_;
};

Result<Connected> ConnectedTo(Result<UniqueFd> socket) {
    if (!socket) return std::move(socket).error();
    return Connected{*std::move(socket), nullptr};
}

}  // namespace

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

std::unique_ptr<Dialing> Dial(IoLoop& loop, const Address& address, Duration limit, DialDone done) {
    if (const auto* unix_address = std::get_if<UnixAddress>(&address)) {
        return std::make_unique<DecidedDialing>(loop, ConnectedTo(ConnectUnix(unix_address->path)),
                                                std::move(done));
    }
    if (const auto* program = std::get_if<ProgramAddress>(&address)) {
        return std::make_unique<DecidedDialing>(loop, CarrierProcess::Start(loop, program->argv),
                                                std::move(done));
    }
    return std::make_unique<TcpDialing>(loop, *std::get_if<TcpAddress>(&address), limit,
                                        std::move(done));
}

}  // namespace sbxfs
