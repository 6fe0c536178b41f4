// The disk under every SQLite journal of this process, in the test's hands: it can be full or broken,
// from now on or from a given commit on, and it can hold a commit until the test lets it go. Put in
// place by the first FaultyDisk, for journals opened afterwards. One at a time. Any thread.
#pragma once

#include <cstdint>

namespace sbxfs::testing {

class FaultyDisk {
 public:
    FaultyDisk();
    // Heals, and lets go what is held.
    ~FaultyDisk();
    FaultyDisk(const FaultyDisk&) = delete;
    FaultyDisk& operator=(const FaultyDisk&) = delete;

    enum class Fault { kNone, kFull, kBroken };
    // Every write from now on fails.
    void Fail(Fault fault);
    // So many more commits reach the disk; then it is broken. As if the machine had stopped there.
    void BreakAfter(std::uint64_t commits);
    void Heal();

    // Commits stop just before they are on the disk until Release().
    void Hold();
    void Release();
    // Waits until a commit is held.
    void AwaitHeld();

    // Commits that reached the disk since this was made.
    std::uint64_t commits() const;
};

}  // namespace sbxfs::testing
