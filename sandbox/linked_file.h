// An open file as LinkedFiles hands it out: it goes on over cuts of the link, as long as its path still
// leads to the same inode. Loop thread only, but for its death.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/unique_function.h"
#include "sandbox/file_identity.h"
#include "sandbox/remote_files.h"

namespace sbxfs {

class LinkedFile final : public RemoteFile {
 public:
    LinkedFile(std::string at, const OpenHow& opened_how, RemoteFilePtr on_link,
               std::uint64_t link_number)
        : path(std::move(at)), how(opened_how), inner(std::move(on_link)), link(link_number) {
        how.create = how.exclusive = how.truncate = false;
    }

    std::string path;  // follows our renames
    OpenHow how;       // to open it again
    RemoteFilePtr inner;
    std::uint64_t link;  // which `inner` belongs to; 0: it is not open
    // Of the file when it was opened; none: nobody looked, and it cannot be recognised.
    std::optional<IdentityStat> identity;
    // Made by us where nobody else was: then it is recognised without an identity, too, see IsOurs().
    bool made = false;
    std::int64_t made_at = 0;            // its mtime then, in seconds
    std::uint64_t most = 0;              // no byte of ours was sent to lie behind this
    bool lost = false;                   // no longer there, or not recognised: ESTALE from now on
    std::uint64_t reopening = 0;         // the link it is being opened again on
    RemoteFilePtr reopened;              // on that link, and still to be recognised
    bool comparing = false;              // somebody looks at what is at its path
    std::vector<std::uint64_t> waiting;  // for that: operations, by number
    // What was opened at its path by the second way (LinkedFiles::IsWide), held until this one is closed.
    RemoteFilePtr aside;
    bool proven = false;     // to be the same file
    std::uint64_t lane = 0;  // which one it was last opened on, or tried to be; 0: none
    bool widening = false;   // is being opened there
    UniqueFunction<void()>
        when_widened;  // its close waits: nothing of ours may hold the file afterwards
};
using LinkedFilePtr = std::shared_ptr<LinkedFile>;

}  // namespace sbxfs
