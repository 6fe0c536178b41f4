#!/usr/bin/env python3
"""The same files changed from here and by a command that runs, at the same time: nobody's change is lost. Contract 5,
close-to-open while not quiet. SBXFS_SIDES_SECONDS: how long git is at it."""

import errno
import hashlib
import itertools
import os
import shutil
import subprocess
import sys
import time
import unittest
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.box import Event  # noqa: E402
from live.case import main  # noqa: E402
from live.far import patience  # noqa: E402
from live.files import FilesCase  # noqa: E402
from live.place import wait_until  # noqa: E402

SECONDS = float(os.environ.get("SBXFS_SIDES_SECONDS", "10"))
STARTED = 20.0  # seconds for a command to have begun its work


class SidesCase(FilesCase):
    def beside(self, name: str, script: str) -> Event:
        """A command in `there` that goes on until there is a file `stop`; returns when it has made `begun`."""
        event = self.box.run(name, f"cd {self.there}\n{script}")
        # Asked in the directory's listing: a look-up would leave a name behind that is not there.
        wait_until(lambda: "begun" in os.listdir(self.here), f"{name} has begun", STARTED)
        return event

    def stop(self, event: Event) -> str:
        """What it printed."""
        (self.here / "stop").touch()
        self.assertEqual((event.wait(40), event.stderr), ("exited 0", b""))
        return event.stdout.decode()


def short(line: bytes) -> str:
    return "".join(f"{len(list(run))}*{chr(char)}" if char in b"ht\0" else chr(char)
                   for char, run in itertools.groupby(line))


class Appenders(SidesCase):
    # Lines of many lengths; each says how long it has to be and what is in it. A shell writes one of less than a page
    # at once.
    LINE = ("l() { printf -v p '%*s' $(($2 * 7919 % $3)) ''; p=${p// /$1}; "
            'echo "$1 $2 ${#p} $p ."; }\n')

    @staticmethod
    def line(who: str, n: int, most: int) -> bytes:
        pad = who * (n * 7919 % most)
        return f"{who} {n} {len(pad)} {pad} .\n".encode()

    def check(self, text: bytes, counts: dict[str, tuple[int, int]]) -> None:
        self.assertTrue(text.endswith(b" .\n"), "the last line is whole")
        want = Counter(self.line(who, n, most) for who, (count, most) in counts.items() for n in range(count))
        got = Counter(text.splitlines(keepends=True))
        lost, strange = want - got, got - want
        self.assertEqual(([short(line) for line in lost], [short(line) for line in strange]), ([], []),
                         "lost, torn or doubled lines, and what is there instead")
        for who, (count, _) in counts.items():
            order = [int(line.split()[1]) for line in text.splitlines() if line.startswith(who.encode() + b" ")]
            self.assertEqual(order, list(range(count)), f"{who} wrote them in this order")

    def test_an_appender_here_and_one_there_lose_tear_and_double_no_line(self) -> None:
        for name, ours, theirs, keep_open in (("short", 40, 40, True), ("pages", 9000, 2000, True),
                                              ("reopened", 300, 300, False)):
            with self.subTest(name):
                for file in ("begun", "stop"):
                    (self.here / file).unlink(missing_ok=True)
                (self.here / "log").write_bytes(b"")
                event = self.beside(f"appender-{name}", self.LINE + "n=0; : > begun\nwhile [ ! -e stop ]; do "
                                    f"l t $n {theirs} >> log; n=$((n + 1)); sleep 0.002; done; echo $n")
                fd, n = -1, 0
                while n < 300 or (n % 50 == 0 and (self.here / "log").read_bytes().count(b"\nt ") < 20):
                    self.assertLess(n, 20000, "both write")
                    if fd < 0:
                        fd = os.open(self.here / "log", os.O_WRONLY | os.O_APPEND)
                    data = self.line("h", n, ours)
                    self.assertEqual(os.write(fd, data), len(data))
                    n += 1
                    if not keep_open:
                        os.close(fd)
                        fd = -1
                if fd >= 0:
                    os.close(fd)
                lines = int(self.stop(event))
                text = (self.here / "log").read_bytes()
                self.check(text, {"h": (n, ours), "t": (lines, theirs)})
                self.assertEqual(self.sh("sha256sum < log").split()[0], hashlib.sha256(text).hexdigest())


