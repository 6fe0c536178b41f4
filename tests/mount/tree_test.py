#!/usr/bin/env python3
"""The control tree: what is listed and how it reads, true sizes, stable numbers; and that whoever walks
it stays in memory, never reaches a sandbox's files, and destroys nothing. Contract 2, 3 and 6."""

import errno
import filecmp
import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.box import Box  # noqa: E402
from live.case import Live, MountCase, main  # noqa: E402
from live.place import wait_until  # noqa: E402

BOX = ["README.md", "cmd", "cmd.json", "config", "ctl", "error", "events", "info.json", "run", "ssh",
       "status", "ttl", "work"]
EVENT = ["cmd", "ctl", "error", "exit_code", "result.json", "signal", "status", "stderr", "stdout"]
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")


def run(*argv: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(argv), capture_output=True, text=True, timeout=20, check=False,
                          **options)  # type: ignore[call-overload]


class Entries(MountCase):
    def test_the_root_lists_readme_mount_and_the_sandboxes(self) -> None:
        self.assertLessEqual({"README.md", ".mount", "b"}, set(os.listdir(self.mnt)))
        for name in os.listdir(self.mnt):
            mode = (self.mnt / name).stat().st_mode
            self.assertEqual(stat.S_ISREG(mode), name == "README.md", name)

    def test_a_sandbox_lists_its_control_entries_and_not_what_waits(self) -> None:
        listed = os.listdir(self.box.path)
        self.assertLessEqual(set(BOX), set(listed))
        for name in ("fs", "ready", "ssh/key"):
            self.assertNotIn(name, listed)
        self.assertEqual(os.readlink(self.box.path / "work"), "fs/workspace")
        self.assertTrue((self.box.path / "fs").is_dir())

    def test_an_event_lists_its_facts_and_not_what_waits(self) -> None:
        event = self.box.submit("echo out; echo err >&2; (exit 3)")
        self.assertEqual(event.wait(), "exited 3")
        self.assertLessEqual(set(EVENT), set(os.listdir(event.path)))
        self.assertFalse({"wait", "follow"} & set(os.listdir(event.path)))
        values = {name: event.text(name) for name in ("status", "exit_code", "signal", "error")}
        self.assertEqual(values, {"status": "exited\n", "exit_code": "3\n", "signal": "",
                                  "error": ""})
        result = event.result
        self.assertEqual((result["status"], result["exit_code"], result["signal"]),
                         ("exited", 3, None))
        for moment in ("accepted", "started", "finished"):
            self.assertRegex(result[moment], TIME)
            self.assertAlmostEqual(result[moment + "_ms"] / 1000, time.time(), delta=60)
        self.assertLessEqual(result["accepted_ms"], result["finished_ms"] + 1000)

    def test_values_are_one_a_file_and_end_with_a_newline(self) -> None:
        self.assertEqual((self.box.path / "status").read_text(), "ready\n")
        self.assertEqual((self.box.path / "error").read_text(), "")
        self.assertRegex((self.mnt / ".mount" / "version").read_text(), r"^[0-9.]+\n$")
        self.assertEqual((self.box.path / "ctl").read_text().splitlines()[0][:2] != "", True)

    def test_json_is_json_with_times_and_snake_case_names(self) -> None:
        info = self.box.info
        for key in ("name", "generation", "status", "provider", "id", "created", "created_ms",
                    "expires", "phases", "clock_skew_ms", "path", "address"):
            self.assertIn(key, info)
        for key in info:
            self.assertRegex(key, r"^[a-z][a-z0-9_]*$")
        self.assertRegex(info["created"], TIME)
        self.assertEqual(info["name"], "b")
        self.assertTrue(info["phases"])

    def test_the_readme_is_short_and_true(self) -> None:
        text = (self.mnt / "README.md").read_text()
        self.assertLessEqual(len(text.splitlines()), 80)
        self.assertIn(str(self.mnt), text)
        box = (self.box.path / "README.md").read_text()
        self.assertLessEqual(len(box.splitlines()), 80)
        self.assertIn(f"{self.box.path}/run", box)
        self.assertNotIn("$MNT", text + box)
        self.assertNotIn("$BOX", text + box)

    def test_the_mount_directory(self) -> None:
        mount = self.mnt / ".mount"
        names = set(os.listdir(mount))
        self.assertLessEqual({"config.toml", "history", "last_error", "log", "templates",
                              "version"}, names)
        self.assertIn("[templates.default]", (mount / "config.toml").read_text())
        self.assertIn("workdir", (mount / "templates" / "default.toml").read_text())
        self.assertIn("mounted", (mount / "log").read_text())

    def test_mtimes_are_real(self) -> None:
        before = time.time()
        event = self.box.submit("true")
        event.wait()
        self.assertAlmostEqual((event.path / "status").stat().st_mtime, before, delta=5)
        self.assertLess(self.box.path.stat().st_mtime, before)

    def test_history_tells_of_a_sandbox_that_is_gone(self) -> None:
        box = Box.make(self.daemon, "past")
        self.assertEqual(box.submit("echo for later").wait(), "exited 0")
        generation = box.info["generation"]
        box.destroy()
        past = self.mnt / ".mount" / "history" / f"past.{generation}"
        self.assertEqual((past / "status").read_text(), "stopped\n")
        self.assertEqual((past / "events" / "1" / "stdout").read_text(), "for later\n")
        self.assertEqual(json.loads((past / "info.json").read_text())["name"], "past")


