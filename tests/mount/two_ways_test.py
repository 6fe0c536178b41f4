#!/usr/bin/env python3
"""A large file that is written over a long way, by two channels at once, is the file that was written: with overlapping
writes, syncs and a rename in between. docs/WRITE_BEHIND.md, "Two ways"; run with SBXFS_TEST_LINK=20ms."""

import hashlib
import os
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.case import main  # noqa: E402
from live.far import round_trip  # noqa: E402
from live.files import FilesCase  # noqa: E402

MIB = 1 << 20
SIZE = 24 * MIB


class TwoWays(FilesCase):
    def setUp(self) -> None:
        super().setUp()
        # The first changes of a quiet time wait, while the server is asked what must be known for those that follow.
        for name in ("one", "two", "three"):
            (self.here / name).mkdir()
            os.listdir(self.here)

    def test_overlapping_writes_arrive_in_their_order(self) -> None:
        seed = int(os.environ.get("SBXFS_SEED", random.randrange(1 << 32)))
        print(f"SBXFS_SEED={seed}")
        rng = random.Random(seed)
        pool = rng.randbytes(4 * MIB)
        model = bytearray(SIZE)
        opened = self.opens()
        with open(self.here / "new", "wb", buffering=0) as file:
            for _ in range(SIZE // MIB):
                file.write(bytes(MIB))
            for step in range(90):
                size = rng.choice((100, 70_000, 300_000, MIB))
                at, source = rng.randrange(SIZE - size), rng.randrange(3 * MIB)
                os.pwrite(file.fileno(), pool[source:source + size], at)
                model[at:at + size] = pool[source:source + size]
                if step % 30 == 17:
                    os.fsync(file.fileno())
                if step == 45:
                    os.rename(self.here / "new", self.here / "named")
            # Else this has shown nothing.
            if round_trip() > 0.005:
                self.assertGreaterEqual(self.opens() - opened, 2)
        self.assertEqual(self.sh("sha256sum < named").split()[0], hashlib.sha256(model).hexdigest(), f"seed {seed}")

    def test_a_program_that_was_just_written_can_be_started(self) -> None:
        program = Path("/bin/sh").resolve().read_bytes()
        for _ in range(3):
            with open(self.here / "program", "wb", buffering=0) as file:
                os.fchmod(file.fileno(), 0o755)
                file.write(program + bytes(12 * MIB))
            self.assertEqual(self.sh("./program -c 'echo started'"), "started\n")

    def opens(self) -> float:
        """How often a file was opened there, by whichever way."""
        return sum(float(line.rsplit(" ", 1)[1]) for line in (self.mnt / ".mount" / "metrics").read_text().splitlines()
                   if line.startswith('sbxfs_sftp_requests_total{type="open"}'))


if __name__ == "__main__":
    main()
