#!/usr/bin/env python3
"""What becomes of accepted commands: true outcomes, byte-exact streams, the persistent shell and what
ends it, timeouts, signals, waits that a signal ends. Contract 4 and 10."""

import errno
import json
import hashlib
import os
import select
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.box import Box  # noqa: E402
from live.case import Live, MountCase, main  # noqa: E402
from live.place import wait_until  # noqa: E402


class Outcomes(MountCase):
    def test_outcomes_are_what_the_process_returned(self) -> None:
        table = [
            ("true", "exited 0", ""),
            ("false", "exited 1", ""),
            ("(exit 7)", "exited 7", ""),
            ("sh -c 'exit 255'", "exited 255", ""),
            ("no-such-program-anywhere", "exited 127", ""),
            ("/etc/passwd", "exited 126", ""),
            ("sh -c 'kill -9 $$' || (exit $?)", "exited 137", ""),  # what the script itself returned
            ("sh -c 'kill -TERM $$'; true", "exited 0", ""),
        ]
        for script, outcome, number in table:
            for submit in ("cmd", "run"):
                with self.subTest(script=script, submit=submit):
                    if submit == "cmd":
                        event = self.box.submit(script)
                    else:
                        event = self.box.run(f"o{len(self.box.numbers())}", script)
                    self.assertEqual(event.wait(), outcome)
                    self.assertEqual(event.text("status"), outcome.split()[0] + "\n")
                    self.assertEqual(event.text("exit_code"), outcome.split()[1] + "\n")
                    self.assertEqual(event.text("signal"), number)
                    self.assertEqual(event.text("error"), "")
                    self.assertEqual(event.result["exit_code"], int(outcome.split()[1]))

    def test_a_run_command_killed_by_a_signal_shows_it(self) -> None:
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV):
            event = self.box.run(f"dies-{number}", f"kill -{int(number)} $$; sleep 5")
            self.assertEqual(event.wait(), f"killed {128 + number}")
            self.assertEqual(event.text("signal"), f"{int(number)}\n")
            self.assertEqual(event.text("exit_code"), f"{128 + number}\n")

    def test_streams_are_separate_and_byte_exact(self) -> None:
        script = ("printf 'a\\000b\\377c\\n\\r\\n'; printf 'e\\000\\001' >&2; printf 'no newline'")
        event = self.box.submit(script)
        self.assertEqual(event.wait(), "exited 0")
        self.assertEqual(event.stdout, b"a\0b\xffc\n\r\nno newline")
        self.assertEqual(event.stderr, b"e\0\1")
        self.assertEqual((event.path / "stdout").stat().st_size, len(event.stdout))
        self.assertEqual(event.result["stdout_bytes"], len(event.stdout))

    def test_five_mebibytes_of_binary_output_arrive_whole_on_both_streams(self) -> None:
        noise = os.urandom(5 << 20)
        (self.box.path / "work" / "noise").write_bytes(noise)
        event = self.box.submit("cat noise; cat noise >&2")
        self.assertEqual(event.wait(60), "exited 0")
        want = hashlib.sha256(noise).hexdigest()
        self.assertEqual(hashlib.sha256(event.stdout).hexdigest(), want)
        self.assertEqual(hashlib.sha256(event.stderr).hexdigest(), want)
        # In pieces, from anywhere, as programs read.
        with open(event.path / "stdout", "rb") as stream:
            for offset in (0, 1, 4095, 131073, (5 << 20) - 1, 5 << 20):
                stream.seek(offset)
                self.assertEqual(stream.read(70000), noise[offset:offset + 70000], offset)

    def test_every_byte_is_there_when_the_command_has_ended(self) -> None:
        for _ in range(20):
            event = self.box.submit("head -c 100000 /dev/zero; printf end")
            self.assertEqual(event.wait(), "exited 0")
            self.assertEqual(len(event.stdout), 100003)

    def test_output_grows_while_it_runs_and_never_blocks_a_reader(self) -> None:
        event = self.box.run("grows", "echo one; while [ ! -e /workspace/go ]; do sleep 0.02; done; "
                                      "echo two")
        wait_until(lambda: event.stdout == b"one\n", "the first line")
        self.assertEqual((event.path / "stdout").stat().st_size, 4)
        self.assertEqual(event.text("status"), "running\n")
        self.assertEqual(event.text("exit_code"), "")
        (self.box.path / "work" / "go").touch()
        self.assertEqual(event.wait(), "exited 0")
        self.assertEqual(event.stdout, b"one\ntwo\n")

    def test_tail_f_follows(self) -> None:
        event = self.box.run("tailed", "for i in 1 2 3; do echo $i; sleep 0.1; done")
        tail = subprocess.Popen(["tail", "-s", "0.05", "-f", "-n", "+1", str(event.path / "stdout")],
                                stdout=subprocess.PIPE)
        assert tail.stdout is not None
        try:
            self.assertEqual([tail.stdout.readline() for _ in range(3)], [b"1\n", b"2\n", b"3\n"])
        finally:
            tail.kill()
            tail.wait()
            tail.stdout.close()

    def test_a_background_child_does_not_delay_the_end_and_its_output_comes_later(self) -> None:
        event = self.box.submit("(sleep 0.5; echo later) & echo now")
        self.assertEqual(event.wait(5), "exited 0")
        self.assertEqual(event.stdout, b"now\n")
        wait_until(lambda: event.stdout == b"now\nlater\n", "what the child writes is appended")

    def test_a_server_started_in_the_background_serves_and_logs_while_other_commands_run(self) -> None:
        # It has a port of the sandbox, and says which.
        event = self.box.run("server", "cd /tmp; echo served > page; python3 -u -m http.server --bind 127.0.0.1 0 &")
        self.assertEqual(event.wait(10), "exited 0")
        wait_until(lambda: b" port " in event.stdout, "the server has started")
        port = event.stdout.split(b" port ")[1].split()[0].decode()
        get = ("python3 -c 'import sys, urllib.request as u; "
               "print(u.urlopen(sys.argv[1]).read().decode(), end=\"\")' http://127.0.0.1:")
        for i in range(3):
            self.assertEqual(self.box.sh(f"{get}{port}/page?{i}"), "served\n")
            wait_until(lambda: f"GET /page?{i} ".encode() in event.stderr, "its log is appended")
        self.assertEqual(event.wait(), "exited 0", "its outcome is what it was")
        self.assertEqual((event.path / "stderr").stat().st_size, len(event.stderr))
        self.assertNotIn("page?1", event.text("report"))
        # What a command has left behind is no more its own: it is the sandbox's, and ends with it.
        self.refuse(errno.ESRCH, (event.path / "ctl").write_text, "term\n")

    def test_stdin_is_at_its_end_and_there_is_no_terminal(self) -> None:
        self.assertEqual(self.box.sh("cat; test -t 0 || echo no terminal; tty"
                                     " >/dev/null 2>&1 || true"), "no terminal\n")

    def test_the_environment_is_for_unattended_use(self) -> None:
        shown = self.box.sh("echo $CI $NO_COLOR $PAGER $GIT_PAGER $DEBIAN_FRONTEND $TERM; pwd")
        self.assertEqual(shown, "1 1 cat cat noninteractive dumb\n/workspace\n")

    def test_the_script_is_kept_byte_for_byte(self) -> None:
        script = b"# caf\xc3\xa9 \xff\n\ttrue"
        event = self.box.submit(script)
        self.assertEqual(event.wait(), "exited 0")
        self.assertEqual((event.path / "cmd").read_bytes(), script)
        self.assertEqual((event.path / "cmd").stat().st_size, len(script))


