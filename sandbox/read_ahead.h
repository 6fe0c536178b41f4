// What of an open file to fetch with each read of it. Pure policy, one for each open file; not locked.
//
// - A small file is fetched whole.
// - A sequential reader has a window in flight ahead of it. It begins at 1 MiB and doubles each time the
//   reader had to wait, so that it comes to what the link carries in a round trip, up to a bound.
// - Random reads fetch extents around them. In a file that may be kept whole they grow the more
//   of it is read, up to what travels in about the time that one read waits (no more than was asked for where that is
//   next to nothing); in a larger one they
//   grow only while earlier ones are hit again, and all together stay below kMostOver times what was
//   read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/clock.h"
#include "sandbox/remote_files.h"

namespace sbxfs {

class ReadAhead {
 public:
    static constexpr std::uint64_t kSmall = 256U << 10;
    static constexpr std::size_t kFirstWindow = 1U << 20;
    static constexpr std::size_t kMostOver = 16;

    struct Limits {
        std::size_t window = 8U << 20;
        std::uint64_t whole = 64U << 20;  // a file up to this size may come to be kept whole
    };
    explicit ReadAhead(Limits limits) : limits_(limits) {}

    enum class Known { kNo, kYes };
    // Of a file of `size` bytes `read` is asked for. What shall be fetched now, as far as it is not here or
    // on its way; where `read` is not known, that is part of it, whatever this says.
    std::optional<FileRange> OnRead(FileRange read, Known known, std::uint64_t size);
    // How long a read waited for its answer.
    void Waited(Duration wait);
    // What was fetched is of no use any more.
    void Restart();

    std::size_t window() const { return window_; }

 private:
    std::optional<FileRange> Sequential(FileRange read, Known known, std::uint64_t size);
    std::optional<FileRange> Random(FileRange read, Known known, std::uint64_t size);

    const Limits limits_;
    std::uint64_t next_ = 0;   // where a sequential reader goes on
    std::uint64_t run_ = 0;    // bytes read in sequence
    std::uint64_t ahead_ = 0;  // up to where the window has been fetched
    std::size_t window_ = 0;
    std::uint64_t hits_ = 0;  // random reads
    std::uint64_t misses_ = 0;
    std::uint64_t read_ = 0;  // bytes, of random reads
    std::uint64_t fetched_ = 0;
    double wait_us_ = 0;
};

}  // namespace sbxfs
