#!/usr/bin/env python3
"""How programs write to cmd and run/: every way of every shell becomes the commands it should, in
order, whole, and nothing more. Contract 4, "Submit rule"; engineering 5.5 says what they send."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.case import Live, MountCase, main  # noqa: E402
from live.place import wait_until  # noqa: E402

SHELLS = [shell for shell in (["dash"], ["bash", "--norc"], ["busybox", "sh"], ["zsh", "-f"], ["mksh"],
                              ["ksh93"], ["yash"])
          if shutil.which(shell[0])]

# name, what the shell does, the commands' expected outputs. $B is the sandbox, $T a directory.
WAYS = [
    ("echo", "echo 'echo hi' > $B/cmd", ["hi\n"]),
    ("external echo", "/bin/echo 'echo hi' > $B/cmd", ["hi\n"]),
    ("append", "echo 'echo hi' >> $B/cmd", ["hi\n"]),
    ("no newline at the end", "printf 'echo hi' > $B/cmd", ["hi\n"]),
    ("printf, several lines", r"printf 'echo a\necho b\n\necho c\n' > $B/cmd", ["a\nb\nc\n"]),
    ("here document", "cat > $B/cmd <<'E'\nfor i in 1 2 3; do\n  echo $i\ndone\nE", ["1\n2\n3\n"]),
    ("a big file", "cat $T/big > $B/cmd", ["300 KiB\n"]),
    ("cp", "cp $T/small $B/cmd", ["small\n"]),
    ("dd", "dd if=$T/small of=$B/cmd bs=3 2>/dev/null", ["small\n"]),
    ("dd, no truncation", "dd if=$T/small of=$B/cmd conv=notrunc 2>/dev/null", ["small\n"]),
    ("tee", "tee $B/cmd < $T/small > /dev/null", ["small\n"]),
    ("a pipe", "echo 'echo piped' | cat > $B/cmd", ["piped\n"]),
    ("a group", "{ echo 'echo a'; echo 'echo b'; } > $B/cmd", ["a\nb\n"]),
    ("a group of programs", "{ /bin/echo 'echo a'; /bin/echo 'echo b'; } > $B/cmd", ["a\nb\n"]),
    ("a subshell", "( echo 'echo a'; /bin/echo 'echo b' ) > $B/cmd", ["a\nb\n"]),
    ("a loop", "for i in 1 2 3; do echo \"echo $i\"; done > $B/cmd", ["1\n2\n3\n"]),
    ("exec 3>, two echos", "exec 3>$B/cmd; echo 'echo a' >&3; echo 'echo b' >&3; exec 3>&-",
     ["a\n", "b\n"]),
    ("exec 3>, programs", "exec 3>$B/cmd; /bin/echo 'echo a' >&3; exec 3>&-", ["a\n"]),
    ("exec 3>, a subshell writes", "exec 3>$B/cmd; (echo 'echo a' >&3); exec 3>&-", ["a\n"]),
    ("exec 3<>, number read back",
     "exec 3<>$B/cmd; echo 'echo a' >&3; read n <&3; exec 3>&-; echo $n", ["a\n"]),
    ("exec 3<>, twice",
     "exec 3<>$B/cmd; echo 'echo a' >&3; read n <&3; echo $n; echo 'echo b' >&3; read n <&3; echo $n",
     ["a\n", "b\n"]),
    ("exec 3>, never closed", "exec 3>$B/cmd; /bin/echo 'echo a' >&3", ["a\n"]),
    ("in the background", "(sleep 0.05; echo 'echo late') > $B/cmd & wait", ["late\n"]),
    ("four at once", "for i in 1 2 3 4; do echo \"echo x\" > $B/cmd & done; wait", ["x\n"] * 4),
    ("left to a child",
     "{ echo 'echo a'; (sleep 0.1; echo 'echo b') & } > $B/cmd; wait", ["a\n", "b\n"]),
    ("nothing", ": > $B/cmd", []),
    ("blanks", r"printf ' \n\t\n' > $B/cmd", []),
    ("truncation only", "dd if=/dev/null of=$B/cmd 2>/dev/null", []),
    ("touch", "touch $B/cmd && chmod 600 $B/cmd", []),
]


class Ways(MountCase):
    """One case per shell, all its ways."""

    def check(self, shell: list[str]) -> None:
        for name, script, expected in WAYS:
            with self.subTest(shell=shell[0], way=name):
                before = self.box.latest()
                done = subprocess.run([*shell, "-c", script], capture_output=True, text=True,
                                      timeout=20, check=False, env={
                                          **os.environ, "B": str(self.box.path),
                                          "T": str(Live.place.path)})
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                # What a child leaves open is submitted by the kernel's RELEASE, which comes after its end.
                try:
                    wait_until(lambda: len(self.box.numbers()) >= before + len(expected), "all are submitted", 5)
                except AssertionError:
                    pass  # told below, with the numbers
                new = [n for n in self.box.numbers() if n > before]
                self.assertEqual(len(new), len(expected), "commands submitted")
                self.assertEqual(new, list(range(before + 1, before + 1 + len(new))))
                for n, output in zip(new, expected):
                    event = self.box.event(n)
                    self.assertEqual(event.wait(), "exited 0")
                    self.assertEqual(event.stdout.decode(), output)
                if "read n" in script:
                    self.assertEqual(done.stdout.split(), [str(n) for n in new])


for entry in SHELLS:
    setattr(Ways, f"test_each_way_of_{entry[0]}_is_the_command_it_should_be",
            lambda self, shell=entry: self.check(shell))


class Refusals(MountCase):
    """Shells ignore what close says, so refusals come at open or write, which all of them report."""

    def shell(self, shell: list[str], script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*shell, "-c", script], capture_output=True, text=True, timeout=20,
                              check=False, env={**os.environ, "B": str(self.box.path),
                                                "T": str(Live.place.path)})

    def test_each_shell_reports_a_second_use_of_a_name(self) -> None:
        for shell in SHELLS:
            name = "twice-" + shell[0]
            script = f"echo 'echo once' > $B/run/{name}"
            first = self.shell(shell, script)
            self.assertEqual((first.returncode, first.stderr), (0, ""), shell)
            second = self.shell(shell, script)
            self.assertNotEqual(second.returncode, 0, shell)
            self.assertIn("exists", second.stderr, shell)
            self.assertEqual(self.box.event(name).wait(), "exited 0")
            self.assertEqual(self.box.event(name).stdout, b"once\n")

    def test_a_program_started_with_the_file_open_hangs_nobody(self) -> None:
        # execve(2) closes what is close-on-exec, and waits for our answer meanwhile, as do its readers in /proc.
        script = ("import os; fd = os.open(os.environ['B'] + '/cmd', os.O_WRONLY); os.write(fd, b'echo here\\n'); "
                  "os.execv('/bin/echo', ['echo', 'there'])")
        done = self.shell([sys.executable], script)
        self.assertEqual((done.returncode, done.stdout), (0, "there\n"))
        event = self.box.event(self.box.latest())
        self.assertEqual((event.wait(), event.stdout), ("exited 0", b"here\n"))

    def test_each_shell_reports_a_script_over_1_mib(self) -> None:
        for shell in SHELLS:
            before = self.box.latest()
            done = self.shell(shell, "cat $T/huge > $B/cmd")
            self.assertNotEqual(done.returncode, 0, shell)
            self.assertIn("oo large", done.stderr, shell)
            self.assertEqual(self.box.latest(), before, "a part of it must not run")

    def test_each_shell_reports_bad_json(self) -> None:
        for shell in SHELLS:
            before = self.box.latest()
            done = self.shell(shell, """echo '{"cmd": "true", "cmmd": 1}' > $B/cmd.json""")
            self.assertNotEqual(done.returncode, 0, shell)
            self.assertIn("did you mean", self.daemon.last_error())
            self.assertEqual(self.box.latest(), before)

    def test_noclobber_does_not_keep_a_shell_from_submitting(self) -> None:
        # set -C opens an existing file with O_EXCL, or not at all: `>|` is the way round, as anywhere.
        for shell in SHELLS:
            before = self.box.latest()
            done = self.shell(shell, "set -C; echo 'echo x' >| $B/cmd")
            self.assertEqual((done.returncode, done.stderr), (0, ""), shell)
            self.assertEqual(self.box.latest(), before + 1)


class KilledWriters(MountCase):
    """A writer killed before it closed submits nothing, and last_error says so."""

    def nothing_submitted(self, argv: list[str], number: int, group: bool) -> None:
        before = self.box.latest()
        written = Live.place.path / "written"
        written.unlink(missing_ok=True)
        writer = subprocess.Popen(argv, env={**os.environ, "B": str(self.box.path),
                                             "WRITTEN": str(written)},
                                  start_new_session=True, stderr=subprocess.DEVNULL)
        wait_until(written.exists, "the writer has written")
        if group:
            os.killpg(writer.pid, number)
        else:
            os.kill(writer.pid, number)
        writer.wait(20)
        self.assertEqual(writer.returncode, -number)
        # Of this one; the one before may have been told of as well.
        wait_until(lambda: f"pid {writer.pid} " in self.daemon.last_error(), "last_error tells of it")
        self.assertIn("was killed", self.daemon.last_error())
        # What it had started, and left with the file open, ends by itself a little later.
        time.sleep(0 if group else 0.3)
        self.assertEqual(self.box.latest(), before)

    def test_a_shell_killed_in_the_middle_of_a_group(self) -> None:
        script = "{ echo 'echo never'; touch $WRITTEN; sleep 0.3; echo 'echo never'; } > $B/cmd"
        for shell in SHELLS:
            for number, group in ((signal.SIGKILL, False), (signal.SIGKILL, True),
                                  (signal.SIGTERM, True), (signal.SIGINT, True)):
                # mksh closes its files before it ends itself by the signal: as good as any other close.
                if shell[0] == "mksh" and number != signal.SIGKILL:
                    continue
                with self.subTest(shell=shell[0], signal=number, group=group):
                    self.nothing_submitted([*shell, "-c", script], number, group)

    def test_python_killed_before_it_closed(self) -> None:
        script = textwrap.dedent("""
            import os, sys, time
            fd = os.open(os.environ["B"] + "/cmd", os.O_WRONLY | os.O_TRUNC)
            os.write(fd, b"echo never\\n")
            open(os.environ["WRITTEN"], "w").close()
            time.sleep(60)
        """)
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(signal=number):
                self.nothing_submitted([sys.executable, "-c", script], number, False)

    def test_a_thread_of_the_opener_may_close(self) -> None:
        script = textwrap.dedent("""
            import os, threading
            fd = os.open(os.environ["B"] + "/cmd", os.O_WRONLY)
            def work():
                os.write(fd, b"echo from a thread\\n")
                os.close(fd)
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        """)
        before = self.box.latest()
        subprocess.run([sys.executable, "-c", script], check=True, timeout=20,
                       env={**os.environ, "B": str(self.box.path)})
        self.assertEqual(self.box.latest(), before + 1)
        self.assertEqual(self.box.event(before + 1).wait(), "exited 0")
        self.assertEqual(self.box.event(before + 1).stdout, b"from a thread\n")


class Languages(MountCase):
    def new_output(self, argv: list[str], **more: str) -> str:
        before = self.box.latest()
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False,
                              env={**os.environ, "B": str(self.box.path), **more})
        self.assertEqual((done.returncode, done.stderr), (0, ""), argv)
        self.assertEqual(self.box.latest(), before + 1, argv)
        event = self.box.event(before + 1)
        self.assertEqual(event.wait(), "exited 0")
        return event.stdout.decode()

    def test_python_in_every_mode(self) -> None:
        for mode in ("w", "a", "r+", "wb", "ab", "r+b"):
            data = "b'echo py\\n'" if "b" in mode else "'echo py\\n'"
            script = f"import os; open(os.environ['B'] + '/cmd', '{mode}').write({data})"
            with self.subTest(mode=mode):
                self.assertEqual(self.new_output([sys.executable, "-c", script]), "py\n")

    def test_python_reads_the_number_back(self) -> None:
        script = ("import os; f = open(os.environ['B'] + '/cmd', 'r+b', buffering=0); "
                  "f.write(b'echo py'); assert int(f.read(64)) > 0")
        self.assertEqual(self.new_output([sys.executable, "-c", script]), "py\n")

    def test_python_fsync_submits_and_close_does_not_again(self) -> None:
        script = ("import os; f = open(os.environ['B'] + '/cmd', 'w'); f.write('echo py'); "
                  "f.flush(); os.fsync(f.fileno()); f.close()")
        self.assertEqual(self.new_output([sys.executable, "-c", script]), "py\n")

    @unittest.skipUnless(shutil.which("perl"), "no perl")
    def test_perl(self) -> None:
        script = r'open(my $f, ">", "$ENV{B}/cmd") or die; print $f "echo pl\n"; close($f) or die'
        self.assertEqual(self.new_output(["perl", "-e", script]), "pl\n")

    @unittest.skipUnless(shutil.which("perl"), "no perl")
    def test_perl_reads_the_number_back(self) -> None:
        script = (r'open(my $f, "+<", "$ENV{B}/cmd") or die; syswrite($f, "echo pl\n");'
                  r'sysread($f, my $n, 64) or die "no number"; $n =~ /^\d+\n$/ or die $n')
        self.assertEqual(self.new_output(["perl", "-e", script]), "pl\n")

    @unittest.skipUnless(shutil.which("node"), "no node")
    def test_node_in_each_of_its_ways(self) -> None:
        for way in ("fs.writeFileSync(cmd, 'echo js\\n')", "fs.appendFileSync(cmd, 'echo js\\n')",
                    "fs.promises.writeFile(cmd, 'echo js\\n')", "fs.createWriteStream(cmd).end('echo js\\n')",
                    "const f = fs.openSync(cmd, 'w'); fs.writeSync(f, 'echo js'); fs.fsyncSync(f); fs.closeSync(f)",
                    "const f = fs.openSync(cmd, 'r+'); fs.writeSync(f, 'echo js'); const b = Buffer.alloc(64); "
                    "const n = fs.readSync(f, b, 0, 64, null); if (!(+b.toString('latin1', 0, n) > 0)) throw b"):
            with self.subTest(way=way):
                script = f"const fs = require('fs'), cmd = process.env.B + '/cmd'; {way}"
                self.assertEqual(self.new_output(["node", "-e", script]), "js\n")

    @unittest.skipUnless(shutil.which("vim"), "no vim")
    def test_vim_writes_and_quits(self) -> None:
        argv = ["vim", "-n", "-es", "-N", "-u", "NONE", "-i", "NONE",
                "-c", "call setline(1, ['echo vi', 'echo m'])", "-c", "w!", "-c", "q!",
                str(self.box.path / "cmd")]
        self.assertEqual(self.new_output(argv), "vi\nm\n")

    @unittest.skipUnless(shutil.which("awk"), "no awk")
    def test_awk(self) -> None:
        self.assertEqual(
            self.new_output(["awk", 'BEGIN { print "echo awk" > (ENVIRON["B"] "/cmd") }']), "awk\n")

    @unittest.skipUnless(shutil.which("ed"), "no ed")
    def test_ed(self) -> None:
        script = r"printf 'a\necho ed\n.\nw\nq\n' | ed -s $B/cmd"
        self.assertEqual(self.new_output(["sh", "-c", script]), "ed\n")

    @unittest.skipUnless(shutil.which("rsync"), "no rsync")
    def test_rsync_in_place(self) -> None:
        small = str(Live.place.path / "small")
        self.assertEqual(self.new_output(["rsync", "--inplace", small, str(self.box.path / "cmd")]),
                         "small\n")

    def test_programs_that_put_a_new_file_in_its_place_submit_nothing_and_lose_nothing(self) -> None:
        before = self.box.numbers()
        for script in ("mv $T/moved $B/cmd", "rm -f $B/cmd", "ln -f $T/moved $B/cmd",
                       "ln -sf $T/moved $B/cmd", "sed -i s/a/b/ $B/cmd", "install $T/moved $B/cmd",
                       "mv $B/cmd $B/old"):
            with self.subTest(script=script):
                moved = Live.place.path / "moved"
                moved.write_text("echo moved\n")
                done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False,
                                      env={**os.environ, "B": str(self.box.path),
                                           "T": str(Live.place.path)})
                self.assertNotEqual((done.returncode, done.stderr), (0, ""))
                self.assertEqual(moved.read_text(), "echo moved\n")
        self.assertEqual(self.box.numbers(), before)

    def test_files_put_into_run_become_commands(self) -> None:
        (Live.place.path / "moved").write_text("echo moved\n")
        for script, name in (("cp $T/small $B/run/copied", "copied"), ("mv $T/moved $B/run/m", "m"),
                             ("touch $B/run/t; echo 'echo t' > $B/run/t", "t")):
            with self.subTest(script=script):
                subprocess.run(["sh", "-c", script], check=True,
                               env={**os.environ, "B": str(self.box.path), "T": str(Live.place.path)})
                self.assertEqual(self.box.event(name).wait(), "exited 0")

    def test_a_child_of_python_that_inherited_the_file(self) -> None:
        script = textwrap.dedent("""
            import os, subprocess
            with open(os.environ["B"] + "/cmd", "w") as f:
                subprocess.run(["echo", "echo from a child"], stdout=f, check=True)
        """)
        self.assertEqual(self.new_output([sys.executable, "-c", script]), "from a child\n")


class PidNamespaces(MountCase):
    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_a_writer_in_a_pid_namespace_below_ours_is_like_any_other(self) -> None:
        before = self.box.latest()
        subprocess.run(["unshare", "--pid", "--fork", "sh", "-c",
                        "{ echo 'echo a'; /bin/echo 'echo b'; } > $B/cmd"],
                       check=True, timeout=20, env={**os.environ, "B": str(self.box.path)})
        self.assertEqual(self.box.latest(), before + 1)
        self.assertEqual(self.box.event(before + 1).wait(), "exited 0")
        self.assertEqual(self.box.event(before + 1).stdout, b"a\nb\n")

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_a_writer_whose_pid_is_not_visible_submits_at_the_last_close(self) -> None:
        place = Live.place.path
        inside = textwrap.dedent(f"""
            set -e
            mkdir -p {place}/mnt-pid
            {Live.daemon.command()[0]} mount -f -o state_dir={place}/state-pid {place}/mnt-pid \\
                2> {place}/daemon-pid.log &
            for i in $(seq 300); do
                grep -q ' {place}/mnt-pid ' /proc/self/mountinfo && break
                sleep 0.02
            done
            mkdir {place}/mnt-pid/p
            cat {place}/mnt-pid/p/ready
            cat > /dev/null
            rmdir {place}/mnt-pid/p
            while grep -q stopping {place}/mnt-pid/.mount/history/*/status; do sleep 0.05; done
            umount {place}/mnt-pid
            wait
        """)
        world = subprocess.Popen(["unshare", "--mount", "--pid", "--fork", "--kill-child",
                                  "--mount-proc", "sh", "-c", inside], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE)
        assert world.stdin is not None and world.stdout is not None
        try:
            self.assertEqual(world.stdout.readline(), b"ready\n")
            child = Path(f"/proc/{world.pid}/task/{world.pid}/children").read_text().split()[0]
            enter = ["nsenter", "--mount", "--target", child, "sh", "-c"]
            box = f"{place}/mnt-pid/p"
            # Not at the child's close, and not at the group's first redirection: at the last close.
            script = (f"{{ echo 'echo a'; /bin/echo 'echo b'; }} > {box}/cmd; ls {box}/events; "
                      f"exec 3<>{box}/cmd; echo 'echo c' >&3; read n <&3; echo n=$n; "
                      f"cat {box}/events/1/wait {box}/events/1/stdout {box}/events/2/wait")
            done = subprocess.run([*enter, script], capture_output=True, text=True, timeout=20,
                                  check=False)
            self.assertEqual(done.stderr, "")
            self.assertEqual(done.stdout.split(),
                             ["1", "latest", "log.jsonl", "n=2", "exited", "0", "a", "b", "exited", "0"])
        finally:
            world.stdin.close()
            world.stdout.close()
            self.assertEqual(world.wait(20), 0)


def prepare() -> None:
    place = Live.place.path
    (place / "small").write_text("echo small\n")
    big = "# " + "x" * 76 + "\n"
    (place / "big").write_text(big * 3900 + "echo '300 KiB'\n")
    (place / "huge").write_text(big * 13300 + "echo never\n")


if __name__ == "__main__":
    main(prepare=prepare)
