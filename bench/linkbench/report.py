"""Results as Markdown. The same tables that the charts show."""

from typing import Any, Optional

from linkbench import goals

HEADINGS = {"0ms": "no delay", "20ms": "20 ms round trip", "20ms-busy": "20 ms, with others at work in the sandbox"}
PEERS = ("sbxfs", "sbxfs-writeback-off", "sshfs-1", "sshfs-4", "rclone", "loop", "ssh")


def seconds(value: Optional[float]) -> str:
    if value is None:
        return ""
    if value < 0.1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g} s"


def heading(situation: str) -> str:
    words = situation.replace("ms", " ms round trip").replace("-busy", ", others at work").partition("@")
    return HEADINGS.get(situation, words[0] + (f", {words[2]} files" if words[1] else ""))


def times(results: dict[str, Any]) -> str:
    """One table a situation: medians, with the spread of ours, and what crossed the link."""
    out = []
    for situation, by_result in results.items():
        peers = [peer for peer in PEERS if any(peer in found for found in by_result.values())]
        out += [f"\n### {heading(situation)}\n",
                "| | " + " | ".join(peers) + " | spread of sbxfs | sent, received | CPU | peak memory |",
                "|---" * (len(peers) + 5) + "|"]
        for result in (name for name in goals.TITLES if name in by_result):
            found = by_result[result]
            cells = [seconds(found[peer]["seconds"]["median"]) if peer in found else "" for peer in peers]
            extra = [""] * 4
            if "sbxfs" in found and "to_server" in found["sbxfs"]:
                ours = found["sbxfs"]
                extra = [f"{seconds(ours['seconds']['min'])} to {seconds(ours['seconds']['max'])}",
                         f"{mib(ours['to_server']['median'])}, {mib(ours['from_server']['median'])} MiB",
                         seconds(ours["cpu_seconds"]["median"]), f"{ours['peak_mib']['median']:.0f} MiB"]
            out.append(f"| {goals.TITLES[result]} | " + " | ".join([*cells, *extra]) + " |")
    return "\n".join(out) + "\n"


def mib(value: float) -> str:
    return f"{value / (1 << 20):.3g}"


def wanted(results: dict[str, Any]) -> str:
    out = ["\n### Goals\n", "| | link | goal | reached | |", "|---|---|---|---|---|"]
    for verdict in goals.verdicts(results):
        sign = "≥" if verdict.at_least else "≤"
        out.append(f"| {goals.TITLES[verdict.result]} | {heading(verdict.situation)} | {sign} {verdict.goal:g} "
                   f"{verdict.what} | {verdict.reached:.3g} | {'' if verdict.met else '**missed**'} |")
    return "\n".join(out) + "\n"


def document(run: dict[str, Any]) -> str:
    machine = run["machine"]
    return (f"# Measured\n\nBy `bench/run.sh`, which says how (bench/README.md). {machine['cores']} cores, Linux "
            f"{machine['kernel']}, {run['rounds']} rounds, medians; {run['scale']['files']} files in the tree.\n"
            + times(run["results"]) + wanted(run["results"])
            + ("\n### Failed\n\n" + "".join(f"* {line}\n" for line in run["failures"]) if run["failures"] else ""))
