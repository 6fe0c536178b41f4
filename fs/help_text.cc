#include "fs/help_text.h"

#include <string_view>

#include "fs/errno_table.h"

namespace sbxfs {
namespace {

// $MNT is the mount point, $BOX a sandbox's directory, $ERRNOS the table of errno_table.h.
constexpr std::string_view kReadme = R"(# sbxfs: sandboxes as directories

A directory here is a sandbox: a small machine of its own. You work with it by reading and writing files; any
shell, editor or language will do.

    cd $MNT
    mkdir $NAME                              # launch a sandbox (returns at once)
    cat $NAME/ready                          # waits until it is `ready`, or says why it failed
    sh .mount/bin/run $NAME -- 'uname -a; pwd'    # run a script: its output, its exit code
    echo 'hello' > $NAME/work/note.txt       # its files: work/ is its working directory
    ls $NAME/fs/etc                          # fs/ is its whole tree (reachable, not listed)
    rmdir $NAME                              # destroy it and all its files

## Recipes

A script in its persistent shell (cd and variables carry over), its number read back, its result:

    exec 3<> $BOX/cmd; echo 'make -j4' >&3; read n <&3; exec 3>&-
    cat $BOX/events/$n/wait $BOX/events/$n/stdout; cat $BOX/events/$n/exit_code

Under a name of your choice, in parallel; a name is used once, so a retry cannot run twice:

    echo 'pytest -q' > $BOX/run/t1;  cat $BOX/events/t1/wait;  cat $BOX/events/t1/stderr

With options, as JSON (cmd is required; id, cwd, env, timeout, parallel are not):

    echo '{"cmd": "make", "cwd": "/workspace", "timeout": 600}' > $BOX/cmd.json

Run, see the output come, get the exit code:      sh $MNT/.mount/bin/run $NAME --timeout 600 --cwd /tmp -- make
Wait at most 60 s, then see the status so far:    cat $BOX/events/5/wait.60
Follow a running command until it ends:           cat $BOX/events/5/follow
Command, outcome and output in at most 16 KiB:    cat $BOX/events/5/report
Every result, a line of JSON each (poll(2) waits): $BOX/events/log.jsonl
End it (signals: int term kill hup usr1 usr2):    echo term > $BOX/events/5/ctl
Everything about it, machine-readable:            cat $BOX/events/5/result.json
A variable for every command from now on:         echo 'value' > $BOX/config/env/NAME   (rm unsets it)
Where, how long, in which shell, as whom:         echo /srv > $BOX/config/cwd  (timeout, shell, user)
How long it lives (seconds), and an hour more:    cat $BOX/ttl; echo +3600 > $BOX/ttl
A sandbox with options of its own:                echo 'name=b2 cpu=2048 max_lifetime=2h' > $MNT/.mount/new
The kinds of sandbox there are (mkdir b3@KIND):   ls $MNT/.mount/templates   (write KIND.toml: kept for this mount)
Guard a sandbox against rmdir:                    echo protect > $BOX/ctl
End all that runs, keep the files; run it again:  echo stop > $BOX/ctl; echo start > $BOX/ctl
Keep a copy of its files; launch from it:         echo 'snapshot base' > $BOX/ctl; mkdir $MNT/b4@base
Go in with ssh, sftp, rsync -e:                   ssh -F $BOX/ssh/config box

## How it behaves

- A script is everything written until you close the file: `{ echo a; echo b; } > cmd` is one command. stdin is
  empty, there is no terminal. An accepted command has a number, survives a crash of sbxfs, starts at most once.
- events/N/status: queued, running, exited, timed_out, killed, lost, refused. A non-zero exit code is not an error
  of sbxfs. `lost`: nobody saw its end, look at its effects first. `refused`: it never ran; events/N/error says why.
- status of a sandbox: launching, ready, unreachable, expiring (use it or extend ttl), stopping, stopped, failed,
  expired, lost. `error` says why. A launching one can be used: commands queue, files wait.

## Common mistakes

- `rm -r $NAME` does not destroy a sandbox (control entries say EPERM). Use `rmdir $NAME`.
- `cat events/N/stdout` does not wait for the end. Read events/N/wait first, or use bin/run.
- Kept of each output stream are its first MiB and the newest of 64 MiB. Let more go to a file, and read that.
- `events/latest` is a guess when others write too. Read the number back, or use run/NAME.
- `echo 'cd /x' > run/a` changes nothing for the next command: only `cmd` keeps its shell.
- `mkdir -p $NAME/work/x` needs $NAME to be there: GNU mkdir follows no link in what it has just made.
- mv and hard links cannot cross from one sandbox to another: copy.

## When something is refused

`cat $MNT/.mount/last_error` shows the newest refusals with the cause and what to do.

$ERRNOS)";

std::string Filled(const std::string& mountpoint, const std::string& box, const std::string& name) {
    std::string text;
    std::string_view rest = kReadme;
    while (!rest.empty()) {
        const std::size_t at = rest.find('$');
        text += rest.substr(0, at);
        if (at == std::string_view::npos) break;
        rest.remove_prefix(at);
        if (rest.starts_with("$MNT")) {
            text += mountpoint;
            rest.remove_prefix(4);
        } else if (rest.starts_with("$NAME")) {
            text += name;
            rest.remove_prefix(5);
        } else if (rest.starts_with("$BOX")) {
            text += box;
            rest.remove_prefix(4);
        } else if (rest.starts_with("$ERRNOS")) {
            text += ReadmeErrnoTable();
            rest.remove_prefix(7);
        } else {
            text += '$';
            rest.remove_prefix(1);
        }
    }
    return text;
}

}  // namespace

std::string MountReadme(const MountSettings& settings) {
    return Filled(settings.mountpoint, "b1", "b1");
}

std::string SandboxReadme(const MountSettings& settings, const Sandbox& sandbox) {
    return Filled(settings.mountpoint, settings.mountpoint + "/" + sandbox.name(), sandbox.name());
}

}  // namespace sbxfs
