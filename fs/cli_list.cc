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
#include "fs/mounts.h"

namespace sbxfs {
namespace {

std::vector<Json> ReadMount(const std::string& mountpoint) {
    std::vector<Json> found;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(mountpoint, error)) {
        const std::string name = entry.path().filename();
        if (name == ".mount" || name == "README.md") continue;
        const Result<std::string> text = ReadWholeFile(entry.path().string() + "/info.json");
        if (!text) continue;  // gone meanwhile
        if (const auto info = Json::Parse(*text)) found.push_back(*info);
    }
    if (error) {
        (void)std::fprintf(stderr, "sbxfs: %s: %s\n", mountpoint.c_str(), error.message().c_str());
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
        for (Json& info : ReadMount(mountpoint))
            all.push_back(std::move(info));
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
        return 0;
    }
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
