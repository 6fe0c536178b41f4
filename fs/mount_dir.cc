#include "fs/mount_dir.h"

#include <sys/stat.h>

#include "base/strings.h"
#include "fs/help_text.h"
#include "fs/mount_info.h"
#include "fs/sandbox_dir.h"

namespace sbxfs {
namespace {

Attr MountDirAttr(SystemTime time, std::uint32_t permissions = 0700) {
    Attr attr;
    attr.mode = S_IFDIR | permissions;
    attr.atime = attr.mtime = attr.ctime = time;
    return attr;
}

std::string HistoryName(const Sandbox& sandbox) {
    return sandbox.name() + "." + ToString(sandbox.generation());
}

}  // namespace

Attr MountDir::Stat() const {
    return MountDirAttr(mount().mounted);
}

std::vector<ControlDir::Name> MountDir::List() const {
    return {{"config.toml", S_IFREG}, {"history", S_IFDIR}, {"info.json", S_IFREG},
            {"last_error", S_IFREG},  {"log", S_IFREG},     {"templates", S_IFDIR},
            {"version", S_IFREG}};
}

std::optional<Child> MountDir::FindChild(std::string_view name) const {
    MountContext& m = mount();
    const auto since_mount = [time = m.mounted] { return time; };
    if (name == "config.toml") {
        return TextChild(
            m, "config.toml", [&m] { return m.config.Now()->Text(); },
            [&m] { return m.config.since(); });
    }
    if (name == "history") return MakeChild<HistoryDir>(m, "history", "history");
    if (name == "info.json") {
        return TextChild(
            m, "info.json", [&m] { return MountInfoJson(m); }, [&m] { return m.clock.System(); });
    }
    if (name == "last_error") {
        return TextChild(
            m, "last_error", [&m] { return m.refusals.Text(); },
            [&m] { return std::max(m.mounted, m.refusals.Newest()); });
    }
    if (name == "log") {
        return TextChild(
            m, "log", [&m] { return m.settings.recent_log ? m.settings.recent_log() : ""; },
            [&m] { return m.clock.System(); });
    }
    if (name == "templates") return MakeChild<TemplatesDir>(m, "templates", "templates");
    if (name == "version") {
        return TextChild(
            m, "version", [] { return std::string(kContractVersion) + "\n"; }, since_mount);
    }
    return std::nullopt;
}

Attr TemplatesDir::Stat() const {
    return MountDirAttr(mount().config.since());
}

std::vector<ControlDir::Name> TemplatesDir::List() const {
    std::vector<Name> names;
    for (const auto& [name, what] : mount().config.Now()->templates) {
        names.push_back({name + ".toml", S_IFREG});
    }
    return names;
}

std::optional<Child> TemplatesDir::FindChild(std::string_view name) const {
    if (!name.ends_with(".toml")) return std::nullopt;
    const std::string key(name.substr(0, name.size() - 5));
    MountContext& m = mount();
    if (!m.config.Now()->templates.contains(key)) return std::nullopt;
    return TextChild(
        m, std::string(name),
        [&m, key] {
            const auto config = m.config.Now();
            const auto it = config->templates.find(key);
            return it == config->templates.end() ? "" : TemplateText(it->second);
        },
        [&m] { return m.config.since(); });
}

Attr HistoryDir::Stat() const {
    SystemTime newest = mount().mounted;
    for (const SandboxPtr& sandbox : mount().sandboxes.History()) {
        newest = std::max(newest, FromEpochMs(sandbox->Snapshot().record.ended_ms));
    }
    return MountDirAttr(newest);
}

std::vector<ControlDir::Name> HistoryDir::List() const {
    std::vector<Name> names;
    for (const SandboxPtr& sandbox : mount().sandboxes.History()) {
        names.push_back({HistoryName(*sandbox), S_IFDIR});
    }
    return names;
}

std::optional<Child> HistoryDir::FindChild(std::string_view name) const {
    for (const SandboxPtr& sandbox : mount().sandboxes.History()) {
        if (HistoryName(*sandbox) != name) continue;
        return MakeChild<PastSandboxDir>(mount(), std::string(name), std::string(name), sandbox);
    }
    return std::nullopt;
}

}  // namespace sbxfs
