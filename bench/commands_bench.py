#!/usr/bin/env python3
"""How fast commands are, and how soon a change is heard of. Usage: commands_bench.py MOUNTPOINT DAEMON_PID; prints
one JSON object. bench/run.sh mounts a fresh file system and calls it.

  run_200       200 commands of `true` in run/, 16 at a time, each waited for, by plain open(2), write(2), read(2) and
                close(2); and the same by ssh(1) through one master connection into the same sandbox, with nothing to
                read in the home directory
  wake_up       from the moment a command writes a line, or ends, to the moment poll(2) has woken its reader
"""

import json
import os
import select
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable

COUNT, AT_ONCE, ROUNDS = 200, 16, 5
LINES = 60


def cpu_ms(pids: list[int]) -> float:
    """Of these processes themselves, not of what they have started."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total * 1000 / os.sysconf("SC_CLK_TCK")


def at_once(work: Callable[[int], None]) -> float:
    """Seconds for COUNT pieces of work by AT_ONCE threads."""
    left = iter(range(COUNT))
    lock = threading.Lock()

    def take() -> None:
        while True:
            with lock:
                number = next(left, None)
            if number is None:
                return
            work(number)

    threads = [threading.Thread(target=take) for _ in range(AT_ONCE)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - started


def supervisors(inside: str) -> list[int]:
    """The supervisor's processes in the sandbox with this pid namespace."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.readlink(f"/proc/{entry}/ns/pid") == inside and \
                    b"sbxfs-supervisor" in Path(f"/proc/{entry}/cmdline").read_bytes():
                found.append(int(entry))
        except OSError:
            pass  # somebody else's, or gone meanwhile
    return found


def run_200(box: Path, daemon: int, ssh: list[str]) -> dict[str, Any]:
    (box / "run" / "where").write_text("readlink /proc/self/ns/pid")
    assert (box / "events" / "where" / "wait").read_text() == "exited 0\n"
    programs = [daemon, *supervisors((box / "events" / "where" / "stdout").read_text().strip())]

    def command(round_: int, number: int) -> None:
        name = f"r{round_}-{number}"
        fd = os.open(f"{box}/run/{name}", os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"true")
        os.close(fd)
        fd = os.open(f"{box}/events/{name}/wait", os.O_RDONLY)
        said = os.read(fd, 100)
        os.close(fd)
        assert said == b"exited 0\n", said

    def by_ssh(_: int) -> None:
        subprocess.run([*ssh, "true"], check=True, stdin=subprocess.DEVNULL)

    by_ssh(0)  # the master connection
    ours, theirs, cpu = [], [], []
    for round_ in range(ROUNDS):
        before = cpu_ms(programs)
        ours.append(at_once(lambda number: command(round_, number)))
        cpu.append((cpu_ms(programs) - before) / COUNT)
        theirs.append(at_once(by_ssh))
    return {"count": COUNT, "at_once": AT_ONCE, "rounds": ROUNDS,
            "sbxfs_s": sorted(ours), "ssh_s": sorted(theirs),
            "times_as_fast": statistics.median(theirs) / statistics.median(ours),
            "cpu_ms_per_command": sorted(cpu), "processes_counted": len(programs)}


def wake_up(box: Path) -> dict[str, Any]:
    # Lines with their time, far enough apart to be changes of their own; one kernel, one clock.
    script = f"for i in $(seq {LINES}); do sleep 0.05; date +%s%N; done"
    (box / "run" / "lines").write_text(script)
    event = box / "events" / "lines"
    fd = os.open(event / "stdout", os.O_RDONLY)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    late, wakes, seen = [], 0, b""
    while seen.count(b"\n") < LINES:
        poll.poll()
        now = time.time_ns()
        wakes += 1
        new = os.pread(fd, 1 << 16, len(seen))
        late += [(now - int(line)) / 1e6 for line in new.split()]
        seen += new
    os.close(fd)
    ends = []
    for number in range(20):
        name = f"end{number}"
        (box / "run" / name).write_text("sleep 0.05; date +%s%N")
        fd = os.open(box / "events" / name / "status", os.O_RDONLY)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while os.pread(fd, 100, 0) != b"exited\n":
            poll.poll()
        now = time.time_ns()
        os.close(fd)
        ends.append((now - int((box / "events" / name / "stdout").read_text())) / 1e6)
    return {"lines": LINES, "line_ms": spread(late), "wake_ups_per_line": wakes / LINES, "end_ms": spread(ends)}


def spread(values: list[float]) -> dict[str, float]:
    values = sorted(values)
    return {"median": statistics.median(values), "p95": values[int(len(values) * 0.95)], "max": values[-1]}


def main() -> None:
    mount, daemon = Path(sys.argv[1]), int(sys.argv[2])
    box = mount / "bench"
    box.mkdir()
    assert (box / "ready").read_text() == "ready\n"
    home = mount.parent / "home"
    home.mkdir()
    ssh = ["ssh", "-F", str(box / "ssh" / "config"), "-o", "ControlMaster=auto", "-o", "ControlPersist=60",
           "-o", f"ControlPath={home}/master", "bench"]
    os.environ["HOME"] = str(home)
    facts = {"cores": os.cpu_count(), "kernel": os.uname().release,
             "load_before": os.getloadavg()[0]}
    result = {"machine": facts, "run_200": run_200(box, daemon, ssh), "wake_up": wake_up(box)}
    subprocess.run([*ssh[:-1], "-O", "exit", ssh[-1]], check=False, capture_output=True)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
