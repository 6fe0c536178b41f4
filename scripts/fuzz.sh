#!/usr/bin/env bash
# Builds the fuzz targets (preset `fuzz`: clang, libFuzzer, address and undefined-behaviour sanitizers) and runs each for a
# while, one process at a time. A line each: executions, edges covered, what was found. Inputs that crash, hang or leak are
# kept in build/fuzz/found/TARGET-*; what covers something new in build/fuzz/corpus/TARGET, for the next run.
# Usage: scripts/fuzz.sh [--seconds N] [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

seconds=60
targets=()
while [ $# -gt 0 ]; do
    case $1 in
        --seconds) seconds=$2; shift ;;
        -*) sed -n '2,5s/^# //p' "$0"; exit 2 ;;
        *) targets+=("$1") ;;
    esac
    shift
done
if [ ${#targets[@]} = 0 ]; then
    for source in tests/fuzz/*_fuzz.cc; do targets+=("$(basename "$source" _fuzz.cc)"); done
fi
# shellcheck disable=SC2086 # lists of words
install_missing $BUILD_PACKAGES $TEST_PACKAGES $FUZZ_PACKAGES
configure_and_build fuzz "${targets[@]/#/fuzz_}" >build-fuzz.log 2>&1 || { tail -n 40 build-fuzz.log; exit 1; }
rm -f build-fuzz.log

# Worlds with a disk of their own live in memory where there is some.
if [ -d /dev/shm ]; then export TMPDIR=/dev/shm; fi
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1} UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
found=build/fuzz/found
mkdir -p $found
broken=0
for target in "${targets[@]}"; do
    corpus=build/fuzz/corpus/$target
    mkdir -p "$corpus" "tests/fuzz/corpus/$target"
    options=(-max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=8192 -print_final_stats=1
        -artifact_prefix="$found/$target-")
    [ -f "tests/fuzz/$target.dict" ] && options+=(-dict="tests/fuzz/$target.dict")
    log=$found/$target.log
    state=clean
    nice -n 15 "build/fuzz/tests/fuzz/fuzz_$target" "${options[@]}" "$corpus" "tests/fuzz/corpus/$target" >"$log" 2>&1 || state=broken
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
    edges=$(sed -n 's/^#[0-9].* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    printf '%-20s %10s executions  %6s edges  %s\n' "$target" "${executions:-?}" "${edges:-?}" "$state"
    if [ $state = broken ]; then
        broken=1
        grep -E -m 4 'ERROR|SUMMARY|CHECK|runtime error|Test unit written' "$log" | sed 's/^/    /' || true
    fi
done
exit $broken
