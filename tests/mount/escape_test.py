#!/usr/bin/env python3
"""Attempts to get out of a local sandbox, as its own root, by every way we know of. What docs/LOCAL.md and
docs/SECURITY.md promise is refused is refused here; what they say is open is not tried."""

import os
import socket
import subprocess
import sys
import threading
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.box import Box  # noqa: E402
from live.case import Live, MountCase, main  # noqa: E402
from live.place import Place  # noqa: E402

SECRET = "canary-" + uuid.uuid4().hex
CONFIG = """
[templates.default]
provider = "local"
workdir = "/workspace"

[templates.closed]
provider = "local"
workdir = "/workspace"
network = "none"
"""


def configure(_: Place) -> str:
    return CONFIG


class Escapes(MountCase):
    """Each attempt prints what it got; `got` is what must not come out of it."""

    def attempt(self, script: str, limit: float = 30) -> str:
        """However it ends: what it printed, both streams."""
        event = self.box.run("e" + uuid.uuid4().hex[:12], script)
        event.wait(limit)
        return (event.stdout + event.stderr).decode(errors="replace")

    def test_files_of_the_host(self) -> None:
        """Secrets of this machine are not there, under any path."""
        marker = Live.place.path / "marker"
        marker.write_text(SECRET)
        marker.chmod(0o644)
        state = str(self.daemon.state)
        for path in (str(marker), f"/proc/1/root{marker}", f"/proc/self/root{marker}", f"/../../../..{marker}",
                     f"{state}/journal.db", f"{state}/boxes", f"/proc/1/root{state}", str(self.mnt),
                     "/etc/ssh/ssh_host_ed25519_key", "/root/.ssh", "/home", "/run/docker.sock",
                     "/var/run/docker.sock", "/run/containerd", "/run/dbus/system_bus_socket", "/run/systemd", "/sys",
                     "/boot", "/lost+found"):
            with self.subTest(path=path):
                said = self.attempt(f"ls -la {path} 2>/dev/null | grep -v -e ' \\.$' -e ' \\.\\.$' -e ^total; cat {path} 2>/dev/null")
                self.assertNotIn(SECRET, said)
                self.assertEqual(said.strip(), "")

    def test_the_hosts_accounts(self) -> None:
        """/etc is the sandbox's own: no password hash of this machine."""
        said = self.attempt("cat /etc/shadow /etc/gshadow 2>/dev/null; cat /etc/passwd")
        for line in Path("/etc/shadow").read_text().splitlines():
            word = line.split(":")[1]
            if len(word) > 2:
                self.assertNotIn(word, said)

    def test_processes_of_the_host(self) -> None:
        """None is seen, read, traced or signalled; the host's sleeper lives on."""
        sleeper = subprocess.Popen(["sleep", "300"], env={"SECRET": SECRET})
        try:
            said = self.attempt("cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'; "
                                f"kill -9 {sleeper.pid} 2>&1; ls /proc/{sleeper.pid}/root 2>&1")
            self.assertNotIn(SECRET, said)
            seen = self.attempt("ls /proc | grep -c '^[0-9]'")
            self.assertLess(int(seen.strip()), 30)
            # Everything that can be signalled: the sandbox's own, PID 1 among what survives.
            self.attempt("trap '' TERM; kill -TERM -1; kill -STOP 1; kill -KILL 1; true")
            self.assertIsNone(sleeper.poll())
        finally:
            sleeper.kill()
            sleeper.wait()
        self.assertEqual(self.box.sh("echo alive"), "alive\n")

    def test_the_first_process_of_the_sandbox(self) -> None:
        """PID 1 comes from outside: it can be neither traced nor looked into."""
        said = self.attempt("cat /proc/1/environ /proc/1/maps /proc/1/mem 2>/dev/null | head -c 64 | wc -c; "
                            "ls /proc/1/fd /proc/1/cwd/ 2>/dev/null | wc -l; readlink /proc/1/exe 2>/dev/null; true")
        self.assertEqual(said.split()[:1], ["0"])
        self.assertNotIn(str(Live.place.path), said)

    def test_kernel_and_devices(self) -> None:
        """No device but the harmless ones; what writes to the kernel is refused."""
        for path in ("/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg", "/dev/sda", "/dev/vda", "/dev/nvme0n1", "/dev/loop0",
                     "/dev/loop-control", "/dev/fuse", "/dev/kvm", "/dev/net/tun", "/dev/vhost-net"):
            with self.subTest(path=path):
                self.assertIn("no", self.attempt(f"test -e {path} && head -c 1 {path} >/dev/null 2>&1 && echo yes || echo no"))
        writes = {"/proc/sysrq-trigger": "h", "/proc/sys/kernel/core_pattern": "|/bin/true", "/proc/sys/kernel/modprobe": "/x",
                  "/proc/sys/vm/drop_caches": "1", "/proc/sys/kernel/hostname": "x", "/proc/sys/fs/binfmt_misc/register": ":x:",
                  "/proc/irq/default_smp_affinity": "1", "/sys/kernel/uevent_helper": "/x", "/proc/acpi/wakeup": "x",
                  "/proc/sys/kernel/randomize_va_space": "0"}
        before = Path("/proc/sys/kernel/core_pattern").read_text()
        for path, word in writes.items():
            with self.subTest(path=path):
                said = self.attempt(f"(echo '{word}' > {path}) 2>/dev/null && echo written || echo refused")
                if path != "/proc/sys/kernel/hostname":  # of its own uts namespace
                    self.assertEqual(said, "refused\n")
        self.assertEqual(Path("/proc/sys/kernel/core_pattern").read_text(), before)
        said = self.attempt("head -c 1 /proc/kcore 2>/dev/null | wc -c; head -c 1 /proc/kmsg 2>/dev/null | wc -c")
        self.assertEqual(said.split(), ["0", "0"])
        # Making a device node of the disk below it.
        said = self.attempt("mknod /tmp/disk b 254 0 2>/dev/null; mknod /tmp/mem c 1 1 2>/dev/null; "
                            "head -c 1 /tmp/disk 2>/dev/null | wc -c; head -c 1 /tmp/mem 2>/dev/null | wc -c")
        self.assertEqual(said.split(), ["0", "0"])

    def test_mounts_and_control_groups(self) -> None:
        """Nothing of the host becomes reachable by mounting, also not from a user namespace of its own."""
        marker = Live.place.path / "mount-marker"
        marker.write_text(SECRET)
        tries = ("mkdir -p /tmp/m; mount -t proc none /tmp/m 2>/dev/null; mount -t cgroup2 none /tmp/m 2>/dev/null; "
                 "mount -t cgroup -o memory none /tmp/m 2>/dev/null; mount -t sysfs none /tmp/m 2>/dev/null; "
                 "mount -t debugfs none /tmp/m 2>/dev/null; mount /dev/vda /tmp/m 2>/dev/null; "
                 "mount --bind /proc/1/root /tmp/m 2>/dev/null; mount -t overlay -o lowerdir=/:/usr none /tmp/m 2>/dev/null; "
                 "umount -l /proc /dev /etc /usr 2>/dev/null; "
                 f"find /tmp/m -maxdepth 3 -name release_agent 2>/dev/null; cat /tmp/m{marker} 2>/dev/null; "
                 f"cat {marker} /tmp/m/1/root{marker} 2>/dev/null; "
                 "true")
        for script in (tries, f"unshare -Urm sh -c \"{tries}\" 2>/dev/null; true",
                       f"unshare -UrmpfC --mount-proc sh -c \"{tries}\" 2>/dev/null; true"):
            said = self.attempt(script)
            self.assertNotIn(SECRET, said)
            self.assertNotIn("release_agent", said)
        # Joining a namespace of the host, or loading a module.
        said = self.attempt("nsenter -t 1 -m -p -n true 2>/dev/null && echo joined; modprobe dummy 2>/dev/null && echo loaded; "
                            "insmod /tmp/x.ko 2>/dev/null && echo loaded; reboot -f 2>/dev/null; swapon /tmp/x 2>/dev/null && echo swap; "
                            "date -s @0 >/dev/null 2>&1 && echo clock; true")
        self.assertEqual(said, "")
        self.assertEqual(self.box.sh("echo alive"), "alive\n")

    def test_capabilities(self) -> None:
        """No new privileges, and none of those that reach beyond namespaces without limits."""
        said = self.attempt("grep -E '^(NoNewPrivs|CapEff|CapBnd)' /proc/self/status")
        facts = dict(line.split(":\t") for line in said.splitlines())
        self.assertEqual(facts["NoNewPrivs"], "1")
        for number, name in ((16, "SYS_MODULE"), (17, "SYS_RAWIO"), (21, "SYS_ADMIN"), (22, "SYS_BOOT"), (25, "SYS_TIME"),
                             (12, "NET_ADMIN"), (34, "SYSLOG"), (2, "DAC_READ_SEARCH"), (19, "SYS_PTRACE"), (39, "BPF")):
            self.assertEqual(int(facts["CapBnd"], 16) >> number & 1, 0, name)

    def test_another_sandbox(self) -> None:
        """Its files, its processes, its keys, its socket are none of this one's."""
        other = Box.make(self.daemon, "other")
        try:
            (other.path / "work" / "secret").write_text(SECRET)
            other.run("holder", f"SECRET={SECRET} exec sleep 60")
            token = other.info["id"]
            pid = other.init()
            said = self.attempt(f"cat /proc/{pid}/root/workspace/secret 2>&1; grep -ra {SECRET[:8]} /workspace /tmp /run /var "
                                "/root 2>/dev/null; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; "
                                f"find / -xdev -name '*{token}*' 2>/dev/null; kill -9 {pid} 2>/dev/null; ls /dev/shm; "
                                "find / -xdev -type s 2>/dev/null")
            self.assertNotIn(SECRET, said)
            self.assertNotIn(token, said)
            self.assertEqual(other.status, "ready")
        finally:
            other.destroy()

    def test_links_that_lead_out_do_not_lead_out_here(self) -> None:
        """A link of the sandbox is followed by this machine's kernel: not beyond fs/."""
        marker = Live.place.path / "link-marker"
        marker.write_text(SECRET)
        self.box.sh("mkdir -p /workspace/l/deep; cd /workspace/l; "
                    f"ln -sf {marker} abs; ln -sf ../../../../../../../../../../../..{marker} rel; "
                    f"ln -sf .. up; ln -sf up/up/up/up/up/up/up{marker} chain; ln -sf /proc/self/root{marker} proc; "
                    f"ln -sf deep/../../../../../../../../..{marker} mixed; ln -sf / top; ln -sf /etc/passwd passwd; true")
        work = self.box.path / "work" / "l"
        for name in ("abs", "rel", "chain", "proc", "mixed", f"top{marker}", f"up/up/up/up/up/up{marker}", f"deep/..{marker}"):
            with self.subTest(link=name):
                try:
                    said = (work / name).read_text()
                except OSError:
                    continue
                self.assertNotIn(SECRET, said)
        self.assertEqual((work / "passwd").read_text(), self.box.sh("cat /etc/passwd"))
        # Directories that become links while this machine walks through them.
        self.box.run("swap", "cd /workspace/l; mkdir -p d; echo inside > d/f; for i in $(seq 300); do rm -rf d; "
                             f"ln -s {marker.parent} d; rm d; mkdir d; echo inside > d/link-marker; done")
        for _ in range(300):
            try:
                said = (work / "d" / "link-marker").read_text()
            except OSError:
                continue
            self.assertIn(said, ("inside\n", ""))
        self.box.event("swap").wait(60)

    def test_the_metadata_address_and_loopback_without_a_network(self) -> None:
        """network = "none": no address but its own loopback, no abstract socket of the host."""
        server = socket.create_server(("127.0.0.1", 0))
        port = server.getsockname()[1]
        abstract = socket.socket(socket.AF_UNIX)
        name = "sbxfs-escape-" + uuid.uuid4().hex[:8]
        abstract.bind("\0" + name)
        abstract.listen()
        reached: list[str] = []

        def accept(listener: socket.socket, what: str) -> None:
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:
                    return
                reached.append(what)

        for listener, what in ((server, "tcp"), (abstract, "abstract")):
            threading.Thread(target=accept, args=(listener, what), daemon=True).start()
        program = ("import socket\n"
                   f"for family, to in ((socket.AF_INET, ('169.254.169.254', 80)), (socket.AF_INET, ('127.0.0.1', {port})),\n"
                   f"                   (socket.AF_INET, ('192.0.2.1', 80)), (socket.AF_UNIX, '\\0{name}')):\n"
                   "    s = socket.socket(family)\n    s.settimeout(2)\n"
                   "    try:\n        s.connect(to)\n        print('reached', to)\n"
                   "    except OSError as error:\n        pass\n")
        closed = Box.make(self.daemon, "shut@closed")
        try:
            (closed.path / "work" / "try.py").write_text(program)
            self.assertEqual(closed.sh("/usr/bin/python3 try.py 2>&1; true"), "")
            self.assertEqual(closed.sh("cat /proc/net/dev | grep -c : "), "1\n")
            self.assertEqual(reached, [])
        finally:
            closed.destroy()
            server.close()
            abstract.close()

    def test_the_supervisor_cannot_be_made_to_lie_about_this_machine(self) -> None:
        """What the sandbox says of its own files stays below fs/: names, sizes, times."""
        self.box.sh("cd /workspace; mkdir -p odd; touch \"odd/$(printf 'a\\nb')\" \"odd/$(printf '\\033[2J')\" odd/-rf 'odd/ '; "
                    "truncate -s 8E odd/huge 2>/dev/null || truncate -s 1T odd/huge; touch -d @0 odd/old; mkfifo odd/fifo; "
                    "touch -d 2400-01-01 odd/new 2>/dev/null; true")
        odd = self.box.path / "work" / "odd"
        for name in os.listdir(odd):
            self.assertNotIn("/", name)
            os.lstat(odd / name)
        with self.assertRaises(OSError):
            os.open(odd / "fifo", os.O_RDONLY | os.O_NONBLOCK)


if __name__ == "__main__":
    main(limit=110, needs_root=True, configure=configure)
