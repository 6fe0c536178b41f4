#include "sandbox/read_ahead.h"

#include <algorithm>
#include <bit>

namespace sbxfs {
namespace {

// The kernel has two reads of one reader in flight, and they come in any order.
constexpr std::uint64_t kSlack = 512U << 10;
// A first read of so much is that of a sequential reader: the kernel's own read-ahead speaks.
constexpr std::uint64_t kRun = 64U << 10;
constexpr std::uint64_t kFirstExtent = 32U << 10;
constexpr std::uint64_t kLargestExtent = 2U << 20;
// Random reads of a file before extents grow by another step.
constexpr std::uint64_t kReadsAStep = 4;
// Where a read waits less than this the bytes take as long as the way: the double of what is asked for is fetched after so
// many, up to three times.
constexpr double kShortWaitUs = 500;
constexpr std::uint64_t kReadsANearStep = 256;
// What a link carries at least while somebody waits: 100 MB/s.
constexpr double kBytesAMicrosecond = 100;

}  // namespace

std::optional<FileRange> ReadAhead::OnRead(FileRange read, Known known, std::uint64_t size) {
    if (read.offset >= size || read.size == 0) return std::nullopt;
    if (size <= kSmall) {
        if (known == Known::kYes) return std::nullopt;
        return FileRange{0, static_cast<std::size_t>(size)};
    }
    const bool follows = read.offset <= next_ + kSlack && read.offset + kSlack >= next_;
    if (follows && (run_ > 0 || read.offset == 0)) {
        run_ += read.size;
        next_ = std::max(next_, read.offset + read.size);
        if (run_ >= kRun) return Sequential(read, known, size);
    } else {
        run_ = read.size >= kRun ? read.size : 0;
        next_ = read.offset + read.size;
        window_ = 0;
        if (run_ > 0) return Sequential(read, known, size);
    }
    return Random(read, known, size);
}

std::optional<FileRange> ReadAhead::Sequential(FileRange read, Known known, std::uint64_t size) {
    if (window_ == 0) {
        window_ = std::min(kFirstWindow, limits_.window);
        ahead_ = read.offset;
    } else if (known == Known::kNo) {
        window_ = std::min(window_ * 2, limits_.window);
    }
    const std::uint64_t until = std::min<std::uint64_t>(next_ + window_, size);
    if (ahead_ < read.offset && known == Known::kNo) ahead_ = read.offset;
    // Not a little more with each read: some at once.
    if (until <= ahead_ || (until < size && until - ahead_ < window_ / 4)) return std::nullopt;
    const FileRange range{ahead_, static_cast<std::size_t>(until - ahead_)};
    ahead_ = until;
    return range;
}

std::optional<FileRange> ReadAhead::Random(FileRange read, Known known, std::uint64_t size) {
    read_ += read.size;
    if (known == Known::kYes) {
        ++hits_;
        return std::nullopt;
    }
    ++misses_;
    std::uint64_t extent = read.size;
    const bool near = wait_us_ > 0 && wait_us_ < kShortWaitUs;
    if (size <= limits_.whole && near) {
        extent = read.size << std::min<std::uint64_t>(misses_ / kReadsANearStep, 3);
    } else if (size <= limits_.whole) {
        const std::uint64_t step = std::min<std::uint64_t>(misses_ / kReadsAStep, 10);
        const auto travels = static_cast<std::uint64_t>(wait_us_ * kBytesAMicrosecond);
        extent = std::min({kFirstExtent << step, kLargestExtent, std::max(travels, kFirstExtent)});
    } else if (hits_ > misses_ / 2) {
        const std::uint64_t step = std::min<std::uint64_t>(hits_ / kReadsAStep, 10);
        const std::uint64_t budget = read_ * kMostOver;
        const std::uint64_t left = budget > fetched_ ? budget - fetched_ : 0;
        extent = std::min({kFirstExtent << step, kLargestExtent, left});
    }
    extent = std::max<std::uint64_t>(std::bit_floor(extent), 4096);
    const std::uint64_t from = read.offset / extent * extent;
    const std::uint64_t to = std::min(std::max(from + extent, read.offset + read.size), size);
    fetched_ += to - from;
    return FileRange{from, static_cast<std::size_t>(to - from)};
}

void ReadAhead::Waited(Duration wait) {
    const auto us =
        static_cast<double>(std::chrono::duration_cast<std::chrono::microseconds>(wait).count());
    wait_us_ = wait_us_ == 0 ? us : wait_us_ * 0.75 + us * 0.25;
}

void ReadAhead::Restart() {
    ahead_ = next_;
}

}  // namespace sbxfs
