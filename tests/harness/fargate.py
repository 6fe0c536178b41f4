#!/usr/bin/env python3
"""The leak harness: the daemon is killed just before its k-th step (kill_after.cc says what a step is) of the creation and
the destruction of a Fargate sandbox, on the emulator of AWS, where every task is a real sandbox with its own timer.

  remounted   a new daemon takes over; what it shows is removed with rmdir (at odd k once it is ready, else at once):
              no task is left, none was started twice, and nothing is written down any more
  abandoned   no daemon ever comes back: no task is left when max_lifetime has passed
  faults      nobody is killed, but AWS has faults while sandboxes are made, used and removed; k is a schedule: which, when.
              No task is left, none was started twice, every failure is explained, what a living sandbox ran is true

With --every a run is the promise of docs/fargate.md: "How a sandbox ends".
"""

import errno
import os
import random
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness.crash import Session, TracedDaemon, kill_after  # noqa: E402
from harness.sweep import Sweep, arguments, bounded, run  # noqa: E402
from live.aws import Aws, without_account  # noqa: E402
from live.box import Box  # noqa: E402
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

        def waits() -> list[str]:
            found = []
            for one in history.iterdir():
                if (one / "status").read_text() == "stopping\n":
                    error, tasks = (one / "error").read_text().strip(), self.aws.tasks(one.name.rsplit(".", 1)[0])
                    told = [{key: task[key] for key in ("status", "desired", "process", "times")} for task in tasks]
                    found.append(f"{one.name}: {error}; {told}")
            return found
        try:
            wait_until(lambda: not waits(), "the provider has confirmed", limit, pause=0.2)
        except AssertionError as error:
            raise AssertionError(f"{error}: {waits()} at {time.time()}; {self.daemon.tail(60)}") from None

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


# --- a cloud with faults

SCHEDULES = 1000
TROUBLE = 12.0  # seconds of one schedule
USERS = 3
PATIENCE = 25.0  # of a user who waits for a sandbox
STARTUP = 15  # seconds
# Of calls: what is done, and of which. Whatever can be asked again is.
CALLS: list[dict[str, Any]] = [
    {"on": "*", "do": "throttle"}, {"on": "*", "do": "unavailable"}, {"on": "*", "do": "reset"},
    {"on": "*", "do": "truncate", "when": "after"}, {"on": "ecs:RunTask", "do": "reset", "when": "after"},
    {"on": "ecs:RunTask", "do": "stall", "when": "after", "seconds": 2},
    {"on": "ecs:RunTask", "do": "malformed", "when": "after"}, {"on": "ecs:RunTask", "do": "capacity"},
    {"on": "ecs:RunTask", "do": "failure", "reason": "RESOURCE:MEMORY"},
    {"on": "ecs:RunTask", "do": "error", "code": "ServerException", "message": "Service Unavailable", "status": 500},
    {"on": "ecs:DescribeTasks", "do": "missing"}, {"on": "ecs:DescribeTasks", "do": "stall", "seconds": 2},
    {"on": "ecs:DescribeTasks", "do": "malformed"}, {"on": "ecs:ListTasks", "do": "unavailable"},
    {"on": "ecs:StopTask", "do": "throttle"}, {"on": "ecs:StopTask", "do": "unavailable"},
    {"on": "ecs:StopTask", "do": "reset", "when": "after"}, {"on": "ecs:StopTask", "do": "stall", "seconds": 2}]
# Of tasks that RunTask starts.
TASKS: list[dict[str, Any]] = [
    {"end": ending} for ending in ("cannot_pull", "registry_auth", "eni_timeout", "scheduler")] + [
    {"end": {"like": ending, "after": 20}} for ending in ("spot", "out_of_memory", "exited", "termination_notice")] + [
    {"host_key": "wrong"}, {"token": "other"}, {"silent_death": True}, {"delays": {"eni": 20}}]
# What a sandbox whose task died may say of files, and no other.
DEAD = {errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.EACCES, errno.ESTALE, errno.EIO}
ENDED = ("failed", "lost", "expired", "stopped", "unreachable")
# What the daemon may say of all that.
SAID_OF_FAULTS = (*TAKEN_OVER, r"sandbox status ", r"refused op=", r"outcome", r"a change was lost", r"tasks not described")


