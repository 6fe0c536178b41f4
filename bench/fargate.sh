#!/usr/bin/env bash
# Measures provider fargate on the emulator of AWS (fargate_bench.py says what): about 15 minutes, as root, on a machine with
# nothing else to do. `bench/fargate.sh --write` also keeps the result in docs/bench/; other arguments are fargate_bench.py's.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
# shellcheck disable=SC2086 # lists of words
install_missing $BUILD_PACKAGES $RUN_PACKAGES python3 python3-botocore
write=no
if [ "${1:-}" = --write ]; then write=yes && shift; fi
if [ -z "${SBXFS_BINARY:-}" ]; then
    configure_and_build release sbxfs | tail -n 1 >&2
    export SBXFS_BINARY=$PWD/build/release/sbxfs
fi
out=$(mktemp "${TMPDIR:-/tmp}/sbxfs-fargate-XXXXXX")
trap 'rm -f "$out"' EXIT
PYTHONDONTWRITEBYTECODE=1 python3 bench/fargate_bench.py "$@" >"$out"
cat "$out"
if [ $write = yes ]; then
    mkdir -p docs/bench
    cp "$out" docs/bench/fargate.json
fi
