# Sourced by the other scripts: installs what is missing, from Debian's packages only. As root, or as an
# ordinary user with sudo.

# What sbxfs is built from and runs with.
BUILD_PACKAGES="cmake ninja-build g++ g++-aarch64-linux-gnu pkg-config libfuse3-dev libssh-dev libsqlite3-dev
    libcurl4-openssl-dev libssl-dev libpugixml-dev nlohmann-json3-dev libtomlplusplus-dev libcli11-dev libspdlog-dev libfmt-dev"
[ "$(uname -m)" = aarch64 ] && BUILD_PACKAGES="${BUILD_PACKAGES/g++-aarch64-linux-gnu/g++-x86-64-linux-gnu}"
RUN_PACKAGES="fuse3 bubblewrap openssh-server openssh-client openssh-sftp-server"
# What the tests need beyond that.
TEST_PACKAGES="libgtest-dev libgmock-dev libbenchmark-dev clang qemu-user dash bash busybox python3 procps
    util-linux uidmap strace git rsync ed zsh nodejs perl vim nano emacs-nox sqlite3 ripgrep make mksh
    ksh93u+m yash dpkg-dev file man-db python3-botocore python3-yaml"

# What scripts/fuzz.sh builds with: the compiler that has libFuzzer, and its run-time libraries.
FUZZ_PACKAGES="clang libclang-rt-14-dev llvm-14"

# What bench/run.sh compares with and measures by.
BENCH_PACKAGES="libgtest-dev libgmock-dev libbenchmark-dev sshfs rclone fio git python3"

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# install_missing PACKAGE...: says what it does; silent when there is nothing to do.
install_missing() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -q '^installed' || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    if ! command -v apt-get >/dev/null; then
        echo "These Debian packages are needed: ${missing[*]}" >&2
        return 1
    fi
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        echo "Install these packages as root, then run this again: apt-get install ${missing[*]}" >&2
        return 1
    fi
    echo "Installing: ${missing[*]}"
    # A package list that is a day old may name versions that are gone.
    as_root apt-get update -q >/dev/null
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null
}

# configure_and_build PRESET [TARGET...]
configure_and_build() {
    local preset=$1
    shift
    if [ ! -f "build/$preset/build.ninja" ]; then
        cmake --preset "$preset" >"build-$preset.log" 2>&1 || { cat "build-$preset.log"; rm -f "build-$preset.log"; return 1; }
        rm -f "build-$preset.log"
    fi
    ninja -C "build/$preset" "$@"
}
