"""Bar charts as SVG, of a run's medians. Logarithmic: a factor is a length."""

import math
from typing import Any
from xml.sax.saxutils import escape

from linkbench import goals
from linkbench.report import heading, seconds

SHOWN = ("read", "write", "random_read", "sparse_read", "find", "grep", "copy_out", "git_cold", "git_warm", "copy_in",
         "untar", "saves", "remove")
COLOURS = {"sbxfs": "#1b7f4b", "sshfs": "#8a8f98", "rclone": "#c9a24b"}
WIDTH, LEFT, RIGHT, BAR, GAP, TOP = 760, 210, 90, 11, 10, 56
STYLE = ("text{font:12px system-ui,sans-serif;fill:#24292f}.t{font-size:15px;font-weight:600}.v{font-size:10.5px}"
         ".g{stroke:#d0d7de}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.g{stroke:#30363d}}")


def bars(results: dict[str, Any], situation: str) -> list[tuple[str, dict[str, float]]]:
    found = []
    for result in SHOWN:
        values = {}
        ours = goals.median(results, situation, result, "sbxfs")
        sshfs = goals.best_sshfs(results, situation, result)
        rclone = goals.median(results, situation, result, "rclone")
        for name, value in (("sbxfs", ours), ("sshfs", sshfs), ("rclone", rclone)):
            if value:
                values[name] = value
        if "sbxfs" in values:
            found.append((goals.TITLES[result], values))
    return found


def chart(results: dict[str, Any], situation: str) -> str:
    """An empty text when there is nothing to show."""
    groups = bars(results, situation)
    if not groups:
        return ""
    values = [value for _, group in groups for value in group.values()]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)

    def x(value: float) -> float:
        return LEFT + (math.log10(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    height = TOP + sum(len(group) * BAR + GAP for _, group in groups) + 24
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
           f'role="img"><style>{STYLE}</style>',
           f'<text class="t" x="12" y="22">Seconds, {escape(heading(situation))} (less is better)</text>']
    at = 12
    for name, colour in COLOURS.items():
        if any(name in group for _, group in groups):
            out.append(f'<rect x="{at}" y="32" width="10" height="10" fill="{colour}"/>'
                       f'<text class="v" x="{at + 14}" y="41">{name}</text>')
            at += 70
    for power in range(low, high + 1):
        place = x(10.0 ** power)
        out.append(f'<line class="g" x1="{place:.1f}" x2="{place:.1f}" y1="{TOP - 6}" y2="{height - 20}"/>'
                   f'<text class="v" x="{place:.1f}" y="{height - 6}" text-anchor="middle">'
                   f'{seconds(10.0 ** power)}</text>')
    y = TOP
    for title, group in groups:
        middle = y + len(group) * BAR / 2 + 4
        out.append(f'<text x="{LEFT - 8}" y="{middle:.1f}" text-anchor="end">{escape(title)}</text>')
        for name, value in group.items():
            out.append(f'<rect x="{LEFT}" y="{y}" width="{max(1, x(value) - LEFT):.1f}" height="{BAR - 2}" '
                       f'fill="{COLOURS[name]}"/><text class="v" x="{x(value) + 4:.1f}" y="{y + BAR - 3}">'
                       f'{seconds(value)}</text>')
            y += BAR
        y += GAP
    return "\n".join([*out, "</svg>"]) + "\n"
