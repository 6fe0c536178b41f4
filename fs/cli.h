// The command line: every subcommand of `sbxfs` (contract 7). Called once, by main.
#pragma once

namespace sbxfs {

// Returns the exit code of the process.
int Main(int argc, char** argv);

}  // namespace sbxfs
