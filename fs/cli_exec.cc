#include "fs/cli_exec.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/files.h"
#include "base/json.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "fs/mounts.h"
#include "fs/output_copy.h"

namespace sbxfs {
namespace {

constexpr Duration kPatienceAfterKill = std::chrono::milliseconds(600);

std::atomic<int> pending_signal{0};

void TakeSignal(int signal) {
    pending_signal.store(signal);
}

int Fail(const std::string& what) {
    (void)std::fprintf(stderr, "sbxfs: %s\n", what.c_str());
    return kExecFailed;
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
        if (errno == ENOENT) {
            const Result<SbxfsMount> there = FindMount(mount);
            if (!there) return there.error();
            return Error(Errno{ENOENT}, "no sandbox '" + request.box + "' in " + mount +
                                            ": sbxfs list shows which there are");
        }
        return Error(Errno{errno}, WhyRefused(mount, errno));
    }
    if (!WriteAll(fd.get(), order.Dump())) return Error(Errno{errno}, WhyRefused(mount, errno));
    std::array<char, 64> number{};
    const ssize_t got = ::read(fd.get(), number.data(), number.size());
    if (got <= 0) return Error(Errno{EIO}, WhyRefused(mount, got < 0 ? errno : EIO));
    return std::string(Trim(std::string_view(number.data(), static_cast<std::size_t>(got))));
}

void Tell(const std::string& event, const std::string& verb) {
    const UniqueFd ctl(::open((event + "/ctl").c_str(), O_WRONLY | O_CLOEXEC));
    if (ctl) (void)WriteAll(ctl.get(), verb + "\n");
}

// Signals that came, told to the command: the first as what it is, the next as KILL. Whoever sends two wants an end: it
// comes soon also where the sandbox does not answer.
class Forwarding {
 public:
    explicit Forwarding(std::string event) : event_(std::move(event)) {}
    void TellNew() {
        const int signal = pending_signal.exchange(0);
        if (signal == 0) return;
        Tell(event_, told_ != 0         ? "kill"
                     : signal == SIGINT ? "int"
                     : signal == SIGHUP ? "hup"
                                        : "term");
        if (told_ != 0 && !killed_at_) killed_at_ = RealClock().Steady();
        told_ = signal;
    }
    // The signal that nothing has come of; 0 while there may still be an answer.
    int Unanswered() const {
        return killed_at_ && RealClock().Steady() - *killed_at_ > kPatienceAfterKill ? told_ : 0;
    }

 private:
    const std::string event_;
    int told_ = 0;  // the last one
    std::optional<SteadyTime> killed_at_;
};

void InstallSignals() {
    struct sigaction action {};
    action.sa_handler = &TakeSignal;  // without SA_RESTART: a wait is cut short
    for (const int signal : {SIGINT, SIGTERM, SIGHUP})
        (void)::sigaction(signal, &action, nullptr);
    // That nobody reads our output any more is told to the command before we end.
    (void)::signal(SIGPIPE, SIG_IGN);
}

// Whether the one who reads our output has gone, also while there is nothing to write.
bool ReaderHasGone() {
    pollfd out{.fd = STDOUT_FILENO, .events = 0, .revents = 0};
    return ::poll(&out, 1, 0) == 1 && (out.revents & POLLERR) != 0;
}

// The command is not left running for nobody: as when ssh(1) ends, it gets a hangup. A full disk is a failure of ours.
int GiveUpOutput(const std::string& event, const Error& why) {
    const bool gone = why.code() == Errno{EPIPE};
    Tell(event, gone ? "hup" : "term");
    if (gone) return 128 + SIGPIPE;
    return Fail(why.what() + "; the command was told to end");
}

// Says what the copy lacks; whether it is whole.
bool IsWhole(const OutputCopy& copy, const std::string& event) {
    for (const OutputHole& hole : copy.left_out()) {
        (void)std::fprintf(stderr,
                           "sbxfs: %s bytes of %s are left out, from byte %s on: of each stream "
                           "the first MiB and the newest of 64 MiB are kept (%s/result.json)\n",
                           std::to_string(hole.to - hole.from).c_str(), copy.stream().c_str(),
                           std::to_string(hole.from).c_str(), event.c_str());
    }
    return copy.left_out().empty();
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

    Forwarding signals(event);
    const auto forward = [&signals] { signals.TellNew(); };
    OutputCopy out(event, "stdout", STDOUT_FILENO, forward);
    OutputCopy err(event, "stderr", STDERR_FILENO, forward);
    // Output is looked for at a pace that follows its arrival.
    long pause_ns = 1'000'000;
    for (bool running = true; running;) {
        signals.TellNew();
        const Result<std::string> status = ReadWholeFile(event + "/status", 64);
        if (!status) return Fail("event " + *number + " is gone");
        // Asked first: at its end every byte is there.
        running = *status == "queued\n" || *status == "running\n";
        const Result<std::uint64_t> from_out = out.CopyNew();
        if (!from_out) return GiveUpOutput(event, from_out.error());
        const Result<std::uint64_t> from_err = err.CopyNew();
        if (!from_err) return GiveUpOutput(event, from_err.error());
        if (!running) break;
        if (const int signal = signals.Unanswered(); signal != 0) {
            (void)Fail(
                "the sandbox does not answer: the command was told to end, and may still run; "
                "see " +
                event);
            return 128 + signal;
        }
        if (ReaderHasGone()) return GiveUpOutput(event, Error(Errno{EPIPE}, "nobody reads"));
        pause_ns = *from_out + *from_err > 0 ? 1'000'000 : std::min(pause_ns * 2, 50'000'000L);
        const timespec pause{0, pause_ns};
        (void)::nanosleep(&pause, nullptr);
    }
    const bool whole_out = IsWhole(out, event);
    const bool whole = IsWhole(err, event) && whole_out;
    const int code = FinalCode(event);
    // What reads our output must not take a part for all of it.
    return code == 0 && !whole ? kExecFailed : code;
}

}  // namespace sbxfs
