// `sbxfs doctor`: whether sandboxes of the configured kinds could be launched from here. One line a
// check, with the remedy where it failed.
#pragma once

#include <string>

namespace sbxfs {

struct DoctorRequest {
    std::string config;
    std::string provider;  // of [providers.NAME], or a backend; empty: all the templates use
};

// 0 when all is well, 1 when something is not.
int DoctorCommand(const DoctorRequest& request);

}  // namespace sbxfs