class Sizes(MountCase):
    """A program that trusts st_size reads everything, and one that does not sees the same."""

    def test_the_size_of_every_listed_file_is_the_length_of_its_text(self) -> None:
        event = self.box.submit("echo some output; exit 2")
        event.wait()
        changing = {"log", "last_error"}  # asking about them may change them
        writable = {"cmd", "cmd.json"}  # reading the write end gives numbers, not a text
        for directory, _, files in os.walk(self.mnt):
            for name in files:
                path = Path(directory) / name
                if path.is_symlink() or name in changing:
                    continue
                if name in writable and Path(directory).parent == self.mnt:
                    self.assertEqual(path.stat().st_size, 0, path)
                    continue
                self.assertEqual(path.stat().st_size, len(path.read_bytes()), path)

    def test_numbers_are_stable_also_across_a_remount(self) -> None:
        def numbers() -> dict[str, int]:
            found = {}
            for directory, dirs, files in os.walk(self.mnt):
                for entry in os.scandir(directory):
                    self.assertEqual(entry.inode(), entry.stat(follow_symlinks=False).st_ino)
                    found[entry.path] = entry.inode()
            return found

        first = numbers()
        self.assertEqual(len(set(first.values())), len(first), "each its own")
        self.daemon.restart()
        self.box.await_ready()
        self.assertEqual(numbers(), first)

    def test_a_true_size_makes_tar_whole(self) -> None:
        self.box.submit("echo packed").wait()
        done = subprocess.run(["tar", "-C", str(self.mnt), "-cf", "-", "b"], capture_output=True,
                              timeout=20, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            names = archive.getnames()
            n = self.box.latest()
            member = archive.extractfile(f"b/events/{n}/stdout")
            assert member is not None
            self.assertEqual(member.read(), b"packed\n")
        self.assertFalse([name for name in names if name.startswith("b/fs")])

    @unittest.skipUnless(shutil.which("rsync"), "no rsync")
    def test_rsync_copies_the_control_tree(self) -> None:
        self.box.submit("echo synced").wait()
        copy = Live.place.path / "rsynced"
        done = run("rsync", "-a", f"{self.box.path}/", str(copy))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual((copy / "events" / "latest" / "stdout").read_text(), "synced\n")
        self.assertTrue(filecmp.cmp(self.box.path / "info.json", copy / "info.json", False))

    def test_cp_a_copies_the_control_tree(self) -> None:
        self.box.submit("echo copied").wait()
        copy = Live.place.path / "copied"
        done = run("cp", "-a", str(self.box.path), str(copy))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual((copy / "events" / "latest" / "stdout").read_text(), "copied\n")
        self.assertTrue((copy / "work").is_symlink())
        self.assertFalse((copy / "fs").exists())

    def test_grep_r_finds_what_is_there(self) -> None:
        self.box.submit("echo needle-in-the-tree").wait()
        n = self.box.latest()
        done = run("grep", "-rl", "needle-in-the-tree", str(self.mnt))
        self.assertEqual(done.stderr, "")
        event = f"{self.box.path}/events/{n}"
        self.assertEqual(set(done.stdout.split()),
                         {f"{event}/{file}" for file in ("cmd", "report", "stdout")})


class Walkers(MountCase):
    """Nothing met by listing waits or touches a sandbox: tried with one that does not answer."""

    def test_walking_a_tree_with_a_frozen_sandbox_takes_no_time(self) -> None:
        box = Box.make(self.daemon, "frozen")
        box.submit("echo before").wait()
        pids = list(box.processes())
        try:
            for pid in pids:
                os.kill(pid, 19)
            started = time.monotonic()
            found = run("find", str(self.mnt), "-ls").stdout
            self.assertIn("frozen/events/1/stdout", found)
            run("grep", "-r", "xyzzy", str(self.mnt))
            run("du", "-s", str(self.mnt))
            run("ls", "-lR", str(self.mnt))
            run("tar", "-cf", "/dev/null", "-C", str(self.mnt), ".")
            self.assertEqual(run("cat", str(box.path / "status")).stdout, "ready\n")
            self.assertEqual(run("df", str(self.mnt)).returncode, 0)
            self.assertLess(time.monotonic() - started, 3)
        finally:
            for pid in pids:
                os.kill(pid, 18)
        self.assertEqual(box.sh("echo after"), "after\n")
        box.destroy()

    def refusals(self, *argv: str) -> None:
        box = Box.make(self.daemon, "kept")
        box.sh("echo precious > /workspace/file")
        before = sorted(os.listdir(box.path))
        done = run(*[word.replace("BOX", str(box.path)) for word in argv])
        if "ignore" not in argv[-2]:
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("ot permitted", done.stderr)
        self.assertIn("rmdir", self.daemon.last_error())
        self.assertIn("EPERM", self.daemon.last_error())
        self.assertEqual(sorted(os.listdir(box.path)), before)
        self.assertEqual(box.status, "ready")
        self.assertEqual((box.path / "work" / "file").read_text(), "precious\n")
        self.assertEqual(box.numbers(), [1], "its events are kept, too")
        box.destroy()

    def test_rm_r_of_a_sandbox_destroys_nothing_and_says_how(self) -> None:
        self.refusals("rm", "-r", "--interactive=never", "BOX")

    def test_rm_rf_of_a_sandbox_destroys_nothing_and_says_how(self) -> None:
        self.refusals("rm", "-rf", "BOX")

    def test_find_delete_destroys_nothing_and_says_how(self) -> None:
        self.refusals("find", "BOX", "-delete")

    def test_rmtree_destroys_nothing_and_says_how(self) -> None:
        self.refusals(sys.executable, "-c", "import shutil, sys; shutil.rmtree(sys.argv[1])", "BOX")

    def test_rmtree_that_ignores_errors_destroys_nothing_and_says_how(self) -> None:
        self.refusals(sys.executable, "-c",
                      "import shutil, sys; shutil.rmtree(sys.argv[1], ignore_errors=True)", "BOX")

    @unittest.skipUnless(shutil.which("busybox"), "no busybox")
    def test_busybox_rm_destroys_nothing_and_says_how(self) -> None:
        self.refusals("busybox", "rm", "-rf", "BOX")

    @unittest.skipUnless(shutil.which("perl"), "no perl")
    def test_perl_remove_tree_destroys_nothing_and_says_how(self) -> None:
        self.refusals("perl", "-MFile::Path", "-e",
                      'remove_tree($ARGV[0], {error => \my $ignored}); warn "not permitted"; exit 1',
                      "BOX")

    def test_a_process_that_was_refused_elsewhere_may_still_destroy(self) -> None:
        box = Box.make(self.daemon, "other")
        self.refuse(errno.EPERM, (self.box.path / "status").unlink)
        box.destroy()

    def test_mv_of_a_sandbox_is_refused(self) -> None:
        with self.refused(errno.EPERM):
            os.rename(self.box.path, self.mnt / "other")
        self.assertEqual(self.box.status, "ready")


class ControlEntries(MountCase):
    def test_they_cannot_be_made_linked_removed_or_renamed(self) -> None:
        box = self.box.path
        event = self.box.submit("true")
        event.wait()
        directories = [self.mnt, box, box / "events", event.path, self.mnt / ".mount",
                       self.mnt / ".mount" / "history"]
        for directory in directories:
            with self.subTest(directory=directory):
                self.refuse(errno.EPERM, (directory / "newfile").touch)
                self.refuse(errno.EPERM, os.symlink, "x", directory / "newlink")
                if directory != self.mnt:
                    self.refuse(errno.EPERM, os.mkdir, directory / "newdir")
        for path in (box / "status", box / "cmd", event.path / "stdout", self.mnt / "README.md"):
            with self.subTest(path=path):
                self.refuse(errno.EPERM, os.unlink, path)
                self.refuse(errno.EPERM, os.rename, path, path.parent / "x")
                self.refuse(errno.EPERM, os.link, path, path.parent / "x")
                self.refuse(errno.EPERM, os.rename, path, box / "fs" / "tmp" / "x")

    def test_they_accept_what_editors_and_shells_do_to_a_file(self) -> None:
        for name in ("cmd", "cmd.json", "ctl"):
            path = self.box.path / name
            before = self.box.latest()
            os.truncate(path, 0)
            os.utime(path)
            os.chmod(path, 0o600)
            os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644))
            self.assertEqual(self.box.latest(), before)
            self.refuse(errno.EPERM, os.chmod, path, 0o777)

    def test_what_can_only_be_read_says_so(self) -> None:
        for path in (self.box.path / "status", self.mnt / "README.md", self.box.path / "info.json"):
            with self.assertRaises(PermissionError):
                path.write_text("x")
            if os.geteuid() == 0:
                self.assertIn("can only be read", self.daemon.last_error())

    def test_there_are_no_extended_attributes_and_nobody_hangs_over_them(self) -> None:
        for path in (self.box.path / "status", self.box.path / "fs" / "etc" / "passwd"):
            with self.assertRaises(OSError) as caught:
                os.getxattr(path, "user.x")
            self.assertEqual(caught.exception.errno, errno.EOPNOTSUPP)


