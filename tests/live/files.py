"""Cases that work in a sandbox's files, and how two trees are compared."""

import os
import stat
import subprocess
from pathlib import Path
from typing import Any, Optional

from live.box import Box
from live.case import Live, MountCase


class FilesCase(MountCase):
    """Each case in a fresh directory, `here`, which the sandbox knows as `there`."""

    box: Box

    def setUp(self) -> None:
        super().setUp()
        name = self.id().rsplit(".", 1)[1][:60]
        self.there = f"/workspace/{name}"
        self.here = self.box.path / "fs" / "workspace" / name
        self.here.mkdir()

    def sh(self, script: str, limit: float = 30) -> str:
        return self.box.sh(f"cd {self.there}\n{script}", limit)

    def run_here(self, *argv: str, code: int = 0, env: Optional[dict[str, str]] = None) -> str:
        done = subprocess.run(list(argv), cwd=self.here, capture_output=True, text=True,
                              check=False, timeout=30, env={**os.environ, **(env or {})})
        self.assertEqual((done.returncode, done.stderr if code == 0 else ""), (code, ""), argv)
        return done.stdout + done.stderr

    def local(self) -> Path:
        """A directory of this machine, for what is compared with `here`."""
        path = Live.place.path / self.id().rsplit(".", 1)[1]
        path.mkdir()
        return path

    def assert_same_tree(self, one: Path, other: Path) -> None:
        """Names, kinds, modes, targets, contents and times to the second."""
        self.assertEqual(tree_of(one), tree_of(other))

    def assert_both_sides_agree(self) -> None:
        """`here` as we see it, and as programs in the sandbox see it; times that were shown before the sandbox had told
        them are forgotten."""
        # GNU find and sort, the same words on both sides; a directory's size is its file system's own affair.
        script = (r"find . \( -type d -printf '%P %y %m %Ts\n' -o -printf '%P %y %m %Ts %s %l\n' \) | "
                  r"LC_ALL=C sort; find . -type f -exec sha256sum {} + | LC_ALL=C sort")
        theirs = self.sh(script)
        (self.box.path / "ctl").write_text("drop_caches\n")
        self.assertEqual(self.run_here("bash", "-c", script), theirs)


def tree_of(root: Path) -> dict[str, tuple[Any, ...]]:
    """What is below `root`: path to kind, mode, and what a file or link is."""
    found: dict[str, tuple[Any, ...]] = {}
    for directory, dirs, files in os.walk(root):
        for name in dirs + files:
            path = Path(directory) / name
            facts = os.lstat(path)
            entry: tuple[Any, ...] = (stat.filemode(facts.st_mode),)
            if path.is_symlink():
                entry += (os.readlink(path),)
            elif path.is_file():
                entry += (int(facts.st_mtime), path.read_bytes())
            found[str(path.relative_to(root))] = entry
    return found
