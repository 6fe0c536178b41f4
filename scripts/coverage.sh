#!/usr/bin/env bash
# How much of what reads a sandbox's bytes the tests of unit tier and the fuzz corpora reach: lines and branches of the
# SFTP client, of the supervisor's client and of the supervisor's program, by gcov. Only these files are compiled again;
# everything else is taken from build/dev. More inputs: scripts/coverage.sh DIRECTORY, with a directory per target, such as
# build/fuzz/corpus.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
# shellcheck disable=SC2086 # lists of words
install_missing $BUILD_PACKAGES $TEST_PACKAGES
configure_and_build dev sbxfs_unit_tests sbxfs_fuzz_corpora | tail -n 1
more=${1:+$(realpath "$1")}
out=$PWD/build/coverage
mkdir -p "$out"
rm -f "$out"/*.gcda

# compile TARGET SOURCE: as the dev build does it, with --coverage and without optimising.
compile() {
    local command
    command=$(ninja -C build/dev -t commands "$1" | grep -F -- "-c $PWD/$2" | head -n 1)
    command=$(sed -E "s| -o [^ ]+| -o $out/$3.o|; s| -MF [^ ]+| -MF $out/$3.d|; s| -MT [^ ]+| -MT $out/$3.o|; s| -Og | -O0 |; s| -D_FORTIFY_SOURCE=2||" <<<"$command")
    [ "$out/$3.o" -nt "$2" ] || (cd build/dev && eval "${command#* ccache } --coverage -fprofile-abs-path")
}
client=()
for source in sandbox/sftp_*.cc sandbox/supervisor_client.cc; do
    name=$(basename "$source" .cc)
    compile sbxfs_sandbox "$source" "$name"
    client+=("$out/$name.o")
done
program=()
for source in sandbox/supervisor/*.cc; do
    name=$(basename "$source" .cc)
    case $name in attach | heap | image | init | main | serve | sockets | start) continue ;; esac
    compile sbxfs_hosted_supervisor "$source" "program_$name"
    program+=("$out/program_$name.o")
done
# link TARGET OBJECT...: the target's own link, these objects before the libraries that have others of that name.
link() {
    local target=$1 command
    shift
    command=$(ninja -C build/dev -t commands "$target" | tail -n 1 | sed -E "s|^: && ||; s| && .*||; s| -o [^ ]+| --coverage -o $out/$target $*|")
    (cd build/dev && eval "$command")
}
link sbxfs_unit_tests "${client[@]}"
link sbxfs_fuzz_corpora "${client[@]}" "${program[@]}"
"$out/sbxfs_unit_tests" --gtest_brief=1 --gtest_filter='Sftp*:Supervisor*' >/dev/null 2>&1 || echo "a unit test failed"
for target in sftp_session supervisor_frames supervisor_program machine_texts; do
    "$out/sbxfs_fuzz_corpora" $target tests/fuzz/corpus/$target ${more:+"$more/$target"} >/dev/null 2>&1 || echo "$target failed"
done
cd "$out"
gcov -b -n ./*.gcda 2>/dev/null | python3 -c '
import re, sys
groups, shown = {}, set()
for block in re.split(r"(?=^File )", sys.stdin.read(), flags=re.M):
    name = re.search(r"^File .*?(sandbox/[a-z_/]+\.cc)", block)
    lines = re.search(r"Lines executed:([0-9.]+)% of ([0-9]+)", block)
    taken = re.search(r"Taken at least once:([0-9.]+)% of ([0-9]+)", block)
    ran = re.search(r"Branches executed:([0-9.]+)% of ([0-9]+)", block)
    if not name or not lines or name.group(1) in shown: continue
    shown.add(name.group(1))
    group = "supervisor, program" if "/supervisor/" in name.group(1) else "supervisor, client" if "supervisor_client" in name.group(1) else "sftp"
    row = [float(lines[1]) * int(lines[2]) / 100, int(lines[2])] + ([float(ran[1]) * int(ran[2]) / 100, float(taken[1]) * int(taken[2]) / 100, int(taken[2])] if taken else [0, 0, 0])
    total = groups.setdefault(group, [0] * 5)
    for i, number in enumerate(row): total[i] += number
    print("%-44s lines %5.1f %% of %4d" % (name.group(1), 100 * row[0] / max(row[1], 1), row[1]))
for group, t in groups.items():
    print("%-22s lines %5.1f %% of %d, branches executed %5.1f %%, both ways %5.1f %% of %d (with those of exceptions)" % (group, 100 * t[0] / t[1], t[1], 100 * t[2] / max(t[4], 1), 100 * t[3] / max(t[4], 1), t[4]))
'
