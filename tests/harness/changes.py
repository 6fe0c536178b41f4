"""A script of changes of names and files, drawn once from a seed and taken below fs/ and in a directory of this machine:
what each step says must be the same, and so must be both trees, wherever the link was cut. The steps follow so closely
upon one another that many are on their way at once. For the link harness."""

import functools
import itertools
import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import Callable

from harness.ledger import Ledger, Sandbox
from harness.steps import DIRECTORIES, Outcome, Step, Walker, directory, name, run_here, run_there, whole
from live.place import wait_until

STEPS = 200
SEED = 20
SIZES = (0, 1, 10, 700, 5000)
MORE = ("d", "b/d", "a/c/e")  # directories that come and go
# One way. Enough for some ten changes to be under way at any time.
DELAY = 0.002
LISTING = (r"find . \( -type d -printf '%P %y %m\n' -o -type l -printf '%P %y %l\n' -o -printf '%P %y %m %s %n\n' \) | "
           "LC_ALL=C sort; find . -type f -exec cksum {} + | LC_ALL=C sort\n")
# An open file whose identity nobody had read yet cannot be told from another after a cut: what its program waits for may
# end so. What the program was told before arrives all the same.
BY_HANDLE = ("append", "slot_write", "slot_sync", "slot_close")
ERRORS = tuple(f"E{word}" for word in "NOENT EXIST NOTDIR ISDIR NOTEMPTY INVAL BADF PERM LOOP".split())


def _data(dice: random.Random) -> Step:
    return {"seed": dice.randrange(1 << 30), "size": dice.choice(SIZES)}


def _step(dice: random.Random) -> list[Step]:
    """One step, or a few that belong together and meet in their names."""
    one, other, third = dice.sample([f"{where}/{last}".lstrip("/") for where in DIRECTORIES for last in "fgh"], 3)
    kind = dice.choices(("mkdir", "create", "append", "rename", "unlink", "rmdir", "symlink", "link", "truncate",
                         "backup", "instead", "turn", "chain", "save", "hold", "tree"),
                        (10, 14, 10, 8, 6, 10, 6, 6, 4, 4, 4, 3, 3, 5, 5, 4))[0]
    make = {"kind": "create", "path": one} | _data(dice)
    away = {"kind": "rename", "path": one, "to": other}
    if kind == "backup":  # as editors do that keep the old file
        return [away, make, {"kind": "unlink", "path": other}]
    if kind == "instead":
        return [{"kind": "unlink", "path": other}, away]
    if kind == "turn":
        return [away, {"kind": "rename", "path": third, "to": one}]
    if kind == "chain":
        return [away, {"kind": "rename", "path": other, "to": third}, make]
    if kind == "save":
        return [make, {"kind": "append", "path": one} | _data(dice), away]
    if kind == "hold":  # a file that is open while its name changes
        slot = {"slot": dice.randrange(3), "path": one}
        flags = dice.choice((os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_APPEND))
        write = [{"kind": "slot_write", "at": dice.choice(SIZES)} | slot | _data(dice) for _ in range(2)]
        return [{"kind": "slot_open", "flags": flags} | slot, write[0], away, write[1],
                {"kind": dice.choice(("slot_sync", "slot_close"))} | slot]
    if kind == "tree":
        where = dice.choice(MORE)
        return [{"kind": "mkdir", "path": where}, {"kind": "create", "path": f"{where}/f"} | _data(dice),
                {"kind": "rename", "path": f"{where}/f", "to": other}, {"kind": "rmdir", "path": where},
                *([{"kind": "mkdir", "path": where}] if dice.random() < 0.5 else [make | {"path": where}])]
    step: Step = {"kind": kind, "path": name(dice)} | _data(dice)
    if kind in ("rename", "link"):
        step["to"] = name(dice)
        if dice.random() < 0.1:
            step["path"], step["to"] = directory(dice), directory(dice)
    elif kind in ("mkdir", "rmdir"):
        step["path"] = dice.choice((*DIRECTORIES[1:], *MORE))
    elif kind == "symlink":
        step["target"] = dice.choice(("f", "a/g", "nowhere"))
    return [step]


