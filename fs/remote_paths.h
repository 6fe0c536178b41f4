// Names and links of a sandbox's tree as seen from fs/: what may be shown, and where a symlink may lead.
// Pure functions; everything they look at is hostile.
#pragma once

#include <string>
#include <string_view>

#include "sandbox/template.h"

namespace sbxfs {

// The workdir below fs_root as a path from fs/: "/work" or "".
std::string PathBelowRoot(const Template& what);

// One name of a path: not empty, not . or .., no '/' or NUL, at most 255 bytes.
bool IsComponent(std::string_view name);

// Joins a directory in the sandbox and a name.
std::string JoinPath(const std::string& directory, std::string_view name);

// Whether a sandbox path is kept out of fs/: the supervisor's own directory, and, unless fs_root leads
// into them, /proc, /sys and /dev, whose files are not files.
bool IsHidden(const Template& what, const std::string& spool_dir, std::string_view path);

// What readlink shows of a link in directory `link_dir` (both below fs/, "/" or "/a/b") whose target on
// the server is `target`. `..` is collapsed by name and clipped at the root of fs/, and what comes out is
// "../"* then names, never ".." behind a name: so no chain of links leads out of the sandbox's tree ("." and "//"
// between them lead nowhere, and stay).
// Targets that need no change are returned as they are. `root` is fs_root: absolute targets below it
// are shown relative to it; those beside it cannot be reached and are clipped to it.
std::string ContainLink(std::string_view target, const std::string& link_dir,
                        const std::string& root);

}  // namespace sbxfs
