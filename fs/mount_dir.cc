#include "fs/mount_dir.h"

#include <sys/stat.h>

#include "base/strings.h"
#include "fs/help_text.h"
#include "fs/metrics_file.h"
#include "fs/mount_info.h"
#include "fs/new_file.h"
#include "fs/run_script.h"
#include "fs/sandbox_dir.h"
#include "fs/snapshots_dir.h"
#include "fs/templates_dir.h"

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
    return {{"README.md", S_IFREG}, {"bin", S_IFDIR},       {"config.toml", S_IFREG},
            {"history", S_IFDIR},   {"info.json", S_IFREG}, {"last_error", S_IFREG},
            {"log", S_IFREG},       {"metrics", S_IFREG},   {"new", S_IFREG},
            {"snapshots", S_IFDIR}, {"templates", S_IFDIR}, {"version", S_IFREG}};
}

std::optional<Child> MountDir::FindChild(std::string_view name) const {
    MountContext& m = mount();
    const auto since_mount = [time = m.mounted] { return time; };
    if (name == "README.md") {
        return TextChild(
            m, "README.md", [&m] { return MountReadme(m.settings); }, since_mount);
    }
    if (name == "bin") return MakeChild<BinDir>(m, "bin", "bin");
    if (name == "new") return MakeChild<NewFile>(m, "new", "new");
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
    if (name == "metrics") {
        return TextChild(
            m, "metrics", [&m] { return MetricsOf(m); }, [&m] { return m.clock.System(); });
    }
    if (name == "snapshots") return MakeChild<SnapshotsDir>(m, "snapshots", "snapshots");
    if (name == "templates") return MakeChild<TemplatesDir>(m, "templates", "templates");
    if (name == "version") {
        return TextChild(
            m, "version", [] { return std::string(kContractVersion) + "\n"; }, since_mount);
    }
    return std::nullopt;
}

Attr BinDir::Stat() const {
    return MountDirAttr(mount().mounted);
}

std::vector<ControlDir::Name> BinDir::List() const {
    return {{"run", S_IFREG}};
}

std::optional<Child> BinDir::FindChild(std::string_view name) const {
    if (name != "run") return std::nullopt;
    return MakeChild<TextNode>(
        mount(), "run", "run", TextFunction([] { return std::string(RunScript()); }),
        TimeFunction([time = mount().mounted] { return time; }), std::uint32_t{0555});
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
