#include <algorithm>

#include "base/strings.h"
#include "fs/command_tree.h"
#include "fs/mount_options.h"

namespace sbxfs {
namespace {

// What a value is completed with.
enum class Kind { kNone, kFile, kDirectory, kBox, kMountOption, kShell, kCommand };

Kind KindOf(const std::string& value) {
    if (value == "FILE") return Kind::kFile;
    if (value == "MOUNTPOINT") return Kind::kDirectory;
    if (value == "BOX") return Kind::kBox;
    if (value == "OPT[,OPT]") return Kind::kMountOption;
    if (value == "SHELL") return Kind::kShell;
    if (value == "CMD...") return Kind::kCommand;
    return Kind::kNone;
}

constexpr std::string_view kShells = "bash zsh fish";
// The names of the sandboxes there are, from the mounts' own listing.
constexpr std::string_view kBoxes =
    R"(sbxfs list 2>/dev/null | awk 'NR > 1 { n = split($1, path, "/"); print path[n] }')";

std::string MountOptionWords() {
    std::vector<std::string> words;
    for (const OptionHelp& option : MountOptionsHelp()) {
        const std::size_t equals = option.form.find('=');
        const std::string key(option.form.substr(0, equals));
        const std::string_view values =
            equals == std::string_view::npos ? "" : option.form.substr(equals + 1);
        if (values.find('|') == std::string_view::npos) {
            words.push_back(equals == std::string_view::npos ? key : key + "=");
            continue;
        }
        for (const std::string& value : Split(values, '|'))
            words.push_back(key + "=" + value);
    }
    return Join(words, " ");
}

std::string FlagWords(const CommandTree& command) {
    std::vector<std::string> words;
    for (const Argument& option : command.options)
        words.insert(words.end(), option.names.begin(), option.names.end());
    return Join(words, " ");
}

std::string CommandWords(const CommandTree& command) {
    std::vector<std::string> words;
    for (const CommandTree& sub : command.commands)
        words.push_back(sub.name);
    return Join(words, " ");
}

// --- bash

std::string BashReply(Kind kind) {
    switch (kind) {
        case Kind::kFile:
            return "compopt -o filenames; COMPREPLY=($(compgen -f -- \"$cur\"))";
        case Kind::kDirectory:
            return "compopt -o filenames; COMPREPLY=($(compgen -d -- \"$cur\"))";
        case Kind::kBox:
            return "COMPREPLY=($(compgen -W \"$(_sbxfs_boxes)\" -- \"$cur\"))";
        case Kind::kMountOption:
            // The word after the last comma; what is before it stays.
            return "compopt -o nospace; COMPREPLY=($(compgen -P \"${cur%\"${cur##*,}\"}\" -W \"" +
                   MountOptionWords() + "\" -- \"${cur##*,}\"))";
        case Kind::kShell:
            return "COMPREPLY=($(compgen -W \"" + std::string(kShells) + "\" -- \"$cur\"))";
        case Kind::kCommand:
            return "compopt -o default; COMPREPLY=($(compgen -c -- \"$cur\"))";
        case Kind::kNone:
            break;
    }
    return "COMPREPLY=()";
}

std::string BashCase(const CommandTree& command, const std::string& path) {
    std::string text = "        " + path + ")\n            case $prev in\n";
    for (const Argument& option : command.options) {
        if (option.value.empty()) continue;
        text += "                " + Join(option.names, "|") + ") " +
                BashReply(KindOf(option.value)) + "; return ;;\n";
    }
    text +=
        "            esac\n            if [[ $cur == -* ]]; then\n                "
        "COMPREPLY=($(compgen -W \"" +
        FlagWords(command) + "\" -- \"$cur\"))\n                return\n            fi\n";
    if (!command.commands.empty()) {
        text += "            COMPREPLY=($(compgen -W \"" + CommandWords(command) +
                "\" -- \"$cur\"))\n            return ;;\n";
        return text;
    }
    text += "            case $place in\n";
    for (std::size_t i = 0; i < command.positionals.size(); ++i) {
        const Argument& positional = command.positionals[i];
        text += "                " + (positional.repeated ? "*" : std::to_string(i)) + ") " +
                BashReply(KindOf(positional.value)) + " ;;\n";
    }
    return text + "            esac\n            return ;;\n";
}

std::string ValueFlags(const CommandTree& command) {
    std::vector<std::string> names;
    for (const Argument& option : command.options) {
        if (!option.value.empty())
            names.insert(names.end(), option.names.begin(), option.names.end());
    }
    for (const CommandTree& sub : command.commands) {
        const std::string more = ValueFlags(sub);
        for (const std::string& name : Split(more, '|')) {
            if (!name.empty()) names.push_back(name);
        }
    }
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    return Join(names, "|");
}

void BashCases(const CommandTree& command, const std::string& path, std::string& cases,
               std::vector<std::string>& groups) {
    cases += BashCase(command, path.empty() ? "''" : "'" + path + "'");
    if (!command.commands.empty()) groups.push_back("'" + path + "'");
    for (const CommandTree& sub : command.commands)
        BashCases(sub, path.empty() ? sub.name : path + " " + sub.name, cases, groups);
}

std::string Bash(const CommandTree& tree) {
    std::string cases;
    std::vector<std::string> groups;
    BashCases(tree, "", cases, groups);
    return "# bash completion for sbxfs; made by: sbxfs completion bash\n"
           "_sbxfs_boxes() {\n    " +
           std::string(kBoxes) +
           "\n}\n\n"
           "_sbxfs() {\n"
           "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
           "    local path='' place=0 word i\n"
           "    COMPREPLY=()\n"
           "    # The subcommand so far, and how many words that are no options follow it.\n"
           "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
           "        word=${COMP_WORDS[i]}\n"
           "        case $word in\n"
           "            " +
           ValueFlags(tree) +
           ") ((i++)); continue ;;\n"
           "            -*) continue ;;\n"
           "        esac\n"
           "        case $path in\n"
           "            " +
           Join(groups, "|") +
           ") path=\"${path:+$path }$word\" ;;\n"
           "            *) ((place++)) ;;\n"
           "        esac\n"
           "    done\n"
           "    case $path in\n" +
           cases +
           "    esac\n"
           "}\n"
           "complete -F _sbxfs sbxfs\n";
}

// --- zsh

std::string ZshQuoted(const std::string& text) {
    std::string out;
    for (const char c : text) {
        if (c == '[' || c == ']' || c == ':' || c == '\\') out += '\\';
        if (c == '\'') {
            out += "'\\''";
            continue;
        }
        out += c;
    }
    return out;
}

std::string ZshAction(const Argument& argument) {
    switch (KindOf(argument.value)) {
        case Kind::kFile:
            return "_files";
        case Kind::kDirectory:
            return "_directories";
        case Kind::kBox:
            return "_sbxfs_boxes";
        case Kind::kMountOption:
            return "_sbxfs_mount_options";
        case Kind::kShell:
            return "(" + std::string(kShells) + ")";
        case Kind::kCommand:
            return "_normal";
        case Kind::kNone:
            break;
    }
    return " ";
}

void ZshCommand(const CommandTree& command, const std::string& function, std::string& text) {
    std::vector<std::string> specs;
    for (const Argument& option : command.options) {
        for (const std::string& name : option.names) {
            std::string spec = "'" + name;
            spec += "[" + ZshQuoted(option.text) + "]";
            if (!option.value.empty())
                spec += ":" + ZshQuoted(option.value) + ":" + ZshAction(option);
            specs.push_back(spec + "'");
        }
    }
    for (std::size_t i = 0; i < command.positionals.size(); ++i) {
        const Argument& positional = command.positionals[i];
        specs.push_back("'" + (positional.repeated ? "*" : std::to_string(i + 1)) + ":" +
                        ZshQuoted(positional.value) + ":" + ZshAction(positional) + "'");
    }
    text += function + "() {\n";
    if (command.commands.empty()) {
        text += "    _arguments -s " + Join(specs, " \\\n        ") + "\n}\n\n";
        return;
    }
    specs.emplace_back("'1:command:->command'");
    specs.emplace_back("'*::word:->word'");
    text += "    local curcontext=$curcontext state line\n    local -a commands\n    commands=(\n";
    for (const CommandTree& sub : command.commands)
        text += "        '" + sub.name + ":" + ZshQuoted(sub.text) + "'\n";
    text += "    )\n    _arguments -C " + Join(specs, " \\\n        ") +
            "\n    case $state in\n        command) _describe command commands ;;\n"
            "        word) case $words[1] in\n";
    for (const CommandTree& sub : command.commands)
        text += "            " + sub.name + ") " + function + "_" + sub.name + " ;;\n";
    text += "        esac ;;\n    esac\n}\n\n";
    for (const CommandTree& sub : command.commands)
        ZshCommand(sub, function + "_" + sub.name, text);
}

std::string Zsh(const CommandTree& tree) {
    std::string text =
        "#compdef sbxfs\n# zsh completion for sbxfs; made by: sbxfs completion zsh\n\n"
        "_sbxfs_boxes() {\n    local -a boxes\n    boxes=(${(f)\"$(" +
        std::string(kBoxes) +
        ")\"})\n    _describe box boxes\n}\n\n_sbxfs_mount_options() {\n"
        "    _values -s , option " +
        MountOptionWords() + "\n}\n\n";
    ZshCommand(tree, "_sbxfs", text);
    return text + "_sbxfs \"$@\"\n";
}

// --- fish

std::string FishQuoted(const std::string& text) {
    std::string out = "'";
    for (const char c : text) {
        if (c == '\'' || c == '\\') out += '\\';
        out += c;
    }
    return out + "'";
}

std::string FishValue(const Argument& argument) {
    switch (KindOf(argument.value)) {
        case Kind::kFile:
            return " -F";
        case Kind::kDirectory:
            return " -f -a '(__fish_complete_directories)'";
        case Kind::kBox:
            return " -f -a '(__sbxfs_boxes)'";
        case Kind::kMountOption:
            return " -f -a " + FishQuoted("(__fish_append , " + MountOptionWords() + ")");
        case Kind::kShell:
            return " -f -a '" + std::string(kShells) + "'";
        case Kind::kCommand:
            return " -f -a '(__fish_complete_subcommand)'";
        case Kind::kNone:
            break;
    }
    return " -f";
}

void FishCommand(const CommandTree& command, const std::string& condition, std::string& text) {
    for (const Argument& option : command.options) {
        text += "complete -c sbxfs -n " + FishQuoted(condition);
        for (const std::string& name : option.names)
            text += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
        if (!option.value.empty()) text += " -r" + FishValue(option);
        text += " -d " + FishQuoted(option.text) + "\n";
    }
    for (const Argument& positional : command.positionals)
        text += "complete -c sbxfs -n " + FishQuoted(condition) + FishValue(positional) + "\n";
}

std::string Fish(const CommandTree& tree) {
    std::string text =
        "# fish completion for sbxfs; made by: sbxfs completion fish\n"
        "function __sbxfs_boxes\n    " +
        std::string(kBoxes) + "\nend\n\ncomplete -c sbxfs -f\n";
    FishCommand(tree, "__fish_use_subcommand", text);
    for (const CommandTree& sub : tree.commands) {
        text += "complete -c sbxfs -n __fish_use_subcommand -a " + sub.name + " -d " +
                FishQuoted(sub.text) + "\n";
        FishCommand(sub, "__fish_seen_subcommand_from " + sub.name, text);
        for (const CommandTree& leaf : sub.commands) {
            text += "complete -c sbxfs -n '__fish_seen_subcommand_from " + sub.name + "' -a " +
                    leaf.name + " -d " + FishQuoted(leaf.text) + "\n";
        }
    }
    return text;
}

}  // namespace

std::string CompletionScript(const CommandTree& tree, const std::string& shell) {
    if (shell == "bash") return Bash(tree);
    if (shell == "zsh") return Zsh(tree);
    if (shell == "fish") return Fish(tree);
    return "";
}

}  // namespace sbxfs
