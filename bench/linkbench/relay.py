"""The link: bench/relay.cc as a process."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Counts:
    to_server: int
    from_server: int
    connections: int  # open now

    def since(self, before: "Counts") -> "Counts":
        return Counts(self.to_server - before.to_server, self.from_server - before.from_server, self.connections)


class Relay:
    def __init__(self, program: Path, target_port: int) -> None:
        self._process = subprocess.Popen([program, str(target_port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         text=True, bufsize=1)
        assert self._process.stdout is not None and self._process.stdin is not None
        self._answers, self._orders = self._process.stdout, self._process.stdin
        self.port = int(self._answers.readline())

    def _ask(self, order: str) -> str:
        self._orders.write(order + "\n")
        self._orders.flush()
        return self._answers.readline().strip()

    def set_round_trip(self, ms: float) -> None:
        """Half of it each way, for what arrives from now on."""
        assert self._ask(f"delay {int(ms * 500)}") == "ok"

    def counts(self) -> Counts:
        return Counts(*map(int, self._ask("counts").split()))

    def stop(self) -> None:
        self._orders.close()
        self._process.wait(10)
