#include "sandbox/providers/local/local_settings.h"

#include <errno.h>

#include <array>
#include <optional>
#include <utility>

#include "base/did_you_mean.h"
#include "base/strings.h"
#include "sandbox/clean_path.h"
#include "sandbox/names.h"

namespace sbxfs {
namespace {

Error Invalid(std::string what) {
    return {Errno{EINVAL}, std::move(what)};
}

// bubblewrap mounts these itself; a bind or the working directory there would be covered or
// refused.
constexpr std::array<std::string_view, 3> kReserved = {"/proc", "/dev", "/sys"};

Status CheckReserved(const std::string& path, std::string_view what) {
    for (const std::string_view reserved : kReserved) {
        if (IsWithin(path, reserved)) {
            return Invalid(std::string(what) + " " + path + " lies in " + std::string(reserved) +
                           ", which the sandbox has of its own; choose another place");
        }
    }
    return Ok();
}

Result<std::vector<HostBind>> ReadBinds(const OptionValue& value,
                                        const std::vector<std::string>& forbidden) {
    const auto* texts = std::get_if<std::vector<std::string>>(&value);
    if (texts == nullptr) return Invalid("`binds` must be a list of \"SRC:DST[:ro|rw]\"");
    std::vector<HostBind> binds;
    for (const std::string& text : *texts) {
        HostBind bind = TRY(ParseBind(text));
        (void)TRY(CheckBindSource(bind.source, forbidden));
        binds.push_back(std::move(bind));
    }
    return binds;
}

Status CheckLimits(const Template& what, std::int64_t pids) {
    if (what.cpu < 0 || what.cpu > (1 << 20)) {
        return Invalid("`cpu` must be 0 (no limit) or units of 1/1024 core");
    }
    // sshd and its session alone take some; less only fails later, and less clearly.
    if (what.memory != 0 && what.memory < 32)
        return Invalid("`memory` must be 0 (no limit) or at least 32 MiB");
    if (what.memory > 1 << 30)
        return Invalid("`memory` is in MiB; this is more than any machine has");
    if (pids < 16 || pids > (1 << 22)) return Invalid("`pids` must be 16 to 4194304");
    return Ok();
}

}  // namespace

Result<LocalSettings> ReadLocalSettings(const Template& what,
                                        const std::vector<std::string>& forbidden) {
    LocalSettings settings;
    for (const auto& [key, value] : what.options) {
        if (key == "network") {
            const auto* network = std::get_if<std::string>(&value);
            if (network == nullptr || (*network != "shared" && *network != "none")) {
                return Invalid("`network` must be \"shared\" or \"none\"");
            }
            settings.own_network = *network == "none";
        } else if (key == "pids") {
            const auto* pids = std::get_if<std::int64_t>(&value);
            if (pids == nullptr) return Invalid("`pids` must be an integer");
            settings.pids = *pids;
        } else if (key == "binds") {
            settings.binds = TRY(ReadBinds(value, forbidden));
        } else if (key == "snapshot") {
            const auto* snapshot = std::get_if<std::string>(&value);
            const auto name = snapshot != nullptr ? ParseSandboxName(*snapshot)
                                                  : Result<SandboxName>(Error(Errno{EINVAL}, ""));
            if (!name || !name->template_name.empty()) {
                return Invalid(
                    "`snapshot` must be the name of one: ls .mount/snapshots shows them");
            }
            settings.snapshot = *snapshot;
        } else {
            return Invalid("unknown option `" + Printable(key, 64) + "` for provider local" +
                           DidYouMean(key, {"network", "binds", "pids", "snapshot"},
                                      "; there are: network, binds, pids, snapshot", '`'));
        }
    }
    if (!what.image.empty()) {
        return Invalid(
            "`image`: a local sandbox shows this machine's own /usr and has no image; remove it, "
            "or "
            "use provider docker");
    }
    (void)TRY(CheckLimits(what, settings.pids));
    const std::string workdir = TRY(CleanAbsolutePath(what.workdir, "`workdir`"));
    (void)TRY(CheckReserved(workdir, "`workdir`"));
    return settings;
}

Result<HostBind> ParseBind(std::string_view text) {
    const std::vector<std::string> parts = Split(text, ':');
    const std::string shown = "`binds`: \"" + Printable(text, 200) + "\"";
    if (parts.size() < 2 || parts.size() > 3) return Invalid(shown + " is not \"SRC:DST[:ro|rw]\"");
    HostBind bind;
    bind.source = TRY(CleanAbsolutePath(parts[0], shown + ": the source"));
    bind.target = TRY(CleanAbsolutePath(parts[1], shown + ": the target"));
    if (parts.size() == 3 && parts[2] != "ro" && parts[2] != "rw") {
        return Invalid(shown + " ends neither in ro nor in rw");
    }
    bind.writable = parts.size() == 3 && parts[2] == "rw";
    if (bind.target == "/") return Invalid(shown + ": the root of the sandbox is its own");
    if (bind.source == "/")
        return Invalid(shown + ": the whole machine cannot be shown; name directories");
    (void)TRY(CheckReserved(bind.target, shown + ": the target"));
    return bind;
}

Result<std::string> CleanAbsolutePath(std::string_view path, std::string_view what) {
    const std::string prefix(what);
    if (path.empty() || path.front() != '/') return Invalid(prefix + " must be an absolute path");
    if (path.size() > 4000 || path.find('\0') != std::string_view::npos) {
        return Invalid(prefix + " is not a usable path");
    }
    while (path.size() > 1 && path.back() == '/')
        path.remove_suffix(1);
    if (path == "/") return std::string(path);
    for (const std::string& part : Split(path.substr(1), '/')) {
        if (part.empty() || part == "." || part == "..") {
            return Invalid(prefix + " must not have empty, . or .. parts");
        }
        if (part.size() > 255) return Invalid(prefix + " has a name of more than 255 bytes");
    }
    return std::string(path);
}

Status CheckBindSource(const std::string& source, const std::vector<std::string>& forbidden) {
    for (const std::string& path : forbidden) {
        if (!IsWithin(source, path) && !IsWithin(path, source)) continue;
        return Invalid("`binds`: " + source + " and " + path +
                       " (sbxfs's own) lie in each other; a sandbox must not see that");
    }
    return Ok();
}

}  // namespace sbxfs
