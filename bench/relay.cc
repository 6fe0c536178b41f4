// A link with a delay, for benchmarks: listens on a loopback port, passes each connection on to another
// port, and lets every byte arrive DELAY later, in both directions. Counts the bytes of each direction.
// One thread, one epoll loop; it adds no bandwidth limit of its own (bench/README.md has its speed).
//
// Usage: sbxfs_relay TARGET_PORT. Prints its own port, then obeys lines on stdin, each with one line of answer:
//   delay MICROSECONDS   one way, for what arrives from now on    -> ok
//   counts               -> TO_SERVER FROM_SERVER OPEN_CONNECTIONS
// It ends with stdin.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/unique_fd.h"

namespace sbxfs {
namespace {

constexpr std::size_t kBuffer = 256U << 10;
// What may be under way in one direction: far above what bandwidth times delay asks for here, so that only a
// receiver that does not read is ever felt by the sender.
constexpr std::size_t kMostUnderWay = 128U << 20;

std::int64_t NowNs() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

// Bytes under way, and when they arrive.
struct Chunk {
    std::int64_t due_ns = 0;
    std::size_t from = 0;
    std::string bytes;
};

struct Direction {
    int source = -1;
    int target = -1;
    std::uint64_t* count = nullptr;
    std::deque<Chunk> chunks;
    std::size_t under_way = 0;
    bool ended = false;    // the source has no more
    bool told = false;     // and the target knows
    bool readable = true;  // as far as epoll has said (edge-triggered)
    bool writable = true;
    std::int64_t end_due_ns = 0;
};

struct Connection {
    UniqueFd client;
    UniqueFd server;
    std::array<Direction, 2> ways;  // to the server, from it
    bool broken = false;
};

class Relay {
 public:
    explicit Relay(std::uint16_t target) : target_(target) {
        epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
        listener_ = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        sockaddr_in any = Loopback(0);
        CHECK(bind(listener_.get(), reinterpret_cast<sockaddr*>(&any), sizeof any) == 0);
        CHECK(listen(listener_.get(), 64) == 0);
        socklen_t size = sizeof any;
        CHECK(getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&any), &size) == 0);
        Watch(listener_.get(), EPOLLIN, nullptr);
        Watch(STDIN_FILENO, EPOLLIN, this);
        Say(std::to_string(ntohs(any.sin_port)));
    }

    void Run() {
        std::array<epoll_event, 64> events{};
        bool more = false;
        while (!ended_) {
            const timespec wait = UntilNext(more);
            const int got =
                epoll_pwait2(epoll_.get(), events.data(), static_cast<int>(events.size()),
                             wait.tv_sec < 0 ? nullptr : &wait, nullptr);
            CHECK(got >= 0 || errno == EINTR);
            for (int i = 0; i < got; ++i)
                Take(events.at(static_cast<std::size_t>(i)));
            more = false;
            for (auto at = connections_.begin(); at != connections_.end();) {
                for (Direction& way : (*at)->ways)
                    more = Move(**at, way) || more;
                const bool over = (*at)->broken || ((*at)->ways[0].told && (*at)->ways[1].told);
                at = over ? connections_.erase(at) : std::next(at);
            }
        }
    }

