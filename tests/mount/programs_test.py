#!/usr/bin/env python3
"""Programs that know nothing of sbxfs work in a sandbox's files as in any directory: shells, languages, git and
the tools everybody has. And a whole project, edited here and built there. Contract 5."""

import os
import shutil
import stat
import subprocess
import sys
import textwrap
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.case import Live, main  # noqa: E402
from live.files import FilesCase  # noqa: E402
from live.terminal import Terminal  # noqa: E402

SHELLS = [shell for shell in (["bash", "--norc"], ["dash"], ["zsh", "-f"], ["busybox", "sh"])
          if shutil.which(shell[0])]

# What shells do with files, in words all of them know.
SHELL_WORK = r"""
set -e
mkdir -p a/b && cd a/b && cd ../..
echo one > f; echo two >> f; cat < f
cat > here <<END
three
END
while read -r line; do echo "<$line>"; done < f
{ echo x; echo y; } > g; (echo z) >> g; grep -c . g
exec 3<> here; read -r first <&3; echo "$first"; echo four >&3; exec 3>&-; cat here
for i in 1 2 3; do : > "glob $i"; done
printf '[%s]\n' glob*
set -C; if ( : > f ) 2>/dev/null; then echo clobbered; else echo kept; fi; set +C
test -s f && test ! -s "glob 1" && test -d a/b && test -x a && echo tests
printf 'echo sourced\n' > lib.sh && . ./lib.sh
touch -t 200001010000 old; test f -nt old && echo newer
ln -s f link && test -L link && cat link
t=$(mktemp -d ./tmp.XXXXXX) && echo in > "$t/f" && rm -r "$t"
mv f moved && cp moved copied && cmp moved copied && rm moved copied here g
sort -o sorted <<END
b
a
END
cat sorted
ls
"""
SHELL_SAYS = """\
one
two
<one>
<two>
3
three
three
four
[glob 1]
[glob 2]
[glob 3]
kept
tests
sourced
newer
one
two
a
b
a
glob 1
glob 2
glob 3
lib.sh
link
old
sorted
"""


class Shells(FilesCase):
    def test_each_shell_does_to_files_what_it_does_anywhere(self) -> None:
        for shell in SHELLS:
            with self.subTest(shell=shell[0]):
                directory = self.here / shell[0]
                directory.mkdir()
                done = subprocess.run([*shell, "-c", SHELL_WORK], cwd=directory, capture_output=True,
                                      text=True, timeout=30, check=False, env={**os.environ, "LC_ALL": "C"})
                self.assertEqual((done.stdout, done.stderr, done.returncode), (SHELL_SAYS, "", 0))
        self.assert_both_sides_agree()

    def test_each_shell_on_a_terminal(self) -> None:
        for shell in SHELLS:
            with self.subTest(shell=shell[0]):
                environment = {"PS1": "sh> ", "HISTFILE": "", "ENV": ""}
                with Terminal([*shell, "-i"], self.here, environment) as terminal:
                    terminal.type(f"mkdir {shell[0]}; cd {shell[0]}; echo text > file\r")
                    terminal.type("cat fi*; pwd; exit\r")
                    terminal.expect(f"/{self.here.name}/{shell[0]}")
                    self.assertEqual(terminal.end(), 0)
                self.assertEqual(self.sh(f"cat {shell[0]}/file"), "text\n")


