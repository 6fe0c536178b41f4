#!/usr/bin/env python3
"""A file server that lies, under the whole file system: provider ssh, where sshd's sftp subsystem is lying_sftp.cc before a real
one. Programs that people use get an errno or an answer, in time; nothing outside of the sandbox is touched or shown; the
daemon's memory stays bounded; an honest sandbox of the same mount notices nothing. Contract 1 (tenet 6) and 5.

What is lied about is drawn: SBXFS_LIES how often (0: everything), SBXFS_SEED which."""

import contextlib
import errno
import os
import random
import stat
import subprocess
import sys
import time
import unittest
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.box import Box  # noqa: E402
from live.case import Live, MountCase, main  # noqa: E402
from live.place import Place, sbxfs, skip, slack, wait_until  # noqa: E402
from live.sshd import Sshd  # noqa: E402

SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")
OP_TIMEOUT = 2  # seconds, of this mount
# A program makes few calls that meet the lie, each of which the kernel may make twice.
LIMIT = 10 * OP_TIMEOUT
MEMORY = 150  # MiB, most that the daemon may ever have had
LISTING = 700  # where a listing does not end, which may cost 512
COUNT = int(os.environ.get("SBXFS_LIES", "40"))
SEED = int(os.environ.get("SBXFS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
# The requests that are lied about, by number, and who makes them.
REQUESTS = {3: "open", 4: "close", 5: "read", 6: "write", 7: "lstat", 8: "fstat", 9: "setstat", 10: "fsetstat", 11: "opendir",
            12: "readdir", 13: "remove", 14: "mkdir", 15: "rmdir", 16: "realpath", 17: "stat", 18: "rename", 19: "readlink",
            20: "symlink", 200: "extended"}
LOOKING = [["ls", "-lR", "."], ["find", ".", "-type", "f", "-size", "+1k"], ["cp", "-a", "tree", "COPY"],
           ["git", "-C", "repo", "status", "--short"], ["cat", "tree/a", "tree/sub/c", "big"], ["grep", "-r", "x", "tree"]]
CHANGING = [["rm", "-rf", "gone"], ["sh", "-c", "echo new > new.tmp && mv new.tmp new && sync new; rm -f new"],
            ["sh", "-c", "mkdir m && touch m/f && chmod 600 m/f && ln -s f m/l && ln m/f m/h; rm -rf m"],
            ["cp", "-a", "tree", "made"], ["truncate", "-s", "5", "made/a"], ["df", "."]]

# What of HostileTexts() is a name, however ugly.
NAMES = {b"a\nb", b"\x1b[2J\x07", b"\xff\xfe\x80", b"-rf", b"n" * 255}


class Lab:
    liar: Sshd
    honest: Sshd
    control: Path
    told: Path
    outside: Path


def server() -> str:
    for path in SERVERS:
        if os.access(path, os.X_OK):
            return path
    return ""


def filter_program() -> str:
    return os.environ.get("SBXFS_LYING_SFTP", str(Path(sbxfs()).parent / "tests" / "mount" / "lying_sftp"))


def furnish(sshd: Sshd) -> None:
    root = sshd.home / "root"
    (root / "tree" / "sub").mkdir(parents=True)
    for name in ("tree/a", "tree/b", "tree/sub/c"):
        (root / name).write_text(f"{name}\n" * 100)
    (root / "big").write_bytes(b"x" * 300_000)
    (root / "tree" / "link").symlink_to("a")
    (root / "tree" / "out").symlink_to("/etc/passwd")
    git = ["git", "-C", str(root / "repo"), "-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run(["git", "init", "-q", str(root / "repo")], check=True)
    for number in range(5):
        (root / "repo" / f"f{number}").write_text(f"{number}\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "m"], check=True)
    # Beside fs_root: never to be seen or changed by way of it.
    (sshd.home / "beside").mkdir()
    (sshd.home / "beside" / "canary").write_text("canary\n")


def configure(place: Place) -> str:
    Lab.control, Lab.told = place.path / "control", place.path / "told"
    Lab.control.write_text("off\n")
    Lab.told.touch()
    Lab.outside = place.path / "outside"
    (Lab.outside / "gone").mkdir(parents=True)
    (Lab.outside / "gone" / "canary").write_text("canary\n")
    text = 'default_template = "honest"\n'
    for name, sftp in (("liar", f"{filter_program()} {Lab.control} {Lab.told} {server()}"), ("honest", "")):
        sshd = Sshd(place, name, sftp=sftp)
        setattr(Lab, name, sshd)
        furnish(sshd)
        sshd.start()
        text += f"""[providers.{name}]
backend = "ssh"
host = "127.0.0.1"
port = {sshd.port}
user = "{sshd.user}"
identity_file = "{sshd.identity}"
agent = false
host_key = "{sshd.host_keys[0]}"
"""
        for template, exclusive in ((name, "true"), (f"{name}_shared", "false")):
            text += f"""[templates.{template}]
provider = "{name}"
fs_root = "{sshd.home}/root"
workdir = "{sshd.home}/root"
exclusive = {exclusive}
"""
    return text


def tree_of(root: Path) -> list[tuple[Any, ...]]:
    """What is there, seen without the mount."""
    found: list[tuple[Any, ...]] = []
    for top, directories, files in os.walk(root):
        for name in (*directories, *files):
            path = Path(top) / name
            info = path.lstat()
            found.append((str(path.relative_to(root)), info.st_mode, 0 if stat.S_ISDIR(info.st_mode) else info.st_size,
                          0 if stat.S_ISDIR(info.st_mode) else info.st_mtime_ns))
    return sorted(found)


class Liars(MountCase):
    def setUp(self) -> None:
        super().setUp()
        self.allow_log("refused op=", "sandbox status", "outcome", "a change was lost", "sftp close failed")
        self.dice = random.Random(SEED)
        self.back = (0.0, "")
        self.stuck = 0
        self.addCleanup(Lab.control.write_text, "off\n")

    def make(self, name: str) -> Box:
        box = Box.make(self.daemon, name)
        self.addCleanup(self.end, box)
        return box

    def end(self, box: Box) -> None:
        Lab.control.write_text("off\n")
        if box.path.exists():
            box.destroy(60)

    def memory(self) -> float:
        """The most it ever had, MiB."""
        assert self.daemon.process is not None and self.daemon.process.poll() is None, self.daemon.tail()
        status = Path(f"/proc/{self.daemon.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def run_in(self, box: Box, argv: list[str]) -> tuple[float, str]:
        """How long it took, and what it printed."""
        copy = Live.place.path / "copy"
        argv = [str(copy) if word == "COPY" else word for word in argv]
        started = time.monotonic()
        try:
            done = subprocess.run(argv, cwd=box.path / "fs", capture_output=True, timeout=slack(LIMIT), check=False,
                                  stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"})
        except OSError as error:  # its directory itself is lied about
            return time.monotonic() - started, str(error)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{argv} hangs for {LIMIT} s") from None
        finally:
            subprocess.run(["rm", "-rf", str(copy)], check=True)
        return time.monotonic() - started, (done.stdout + done.stderr).decode(errors="surrogateescape")

    def check_names(self, box: Box) -> None:
        """Whatever is listed is a name and no path, and whatever a link says stays inside."""
        for top, directories, files in os.walk(os.fsencode(box.path / "fs")):
            for name in (*directories, *files):
                self.assertFalse(b"/" in name or name in (b".", b"..", b""), name)
                with contextlib.suppress(OSError):
                    target = os.readlink(os.path.join(top, name))
                    self.assertFalse(target.startswith(b"/"), target)
                    depth = len(os.path.relpath(top, os.fsencode(box.path / "fs")).split(b"/")) if top != os.fsencode(
                        box.path / "fs") else 0
                    self.assertLessEqual(target.split(b"/").count(b".."), depth, target)

    def check_outside(self) -> None:
        self.assertEqual((Lab.outside / "gone" / "canary").read_text(), "canary\n")
        self.assertEqual(tree_of(Lab.liar.home / "beside"), self.beside)

    def check_honest(self) -> None:
        started = time.monotonic()
        self.assertEqual((self.box.path / "fs" / "tree" / "a").read_text(), "tree/a\n" * 100)
        self.assertEqual(self.box.status, "ready")
        self.assertLess(time.monotonic() - started, slack(OP_TIMEOUT))

    def told(self) -> list[str]:
        return Lab.told.read_text(errors="replace").splitlines()

    def recover(self, box: Box, what: str) -> None:
        """The truth again, as soon as it is told."""
        Lab.control.write_text("off\n")

        def told_again() -> bool:
            # An answer that was cut off takes those behind it for its rest, until that comes out.
            with contextlib.suppress(OSError):
                (box.path / "error").read_text()
                (box.path / "ctl").write_text("drop_caches\n")
                found = [(box.path / "fs" / name).read_text() for name in ("tree/a", "tree/sub/c")]
                listed = sorted(os.listdir(box.path / "fs" / "tree"))
                self.assertEqual(found, ["tree/a\n" * 100, "tree/sub/c\n" * 100], what)
                self.assertEqual(listed, ["a", "b", "link", "out", "sub"], what)
                return True
            return False
        started = time.monotonic()
        try:
            wait_until(told_again, f"the truth again after {what}", 4 * OP_TIMEOUT)
        except AssertionError:
            # It has ended inside an answer, and promised more than it will ever say: a new link, sooner than it would be made.
            self.stuck += 1
            Lab.liar.restart()
            wait_until(told_again, f"the truth over a new link after {what}", slack(20))
        self.back = max(self.back, (time.monotonic() - started, what))
        # What comes of the lie may come later still.
        wait_until(lambda: box.status == "ready", f"ready again after {what}", 40)

    def lie(self, box: Box, request: int, which: int, times: int) -> int:
        """Tells it to the programs that ask; how many lies there are about that answer, 0 when nobody asked."""
        before = len(self.told())
        for name in ("gone", "made", "m", "new", "new.tmp"):
            subprocess.run(["rm", "-rf", str(Lab.liar.home / "root" / name)], check=True)
        subprocess.run(["cp", "-a", str(Lab.liar.home / "root" / "tree"), str(Lab.liar.home / "root" / "gone")], check=True)
        (box.path / "ctl").write_text("drop_caches\n")
        Lab.control.write_text(f"lie {request} {which} {times}\n")
        changes = request in (6, 9, 10, 13, 14, 15, 18, 20, 200)
        kinds = CHANGING if changes else LOOKING + CHANGING
        for argv in self.dice.sample(kinds, len(kinds)):
            took, printed = self.run_in(box, argv)
            self.longest = max(self.longest, (took, f"{argv} {self.told()[-1:]}"))
            self.assertNotIn("canary", printed)
            self.assertNotIn("root:x:0", printed)
            if len(self.told()) >= before + times:
                break
        new = self.told()[before:]
        what = f"{REQUESTS[request]}: {new[-1:]}"
        self.check_names(box)
        self.check_outside()
        self.check_honest()
        self.recover(box, what)
        self.assertLess(self.memory(), MEMORY, what)
        return int(new[-1].split()[2]) if new else 0

    def test_each_lie_ends_in_an_answer_and_touches_nothing(self) -> None:
        box = self.make("l@" + ("liar" if SEED % 2 else "liar_shared"))
        self.beside = tree_of(Lab.liar.home / "beside")
        self.longest = (0.0, "")
        told = 0
        if COUNT:
            for number in range(COUNT):
                # Each request in turn, so that few are enough to meet all.
                request = sorted(REQUESTS)[number % len(REQUESTS)]
                with self.subTest(request=REQUESTS[request], seed=SEED, number=number):
                    told += self.lie(box, request, self.dice.randrange(1 << 20), self.dice.choice([1, 1, 3])) > 0
        else:
            for request in REQUESTS:
                which, count = 0, 1
                while which < count:
                    with self.subTest(request=REQUESTS[request], which=which):
                        count = max(count, self.lie(box, request, which, 1))
                        told += 1
                    which += 1
        print(f"lying server: {told} lies, {len(self.told())} times; seed {SEED}; the longest program took {self.longest[0]:.1f} s "
              f"({self.longest[1]}), the truth was back after at most {self.back[0]:.1f} s ({self.back[1]}), {self.stuck} times over a new link only; "
              f"the daemon had at most {self.memory():.0f} MiB", flush=True)
        self.assertGreater(told, COUNT // 3, "the lies were told")

    def test_names_that_are_none_are_not_shown_and_lead_nowhere(self) -> None:
        box = self.make("n@liar")
        self.beside = tree_of(Lab.liar.home / "beside")
        root = Lab.liar.home / "root"
        before = tree_of(root)
        (box.path / "ctl").write_text("drop_caches\n")
        Lab.control.write_text("names\n")
        self.assertEqual(set(os.listdir(os.fsencode(box.path / "fs" / "tree"))), NAMES)
        for argv in (["ls", "-lfb", "tree"], ["find", "tree"], ["cp", "-a", "tree", "COPY"], ["grep", "-r", "x", "tree"],
                     ["rm", "-rf", "tree/sub"], ["rm", "-rf", "repo"]):
            self.run_in(box, argv)
        self.check_names(box)
        self.check_outside()
        self.check_honest()
        self.recover(box, "names that are none")
        self.assertEqual(tree_of(root), before)

    @unittest.skipUnless(COUNT == 0 or COUNT > 100, "takes half a minute of silence; StoppedServer does not (tests/contract)")
    def test_a_server_that_stops_inside_an_answer_is_left(self) -> None:
        box = self.make("s@liar")
        (box.path / "fs" / "before").write_text("before\n")
        (box.path / "ctl").write_text("drop_caches\n")
        Lab.control.write_text("stop\n")
        started = time.monotonic()
        with self.assertRaises(OSError) as caught:
            (box.path / "fs" / "tree" / "a").read_text()
        self.assertEqual(caught.exception.errno, errno.ETIMEDOUT)
        self.assertLess(time.monotonic() - started, slack(2 * OP_TIMEOUT))
        self.assertEqual(box.status, "ready")
        self.check_honest()
        Lab.control.write_text("off\n")  # for the next one: this one has stopped

        def told_again() -> bool:
            with contextlib.suppress(OSError):
                return (box.path / "fs" / "tree" / "a").read_text() == "tree/a\n" * 100
            return False
        wait_until(told_again, "the truth over a new link", slack(60))
        took = time.monotonic() - started
        self.assertEqual((box.path / "fs" / "before").read_text(), "before\n")
        wait_until(lambda: box.status == "ready", "ready again", 10)
        self.assertEqual(box.sh("echo on"), "on\n")
        print(f"lying server: one that had stopped inside an answer was left after {took:.1f} s", flush=True)

    def test_listings_without_end_end(self) -> None:
        box = self.make("e@liar")
        (box.path / "ctl").write_text("drop_caches\n")
        Lab.control.write_text("endless\n")
        started = time.monotonic()
        with self.assertRaises(OSError):
            os.listdir(box.path / "fs" / "tree")
        took = time.monotonic() - started
        self.check_honest()
        Lab.control.write_text("off\n")
        self.recover(box, "a listing without end")
        print(f"lying server: a listing without end ended after {took:.1f} s; the daemon had at most {self.memory():.0f} MiB", flush=True)
        self.assertLess(self.memory(), LISTING)


def finish() -> list[str]:
    for sshd in (Lab.liar, Lab.honest):
        sshd.stop()
    return []


if __name__ == "__main__":
    if not server() or not os.access(filter_program(), os.X_OK):
        skip("there is no sftp-server, or no lying_sftp (set SBXFS_LYING_SFTP)")
    main(limit=230 if COUNT and COUNT < 100 else 36_000, box="h@honest", configure=configure, finish=finish,
         options=[f"op_timeout={OP_TIMEOUT}"])
