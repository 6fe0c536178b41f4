#!/usr/bin/env python3
"""Random operations on one file below fs/ and, the same ones, on a file of this machine: read, write, append, truncate,
loads and stores through mappings (msync), close and open, rename, by two handles. What each sees must be the same.

  behind    changes are answered ahead
  through   writeback=off: every operation waits
  busy      something else lives in the sandbox: data follows until close(2)

After the program of that name by Apple. A seed repeats a run (--seed, or SBXFS_SEED); a failure prints it with the
operations before.
"""

import argparse
import mmap
import os
import random
import signal
import sys
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness.sweep import bounded  # noqa: E402
from live.box import Box  # noqa: E402
from live.daemon import Daemon  # noqa: E402
from live.place import Place, isolate, require  # noqa: E402

LARGEST = 256 << 10
MOST = 64 << 10  # of one operation
NAMES = ("f", "g", "d/f")
PAGE = mmap.PAGESIZE
Operation = dict[str, Any]
WEIGHTS = {"read": 14, "write": 14, "append": 3, "truncate": 5, "truncate_path": 2, "map_read": 8, "map_write": 8, "view": 2,
           "view_read": 5, "view_write": 5, "reopen": 5, "rename": 4, "sync": 1, "size": 4, "whole": 1}


class Broken(AssertionError):
    """What was seen here and there differs."""


@dataclass
class Side:
    """The file as one side has it."""

    root: Path
    name: str = NAMES[0]
    handles: list[int] = field(default_factory=list)
    view: Optional[mmap.mmap] = None

    def begin(self) -> None:
        (self.root / "d").mkdir()
        (self.root / self.name).touch()
        self.handles = [self.open(), self.open()]

    def open(self, flags: int = os.O_RDWR) -> int:
        return os.open(self.root / self.name, flags)

    def end(self) -> None:
        self.drop_view()
        for handle in self.handles:
            os.close(handle)
        self.handles = []

    def drop_view(self) -> None:
        if self.view is not None:
            self.view.flush()
            self.view.close()
            self.view = None

    def take(self, one: Operation) -> Any:
        """What it sees."""
        handle, at, data = self.handles[one["by"]], one["at"], random.Random(one["seed"]).randbytes(one["size"])
        match one["kind"]:
            case "read":
                return self.told(os.pread(handle, one["size"], at))
            case "write":
                while data:
                    done = os.pwrite(handle, data, at)
                    data, at = data[done:], at + done
            case "append":
                end = self.open(os.O_WRONLY | os.O_APPEND)
                try:
                    while data:
                        data = data[os.write(end, data):]
                finally:
                    os.close(end)
            case "truncate":
                self.drop_view()
                os.ftruncate(handle, at)
            case "truncate_path":
                self.drop_view()
                os.truncate(self.root / self.name, at)
            case "map_read" | "map_write":
                start = at - at % PAGE
                with mmap.mmap(handle, one["size"] + at - start, offset=start) as view:
                    if one["kind"] == "map_read":
                        return self.told(view[at - start:])
                    view[at - start:] = data
                    view.flush()
            case "view":
                self.drop_view()
                self.view = mmap.mmap(handle, one["length"])
            case "view_read":
                return self.view and self.told(self.view[at:at + one["size"]])
            case "view_write":
                if self.view is not None:
                    part = data[:max(0, len(self.view) - at)]
                    self.view[at:at + len(part)] = part
                    self.view.flush()
            case "reopen":
                os.close(handle)
                self.handles[one["by"]] = self.open()
            case "rename":
                os.rename(self.root / self.name, self.root / one["to"])
                self.name = one["to"]
            case "sync":
                os.fsync(handle)
            case "size":
                facts = os.fstat(handle), os.stat(self.root / self.name)
                return facts[0].st_size, facts[1].st_size, facts[0].st_ino == facts[1].st_ino
            case "whole":
                return self.told((self.root / self.name).read_bytes())
        return None

    @staticmethod
    def told(data: bytes) -> tuple[int, int]:
        return len(data), zlib.crc32(data)


