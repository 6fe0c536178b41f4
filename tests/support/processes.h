// Other processes for tests that ask who is calling: one that lives, one killed by a signal and one
// that exited, both not yet waited for, so that /proc still shows them.
#pragma once

#include <sys/types.h>

namespace sbxfs::testing {

class ChildProcess {
 public:
    ChildProcess();  // lives until it is told otherwise
    ~ChildProcess();
    ChildProcess(const ChildProcess&) = delete;
    ChildProcess& operator=(const ChildProcess&) = delete;

    pid_t pid() const { return pid_; }
    // Both return when it is a zombie.
    void Kill(int signal);
    void Exit();

 private:
    void AwaitZombie() const;
    pid_t pid_ = 0;
    int input_ = -1;  // cat(1) ends when this is closed
};

}  // namespace sbxfs::testing
