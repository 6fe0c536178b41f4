"""The ways a task ends by itself, in the words of ECS. A script names one of them, or gives its own parts:
`"spot"`, `{"like": "exited", "exit_code": 3, "after": 10}`."""

from dataclasses import dataclass, replace
from typing import Any, Union


@dataclass
class Ending:
    at: str                     # provisioning, pull or running
    stop_code: str
    reason: str
    container_reason: str = ""
    exit_code: int = -1         # of the containers; -1: what they end with when they get TERM
    after: float = 0            # seconds in that step before it happens


_PULL = ("CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref {image}: "
         "{image}: not found")
ENDINGS = {
    "cannot_pull": Ending("pull", "TaskFailedToStart", _PULL, _PULL),
    "registry_auth": Ending("pull", "TaskFailedToStart",
                            "ResourceInitializationError: unable to pull secrets or registry auth: The task cannot pull "
                            "registry auth from Amazon ECR: There is a connection issue between the task and Amazon ECR. "
                            "Check your task network configuration."),
    "eni_timeout": Ending("provisioning", "TaskFailedToStart",
                          "Timeout waiting for network interface provisioning to complete."),
    "out_of_memory": Ending("running", "EssentialContainerExited", "Essential container in task exited",
                            "OutOfMemoryError: Container killed due to memory usage", 137),
    "exited": Ending("running", "EssentialContainerExited", "Essential container in task exited", "", 1),
    "spot": Ending("running", "SpotInterruption", "Your Spot Task was interrupted."),
    "termination_notice": Ending("running", "TerminationNotice", "ECS is performing maintenance on the underlying "
                                                                 "infrastructure hosting the task."),
    "scheduler": Ending("running", "ServiceSchedulerInitiated", "Scaling activity initiated by deployment."),
}


def read_ending(said: Union[str, dict[str, Any]]) -> Ending:
    parts = {"like": said} if isinstance(said, str) else dict(said)
    like = parts.pop("like", "exited")
    if like not in ENDINGS:
        raise ValueError(f"no ending is called {like}; there are {', '.join(ENDINGS)}")
    try:
        return replace(ENDINGS[like], **parts)
    except TypeError as error:
        raise ValueError(f"an ending has no such part: {error}") from error
