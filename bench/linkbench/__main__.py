"""python3 -m linkbench; see bench/README.md. bench/run.sh builds first and calls it."""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCE / "bench"), str(SOURCE / "tests")]

# pylint: disable=wrong-import-position
from live.place import Place, sbxfs  # noqa: E402

from linkbench import charts, goals, peers, report, workloads  # noqa: E402
from linkbench.peers import Peer  # noqa: E402
from linkbench.rounds import Rounds, Situation, with_others  # noqa: E402
from linkbench.server import Server  # noqa: E402
from linkbench.workloads import Scale, Workload  # noqa: E402

SCALING = "0ms@300,5ms@300,20ms@300,80ms@300,20ms@3000,20ms@30000"
QUICK = Scale(files=100, file_mib=32, big_mib=64, sparse_gib=1, reads=200, saves=10, commands=20)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run.sh --only link", description="sbxfs and its peers over a link with a delay")
    parser.add_argument("--quick", action="store_true", help="one round of a seventh of the tree, 0 and 20 ms")
    parser.add_argument("--rounds", type=int, help="default 5, with --quick 1")
    parser.add_argument("--link", default="0ms,20ms,20ms-busy", metavar="LIST",
                        help="round trips such as 0ms,5ms,20ms,80ms; -busy: with others at work; @300: with so many files "
                             "(default: %(default)s)")
    parser.add_argument("--scaling", action="store_true",
                        help="find, grep and cp -r in instead: 300 files at 0, 5, 20 and 80 ms, 3000 and 30000 at 20 ms")
    parser.add_argument("--workloads", metavar="LIST", help="of " + ",".join(one.name for one in workloads.ALL))
    parser.add_argument("--peers", metavar="LIST", default=",".join(peers.DEFAULT),
                        help="of " + ",".join(one.name for one in peers.ALL) + " (default: %(default)s)")
    parser.add_argument("--files", type=int, help="in the tree; published figures are of 763")
    parser.add_argument("--reuse", type=Path, action="append", default=[], metavar="JSON",
                        help="another run's results, for what this one does not measure; may be repeated")
    parser.add_argument("--limit", type=float, default=600, help="seconds for one sample (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), metavar="DIR",
                        help="results.json, RESULTS.md and the charts (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the daemon's log and state")
    parser.add_argument("--programs", type=Path, default=SOURCE / "build/release/bench", help=argparse.SUPPRESS)
    return parser.parse_args()


def chosen(text: str, all_of: list[Any], what: str) -> list[Any]:
    by_name = {one.name: one for one in all_of}
    unknown = [name for name in text.split(",") if name not in by_name]
    if unknown:
        sys.exit(f"no such {what}: {', '.join(unknown)}; there are {', '.join(by_name)}")
    return [by_name[name] for name in text.split(",")]


def situation_of(word: str, scale: Scale) -> Situation:
    link, _, files = word.partition("@")
    return Situation(word, float(link.removesuffix("-busy").removesuffix("ms")), link.endswith("-busy"),
                     dataclasses.replace(scale, files=int(files)) if files else scale)


def is_measured(situation: Situation, work: type[Workload], peer: Peer) -> bool:
    if peer.name not in work.peers or (situation.busy and not peer.name.startswith("sbxfs")):
        return False
    if work.name in ("read_big", "write_big"):
        return situation.round_trip_ms == 0  # goals are of the processors there
    # Hours.
    return situation.round_trip_ms * situation.scale.files <= 100_000 or peer.name.startswith("sbxfs")


def machine() -> dict[str, Any]:
    commit = subprocess.run(["git", "-C", str(SOURCE), "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
                            check=False).stdout.strip()
    return {"cores": os.cpu_count(), "kernel": os.uname().release, "load_before": os.getloadavg()[0], "commit": commit,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def main() -> None:
    options = arguments()
    scale = QUICK if options.quick else Scale()
    if options.files:
        scale = dataclasses.replace(scale, files=options.files)
    rounds_wanted = options.rounds or (1 if options.quick else 5)
    if options.scaling:
        options.link, options.workloads = SCALING, options.workloads or "find,grep,copy_in"
        options.peers = "sbxfs,sshfs-4" if options.peers == ",".join(peers.DEFAULT) else options.peers
    situations = [situation_of(word, scale) for word in options.link.split(",")]
    works = chosen(options.workloads, workloads.ALL, "workload") if options.workloads else workloads.ALL
    asked = [one for one in chosen(options.peers, peers.ALL, "peer")]
    for one in list(asked):
        lacking = peers.missing(one.name)
        if lacking is not None:
            print(f"{one.name} is left out: there is no {lacking}", file=sys.stderr)
            asked.remove(one)
    facts = machine()
    # A real disk: journals and fsyncs cost what they cost.
    place = Place(below=os.environ.get("TMPDIR", "/tmp"))
    server = Server(place, options.programs / "sbxfs_relay")
    rounds = Rounds(place, server, options.programs / "sbxfs_sftp_loop", options.limit)
    there = [one(place, server) for one in asked]
    print(f"{sbxfs()}, {rounds_wanted} rounds", file=sys.stderr)
    for number in range(rounds_wanted):
        print(f"round {number + 1}", file=sys.stderr)
        for situation in situations:
            for work in works:
                # Not always the same first.
                for peer in there[number % len(there):] + there[:number % len(there)]:
                    if is_measured(situation, work, peer):
                        rounds.sample(situation, work, peer)
        write(options, rounds, facts, scale, number + 1)
    if options.keep:
        subprocess.run(["cp", "-r", str(place.path / "daemon.log"), str(options.out)], check=False)
    print((options.out / "RESULTS.md").read_text())
    missed = [verdict for verdict in goals.verdicts(json.loads((options.out / "results.json").read_text())["results"])
              if not verdict.met]
    print(f"{len(missed)} goals missed, {len(rounds.failures)} samples failed; kept in {options.out}", file=sys.stderr)
    sys.exit(1 if rounds.failures else 0)


def write(options: argparse.Namespace, rounds: Rounds, facts: dict[str, Any], scale: Scale, done: int) -> None:
    """After each round: a run that is broken off has said something."""
    results = rounds.results()
    for path in options.reuse:
        results = with_others(results, path)
    run = {"machine": facts, "scale": dataclasses.asdict(scale), "rounds": done, "results": results,
           "goals": [dataclasses.asdict(verdict) for verdict in goals.verdicts(results)], "failures": rounds.failures}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps(run, indent=1) + "\n")
    (options.out / "RESULTS.md").write_text(report.document(run))
    for situation in results:
        picture = charts.chart(results, situation)
        if picture:
            (options.out / f"{situation}.svg").write_text(picture)


if __name__ == "__main__":
    main()
