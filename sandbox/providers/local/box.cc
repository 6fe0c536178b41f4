#include "sandbox/providers/local/box.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "base/files.h"
#include "base/strings.h"

namespace sbxfs {
namespace {

constexpr std::size_t kReadLimit = 64U << 10;

}  // namespace

Status CheckToken(std::string_view token) {
    const bool good =
        !token.empty() && token.size() <= 64 && std::all_of(token.begin(), token.end(), [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
        });
    if (good) return Ok();
    return Error(Errno{EINVAL}, "`" + Printable(token, 80) + "` is not a launch token",
                 Blame::kBug);
}

Status Box::Create(const std::string& state_dir, const std::string& token) {
    (void)TRY(CheckToken(token));
    const std::string path = PathOf(state_dir, token);
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
        return SystemError(errno, "mkdir " + path);
    (void)TRY(OpenFile(path + "/lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
    return Ok();
}

Result<Box> Box::Open(const std::string& state_dir, const std::string& token) {
    (void)TRY(CheckToken(token));
    std::string path = PathOf(state_dir, token);
    UniqueFd dir = TRY(OpenFile(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    return Box(std::move(path), std::move(dir));
}

std::string Box::ShortPath(std::string_view name) const {
    return "/proc/self/fd/" + std::to_string(dir_.get()) + "/" + std::string(name);
}

Result<std::optional<UniqueFd>> Box::TryLock(Role role) {
    // A launch does not make the file: where it is missing the box has been destroyed.
    const int make = role == Role::kDestroy ? O_CREAT : 0;
    UniqueFd lock(::openat(dir_.get(), "lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW | make, 0600));
    if (!lock) return SystemError(errno, "open " + path_ + "/lock");
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK || errno == EINTR) return std::optional<UniqueFd>();
        return SystemError(errno, "flock " + path_ + "/lock");
    }
    const ProcessRecord self = TRY(ProcessRecord::Of(::getpid()));
    const std::string who = role == Role::kLaunch ? "launch " : "destroy ";
    const Status written = Write("holder", who + self.ToText());
    // A full disk must not keep anything from being destroyed.
    if (!written && role == Role::kLaunch) return written.error();
    return std::optional<UniqueFd>(std::move(lock));
}

Result<UniqueFd> Box::AwaitLock(int limit_ms) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(limit_ms);
    for (;;) {
        Result<std::optional<UniqueFd>> lock = TryLock(Role::kLaunch);
        // Looked at after the lock: a destroy marks first and locks second.
        if (IsDestroyed() || Gone())
            return Error(Errno{ECANCELED}, "the sandbox was destroyed meanwhile");
        if (!lock) return std::move(lock).error();
        if (*lock) return **std::move(lock);
        if (std::chrono::steady_clock::now() >= deadline) {
            return Error(Errno{EBUSY}, "another helper at work on this sandbox does not end",
                         Blame::kRemote);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(2));  // flock(2) has no time limit
    }
}

bool Box::Gone() const {
    struct stat found {};
    return ::fstat(dir_.get(), &found) != 0 || found.st_nlink == 0;
}

std::optional<Box::Holder> Box::ReadHolder() const {
    const auto text = Read("holder");
    if (!text) return std::nullopt;
    const bool launch = text->starts_with("launch ");
    if (!launch && !text->starts_with("destroy ")) return std::nullopt;
    auto process = ProcessRecord::FromText(text->substr(text->find(' ') + 1));
    if (!process) return std::nullopt;
    return Holder{launch ? Role::kLaunch : Role::kDestroy, *std::move(process)};
}

bool Box::IsAlive() const {
    const UniqueFd alive(::openat(dir_.get(), "alive", O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (!alive) return false;
    // Shared: two who ask at once do not take each other for the sandbox. Let go by the close.
    return ::flock(alive.get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

Result<UniqueFd> Box::HoldAlive(int limit_ms) {
    UniqueFd alive(::openat(dir_.get(), "alive", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!alive) return SystemError(errno, "open " + path_ + "/alive");
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(limit_ms);
    while (::flock(alive.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) return SystemError(errno, "flock alive");
        if (std::chrono::steady_clock::now() >= deadline) {
            return Error(Errno{EBUSY}, "processes of this sandbox still run", Blame::kRemote);
        }
        // flock(2) has no time limit of its own and whoever holds it is about to end.
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return alive;
}

Status Box::MarkDestroyed() {
    // Not Write(): two destroys may be here at once, without the lock.
    (void)TRY(OpenForWriting("destroyed", 0));
    return Ok();
}

bool Box::Has(std::string_view name) const {
    struct stat found {};
    return ::fstatat(dir_.get(), std::string(name).c_str(), &found, AT_SYMLINK_NOFOLLOW) == 0;
}

std::optional<std::string> Box::Read(std::string_view name) const {
    const UniqueFd fd(::openat(dir_.get(), std::string(name).c_str(),
                               O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (!fd) return std::nullopt;
    std::string bytes(kReadLimit, '\0');
    std::size_t have = 0;
    while (have < bytes.size()) {
        const ssize_t got = ::read(fd.get(), bytes.data() + have, bytes.size() - have);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return std::nullopt;
        if (got == 0) break;
        have += static_cast<std::size_t>(got);
    }
    bytes.resize(have);
    return bytes;
}

Status Box::Write(std::string_view name, std::string_view bytes) {
    const std::string target(name);
    const std::string temporary = target + ".new";
    {
        const UniqueFd fd = TRY(OpenForWriting(temporary, O_TRUNC));
        (void)TRY(WriteAll(fd.get(), bytes));
    }
    if (::renameat(dir_.get(), temporary.c_str(), dir_.get(), target.c_str()) != 0) {
        return SystemError(errno, "rename to " + path_ + "/" + target);
    }
    return Ok();
}

Result<UniqueFd> Box::OpenForWriting(std::string_view name, int flags) {
    UniqueFd fd(::openat(dir_.get(), std::string(name).c_str(),
                         O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | flags, 0600));
    if (!fd) return SystemError(errno, "open " + path_ + "/" + std::string(name));
    return fd;
}

void Box::Remove(std::string_view name) {
    (void)::unlinkat(dir_.get(), std::string(name).c_str(), 0);
}

std::optional<ProcessRecord> Box::Init() const {
    const auto text = Read("pid");
    return text ? ProcessRecord::FromText(*text) : std::nullopt;
}

std::optional<Json> Box::Launched() const {
    const auto text = Read("launched.json");
    return text ? Json::Parse(*text) : std::nullopt;
}

}  // namespace sbxfs
