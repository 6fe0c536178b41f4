#!/usr/bin/env bash
# Measures sbxfs on this machine: builds the release, mounts in a temporary directory, runs the
# benchmarks and prints their results. `bench/run.sh --write` also keeps them in docs/bench/.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
# shellcheck disable=SC2086 # lists of words
install_missing $BUILD_PACKAGES $RUN_PACKAGES libgtest-dev
configure_and_build release sbxfs sbxfs_session_bench | tail -n 1

place=$(mktemp -d "${TMPDIR:-/tmp}/sbxfs-bench-XXXXXX")
finish() {
    rmdir "$place"/mnt/*/ 2>/dev/null || true
    for _ in $(seq 300); do
        grep -q stopping "$place"/mnt/.mount/history/*/status 2>/dev/null || break
        sleep 0.1
    done
    build/release/sbxfs umount "$place/mnt" 2>/dev/null || true
    rm -rf "$place"
}
trap finish EXIT
trap 'exit 130' INT TERM
mkdir "$place/mnt"
build/release/sbxfs mount -o "state_dir=$place/state" "$place/mnt"
pid=$(sed -n 's/^process \([0-9]*\) .*/\1/p' "$place/state/lock")
build/release/bench/sbxfs_session_bench "$place/mnt" "$pid" 20 >"$place/session.json"
cat "$place/session.json"
python3 bench/commands_bench.py "$place/mnt" "$pid" >"$place/commands.json"
cat "$place/commands.json"
if [ "${1:-}" = --write ]; then
    mkdir -p docs/bench
    cp "$place/session.json" "$place/commands.json" docs/bench/
fi
