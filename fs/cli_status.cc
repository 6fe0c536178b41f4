#include "fs/cli_status.h"

#include <errno.h>
#include <unistd.h>

#include <cstdio>
#include <vector>

#include "base/json.h"
#include "base/strings.h"
#include "fs/mount_probe.h"
#include "fs/mounts.h"

namespace sbxfs {
namespace {

struct Health {
    Json info = Json::Object();
    std::string refusals;
    std::string wrong;  // empty: it answers
};

Health Examine(const SbxfsMount& mount) {
    Health health;
    health.info.Set("mountpoint", mount.path);
    if (!mount.for_all && mount.user != ::geteuid()) {
        health.wrong = "of user " + std::to_string(mount.user) + ", who alone can look into it";
    } else if (auto texts =
                   ProbeFiles({mount.path + "/.mount/info.json", mount.path + "/.mount/last_error"},
                              kPatience);
               texts) {
        if (const auto info = Json::Parse(texts->front())) health.info = *info;
        health.refusals = texts->back();
    } else if (texts.error().code() == Errno{ENOTCONN} ||
               texts.error().code() == Errno{ECONNABORTED}) {
        health.wrong =
            "its daemon is gone; the sandboxes go on, and are there again after: sbxfs mount " +
            mount.path;
    } else if (texts.error().code() == Errno{ETIMEDOUT}) {
        health.wrong = "no answer within " + std::to_string(kPatience.count()) +
                       " s: its daemon is stopped, or the machine is very busy";
    } else {
        health.wrong = texts.error().what();
    }
    health.info.Set("answers", health.wrong.empty());
    if (!health.wrong.empty()) health.info.Set("error", health.wrong);
    return health;
}

std::string Text(const Json& info, std::string_view key, std::string_view otherwise) {
    const std::string value = info.GetString(key).value_or("");
    return Printable(value.empty() ? otherwise : std::string_view(value), 4096);
}

std::string Counts(const Json& info) {
    std::int64_t all = 0;
    std::vector<std::string> parts;
    for (const auto& [status, count] : info.Find("sandboxes").value_or(Json()).Members()) {
        all += count.AsNumber().value_or(0);
        parts.push_back(std::to_string(count.AsNumber().value_or(0)) + " " + Printable(status, 32));
    }
    std::string text = std::to_string(all);
    if (!parts.empty()) text += ": " + Join(parts, ", ");
    if (const auto going = info.GetNumber("being_destroyed"); going && *going > 0)
        text += "; " + std::to_string(*going) + " being destroyed";
    return text;
}

void Print(const Health& health) {
    const Json& info = health.info;
    (void)std::printf("%s\n", Text(info, "mountpoint", "?").c_str());
    const auto line = [](const char* name, const std::string& value) {
        (void)std::printf("  %-10s  %s\n", name, value.c_str());
    };
    if (!health.wrong.empty()) return line("error", health.wrong);
    line("daemon", "process " + std::to_string(info.GetNumber("pid").value_or(0)) + ", sbxfs " +
                       Text(info, "version", "?") + ", since " + Text(info, "mounted", "?"));
    line("options", Text(info, "options", "none"));
    line("config", Text(info, "config_file", "built in"));
    line("state", Text(info, "state_dir", "?"));
    line("log", Text(info, "log_file", "stderr of the daemon"));
    line("sandboxes", Counts(info));
    const std::int64_t waiting = info.GetNumber("requests_waiting").value_or(0);
    if (waiting > 0) line("waiting", std::to_string(waiting) + " requests wait for a sandbox");
    const std::string newest = health.refusals.substr(0, health.refusals.find('\n'));
    if (!newest.empty()) line("refused", "last: " + Printable(newest, 2000));
}

// The mounts a request is about: of several on one point the uppermost.
Result<std::vector<SbxfsMount>> Chosen(const std::string& mountpoint) {
    std::vector<SbxfsMount> mounts;
    if (!mountpoint.empty()) {
        mounts.push_back(TRY(FindMount(mountpoint)));
        return mounts;
    }
    for (SbxfsMount& mount : AllSbxfsMounts()) {
        std::erase_if(mounts,
                      [&mount](const SbxfsMount& below) { return below.path == mount.path; });
        mounts.push_back(std::move(mount));
    }
    std::erase_if(mounts, [](const SbxfsMount& mount) { return !IsTrusted(mount); });
    return mounts;
}

}  // namespace

int StatusCommand(const StatusRequest& request) {
    const Result<std::vector<SbxfsMount>> mounts = Chosen(request.mountpoint);
    if (!mounts) {
        (void)std::fprintf(stderr, "sbxfs: %s\n", mounts.error().what().c_str());
        return 1;
    }
    bool well = true;
    Json all = Json::Array();
    for (const SbxfsMount& mount : *mounts) {
        const Health health = Examine(mount);
        well = well && health.wrong.empty();
        if (request.json) {
            all.Append(health.info);
        } else {
            Print(health);
        }
    }
    if (request.json) {
        (void)std::printf("%s\n", all.Dump(2).c_str());
    } else if (mounts->empty()) {
        (void)std::printf("nothing is mounted; start with: sbxfs mount MOUNTPOINT\n");
    }
    return well ? 0 : 1;
}

}  // namespace sbxfs