 private:
    static sockaddr_in Loopback(std::uint16_t port) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons(port);
        return address;
    }

    static void Say(const std::string& line) {
        CHECK(std::printf("%s\n", line.c_str()) > 0 && std::fflush(stdout) == 0);
    }

    void Watch(int fd, std::uint32_t events, void* whose) {
        epoll_event event{};
        event.events = events;
        event.data.ptr = whose;
        CHECK(epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0);
    }

    void Take(const epoll_event& event) {
        if (event.data.ptr == nullptr) return Accept();
        if (event.data.ptr == this) return Obey();
        // Edge-triggered, and both ends of a connection say the same: everything is tried.
        for (Direction& way : static_cast<Connection*>(event.data.ptr)->ways) {
            if ((event.events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP)) != 0)
                way.readable = true;
            if ((event.events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) way.writable = true;
        }
    }

    void Accept() {
        UniqueFd client(accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
        if (!client) return;
        UniqueFd server(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in to = Loopback(target_);
        if (connect(server.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) return;
        CHECK(fcntl(server.get(), F_SETFL, O_NONBLOCK) == 0);
        const int on = 1;
        for (const int fd : {client.get(), server.get()})
            (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        auto connection = std::make_unique<Connection>();
        connection->ways[0].source = connection->ways[1].target = client.get();
        connection->ways[0].target = connection->ways[1].source = server.get();
        connection->ways[0].count = &to_server_;
        connection->ways[1].count = &from_server_;
        Watch(client.get(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, connection.get());
        Watch(server.get(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, connection.get());
        connection->client = std::move(client);
        connection->server = std::move(server);
        connections_.push_back(std::move(connection));
    }

    void Obey() {
        std::array<char, 4096> buffer{};
        const ssize_t got = read(STDIN_FILENO, buffer.data(), buffer.size());
        if (got <= 0) {
            ended_ = true;
            return;
        }
        orders_.append(buffer.data(), static_cast<std::size_t>(got));
        for (std::size_t end = orders_.find('\n'); end != std::string::npos;
             end = orders_.find('\n')) {
            const std::string order = orders_.substr(0, end);
            orders_.erase(0, end + 1);
            if (order.rfind("delay ", 0) == 0) {
                delay_ns_ = std::strtoll(order.c_str() + 6, nullptr, 10) * 1000;
                Say("ok");
            } else {
                Say(std::to_string(to_server_) + " " + std::to_string(from_server_) + " " +
                    std::to_string(connections_.size()));
            }
        }
    }

    // Reads what has come and writes what is due. True when there may be more at once: others come first.
    bool Move(Connection& connection, Direction& way) {
        for (int turn = 0; turn < 16; ++turn) {
            if (connection.broken) return false;
            const bool received = Receive(connection, way);
            if (!Deliver(connection, way) && !received) return false;
        }
        return true;
    }

    bool Receive(Connection& connection, Direction& way) {
        if (!way.readable || way.ended || way.under_way >= kMostUnderWay) return false;
        const ssize_t got = recv(way.source, buffer_.data(), buffer_.size(), 0);
        if (got < 0) {
            way.readable = false;
            connection.broken = errno != EAGAIN && errno != EINTR;
            return false;
        }
        const std::int64_t due = delay_ns_ == 0 ? 0 : NowNs() + delay_ns_;
        if (got == 0) {
            way.ended = true;
            way.end_due_ns = due;
            return true;
        }
        std::string_view bytes(buffer_.data(), static_cast<std::size_t>(got));
        *way.count += bytes.size();
        // What arrives at once is not kept first.
        if (due == 0 && way.chunks.empty()) bytes.remove_prefix(Send(connection, way, bytes));
        if (bytes.empty()) return true;
        way.under_way += bytes.size();
        way.chunks.push_back(Chunk{due, 0, std::string(bytes)});
        return true;
    }

    bool Deliver(Connection& connection, Direction& way) {
        bool progress = false;
        while (!way.chunks.empty() && way.writable && Arrived(way.chunks.front().due_ns)) {
            Chunk& chunk = way.chunks.front();
            const std::size_t put =
                Send(connection, way, std::string_view(chunk.bytes).substr(chunk.from));
            if (put == 0) return progress;
            progress = true;
            chunk.from += put;
            way.under_way -= put;
            if (chunk.from == chunk.bytes.size()) way.chunks.pop_front();
        }
        if (way.chunks.empty() && way.ended && !way.told && Arrived(way.end_due_ns)) {
            (void)shutdown(way.target, SHUT_WR);
            way.told = true;
        }
        return progress;
    }

    static std::size_t Send(Connection& connection, Direction& way, std::string_view bytes) {
        const ssize_t put = send(way.target, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (put >= 0) return static_cast<std::size_t>(put);
        way.writable = false;
        connection.broken = errno != EAGAIN && errno != EINTR;
        return 0;
    }

    static bool Arrived(std::int64_t due) { return due == 0 || due <= NowNs(); }

    // How long nothing will be due; negative: until something happens.
    timespec UntilNext(bool more) const {
        if (more) return {0, 0};
        std::int64_t next = INT64_MAX;
        for (const std::unique_ptr<Connection>& connection : connections_) {
            for (const Direction& way : connection->ways) {
                if (!way.chunks.empty() && way.writable)
                    next = std::min(next, way.chunks.front().due_ns);
                if (way.chunks.empty() && way.ended && !way.told)
                    next = std::min(next, way.end_due_ns);
            }
        }
        if (next == INT64_MAX) return {-1, 0};
        const std::int64_t left = std::max<std::int64_t>(0, next - NowNs());
        return {left / 1'000'000'000, left % 1'000'000'000};
    }

    const std::uint16_t target_;
    UniqueFd epoll_;
    UniqueFd listener_;
    std::list<std::unique_ptr<Connection>> connections_;
    std::vector<char> buffer_ = std::vector<char>(kBuffer);
    std::string orders_;
    std::int64_t delay_ns_ = 0;
    std::uint64_t to_server_ = 0;
    std::uint64_t from_server_ = 0;
    bool ended_ = false;
};

}  // namespace
}  // namespace sbxfs

int main(int argc, char** argv) {
    if (argc != 2) {
        (void)std::fprintf(stderr, "usage: sbxfs_relay TARGET_PORT\n");
        return 2;
    }
    sbxfs::Relay(static_cast<std::uint16_t>(std::strtoul(argv[1], nullptr, 10))).Run();
    return 0;
}
