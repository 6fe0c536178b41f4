"""What a container image is here: a program, its environment and its directory, over this machine's /usr. Every name is
an image that runs scripts/image/entrypoint unless /_control/images says otherwise."""

from dataclasses import dataclass, field
from typing import Any

from aws_emulator.rootfs import ENTRYPOINT


@dataclass
class Image:
    entrypoint: list[str] = field(default_factory=lambda: [ENTRYPOINT])
    command: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    workdir: str = "/workspace"
    files: dict[str, str] = field(default_factory=dict)   # programs of its own outside of /usr: path to text
    covers: dict[str, str] = field(default_factory=dict)  # files of /usr that are another file of this machine
    error: str = ""  # why it cannot be pulled; empty: it can

    @staticmethod
    def from_json(said: dict[str, Any]) -> "Image":
        return Image(**said)


PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Images:
    """The world's lock is held by whoever calls."""

    def __init__(self) -> None:
        self.known: dict[str, Image] = {}

    def find(self, name: str) -> Image:
        return self.known.get(name, Image())
