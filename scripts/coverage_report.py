#!/usr/bin/env python3
"""Adds up what `gcov -b -t -j` says of several builds of the same files; see coverage.sh."""
import collections
import json
import os
import re
import sys

# (file, line) -> function or none -> branch counts. Headers are many functions' that differ by template arguments only.
lines = collections.defaultdict(int)
branches = {}
for text in sys.stdin:
    if not text.startswith("{"):
        continue
    document = json.loads(text)
    of_program = re.search(r"(program|measured)_[a-z_]+\.gcda$", document["data_file"]) is not None
    for file in document["files"]:
        name = re.search(r"sandbox/[a-z_/]+\.(cc|h)$", file["file"])
        program = name is not None and "/supervisor/" in name[0]
        if not name or (name[1] == "h" and not program) or program != of_program:
            continue
        for line in file["lines"]:
            key = (name[0], line["line_number"])
            lines[key] += line["count"]
            counts = [b["count"] for b in line["branches"]]
            if not counts:
                continue
            # The same function of two builds has the same branches; of the instances of a template any counts.
            function = line.get("function_name", "") if name[1] == "cc" and not program else len(counts)
            kept = branches.setdefault((*key, function, len(counts)), [0] * len(counts))
            for i, count in enumerate(counts):
                kept[i] += count


def group_of(name):
    if "/supervisor/" in name:
        return "supervisor, program"
    return "supervisor, client" if "supervisor_client" in name else "sftp"


per_file = {}
for (name, _), count in lines.items():
    row = per_file.setdefault(name, [0, 0, 0, 0])
    row[0] += count > 0
    row[1] += 1
for (name, line, _, _), counts in sorted(branches.items(), key=lambda item: item[0][:2]):
    per_file[name][2] += sum(count > 0 for count in counts)
    per_file[name][3] += len(counts)
    if os.environ.get("SBXFS_UNCOVERED") and "/supervisor/" in name and not all(counts):
        print("%s:%d: %s" % (name, line, " ".join("-" if count == 0 else "+" for count in counts)))
groups = {}
for name, row in sorted(per_file.items()):
    if row[1] == 0:
        continue
    print("%-44s lines %5.1f %% of %4d, branches %5.1f %% of %4d" %
          (name, 100 * row[0] / row[1], row[1], 100 * row[2] / max(row[3], 1), row[3]))
    total = groups.setdefault(group_of(name), [0, 0, 0, 0])
    for i, number in enumerate(row):
        total[i] += number
for name, t in groups.items():
    print("%-20s lines %5.1f %% of %d, branches taken %5.1f %% of %d%s" %
          (name, 100 * t[0] / t[1], t[1], 100 * t[2] / max(t[3], 1), t[3], "" if "program" in name else " (with those of exceptions)"))
