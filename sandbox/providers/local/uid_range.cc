#include "sandbox/providers/local/uid_range.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <vector>

#include "base/files.h"
#include "base/strings.h"
#include "base/unique_fd.h"

namespace sbxfs {
namespace {

Result<UniqueFd> LockRegistry(const std::string& registry) {
    (void)TRY(MakeDirs(registry, 0700));
    UniqueFd lock = TRY(OpenFile(registry + "/lock", O_RDWR | O_CREAT, 0600));
    while (::flock(lock.get(), LOCK_EX) != 0) {
        if (errno != EINTR) return SystemError(errno, "flock " + registry);
    }
    return lock;
}

std::string Entry(const std::string& registry, std::uint32_t first) {
    return registry + "/" + std::to_string(first);
}

// The box that has the range now; nothing when it is free.
std::optional<std::string> OwnerOf(const std::string& registry, std::uint32_t first) {
    const auto box = ReadWholeFile(Entry(registry, first), 8192);
    if (!box) return std::nullopt;
    struct stat found {};
    if (::lstat(box->c_str(), &found) != 0 && errno == ENOENT) return std::nullopt;
    return *box;
}

std::string Slurp(const std::string& path) {
    const auto text = ReadWholeFile(path);
    return text ? *text : std::string();
}

// Three numbers of a line of uid_map, or the last two of one of subuid.
std::vector<std::uint64_t> Numbers(std::string_view line, char separator) {
    std::vector<std::uint64_t> numbers;
    for (const std::string& word : Split(line, separator)) {
        const auto number = ParseNumber<std::uint64_t>(word);
        if (number) numbers.push_back(*number);
    }
    return numbers;
}

}  // namespace

Result<std::uint32_t> TakeUidRange(const std::string& box_path, const std::string& registry,
                                   const NoteRange& note) {
    const UniqueFd lock = TRY(LockRegistry(registry));
    const std::string subuid = Slurp("/etc/subuid") + "\n" + Slurp("/etc/subgid");
    const std::string uid_map = Slurp("/proc/self/uid_map");
    const auto start = static_cast<std::uint32_t>(Fnv1a(box_path) % kRangeCount);
    for (std::uint32_t i = 0; i < kRangeCount; ++i) {
        const std::uint32_t first = kFirstRange + (start + i) % kRangeCount * kIdsPerSandbox;
        const auto owner = OwnerOf(registry, first);
        if (owner && *owner != box_path) continue;
        if (OverlapsSubids(subuid, first) || !IsMapped(uid_map, first)) continue;
        (void)TRY(note(first));
        const UniqueFd entry =
            TRY(OpenFile(Entry(registry, first), O_WRONLY | O_CREAT | O_TRUNC, 0600));
        (void)TRY(WriteAll(entry.get(), box_path));
        return first;
    }
    return Error(
        Errno{EOPNOTSUPP},
        "no 65536 free user ids for a sandbox; inside a container give it more ids, or mount as "
        "an ordinary user");
}

Status RetakeUidRange(std::uint32_t first, const std::string& box_path,
                      const std::string& registry) {
    const UniqueFd lock = TRY(LockRegistry(registry));
    const auto owner = OwnerOf(registry, first);
    if (owner && !owner->empty() && *owner != box_path) {
        return Error(Errno{EBUSY},
                     "another sandbox has its user ids since this machine was restarted; it can be "
                     "started when that one is removed: " +
                         *owner);
    }
    const UniqueFd entry =
        TRY(OpenFile(Entry(registry, first), O_WRONLY | O_CREAT | O_TRUNC, 0600));
    return WriteAll(entry.get(), box_path);
}

void FreeUidRange(std::uint32_t first, const std::string& box_path, const std::string& registry) {
    const auto lock = LockRegistry(registry);
    const auto entry = ReadWholeFile(Entry(registry, first), 8192);
    // An empty one, seen with the lock held, is of a helper killed before it had written its name.
    if (lock && entry && (*entry == box_path || entry->empty())) {
        (void)::unlink(Entry(registry, first).c_str());
    }
}

bool OverlapsSubids(std::string_view subuid, std::uint32_t first) {
    for (const std::string& line : Split(subuid, '\n')) {
        const std::size_t colon = line.find(':');
        if (colon == std::string::npos) continue;
        const auto range = Numbers(std::string_view(line).substr(colon + 1), ':');
        if (range.size() != 2) continue;
        const std::uint64_t end = std::uint64_t{first} + kIdsPerSandbox;
        if (range[0] < end && first < range[0] + range[1]) return true;
    }
    return false;
}

bool IsMapped(std::string_view uid_map, std::uint32_t first) {
    for (const std::string& line : Split(uid_map, '\n')) {
        const auto map = Numbers(line, ' ');
        if (map.size() != 3) continue;
        if (first >= map[0] && std::uint64_t{first} + kIdsPerSandbox <= map[0] + map[2])
            return true;
    }
    return false;
}

}  // namespace sbxfs