@functools.cache
def script(seed: int = SEED, count: int = STEPS) -> tuple[tuple[Step, Outcome], ...]:
    """Steps with what each says; most of them succeed."""
    dice = random.Random(seed)
    taken: list[tuple[Step, Outcome]] = []
    with tempfile.TemporaryDirectory() as scratch:
        walker = Walker(Path(scratch) / "now")
        walker.root.mkdir()
        while len(taken) < count:
            # What fails leaves nothing behind, so that it may as well be left out. Not so an open.
            for step in _step(dice):
                seen = walker.take(step)
                if seen not in ERRORS or step["kind"] == "slot_open" or dice.random() < 0.15:
                    taken.append((step, seen))
        walker.close_all()
    return tuple(taken[:count])


class Changes:
    """One pass of the script over a sandbox where nobody else is at work."""

    def __init__(self, ledger: Ledger, box: Sandbox, label: str, scratch: Path) -> None:
        self.label = label
        self.box = ledger.path(box)
        self.there = Walker(self.box / "fs" / "workspace" / label)
        self.here = scratch / label
        self.taken: list[str] = []
        self.unknown: list[int] = []  # steps of which nobody can tell whether they were made

    def prepare(self) -> None:
        """What must be known before a change is answered ahead is asked now."""
        if not (self.box / "events" / "latest").is_symlink():
            assert run_there(self.box, "/workspace", f"{self.label}.q", "true\n")[0] == "exited 0"
        self.there.root.mkdir()
        for _ in range(3):
            (self.there.root / "x").mkdir()
            os.listdir(self.there.root)
            (self.there.root / "x").rmdir()
        self._settle()

    def run(self, has_cut: Callable[[], bool]) -> None:
        for number, (step, expected) in enumerate(script()):
            seen = self.there.take(step)
            self.taken.append(f"{step} -> {seen}")
            if seen == expected:
                continue
            assert has_cut() and step["kind"] in BY_HANDLE and seen in ("ETIMEDOUT", "ESTALE"), \
                self._say(f"{step}: {seen} instead of {expected}")
            if step["kind"] in ("append", "slot_write"):
                self.unknown.append(number)
        self._settle()

    def check(self) -> None:
        self.there.close_all()
        wait_until(lambda: (self.box / "status").read_text() == "ready\n", "it is ready again")
        self._settle()
        error = (self.box / "error").read_text()
        assert error == "" or self.unknown, self._say(f"reported, and nothing is missing: {error}")
        found = whole(self.there.root)
        # Where nobody can tell of a step, either will do.
        wrong: list[str] = []
        for without in itertools.chain.from_iterable(itertools.combinations(self.unknown, count)
                                                     for count in range(len(self.unknown) + 1)):
            wrong.append(self._difference(found, set(without)))
            if not wrong[-1]:
                break
        assert not wrong[-1], self._say("; or ".join(wrong))
        seen = self._command("c")
        if self.unknown and seen[0] == "refused":
            seen = self._command("d")
        known = run_here(self.here, LISTING)
        assert seen == known, self._say(f"the sandbox sees {seen} instead of {known}")

    def clean(self) -> None:
        shutil.rmtree(self.here)

    def _difference(self, found: dict[str, Outcome], without: set[int]) -> str:
        """Takes the script here, without those steps; how the tree there differs."""
        shutil.rmtree(self.here, ignore_errors=True)
        walker = Walker(self.here)
        self.here.mkdir()
        for number, (step, _) in enumerate(script()):
            if number not in without:
                walker.take(step)
        walker.close_all()
        expected = whole(self.here)
        return "; ".join(f"{path}: {found.get(path)} instead of {expected.get(path)}"
                         for path in sorted(found.keys() | expected.keys()) if found.get(path) != expected.get(path))

    def _command(self, mark: str) -> tuple[str, str]:
        return run_there(self.box, f"/workspace/{self.label}", f"{self.label}.{mark}", LISTING + f"rm -rf ../{self.label}\n")

    def _settle(self) -> None:
        handle = os.open(self.there.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _say(self, what: str) -> str:
        return what + "\nthe steps before:\n  " + "\n  ".join(self.taken[-40:])