class PersistentShell(MountCase):
    def setUp(self) -> None:
        super().setUp()
        self.box.submit("cd /workspace").wait()

    def test_directory_variables_and_functions_carry_over(self) -> None:
        self.box.sh("cd /tmp; x=4; f() { echo f$1; }; export Y=5; umask 077")
        self.assertEqual(self.box.sh("pwd; echo $x; f 2; sh -c 'echo $Y'; umask"),
                         "/tmp\n4\nf2\n5\n0077\n")
        self.box.sh("umask 022")

    def test_what_ends_the_shell_is_a_true_outcome_and_the_next_command_works(self) -> None:
        table = [
            ("exit 3", "exited 3", True),
            ("cd /tmp; exit", "exited 0", True),
            ("set -e; false; echo never", "exited 1", True),
            ("set -n", None, True),
            ("if then", None, None),
            ("set -u; echo $no_such_variable", "exited 1", None),
            ("unset -u", None, None),
            ("exec true", "exited 0", True),
            ("exec sh -c 'exit 9'", "exited 9", True),
            ("kill -KILL $$", "killed 137", True),
            ("kill -TERM $$", None, None),
            ("exec >&- 2>&-", None, None),
            (": ${x:?missing}", None, None),
            ("return 4", None, None),
            ("trap 'echo bye' EXIT; exit 5", "exited 5", True),
            ("{", None, None),
            ("echo 'unfinished", None, None),
            ("cat <<E\nno end", None, None),
        ]
        for script, outcome, restarted in table:
            with self.subTest(script=script):
                event = self.box.submit(script)
                said = event.wait(20)
                self.assertTrue(said.startswith(("exited", "killed")), said)
                if outcome is not None and script != "set -n":
                    self.assertEqual(said, outcome)
                if restarted is not None:
                    self.assertEqual(event.result["shell_restarted"], restarted)
                if event.result["shell_restarted"]:
                    self.assertNotEqual(event.text("error"), "", "it says why")
                self.assertNotIn(b"never", event.stdout)
                self.assertEqual(self.box.sh("echo still here"), "still here\n")
        self.box.submit("set +u; set +e; trap - EXIT; cd /workspace").wait()

    def test_the_next_shell_starts_in_the_same_directory(self) -> None:
        self.box.sh("mkdir -p /tmp/deep/er; cd /tmp/deep/er")
        self.assertEqual(self.box.submit("exit 1").wait(), "exited 1")
        self.assertEqual(self.box.sh("pwd"), "/tmp/deep/er\n")

    def test_serial_commands_run_strictly_in_order(self) -> None:
        events = [self.box.submit(f"echo {i} >> /tmp/order; sleep 0.0{i % 3}") for i in range(30)]
        self.assertEqual(events[-1].wait(), "exited 0")
        self.assertEqual(self.box.sh("cat /tmp/order").split(), [str(i) for i in range(30)])

    def test_parallel_commands_do_not_wait_for_the_serial_one(self) -> None:
        slow = self.box.submit("while [ ! -e /tmp/parallel-done ]; do sleep 0.02; done")
        fast = self.box.run("fast", "cd /tmp; touch parallel-done")
        self.assertEqual(fast.wait(5), "exited 0")
        self.assertEqual(slow.wait(5), "exited 0")
        self.assertEqual(self.box.sh("pwd"), "/workspace\n")

    def test_an_interpreter_line_is_honoured_in_run(self) -> None:
        event = self.box.run("py", "#!/usr/bin/python3\nimport sys\nprint(sys.version_info[0])\n"
                                   "sys.exit(4)\n")
        self.assertEqual(event.wait(), "exited 4")
        self.assertEqual(event.stdout, b"3\n")


