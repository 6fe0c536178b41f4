// The manual pages. What is listed in them (commands, options, keys) comes from the tables that the program
// itself works with; the prose is here.
#include <algorithm>

#include "base/strings.h"
#include "fs/command_tree.h"
#include "fs/config_keys.h"
#include "fs/mount_options.h"

namespace sbxfs {
namespace {

// Text as troff takes it literally.
std::string Troff(std::string_view text) {
    std::string out;
    bool line_begins = true;
    for (const char c : text) {
        if (line_begins && (c == '.' || c == '\'')) out += "\\&";
        line_begins = c == '\n';
        if (c == '\\') {
            out += "\\e";
        } else if (c == '-') {
            out += "\\-";
        } else {
            out += c;
        }
    }
    return out;
}

std::string Bold(std::string_view text) {
    return "\\fB" + Troff(text) + "\\fR";
}

std::string Italic(std::string_view text) {
    return "\\fI" + Troff(text) + "\\fR";
}

std::string Heading(const std::string& page, int section, std::string_view line) {
    return ".TH " + page + " " + std::to_string(section) +
           " \"\" \"sbxfs " SBXFS_VERSION "\" \"sbxfs\"\n.SH NAME\n" + Troff(line) + "\n";
}

std::string Section(std::string_view name) {
    return ".SH " + std::string(name) + "\n";
}

std::string Paragraph(std::string_view text) {
    return ".PP\n" + Troff(text) + "\n";
}

// A term with what it means, `term` already in troff.
std::string Item(const std::string& term, std::string_view text) {
    return ".TP\n" + term + "\n" + Troff(text) + "\n";
}

std::string Example(std::string_view text) {
    return ".PP\n.RS 4\n.nf\n" + Troff(text) + ".fi\n.RE\n";
}

std::string Sentence(std::string text) {
    if (!text.empty())
        text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
    return text.empty() || text.ends_with('.') ? text : text + ".";
}

std::string Synopsis(const CommandTree& command, const std::string& path) {
    std::string line = Bold(path);
    for (const Argument& option : command.options) {
        if (option.names.back() == "--help") continue;
        line += " [" + Bold(option.names.front());
        if (!option.value.empty()) line += " " + Italic(option.value);
        line += "]";
    }
    for (const Argument& positional : command.positionals)
        line += " " + (positional.required ? Italic(positional.value)
                                           : "[" + Italic(positional.value) + "]");
    return line;
}

std::string Synopses(const CommandTree& tree, const std::string& path) {
    std::string text;
    for (const CommandTree& command : tree.commands) {
        const std::string name = path + " " + command.name;
        text += command.commands.empty() ? Synopsis(command, name) + "\n.br\n"
                                         : Synopses(command, name);
    }
    return text;
}

std::string Commands(const CommandTree& tree, const std::string& path) {
    std::string text;
    for (const CommandTree& command : tree.commands) {
        const std::string name = path.empty() ? command.name : path + " " + command.name;
        if (!command.commands.empty()) {
            text += Commands(command, name);
            continue;
        }
        text += ".SS " + Troff(name) + "\n" + Troff(Sentence(command.text)) + "\n";
        for (const Argument& option : command.options) {
            if (option.names.back() == "--help") continue;
            std::vector<std::string> names;
            for (const std::string& flag : option.names)
                names.push_back(Bold(flag));
            text +=
                Item(Join(names, ", ") + (option.value.empty() ? "" : " " + Italic(option.value)),
                     Sentence(option.text));
        }
    }
    return text;
}

std::string MountOptionItems() {
    std::string text;
    for (const OptionHelp& option : MountOptionsHelp())
        text += Item(Bold(option.form), Sentence(std::string(option.text)));
    return text;
}

std::string KeyItems(const std::vector<FileKey>& keys) {
    std::string text;
    for (const FileKey& key : keys) {
        const bool table =
            key.form.starts_with('[') && key.form.find('"') == std::string_view::npos;
        text += Item(table ? Bold(key.form) : Bold(key.name) + " = " + Troff(key.form),
                     Sentence(std::string(key.text)));
    }
    return text;
}

std::string Sbxfs(const CommandTree& tree) {
    return Heading("SBXFS", 1, "sbxfs - sandboxes as directories") + Section("SYNOPSIS") +
           Synopses(tree, "sbxfs") + Section("DESCRIPTION") +
           Paragraph(
               "A directory of the mount is a sandbox: mkdir(1) launches one, writing to its "
               "file cmd runs a command in it, events/N has the result, its own files are below "
               "fs/, and rmdir(1) destroys it. Any program that reads and writes files is a "
               "client. README.md inside the mount says how to use it.") +
           Paragraph(
               "One process serves one mount. It can be killed, or the mount unmounted: "
               "sandboxes and their commands go on, and are there again at the next mount.") +
           Example(
               "sbxfs mount ~/boxes\n"
               "mkdir ~/boxes/b1\n"
               "cat ~/boxes/b1/ready\n"
               "echo 'uname -a' > ~/boxes/b1/cmd\n"
               "cat ~/boxes/b1/events/latest/wait ~/boxes/b1/events/latest/stdout\n"
               "rmdir ~/boxes/b1\n"
               "sbxfs umount ~/boxes\n") +
           Section("COMMANDS") + Commands(tree, "") + Section("\"MOUNT OPTIONS\"") +
           Paragraph(
               "Always on: default_permissions, nosuid, nodev; noexec unless exec is given. What "
               "fstab(5) and mount(8) say for themselves (_netdev, nofail, x-*, ...) is "
               "accepted.") +
           MountOptionItems() + Section("SIGNALS") +
           Item(Bold("SIGHUP"),
                "The daemon reads its configuration again. With a mistake in it the old one "
                "stays; the log and .mount/last_error say what is wrong.") +
           Item(Bold("SIGUSR1"),
                "The daemon writes its state into its log: who waits for what and since when, the "
                "sandboxes, what is cached and what has not arrived. .mount/log shows it; numbers "
                "to watch are in .mount/metrics.") +
           Item(Bold("SIGTERM") + ", " + Bold("SIGINT"), "The daemon unmounts and ends.") +
           Section("\"EXIT STATUS\"") +
           Paragraph(
               "mount and umount: as mount(8), 0 success, 1 bad use or configuration, 2 system "
               "error, 32 failure. exec: that of the command; 124 timed out, 125 sbxfs could not "
               "run it, 126 and 127 as in sh(1), 128+n ended by signal n. The others: 0, or 1 when "
               "something is wrong.") +
           Section("FILES") +
           Item(Italic("~/.config/sbxfs/config.toml"), "The configuration, see sbxfs.toml(5).") +
           Item(Italic("/etc/sbxfs/config.toml"), "The same where a user has none.") +
           Item(Italic("~/.local/state/sbxfs/"),
                "For each mount point what it must remember, and its log; "
                "for root /var/lib/sbxfs/.") +
           Section("ENVIRONMENT") +
           Item(Bold("XDG_CONFIG_HOME") + ", " + Bold("XDG_STATE_HOME"),
                "In place of ~/.config and ~/.local/state.") +
           Item(Bold("NOTIFY_SOCKET"), "Whom a daemon tells that it is ready, see sd_notify(3).") +
           Section("\"SEE ALSO\"") +
           "\\fBsbxfs.toml\\fR(5), \\fBmount.sbxfs\\fR(8), \\fBfuse\\fR(4), "
           "\\fBssh\\fR(1)\n";
}

std::string MountSbxfs() {
    return Heading("MOUNT.SBXFS", 8, "mount.sbxfs, umount.sbxfs - mount(8)'s helpers for sbxfs") +
           Section("SYNOPSIS") + Bold("mount -t sbxfs") + " [" + Bold("-o") + " " +
           Italic("OPT[,OPT]") + "] " + Italic("SOURCE MOUNTPOINT") + "\n.br\n" + Bold("umount") +
           " " + Italic("MOUNTPOINT") + "\n" + Section("DESCRIPTION") +
           Paragraph(
               "The same program as sbxfs(1), under the names mount(8) and umount(8) look for. "
               "SOURCE "
               "is free; it is what the mount table shows. -s ignores unknown options, -f checks "
               "everything and mounts nothing; umount -l takes a mount in use out of the tree, "
               "umount -f gives up what has not reached a sandbox.") +
           Paragraph("In fstab(5), mounted at boot, or at the first use:") +
           Example(
               "boxes  /srv/boxes  sbxfs  allow_other,umask=007,gid=dev,_netdev,nofail  0 0\n"
               "boxes  /srv/boxes  sbxfs  noauto,x-systemd.automount,_netdev  0 0\n") +
           Section("\"MOUNT OPTIONS\"") + MountOptionItems() + Section("\"EXIT STATUS\"") +
           Paragraph(
               "As mount(8): 0 success, 1 bad use or configuration, 2 system error, 32 failure.") +
           Section("\"SEE ALSO\"") +
           "\\fBsbxfs\\fR(1), \\fBsbxfs.toml\\fR(5), \\fBmount\\fR(8), \\fBfstab\\fR(5), "
           "\\fBsystemd.automount\\fR(5)\n";
}

std::string Configuration() {
    std::string text =
        Heading("SBXFS.TOML", 5, "sbxfs.toml - configuration of sbxfs") + Section("DESCRIPTION") +
        Paragraph(
            "None is needed: without one there is template default of provider local. The file is "
            "what -c or -o config= names, else ~/.config/sbxfs/config.toml, else "
            "/etc/sbxfs/config.toml. It is refused when others can write it, or read it while it "
            "holds a secret. ${VAR} in a string is the environment's. An unknown key is an error "
            "that names the nearest known one; sbxfs config check looks without mounting. A "
            "running "
            "mount reads the file again at SIGHUP; sandboxes keep the template they were made "
            "from.") +
        Section("KEYS") + KeyItems(TopKeys()) + Section("\"[templates.NAME]\"") +
        Paragraph(
            "A sandbox named box@NAME is made from it. Durations are \"90s\", \"30m\", \"4h\", "
            "\"2d\".") +
        KeyItems(TemplateKeys()) + Section("\"[providers.NAME]\"") + KeyItems(ProviderKeys());
    for (const std::string_view backend : BackendNames()) {
        text += ".SS \"backend " + std::string(backend) + "\"\n" +
                Troff("Also in a template of this provider.") + "\n" +
                KeyItems(BackendOptions(backend));
    }
    return text + Section("EXAMPLE") +
           Example(
               "default_template = \"default\"\n\n"
               "[templates.default]\nprovider = \"local\"\nworkdir = \"/workspace\"\n\n"
               "[templates.closed]             # mkdir box@closed\nprovider = \"local\"\n"
               "network = \"none\"\nmemory = 2048\nenv = { PIP_INDEX_URL = \"${PIP_INDEX_URL}\" "
               "}\n\n"
               "[providers.lab]\nbackend = \"ssh\"\nhost = \"192.0.2.7\"\nuser = \"dev\"\n\n"
               "[templates.lab]\nprovider = \"lab\"\nworkdir = \"/srv/data\"\n") +
           Section("\"SEE ALSO\"") + "\\fBsbxfs\\fR(1)\n";
}

}  // namespace

std::string ManualPage(const CommandTree& tree, const std::string& page) {
    if (page == "sbxfs") return Sbxfs(tree);
    if (page == "mount.sbxfs") return MountSbxfs();
    if (page == "sbxfs.toml") return Configuration();
    return "";
}

}  // namespace sbxfs
