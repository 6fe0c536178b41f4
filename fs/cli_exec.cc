#include "fs/cli_exec.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <optional>
#include <utility>

#include "base/files.h"
#include "base/json.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "fs/mounts.h"

namespace sbxfs {
namespace {

constexpr int kInfrastructure = 125;

std::atomic<int> pending_signal{0};

void TakeSignal(int signal) {
    pending_signal.store(signal);
}

int Fail(const std::string& what) {
    (void)std::fprintf(stderr, "sbxfs: %s\n", what.c_str());
    return kInfrastructure;
}

// What went wrong, in the mount's own words: its newest refusal for this path.
std::string WhyRefused(const std::string& mount, int code) {
    std::string text(ErrnoText(Errno{code}));
    const Result<std::string> refusals = ReadWholeFile(mount + "/.mount/last_error");
    if (!refusals) return text;
    const std::string newest = refusals->substr(0, refusals->find('\n'));
    const std::size_t at = newest.find(": ");
    return at == std::string::npos ? text : newest.substr(at + 2);
}

std::string ScriptOf(const std::vector<std::string>& command) {
    if (command.size() == 1) return command.front();
    std::vector<std::string> words;
    for (const std::string& word : command)
        words.push_back(ShellQuote(word));
    return Join(words, " ");
}

// Submits and returns the number as text.
Result<std::string> Submit(const std::string& mount, const ExecRequest& request) {
    const std::string path = mount + "/" + request.box + "/cmd.json";
    Json order = Json::Object();
    order.Set("cmd", ScriptOf(request.command)).Set("parallel", true);
    if (!request.cwd.empty()) order.Set("cwd", request.cwd);
    if (request.timeout > 0) order.Set("timeout", Json::Real(request.timeout));
    const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd) {
        if (errno == ENOENT)
            return Error(Errno{ENOENT}, "no sandbox '" + request.box + "' in " + mount);
        return Error(Errno{errno}, WhyRefused(mount, errno));
    }
    if (!WriteAll(fd.get(), order.Dump())) return Error(Errno{errno}, WhyRefused(mount, errno));
    std::array<char, 64> number{};
    const ssize_t got = ::read(fd.get(), number.data(), number.size());
    if (got <= 0) return Error(Errno{EIO}, WhyRefused(mount, got < 0 ? errno : EIO));
    return std::string(Trim(std::string_view(number.data(), static_cast<std::size_t>(got))));
}

// Copies what is new in an output file; how much that was.
class Stream {
 public:
    Stream(const std::string& path, int to)
        : from_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), to_(to) {}
    std::size_t Copy() {
        std::size_t copied = 0;
        for (;;) {
            const ssize_t got = ::pread(from_.get(), chunk_.data(), chunk_.size(), offset_);
            if (got < 0 && errno == EINTR) continue;
            if (got <= 0) return copied;
            offset_ += got;
            copied += static_cast<std::size_t>(got);
            if (!WriteAll(to_, {chunk_.data(), static_cast<std::size_t>(got)})) return copied;
        }
    }

 private:
    UniqueFd from_;
    int to_;
    off_t offset_ = 0;
    std::array<char, 65536> chunk_{};
};

void ForwardSignal(const std::string& event) {
    const int signal = pending_signal.exchange(0);
    if (signal == 0) return;
    const char* verb = signal == SIGINT ? "int" : signal == SIGHUP ? "hup" : "term";
    const UniqueFd ctl(::open((event + "/ctl").c_str(), O_WRONLY | O_CLOEXEC));
    if (ctl) (void)WriteAll(ctl.get(), std::string(verb) + "\n");
}

void InstallSignals() {
    struct sigaction action {};
    action.sa_handler = &TakeSignal;  // without SA_RESTART: a wait is cut short
    for (const int signal : {SIGINT, SIGTERM, SIGHUP})
        (void)::sigaction(signal, &action, nullptr);
}

int FinalCode(const std::string& event) {
    const Result<std::string> text = ReadWholeFile(event + "/status", 64);
    const std::string status(text ? Trim(*text) : std::string_view());
    const Result<std::string> code = ReadWholeFile(event + "/exit_code", 64);
    const auto number = code ? ParseNumber<int>(Trim(*code)) : std::nullopt;
    if (number) return *number;
    const Result<std::string> why = ReadWholeFile(event + "/error");
    return Fail("the command is " + (status.empty() ? "gone" : status) +
                (why && !why->empty() ? ": " + std::string(Trim(*why)) : ""));
}

}  // namespace

int ExecCommand(const ExecRequest& request) {
    const Result<std::string> mount = ChooseMount(request.mountpoint, "exec", request.box);
    if (!mount) return Fail(mount.error().what());
    InstallSignals();
    const Result<std::string> number = Submit(*mount, request);
    if (!number) return Fail(number.error().what());
    const std::string event = *mount + "/" + request.box + "/events/" + *number;

    Stream out(event + "/stdout", STDOUT_FILENO);
    Stream err(event + "/stderr", STDERR_FILENO);
    // Output is looked for at a pace that follows its arrival.
    long pause_ns = 1'000'000;
    for (;;) {
        ForwardSignal(event);
        const Result<std::string> status = ReadWholeFile(event + "/status", 64);
        if (!status) return Fail("event " + *number + " is gone");
        const bool running = *status == "queued\n" || *status == "running\n";
        const std::size_t copied = out.Copy() + err.Copy();
        if (!running) break;
        pause_ns = copied > 0 ? 1'000'000 : std::min(pause_ns * 2, 50'000'000L);
        const timespec pause{0, pause_ns};
        (void)::nanosleep(&pause, nullptr);
    }
    (void)out.Copy();
    (void)err.Copy();
    return FinalCode(event);
}

}  // namespace sbxfs
