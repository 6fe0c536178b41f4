// The bytes of sbxfs-supervisor for each kind of machine, carried inside the daemon and uploaded to
// sandboxes under their hash. Constant, thread-safe.
#pragma once

#include <span>
#include <string_view>

namespace sbxfs {

struct SupervisorImage {
    std::string_view machine;  // as `uname -m` says: "x86_64", "aarch64"
    std::string_view bytes;
    std::string_view hash;  // SHA-256 in hex; the first 16 characters are enough in a file name
};

std::span<const SupervisorImage> SupervisorImages();

}  // namespace sbxfs
