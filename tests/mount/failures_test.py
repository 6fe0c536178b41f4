#!/usr/bin/env python3
"""What breaks, and what is promised then: a killed daemon, sshd, supervisor or sandbox; a busy or stale
mount; a bad configuration; missing programs. Contract 1, 2, 4, 5, 7 and 10."""

import errno
import os
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path
from typing import Callable

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.box import Box  # noqa: E402
from live.case import Live, MountCase, main  # noqa: E402
from live.daemon import Daemon  # noqa: E402
from live.place import file_system_at, fill, sbxfs, wait_until  # noqa: E402

ROOT = os.geteuid() == 0


def mount(*words: str, unshared: str = "") -> "subprocess.CompletedProcess[str]":
    """`sbxfs mount` that is meant to fail; in a private mount namespace after `unshared`, a script."""
    argv = [sbxfs(), "mount", *words]
    if unshared:
        argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c",
                f'{unshared}; exec "$0" "$@"', *argv]
    return subprocess.run(argv, capture_output=True, text=True, timeout=40, check=False)


class KilledDaemon(MountCase):
    def test_accepted_commands_survive_kill_9_and_end_with_their_true_outcome(self) -> None:
        self.allow_log("taking over|stale|healed|unclean")
        running = self.box.run("survives", "echo before; while [ ! -e /tmp/kd-go ]; do sleep 0.02; done;"
                                           "echo after; exit 9")
        wait_until(lambda: running.stdout == b"before\n", "it runs")
        gate = self.box.submit("while [ ! -e /tmp/kd-go ]; do sleep 0.02; done; echo serial")
        queued = self.box.submit("echo queued")
        self.daemon.kill()
        with self.assertRaises(OSError):
            os.listdir(self.mnt)
        self.daemon.start()  # heals the stale mount
        self.box.await_ready()
        self.assertEqual(running.text("status"), "running\n", "whatever was shown before the kill")
        (self.box.path / "fs" / "tmp" / "kd-go").touch()
        self.assertEqual(running.wait(), "exited 9")
        self.assertEqual(running.stdout, b"before\nafter\n")
        self.assertEqual((gate.wait(), gate.stdout), ("exited 0", b"serial\n"))
        self.assertEqual((queued.wait(), queued.stdout), ("exited 0", b"queued\n"))
        self.refuse(errno.EEXIST, self.box.run, "survives", "true")

    def test_a_command_that_ended_meanwhile_is_told_in_full(self) -> None:
        event = self.box.run("meanwhile", "head -c 300000 /dev/zero | tr '\\0' x; sleep 0.2; exit 4")
        self.daemon.kill()
        time.sleep(0.5)
        self.daemon.start()
        self.assertEqual(event.wait(), "exited 4")
        self.assertEqual(event.stdout, b"x" * 300000)

    def test_the_persistent_shell_survives_too(self) -> None:
        self.box.sh("cd /tmp; kept=yes")
        self.daemon.kill()
        self.daemon.start()
        self.assertEqual(self.box.sh("pwd; echo $kept"), "/tmp\nyes\n")

    def test_an_rmdir_is_finished_by_the_next_daemon(self) -> None:
        box = Box.make(self.daemon, "doomed")
        directory, generation = box.directory, box.info["generation"]
        box.path.rmdir()
        self.daemon.kill()
        self.daemon.start()
        self.assertNotIn("doomed", os.listdir(self.mnt))
        past = self.mnt / ".mount" / "history" / f"doomed.{generation}"
        wait_until(lambda: (past / "status").read_text() == "stopped\n", "it is destroyed")
        self.assertFalse(directory.exists())

    def test_a_mkdir_is_finished_by_the_next_daemon(self) -> None:
        box = Box(self.daemon, "begun")
        box.path.mkdir()
        self.daemon.kill()
        self.daemon.start()
        box.await_ready()
        self.assertEqual(box.sh("echo up"), "up\n")
        box.destroy()

    def test_a_snapshot_is_whole_or_not_there_and_outlives_the_daemon(self) -> None:
        box = Box.make(self.daemon, "copied")
        box.sh("mkdir many; cd many; seq 3000 | xargs touch; cd ..; echo kept > kept")
        ctl, snapshots = box.path / "ctl", self.mnt / ".mount" / "snapshots"
        ctl.write_text("snapshot whole\n")
        self.assertEqual(os.listdir(snapshots), ["whole.json"])
        writer = subprocess.Popen(["sh", "-c", f"echo snapshot cut > {ctl}"],
                                  stderr=subprocess.DEVNULL)
        wait_until(lambda: writer.poll() is not None
                   or any(name.startswith(".new-")
                          for name in os.listdir(self.daemon.state / "snapshots")),
                   "it is being made")
        self.daemon.kill()
        writer.wait(20)
        self.daemon.start()
        box.await_ready()
        self.assertIn("whole.json", os.listdir(snapshots))
        if "cut.json" in os.listdir(snapshots):  # it had its name already
            (snapshots / "cut.json").unlink()
        ctl.write_text("snapshot cut\n")
        wait_until(lambda: sorted(os.listdir(self.daemon.state / "snapshots")) == ["cut", "whole"],
                   "what was left is swept away")
        box.destroy()
        new = Box.make(self.daemon, "new@whole")
        self.assertEqual(new.sh("cat kept; ls many | wc -l"), "kept\n3000\n")
        for name in os.listdir(snapshots):
            (snapshots / name).unlink()
        self.assertEqual(new.sh("cat kept"), "kept\n")
        new.destroy()

    def test_umount_and_mount_keep_everything(self) -> None:
        before = self.box.numbers()
        self.daemon.restart()
        self.assertEqual(self.box.numbers(), before)
        self.assertEqual(self.box.sh("echo on"), "on\n")


