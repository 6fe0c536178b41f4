"""The files that are worked with: always the same ones, made from a seed."""

import hashlib
import os
import random
import subprocess
from pathlib import Path

FILES, BYTES = 763, 6_500_000  # the tree of the published figures
NEEDLE = "needle_17"           # in some of its lines
FILES_PER_DIRECTORY = 17

WORDS = ("static", "const", "return", "size", "buffer", "if", "while", "result", "value", "state", "offset", "count",
         "handle", "{", "}", "(", ");", "==", "+=", "->")


def make_tree(root: Path, files: int = FILES) -> None:
    """A source tree: files of very different sizes, some thousands of bytes on average, in nested directories."""
    rng = random.Random(5)
    directories = [root]
    for number in range(files // FILES_PER_DIRECTORY):
        # Mostly shallow: below one of the first ones.
        parent = directories[rng.randrange(min(len(directories), 9))]
        directories.append(parent / f"part_{number:04d}")
    for directory in directories:
        directory.mkdir(parents=True, exist_ok=True)
    weights = [rng.lognormvariate(0, 1.1) for _ in range(files)]
    total = BYTES * files // FILES
    for number, weight in enumerate(weights):
        size = max(1, int(total * weight / sum(weights)))
        directory = directories[number % len(directories)]
        (directory / f"file_{number:05d}.c").write_bytes(text(rng, size))


def text(rng: random.Random, size: int) -> bytes:
    lines = []
    length = 0
    while length < size:
        words = rng.choices(WORDS, k=rng.randint(2, 12))
        if rng.random() < 0.002:
            words.append(NEEDLE)
        lines.append(" ".join(words))
        length += len(lines[-1]) + 1
    return "\n".join(lines).encode()[:size - 1] + b"\n"


def make_repository(root: Path, files: int) -> None:
    """The same tree, committed and packed."""
    make_tree(root, files)
    git = ["git", "-C", str(root), "-c", "user.name=bench", "-c", "user.email=bench@invalid"]
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "one"], ["gc", "-q"]):
        subprocess.run([*git, *words], check=True, env=git_environment())


def git_environment() -> dict[str, str]:
    return {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}


def make_blob(path: Path, size: int) -> None:
    rng = random.Random(7)
    with path.open("wb") as file:
        for _ in range(size >> 20):
            file.write(rng.randbytes(1 << 20))


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def count_files(root: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(root))
