// Connects to an Address without blocking the loop: Unix sockets of any path length, TCP by numeric
// address. The caller gets a connected, non-blocking descriptor. Loop thread only.
#pragma once

#include <memory>

#include "base/result.h"
#include "base/unique_fd.h"
#include "base/unique_function.h"
#include "sandbox/io_loop.h"
#include "sandbox/provider.h"

namespace sbxfs {

// One attempt to connect; destroying it gives up. `done` runs once, never from within Dial.
class Dialing {
 public:
    Dialing() = default;
    Dialing(const Dialing&) = delete;
    Dialing& operator=(const Dialing&) = delete;
    virtual ~Dialing() = default;
};
using DialDone = UniqueFunction<void(Result<UniqueFd>)>;

// EHOSTUNREACH when nobody answers there, ETIMEDOUT after `limit`, EINVAL for an address that is
// none.
std::unique_ptr<Dialing> Dial(IoLoop& loop, const Address& address, Duration limit, DialDone done);

}  // namespace sbxfs
