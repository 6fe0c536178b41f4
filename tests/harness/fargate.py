#!/usr/bin/env python3
"""The leak harness: the daemon is killed just before its k-th step (kill_after.cc says what a step is) of the creation and
the destruction of a Fargate sandbox, on the emulator of AWS, where every task is a real sandbox with its own timer.

  remounted   a new daemon takes over; what it shows is removed with rmdir (at odd k once it is ready, else at once):
              no task is left, none was started twice, and nothing is written down any more
  abandoned   no daemon ever comes back: no task is left when max_lifetime has passed

With --every a run is the promise of docs/fargate.md: "How a sandbox ends".
"""

import os
import signal
import sys
from pathlib import Path
from typing import Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness.crash import Session, TracedDaemon, kill_after  # noqa: E402
from harness.sweep import Sweep, arguments, bounded, run  # noqa: E402
from live.aws import Aws, without_account  # noqa: E402
from live.place import Place, isolate, require, skip, wait_until  # noqa: E402

LIMIT = 240.0  # seconds for one k
# An intent without an answer is looked for that long before it is believed that nothing was started (fargate_stop.h).
UNANSWERED = 90.0
LIFETIME = 4  # seconds, of those that nobody comes back to
NAME = "a"
DELAYS = ["delays.pull=2", "delays.eni=1", "delays.provisioning=1", "delays.deprovisioning=1"]
CONFIG = """default_template = "default"
[providers.cloud]
backend = "fargate"
aws_region = "us-east-1"
aws_endpoint_url = "{url}"
ecs_cluster = "sandboxes"
subnets = ["subnet-1"]
security_groups = ["sg-1"]
assign_public_ip = false
execution_role_arn = "arn:aws:iam::123456789012:role/exec"
host_key = "shared"
host_key_secret = "sbxfs/harness"
[templates.default]
provider = "cloud"
image = "sbxfs:latest"
max_lifetime = "{lifetime}s"
"""
# What a daemon may say that takes over: a task that was to end is told so by whoever sees it first.
TAKEN_OVER = (r"still runs: stopped again", r"after a failed launch")


class Cloud:
    """One emulator for all attempts of a worker process: it takes longer to start than an attempt."""

    aws: Optional[Aws] = None
    place: Optional[Place] = None

    @classmethod
    def get(cls) -> Aws:
        if cls.aws is None:
            cls.place = Place()
            cls.aws = Aws(cls.place, settings=DELAYS)
        return cls.aws

    @classmethod
    def end(cls) -> None:
        if cls.place is not None:
            cls.place.end()
        cls.aws = cls.place = None


class Attempt(Session):
    """One k: what the client has asked for, and which of its calls succeeded."""

    def __init__(self, lifetime: int) -> None:
        self.aws = Cloud.get()
        self.lifetime = lifetime
        self.place = Place()
        self.daemon = TracedDaemon(self.place, config=CONFIG.format(url=self.aws.url, lifetime=lifetime))
        self.asked: list[str] = []
        self.heard: list[str] = []
        self.before = {task["arn"] for task in self.aws.tasks()}

    def tasks(self) -> list[dict[str, object]]:
        """Those of this attempt."""
        return [task for task in self.aws.tasks() if task["arn"] not in self.before]

    def living(self) -> list[object]:
        return [task["arn"] for task in self.tasks() if task["status"] != "STOPPED"]

    def mkdir(self) -> None:
        self.asked.append("mkdir")
        os.mkdir(self.daemon.mnt / NAME)
        self.heard.append("mkdir")

    def rmdir(self) -> None:
        self.asked.append("rmdir")
        os.rmdir(self.daemon.mnt / NAME)
        self.heard.append("rmdir")

    def await_end(self, limit: float = UNANSWERED + 30) -> None:
        """Everything that was removed is gone, says the daemon."""
        history = self.daemon.mnt / ".mount" / "history"
        wait_until(lambda: all((one / "status").read_text() != "stopping\n" for one in history.iterdir()),
                   "the provider has confirmed", limit, pause=0.05)

    def remove_rest(self, patiently: bool) -> None:
        """A new daemon shows what the old one promised, and removes it."""
        self.daemon.start()
        there = (self.daemon.mnt / NAME).exists()
        assert there or "mkdir" not in self.heard or "rmdir" in self.asked, "a sandbox is gone that nobody removed"
        assert not (there and "rmdir" in self.heard), "a removed sandbox is there again"
        if there:
            if patiently:
                ready = (self.daemon.mnt / NAME / "ready").read_text()
                assert ready == "ready\n", ready
            os.rmdir(self.daemon.mnt / NAME)
        self.await_end()
        self.daemon.umount()
        assert not self.living(), f"left: {self.living()}"
        assert len(self.tasks()) <= 1, f"started more than once: {self.tasks()}"
        records = [path.name for path in (self.daemon.state / "fargate").glob("*.json")]
        assert not records, f"still written down: {records}"
        self.check_traces(*TAKEN_OVER)


def life(session: Session) -> None:
    assert isinstance(session, Attempt)
    session.mkdir()
    ready = (session.daemon.mnt / NAME / "ready").read_text()
    # On a busy machine a task may be over before it was attached to: its timer has no patience.
    over = session.lifetime == LIFETIME and ready.startswith(("expired", "failed"))
    assert ready == "ready\n" or over, ready
    session.rmdir()
    session.await_end()
    session.daemon.umount()


def remounted(at: int) -> bool:
    with Attempt(lifetime=600) as attempt, bounded(LIMIT, attempt.abandon):
        died = attempt.until_death(life, at)
        attempt.remove_rest(patiently=at % 2 == 1)
        return died


def abandoned(at: int) -> bool:
    with Attempt(lifetime=LIFETIME) as attempt, bounded(LIMIT, attempt.abandon):
        died = attempt.until_death(life, at)
        wait_until(lambda: not attempt.living(), "no task is left", LIFETIME + 20, pause=0.1)
        return died


def measure() -> int:
    counts = []
    for _ in range(3):  # threads take turns differently each time
        with Attempt(lifetime=600) as attempt, bounded(LIMIT, attempt.abandon):
            assert not attempt.until_death(life, 0)
            counts.append(attempt.daemon.count())
            attempt.remove_rest(patiently=True)
    Cloud.end()  # the workers, forked from here, have their own
    return max(counts)


SESSIONS = {"remounted": remounted, "abandoned": abandoned}


def main() -> int:
    require()
    if reason := Aws.missing():
        skip(reason)
    isolate()
    if not os.access(kill_after(), os.X_OK):
        print(f"there is no program {kill_after()} (set SBXFS_KILL_AFTER)", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    without_account()
    options = arguments(__doc__ or "", SESSIONS)
    name = options.session
    return run(Sweep(title=f"fargate {name}", unit="steps", command=f"tests/harness/fargate.py {name}",
                     measure=measure, attempt=SESSIONS[name], finish=Cloud.end), options)


if __name__ == "__main__":
    sys.exit(main())
