#!/usr/bin/env bash
# What takes too long for every change: the crash and link harnesses at every position, the model test and the fuzzers for long. Prints one line of figures per
# session, in the form docs/RELIABILITY.md uses. SBXFS_BINARY: the program under test; JOBS: sessions at a time.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

if [ -z "${SBXFS_BINARY:-}" ]; then
    configure_and_build dev sbxfs sbxfs_kill_after sbxfs_far_link sbxfs_lying_sftp sbxfs_core_tests | tail -n 1
    SBXFS_BINARY=$PWD/build/dev/sbxfs
fi
export SBXFS_BINARY PYTHONDONTWRITEBYTECODE=1
SBXFS_KILL_AFTER=${SBXFS_KILL_AFTER:-$PWD/build/dev/tests/harness/kill_after}
export SBXFS_KILL_AFTER
jobs=${JOBS:-$(nproc)}
broken=0
every() { python3 "tests/harness/$1.py" "$2" --every --jobs "$jobs" "${@:3}" || broken=1; }

every crash life
every crash recovery
every crash dirty
every crash launching
every crash destroying
every fargate remounted
every fargate abandoned
# A minute or two each, most of it for tasks that nobody knows whether they were started.
python3 tests/harness/fargate.py faults --sample 1000 --minutes 60 --jobs "$jobs" || broken=1
for way in in out; do
    every link steady_$way
    every link again_$way
    every link launch_$way
    # Megabytes: what fits into ten minutes, a new sample every night.
    python3 tests/harness/link.py big_$way --sample 100000 --minutes 10 --jobs "$jobs" || broken=1
    # A second each: other bytes every night, and each packet of ssh, none of which is shorter than this.
    every link script_$way --stride 40 --first $((RANDOM % 40 + 1))
done
for session in turns apart cuts saving saving_cuts; do
    python3 tests/harness/model.py $session --seconds 600 || broken=1
done
for room in behind short; do
    every saves $room
done
for session in behind through busy; do
    python3 tests/harness/fsx.py $session --seconds 600 || broken=1
done
# The mount tier with 20 ms between the daemon and its local sandboxes; the other providers' are as far as they are.
for script in tests/mount/*_test.py; do
    case $script in *ssh_test.py | *fargate*) continue ;; esac
    SBXFS_TEST_LINK=20ms python3 "$script" || [ $? = 77 ] || broken=1
done
SBXFS_TEST_LINK=20ms python3 tests/mount/as_user.py semantics_test.py || broken=1
# Everything at once for half an hour: nothing is left, the memory does not grow.
python3 tests/harness/soak.py --seconds 1800 || broken=1
# Every fault of links, mixed, for an hour.
python3 tests/harness/faults.py --seconds 3600 || broken=1
# A thousand sandboxes on one mount, 100,000 events of a sandbox, 50,000 files of a directory.
python3 tests/harness/many.py boxes --count 1000 --idle 30 --limit 1200 || broken=1
python3 tests/harness/many.py events --count 100000 --limit 1200 || broken=1
python3 tests/harness/many.py files --count 50000 --limit 1200 || broken=1
# Every system call of the supervisor's stories fails, and every bit of its spool is turned.
configure_and_build dev sbxfs_hosted_tests | tail -n 1
SBXFS_EVERY_CALL=1 build/dev/tests/hosted/sbxfs_hosted_tests --gtest_brief=1 || broken=1
# Values that were never set, and what is lost, as valgrind sees it.
scripts/valgrind.sh || broken=1
# Everything at once again, for ten minutes of a program whose memory is watched (scripts/test.sh has two).
configure_and_build asan sbxfs | tail -n 1
SBXFS_BINARY=$PWD/build/asan/sbxfs python3 tests/harness/soak.py --seconds 600 || broken=1
# The mount tier with every change waiting for its answer.
SBXFS_TEST_OPTIONS=writeback=off ctest --test-dir build/dev -L mount -j "$jobs" --output-on-failure || broken=1
# Two thousand lies of a file server; SBXFS_LIES=0 tells each there is.
SBXFS_LIES=2000 python3 tests/mount/lying_server_test.py || broken=1
# Each operation on the state directory fails; a disk of it that fills and empties for a minute.
SBXFS_DISK_STRIDE=1 build/dev/tests/sbxfs_core_tests --gtest_filter='*StateDisk*' --gtest_brief=1 2> /dev/null || broken=1
SBXFS_DISK_SECONDS=60 python3 tests/mount/state_disk_test.py StateDisk || broken=1
# Both sides in one repository for a minute.
SBXFS_SIDES_SECONDS=60 python3 tests/mount/sides_test.py Git || broken=1
# Each fuzz target for ten minutes.
scripts/fuzz.sh --seconds 600 || broken=1
# The package of the release build, as Debian's own checker and a machine of its own see it.
# shellcheck disable=SC2086 # lists of words
install_missing $BUILD_PACKAGES dpkg-dev file man-db lintian
package=$(scripts/package.sh) && lintian --fail-on error "$package" || broken=1
SBXFS_BUILD=$PWD/build/release SBXFS_BINARY=$PWD/build/release/sbxfs python3 tests/package/package_test.py || broken=1
exit $broken
