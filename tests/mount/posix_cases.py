"""What the cases of posix_test.py share. They are in posix_data.py, posix_names.py and posix_attributes.py: the calls that end in
a request to `fs/`, each with all it can end with here. A case knows of no place: what it should see is what a directory of this
machine shows."""

import os

from live.posix import Case, make

CASES: list[Case] = []
LONG: set[Case] = set()
R, W, RW, CREAT, EXCL, TRUNC, APPEND = os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND
OTHER = 54321  # somebody's number


def case(run: Case) -> Case:
    CASES.append(run)
    return run


def furnish() -> None:
    """What many cases begin with: one of each kind."""
    make("file", b"0123456789")
    os.mkdir("empty")
    os.mkdir("full")
    make("full/inside", b"x")
    os.symlink("file", "to_file")
    os.symlink("full", "to_full")
    os.symlink("nowhere", "dangling")
    os.symlink("loop_b", "loop_a")
    os.symlink("loop_a", "loop_b")


def case_of_its_own(run: Case) -> Case:
    """Many steps: not where each is a round trip."""
    LONG.add(run)
    return case(run)


def listed(path: str) -> list[str]:
    return sorted(os.listdir(path))


def size(path: str) -> int:
    return os.stat(path).st_size


ODD_PATHS = ["nothing", "nothing/x", "file/x", "file/", "to_file/", "loop_a", "loop_a/x", "dangling", "", "n" * 256, "full/" + "n" * 256,
             "full/../file", "./file", "full//inside", "to_full/inside", "/".join(["full", ".."] * 700)]
