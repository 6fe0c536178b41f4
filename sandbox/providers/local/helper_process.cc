#include "sandbox/providers/local/helper_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "base/check.h"
#include "base/files.h"
#include "base/spawn.h"
#include "base/strings.h"
#include "sandbox/providers/local/process_record.h"

namespace sbxfs {
namespace {

constexpr std::size_t kMaxLine = 1U << 20;

Result<UniqueFd> OrderFile(std::string_view order) {
    UniqueFd file(::memfd_create("sbxfs-order", MFD_CLOEXEC));
    if (!file) return SystemError(errno, "memfd_create");
    (void)TRY(WriteAll(file.get(), order));
    if (::lseek(file.get(), 0, SEEK_SET) != 0) return SystemError(errno, "lseek");
    return file;
}

std::string HowItEnded(const siginfo_t& info) {
    if (info.si_code == CLD_EXITED) {
        return info.si_status == 0 ? "" : "exit code " + std::to_string(info.si_status);
    }
    return "killed by signal " + std::to_string(info.si_status);
}

}  // namespace

Result<std::unique_ptr<HelperProcess>> HelperProcess::Spawn(IoLoop& loop,
                                                            const std::vector<std::string>& argv,
                                                            std::string_view order, OnLine line,
                                                            OnEnd end) {
    const UniqueFd in = TRY(OrderFile(order));
    std::array<int, 2> pipe{};
    if (::pipe2(pipe.data(), O_CLOEXEC) != 0) return SystemError(errno, "pipe");
    UniqueFd output(pipe[0]);
    const UniqueFd inside(pipe[1]);
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg): fcntl has no other form.
    if (::fcntl(output.get(), F_SETFL, O_NONBLOCK) != 0) return SystemError(errno, "fcntl");
    const UniqueFd null(::open("/dev/null", O_WRONLY | O_CLOEXEC));
    if (!null) return SystemError(errno, "open /dev/null");
    const pid_t pid =
        TRY(sbxfs::Spawn({.argv = argv,
                          .in = in.get(),
                          .out = inside.get(),
                          .err = null.get(),
                          .environment = std::vector<std::string>{
                              "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}}));
    // Our own child and not yet waited for: the number cannot name another process.
    UniqueFd pidfd = OpenPidfd(pid);
    CHECK(static_cast<bool>(pidfd));
    std::unique_ptr<HelperProcess> process(new HelperProcess(
        loop, pid, std::move(pidfd), std::move(output), std::move(line), std::move(end)));
    process->Watch();
    return process;
}

HelperProcess::HelperProcess(IoLoop& loop, pid_t pid, UniqueFd pidfd, UniqueFd output, OnLine line,
                             OnEnd end)
    : loop_(loop),
      pid_(pid),
      pidfd_(std::move(pidfd)),
      output_(std::move(output)),
      line_(std::move(line)),
      end_(std::move(end)) {}

HelperProcess::~HelperProcess() = default;

void HelperProcess::Watch() {
    watch_output_ = loop_.Add(output_.get(), EPOLLIN, [this](std::uint32_t) { ReadLines(); });
    watch_end_ = loop_.Add(pidfd_.get(), EPOLLIN, [this](std::uint32_t) { Ended(); });
}

void HelperProcess::Kill() {
    (void)SignalPidfd(pidfd_.get(), SIGKILL);
}

void HelperProcess::ReadLines() {
    std::array<char, 16384> chunk{};
    for (;;) {
        const ssize_t got = ::read(output_.get(), chunk.data(), chunk.size());
        if (got < 0 && errno == EINTR) continue;
        if (got == 0)
            watch_output_.reset();  // at its end; level-triggered, it would be readable for ever
        if (got <= 0) break;
        unread_.append(chunk.data(), static_cast<std::size_t>(got));
        if (unread_.size() > kMaxLine) unread_.clear();  // not ours, whatever it is
    }
    for (std::size_t end = unread_.find('\n'); end != std::string::npos; end = unread_.find('\n')) {
        const auto json = Json::Parse(std::string_view(unread_).substr(0, end));
        unread_.erase(0, end + 1);
        if (json) line_(*json);
    }
}

void HelperProcess::Ended() {
    siginfo_t info{};
    if (::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG) != 0) {
        info.si_code = CLD_EXITED;  // ECHILD: SIGCHLD is ignored here and the kernel has reaped it
    } else if (info.si_pid == 0) {
        return;
    }
    watch_end_.reset();
    if (watch_output_) ReadLines();
    watch_output_.reset();
    const OnEnd end = std::move(end_);
    end(HowItEnded(info));  // may destroy this
}

}  // namespace sbxfs
