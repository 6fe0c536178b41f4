#include "fs/run_script.h"

namespace sbxfs {
namespace {

constexpr std::string_view kScript = R"script(#!/bin/sh
# Runs a command in a sandbox, shows its output as it comes, ends with its exit code.
#
#   sh .mount/bin/run BOX [--timeout SECONDS] [--cwd DIRECTORY] -- COMMAND [ARGUMENT...]
#
# BOX is a sandbox's name or its directory. A single COMMAND is a script of the sandbox's shell, several words are a
# program and its arguments. Exit codes: the command's own, 124 after the timeout, 128+n after signal n, 125 when it
# was not run or nobody saw its end. Ctrl-C interrupts the command, a second one kills it.

fail() { printf 'run: %s\n' "$*" >&2; exit 125; }
usage() { fail 'usage: sh .mount/bin/run BOX [--timeout SECONDS] [--cwd DIRECTORY] -- COMMAND [ARGUMENT...]'; }

case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
mnt=$(cd "$here/../.." && pwd) || fail 'start it by its path in the mount'
[ $# -ge 1 ] || usage
case $1 in -*) usage ;; */*) dir=$1 ;; *) dir=$mnt/$1 ;; esac
shift
timeout= cwd=
while [ $# -gt 0 ]; do
    case $1 in
        --timeout) [ $# -ge 2 ] || usage; timeout=$2; shift 2 ;;
        --timeout=*) timeout=${1#*=}; shift ;;
        --cwd) [ $# -ge 2 ] || usage; cwd=$2; shift 2 ;;
        --cwd=*) cwd=${1#*=}; shift ;;
        --) shift; break ;;
        -*) usage ;;
        *) break ;;
    esac
done
[ $# -ge 1 ] || usage
case $timeout in *[!0-9.]*) fail "--timeout wants seconds, not '$timeout'" ;; esac
[ -d "$dir/events" ] || fail "no sandbox $dir"

# $1 as one word of a shell. The x keeps a final newline from being cut off.
quote() {
    q=$(printf '%sx' "$1" | sed "s/'/'\\\\''/g")
    printf "'%s'" "${q%x}"
}
# $1 inside a JSON string.
json() {
    rules='s/\\/\\\\/g;s/"/\\"/g'
    case $1 in
        *[[:cntrl:]]*)
            i=1
            while [ $i -le 31 ]; do
                if [ $i -ne 10 ]; then
                    c=$(printf "\\$(printf %03o $i)")
                    rules="$rules;s/$c/\\\\u00$(printf %02x $i)/g"
                fi
                i=$((i + 1))
            done ;;
    esac
    j=$(printf '%sx' "$1" | sed -e "$rules" | sed -e ':a' -e '$!{N' -e 'ba' -e '}' -e 's/\n/\\n/g')
    printf %s "${j%x}"
}

script=$1
if [ $# -gt 1 ]; then
    script=
    for word do script="$script$(quote "$word") "; done
fi
order="{\"cmd\": \"$(json "$script")\", \"parallel\": true"
[ -z "$cwd" ] || order="$order, \"cwd\": \"$(json "$cwd")\""
[ -z "$timeout" ] || order="$order, \"timeout\": $timeout"
n=
{ printf '%s}' "$order" >&3 && read -r n <&3; } 3<>"$dir/cmd.json" 2>/dev/null
if [ -z "$n" ]; then
    why=$(sed -n 1p "$mnt/.mount/last_error" 2>/dev/null)
    fail "not accepted: ${why#*: }"
fi
event=$dir/events/$n

# Prints what of file $1 is behind byte $2 and sets `size`. A Ctrl-C does not cut it off.
copy() {
    size=$(wc -c < "$1" 2>/dev/null) || size=$2
    size=$((size))
    [ "$size" -le "$2" ] || (trap '' INT; tail -c "+$(($2 + 1))" "$1" | head -c "$((size - $2))")
}
signal=int
trap 'echo $signal > "$event/ctl"; signal=kill' INT
trap 'echo term > "$event/ctl"' TERM
trap 'echo hup > "$event/ctl"' HUP
out=0 err=0
while :; do
    said=$(cat "$event/wait.1" 2>/dev/null)
    copy "$event/stdout" $out; out=$size
    copy "$event/stderr" $err >&2; err=$size
    case $said in
        '' | queued* | running*) [ -d "$event" ] || fail "event $n is gone" ;;
        *) break ;;
    esac
done
code=$(cat "$event/exit_code")
[ -z "$code" ] || exit "$code"
fail "the command is $said: $(cat "$event/error")"
)script";

}  // namespace

std::string_view RunScript() {
    return kScript;
}

}  // namespace sbxfs
