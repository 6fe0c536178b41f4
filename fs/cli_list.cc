#include "fs/cli_list.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <vector>

#include "base/files.h"
#include "base/json.h"
#include "base/strings.h"
#include "fs/describe.h"
#include "fs/mount_probe.h"
#include "fs/mounts.h"
#include "sandbox/unmounted.h"

namespace sbxfs {
namespace {

void ReadSandbox(const std::string& directory, std::vector<Json>& found) {
    const Result<std::string> text = ReadWholeFile(directory + "/info.json");
    if (!text) return;  // gone meanwhile
    if (const auto info = Json::Parse(*text)) found.push_back(*info);
}

// The sandboxes of a mount; `paid` adds those whose end the provider has not confirmed.
std::vector<Json> ReadMount(const std::string& mountpoint, bool paid) {
    std::vector<Json> found;
    // One whose daemon is stopped must not keep us from the others.
    const auto answers = ProbeFiles({mountpoint + "/.mount/version"}, std::chrono::seconds(3));
    if (!answers) {
        (void)std::fprintf(stderr, "sbxfs: %s: %s\n", mountpoint.c_str(),
                           answers.error().what().c_str());
        return found;
    }
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(mountpoint, error)) {
        const std::string name = entry.path().filename();
        if (name != ".mount" && name != "README.md") ReadSandbox(entry.path(), found);
    }
    if (error) {
        (void)std::fprintf(stderr, "sbxfs: %s: %s\n", mountpoint.c_str(), error.message().c_str());
    }
    if (!paid) return found;
    for (const auto& entry :
         std::filesystem::directory_iterator(mountpoint + "/.mount/history", error)) {
        const Result<std::string> status = ReadWholeFile(entry.path().string() + "/status", 64);
        if (status && Trim(*status) == ToString(SandboxStatus::kStopping))
            ReadSandbox(entry.path(), found);
    }
    return found;
}

// What the journal of a mount that is not there says of its sandboxes.
std::vector<Json> ReadUnmounted(const Unmounted& where) {
    std::vector<Json> found;
    for (const SandboxRecord& record : where.sandboxes) {
        SandboxSnapshot snapshot;
        snapshot.record = record;
        snapshot.error = record.error;
        MountSettings settings;
        settings.mountpoint = where.mountpoint;
        Json info = Json::Object();
        const auto whole = Json::Parse(InfoJson(snapshot, settings));
        for (const auto& [key, value] : whole.value_or(Json::Object()).Members())
            info.Set(key, value);
        info.Set("status", "unmounted");
        info.Set("state_dir", where.state_dir);
        found.push_back(std::move(info));
    }
    return found;
}

std::string Field(const Json& info, std::string_view key) {
    const std::string value = info.GetString(key).value_or("");
    return value.empty() ? "-" : value;
}

}  // namespace

int ListCommand(const ListRequest& request) {
    std::vector<std::string> mounts = UsableMounts();
    std::vector<Unmounted> unmounted;
    if (request.mountpoint.empty()) unmounted = FindUnmounted();
    if (!request.mountpoint.empty()) {
        const std::string real = std::filesystem::weakly_canonical(request.mountpoint).string();
        if (std::find(mounts.begin(), mounts.end(), real) == mounts.end()) {
            (void)std::fprintf(stderr, "sbxfs: no sbxfs is mounted on %s\n",
                               request.mountpoint.c_str());
            return 1;
        }
        mounts = {real};
    }
    std::vector<Json> all;
    for (const std::string& mountpoint : mounts) {
        for (Json& info : ReadMount(mountpoint, request.paid))
            all.push_back(std::move(info));
    }
    for (const Unmounted& where : unmounted) {
        for (Json& info : ReadUnmounted(where))
            all.push_back(std::move(info));
    }
    if (request.paid) {
        std::erase_if(all, [](const Json& info) { return !info.GetBool("paid").value_or(false); });
    }
    if (request.json) {
        Json list = Json::Array();
        for (const Json& info : all)
            list.Append(info);
        (void)std::printf("%s\n", list.Dump(2).c_str());
        return 0;
    }
    if (mounts.empty()) {
        (void)std::fprintf(stderr,
                           "sbxfs: nothing is mounted; start with: sbxfs mount MOUNTPOINT\n");
    }
    if (all.empty() && (mounts.empty() || request.paid)) return 0;
    std::vector<std::vector<std::string>> rows = {
        {"PATH", "STATUS", "PROVIDER", "TEMPLATE", "CREATED"}};
    for (const Json& info : all) {
        rows.push_back({Field(info, "path"), Field(info, "status"), Field(info, "provider"),
                        Field(info, "template"), Field(info, "created")});
    }
    std::vector<std::size_t> widths(rows[0].size(), 0);
    for (const auto& row : rows) {
        for (std::size_t i = 0; i < row.size(); ++i)
            widths[i] = std::max(widths[i], row[i].size());
    }
    for (const auto& row : rows) {
        std::string line;
        for (std::size_t i = 0; i < row.size(); ++i) {
            line += row[i];
            if (i + 1 < row.size()) line += std::string(widths[i] - row[i].size() + 2, ' ');
        }
        (void)std::printf("%s\n", line.c_str());
    }
    return 0;
}

}  // namespace sbxfs
