#include "fs/config_dir.h"

#include <errno.h>
#include <sys/stat.h>

#include <array>

#include "base/strings.h"

namespace sbxfs {
namespace {

constexpr std::array kKeys = {
    std::pair{std::string_view("cwd"), ConfigKey::kCwd},
    std::pair{std::string_view("shell"), ConfigKey::kShell},
    std::pair{std::string_view("timeout"), ConfigKey::kTimeout},
    std::pair{std::string_view("user"), ConfigKey::kUser},
};

SystemTime ChangedAt(const Sandbox& sandbox) {
    const std::int64_t changed = sandbox.Config().changed_ms;
    return FromEpochMs(changed == 0 ? sandbox.created_ms() : changed);
}

Attr ConfigDirAttr(const Sandbox& sandbox) {
    Attr attr;
    attr.mode = S_IFDIR | 0700;
    attr.atime = attr.mtime = attr.ctime = ChangedAt(sandbox);
    return attr;
}

// What commands start with by now.
std::string InEffect(const Sandbox& sandbox, ConfigKey key) {
    const SandboxSnapshot now = sandbox.Snapshot();
    const CommandDefaults defaults = DefaultsFor(now.record.what, now.record.config);
    switch (key) {
        case ConfigKey::kCwd:
            return defaults.cwd;
        case ConfigKey::kShell:
            if (!defaults.shell.empty() || !now.supervisor) return defaults.shell;
            return now.supervisor->shell;
        case ConfigKey::kTimeout:
            return std::to_string(defaults.timeout_ms / 1000);
        case ConfigKey::kUser:
            if (!defaults.user.empty() || !now.record.connect) return defaults.user;
            return now.record.connect->user;
    }
    return "";
}

class ConfigFile final : public ValueFile {
 public:
    ConfigFile(MountContext& mount, Ino ino, NodePtr parent, std::string name, SandboxPtr sandbox,
               ConfigKey key)
        : ValueFile(mount, ino, std::move(parent), std::move(name)),
          sandbox_(std::move(sandbox)),
          key_(key) {}
    std::string Text() const override { return InEffect(*sandbox_, key_) + "\n"; }
    SystemTime Time() const override { return ChangedAt(*sandbox_); }
    std::optional<Error> Closed() const override { return sandbox_->commands().Closed(); }
    Status Check(std::string_view text, Part part) const override {
        return CheckConfigValue(key_, text,
                                part == Part::kWhole ? ConfigPart::kWhole : ConfigPart::kBeginning);
    }
    void Commit(std::string text, Done done) override {
        sandbox_->Configure([key = key_, text = std::move(text)](
                                SandboxConfig& config) { SetConfigValue(config, key, text); },
                            std::move(done));
    }

 private:
    const SandboxPtr sandbox_;
    const ConfigKey key_;
};

// The name of the node is the variable's.
class VariableFile final : public ValueFile {
 public:
    VariableFile(MountContext& mount, Ino ino, NodePtr parent, std::string name, SandboxPtr sandbox)
        : ValueFile(mount, ino, std::move(parent), std::move(name)), sandbox_(std::move(sandbox)) {}
    std::string Text() const override { return "<set>\n"; }
    SystemTime Time() const override { return ChangedAt(*sandbox_); }
    std::uint32_t Permissions() const override { return 0200; }
    std::size_t Limit() const override { return kMaxVariableBytes + 1; }
    std::optional<Error> Closed() const override { return sandbox_->commands().Closed(); }
    Status Check(std::string_view text, Part part) const override {
        if (part == Part::kBeginning && !text.ends_with('\n')) return Ok();
        if (text.ends_with('\n')) text.remove_suffix(1);
        return CheckVariableValue(text);
    }
    void Commit(std::string text, Done done) override {
        if (text.ends_with('\n')) text.pop_back();
        sandbox_->Configure([name = Name(), value = Secret(std::move(text))](
                                SandboxConfig& config) { config.env[name] = value; },
                            std::move(done));
    }

 private:
    const SandboxPtr sandbox_;
};

}  // namespace

Attr ConfigDir::Stat() const {
    return ConfigDirAttr(*sandbox_);
}

std::vector<ControlDir::Name> ConfigDir::List() const {
    std::vector<Name> names;
    for (const auto& [name, key] : kKeys)
        names.push_back({std::string(name), S_IFREG});
    names.push_back({"env", S_IFDIR});
    return names;
}

std::optional<Child> ConfigDir::FindChild(std::string_view name) const {
    const std::string own(name);
    if (name == "env") return MakeChild<EnvDir>(mount(), own, own, sandbox_);
    for (const auto& [word, key] : kKeys) {
        if (word == name) return MakeChild<ConfigFile>(mount(), own, own, sandbox_, key);
    }
    return std::nullopt;
}

Attr EnvDir::Stat() const {
    return ConfigDirAttr(*sandbox_);
}

std::vector<ControlDir::Name> EnvDir::List() const {
    std::vector<Name> names;
    for (const auto& [name, value] : sandbox_->Config().env)
        names.push_back({name, S_IFREG});
    return names;
}

std::optional<Child> EnvDir::FindChild(std::string_view name) const {
    const std::string own(name);
    if (!sandbox_->Config().env.contains(own)) return std::nullopt;
    return MakeChild<VariableFile>(mount(), own, own, sandbox_);
}

// The variable is there from the first value on, be it the empty one at the last close.
void EnvDir::Create(std::string_view name, std::uint32_t, const OpenRequest& request,
                    CreateReply reply) {
    if (const auto closed = sandbox_->commands().Closed()) return std::move(reply).Fail(*closed);
    if (const Status fits = CheckVariableName(name); !fits)
        return std::move(reply).Fail(fits.error());
    if (sandbox_->Config().env.size() >= kMaxVariables) {
        return std::move(reply).Fail(
            Error(Errno{EDQUOT}, "a sandbox may have " + std::to_string(kMaxVariables) +
                                     " variables in config/env: remove some with rm"));
    }
    const std::string own(name);
    const NodePtr node = mount().inodes.Enter(shared_from_this(),
                                              MakeChild<VariableFile>(mount(), own, own, sandbox_));
    auto file = std::make_shared<OpenValue>(std::static_pointer_cast<ValueFile>(node), request,
                                            OpenValue::Begins::kEmptied);
    const Opened opened{.handle = mount().handles.Add(std::move(file)), .direct_io = true};
    if (std::move(reply).Created(*node->EntryNow(), opened) == Delivery::kDelivered) return;
    mount().inodes.Forget(node->ino(), 1);
    (void)mount().handles.Remove(opened.handle);  // never opened, so nothing is kept
}

void EnvDir::Unlink(std::string_view name, EmptyReply reply) {
    const std::string own(name);
    if (!sandbox_->Config().env.contains(own)) {
        return std::move(reply).Fail(
            Error(Errno{ENOENT}, "no variable '" + Printable(name, 64) + "' is set in config/env"));
    }
    // rm -r of the sandbox is refused all else and must not unset what it meets.
    if (mount().removals.EndsAWalk(reply.caller(), "/" + sandbox_->name()))
        return RefuseRemoval(name, std::move(reply));
    sandbox_->Configure([own](SandboxConfig& config) { config.env.erase(own); },
                        [reply = mount().lot.Watch(std::move(reply))](
                            const Status& status) mutable { std::move(reply).Done(status); });
}

}  // namespace sbxfs
