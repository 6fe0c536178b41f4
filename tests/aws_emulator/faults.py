"""What goes wrong on purpose. A fault is a rule: which calls it is for, how often, and what happens. Rules come from
/_control/faults, in the order they were given; each call meets at most one of each stage."""

import random
from dataclasses import dataclass, field
from typing import Any, Optional

# To what becomes of the call itself (the transport), to the answer, or to the task that RunTask starts.
TRANSPORT = ("throttle", "error", "unavailable", "stall", "reset", "truncate", "malformed")
OUTCOME = ("capacity", "failure", "missing")
TASK = ("task",)


@dataclass
class Fault:
    """`{"on": "ecs:RunTask", "do": "reset", "when": "after", "times": 2}`; README.md lists the words."""

    on: str
    do: str
    when: str = "before"       # or after: the call was taken and done, the caller does not hear of it
    times: int = 1             # -1: until removed
    skip: int = 0              # calls that pass first
    probability: float = 1.0
    match: str = ""            # only calls whose body holds this
    args: dict[str, Any] = field(default_factory=dict)
    met: int = 0

    @staticmethod
    def from_json(said: dict[str, Any]) -> "Fault":
        own = {"on", "do", "when", "times", "skip", "probability", "match"}
        fault = Fault(**{name: value for name, value in said.items() if name in own})
        fault.args = {name: value for name, value in said.items() if name not in own}
        if fault.do not in TRANSPORT + OUTCOME + TASK:
            raise ValueError(f"do: {fault.do}? One of {', '.join(TRANSPORT + OUTCOME + TASK)}")
        if fault.when not in ("before", "after"):
            raise ValueError("when: before or after")
        return fault

    def as_json(self) -> dict[str, Any]:
        return {"on": self.on, "do": self.do, "when": self.when, "times": self.times, "skip": self.skip,
                "probability": self.probability, "match": self.match, "met": self.met, **self.args}


class Faults:
    """The world's lock is held by whoever calls."""

    def __init__(self, seed: int) -> None:
        self.rules: list[Fault] = []
        self._random = random.Random(seed)

    def meet(self, action: str, body: str, kinds: tuple[str, ...], when: str = "before") -> Optional[Fault]:
        """The first rule for this call, used up once."""
        for fault in self.rules:
            if fault.do not in kinds or fault.when != when or fault.times == 0:
                continue
            if fault.on not in ("*", action) and not (fault.on.endswith(":*") and action.startswith(fault.on[:-1])):
                continue
            if fault.match and fault.match not in body:
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            if self._random.random() >= fault.probability:
                continue
            if fault.times > 0:
                fault.times -= 1
            fault.met += 1
            return fault
        return None
