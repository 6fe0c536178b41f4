// What a supervisor's run (machine.h) does with its memory at its end.
#pragma once

namespace sbxfs::fuzz {

// Whether what is allocated from now on belongs to a process of the machine; the result is what held before.
bool TrackBlocks(bool on);
void ReleaseTracked();

}  // namespace sbxfs::fuzz
