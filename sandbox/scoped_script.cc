#include "sandbox/scoped_script.h"

#include <algorithm>

#include "base/strings.h"

namespace sbxfs {

bool IsShellName(std::string_view name) {
    const auto letter = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    };
    if (name.empty() || !letter(name.front())) return false;
    return std::all_of(name.begin(), name.end(),
                       [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

std::string ScopedScript(const CommandSpec& spec, std::string script) {
    if (spec.cwd.empty() && spec.env.empty()) return script;
    // Backslashes: aliases of the user's do not get between. CDPATH would print the directory.
    std::string scoped = "(";
    if (!spec.cwd.empty()) scoped += "CDPATH= \\command cd " + ShellQuote(spec.cwd) + " && ";
    for (const auto& [name, value] : spec.env)
        scoped += "\\export " + name + "=" + ShellQuote(value) + " && ";
    return scoped + "\\eval " + ShellQuote(script) + ")";
}

}  // namespace sbxfs
