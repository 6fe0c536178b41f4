#!/usr/bin/env python3
"""Measures provider fargate on the emulator of AWS, whose tasks are real sandboxes with a real sshd. Prints one JSON object.

    latency   what sbxfs adds after a task's sshd answers, until `status` is ready: tasks that are ready 2 to 20 s after
              RunTask, host key modes shared, s3 and override, at 0 and 40 ms round trip to AWS and to the sandboxes;
              beside it the same waits with the sleeps that two other systems have in their code
    burst     100 at once: API calls for each
    limits    500 at once under AWS's limits (RunTask 20/s, launches 100 + 20/s), beside what these limits and the starts
              take without sbxfs: a loop that does nothing but call RunTask and wait for sshd
    idle      500 ready, nobody uses them: API calls, memory and threads of the daemon
"""

import argparse
import json
import os
import random
import statistics
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from live.aws import KEY, Aws, without_account  # noqa: E402
from live.daemon import Daemon  # noqa: E402
from live.place import Place, require, skip, wait_until  # noqa: E402

ROLE = "arn:aws:iam::123456789012:role/exec"
# Ready 2 to 20 s after RunTask: an interface after one second, the image after 2 to 20.
UNIFORM = ["delays.missing=0.5", "delays.eni=1", "delays.provisioning=1", "delays.pull=[1, 19]", "delays.running=0.5",
           "time_sshd=true"]
# About what Fargate takes for a small image.
USUAL = ["delays.pull=[4, 12]", "time_sshd=true"]
MODES: dict[str, dict[str, Any]] = {
    "shared": {"host_key": "shared", "host_key_secret": "sbxfs/bench"},
    "s3": {"host_key": "s3", "host_key_bucket": "sbxfs-bucket"},
    "override": {"host_key": "override"},
}


def configuration(url: str, **keys: Any) -> str:
    provider = {"backend": "fargate", "aws_region": "us-east-1", "aws_endpoint_url": url, "ecs_cluster": "sandboxes",
                "subnets": ["subnet-1"], "security_groups": ["sg-1"], "execution_role_arn": ROLE, **keys}
    lines = ['default_template = "default"', "[providers.cloud]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in provider.items()]
    lines += ["[templates.default]", 'provider = "cloud"', 'image = "sbxfs:latest"', 'max_lifetime = "1h"']
    return "\n".join(lines) + "\n"


@contextmanager
def mounted(settings: Sequence[str], **keys: Any) -> Iterator[tuple[Aws, Daemon]]:
    """An emulator in real time and a mount on it; at the end everything is destroyed and nothing may be left."""
    place = Place()
    try:
        aws = Aws(place, scale=1, settings=settings)
        daemon = Daemon(place, config=configuration(aws.url, **keys)).start()
        yield aws, daemon
        daemon.umount()
        left = aws.living()
        assert not left, f"left: {len(left)} tasks"
    finally:
        place.end()


def make(daemon: Daemon, names: Sequence[str]) -> dict[str, float]:
    """mkdir of all, then waits; when each was ready."""
    ready: dict[str, float] = {}

    def wait(name: str) -> None:
        said = (daemon.mnt / name / "ready").read_text()
        ready[name] = time.time()
        assert said == "ready\n", f"{name}: {said}"

    waits = []
    for name in names:
        (daemon.mnt / name).mkdir()
        waits.append(threading.Thread(target=wait, args=(name,)))
        waits[-1].start()
    for one in waits:
        one.join()
    assert len(ready) == len(names), f"{len(ready)} of {len(names)} are ready\n{daemon.tail(20)}"
    return ready


def remove(daemon: Daemon, names: Sequence[str], limit: float = 120) -> None:
    for name in names:
        os.rmdir(daemon.mnt / name)
    history = daemon.mnt / ".mount" / "history"
    wait_until(lambda: all((history / f"{one}" / "status").read_text() != "stopping\n" for one in os.listdir(history)),
               "all are gone", limit, pause=0.5)


def spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {"n": len(ordered), "mean_s": round(statistics.mean(ordered), 3),
            "p95_s": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], 3),
            "max_s": round(ordered[-1], 3)}


# --- what other systems' own sleeps add, with the same tasks


class Waited:
    """A clock that a model moves on."""

    def __init__(self, round_trip_s: float) -> None:
        self.now = 0.0
        self.call_s = 0.1 + round_trip_s  # an API call: what AWS takes to answer, and the way
        self.way_s = round_trip_s

    def call(self) -> float:
        self.now += self.call_s
        return self.now