class Run:
    def __init__(self, session: str, seed: int) -> None:
        self.dice = random.Random(seed)
        self.place = Place()
        self.daemon = Daemon(self.place, ["writeback=off"] if session == "through" else []).start()
        self.box = Box.make(self.daemon, "b")
        if session == "busy":
            self.box.sh("sleep 10000 & true")
        else:
            self.box.sh("true")
        self.log: list[str] = []
        self.taken = self.commands = 0

    def begin(self) -> None:
        """With a new file."""
        self.there = Side(self.box.path / "fs" / "workspace" / f"t{self.taken}")
        self.here = Side(self.place.path / f"t{self.taken}")
        for side in (self.there, self.here):
            side.root.mkdir()
            side.begin()

    def draw(self) -> Operation:
        size = os.fstat(self.here.handles[0]).st_size
        dice = self.dice
        one: Operation = {"kind": dice.choices(list(WEIGHTS), list(WEIGHTS.values()))[0], "by": dice.randrange(2),
                          "at": dice.randrange(LARGEST), "size": dice.choice((1, 100, PAGE, dice.randrange(MOST))),
                          "seed": dice.randrange(1 << 30), "length": size}
        if dice.random() < 0.5:
            one["at"] -= one["at"] % PAGE
        if one["kind"] == "append" and size + one["size"] > LARGEST or one["kind"].startswith("map") and size == 0 or \
                one["kind"] == "view" and size == 0:
            one["kind"] = "write"
        if one["kind"] == "append":
            one["at"] = size
        elif one["kind"].startswith("map"):
            one["at"] %= size
            one["size"] = max(1, min(one["size"], size - one["at"]))
        elif one["kind"] == "rename":
            one["to"] = dice.choice([name for name in NAMES if name != self.here.name])
        return one

    def run(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            self.begin()
            for _ in range(400):
                one = self.draw()
                expected = self.here.take(one)
                self.log.append(f"{ {key: value for key, value in one.items() if key != 'length'} } -> {expected}")
                try:
                    seen = self.there.take(one)
                except OSError as error:
                    raise Broken(f"the last: {error}") from error
                self.taken += 1
                if seen != expected:
                    raise Broken(f"the last: {seen} instead of {expected}")
                if self.dice.random() < 0.01:
                    self.command()
            for side in (self.there, self.here):
                side.end()
            self.command()

    def command(self) -> None:
        """A program in the sandbox sees the same file."""
        self.commands += 1
        root, name = self.there.root.name, self.there.name
        seen = self.box.sh(f"cksum < /workspace/{root}/{name}")
        expected = self.cksum((self.here.root / name).read_bytes())
        self.log.append(f"command -> {expected}")
        if seen != expected:
            raise Broken(f"a command sees {seen!r} instead of {expected!r}")

    @staticmethod
    def cksum(data: bytes) -> str:
        """As POSIX has it: with the length behind, and most significant bit first."""
        crc, size, length = 0, b"", len(data)
        while length:
            size, length = size + bytes((length & 0xff,)), length >> 8
        # The table is that of zlib, with the bits the other way round.
        turned = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
        crc = zlib.crc32((data + size).translate(turned), 0xffffffff) ^ 0xffffffff
        return f"{int(f'{crc:032b}'[::-1], 2) ^ 0xffffffff} {len(data)}\n"

    def end(self) -> None:
        self.box.destroy()
        self.daemon.umount()
        self.place.end()


def main() -> int:
    require()
    isolate()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("session", choices=("behind", "through", "busy"))
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SBXFS_SEED", "0")))
    options = parser.parse_args()
    seed = options.seed or random.SystemRandom().randrange(1, 1 << 31)
    print(f"fsx {options.session}: seed {seed}", flush=True)
    one = Run(options.session, seed)
    started = time.monotonic()
    try:
        with bounded(options.seconds + 60, one.place.end):
            one.run(started + options.seconds)
            one.end()
    except Broken as broken:
        print("\n".join(one.log[-400:]) + f"\n{broken}\n{one.daemon.tail(20)}\n"
              f"again with: tests/harness/fsx.py {options.session} --seed {seed}", flush=True)
        one.place.end()
        return 1
    print(f"fsx {options.session}: {one.taken} operations, {one.commands} commands, {time.monotonic() - started:.0f} s",
          flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
