#include "sandbox/carrier_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/spawn.h"
#include "base/strings.h"

namespace sbxfs {
namespace {

constexpr std::size_t kMaxWords = 4096;
constexpr Duration kReapPause = std::chrono::milliseconds(5);
constexpr Duration kLongestReapPause = std::chrono::seconds(5);

// A killed process is gone within a moment, unless the kernel holds it: then it is asked for less
// and less often.
void Reap(IoLoop& loop, pid_t pid, Duration pause) {
    const pid_t gone = ::waitpid(pid, nullptr, WNOHANG);
    if (gone != 0) return;  // or ECHILD: nothing to wait for
    RunLater(loop, pause,
             [&loop, pid, pause] { Reap(loop, pid, std::min(pause * 2, kLongestReapPause)); });
}

}  // namespace

Result<Connected> CarrierProcess::Start(IoLoop& loop, const std::vector<std::string>& words) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
        return SystemError(errno, "socketpair");
    UniqueFd ours(ends[0]);
    const UniqueFd theirs(ends[1]);
    std::array<int, 2> pipe{};
    if (::pipe2(pipe.data(), O_CLOEXEC) != 0) return SystemError(errno, "pipe");
    UniqueFd errors(pipe[0]);
    const UniqueFd errors_in(pipe[1]);
    // Only our ends: what the program inherits is what it expects.
    for (const int fd : {ours.get(), errors.get()}) {
        // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg): fcntl has no other form.
        if (::fcntl(fd, F_SETFL, O_NONBLOCK) != 0) return SystemError(errno, "fcntl");
    }
    const Result<pid_t> pid = Spawn({.argv = words,
                                     .in = theirs.get(),
                                     .out = theirs.get(),
                                     .err = errors_in.get(),
                                     .environment = {}});
    if (!pid && pid.error().code() == Errno{ENOENT})
        return Error(Errno{ENOENT}, words.front() + " is not installed, or not in PATH");
    if (!pid) return pid.error();
    Connected connected;
    connected.socket = std::move(ours);
    connected.carrier.reset(new CarrierProcess(loop, *pid, std::move(errors)));
    return connected;
}

CarrierProcess::CarrierProcess(IoLoop& loop, pid_t pid, UniqueFd errors)
    : loop_(loop), pid_(pid), errors_(std::move(errors)) {
    watch_ = loop_.Add(errors_.get(), EPOLLIN, [this](std::uint32_t) { ReadErrors(); });
}

CarrierProcess::~CarrierProcess() {
    watch_.reset();
    (void)::kill(-pid_, SIGKILL);  // it leads a group of its own
    Reap(loop_, pid_, kReapPause);
}

void CarrierProcess::ReadErrors() {
    std::array<char, 1024> chunk{};
    for (;;) {
        const ssize_t got = ::read(errors_.get(), chunk.data(), chunk.size());
        if (got < 0 && errno == EINTR) continue;
        if (got == 0) watch_.reset();  // level-triggered: its end would be readable for ever
        if (got <= 0) return;
        const std::size_t room = kMaxWords - std::min(kMaxWords, said_.size());
        said_.append(chunk.data(), std::min(room, static_cast<std::size_t>(got)));
    }
}

std::string CarrierProcess::Words() {
    // Its end and its last words come together.
    if (watch_) ReadErrors();
    std::string words;
    for (const std::string& line : Split(said_, '\n')) {
        const std::string_view text = Trim(line);
        if (text.empty()) continue;
        if (!words.empty()) words += "; ";
        words += Printable(text, 200);
    }
    return words;
}

}  // namespace sbxfs
