// Absolute paths without empty, "." or ".." components, there or here; "/" is the top.
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

// Whether `path` is `dir` or lies below it.
inline bool IsWithin(std::string_view path, std::string_view dir) {
    if (dir == "/") return true;
    return path.starts_with(dir) && (path.size() == dir.size() || path[dir.size()] == '/');
}

}  // namespace sbxfs
