#!/usr/bin/env python3
"""Each call on files ends as on a local disk: with the same result, the same errno and the same state. Every case of
posix_cases.py runs in a directory of this machine, in a sandbox that is quiet, and in one where others may work. What is meant
to be different is the table here, and the same in docs/SEMANTICS.md; a difference that is not in it fails, and one in it that
does not show, too.

posix_test.py Posix.test_NAME runs one case; SBXFS_POSIX_SHOW=1 prints what each differs in."""

import errno
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.box import Box  # noqa: E402
from live.case import Live, MountCase, main  # noqa: E402
from live.place import SOURCE, Place  # noqa: E402
from live.posix import Case, outcomes_in  # noqa: E402
from mount import posix_attributes, posix_data, posix_names  # noqa: E402, F401
from mount.posix_cases import CASES, LONG  # noqa: E402

PAGE = SOURCE / "docs" / "SEMANTICS.md"
HEADER = "| what | on a local disk | below `fs/` | why |"
ROOT = os.geteuid() == 0


@dataclass(frozen=True)
class Difference:
    """One row of the page, and the outcomes that it explains: patterns of CASE: CALL: THERE -> HERE."""

    what: str
    local: str
    here: str
    why: str
    outcomes: tuple[str, ...]
    for_root_only: bool = False

    def explains(self, line: str) -> bool:
        return any(re.fullmatch(pattern, line) for pattern in self.outcomes)

    def row(self) -> str:
        return f"| {self.what} | {self.local} | {self.here} | {self.why} |"


LEFT = r"left: .*"
DIFFERENCES = (
    Difference("set-user-id and set-group-id bits", "set", "chmod: EPERM; a new file is made without",
               "a sandbox's files gain nobody rights here",
               (r"chmod_of_set_ids: set-.*: done -> EPERM", f"chmod_of_set_ids: {LEFT}",
                r"open_creates_with_set_user_id: look f: -rws.* -> -rwx.*", f"open_creates_with_set_user_id: {LEFT}")),
    Difference("chown to another user, by root", "done", "EPERM", "files show as owned by who mounted (`idmap=none` shows the sandbox's numbers)",
               (r"chown_to_somebody_else: (owner|group): done -> EPERM",), for_root_only=True),
    Difference("mkfifo; mknod of a socket or device; bind(2) of a socket", "done", "EOPNOTSUPP", "SFTP cannot make them",
               (r"pipes_sockets_and_devices: (mkfifo fifo|socket|device): (done|EPERM) -> EOPNOTSUPP", f"pipes_sockets_and_devices: {LEFT}")),
    Difference("extended attributes, ACLs", "done, or ENODATA", "EOPNOTSUPP", "SFTP has none",
               (r"extended_attributes: (list|get|set|remove): (\[\]|ENODATA|done) -> EOPNOTSUPP",)),
    Difference("open with O_TMPFILE", "a file without a name", "EOPNOTSUPP", "SFTP cannot make one; mkstemp(3) and unlink(2) do",
               (r"open_tmpfile: open \. O_RDWR\|O_TMPFILE: opened -> EOPNOTSUPP",)),
    Difference("fallocate(2), its holes and zeroes", "done", "EOPNOTSUPP", "SFTP has no such request; posix_fallocate(3) writes zeroes instead",
               (r"fallocate_and_posix_fallocate: (fallocate.*|punch a hole): done -> EOPNOTSUPP", r"fallocate_and_posix_fallocate: content f: .*",
                f"fallocate_and_posix_fallocate: {LEFT}")),
    Difference("renameat2 with RENAME_EXCHANGE or RENAME_WHITEOUT", "done", "EINVAL", "SFTP has no such request",
               (r"rename_(exchange|whiteout): (two files|whiteout): (done|EPERM) -> EINVAL", r"rename_exchange: content a: b -> a",
                r"rename_whiteout: names \.: .*", f"rename_(exchange|whiteout): {LEFT}")),
    Difference("lseek with SEEK_DATA, SEEK_HOLE", "finds holes", "all is data up to the end", "SFTP does not tell where holes are; they read as zeroes",
               (r"seeking_in_a_sparse_file: first data: 1048576 -> 0", r"seeking_in_a_sparse_file: first hole: 0 -> 1052672")),
    Difference("st_nlink", "the number of names; of a directory, of directories in it", "1", "SFTP does not tell; names of one file made here have one st_ino",
               (r"(?P<case>\w+): look (.*): (\S+ \d+ bytes) [23] names mine -> \3 1 names mine",
                r"a_directory_and_its_parents_count_each_other: .*: 2 -> 0", r"an_open_file_outlives_its_name: size and names: \(10, 0\) -> \(10, 1\)")),
    Difference("st_ctime", "the last change", "as st_mtime", "SFTP does not tell it",
               (r"times_move_with_what_is_done: ctime is of today: True -> False",)),
    Difference("nanoseconds of utimensat", "kept", "cut off", "SFTP has whole seconds; those of a write are shown in full",
               (r"utimensat_nanoseconds: read back: 1100000000987654321 -> 1100000000000000000",)),
    Difference("times before 1970 or after 2106", "kept, as far as the disk can", "the nearest there is", "SFTP has 32 bits for them",
               (r"utimensat_out_of_32_bits: shown after -1: -1 -> 0", r"utimensat_out_of_32_bits: shown after \d+: \d+ -> 4294967295")),
    Difference("a symbolic link to an absolute path", "as it is", "relative to the sandbox's root", "no link leads out of the sandbox",
               (r"symbolic_links_to_absolute_paths: target: /etc/hostname -> [./]+/etc/hostname",)),
    Difference("a removed directory that is still open", "fstat works, and it is empty", "ENOENT", "SFTP knows a directory by its name alone",
               (r"a_directory_that_is_open_or_current_is_removed: list( \.)?: \[\] -> ENOENT",)),
    Difference("a directory deeper than 4095 bytes, reached in steps", "done", "ENAMETOOLONG", "the sandbox's server is told whole paths",
               (r"paths_that_grow_by_steps: 5000 bytes in steps: done -> ENAMETOOLONG", f"paths_that_grow_by_steps: {LEFT}")),
)

