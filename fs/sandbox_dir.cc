#include "fs/sandbox_dir.h"

#include <sys/stat.h>

#include <algorithm>

#include "fs/command_files.h"
#include "fs/config_dir.h"
#include "fs/describe.h"
#include "fs/events_dir.h"
#include "fs/help_text.h"
#include "fs/remote_node.h"
#include "fs/remote_paths.h"
#include "fs/ssh_dir.h"
#include "fs/status_file.h"
#include "fs/ttl_file.h"
#include "fs/verb_files.h"
#include "fs/wait_file.h"

namespace sbxfs {
namespace {

SystemTime Created(const Sandbox& sandbox) {
    return FromEpochMs(sandbox.created_ms());
}

// When status, error and info.json last changed.
SystemTime Changed(const Sandbox& sandbox) {
    const SandboxRecord record = sandbox.Snapshot().record;
    std::int64_t ms = std::max(record.created_ms, record.ended_ms);
    if (!record.phases.empty()) ms = std::max(ms, record.phases.back().second);
    return FromEpochMs(ms);
}

Attr DirAttr(SystemTime time) {
    Attr attr;
    attr.mode = S_IFDIR | 0700;
    attr.atime = attr.mtime = attr.ctime = time;
    return attr;
}

// status, error, info.json: the same while it lives and afterwards.
std::optional<Child> FactsChild(MountContext& m, const SandboxPtr& box, std::string_view name) {
    const auto changed = [box] { return Changed(*box); };
    if (name == "status") {
        StatusSource source;
        source.text = [box] { return StatusText(box->Snapshot()); };
        source.mtime = changed;
        source.is_final = [box] { return box->IsGone(); };
        source.keeper = box;
        source.signal = &box->changes();
        source.key = Sandbox::kStatusChanged;
        return StatusChild(m, "status", std::move(source));
    }
    if (name == "error") {
        return TextChild(
            m, "error", [box] { return ErrorText(box->Snapshot()); }, changed,
            [box] { box->LossesRead(); });
    }
    if (name == "info.json") {
        return TextChild(
            m, "info.json",
            [&m, box] { return InfoJson(box->Snapshot(), m.settings, m.clock.System()); }, changed);
    }
    return std::nullopt;
}

}  // namespace

Attr SandboxDir::Stat() const {
    return DirAttr(Created(*sandbox_));
}

std::vector<ControlDir::Name> SandboxDir::List() const {
    std::vector<Name> names = {
        {"README.md", S_IFREG}, {"cmd", S_IFREG},   {"cmd.json", S_IFREG}, {"config", S_IFDIR},
        {"ctl", S_IFREG},       {"error", S_IFREG}, {"events", S_IFDIR},   {"info.json", S_IFREG},
        {"run", S_IFDIR},       {"ssh", S_IFDIR},   {"status", S_IFREG},   {"ttl", S_IFREG},
        {"work", S_IFLNK}};
    if (sandbox_->what().list_fs) names.push_back({"fs", S_IFDIR});
    return names;
}

std::optional<Child> SandboxDir::FindChild(std::string_view name) const {
    MountContext& m = mount();
    const SandboxPtr box = sandbox_;
    if (auto child = FactsChild(m, box, name)) return child;
    if (name == "README.md") {
        return TextChild(
            m, "README.md", [&m, box] { return SandboxReadme(m.settings, *box); },
            [box] { return Created(*box); });
    }
    if (name == "cmd") return MakeChild<CmdFile>(m, "cmd", "cmd", box, CmdFile::Format::kScript);
    if (name == "cmd.json") {
        return MakeChild<CmdFile>(m, "cmd.json", "cmd.json", box, CmdFile::Format::kJson);
    }
    if (name == "run") return MakeChild<RunDir>(m, "run", "run", box);
    if (name == "config") return MakeChild<ConfigDir>(m, "config", "config", box);
    if (name == "ctl") return MakeChild<SandboxCtl>(m, "ctl", "ctl", box);
    if (name == "events") return MakeChild<EventsDir>(m, "events", "events", box);
    if (name == "fs") return MakeChild<RemoteNode>(m, "fs", "fs", box, std::uint32_t{S_IFDIR});
    if (name == "ssh") return MakeChild<SshDir>(m, "ssh", "ssh", box);
    if (name == "ready") return MakeChild<ReadyFile>(m, "ready", "ready", box);
    if (name == "ttl") return MakeChild<TtlFile>(m, "ttl", "ttl", box);
    if (name == "work") {
        return LinkChild(m, "work", "fs" + PathBelowRoot(box->what()), Created(*box));
    }
    return std::nullopt;
}

Attr PastSandboxDir::Stat() const {
    return DirAttr(Changed(*sandbox_));
}

std::vector<ControlDir::Name> PastSandboxDir::List() const {
    std::vector<Name> names = {
        {"error", S_IFREG}, {"events", S_IFDIR}, {"info.json", S_IFREG}, {"status", S_IFREG}};
    if (sandbox_->CanForget()) names.push_back({"ctl", S_IFREG});
    return names;
}

std::optional<Child> PastSandboxDir::FindChild(std::string_view name) const {
    if (auto child = FactsChild(mount(), sandbox_, name)) return child;
    if (name == "events") return MakeChild<EventsDir>(mount(), "events", "events", sandbox_);
    if (name == "ctl" && sandbox_->CanForget())
        return MakeChild<PastCtl>(mount(), "ctl", "ctl", sandbox_);
    return std::nullopt;
}

}  // namespace sbxfs
