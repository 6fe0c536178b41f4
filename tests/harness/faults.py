#!/usr/bin/env python3
"""Faults of links, mixed, for long: sandboxes of providers ssh and local on one mount, each behind a link that breaks by a
seeded schedule while workers run commands, write, save and read.

  of a machine   its sshd is killed, restarted, stopped (SIGSTOP), shows another host key; a stranger's sshd has its address
  of a link      reset every 200 ms under 100 MB of output, silent in both directions or one, half-open, trickling, late
  of this side   the daemon is stopped for a while, as by a laptop that sleeps

Afterwards each command has run at most once, and what is called complete is so to the byte; a refused one has not begun
and names the change that is missing; what was fsynced is there; what was answered ahead is there, or its loss was reported;
no wait outlasts its bound; a killed client is free within its bound; the gauges of .mount/metrics and the kernel's count of
requests are back at 0; a sandbox whose link was never touched has noticed nothing.

--seconds N goes on so long, at least until every fault was tried. SBXFS_SEED repeats a schedule."""

import argparse
import contextlib
import multiprocessing
import os
import queue
import random
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Iterator, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness.fault_sites import LocalSite, Site, SshSite, big_digest  # noqa: E402
from harness.fault_workers import Clock, Commands, Files, OP_TIMEOUT, Probes, Report, Worker, work  # noqa: E402
from harness.ledger import Call, Ledger, Sandbox, digest  # noqa: E402
from harness.relay import PortRelay  # noqa: E402
from harness.soak import ZERO, attended, settle  # noqa: E402
from live.box import Box  # noqa: E402
from live.daemon import Daemon  # noqa: E402
from live.place import Place, isolate, require, sbxfs, wait_until  # noqa: E402
from live.sshd import Sshd  # noqa: E402

UNKNOWN = "may or may not have been made"
# What the daemon is meant to say of all this.
ALLOWED = (r"refused op=", r"outcome", r"sandbox status ", r"a change was lost", r"link", r"attach", r"reconnect")


