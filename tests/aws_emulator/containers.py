"""Real containers: bubblewrap around an image's program. One thread starts them all, reads what they print and sees
them end; it lives as long as the emulator, and every container dies with it, since the kernel ends a process whose
parent thread is gone (--die-with-parent)."""

import contextlib
import os
import queue
import re
import selectors
import shutil
import signal
import subprocess
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from aws_emulator.rootfs import add_program, bubblewrap, copy_shared_etc, make_root

_CHILD = re.compile(rb'"child-pid": *(\d+)\D')
_LONGEST_LINE = 16 << 10  # what the awslogs driver puts into one event


@dataclass
class Plan:
    """What to run, and who wants to know. The callbacks come on the containers' thread."""

    name: str  # of its directory; unique
    argv: list[str]
    environment: dict[str, str]
    workdir: str
    files: dict[str, str]   # see Image
    covers: dict[str, str]
    printed: Callable[[str], None]
    ended: Callable[[int], None]  # exit code, 128 + n for a signal
    started: Callable[[], None]
    failed: Callable[[str], None]  # it could not be started


class Container:
    """One that runs. Every member belongs to the containers' thread, but `kill` may be called by anybody."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.process: Optional[subprocess.Popen[bytes]] = None
        self.first: Optional[int] = None  # its PID 1, as a pidfd
        self.wanted: list[int] = []       # signals that came before that was known
        self.ended = False
        self.lock = threading.Lock()
        self.unread = b""                 # of what it printed, the beginning of a line
        self.info = b""                   # what bubblewrap has said so far
        self.informed = False             # it will say no more: the number of its pipe may be another's by now

    def kill(self, number: int) -> None:
        with self.lock:
            if self.ended:
                return
            if self.first is None:
                self.wanted.append(number)
                return
            try:
                signal.pidfd_send_signal(self.first, number)
            except ProcessLookupError:
                pass  # its end has not been seen yet


class Containers:
    def __init__(self, directory: Path, entrypoint: Path) -> None:
        self._directory = directory
        self._entrypoint = entrypoint
        self._shared = directory / "etc"
        self._selector = selectors.DefaultSelector()
        self._orders: "queue.SimpleQueue[Optional[Container]]" = queue.SimpleQueue()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._orders_came)
        self._closing = False
        self.running: dict[str, Container] = {}
        self._thread = threading.Thread(target=self._run, name="containers", daemon=True)
        self._thread.start()

    def start(self, plan: Plan) -> Container:
        container = Container(plan)
        self._orders.put(container)
        self._wake()
        return container

    def close(self) -> None:
        """Kills what runs and waits for it."""
        self._orders.put(None)
        self._wake()
        self._thread.join()

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"x")
        except BlockingIOError:
            pass  # it is awake

    def _run(self) -> None:
        while not self._closing or self.running:
            for key, _ in self._selector.select():
                # One handler may have ended what another of the same round was about.
                if self._selector.get_map().get(key.fileobj) is not key:
                    continue
                try:
                    key.data()
                except Exception:  # a mistake with one container must not leave the others alone
                    traceback.print_exc()
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _orders_came(self) -> None:
        os.read(self._wake_read, 4096)
        while True:
            try:
                container = self._orders.get_nowait()
            except queue.Empty:
                return
            if container is None:
                self._closing = True
                for one in list(self.running.values()):
                    one.kill(signal.SIGKILL)
            elif not self._closing:
                self._start(container)

    def _start(self, container: Container) -> None:
        plan = container.plan
        root = self._directory / plan.name
        hostname = plan.name[:63]
        info_read, info_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if not self._shared.exists():
                copy_shared_etc(self._shared)
            make_root(root, hostname, plan.workdir, self._entrypoint)
            for name, text in plan.files.items():
                add_program(root, name, text)
            words = bubblewrap(root, self._shared, hostname, plan.workdir, info_write)
            for name, here in plan.covers.items():
                words += ["--ro-bind", here, name]
            for name, value in plan.environment.items():
                words += ["--setenv", name, value]
            container.process = subprocess.Popen([*words, "--", *plan.argv], stdin=subprocess.DEVNULL,
                                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                                 pass_fds=(info_write,), start_new_session=True)
        except OSError as error:
            os.close(info_read)
            shutil.rmtree(root, ignore_errors=True)
            plan.failed(str(error))
            return
        finally:
            os.close(info_write)
        self.running[plan.name] = container
        self._watch(container, info_read)
        plan.started()

    def _watch(self, container: Container, info_read: int) -> None:
        assert container.process is not None and container.process.stdout is not None
        output = container.process.stdout.fileno()
        os.set_blocking(output, False)
        end = os.pidfd_open(container.process.pid)
        watch = self._selector.register
        watch(info_read, selectors.EVENT_READ, lambda: self._informed(container, info_read))
        watch(output, selectors.EVENT_READ, lambda: self._printed(container, output))
        watch(end, selectors.EVENT_READ, lambda: self._ended(container, end, info_read, output))

    def _informed(self, container: Container, info_read: int) -> None:
        said = os.read(info_read, 4096)
        container.info += said
        if said and b"}" not in container.info:
            return  # bubblewrap writes it in pieces, and dies when nobody reads the last
        found = _CHILD.search(container.info)
        self._selector.unregister(info_read)
        os.close(info_read)
        container.informed = True
        if found is None:
            return
        with container.lock:
            try:
                container.first = os.pidfd_open(int(found[1]))
            except ProcessLookupError:
                return
            wanted, container.wanted = container.wanted, []
        for number in wanted:
            container.kill(number)

    def _printed(self, container: Container, output: int) -> bool:
        """Whether there may be more."""
        try:
            data = os.read(output, 1 << 16)
        except BlockingIOError:
            return False
        if not data:
            self._selector.unregister(output)
            return False
        *lines, rest = (container.unread + data).split(b"\n")
        while len(rest) > _LONGEST_LINE:
            lines.append(rest[:_LONGEST_LINE])
            rest = rest[_LONGEST_LINE:]
        container.unread = rest
        for line in lines:
            container.plan.printed(line.decode(errors="replace"))
        return True

    def _ended(self, container: Container, end: int, info_read: int, output: int) -> None:
        assert container.process is not None and container.process.stdout is not None
        known = self._selector.get_map()
        while not container.informed:
            self._informed(container, info_read)
        while output in known and self._printed(container, output):
            pass
        if container.unread:
            container.plan.printed(container.unread.decode(errors="replace"))
        if output in known:
            self._selector.unregister(output)
        container.process.stdout.close()
        with container.lock:
            container.ended = True
            if container.first is not None:
                with contextlib.suppress(ProcessLookupError):  # dead, unless bubblewrap itself was killed
                    signal.pidfd_send_signal(container.first, signal.SIGKILL)
                os.close(container.first)
        code = container.process.wait()
        self._selector.unregister(end)
        os.close(end)
        del self.running[container.plan.name]
        shutil.rmtree(self._directory / container.plan.name, ignore_errors=True)
        container.plan.ended(code if code >= 0 else 128 - code)
