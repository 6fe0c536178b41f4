"""Prometheus' text format 0.0.4, read strictly: what promtool would complain of fails here."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf'({NAME})(?:\{{(.*)\}})?[ \t]+(\S+)')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
TYPES = ("counter", "gauge", "histogram", "summary", "untyped")
UNITS = ("seconds", "bytes", "total", "info")
Labels = tuple[tuple[str, str], ...]


@dataclass
class Family:
    name: str
    kind: str
    help: str
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)  # by suffix and labels

    def labels(self) -> set[str]:
        return {name for _, labels in self.samples for name, _ in labels if name != "le"}


class Wrong(AssertionError):
    """Not what the format, or promtool, allows."""


def number(text: str) -> float:
    if not re.fullmatch(r"[+-]?(\d+(\.\d+)?([eE][+-]?\d+)?|Inf)|NaN", text):
        raise Wrong(f"not a number: {text!r}")
    return float(text)


def labels_of(text: str) -> Labels:
    labels, at = [], 0
    while at < len(text):
        found = LABEL.match(text, at)
        if not found:
            raise Wrong(f"not labels: {text!r}")
        labels.append((found[1], found[2]))
        at = found.end()
    if len({name for name, _ in labels}) != len(labels):
        raise Wrong(f"a label twice: {text!r}")
    return tuple(labels)


def suffixes(kind: str) -> tuple[str, ...]:
    return {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}.get(kind, ("",))


def parse(text: str) -> dict[str, Family]:
    if not text.endswith("\n"):
        raise Wrong("the last line does not end")
    families: dict[str, Family] = {}
    helps: dict[str, str] = {}
    current = None
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            name, _, words = line[7:].partition(" ")
            if name in helps:
                raise Wrong(f"{name}: HELP twice")
            if not words.strip():
                raise Wrong(f"{name}: no help")
            helps[name] = words
        elif line.startswith("# TYPE "):
            name, _, kind = line[7:].partition(" ")
            if kind not in TYPES or name in families or not re.fullmatch(NAME, name):
                raise Wrong(line)
            if name not in helps:
                raise Wrong(f"{name}: TYPE without HELP before it")
            current = families[name] = Family(name, kind, helps[name])
        elif line.startswith("#") or not line.strip():
            raise Wrong(f"a line that says nothing: {line!r}")
        else:
            take_sample(current, line)
    for family in families.values():
        check(family)
    return families


def take_sample(family: Family | None, line: str) -> None:
    found = SAMPLE.fullmatch(line)
    if not found or family is None:
        raise Wrong(f"not a sample of the family it stands in: {line!r}")
    for suffix in suffixes(family.kind):
        if found[1] == family.name + suffix:
            key = (suffix, labels_of(found[2] or ""))
            if key in family.samples:
                raise Wrong(f"twice: {line!r}")
            family.samples[key] = number(found[3])
            return
    raise Wrong(f"{line!r} stands behind {family.name}, a {family.kind}")


def check(family: Family) -> None:
    """What `promtool check metrics` looks at."""
    if family.name != family.name.lower():
        raise Wrong(f"{family.name}: not lower case")
    if (family.kind == "counter") != family.name.endswith("_total"):
        raise Wrong(f"{family.name}: exactly counters end with _total")
    if re.search(r"_(bucket|count|sum)$", family.name) or re.search(r"(milli|micro|nano)seconds|kilobytes|_ms$", family.name):
        raise Wrong(f"{family.name}: a reserved ending, or not a base unit")
    if family.kind in ("gauge", "counter") and any(name in ("le", "quantile") for _, labels in family.samples
                                                  for name, _ in labels):
        raise Wrong(f"{family.name}: a reserved label")
    if any(family.name.removeprefix("sbxfs_").startswith(word) for word in ("counter", "gauge", "histogram", "summary")):
        raise Wrong(f"{family.name}: says its type")
    for (suffix, labels), value in family.samples.items():
        if math.isnan(value) or (family.kind != "gauge" and value < 0):
            raise Wrong(f"{family.name}{suffix}{labels}: {value}")
    if family.kind == "histogram":
        check_histogram(family)


def check_histogram(family: Family) -> None:
    groups: dict[Labels, list[tuple[float, float]]] = {}
    for (suffix, labels), value in family.samples.items():
        if suffix == "_bucket":
            rest = tuple(label for label in labels if label[0] != "le")
            groups.setdefault(rest, []).append((number(dict(labels)["le"]), value))
    for rest, buckets in groups.items():
        bounds = [bound for bound, _ in buckets]
        counts = [count for _, count in buckets]
        if bounds != sorted(bounds) or bounds[-1] != math.inf or counts != sorted(counts):
            raise Wrong(f"{family.name}{rest}: {buckets}")
        if counts[-1] != family.samples[("_count", rest)] or ("_sum", rest) not in family.samples:
            raise Wrong(f"{family.name}{rest}: the last bucket is not the count")


class Metrics:
    """One reading of .mount/metrics."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = parse(text)

    @staticmethod
    def read(mnt: Path) -> "Metrics":
        return Metrics((mnt / ".mount" / "metrics").read_text())

    def get(self, name: str, suffix: str = "", **labels: str) -> float:
        """One sample; 0 where that is not there, of a family that is."""
        key = {label: value for label, value in labels.items()}
        for (its, of_it), value in self.families[name].samples.items():
            if its == suffix and dict(of_it) == key:
                return value
        return 0

    def total(self, name: str, suffix: str = "", **labels: str) -> float:
        """The sum of all samples that have these labels."""
        return sum(value for (its, of_it), value in self.families[name].samples.items()
                   if its == suffix and labels.items() <= dict(of_it).items())
