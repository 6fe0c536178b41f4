#include "fs/templates_dir.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/strings.h"
#include "fs/snapshots_dir.h"
#include "fs/value_file.h"

namespace sbxfs {
namespace {

constexpr std::string_view kEnding = ".toml";

// "py.toml" is template py. Empty for what is no such name.
std::string TemplateOf(std::string_view file) {
    if (!file.ends_with(kEnding)) return "";
    return std::string(file.substr(0, file.size() - kEnding.size()));
}

class TemplateFile final : public ValueFile {
 public:
    using ValueFile::ValueFile;
    std::string Text() const override {
        const auto config = mount().config.Now();
        const auto it = config->templates.find(TemplateOf(Name()));
        return it == config->templates.end() ? "" : TemplateText(it->second);
    }
    SystemTime Time() const override { return mount().config.since(); }
    Writes HowWritten() const override { return Writes::kEdited; }
    std::size_t Limit() const override { return 65536; }
    Status Check(std::string_view text, Part part) const override {
        if (part == Part::kBeginning) return Ok();
        if (Trim(text).empty()) {
            return Error(
                Errno{EINVAL},
                "an empty file is no template; what was there before stays. rm removes it, "
                "and `provider = \"local\"` is the shortest one");
        }
        const auto parsed = ParseTemplate(*mount().config.Now(), TemplateOf(Name()), text);
        if (!parsed) return Error(parsed.error()).While("nothing is changed");
        return Ok();
    }
    void Commit(std::string text, Done done) override {
        const std::string name = TemplateOf(Name());
        Result<Template> what = ParseTemplate(*mount().config.Now(), name, text);
        if (!what) return done(std::move(what).error());
        MountContext& m = mount();
        m.settings.keep_template(name, *what,
                                 [&m, name, what = *what, done = std::move(done)](Status kept) {
                                     if (kept) m.config.Write(name, what, m.clock.System());
                                     done(std::move(kept));
                                 });
    }
};

}  // namespace

Attr TemplatesDir::Stat() const {
    Attr attr;
    attr.mode = S_IFDIR | 0700;
    attr.atime = attr.mtime = attr.ctime = mount().config.since();
    return attr;
}

std::vector<ControlDir::Name> TemplatesDir::List() const {
    std::vector<Name> names;
    for (const auto& [name, what] : mount().config.Now()->templates)
        names.push_back({name + std::string(kEnding), S_IFREG});
    return names;
}

std::optional<Child> TemplatesDir::FindChild(std::string_view name) const {
    if (!mount().config.Now()->templates.contains(TemplateOf(name))) return std::nullopt;
    const std::string own(name);
    return MakeChild<TemplateFile>(mount(), own, own);
}

// The template is there from the first good text on.
void TemplatesDir::Create(std::string_view name, std::uint32_t, const OpenRequest& request,
                          CreateReply reply) {
    const std::string own = TemplateOf(name);
    const auto parsed = ParseSandboxName(own);
    if (!parsed || !parsed->template_name.empty()) {
        return std::move(reply).Fail(
            Error(Errno{EINVAL}, "'" + Printable(name, 64) +
                                     "' is no template: its file is NAME.toml, with a NAME as of a "
                                     "sandbox"));
    }
    const NodePtr node = mount().inodes.Enter(
        shared_from_this(), MakeChild<TemplateFile>(mount(), std::string(name), std::string(name)));
    auto file = std::make_shared<OpenValue>(std::static_pointer_cast<ValueFile>(node), request,
                                            OpenValue::Begins::kEmptied);
    const Opened opened{.handle = mount().handles.Add(std::move(file)), .direct_io = true};
    if (std::move(reply).Created(*node->EntryNow(), opened) == Delivery::kDelivered) return;
    mount().inodes.Forget(node->ino(), 1);
    (void)mount().handles.Remove(opened.handle);  // never opened, so nothing is kept
}

void TemplatesDir::Unlink(std::string_view name, EmptyReply reply) {
    const std::string own = TemplateOf(name);
    MountContext& m = mount();
    const auto config = m.config.Now();
    if (!config->templates.contains(own)) {
        return std::move(reply).Fail(
            Error(Errno{ENOENT}, "no template '" + Printable(name, 64) + "' here"));
    }
    if (m.removals.EndsAWalk(reply.caller(), "/.mount"))
        return RefuseRemoval(name, std::move(reply));
    if (own == config->default_template) {
        return std::move(reply).Fail(
            Error(Errno{EBUSY}, "'" + own +
                                    "' is the default template, which mkdir needs: write another "
                                    "text to it instead"));
    }
    if (IsOfSnapshot(config->templates.at(own))) {
        return std::move(reply).Fail(
            Error(Errno{EBUSY}, "'" + own + "' stands for a snapshot: rm .mount/snapshots/" + own +
                                    ".json removes both"));
    }
    m.settings.keep_template(
        own, std::nullopt,
        [&m, own, reply = m.lot.Watch(std::move(reply))](const Status& kept) mutable {
            if (kept) m.config.Write(own, std::nullopt, m.clock.System());
            std::move(reply).Done(kept);
        });
}

}  // namespace sbxfs