class KilledParts(MountCase):
    def kill(self, box: Box, *words: str) -> int:
        """SIGKILL to each process of the box whose command line has one of the words."""
        killed = 0
        for pid, line in box.processes().items():
            if any(word in line for word in words) and pid != box.init():
                try:
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
                except ProcessLookupError:
                    pass
        return killed

    def test_killed_sshds_are_reconnected_and_commands_go_on(self) -> None:
        event = self.box.run("through", "for i in $(seq 30); do echo $i; sleep 0.03; done; exit 6")
        wait_until(lambda: event.stdout != b"", "it runs")
        self.assertGreater(self.kill(self.box, "sshd"), 0)
        self.assertEqual(event.wait(), "exited 6")
        self.assertEqual(event.stdout, b"".join(b"%d\n" % i for i in range(1, 31)))
        self.assertEqual(self.box.status, "ready")
        self.assertEqual((self.box.path / "fs" / "etc" / "hostname").read_text(), "b\n")
        self.assertEqual((self.box.path / "error").read_text(), "")

    def test_files_go_on_after_each_of_ten_cuts(self) -> None:
        for i in range(10):
            self.kill(self.box, "sshd")
            deadline = time.monotonic() + 10
            while True:
                try:
                    (self.box.path / "work" / f"cut{i}").write_text(str(i))
                    break
                except OSError as error:
                    self.assertIn(error.errno, (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ESTALE))
                    self.assertLess(time.monotonic(), deadline)
            self.assertEqual(self.box.sh(f"cat /workspace/cut{i}"), str(i))

    def test_a_killed_supervisor_loses_the_running_command_and_the_next_works(self) -> None:
        event = self.box.run("lost", "echo before; sleep 60")
        wait_until(lambda: event.stdout == b"before\n", "it runs")
        self.assertGreater(self.kill(self.box, "sbxfs-supervisor"), 0)
        self.assertEqual(event.wait(), "lost")
        self.assertNotEqual(event.text("error"), "")
        self.assertEqual(event.text("exit_code"), "")
        self.assertEqual(event.stdout, b"before\n")
        self.assertEqual(self.box.sh("echo next"), "next\n")
        self.assertNotIn("sleep 60", " ".join(self.box.processes().values()))

    def test_a_box_whose_init_is_killed_is_failed_and_says_so(self) -> None:
        self.allow_log(r"warning sandbox status box=killed .* status=failed")
        box = Box.make(self.daemon, "killed")
        running = box.run("r", "echo up; sleep 60")
        wait_until(lambda: running.stdout == b"up\n", "it runs")
        gate = box.submit("sleep 60")
        wait_until(lambda: gate.text("status") == "running\n", "it was sent")
        queued = box.submit("echo never")
        waiter = subprocess.Popen(["cat", str(queued.path / "wait")], stdout=subprocess.PIPE)
        self.addCleanup(waiter.kill)
        os.kill(box.init(), signal.SIGKILL)
        wait_until(lambda: box.status == "failed", "it is found out")
        self.assertEqual([event.wait(5) for event in (running, gate, queued)],
                         ["lost", "lost", "refused"])
        self.assertEqual(waiter.communicate(timeout=5)[0], b"refused\n")
        sentence = (box.path / "error").read_text()
        self.assertRegex(sentence, r"\w+ \w+ \w+")
        self.assertTrue((box.path / "ready").read_text().startswith("failed: "))
        self.refuse(errno.EHOSTDOWN, box.submit, "echo x", sentence="rmdir")
        self.refuse(errno.EHOSTDOWN, os.listdir, box.path / "fs")
        self.assertEqual(running.stdout, b"up\n", "what had come stays")
        box.destroy()

    def test_a_frozen_box_answers_in_time_and_thaws(self) -> None:
        daemon = Daemon(Live.place, ["op_timeout=2s"], name="-frozen").start()
        box = Box.make(daemon, "f")
        box.sh("printf x > x")  # made there: here nobody knows it yet
        pids = list(box.processes())
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            self.refuse(errno.ETIMEDOUT, (box.path / "work" / "x").read_text)
            self.assertLess(time.monotonic() - started, 10)
            reader = subprocess.Popen(["cat", str(box.path / "work" / "x")],
                                      stderr=subprocess.DEVNULL)
            wait_until(lambda: daemon.waiting() > 0, "it waits")
            reader.send_signal(signal.SIGTERM)
            self.assertEqual(reader.wait(20), -signal.SIGTERM, "not ended by the timeout")
            event = box.submit("echo thawed")
            self.assertEqual(event.text("wait.1"), "queued\n")
            self.assertEqual(box.status, "ready")
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        self.assertEqual(event.wait(), "exited 0")
        self.assertEqual((box.path / "work" / "x").read_text(), "x")
        # The kernel does not wait for its RELEASEs.
        wait_until(lambda: daemon.waiting() == 0, "nothing is left unanswered")
        box.destroy()
        daemon.umount()
        self.assertEqual(daemon.complaints(["refused op=(lookup|getattr|open) .* errno=110"]), [])