class Names(MountCase):
    def test_bad_names_are_refused_at_open(self) -> None:
        for name in ("1", "42", "latest", "x~", "x.swp", ".hidden", "-x", "a b", "x" * 64, "é"):
            with self.subTest(name=name), self.refused(errno.EINVAL):
                (self.box.path / "run" / name).write_text("true")

    def test_a_name_is_used_once(self) -> None:
        event = self.box.run("once", "echo 1")
        self.assertEqual(event.wait(), "exited 0")
        with self.refused(errno.EEXIST, "its result is in events/once"):
            (self.box.path / "run" / "once").write_text("echo 2")
        self.assertEqual(event.stdout, b"1\n")

    def test_a_name_that_was_reserved_and_not_used_is_free_again(self) -> None:
        with open(self.box.path / "run" / "freed", "w"):
            with self.refused(errno.EEXIST):
                os.close(os.open(self.box.path / "run" / "freed", os.O_WRONLY | os.O_CREAT, 0o600))
        self.assertEqual(self.box.run("freed", "echo ok").wait(), "exited 0")

    def test_a_touched_name_is_free_at_once(self) -> None:
        # The kernel tells of the last close only a moment after close(2).
        for i in range(50):
            self.box.path.joinpath("run", f"touched{i}").touch()
            self.box.run(f"touched{i}", "true")

    def test_latest_and_names_are_links(self) -> None:
        event = self.box.run("linked", "true")
        event.wait()
        self.assertEqual(os.readlink(event.path), str(self.box.latest()))
        self.assertEqual(os.readlink(self.box.path / "events" / "latest"), str(self.box.latest()))

    def test_a_finished_event_can_be_forgotten_and_its_number_and_name_stay_used(self) -> None:
        event = self.box.run("forgotten", "true")
        event.wait()
        n = self.box.latest()
        (self.box.path / "events" / str(n)).rmdir()
        self.assertNotIn(n, self.box.numbers())
        with self.refused(errno.EEXIST):
            self.box.run("forgotten", "true")
        self.assertEqual(self.box.submit("true").path.name, str(n + 1))

    def test_a_running_event_cannot_be_forgotten(self) -> None:
        event = self.box.submit("while [ ! -e /tmp/forget ]; do sleep 0.02; done")
        self.refuse(errno.EBUSY, event.path.rmdir, sentence="has not finished")
        self.box.run("forget-go", "touch /tmp/forget").wait()
        self.assertEqual(event.wait(), "exited 0")


