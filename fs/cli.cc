#include "fs/cli.h"

#include <CLI/CLI.hpp>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "fs/cli_doctor.h"
#include "fs/cli_exec.h"
#include "fs/cli_list.h"
#include "fs/cli_mount.h"
#include "fs/cli_ssh.h"
#include "fs/cli_umount.h"
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

}  // namespace

int Main(int argc, char** argv) {
    if (argc >= 2 && std::string_view(argv[1]) == "local-helper")
        return LocalHelperMain(argc, argv);
    if (argc == 3 && std::string_view(argv[1]) == "connect-socket")
        return ConnectSocketCommand(argv[2]);
    const std::string_view program = ProgramName(argv[0]);
    if (program == "mount.sbxfs" || program == "mount.fuse.sbxfs") return MountHelper(argc, argv);
    if (program == "umount.sbxfs" || program == "umount.fuse.sbxfs")
        return UmountHelper(argc, argv);

    CLI::App app(
        "sandboxes as directories: mkdir launches one, writing to cmd runs a command, rmdir "
        "destroys it",
        "sbxfs");
    app.require_subcommand(1);
    app.footer("Inside a mount, README.md says how to use it.");

    MountRequest mount;
    CLI::App* mount_app =
        app.add_subcommand("mount", "Mount on a directory; returns when the mount is live");
    mount_app->add_option("-c,--config", mount.config, "configuration file")->type_name("FILE");
    mount_app->add_option("-o", mount.options, "options, separated by commas (sbxfs mount -o help)")
        ->type_name("OPT[,OPT]")
        ->allow_extra_args(false);
    mount_app->add_flag("-f,--foreground", mount.foreground, "stay in front, log to stderr");
    mount_app->add_flag("-d,--debug", mount.debug, "log every request; implies -f");
    mount_app->add_flag("-s", mount.sloppy, "ignore unknown options");
    mount_app->add_option("mountpoint", mount.mountpoint, "an existing directory")
        ->type_name("MOUNTPOINT");

    UmountRequest umount;
    CLI::App* umount_app = app.add_subcommand("umount", "Unmount; the sandboxes go on");
    umount_app->add_flag("--discard", umount.discard, "give up what has not reached a sandbox yet");
    umount_app->add_option("mountpoint", umount.mountpoint)->type_name("MOUNTPOINT")->required();

    ListRequest list;
    CLI::App* list_app = app.add_subcommand("list", "List the sandboxes of all mounts, or of one");
    list_app->add_flag("--json", list.json, "as JSON");
    list_app->add_option("-m,--mount", list.mountpoint, "only this mount")->type_name("MOUNTPOINT");

    ExecRequest exec;
    CLI::App* exec_app = app.add_subcommand(
        "exec", "Run a command in a sandbox, with its output here and its exit code returned");
    exec_app->add_option("-m,--mount", exec.mountpoint, "the mount, where there are several")
        ->type_name("MOUNTPOINT");
    exec_app->add_option("--timeout", exec.timeout, "kill it after so many seconds (exit code 124)")
        ->check(CLI::PositiveNumber)
        ->type_name("S");
    exec_app->add_option("--cwd", exec.cwd, "directory to run in")->type_name("D");
    exec_app->add_option("box", exec.box, "the sandbox")->type_name("BOX")->required();
    exec_app
        ->add_option("command", exec.command,
                     "one word is a script, several are a program and its arguments")
        ->type_name("CMD...")
        ->required();
    exec_app->positionals_at_end();

    SshRequest ssh;
    CLI::App* ssh_app = app.add_subcommand(
        "ssh",
        "Open a shell in a sandbox with ssh(1), or run a command there, detached from events/");
    ssh_app->add_option("-m,--mount", ssh.mountpoint, "the mount, where there are several")
        ->type_name("MOUNTPOINT");
    ssh_app->add_option("box", ssh.box, "the sandbox")->type_name("BOX")->required();
    ssh_app->add_option("command", ssh.command, "as for ssh(1)")->type_name("CMD...");
    ssh_app->positionals_at_end();

    DoctorRequest doctor;
    CLI::App* doctor_app =
        app.add_subcommand("doctor", "Check what launching sandboxes needs, one line a check");
    doctor_app->add_option("-c,--config", doctor.config, "configuration file")->type_name("FILE");
    doctor_app->add_option("provider", doctor.provider, "only this provider or backend")
        ->type_name("PROVIDER");

    app.add_subcommand("version", "Print the version");

    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return Exit(app, error);
    }
    if (app.got_subcommand("mount")) return MountCommand(mount);
    if (app.got_subcommand("umount")) return UmountCommand(umount);
    if (app.got_subcommand("list")) return ListCommand(list);
    if (app.got_subcommand("exec")) {
        if (exec.command.size() > 1 && exec.command.front() == "--")
            exec.command.erase(exec.command.begin());
        return ExecCommand(exec);
    }
    if (app.got_subcommand("ssh")) {
        if (!ssh.command.empty() && ssh.command.front() == "--")
            ssh.command.erase(ssh.command.begin());
        return SshCommand(ssh);
    }
    if (app.got_subcommand("doctor")) return DoctorCommand(doctor);
    (void)std::printf("sbxfs %s (contract %s)\n", SBXFS_VERSION, kContractVersion);
    return 0;
}

}  // namespace sbxfs
