"""A private temporary directory for a test that runs the real sbxfs, what such a test needs of the
machine, and the promise that nothing stays behind: neither when it fails, nor when it hangs."""

import atexit
import errno
import faulthandler
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Callable, NoReturn, Optional, TypeVar

SOURCE = Path(__file__).resolve().parents[2]
SKIPPED = 77  # ctest's SKIP_RETURN_CODE of these tests

T = TypeVar("T")


def sbxfs() -> str:
    """The program under test."""
    return os.environ.get("SBXFS_BINARY", str(SOURCE / "build" / "dev" / "sbxfs"))


def missing() -> str:
    """Why tests with a real mount cannot run on this machine; empty when they can."""
    if not os.access(sbxfs(), os.X_OK):
        return f"there is no program {sbxfs()} (set SBXFS_BINARY)"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse: {error.strerror}"
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        return "fusermount3 is missing"
    for program in ("bwrap", "sshd"):
        if shutil.which(program, path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin") is None:
            return f"{program} is missing"
    namespaces = ["bwrap", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "true"]
    tried = subprocess.run(namespaces, capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return "no user namespaces here: " + tried.stderr.strip()
    return ""


def skip(reason: str) -> NoReturn:
    """Ends the script as skipped."""
    print(f"skipped: {reason}", flush=True)
    os._exit(SKIPPED)


def require(needs_root: bool = False) -> None:
    """Ends the script as skipped where the machine lacks what a real mount needs."""
    reason = missing()
    if not reason and needs_root and os.geteuid() != 0:
        reason = "this needs root"
    if reason:
        skip(reason)


def slack(seconds: float) -> float:
    """What a bound is given besides: more where the machine has much else to do."""
    return seconds * max(1.0, os.getloadavg()[0] / (2 * (os.cpu_count() or 1)))


def wait_until(true: Callable[[], T], what: str, limit: float = 20, pause: float = 0.01) -> T:
    """Waits for `true()` and returns it; a deadline says what did not come true, and its last value."""
    deadline = time.monotonic() + limit
    while True:
        value = true()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit} s: {what} (last: {value!r})")
        time.sleep(pause)


def isolate() -> None:
    """Goes on in a mount namespace of its own, without the mounts of tests that run beside this one: a namespace that
    somebody else makes meanwhile copies all mounts it sees, and holds them when they have been unmounted here."""
    mark = "SBXFS_TEST_ISOLATED"
    if os.geteuid() != 0:
        return
    if mark not in os.environ:
        own = ["unshare", "--mount", "--propagation", "private"]
        if subprocess.run([*own, "true"], capture_output=True, check=False).returncode == 0:
            os.environ[mark] = "1"
            os.execvp("unshare", [*own, sys.executable, *sys.argv])
        return
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        point = line.split()[4]
        if "/sbxfs-test-" in point:
            subprocess.run(["umount", "-l", point], check=False, capture_output=True)


class Place:
    """The directory. In memory where programs may run from there, unless the caller says below which directory;
    readable for others, so that a part of a test may run as another user."""

    def __init__(self, below: Optional[str] = None) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="sbxfs-test-", dir=below or scratch()))
        self.path.chmod(0o755)
        self._owner = os.getpid()
        self._at_end: list[Callable[[], None]] = []
        self._ended = threading.Lock()
        atexit.register(self.end)

    def at_end(self, job: Callable[[], None]) -> None:
        """Runs `job` before the directory is removed, the last one given first."""
        self._at_end.append(job)

    def end(self) -> None:
        """Everything away, also what a failed test left mounted. Once, and only in the process that
        made the place."""
        if os.getpid() != self._owner or not self._ended.acquire(blocking=False):
            return
        for job in reversed(self._at_end):
            try:
                job()
            except Exception as error:  # the others still have to run
                print(f"while cleaning up: {error}", file=sys.stderr)
        for point in reversed(mounts_below(self.path)):
            subprocess.run(["umount", "-l", point] if os.geteuid() == 0 else
                           ["fusermount3", "-u", "-z", point], check=False, capture_output=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def watch(self, seconds: float) -> None:
        """Ends the whole script when it takes longer: with the stacks, and cleaned up. A test that
        waits for a file system cannot be told to stop, but its daemon can be ended. On a machine that
        has much else to do it may take that much longer, three times at most."""
        started = time.monotonic()

        def look() -> None:
            left = started + min(slack(seconds), 3 * seconds) - time.monotonic()
            if left > 0:
                timer = threading.Timer(left, look)
                timer.daemon = True
                timer.start()
                return
            print(f"\nstill running after {time.monotonic() - started:.0f} s:", file=sys.stderr)
            faulthandler.dump_traceback(all_threads=True)
            self.end()
            os._exit(1)

        look()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: sys.exit(1))


def scratch() -> str:
    shm = "/dev/shm"
    if os.access(shm, os.W_OK) and not os.statvfs(shm).f_flag & os.ST_NOEXEC:
        return shm
    return os.environ.get("TMPDIR", "/tmp")


def mounts_below(path: Path) -> list[str]:
    """Mount points at or below a path, in the order they were mounted."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4].replace("\\040", " ")
        if point == str(path) or point.startswith(f"{path}/"):
            found.append(point)
    return found


def fill(disk: Path) -> None:
    """A file `fill` there takes all the room that is left."""
    with open(disk / "fill", "ab", buffering=0) as file:
        try:
            while file.write(bytes(1 << 16)):
                pass
        except OSError as error:
            assert error.errno == errno.ENOSPC, error


def file_system_at(path: Path) -> Optional[str]:
    """The type of the file system mounted on exactly this path, without asking it."""
    kind = None
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[4].replace("\\040", " ") == str(path):
            kind = fields[fields.index("-") + 1]
    return kind
