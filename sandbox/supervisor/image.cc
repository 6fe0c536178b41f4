#include "sandbox/supervisor/image.h"

#include <array>
#include <cstddef>

// From image_data.S, which the build writes.
extern "C" {
extern const char sbxfs_supervisor_amd64_begin[];
extern const char sbxfs_supervisor_amd64_end[];
extern const char sbxfs_supervisor_amd64_hash[];
extern const char sbxfs_supervisor_arm64_begin[];
extern const char sbxfs_supervisor_arm64_end[];
extern const char sbxfs_supervisor_arm64_hash[];
}

namespace sbxfs {
namespace {

std::string_view Between(const char* begin, const char* end) {
    return {begin, static_cast<std::size_t>(end - begin)};
}

}  // namespace

std::span<const SupervisorImage> SupervisorImages() {
    static const std::array<SupervisorImage, 2> images = {{
        {"x86_64", Between(&sbxfs_supervisor_amd64_begin[0], &sbxfs_supervisor_amd64_end[0]),
         &sbxfs_supervisor_amd64_hash[0]},
        {"aarch64", Between(&sbxfs_supervisor_arm64_begin[0], &sbxfs_supervisor_arm64_end[0]),
         &sbxfs_supervisor_arm64_hash[0]},
    }};
    return images;
}

}  // namespace sbxfs
