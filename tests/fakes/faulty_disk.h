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
    // Of all that writes to the state directory, in the journal and beside it, the `operation`-th from now on fails (the
    // first is 0): once, or from then on. A full disk takes a part of what it has no room for. Only in programs that are
    // linked with the wrappers of faulty_disk.cc (the core tier).
    enum class Lasting { kOnce, kOn };
    void FailAt(std::uint64_t operation, Fault fault, Lasting lasting);
    // How many there were since then.
    std::uint64_t operations() const;
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