class Languages(FilesCase):
    def test_python(self) -> None:
        script = textwrap.dedent("""
            import os, pathlib, shelve, shutil, sqlite3, tempfile, zipfile
            db = sqlite3.connect('x.db'); db.execute('create table t(a)')
            db.execute('insert into t values(7)'); db.commit(); db.close()
            db = sqlite3.connect('x.db'); print(db.execute('select a from t').fetchone()[0])
            with tempfile.TemporaryDirectory(dir='.') as d:
                pathlib.Path(d, 'f').write_text('x')
            with tempfile.TemporaryFile(dir='.') as f:
                f.write(b'unnamed'); f.seek(0); print(f.read())
            with shelve.open('shelf') as shelf: shelf['k'] = [1, 2]
            with shelve.open('shelf') as shelf: print(shelf['k'])
            os.makedirs('tree/a/b'); pathlib.Path('tree/a/b/f').write_text('deep')
            shutil.make_archive('packed', 'zip', 'tree')
            print(zipfile.ZipFile('packed.zip').read('a/b/f'))
            shutil.copytree('tree', 'copy'); shutil.move('copy', 'moved')
            pathlib.Path('new').write_text('new'); pathlib.Path('new').replace('moved/a/b/f')
            print(pathlib.Path('moved/a/b/f').read_text(), *sorted(map(str, pathlib.Path('moved').rglob('*'))))
            shutil.rmtree('moved')
        """)
        self.assertEqual(self.run_here(sys.executable, "-c", script),
                         "7\nb'unnamed'\n[1, 2]\nb'deep'\nnew moved/a moved/a/b moved/a/b/f\n")
        self.assert_both_sides_agree()

    @unittest.skipUnless(shutil.which("node"), "no node")
    def test_node(self) -> None:
        script = textwrap.dedent("""
            const fs = require('fs');
            const names = [...Array(100).keys()];
            (async () => {
                await fs.promises.mkdir('a/b/c', {recursive: true});
                await Promise.all(names.map(i => fs.promises.writeFile(`a/b/f${i}`, `${i}`)));
                const texts = await Promise.all(names.map(i => fs.promises.readFile(`a/b/f${i}`, 'utf8')));
                console.log(texts.map(Number).reduce((x, y) => x + y));
                fs.cpSync('a', 'copy', {recursive: true, preserveTimestamps: true});
                fs.renameSync('copy/b', 'moved');
                fs.copyFileSync('moved/f7', 'seven', fs.constants.COPYFILE_EXCL);
                fs.appendFileSync('seven', '!'); console.log(fs.readFileSync('seven', 'utf8'));
                try { fs.mkdirSync('a'); } catch (error) { console.log(error.code); }
                try { fs.writeFileSync('seven', '', {flag: 'wx'}); } catch (error) { console.log(error.code); }
                const scratch = fs.mkdtempSync('tmp-'); fs.rmSync(scratch, {recursive: true});
                await new Promise((done, failed) => fs.createReadStream('moved/f9')
                    .pipe(fs.createWriteStream('stream')).on('finish', done).on('error', failed));
                console.log(fs.readFileSync('stream', 'utf8'), fs.readdirSync('.').join(' '));
                fs.rmSync('a', {recursive: true}); console.log(fs.existsSync('a'));
            })();
        """)
        self.assertEqual(self.run_here("node", "-e", script),
                         "4950\n7!\nEEXIST\nEEXIST\n9 a copy moved seven stream\nfalse\n")
        self.assert_both_sides_agree()

    @unittest.skipUnless(shutil.which("perl"), "no perl")
    def test_perl(self) -> None:
        script = textwrap.dedent(r"""
            use strict; use warnings; use File::Copy; use File::Temp; use File::Find; use Fcntl qw(:flock);
            open(my $f, '>', 'a') or die; print $f "x\n" x 3; close $f or die;
            open($f, '+<', 'a') or die; flock($f, LOCK_EX | LOCK_NB) or die;
            seek($f, 2, 0); print $f "y"; close $f or die;
            copy('a', 'b') or die; move('b', 'c') or die; rename('c', 'd') or die; symlink('d', 'l') or die;
            { my $t = File::Temp->new(DIR => '.'); print $t "gone"; close $t or die; }
            { local @ARGV = ('d'); local $^I = '.bak'; while (<>) { s/y/z/; print; } }
            my @found; find(sub { push @found, $_ if -f }, '.');
            print join(' ', sort @found), "\n", readlink('l'), "\n";
        """)
        self.assertEqual(self.run_here("perl", "-e", script), "a d d.bak l\nd\n")
        self.assertEqual((self.here / "d").read_text(), "x\nz\nx\n")
        self.assert_both_sides_agree()


