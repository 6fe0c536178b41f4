"""A worker's daemon with a relay before its sandbox, used for many attempts: left without a trace, or given up after one that
broke."""

from typing import Optional

from harness.crash import mount_id
from harness.relay import Relay
from live.daemon import Daemon
from live.leftovers import left_behind
from live.place import Place


class RelayedWorld:
    place: Place
    daemon: Daemon
    relay: Optional[Relay] = None

    def leave(self) -> None:
        """Destroys what is in it."""
        raise NotImplementedError

    def end(self) -> None:
        try:
            self.leave()
            self.daemon.umount()
            if self.relay is not None:
                self.relay.stop()
            left = left_behind(self.place.path, self.daemon.state, [mount_id(self.daemon.state)])
            assert not left, "left behind:\n" + "\n".join(left)
        finally:
            self.place.end()

    def abandon(self) -> None:
        print(self.daemon.tail(30), flush=True)
        if self.daemon.process is not None:
            self.daemon.process.kill()
            self.daemon.process.wait()
            self.daemon.process = None
        if self.relay is not None:
            self.relay.stop()
        self.place.end()
