#include "sandbox/unmounted.h"

#include <errno.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/files.h"
#include "base/strings.h"
#include "sandbox/state_dir.h"
#include "sandbox/store.h"

namespace sbxfs {
namespace {

Result<Unmounted> Read(const std::string& path) {
    Unmounted found;
    found.state_dir = path;
    const std::string holder = StateDir::LastHolder(path);
    constexpr std::string_view kWords = " for the mount on ";
    if (const std::size_t at = holder.find(kWords); at != std::string::npos)
        found.mountpoint = holder.substr(at + kWords.size());
    // Its lock is held meanwhile: a daemon that starts now waits for us.
    const StateDir dir = TRY(StateDir::Open(path, holder));
    const std::unique_ptr<Store> store = TRY(Store::Open(dir));
    found.sandboxes = TRY(store->LoadSandboxes());
    std::erase_if(found.sandboxes,
                  [](const SandboxRecord& record) { return record.stage == Stage::kGone; });
    return found;
}

// Held by a daemon, and not only by another listing that reads it at this moment, which Read() waits for.
bool IsServed(const std::string& path) {
    if (!StateDir::IsHeld(path)) return false;
    const std::string holder = StateDir::LastHolder(path);
    constexpr std::string_view kProcess = "process ";
    if (!holder.starts_with(kProcess)) return true;
    const std::string digits =
        holder.substr(kProcess.size(), holder.find(' ', kProcess.size()) - kProcess.size());
    const auto pid = ParseNumber<pid_t>(digits);
    return !pid || ::kill(*pid, 0) == 0 || errno != ESRCH;
}

}  // namespace

Unserved FindUnmounted() {
    Unserved all;
    const Result<std::string> base = StateDir::DefaultBase();
    if (!base) return all;
    std::error_code error;
    std::filesystem::directory_iterator at(*base, error);
    for (; !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
        const std::string path = at->path().string();
        std::error_code unknown;
        const bool has_journal = std::filesystem::exists(path + "/journal.db", unknown);
        if (unknown)
            all.unread.emplace(path, SystemError(unknown.value(), "looking for its journal"));
        if (!has_journal || IsServed(path)) continue;
        Result<Unmounted> found = Read(path);
        if (!found) {
            all.unread.emplace(path, found.error());
        } else if (!found->sandboxes.empty()) {
            all.found.push_back(*std::move(found));
        }
    }
    if (error && error != std::errc::no_such_file_or_directory)
        all.unread.emplace(*base, SystemError(error.value(), "listing the state directories"));
    std::sort(all.found.begin(), all.found.end(),
              [](const Unmounted& a, const Unmounted& b) { return a.state_dir < b.state_dir; });
    return all;
}

}  // namespace sbxfs
