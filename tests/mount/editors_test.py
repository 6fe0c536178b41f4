#!/usr/bin/env python3
"""Editors save files of a sandbox as they save any file: typed at on a terminal, in batch, and what VS Code
does, step by step. Each editor has its own way: in place, aside and renamed, with locks and backups."""

import json
import os
import shutil
import stat
import subprocess
import sys
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.case import main  # noqa: E402
from live.files import FilesCase  # noqa: E402
from live.terminal import Terminal  # noqa: E402

# vim's ways to save: over the file, by a new file renamed into place, what it thinks best.
VIM_WAYS = ("backupcopy=yes", "backupcopy=no backup", "backupcopy=auto", "nowritebackup", "fsync")

VSCODE_SAVE = r"""
const fs = require('fs');
const [atomic, path, text] = [process.argv[1] === 'atomic', process.argv[2], process.argv[3]];
const real = fs.realpathSync(path);
const before = fs.statSync(real);
const temporary = real + '.vsctmp';
const fd = fs.openSync(atomic ? temporary : real, 'w', before.mode);
fs.writeSync(fd, text);
fs.fdatasyncSync(fd);
fs.closeSync(fd);
if (atomic) fs.renameSync(temporary, real);
// Its idea of "has somebody else changed this file": what stat says right after the save.
const after = fs.statSync(real);
console.log(JSON.stringify({mtime: after.mtimeMs, size: after.size}));
"""


class EditorCase(FilesCase):
    """`text` holds one line, and a program in the sandbox sees what was saved."""

    def setUp(self) -> None:
        super().setUp()
        self.text = self.here / "text"
        self.text.write_text("one\n")
        self.text.chmod(0o640)

    def saved(self, text: str, *others: str) -> None:
        """Seen so on both sides, with its mode, and nothing left beside it but `others`."""
        self.assertEqual(self.text.read_text(), text)
        self.assertEqual(sorted(os.listdir(self.here)), sorted(["text", *others]))
        self.assertEqual(self.sh("stat -c %a text; cat text"), "640\n" + text)


class Vim(EditorCase):
    @unittest.skipUnless(shutil.which("vim"), "no vim")
    def test_vim_on_a_terminal(self) -> None:
        expected = "one\n"
        for way in VIM_WAYS:
            with self.subTest(way=way):
                with Terminal(["vim", "-N", "-u", "NONE", "-i", "NONE", "-c", f"set {way}", "text"],
                              self.here) as vim:
                    vim.expect("one")
                    self.assertIn(".text.swp", os.listdir(self.here))
                    vim.type("Goby hand\x1b:w\r")
                    vim.expect("written")
                    vim.type(":q\r")
                    self.assertEqual(vim.end(), 0)
                expected += "by hand\n"
                if way.endswith(" backup"):
                    self.assertEqual((self.here / "text~").read_text(), expected[:-len("by hand\n")])
                    (self.here / "text~").unlink()
                self.saved(expected)

    @unittest.skipUnless(shutil.which("vim"), "no vim")
    def test_vim_in_batch(self) -> None:
        for way in VIM_WAYS:
            self.run_here("vim", "-es", "-N", "-u", "NONE", "-i", "NONE", "-c", f"set {way}",
                          "-c", "normal Gotwo", "-c", "wq", "text")
            (self.here / "text~").unlink(missing_ok=True)
        self.saved("one\n" + "two\n" * len(VIM_WAYS))

    @unittest.skipUnless(shutil.which("vim"), "no vim")
    def test_vim_notices_what_a_command_changed(self) -> None:
        with Terminal(["vim", "-N", "-u", "NONE", "-i", "NONE", "text"], self.here) as vim:
            vim.expect("one")
            # vim takes times up to a second apart, and SFTP tells whole ones, for the same.
            self.sh("echo from there > text; touch -d '5 seconds' text")
            vim.type("Gomine\x1b:w\r")
            vim.expect("changed since reading")
            vim.type("n")
            vim.expect("Press ENTER")
            vim.type("\r:q!\r")
            self.assertEqual(vim.end(), 0)
        self.assertEqual(self.text.read_text(), "from there\n")

    @unittest.skipUnless(shutil.which("vim"), "no vim")
    def test_what_a_killed_vim_had_not_saved_is_in_its_swap_file(self) -> None:
        with Terminal(["vim", "-N", "-u", "NONE", "-i", "NONE", "text"], self.here) as vim:
            vim.expect("one")
            vim.type("Gonot saved\x1b:preserve\r")
            vim.expect("preserved")
            vim.process.kill()
            vim.end()
        self.run_here("vim", "-es", "-N", "-u", "NONE", "-i", "NONE", "-c", "recover text",
                      "-c", "w! recovered", "-c", "qa!")
        self.assertEqual((self.here / "recovered").read_text(), "one\nnot saved\n")


