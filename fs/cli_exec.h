// `sbxfs exec`: one command in one sandbox, through the files of the mount like any client: its output
// streams here, its exit code is ours, Ctrl-C is forwarded.
#pragma once

#include <string>
#include <vector>

namespace sbxfs {

// It could not be run, nobody saw its end, or not all of its output is here.
constexpr int kExecFailed = 125;

struct ExecRequest {
    std::string mountpoint;  // empty: the only one
    std::string box;
    std::string cwd;
    double timeout = 0;  // seconds; 0: none
    std::vector<std::string> command;
};

// The command's exit code; 124 timed out, 128+n signal, or kExecFailed.
int ExecCommand(const ExecRequest& request);

}  // namespace sbxfs
