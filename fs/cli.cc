#include "fs/cli.h"

#include <CLI/CLI.hpp>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "base/did_you_mean.h"
#include "base/json.h"
#include "base/strings.h"
#include "fs/cli_config.h"
#include "fs/cli_doctor.h"
#include "fs/cli_exec.h"
#include "fs/cli_iam_policy.h"
#include "fs/cli_list.h"
#include "fs/cli_mount.h"
#include "fs/cli_ssh.h"
#include "fs/cli_status.h"
#include "fs/cli_umount.h"
#include "fs/command_tree.h"
#include "fs/connection_guard.h"
#include "fs/help_text.h"
#include "sandbox/providers/local/helper.h"

namespace sbxfs {
namespace {

// "mount.sbxfs" of "/sbin/mount.sbxfs".
std::string_view ProgramName(std::string_view path) {
    return path.substr(path.rfind('/') + 1);
}

int Exit(const CLI::App& app, const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kBadUse;  // CLI11's exceptions end here
}

std::vector<std::string> CommandsOf(const CLI::App& app) {
    std::vector<std::string> names;
    for (const CLI::App* sub :
         app.get_subcommands([](const CLI::App* any) { return !any->get_group().empty(); }))
        names.push_back(sub->get_name());
    return names;
}

std::string NearestOf(const std::string& word, const std::vector<std::string>& known) {
    return DidYouMean(word, {known.begin(), known.end()}, "; there are: " + Join(known, ", "));
}

// The first word that `command` knows no option for; `all` is false where what follows the first positional is somebody
// else's. Empty: none.
std::string UnknownOption(const CLI::App& command, const std::vector<std::string>& words,
                          bool all) {
    for (std::size_t i = 0; i < words.size() && words[i] != "--"; ++i) {
        const std::string name = words[i].substr(0, words[i].find('='));
        if (name.size() < 2 || name.front() != '-') {
            if (all) continue;
            return "";
        }
        const CLI::Option* option = command.get_option_no_throw(name);
        if (option == nullptr && (name.starts_with("--") || name.size() == 2)) return name;
        const bool takes_next = option != nullptr && option->get_items_expected_max() > 0 &&
                                name.size() == words[i].size();
        if (takes_next) ++i;
    }
    return "";
}

// A command line that cannot be read: what is wrong with it, in our words where CLI11 has none, and where the help is.
int Refuse(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    const CLI::App* command = &app;
    std::string path = "sbxfs";
    std::vector<std::string> words(argv + 1, argv + argc);
    while (!words.empty()) {
        const std::vector<std::string> names = CommandsOf(*command);
        if (std::find(names.begin(), names.end(), words.front()) == names.end()) break;
        command = command->get_subcommand(words.front());
        path += " " + words.front();
        words.erase(words.begin());
    }
    const bool runs = path == "sbxfs exec" || path == "sbxfs ssh";
    const std::vector<std::string> below = CommandsOf(*command);
    const std::string unknown = UnknownOption(*command, words, !runs);
    std::string what = error.what();
    if (!unknown.empty()) {
        std::vector<std::string> known;
        for (const CLI::Option* option : command->get_options()) {
            for (const std::string& name : option->get_lnames())
                known.push_back("--" + name);
        }
        what = "there is no option " + Printable(unknown, 64) + NearestOf(unknown, known);
    } else if (!below.empty() && words.empty()) {
        what = "say what to do: " + Join(below, ", ");
    } else if (!below.empty()) {
        what = "there is no command '" + Printable(words.front(), 64) + "'" +
               NearestOf(words.front(), below);
    }
    (void)std::fprintf(stderr, "%s: %s (%s --help says more)\n", path.c_str(), what.c_str(),
                       path.c_str());
    if (path == "sbxfs exec") return kExecFailed;
    return path == "sbxfs ssh" ? kSshFailed : kBadUse;
}

const CLI::Validator& Seconds() {
    static const CLI::Validator seconds(
        [](std::string& text) {
            const auto number = Json::Parse(text);
            const bool good = number && number->AsReal().value_or(0) > 0;
            return good ? "" : "wants seconds, not '" + Printable(text, 64) + "'";
        },
        "", "seconds");
    return seconds;
}

// mount(8): `mount.sbxfs SOURCE MOUNTPOINT [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]`.
int MountHelper(int argc, char** argv) {
    MountRequest request;
    std::string unused;
    bool taken = false;
    CLI::App app("mount(8)'s helper for sbxfs: use it through mount(8) or fstab", "mount.sbxfs");
    app.set_version_flag("-V,--version", "sbxfs " SBXFS_VERSION);
    app.add_option("source", request.source, "what the mount table shows")->required();
    app.add_option("mountpoint", request.mountpoint, "an existing directory")->required();
    app.add_option("-o", request.options, "as for sbxfs mount")
        ->type_name("OPT[,OPT]")
        ->allow_extra_args(false);
    app.add_flag("-s", request.sloppy, "ignore unknown options");
    app.add_flag("-f", request.fake, "check everything, mount nothing");
    app.add_flag("-n,-v,-r,-w", taken, "taken and not needed");
    app.add_option("-t,-N", unused, "taken and not needed");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return Exit(app, error);
    }
    return MountCommand(request);
}

// umount(8): `umount.fuse.sbxfs MOUNTPOINT [-flnrv] [-N NAMESPACE] [-t TYPE]`.
int UmountHelper(int argc, char** argv) {
    UmountRequest request;
    std::string unused;
    bool taken = false;
    CLI::App app("umount(8)'s helper for sbxfs: use it through umount(8)", "umount.sbxfs");
    app.set_version_flag("-V,--version", "sbxfs " SBXFS_VERSION);
    app.add_option("mountpoint", request.mountpoint)->required();
    app.add_flag("-f", request.discard, "give up what has not reached a sandbox yet");
    app.add_flag("-l", request.lazy, "out of the tree now, the rest when nobody uses it any more");
    app.add_flag("-n,-v,-r", taken, "taken and not needed");
    app.add_option("-t,-N", unused, "taken and not needed");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return Exit(app, error);
    }
    return UmountCommand(request);
}

