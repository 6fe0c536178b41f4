#include "fs/request_metrics.h"

#include <string>
#include <vector>

namespace sbxfs {
namespace {

std::vector<std::string_view> Operations() {
    std::vector<std::string_view> names;
    for (unsigned i = 0; i < kFileOps; ++i)
        names.push_back(OpName(static_cast<FileOp>(i)));
    return names;
}

}  // namespace

RequestErrors::RequestErrors()
    : Metric("request_errors_total", "Requests of the kernel answered with an error.") {}

void RequestErrors::Write(MetricsText& text) const {
    text.Family("sbxfs_request_errors_total", "counter", help_);
    for (unsigned op = 0; op < kFileOps; ++op) {
        for (std::size_t code = 0; code < kErrnos; ++code) {
            const std::uint64_t count = counts_[op][code].load(std::memory_order_relaxed);
            if (count == 0) continue;
            const std::string name = code == 0 ? "other" : ErrnoName(Errno{static_cast<int>(code)});
            text.Sample("",
                        MetricLabel("op", OpName(static_cast<FileOp>(op))) + "," +
                            MetricLabel("errno", name),
                        count);
        }
    }
}

RequestMetrics::RequestMetrics()
    : seconds("request_seconds", "How long requests of the kernel took to be answered.", "op",
              Operations()),
      slow("slow_requests_total", "Requests that had to wait for more than a second.", "op",
           Operations(), Counter::Shown::kCounted),
      forgotten("forgotten_inodes_total", "Inodes that the kernel has told it has forgotten.") {}

RequestMetrics request_metrics;

}  // namespace sbxfs
