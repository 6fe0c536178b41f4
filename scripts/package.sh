#!/usr/bin/env bash
# Builds the Debian package and prints its path. PRESET: release unless said otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

preset=${PRESET:-release}
# shellcheck disable=SC2086 # lists of words
install_missing $BUILD_PACKAGES dpkg-dev file
configure_and_build "$preset" sbxfs sbxfs_package_files | tail -n 1
umask 022
(cd "build/$preset" && cpack --config CPackConfig.cmake "$@") >"build/$preset/cpack.log" 2>&1 ||
    { cat "build/$preset/cpack.log"; exit 1; }
sed -n 's/^CPack: - package: \(.*\) generated\.$/\1/p' "build/$preset/cpack.log"
