#!/usr/bin/env python3
"""config/ of a real sandbox: every way shells and editors set a value, and what commands make of it."""

import errno
import os
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.case import Live, MountCase, main  # noqa: E402
from live.place import wait_until  # noqa: E402

SHELLS = [shell for shell in (["dash"], ["bash", "--norc"], ["busybox", "sh"])
          if shutil.which(shell[0])]

# $F is config/cwd, which holds "/tmp\n" before; each ends with /usr.
WAYS = [
    ("echo", "echo /usr > $F"),
    ("no newline", "printf /usr > $F"),
    ("append", "echo /usr >> $F"),
    ("external echo", "/bin/echo /usr > $F"),
    ("tee", "echo /usr | tee $F > $T/out; cmp -s $T/out $T/usr"),
    ("tee -a", "echo /usr | tee -a $F > /dev/null"),
    ("cp", "cp $T/usr $F"),
    ("cat", "cat $T/usr > $F"),
    ("dd in pieces", "dd if=$T/usr of=$F bs=2 2>/dev/null"),
    ("dd without truncation", "dd if=$T/usr of=$F conv=notrunc 2>/dev/null"),
    ("truncate, then append", ": > $F; echo /usr >> $F"),
    ("exec 3>", "exec 3>$F; echo /usr >&3; exec 3>&-"),
    ("a group", "{ printf /u; printf 'sr\\n'; } > $F"),
    ("here document", "cat > $F <<E\n/usr\nE"),
    ("touch first", "touch $F && echo /usr > $F && chmod 600 $F"),
]


