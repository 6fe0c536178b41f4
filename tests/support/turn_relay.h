// Stands between a client and a server on Unix sockets, and counts round trips whatever the machine's load: a side is
// heard only when the other has said all it had to say, and each time the server was heard is one. Who has said all is
// silent and has nothing left that runs (RunsAnything), which on a busy machine takes as long as it takes.
//
// Owns a thread; one connection after the other.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "base/unique_fd.h"

namespace sbxfs::testing {

class TurnRelay {
 public:
    struct Server {
        std::function<UniqueFd()> connect;  // makes a connection to it
        std::function<bool()> busy;         // is anything of it at work?
    };
    // Listens on `path`. The client is this process's thread of the name `client_thread`.
    TurnRelay(const std::string& path, std::string client_thread, Server server);
    ~TurnRelay();
    TurnRelay(const TurnRelay&) = delete;
    TurnRelay& operator=(const TurnRelay&) = delete;

    // Of the newest connection.
    int turns() const { return turns_; }

 private:
    void Run();
    void Carry(int client, int server);
    bool Wait(int fd, int other, int timeout_ms) const;
    bool Hear(int fd, const std::function<bool()>& busy, std::string* said) const;

    const std::string client_thread_;
    const Server server_;
    UniqueFd listener_;
    UniqueFd stop_;
    std::atomic<int> turns_{0};
    std::thread thread_;
};

// Whether a process that comes from `root`, or is called `daemon` (whose parent is gone), runs or waits for a disk.
bool RunsAnything(pid_t root, const std::string& daemon);

}  // namespace sbxfs::testing
