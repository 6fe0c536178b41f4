#!/usr/bin/env bash
# How much of what reads a sandbox's bytes the tests reach: lines and branches of the SFTP client and of the supervisor's
# client by the unit tier and the fuzz corpora, and of the supervisor's program by its fuzz corpus, by tests/hosted (where
# its system calls fail) and by the supervisor tier, by gcov. Only these files are compiled again; everything else is
# taken from build/dev. The program is compiled as it is built, without exceptions, and twice: on a made-up machine and as an
# ordinary program; what either reaches counts. More inputs: scripts/coverage.sh DIRECTORY, with a directory per target, such as
# build/fuzz/corpus. SBXFS_UNCOVERED=1 lists the branches of the program that were never taken.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
# shellcheck disable=SC2086 # lists of words
install_missing $BUILD_PACKAGES $TEST_PACKAGES
configure_and_build dev sbxfs_unit_tests sbxfs_fuzz_corpora sbxfs_hosted_tests sbxfs_supervisor_tests | tail -n 1
more=${1:+$(realpath "$1")}
out=$PWD/build/coverage
mkdir -p "$out"
rm -f "$out"/*.gcda

# compile TARGET SOURCE NAME [FLAG...]: as the dev build does it, with --coverage and without optimising.
compile() {
    local target=$1 source=$2 name=$3 command
    shift 3
    command=$(ninja -C build/dev -t commands "$target" | grep -F -- "-c $PWD/$source" | head -n 1)
    command=$(sed -E "s| -o [^ ]+| -o $out/$name.o|; s| -MF [^ ]+| -MF $out/$name.d|; s| -MT [^ ]+| -MT $out/$name.o|; s| -Og | -O0 |; s| -D_FORTIFY_SOURCE=2||" <<<"$command")
    if [ "$out/$name.o" -nt "$source" ] && [ -z "$(find sandbox tests/fuzz -name '*.h' -newer "$out/$name.o")" ]; then return; fi
    (cd build/dev && eval "${command#* ccache } --coverage -fprofile-abs-path $*")
}
client=()
for source in sandbox/sftp_*.cc sandbox/supervisor_client.cc; do
    name=$(basename "$source" .cc)
    compile sbxfs_sandbox "$source" "$name"
    client+=("$out/$name.o")
done
program=()
measured=()
for source in sandbox/supervisor/*.cc; do
    name=$(basename "$source" .cc)
    case $name in image | start) continue ;; esac
    # On the made-up machine the heap is malloc(3).
    if [ "$name" != heap ]; then
        compile sbxfs_hosted_supervisor "$source" "program_$name" -fno-exceptions
        program+=("$out/program_$name.o")
    fi
    g++ -std=c++20 -O0 -g -w -fno-exceptions -fno-rtti -fno-threadsafe-statics -fno-strict-aliasing -I"$PWD" --coverage -fprofile-abs-path \
        -include build/dev/sandbox/supervisor/build_id.h -DSBXFS_COVERAGE_DIR="\"$out\"" -DSBXFS_SUPERVISOR_CALLS='"tests/supervisor/measured_calls.h"' -c "$PWD/$source" -o "$out/measured_$name.o"
    measured+=("$out/measured_$name.o")
done
g++ -O0 -I"$PWD" -x c++ tests/supervisor/measured_main.cc.in -x none "${measured[@]}" --coverage -o "$out/sbxfs-supervisor"
# link TARGET OBJECT...: the target's own link, these objects before the libraries that have others of that name.
link() {
    local target=$1 command
    shift
    command=$(ninja -C build/dev -t commands "$target" | tail -n 1 | sed -E "s|^: && ||; s| && .*||; s| -o [^ ]+| --coverage -o $out/$target $*|
        s| [^ ]+/__/sandbox/supervisor/[a-z_]+\.cc\.o||g")
    (cd build/dev && eval "$command")
}
link sbxfs_unit_tests "${client[@]}"
link sbxfs_fuzz_corpora "${client[@]}" "${program[@]}"
link sbxfs_hosted_tests "${program[@]}"
link sbxfs_supervisor_tests "${measured[@]}"
"$out/sbxfs_unit_tests" --gtest_brief=1 --gtest_filter='Sftp*:Supervisor*' >/dev/null 2>&1 || echo "a unit test failed"
for target in sftp_session supervisor_frames supervisor_program machine_texts; do
    "$out/sbxfs_fuzz_corpora" $target tests/fuzz/corpus/$target ${more:+"$more/$target"} >/dev/null 2>&1 || echo "$target failed"
done
SBXFS_EVERY_CALL=1 "$out/sbxfs_hosted_tests" --gtest_brief=1 >"$out/hosted.log" 2>&1 || echo "a test of the made-up machine failed"
# Not those that measure the program itself, or need the other machine's.
SBXFS_TEST_SUPERVISOR=$out/sbxfs-supervisor "$out/sbxfs_supervisor_tests" --gtest_brief=1 \
    --gtest_filter=-'Resources.*:OtherMachine.*' >"$out/supervisor.log" 2>&1 || echo "a test of the supervisor tier failed: $out/supervisor.log"
cd "$out"
gcov -b -t -j ./*.gcda 2>/dev/null | python3 ../../scripts/coverage_report.py