class Locks(SidesCase):
    """A counter that whoever holds the lock reads, and writes one higher."""

    def test_a_lock_made_by_o_excl_is_held_by_one_of_both_sides(self) -> None:
        (self.here / "count").write_text("0\n")
        # noclobber is O_EXCL.
        event = self.beside("locker", "set -C; n=0; : > begun\nwhile [ ! -e stop ]; do\n"
                            "  ( : > lock ) 2>/dev/null || continue\n"
                            "  read -r c < count; echo $((c + 1)) >| count; rm lock; n=$((n + 1))\n"
                            "  sleep 0.01\ndone\necho $n")
        ours, theirs, waited = 0, 0, 0
        deadline = time.monotonic() + 40 * patience()
        while ours < 40 or theirs <= 10:
            self.assertLess(time.monotonic(), deadline, f"{ours} times in, {waited} times not, they {theirs} times")
            # Without the lock: what is cached of it now must not be believed once the lock is held.
            (self.here / "count").read_bytes()
            try:
                os.close(os.open(self.here / "lock", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            except OSError as error:
                self.assertEqual(error.errno, errno.EEXIST)
                waited += 1
                continue
            fd = os.open(self.here / "count", os.O_RDONLY)
            count = int(os.read(fd, 100))
            theirs = count - ours
            os.close(fd)
            fd = os.open(self.here / "count", os.O_WRONLY | os.O_TRUNC)
            os.write(fd, b"%d\n" % (count + 1))
            os.close(fd)
            os.unlink(self.here / "lock")
            ours += 1
        theirs = int(self.stop(event))
        self.assertGreater(theirs, 10, "both have held it")
        self.assertEqual(int((self.here / "count").read_text()), ours + theirs)
        self.assertEqual(int(self.sh("cat count")), ours + theirs)

    def test_a_lock_made_by_link_and_by_rename_is_held_by_one_of_both_sides(self) -> None:
        # What is known of a directory is forgotten by whoever takes a lock in it, however it is taken.
        (self.here / "count").write_text("0\n")
        (self.here / "mine").write_text("mine")
        event = self.beside("linker", ": > theirs; n=0; : > begun\nwhile [ ! -e stop ]; do\n"
                            "  ln theirs lock 2>/dev/null || continue\n"
                            "  read -r c < count; echo $((c + 1)) > new.t; mv new.t count; rm lock; n=$((n + 1))\n"
                            "  sleep 0.01\ndone\necho $n")
        ours = count = 0
        deadline = time.monotonic() + 40 * patience()
        while ours < 25 or count - ours < 6:
            self.assertLess(time.monotonic(), deadline, f"{ours} times in, of {count}")
            (self.here / "count").read_bytes()
            try:
                os.link(self.here / "mine", self.here / "lock")
            except OSError as error:
                self.assertEqual(error.errno, errno.EEXIST)
                continue
            count = int((self.here / "count").read_text())
            (self.here / "new.h").write_text(f"{count + 1}\n")
            os.rename(self.here / "new.h", self.here / "count")
            os.unlink(self.here / "lock")
            ours += 1
        theirs = int(self.stop(event))
        self.assertGreater(theirs, 5, "both have held it")
        self.assertEqual(int(self.sh("cat count")), ours + theirs)


@unittest.skipUnless(shutil.which("git"), "no git")
class Git(SidesCase):
    SETTINGS = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "h",
                "GIT_AUTHOR_EMAIL": "h@example.com", "GIT_COMMITTER_NAME": "h",
                "GIT_COMMITTER_EMAIL": "h@example.com", "GIT_CONFIG_COUNT": "2",
                "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
                "GIT_CONFIG_KEY_1": "gc.auto", "GIT_CONFIG_VALUE_1": "0"}
    NAMES = 4
    # A blob that was added again before anybody committed it dangles: that is no loss.
    FSCK = ["git", "fsck", "--full", "--strict", "--no-progress", "--no-dangling"]

    def test_git_add_here_and_git_commit_in_a_running_command_lose_nothing(self) -> None:
        env = {**os.environ, **self.SETTINGS}
        self.run_here("git", "init", "-q", "-b", "main", ".", env=self.SETTINGS)
        self.run_here("git", "commit", "-q", "--allow-empty", "-m", "first", env=self.SETTINGS)
        exports = "".join(f"export {name}='{value}'\n" for name, value in self.SETTINGS.items())
        # git commit reads the index before it takes its lock, and so loses what others add in between, on every file
        # system: here it has a copy of its own. What adds holds the lock first, on both sides.
        # A few names, added again and again: the index keeps its size, and most of the time the second of its mtime.
        event = self.beside("committer", exports + "n=0; : > begun\nwhile [ ! -e stop ]; do\n"
                            f"  f=there$((n % {self.NAMES})); echo $((n + 1000000)) > $f\n"
                            "  git add $f 2>>.git/errors || continue\n"
                            "  cp .git/index .git/copy 2>>.git/errors || continue\n"
                            "  GIT_INDEX_FILE=.git/copy git commit -q -m $n 2>>.git/errors && n=$((n + 1))\n"
                            "done\ngit commit -q --allow-empty -m last; echo $n")
        added: dict[str, int] = {}
        refused: Counter[str] = Counter()
        n = 1000000
        until = time.monotonic() + SECONDS
        while time.monotonic() < until or len(added) < self.NAMES:
            self.assertLess(time.monotonic(), until + 30, "each name is added in time")
            name = f"here{n % self.NAMES}"
            (self.here / name).write_text(f"{n}\n")
            done = subprocess.run(["git", "add", name], cwd=self.here, env=env, capture_output=True, text=True,
                                  check=False, timeout=30)
            if done.returncode == 0:
                added[name] = n
            else:
                refused[done.stderr] += 1
            n += 1
        commits = int(self.stop(event))
        self.assertGreater(commits, self.NAMES)
        added |= {f"there{k % self.NAMES}": k + 1000000 for k in range(commits)}
        # The lock is held by the other one: that is git's own answer, and the only one it may give.
        taken = "index.lock': File exists"
        self.assertEqual([text for text in refused if taken not in text], [])
        # A file is rewritten in place here while git looks at it there: between the truncation and the write it is
        # shorter than it was, as on every file system. git then makes no commit, and the next turn does.
        rewritten = "error: short read while indexing here"
        errors = (self.here / ".git" / "errors").read_text()
        self.assertEqual([line for line in errors.splitlines() if line.startswith(("fatal:", "error:"))
                          and taken not in line and not line.startswith(rewritten)], [])
        git = ["git", "--no-pager"]
        log = self.run_here(*git, "log", "--reverse", "--format=%H %s", env=self.SETTINGS).splitlines()
        self.assertEqual([line.split()[1] for line in log if line.split()[1] not in ("first", "last")],
                         [str(k) for k in range(commits)])
        # What was added is in the last commit, and no commit has an older one than the commit before.
        history = self.numbers([line.split()[0] for line in log], env)
        self.assertEqual(history[-1], added)
        for before, after, line in zip(history, history[1:], log[1:]):
            lost = {name: (at, after.get(name)) for name, at in before.items() if after.get(name, 0) < at}
            self.assertEqual(lost, {}, line)
        self.assertEqual(self.run_here(*self.FSCK, env=self.SETTINGS), "")
        self.assertEqual(self.sh(f"{exports} {' '.join(self.FSCK)} 2>&1"), "")
        print(f"git: {n - 1000000 - sum(refused.values())} adds here and {commits} commits there in "
              f"{SECONDS:.0f} s, {sum(refused.values())} times the lock was taken", file=sys.stderr)

    def numbers(self, commits: list[str], env: dict[str, str]) -> list[dict[str, int]]:
        """What each commit has, by name."""
        names = [f"{side}{k}" for side in ("here", "there") for k in range(self.NAMES)]
        asked = "".join(f"{commit}:{name}\n" for commit in commits for name in names)
        done = subprocess.run(["git", "cat-file", "--batch=%(objecttype)"], cwd=self.here, env=env, input=asked,
                              capture_output=True, text=True, check=True, timeout=60)
        lines = iter(done.stdout.splitlines())
        found: list[dict[str, int]] = []
        for _ in commits:
            found.append({})
            for name in names:
                if next(lines) == "blob":
                    found[-1][name] = int(next(lines))
                    next(lines)  # the newline after each object
        return found


if __name__ == "__main__":
    main(limit=100 + SECONDS)