class Faults:
    def __init__(self, seed: int, seconds: float) -> None:
        self.dice = random.Random(seed)
        self.seconds = seconds
        self.place = Place()
        self.starts = self.place.path / "starts"
        self.starts.mkdir()
        self.daemon = Daemon(self.place, options=[f"op_timeout={OP_TIMEOUT:g}"])
        self.stranger = Sshd(self.place, "stranger")
        self.alone = SshSite("x@alone", self.place, self.stranger)
        self.shared = SshSite("y@shared", self.place, self.stranger)
        self.local = LocalSite("l")
        self.sites: list[Any] = [self.alone, self.shared, self.local]
        self.clock = Clock()
        self.failed: list[str] = []
        self.suspended = 0

    def configure(self) -> str:
        text = f"""default_template = "local"
[templates.local]
provider = "local"
workdir = "/workspace"
binds = ["{self.starts}:/starts:rw"]
"""
        for site in (self.alone, self.shared):
            kind = site.name.split("@")[1]
            site.sshd.start()
            site.relay = PortRelay(site.sshd.port)
            text += f"""[providers.{kind}]
backend = "ssh"
host = "127.0.0.1"
port = {site.relay.port}
user = "{site.sshd.user}"
identity_file = "{site.sshd.identity}"
agent = false
host_key = "{site.sshd.host_keys[0]}"
[templates.{kind}]
provider = "{kind}"
workdir = "{site.sshd.home}/work"
exclusive = {str(site is self.alone).lower()}
"""
        # Whoever is let in by the stranger has shown it a key; it would let them in.
        self.stranger.authorize((self.alone.sshd.path / "identity.pub").read_text().strip())
        self.stranger.authorize((self.shared.sshd.path / "identity.pub").read_text().strip())
        self.stranger.start()
        return text

    def crew(self, stop: Any) -> list[Worker]:
        made: list[Worker] = []
        boxes = [site.name for site in self.sites]
        for name in (*boxes, "m"):
            inside = str(self.starts) if "@" in name else "/starts"
            for kind in (Commands, Files):
                made.append(kind(self.daemon.mnt, self.starts, inside, name, len(made), self.dice.randrange(1 << 30),
                                 self.clock, stop, name == "m"))
        for _ in range(2):
            made.append(Probes(self.daemon.mnt, self.starts, "/starts", "m", len(made), self.dice.randrange(1 << 30),
                               self.clock, stop, False, boxes=boxes))
        return made

    def run(self) -> None:
        # The workers first: they must not hold what is about to be opened, or a reset would reach nobody.
        go, stop, told = multiprocessing.Event(), multiprocessing.Event(), multiprocessing.Queue()
        crew = self.crew(stop)
        processes = [multiprocessing.Process(target=work, args=(worker, go, told)) for worker in crew]
        for process in processes:
            process.start()
        try:
            self.begin(crew)
            self.reports = self.load(go, stop, told, processes)
        finally:
            stop.set()
            go.set()
            for process in processes:
                process.join(5)
                if process.is_alive():
                    process.kill()
        if not self.failed:
            self.check()
        self.tell()

    def begin(self, crew: list[Worker]) -> None:
        self.daemon.config = self.configure()
        self.daemon.start()
        for site in self.sites:
            site.begin(self.daemon)
        self.untouched = Box.make(self.daemon, "m")
        for worker in crew:
            if isinstance(worker, Files):
                worker.path("").mkdir()
        for site in self.sites:
            (site.box.path / "work" / "shared").mkdir()
            for worker in crew:
                if isinstance(worker, Probes):
                    own = site.box.path / "work" / f"p{worker.number}"
                    own.mkdir()
                    (own / "read").write_bytes(b"r" * 10_000)
            site.box.sh("true")

    def load(self, go: Any, stop: Any, told: Any, processes: list[Any]) -> list[Report]:
        big_digest()
        until = time.monotonic() + self.seconds
        ended = threading.Event()
        threads = []
        for site, first in self.deal():
            threads.append(threading.Thread(target=self.guard, args=(site.name, lambda site=site, first=first, seed=self.dice.randrange(
                1 << 30): site.run(random.Random(seed), first, until, ended), ended)))
        threads.append(threading.Thread(target=self.guard, args=("suspend", lambda: self.suspend(until, ended), ended)))
        go.set()
        for thread in threads:
            thread.start()
        reports: list[Report] = []
        while any(thread.is_alive() for thread in threads):
            self.hear(told, reports, 0.2)
            if reports or self.failed:
                ended.set()
        stop.set()
        for thread in threads:
            thread.join()
        deadline = time.monotonic() + 6 * OP_TIMEOUT
        while len(reports) + len(self.failed) < len(processes) and time.monotonic() < deadline:
            self.hear(told, reports, 1)
        if not self.failed and len(reports) < len(processes):
            self.failed.append(f"only {len(reports)} of {len(processes)} workers have ended")
        return reports

    def hear(self, told: Any, reports: list[Report], limit: float) -> None:
        with contextlib.suppress(queue.Empty):
            said = told.get(timeout=limit)
            if isinstance(said, Report):
                reports.append(said)
            else:
                self.failed.append(said)

    def guard(self, name: str, job: Callable[[], None], ended: threading.Event) -> None:
        try:
            job()
        except BaseException:  # pylint: disable=broad-except
            self.failed.append(f"{name}: {traceback.format_exc()}")
            ended.set()

    def deal(self) -> list[tuple[Site, list[str]]]:
        """Each fault is tried at one sandbox at least, before any is tried again."""
        hands: dict[str, list[str]] = {site.name: [] for site in self.sites}
        for fault in self.alone.faults():
            able = [site for site in self.sites if fault in site.faults()]
            hands[min(able, key=lambda site: (len(hands[site.name]), self.dice.random())).name].append(fault)
        for hand in hands.values():
            self.dice.shuffle(hand)
        return [(site, hands[site.name]) for site in self.sites]

    def suspend(self, until: float, ended: threading.Event) -> None:
        assert self.daemon.process is not None
        dice = random.Random(self.dice.randrange(1 << 30))
        while True:
            if ended.wait(dice.uniform(4, 15)) or time.monotonic() > until:
                if self.suspended or ended.is_set():
                    return
            self.clock.stop()
            self.daemon.process.send_signal(signal.SIGSTOP)
            ended.wait(dice.choice([0.5, 2, OP_TIMEOUT + 1]))
            self.daemon.process.send_signal(signal.SIGCONT)
            self.clock.go_on()
            self.suspended += 1

    # --- afterwards

    def check(self) -> None:
        for site in self.sites:
            site.await_ready()
        last_error = (self.daemon.mnt / ".mount" / "last_error").read_text()
        log = self.daemon.log.read_text(errors="replace")
        for report in self.reports:
            said = report.said + last_error + log
            for problem in (*self.wrong_commands(report), *self.wrong_files(report, said)):
                self.failed.append(f"{report.box}: {problem}")
        for site in self.sites:
            # A loss that nobody has heard of yet stops one command.
            (site.box.path / "error").read_text()
            site.box.run("heard", "true").wait()
            if site.box.sh("echo well") != "well\n":
                self.failed.append(f"{site.name} does not work any more")
        if self.stranger.listing():
            self.failed.append(f"something was done on the stranger's machine: {self.stranger.listing()}")
        if not [fault for fault in self.alone.faults()
                if not any(fault in site.tried for site in self.sites)] == []:
            self.failed.append("not every fault was tried")
        wait_until(lambda: self.daemon.waiting() == 0, "the kernel waits for nothing", 40)
        boxes = [site.box for site in self.sites] + [self.untouched]
        busy: list[str] = []

        def idle() -> bool:
            busy[:] = [f"{name} is {value:g}" for name, value in settle(self.daemon.mnt, boxes).items()
                       if name.startswith(ZERO) and value != 0]
            return not busy
        try:
            wait_until(idle, "every gauge is 0 again", 40, pause=0.3)
        except AssertionError:
            self.failed.extend(busy)
        self.failed.extend(f"log: {line}" for line in self.daemon.complaints(ALLOWED))

    def wrong_commands(self, report: Report) -> Iterator[str]:
        ledger = Ledger(self.daemon, self.starts)
        sandbox = Sandbox(report.box, 1)
        self.outcomes = getattr(self, "outcomes", {})
        for command in report.commands:
            count = ledger.started(command)
            if count > 1:
                yield f"{command.token} ran {count} times"
            if command.submit is not Call.ACKNOWLEDGED:
                continue
            event = ledger.event(sandbox, command)
            said = (event / "wait.60").read_text().strip()
            self.outcomes[said] = self.outcomes.get(said, 0) + 1
            if said == "refused":
                why = (event / "error").read_text()
                untouched = report.box == "m" and not any(
                    one.box == "m" and "ETIMEDOUT" in one.refusals for one in self.reports)
                if ledger.started(command) or not any(word in why for word in ("work", UNKNOWN)) or untouched:
                    yield f"{command.token} is refused, was started {ledger.started(command)} times, and says: {why}"
                continue
            try:
                ledger.check_ended(event, command)
            except AssertionError as error:
                yield str(error)

    def wrong_files(self, report: Report, said: str) -> Iterator[str]:
        site = next((one for one in self.sites if one.name == report.box), None)
        truth = site.truth() if site is not None else self.untouched.path / "work"
        for key, want in {**report.durable, **report.answered}.items():
            seen = {where: content(root / key) for where, root in
                    (("the sandbox", truth), ("the mount", self.daemon.mnt / report.box / "work"))}
            for where, got in seen.items():
                if got == want:
                    continue
                if key in report.durable:
                    yield f"{key} was fsynced and is {'gone' if got is None else 'another'} in {where}"
                elif f"/{key}" not in said:
                    yield f"{key} is {'gone' if got is None else 'another'} in {where}, and nobody has said so"
        for key, might in report.possible.items():
            if any(str(one).startswith("prefix") for one in might):
                continue  # torn: nobody has said that it is whole
            got = content(truth / key)
            if got not in might and f"/{key}" not in said:
                yield f"{key} is what it can never have been"

    def tell(self) -> None:
        longest: dict[str, float] = {}
        refusals: dict[str, int] = {}
        for report in getattr(self, "reports", []):
            for what, took in report.longest.items():
                longest[what] = max(took, longest.get(what, 0))
            for code, count in report.refusals.items():
                refusals[code] = refusals.get(code, 0) + count
        reports = getattr(self, "reports", [])
        for report in reports:
            for what, there in report.where.items():
                if there:
                    print(f"faults: {report.longest[what]:.2f} s: {what}: {there}")
        print(f"faults: {sum(len(site.tried) for site in self.sites)} faults, daemon stopped {self.suspended} times; "
              + "; ".join(f"{site.name}: {', '.join(site.tried)}; ready again after at most {site.recovered:.1f} s, "
                          f"half-open for at most {site.noticed:.1f} s"
                          for site in self.sites))
        print(f"faults: {sum(report.operations for report in reports)} operations, refusals {refusals}, "
              f"{sum(len(report.commands) for report in reports)} commands {getattr(self, 'outcomes', {})}, "
              f"{sum(len(report.durable) for report in reports)} files fsynced, "
              f"{sum(len(report.answered) for report in reports)} answered, EIO {sum(report.lost for report in reports)}")
        print("faults: longest, s: " + ", ".join(f"{what} {took:.2f}" for what, took in sorted(longest.items()))
              + "; median of the control tree "
              + f"{max([report.medians.get('control tree', 0) for report in reports] or [0]) * 1000:.1f} ms", flush=True)

    def finish(self) -> list[str]:
        left = [f"supervisor {pid} of {site.name}" for site in (self.alone, self.shared) for pid in site.sshd.supervisors()]
        left += [f"{site.name}: .sbxfs" for site in (self.alone, self.shared) if ".sbxfs" in site.sshd.listing()]
        for site in self.sites:
            site.end()
        self.stranger.stop()
        return left


def content(path: Path) -> Optional[str]:
    try:
        return digest(path.read_bytes())
    except FileNotFoundError:
        return None


def main() -> int:
    require()
    isolate()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SBXFS_SEED", "0")))
    options = parser.parse_args()
    seed = options.seed or random.SystemRandom().randrange(1, 1 << 31)
    print(f"faults: {options.seconds:g} s, seed {seed}, {sbxfs()}", flush=True)
    faults = Faults(seed, options.seconds)
    return attended("faults", faults, options.seconds, faults.run, faults.finish)


if __name__ == "__main__":
    sys.exit(main())
