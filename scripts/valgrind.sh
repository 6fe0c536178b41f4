#!/usr/bin/env bash
# Runs tiers of tests under valgrind: `scripts/valgrind.sh [TIER...]`, protocol and supervisor unless told others. It sees what the address
# sanitizer does not: values that were never set, also those that go into system calls, and descriptors that stay open. A read or write of what is
# not there, such a value, or a block that nothing points to any more fails. SBXFS_BUILD: the build to take, build/dev unless set.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

install_missing valgrind
# valgrind keeps descriptors for itself, and says less in RLIMIT_NOFILE than it has; and it is slow.
OTHERWISE=Commands.NothingOfTheSupervisorsIsOpenInThem:Resources.TheStartOfACommandIsQuick
build=${SBXFS_BUILD:-$PWD/build/dev}
[ $# != 0 ] || set -- protocol supervisor
for tier in "$@"; do
    [ -n "${SBXFS_BUILD:-}" ] || configure_and_build dev "sbxfs_${tier}_tests" | tail -n 1
    started=$SECONDS
    # Tests that fork leave what the child does not need; it ends without freeing it.
    valgrind --quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect \
        --child-silent-after-fork=yes --num-callers=25 --suppressions=scripts/valgrind.supp \
        "$build/tests/sbxfs_${tier}_tests" --gtest_brief=1 "--gtest_filter=-$OTHERWISE"
    printf 'valgrind: %s, %d s, no error\n' "$tier" $((SECONDS - started))
done
