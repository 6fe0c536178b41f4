#!/usr/bin/env python3
"""The command line: exec with its streams, codes and signals; list, version, umount. Contract 7."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.box import Box  # noqa: E402
from live.case import Live, MountCase, main  # noqa: E402
from live.daemon import Daemon  # noqa: E402
from live.place import file_system_at, sbxfs, wait_until  # noqa: E402


class ExecCase(MountCase):
    def exec(self, *words: str, limit: float = 30) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run([sbxfs(), "exec", "-m", str(self.mnt), *words], capture_output=True,
                              timeout=limit, check=False)


class Exec(ExecCase):
    def test_streams_and_code_are_the_commands(self) -> None:
        done = self.exec("b", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (7, b"out\n", b"err\n"))

    def test_exit_codes(self) -> None:
        table = [
            (["b", "--", "true"], 0),
            (["b", "--", "false"], 1),
            (["b", "--", "no-such-program-anywhere"], 127),
            (["b", "--", "/etc/passwd"], 126),
            (["b", "--", "sh", "-c", "exit 255"], 255),
            (["b", "--", "kill -9 $$; sleep 9"], 128 + 9),
            (["b", "--", "kill -TERM $$; sleep 9"], 128 + 15),
            (["--timeout", "0.3", "b", "--", "sleep", "60"], 124),
            (["nosuchbox", "--", "true"], 125),
        ]
        for words, code in table:
            with self.subTest(words=words):
                self.assertEqual(self.exec(*words).returncode, code)

    def test_one_word_is_a_script_and_several_are_a_program_and_its_arguments(self) -> None:
        self.assertEqual(self.exec("b", "--", "echo $((1 + 1)) | cat").stdout, b"2\n")
        tricky = ["a b", "$HOME", "'", '"', "*", "", "-n", "\\", "new\nline", "`id`"]
        done = self.exec("b", "--", "printf", "%s|", *tricky)
        self.assertEqual(done.stdout.decode(), "".join(word + "|" for word in tricky))

    def test_words_after_the_box_are_the_commands_own(self) -> None:
        self.assertEqual(self.exec("b", "--", "echo", "--timeout", "-m", "--", "x").stdout,
                         b"--timeout -m -- x\n")
        self.assertEqual(self.exec("b", "echo", "plain").stdout, b"plain\n")

    def test_cwd(self) -> None:
        self.assertEqual(self.exec("--cwd", "/etc", "b", "--", "pwd").stdout, b"/etc\n")
        self.assertEqual(self.exec("--cwd", "not/absolute", "b", "--", "pwd").returncode, 125)

    def test_three_mebibytes_of_binary_arrive_whole(self) -> None:
        noise = os.urandom(3 << 20)
        (self.box.path / "work" / "exec-noise").write_bytes(noise)
        done = self.exec("b", "--", "cat exec-noise; cat exec-noise >&2")
        digest = hashlib.sha256(noise).digest()
        self.assertEqual(hashlib.sha256(done.stdout).digest(), digest)
        self.assertEqual(hashlib.sha256(done.stderr).digest(), digest)

    def test_output_streams_while_it_runs(self) -> None:
        running = subprocess.Popen([sbxfs(), "exec", "-m", str(self.mnt), "b", "--",
                                    "echo first; while [ ! -e /tmp/exec-go ]; do sleep 0.02; done"],
                                   stdout=subprocess.PIPE)
        self.addCleanup(running.kill)
        assert running.stdout is not None
        self.assertEqual(running.stdout.readline(), b"first\n")
        (self.box.path / "fs" / "tmp" / "exec-go").touch()
        self.assertEqual(running.wait(10), 0)
        running.stdout.close()

    def test_signals_are_forwarded(self) -> None:
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
            script = "echo up; sleep 60; echo never"
            running = subprocess.Popen([sbxfs(), "exec", "-m", str(self.mnt), "b", "--", script],
                                       stdout=subprocess.PIPE)
            self.addCleanup(running.kill)
            assert running.stdout is not None
            self.assertEqual(running.stdout.readline(), b"up\n")
            running.send_signal(number)
            self.assertEqual(running.wait(15), code)
            running.stdout.close()
        wait_until(lambda: "sleep 60" not in " ".join(self.box.processes().values()),
                   "nothing of them runs on")

    def test_a_command_that_catches_the_signal_decides_itself(self) -> None:
        script = "trap 'echo caught; exit 5' INT; echo up; while :; do sleep 0.05; done"
        running = subprocess.Popen([sbxfs(), "exec", "-m", str(self.mnt), "b", "--", script],
                                   stdout=subprocess.PIPE)
        self.addCleanup(running.kill)
        assert running.stdout is not None
        self.assertEqual(running.stdout.readline(), b"up\n")
        running.send_signal(signal.SIGINT)
        self.assertEqual(running.wait(15), 5)
        self.assertEqual(running.stdout.read(), b"caught\n")
        running.stdout.close()

    def test_output_that_is_not_kept_is_left_out_and_said_so_and_never_becomes_zeros(self) -> None:
        # Lines that say where they are, written while nobody reads, so that the middle is gone.
        total, line = 100 << 20, 4096
        script = (f"awk 'BEGIN {{ for (i = 0; i < {total // line}; i++) printf \"%0{line - 1}d\\n\", i }}'; "
                  "echo told >&2")
        running = subprocess.Popen([sbxfs(), "exec", "-m", str(self.mnt), "b", "--", script],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        self.addCleanup(running.kill)
        assert running.stdout is not None
        first = running.stdout.read(1)
        event = self.box.path / "events" / "latest"
        wait_until(lambda: (event / "status").read_text() == "exited\n", "it has ended", limit=60)
        out, err = running.communicate(timeout=60)
        out = first + out
        self.assertNotIn(b"\0", out)
        result = json.loads((event / "result.json").read_text())
        self.assertEqual(len(out), total - result["stdout_dropped_bytes"])
        holes = result["stdout_holes"]
        kept = b"".join(b"%0*d\n" % (line - 1, i) for i in range(total // line))
        for begin, end in reversed(holes):
            kept = kept[:begin] + kept[end:]
        self.assertEqual(hashlib.sha256(out).digest(), hashlib.sha256(kept).digest())
        self.assertEqual(err.splitlines()[0], b"told")
        for begin, end in holes:
            self.assertIn(f"sbxfs: {end - begin} bytes of stdout are left out, from byte {begin} on".encode(), err)
        # Not the command's 0: who reads this must not take a part for all of it.
        self.assertEqual(running.returncode, 125)

    def test_zeros_of_the_commands_own_are_no_holes(self) -> None:
        done = self.exec("b", "--", "head -c 3000000 /dev/zero; exit 3")
        self.assertEqual((done.returncode, done.stdout.count(b"\0"), done.stderr), (3, 3000000, b""))

    def test_a_command_whose_reader_has_gone_gets_a_hangup(self) -> None:
        for script in ("while :; do echo x; sleep 0.2; done", "echo x; sleep 3600"):
            with self.subTest(script=script):
                done = subprocess.run(["bash", "-c", 'set -o pipefail; "$@" | head -n 1', "bash", sbxfs(), "exec",
                                       "-m", str(self.mnt), "b", "--", script],
                                      capture_output=True, timeout=30, check=False)
                self.assertEqual((done.stdout, done.stderr, done.returncode), (b"x\n", b"", 128 + 13))
                event = self.box.path / "events" / "latest"
                self.assertEqual((event / "wait.10").read_text(), "killed 129\n")

    def test_output_that_cannot_be_written_ends_the_command_and_says_so(self) -> None:
        with open("/dev/full", "wb") as full:
            done = subprocess.run([sbxfs(), "exec", "-m", str(self.mnt), "b", "--", "seq 1000; sleep 3600"],
                                  stdout=full, stderr=subprocess.PIPE, timeout=30, check=False)
        self.assertEqual(done.returncode, 125)
        self.assertIn(b"No space left on device", done.stderr)
        self.assertEqual((self.box.path / "events" / "latest" / "wait.10").read_text(), "killed 143\n")

    def test_a_reader_that_goes_away_ends_it(self) -> None:
        done = subprocess.run(["bash", "-c", f"{sbxfs()} exec -m {self.mnt} b -- "
                               "'for i in $(seq 100000); do echo $i; done' | head -n 1"],
                              capture_output=True, timeout=30, check=False)
        self.assertEqual(done.stdout, b"1\n")

    def test_options_behind_the_box_are_taken_as_those_before_it(self) -> None:
        done = self.exec("b", "--cwd", "/etc", "--", "pwd")
        self.assertEqual((done.returncode, done.stdout), (0, b"/etc\n"))
        self.assertEqual(self.exec("b", "--timeout=0.3", "sleep", "60").returncode, 124)
        for words, said in ((("--timeout", "--", "true"), b"needs a value"),
                            (("--timeout", "soon", "--", "true"), b"wants seconds"),
                            (("--nosuch", "--", "true"), b"exec b -- CMD"),
                            (("--cwd", "/etc"), b"say what to run")):
            done = self.exec("b", *words)
            self.assertEqual((done.returncode, done.stdout), (125, b""), words)
            self.assertIn(said, done.stderr)

    def test_infrastructure_failures_are_125_with_a_sentence(self) -> None:
        done = self.exec("nosuchbox", "--", "true")
        self.assertEqual(done.returncode, 125)
        self.assertIn(b"no sandbox 'nosuchbox'", done.stderr)
        done = subprocess.run([sbxfs(), "exec", "-m", "/nowhere", "b", "--", "true"],
                              capture_output=True, check=False)
        self.assertEqual(done.returncode, 125)
        self.assertNotEqual(done.stderr, b"")

    def test_a_box_that_is_destroyed_under_it_is_125(self) -> None:
        box = Box.make(self.daemon, "gone")
        running = subprocess.Popen([sbxfs(), "exec", "-m", str(self.mnt), "gone", "--", "echo up; sleep 60"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(running.kill)
        assert running.stdout is not None
        self.assertEqual(running.stdout.readline(), b"up\n")
        box.path.rmdir()
        out, err = running.communicate(timeout=20)
        self.assertEqual((running.returncode, out), (125, b""))
        self.assertIn(b"sbxfs: ", err)

    def test_in_a_launching_box_it_waits(self) -> None:
        (self.mnt / "fresh").mkdir()
        self.assertEqual(self.exec("fresh", "--", "echo", "ready now").stdout, b"ready now\n")
        Box(self.daemon, "fresh").destroy()


class CommandLine(ExecCase):
    def sbxfs(self, *words: str, **options: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([sbxfs(), *words], capture_output=True, text=True, timeout=30,
                              check=False, **options)  # type: ignore[call-overload]

    def test_version(self) -> None:
        done = self.sbxfs("version")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        contract = (self.mnt / ".mount" / "version").read_text().strip()
        self.assertRegex(done.stdout, rf"^sbxfs [0-9.]+ \(contract {contract}\)\n$")

    def test_list(self) -> None:
        done = self.sbxfs("list", "-m", str(self.mnt))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        lines = done.stdout.splitlines()
        self.assertEqual(lines[0].split(), ["PATH", "STATUS", "PROVIDER", "TEMPLATE", "CREATED"])
        self.assertIn([str(self.box.path), "ready", "local", "default"],
                      [line.split()[:4] for line in lines[1:]])
        listed = json.loads(self.sbxfs("list", "--json", "-m", str(self.mnt)).stdout)
        self.assertEqual([entry["name"] for entry in listed], ["b"])
        self.assertEqual(self.sbxfs("list", "-m", "/nowhere").returncode, 1)

    def test_usage_errors_are_1_as_of_mount_and_125_where_1_may_be_the_commands(self) -> None:
        for words in (["exec"], ["exec", "b"]):
            self.assertEqual(self.sbxfs(*words).returncode, 125)
        for words in ([], ["nonsense"], ["mount"], ["umount"],
                      ["mount", "-o", "nosuchoption", str(Live.place.path)]):
            with self.subTest(words=words):
                done = self.sbxfs(*words)
                self.assertEqual(done.returncode, 1)
                self.assertNotEqual(done.stderr + done.stdout, "")
        done = self.sbxfs("mount", "-o", "op_timeuot=3s", str(Live.place.path))
        self.assertIn("did you mean 'op_timeout'", done.stderr)

    def test_help_is_no_error(self) -> None:
        for words in (["--help"], ["mount", "--help"], ["exec", "--help"], ["mount", "-o", "help"]):
            done = self.sbxfs(*words)
            self.assertEqual((done.returncode, done.stderr), (0, ""), words)

    def test_umount_of_a_busy_mount_fails_and_says_why(self) -> None:
        with open(self.box.path / "status"):
            done = self.sbxfs("umount", str(self.mnt))
            self.assertEqual(done.returncode, 32)
            self.assertIn("in use", done.stderr)
        self.assertEqual(self.box.status, "ready")

    def test_umount_of_what_is_not_mounted(self) -> None:
        done = self.sbxfs("umount", str(Live.place.path))
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("no sbxfs is mounted", done.stderr)

    def test_a_mount_whose_daemon_is_gone_can_be_unmounted_by_a_relative_path(self) -> None:
        daemon = Daemon(Live.place, name="-dead").start()
        daemon.kill()
        done = self.sbxfs("umount", daemon.mnt.name, cwd=daemon.mnt.parent)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIsNone(file_system_at(daemon.mnt))

    def test_umount_then_mount_works_at_once(self) -> None:
        point, state = Live.place.path / "again", Live.place.path / "state-again"
        point.mkdir()
        for _ in range(3):
            done = self.sbxfs("mount", "-o", f"state_dir={state}", str(point))
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            done = self.sbxfs("umount", str(point))
            self.assertEqual((done.returncode, done.stderr), (0, ""))

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_umount_ends_the_daemon_although_another_namespace_has_a_copy_of_the_mount(self) -> None:
        daemon = Daemon(Live.place, name="-copied").start()
        copy = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sh", "-c",
                                 "echo copied; exec sleep 60"], stdout=subprocess.PIPE)
        self.addCleanup(copy.wait)
        self.addCleanup(copy.kill)
        assert copy.stdout is not None
        self.assertEqual(copy.stdout.readline(), b"copied\n")
        copy.stdout.close()
        daemon.umount()
        self.assertIsNone(copy.poll())
        self.assertEqual(daemon.complaints([]), [])

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_a_lazily_unmounted_daemon_serves_open_files_until_they_are_closed(self) -> None:
        daemon = Daemon(Live.place, name="-lazy").start()
        assert daemon.process is not None
        with open(daemon.mnt / "README.md") as file:
            subprocess.run(["umount", "-l", str(daemon.mnt)], check=True)
            self.assertIn("sbxfs", file.read())
            self.assertIsNone(daemon.process.poll())
        self.assertEqual(daemon.process.wait(20), 0)
        daemon.process = None

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_mounts_of_other_users_do_not_count(self) -> None:
        # For uid 1 there is no mount, whatever root has mounted.
        def other(*words: str) -> "subprocess.CompletedProcess[str]":
            return subprocess.run(["setpriv", "--reuid", "1", "--clear-groups", *words],
                                  capture_output=True, text=True, check=False)
        if other("test", "-x", sbxfs()).returncode != 0:
            self.skipTest("other users cannot run " + sbxfs())
        done = other(sbxfs(), "exec", "b", "--", "true")
        self.assertEqual(done.returncode, 125)
        self.assertIn("nothing is mounted", done.stderr)

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_without_m_the_only_mount_is_used_else_they_are_listed(self) -> None:
        # In a mount namespace where other people's mounts are out of sight.
        hide = ("for point in $(awk '/ fuse.sbxfs /{print $5}' /proc/self/mountinfo); do "
                f'[ "$point" = {self.mnt} ] || umount -l "$point"; done; ')
        def alone(script: str) -> "subprocess.CompletedProcess[str]":
            return subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c",
                                   hide + script], capture_output=True, text=True, timeout=30,
                                  check=False)
        done = alone(f"{sbxfs()} exec b -- echo found")
        self.assertEqual((done.stdout, done.stderr), ("found\n", ""))
        second = Live.place.path / "second"
        second.mkdir(exist_ok=True)
        done = alone(f"mount --bind {self.mnt} {second}; {sbxfs()} exec b -- echo found")
        self.assertEqual(done.returncode, 125)
        self.assertIn("several mounts", done.stderr)
        done = alone(f"mount --bind {self.mnt} {second}; cd {second} && {sbxfs()} exec b -- echo here")
        self.assertEqual((done.stdout, done.stderr), ("here\n", ""))
        done = alone(f"umount -l {self.mnt}; {sbxfs()} exec b -- echo found")
        self.assertEqual(done.returncode, 125)
        self.assertIn("sbxfs mount MOUNTPOINT", done.stderr)

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_a_mount_that_another_user_shares_is_neither_looked_into_nor_believed(self) -> None:
        # A file system of nobody's that calls itself sbxfs and answers nothing: whoever looks into it hangs.
        point = Live.place.path / "trap"
        point.mkdir()
        script = """if True:
            import ctypes, json, os, subprocess, sys
            point, mnt, program = sys.argv[1:]
            libc = ctypes.CDLL(None, use_errno=True)
            fuse = os.open("/dev/fuse", os.O_RDWR)
            options = f"fd={fuse},rootmode=40000,user_id=65534,group_id=65534,allow_other"
            if libc.mount(b"sbxfs", point.encode(), b"fuse.sbxfs", 0, options.encode()) != 0:
                raise OSError(ctypes.get_errno(), "mount")
            said = []
            for words in (["ssh", "-m", point, "b", "true"], ["list"], ["status"], ["exec", "b", "--", "echo", "ours"]):
                for other in open("/proc/self/mountinfo").read().splitlines():
                    path = other.split()[4]
                    if " fuse.sbxfs " in other and path not in (point, mnt):
                        libc.umount2(path.encode(), 2)
                done = subprocess.run([program, *words], capture_output=True, text=True, timeout=20)
                said.append([done.returncode, done.stdout, done.stderr])
            print(json.dumps(said))
        """
        done = subprocess.run(["unshare", "--mount", "--propagation", "private", sys.executable, "-c", script,
                               str(point), str(self.mnt), sbxfs()],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.stderr, "")
        ssh, listed, status, ours = json.loads(done.stdout)
        self.assertEqual(ssh[:2], [255, ""])
        self.assertIn(f"{point} is of user 65534", ssh[2])
        self.assertIn(f"{self.mnt}/b ", listed[1])
        self.assertNotIn(str(point), listed[1] + listed[2])
        self.assertNotIn(str(point), status[1] + status[2])
        self.assertEqual(ours, [0, "ours\n", ""])

    def test_mount_helpers_are_the_same_binary(self) -> None:
        helper = Live.place.path / "mount.fuse.sbxfs"
        umount = Live.place.path / "umount.fuse.sbxfs"
        for path in (helper, umount):
            os.symlink(sbxfs(), path)
        point = Live.place.path / "helped"
        point.mkdir()
        state = Live.place.path / "state-helped"
        done = subprocess.run([helper, "sbxfs", point, "-o",
                               f"rw,_netdev,nofail,x-systemd.automount,state_dir={state}"],
                              capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("README.md", os.listdir(point))
        # The helpers keep their name: the program is found by it, not by what it links to.
        done = subprocess.run([umount, point], capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(os.listdir(point), [])
        wait_until(lambda: subprocess.run(["flock", "-n", str(state / "lock"), "true"],
                                          check=False).returncode == 0, "its daemon has ended")


if __name__ == "__main__":
    main()