@unittest.skipUnless(shutil.which("git"), "no git")
class Git(FilesCase):
    # Nothing of this machine's own configuration.
    ENVIRONMENT = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_EDITOR": "true",
                   "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.com",
                   "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.com"}

    def git(self, *words: str, at: str = ".") -> str:
        return self.run_here("git", "-C", at, *words, env=self.ENVIRONMENT)

    def write(self, name: str, text: str) -> None:
        (self.here / name).write_text(text)

    def test_git_from_init_to_gc(self) -> None:
        self.git("init", "-q", "-b", "main", "r")
        for i in range(20):
            self.write(f"r/file{i}", f"{i}\n" * 100)
        self.git("add", ".", at="r")
        self.git("commit", "-q", "-m", "first", at="r")
        self.git("checkout", "-q", "-b", "side", at="r")
        self.write("r/file1", "side\n" * 100)
        self.git("commit", "-q", "-a", "-m", "on the side", at="r")
        self.write("r/new", "new\n")
        self.git("add", "new", at="r")
        self.git("commit", "-q", "-m", "another", at="r")
        self.git("checkout", "-q", "main", at="r")
        self.assertFalse((self.here / "r" / "new").exists())
        self.write("r/file2", "main\n" * 100)
        self.git("commit", "-q", "-a", "-m", "on main", at="r")
        self.git("rebase", "-q", "main", "side", at="r")
        self.git("checkout", "-q", "main", at="r")
        self.git("merge", "-q", "--no-ff", "-m", "merged", "side", at="r")
        self.git("tag", "-a", "v1", "-m", "one", at="r")
        self.git("worktree", "add", "-q", "--detach", "../w", at="r")
        self.write("w/file3", "in the worktree\n")
        self.git("stash", "-q", at="w")
        self.git("stash", "pop", "-q", at="w")
        self.git("checkout", "-q", "file3", at="w")
        self.git("worktree", "remove", "../w", at="r")
        self.git("mv", "file4", "moved", at="r")
        self.git("rm", "-q", "file5", at="r")
        self.git("commit", "-q", "-m", "moved", at="r")
        self.git("gc", "-q", "--prune=now", at="r")
        self.git("clone", "-q", "r", "clone")
        self.git("clone", "-q", "--depth", "1", f"file://{self.here}/r", "shallow")
        for tree in ("r", "clone"):
            self.assertEqual(self.git("status", "--porcelain", at=tree), "")
            self.git("fsck", "--full", "--strict", "--no-progress", at=tree)
            self.assertEqual(len(self.git("log", "--oneline", at=tree).splitlines()), 6)
        self.assertEqual((self.here / "clone" / "file1").read_text(), "side\n" * 100)
        # The same repository, for a git in the sandbox.
        self.assertEqual(self.sh("cd r && git -c safe.directory='*' status --porcelain && "
                                 "git -c safe.directory='*' log --oneline | wc -l").strip(), "6")
        self.assert_both_sides_agree()

    def test_two_gits_at_once_do_not_lose_a_commit(self) -> None:
        self.git("init", "-q", "-b", "main", ".")
        self.write("f", "0\n")
        self.git("add", ".")
        self.git("commit", "-q", "-m", "0")
        # One of the two finds the lock taken, and tries again.
        script = ("n=0; while [ $n -lt 4 ]; do echo $0 $n > f$0; git add f$0 2>/dev/null && "
                  "git commit -q -m $0.$n f$0 2>/dev/null && n=$((n + 1)); done")
        writers = [subprocess.Popen(["sh", "-c", script, str(i)], cwd=self.here,
                                    env={**os.environ, **self.ENVIRONMENT}) for i in range(2)]
        for writer in writers:
            self.assertEqual(writer.wait(30), 0)
        self.assertEqual(sorted(self.git("log", "--format=%s").split()),
                         sorted(["0"] + [f"{i}.{n}" for i in range(2) for n in range(4)]))
        self.git("fsck", "--full", "--strict", "--no-progress")