// The whole command line: the parser, and what it parses into.
struct CommandLine {
    CLI::App app{
        "sandboxes as directories: mkdir launches one, writing to cmd runs a command, rmdir "
        "destroys it",
        "sbxfs"};
    MountRequest mount;
    UmountRequest umount;
    ListRequest list;
    StatusRequest status;
    ExecRequest exec;
    SshRequest ssh;
    DoctorRequest doctor;
    std::string config;
    std::string shell;
    std::string page;

    CommandLine() {
        app.require_subcommand(1);
        app.set_version_flag("--version", VersionText());
        app.footer("Inside a mount, README.md says how to use it. More in sbxfs(1).");
        AddMounting();
        AddSandboxes();
        AddConfiguration();
    }
    CommandLine(const CommandLine&) = delete;
    CommandLine& operator=(const CommandLine&) = delete;

    static std::string VersionText() {
        return std::string("sbxfs ") + SBXFS_VERSION + " (contract " +
               std::string(kContractVersion) + ")";
    }

 private:
    static void AddConfigFile(CLI::App* command, std::string& file) {
        command->add_option("-c,--config", file, "configuration file")->type_name("FILE");
    }
    static void AddMountpoint(CLI::App* command, std::string& mountpoint, const char* text) {
        command->add_option("-m,--mount", mountpoint, text)->type_name("MOUNTPOINT");
    }

    void AddMounting() {
        CLI::App* sub =
            app.add_subcommand("mount", "Mount on a directory; returns when it is live");
        AddConfigFile(sub, mount.config);
        sub->add_option("-o", mount.options, "options, separated by commas (sbxfs mount -o help)")
            ->type_name("OPT[,OPT]")
            ->allow_extra_args(false);
        sub->add_flag("-f,--foreground", mount.foreground, "stay in front, log to stderr");
        sub->add_flag("-d,--debug", mount.debug, "log every request; implies -f");
        sub->add_flag("-s", mount.sloppy, "ignore unknown options");
        sub->add_option("mountpoint", mount.mountpoint, "an existing directory")
            ->type_name("MOUNTPOINT");
        sub->footer(
            "The sandboxes of a mount point are there again when it is mounted again, also after "
            "its\n"
            "daemon was killed. A mount whose daemon is gone is taken away first.");

        sub = app.add_subcommand("umount", "Unmount; the sandboxes go on");
        sub->add_flag("--discard", umount.discard, "give up what has not reached a sandbox yet");
        sub->add_flag("-l,--lazy", umount.lazy,
                      "out of the tree now, the rest when nobody uses it any more");
        sub->add_option("mountpoint", umount.mountpoint, "where it is mounted")
            ->type_name("MOUNTPOINT")
            ->required();
        sub->footer(
            "What was written reaches the sandboxes first, within op_timeout; else the mount stays "
            "and\n"
            "says what has not. Returns when the daemon has ended.");

        sub = app.add_subcommand("status",
                                 "Show whether the mounts are well, and where all of them is");
        sub->add_flag("--json", status.json, "as JSON");
        sub->add_option("mountpoint", status.mountpoint, "only this one")->type_name("MOUNTPOINT");
    }

