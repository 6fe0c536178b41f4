#include "tests/support/turn_relay.h"

#include <dirent.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/files.h"
#include "base/strings.h"

namespace sbxfs::testing {
namespace {

// Between two looks at who is at work, and how many must find nobody: during one look the work may pass from a process
// that is yet to be looked at to one that was.
constexpr int kLookMs = 5;
constexpr int kLooks = 8;

struct Task {
    std::string name;
    char state = 0;
    pid_t parent = 0;
    bool AtWork() const { return state == 'R' || state == 'D'; }
};

std::map<pid_t, Task> TasksIn(const std::string& directory) {
    std::map<pid_t, Task> tasks;
    DIR* dir = ::opendir(directory.c_str());
    CHECK(dir != nullptr);
    while (const dirent* entry = ::readdir(dir)) {
        const pid_t pid = std::atoi(entry->d_name);
        if (pid <= 0) continue;
        const auto stat = ReadWholeFile(directory + "/" + entry->d_name + "/stat");
        if (!stat) continue;  // it has ended
        // "PID (NAME) STATE PARENT ...": the name may hold anything.
        const std::size_t open = stat->find('(');
        const std::size_t close = stat->rfind(')');
        if (open == std::string::npos || close == std::string::npos || close + 4 > stat->size())
            continue;
        Task& task = tasks[pid];
        task.name = stat->substr(open + 1, close - open - 1);
        task.state = (*stat)[close + 2];
        task.parent = std::atoi(stat->c_str() + close + 4);
    }
    (void)::closedir(dir);
    return tasks;
}

bool ThreadRuns(const std::string& name) {
    for (const auto& [id, task] : TasksIn("/proc/self/task")) {
        if (task.name == name && task.AtWork()) return true;
    }
    return false;
}

// What can be read now; false at the end of it.
bool Take(int fd, std::string* bytes) {
    std::array<char, 65536> buffer{};
    const ssize_t got = ::recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got > 0) bytes->append(buffer.data(), static_cast<std::size_t>(got));
    return got > 0 || (got < 0 && errno == EAGAIN);
}

bool Give(int fd, const std::string& bytes) {
    for (std::size_t at = 0; at < bytes.size();) {
        const ssize_t put = ::send(fd, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
        if (put < 0 && errno == EAGAIN) {
            pollfd room{fd, POLLOUT, 0};
            (void)::poll(&room, 1, 1000);
            continue;
        }
        if (put <= 0) return false;
        at += static_cast<std::size_t>(put);
    }
    return true;
}

}  // namespace

bool RunsAnything(pid_t root, const std::string& daemon) {
    const std::map<pid_t, Task> tasks = TasksIn("/proc");
    for (const auto& [pid, task] : tasks) {
        if (!task.AtWork()) continue;
        if (task.name == daemon) return true;
        for (auto at = tasks.find(pid); at != tasks.end(); at = tasks.find(at->second.parent)) {
            if (at->first == root) return true;
        }
    }
    return false;
}

TurnRelay::TurnRelay(const std::string& path, std::string client_thread, Server server)
    : client_thread_(std::move(client_thread)),
      server_(std::move(server)),
      listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)),
      stop_(::eventfd(0, EFD_CLOEXEC)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    CHECK(path.size() < sizeof address.sun_path);
    (void)path.copy(address.sun_path, sizeof address.sun_path - 1);
    CHECK(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    CHECK(::listen(listener_.get(), 4) == 0);
    thread_ = std::thread([this] { Run(); });
}

TurnRelay::~TurnRelay() {
    const std::uint64_t one = 1;
    CHECK(::write(stop_.get(), &one, sizeof one) == sizeof one);
    thread_.join();
}

void TurnRelay::Run() {
    while (Wait(listener_.get(), -1, -1)) {
        const UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        const UniqueFd server = server_.connect();
        turns_ = 0;
        Carry(client.get(), server.get());
    }
}

// Whether one of the two has something, or has ended; false in time, and when this is to stop.
bool TurnRelay::Wait(int fd, int other, int timeout_ms) const {
    std::array<pollfd, 3> all{{{fd, POLLIN, 0}, {other, POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
    return ::poll(all.data(), all.size(), timeout_ms) > 0 && all[2].revents == 0;
}

// All that one side says in its turn.
bool TurnRelay::Hear(int fd, const std::function<bool()>& busy, std::string* said) const {
    for (int idle = 0; idle < kLooks;) {
        if (Wait(fd, -1, kLookMs)) {
            if (!Take(fd, said)) return false;
            idle = 0;
        } else {
            idle = busy() ? 0 : idle + 1;
        }
    }
    return true;
}

void TurnRelay::Carry(int client, int server) {
    while (Wait(client, server, -1)) {
        std::string said;
        if (!Hear(
                client, [this] { return ThreadRuns(client_thread_); }, &said))
            return;
        if (!Give(server, said)) return;
        said.clear();
        if (!Hear(server, server_.busy, &said)) return;
        if (said.empty()) continue;
        ++turns_;
        if (!Give(client, said)) return;
    }
}

}  // namespace sbxfs::testing
