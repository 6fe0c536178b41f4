// The sandbox's sshd: who gets in, by which key, with which environment. The files lie in a
// directory of our own, where installing a package with its own sshd_config does not reach them.
// Pure.
#pragma once

#include <string>

namespace sbxfs {

inline constexpr char kSshDir[] = "/etc/ssh/sbxfs";
inline constexpr char kSandboxPath[] =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// `user` is the only one who may log in.
std::string SshdConfig(const std::string& user);

}  // namespace sbxfs
