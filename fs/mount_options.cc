#include "fs/mount_options.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/did_you_mean.h"
#include "base/strings.h"

namespace sbxfs {
namespace {

// What fstab, mount(8) and systemd say for themselves (mount(8), "filesystem-independent mount options").
bool IsGeneric(std::string_view option) {
    static const std::vector<std::string_view> kWords = {
        "rw",       "auto",       "noauto",   "defaults",   "_netdev",     "nofail",
        "user",     "users",      "nouser",   "group",      "owner",       "noowner",
        "nogroup",  "async",      "sync",     "dirsync",    "atime",       "noatime",
        "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime",
        "lazytime", "nolazytime", "iversion", "noiversion", "mand",        "nomand",
        "silent",   "loud",       "dev",      "nodev",      "suid",        "nosuid",
        "noexec",   "comment"};
    return std::find(kWords.begin(), kWords.end(), option) != kWords.end() ||
           option.starts_with("x-") || option.starts_with("X-") || option.starts_with("comment=") ||
           option.starts_with("user=");
}

// Only what OptionHelp names is known: one table for parsing, help, manual and completion.
std::vector<std::string_view> KnownKeys() {
    std::vector<std::string_view> keys;
    for (const OptionHelp& option : MountOptionsHelp())
        keys.push_back(option.form.substr(0, option.form.find('=')));
    return keys;
}

Error BadValue(std::string_view key, std::string_view value, std::string_view wanted) {
    return {Errno{EINVAL}, "mount option " + std::string(key) + "=" + Printable(value, 64) +
                               ": it must be " + std::string(wanted)};
}

Result<std::string> Path(std::string_view key, const std::string& value) {
    if (!value.starts_with('/')) return BadValue(key, value, "an absolute path");
    return value;
}

// One of two words: whether it is the first.
Result<bool> Choice(std::string_view key, std::string_view value, std::string_view first,
                    std::string_view second) {
    if (value == first) return true;
    if (value == second) return false;
    return BadValue(key, value, std::string(first) + " or " + std::string(second));
}

Result<uid_t> User(const std::string& value) {
    if (const auto number = ParseNumber<uid_t>(value)) return *number;
    std::array<char, 16384> room{};
    struct passwd entry {};
    struct passwd* found = nullptr;
    (void)::getpwnam_r(value.c_str(), &entry, room.data(), room.size(), &found);
    if (found == nullptr) return BadValue("uid", value, "a number or the name of a user here");
    return found->pw_uid;
}

Result<gid_t> Group(const std::string& value) {
    if (const auto number = ParseNumber<gid_t>(value)) return *number;
    std::array<char, 16384> room{};
    struct group entry {};
    struct group* found = nullptr;
    (void)::getgrnam_r(value.c_str(), &entry, room.data(), room.size(), &found);
    if (found == nullptr) return BadValue("gid", value, "a number or the name of a group here");
    return found->gr_gid;
}

Result<mode_t> Umask(const std::string& value) {
    mode_t mask = 0;
    const char* end = value.data() + value.size();
    const auto [rest, error] = std::from_chars(value.data(), end, mask, 8);
    if (error != std::errc() || rest != end || mask > 0777)
        return BadValue("umask", value, "octal, 000 to 777");
    return mask;
}

Status SetValue(const std::string& key, const std::string& value, MountOptions& options) {
    if (key == "config") {
        options.config = TRY(Path(key, value));
    } else if (key == "state_dir") {
        options.state_dir = TRY(Path(key, value));
    } else if (key == "op_timeout") {
        const auto seconds = ParseSeconds(value);
        if (!seconds || *seconds == 0) return BadValue(key, value, "a duration like 30s");
        options.op_timeout = std::chrono::seconds(*seconds);
    } else if (key == "uid") {
        options.uid = TRY(User(value));
    } else if (key == "gid") {
        options.gid = TRY(Group(value));
    } else if (key == "umask") {
        options.umask = TRY(Umask(value));
    } else if (key == "writeback") {
        options.writeback = TRY(Choice(key, value, "on", "off"));
    } else if (key == "idmap") {
        options.idmap = TRY(Choice(key, value, "mount", "none")) ? IdMap::kMount : IdMap::kRemote;
    } else if (key == "on_unmount") {
        options.on_unmount =
            TRY(Choice(key, value, "keep", "destroy")) ? OnUnmount::kKeep : OnUnmount::kDestroy;
    }
    return Ok();
}

Error Unknown(std::string_view option, std::string_view key,
              const std::vector<std::string_view>& known) {
    return {Errno{EINVAL}, "unknown mount option '" + Printable(option, 64) + "'" +
                               DidYouMean(key, known, "; sbxfs mount -o help lists them")};
}

}  // namespace

Result<MountOptions> ParseMountOptions(const std::vector<std::string>& lists, bool sloppy) {
    const std::vector<std::string_view> known = KnownKeys();
    MountOptions options;
    for (const std::string& list : lists) {
        for (const std::string& option : Split(list, ',')) {
            if (option == "noexec")
                options.exec = false;  // of ro/rw and exec/noexec the last counts
            if (option == "rw") options.read_only = false;
            if (option.empty() || IsGeneric(option)) continue;
            const std::size_t equals = option.find('=');
            const std::string key = option.substr(0, equals);
            const bool has_value = equals != std::string::npos;
            if (option == "remount") {
                return Error(Errno{EINVAL},
                             "options cannot be changed while mounted: umount, then mount again; "
                             "the sandboxes go on meanwhile");
            }
            if (std::find(known.begin(), known.end(), key) == known.end()) {
                if (sloppy) continue;
                return Unknown(option, key, known);
            }
            const bool flag = key == "ro" || key == "exec" || key == "allow_other";
            if (flag == has_value) {
                return Error(Errno{EINVAL}, "mount option '" + key + "' takes " +
                                                (flag ? "no value" : "a value: " + key + "=..."));
            }
            if (key == "ro") options.read_only = true;
            if (key == "exec") options.exec = true;
            if (key == "allow_other") options.allow_other = true;
            if (!flag) (void)TRY(SetValue(key, option.substr(equals + 1), options));
        }
    }
    return options;
}

std::vector<std::string> MountOptions::ForKernel() const {
    std::vector<std::string> words;
    if (read_only) words.emplace_back("ro");
    if (allow_other) words.emplace_back("allow_other");
    if (!exec) words.emplace_back("noexec");
    return words;
}

std::string MountOptions::Text() const {
    const MountOptions standard;
    std::vector<std::string> words;
    if (read_only) words.emplace_back("ro");
    if (allow_other) words.emplace_back("allow_other");
    if (exec) words.emplace_back("exec");
    if (uid) words.push_back("uid=" + std::to_string(*uid));
    if (gid) words.push_back("gid=" + std::to_string(*gid));
    if (umask != standard.umask) {
        std::array<char, 16> digits{};
        const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), umask, 8).ptr;
        words.push_back("umask=0" + std::string(digits.data(), end));
    }
    if (!writeback) words.emplace_back("writeback=off");
    if (op_timeout != standard.op_timeout) {
        const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(op_timeout);
        words.push_back("op_timeout=" + std::to_string(seconds.count()) + "s");
    }
    if (idmap == IdMap::kRemote) words.emplace_back("idmap=none");
    if (on_unmount == OnUnmount::kDestroy) words.emplace_back("on_unmount=destroy");
    if (!config.empty()) words.push_back("config=" + config);
    if (!state_dir.empty()) words.push_back("state_dir=" + state_dir);
    return Join(words, ",");
}

