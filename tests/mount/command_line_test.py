#!/usr/bin/env python3
"""What people see of the command line: help, manual pages, completions, config and status. Contract 7 and 8."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.box import Box  # noqa: E402
from live.case import Live, MountCase, main  # noqa: E402
from live.daemon import Daemon  # noqa: E402
from live.place import file_system_at, sbxfs  # noqa: E402

SHELLS = ("bash", "zsh", "fish")


def run(*argv: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=30,
                          check=False, **options)  # type: ignore[call-overload]


def commands() -> list[str]:
    text = run(sbxfs(), "--help").stdout.split("Subcommands:\n")[1].split("\n\n")[0]
    return [line.split()[0] for line in text.splitlines()]


class Help(MountCase):
    def test_every_command_has_its_help(self) -> None:
        self.assertLessEqual({"mount", "umount", "status", "list", "exec", "ssh", "doctor", "config", "version"},
                             set(commands()))
        for command in commands():
            done = run(sbxfs(), command, "--help")
            self.assertEqual((done.returncode, done.stderr), (0, ""), command)
            self.assertIn(f"Usage: sbxfs {command}", done.stdout)

    def test_every_mount_option_is_in_the_help_and_in_the_manual(self) -> None:
        said = run(sbxfs(), "mount", "-o", "help").stdout
        manual = run(sbxfs(), "manual", "mount.sbxfs").stdout
        for option in ("ro", "allow_other", "uid", "gid", "umask", "exec", "writeback", "op_timeout", "idmap",
                       "on_unmount", "config", "state_dir"):
            self.assertRegex(said, rf"(?m)^{option}\b")
            self.assertIn(f"fB{option}", manual)

    def test_the_manual_names_every_command_and_is_sound(self) -> None:
        page = run(sbxfs(), "manual", "sbxfs").stdout
        for command in commands():
            self.assertIn("\\fBsbxfs " + command.replace("-", "\\-"), page)
        for name, section in (("sbxfs", 1), ("mount.sbxfs", 8), ("sbxfs.toml", 5)):
            page = run(sbxfs(), "manual", name).stdout
            self.assertIn(f".TH {name.upper()} {section} ", page)
            if shutil.which("groff"):
                done = run("groff", "-man", "-Tutf8", "-ww", "-z", input=page)
                self.assertEqual(done.stderr, "", name)

    def test_completions_name_every_command_and_load(self) -> None:
        for shell in SHELLS:
            script = run(sbxfs(), "completion", shell).stdout
            for command in commands():
                self.assertRegex(script, rf"\b{command}\b")
            if shutil.which(shell):
                done = run(shell, "-n", "/dev/stdin", input=script)
                self.assertEqual((done.returncode, done.stderr), (0, ""), shell)

    def complete(self, *words: str) -> set[str]:
        """What bash offers for the last word."""
        script = run(sbxfs(), "completion", "bash").stdout
        quoted = " ".join(f"'{word}'" for word in words)
        done = run("bash", "-c", f"{script}\ncompopt() {{ :; }}\nCOMP_WORDS=({quoted}); "
                   f"COMP_CWORD={len(words) - 1}; _sbxfs; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
                   env={**os.environ, "PATH": f"{Live.place.path / 'bin'}:{os.environ['PATH']}"})
        self.assertEqual(done.stderr, "")
        return set(done.stdout.split())

    def test_bash_completes_commands_options_and_sandboxes(self) -> None:
        (Live.place.path / "bin").mkdir(exist_ok=True)
        os.symlink(sbxfs(), Live.place.path / "bin/sbxfs")
        self.assertEqual(self.complete("sbxfs", "um"), {"umount"})
        self.assertEqual(self.complete("sbxfs", "config", ""), {"check", "show"})
        self.assertEqual(self.complete("sbxfs", "umount", "--d"), {"--discard"})
        self.assertEqual(self.complete("sbxfs", "mount", "-o", "ro,allow"), {"ro,allow_other"})
        self.assertIn("b", self.complete("sbxfs", "exec", "-m", str(self.mnt), ""))


class Mistakes(MountCase):
    def test_a_mistake_is_named_with_what_was_meant_and_where_the_help_is(self) -> None:
        for line, code, said in (
                ("", 1, r"say what to do: mount, umount, .*sbxfs --help says more"),
                ("mont", 1, r"no command 'mont'; did you mean 'mount'\?"),
                ("frobnicate", 1, r"no command 'frobnicate'; there are: mount, umount, "),
                ("config", 1, r"sbxfs config: say what to do: check, show"),
                ("config chek", 1, r"no command 'chek'; did you mean 'check'\?"),
                ("mount --foregroud /x", 1, r"no option --foregroud; did you mean '--foreground'\?"),
                ("mount -o writeback=maybe /x", 1, r"writeback=maybe: it must be on or off"),
                ("mount -o op_timeot=3 /x", 1, r"did you mean 'op_timeout'\?"),
                ("mount /nowhere/at/all", 32, r"make the directory first"),
                ("umount --lzy /x", 1, r"no option --lzy; did you mean '--lazy'\?"),
                ("umount", 1, r"sbxfs umount: mountpoint is required \(sbxfs umount --help says more\)"),
                ("umount /tmp", 1, r"no sbxfs is mounted on /tmp; there are: "),
                ("list --jsn", 1, r"did you mean '--json'\?"),
                ("status /tmp", 1, r"no sbxfs is mounted on /tmp; there are: "),
                # 125 and 255, so that nobody takes it for the command's own.
                ("exec", 125, r"sbxfs exec: box is required"),
                ("exec box", 125, r"command is required"),
                ("exec --timeout soon box -- true", 125, r"--timeout: wants seconds, not 'soon'"),
                ("exec --tmeout 3 box -- true", 125, r"did you mean '--timeout'\?"),
                ("exec -m /tmp box -- true", 125, r"no sbxfs is mounted on /tmp"),
                (f"exec -m {self.mnt} nobody -- true", 125, r"no sandbox 'nobody' in .*sbxfs list shows"),
                ("ssh", 255, r"sbxfs ssh: box is required"),
                ("ssh --foo box", 255, r"no option --foo"),
                ("doctor lokal", 1, r"no template uses a provider 'lokal'; there are: "),
                ("doctor local more", 1, r"more"),
                ("completion tcsh", 1, r"bash,zsh,fish"),
        ):
            done = run(sbxfs(), *line.split())
            self.assertEqual(done.returncode, code, f"{line}: {done.stderr}")
            self.assertRegex(done.stderr, said, line)
            self.assertNotIn("Run with --help", done.stderr)


class Configuration(MountCase):
    def check(self, text: str, verb: str = "check", mode: int = 0o600) -> subprocess.CompletedProcess[str]:
        file = Live.place.path / "checked.toml"
        file.write_text(text)
        file.chmod(mode)
        return run(sbxfs(), "config", verb, "-c", file)

    def test_check_names_file_line_and_the_nearest_key(self) -> None:
        done = self.check('[templates.default]\n\nworkdri = "/x"\n')
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("checked.toml:3: unknown key 'workdri' in [templates.default]; did you mean 'workdir'?",
                      done.stderr)
        done = self.check('[templates.default]\nprovider = "local"\n')
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("default (local)", done.stdout)

    def test_check_says_what_a_value_may_be(self) -> None:
        for lines, said in (
                ('provider = "lokal"', r"toml:2: .*no backend of that name; did you mean 'local'\?"),
                ('provider = "local"\nnetwork = "off"', r"`network` must be \"shared\" or \"none\""),
                ('provider = "local"\npids = 3', r"`pids` must be 16 to 4194304"),
                ('provider = "local"\nbinds = ["/srv"]', r"is not \"SRC:DST\[:ro\|rw\]\""),
                ('provider = "local"\nsnapshot = "a b"', r"`snapshot` must be the name of one"),
                ('provider = "local"\nimage = "debian"', r"has no image; remove it"),
                ('provider = "local"\ncpu = "many"', r"toml:3: cpu must be a whole number from 0 to"),
                ('provider = "local"\nmax_lifetime = "4 hours"', r"toml:3: .*a duration like"),
                ('provider = "local"\nenv = { A = "${NOT_SET_HERE}" }', r"NOT_SET_HERE is not set")):
            done = self.check("[templates.default]\n" + lines + "\n")
            self.assertEqual((done.returncode, done.stdout), (1, ""), lines)
            self.assertRegex(done.stderr, r"checked.toml:\d+: ", lines)
            self.assertRegex(done.stderr, said, lines)

    def test_show_shows_no_secrets_and_can_be_read_again(self) -> None:
        text = '[templates.default]\nenv = { API_TOKEN = "hunter2" }\n'
        shown = self.check(text, "show").stdout
        self.assertNotIn("hunter2", shown)
        self.assertIn('"API_TOKEN" = "<set>"', shown)
        self.assertEqual(self.check(shown).returncode, 0)
        done = self.check(text, mode=0o644)
        self.assertEqual(done.returncode, 1)
        self.assertIn("chmod 600", done.stderr)


    def test_show_shows_the_providers_and_can_be_used_in_place_of_the_file(self) -> None:
        key = Live.place.path / "key"
        text = (f'[providers.lab]\nbackend = "ssh"\nhost = "192.0.2.7"\nuser = "dev"\n'
                f'identity_file = "{key}"\nknown_hosts_file = "{key}.hosts"\n'
                '[providers."of.two words"]\nbackend = "local"\nnetwork = "none"\n'
                '[templates.default]\nprovider = "lab"\nworkdir = "/srv"\n')
        shown = self.check(text, "show")
        self.assertEqual(shown.stderr, "")
        self.assertIn('[providers.lab]\nbackend = "ssh"\n', shown.stdout)
        self.assertIn('[providers."of.two words"]\nbackend = "local"\nnetwork = "none"\n', shown.stdout)
        again = self.check(shown.stdout, "show")
        self.assertEqual((again.returncode, again.stdout), (0, shown.stdout))


class Status(MountCase):
    def test_it_says_whether_a_mount_is_well_and_where_all_of_it_is(self) -> None:
        with self.assertRaises(OSError):
            os.mkdir(self.mnt / "not a name")
        done = run(sbxfs(), "status", self.mnt)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        assert self.daemon.process is not None
        for said in (str(self.mnt), f"process {self.daemon.process.pid}", str(self.daemon.state), "1 ready",
                     "EINVAL"):
            self.assertIn(said, done.stdout)
        (info,) = json.loads(run(sbxfs(), "status", "--json", self.mnt).stdout)
        self.assertEqual((info["answers"], info["mountpoint"], info["sandboxes"]),
                         (True, str(self.mnt), {"ready": 1}))
        self.assertEqual(run(sbxfs(), "status", Live.place.path).returncode, 1)

    def test_it_ends_also_when_a_daemon_is_stopped_or_gone(self) -> None:
        daemon = Daemon(Live.place, name="-stopped").start()
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        try:
            done = run(sbxfs(), "status", daemon.mnt)
            listed = run(sbxfs(), "list")
        finally:
            daemon.process.send_signal(signal.SIGCONT)
        self.assertLess(time.monotonic() - began, 25)  # list asks every mount of this user
        self.assertIn(f"{daemon.mnt}: it does not answer", listed.stderr)
        self.assertIn(f"{self.mnt}/b ", listed.stdout)
        self.assertEqual(done.returncode, 1)
        self.assertIn("no answer", done.stdout)
        daemon.kill()
        done = run(sbxfs(), "status", "--json", daemon.mnt)
        self.assertEqual(done.returncode, 1)
        self.assertFalse(json.loads(done.stdout)[0]["answers"])
        self.assertIn("daemon is gone", done.stdout)
        daemon.start()
        daemon.umount()

    def test_list_of_a_mount_whose_daemon_is_gone_says_so_and_lists_the_others(self) -> None:
        daemon = Daemon(Live.place, name="-gone").start()
        daemon.kill()
        done = run(sbxfs(), "list", "-m", daemon.mnt)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"sbxfs: {daemon.mnt}: ", done.stderr)
        done = run(sbxfs(), "list")
        self.assertEqual(done.returncode, 1, "a listing that lacks something is no whole one")
        self.assertIn(f"sbxfs: {daemon.mnt}: ", done.stderr)
        self.assertIn(f"{self.mnt}/b ", done.stdout)
        daemon.start()
        daemon.umount()

    def test_umount_of_a_stopped_daemon_ends(self) -> None:
        for words in (("-l",), ("--discard",)):
            daemon = Daemon(Live.place, name="-stuck").start()
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGSTOP)
            try:
                done = run(sbxfs(), "umount", daemon.mnt)
                self.assertEqual(done.returncode, 32)
                self.assertIn(f"umount --discard {daemon.mnt}", done.stderr)
                began = time.monotonic()
                done = run(sbxfs(), "umount", *words, daemon.mnt)
                self.assertEqual((done.returncode, done.stderr), (0, ""), words)
                self.assertLess(time.monotonic() - began, 10)
                self.assertIsNone(file_system_at(daemon.mnt))
            finally:
                daemon.process.send_signal(signal.SIGCONT)
            self.assertEqual(daemon.process.wait(20), 0)
            daemon.process = None

    def test_list_says_which_state_directory_it_cannot_read(self) -> None:
        # In a state base of its own: an ordinary user's, for root has one for the machine.
        if os.geteuid() == 0:
            base = Path("/var/lib/sbxfs")
            script = f"mkdir -p {base} && mount -t tmpfs none {base} && "
            wrap = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
        else:
            base = Live.place.path / "xdg" / "sbxfs"
            script, wrap = "", ["sh", "-c"]
        env = {**os.environ, "XDG_STATE_HOME": str(Live.place.path / "xdg")}
        done = run(*wrap, f"{script}mkdir -p -m 700 {base}/x && echo no journal > {base}/x/journal.db && "
                   f"exec {sbxfs()} list --paid", env=env)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"sbxfs: {base}/x: its sandboxes are not listed: ", done.stderr)

    def test_nothing_paid_is_listed_where_nothing_costs(self) -> None:
        done = run(sbxfs(), "list", "--paid", "-m", self.mnt)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        self.assertIs(Box(self.daemon, "b").info["paid"], False)
        self.assertRegex(run(sbxfs(), "list", "-m", self.mnt).stdout, re.escape(f"{self.mnt}/b") + r" +ready")


if __name__ == "__main__":
    main()
