#include "sandbox/unmounted.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/files.h"
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

}  // namespace

std::vector<Unmounted> FindUnmounted() {
    std::vector<Unmounted> all;
    const Result<std::string> base = StateDir::DefaultBase();
    if (!base) return all;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(*base, error)) {
        const std::string path = entry.path().string();
        if (!std::filesystem::exists(path + "/journal.db", error) || StateDir::IsHeld(path))
            continue;
        Result<Unmounted> found = Read(path);
        if (found && !found->sandboxes.empty()) all.push_back(*std::move(found));
    }
    std::sort(all.begin(), all.end(),
              [](const Unmounted& a, const Unmounted& b) { return a.state_dir < b.state_dir; });
    return all;
}

}  // namespace sbxfs
