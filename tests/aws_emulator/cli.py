"""The command line."""

import argparse
import os
import signal
import sys
import threading
from typing import Optional

from aws_emulator.server import Emulator
from aws_emulator.settings import Settings, parse_assignment


def main(arguments: Optional[list[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="aws_emulator", description="STS, ECS, EC2, Secrets Manager, CloudWatch Logs, S3 "
                                     "and IAM on this machine, as far as sbxfs speaks to them. Prints its endpoint's URL.")
    parser.add_argument("--host", default="127.0.0.1", help="an address of 127.0.0.0/8")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--ready-fd", type=int, help="the URL is also written there, and it is closed")
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--scale", type=float, default=1.0, help="the services' seconds pass so many times as fast")
    parser.add_argument("--pure", action="store_true", help="tasks are states only, no processes (real=false)")
    parser.add_argument("--block", type=int, help="tasks get addresses of 127.BLOCK.0.0/16")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON", help="a setting, such as delays.pull=0.5")
    wanted = parser.parse_args(arguments)
    settings = Settings(real=not wanted.pure)
    try:
        for text in wanted.set:
            settings.change(parse_assignment(text))
    except (ValueError, AttributeError, TypeError) as error:
        parser.error(str(error))
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: ended.set())
    with Emulator(settings, wanted.scale, wanted.region, wanted.host, wanted.port, wanted.block) as aws:
        print(aws.url, flush=True)
        if wanted.ready_fd is not None:
            with os.fdopen(wanted.ready_fd, "w") as ready:
                ready.write(aws.url + "\n")
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