class Ways(MountCase):
    def setUp(self) -> None:
        super().setUp()
        self.cwd = self.box.path / "config" / "cwd"
        self.scratch = Live.place.path / "scratch"
        self.scratch.mkdir(exist_ok=True)
        (self.scratch / "usr").write_text("/usr\n")

    def tearDown(self) -> None:
        self.cwd.write_text("")
        super().tearDown()

    def set_by(self, argv: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        self.cwd.write_text("/tmp\n")
        self.assertEqual(self.cwd.read_text(), "/tmp\n")
        return subprocess.run(argv, env={**os.environ, **env}, capture_output=True, text=True,
                              timeout=20, check=False, cwd=self.scratch)

    def test_every_way_of_every_shell(self) -> None:
        env = {"F": str(self.cwd), "T": str(self.scratch)}
        for shell in SHELLS:
            for name, script in WAYS:
                with self.subTest(shell=shell[0], way=name):
                    done = self.set_by([*shell, "-c", script], env)
                    self.assertEqual((done.returncode, done.stderr), (0, ""))
                    # The last close of a truncation alone is heard a moment later.
                    wait_until(lambda: self.cwd.read_text() == "/usr\n", "the value is set")
                    self.assertEqual(self.cwd.stat().st_size, 5)

    def test_python(self) -> None:
        for mode in ("w", "a", "r+"):
            with self.subTest(mode=mode):
                done = self.set_by([sys.executable, "-c",
                                    f"open({str(self.cwd)!r}, {mode!r}).write('/usr\\n')"], {})
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(self.cwd.read_text(), "/usr\n")

    @unittest.skipUnless(shutil.which("vim"), "no vim")
    def test_vim_whatever_its_backupcopy(self) -> None:
        for way in ("backupcopy=auto", "backupcopy=no", "backupcopy=yes"):
            with self.subTest(way=way):
                done = self.set_by(["vim", "-Nu", "NONE", "-es", "-c", f"set {way}",
                                    "-c", "%s,/tmp,/usr,", "-c", "wq", str(self.cwd)], {})
                self.assertEqual((done.returncode, self.cwd.read_text()), (0, "/usr\n"),
                                 done.stdout + done.stderr)

    def test_sed_in_place_is_told_why_not(self) -> None:
        done = self.set_by(["sed", "-i", "s,/tmp,/usr,", str(self.cwd)], {})
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(self.cwd.read_text(), "/tmp\n")
        self.assertIn("cannot be created", self.daemon.last_error())

    def test_a_shell_hears_of_a_bad_value(self) -> None:
        for shell in SHELLS:
            with self.subTest(shell=shell[0]):
                done = self.set_by([*shell, "-c", "echo usr > $F"], {"F": str(self.cwd)})
                self.assertNotEqual(done.returncode, 0)
                self.assertEqual(self.cwd.read_text(), "/tmp\n")
                self.assertIn("config/cwd must be an absolute path", self.daemon.last_error())


class Commands(MountCase):
    def setUp(self) -> None:
        super().setUp()
        self.config = self.box.path / "config"
        self.box.sh("exit 0")
        self.box.sh("true")

    def tearDown(self) -> None:
        for key in ("cwd", "shell", "timeout", "user"):
            (self.config / key).write_text("\n")  # nothing at all would be kept a moment after close(2)
        for key in os.listdir(self.config / "env"):
            (self.config / "env" / key).unlink()
        super().tearDown()

    def test_variables_reach_the_living_shell_and_the_others(self) -> None:
        pid = self.box.sh("echo $$; X=kept")
        (self.config / "env" / "GREETING").write_text("it's \"me\"\n")
        self.assertEqual(self.box.sh("echo $GREETING $X; echo $$"), f"it's \"me\" kept\n{pid}")
        run = self.box.run("env1", "echo $GREETING")
        self.assertEqual((run.wait(), run.stdout), ("exited 0", b"it's \"me\"\n"))
        (self.config / "env" / "GREETING").unlink()
        self.assertEqual(self.box.sh("echo ${GREETING-unset}; echo $$"), f"unset\n{pid}")

    def test_the_directory(self) -> None:
        self.box.sh("mkdir -p /srv/a; X=kept")
        (self.config / "cwd").write_text("/srv/a\n")
        self.assertEqual(self.box.sh("pwd; echo $X; cd /usr"), "/srv/a\nkept\n")
        self.assertEqual(self.box.sh("pwd"), "/usr\n")
        run = self.box.run("cwd1", "pwd")
        self.assertEqual((run.wait(), run.stdout), ("exited 0", b"/srv/a\n"))
        (self.config / "cwd").write_text("/srv/none\n")
        event = self.box.submit("pwd")
        self.assertEqual(event.wait(), "refused")
        self.assertIn("config/cwd names /srv/none", event.text("error"))
        (self.config / "cwd").write_text("/srv")
        self.assertEqual(self.box.sh("pwd"), "/srv\n")

    def test_the_shell_is_restarted_and_says_so(self) -> None:
        self.box.sh("cd /usr; X=gone")
        (self.config / "shell").write_text("/bin/dash\n")
        event = self.box.submit("readlink /proc/$$/exe; pwd; echo ${X-none}")
        self.assertEqual(event.wait(), "exited 0")
        self.assertEqual(event.stdout, b"/usr/bin/dash\n/usr\nnone\n")
        self.assertTrue(event.result["shell_restarted"])
        self.assertIn("config/shell was changed", event.result["reason"])

    def test_the_default_timeout(self) -> None:
        (self.config / "timeout").write_text("1s\n")
        self.assertEqual(self.box.submit("sleep 60").wait(), "timed_out 124")
        (self.config / "timeout").write_text("0\n")
        self.assertEqual(self.box.submit("sleep 1.2").wait(), "exited 0")

    def test_another_user(self) -> None:
        if self.box.sh("id -u") != "0\n":
            (self.config / "user").write_text("nobody\n")
            event = self.box.submit("id -un")
            self.assertEqual(event.wait(), "refused")
            self.assertIn("root", event.text("error"))
            return
        (self.config / "user").write_text("nobody\n")
        event = self.box.submit("id -un; pwd")
        self.assertIn(event.wait(), ("exited 0", "refused"))
        if event.text("status") == "exited\n":
            self.assertEqual(event.stdout, b"nobody\n/workspace\n")
        else:
            self.assertNotEqual(event.text("error"), "")
        (self.config / "user").write_text("no-such\n")
        event = self.box.submit("id -un")
        self.assertEqual(event.wait(), "refused")
        self.assertIn("no-such", event.text("error"))

    def test_secrets_are_nowhere_to_be_read(self) -> None:
        secret = "s3cret-of-this-test"
        (self.config / "env" / "TOKEN").write_text(secret + "\n")
        event = self.box.submit("set -x; echo ${#TOKEN}; set +x")
        self.assertEqual(event.wait(), "exited 0")
        self.assertEqual(event.stdout, f"{len(secret)}\n".encode())
        self.assertEqual((self.config / "env" / "TOKEN").stat().st_mode & 0o777, 0o200)
        if os.geteuid() == 0:
            self.assertEqual((self.config / "env" / "TOKEN").read_text(), "<set>\n")
        else:
            self.refuse(errno.EACCES, (self.config / "env" / "TOKEN").read_text)
        for text in (event.stderr.decode(), event.text("result.json"), event.text("report"),
                     (self.box.path / "info.json").read_text(),
                     (self.mnt / ".mount" / "log").read_text(),
                     (self.mnt / ".mount" / "config.toml").read_text(), self.daemon.log.read_text()):
            self.assertNotIn(secret, text)

    def test_kill_and_remount_keep_everything(self) -> None:
        pid = self.box.sh("mkdir -p /srv/a; echo $$")
        (self.config / "cwd").write_text("/srv/a\n")
        (self.config / "env" / "KEPT").write_text("yes\n")
        self.daemon.kill()
        self.daemon.start()
        self.box.await_ready()
        self.assertEqual((self.config / "cwd").read_text(), "/srv/a\n")
        self.assertEqual(os.listdir(self.config / "env"), ["KEPT"])
        self.assertEqual(self.box.sh("pwd; echo $KEPT; echo $$"), f"/srv/a\nyes\n{pid}")


if __name__ == "__main__":
    main()
