#!/usr/bin/env python3
"""Every example of docs/SEMANTICS.md is true: its console blocks are typed into a shell, in order, and what they
print is what the page says.

A section (##) has a shell of its own, in the mount point, and a new sandbox b1. In what is said to be printed,
`...` stands for any text of a line, and a line of nothing else for any number of lines. For ordinary users
(as_user.py), whose state directory is where the page says."""

import os
import re
import subprocess
import sys
import unittest
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.leftovers import left_behind  # noqa: E402
from live.place import SOURCE, Place, require, sbxfs, skip, wait_until  # noqa: E402

PAGE = SOURCE / "docs" / "SEMANTICS.md"
MARK = "--end-of-step--"

place: Place


@dataclass
class Step:
    """What is typed, what it is said to print, and where."""

    line: int
    command: str
    output: list[str] = field(default_factory=list)


@dataclass
class Section:
    title: str
    steps: list[Step] = field(default_factory=list)


def read_page(text: str) -> tuple[str, list[Section]]:
    """The page's configuration, the one toml block that a comment calls so, and its sections with examples."""
    sections: list[Section] = []
    configuration = ""
    language = ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            language = line[3:] if not language else ""
        elif not language and line.startswith("## "):
            sections.append(Section(line[3:]))
        elif language == "toml":
            configuration += line + "\n"
        elif language == "console":
            steps = sections[-1].steps
            if line.startswith("$ "):
                steps.append(Step(number, line[2:]))
            elif line.startswith("> ") and not steps[-1].output:
                steps[-1].command += "\n" + line[2:]
            else:
                steps[-1].output.append(line)
    return configuration, [section for section in sections if section.steps]


def agrees(said: list[str], printed: list[str]) -> bool:
    pattern = ""
    for line in said:
        if line == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*".join(re.escape(part) for part in line.split("...")) + r"\n"
    return re.fullmatch(pattern, "".join(line + "\n" for line in printed)) is not None


class Reading(unittest.TestCase):
    def test_dots_stand_for_text_and_for_lines_and_for_nothing_else(self) -> None:
        self.assertTrue(agrees(["a ... c"], ["a b c"]))
        self.assertFalse(agrees(["a ... c"], ["a b d"]))
        self.assertTrue(agrees(["a", "...", "z"], ["a", "b", "c", "z"]))
        self.assertTrue(agrees(["a", "...", "z"], ["a", "z"]))
        self.assertFalse(agrees(["a", "..."], ["b"]))
        self.assertFalse(agrees([], ["x"]))
        self.assertFalse(agrees(["x"], []))

    def test_every_section_of_promises_has_examples(self) -> None:
        text = PAGE.read_text()
        _, sections = read_page(text)
        without = set(re.findall(r"^## (\d.*)$", text, re.M)) - {section.title for section in sections}
        self.assertEqual(without, set())


class Semantics(unittest.TestCase):
    """The methods are made from the page."""

    home: Path
    environment: dict[str, str]

    @classmethod
    def setUpClass(cls) -> None:
        cls.home = place.path / "home"
        (cls.home / "bin").mkdir(parents=True)
        os.symlink(sbxfs(), cls.home / "bin" / "sbxfs")
        cls.environment = {**os.environ, "HOME": str(cls.home), "LC_ALL": "C.UTF-8",
                           "PATH": f"{cls.home}/bin:{os.environ['PATH']}"}
        for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
            cls.environment.pop(name, None)
        place.at_end(cls.clean_up)
        config = cls.home / ".config" / "sbxfs" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(CONFIGURATION)
        config.chmod(0o600)
        done = cls.sh("mkdir ~/boxes && sbxfs mount ~/boxes")
        assert done.returncode == 0, done.stdout

    @classmethod
    def clean_up(cls) -> None:
        if os.path.ismount(cls.home / "boxes"):
            cls.sh("cd ~/boxes && rmdir */; cd /; sbxfs umount ~/boxes || sbxfs umount --discard ~/boxes")
        cls.await_nothing_left()

    @classmethod
    def await_nothing_left(cls) -> None:
        wait_until(lambda: not list((cls.home / ".local/state/sbxfs").glob("*/boxes/*")),
                   "nothing is left of the sandboxes")

    @classmethod
    def sh(cls, script: str) -> "subprocess.CompletedProcess[str]":
        # Not a pipe: what an example leaves in the background may keep it open.
        with open(place.path / "printed", "w+") as printed:
            process = subprocess.Popen(["bash", "-c", script], stdin=subprocess.DEVNULL, stdout=printed,
                                       stderr=subprocess.STDOUT, cwd=cls.home, env=cls.environment)
            try:
                code = process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                code = -1
            return subprocess.CompletedProcess(process.args, code, (place.path / "printed").read_text())

    def check(self, section: Section) -> None:
        self.addCleanup(self.sh, "cd ~/boxes && rmdir */")
        done = self.sh("cd ~/boxes && mkdir b1 && cat b1/ready\n" +
                       f"echo '{MARK}'\n" +
                       "".join(f"{step.command}\necho '{MARK}'\n" for step in section.steps))
        # What a shell at a terminal says, which has no lines to count.
        text = re.sub(r"^bash: line \d+: ", "bash: ", done.stdout, flags=re.M)
        ready, *outputs = text.split(MARK + "\n")
        self.assertEqual(ready, "ready\n")
        for step, printed in zip(section.steps, outputs[:-1]):
            lines = printed.splitlines()
            if not agrees(step.output, lines):
                self.fail(f"{PAGE.name}:{step.line}: {step.command}\n--- said\n" + "\n".join(step.output) +
                          "\n--- printed\n" + "\n".join(lines))
        if len(outputs) <= len(section.steps):
            step = section.steps[len(outputs) - 1]
            self.fail(f"{PAGE.name}:{step.line}: does not end: {step.command}\n--- printed\n{outputs[-1]}")


def method(section: Section):  # type: ignore[no-untyped-def]
    return lambda self: self.check(section)


CONFIGURATION, SECTIONS = read_page(PAGE.read_text())
for section in SECTIONS:
    name = re.sub(r"\W+", "_", section.title.lower()).strip("_")
    setattr(Semantics, f"test_{name}", method(section))


if __name__ == "__main__":
    require()
    if os.geteuid() == 0:
        skip("for ordinary users: as_user.py")
    place = Place()
    place.watch(100)
    good = unittest.main(exit=False, verbosity=1).result.wasSuccessful()
    place.end()
    for left in left_behind(place.path, place.path, set()):
        print(f"left behind: {left}", file=sys.stderr)
        good = False
    sys.exit(0 if good else 1)