@unittest.skipUnless(ROOT, "needs root, for a small disk of its own")
class FullDisk(MountCase):
    """The disk of the state directory, which also holds the sandboxes."""

    def setUp(self) -> None:
        super().setUp()
        self.disk = Live.place.path / "disk"
        self.disk.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m,mode=700", "none", str(self.disk)],
                       check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", str(self.disk)], check=True)
        self.full = Daemon(Live.place, name="-full")
        self.full.state = self.disk / "state"
        self.addCleanup(self.full.abandon)

    def free(self) -> None:
        (self.disk / "fill").unlink()

    def refused_here(self, call: Callable[..., object], *args: object) -> None:
        with self.assertRaises(OSError) as caught:
            call(*args)
        self.assertEqual(caught.exception.errno, errno.ENOSPC)
        self.assertIn("free some space", self.full.last_error())

    def test_what_was_accepted_ends_truly_and_nothing_more_is_accepted(self) -> None:
        box = Box.make(self.full.start(), "f")
        (box.path / "work" / "stay").touch()
        script = "echo before; while [ -e /workspace/stay ]; do sleep 0.02; done; exit 3"
        running = box.run("r", script)
        gate = box.submit("while [ -e /workspace/stay ]; do sleep 0.02; done; exit 4")
        queued = box.submit("exit 5")
        wait_until(lambda: running.stdout == b"before\n", "it runs")
        fill(self.disk)
        self.refused_here(box.submit, "echo more")
        self.refused_here(box.run, "more", "true")
        self.refused_here((self.full.mnt / "second").mkdir)
        try:
            (box.path / "work" / "x").write_bytes(bytes(1 << 20))
        except OSError as error:
            self.assertEqual(error.errno, errno.ENOSPC)
        else:
            self.assertFalse((self.full.state / "reserve").exists(), "no room but the reserve's")
            (box.path / "work" / "x").unlink()
        (box.path / "work" / "stay").unlink()
        self.assertEqual([event.wait() for event in (running, gate)], ["exited 3", "exited 4"])
        # The sandbox's own disk is the same one here: what it cannot even begin is refused, and says so.
        last = queued.wait()
        if last != "exited 5":
            self.assertEqual(last, "refused", queued.text("error"))
            self.assertRegex(queued.text("error"), "(?i)space|spool")
        self.assertEqual(running.stdout, b"before\n")
        # The room that the reserve has made is not for new promises.
        self.refused_here(box.submit, "echo more")
        self.assertEqual(sorted(os.listdir(box.path / "events")), ["1", "2", "3", "latest", "log.jsonl", "r"])

        self.full.kill()
        self.full.start()
        self.assertEqual((running.text("status"), queued.wait()), ("exited\n", last))
        box.destroy()
        self.assertEqual(list((self.full.state / "boxes").iterdir()), [])
        self.free()
        again = Box.make(self.full, "f")
        self.assertEqual(again.sh("echo on"), "on\n")
        again.destroy()
        wait_until((self.full.state / "reserve").exists, "there is a reserve again")
        self.full.umount()
        self.assertEqual(self.full.complaints(["state directory is full, using the reserve"]), [])

    def test_mount_says_so_and_works_again_afterwards(self) -> None:
        box = Box.make(self.full.start(), "f")
        event = box.run("r", "exit 5")
        self.assertEqual(event.wait(), "exited 5")
        self.full.umount()
        (self.full.state / "reserve").unlink()
        fill(self.disk)
        fill(self.disk)  # what an unmount in between had still written to
        done = mount("-o", f"state_dir={self.full.state}", str(self.full.mnt))
        if done.returncode == 0:  # there was no need to write anything
            subprocess.run([sbxfs(), "umount", str(self.full.mnt)], check=True)
        else:
            self.assertEqual(done.returncode, 32)
            self.assertIn("free some space", done.stderr)
        self.free()
        self.full.start()
        self.assertEqual(event.text("exit_code"), "5\n")
        box.destroy()
        self.full.umount()


