#include "aws/process_credentials.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <optional>
#include <utility>

#include "aws/timestamp.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/json.h"
#include "base/spawn.h"
#include "base/strings.h"
#include "base/unique_fd.h"

namespace sbxfs::aws {
namespace {

constexpr auto kTimeout = std::chrono::seconds(60);  // signing in may ask a person
constexpr std::size_t kLargestAnswer = 64U << 10;

struct Pipe {
    UniqueFd read;
    UniqueFd write;
};

Result<Pipe> MakePipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return SystemError(errno, "pipe2");
    return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// All that arrives on both until both have ended; false when that takes too long or is too much.
bool Collect(int out, std::string& out_text, int err, std::string& err_text) {
    const SteadyTime end = RealClock().Steady() + kTimeout;
    std::array<pollfd, 2> fds = {pollfd{out, POLLIN, 0}, pollfd{err, POLLIN, 0}};
    const std::array<std::string*, 2> texts = {&out_text, &err_text};
    while (fds[0].fd >= 0 || fds[1].fd >= 0) {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(end - RealClock().Steady())
                .count();
        if (left <= 0) return false;
        if (::poll(fds.data(), fds.size(), static_cast<int>(left)) < 0 && errno != EINTR)
            return false;
        for (std::size_t i = 0; i < fds.size(); ++i) {
            if (fds[i].fd < 0 || fds[i].revents == 0) continue;
            std::array<char, 4096> buffer{};
            const ssize_t got = ::read(fds[i].fd, buffer.data(), buffer.size());
            if (got <= 0) {
                fds[i].fd = -1;
                continue;
            }
            texts[i]->append(buffer.data(), static_cast<std::size_t>(got));
            if (texts[i]->size() > kLargestAnswer) return false;
        }
    }
    return true;
}

}  // namespace

Result<std::vector<std::string>> SplitCommandLine(std::string_view line) {
    std::vector<std::string> words;
    std::optional<std::string> word;
    char quote = '\0';
    for (std::size_t at = 0; at < line.size(); ++at) {
        const char c = line[at];
        const bool escapes = c == '\\' && quote != '\'' && at + 1 < line.size();
        if (escapes) {
            const char next = line[++at];
            if (!word) word.emplace();
            // Inside double quotes a backslash only escapes what would mean something there.
            if (quote == '"' && next != '"' && next != '\\') *word += '\\';
            *word += next;
        } else if (quote != '\0') {
            if (c == quote) {
                quote = '\0';
            } else {
                *word += c;
            }
        } else if (c == '\'' || c == '"') {
            quote = c;
            if (!word) word.emplace();
        } else if (c == ' ' || c == '\t') {
            if (word) words.push_back(*std::exchange(word, std::nullopt));
        } else {
            if (!word) word.emplace();
            *word += c;
        }
    }
    if (quote != '\0')
        return Error(Errno{EINVAL},
                     "a quote is not closed in the command \"" + Printable(line) + "\"");
    if (word) words.push_back(*word);
    if (words.empty()) return Error(Errno{EINVAL}, "credential_process names no program");
    return words;
}

Result<Credentials> ReadProcessAnswer(std::string_view text, const std::string& source) {
    const auto json = Json::Parse(text);
    if (!json || !json->IsObject())
        return Error(Errno{EKEYEXPIRED}, source + " did not print a JSON document", Blame::kRemote);
    if (json->GetNumber("Version") != 1)
        return Error(Errno{EKEYEXPIRED},
                     source + " did not print \"Version\": 1, the only form that is known",
                     Blame::kRemote);
    Credentials credentials;
    credentials.access_key_id = json->GetString("AccessKeyId").value_or("");
    credentials.secret_access_key = Secret(json->GetString("SecretAccessKey").value_or(""));
    credentials.session_token = Secret(json->GetString("SessionToken").value_or(""));
    credentials.source = source;
    if (credentials.access_key_id.empty() || credentials.secret_access_key.empty())
        return Error(Errno{EKEYEXPIRED}, source + " printed no AccessKeyId and SecretAccessKey",
                     Blame::kRemote);
    if (const auto expiration = json->GetString("Expiration")) {
        credentials.expires = ParseIso8601(*expiration);
        if (!credentials.expires)
            return Error(
                Errno{EKEYEXPIRED},
                source + " printed an Expiration that is no time: " + Printable(*expiration, 60),
                Blame::kRemote);
    }
    return credentials;
}

ProcessCredentials::ProcessCredentials(Loop& loop, std::vector<std::string> argv,
                                       std::string source)
    : loop_(loop),
      argv_(std::move(argv)),
      source_(std::move(source)),
      thread_("credentials", LockRank::kLoopInbox,
              [this](std::vector<CredentialsDone>& waiting) { Answer(waiting); }) {}

ProcessCredentials::~ProcessCredentials() {
    {
        const MutexLock lock(mu_);
        ending_ = true;
        if (pid_ != 0) (void)::kill(pid_, SIGKILL);
    }
    thread_.Stop();
}

void ProcessCredentials::Get(CredentialsDone done) {
    if (thread_.Add(done)) return;
    loop_.Post([done = std::move(done)] { done(Error(Errno{ECANCELED}, "sbxfs is stopping")); });
}

void ProcessCredentials::Answer(std::vector<CredentialsDone>& waiting) {
    const auto printed = RunProgram();
    const Result<Credentials> answer =
        printed ? ReadProcessAnswer(*printed, source_) : Result<Credentials>(printed.error());
    for (CredentialsDone& done : waiting)
        loop_.Post([done = std::move(done), answer]() mutable { done(std::move(answer)); });
}

bool ProcessCredentials::Running(pid_t pid) {
    const MutexLock lock(mu_);
    pid_ = ending_ ? 0 : pid;
    return !ending_;
}

Result<std::string> ProcessCredentials::RunProgram() {
    const UniqueFd null = TRY(OpenFile("/dev/null", O_RDONLY));
    Pipe out = TRY(MakePipe());
    Pipe err = TRY(MakePipe());
    auto started = Spawn({argv_, null.get(), out.write.get(), err.write.get(), {}});
    if (!started)
        return Error(Errno{EKEYEXPIRED}, source_ + " cannot be started: " + started.error().what());
    const pid_t pid = *started;
    out.write.reset();
    err.write.reset();
    if (!Running(pid)) (void)::kill(pid, SIGKILL);

    std::string printed;
    std::string complained;
    const bool ended = Collect(out.read.get(), printed, err.read.get(), complained);
    if (!ended) (void)::kill(pid, SIGKILL);
    siginfo_t info{};
    // WNOWAIT first: until pid_ is cleared the number must stay ours, or the destructor could hit a stranger.
    while (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT) != 0 &&
           errno == EINTR) {
    }
    (void)Running(0);
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (!ended)
        return Error(Errno{EKEYEXPIRED}, source_ + " printed too much or did not end within 60 s");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return Error(Errno{EKEYEXPIRED}, source_ + " failed: " + Printable(Trim(complained), 400),
                     Blame::kRemote);
    return printed;
}

}  // namespace sbxfs::aws
