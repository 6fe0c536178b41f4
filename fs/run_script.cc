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
# was not run, nobody saw its end, or (in place of 0) not all of its output is here: of each stream the first MiB and
# the newest of 64 MiB are kept. Ctrl-C interrupts the command, a second one kills it; it gets a hangup when nobody reads.

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

# Nobody reads $1 any more, or its disk is full: the command is not left running for nobody.
lost() {
    if [ "$2" -eq 141 ]; then echo hup > "$event/ctl"; exit 141; fi
    echo term > "$event/ctl"
    fail "$1 cannot be written; the command was told to end"
}
# Prints the bytes of stream $1 from $2 to $3. A Ctrl-C does not cut it off. head's own errors are all that counts.
part() {
    [ "$3" -gt "$2" ] || return 0
    (trap '' INT; tail -c "+$(($2 + 1))" "$event/$1" 2>/dev/null | head -c "$(($3 - $2))")
}
# What of stream $1 is not kept, as lines FROM TO: it reads as zeros.
holes() {
    tr -d ' \n' < "$event/result.json" | sed -n "s/.*\"$1_holes\":\[\[\([]0-9,[]*\)\]\].*/\1/p" |
        sed 's/\],\[/;/g' | tr ';,' '\n ' | { cat; echo; }
}
# Prints the kept bytes of stream $1 from $2 to $3, and notes what is left out in "$scratch/gaps". The first MiB is
# always kept. What is behind it can be cut out at any moment, and is known to be there only after it was read.
copy() {
    at=$2
    while [ "$at" -lt "$3" ]; do
        if [ "$at" -lt 1048576 ]; then
            end=$3; [ "$end" -le 1048576 ] || end=1048576
            part "$1" "$at" "$end" || return
        else
            make_scratch
            end=$3; [ "$end" -le $((at + 8388608)) ] || end=$((at + 8388608))
            part "$1" "$at" "$end" > "$scratch/piece" || fail "$scratch cannot be written"
            holes "$1" > "$scratch/holes"
            base=$at
            while read -r from to; do
                [ -n "$to" ] || continue
                [ "$from" -ge "$at" ] || from=$at
                [ "$to" -le "$end" ] || to=$end
                [ "$from" -lt "$to" ] || continue
                piece "$((at - base))" "$((from - base))" || return
                echo "$1 $from $to" >> "$scratch/gaps"
                at=$to
            done < "$scratch/holes"
            piece "$((at - base))" "$((end - base))" || return
        fi
        at=$end
    done
}
piece() {
    [ "$2" -gt "$1" ] || return 0
    (trap '' INT; tail -c "+$(($1 + 1))" "$scratch/piece" 2>/dev/null | head -c "$(($2 - $1))")
}
scratch=
make_scratch() {
    [ -z "$scratch" ] || return 0
    scratch=$(umask 077; mktemp -d "${TMPDIR:-/tmp}/sbxfs-run.XXXXXX") || fail 'no room for output in TMPDIR'
    trap 'rm -rf "$scratch"' EXIT
}
# How far stream $1 goes by now; $2 when that is not to be seen.
size_of() { size=$(wc -c < "$event/$1" 2>/dev/null) || size=$2; size=$((size)); }
last=
left_out() {
    echo "run: $((upto - begun)) bytes of $last are left out, from byte $begun on: of each stream the first MiB and the newest of 64 MiB are kept ($event/result.json)" >&2
}
signal=int
trap 'echo $signal > "$event/ctl"; signal=kill' INT
trap 'echo term > "$event/ctl"' TERM
trap 'echo hup > "$event/ctl"' HUP
out=0 err=0
while :; do
    said=$(cat "$event/wait.1" 2>/dev/null)
    size_of stdout $out; copy stdout $out $size || lost 'standard output' $?; out=$size
    size_of stderr $err; copy stderr $err $size >&2 || lost 'standard error' $?; err=$size
    case $said in
        '' | queued* | running*) [ -d "$event" ] || fail "event $n is gone" ;;
        *) break ;;
    esac
done
code=$(cat "$event/exit_code")
if [ -n "$scratch" ] && [ -s "$scratch/gaps" ]; then
    while read -r stream from to; do
        if [ "$stream" = "$last" ] && [ "$from" -eq "$upto" ]; then upto=$to; continue; fi
        [ -z "$last" ] || left_out
        last=$stream begun=$from upto=$to
    done < "$scratch/gaps"
    left_out
    [ "$code" != 0 ] || code=125
fi
[ -z "$code" ] || exit "$code"
fail "the command is $said: $(cat "$event/error")"
)script";

}  // namespace

std::string_view RunScript() {
    return kScript;
}

}  // namespace sbxfs