# What the sandbox's own programs see of a directory, and we of the local one: sizes and names of directories are their file
# system's affair.
STATE = (r"find . \( -type d -printf '%P %y %m\n' -o -printf '%P %y %m %s %n %l\n' \) | LC_ALL=C sort;"
         r"find . -type f -size -8192k -exec sha256sum {} + | LC_ALL=C sort")


class Posix(MountCase):
    """Filled below: a test for each case."""

    seen: set[Difference] = set()
    missed: set[str] = set()
    errnos: set[str] = set()

    def compare(self, case: Case) -> None:
        name = case.__name__
        local = Live.place.path / "local" / name
        local.mkdir(parents=True)
        expected = outcomes_in(local, case)
        state = subprocess.run(["bash", "-c", STATE], cwd=local, capture_output=True, text=True, errors="surrogateescape",
                               check=True).stdout
        shutil.rmtree(local)
        lines = set()
        for box in (Live.box, Shared.box) if case not in LONG else (Live.box,):
            here = box.path / "fs" / "workspace" / name
            here.mkdir()
            outcomes = outcomes_in(here, case)
            self.assertEqual(list(outcomes), list(expected), f"{name} takes another way in {box.name}")
            event = box.submit(f"cd /workspace/{name}\n{STATE}")
            self.assertEqual(event.wait(), "exited 0")
            theirs = event.stdout.decode(errors="surrogateescape")
            subprocess.run(["rm", "-rf", here], check=True)
            Posix.errnos |= {value for value in outcomes.values() if re.fullmatch("E[A-Z0-9]+", value)}
            found = {f"{name}: {call}: {value} -> {outcomes[call]}" for call, value in expected.items() if value != outcomes[call]}
            left, left_there = set(state.splitlines()), set(theirs.splitlines())
            found |= {f"{name}: left: {line} -> " for line in left - left_there}
            found |= {f"{name}: left:  -> {line}" for line in left_there - left}
            lines |= {f"{line} [{box.name}]" for line in found if not self.explained(line)}
        if "SBXFS_POSIX_SHOW" in os.environ:
            print("\n".join(sorted(lines)), file=sys.stderr)
        self.assertEqual(sorted(lines), [], "what is not as on a local disk")

    @staticmethod
    def explained(line: str) -> bool:
        for difference in DIFFERENCES:
            if difference.explains(line):
                Posix.seen.add(difference)
                return True
        return False


