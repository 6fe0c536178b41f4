"""Tests of provider fargate: a mount whose sandboxes are tasks of an emulator of AWS."""

import os
from typing import Callable

from live.aws import Aws, without_account
from live.case import MountCase, main
from live.place import Place, skip, wait_until

DELAYS = ["delays.pull=2", "delays.eni=1", "delays.provisioning=1", "delays.deprovisioning=1", "delays.log=1"]


class FargateCase(MountCase):
    aws: Aws

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.aws.no_faults)
        # What failed says so once more when it is being destroyed, and a killed daemon's successor again.
        self.allow_log("sandbox status", "after a failed launch", "still runs: stopped again")

    def failure(self, name: str) -> str:
        """mkdir, and what came of it: the text of `error`."""
        (self.mnt / name).mkdir()
        said = (self.mnt / name / "ready").read_text()
        self.assertTrue(said.startswith("failed: "), said)
        return (self.mnt / name / "error").read_text()

    def none_left(self, name: str) -> None:
        wait_until(lambda: not self.aws.living(name), f"no task of {name} is left")

    def remove(self, name: str) -> None:
        """rmdir, until no task of it runs."""
        os.rmdir(self.mnt / name)
        self.none_left(name)


def run(configuration: Callable[[Aws], str]) -> None:
    """All cases of the calling program, on one mount with one emulator."""
    reason = Aws.missing()
    if reason:
        skip(reason)
    without_account()

    def configure(place: Place) -> str:
        FargateCase.aws = Aws(place, settings=DELAYS)
        return configuration(FargateCase.aws)

    main(box=None, configure=configure, limit=200)