class Json(MountCase):
    def json(self, **order: object) -> tuple[str, str]:
        event = self.box.submit(json.dumps(order), "cmd.json")
        return event.wait(20), event.stdout.decode()

    def test_each_member_means_what_it_says(self) -> None:
        self.assertEqual(self.json(cmd="echo $A; pwd", env={"A": "b c"}, cwd="/tmp", parallel=True),
                         ("exited 0", "b c\n/tmp\n"))
        self.assertEqual(self.json(cmd="echo serial"), ("exited 0", "serial\n"))
        self.assertEqual(self.json(cmd="echo id", id="json-id", parallel=True), ("exited 0", "id\n"))
        self.assertEqual(self.box.event("json-id").stdout, b"id\n")

    def test_cwd_and_env_of_a_serial_command_are_its_own(self) -> None:
        self.addCleanup(self.box.sh, "cd /workspace; unset A")  # the shell is the other cases' too
        self.json(cmd="cd /; A=shell; export A")
        self.assertEqual(self.json(cmd="echo $A; pwd; cd /; exit 3", env={"A": "b'c"}, cwd="/tmp"),
                         ("exited 3", "b'c\n/tmp\n"))
        self.assertEqual(self.json(cmd="echo $A; pwd"), ("exited 0", "shell\n/\n"))
        self.assertNotEqual(self.json(cmd="echo ran", cwd="/no/such/dir"), ("exited 0", "ran\n"))
        with self.assertRaises(OSError) as refused:
            (self.box.path / "cmd.json").write_text('{"cmd": "true", "env": {"a.b": "c"}}')
        self.assertEqual(refused.exception.errno, errno.EINVAL)

    def test_a_timeout_kills_the_command_and_keeps_its_output(self) -> None:
        for parallel in (True, False):
            started = time.monotonic()
            event = self.box.submit(json.dumps({"cmd": "echo before; sleep 60", "timeout": 0.3,
                                                "parallel": parallel}), "cmd.json")
            self.assertEqual(event.wait(20), "timed_out 124")
            self.assertLess(time.monotonic() - started, 9)
            self.assertEqual(event.stdout, b"before\n")
            self.assertEqual(event.text("exit_code"), "124\n")
        self.assertEqual(self.box.sh("echo still here"), "still here\n")

    def test_bad_orders_are_refused_at_write_and_submit_nothing(self) -> None:
        table = [
            ("[]", "JSON object"), ("nonsense", "JSON object"), ('{"cmd": 1}', "cmd"),
            ('{"cmd": ""}', "cmd"), ("{}", "cmd"), ('{"cmd": "x", "cwd": "a"}', "absolute"),
            ('{"cmd": "x", "timeout": -1}', "timeout"), ('{"cmd": "x", "timeout": "1"}', "timeout"),
            ('{"cmd": "x", "parallel": 1}', "parallel"), ('{"cmd": "x", "env": []}', "env"),
            ('{"cmd": "x", "env": {"A": 1}}', "env"), ('{"cmd": "x", "env": {"A=B": "1"}}', "env"),
            ('{"cmd": "x", "id": "7"}', "id"), ('{"cmd": "x", "tiemout": 3}', "timeout"),
            ('{"cmd": "x\\u0000y"}', "NUL"), ('{"cmd": "true"} {"cmd": "true"}', "JSON object"),
        ]
        before = self.box.latest()
        for text, sentence in table:
            with self.subTest(order=text), self.refused(errno.EINVAL, sentence):
                (self.box.path / "cmd.json").write_text(text)
        self.assertEqual(self.box.latest(), before)

    def test_half_an_order_is_refused_when_it_ends(self) -> None:
        before = self.box.latest()
        with self.refused(errno.EINVAL):
            with open(self.box.path / "cmd.json", "w") as file:
                file.write('{"cmd": "true"')
        self.assertEqual(self.box.latest(), before)


