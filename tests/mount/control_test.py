#!/usr/bin/env python3
"""ttl of real sandboxes, whose own timer ends them with and without a daemon; .mount/new, .mount/templates and
.mount/bin/run as shells use them."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.box import Box  # noqa: E402
from live.case import Live, MountCase, main  # noqa: E402
from live.place import wait_until  # noqa: E402

SHELLS = [shell for shell in (["dash"], ["bash", "--norc"], ["busybox", "sh"])
          if shutil.which(shell[0])]

CONFIG = """
default_template = "default"

[templates.default]
provider = "local"
max_lifetime = "1h"

[templates.idle]
provider = "local"
idle_timeout = "3s"
"""


class Ttl(MountCase):
    def test_a_write_extends_and_shortens_it(self) -> None:
        ttl = self.box.path / "ttl"
        self.assertGreater(int(ttl.read_text()), 3500)
        ttl.write_text("600\n")
        self.assertIn(int(ttl.read_text()), (598, 599, 600))
        ttl.write_text("+60")
        self.assertIn(int(ttl.read_text()), (658, 659, 660))
        ttl.write_text("2d\n")
        self.assertLessEqual(int(ttl.read_text()), 3600)
        self.refuse(errno.EINVAL, ttl.write_text, "soon\n", sentence="like 3600 or 1h")

    def test_it_ends_by_its_own_timer(self) -> None:
        box = Box.make(self.daemon, "short")
        (box.path / "ttl").write_text("2\n")
        self.allow_log("status=expired", "sandbox status")
        wait_until(lambda: box.status == "expired", "its time is up", 20)
        self.assertNotEqual((box.path / "error").read_text(), "")
        self.refuse(errno.EHOSTDOWN, (box.path / "cmd").write_text, "true")
        box.destroy()

    def test_it_ends_also_while_no_daemon_is_there(self) -> None:
        box = Box.make(self.daemon, "alone")
        (box.path / "ttl").write_text("2\n")
        init = box.init()
        self.daemon.kill()
        wait_until(lambda: not Path(f"/proc/{init}").exists(), "it has ended by itself", 20)
        self.allow_log("sandbox status")
        self.daemon.start()
        wait_until(lambda: box.status == "expired", "the next daemon sees why", 20)
        box.destroy()

    def test_use_of_its_files_keeps_an_idle_sandbox_alive(self) -> None:
        box = Box.make(self.daemon, "i@idle")
        note = box.path / "work" / "note"
        begin = time.monotonic()
        count = 0
        while time.monotonic() - begin < 6:
            count += 1
            note.write_text(f"{count}\n")
            self.assertIn(box.status, ("ready", "expiring"))
            time.sleep(0.4)
        self.allow_log("sandbox status")
        wait_until(lambda: box.status == "expired", "nobody uses it any more", 20)
        box.destroy()


class New(MountCase):
    def test_every_shell_makes_a_sandbox_and_reads_its_name_back(self) -> None:
        for shell in SHELLS:
            with self.subTest(shell=shell[0]):
                script = ("exec 3<> .mount/new; echo 'template=default env.A=1' >&3; read n <&3; "
                          "cat $n/ready; echo 'echo $A' > $n/run/a; cat $n/events/a/wait "
                          "$n/events/a/stdout; rmdir $n")
                done = subprocess.run([*shell, "-c", script], cwd=self.mnt, capture_output=True,
                                      text=True, timeout=30, check=False)
                self.assertEqual((done.stdout, done.stderr), ("ready\nexited 0\n1\n", ""))
                done = subprocess.run([*shell, "-c", "echo name=x cpus=1 > .mount/new"],
                                      cwd=self.mnt, capture_output=True, text=True, timeout=30,
                                      check=False)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn("did you mean 'cpu'", self.daemon.last_error())

    def test_templates_by_shells_and_editors(self) -> None:
        py = self.mnt / ".mount" / "templates" / "py.toml"
        py.write_text("max_lifetime = \"10m\"\n")
        subprocess.run("echo 'list_fs = true' | sed '/list_fs/d' py.toml - > /dev/null; "
                       "sed 's/list_fs = false/list_fs = true/' py.toml > $T; cp $T py.toml",
                       shell=True, cwd=py.parent, check=True,
                       env={**os.environ, "T": str(Live.place.path / "py")})
        self.assertIn("list_fs = true", py.read_text())
        with self.refused(errno.EINVAL, "unknown key 'cpus'"):
            py.write_text("cpus = 1\n")
        self.daemon.restart()
        self.assertIn('max_lifetime = "600s"', py.read_text())
        box = Box.make(self.daemon, "t@py")
        self.assertIn("fs", os.listdir(box.path))
        box.destroy()
        py.unlink()
        self.refuse(errno.ENOENT, (self.mnt / "u@py").mkdir)


class Run(MountCase):
    def client(self, shell: list[str], *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*shell, str(self.mnt / ".mount" / "bin" / "run"), *arguments],
                              capture_output=True, timeout=30, check=False)

    def test_output_and_exit_code_in_every_shell(self) -> None:
        for shell in SHELLS:
            with self.subTest(shell=shell[0]):
                done = self.client(shell, "b", "--", "echo out; echo err >&2; exit 7")
                self.assertEqual((done.stdout, done.stderr, done.returncode),
                                 (b"out\n", b"err\n", 7))
                words = ["it's", 'a "b" \\n', "tab\there", "two\nlines\n", "\x01\x1b[0m", "ä", "$HOME", ""]
                done = self.client(shell, "b", "--", "printf", "%s|", *words)
                self.assertEqual(done.stdout, "".join(w + "|" for w in words).encode())
                done = self.client(shell, "b", "--cwd", "/usr", "--", "pwd")
                self.assertEqual(done.stdout, b"/usr\n")
                done = self.client(shell, str(self.box.path), "--timeout=0.3", "--", "sleep", "60")
                self.assertEqual(done.returncode, 124)
                done = self.client(shell, "b", "--", "kill -9 $$")
                self.assertEqual(done.returncode, 137)
                done = self.client(shell, "none", "--", "true")
                self.assertEqual(done.returncode, 125)
                self.assertIn(b"no sandbox", done.stderr)
                done = self.client(shell, "b", "--cwd", "relative", "--", "true")
                self.assertEqual(done.returncode, 125)
                self.assertIn(b"must be an absolute path", done.stderr)
                self.assertEqual(self.client(shell).returncode, 125)

    def test_much_output_is_whole(self) -> None:
        done = self.client(["sh"], "b", "--", "seq 300000; seq 300000 >&2")
        self.assertEqual(done.stdout, done.stderr)
        self.assertEqual(len(done.stdout.splitlines()), 300000)

    def test_output_that_is_not_kept_is_left_out_and_said_so_and_never_becomes_zeros(self) -> None:
        total, line = 100 << 20, 4096
        script = f"awk 'BEGIN {{ for (i = 0; i < {total // line}; i++) printf \"%0{line - 1}d\\n\", i }}'"
        client = subprocess.Popen(["sh", str(self.mnt / ".mount" / "bin" / "run"), "b", "--", script],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        self.addCleanup(client.kill)
        assert client.stdout is not None
        first = client.stdout.read(1)
        event = self.box.path / "events" / "latest"
        wait_until(lambda: (event / "status").read_text() == "exited\n", "it has ended", limit=60)
        out, err = client.communicate(timeout=60)
        out = first + out
        self.assertNotIn(b"\0", out)
        holes = json.loads((event / "result.json").read_text())["stdout_holes"]
        self.assertNotEqual(holes, [])
        kept = b"".join(b"%0*d\n" % (line - 1, i) for i in range(total // line))
        for begin, end in reversed(holes):
            kept = kept[:begin] + kept[end:]
        self.assertEqual(hashlib.sha256(out).digest(), hashlib.sha256(kept).digest())
        for begin, end in holes:
            self.assertIn(f"run: {end - begin} bytes of stdout are left out, from byte {begin} on".encode(), err)
        self.assertEqual(client.returncode, 125)

    def test_a_command_whose_output_nobody_takes_is_ended(self) -> None:
        event = self.box.path / "events" / "latest"
        for shell in SHELLS:
            with self.subTest(shell=shell[0]):
                run = [*shell, str(self.mnt / ".mount" / "bin" / "run"), "b", "--"]
                subprocess.run(["bash", "-c", '"$@" | head -n 1', "bash", *run,
                                "while :; do echo x; sleep 0.2; done"],
                               capture_output=True, timeout=30, check=False)
                self.assertEqual((event / "wait.10").read_text(), "killed 129\n")
                with open("/dev/full", "wb") as full:
                    done = subprocess.run([*run, "seq 1000; sleep 3600"], stdout=full, stderr=subprocess.PIPE,
                                          timeout=30, check=False)
                self.assertEqual(done.returncode, 125)
                self.assertIn(b"standard output cannot be written", done.stderr)
                self.assertEqual((event / "wait.10").read_text(), "killed 143\n")

    def test_interrupt_goes_to_the_command(self) -> None:
        for shell in SHELLS:
            with self.subTest(shell=shell[0]):
                before = self.box.latest()
                client = subprocess.Popen(
                    [*shell, str(self.mnt / ".mount" / "bin" / "run"), "b", "--",
                     "trap 'echo caught; exit 3' INT; echo begun; while :; do sleep 0.1; done"],
                    stdout=subprocess.PIPE, start_new_session=True)
                assert client.stdout is not None
                self.assertEqual(client.stdout.readline(), b"begun\n")
                os.killpg(client.pid, signal.SIGINT)
                out, _ = client.communicate(timeout=20)
                self.assertEqual((out, client.returncode), (b"caught\n", 3))
                self.assertEqual(self.box.latest(), before + 1)


if __name__ == "__main__":
    main(configure=lambda place: CONFIG)
