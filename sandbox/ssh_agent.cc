#include "sandbox/ssh_agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cstdint>

#include "base/files.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "sandbox/dialer.h"

namespace sbxfs {
namespace {

// draft-miller-ssh-agent: u32 length, u8 type; the answer goes on with u32 count.
constexpr std::array<char, 5> kRequestIdentities = {0, 0, 0, 1, 11};
constexpr unsigned char kIdentitiesAnswer = 12;

Error NoAgent(const std::string& what) {
    return {Errno{EACCES}, what +
                               ": start one (`eval $(ssh-agent)`, `ssh-add`) where sbxfs is "
                               "started from, or name its socket with agent = \"/path\""};
}

}  // namespace

std::string AgentSocket(const std::string& socket) {
    if (!socket.empty()) return socket;
    const char* path = ::getenv("SSH_AUTH_SOCK");  // NOLINT(concurrency-mt-unsafe): nobody sets it
    return path == nullptr ? "" : path;
}

Result<std::size_t> CountAgentKeys(const std::string& socket) {
    const std::string path = AgentSocket(socket);
    if (path.empty()) return NoAgent("no ssh-agent: SSH_AUTH_SOCK is not set");
    const Result<UniqueFd> agent = ConnectUnix(path);
    if (!agent) return NoAgent("no ssh-agent answers at " + Printable(path));
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg): fcntl has no other form.
    (void)::fcntl(agent->get(), F_SETFL, 0);
    const timeval limit{5, 0};
    (void)::setsockopt(agent->get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    (void)TRY(WriteAll(agent->get(), {kRequestIdentities.data(), kRequestIdentities.size()}));
    std::array<unsigned char, 9> head{};
    for (std::size_t at = 0; at < head.size();) {
        const ssize_t got = ::read(agent->get(), head.data() + at, head.size() - at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return NoAgent("the ssh-agent at " + Printable(path) + " does not answer");
        at += static_cast<std::size_t>(got);
    }
    if (head[4] != kIdentitiesAnswer)
        return NoAgent("what answers at " + Printable(path) + " is no ssh-agent, or a locked one");
    return std::size_t{head[5]} << 24 | std::size_t{head[6]} << 16 | std::size_t{head[7]} << 8 |
           std::size_t{head[8]};
}

}  // namespace sbxfs