const std::vector<OptionHelp>& MountOptionsHelp() {
    static const std::vector<OptionHelp> kHelp = {
        {"ro", "nothing can be changed: no mkdir, no command, no write"},
        {"exec", "programs of a sandbox may be run on this machine (default: noexec)"},
        {"allow_other",
         "other users reach the mount too, as far as owner and umask let them (ordinary users need "
         "user_allow_other in /etc/fuse.conf)"},
        {"uid=USER", "everything belongs to this user, a name or a number (default: who mounts)"},
        {"gid=GROUP", "and to this group"},
        {"umask=MASK",
         "what the owner may do in the control tree, others may as far as this octal mask leaves "
         "it "
         "(default 077: nothing); files under fs/ have the sandbox's modes"},
        {"writeback=on|off",
         "on (default): while nothing else lives in the sandbox a change of a file is answered at "
         "once and sent behind; off: every change waits for the sandbox"},
        {"op_timeout=TIME", "how long a request may wait for a sandbox (default 30s)"},
        {"idmap=mount|none",
         "none: files under fs/ show the owners they have in the sandbox, and chown is passed on "
         "(default mount: all belong to uid and gid)"},
        {"on_unmount=keep|destroy",
         "destroy: unmounting destroys every sandbox that is not protected (default keep: they go "
         "on)"},
        {"config=FILE", "configuration file, as -c"},
        {"state_dir=DIR",
         "where this mount remembers its sandboxes (default: a directory named after the mount "
         "point)"},
    };
    return kHelp;
}

}  // namespace sbxfs