class Tools(FilesCase):
    def make_tree(self, at: Path) -> None:
        (at / "d" / "e").mkdir(parents=True)
        (at / "d" / "big").write_bytes(os.urandom(300000))
        (at / "d" / "e" / "small").write_text("small")
        (at / "empty").mkdir(mode=0o700)
        (at / "script").write_text("#!/bin/sh\n")
        (at / "script").chmod(0o755)
        os.symlink("d/big", at / "link")
        os.symlink("nowhere", at / "dangling")
        os.link(at / "script", at / "hard")
        os.utime(at / "script", (1_000_000_000, 1_000_000_000))

    @unittest.skipUnless(shutil.which("rsync"), "no rsync")
    def test_rsync_there_and_back(self) -> None:
        local = self.local()
        self.make_tree(local)
        self.run_here("rsync", "-aH", f"{local}/", "copy/")
        self.assert_same_tree(local, self.here / "copy")
        self.assertEqual(self.run_here("rsync", "-aHi", f"{local}/", "copy/"), "", "nothing to do")
        (local / "d" / "e" / "small").write_text("another")
        (local / "d" / "big").unlink()
        self.run_here("rsync", "-aH", "--delete", f"{local}/", "copy/")
        self.assert_same_tree(local, self.here / "copy")
        for way in ("--inplace", "--append", "--checksum", "--partial"):
            with open(local / "script", "a") as script:
                script.write("# more\n")
            self.run_here("rsync", "-aH", way, f"{local}/", "copy/")
            self.assert_same_tree(local, self.here / "copy")
        self.run_here("rsync", "-aH", "copy/", f"{local}-back")
        self.assert_same_tree(local, Path(f"{local}-back"))
        self.assert_both_sides_agree()

    def test_tar_there_and_back(self) -> None:
        local = self.local()
        self.make_tree(local)
        self.run_here("sh", "-c", f"tar -C {local} -cf - . | tar -xpf -")
        self.assert_same_tree(local, self.here)
        (Live.place.path / "untarred").mkdir()
        self.run_here("sh", "-c", f"tar -czf - . | tar -C {Live.place.path}/untarred -xzpf -")
        self.assert_same_tree(local, Live.place.path / "untarred")
        self.assert_both_sides_agree()

    def test_cp_a_there_and_back(self) -> None:
        local = self.local()
        self.make_tree(local)
        self.run_here("cp", "-a", str(local), "copy")
        self.assert_same_tree(local, self.here / "copy")
        self.run_here("cp", "-a", "copy", "again")
        self.assert_same_tree(local, self.here / "again")
        self.run_here("cp", "-a", "copy", f"{local}-back")
        self.assert_same_tree(local, Path(f"{local}-back"))
        self.assert_both_sides_agree()

    def test_sed_i_sort_o_and_friends(self) -> None:
        (self.here / "text").write_text("b\na\n")
        (self.here / "text").chmod(0o640)
        self.run_here("sed", "-i.orig", "s/a/c/", "text")
        self.assertEqual((self.here / "text").read_text(), "b\nc\n")
        self.assertEqual(stat.S_IMODE((self.here / "text").stat().st_mode), 0o640)
        self.run_here("sort", "-r", "-o", "text", "text")
        self.assertEqual((self.here / "text").read_text(), "c\nb\n")
        self.run_here("sh", "-c", "install -m 755 text script && ln -s text l && touch new && "
                                  "dd if=/dev/zero of=zeroes bs=64k count=3 2>/dev/null && "
                                  "truncate -s 5 zeroes && mv new newer && rmdir $(mktemp -d -p .) && "
                                  "split -n 2 text && gzip -k zeroes && gzip -t zeroes.gz && "
                                  "echo 1 | tee -a text > /dev/null")
        self.assertEqual((self.here / "zeroes").stat().st_size, 5)
        self.assertEqual((self.here / "text").read_text(), "c\nb\n1\n")
        self.assert_both_sides_agree()

    @unittest.skipUnless(shutil.which("busybox"), "no busybox")
    def test_busybox_tools(self) -> None:
        self.make_tree(self.here / "t")
        self.run_here("busybox", "sh", "-c",
                      "set -e; busybox cp -a t u; busybox tar -cf x.tar u; busybox rm -r u; busybox tar -xf x.tar; "
                      "busybox diff -r t/d u/d; busybox sed -i s/m/M/ u/d/e/small; busybox mv u v; "
                      "busybox gzip x.tar; busybox find v -name big -exec busybox rm {} +")
        self.assertEqual((self.here / "v" / "d" / "e" / "small").read_text(), "sMall")
        self.assertFalse((self.here / "v" / "d" / "big").exists())
        self.assert_both_sides_agree()

    def test_find_and_rm_rf_below_fs_are_ordinary(self) -> None:
        self.make_tree(self.here)
        self.assertEqual(len(self.run_here("find", ".", "-type", "f").split()), 4)
        self.assertEqual(self.run_here("find", ".", "-size", "+100k", "-newer", "script", "-perm", "-u+w"),
                         "./d/big\n")
        self.run_here("rm", "-rf", "d")
        self.run_here("find", ".", "-mindepth", "1", "-delete")
        self.assertEqual(os.listdir(self.here), [])

    @unittest.skipUnless(shutil.which("rg"), "no ripgrep")
    def test_ripgrep_finds_what_grep_finds(self) -> None:
        self.sh("mkdir -p src .git; for i in $(seq 300); do echo \"line $i\" > src/f$i; done; "
                "echo needle > src/f150; echo 'f15*' > src/.gitignore; echo needle > src/other; "
                "head -c 5000000 /dev/zero > src/zeroes; echo needle >> src/zeroes")
        self.assertEqual(self.run_here("rg", "-l", "needle"), "src/other\n")
        self.assertEqual(sorted(self.run_here("rg", "-luua", "needle", ".").split()),
                         sorted(self.run_here("grep", "-rl", "needle", ".").split()))
        self.assertEqual(len(self.run_here("rg", "-uu", "--mmap", "-c", "^line", "src").split()), 299)

    @unittest.skipUnless(shutil.which("sqlite3"), "no sqlite3")
    def test_sqlite_on_this_side_in_each_journal_mode(self) -> None:
        for mode in ("delete", "truncate", "persist", "wal", "memory"):
            with self.subTest(mode=mode):
                script = (f"pragma journal_mode={mode}; create table t(a integer primary key, b text); begin;" +
                          "insert into t(b) values('x');" * 200 + "commit; begin; delete from t; rollback;"
                          "select count(*) from t; pragma integrity_check;")
                said = self.run_here("sqlite3", f"{mode}.db", script)
                self.assertEqual(said.split(), [mode, "200", "ok"])
                self.assertEqual(self.run_here("sqlite3", f"{mode}.db", "vacuum; select count(*) from t;"), "200\n")

    @unittest.skipUnless(shutil.which("sqlite3"), "no sqlite3")
    def test_four_writers_of_one_sqlite_file_on_this_side(self) -> None:
        self.run_here("sqlite3", "x.db", "create table t(a)")
        writers = [subprocess.Popen(["sqlite3", "-cmd", ".timeout 20000", "x.db", "insert into t values(1);" * 5],
                                    cwd=self.here) for _ in range(4)]
        for writer in writers:
            self.assertEqual(writer.wait(30), 0)
        self.assertEqual(self.run_here("sqlite3", "x.db", "select count(*) from t; pragma integrity_check"), "20\nok\n")

    @unittest.skipUnless(shutil.which("make"), "no make")
    def test_make_here_rebuilds_what_is_older(self) -> None:
        (self.here / "Makefile").write_text("all: out\nout: in\n\tcp in out\n\t@echo made >> log\n")
        (self.here / "in").write_text("1\n")
        self.run_here("make", "-s")
        self.assertIn("Nothing to be done", self.run_here("make"))
        os.utime(self.here / "out", (1_000_000_000, 1_000_000_000))
        self.run_here("make", "-s")
        self.assertEqual((self.here / "log").read_text(), "made\nmade\n")


