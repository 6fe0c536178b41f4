#include "fs/mount_info.h"

#include <unistd.h>

#include <map>

#include "base/json.h"
#include "fs/help_text.h"
#include "sandbox/event_json.h"

namespace sbxfs {

std::string MountInfoJson(MountContext& mount) {
    const MountSettings& settings = mount.settings;
    Json json = Json::Object();
    json.Set("mountpoint", settings.mountpoint);
    json.Set("pid", std::int64_t{::getpid()});
    json.Set("version", SBXFS_VERSION);
    json.Set("contract", kContractVersion);
    SetTime(json, "mounted", EpochMs(mount.mounted));
    SetTime(json, "configured", EpochMs(mount.config.since()));
    json.Set("config_file", mount.config.Now()->file);
    json.Set("options", settings.options);
    json.Set("state_dir", settings.state_dir);
    json.Set("log_file", settings.log_file);
    std::map<std::string, std::int64_t> by_status;
    for (const SandboxPtr& sandbox : mount.sandboxes.List())
        ++by_status[std::string(ToString(sandbox->status()))];
    Json sandboxes = Json::Object();
    for (const auto& [status, count] : by_status)
        sandboxes.Set(status, count);
    json.Set("sandboxes", sandboxes);
    Json strangers = Json::Array();
    for (const Stranger& one : settings.strangers ? settings.strangers() : std::vector<Stranger>())
        strangers.Append(Json::Object()
                             .Set("id", one.id)
                             .Set("name", one.name)
                             .Set("created", one.since)
                             .Set("remove_command", one.remove_command));
    json.Set("strangers", strangers);
    std::int64_t going = 0;
    for (const SandboxPtr& sandbox : mount.sandboxes.History())
        going += sandbox->IsGone() ? 0 : 1;
    json.Set("being_destroyed", going);
    json.Set("requests_waiting", static_cast<std::int64_t>(mount.lot.Count()));
    json.Set("files_open", static_cast<std::int64_t>(mount.handles.Count()));
    return json.Dump(2) + "\n";
}

}  // namespace sbxfs
