#include "fs/root_dir.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/strings.h"
#include "fs/help_text.h"
#include "fs/mount_dir.h"
#include "fs/sandbox_dir.h"

namespace sbxfs {

Result<Template> ChooseTemplate(const Config& config, const SandboxName& name) {
    const std::string& wanted =
        name.template_name.empty() ? config.default_template : name.template_name;
    const auto it = config.templates.find(wanted);
    if (it != config.templates.end()) return it->second;
    std::vector<std::string> known;
    for (const auto& [key, value] : config.templates)
        known.push_back(key);
    return Error(Errno{ENOENT}, "no template '" + Printable(wanted) +
                                    "' in the configuration; there are: " + Join(known, ", "));
}

Attr RootDir::Stat() const {
    Attr attr;
    attr.mode = S_IFDIR | 0700;
    // The newest sandbox made: names come and go with it.
    attr.mtime = mount().mounted;
    for (const SandboxPtr& sandbox : mount().sandboxes.List()) {
        attr.mtime = std::max(attr.mtime, FromEpochMs(sandbox->created_ms()));
    }
    attr.atime = attr.ctime = attr.mtime;
    return attr;
}

std::vector<ControlDir::Name> RootDir::List() const {
    std::vector<Name> names = {{"README.md", S_IFREG}, {".mount", S_IFDIR}};
    for (const SandboxPtr& sandbox : mount().sandboxes.List()) {
        names.push_back({sandbox->name(), S_IFDIR});
    }
    return names;
}

Child RootDir::SandboxChild(const SandboxPtr& sandbox) const {
    // A name used again is another sandbox: the generation keeps their nodes apart.
    return MakeChild<SandboxDir>(mount(), sandbox->name(),
                                 sandbox->name() + "." + ToString(sandbox->generation()), sandbox);
}

std::optional<Child> RootDir::FindChild(std::string_view name) const {
    if (name == "README.md") {
        return TextChild(
            mount(), "README.md", [&settings = mount().settings] { return MountReadme(settings); },
            [time = mount().mounted] { return time; });
    }
    if (name == ".mount") return MakeChild<MountDir>(mount(), ".mount", ".mount");
    const SandboxPtr sandbox = mount().sandboxes.Find(std::string(name));
    if (sandbox == nullptr) return std::nullopt;
    return SandboxChild(sandbox);
}

std::string RootDir::MissingText(std::string_view) const {
    return "";
}

// sbxfs umount asks so whether everything has arrived.
void RootDir::Sync(Done done) {
    mount().sandboxes.DrainChanges(std::move(done));
}

void RootDir::MakeDir(std::string_view name, std::uint32_t, EntryReply reply) {
    const Result<SandboxName> parsed = ParseSandboxName(name);
    if (!parsed) return std::move(reply).Fail(parsed.error());
    if (name == "README.md")
        return std::move(reply).Fail(Error(Errno{EEXIST}, "that name is the mount's own"));
    const Result<Template> what = ChooseTemplate(*mount().config.Now(), *parsed);
    if (!what) return std::move(reply).Fail(what.error());
    auto self = std::static_pointer_cast<RootDir>(shared_from_this());
    mount().sandboxes.Create(*parsed, *what,
                             [self, reply = mount().lot.Watch(std::move(reply))](
                                 const Result<SandboxPtr>& created) mutable {
                                 if (!created) return std::move(reply).Fail(created.error());
                                 self->Answer(self->SandboxChild(*created), std::move(reply));
                             });
}

void RootDir::RemoveDir(std::string_view name, EmptyReply reply) {
    if (name == ".mount") {
        return std::move(reply).Fail(
            Error(Errno{EPERM}, "'.mount' belongs to the mount; end the mount with umount"));
    }
    const std::string path = "/" + std::string(name);
    if (mount().removals.EndsAWalk(reply.caller(), path)) {
        return std::move(reply).Fail(Error(
            Errno{EPERM},
            "this process has just tried to remove entries of the sandbox one by one, as rm -r "
            "and find -delete do; nothing was destroyed. To destroy it: rmdir " +
                mount().settings.mountpoint + path));
    }
    mount().sandboxes.Destroy(std::string(name),
                              [reply = mount().lot.Watch(std::move(reply))](
                                  const Status& status) mutable { std::move(reply).Done(status); });
}

}  // namespace sbxfs