def nemo(running: float, sshd: float, round_trip_s: float, dice: random.Random) -> float:
    """NeMo Evaluator's EcsFargateSandbox: DescribeTasks with 5 s + 0..3 s between, the base growing by 0.5 s; then the
    address, a banner probe every 2 s, and ssh's tunnel with 3 s slept whatever happens. Its health check is left out."""
    at = Waited(round_trip_s)
    base = 5.0
    while at.call() < running:
        at.now += min(15.0, base) + dice.uniform(0, 3)
        base += 0.5
    at.call(), at.call()
    while at.now + 2 * at.way_s < sshd:
        at.now += 2.0
    at.now += 2 * at.way_s
    return at.now + 3.0


def mngr(running: float, sshd: float, round_trip_s: float, dice: random.Random) -> float:
    """mngr-fargate: DescribeTasks every 5 s, with DescribeNetworkInterfaces beside it; then a whole ssh handshake."""
    at = Waited(round_trip_s)
    at.now = dice.uniform(0, 0.5)  # what came before RunTask's answer
    while True:
        at.call()
        looked = at.now
        at.call()
        if looked >= running:
            break
        at.now += 5.0
    return max(at.now, sshd) + 6 * at.way_s + 0.1


# --- the measurements


def way_in(phases: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What each step of the last attach took, the one that got in: seconds, by the phase that it ended with."""
    begun = max(at for at, one in enumerate(phases) if one["phase"] == "connected")
    return {after["phase"]: (after["at_ms"] - before["at_ms"]) / 1000
            for before, after in zip(phases[begun:], phases[begun + 1:])}


def latency(mode: str, round_trip_ms: int, count: int) -> dict[str, Any]:
    settings = UNIFORM + ([f"round_trip_s={round_trip_ms / 1000}"] if round_trip_ms else [])
    with mounted(settings, assign_public_ip=True, **MODES[mode]) as (aws, daemon):
        if round_trip_ms:
            aws.fault("*", "stall", times=-1, seconds=round_trip_ms / 1000)
        names = [f"b{n}" for n in range(count)]
        ready = make(daemon, names)
        tasks = {task["tags"]["sbxfs:name"]: task for task in aws.tasks()}
        added = [ready[name] - tasks[name]["sshd_at"] for name in names]
        after = [tasks[name]["sshd_at"] - tasks[name]["times"]["createdAt"] for name in names]
        phases = [json.loads((daemon.mnt / name / "info.json").read_text())["phases"] for name in names]
        remove(daemon, names)
    ways = [way_in(one) for one in phases]
    dice = random.Random(1)
    others = {}
    for name, model in (("nemo", nemo), ("mngr_fargate", mngr)):
        waits = []
        for sshd in after:
            for _ in range(100):
                waits.append(model(sshd + 0.5, sshd, round_trip_ms / 1000, dice) - sshd)
        others[name] = spread(waits)
    goal = 0.3 if round_trip_ms == 0 else 0.15 + 12 * round_trip_ms / 1000
    return {"mode": mode, "round_trip_ms": round_trip_ms, "tasks_ready_after_s": [round(min(after), 1), round(max(after), 1)],
            "added": spread(added), "of_it_login_and_attach": spread([sum(one.values()) for one in ways]),
            "steps_median_s": {step: round(statistics.median(one[step] for one in ways), 3) for step in ways[0]},
            "goal_mean_s": round(goal, 2), "goal_p95_s": round(2 * goal, 2), "coded_sleeps_of": others}


def burst(count: int) -> dict[str, Any]:
    with mounted(USUAL, assign_public_ip=True, **MODES["shared"]) as (aws, daemon):
        names = [f"b{n}" for n in range(count)]
        before = sum(aws.calls().values())
        make(daemon, names)
        calls = aws.calls()
        made = sum(calls.values()) - before
        remove(daemon, names)
        all_calls = sum(aws.calls().values()) - before
    return {"sandboxes": count, "calls_until_ready": made, "calls_each": round(made / count, 2), "goal_each": 3,
            "calls_each_with_the_end": round(all_calls / count, 2), "by_action": calls}


def floor(count: int) -> float:
    """The seconds that limits and starts take without sbxfs: RunTask as fast as it is allowed, until every sshd answers."""
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import ClientError

    place = Place()
    try:
        aws = Aws(place, scale=1, settings=USUAL)
        ecs = botocore.session.Session().create_client(
            "ecs", "us-east-1", endpoint_url=aws.url, aws_access_key_id=KEY, aws_secret_access_key="secret",
            config=Config(retries={"total_max_attempts": 1}, max_pool_connections=8))
        container = {"name": "main", "image": "sbxfs:latest", "essential": True}
        definition = ecs.register_task_definition(
            family="floor", networkMode="awsvpc", requiresCompatibilities=["FARGATE"], cpu="256", memory="512",
            containerDefinitions=[container])["taskDefinition"]["taskDefinitionArn"]
        network = {"awsvpcConfiguration": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"]}}
        environment = [{"name": "SBXFS_CLIENT_KEY", "value": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBench"},
                       {"name": "SBXFS_MAX_LIFETIME_S", "value": "3600"}]
        begun = time.time()
        started = 0
        while started < count:
            try:
                said = ecs.run_task(cluster="sandboxes", taskDefinition=definition, launchType="FARGATE",
                                    networkConfiguration=network,
                                    overrides={"containerOverrides": [{"name": "main", "environment": environment}]})
                started += len(said["tasks"])
            except ClientError:
                time.sleep(0.02)
        wait_until(lambda: all(task["sshd_at"] for task in aws.tasks()), "every sshd answers", 300, pause=0.5)
        return max(task["sshd_at"] for task in aws.tasks()) - begun
    finally:
        place.end()


def daemon_facts(daemon: Daemon) -> dict[str, int]:
    assert daemon.process is not None
    lines = Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    return {"rss_mib": int(facts["VmRSS"].split()[0]) // 1024, "threads": int(facts["Threads"])}


def limits_and_idle(count: int, minutes: float) -> dict[str, Any]:
    alone = floor(count)
    with mounted(USUAL, assign_public_ip=True, **MODES["shared"]) as (aws, daemon):
        names = [f"b{n}" for n in range(count)]
        begun = time.time()
        ready = make(daemon, names)
        took = max(ready.values()) - begun
        errors = [name for name in names if (daemon.mnt / name / "error").read_text()]
        said = (daemon.mnt / ".mount" / "last_error").read_text()
        complaints = daemon.complaints(())
        tasks = aws.tasks()
        answered = max(task["sshd_at"] for task in tasks) - begun
        calls = sum(aws.calls().values())
        time.sleep(10)  # what the last one still has to say
        before = sum(aws.calls().values())
        time.sleep(minutes * 60)
        idle = sum(aws.calls().values()) - before
        facts = daemon_facts(daemon)
        remove(daemon, names, 300)
    return {"limits": {"sandboxes": count, "ready_after_s": round(took, 1), "last_sshd_after_s": round(answered, 1),
                       "without_sbxfs_s": round(alone, 1), "ratio": round(took / alone, 2), "goal_ratio": 1.5,
                       "tasks_started": len(tasks), "calls_each": round(calls / count, 2),
                       "errors_shown": len(errors) + (1 if said.strip() else 0) + len(complaints)},
            "idle": {"sandboxes": count, "minutes": minutes, "calls": idle, "calls_per_minute": round(idle / minutes, 2),
                     "goal_calls_per_minute": 2, **facts, "goal_rss_mib": 150, "goal_threads": 32}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="latency, burst, limits; default: all")
    parser.add_argument("--tasks", type=int, default=24, help="of each row of latency")
    parser.add_argument("--modes", nargs="+", choices=sorted(MODES), default=list(MODES))
    parser.add_argument("--round-trips", nargs="+", type=int, default=[0, 40], metavar="MS")
    parser.add_argument("--burst", type=int, default=100)
    parser.add_argument("--many", type=int, default=500)
    parser.add_argument("--idle-minutes", type=float, default=6)
    options = parser.parse_args()
    require()
    if reason := Aws.missing():
        skip(reason)
    without_account()
    parts: dict[str, Callable[[], Any]] = {
        "latency": lambda: [latency(mode, ms, options.tasks) for ms in options.round_trips for mode in options.modes],
        "burst": lambda: burst(options.burst),
        "limits": lambda: limits_and_idle(options.many, options.idle_minutes),
    }
    out: dict[str, Any] = {}
    for name in options.what or parts:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        load: Optional[tuple[float, float, float]] = os.getloadavg()
        found = parts[name]()
        out.update(found if name == "limits" else {name: found})
        out.setdefault("load_before", {})[name] = round(load[0], 1) if load else None
    out["cores"] = os.cpu_count()
    print(json.dumps(out, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