class Limits(MountCase):
    def test_a_nul_byte_is_refused_and_nothing_of_that_handle_runs(self) -> None:
        before = self.box.latest()
        fd = os.open(self.box.path / "cmd", os.O_WRONLY)
        os.write(fd, b"echo a\n")
        self.refuse(errno.EINVAL, os.write, fd, b"echo \0", sentence="NUL")
        self.refuse(errno.EINVAL, os.write, fd, b"echo b\n")
        os.close(fd)
        self.assertEqual(self.box.latest(), before)

    def test_one_mebibyte_is_taken_and_one_byte_more_is_not(self) -> None:
        before = self.box.latest()
        body = b"echo whole\n"
        body += b"#" * ((1 << 20) - len(body))
        event = self.box.submit(body)
        self.assertEqual(event.wait(), "exited 0")
        self.assertEqual(event.stdout, b"whole\n")
        self.assertEqual(len((event.path / "cmd").read_bytes()), 1 << 20)
        with self.refused(errno.EFBIG, "1048576"):
            self.box.submit(body + b"#")
        self.assertEqual(self.box.latest(), before + 1)

    def test_the_queue_is_bounded_and_says_so(self) -> None:
        box = Box.make(self.daemon, "full")
        gate = box.submit("while [ ! -e /tmp/go ]; do sleep 0.05; done")
        accepted = 0
        with self.refused(errno.EAGAIN, "which is the limit"):
            for _ in range(2000):
                (box.path / "cmd").write_text("true")
                accepted += 1
        self.assertEqual(accepted, 1023)
        (box.path / "fs" / "tmp" / "go").touch()
        self.assertEqual(gate.wait(), "exited 0")
        self.assertEqual(box.event(1024).wait(30), "exited 0")
        box.destroy()


class Signals(MountCase):
    def test_ctl_reaches_the_whole_tree(self) -> None:
        for verb, number in (("int", 2), ("term", 15), ("kill", 9), ("hup", 1), ("usr1", 10)):
            event = self.box.run(f"sig-{verb}", "sh -c 'sh -c \"echo up; sleep 60\"'; wait")
            wait_until(lambda: event.stdout == b"up\n", "it runs")
            (event.path / "ctl").write_text(verb + "\n")
            self.assertIn(event.wait(15), (f"killed {128 + number}", f"exited {128 + number}"), verb)
        # The last of them may still be dying when the first one's end has been told.
        wait_until(lambda: "sleep 60" not in " ".join(self.box.processes().values()), "nothing of it is left")

    def test_a_writer_of_many_threads_that_exits_without_closing_submits(self) -> None:
        # The last thread to go closes what is open, and exit(2) has ended it as a signal would.
        writer = ("import os, sys, threading, time\n"
                  "fd = os.open(sys.argv[1], os.O_WRONLY)\n"
                  "for _ in range(4): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
                  "os.write(fd, b'echo from-threads')\n"
                  "if len(sys.argv) > 2: os.kill(os.getpid(), 15)\n"
                  "os._exit(0)\n")
        cmd = str(self.box.path / "cmd")

        def numbers() -> list[str]:
            return [name for name in os.listdir(self.box.path / "events") if name.isdigit()]

        before = numbers()
        for _ in range(3):
            subprocess.run([sys.executable, "-c", writer, cmd], check=True)
            event = self.box.path / "events" / "latest"
            self.assertEqual((event / "wait").read_text(), "exited 0\n")
            self.assertEqual((event / "stdout").read_bytes(), b"from-threads\n")
        subprocess.run([sys.executable, "-c", writer, cmd, "killed"], check=False)
        self.assertEqual(len(numbers()), len(before) + 3)

    def test_a_queued_command_is_cancelled(self) -> None:
        gate = self.box.submit("while [ ! -e /tmp/cancel-go ]; do sleep 0.02; done")
        queued = self.box.submit("echo never")
        self.assertEqual(queued.text("status"), "queued\n")
        (queued.path / "ctl").write_text("term\n")
        self.assertEqual(queued.wait(), "refused")
        self.assertIn("cancelled", queued.text("error"))
        self.box.run("cancel", "touch /tmp/cancel-go").wait()
        self.assertEqual(gate.wait(), "exited 0")
        self.refuse(errno.ESRCH, (gate.path / "ctl").write_text, "int\n", sentence="finished")

    def test_an_unknown_verb_is_refused_and_nothing_is_done(self) -> None:
        event = self.box.run("verbs", "sleep 0.2")
        self.refuse(errno.EOPNOTSUPP, (event.path / "ctl").write_text, "kill\nexplode\n",
                    sentence="Nothing was done")
        self.assertEqual(event.wait(), "exited 0")


