// Connects to an Address without blocking the loop: Unix sockets of any path length, TCP by numeric
// address or name (resolver.h), programs (carrier_process.h). The caller gets a connected,
// non-blocking descriptor. Loop thread only.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "base/unique_function.h"
#include "sandbox/io_loop.h"
#include "sandbox/provider.h"

namespace sbxfs {

// What carries the bytes where that is not the kernel. Destroying it ends it.
class Carrier {
 public:
    Carrier() = default;
    Carrier(const Carrier&) = delete;
    Carrier& operator=(const Carrier&) = delete;
    virtual ~Carrier() = default;
    // What it complained about so far, in one line; empty: nothing.
    virtual std::string Words() = 0;
};

struct Connected {
    UniqueFd socket;
    std::unique_ptr<Carrier> carrier;  // for a ProgramAddress; must live as long as the socket
};

// One attempt to connect; destroying it gives up. `done` runs once, never from within Dial.
class Dialing {
 public:
    Dialing() = default;
    Dialing(const Dialing&) = delete;
    Dialing& operator=(const Dialing&) = delete;
    virtual ~Dialing() = default;
};
using DialDone = UniqueFunction<void(Result<Connected>)>;

// EHOSTUNREACH when nobody answers there, ETIMEDOUT after `limit`. A program counts as connected
// once it runs.
std::unique_ptr<Dialing> Dial(IoLoop& loop, const Address& address, Duration limit, DialDone done);

// At once, by a path of any length; non-blocking.
Result<UniqueFd> ConnectUnix(const std::string& path);

}  // namespace sbxfs
