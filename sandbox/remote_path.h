// Paths of a sandbox's files: absolute and clean, "/" is the top.
#pragma once

#include <cstddef>
#include <string_view>

namespace sbxfs {

// A part of `path` itself. The top is its own parent.
inline std::string_view ParentOf(std::string_view path) {
    const std::size_t slash = path.rfind('/');
    return slash == 0 || slash == std::string_view::npos ? std::string_view("/")
                                                         : path.substr(0, slash);
}

}  // namespace sbxfs
