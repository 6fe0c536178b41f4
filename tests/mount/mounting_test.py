#!/usr/bin/env python3
"""Mount options, the helpers of mount(8), SIGHUP, what a service manager hears, and the end of a mount. Contract 7."""

import errno
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.box import Box  # noqa: E402
from live.case import Live, MountCase, main  # noqa: E402
from live.daemon import Daemon  # noqa: E402
from live.place import file_system_at, sbxfs, wait_until  # noqa: E402

NOBODY = 65534
CONFIG = """default_template = "default"
[templates.default]
provider = "local"
"""


def run(*argv: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=30,
                          check=False, **options)  # type: ignore[call-overload]


def as_nobody(script: str) -> subprocess.CompletedProcess[str]:
    return run("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "sh", "-c",
               script)


def source_of(mountpoint: Path) -> str:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[4] == str(mountpoint):
            return fields[fields.index("-") + 2]
    return ""


class Mounting(MountCase):
    def mount(self, name: str, options: Sequence[str] = (), config: str | None = None) -> Daemon:
        """Another daemon, ended and checked with the case."""
        daemon = Daemon(Live.place, options, config, name=name)

        def end() -> None:
            if daemon.process is not None:
                for name in set(os.listdir(daemon.mnt)) - {"README.md", ".mount"}:
                    box = Box(daemon, name)
                    (box.path / "ctl").write_text("unprotect\n")
                    box.destroy()
                daemon.umount()
            self.assertEqual(daemon.complaints(self._allowed), [])

        self.addCleanup(end)
        return daemon

    def link(self, name: str) -> Path:
        """The program under another name, as the package installs it."""
        path = Live.place.path / name
        if not path.is_symlink():
            os.symlink(sbxfs(), path)
        return path

    def helper(self, name: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return run(self.link(name), *words)

    # --- the helpers

    def test_mount_helpers_take_what_mount_gives_them(self) -> None:
        point = Live.place.path / "fstab"
        point.mkdir()
        state = Live.place.path / "state-fstab"
        options = f"rw,nosuid,nodev,_netdev,nofail,x-systemd.automount,user=alice,state_dir={state}"
        for mount, umount in (("mount.sbxfs", "umount.sbxfs"), ("mount.fuse.sbxfs", "umount.fuse.sbxfs")):
            with self.subTest(mount):
                done = self.helper(mount, "the boxes, all", point, "-n", "-v", "-t", "fuse.sbxfs", "-o", options)
                self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
                # What fstab names as the device is what `mount -a` looks for.
                self.assertEqual(source_of(point), "the\\040boxes,\\040all")
                done = self.helper(umount, point, "-n", "-v", "-t", "fuse.sbxfs")
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertEqual(os.listdir(point), [])

    def test_mount_f_checks_and_mounts_nothing(self) -> None:
        point = Live.place.path / "fake"
        point.mkdir()
        self.assertEqual(self.helper("mount.sbxfs", "none", point, "-f").returncode, 0)
        self.assertIsNone(file_system_at(point))

    def test_exit_codes_are_those_of_mount(self) -> None:
        point = Live.place.path / "codes"
        point.mkdir()
        for words, code, said in (
                (("none", point, "-o", "no_such=1"), 1, "unknown mount option"),
                (("none", point, "-o", "umask=8"), 1, "octal"),
                (("none",), 1, "mountpoint"),
                (("none", point, "-o", "config=/nowhere/c.toml"), 1, "/nowhere/c.toml"),
                (("none", Live.place.path / "nowhere"), 32, "make the directory first"),
                (("none", self.mnt), 32, "living sbxfs")):
            done = self.helper("mount.sbxfs", *words)
            self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)
            self.assertIn(said, done.stderr)
        self.assertEqual(self.helper("mount.sbxfs", "none", point, "-s", "-f", "-o", "no_such=1").returncode, 0)
        self.assertEqual(self.helper("umount.sbxfs", point).returncode, 1)

    def test_what_the_daemon_itself_uses_may_not_be_below_its_mount_point(self) -> None:
        point = Live.place.path / "holds"
        (point / "etc").mkdir(parents=True)
        config = point / "etc" / "config.toml"
        config.write_text(CONFIG)
        link = Live.place.path / "elsewhere"
        os.symlink(point / "etc", link)
        outside = Live.place.path / "outside"
        for words, said in (
                (("-o", f"state_dir={point}/state"), "state_dir=DIR"),
                (("-o", f"state_dir={point}"), "state_dir=DIR"),
                (("-o", f"state_dir={link}/state"), "state_dir=DIR"),
                (("-o", f"state_dir={outside}", "-c", config), "-c FILE"),
                (("-o", f"state_dir={outside},config={link}/config.toml",), "-c FILE")):
            done = run(sbxfs(), "mount", *words, point)
            self.assertEqual((done.returncode, done.stdout), (1, ""), words)
            self.assertIn(f"is below the mount point {point}", done.stderr)
            self.assertIn(said, done.stderr)
            self.assertIsNone(file_system_at(point))
        self.assertFalse((point / "state").exists())
        # A name that only begins alike is another place.
        done = run(sbxfs(), "mount", "-o", f"state_dir={point}-state", point)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(run(sbxfs(), "umount", point).returncode, 0)

    def test_lazy_umount_takes_a_mount_in_use_out_of_the_tree(self) -> None:
        daemon = self.mount("-lazy").start()
        held = os.open(daemon.mnt / "README.md", os.O_RDONLY)
        self.assertEqual(self.helper("umount.fuse.sbxfs", daemon.mnt).returncode, 32)
        self.assertEqual(self.helper("umount.fuse.sbxfs", daemon.mnt, "-l").returncode, 0)
        self.assertIsNone(file_system_at(daemon.mnt))
        self.assertIn(b"# sbxfs", os.read(held, 100))
        os.close(held)
        assert daemon.process is not None
        self.assertEqual(daemon.process.wait(10), 0)
        daemon.process = None

    def test_umount_returns_when_the_daemon_has_ended(self) -> None:
        daemon = self.mount("-end")
        self.assertEqual(run(*daemon.command()).returncode, 0)
        pid = json.loads((daemon.mnt / ".mount/info.json").read_text())["pid"]
        self.assertTrue(Path(f"/proc/{pid}").exists())
        self.assertEqual(run(sbxfs(), "umount", daemon.mnt).returncode, 0)
        # Another may have its state directory at once.
        self.assertEqual(run("flock", "-n", daemon.state / "lock", "true").returncode, 0)

    # --- options

    def test_ro(self) -> None:
        daemon = self.mount("-ro", ["ro"]).start()
        self.refuse(errno.EROFS, os.mkdir, daemon.mnt / "b")
        self.assertIn("# sbxfs", (daemon.mnt / "README.md").read_text())

    def test_without_allow_other_nobody_else_gets_in(self) -> None:
        self.assertNotEqual(as_nobody(f"ls {self.mnt}").returncode, 0)

    @unittest.skipUnless(os.geteuid() == 0, "root becomes another user")
    def test_umask_lets_others_have_what_it_leaves_and_no_secrets(self) -> None:
        daemon = self.mount("-others", ["allow_other", "umask=000"]).start()
        box = Box.make(daemon, "b")
        self.assertEqual(stat.S_IMODE((daemon.mnt / "b").stat().st_mode), 0o777)
        self.assertEqual(stat.S_IMODE((daemon.mnt / "b/cmd").stat().st_mode), 0o666)
        self.assertEqual(stat.S_IMODE((daemon.mnt / "b/ssh/key").stat().st_mode), 0o600)
        done = as_nobody(f"cd {box.path} && cat status && echo 'echo hi' > cmd && cat events/1/wait && "
                         f"cat events/1/stdout; cat ssh/key")
        self.assertEqual(done.stdout, "ready\nexited 0\nhi\n")
        self.assertIn("ermission denied", done.stderr)

    @unittest.skipUnless(os.geteuid() == 0, "root becomes another user")
    def test_uid_and_gid_say_whose_it_is(self) -> None:
        daemon = self.mount("-whose", ["allow_other", f"uid={NOBODY}", f"gid={NOBODY}"]).start()
        box = Box.make(daemon, "b")
        for path in (daemon.mnt, box.path / "cmd", box.path / "work" / "."):
            found = path.stat()
            self.assertEqual((found.st_uid, found.st_gid), (NOBODY, NOBODY), path)
        done = as_nobody(f"cd {box.path} && echo mine > work/f && echo 'cat f' > cmd && cat events/1/wait "
                         f"events/1/stdout && chown {NOBODY}:{NOBODY} work/f && chown {NOBODY} cmd")
        self.assertEqual((done.stdout, done.stderr), ("exited 0\nmine\n", ""))
        self.refuse(errno.EPERM, os.chown, box.path / "work/f", 0, 0)

    @unittest.skipUnless(os.geteuid() == 0, "others' numbers are root's to give")
    def test_idmap_none_shows_and_sets_the_numbers_of_the_sandbox(self) -> None:
        daemon = self.mount("-numbers", ["idmap=none"]).start()
        box = Box.make(daemon, "b")
        self.assertEqual(box.sh("touch f && chown 7:8 f && echo done"), "done\n")
        file = box.path / "work/f"
        self.assertEqual((file.stat().st_uid, file.stat().st_gid), (7, 8))
        os.chown(file, 9, -1)
        os.chown(file, -1, 10)
        self.assertEqual(box.sh("stat -c %u:%g f"), "9:10\n")
        self.assertEqual((file.stat().st_uid, file.stat().st_gid), (9, 10))
        self.assertEqual((box.path / "cmd").stat().st_uid, os.geteuid())
        # As it is without the option.
        mapped = self.box.path / "work/mapped"
        self.box.sh("touch mapped && chown 7:8 mapped")
        self.assertEqual(mapped.stat().st_uid, os.geteuid())
        os.chown(mapped, os.geteuid(), os.getegid())
        self.refuse(errno.EPERM, os.chown, mapped, 9, -1, sentence="idmap=none")

    def test_on_unmount_destroy_leaves_only_what_is_protected(self) -> None:
        self.allow_log("not destroyed")
        daemon = self.mount("-destroy", ["on_unmount=destroy"]).start()
        Box.make(daemon, "gone")
        os.mkdir(daemon.mnt / "launching")
        kept = Box.make(daemon, "kept")
        (kept.path / "ctl").write_text("protect\n")
        daemon.umount()
        self.assertEqual(len(os.listdir(daemon.state / "boxes")), 1)
        daemon.start()
        self.assertEqual(sorted(set(os.listdir(daemon.mnt)) - {"README.md", ".mount"}), ["kept"])
        history = {name.rsplit(".", 1)[0] for name in os.listdir(daemon.mnt / ".mount/history")}
        self.assertEqual(history, {"gone", "launching"})

    @unittest.skipIf(os.geteuid() == 0, "root may")
    def test_allow_other_of_an_ordinary_user_needs_the_administrator(self) -> None:
        conf = Path("/etc/fuse.conf")
        if conf.exists() and "\nuser_allow_other" in "\n" + conf.read_text():
            self.skipTest("the administrator allows it")
        point = Live.place.path / "shared"
        point.mkdir()
        done = run(sbxfs(), "mount", "-o", "allow_other", point)
        self.assertEqual(done.returncode, 1)
        self.assertIn("user_allow_other", done.stderr)

    # --- the daemon's life

    def test_sighup_takes_the_file_as_it_is_now(self) -> None:
        daemon = self.mount("-reload", config=CONFIG).start()
        assert daemon.process is not None and daemon.config is not None
        Box.make(daemon, "before")
        file = Live.place.path / "config.toml"
        config = daemon.mnt / ".mount/config.toml"
        self.refuse(errno.ENOENT, os.mkdir, daemon.mnt / "x@second")
        file.write_text(CONFIG + '[templates.second]\nprovider = "local"\nenv = { WHO = "second" }\n')
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "[templates.second]" in config.read_text(), "the new file is in effect")
        box = Box.make(daemon, "x@second")
        self.assertEqual(box.sh("echo $WHO"), "second\n")
        self.assertEqual(Box(daemon, "before").sh("echo there"), "there\n")

        # One with a mistake changes nothing, and says so where one looks.
        self.allow_log("not reloaded")
        good = config.read_text()
        file.write_text("\nmax_sandboxe = 3\n" + CONFIG)
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "(it stays as it was)" in daemon.last_error(), "it is refused")
        self.assertIn("max_sandboxes", daemon.last_error())
        self.assertIn(f"{file}:2: unknown key", daemon.last_error())
        self.assertEqual(config.read_text(), good)
        file.write_text("max_sandboxes = 2\n" + CONFIG)
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: config.read_text() != good, "the corrected one is in effect")
        self.refuse(errno.EDQUOT, os.mkdir, daemon.mnt / "third")
        self.assertIn("max_sandboxes", daemon.last_error())

    def test_the_service_manager_hears_of_each_step(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            address = Live.place.path / "notify"
            manager.bind(str(address))
            manager.settimeout(20)

            def heard() -> dict[str, str]:
                lines = manager.recv(4096).decode().splitlines()
                return dict(line.split("=", 1) for line in lines)

            daemon = self.mount("-service")
            os.environ["NOTIFY_SOCKET"] = str(address)
            try:
                daemon.start()
            finally:
                del os.environ["NOTIFY_SOCKET"]
            assert daemon.process is not None
            self.assertEqual(heard(), {"READY": "1", "STATUS": f"mounted on {daemon.mnt}"})
            box = Box.make(daemon, "b")
            self.assertEqual(box.sh("echo ${NOTIFY_SOCKET-none}"), "none\n")
            daemon.process.send_signal(signal.SIGHUP)
            reloading = heard()
            self.assertEqual((reloading["RELOADING"], heard()["READY"]), ("1", "1"))
            self.assertGreater(int(reloading["MONOTONIC_USEC"]), 0)
            box.destroy()
            daemon.process.send_signal(signal.SIGTERM)
            self.assertEqual(heard()["STOPPING"], "1")
            self.assertEqual(daemon.process.wait(20), 0)
            daemon.process = None


if __name__ == "__main__":
    main()
