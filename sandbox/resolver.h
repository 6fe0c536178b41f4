// Names to addresses without blocking an I/O thread: getaddrinfo(3) may wait for half a minute and
// cannot be told to stop, so each look-up has a thread of its own that nobody joins. It holds nothing
// of ours but the writing end of a pipe, so it may end whenever it likes, also after the loop. Loop
// thread only.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_function.h"
#include "sandbox/io_loop.h"

namespace sbxfs {

struct SocketAddress {
    sockaddr_storage bytes{};
    socklen_t size = 0;
};
using SocketAddresses = std::vector<SocketAddress>;

// At once: `host` as a numeric address. Empty when it is a name.
SocketAddresses NumericAddress(const std::string& host, std::uint16_t port);

// One look-up; destroying it forgets it. `done` runs once, never from within Start, with at least one
// address, or EHOSTUNREACH and the resolver's words.
class NameLookup {
 public:
    using LookupDone = UniqueFunction<void(Result<SocketAddresses>)>;
    // EAGAIN when too many look-ups wait already.
    static Result<std::unique_ptr<NameLookup>> Start(IoLoop& loop, const std::string& host,
                                                     std::uint16_t port, LookupDone done);

 private:
    NameLookup(IoLoop& loop, std::string host, UniqueFd answer, LookupDone done);
    void Answered();

    const std::string host_;
    UniqueFd answer_;
    LookupDone done_;
    IoLoop::WatchPtr watch_;
};

}  // namespace sbxfs
