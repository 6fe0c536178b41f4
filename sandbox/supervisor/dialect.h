// What we say to a shell that reads its commands from a pipe of ours, and what it says back. Pure;
// the facts about each shell are tested by tests/supervisor/shells_test.cc on real ones.
//
// One command is an empty line and two more. The first exports SBXFS_EVENT; the second is
//
//     \exec >>OUT 2>>ERR && {
//         \command eval 'SCRIPT' >>OUT 2>>ERR
//         _sbxfs_report N "$?" "$-"; } </dev/null >/dev/null 2>&1
//
// - `eval` of one quoted word keeps unterminated quotes, comments and here-documents inside;
//   `command` keeps dash and busybox alive through errors of special builtins. The first letters
//   are quoted against aliases. Functions beat builtins: bash and zsh are told `\builtin eval`
//   (with `command` between the two bash would run a DEBUG trap once more, into the command's
//   output), the others `\command eval`. A function of that very name (and of `exec`) is removed;
//   every other function of the user's stays and cannot get in the way.
// - The group sends the traces of `set -x` and the output of DEBUG traps for our own words to
//   /dev/null.
// - The outer `exec` is there for the way out: dash undoes the redirections of eval before it runs
//   an EXIT trap, and its output belongs to the command too. bash does so only when `set -e` ends
//   it, so there the exec is said only where that may be; zsh never. Under `set -x` it is left out,
//   since it would be traced into the command's stderr. After the report IdleLine gives the files
//   back.
// - `$?` of the command before is there again when the script begins.
// - bash counts lines from the beginning of its input: the redirection with $((LINENO=0)) is the
//   one place where setting LINENO survives, so error messages count from the script's own first
//   line.
// - Reports go through a FIFO by name: nothing stays open in the shell that a script could close,
//   and a full disk does not matter.
#pragma once

#include <stdint.h>

#include "sandbox/supervisor/bytes.h"
#include "sandbox/supervisor/environment.h"

namespace sbxfs::supervisor {

enum class ExecUse : uint8_t { kAlways, kErrexit, kNo };

struct Dialect {
    bool known = false;        // can be driven; false for fish, csh and strangers
    bool has_builtin = false;  // has the word `builtin`, which beats functions
    bool resets_lineno = false;
    ExecUse exec = ExecUse::kAlways;  // when the outer exec is needed
    bool exit_trap = true;            // an EXIT trap does not change how signals end it
};

// By the base name of the program behind the links.
Dialect DialectOf(View program);
// The names DialectOf knows, for messages.
inline constexpr char kKnownShells[] = "bash, dash, sh, ash, busybox, zsh, ksh93, mksh and yash";

// What follows argv[0]: keeps start-up files from being read, or asks for them.
void AddShellOptions(View program, bool login, Vec<const char*>* argv);

struct ShellCommand {
    uint64_t n = 0;
    View event;  // the value of SBXFS_EVENT
    View script;
    View out;  // absolute paths
    View err;
    uint32_t status = 0;  // what $? shall be when the script begins
    bool exec = false;    // NeedsExec
};

// Whether the outer exec is said. `traced`, `errexit`: set -x, set -e were on at the last report.
bool NeedsExec(const Dialect& dialect, View script, bool traced, bool errexit);

// Said once: the report function, and an EXIT trap that tells the directory.
void AppendInitLines(Str* to, const Dialect& dialect, View fifo);
void AppendCommandLines(Str* to, const Dialect& dialect, const ShellCommand& command);
// What of the settings changed since the shell was started or last told: variables to export, to give back the
// value of `base` (what the shell was started with below them) or to unset, and a directory to enter when `cwd` is
// not empty. Nothing when nothing did. Without effect on $?, options and traps; names that no shell variable can
// have are left alone.
struct SettingsChange {
    const Environment& base;
    const Environment& before;
    const Environment& after;
    View cwd;
};
void AppendSettingsLine(Str* to, const Dialect& dialect, const SettingsChange& change);

// Said after the report of a command with an exec, unless `set -x` is on now: the shell lets go of its files.
void AppendIdleLine(Str* to);

struct Report {
    enum class Kind { kNone, kStatus, kDirectory } kind = Kind::kNone;
    uint64_t number = 0;  // the command of a status, the pid of a directory
    uint32_t status = 0;
    bool traced = false;
    bool errexit = false;
    View directory;
};

// One line from the FIFO, which everybody of our user may write to: garbage is kNone.
Report ParseReport(View line);

}  // namespace sbxfs::supervisor
