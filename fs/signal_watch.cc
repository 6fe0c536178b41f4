#include "fs/signal_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <utility>

namespace sbxfs {
namespace {

sigset_t Watched() {
    sigset_t set;
    (void)::sigemptyset(&set);
    (void)::sigaddset(&set, SIGHUP);
    (void)::sigaddset(&set, SIGUSR1);
    return set;
}

}  // namespace

void BlockWatchedSignals() {
    const sigset_t set = Watched();
    (void)::pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

SignalWatch::SignalWatch(UniqueFunction<void(int signal)> heard) : heard_(std::move(heard)) {
    const sigset_t set = Watched();
    signals_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    std::array<int, 2> ends{};
    if (!signals_ || ::pipe2(ends.data(), O_CLOEXEC) != 0) return;  // then nobody hears
    stopped_.reset(ends[0]);
    stop_.reset(ends[1]);
    thread_ = std::thread([this] { Run(); });
}

SignalWatch::~SignalWatch() {
    stop_.reset();
    if (thread_.joinable()) thread_.join();
}

void SignalWatch::Run() {
    (void)::pthread_setname_np(::pthread_self(), "signals");
    sigset_t all;
    (void)::sigfillset(&all);
    (void)::pthread_sigmask(SIG_BLOCK, &all, nullptr);  // main takes the others
    for (;;) {
        std::array<pollfd, 2> wait{pollfd{.fd = stopped_.get(), .events = POLLIN, .revents = 0},
                                   pollfd{.fd = signals_.get(), .events = POLLIN, .revents = 0}};
        (void)::poll(wait.data(), wait.size(), -1);
        if (wait[0].revents != 0) return;
        signalfd_siginfo info{};
        if (::read(signals_.get(), &info, sizeof info) != sizeof info) continue;
        heard_(static_cast<int>(info.ssi_signo));
    }
}

}  // namespace sbxfs
