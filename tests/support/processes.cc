#include "tests/support/processes.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "base/check.h"

namespace sbxfs::testing {

ChildProcess::ChildProcess() {
    std::array<int, 2> ends{};
    CHECK(::pipe2(ends.data(), O_CLOEXEC) == 0);
    posix_spawn_file_actions_t actions;
    CHECK(::posix_spawn_file_actions_init(&actions) == 0);
    CHECK(::posix_spawn_file_actions_adddup2(&actions, ends[0], 0) == 0);
    std::array<char, 4> name = {'c', 'a', 't', '\0'};
    std::array<char*, 2> argv = {name.data(), nullptr};
    CHECK(::posix_spawn(&pid_, "/bin/cat", &actions, nullptr, argv.data(), environ) == 0);
    (void)::posix_spawn_file_actions_destroy(&actions);
    (void)::close(ends[0]);
    input_ = ends[1];
}

ChildProcess::~ChildProcess() {
    (void)::kill(pid_, SIGKILL);
    int status = 0;
    (void)::waitpid(pid_, &status, 0);
    if (input_ >= 0) (void)::close(input_);
}

void ChildProcess::AwaitZombie() const {
    siginfo_t info{};
    CHECK(::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT) == 0);
}

void ChildProcess::Kill(int signal) {
    CHECK(::kill(pid_, signal) == 0);
    AwaitZombie();
}

void ChildProcess::Exit() {
    (void)::close(std::exchange(input_, -1));
    AwaitZombie();
}

}  // namespace sbxfs::testing