class Creating(MountCase):
    def test_names_and_their_errors(self) -> None:
        for name in ("-x", ".x", "a b", "x" * 64, "é", "a@", "@a", "a@b@c",
                     "a@no$"):
            with self.subTest(name=name), self.refused(errno.EINVAL):
                (self.mnt / name).mkdir()
        self.refuse(errno.ENOENT, (self.mnt / "x@nosuch").mkdir, sentence="there are: default")
        self.refuse(errno.EEXIST, self.box.path.mkdir)
        self.refuse(errno.EPERM, (self.mnt / ".mount").rmdir, sentence="umount")

    def test_mkdir_and_rmdir_answer_within_milliseconds(self) -> None:
        times = []
        for i in range(5):
            started = time.monotonic()
            (self.mnt / f"quick{i}").mkdir()
            times.append(time.monotonic() - started)
        os.listdir(self.mnt)
        for i in range(5):
            started = time.monotonic()
            (self.mnt / f"quick{i}").rmdir()
            times.append(time.monotonic() - started)
        self.assertLess(sorted(times)[5], 0.1, times)
        history = self.mnt / ".mount" / "history"
        wait_until(lambda: "stopping\n" not in {(past / "status").read_text()
                                                for past in history.glob("quick*")}, "all gone")

    def test_a_template_in_the_name_stays_part_of_the_name(self) -> None:
        box = Box.make(self.daemon, "t@default")
        self.assertEqual(box.info["template"], "default")
        self.assertIn("t@default", os.listdir(self.mnt))
        box.destroy()

    def test_a_launching_sandbox_is_usable(self) -> None:
        box = Box(self.daemon, "early")
        box.path.mkdir()
        event = box.submit("cat /workspace/given; pwd")
        self.assertIn(event.text("status"), ("queued\n", "running\n", "exited\n"))
        os.makedirs(box.path / "work" / "src" / "deep")
        box.await_ready()
        self.assertIn(event.wait(), ("exited 0", "exited 1"))
        self.assertTrue((box.path / "fs" / "workspace" / "src" / "deep").is_dir())
        box.destroy()

    def test_mkdir_p_through_a_new_sandbox(self) -> None:
        # By the directories' own names in one step; by the link `work`, which GNU mkdir does not follow
        # below something it has just made, in two.
        box = Box(self.daemon, "mkdirp")
        for words in (["-p", f"{box.path}/fs/workspace/one/two"], [str(box.path)],
                      ["-p", f"{box.path}/work/one/two"]):
            if words == [str(box.path)]:
                box.destroy()
            done = run("mkdir", *words)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertTrue((box.path / "work" / "one" / "two").is_dir())
        box.destroy()

    def test_a_name_is_free_again_as_soon_as_rmdir_returns(self) -> None:
        generations = []
        for _ in range(3):
            box = Box(self.daemon, "again")
            box.path.mkdir()
            generations.append(box.info["generation"])
            box.path.rmdir()
        self.assertEqual(len(set(generations)), 3)
        box = Box.make(self.daemon, "again")
        self.assertEqual(box.numbers(), [])
        box.destroy()

    def test_protect_guards_against_rmdir(self) -> None:
        box = Box.make(self.daemon, "guarded")
        (box.path / "ctl").write_text("protect\n")
        self.assertTrue(box.info["protected"])
        self.refuse(errno.EBUSY, box.path.rmdir, sentence="unprotect")
        self.daemon.restart()
        self.refuse(errno.EBUSY, box.path.rmdir, sentence="unprotect")
        (box.path / "ctl").write_text("unprotect\n")
        box.destroy()

    def test_rmdir_with_a_running_and_a_queued_command_tells_the_truth_of_both(self) -> None:
        box = Box.make(self.daemon, "busy")
        box.submit("echo out; sleep 60")
        box.submit("echo never")
        wait_until(lambda: box.event(1).stdout == b"out\n", "it runs")
        generation = box.info["generation"]
        box.destroy()
        events = self.mnt / ".mount" / "history" / f"busy.{generation}" / "events"
        self.assertEqual((events / "1" / "status").read_text(), "lost\n")
        self.assertEqual((events / "2" / "status").read_text(), "refused\n")
        self.assertEqual((events / "1" / "stdout").read_text(), "out\n")
        for n in ("1", "2"):
            self.assertIn("destroyed", (events / n / "error").read_text())

    def test_a_wait_ends_when_its_sandbox_is_destroyed(self) -> None:
        box = Box.make(self.daemon, "waited")
        event = box.submit("sleep 60")
        reader = subprocess.Popen(["cat", str(event.path / "wait")], stdout=subprocess.PIPE)
        self.addCleanup(reader.kill)
        time.sleep(0.1)
        box.path.rmdir()
        self.assertEqual(reader.communicate(timeout=10)[0], b"lost\n")


if __name__ == "__main__":
    main()
