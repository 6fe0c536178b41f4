#!/usr/bin/env python3
"""The whole session of a user who has just installed sbxfs: README's own lines, the default configuration and
state directory, a daemon in the background. For ordinary users (as_user.py)."""

import os
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.leftovers import left_behind  # noqa: E402
from live.place import SOURCE, Place, require, sbxfs, skip, wait_until  # noqa: E402

place: Place


def readme_session() -> list[tuple[str, str]]:
    """The commands of README's first session, each with what it is said to print."""
    text = (SOURCE / "README.md").read_text()
    block = re.search(r"```\n(\$ .*?)```", text, re.S)
    assert block is not None
    steps: list[tuple[str, str]] = []
    for line in block.group(1).splitlines():
        if line.startswith("$ "):
            steps.append((re.sub(r"\s{2,}# .*", "", line[2:]), ""))
        else:
            steps[-1] = (steps[-1][0], steps[-1][1] + line + "\n")
    return steps


class Session(unittest.TestCase):
    """One shell for the whole of a case, with the home in a directory of its own."""

    def setUp(self) -> None:
        self.home = place.path / self.id().rsplit(".", 1)[-1][:20]
        self.home.mkdir()
        bin_dir = self.home / "bin"
        bin_dir.mkdir()
        os.symlink(sbxfs(), bin_dir / "sbxfs")
        self.environment = {**os.environ, "HOME": str(self.home),
                            "PATH": f"{bin_dir}:{os.environ['PATH']}"}
        for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
            self.environment.pop(name, None)
        self.boxes = self.home / "boxes"
        self.addCleanup(self.clean_up)

    def clean_up(self) -> None:
        # Nothing here where a case has come to its own end.
        if os.path.ismount(self.boxes):
            self.sh(f"cd {self.boxes} && rmdir */; cd /; sbxfs umount {self.boxes} || "
                    f"fusermount3 -u -z {self.boxes}")

    def sh(self, script: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60,
                              check=False, cwd=self.home, env=self.environment)

    def state(self) -> Path:
        """Where the one mount of this home keeps its state."""
        (found,) = (self.home / ".local" / "state" / "sbxfs").iterdir()
        return found

    def daemon(self) -> int:
        """The pid, from the lock it holds."""
        match = re.search(r"process (\d+)", (self.state() / "lock").read_text())
        assert match is not None
        return int(match.group(1))

    def await_end(self) -> None:
        wait_until(lambda: self.sh(f"flock -n {self.state()}/lock true").returncode == 0,
                   "the daemon has ended")

    def test_the_session_of_the_readme_is_true(self) -> None:
        marker = "--end-of-step--"
        steps = readme_session()
        script = "".join(f"{command}\necho {marker}$?\n" for command, _ in steps)
        done = self.sh(script + "cd /\nsbxfs umount ~/boxes\n")
        self.assertEqual(done.stderr, "")
        outputs = re.split(rf"{marker}(\d+)\n", done.stdout)
        for (command, expected), printed, code in zip(steps, outputs[::2], outputs[1::2]):
            self.assertEqual((command, printed, code), (command, expected, "0"))
        self.assertEqual(len(outputs), 2 * len(steps) + 1)
        self.assertEqual(done.returncode, 0)
        self.await_end()
        # What rmdir started goes on without the daemon.
        wait_until(lambda: not list((self.state() / "boxes").iterdir()), "nothing is left")

    def test_killed_in_the_middle_of_a_command_and_mounted_again(self) -> None:
        done = self.sh("mkdir boxes && sbxfs mount boxes && cd boxes && mkdir b1 && cat b1/ready && "
                       "echo 'echo one; while [ ! -e go ]; do sleep 0.02; done; echo two; exit 3' > b1/cmd")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "ready\n", ""))
        os.kill(self.daemon(), 9)
        done = self.sh("sbxfs mount boxes && touch boxes/b1/work/go && cat boxes/b1/events/1/wait "
                       "boxes/b1/events/1/stdout && ls boxes/b1/events && echo true > boxes/b1/cmd && "
                       "cat boxes/b1/events/2/wait && cat boxes/.mount/last_error")
        self.assertEqual((done.stdout, done.stderr),
                         ("exited 3\none\ntwo\n1\nlatest\nlog.jsonl\nexited 0\n", ""))
        done = self.sh("sbxfs list -m boxes; rmdir boxes/b1; sbxfs umount boxes")
        self.assertIn("/boxes/b1 ", done.stdout)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.await_end()

    def test_sandboxes_go_on_while_nothing_is_mounted(self) -> None:
        done = self.sh("mkdir boxes && sbxfs mount boxes && mkdir boxes/b1 && cat boxes/b1/ready && "
                       "echo 'while [ ! -e go ]; do sleep 0.02; done; echo went' > boxes/b1/run/r && "
                       "touch boxes/b1/work/there && sbxfs umount boxes && ls boxes && "
                       "sbxfs list --json | grep -c '\"unmounted\"' && sbxfs list --paid && "
                       "sbxfs mount boxes && touch boxes/b1/work/go && "
                       "cat boxes/b1/events/r/wait boxes/b1/events/r/stdout && ls boxes/b1/work")
        self.assertEqual((done.stdout, done.stderr), ("ready\n1\nexited 0\nwent\ngo\nthere\n",
                          "sbxfs: nothing is mounted; start with: sbxfs mount MOUNTPOINT\n"))
        done = self.sh("rmdir boxes/b1 && sbxfs umount boxes")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.await_end()

    def test_files_belong_to_the_user_inside_and_outside(self) -> None:
        done = self.sh("mkdir boxes && sbxfs mount boxes && cd boxes && mkdir b1 && cat b1/ready && "
                       "id -un > b1/work/by && echo 'id -un | cmp - by && stat -c %U by; : > made' > b1/cmd && "
                       "cat b1/events/1/wait b1/events/1/stdout && stat -c %U b1/work/made b1/work/by b1/cmd")
        user = self.sh("id -un").stdout
        self.assertEqual((done.stdout, done.stderr), ("ready\nexited 0\n" + user * 4, ""))
        done = self.sh("rmdir boxes/b1 && sbxfs umount boxes")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.await_end()

    def test_without_fusermount3_it_says_what_to_install(self) -> None:
        # Hidden in a namespace of a user's own, where the real one could not mount either.
        paths = [path for path in ("/usr/bin/fusermount3", "/bin/fusermount3") if os.path.exists(path)]
        hide = "; ".join(f"mount --bind /dev/null {path}" for path in paths)
        script = f"{hide}; mkdir boxes; setpriv --reuid 1 true; exec sbxfs mount boxes"
        if self.sh("unshare --user --map-root-user --mount true").returncode != 0:
            self.skipTest("no user namespaces")
        if os.path.realpath("/bin") == "/usr/bin":
            script = script.replace("; mount --bind /dev/null /bin/fusermount3", "")
        # Inside it must not look like root: that one mounts without help.
        uid, gid = os.getuid(), os.getgid()
        script = script.replace("exec sbxfs", f"exec unshare --user --map-user {uid} --map-group {gid} sbxfs")
        script = script.replace("setpriv --reuid 1 true; ", "")
        done = self.sh(f"unshare --user --map-root-user --mount sh -c '{script}'")
        self.assertEqual(done.returncode, 32, done.stderr)
        self.assertIn("apt install fuse3", done.stderr)


if __name__ == "__main__":
    require()
    if os.geteuid() == 0:
        skip("for ordinary users: as_user.py")
    place = Place()
    place.watch(100)
    good = unittest.main(exit=False, verbosity=1).result.wasSuccessful()
    if good:
        for line in left_behind(place.path, place.path, []):
            print(f"left behind: {line}", file=sys.stderr)
            good = False
    place.end()
    shutil.rmtree(place.path, ignore_errors=True)
    sys.exit(0 if good else 1)
