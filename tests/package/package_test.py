#!/usr/bin/env python3
"""The Debian package: installed, upgraded with living sandboxes, removed and purged, in a root directory of its own.

For root only. The root is made of overlays over this machine's /usr, /etc and dpkg database, in a mount and a pid
namespace: nothing of it reaches the machine, and nothing is left when the script ends."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.place import SOURCE, require, skip, wait_until  # noqa: E402

BUILD = Path(os.environ.get("SBXFS_BUILD", SOURCE / "build" / "dev"))
NOTE = Path("/var/lib/sbxfs/LEFT-BEHIND")
MNT = Path("/srv/boxes")


def run(*argv: str | Path, limit: float = 60, code: int = 0) -> str:
    """What it prints on both streams."""
    done = subprocess.run([str(word) for word in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, text=True, timeout=limit, check=False)
    assert done.returncode == code, f"{argv}: {done.returncode}\n{done.stdout}"
    return done.stdout


def daemon(mountpoint: Path) -> int:
    return int(run("sed", "-n", r's/^  "pid": \([0-9]*\),$/\1/p', mountpoint / ".mount/info.json"))


def mounted(mountpoint: Path) -> bool:
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return any(line.split()[4] == str(mountpoint) for line in lines)


def runs(pid: int) -> bool:
    """The first process here, which is this one, reaps nobody."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except FileNotFoundError:
        return False


class Package(unittest.TestCase):
    """One life of a machine, in the order of the names."""

    def install(self, name: str) -> str:
        return run("dpkg", "--no-triggers", "-i", f"/packages/{name}.deb")

    def test_1_installs_what_mount_man_shells_and_systemd_look_for(self) -> None:
        self.install("old")
        self.assertIn("0.0.9", run("dpkg-query", "-W", "sbxfs"))
        self.assertIn("sbxfs ", run("sbxfs", "version"))
        for page in ("sbxfs", "mount.sbxfs", "umount.sbxfs", "sbxfs.toml"):
            self.assertTrue(run("man", "-w", page).strip())
        self.assertIn("fine: /etc/sbxfs/config.toml", run("sbxfs", "config", "check"))
        for file in ("/usr/share/bash-completion/completions/sbxfs", "/usr/share/zsh/vendor-completions/_sbxfs",
                     "/usr/share/fish/vendor_completions.d/sbxfs.fish"):
            self.assertTrue(Path(file).is_file())
        if shutil.which("systemd-analyze"):
            for user in ((), ("--user",)):
                said = run("systemd-analyze", "verify", *user, "sbxfs@srv-boxes.service")
                self.assertNotIn("sbxfs", said.replace("sbxfs@srv-boxes.service: Failed to create", ""))

    def test_2_fstab_mount_and_umount(self) -> None:
        MNT.mkdir(parents=True)
        with open("/etc/fstab", "a", encoding="utf-8") as fstab:
            fstab.write(f"boxes {MNT} sbxfs noexec,_netdev,nofail,x-systemd.automount,umask=022 0 0\n")
        run("mount", MNT)
        self.assertEqual(run("findmnt", "-no", "SOURCE,FSTYPE", MNT).split(), ["boxes", "fuse.sbxfs"])
        run("umount", MNT)
        self.assertFalse(mounted(MNT))
        run("mount", "-a", "-t", "sbxfs")
        first = daemon(MNT)
        run("mount", "-a", "-t", "sbxfs")  # it is there already
        self.assertEqual(daemon(MNT), first)
        self.assertIn("unknown mount option", run("mount", "-t", "sbxfs", "x", "/mnt", "-o", "bogus=1", code=1))

    def test_3_an_upgrade_replaces_the_daemon_and_commands_go_on(self) -> None:
        (MNT / "b").mkdir()
        self.assertEqual((MNT / "b/ready").read_text(), "ready\n")
        (MNT / "b/run/long").write_text("echo before; while [ ! -e go ]; do sleep 0.02; done; echo after; exit 3\n")
        wait_until(lambda: (MNT / "b/events/long/stdout").read_text() == "before\n", "it runs")
        before = daemon(MNT)
        busy = Path("/srv/busy")
        busy.mkdir()
        run("sbxfs", "mount", busy)
        kept = daemon(busy)
        with open(busy / "README.md", encoding="utf-8") as held:
            said = self.install("new")
            self.assertIn("/srv/busy is in use", said)
            self.assertTrue(held.read().startswith("# sbxfs"))
        self.assertEqual(daemon(busy), kept)
        run("umount", busy)
        self.assertNotEqual(daemon(MNT), before)
        self.assertFalse(runs(before))
        # With the options it had.
        self.assertIn('"options": "umask=022"', (MNT / ".mount/info.json").read_text())
        self.assertEqual((MNT / "b/events/long/status").read_text(), "running\n")
        (MNT / "b/work/go").touch()
        self.assertEqual((MNT / "b/events/long/wait").read_text(), "exited 3\n")
        self.assertEqual((MNT / "b/events/long/stdout").read_text(), "before\nafter\n")

    def test_4_removal_unmounts_and_purge_keeps_what_sandboxes_need(self) -> None:
        said = run("dpkg", "--no-triggers", "-r", "sbxfs")
        self.assertIn("these sandboxes go on", said)
        self.assertFalse(mounted(MNT))
        self.assertIn(f"{MNT}/b", NOTE.read_text())
        said = run("dpkg", "--no-triggers", "-P", "sbxfs")
        self.assertIn("/var/lib/sbxfs is kept", said)
        self.install("new")
        run("mount", MNT)
        (MNT / "b/run/again").write_text("echo here\n")
        self.assertEqual((MNT / "b/events/again/wait").read_text(), "exited 0\n")
        (MNT / "b").rmdir()
        wait_until(lambda: "stopping" not in run("sh", "-c", f"cat {MNT}/.mount/history/*/status"), "it is gone")

    def test_5_purge_leaves_nothing_when_nothing_lives(self) -> None:
        said = run("dpkg", "--no-triggers", "-r", "sbxfs")
        self.assertNotIn("go on", said)
        self.assertTrue(Path("/etc/sbxfs/config.toml").exists())  # a conffile stays until purge
        self.assertTrue(Path("/var/lib/sbxfs").exists())
        run("dpkg", "--no-triggers", "-P", "sbxfs")
        self.assertFalse(Path("/var/lib/sbxfs").exists())
        self.assertFalse(Path("/etc/sbxfs").exists())
        left = run("sh", "-c", "ls -d /usr/bin/sbxfs /usr/sbin/*sbxfs /usr/lib/systemd/*/sbxfs* 2>/dev/null || true")
        self.assertEqual(left, "")


