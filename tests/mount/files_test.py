#!/usr/bin/env python3
"""fs/ is an ordinary tree: the calls of a file system one by one, with the errno Linux gives, seen from
both sides. The programs that use them: programs_test.py. Contract 5."""

import errno
import fcntl
import hashlib
import mmap
import os
import random
import shutil
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.box import Box  # noqa: E402
from live.case import Live, main  # noqa: E402
from live.files import FilesCase  # noqa: E402
from live.place import wait_until  # noqa: E402


class Content(FilesCase):
    def test_what_is_written_here_is_read_there_and_back(self) -> None:
        (self.here / "a").write_text("from here\n")
        self.assertEqual(self.sh("cat a; echo from there > b"), "from here\n")
        self.assertEqual((self.here / "b").read_text(), "from there\n")

    def test_every_command_sees_every_byte_written_before_it(self) -> None:
        for i in range(20):
            (self.here / "f").write_text(f"{i}\n" * (i + 1))
            self.assertEqual(self.sh("cat f"), f"{i}\n" * (i + 1))

    def test_what_a_command_wrote_is_visible_when_it_has_ended(self) -> None:
        for i in range(20):
            self.sh(f"echo {i} > f; mkdir d{i}; rm -f gone; ln -sfn d{i} l")
            self.assertEqual((self.here / "f").read_text(), f"{i}\n")
            self.assertIn(f"d{i}", os.listdir(self.here))
            self.assertEqual(os.readlink(self.here / "l"), f"d{i}")

    def test_append(self) -> None:
        for i in range(5):
            with open(self.here / "log", "a") as file:
                file.write(f"{i}\n")
        self.sh("echo there >> log")
        with open(self.here / "log", "a") as file:
            file.write("here\n")
        self.assertEqual((self.here / "log").read_text(), "0\n1\n2\n3\n4\nthere\nhere\n")

    def test_two_appenders_lose_nothing(self) -> None:
        writers = [subprocess.Popen(["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do echo $0 >> log; done",
                                     str(n)], cwd=self.here) for n in range(4)]
        for writer in writers:
            self.assertEqual(writer.wait(20), 0)
        lines = (self.here / "log").read_text().split()
        self.assertEqual(sorted(lines), sorted([str(n) for n in range(4)] * 10))

    def test_truncate_shorter_and_longer(self) -> None:
        path = self.here / "t"
        path.write_bytes(b"0123456789")
        os.truncate(path, 4)
        self.assertEqual(path.read_bytes(), b"0123")
        os.truncate(path, 8)
        self.assertEqual(path.read_bytes(), b"0123\0\0\0\0")
        with open(path, "r+b") as file:
            file.truncate(2)
            self.assertEqual(os.fstat(file.fileno()).st_size, 2)
        self.assertEqual(path.stat().st_size, 2)
        with open(path, "wb"):
            pass
        self.assertEqual(path.stat().st_size, 0)

    def test_holes_read_as_zeroes(self) -> None:
        with open(self.here / "holes", "wb") as file:
            file.seek(1 << 20)
            file.write(b"end")
        data = (self.here / "holes").read_bytes()
        self.assertEqual(data, bytes(1 << 20) + b"end")
        self.assertEqual(self.sh("wc -c < holes").strip(), str((1 << 20) + 3))

    def test_random_writes_and_reads_agree_with_a_local_file(self) -> None:
        seed = random.randrange(1 << 32)
        dice = random.Random(seed)
        model = bytearray()
        with open(self.here / "random", "w+b", buffering=0) as file:
            for _ in range(150):
                offset = dice.randrange(0, 300000)
                if dice.random() < 0.5:
                    data = dice.randbytes(dice.choice((1, 100, 4096, 70000)))
                    if offset > len(model):
                        model.extend(bytes(offset - len(model)))
                    model[offset:offset + len(data)] = data
                    os.pwrite(file.fileno(), data, offset)
                elif dice.random() < 0.2:
                    size = dice.randrange(0, 300000)
                    model = model[:size] + bytes(max(0, size - len(model)))
                    os.ftruncate(file.fileno(), size)
                else:
                    size = dice.choice((1, 4096, 100000))
                    self.assertEqual(os.pread(file.fileno(), size, offset),
                                     bytes(model[offset:offset + size]), f"seed {seed}")
                self.assertEqual(os.fstat(file.fileno()).st_size, len(model), f"seed {seed}")
        self.assertEqual((self.here / "random").read_bytes(), bytes(model), f"seed {seed}")

    def test_a_file_of_64_mib_arrives_whole_in_both_directions(self) -> None:
        block = os.urandom(1 << 20)
        digest = hashlib.sha256()
        with open(self.here / "large", "wb", buffering=0) as file:
            for i in range(64):
                data = block[i * 1000:] + block[:i * 1000]
                digest.update(data)
                file.write(data)
        self.assertEqual(self.sh("sha256sum < large").split()[0], digest.hexdigest())
        again = hashlib.sha256()
        with open(self.here / "large", "rb") as file:
            while part := file.read(1 << 18):
                again.update(part)
        self.assertEqual(again.hexdigest(), digest.hexdigest())

    def test_mmap_reads_and_writes(self) -> None:
        path = self.here / "mapped"
        path.write_bytes(b"x" * 10000)
        with open(path, "r+b") as file:
            with mmap.mmap(file.fileno(), 0) as view:
                self.assertEqual(view[5000:5003], b"xxx")
                view[5000:5003] = b"abc"
                view.flush()
        self.assertEqual(self.sh("dd if=mapped bs=1 skip=5000 count=3 2>/dev/null"), "abc")
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
            view[0:1] = b"Z"
        self.assertEqual(self.sh("head -c 1 mapped"), "Z")

    def test_fsync_and_fdatasync_of_files_and_directories(self) -> None:
        with open(self.here / "s", "wb") as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
            os.fdatasync(file.fileno())
        directory = os.open(self.here, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)

    def test_copy_file_range(self) -> None:
        (self.here / "from").write_bytes(b"copied")
        with open(self.here / "from", "rb") as source, open(self.here / "to", "wb") as target:
            self.assertEqual(os.copy_file_range(source.fileno(), target.fileno(), 100), 6)
        self.assertEqual((self.here / "to").read_bytes(), b"copied")

    def test_what_cp_copies_within_the_sandbox_does_not_travel(self) -> None:
        if os.geteuid() != 0:
            self.skipTest("what a daemon has moved is root's to see")
        data = os.urandom(24 << 20)  # more than one request may copy
        (self.here / "from").write_bytes(data)
        before = self.daemon.bytes_moved()
        self.run_here("cp", "from", "to")
        self.assertLess(self.daemon.bytes_moved() - before, 1 << 20)
        self.assertEqual(self.sh("sha256sum < to").split()[0], hashlib.sha256(data).hexdigest())
        self.assertEqual((self.here / "to").read_bytes(), data)

    def test_copy_file_range_drops_what_was_cached_of_the_target(self) -> None:
        (self.here / "from").write_bytes(b"0123456789")
        target = self.here / "to"
        target.write_bytes(b"abcdefghij")
        self.assertEqual(target.read_bytes(), b"abcdefghij")
        with open(self.here / "from", "rb") as source, open(target, "r+b") as copy:
            self.assertEqual(os.copy_file_range(source.fileno(), copy.fileno(), 4, 2, 3), 4)
            self.assertEqual(os.pread(copy.fileno(), 100, 0), b"abc2345hij")
        self.assertEqual(target.read_bytes(), b"abc2345hij")

    def test_copy_file_range_within_a_file_and_from_control_files_reads_and_writes(self) -> None:
        before = self.daemon.last_error()
        with open(self.here / "f", "w+b", buffering=0) as file:
            file.write(b"0123456789")
            self.assertEqual(os.copy_file_range(file.fileno(), file.fileno(), 4, 0, 6), 4)
        self.assertEqual((self.here / "f").read_bytes(), b"0123450123")
        self.run_here("cp", str(self.box.path / "README.md"), "help")
        self.assertEqual((self.here / "help").read_bytes(), (self.box.path / "README.md").read_bytes())
        self.assertEqual(self.daemon.last_error(), before)

    def test_lseek_and_pread_and_a_read_past_the_end(self) -> None:
        (self.here / "s").write_bytes(b"0123456789")
        with open(self.here / "s", "rb", buffering=0) as file:
            self.assertEqual(os.pread(file.fileno(), 100, 8), b"89")
            self.assertEqual(os.pread(file.fileno(), 100, 10), b"")
            self.assertEqual(os.lseek(file.fileno(), 0, os.SEEK_END), 10)

    def test_open_flags_are_honoured(self) -> None:
        path = self.here / "o"
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
        os.write(fd, b"abc")
        with self.refused(errno.EBADF):
            os.read(fd, 1)
        os.close(fd)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o640)
        self.refuse(errno.EEXIST, os.open, path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        fd = os.open(path, os.O_RDONLY)
        with self.refused(errno.EBADF):
            os.write(fd, b"x")
        os.close(fd)
        self.refuse(errno.ENOENT, os.open, self.here / "none", os.O_RDWR)
        fd = os.open(path, os.O_RDWR | os.O_TRUNC)
        self.assertEqual(os.fstat(fd).st_size, 0)
        os.close(fd)


class Caches(FilesCase):
    """What a command does to files that are cached here (docs/CACHES.md)."""

    REWRITE = 'm=$(stat -c %y f); printf %s "$1" > f; touch -d "$m" f'

    def rewrite(self, text: str) -> None:
        self.sh(f'set -- {text}; {self.REWRITE}')

    def test_a_rewrite_of_equal_size_and_mtime_is_seen_at_the_commands_end(self) -> None:
        path = self.here / "f"
        path.write_text("aaaa")
        self.sh("touch -d '1 hour ago' f")
        for text in ("bbbb", "cccc", "dddd"):
            path.read_text()
            before = path.stat()
            self.rewrite(text)
            self.assertEqual((path.stat().st_size, path.stat().st_mtime), (4, before.st_mtime))
            self.assertEqual(path.read_text(), text)

    def test_an_open_file_and_a_mapping_show_what_a_command_wrote(self) -> None:
        path = self.here / "f"
        path.write_text("aaaa")
        self.sh("touch -d '1 hour ago' f")
        with open(path, "rb", buffering=0) as file, \
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            self.assertEqual((os.pread(file.fileno(), 4, 0), view[0:4]), (b"aaaa", b"aaaa"))
            self.rewrite("bbbb")
            self.assertEqual((os.pread(file.fileno(), 4, 0), view[0:4]), (b"bbbb", b"bbbb"))
            self.sh("echo and more >> f")
            self.assertEqual(os.fstat(file.fileno()).st_size, 13)

    def test_names_are_seen_at_the_commands_end(self) -> None:
        for i in range(10):
            self.assertFalse((self.here / f"n{i}").exists())
            os.listdir(self.here)
            self.sh(f"touch n{i}; rm -f n{i - 1}")
            self.assertTrue((self.here / f"n{i}").exists())
            self.assertEqual(os.listdir(self.here), [f"n{i}"])

    def test_a_process_left_behind_makes_what_is_seen_a_second_old_at_most(self) -> None:
        self.sh("(while [ ! -e stop ]; do date +%N > clock; sleep 0.05; done) >/dev/null 2>&1 & sleep 0.2")
        seen = set()
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline and len(seen) < 10:
            seen.add((self.here / "clock").read_text())
            time.sleep(0.05)
        (self.here / "stop").touch()
        self.assertGreaterEqual(len(seen), 10)

    def test_somebody_elses_sftp_is_somebody(self) -> None:
        # What it writes is seen within a second, as of any other process that lives there.
        self.assertFalse((self.here / "theirs").exists())
        source = self.local() / "source"
        source.write_text("by sftp\n")
        sftp = subprocess.Popen(["sftp", "-q", "-F", str(self.box.path / "ssh" / "config"), self.box.name],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert sftp.stdin is not None and sftp.stdout is not None
        try:
            print("!echo connected", file=sftp.stdin, flush=True)
            said = ""
            while "connected\n" != said:
                said = sftp.stdout.readline()
                self.assertTrue(said, "sftp has ended")
            self.assertFalse((self.here / "theirs").exists())
            # Until it has been noticed the box still counts as quiet.
            deadline = time.monotonic() + 1.5
            while time.monotonic() < deadline:
                self.assertFalse((self.here / "theirs").exists())
            print(f"put {source} {self.there}/theirs\n!echo written", file=sftp.stdin, flush=True)
            while "written\n" != said:
                said = sftp.stdout.readline()
                self.assertTrue(said, "sftp has ended")
            wait_until((self.here / "theirs").exists, "it is seen", limit=3)
        finally:
            sftp.stdin.close()
            sftp.wait(20)
            sftp.stdout.close()

    def test_writers_through_two_names_of_one_file_do_not_wait_for_each_other(self) -> None:
        (self.here / "one").write_bytes(b"")
        os.link(self.here / "one", self.here / "two")
        script = ("import os, sys; fd = os.open(sys.argv[1], os.O_RDWR | os.O_APPEND);"
                  "[(os.write(fd, b'x\\n'), os.pread(fd, 10, 0)) for _ in range(100)]")
        writers = [subprocess.Popen([sys.executable, "-c", script, name], cwd=self.here) for name in ("one", "two")]
        for writer in writers:
            self.assertEqual(writer.wait(20), 0)
        self.assertEqual(self.sh("wc -l < one").strip(), "200")

    def test_drop_caches(self) -> None:
        (self.box.path / "ctl").write_text("drop_caches\n")
        self.assertIn("drop_caches", (self.box.path / "ctl").read_text())


class NamesAndPlaces(FilesCase):
    def test_an_open_file_survives_its_unlink_and_a_rename_over_it(self) -> None:
        path = self.here / "f"
        path.write_text("old")
        with open(path) as file:
            path.unlink()
            self.assertFalse(path.exists())
            self.assertEqual(file.read(), "old")
            self.assertEqual(os.fstat(file.fileno()).st_size, 3)
        path.write_text("old")
        with open(path, "r+") as file:
            (self.here / "new").write_text("newer")
            os.rename(self.here / "new", path)
            self.assertEqual(file.read(), "old")
            file.write("more")
            file.flush()
            self.assertEqual(path.read_text(), "newer")

    def test_a_file_written_after_its_unlink_is_still_a_file(self) -> None:
        fd = os.open(self.here / "tmp", os.O_RDWR | os.O_CREAT)
        os.unlink(self.here / "tmp")
        os.write(fd, b"scratch")
        self.assertEqual(os.pread(fd, 100, 0), b"scratch")
        os.ftruncate(fd, 3)
        self.assertEqual(os.fstat(fd).st_size, 3)
        os.close(fd)
        self.assertEqual(os.listdir(self.here), [])

    def test_rename(self) -> None:
        (self.here / "a").write_text("a")
        (self.here / "b").write_text("b")
        os.rename(self.here / "a", self.here / "b")
        self.assertEqual((os.listdir(self.here), (self.here / "b").read_text()), (["b"], "a"))
        (self.here / "d").mkdir()
        os.rename(self.here / "b", self.here / "d" / "c")
        os.rename(self.here / "d", self.here / "e")
        self.assertEqual((self.here / "e" / "c").read_text(), "a")
        self.assertEqual(self.sh("cat e/c"), "a")
        (self.here / "full").mkdir()
        (self.here / "full" / "x").touch()
        self.refuse(errno.ENOTEMPTY, os.rename, self.here / "e", self.here / "full")
        self.refuse(errno.ENOENT, os.rename, self.here / "none", self.here / "x")
        self.refuse(errno.EINVAL, os.rename, self.here / "e", self.here / "e" / "inside")

    def test_rename_of_a_file_over_a_directory_and_the_other_way_round(self) -> None:
        (self.here / "f").touch()
        (self.here / "d").mkdir()
        self.refuse(errno.EISDIR, os.rename, self.here / "f", self.here / "d")
        self.refuse(errno.ENOTDIR, os.rename, self.here / "d", self.here / "f")

    def test_rename_flags_are_honoured_or_refused(self) -> None:
        (self.here / "a").write_text("a")
        (self.here / "b").write_text("b")
        self.run_here("mv", "-n", "a", "b")
        self.assertEqual((self.here / "b").read_text(), "b")

    def test_hard_links_are_one_file(self) -> None:
        (self.here / "a").write_text("one")
        os.link(self.here / "a", self.here / "b")
        (self.here / "b").write_text("changed")
        self.assertEqual((self.here / "a").read_text(), "changed")
        self.assertTrue(os.path.samefile(self.here / "a", self.here / "b"))
        self.assertEqual(self.sh("stat -c %h a; test a -ef b && echo same"), "2\nsame\n")
        self.refuse(errno.EEXIST, os.link, self.here / "a", self.here / "b")

    def test_directories(self) -> None:
        os.makedirs(self.here / "x" / "y" / "z")
        self.refuse(errno.EEXIST, os.mkdir, self.here / "x")
        self.refuse(errno.ENOTEMPTY, os.rmdir, self.here / "x")
        self.refuse(errno.ENOENT, os.mkdir, self.here / "none" / "x")
        self.refuse(errno.ENOENT, os.rmdir, self.here / "none")
        (self.here / "file").touch()
        self.refuse(errno.ENOTDIR, os.rmdir, self.here / "file")
        self.refuse(errno.ENOTDIR, os.mkdir, self.here / "file" / "x")
        self.refuse(errno.ENOTDIR, os.stat, self.here / "file" / "x")
        self.refuse(errno.EISDIR, os.unlink, self.here / "x")
        self.refuse(errno.EISDIR, os.open, self.here / "x", os.O_WRONLY)
        shutil.rmtree(self.here / "x")
        self.assertEqual(os.listdir(self.here), ["file"])

    def test_a_directory_of_a_thousand_files_is_listed_whole(self) -> None:
        self.sh("for i in $(seq 1000); do echo $i > f$i; done")
        self.assertEqual(len(os.listdir(self.here)), 1000)
        self.assertEqual(sum(int((self.here / f"f{i}").read_text()) for i in (1, 500, 1000)), 1501)
        sizes = {entry.name: entry.stat().st_size for entry in os.scandir(self.here)}
        self.assertEqual(sizes["f1000"], 5)
        with os.scandir(self.here) as entries:
            seen = [entry.name for entry in entries if os.unlink(entry.path) is None]
        self.assertEqual((len(seen), os.listdir(self.here)), (1000, []))

    def test_names_of_any_bytes(self) -> None:
        for name in ("a b", "new\nline", "tab\t", "'quote\"", "\\back", "*?[", "-rf", "ümlaut",
                     "x" * 255, ".hidden", "...", "trailing "):
            (self.here / name).write_text(name)
            self.assertEqual((self.here / name).read_text(), name)
            self.assertIn(name, os.listdir(self.here))
        raw = os.fsencode(self.here) + b"/\xff\xfe"
        with open(raw, "w") as file:
            file.write("raw")
        self.assertIn(b"\xff\xfe", os.listdir(os.fsencode(self.here)))

    def test_names_that_are_too_long(self) -> None:
        self.refuse(errno.ENAMETOOLONG, (self.here / ("x" * 256)).touch)
        self.refuse(errno.ENAMETOOLONG, os.mkdir, self.here / ("x" * 256))
        self.refuse(errno.ENAMETOOLONG, os.stat, self.here / ("x" * 256))

    def test_files_do_not_leave_their_sandbox_by_rename_or_link(self) -> None:
        other = Box.make(self.daemon, "other")
        (self.here / "f").write_text("stays")
        target = other.path / "fs" / "tmp" / "f"
        self.refuse(errno.EXDEV, os.rename, self.here / "f", target)
        self.refuse(errno.EXDEV, os.link, self.here / "f", target)
        self.run_here("mv", "f", str(target))  # copies
        self.assertEqual(target.read_text(), "stays")
        self.refuse(errno.EXDEV, os.rename, target, self.mnt / "other" / "f")
        other.destroy()


class Links(FilesCase):
    def test_targets_that_need_no_change_are_verbatim(self) -> None:
        for target in ("x", "a/b", "../y", "../../etc/passwd", "a b\tc"):
            link = self.here / "l"
            link.unlink(missing_ok=True)
            os.symlink(target, link)
            self.assertEqual(os.readlink(link), target)
            self.assertEqual(self.sh("readlink l"), target + "\n")

    def test_no_link_leads_out_of_the_sandbox(self) -> None:
        outside = Live.place.path / "outside"
        outside.write_text("never seen")
        self.sh("ln -s / r; ln -s /etc etc; ln -s /etc/hostname hostname")
        climbs = ["../" * 40 + str(outside).lstrip("/"), str(outside), "/", "/..", "/../../..",
                  "r/../../x", "r/../" * 10 + "x", "a/../../../../../../../../etc/passwd",
                  "./../../../../..", "//etc//passwd", "/proc/1/root", "..", "."]
        root = (self.box.path / "fs").resolve()
        for i, target in enumerate(climbs):
            self.sh(f"ln -sfn {target} l{i}")
            link = self.here / f"l{i}"
            text = os.readlink(link)
            self.assertFalse(text.startswith("/"), (target, text))
            parts = text.split("/")
            names = [at for at, part in enumerate(parts) if part != ".."]
            ups = [at for at, part in enumerate(parts) if part == ".."]
            self.assertTrue(not ups or not names or max(ups) < min(names), (target, text))
            resolved = Path(os.path.realpath(link))
            self.assertTrue(resolved == root or root in resolved.parents, (target, resolved))
        self.assertEqual((self.here / "hostname").read_text(), self.sh("cat /etc/hostname"))
        self.assertIn("passwd", os.listdir(self.here / "etc"))

    def test_chains_of_links_stay_inside(self) -> None:
        self.sh("ln -s / r; mkdir -p d/e; ln -s ../../.. d/e/up; ln -s d/e/up chain; "
                "ln -s chain/chain loopish; ln -s self self")
        root = (self.box.path / "fs").resolve()
        for path in ("r/../../../etc", "chain/../../../..", "d/e/up/../../../../..", "r/workspace"):
            resolved = Path(os.path.realpath(self.here / path.split("/")[0]))
            self.assertTrue(resolved == root or root in resolved.parents, (path, resolved))
        # The kernel walks `..` of a directory that a link led to by its parents in this mount.
        self.assertTrue(os.path.samefile(self.here / "r", root))
        self.refuse(errno.ELOOP, os.stat, self.here / "self")

    def test_a_dangling_link(self) -> None:
        os.symlink("nowhere", self.here / "l")
        self.refuse(errno.ENOENT, os.stat, self.here / "l")
        self.assertTrue(stat.S_ISLNK(os.lstat(self.here / "l").st_mode))
        self.assertEqual(os.lstat(self.here / "l").st_size, 7)
        self.refuse(errno.EEXIST, os.symlink, "x", self.here / "l")
        os.unlink(self.here / "l")


class Attributes(FilesCase):
    def test_modes(self) -> None:
        path = self.here / "m"
        path.touch()
        for mode in (0o600, 0o644, 0o755, 0o400, 0o000, 0o1777 & 0o777):
            os.chmod(path, mode)
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), mode)
            self.assertEqual(self.sh("stat -c %a m"), f"{mode:o}\n")
        for mode in (0o4755, 0o2755):
            self.refuse(errno.EPERM, os.chmod, path, mode, sentence="set-user-id")
        self.sh("chmod 4755 m")
        self.assertEqual(stat.S_IMODE(path.stat().st_mode) & 0o6000, 0)

    def test_an_mtime_once_shown_stays(self) -> None:
        path = self.here / "t"
        path.write_text("x")
        first = path.stat().st_mtime_ns
        time.sleep(1.1)
        path.read_text()
        self.assertEqual(path.stat().st_mtime_ns, first)
        os.utime(path, (1_000_000_000, 1_100_000_000))
        self.assertEqual((path.stat().st_atime, path.stat().st_mtime),
                         (1_000_000_000, 1_100_000_000))
        os.utime(path)
        self.assertAlmostEqual(path.stat().st_mtime, time.time(), delta=3)

    def test_files_show_as_owned_by_who_mounted(self) -> None:
        path = self.here / "o"
        path.touch()
        self.assertEqual((path.stat().st_uid, path.stat().st_gid), (os.geteuid(), os.getegid()))
        self.assertEqual(os.lstat(self.box.path / "fs" / "etc" / "passwd").st_uid, os.geteuid())
        os.chown(path, os.geteuid(), os.getegid())
        self.refuse(errno.EPERM, os.chown, path, 12345, -1)

    def test_statfs(self) -> None:
        space = os.statvfs(self.here)
        self.assertGreater(space.f_blocks * space.f_frsize, 1 << 20)
        self.assertEqual(space.f_namemax, 255)
        self.assertEqual(subprocess.run(["df", str(self.here)], capture_output=True,
                                        check=False).returncode, 0)

    def test_special_files_show_as_sockets_and_cannot_be_opened(self) -> None:
        self.sh("mkfifo fifo")
        self.assertTrue(stat.S_ISSOCK(os.lstat(self.here / "fifo").st_mode))
        self.refuse(errno.ENXIO, os.open, self.here / "fifo", os.O_RDONLY)
        self.refuse(errno.EOPNOTSUPP, os.mkfifo, self.here / "mine", sentence="FIFO")
        with socket.socket(socket.AF_UNIX) as listener:
            with self.assertRaises(OSError):
                os.chdir(self.here)
                try:
                    listener.bind("sock")
                finally:
                    os.chdir("/")

    def test_what_is_hidden_is_not_there(self) -> None:
        root = self.box.path / "fs"
        for name in ("proc", "sys", "dev"):
            self.assertNotIn(name, os.listdir(root))
            self.refuse(errno.ENOENT, os.stat, root / name)
        self.assertLessEqual({"etc", "usr", "tmp", "workspace", "root"}, set(os.listdir(root)))
        self.assertNotIn("sbxfs", os.listdir(root / "var" / "lib"))
        self.refuse(errno.ENOENT, os.stat, root / "var" / "lib" / "sbxfs")

    def test_flock_and_fcntl_work_between_programs_here(self) -> None:
        with open(self.here / "lock", "w") as first, open(self.here / "lock", "w") as second:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.refuse(errno.EAGAIN, fcntl.flock, second, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_a_sandbox_is_another_machine_not_ours(self) -> None:
        (Live.place.path / "host-file").write_text("host")
        self.assertEqual(self.sh(f"test -e {Live.place.path} || echo not there"), "not there\n")


if __name__ == "__main__":
    main()
