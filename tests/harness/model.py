#!/usr/bin/env python3
"""The model test: several processes take random steps below fs/ and, the same ones, in a directory of this machine;
commands run between them on both sides. What each step says must be the same, whichever process took it, and so must
be both trees, as we see them and as the sandbox does.

  turns     all processes in one tree, one step after the other: everybody sees what anybody did
  apart     all processes at once, each in a tree of its own
  cuts      like turns, and the connection is cut or its server killed again and again: a step is made, or not, or
            says that nobody knows; what it left behind is the one or the other, never a third thing
  saving, saving_cuts   like turns and cuts, and many a file that is open has just been synced

A seed repeats a run (--seed, or SBXFS_SEED); a failure prints it with the steps before.
"""

import argparse
import errno
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness.link import World  # noqa: E402
from harness.steps import (KINDS, SAVING, Outcome, Step, Walker, draw, draw_script, run_here, run_there,  # noqa: E402
                           whole)
from harness.sweep import bounded  # noqa: E402
from live.box import Box  # noqa: E402
from live.place import isolate, require, wait_until  # noqa: E402

PROCESSES = 4
# What a step may say when the connection was cut under it. EIO where data was lost, ESTALE of an open file.
CUT = ("ETIMEDOUT", "EHOSTUNREACH", "EIO", "ESTALE")
DATA = ("write", "append", "create", "replace", "pwrite", "store", "slot_write", "slot_truncate", "truncate", "slot_open",
        "slot_save")
ANEW = "for one in . p*; do test -d $one && (cd $one && rm -rf a b && mkdir -p a/c b); done\n"
# Who stores into memory that is backed by nothing is killed.
MAPPED = ("store",)


class Broken(AssertionError):
    """A promise was."""


def say(steps: list[str], text: str) -> Broken:
    return Broken(text + "\nthe steps before:\n  " + "\n  ".join(steps[-100:]))


# --- a process


def serve(pipe: Connection) -> None:
    """Takes the steps it is sent: ("roots", there, here), ("step", step), ("close",), ("many", seed, count)."""
    there = here = Walker(Path("/"))
    while True:
        try:
            order = pipe.recv()
        except EOFError:
            return
        if order[0] == "roots":
            there, here = Walker(order[1]), Walker(order[2])
            pipe.send(None)
        elif order[0] == "step":
            seen = there.take(order[1])
            pipe.send((seen, None if seen in CUT else here.take(order[1])))
        elif order[0] == "close":
            there.close_all()
            here.close_all()
            pipe.send(None)
        else:
            pipe.send(many(there, here, random.Random(order[1]), order[2]))


def many(there: Walker, here: Walker, dice: random.Random, count: int) -> tuple[str, list[str]]:
    """What was wrong, or nothing; and the steps."""
    steps: list[str] = []
    for _ in range(count):
        step = draw(dice)
        seen, expected = there.take(step), here.take(step)
        steps.append(f"{here.root.name}: {step} -> {expected}")
        if seen != expected:
            return str(say(steps, f"{step}: {seen} instead of {expected}")), steps
    there.close_all()
    here.close_all()
    return "", steps


class Process:
    def __init__(self) -> None:
        self._pipe, child = multiprocessing.Pipe()
        self._process = multiprocessing.Process(target=serve, args=(child,), daemon=True)
        self._process.start()
        child.close()

    def send(self, *order: Any) -> None:
        self._pipe.send(order)

    def answer(self) -> Any:
        return self._pipe.recv()

    def ask(self, *order: Any) -> Any:
        self.send(*order)
        return self.answer()


# --- the model


