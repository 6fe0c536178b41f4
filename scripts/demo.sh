#!/usr/bin/env bash
# Shows sbxfs: installs what is missing, builds, mounts in a temporary directory, runs a real session and
# prints it, cleans up. As root or as an ordinary user with sudo. With --fargate the sandboxes are tasks of AWS ECS, on an
# emulator of AWS that runs on this machine and needs no account.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

fargate=no
case ${1:-} in
'') ;;
--fargate) fargate=yes ;;
*) echo "usage: scripts/demo.sh [--fargate]" >&2 && exit 2 ;;
esac
# shellcheck disable=SC2086 # lists of words
install_missing $BUILD_PACKAGES $RUN_PACKAGES
[ $fargate = no ] || install_missing python3 python3-botocore
echo "Building (a few minutes the first time) ..."
configure_and_build release sbxfs | tail -n 1
sbxfs=$PWD/build/release/sbxfs

place=$(mktemp -d "${TMPDIR:-/tmp}/sbxfs-demo-XXXXXX")
mnt=$place/mnt
mkdir "$mnt"
aws=''
finish() {
    cd /
    rmdir "$mnt"/*/ 2>/dev/null || true
    # The sandbox is destroyed behind rmdir: wait until its record is final.
    for _ in $(seq 100); do
        grep -q stopping "$mnt"/.mount/history/*/status 2>/dev/null || break
        sleep 0.1
    done
    "$sbxfs" umount "$mnt" 2>/dev/null || true
    [ -z "$aws" ] || { kill "$aws"; wait "$aws" || true; }
    rm -rf "$place"
}
trap finish EXIT
trap 'exit 130' INT TERM

bold=$(tput bold 2>/dev/null || true)
plain=$(tput sgr0 2>/dev/null || true)
# show COMMAND: prints it like a shell would, then runs it.
show() {
    printf '%s$ %s%s\n' "$bold" "$1" "$plain"
    eval "$1" || echo "(exit code $?)"
}

export PATH=$PWD/build/release:$PATH
config=''
if [ $fargate = yes ]; then
    # About three times as fast as Fargate is.
    mkfifo "$place/url"
    python3 tests/aws_emulator --scale 3 --ready-fd 3 3>"$place/url" >"$place/aws.log" 2>&1 &
    aws=$!
    read -r url <"$place/url" || { cat "$place/aws.log" >&2; exit 1; }
    port=22
    [ "$(id -u)" = 0 ] || port=2222
    cat >"$place/config.toml" <<END
default_template = "default"
[providers.fargate]
backend = "fargate"
aws_region = "us-east-1"
aws_endpoint_url = "$url"
ecs_cluster = "sandboxes"
subnets = ["subnet-1"]
security_groups = ["sg-1"]
execution_role_arn = "arn:aws:iam::123456789012:role/exec"
log_group = "/sbxfs"
host_key_secret = "sbxfs/demo"
ssh_port = $port
[templates.default]
provider = "fargate"
image = "sbxfs:latest"
cpu = 1024
memory = 2048
max_lifetime = "1h"
END
    chmod 600 "$place/config.toml"
    export AWS_ACCESS_KEY_ID=AKIDEMULATOR AWS_SECRET_ACCESS_KEY=secret
    export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null
    config="-c $place/config.toml "
    show "cat $place/config.toml"
    show "sbxfs doctor -c $place/config.toml fargate"
fi
show "sbxfs mount ${config}-o state_dir=$place/state $mnt"
mountpoint -q "$mnt" || exit 1  # it has said why
cd "$mnt"
show 'mkdir b1'
show 'cat b1/ready'
show "echo 'uname -sm; pwd; id -un' > b1/cmd"
show 'cat b1/events/latest/wait'
show 'cat b1/events/latest/stdout'
show "echo 'hello from outside' > b1/work/note.txt"
show "echo 'cat note.txt; echo and back > answer.txt; exit 3' > b1/run/t1"
show 'cat b1/events/t1/wait b1/events/t1/stdout b1/work/answer.txt'
show "sbxfs exec b1 -- sh -c 'echo streamed; exit 7'"
show 'sbxfs list'

# The daemon is killed while a command runs; nothing is lost.
show "echo 'for i in 1 2 3; do echo line \$i; sleep 1; done; exit 9' > b1/run/long"
cd /
pid=$(sed -n 's/^process \([0-9]*\) .*/\1/p' "$place/state/lock")
show "kill -9 $pid      # the daemon"
show "sbxfs mount ${config}-o state_dir=$place/state $mnt"
cd "$mnt"
show 'cat b1/events/long/wait b1/events/long/stdout'
show 'ls b1/events'
if [ $fargate = yes ]; then
    show "grep -A 6 '\"cost\"' b1/info.json"
    show 'sbxfs list --paid'
fi
show 'rmdir b1'
show 'ls'
[ $fargate = no ] || show 'sbxfs list --paid     # until ECS has said STOPPED'
