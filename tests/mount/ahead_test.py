#!/usr/bin/env python3
"""What is fetched ahead and answered from memory is never old: walks over a tree while both sides change it.
docs/CACHES.md."""

import os
import random
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.case import main  # noqa: E402
from live.files import FilesCase  # noqa: E402

DIRECTORIES, FILES = 6, 8


class Ahead(FilesCase):
    def setUp(self) -> None:
        super().setUp()
        self.sh("for d in 0 1 2 3 4 5; do mkdir -p t/d$d; for f in 0 1 2 3 4 5 6 7; do"
                " echo text $d.$f > t/d$d/f$f; done; done; touch -d '1 hour ago' t/d*/f*")
        self.tree = self.here / "t"

    def walk(self) -> dict[str, str]:
        """As grep -r does."""
        found = {}
        for path, _, names in os.walk(self.tree):
            for name in names:
                file = Path(path) / name
                found[str(file.relative_to(self.tree))] = file.read_text()
        return found

    def in_the_sandbox(self) -> dict[str, str]:
        lines = self.sh("cd t; for f in $(find . -type f); do echo $f $(cat $f); done").splitlines()
        return {name[2:]: text + "\n" for name, text in (line.split(" ", 1) for line in lines)}

    def test_a_walk_reads_what_is_there(self) -> None:
        self.assertEqual(len(self.walk()), DIRECTORIES * FILES)
        self.assertEqual(self.walk(), self.in_the_sandbox())

    def test_a_file_rewritten_by_a_command_with_its_size_and_time_is_read_anew(self) -> None:
        before = self.walk()
        self.sh("cd t/d3; touch -r f3 /tmp/ref; echo TEXT 3.3 > f3; touch -r /tmp/ref f3")
        self.assertEqual(self.walk(), {**before, "d3/f3": "TEXT 3.3\n"})

    def test_walks_and_commands_by_turns_agree(self) -> None:
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        rng = random.Random(seed)
        for step in range(15):
            self.assertEqual(self.walk(), self.in_the_sandbox(), f"seed {seed} step {step}")
            one, other = (f"d{rng.randrange(6)}/f{rng.randrange(8)}" for _ in range(2))
            match rng.randrange(6):
                case 0:
                    self.sh(f"echo by command {step} > t/{one}")
                case 1:
                    (self.tree / one).write_text(f"by hand {step}\n")
                case 2:
                    self.sh(f"mv t/{one} t/{other} 2>/dev/null; true")
                case 3:
                    (self.tree / one).unlink(missing_ok=True)
                case 4 if (self.tree / one).exists():
                    os.rename(self.tree / one, self.tree / other)
                case 5:
                    self.sh(f"rm -rf t/{one.split('/')[0]}; mkdir t/{one.split('/')[0]}; echo again {step} > t/{one}")
                case _:
                    pass

    def test_an_open_file_is_the_one_that_was_opened(self) -> None:
        self.walk()
        files = [open(self.tree / f"d0/f{f}") for f in range(4)]
        os.unlink(self.tree / "d0/f0")
        os.rename(self.tree / "d0/f1", self.tree / "moved")
        (self.tree / "new").write_text("another\n")
        os.rename(self.tree / "new", self.tree / "d0/f2")
        self.sh("cd t/d0; rm f3; echo another! > f3")
        texts = []
        for file in files:
            with file:
                texts.append(file.read())
        self.assertEqual(texts, [f"text 0.{f}\n" for f in range(4)])
        self.assertEqual((self.tree / "d0/f2").read_text(), "another\n")
        self.assertEqual((self.tree / "d0/f3").read_text(), "another!\n")

    def test_a_write_is_seen_through_every_handle(self) -> None:
        self.walk()
        with open(self.tree / "d1/f1", "rb", buffering=0) as reader:
            self.assertEqual(reader.read(), b"text 1.1\n")
            with open(self.tree / "d1/f1", "r+b", buffering=0) as writer:
                writer.write(b"TEXT")
            self.assertEqual(os.pread(reader.fileno(), 100, 0), b"TEXT 1.1\n")
            self.sh("echo longer than it was > t/d1/f1")
            self.assertEqual(os.pread(reader.fileno(), 100, 0), b"longer than it was\n")

    def test_a_large_file_arrives_whole_in_order_and_at_random(self) -> None:
        self.sh("seq 1 3000000 > large; touch -d '1 hour ago' large")
        there = self.sh("sha256sum < large").split()[0]
        here = subprocess.run(["sha256sum", str(self.here / "large")], check=True,
                              capture_output=True, text=True).stdout.split()[0]
        self.assertEqual(here, there)
        self.sh("cp large other; touch -d '1 hour ago' other")
        rng = random.Random(1)
        with open(self.here / "large", "rb") as whole, open(self.here / "other", "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            data = whole.read()
            for _ in range(300):
                at = rng.randrange(size)
                self.assertEqual(os.pread(file.fileno(), 5000, at), data[at:at + 5000])

    def test_drop_caches_forgets_contents(self) -> None:
        self.walk()
        (self.box.path / "ctl").write_text("drop_caches\n")
        self.assertEqual(self.walk(), self.in_the_sandbox())


if __name__ == "__main__":
    main()