    void AddSandboxes() {
        CLI::App* sub = app.add_subcommand(
            "list", "List the sandboxes of all mounts, also of those not mounted now");
        sub->add_flag("--json", list.json, "as JSON");
        sub->add_flag("--paid", list.paid,
                      "only what costs something, also what is still being destroyed");
        AddMountpoint(sub, list.mountpoint, "only this mount");

        sub = app.add_subcommand(
            "exec", "Run a command in a sandbox, with its output here and its exit code returned");
        AddMountpoint(sub, exec.mountpoint, "the mount, where there are several");
        sub->add_option("--timeout", exec.timeout, "kill it after so many seconds (exit code 124)")
            ->check(Seconds())
            ->type_name("S");
        sub->add_option("--cwd", exec.cwd, "directory to run in")->type_name("D");
        sub->add_option("box", exec.box, "the sandbox")->type_name("BOX")->required();
        sub->add_option("command", exec.command,
                        "one word is a script, several are a program and its arguments")
            ->type_name("CMD...")
            ->required();
        sub->positionals_at_end();
        sub->footer(
            "Exit code: that of the command; 124 timed out, 125 it could not be run, 126 and 127 "
            "as in\n"
            "sh, 128+n ended by signal n. Ctrl-C, SIGTERM and SIGHUP are passed on, a second "
            "one\n"
            "as SIGKILL; when nobody reads the output any more, the command gets a hangup.\n"
            "Of each stream the first MiB and the newest of 64 MiB are kept: what a slow reader "
            "misses "
            "is\n"
            "left out and said on stderr, and 125 takes the place of 0.");

        sub = app.add_subcommand(
            "ssh",
            "Open a shell in a sandbox with ssh(1), or run a command, detached from events/");
        AddMountpoint(sub, ssh.mountpoint, "the mount, where there are several");
        sub->add_option("box", ssh.box, "the sandbox")->type_name("BOX")->required();
        sub->add_option("command", ssh.command, "as for ssh(1)")->type_name("CMD...");
        sub->positionals_at_end();
    }

    void AddConfiguration() {
        CLI::App* sub =
            app.add_subcommand("doctor", "Check what launching sandboxes needs, one line a check");
        AddConfigFile(sub, doctor.config);
        sub->add_option("provider", doctor.provider, "only this provider or backend")
            ->type_name("PROVIDER");
        sub->footer("Exit code: 0 when all is well, 1 when something is not.");

        sub = app.add_subcommand("config", "Check or show the configuration");
        sub->require_subcommand(1);
        CLI::App* leaf = sub->add_subcommand(
            "check", "Say whether it can be used, or the file, line and key that is wrong");
        AddConfigFile(leaf, config);
        leaf = sub->add_subcommand("show", "Show all that is in effect, secrets as <set>");
        AddConfigFile(leaf, config);

        sub = app.add_subcommand("iam-policy",
                                 "Print the AWS permissions that the configuration needs");
        AddConfigFile(sub, config);
        sub->footer("A policy document for the user or role that mounts; least privilege.");

        sub = app.add_subcommand("completion", "Print a completion script for a shell");
        sub->add_option("shell", shell, "bash, zsh or fish")
            ->type_name("SHELL")
            ->required()
            ->check(CLI::IsMember({"bash", "zsh", "fish"}));
        sub->footer("For example: source <(sbxfs completion bash)");

        // For packagers: the sources of the manual pages.
        sub = app.add_subcommand("manual", "Print a manual page")->group("");
        sub->add_option("page", page, "sbxfs, mount.sbxfs or sbxfs.toml")
            ->type_name("PAGE")
            ->required()
            ->check(CLI::IsMember({"sbxfs", "mount.sbxfs", "sbxfs.toml"}));

        app.add_subcommand("version", "Print the version");
    }
};

Argument Describe(const CLI::Option& option) {
    Argument argument;
    for (const std::string& name : option.get_snames())
        argument.names.push_back("-" + name);
    for (const std::string& name : option.get_lnames())
        argument.names.push_back("--" + name);
    if (option.get_positional()) argument.names.push_back(option.get_name(true));
    if (option.get_items_expected_max() > 0) argument.value = option.get_type_name();
    // A check adds what it allows: "TEXT:{a,b}".
    argument.value = argument.value.substr(0, argument.value.find(':'));
    argument.text = option.get_description();
    argument.required = option.get_required();
    argument.repeated = argument.value.ends_with("...");
    return argument;
}

