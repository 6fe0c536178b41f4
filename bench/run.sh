#!/usr/bin/env bash
# Measures sbxfs on this machine: builds the release, mounts in temporary directories, runs the benchmarks and prints
# their results. bench/README.md is the manual.
#   bench/run.sh [--quick] [--write] [--only session|commands|link|micro] [options of the link benchmark]
# --write also keeps the results in docs/bench/.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

only= write= link_options=()
while [ $# -gt 0 ]; do
    case $1 in
        --only) only=$2; shift ;;
        --only=*) only=${1#*=} ;;
        --write) write=yes ;;
        -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; PYTHONPATH=bench:tests python3 -m linkbench --help; exit ;;
        *) link_options+=("$1") ;;
    esac
    shift
done
wanted() { [ -z "$only" ] || [ "$only" = "$1" ]; }

# shellcheck disable=SC2086 # lists of words
install_missing $BUILD_PACKAGES $RUN_PACKAGES $BENCH_PACKAGES
targets="sbxfs sbxfs_session_bench sbxfs_relay sbxfs_sftp_loop"
[ "$only" != micro ] || targets=
wanted micro && targets="$targets sbxfs_micro_bench"
# shellcheck disable=SC2086
configure_and_build release $targets | tail -n 1
export PYTHONDONTWRITEBYTECODE=1
export SBXFS_BINARY=$PWD/build/release/sbxfs
[ -z "$write" ] || mkdir -p docs/bench

place=
finish() {
    [ -n "$place" ] || return 0
    rmdir "$place"/mnt/*/ 2>/dev/null || true
    for _ in $(seq 300); do
        grep -q stopping "$place"/mnt/.mount/history/*/status 2>/dev/null || break
        sleep 0.1
    done
    build/release/sbxfs umount "$place/mnt" 2>/dev/null || true
    rm -rf "$place"
    place=
}
trap finish EXIT
trap 'exit 130' INT TERM

if wanted session || wanted commands; then
    place=$(mktemp -d "${TMPDIR:-/tmp}/sbxfs-bench-XXXXXX")
    mkdir "$place/mnt"
    build/release/sbxfs mount -o "state_dir=$place/state" "$place/mnt"
    pid=$(sed -n 's/^process \([0-9]*\) .*/\1/p' "$place/state/lock")
    if wanted session; then
        build/release/bench/sbxfs_session_bench "$place/mnt" "$pid" 20 >"$place/session.json"
        cat "$place/session.json"
        [ -z "$write" ] || cp "$place/session.json" docs/bench/
    fi
    if wanted commands; then
        python3 bench/commands_bench.py "$place/mnt" "$pid" >"$place/commands.json"
        cat "$place/commands.json"
        [ -z "$write" ] || cp "$place/commands.json" docs/bench/
    fi
    finish
fi
if wanted micro; then
    build/release/bench/sbxfs_micro_bench
fi
if wanted link; then
    out=build/bench
    [ -z "$write" ] || out=docs/bench
    PYTHONPATH=bench:tests python3 -m linkbench --out "$out" "${link_options[@]}"
fi
