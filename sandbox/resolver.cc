#include "sandbox/resolver.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <sys/epoll.h>

#include <array>
#include <atomic>
#include <cstring>
#include <system_error>
#include <thread>
#include <utility>

#include "base/strings.h"

namespace sbxfs {
namespace {

constexpr int kMostLookups = 32;
constexpr std::size_t kMostAddresses = 16;

std::atomic<int> lookups_waiting{0};

// What the thread says, in one write: it fits into PIPE_BUF, so it arrives whole.
struct Answer {
    int code = EAI_FAIL;
    std::size_t count = 0;
    std::array<SocketAddress, kMostAddresses> addresses{};
};
static_assert(sizeof(Answer) <= 4096);

Answer LookUp(const char* host, std::uint16_t port, int flags) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = flags | AI_NUMERICSERV;
    addrinfo* found = nullptr;
    Answer answer;
    answer.code = ::getaddrinfo(host, std::to_string(port).c_str(), &hints, &found);
    if (answer.code != 0) return answer;
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> guard(found, ::freeaddrinfo);
    for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
        if (answer.count == kMostAddresses) break;
        if (one->ai_addrlen > sizeof(sockaddr_storage)) continue;
        SocketAddress& to = answer.addresses[answer.count++];
        std::memcpy(&to.bytes, one->ai_addr, one->ai_addrlen);
        to.size = one->ai_addrlen;
    }
    return answer;
}

SocketAddresses AddressesIn(const Answer& answer) {
    return {answer.addresses.begin(),
            answer.addresses.begin() + static_cast<std::ptrdiff_t>(answer.count)};
}

}  // namespace

SocketAddresses NumericAddress(const std::string& host, std::uint16_t port) {
    return AddressesIn(LookUp(host.c_str(), port, AI_NUMERICHOST));
}

Result<std::unique_ptr<NameLookup>> NameLookup::Start(IoLoop& loop, const std::string& host,
                                                      std::uint16_t port, LookupDone done) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) return SystemError(errno, "pipe");
    UniqueFd answer(ends[0]);
    UniqueFd tell(ends[1]);
    if (lookups_waiting.fetch_add(1) >= kMostLookups) {
        lookups_waiting.fetch_sub(1);
        return Error(Errno{EAGAIN}, "too many names are being looked up: is the name server there?",
                     Blame::kRemote);
    }
    try {
        std::thread([host, port, tell = std::move(tell)]() noexcept {
            const Answer said = LookUp(host.c_str(), port, AI_ADDRCONFIG);
            lookups_waiting.fetch_sub(1);
            (void)!::write(tell.get(), &said, sizeof said);  // EPIPE: nobody wants it any more
        }).detach();
    } catch (const std::system_error& error) {
        lookups_waiting.fetch_sub(1);
        return SystemError(error.code().value(), "starting a thread");
    }
    return std::unique_ptr<NameLookup>(
        new NameLookup(loop, host, std::move(answer), std::move(done)));
}

NameLookup::NameLookup(IoLoop& loop, std::string host, UniqueFd answer, LookupDone done)
    : host_(std::move(host)), answer_(std::move(answer)), done_(std::move(done)) {
    watch_ = loop.Add(answer_.get(), EPOLLIN, [this](std::uint32_t) { Answered(); });
}

void NameLookup::Answered() {
    Answer answer;
    const ssize_t got = ::read(answer_.get(), &answer, sizeof answer);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    watch_.reset();
    const LookupDone done = std::move(done_);
    if (got != static_cast<ssize_t>(sizeof answer) || answer.code != 0 || answer.count == 0) {
        const bool whole = got == static_cast<ssize_t>(sizeof answer);
        return done(Error(Errno{EHOSTUNREACH},
                          "looking up '" + Printable(host_) +
                              "': " + (whole ? ::gai_strerror(answer.code) : "no answer"),
                          Blame::kRemote));
    }
    done(AddressesIn(answer));  // may destroy this
}

}  // namespace sbxfs
