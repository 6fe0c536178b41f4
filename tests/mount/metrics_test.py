#!/usr/bin/env python3
"""What a mount tells of itself: .mount/metrics, the warnings of requests that wait, the state in the log at SIGUSR1; and
that the documents that speak of the metrics are true."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.box import Box  # noqa: E402
from live.case import main  # noqa: E402
from live.metrics import Family, Metrics, Wrong, parse, suffixes  # noqa: E402
from live.place import SOURCE, wait_until  # noqa: E402
from live.silence import SilenceCase  # noqa: E402

GUIDE = SOURCE / "docs" / "OBSERVABILITY.md"
DASHBOARD = SOURCE / "docs" / "grafana-dashboard.json"


class MetricsCase(SilenceCase):
    def metrics(self) -> Metrics:
        return Metrics.read(self.mnt)

    def moved(self, before: Metrics) -> Callable[..., float]:
        after = self.metrics()
        return lambda name, **labels: after.total(name, **labels) - before.total(name, **labels)

    def lines(self, since: int = 0) -> list[str]:
        return self.daemon.log.read_text()[since:].splitlines()


class Text(MetricsCase):
    def test_it_is_what_a_scraper_takes(self) -> None:
        path = self.mnt / ".mount" / "metrics"
        families = self.metrics().families
        self.assertGreater(len(families), 30)
        for name in families:
            self.assertTrue(name.startswith("sbxfs_"), name)
        # However it is read.
        for command in (["cat", path], ["dd", f"if={path}", "bs=100", "status=none"], ["grep", "", path],
                        ["tail", "-c", "+1", path], ["curl", "-s", f"file://{path}"]):
            with self.subTest(command[0]), contextlib.suppress(FileNotFoundError):
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                self.assertEqual(parse(done.stdout).keys(), families.keys())
        self.refuse(13, path.write_text, "x")

    def test_the_parser_of_this_test_is_strict(self) -> None:
        good = "# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"y\"} 1\n"
        parse(good)
        for bad in (good[:-1], good + "a_total{x=\"y\"} 2\n", good + "b 1\n", good.replace("# HELP a_total A.\n", ""),
                    good.replace("1", "one"), good.replace("a_total", "a"), good.replace("y\"", "y"),
                    good.replace("counter", "gauge"), good + "\n", good.replace("} 1", "} -1")):
            with self.assertRaises(Wrong, msg=bad):
                parse(bad)

    def test_an_open_file_is_one_moment(self) -> None:
        with (self.mnt / ".mount" / "metrics").open("rb", buffering=0) as file:
            said = os.fstat(file.fileno()).st_size
            text = os.read(file.fileno(), 1000)
            for _ in range(50):
                os.statvfs(self.mnt)
            while part := os.read(file.fileno(), 1000):
                text += part
            self.assertEqual(os.pread(file.fileno(), 1 << 20, 0), text)
        parse(text.decode())
        self.assertEqual(len(text), said)

    def test_no_text_of_a_user_or_sandbox_is_in_it(self) -> None:
        box = Box.make(self.daemon, "private-name")
        box.sh("echo secret-output > secret-file")
        (box.path / "config" / "env" / "TOKEN").write_text("secret-value")
        (box.path / "fs" / "workspace" / "secret-file").read_text()
        for word in ("private-name", "secret", "TOKEN", "workspace", str(self.mnt)):
            self.assertNotIn(word, self.metrics().text)
        box.destroy()


class Work(MetricsCase):
    def test_known_work_moves_its_counters(self) -> None:
        before = self.metrics()
        box = Box.make(self.daemon, "work")
        self.assertEqual(box.submit("echo 12345").wait(), "exited 0")
        self.assertEqual(box.submit("exit 3").wait(), "exited 3")
        event = box.run("endless", "echo up; sleep 600")
        wait_until(lambda: event.stdout == b"up\n", "it runs")
        running = self.metrics()
        self.assertEqual(running.get("sbxfs_commands_running") - before.get("sbxfs_commands_running"), 1)
        self.assertEqual(running.get("sbxfs_commands_queued"), before.get("sbxfs_commands_queued"))
        (event.path / "ctl").write_text("kill\n")
        event.wait()
        work = box.path / "fs" / "workspace"
        (work / "f").write_bytes(bytes(200_000))
        self.assertEqual(box.sh("wc -c < f").strip(), "200000")
        box.sh("head -c 300000 /dev/zero > g; ln -s g l")
        self.assertEqual(len((work / "g").read_bytes()), 300_000)
        os.listdir(work)
        for _ in range(2):
            os.readlink(work / "l")
        with contextlib.suppress(FileNotFoundError):
            os.stat(work / "nothing")
        moved = self.moved(before)
        for name, labels, least, most in [
                ("commands_accepted_total", {}, 5, 5),
                ("commands_ended_total", {"outcome": "exited"}, 3, 3),
                ("commands_ended_total", {"outcome": "failed"}, 1, 1),
                ("commands_ended_total", {"outcome": "killed"}, 1, 1),
                ("command_output_bytes_total", {}, 6 + 3 + 7, 6 + 3 + 7),
                ("launches_total", {"outcome": "ready"}, 1, 1),
                ("file_bytes_total", {"direction": "written"}, 200_000, 200_000),
                ("file_bytes_total", {"direction": "read"}, 300_000, 400_000),
                ("sftp_bytes_total", {"direction": "sent"}, 200_000, 300_000),
                ("sftp_bytes_total", {"direction": "received"}, 300_000, 500_000),
                ("sftp_requests_total", {"type": "write"}, 1, 100),  # as few as the first is slow
                ("sftp_requests_total", {"type": "open"}, 2, 20),
                ("sftp_requests_total", {"type": "readlink"}, 1, 2),
                ("supervisor_requests_total", {"type": "start"}, 5, 5),
                ("supervisor_requests_total", {"type": "hello"}, 1, 1),
                ("cache_misses_total", {"cache": "contents"}, 1, 9),
                ("cache_misses_total", {"cache": "links"}, 1, 2),
                ("request_errors_total", {"op": "lookup", "errno": "ENOENT"}, 1, 9)]:
            with self.subTest(name, **labels):
                self.assertGreaterEqual(moved("sbxfs_" + name, **labels), least)
                self.assertLessEqual(moved("sbxfs_" + name, **labels), most)
        after = self.metrics()
        for phase in ("launched", "logged_in", "sftp", "supervisor", "ready"):
            self.assertGreater(after.get("sbxfs_launch_phase_seconds", "_count", phase=phase), 0, phase)
        self.assertEqual(after.get("sbxfs_launch_phase_seconds", "_count", phase="other"), 0)
        self.assertGreater(after.get("sbxfs_request_seconds", "_count", op="mkdir"), 0)
        self.assertGreater(after.get("sbxfs_process_resident_memory_bytes"), 1 << 20)
        # Its open file of metrics and the directory that was listed are closed behind.
        wait_until(lambda: self.metrics().get("sbxfs_open_handles") == 0, "nothing is open")
        ready = self.metrics().get("sbxfs_sandboxes", status="ready")
        box.destroy()
        self.assertEqual(self.metrics().get("sbxfs_sandboxes", status="ready"), ready - 1)

    def test_what_is_on_its_way_is_seen_until_it_has_arrived(self) -> None:
        box, relay = self.relayed("away")
        work = box.path / "fs" / "workspace"
        wait_until(lambda: write_goes_behind(work), "it is quiet")
        here = work / "here"
        here.mkdir()
        relay.swallow(True)
        for i in range(5):
            (here / f"new{i}").write_text("12345")
        held = self.metrics()
        self.assertGreaterEqual(held.get("sbxfs_dirty_changes"), 5)
        self.assertGreaterEqual(held.get("sbxfs_dirty_bytes"), 25)
        self.assertGreater(held.get("sbxfs_sftp_requests_in_flight"), 0)
        relay.swallow(False)
        self.assertEqual(box.sh("cat here/new?"), "12345" * 5)
        wait_until(lambda: all(self.metrics().get("sbxfs_" + name) == 0 for name in
                               ("dirty_changes", "dirty_bytes", "sftp_requests_in_flight")), "all has arrived")
        box.destroy()

    def test_crawls_send_nothing(self) -> None:
        box = Box.make(self.daemon, "crawled")
        serial = box.submit("sleep 600")
        others = [box.run(f"p{i}", "echo on; sleep 600") for i in range(3)]
        waiting = box.submit("true")
        wait_until(lambda: serial.text("status") == "running\n", "it runs")
        wait_until(lambda: all(one.stdout == b"on\n" for one in others), "they run")

        def sent() -> tuple[float, float]:
            now = self.metrics()
            return now.total("sbxfs_sftp_requests_total"), now.total("sbxfs_supervisor_requests_total")

        before = sent()
        crawls = [["find", "."], ["find", ".", "-type", "f", "-size", "+1k"], ["ls", "-lR", "."], ["du", "-a", "."],
                  ["grep", "-r", "nothing that is there", "."], ["tar", "-cf", "/dev/null", "--warning=none", "."],
                  ["rm", "-rf", box.name], ["find", box.name, "-delete"], ["chmod", "-R", "u+r", "."]]
        for crawl in crawls:
            with self.subTest(" ".join(crawl)):
                subprocess.run(crawl, cwd=self.mnt, capture_output=True, stdin=subprocess.DEVNULL, check=False,
                               timeout=30)
                self.assertEqual(sent(), before)
        # As updatedb and indexers do: each name with its attributes, each file's beginning.
        seen, directories = 0, [str(self.mnt)]
        for directory in directories:
            for entry in os.scandir(directory):
                entry.stat(follow_symlinks=False)
                seen += 1
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.path)
                elif entry.is_file(follow_symlinks=False) and os.access(entry.path, os.R_OK):
                    with open(entry.path, "rb") as file, contextlib.suppress(OSError):
                        file.read(512)
        self.assertGreater(seen, 100)
        self.assertEqual(sent(), before)
        self.assertTrue(box.path.exists(), "it was not destroyed by what tries to remove it bit by bit")
        for one in (*others, serial):
            (one.path / "ctl").write_text("kill\n")
        waiting.wait()
        self.assertGreater(sent()[1], before[1], "what is sent is counted")
        box.destroy()


def write_goes_behind(work: Path) -> bool:
    """Whether changes are answered ahead by now: the sandbox has been seen to be quiet."""
    (work / "try").write_text("x")
    (work / "try").unlink()
    text = (work.parents[2] / ".mount" / "metrics").read_text()
    return Metrics(text).get("sbxfs_dirty_changes") > 0


class Log(MetricsCase):
    def test_a_request_that_waits_is_warned_of_once(self) -> None:
        box, relay = self.relayed("slow")
        root = self.furnish(box, "files", 1)
        fd = os.open(root / "0" / "f", os.O_RDONLY)
        self.addCleanup(os.close, fd)
        (box.path / "ctl").write_text("drop_caches\n")
        warned = len(self.daemon.log.read_text())
        before = self.metrics()
        waiters = self.waiters({"read": lambda _: lambda: os.pread(fd, 4096, 1 << 19)}, root)
        relay.swallow(True)
        started = time.monotonic()
        waiters["read"].go()
        waits = re.compile(r"warning a request waits op=(?:read|getattr) path=(\S+) box=slow pid=(\d+) for=sandbox ms=(\d+)")

        def warnings() -> list[re.Match[str]]:
            return [found for line in self.lines(warned) if (found := waits.search(line))]
        line = wait_until(warnings, "the warning", 10)[0]
        self.assertGreater(time.monotonic() - started, 1)
        self.assertEqual(line[1], "/slow/fs/workspace/files/0/f")
        self.assertEqual(int(line[2]), waiters["read"].pid)
        self.assertGreaterEqual(int(line[3]), 1000)
        self.assertGreater(self.moved(before)("sbxfs_slow_requests_total"), 0)
        # Nobody waits to read of it.
        since = time.monotonic()
        now = self.metrics()
        self.assertLess(time.monotonic() - since, 0.5)
        self.assertEqual(now.get("sbxfs_requests_waiting", **{"for": "sandbox"}), 1)
        self.assertGreater(now.get("sbxfs_requests_waiting_oldest_seconds", **{"for": "sandbox"}), 1)
        self.said_at_sigusr1(box, waiters["read"].pid)
        os.kill(waiters["read"].pid, signal.SIGKILL)
        waiters["read"].freed(time.monotonic(), 5)
        relay.swallow(False)
        wait_until(lambda: self.metrics().get("sbxfs_requests_waiting", **{"for": "sandbox"}) == 0, "nobody waits", 40)
        self.assertEqual(len(warnings()), 1, "each once")
        box.submit("true").wait()
        box.destroy()

    def said_at_sigusr1(self, box: Box, pid: int) -> None:
        assert self.daemon.process is not None
        before = len(self.daemon.log.read_text())
        self.daemon.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: any("state: that is all" in line for line in self.lines(before)), "the state is in the log")
        text = "\n".join(self.lines(before))
        self.assertRegex(text, rf"info state: request op=(read|getattr) path=/slow/fs/workspace/files/0/f box=slow pid={pid} "
                               r"for=sandbox ms=\d{4,}")
        for name in (box.name, "b"):
            self.assertRegex(text, rf"info state: sandbox box={name} generation=\d+ status=\w+ queued=0 running=0 "
                                   r"quiet=(yes|no) cached=\d+ dirty_changes=\d+ dirty_bytes=\d+")
        self.assertRegex(text, r"info state sandboxes=\d+ inodes=\d+ handles=\d+ waiting_for_sandboxes=1 ")
        self.assertIn("state: that is all", (self.mnt / ".mount" / "log").read_text())

    def test_a_wait_that_is_asked_for_is_not_warned_of(self) -> None:
        before = len(self.daemon.log.read_text())
        event = Box(self.daemon, "b").run("asked", "sleep 600")
        wait = subprocess.Popen(["cat", event.path / "wait"], stdout=subprocess.PIPE)
        self.addCleanup(wait.kill)
        wait_until(lambda: self.metrics().get("sbxfs_requests_waiting", **{"for": "asked"}) == 1, "it waits")
        wait_until(lambda: self.metrics().get("sbxfs_requests_waiting_oldest_seconds", **{"for": "asked"}) > 2.3,
                   "it has waited for long", pause=0.05)
        (event.path / "ctl").write_text("kill\n")
        self.assertEqual(wait.communicate(timeout=20)[0], b"killed 137\n")
        self.assertEqual([line for line in self.lines(before) if "waits" in line], [])


class Documents(MetricsCase):
    def table(self) -> str:
        """As docs/OBSERVABILITY.md has it."""
        rows = []
        for family in sorted(self.metrics().families.values(), key=lambda one: one.name):
            labels = ", ".join(f"`{name}`" for name in sorted(self.labels_of(family)))
            rows.append(f"| `{family.name}` | {family.kind} | {labels} | {family.help} |")
        return "\n".join(rows)

    def labels_of(self, family: Family) -> set[str]:
        # What has not happened yet has no sample that would show them.
        hidden = {"sbxfs_aws_calls_total": {"action"}, "sbxfs_aws_failed_total": {"action"},
                  "sbxfs_aws_throttled_total": {"action"}, "sbxfs_slow_requests_total": {"op"},
                  "sbxfs_request_errors_total": {"op", "errno"}}
        return family.labels() | hidden.get(family.name, set())

    def test_the_guide_lists_every_metric(self) -> None:
        rows = "\n".join(line for line in GUIDE.read_text().splitlines() if line.startswith("| `sbxfs_"))
        expected = self.table()
        self.assertEqual(rows, expected, f"docs/OBSERVABILITY.md should have these rows:\n{expected}")

    def used(self, text: str) -> set[str]:
        return set(re.findall(r"\b(?:sbxfs|process|node)_[a-z0-9_]+", text))

    def known(self) -> set[str]:
        return {family.name + suffix for family in self.metrics().families.values() for suffix in suffixes(family.kind)}

    def test_alerts_and_panels_use_metrics_that_exist(self) -> None:
        known = self.known()
        dashboard = json.loads(DASHBOARD.read_text())
        expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
        self.assertGreater(len(expressions), 10)
        self.assertEqual(len({panel["id"] for panel in dashboard["panels"]}), len(dashboard["panels"]))
        for expression in expressions:
            self.assertTrue(self.used(expression), expression)
            self.assertEqual(self.used(expression) - known, set(), expression)
        alerts = [line for line in GUIDE.read_text().splitlines() if line.strip().startswith("expr:")]
        self.assertGreater(len(alerts), 4)
        for line in alerts:
            self.assertTrue(self.used(line), line)
            self.assertEqual(self.used(line) - known, set(), line)
        labels = {value for text in [*expressions, *alerts] for value in re.findall(r'(\w+)=~?"', text)}
        there = {name for family in self.metrics().families.values() for name in self.labels_of(family)} | {"le", "instance"}
        self.assertEqual(labels - there, set())


if __name__ == "__main__":
    main(limit=110)