CommandTree Describe(const CLI::App& app) {
    CommandTree tree;
    tree.name = app.get_name();
    tree.text = app.get_description();
    for (const CLI::Option* option : app.get_options())
        (option->get_positional() ? tree.positionals : tree.options).push_back(Describe(*option));
    for (const CLI::App* sub :
         app.get_subcommands([](const CLI::App* any) { return !any->get_group().empty(); }))
        tree.commands.push_back(Describe(*sub));
    return tree;
}

void DropDashes(std::vector<std::string>& command) {
    if (command.size() > 1 && command.front() == "--") command.erase(command.begin());
}

// Options of exec behind BOX, as .mount/bin/run takes them: no program's name begins with a dash. What follows "--" is
// the command's own. An error is a sentence.
std::string TakeLateOptions(ExecRequest& exec) {
    std::vector<std::string>& words = exec.command;
    while (!words.empty() && words.front() != "--" && words.front().starts_with('-')) {
        const std::string word = words.front();
        const std::size_t equals = word.find('=');
        const std::string name = word.substr(0, equals);
        if (name != "--timeout" && name != "--cwd" && name != "-m" && name != "--mount") {
            return "no option " + Printable(word, 64) +
                   "; a command begins behind --: sbxfs exec " + exec.box + " -- CMD...";
        }
        words.erase(words.begin());
        std::string value;
        if (equals != std::string::npos) {
            value = word.substr(equals + 1);
        } else if (!words.empty() && words.front() != "--") {
            value = words.front();
            words.erase(words.begin());
        }
        if (value.empty()) return name + " needs a value";
        if (name == "--cwd") {
            exec.cwd = value;
        } else if (name == "--timeout") {
            const auto seconds = Json::Parse(value);
            exec.timeout = seconds ? seconds->AsReal().value_or(0) : 0;
            if (exec.timeout <= 0)
                return "--timeout wants seconds, not '" + Printable(value, 64) + "'";
        } else {
            exec.mountpoint = value;
        }
    }
    DropDashes(words);
    return words.empty() || words.front() == "--"
               ? "say what to run: sbxfs exec " + exec.box + " -- CMD..."
               : "";
}

int Run(CommandLine& line) {
    const CLI::App& app = line.app;
    if (app.got_subcommand("mount")) return MountCommand(line.mount);
    if (app.got_subcommand("umount")) return UmountCommand(line.umount);
    if (app.got_subcommand("status")) return StatusCommand(line.status);
    if (app.got_subcommand("list")) return ListCommand(line.list);
    if (app.got_subcommand("doctor")) return DoctorCommand(line.doctor);
    if (app.got_subcommand("exec")) {
        if (const std::string wrong = TakeLateOptions(line.exec); !wrong.empty()) {
            (void)std::fprintf(stderr, "sbxfs: %s\n", wrong.c_str());
            return kExecFailed;
        }
        return ExecCommand(line.exec);
    }
    if (app.got_subcommand("ssh")) {
        DropDashes(line.ssh.command);
        return SshCommand(line.ssh);
    }
    if (app.got_subcommand("iam-policy")) return IamPolicyCommand(line.config);
    if (app.got_subcommand("config")) {
        const bool check = app.get_subcommand("config")->got_subcommand("check");
        return check ? ConfigCheckCommand(line.config) : ConfigShowCommand(line.config);
    }
    std::string text = CommandLine::VersionText() + "\n";
    if (app.got_subcommand("completion")) text = CompletionScript(Describe(app), line.shell);
    if (app.got_subcommand("manual")) text = ManualPage(Describe(app), line.page);
    (void)std::fputs(text.c_str(), stdout);
    return 0;
}

}  // namespace

int Main(int argc, char** argv) {
    if (argc >= 2 && std::string_view(argv[1]) == "local-helper")
        return LocalHelperMain(argc, argv);
    if (argc == 3 && std::string_view(argv[1]) == "connect-socket")
        return ConnectSocketCommand(argv[2]);
    if (argc == 2 && std::string_view(argv[1]) == "connection-guard") return ConnectionGuardMain();
    const std::string_view program = ProgramName(argv[0]);
    if (program == "mount.sbxfs" || program == "mount.fuse.sbxfs") return MountHelper(argc, argv);
    if (program == "umount.sbxfs" || program == "umount.fuse.sbxfs")
        return UmountHelper(argc, argv);

    CommandLine line;
    try {
        line.app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return Refuse(line.app, error, argc, argv);
    }
    return Run(line);
}

}  // namespace sbxfs