PROJECT = {
    "Makefile": textwrap.dedent("""\
        CFLAGS = -O1 -Wall -Werror
        objects = $(patsubst %.c,build/%.o,$(wildcard *.c))
        build/app: $(objects)
        \t$(CC) -o $@ $^
        build/%.o: %.c api.h | build
        \t$(CC) $(CFLAGS) -c -o $@ $<
        build:
        \tmkdir -p $@
        test: build/app
        \t./tests/run.sh
        .PHONY: test
    """),
    "api.h": "int twice(int);\nint answer(void);\n",
    "twice.c": '#include "api.h"\nint twice(int x) { return x + x + 1; }\n',
    "answer.c": '#include "api.h"\nint answer(void) { return twice(21); }\n',
    "main.c": '#include <stdio.h>\n#include "api.h"\nint main(void) { printf("%d\\n", answer()); return 0; }\n',
    "tests/run.sh": '#!/bin/sh\ngot=$(build/app)\n[ "$got" = 42 ] && echo passed || '
                    '{ echo "got $got, not 42"; exit 1; }\n',
}


@unittest.skipUnless(all(map(shutil.which, ("git", "make", "cc"))), "no git, make or cc")
class Project(FilesCase):
    """The everyday loop: sources edited here, built and tested there, results looked at here."""

    def git(self, *words: str) -> str:
        return self.run_here("git", "-c", "user.name=t", "-c", "user.email=t@example.com", *words, env={
            "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"})

    def test_a_c_project_is_cloned_edited_here_and_built_and_tested_there(self) -> None:
        origin = self.local()
        for name, text in PROJECT.items():
            (origin / name).parent.mkdir(exist_ok=True)
            (origin / name).write_text(text)
        (origin / "tests" / "run.sh").chmod(0o755)
        for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "as it was"]):
            self.git("-C", str(origin), *words)
        self.git("clone", "-q", str(origin), "app")

        event = self.box.run("first", f"cd {self.there}/app && make -s test")
        self.assertEqual(event.wait(), "exited 2")
        self.assertEqual(event.stdout, b"got 43, not 42\n")
        self.assert_both_sides_agree()

        self.run_here("sed", "-i", "s/ + 1//", "app/twice.c")
        # SFTP tells whole seconds, so within one nobody can tell which is newer: as if edited a moment later.
        later = (self.here / "app" / "build" / "app").stat().st_mtime + 2
        os.utime(self.here / "app" / "twice.c", (later, later))
        event = self.box.run("second", f"cd {self.there}/app && make test")
        self.assertEqual(event.wait(), "exited 0")
        self.assertIn(b"passed\n", event.stdout)
        self.assertEqual(event.stdout.count(b" -c "), 1, "only what was edited is compiled again")
        self.assert_both_sides_agree()

        self.assertEqual(sorted(os.listdir(self.here / "app" / "build")), ["answer.o", "app", "main.o", "twice.o"])
        self.assertEqual((self.here / "app" / "build" / "app").read_bytes()[:4], b"\x7fELF")
        self.git("-C", "app", "commit", "-q", "-a", "-m", "twice is twice")
        self.git("-C", "app", "push", "-q", str(origin), "main:fixed")
        self.assertEqual(self.git("-C", str(origin), "show", "fixed:twice.c"),
                         (self.here / "app" / "twice.c").read_text())
        self.assertEqual(self.git("-C", "app", "status", "--porcelain"), "?? build/\n")


if __name__ == "__main__":
    main()
