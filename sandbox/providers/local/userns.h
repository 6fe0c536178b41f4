// The user namespace of a sandbox. Two ways, by who mounts:
//
//   root      ids 0..65535 inside are a range of their own outside (uid_range.h): root inside is
//   nobody here, also
//             where a peer's uid is looked at (abstract sockets in a shared network namespace).
//             Such a map can only be written from outside, so a child makes the namespace and its
//             parent writes the map.
//   a user    may map no id but the own one. The helper becomes root of a namespace that maps 0 to
//   the caller, to
//             mount the overlay; bubblewrap then makes the sandbox's inside it, where the caller
//             keeps the own number: sshd mapped to 0 by a single-id map dies in its privilege
//             separation.
//
// Called by the launch helper and its child, single-threaded processes.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace sbxfs {

// `count` ids from `inside` on are those from `outside` on.
struct IdRange {
    std::uint32_t inside = 0;
    std::uint32_t outside = 0;
    std::uint32_t count = 1;
};

// A namespace with these maps, kept alive by the descriptor alone. Root only.
Result<UniqueFd> MakeUserNamespace(const IdRange& uids, const IdRange& gids);

// Makes the calling process root of `userns`, with every capability there and none here.
Status EnterAsRoot(int userns);

// Nothing the calling process executes will have any other capability (capabilities(7)) than these
// numbers, though it keeps all of its own, across one exec(2) as well, until it gives them up.
Status LimitCapabilities(const std::vector<int>& allowed);

// Puts the calling process, an ordinary user's, into a namespace of its own where it is root.
Status BecomeRootOfOwnNamespace();

// Whether this user may make namespaces at all, by what the kernel says without trying: EOPNOTSUPP
// with the remedy otherwise. Cheap.
Status CheckUserNamespaces(uid_t uid);

}  // namespace sbxfs