class Model:
    """A sandbox, the directory that is its model, and the processes that step through both."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.processes = [Process() for _ in range(PROCESSES)]
        self.world = World()
        launched = self.world.launch()
        self.box = self.world.daemon.mnt / launched.name
        assert (self.box / "ready").read_text() == "ready\n"
        self.here = self.world.place.path / "model"
        self.there = self.box / "fs" / "workspace" / "m"
        self.here.mkdir()
        self.there.mkdir()
        self.steps: list[str] = []
        self.taken = self.commands = self.cuts = self.unknown = 0
        self.refused = 0  # of these, those that a command was refused for

    def end(self) -> None:
        self.close()
        self.world.end()

    def close(self) -> None:
        for process in self.processes:
            process.ask("close")

    def roots(self, apart: bool) -> None:
        for number, process in enumerate(self.processes):
            one = [root / f"p{number}" if apart else root for root in (self.there, self.here)]
            for root in one:
                root.mkdir(exist_ok=True)
            process.ask("roots", *one)

    # --- sessions

    def turns(self, deadline: float) -> None:
        self.roots(apart=False)
        while time.monotonic() < deadline:
            for _ in range(60):
                self.step()
            self.command()
            self.compare()

    def apart(self, deadline: float) -> None:
        self.roots(apart=True)
        while time.monotonic() < deadline:
            for process in self.processes:
                process.send("many", self.dice.randrange(1 << 30), 100)
            told = [process.answer() for process in self.processes]
            if wrong := [text for text, _ in told if text]:
                raise Broken("\n".join(wrong))
            self.steps = [step for _, steps in told for step in steps]
            self.taken += 100 * PROCESSES
            self.compare()

    def cuts_(self, deadline: float) -> None:
        self.roots(apart=False)
        assert self.world.relay is not None
        while time.monotonic() < deadline:
            # At a byte somewhere in what the next steps say, or at the server's end.
            self.world.relay.arm_now(self.dice.choice(("in", "out")), self.dice.randrange(1, 200000))
            doomed = self.dice.randrange(60) if self.dice.random() < 0.3 else -1
            for number in range(60):
                self.step(without=MAPPED)
                if self.dice.random() < 0.1:
                    self.command()
                if number == doomed:
                    self.kill_servers()
                    break
                if self.world.relay.has_cut.is_set():
                    self.cuts += 1
                    break
            for _ in range(5):
                self.step(without=MAPPED)
            self.world.relay.disarm()
            self.settle()
            self.command()
            self.compare()

    # --- one step

    def step(self, without: tuple[str, ...] = ()) -> None:
        who = self.dice.randrange(PROCESSES)
        step = draw(self.dice)
        if step["kind"] in without:
            return
        seen, expected = self.processes[who].ask("step", step)
        self.taken += 1
        self.steps.append(f"{who}: {step} -> {seen}")
        if seen in CUT:
            self.unknown += 1
            if self.cuts == 0 and not (self.world.relay and self.world.relay.has_cut.is_set()):
                raise say(self.steps, f"{step}: {seen}, and nothing was cut")
            self.made_or_not(step)
        elif seen != expected:
            raise say(self.steps, f"{step}: {seen} instead of {expected}")

    def command(self, script: str = "") -> None:
        # It may put another file in the place of one that is open here, which nobody can tell by what SFTP says.
        self.close()
        script = script or draw_script(self.dice)
        self.commands += 1
        seen = run_there(self.box, "/workspace/m", f"c{self.commands}", script)
        if seen[0] == "refused" and (self.unknown > self.refused or self.unknown_to_us(f"c{self.commands}")):
            # A step that nobody knew of stops one command; also one that the kernel made by itself, such as a CLOSE.
            self.refused = self.unknown
            self.commands += 1
            seen = run_there(self.box, "/workspace/m", f"c{self.commands}", script)
        expected = run_here(self.here, script)
        self.steps.append(f"command {script!r} -> {seen}")
        if seen != expected:
            raise say(self.steps, f"command {script!r}: {seen} instead of {expected}")

    def unknown_to_us(self, label: str) -> bool:
        """Whether a command was refused for a change whose answer a cut swallowed."""
        return "may or may not have been made" in (self.box / "events" / label / "error").read_text()

    def kill_servers(self) -> None:
        self.cuts += 1
        box = Box(self.world.daemon, self.box.name)
        for pid, line in box.processes().items():
            if ("sftp-server" in line or "sshd" in line) and pid != box.init():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass  # with its connection

    def settle(self) -> None:
        """The link is up, and everything that was on its way has arrived."""
        wait_until(lambda: (self.box / "status").read_text() == "ready\n", "the sandbox is ready again", limit=40)

    def made_or_not(self, step: Step) -> None:
        """After a step that nobody knows of: the tree is as before, or as after it; of data, a part may be there."""
        self.close()
        found, before = self.found(), whole(self.here)
        if found == before:
            return
        kept = self.world.place.path / "kept"
        subprocess.run(["cp", "-a", str(self.here), str(kept)], check=True)  # hard links stay one file
        Walker(self.here).take(step)
        after = whole(self.here)
        if found != after:
            third = {path for path in found.keys() | before.keys() | after.keys()
                     if found.get(path) not in (before.get(path), after.get(path))}
            if step["kind"] not in DATA or any(found.get(path, "-")[0][0] != "-" for path in third):
                raise say(self.steps, f"{step} has left what it cannot: " + difference(found, after) +
                          ", and before: " + difference(found, before))
            if len(differing(found, before)) <= len(differing(found, after)):
                shutil.rmtree(self.here)
                kept.rename(self.here)
            self.adopt(found)
        shutil.rmtree(kept, ignore_errors=True)

    def adopt(self, found: dict[str, Outcome]) -> None:
        """What the cut decided about data becomes the model's."""
        for path in differing(found, whole(self.here)):
            if path not in found:
                (self.here / path).unlink()
                continue
            with open(self.here / path, "ab") as file:  # in place: a hard link stays one
                file.truncate(0)
                file.write((self.there / path).read_bytes())

    def found(self) -> dict[str, Outcome]:
        """What is there, with the link up for good: there are several connections, and each is cut."""
        for _ in range(20):
            self.settle()
            try:
                return whole(self.there)
            except OSError as error:
                if errno.errorcode[error.errno or 0] not in CUT:
                    raise
        raise say(self.steps, "the link does not stay up")

    def compare(self) -> None:
        """Both trees; now and then they begin anew, for what has become a file is seldom a directory again."""
        self.compare_trees()
        if self.dice.random() < 0.3:
            self.command(ANEW)

    def compare_trees(self) -> None:
        found, expected = self.found(), whole(self.here)
        if found != expected:
            # Of whose tree it is, where each has its own.
            owners = {Path(path).parts[0] for path in differing(found, expected)}
            about = [step for step in self.steps if step.split(":")[0] in owners] or self.steps
            raise say(about, "the trees differ: " + difference(found, expected))
        script = r"find . \( -type d -printf '%P %y %m\n' -o -type l -printf '%P %y %l\n' -o -printf '%P %y %m %s\n' \) | " \
                 "LC_ALL=C sort; find . -type f -exec cksum {} + | LC_ALL=C sort"
        self.commands += 1
        seen, known = run_there(self.box, "/workspace/m", f"c{self.commands}", script), run_here(self.here, script)
        if seen != known:
            one, other = set(seen[1].splitlines()), set(known[1].splitlines())
            raise say(self.steps, f"the sandbox sees {sorted(one - other)} instead of {sorted(other - one)} ({seen[0]})")


