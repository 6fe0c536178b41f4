#include "fs/mount_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/files.h"
#include "base/json.h"
#include "base/unique_fd.h"

namespace sbxfs {
namespace {

// In the child: an array of the contents, or the errno.
std::string ReadAll(const std::vector<std::string>& paths) {
    Json answer = Json::Array();
    for (const std::string& path : paths) {
        const Result<std::string> text = ReadWholeFile(path);
        if (!text) return Json::Number(static_cast<int>(text.error().code())).Dump();
        answer.Append(Json::String(*text));
    }
    return answer.Dump();
}

}  // namespace

Result<std::vector<std::string>> ProbeFiles(const std::vector<std::string>& paths,
                                            std::chrono::milliseconds limit) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return SystemError(errno, "pipe");
    UniqueFd from_child(ends[0]);
    UniqueFd to_parent(ends[1]);
    (void)std::fflush(nullptr);
    const pid_t child = ::fork();  // a subcommand has no threads
    if (child < 0) return SystemError(errno, "fork");
    if (child == 0) {
        // Should it hang, nobody who reads our output is to wait for its end.
        for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
            (void)::close(fd);
        (void)WriteAll(to_parent.get(), ReadAll(paths));
        ::_exit(0);
    }
    to_parent.reset();
    std::string answer;
    bool late = false;
    const SteadyTime deadline = RealClock().Steady() + limit;
    for (;;) {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(deadline - RealClock().Steady());
        pollfd wait{.fd = from_child.get(), .events = POLLIN, .revents = 0};
        const int polled = ::poll(&wait, 1, left.count() < 0 ? 0 : static_cast<int>(left.count()));
        if (polled < 0 && errno == EINTR) continue;
        late = polled == 0;
        if (polled <= 0) break;
        std::array<char, 4096> chunk{};
        const ssize_t got = ::read(from_child.get(), chunk.data(), chunk.size());
        if (got <= 0) break;
        answer.append(chunk.data(), static_cast<std::size_t>(got));
    }
    (void)::kill(child, SIGKILL);
    // Of a child that hangs in the kernel even the end may take until its daemon goes on.
    (void)::waitpid(child, nullptr, late ? WNOHANG : 0);
    if (late) return Error(Errno{ETIMEDOUT}, "it does not answer");
    const std::optional<Json> json = Json::Parse(answer);
    if (json && json->IsArray()) {
        std::vector<std::string> texts;
        for (const Json& text : json->Elements())
            texts.push_back(text.AsString().value_or(""));
        return texts;
    }
    const int code = json ? static_cast<int>(json->AsNumber().value_or(EIO)) : EIO;
    return Error(Errno{code}, std::string(ErrnoText(Errno{code})));
}

}  // namespace sbxfs
