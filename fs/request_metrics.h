// What is counted of the kernel's requests (base/metrics.h): how long each took, which failed and how, which were
// waited for too long. By FuseSink as it answers, and SlowWatch.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/metrics.h"
#include "base/result.h"
#include "fs/errno_table.h"

namespace sbxfs {

// By operation and errno; what has not happened yet is not written. Few happen often, so that one copy of each does.
class RequestErrors final : public Metric {
 public:
    RequestErrors();
    void Add(FileOp op, Errno code) {
        const auto number = static_cast<std::size_t>(code);
        const std::size_t at = number < kErrnos ? number : 0;
        counts_[static_cast<std::size_t>(op)][at].fetch_add(1, std::memory_order_relaxed);
    }
    void Write(MetricsText& text) const override;

 private:
    static constexpr std::size_t kErrnos = 134;  // one behind EHWPOISON
    std::array<std::array<std::atomic<std::uint64_t>, kErrnos>, kFileOps> counts_{};
};

struct RequestMetrics {
    Latencies seconds;  // by FileOp
    RequestErrors errors;
    Counter slow;  // by FileOp
    Counter forgotten;

    RequestMetrics();
};
extern RequestMetrics request_metrics;

}  // namespace sbxfs