class Mounting(MountCase):
    def test_a_second_daemon_on_the_same_state_is_refused(self) -> None:
        point = Live.place.path / "other"
        point.mkdir(exist_ok=True)
        done = mount("-o", f"state_dir={self.daemon.state}", str(point))
        self.assertEqual(done.returncode, 32)
        self.assertIn("is in use by process", done.stderr)
        self.assertIn(str(self.mnt), done.stderr)
        self.assertIsNone(file_system_at(point))
        self.assertEqual(self.box.sh("echo unharmed"), "unharmed\n")

    def test_a_second_mount_on_the_same_point_is_refused(self) -> None:
        done = mount("-o", f"state_dir={Live.place.path}/state2", str(self.mnt))
        self.assertEqual(done.returncode, 32)
        self.assertIn(f"sbxfs umount {self.mnt}", done.stderr)

    def test_bad_mount_points_say_what_is_wrong(self) -> None:
        state = f"state_dir={Live.place.path}/state2"
        done = mount("-o", state, str(Live.place.path / "none"))
        self.assertEqual(done.returncode, 32)
        self.assertIn("make the directory first", done.stderr)
        (Live.place.path / "file").touch()
        done = mount("-o", state, str(Live.place.path / "file"))
        self.assertEqual(done.returncode, 32)
        self.assertIn("not a directory", done.stderr)
        done = mount("-o", "state_dir=relative", str(Live.place.path))
        self.assertEqual(done.returncode, 1)
        self.assertIn("absolute", done.stderr)

    def test_a_mount_in_the_background_is_live_when_it_returns(self) -> None:
        point = Live.place.path / "background"
        point.mkdir()
        state = Live.place.path / "state-background"
        done = mount("-o", f"state_dir={state}", str(point))
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        self.assertIn("README.md", os.listdir(point))
        options = [line.split()[5] for line in Path("/proc/self/mountinfo").read_text().splitlines()
                   if line.split()[4] == str(point)][0]
        self.assertLessEqual({"nosuid", "nodev", "noexec"}, set(options.split(",")))
        subprocess.run([sbxfs(), "umount", str(point)], check=True)
        self.assertEqual(os.listdir(point), [])

    def test_sigterm_ends_the_daemon_cleanly(self) -> None:
        daemon = Daemon(Live.place, name="-term").start()
        assert daemon.process is not None
        daemon.process.terminate()
        self.assertEqual(daemon.process.wait(10), 0)
        daemon.process = None
        self.assertIsNone(file_system_at(daemon.mnt))
        self.assertEqual(daemon.complaints([]), [])


