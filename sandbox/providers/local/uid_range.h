// Which 65536 host ids are one sandbox's, when root mounts. Picked from the numbers that systemd
// and container engines leave to whoever asks, apart from /etc/subuid and from every other box on
// this machine: a registry in /run names the box of each range, and an entry whose box is gone is
// free again. Helper only.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sbxfs {

inline constexpr std::uint32_t kIdsPerSandbox = 65536;
inline constexpr std::uint32_t kFirstRange = 524288;
inline constexpr std::uint32_t kRangeCount = 28000;  // ends below systemd's reserved 0x70000000

// The first id of the range of `box_path`, which stays its own until FreeUidRange. EOPNOTSUPP where
// this process may not map such ids (a container that has only a few of its own). `note` writes it
// down for whoever will free it, before it is registered: a helper may be killed in between.
using NoteRange = std::function<Status(std::uint32_t)>;
Result<std::uint32_t> TakeUidRange(const std::string& box_path, const std::string& registry,
                                   const NoteRange& note);
// The same one again: the registry is gone when the machine was restarted. EBUSY when another box has it since.
Status RetakeUidRange(std::uint32_t first, const std::string& box_path,
                      const std::string& registry);
void FreeUidRange(std::uint32_t first, const std::string& box_path, const std::string& registry);

inline constexpr char kUidRegistry[] = "/run/sbxfs-uids";

// Pure parts. `subuid` is the text of /etc/subuid, `uid_map` that of /proc/self/uid_map.
bool OverlapsSubids(std::string_view subuid, std::uint32_t first);
bool IsMapped(std::string_view uid_map, std::uint32_t first);

}  // namespace sbxfs