def differing(found: dict[str, Outcome], expected: dict[str, Outcome]) -> list[str]:
    return sorted(path for path in found.keys() | expected.keys() if found.get(path) != expected.get(path))


def difference(found: dict[str, Outcome], expected: dict[str, Outcome]) -> str:
    return "; ".join(f"{path}: {found.get(path)} instead of {expected.get(path)}"
                     for path in differing(found, expected))


def main() -> int:
    require()
    isolate()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("session", choices=("turns", "apart", "cuts", "saving", "saving_cuts"))
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SBXFS_SEED", "0")))
    options = parser.parse_args()
    seed = options.seed or random.SystemRandom().randrange(1, 1 << 31)
    print(f"model {options.session}: seed {seed}", flush=True)
    model: Optional[Model] = None
    try:
        with bounded(options.seconds + 90, lambda: None):
            if options.session.startswith("saving"):
                KINDS.update(SAVING)
            model = Model(seed)
            started = time.monotonic()
            session = {"turns": model.turns, "apart": model.apart, "cuts": model.cuts_,
                       "saving": model.turns, "saving_cuts": model.cuts_}[options.session]
            session(started + options.seconds)
            model.end()
    except Broken as broken:
        print(f"{broken}\nagain with: tests/harness/model.py {options.session} --seed {seed}", flush=True)
        if model is not None:
            model.world.abandon()
        return 1
    print(f"model {options.session}: {model.taken} steps, {model.commands} commands, {model.cuts} cuts, "
          f"{model.unknown} steps with unknown outcome, {time.monotonic() - started:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
