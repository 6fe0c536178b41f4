// What every sandbox of a state directory has in common below its own layers, made once and never
// written to again:
//
//   <state_dir>/local-base-<stamp>/etc   the common part of /etc
//                                  usr   empty directories named as the ones of this machine's /usr
//                                  that people
//                                        write to, owned by the mounting user (overlay.h)
//
// A sandbox that brought all of this in files of its own would make and remove a thousand inodes,
// and ext4 looks at every recently removed one before it makes a new one: the tenth launch in a row
// took five times the first.
//
// The stamp changes with what was copied; a base that no box names any more goes when the next one
// is made. Helper only; helpers agree through a lock file.
#pragma once

#include <string>

#include "base/result.h"
#include "sandbox/providers/local/box.h"

namespace sbxfs {

// The base for a launch now, made when there is none; `box` remembers it.
Result<std::string> TakeBaseLayer(const std::string& state_dir, Box& box);

// The one it was launched over: what lies below an overlay should stay the same.
Result<std::string> SameBaseLayer(const std::string& state_dir, Box& box);

}  // namespace sbxfs