class User:
    """Makes sandboxes, one after the other, uses and removes them."""

    def __init__(self, attempt: Attempt, name: str, seed: int) -> None:
        self.attempt, self.name = attempt, name
        self.dice = random.Random(seed)
        self.made: list[str] = []
        self.said: list[str] = []  # what was not well
        self.wrong = ""
        self.used = 0

    def run(self, until: float) -> None:
        try:
            while time.monotonic() < until:
                self.one(f"{self.name}-{len(self.made)}")
        except BaseException:  # pylint: disable=broad-except
            self.wrong = traceback.format_exc()

    def one(self, name: str) -> None:
        box = Box(self.attempt.daemon, name)
        self.made.append(name)
        try:
            os.mkdir(box.path)
        except OSError as error:
            assert error.errno == errno.EAGAIN, error
            self.said.append(self.attempt.daemon.last_error())
            return
        if self.dice.random() < 0.3:
            time.sleep(self.dice.choice([0, 0.3, 1]))  # somebody who thinks better of it
        else:
            self.use(box)
        os.rmdir(box.path)

    def use(self, box: Box) -> None:
        deadline = time.monotonic() + PATIENCE
        while box.status == "launching" and time.monotonic() < deadline:
            time.sleep(0.02)
        status = box.status
        if status == "ready":
            return self.work(box)
        error = (box.path / "error").read_text()
        assert error, f"{box.name} is {status} after at most {PATIENCE} s, and nothing says why"
        self.said.append(f"{status}: {error.strip()}")

    def work(self, box: Box) -> None:
        try:
            event = box.run("one", "seq 1000; cat f 2>&1 | cksum")
            (box.path / "work" / "f").write_text("one\n")
            said = event.wait(30)
            if said == "exited 0":
                out = event.stdout.decode().splitlines()
                assert out[:-1] == [str(n) for n in range(1, 1001)], f"{box.name}: {out[-5:]}"
                self.used += 1
                return
            assert said in ("lost", "refused"), said
            why = event.text("error")
        except OSError as error:
            assert error.errno in DEAD, error
            why = str(error)
        # Links have no faults here: its task has ended, and that comes out.
        wait_until(lambda: box.status in ENDED, f"{box.name} is {box.status}, but: {why}", 40)
        text = (box.path / "error").read_text()
        assert text, f"{box.name} is {box.status}, and nothing says why"
        self.said.append(f"{box.status}: {text.strip()}")


def make_trouble(aws: Aws, dice: random.Random, until: float, mine: str) -> list[str]:
    done = []
    while time.monotonic() < until:
        kind = dice.random()
        if kind < 0.6:
            fault = dice.choice(CALLS)
            aws.control("faults", {**fault, "times": dice.randint(1, 3)})
            done.append(f"{fault['do']} of {fault['on']}")
        elif kind < 0.85:
            task = dice.choice(TASKS)
            aws.fault("ecs:RunTask", "task", **task)
            done.append(f"a task with {task}")
        elif living := [task for task in aws.tasks() if task["status"] == "RUNNING" and
                        task["tags"].get("sbxfs:name", "").startswith(mine)]:
            how = dice.choice([{"end": "spot"}, {"end": "exited"}, {"signal": "KILL"}])
            aws.control(f"tasks/{dice.choice(living)['id']}", how)
            done.append(f"{how} of a living task")
        time.sleep(dice.uniform(0.1, 0.8))  # the schedule's pace
    return done


def faults(at: int) -> bool:
    dice = random.Random(at)
    with Attempt(lifetime=600) as attempt, bounded(LIMIT, attempt.abandon):
        assert attempt.daemon.config is not None
        attempt.daemon.config += f'startup_timeout = {STARTUP}\n'
        attempt.daemon.start()
        until = time.monotonic() + TROUBLE
        users = [User(attempt, f"k{at}-{n}", dice.randrange(1 << 30)) for n in range(USERS)]
        threads = [threading.Thread(target=user.run, args=(until,)) for user in users]
        for thread in threads:
            thread.start()
        done = make_trouble(attempt.aws, dice, until, f"k{at}-")
        for thread in threads:
            thread.join()
        wrong = [user.wrong for user in users if user.wrong]
        assert not wrong, "\n".join(wrong) + f"\nafter: {done}"
        attempt.aws.no_faults()
        attempt.await_end()
        assert not attempt.living(), f"left: {attempt.living()}"
        for user in users:
            for name in user.made:
                assert len(attempt.aws.tasks(name)) <= 1, f"{name} was started more than once: {attempt.aws.tasks(name)}"
        attempt.daemon.umount()
        records = [path.name for path in (attempt.daemon.state / "fargate").glob("*.json")]
        assert not records, f"still written down: {records}"
        attempt.check_traces(*SAID_OF_FAULTS)
        said = [one for user in users for one in user.said]
        print(f"{at}: {len(done)} faults, {sum(len(user.made) for user in users)} sandboxes, "
              f"{sum(user.used for user in users)} used, {len(said)} failed", flush=True)
        if os.environ.get("SBXFS_SHOW"):
            print("\n".join(said), flush=True)
        return True


def measure() -> int:
    counts = []
    for _ in range(3):  # threads take turns differently each time
        with Attempt(lifetime=600) as attempt, bounded(LIMIT, attempt.abandon):
            assert not attempt.until_death(life, 0)
            counts.append(attempt.daemon.count())
            attempt.remove_rest(patiently=True)
    Cloud.end()  # the workers, forked from here, have their own
    return max(counts)


SESSIONS = {"remounted": remounted, "abandoned": abandoned, "faults": faults}


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
    drawn = name == "faults"
    return run(Sweep(title=f"fargate {name}", unit="schedules" if drawn else "steps",
                     command=f"tests/harness/fargate.py {name}",
                     measure=(lambda: SCHEDULES) if drawn else measure, attempt=SESSIONS[name], finish=Cloud.end), options)


if __name__ == "__main__":
    sys.exit(main())
