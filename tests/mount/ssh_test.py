#!/usr/bin/env python3
"""Provider ssh on real sshds of the test's own: what it asks for before it goes in, what it leaves
behind (nothing), and that a sandbox there is like any other. Contract 8, 9 and 10; docs/SSH.md."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.box import Box  # noqa: E402
from live.case import Live, MountCase, main  # noqa: E402
from live.daemon import Daemon  # noqa: E402
from live.place import Place, sbxfs, wait_until  # noqa: E402
from live.sshd import Sshd, make_key  # noqa: E402


class Lab:
    """The machines of this script."""

    sshd: Sshd
    gate: Sshd
    agent: Path
    ends: list[Callable[[], object]]


def template(name: str, **keys: object) -> str:
    """A provider of its own for each template; None leaves a key out."""
    settings: dict[str, object] = {
        "backend": "ssh", "host": "127.0.0.1", "port": Lab.sshd.port, "user": Lab.sshd.user,
        "identity_file": str(Lab.sshd.identity), "agent": False,
        "known_hosts_file": str(Lab.sshd.path / "known_hosts")}
    settings.update(keys)
    lines = [f"[providers.{name}]"]
    for key, value in settings.items():
        if value is not None:
            plain = isinstance(value, (bool, int))
            lines.append(f"{key} = " + (str(value).lower() if plain else f'"{value}"'))
    work = Lab.sshd.home / "work"
    return "\n".join(lines) + f'\n[templates.{name}]\nprovider = "{name}"\nworkdir = "{work}"\n\n'


def configuration(place: Place) -> str:
    Lab.sshd = Sshd(place, types=("ed25519", "rsa", "ecdsa")).start()
    Lab.gate = Sshd(place, "gate").start()
    (Lab.sshd.home / "work").mkdir()
    (Lab.sshd.home / "mine.txt").write_text("not sbxfs's\n")
    sshd = Lab.sshd
    path = sshd.path
    sshd.known_hosts(path / "known_hosts")
    sshd.known_hosts(path / "hashed", hashed=True)
    (path / "empty").write_text("")
    # The keys of another machine at this address, and only the second type of the right one.
    (path / "changed").write_text(f"[127.0.0.1]:{sshd.port} {Lab.gate.host_keys[0]}\n")
    (path / "rsa_only").write_text(f"[127.0.0.1]:{sshd.port} {sshd.host_keys[1]}\n")
    # localhost is looked up, and answers on 127.0.0.1 only.
    sshd.known_hosts(path / "named", name="localhost")
    sshd.authorize(make_key(path / "locked", passphrase="secret"))
    sshd.authorize(make_key(path / "in_agent"))
    make_key(path / "stranger")
    Lab.agent = path / "agent.sock"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(Lab.agent)], stdout=subprocess.DEVNULL)
    Lab.ends = [Lab.sshd.stop, Lab.gate.stop, lambda: (agent.kill(), agent.wait())]
    place.at_end(Lab.ends[-1])
    wait_until(Lab.agent.exists, "the agent listens")
    subprocess.run(["ssh-add", "-q", str(path / "in_agent")], check=True,
                   env={**os.environ, "SSH_AUTH_SOCK": str(Lab.agent)})
    # The way through the gate: its key beside that of the machine behind it, one identity for both.
    Lab.gate.known_hosts(sshd.known_hosts(path / "both"))
    Lab.gate.authorize(sshd.identity.with_suffix(".pub").read_text().strip())
    jump = f"{Lab.gate.user}@127.0.0.1:{Lab.gate.port}"
    return ("default_template = \"lab\"\n" + template("lab")
            + template("hashed", known_hosts_file=path / "hashed")
            + template("pinned", known_hosts_file=None, host_key=sshd.host_keys[0])
            + template("rsa", known_hosts_file=path / "rsa_only")
            + template("named", host="localhost", known_hosts_file=path / "named")
            + template("unknown", known_hosts_file=path / "empty")
            + template("changed", known_hosts_file=path / "changed")
            + template("stranger", identity_file=path / "stranger")
            + template("locked", identity_file=path / "locked")
            + template("agent", identity_file=None, agent=Lab.agent)
            + template("both_ways", identity_file=path / "locked", agent=Lab.agent)
            + template("jump", known_hosts_file=path / "both", proxy_jump=jump)
            + template("twice", known_hosts_file=path / "both", proxy_jump=f"{jump},{jump}")
            + template("lost_jump", known_hosts_file=path / "known_hosts", proxy_jump=jump)
            + template("nowhere").replace("/work\"", "/no-such-directory\"")
            + f'[templates.root]\nprovider = "lab"\nfs_root = "{sshd.home}"\n'
            + f'[templates.mine]\nprovider = "lab"\nworkdir = "{sshd.home}/work"\nexclusive = true\n'
            + '[templates.here]\nprovider = "local"\n')


def failed(daemon: Daemon, name: str) -> str:
    """Makes a box that must fail; what its error says."""
    box = daemon.mnt / name
    box.mkdir()
    said = (box / "ready").read_text()
    assert said.startswith("failed"), said
    error = (box / "error").read_text()
    Box(daemon, name).destroy(40)
    return error


class GoingIn(MountCase):
    def make(self, name: str) -> Box:
        box = Box.make(self.daemon, name)
        self.addCleanup(lambda: box.path.exists() and box.destroy())
        return box

    def test_host_keys_are_found_however_they_are_written_down(self) -> None:
        for kind in ("hashed", "pinned", "rsa", "named"):
            with self.subTest(kind):
                box = self.make(f"k@{kind}")
                self.assertEqual(box.sh("echo hello"), "hello\n")
                box.destroy()

    def test_an_unknown_host_key_is_refused_with_the_way_to_learn_it(self) -> None:
        self.allow_log("sandbox status")
        error = failed(self.daemon, "u@unknown")
        self.assertIn("is not known", error)
        self.assertIn(f"ssh-keyscan -p {Lab.sshd.port} 127.0.0.1", error)

    def test_a_changed_host_key_is_refused_at_once(self) -> None:
        self.allow_log("sandbox status")
        before = set(Lab.sshd.supervisors())
        error = failed(self.daemon, "c@changed")
        self.assertIn("another host key", error)
        wait_until(lambda: set(Lab.sshd.supervisors()) <= before, "none was started for good")

    def test_a_client_key_the_machine_does_not_know_is_refused_at_once(self) -> None:
        self.allow_log("sandbox status")
        error = failed(self.daemon, "s@stranger")
        self.assertIn("authorized_keys", error)
        self.assertIn("stranger", error)

    def test_an_encrypted_identity_file_names_the_agent(self) -> None:
        self.allow_log("sandbox status")
        self.assertIn("ssh-add", failed(self.daemon, "l@locked"))

    def test_an_agent_lets_in_alone_and_after_a_file_that_cannot(self) -> None:
        for kind in ("agent", "both_ways"):
            with self.subTest(kind):
                box = self.make(f"a@{kind}")
                self.assertEqual(box.sh("echo hello"), "hello\n")
                box.destroy()

    def test_a_jump_host_is_passed_through_once_and_twice(self) -> None:
        for kind in ("jump", "twice"):
            with self.subTest(kind):
                box = self.make(f"j@{kind}")
                self.assertEqual(box.sh("echo hello"), "hello\n")
                (box.path / "work" / "f").write_text("over the gate")
                self.assertEqual((Lab.sshd.home / "work" / "f").read_text(), "over the gate")
                self.assertIn("via 127.0.0.1", box.info["address"])
                (Lab.sshd.home / "work" / "f").unlink()
                box.destroy()
        # The programs that carried it are gone with it, and waited for.
        wait_until(lambda: not self.carriers(), "no ssh of the daemon is left", limit=10)

    def carriers(self) -> list[str]:
        assert self.daemon.process is not None
        found = []
        for entry in os.listdir("/proc"):
            try:
                if entry.isdigit():
                    stat = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)
                    if int(stat[1].split()[1]) == self.daemon.process.pid and stat[0].endswith("(ssh"):
                        found.append(stat[0])
            except OSError:
                continue
        return found

    def test_a_jump_host_that_is_not_known_says_so_in_ssh_s_words(self) -> None:
        self.allow_log("sandbox status")
        box = self.mnt / "g@lost_jump"
        box.mkdir()
        wait_until(lambda: "ost key" in (box / "error").read_text(), "it says why", limit=20)
        self.assertIn("via 127.0.0.1", (box / "error").read_text())
        Box(self.daemon, "g@lost_jump").destroy(40)

    def test_a_working_directory_that_is_not_there_is_not_made(self) -> None:
        self.allow_log("sandbox status")
        error = failed(self.daemon, "n@nowhere")
        self.assertIn("no-such-directory", error)
        self.assertIn("make it there", error)
        self.assertFalse((Lab.sshd.home / "no-such-directory").exists())

    def test_bad_settings_are_refused_with_file_line_and_the_nearest_key(self) -> None:
        cases = [('[providers.x]\nbackend = "ssh"\nhots = "a"\n', "hots"),
                 ('[providers.x]\nbackend = "ssh"\n', "`host` is missing"),
                 ('[providers.x]\nbackend = "ssh"\nhost = "a"\nport = 70000\n', "`port`"),
                 ('[providers.x]\nbackend = "ssh"\nhost = "a"\n[templates.default]\nprovider = "x"\n',
                  "needs workdir")]
        for text, words in cases:
            with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
                file.write(text)
                file.flush()
                mount = Path(tempfile.mkdtemp(dir=Live.place.path))
                done = subprocess.run([sbxfs(), "mount", "-c", file.name, str(mount)], text=True,
                                      capture_output=True, check=False)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(words, done.stderr)
                self.assertRegex(done.stderr, r"\.toml:\d+: ")


class Living(MountCase):
    def test_it_is_a_sandbox_like_any_other(self) -> None:
        self.assertEqual(self.box.sh("cd /; x=1; pwd"), "/\n")
        self.assertEqual(self.box.sh("pwd; echo $x"), "/\n1\n")
        event = self.box.run("once", "echo out; echo err >&2; exit 3")
        self.assertEqual(event.wait(), "exited 3")
        self.assertEqual((event.stdout, event.stderr), (b"out\n", b"err\n"))
        (self.box.path / "work" / "a").write_text("from here\n")
        self.assertEqual(self.box.sh(f"cat {Lab.sshd.home}/work/a"), "from here\n")
        os.unlink(self.box.path / "work" / "a")
        for hidden in ("proc", "sys", "dev"):
            self.assertFalse((self.box.path / "fs" / hidden).exists(), hidden)

    def test_it_is_not_exclusive_and_does_not_expire_unless_said(self) -> None:
        info = self.box.info
        self.assertEqual((info["exclusive"], info["expires"]), (False, None))
        self.assertEqual(info["address"], f"127.0.0.1:{Lab.sshd.port}")

    def test_spools_are_not_shown_in_fs(self) -> None:
        home = self.box.path / "fs" / str(Lab.sshd.home).lstrip("/")
        self.assertIn("mine.txt", os.listdir(home))
        self.assertNotIn(".sbxfs", os.listdir(home))
        self.assertTrue((Lab.sshd.home / ".sbxfs").is_dir())

    def test_fs_root_alone_is_the_working_directory(self) -> None:
        box = Box.make(self.daemon, "r@root")
        self.assertEqual((box.path / "work" / "mine.txt").read_text(), "not sbxfs's\n")
        self.assertEqual(box.sh("pwd"), f"{Lab.sshd.home}\n")
        box.destroy()

    def test_ssh_goes_in_with_the_configuration_it_has(self) -> None:
        ssh = self.box.path / "ssh"
        self.assertEqual(sorted(os.listdir(ssh)), ["config", "known_hosts"])
        self.assertFalse((ssh / "key").exists())  # the login is the user's own
        done = subprocess.run(["ssh", "-F", str(ssh / "config"), "-o", "BatchMode=yes", "b", "echo", "hi"],
                              capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, "hi\n"), done.stderr)
        done = subprocess.run([sbxfs(), "ssh", "-m", str(self.mnt), "b", "--", "exit", "7"],
                              stdin=subprocess.DEVNULL, timeout=30, check=False)
        self.assertEqual(done.returncode, 7)
        done = subprocess.run([sbxfs(), "ssh", "-m", str(self.mnt), "nobody"], capture_output=True,
                              text=True, timeout=30, check=False)
        self.assertEqual(done.returncode, 255)
        self.assertIn("no sandbox 'nobody'", done.stderr)

    def test_ssh_goes_through_the_jump_host_too(self) -> None:
        box = Box.make(self.daemon, "j@jump")
        done = subprocess.run([sbxfs(), "ssh", "-m", str(self.mnt), "j@jump", "echo", "hi"], text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, "hi\n"), done.stderr)
        box.destroy()

    def test_ssh_goes_into_a_local_sandbox_with_a_key_of_its_own(self) -> None:
        box = Box.make(self.daemon, "l@here")
        self.addCleanup(lambda: box.path.exists() and box.destroy())
        key = box.path / "ssh" / "key"
        self.assertEqual(key.stat().st_mode & 0o7777, 0o600)
        self.assertNotIn("key", os.listdir(box.path / "ssh"))
        config = ["-F", str(box.path / "ssh" / "config")]
        for argv in ([sbxfs(), "ssh", "-m", str(self.mnt), "l@here", "cat", "/etc/hostname", ";", "exit 3"],
                     ["ssh", *config, "box", "cat /etc/hostname; exit 3"]):
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=30, check=False)
            self.assertEqual((done.returncode, done.stderr), (3, ""), argv)
            self.assertNotEqual(done.stdout, "")
        copied = subprocess.run(["sftp", *config, "-b", "-", "box"], input="ls /workspace\n",
                                capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual(copied.returncode, 0, copied.stderr)

    def test_commands_outlive_a_killed_daemon(self) -> None:
        # In steps that this test allows, so that nothing depends on time.
        gate = Lab.sshd.home / "work" / "go"
        event = self.box.submit(f"echo one; until [ -e {gate} ]; do sleep 0.05; done; echo two")
        wait_until(lambda: event.text("stdout") == "one\n", "it runs")
        self.daemon.kill()
        gate.write_text("")
        self.daemon.start()
        self.assertEqual(event.wait(), "exited 0")
        self.assertEqual(event.stdout, b"one\ntwo\n")
        gate.unlink()

    def test_commands_and_files_outlive_a_restarted_sshd(self) -> None:
        gate = Lab.sshd.home / "work" / "go2"
        event = self.box.submit(f"echo one; until [ -e {gate} ]; do sleep 0.05; done; echo two")
        wait_until(lambda: event.text("stdout") == "one\n", "it runs")
        Lab.sshd.restart()
        gate.write_text("")
        self.assertEqual(event.wait(), "exited 0")
        self.assertEqual(event.stdout, b"one\ntwo\n")
        wait_until(lambda: self.box.status == "ready", "it is ready again")
        self.assertIn("mine.txt", os.listdir(self.box.path / "fs" / str(Lab.sshd.home).lstrip("/")))
        gate.unlink()

    def test_two_boxes_on_one_machine_do_not_meet(self) -> None:
        other = Box.make(self.daemon, "other@mine")
        self.assertTrue(other.info["exclusive"])
        first = self.box.submit("sleep 100")
        second = other.submit("echo here")
        self.assertEqual(second.wait(), "exited 0")
        self.assertEqual(len(os.listdir(Lab.sshd.home / ".sbxfs")), 2)
        other.destroy()
        self.assertEqual(len(os.listdir(Lab.sshd.home / ".sbxfs")), 1)
        self.assertEqual(first.text("status"), "running\n")
        (first.path / "ctl").write_text("kill\n")
        first.wait()


class Leaving(MountCase):
    """What is left on the machine."""

    def test_rmdir_leaves_nothing_and_touches_nothing(self) -> None:
        before = [name for name in Lab.sshd.listing() if not name.startswith(".sbxfs")]
        supervisors = set(Lab.sshd.supervisors())
        box = Box.make(self.daemon, "gone")
        event = box.submit("echo $$; sleep 1000")
        wait_until(lambda: event.text("stdout") != "", "it runs")
        shell = int(event.text("stdout"))
        spool = Lab.sshd.home / ".sbxfs" / box.info["spool_dir"].rsplit("/", 1)[1]
        self.assertTrue(spool.is_dir())
        box.destroy()
        self.assertFalse(spool.exists())
        # Its last process answers, then ends.
        wait_until(lambda: set(Lab.sshd.supervisors()) <= supervisors, "its supervisor is gone")
        wait_until(lambda: not os.path.exists(f"/proc/{shell}"), "its command is killed")
        after = [name for name in Lab.sshd.listing() if not name.startswith(".sbxfs")]
        self.assertEqual(after, before)

    def test_a_machine_that_is_away_is_cleared_when_it_is_back_also_after_a_restart(self) -> None:
        box = Box.make(self.daemon, "late")
        generation = box.info["generation"]
        spool = Lab.sshd.home / ".sbxfs" / box.info["spool_dir"].rsplit("/", 1)[1]
        Lab.sshd.stop()
        subprocess.run(["rmdir", str(box.path)], check=True)
        past = self.mnt / ".mount" / "history" / f"late.{generation}"
        wait_until(lambda: "Connection refused" in (past / "error").read_text(), "it says why")
        self.assertEqual((past / "status").read_text(), "stopping\n")
        self.assertIn("forget", (past / "error").read_text())
        self.daemon.kill()
        self.daemon.start()
        self.assertEqual((past / "status").read_text(), "stopping\n")
        self.assertTrue(spool.is_dir())
        Lab.sshd.start()
        wait_until(lambda: (past / "status").read_text() == "stopped\n", "it is cleared", limit=30)
        self.assertFalse(spool.exists())
        self.assertEqual(self.box.sh("echo still here"), "still here\n")

    def test_a_machine_that_never_comes_back_can_be_forgotten(self) -> None:
        box = Box.make(self.daemon, "dead")
        generation = box.info["generation"]
        spool = Lab.sshd.home / ".sbxfs" / box.info["spool_dir"].rsplit("/", 1)[1]
        Lab.sshd.stop()
        subprocess.run(["rmdir", str(box.path)], check=True)
        past = self.mnt / ".mount" / "history" / f"dead.{generation}"
        wait_until(lambda: (past / "error").read_text() != "", "it says why")
        self.allow_log("spool left on its machine")
        self.assertEqual((past / "ctl").read_text(), "forget\n")
        (past / "ctl").write_text("forget\n")
        wait_until(lambda: (past / "status").read_text() == "stopped\n", "it is given up")
        self.assertFalse((past / "ctl").exists())
        Lab.sshd.start()
        self.assertTrue(spool.is_dir())
        wait_until(lambda: self.box.status == "ready", "the other one is back", limit=30)
        # What was forgotten is ours to clear, then.
        for pid in Lab.sshd.supervisors():
            if any(str(spool) in os.readlink(f"/proc/{pid}/fd/{fd}")
                   for fd in os.listdir(f"/proc/{pid}/fd")):
                os.kill(pid, signal.SIGTERM)
        subprocess.run(["rm", "-r", str(spool)], check=True)


class Doctor(MountCase):
    def doctor(self, provider: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sbxfs(), "doctor", "-c", str(Live.place.path / "config.toml"), provider],
                              capture_output=True, text=True, timeout=100, check=False)

    def test_it_goes_in_once_and_leaves_nothing(self) -> None:
        before = Lab.sshd.listing()
        done = self.doctor("jump")
        self.assertEqual(done.returncode, 0, done.stdout)
        for check in ("identity file", "host key", "login", "sftp", "supervisor", "directory", "clean up"):
            self.assertRegex(done.stdout, rf"ok +{check} ")
        self.assertEqual(Lab.sshd.listing(), before)

    def test_a_local_sandbox_is_launched_and_taken_away(self) -> None:
        done = self.doctor("local")
        self.assertEqual(done.returncode, 0, done.stdout)
        for check in ("/dev/fuse", "bubblewrap", "sshd", "user namespaces", "launch"):
            self.assertRegex(done.stdout, rf"ok +{check} ")

    def test_a_provider_nobody_has_is_named(self) -> None:
        done = self.doctor("nobody")
        self.assertEqual(done.returncode, 1)
        self.assertIn("'nobody'", done.stderr)

    def test_each_failure_has_its_remedy_and_the_exit_code_tells(self) -> None:
        for provider, words in (("unknown", "ssh-keyscan"), ("changed", "another host key"),
                                ("locked", "ssh-add"), ("stranger", "authorized_keys"),
                                ("nowhere", "make it there")):
            with self.subTest(provider):
                done = self.doctor(provider)
                self.assertEqual(done.returncode, 1)
                self.assertRegex(done.stdout, rf"(?m)^  FAIL .*{words}")


def finish() -> list[str]:
    """Stops the machines; what is on them that was not there before."""
    left = [name for name in Lab.sshd.listing() if name not in ("mine.txt", "work")]
    left += [f"supervisor {pid}" for pid in Lab.sshd.supervisors()]
    for stop in Lab.ends:
        stop()
    return left


if __name__ == "__main__":
    main(limit=170, configure=configuration, finish=finish)