class Waits(MountCase):
    def interrupted(self, path: Path) -> None:
        reader = subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE)
        self.addCleanup(reader.kill)
        wait_until(lambda: self.daemon.waiting() > 0, "the reader waits")
        started = time.monotonic()
        reader.send_signal(signal.SIGINT)
        reader.wait(5)
        self.assertLess(time.monotonic() - started, 1)
        self.assertEqual(reader.returncode, -signal.SIGINT)
        assert reader.stdout is not None
        reader.stdout.close()
        wait_until(lambda: self.daemon.waiting() == 0, "nothing is left of it")

    def test_a_wait_ends_within_a_second_of_a_signal(self) -> None:
        event = self.box.run("waited", "while [ ! -e /tmp/waited ]; do sleep 0.02; done")
        self.interrupted(event.path / "wait")
        self.interrupted(event.path / "wait.60")
        started = time.monotonic()
        self.assertEqual(event.text("wait.1"), "running\n")
        self.assertLess(abs(time.monotonic() - started - 1), 0.5)
        self.assertEqual(event.text("wait.0"), "running\n")
        self.box.run("waited-go", "touch /tmp/waited").wait()
        self.assertEqual(event.text("wait"), "exited 0\n")
        self.assertEqual(event.text("wait.60"), "exited 0\n")

    def test_ready_ends_within_a_second_of_a_signal(self) -> None:
        (self.mnt / "waits").mkdir()
        os.kill(Live.daemon.process.pid, 0)
        reader = subprocess.Popen(["cat", str(self.mnt / "waits" / "ready")],
                                  stdout=subprocess.DEVNULL)
        reader.send_signal(signal.SIGINT)
        started = time.monotonic()
        reader.wait(5)
        self.assertLess(time.monotonic() - started, 1)
        box = Box(self.daemon, "waits")
        box.await_ready()
        box.destroy()

    def test_a_hundred_waiters_do_not_hold_anything_up(self) -> None:
        event = self.box.run("hundred", "while [ ! -e /tmp/hundred ]; do sleep 0.02; done")
        readers = []
        for _ in range(100):
            readers.append(subprocess.Popen(["cat", str(event.path / "wait")],
                                            stdout=subprocess.PIPE))
            self.addCleanup(readers[-1].kill)
        wait_until(lambda: self.daemon.waiting() >= 100, "all wait")
        started = time.monotonic()
        os.listdir(self.mnt)
        self.assertEqual(self.box.sh("echo goes on"), "goes on\n")
        self.assertLess(time.monotonic() - started, 2)
        self.box.run("hundred-go", "touch /tmp/hundred").wait()
        for reader in readers:
            assert reader.stdout is not None
            self.assertEqual(reader.communicate(timeout=10)[0], b"exited 0\n")

    def test_a_bad_wait_says_what_is_meant(self) -> None:
        event = self.box.submit("true")
        for name in ("wait.", "wait.x", "wait.-1", "wait.1.5"):
            self.refuse(errno.ENOENT, event.text, name, sentence="wait.SECONDS")

    def test_poll_on_status_does_not_hang(self) -> None:
        event = self.box.submit("true")
        event.wait()
        fd = os.open(event.path / "status", os.O_RDONLY)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        self.assertTrue(poll.poll(2000))
        os.close(fd)


if __name__ == "__main__":
    main()