def pack(place: Path) -> None:
    """Two packages of one build, which differ in their version."""
    (place / "packages").mkdir()
    for name, version in (("old", "0.0.9"), ("new", "0.0.10")):
        made = place / name
        run("cpack", "--config", BUILD / "CPackConfig.cmake", "-G", "DEB", "-B", made, "-R", version, limit=120)
        (package,) = made.glob("*.deb")
        shutil.move(package, place / "packages" / f"{name}.deb")
        shutil.rmtree(made)


def make_root(place: Path) -> Path:
    """In the namespace: a root directory for the machine of the test."""
    root = place / "root"
    root.mkdir()
    run("mount", "-t", "tmpfs", "-o", "mode=755", "none", root)
    (root / "layers").mkdir()
    for at in ("usr", "etc", "var/lib/dpkg"):
        layer = root / "layers" / at.replace("/", "-")
        for part in ("upper", "work"):
            (layer / part).mkdir(parents=True)
        (root / at).mkdir(parents=True)
        run("mount", "-t", "overlay", "-o", f"lowerdir=/{at},upperdir={layer}/upper,workdir={layer}/work", "none",
            root / at)
    for name in ("bin", "sbin", "lib", "lib64", "lib32", "libx32"):
        if os.path.islink(f"/{name}"):
            (root / name).symlink_to(os.readlink(f"/{name}"))
    for name in ("tmp", "run", "mnt", "srv", "root", "home", "proc", "sys", "dev", "var/log", "var/tmp", "var/cache",
                 "packages", "tests"):
        (root / name).mkdir(parents=True)
    (root / "var/run").symlink_to("/run")
    (root / "tmp").chmod(0o1777)
    run("mount", "-t", "proc", "none", root / "proc")
    for name in ("sys", "dev"):
        run("mount", "--rbind", f"/{name}", root / name)
    for source, at in ((place / "packages", "packages"), (SOURCE / "tests", "tests")):
        run("mount", "--bind", source, root / at)
    for name in ("fstab", "mtab"):  # of this test alone
        (root / "etc" / name).unlink(missing_ok=True)
    (root / "etc/mtab").symlink_to("../proc/self/mounts")
    return root


def inside(place: Path) -> None:
    root = make_root(place)
    # Not chroot(2): in one of those nobody may make user namespaces, which sandboxes are.
    os.chdir(root)
    (root / "old").mkdir()
    run("pivot_root", ".", "old")
    os.chdir("/")
    run("umount", "-l", "/old")
    os.rmdir("/old")
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root",
                   "XDG_RUNTIME_DIR": "/run",
                   "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "PYTHONDONTWRITEBYTECODE": "1"}
    os.execve("/usr/bin/python3", ["python3", "/tests/package/package_test.py", "--machine"], environment)


def main() -> None:
    if sys.argv[1:2] == ["--inside"]:
        return inside(Path(sys.argv[2]))
    if sys.argv[1:2] == ["--machine"]:
        unittest.main(argv=["package"], verbosity=1, failfast=True)
    require(needs_root=True)
    for program in ("dpkg", "dpkg-deb", "dpkg-shlibdeps", "cpack", "unshare", "findmnt"):
        if shutil.which(program) is None:
            skip(f"{program} is missing")
    if not (BUILD / "packaging" / "sbxfs.1.gz").exists():
        skip("nothing to pack: build sbxfs_package_files")
    place = Path(tempfile.mkdtemp(prefix="sbxfs-package-", dir="/tmp"))
    os.umask(0o022)
    try:
        pack(place)
        # The pid namespace ends with its first process, and everything that was started in it.
        done = subprocess.run(["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
                               sys.executable, __file__, "--inside", str(place)], check=False, timeout=100)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
