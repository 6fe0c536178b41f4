"""Everything about the emulator that can be set, at its start (--set KEY=JSON) and while it runs (/_control/settings).
All seconds are the services' own: a time scale of 10 makes them ten times as short."""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

Seconds = Any  # a number, or [least, most]: drawn anew for each task


@dataclass
class Delays:
    """How long a task stays in each step. About what Fargate takes for a small image."""

    missing: Seconds = 0.5         # after RunTask, until DescribeTasks knows the task; before that it is MISSING
    listed: Seconds = 1.0          # after RunTask, until ListTasks has it
    eni: Seconds = 3.0             # after RunTask, until the network interface is attached
    provisioning: Seconds = 4.0    # after RunTask, until PENDING; not before the interface is attached
    pull: Seconds = 8.0            # PENDING until the image is there and containers start
    running: Seconds = 1.0         # containers started until RUNNING is shown
    sshd: Seconds = 0.0            # RUNNING or not, the container's program starts that much later
    deactivating: Seconds = 0.5    # stop asked for until containers get TERM
    stopping: Seconds = 0.5        # TERM until a container without a process has ended; real ones take what they take
    deprovisioning: Seconds = 5.0  # containers gone until STOPPED
    log: Seconds = 5.0             # a line printed until CloudWatch Logs shows it


@dataclass
class Rates:
    """[per second, burst], set at the start. Of what is throttled, in calls; `launch` in tasks."""

    run_task: list[float] = field(default_factory=lambda: [20, 20])
    launch: list[float] = field(default_factory=lambda: [20, 100])
    register: list[float] = field(default_factory=lambda: [1, 5])
    stop_task: list[float] = field(default_factory=lambda: [40, 100])
    ecs_read: list[float] = field(default_factory=lambda: [20, 100])
    ec2_read: list[float] = field(default_factory=lambda: [20, 100])
    logs_read: list[float] = field(default_factory=lambda: [10, 25])


@dataclass
class Settings:
    real: bool = True            # containers are processes; else they are only said to run
    delays: Delays = field(default_factory=Delays)
    rates: Rates = field(default_factory=Rates)
    forget_s: float = 3600       # STOPPED until ECS has forgotten the task
    vcpus: float = 0             # the account's limit; 0: none
    session_s: float = 0         # temporary credentials last at most so long, of real seconds; 0: as asked
    external_id: str = ""        # what AssumeRole must be given
    roles_not_assumable: list[str] = field(default_factory=list)  # ARNs that ECS cannot assume
    reuse: str = "oldest"        # address of a new task: the free one that was given back longest ago, or "newest"
    time_sshd: bool = False      # /_control/tasks says when each task's sshd first answered
    round_trip_s: float = 0      # real seconds to a task's public address and back
    log_empty_pages: int = 0     # FilterLogEvents answers that many empty pages first, as it may
    seed: int = 1                # of what is drawn

    def change(self, changes: dict[str, Any]) -> None:
        """Unknown names are an error, and nothing is changed."""
        _change(self, changes, "")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def _change(to: Any, changes: dict[str, Any], path: str) -> None:
    known = {one.name for one in fields(to)}
    for name in changes:
        if name not in known:
            raise ValueError(f"there is no setting {path}{name}; there are {', '.join(sorted(known))}")
    for name, value in changes.items():
        if isinstance(value, dict):
            _change(getattr(to, name), value, f"{path}{name}.")
        else:
            setattr(to, name, value)


def parse_assignment(text: str) -> dict[str, Any]:
    """`delays.pull=2`, `real=false`, `reuse="newest"`: the value is JSON, or else the text as it is."""
    path, _, value = text.partition("=")
    try:
        parsed: Any = json.loads(value)
    except ValueError:
        parsed = value
    for name in reversed(path.split(".")):
        parsed = {name: parsed}
    return dict(parsed)
