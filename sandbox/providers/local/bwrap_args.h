// How bubblewrap is called. Pure: the list is tested without running it.
#pragma once

#include <string>
#include <vector>

#include "sandbox/providers/local/etc_files.h"

namespace sbxfs {

struct BwrapPlan {
    Login login;
    bool range_mapped = false;  // the caller already is root of the sandbox's user namespace
    bool own_network = false;
    std::string hostname;
    int info_fd = -1;
};

// Numbers of the capabilities that root of a range-mapped sandbox has inside.
std::vector<int> RootCapabilities();

// What goes into the file of `--args`: every option, each word ended by NUL. The program to run
// comes after it on the command line.
std::string BwrapArgs(const BwrapPlan& plan);

}  // namespace sbxfs