class Others(EditorCase):
    @unittest.skipUnless(shutil.which("nano"), "no nano")
    def test_nano_on_a_terminal(self) -> None:
        for options in ([], ["--backup"], ["--locking"]):
            with self.subTest(options=options):
                self.text.write_text("one\n")
                with Terminal(["nano", "--ignorercfiles", *options, "text"], self.here) as nano:
                    nano.expect("one")
                    nano.type("by hand \x0f")  # ^O
                    nano.expect("File Name to Write")
                    nano.type("\r")
                    nano.expect("Wrote 1 line")
                    nano.type("\x18")  # ^X
                    self.assertEqual(nano.end(), 0)
                self.saved("by hand one\n", *(["text~"] if "--backup" in options else []))
                (self.here / "text~").unlink(missing_ok=True)

    @unittest.skipUnless(shutil.which("emacs"), "no emacs")
    def test_emacs_on_a_terminal(self) -> None:
        with Terminal(["emacs", "-nw", "-Q", "text"], self.here) as emacs:
            emacs.expect("one")
            emacs.type("by hand ")
            emacs.expect("by hand")
            self.assertTrue(os.path.islink(self.here / ".#text"), "its lock")
            emacs.type("\x18\x13")  # C-x C-s
            emacs.expect("Wrote")
            emacs.type("\x18\x03")
            self.assertEqual(emacs.end(), 0)
        self.assertEqual((self.here / "text~").read_text(), "one\n")
        self.saved("by hand one\n", "text~")

    @unittest.skipUnless(shutil.which("emacs"), "no emacs")
    def test_emacs_in_batch_with_each_kind_of_backup(self) -> None:
        expected = "one\n"
        for setting in ("(setq backup-by-copying t)", "(setq backup-by-copying nil)",
                        "(setq make-backup-files nil)", "(setq file-precious-flag t)"):
            with self.subTest(setting=setting):
                done = subprocess.run(
                    ["emacs", "-Q", "--batch", "text", "--eval",
                     f"(progn {setting} (goto-char (point-max)) (insert \"two\\n\") (save-buffer))"],
                    cwd=self.here, capture_output=True, text=True, check=False, timeout=30)
                self.assertEqual(done.returncode, 0, done.stderr)
                expected += "two\n"
                (self.here / "text~").unlink(missing_ok=True)
                self.saved(expected)

    @unittest.skipUnless(shutil.which("ed"), "no ed")
    def test_ed(self) -> None:
        self.run_here("sh", "-c", r"printf 'a\ntwo\n.\nw\nq\n' | ed -s text")
        self.saved("one\ntwo\n")


class VsCode(EditorCase):
    @unittest.skipUnless(shutil.which("node"), "no node")
    def test_vs_code_saves_and_does_not_think_that_somebody_else_did(self) -> None:
        os.symlink("text", self.here / "link")
        for way in ("atomic", "in place"):
            for path in ("text", "link"):
                with self.subTest(way=way, path=path):
                    after = json.loads(self.run_here("node", "-e", VSCODE_SAVE, way, path,
                                                     f"{way} {path}\n"))
                    self.saved(f"{way} {path}\n", "link")
                    facts = self.text.stat()
                    self.assertEqual((facts.st_mtime_ns / 1e6, facts.st_size),
                                     (after["mtime"], after["size"]))
                    self.assertTrue(stat.S_ISLNK(os.lstat(self.here / "link").st_mode))
        self.assertLess(abs(self.text.stat().st_mtime - time.time()), 5)

    @unittest.skipUnless(shutil.which("node"), "no node")
    def test_fifty_saves_in_a_row_are_each_what_the_next_command_sees(self) -> None:
        for i in range(50):
            text = f"save {i}\n"
            temporary = self.here / "text.vsctmp"
            with open(temporary, "w") as file:
                file.write(text)
                file.flush()
                os.fdatasync(file.fileno())
            os.rename(temporary, self.text)
            if i % 5 == 0:
                self.assertEqual(self.sh("cat text; ls"), text + "text\n")


class ConfigFiles(FilesCase):
    """A value of config/ in an editor: no file can be made beside it, so locks, backups and new versions cannot."""

    def setUp(self) -> None:
        super().setUp()
        self.config = self.box.path / "config"
        self.value = self.config / "cwd"
        self.value.write_text("/tmp\n")
        self.addCleanup(self.value.write_text, "")

    def saved(self, text: str) -> None:
        self.assertEqual(self.value.read_text(), text)
        self.assertEqual(self.box.run(self.here.name[-50:], "pwd").wait(), "exited 0")
        self.assertEqual(self.box.event(self.here.name[-50:]).stdout.decode(), text)

    @unittest.skipUnless(shutil.which("vim"), "no vim")
    def test_vim_on_a_terminal_sets_a_value(self) -> None:
        with Terminal(["vim", "-N", "-u", "NONE", "-i", "NONE", "-n", "cwd"], self.config) as vim:
            vim.expect("/tmp")
            vim.type("cc/usr\x1b:w\r")
            vim.expect("written")
            vim.type(":q\r")
            self.assertEqual(vim.end(), 0)
        self.saved("/usr\n")

    @unittest.skipUnless(shutil.which("nano"), "no nano")
    def test_nano_on_a_terminal_sets_a_value(self) -> None:
        with Terminal(["nano", "--ignorercfiles", "cwd"], self.config) as nano:
            nano.expect("/tmp")
            nano.type("\x0b/usr\x0f")  # ^K cuts the line
            nano.expect("File Name to Write")
            nano.type("\r")
            nano.expect("Wrote 1 line")
            nano.type("\x18")
            self.assertEqual(nano.end(), 0)
        self.saved("/usr\n")

    @unittest.skipUnless(shutil.which("emacs"), "no emacs")
    def test_emacs_sets_a_value(self) -> None:
        home = self.local()
        (home / ".emacs.d").mkdir()  # where it keeps backups that cannot be made beside the file
        done = subprocess.run(
            ["emacs", "-Q", "--batch", "cwd", "--eval", "(progn (erase-buffer) (insert \"/usr\n\") (save-buffer))"],
            cwd=self.config, capture_output=True, text=True, check=False, timeout=30,
            env={**os.environ, "HOME": str(home)})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.saved("/usr\n")

    @unittest.skipUnless(shutil.which("node"), "no node")
    def test_vs_code_sets_a_value(self) -> None:
        self.run_here("node", "-e", VSCODE_SAVE, "in place", str(self.value), "/usr\n")
        self.saved("/usr\n")


if __name__ == "__main__":
    main()