class Configuration(MountCase):
    def mount_with(self, text: str, mode: int = 0o600) -> "subprocess.CompletedProcess[str]":
        file = Live.place.path / "bad.toml"
        file.write_text(text)
        file.chmod(mode)
        point = Live.place.path / "configured"
        point.mkdir(exist_ok=True)
        done = mount("-c", str(file), "-o", f"state_dir={Live.place.path}/state3", str(point))
        self.assertIsNone(file_system_at(point))
        self.assertEqual(done.returncode, 1, done.stderr)
        return done

    def test_errors_name_file_line_and_key(self) -> None:
        table = [
            ("x = = 1\n", 1, ""),
            ('default_template = "d"\n[templates.d]\nworkdri = "/x"\n', 3, "workdir"),
            ('[templates.d]\nprovider = "locl"\n', 2, "locl"),
            ('[templates.d]\nmemory = "much"\n', 2, "memory"),
            ('[templates.d]\nworkdir = "relative"\n', 2, "absolute"),
            ('[templates.d]\nmax_lifetime = "soon"\n', 2, "duration"),
            ('[templates.d]\nshell = "${NO_SUCH_VARIABLE}"\n', 2, "NO_SUCH_VARIABLE"),
            ('[providers.p]\nbackend = "nosuch"\n', 2, "nosuch"),
            ('[providers.p]\nbackend = "local"\nnonsense = 1\n', 3, "nonsense"),
            ('default_temlate = "d"\n', 1, "default_template"),
            ('[templates.d]\nenv = { A = 1 }\n', 2, "env"),
        ]
        for text, line, word in table:
            with self.subTest(text=text):
                done = self.mount_with(text)
                self.assertRegex(done.stderr, rf"bad\.toml:{line}\b")
                self.assertIn(word, done.stderr)

    def test_a_file_that_others_can_write_is_refused(self) -> None:
        done = self.mount_with("", 0o666)
        self.assertIn("chmod go-w", done.stderr)

    def test_a_missing_file_is_named(self) -> None:
        done = mount("-c", "/nowhere/config.toml", str(Live.place.path))
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nowhere/config.toml", done.stderr)


@unittest.skipUnless(ROOT, "needs root, to hide programs")
class MissingPrograms(MountCase):
    """Programs and devices are hidden in a private mount namespace, which nobody else sees."""

    def hidden(self, *paths: str) -> str:
        return "; ".join(f"mount --bind /dev/null {path}" for path in paths if os.path.exists(path))

    def test_without_dev_fuse_it_says_so(self) -> None:
        point = Live.place.path / "nofuse"
        point.mkdir()
        dev = Live.place.path / "dev"
        dev.mkdir()
        # Another /dev, with nothing of the machine's but /dev/shm, where this test may lie.
        done = mount("-o", f"state_dir={Live.place.path}/state4", str(point),
                     unshared=f"mount -t tmpfs none {dev} && mknod -m 666 {dev}/null c 1 3 && "
                              f"mkdir {dev}/shm && mount --bind /dev/shm {dev}/shm && "
                              f"mount --move {dev} /dev")
        self.assertEqual(done.returncode, 32)
        self.assertIn("no /dev/fuse", done.stderr)
        self.assertIn("modprobe fuse", done.stderr)

    def test_a_machine_of_another_kind_is_told_at_mkdir(self) -> None:
        point = Live.place.path / "i686"
        point.mkdir()
        state = Live.place.path / "state-i686"
        if subprocess.run(["setarch", "linux32", "true"], check=False).returncode != 0:
            self.skipTest("no setarch")
        subprocess.run(["setarch", "linux32", sbxfs(), "mount", "-o", f"state_dir={state}", str(point)],
                       check=True)
        with self.assertRaises(OSError) as caught:
            (point / "x").mkdir()
        self.assertEqual(caught.exception.errno, errno.EOPNOTSUPP)
        self.assertRegex((point / ".mount" / "last_error").read_text(), "x86_64 and aarch64, not on")
        self.assertNotIn("x", os.listdir(point))
        subprocess.run([sbxfs(), "umount", str(point)], check=True)

    def test_without_bwrap_or_sshd_mkdir_says_what_to_install(self) -> None:
        for program, paths in (("bubblewrap", ["/usr/bin/bwrap", "/bin/bwrap"]),
                               ("sshd", ["/usr/sbin/sshd", "/sbin/sshd"])):
            point = Live.place.path / f"no-{program}"
            point.mkdir()
            state = Live.place.path / f"state-{program}"
            # A mount point of a private namespace can be seen only from within it.
            script = (f"{self.hidden(*paths)}; {sbxfs()} mount -o state_dir={state} {point} || exit 1; "
                      f"mkdir {point}/x; echo code=$?; cat {point}/.mount/last_error; "
                      f"ls {point}; {sbxfs()} umount {point}")
            done = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
                                  capture_output=True, text=True, timeout=30, check=False)
            self.assertIn("code=1", done.stdout)
            self.assertIn("not supported", done.stderr)
            self.assertIn(f"need {program}", done.stdout)
            self.assertIn("apt install bubblewrap openssh-server", done.stdout)
            self.assertNotIn("\nx\n", done.stdout, "no directory is left")


if __name__ == "__main__":
    main()
