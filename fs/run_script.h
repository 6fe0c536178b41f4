// .mount/bin/run: a client in POSIX sh, for whoever has nothing but a shell and the mount.
#pragma once

#include <string_view>

namespace sbxfs {

std::string_view RunScript();

}  // namespace sbxfs
