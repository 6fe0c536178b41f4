#include "sandbox/supervisor/dialect.h"

namespace sbxfs::supervisor {
namespace {

// Ends a directory report, so that a directory with a newline in its name is not taken for a
// shorter one.
constexpr char kDirectoryEnd[] = " //E";

View Word(const Dialect& dialect) {
    return dialect.has_builtin ? "\\builtin " : "\\command ";
}

// Removes a function of the user's that would get between us and the builtins.
void AppendReserve(Str* to, const Dialect& dialect) {
    to->append(dialect.has_builtin ? "\\unset -f builtin exec || \\builtin :"
                                   : "\\unset -f command || \\:");
}

}  // namespace

Dialect DialectOf(View program) {
    Dialect dialect;
    dialect.known = true;
    if (program == "bash") {
        dialect.has_builtin = true;
        dialect.resets_lineno = true;
        dialect.exec = ExecUse::kErrexit;
    } else if (program == "zsh") {
        dialect.has_builtin = true;
        dialect.exec = ExecUse::kNo;
    } else if (program == "ksh" || program == "ksh93" || program == "mksh" || program == "lksh") {
        // With an EXIT trap, `kill $$` ends mksh with status 0 and ksh93 with status 15.
        dialect.exit_trap = false;
    } else if (!(program == "dash" || program == "sh" || program == "ash" || program == "busybox" ||
                 program == "yash")) {
        dialect.known = false;
    }
    return dialect;
}

void AddShellOptions(View program, bool login, Vec<const char*>* argv) {
    if (login) {
        argv->Add("-l");
    } else if (program == "bash") {
        argv->Add("--noprofile");
        argv->Add("--norc");
    } else if (program == "zsh") {
        argv->Add("-d");
        argv->Add("-f");
    } else if (program == "yash") {
        argv->Add("--noprofile");
        argv->Add("--norcfile");
    }
}

bool NeedsExec(const Dialect& dialect, View script, bool traced, bool errexit) {
    if (traced || dialect.exec == ExecUse::kNo) return false;
    if (dialect.exec == ExecUse::kAlways || errexit) return true;
    // Only a script that turns it on itself is left; where it says "set" of something else no harm is done.
    for (size_t at = 0; at < script.size; ++at) {
        if (script.From(at).StartsWith("set -") || script.From(at).StartsWith("errexit")) {
            return true;
        }
    }
    return false;
}

// Each report begins with a newline, which ends whatever unfinished line somebody else left in the FIFO.
void AppendInitLines(Str* to, const Dialect& dialect, View fifo) {
    const View word = Word(dialect);
    to->append("_sbxfs_report() { ");
    AppendReserve(to, dialect);
    to->append("; ").append(word).append("echo \"\nR $1 $2 $3\" >>").Quoted(fifo).append("; }\n");
    to->append("_sbxfs_status() { ").append(dialect.has_builtin ? word : View("\\"));
    to->append("return \"$1\"; }\n");
    if (!dialect.exit_trap) return;
    Str action;
    action.append("{ ").append(word).append("echo \"\nC $$ ${PWD-}").append(kDirectoryEnd);
    action.append("\" >>").Quoted(fifo).append("; } 2>/dev/null || ").append(word).append(":");
    to->append("trap ").Quoted(action.view()).append(" 0\n");
}

void AppendCommandLines(Str* to, const Dialect& dialect, const ShellCommand& command) {
    const View word = Word(dialect);
    // The empty line: after an eval that ended inside a quote bash does not know that a new command begins, and takes
    // a `{` for a program's name. A newline brings it back.
    to->append("\n{ ");
    AppendReserve(to, dialect);
    to->append("; ").append(word).append("export SBXFS_EVENT=").append(command.event).append("; }");
    to->append(" >/dev/null 2>&1");
    if (dialect.resets_lineno) to->append(" </dev/fd/$((LINENO=0))");
    to->append("\n");

    Str files;
    files.append(" >>").Quoted(command.out).append(" 2>>").Quoted(command.err);
    if (command.exec) to->append("\\exec").append(files.view()).append(" && ");
    to->append("{ ");
    if (command.status != 0) {
        // As the left side of &&, so that `set -e` and ERR traps do not take it for a failure.
        to->append("_sbxfs_status ").Number(command.status).append(" && ").append(word);
        to->append(":; ");
    }
    to->append(word);
    to->append("eval ").Quoted(command.script).append(files.view());
    to->append("; _sbxfs_report ").Number(command.n).append(" \"$?\" \"$-\"; }");
    to->append(" </dev/null >/dev/null 2>&1\n");
}

void AppendSettingsLine(Str* to, const Dialect& dialect, const SettingsChange& change) {
    const View word = Word(dialect);
    Str line;
    // Tried in a subshell first: what a script has made readonly stays as it is, and to touch it ends some shells
    // (zsh; bash under `set -e`).
    const auto say = [&](View what, View argument, View value, bool assigns) {
        for (int tries = 0; tries < 2; ++tries) {
            line.append(tries == 0 ? "; (" : " && ").append(word).append(what).append(argument);
            if (assigns) line.append("=").Quoted(value);
            if (tries == 0) line.append(")");
        }
        line.append(" || ").append(word).append(":");
    };
    for (const Str& entry : change.after.Entries()) {
        const View name = entry.view().First(entry.view().Find('='));
        const View value = entry.view().From(name.size + 1);
        View had;
        if (!IsShellName(name) || (change.before.Get(name, &had) && had == value)) continue;
        say("export ", name, value, true);
    }
    for (const Str& entry : change.before.Entries()) {
        const View name = entry.view().First(entry.view().Find('='));
        View value;
        if (!IsShellName(name) || change.after.Get(name, &value)) continue;
        if (change.base.Get(name, &value)) {
            say("export ", name, value, true);
        } else {
            say("unset ", name, View(), false);
        }
    }
    if (!change.cwd.empty()) {
        line.append("; ").append(word).append("cd ").Quoted(change.cwd);
        line.append(" || ").append(word).append(":");
    }
    if (line.empty()) return;
    to->append("\n{ ");
    AppendReserve(to, dialect);
    to->append(line.view()).append("; } </dev/null >/dev/null 2>&1\n");
}

void AppendIdleLine(Str* to) {
    to->append("\\exec >/dev/null 2>&1\n");
}

Report ParseReport(View line) {
    Report report;
    if (line.size < 4 || line[1] != ' ') return report;
    const size_t space = line.Find(' ', 2);
    if (space == line.size || !ParseNumber(View(line.data + 2, space - 2), &report.number)) {
        return report;
    }
    const View rest = line.From(space + 1);
    if (line[0] == 'R') {
        const size_t end = rest.Find(' ');
        uint64_t status = 0;
        if (!ParseNumber(rest.First(end), &status) || status > 255) return report;
        report.status = static_cast<uint32_t>(status);
        report.traced = rest.From(end).Has('x');
        report.errexit = rest.From(end).Has('e');
        report.kind = Report::Kind::kStatus;
    } else if (line[0] == 'C') {
        const View tail = kDirectoryEnd;
        if (rest.size <= tail.size || rest[0] != '/') return report;
        const size_t length = rest.size - tail.size;
        if (!(rest.From(length) == tail)) return report;
        report.directory = rest.First(length);
        report.kind = Report::Kind::kDirectory;
    }
    return report;
}

}  // namespace sbxfs::supervisor
