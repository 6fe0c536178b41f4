#!/usr/bin/env python3
"""ttl of real sandboxes: the supervisor's own timer ends them, with and without a daemon."""

import errno
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.box import Box  # noqa: E402
from live.case import Live, MountCase, main  # noqa: E402
from live.place import wait_until  # noqa: E402

CONFIG = """
default_template = "default"

[templates.default]
provider = "local"
max_lifetime = "1h"

[templates.idle]
provider = "local"
idle_timeout = "3s"
"""


class Ttl(MountCase):
    def test_a_write_extends_and_shortens_it(self) -> None:
        ttl = self.box.path / "ttl"
        self.assertGreater(int(ttl.read_text()), 3500)
        ttl.write_text("600\n")
        self.assertIn(int(ttl.read_text()), (598, 599, 600))
        ttl.write_text("+60")
        self.assertIn(int(ttl.read_text()), (658, 659, 660))
        ttl.write_text("2d\n")
        self.assertLessEqual(int(ttl.read_text()), 3600)
        self.refuse(errno.EINVAL, ttl.write_text, "soon\n", sentence="like 3600 or 1h")

    def test_it_ends_by_its_own_timer(self) -> None:
        box = Box.make(self.daemon, "short")
        (box.path / "ttl").write_text("2\n")
        self.allow_log("status=expired", "sandbox status")
        wait_until(lambda: box.status == "expired", "its time is up", 20)
        self.assertNotEqual((box.path / "error").read_text(), "")
        self.refuse(errno.EHOSTDOWN, (box.path / "cmd").write_text, "true")
        box.destroy()

    def test_it_ends_also_while_no_daemon_is_there(self) -> None:
        box = Box.make(self.daemon, "alone")
        (box.path / "ttl").write_text("2\n")
        init = box.init()
        self.daemon.kill()
        wait_until(lambda: not Path(f"/proc/{init}").exists(), "it has ended by itself", 20)
        self.allow_log("sandbox status")
        self.daemon.start()
        wait_until(lambda: box.status == "expired", "the next daemon sees why", 20)
        box.destroy()

    def test_use_of_its_files_keeps_an_idle_sandbox_alive(self) -> None:
        box = Box.make(self.daemon, "i@idle")
        note = box.path / "work" / "note"
        begin = time.monotonic()
        count = 0
        while time.monotonic() - begin < 6:
            count += 1
            note.write_text(f"{count}\n")
            self.assertIn(box.status, ("ready", "expiring"))
            time.sleep(0.4)
        self.allow_log("sandbox status")
        wait_until(lambda: box.status == "expired", "nobody uses it any more", 20)
        box.destroy()


if __name__ == "__main__":
    main(configure=lambda place: CONFIG)
