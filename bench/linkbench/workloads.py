"""What is measured. A workload lays out files on the server's own disk (`lay_out`, before anybody attaches), then works
through a peer with parts of it inside clocks, then checks what came of it. All but lay_out runs in a process of its own."""

import json
import os
import subprocess
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Iterator, Optional, Sequence

from linkbench import tree
from linkbench.peers import Loop, Peer, Sbxfs, Ssh
from linkbench.server import Server

MOUNTED = ("sbxfs", "sbxfs-writeback-off", "sshfs-1", "sshfs-4", "rclone")
MiB = 1 << 20


@dataclass(frozen=True)
class Scale:
    files: int = tree.FILES
    file_mib: int = 64      # sequential and random
    big_mib: int = 256      # the larger sequential one
    sparse_gib: int = 4
    reads: int = 1024       # random ones, of 4 KiB
    saves: int = 10
    commands: int = 100


@dataclass
class Measured:
    seconds: float
    cpu_seconds: float
    to_server: int
    from_server: int
    more: dict[str, Any] = field(default_factory=dict)


def cpu_seconds(pids: Sequence[int]) -> float:
    """Of these processes, and of those they have started and waited for."""
    ticks = 0
    for pid in pids:
        words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += sum(map(int, words[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


class Sample:
    """One run of one workload with one peer."""

    def __init__(self, server: Server, peer: Peer, scale: Scale, local: Path, loop_program: Path) -> None:
        self.server, self.peer, self.scale, self.local, self.loop_program = server, peer, scale, local, loop_program
        self.here = server.fresh()  # on the server's disk
        self.measured: dict[str, Measured] = {}

    @property
    def there(self) -> Path:
        """The same directory through the peer."""
        return self.peer.root / self.here.name

    @contextmanager
    def clock(self, name: str) -> Iterator[Measured]:
        """Until everything has reached the server."""
        pids = self.peer.processes()
        counts = self.server.relay.counts()
        cpu = cpu_seconds(pids)
        result = Measured(0, 0, 0, 0)
        started = time.monotonic()
        yield result
        self.peer.barrier(self.there)
        result.seconds = result.seconds or time.monotonic() - started
        result.cpu_seconds = result.cpu_seconds or cpu_seconds(pids) - cpu
        passed = self.server.relay.counts().since(counts)
        result.to_server, result.from_server = passed.to_server, passed.from_server
        self.measured[name] = result

    def answers(self) -> str:
        return json.dumps({name: asdict(measured) for name, measured in self.measured.items()})


def call(*words: Any, out: Any = subprocess.DEVNULL, env: Optional[dict[str, str]] = None) -> bytes:
    done = subprocess.run([str(word) for word in words], stdout=out, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                          env=env, check=False)
    assert done.returncode == 0, f"{words}: {done.returncode}: {done.stderr.decode()[-500:]}"
    return done.stdout or b""


def check_same(one: Path, other: Path) -> None:
    done = subprocess.run(["diff", "-rq", one, other], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    assert not lines, f"{len(lines)} differences: {lines[0]}"


class Workload:
    name = ""
    clocks: tuple[str, ...] = ()  # what it measures, if that is not its name
    peers: tuple[str, ...] = MOUNTED

    def lay_out(self, sample: Sample) -> None:
        pass

    def work(self, sample: Sample) -> None:
        raise NotImplementedError

    @classmethod
    def results(cls) -> tuple[str, ...]:
        return cls.clocks or (cls.name,)


class SequentialRead(Workload):
    name = "read"
    peers = (*MOUNTED, "loop")

    def size(self, scale: Scale) -> int:
        return scale.file_mib * MiB

    def lay_out(self, sample: Sample) -> None:
        tree.make_blob(sample.here / "blob", self.size(sample.scale))

    def work(self, sample: Sample) -> None:
        size = self.size(sample.scale)
        with sample.clock(self.name) as clock:
            if isinstance(sample.peer, Loop):
                bare = sample.peer.command(sample.loop_program, "read", sample.here / "blob", size)
                clock.seconds, clock.cpu_seconds = bare["seconds"], bare["cpu_seconds"]
                return
            buffer = bytearray(MiB)
            got = 0
            with open(sample.there / "blob", "rb", buffering=0) as file:
                while part := file.readinto(buffer):
                    got += part
        assert got == size, got
        assert tree.sha256(sample.there / "blob") == tree.sha256(sample.here / "blob")


class SequentialWrite(Workload):
    name = "write"
    peers = (*MOUNTED, "loop")

    def size(self, scale: Scale) -> int:
        return scale.file_mib * MiB

    def lay_out(self, sample: Sample) -> None:
        tree.make_blob(sample.local / "blob", self.size(sample.scale))

    def work(self, sample: Sample) -> None:
        size = self.size(sample.scale)
        data = memoryview((sample.local / "blob").read_bytes())
        with sample.clock(self.name) as clock:
            if isinstance(sample.peer, Loop):
                bare = sample.peer.command(sample.loop_program, "write", sample.here / "blob", size)
                clock.seconds, clock.cpu_seconds = bare["seconds"], bare["cpu_seconds"]
                return
            with open(sample.there / "blob", "wb", buffering=0) as file:
                for at in range(0, size, MiB):
                    assert file.write(data[at:at + MiB]) == MiB
                os.fsync(file.fileno())
        assert tree.sha256(sample.here / "blob") == tree.sha256(sample.local / "blob")


class BigRead(SequentialRead):
    name = "read_big"
    peers = ("sbxfs", "sshfs-1", "sshfs-4", "loop")

    def size(self, scale: Scale) -> int:
        return scale.big_mib * MiB


class BigWrite(SequentialWrite):
    name = "write_big"
    peers = ("sbxfs", "sshfs-1", "sshfs-4", "loop")

    def size(self, scale: Scale) -> int:
        return scale.big_mib * MiB


def random_reads(sample: Sample, name: str, size: int) -> None:
    with sample.clock(name) as clock:
        said = call("fio", "--name=random", f"--filename={sample.there / 'blob'}", "--rw=randread", "--bs=4k",
                    f"--size={size}", f"--io_size={sample.scale.reads * 4096}", "--ioengine=psync", "--readonly",
                    "--randseed=11", "--output-format=json", out=subprocess.PIPE)
        read = json.loads(said)["jobs"][0]["read"]
        assert read["total_ios"] == sample.scale.reads, read["total_ios"]
        clock.seconds = read["runtime"] / 1000
        clock.more["bytes_read"] = read["io_bytes"]
        clock.more["p50_ms"] = read["clat_ns"]["percentile"]["50.000000"] / 1e6
        clock.more["p99_ms"] = read["clat_ns"]["percentile"]["99.000000"] / 1e6


class RandomRead(Workload):
    name = "random_read"

    def lay_out(self, sample: Sample) -> None:
        tree.make_blob(sample.here / "blob", sample.scale.file_mib * MiB)

    def work(self, sample: Sample) -> None:
        random_reads(sample, self.name, sample.scale.file_mib * MiB)
        assert tree.sha256(sample.there / "blob") == tree.sha256(sample.here / "blob")


class SparseRead(Workload):
    name = "sparse_read"
    MARK = b"mark" * 1024

    def lay_out(self, sample: Sample) -> None:
        with (sample.here / "blob").open("wb") as file:
            file.truncate(sample.scale.sparse_gib << 30)
            for gib in range(sample.scale.sparse_gib):
                file.seek((gib << 30) + 5 * 4096)
                file.write(self.MARK)

    def work(self, sample: Sample) -> None:
        random_reads(sample, self.name, sample.scale.sparse_gib << 30)
        with (sample.there / "blob").open("rb") as file:
            for gib in range(sample.scale.sparse_gib):
                file.seek((gib << 30) + 4 * 4096)
                assert file.read(3 * 4096) == bytes(4096) + self.MARK + bytes(4096)


class OnTree(Workload):
    """On a tree that is there already."""

    def lay_out(self, sample: Sample) -> None:
        tree.make_tree(sample.here / "tree", sample.scale.files)


class Find(OnTree):
    name = "find"

    def work(self, sample: Sample) -> None:
        with sample.clock(self.name):
            found = call("find", sample.there / "tree", "-type", "f", out=subprocess.PIPE)
        assert found.count(b"\n") == sample.scale.files, found.count(b"\n")


class Grep(OnTree):
    name = "grep"

    def work(self, sample: Sample) -> None:
        with sample.clock(self.name):
            found = self.lines(sample.there)
        assert found == self.lines(sample.here)

    def lines(self, directory: Path) -> list[bytes]:
        return sorted(subprocess.run(["grep", "-r", tree.NEEDLE, "tree"], cwd=directory, stdout=subprocess.PIPE,
                                     check=True).stdout.splitlines())


class CopyOut(OnTree):
    name = "copy_out"

    def work(self, sample: Sample) -> None:
        with sample.clock(self.name):
            call("cp", "-r", sample.there / "tree", sample.local / "out")
        check_same(sample.here / "tree", sample.local / "out")


class GitStatus(Workload):
    """The index was written on the server: the first look from here reads every file."""

    name = "git"
    clocks = ("git_cold", "git_warm")

    def lay_out(self, sample: Sample) -> None:
        tree.make_repository(sample.here / "tree", sample.scale.files)

    def work(self, sample: Sample) -> None:
        git = ["git", "-c", "safe.directory=*", "-C", str(sample.there / "tree"), "status", "--porcelain"]
        for name in self.clocks:
            with sample.clock(name):
                said = call(*git, out=subprocess.PIPE, env=tree.git_environment())
            assert said == b"", said[:200]
        call("git", "-c", "safe.directory=*", "-C", sample.here / "tree", "fsck", env=tree.git_environment())


class IntoServer(Workload):
    def lay_out(self, sample: Sample) -> None:
        tree.make_tree(sample.local / "tree", sample.scale.files)


class CopyIn(IntoServer):
    name = "copy_in"

    def work(self, sample: Sample) -> None:
        with sample.clock(self.name):
            call("cp", "-r", sample.local / "tree", sample.there / "tree")
        check_same(sample.local / "tree", sample.here / "tree")


class Untar(IntoServer):
    name = "untar"

    def work(self, sample: Sample) -> None:
        archive = sample.local / "tree.tar"
        call("tar", "-C", sample.local, "-cf", archive, "tree")
        with sample.clock(self.name):
            call("tar", "-C", sample.there, "-xf", archive)
        check_same(sample.local / "tree", sample.here / "tree")


class Saves(Workload):
    """What an editor does that wants to lose nothing."""

    name = "saves"

    def text(self, number: int) -> bytes:
        return (f"version {number}\n" * 1000).encode()

    def lay_out(self, sample: Sample) -> None:
        (sample.here / "file").write_bytes(self.text(0))

    def work(self, sample: Sample) -> None:
        new = sample.there / ".file.new"
        with sample.clock(self.name):
            for number in range(1, sample.scale.saves + 1):
                with open(new, "wb", buffering=0) as file:
                    file.write(self.text(number))
                    os.fsync(file.fileno())
                new.rename(sample.there / "file")
        assert (sample.here / "file").read_bytes() == self.text(sample.scale.saves)
        assert os.listdir(sample.here) == ["file"]


class Remove(OnTree):
    name = "remove"

    def work(self, sample: Sample) -> None:
        with sample.clock(self.name):
            call("rm", "-rf", sample.there / "tree")
        assert os.listdir(sample.here) == []


class Commands(Workload):
    """`true`, one after the other, each until its outcome is known."""

    name = "command"
    peers = ("sbxfs", "ssh")

    def work(self, sample: Sample) -> None:
        times = []
        with sample.clock(self.name) as clock:
            for _ in range(sample.scale.commands):
                started = time.monotonic()
                if isinstance(sample.peer, Ssh):
                    call(*sample.peer.words, "true")
                else:
                    assert isinstance(sample.peer, Sbxfs)
                    said = sample.peer.run("true")
                    assert said == "exited 0\n", said
                times.append(time.monotonic() - started)
            times.sort()
            clock.seconds = times[len(times) // 2]
            clock.more["p99_ms"] = times[min(len(times) - 1, len(times) * 99 // 100)] * 1000


class Latency(Workload):
    """Single operations on a quiet tree, one after the other."""

    name = "latency"
    clocks = ("stat_cold", "open_read_cold", "stat_warm", "create", "rename", "unlink")

    def lay_out(self, sample: Sample) -> None:
        tree.make_tree(sample.here / "tree", 40)
        for number in range(40):
            (sample.here / f"d{number}").mkdir()
            (sample.here / f"d{number}" / "f").write_bytes(b"x" * 4000)

    def work(self, sample: Sample) -> None:
        there = sample.there

        def create(number: int) -> None:
            with open(there / f"new{number}", "wb", buffering=0) as file:
                file.write(b"x" * 100)

        jobs = {
            "stat_cold": lambda n: os.stat(there / f"d{n}" / "f"),
            "open_read_cold": lambda n: (there / f"d{39 - n}" / "f").read_bytes(),
            "stat_warm": lambda n: os.stat(there / "d0" / "f"),
            "create": create,
            "rename": lambda n: os.rename(there / f"new{n}", there / f"newer{n}"),
            "unlink": lambda n: os.unlink(there / f"newer{n}"),
        }
        for name, job in jobs.items():
            times = []
            with sample.clock(name) as clock:
                for number in range(20):
                    started = time.monotonic()
                    job(number)
                    times.append(time.monotonic() - started)
                times.sort()
                clock.seconds = times[10]
                clock.more["p99_ms"] = times[-1] * 1000


ALL: list[type[Workload]] = [SequentialRead, SequentialWrite, BigRead, BigWrite, RandomRead, SparseRead, Find, Grep, CopyOut,
                             GitStatus, CopyIn, Untar, Saves, Remove, Commands, Latency]