class Shared:
    """A sandbox where others may work: names and closes wait, every open asks."""

    box: Box


class ReadOnly(MountCase):
    def test_what_cannot_be_written_to_in_the_sandbox_is_a_read_only_file_system(self) -> None:
        root = self.box.path / "fs" / "frozen"
        for call, *args in ((os.open, root / "new", os.O_WRONLY | os.O_CREAT), (os.open, root / "new", os.O_RDWR | os.O_CREAT | os.O_EXCL),
                            (os.mkdir, root / "new"), (os.rmdir, root / "d"), (os.symlink, "x", root / "new"), (os.link, root / "f", root / "new"),
                            (os.rename, root / "f", root / "new"), (os.unlink, root / "f"), (os.chmod, root / "f", 0o700), (os.utime, root / "f"),
                            (os.truncate, root / "f", 0), (os.open, root / "f", os.O_WRONLY), (os.open, root / "f", os.O_RDONLY | os.O_TRUNC),
                            (os.mknod, root / "new")):
            with self.subTest(" ".join([call.__name__, *map(str, args)])):
                self.refuse(errno.EROFS, call, *args)
        self.assertEqual((sorted(os.listdir(root)), (root / "f").read_text()), (["d", "f"], "text"))


class PublishedDifferences(MountCase):
    """After the cases, by its name."""

    def test_the_page_lists_exactly_these(self) -> None:
        text = PAGE.read_text().splitlines()
        at = text.index(HEADER)
        rows = []
        for line in text[at + 2:]:
            if not line.startswith("|"):
                break
            rows.append(line)
        self.assertEqual(rows, [difference.row() for difference in DIFFERENCES])

    def test_each_of_them_was_seen(self) -> None:
        if Posix.ran != len(CASES):
            self.skipTest("only some cases were run")
        meant = {difference for difference in DIFFERENCES if ROOT or not difference.for_root_only}
        self.assertEqual({difference.what for difference in meant - Posix.seen}, set())

    def test_each_errno_a_program_can_cause_was_met(self) -> None:
        if Posix.ran != len(CASES):
            self.skipTest("only some cases were run")
        wanted = {"ENOENT", "EEXIST", "ENOTDIR", "EISDIR", "ENOTEMPTY", "ELOOP", "ENAMETOOLONG", "EINVAL", "EPERM", "EBADF", "EOPNOTSUPP",
                  "EFBIG", "ETXTBSY", "EBUSY", "EXDEV"}
        self.assertEqual(wanted - Posix.errnos - {"EACCES"} if ROOT else (wanted | {"EACCES"}) - Posix.errnos, set())


def add(case: Case) -> None:
    def run(self: Posix) -> None:
        Posix.ran += 1
        self.compare(case)
    setattr(Posix, f"test_{case.__name__}", run)


Posix.ran = 0
for each in CASES:
    add(each)


def configure(place: Place) -> str:
    (place.path / "frozen" / "d").mkdir(parents=True)
    (place.path / "frozen" / "f").write_text("text")
    return 'default_template = "default"\n' + "".join(
        f'[templates.{name}]\nprovider = "local"\nworkdir = "/workspace"\nexclusive = {exclusive}\n'
        f'binds = ["{place.path}/frozen:/frozen:ro"]\n'
        for name, exclusive in (("default", "true"), ("shared", "false")))


def prepare() -> None:
    Shared.box = Box.make(Live.daemon, "shared@shared")


if __name__ == "__main__":
    # exec: a mount does not run a sandbox's files unless its user says so.
    main(limit=280, configure=configure, prepare=prepare, options=["exec"])
