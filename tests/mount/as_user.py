#!/usr/bin/env python3
"""as_user.py SCRIPT [ARGS]: runs a test script as an ordinary user who mounts through fusermount3.

For root only, who becomes such a user in a mount namespace of its own: with a name, a home, a readable copy of
program and tests, and a /dev/fuse and fusectl as most machines have them. Anybody else runs the scripts themselves."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.far import library, round_trip  # noqa: E402
from live.place import SKIPPED, SOURCE, sbxfs, skip  # noqa: E402

USER, NUMBER = "sbxfs-tester", 61234
BECOME = ["setpriv", "--reuid", str(NUMBER), "--regid", str(NUMBER), "--clear-groups"]


def run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True)


def interpreter() -> str:
    """A Python which that user can run: root's own may lie in root's home."""
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        # By way of sh: setpriv itself keeps root's rights until it executes something.
        tried = subprocess.run([*BECOME, "sh", "-c", 'exec "$0" -c ""', python],
                               capture_output=True, check=False)
        if tried.returncode == 0:
            return python
    print("skipped: another user can run no python3", flush=True)
    sys.exit(SKIPPED)


def inside(place: Path, words: list[str]) -> None:
    """In the namespace: furnishes `place`, and becomes the user."""
    # The copies here would keep the mounts of tests that run beside this one.
    for point in reversed([line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]):
        if "/sbxfs-test-" in point:
            subprocess.run(["umount", "-l", point], check=False, capture_output=True)
    run("mount", "-t", "tmpfs", "-o", "mode=755", "none", place)
    for part in ("tests", "docs"):
        (place / part).mkdir()
        run("mount", "--bind", SOURCE / part, place / part)
    shutil.copy(SOURCE / "README.md", place)
    shutil.copy(sbxfs(), place / "sbxfs")
    (place / "sbxfs").chmod(0o755)
    (place / "README.md").chmod(0o644)

    fuse = place / "fuse"
    os.mknod(fuse, stat.S_IFCHR, os.stat("/dev/fuse").st_rdev)
    fuse.chmod(0o666)
    run("mount", "--bind", fuse, "/dev/fuse")

    connections = Path("/sys/fs/fuse/connections")
    if not any(connections.iterdir()):
        run("mount", "-t", "fusectl", "none", connections)

    home = place / "home"
    home.mkdir()
    os.chown(home, NUMBER, NUMBER)
    accounts = place / "passwd"
    accounts.write_text(Path("/etc/passwd").read_text() +
                        f"{USER}:x:{NUMBER}:{NUMBER}::{home}:/bin/sh\n")
    accounts.chmod(0o644)
    run("mount", "--bind", accounts, "/etc/passwd")

    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(home), "USER": USER,
                   "SBXFS_BINARY": str(place / "sbxfs"), "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("SBXFS_TEST_OPTIONS", "SBXFS_TEST_LINK"):  # the ways in which whole tiers are run
        environment |= {name: os.environ[name]} if name in os.environ else {}
    if round_trip():
        shutil.copy(library(), place / "far_link.so")
        (place / "far_link.so").chmod(0o755)
        environment["SBXFS_FAR_LINK"] = str(place / "far_link.so")
    script = place / "tests" / "mount" / words[0]
    os.chdir("/")
    os.execvpe("setpriv", [*BECOME, interpreter(), str(script), *words[1:]], environment)


def main(words: list[str]) -> None:
    if words and words[0] == "--inside":
        inside(Path(words[1]), words[2:])
    if os.geteuid() != 0:
        skip("for root only: it becomes an ordinary user, which you already are")
    for program in ("setpriv", "unshare", "fusermount3"):
        if shutil.which(program) is None:
            skip(f"{program} is missing")
    if not os.path.exists("/dev/fuse"):
        skip("there is no /dev/fuse")
    namespace = ["unshare", "--mount", "--propagation", "private"]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode != 0:
        skip("no mount namespaces here")
    place = tempfile.mkdtemp(prefix="sbxfs-user-", dir="/tmp")
    try:
        done = subprocess.run([*namespace, sys.executable, __file__, "--inside", place, *words],
                              check=False)
    finally:
        os.rmdir(place)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main(sys.argv[1:])
