#!/usr/bin/env bash
# Builds everything and runs every test: installs what is missing first. `scripts/test.sh quick` leaves
# the sanitizers out; `scripts/test.sh TIER...` runs some tiers only (unit core protocol contract
# supervisor aws mount package harness).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

# shellcheck disable=SC2086 # lists of words
install_missing $BUILD_PACKAGES $RUN_PACKAGES $TEST_PACKAGES

quick=no
tiers=()
for word in "$@"; do
    if [ "$word" = quick ]; then quick=yes; else tiers+=("$word"); fi
done
jobs=$(nproc)
started=$SECONDS
step() { printf '\n== %s (%d s)\n' "$1" $((SECONDS - started)); }

step "includes point downwards"
python3 scripts/check_includes.py

step "build: dev"
configure_and_build dev | tail -n 1
run() { # run PRESET [ctest arguments]
    local preset=$1
    shift
    ctest --test-dir "build/$preset" --output-on-failure --no-tests=error -j "$jobs" "$@" |
        grep -vE '^ *(Start|[0-9]+/[0-9]+ Test .* Passed)' || return "${PIPESTATUS[0]}"
}
if [ ${#tiers[@]} != 0 ]; then
    step "tests: ${tiers[*]}"
    run dev -L "$(IFS='|'; echo "${tiers[*]}")"
    exit
fi
step "tests: dev"
run dev -LE 'mount|harness'
# Real programs against real mounts on a machine that may be busy with other work: a test that fails is tried a second
# time, alone, and both tries are printed. What fails twice fails the run.
run dev -L 'mount|harness' || { step "tests: mount and harness, those that failed, once more" && run dev -j 1 --rerun-failed; }

if [ $quick = no ]; then
    for sanitizer in asan tsan; do
        step "build: $sanitizer"
        configure_and_build $sanitizer sanitizer_tests | tail -n 1
        step "tests: $sanitizer, core and protocol"
        run $sanitizer -L 'unit|core|protocol'
    done
    step "soak: two minutes under the address sanitizer"
    configure_and_build asan sbxfs | tail -n 1
    SBXFS_BINARY=$PWD/build/asan/sbxfs PYTHONDONTWRITEBYTECODE=1 python3 tests/harness/soak.py --seconds 120 || [ $? = 77 ]
    step "clang: thread-safety annotations"
    configure_and_build tidy sbxfs | tail -n 1
fi
step "done"
