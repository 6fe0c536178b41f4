// The command line as data: what help, manual and completions are all made from. fs/cli.cc reads it off the
// parser, so that none of them can differ from what is parsed.
#pragma once

#include <string>
#include <vector>

namespace sbxfs {

struct Argument {
    std::vector<std::string> names;  // "-m", "--mount"; a positional's one name
    std::string value;               // "MOUNTPOINT"; empty: a flag
    std::string text;
    bool required = false;
    bool repeated = false;
};

struct CommandTree {
    std::string name;
    std::string text;
    std::vector<Argument> options;
    std::vector<Argument> positionals;
    std::vector<CommandTree> commands;
};

// A script for the shell to load: "bash", "zsh" or "fish"; empty for another.
std::string CompletionScript(const CommandTree& tree, const std::string& shell);

// A page for man(1), by name: "sbxfs" (1), "mount.sbxfs" (8), "sbxfs.toml" (5); empty for another.
std::string ManualPage(const CommandTree& tree, const std::string& page);

}  // namespace sbxfs
