#include "fs/cli_list.h"

#include <errno.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>
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

void Complain(const std::string& place, const std::string& what) {
    (void)std::fprintf(stderr, "sbxfs: %s: %s\n", place.c_str(), what.c_str());
}

// What it reads, and whether that is all there is; what is missing was said on stderr.
class Listing {
 public:
    // The sandboxes of a mount; `paid` adds those whose end the provider has not confirmed.
    void ReadMount(const std::string& mountpoint, bool paid) {
        // One whose daemon is stopped must not keep us from the others.
        const auto answers = ProbeFiles({mountpoint + "/.mount/version"}, kPatience);
        if (!answers) return Lack(mountpoint, answers.error().what());
        for (const std::string& name : NamesIn(mountpoint)) {
            if (name != ".mount" && name != "README.md") ReadSandbox(mountpoint + "/" + name);
        }
        if (!paid) return;
        ReadStrangers(mountpoint);
        const std::string history = mountpoint + "/.mount/history";
        for (const std::string& name : NamesIn(history)) {
            const std::string directory = history + "/" + name;
            const Result<std::string> status = ReadWholeFile(directory + "/status", 64);
            if (status && Trim(*status) == ToString(SandboxStatus::kStopping))
                ReadSandbox(directory);
        }
    }
    // Each as an object like those of sandboxes.
    const std::vector<Json>& strangers() const { return strangers_; }
    void Add(Json info) { found_.push_back(std::move(info)); }
    void Lack(const std::string& place, const std::string& why) {
        Complain(place, why);
        whole_ = false;
    }

    std::vector<Json>& found() { return found_; }
    bool whole() const { return whole_; }

 private:
    void ReadStrangers(const std::string& mountpoint) {
        const Result<std::string> text = ReadWholeFile(mountpoint + "/.mount/info.json");
        const auto info = text ? Json::Parse(*text) : std::nullopt;
        if (!info) return Lack(mountpoint, "it does not say what else runs on its account");
        const auto strangers = info->Find("strangers");
        for (Json one : strangers ? strangers->Elements() : std::vector<Json>()) {
            one.Set("status", "stranger").Set("paid", true).Set("mountpoint", mountpoint);
            strangers_.push_back(std::move(one));
        }
    }
    // The daemon may end at any moment.
    std::vector<std::string> NamesIn(const std::string& directory) {
        std::vector<std::string> names;
        std::error_code error;
        std::filesystem::directory_iterator at(directory, error);
        for (; !error && at != std::filesystem::directory_iterator(); at.increment(error))
            names.push_back(at->path().filename());
        if (error) Lack(directory, error.message());
        return names;
    }
    void ReadSandbox(const std::string& directory) {
        const Result<std::string> text = ReadWholeFile(directory + "/info.json");
        if (!text && text.error().code() == Errno{ENOENT}) return;  // gone meanwhile
        if (!text) return Lack(directory, text.error().what());
        if (const auto info = Json::Parse(*text)) return Add(*info);
        Lack(directory, "its info.json is no JSON");
    }

    std::vector<Json> found_;
    std::vector<Json> strangers_;
    bool whole_ = true;
};

std::string Field(const Json& info, std::string_view key) {
    // What a mount says of itself goes to a terminal.
    const std::string value = Printable(info.GetString(key).value_or(""), 4096);
    return value.empty() ? "-" : value;
}

// What runs and costs without being in any journal: nobody but the user may end it.
void PrintStrangers(const std::vector<Json>& strangers) {
    if (strangers.empty()) return;
    (void)std::printf(
        "strangers: they run for a mount whose journal does not know them, because its state "
        "directory was restored or copied. What removes each, if nobody needs it:\n");
    for (const Json& one : strangers)
        (void)std::printf("  %s  since %s  for %s\n    %s\n", Field(one, "name").c_str(),
                          Field(one, "created").c_str(), Field(one, "mountpoint").c_str(),
                          Field(one, "remove_command").c_str());
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
        const auto whole = Json::Parse(InfoJson(snapshot, settings, RealClock().System()));
        for (const auto& [key, value] : whole.value_or(Json::Object()).Members())
            info.Set(key, value);
        info.Set("status", "unmounted");
        info.Set("state_dir", where.state_dir);
        found.push_back(std::move(info));
    }
    return found;
}

}  // namespace

int ListCommand(const ListRequest& request) {
    std::vector<std::string> mounts;
    Unserved unserved;
    if (request.mountpoint.empty()) {
        mounts = TrustedMounts();
        unserved = FindUnmounted();
    } else {
        const Result<SbxfsMount> asked = FindMount(request.mountpoint);
        if (!asked) {
            (void)std::fprintf(stderr, "sbxfs: %s\n", asked.error().what().c_str());
            return 1;
        }
        mounts = {asked->path};
    }
    Listing listing;
    for (const std::string& mountpoint : mounts)
        listing.ReadMount(mountpoint, request.paid);
    for (const Unmounted& where : unserved.found) {
        for (Json& info : ReadUnmounted(where))
            listing.Add(std::move(info));
    }
    for (const auto& [state_dir, why] : unserved.unread)
        listing.Lack(state_dir, "its sandboxes are not listed: " + why.what());
    // A listing that lacks something must not look like a whole one.
    const int code = listing.whole() ? 0 : 1;
    std::vector<Json>& all = listing.found();
    if (request.paid) {
        std::erase_if(all, [](const Json& info) { return !info.GetBool("paid").value_or(false); });
    }
    if (request.json) {
        Json list = Json::Array();
        for (const Json& info : all)
            list.Append(info);
        for (const Json& one : listing.strangers())
            list.Append(one);
        (void)std::printf("%s\n", list.Dump(2).c_str());
        return code;
    }
    if (mounts.empty()) {
        (void)std::fprintf(stderr,
                           "sbxfs: nothing is mounted; start with: sbxfs mount MOUNTPOINT\n");
    }
    if (all.empty() && (mounts.empty() || request.paid)) {
        PrintStrangers(listing.strangers());
        return code;
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
    PrintStrangers(listing.strangers());
    return code;
}

}  // namespace sbxfs
