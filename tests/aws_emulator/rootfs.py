"""The root of a container, made from this machine's /usr: read-only programs, everything else its own. Two containers
share nothing that either can change."""

import os
import shutil
from pathlib import Path

# Of this machine's /etc what programs in /usr look for, and everybody may read.
_SHARED_ETC = ("alternatives", "ssl/certs", "ca-certificates", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime",
               "terminfo", "os-release", "debian_version", "services", "protocols", "login.defs", "mime.types",
               "python3.11", "perl")
_PASSWD = """root:*:0:0:root:/root:/bin/bash
daemon:*:1:1::/usr/sbin:/usr/sbin/nologin
bin:*:2:2::/bin:/usr/sbin/nologin
sshd:*:102:65534::/run/sshd:/usr/sbin/nologin
nobody:*:65534:65534::/nonexistent:/usr/sbin/nologin
"""
_GROUP = "root:*:0:\ndaemon:*:1:\nbin:*:2:\ntty:*:5:\nusers:*:100:\nnogroup:*:65534:\n"
_NSSWITCH = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n"
_SHARED = "/opt/sbxfs/etc"  # where containers see the copy
# Of the user programs run as: bubblewrap keeps the id of an ordinary user.
HOME = "/root" if os.geteuid() == 0 else "/home/user"
ENTRYPOINT = "/opt/sbxfs/entrypoint"


def copy_shared_etc(shared: Path) -> None:
    """Once, for the first container: a mount for each of these would be most of what a start costs."""
    shared.mkdir()
    for name in _SHARED_ETC:
        (shared / name).parent.mkdir(parents=True, exist_ok=True)
        if os.path.isdir(f"/etc/{name}"):
            shutil.copytree(f"/etc/{name}", shared / name, symlinks=True)
        elif os.path.exists(f"/etc/{name}"):
            shutil.copy(f"/etc/{name}", shared / name)


def make_root(root: Path, hostname: str, workdir: str, entrypoint: Path) -> None:
    """The parts that are the container's own. Its directory must not exist yet."""
    for name in ("dev", "etc/ssl", "home", "mnt", "opt/sbxfs/etc", "proc", "root", "run/sshd", "srv", "sys", "tmp", "usr",
                 "var/tmp", "var/log", "var/lib", "var/cache", "workspace"):
        (root / name).mkdir(parents=True)
    root.chmod(0o755)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    (root / "root").chmod(0o700)
    (root / "var/run").symlink_to("/run")
    Path(f"{root}/{workdir}").mkdir(parents=True, exist_ok=True)
    passwd, group = _PASSWD, _GROUP
    if os.geteuid() != 0:  # sshd of an ordinary user lets in that user
        passwd += f"user:*:{os.geteuid()}:{os.getegid()}::/home/user:/bin/bash\n"
        group += f"user:*:{os.getegid()}:\n"
        (root / "home/user").mkdir()
    etc = {"passwd": passwd, "group": group, "nsswitch.conf": _NSSWITCH, "hostname": hostname + "\n",
           "hosts": f"127.0.0.1 localhost {hostname}\n::1 localhost\n"}
    for name, text in etc.items():
        (root / "etc" / name).write_text(text)
    for name in _SHARED_ETC:
        if os.path.exists(f"/etc/{name}"):
            (root / "etc" / name).symlink_to(f"{_SHARED}/{name}")
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if os.path.islink(f"/{name}"):
            (root / name).symlink_to(os.readlink(f"/{name}"))
    shutil.copy(entrypoint, f"{root}{ENTRYPOINT}")
    os.chmod(f"{root}{ENTRYPOINT}", 0o755)


def add_program(root: Path, name: str, text: str) -> None:
    file = Path(f"{root}/{name}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)


def bubblewrap(root: Path, shared: Path, hostname: str, workdir: str, info_fd: int) -> list[str]:
    """The command line up to the program. No network namespace: sshd listens on an address of its own."""
    words = ["bwrap", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--die-with-parent",
             "--new-session", "--as-pid-1", "--info-fd", str(info_fd), "--hostname", hostname]
    if os.geteuid() == 0:
        words += ["--cap-drop", "ALL"]
        for name in ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
                     "NET_BIND_SERVICE", "NET_RAW", "SYS_CHROOT", "MKNOD", "AUDIT_WRITE", "SETFCAP"):
            words += ["--cap-add", f"CAP_{name}"]
    else:
        words += ["--unshare-user", "--uid", str(os.geteuid()), "--gid", str(os.getegid())]
    words += ["--bind", str(root), "/", "--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if os.path.isdir(f"/{name}") and not os.path.islink(f"/{name}"):
            words += ["--ro-bind", f"/{name}", f"/{name}"]
    words += ["--ro-bind", str(shared), _SHARED]
    return [*words, "--clearenv", "--chdir", workdir]
