"""The frame of a mount test script: one daemon for all its cases, its log checked after each."""

import errno
import os
import sys
import unittest
from pathlib import Path
from typing import Any, Callable, Iterator, Optional
from contextlib import contextmanager

from live.box import Box
from live.daemon import Daemon
from live.far import Far, patience, round_trip
from live.leftovers import left_behind
from live.place import Place, isolate, require


class Live:
    """What all cases of a script share."""

    place: Place
    daemon: Daemon
    box: Box  # a sandbox most cases use; those that harm one make their own


class MountCase(unittest.TestCase):
    """A case with the shared daemon. Bad lines in its log fail the case that caused them."""

    maxDiff = 2000

    def setUp(self) -> None:
        self.daemon = Live.daemon
        self.mnt = Live.daemon.mnt
        self.box = getattr(Live, "box", None)
        self._allowed: list[str] = []

    def tearDown(self) -> None:
        bad = Live.daemon.complaints(self._allowed)
        self.assertEqual(bad, [], "unexpected lines in the daemon's log")

    def allow_log(self, *patterns: str) -> None:
        """This case is meant to make the daemon say so."""
        self._allowed.extend(patterns)

    @contextmanager
    def refused(self, code: int, sentence: str = "") -> Iterator[None]:
        """The block fails with this errno; with a sentence, last_error's newest line holds it."""
        with self.assertRaises(OSError) as caught:
            yield
        self.assertEqual(errno.errorcode[caught.exception.errno or 0], errno.errorcode[code])
        if sentence:
            self.assertIn(sentence, self.daemon.last_error())

    def refuse(self, code: int, call: Callable[..., Any], *args: Any, sentence: str = "") -> None:
        with self.refused(code, sentence):
            call(*args)


def main(limit: float = 80, box: Optional[str] = "b", needs_root: bool = False,
         prepare: Optional[Callable[[], None]] = None,
         configure: Optional[Callable[[Place], str]] = None,
         finish: Optional[Callable[[], list[str]]] = None, **daemon_options: Any) -> None:
    """Runs the cases of the calling script, with a daemon and a ready sandbox. At the end everything is
    destroyed and nothing may be left of it. `configure` makes the configuration, and what it speaks of,
    in the script's place; `finish` ends that after the last unmount and says what was left."""
    require(needs_root)
    isolate()
    Live.place = Place()
    Live.place.watch(limit * patience())
    if configure is not None:
        daemon_options["config"] = configure(Live.place)
    Live.daemon = Daemon(Live.place, **daemon_options).start()
    if prepare is not None:
        prepare()
    if box:
        Live.box = Box.make(Live.daemon, box)
    outcome = unittest.main(module="__main__", exit=False, verbosity=1).result
    good = outcome.wasSuccessful()
    if not good:
        print(Live.daemon.tail(60), file=sys.stderr)
    assert not round_trip() or not box or Far.connections() > 0, "nothing has gone by the relay"
    good = end_without_trace(Live.daemon, finish) and good
    Live.place.end()
    sys.exit(0 if good else 1)


def end_without_trace(daemon: Daemon,
                      finish: Optional[Callable[[], list[str]]] = None) -> bool:
    """Destroys every box, unmounts, and says what is left, if anything."""
    if daemon.process is None:
        daemon.start()
    boxes = [name for name in os.listdir(daemon.mnt) if name not in ("README.md", ".mount")]
    owners = set()
    for name in boxes:
        owners.add(Box(daemon, name).info["id"].rsplit("-", 1)[0].removeprefix("sbxfs-"))
    for name in boxes:
        box = Box(daemon, name)
        if "unprotect" in (box.path / "ctl").read_text():
            (box.path / "ctl").write_text("unprotect\n")
        box.destroy()
    daemon.umount()
    left = finish() if finish is not None else []
    left += left_behind(Path(daemon.place.path), daemon.state, {owner for owner in owners if owner})
    for line in left:
        print(f"left behind: {line}", file=sys.stderr)
    return not left
