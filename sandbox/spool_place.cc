#include "sandbox/spool_place.h"

namespace sbxfs {

std::string SpoolDirOf(const ConnectInfo& connect) {
    return connect.spool_dir.empty() ? std::string(kSpoolParent) : connect.spool_dir;
}

std::string SpoolParentOf(std::string_view spool_dir) {
    const std::size_t slash = spool_dir.rfind('/');
    if (slash == std::string_view::npos) return "";
    const std::string_view parent = spool_dir.substr(0, slash);
    const std::size_t before = parent.rfind('/');
    const std::string_view name =
        before == std::string_view::npos ? parent : parent.substr(before + 1);
    return name == kSpoolParent ? std::string(parent) : "";
}

bool IsBelowSpoolParent(std::string_view path) {
    if (!path.starts_with(kSpoolParent)) return false;
    path.remove_prefix(kSpoolParent.size());
    return path.empty() || path.front() == '/';
}

}  // namespace sbxfs
