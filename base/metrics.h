// What the daemon counts of itself, for .mount/metrics: counters, gauges and histograms, each under the name that
// Prometheus knows it by. Whoever does the work counts it, in the layer where it is done (aws/aws_metrics.h,
// sandbox/sandbox_metrics.h, fs/request_metrics.h); fs/metrics_file.h writes them all out.
//
// Metrics are objects of static duration, one set for the process: they are listed as they are made, before main,
// and never die. Counting takes no lock and waits for nobody: counters and histograms are kept in a few copies,
// each thread adds to its own. Reading adds the copies up, so that a sum may be a moment older than another.
// Names are without "sbxfs_", which is put before each of them; label values are words of ours, never foreign text: their number is
// bounded by what stands in the code. Any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"

namespace sbxfs {

// Prometheus' text format, version 0.0.4. Values are aligned: a text that is asked for its size and then read is as
// long as it was, whatever has been counted in between.
class MetricsText {
 public:
    // HELP and TYPE; the samples follow.
    void Family(std::string_view name, std::string_view type, std::string_view help);
    // One without labels, of the family begun last.
    void Sample(std::uint64_t value) { Sample("", "", value); }
    // `suffix` is behind the family's name, `labels` stand between braces.
    void Sample(std::string_view suffix, std::string_view labels, std::uint64_t value);
    void Signed(std::string_view labels, std::int64_t value);
    void Seconds(std::string_view suffix, std::string_view labels, double seconds);

    std::string Take() && { return std::move(text_); }

 private:
    void Line(std::string_view suffix, std::string_view labels, std::string_view value);
    std::string family_;
    std::string text_;
};
// `op="read"`, quoted as the format wants it.
std::string MetricLabel(std::string_view name, std::string_view value);

class Metric {
 public:
    Metric(const Metric&) = delete;
    Metric& operator=(const Metric&) = delete;
    virtual ~Metric() = default;
    virtual void Write(MetricsText& text) const = 0;

 protected:
    Metric(std::string_view name, std::string_view help);
    const std::string_view name_;
    const std::string_view help_;
};
// All there are.
void WriteMetrics(MetricsText& text);

// Numbers that several threads add to, each in a copy of its own.
class Tally {
 public:
    explicit Tally(std::size_t size);
    void Add(std::size_t at, std::uint64_t by) {
        Line& line = lines_[(Mine() * width_) + (at / kInLine)];
        line.cells[at % kInLine].fetch_add(by, std::memory_order_relaxed);
    }
    std::uint64_t Sum(std::size_t at) const;

 private:
    static constexpr std::size_t kCopies = 8;
    static constexpr std::size_t kInLine = 8;
    struct alignas(64) Line {
        std::array<std::atomic<std::uint64_t>, kInLine> cells{};
    };
    static std::size_t Mine() {
        // From 1: 0 says that this thread has not been given one.
        static constinit thread_local std::size_t mine = 0;
        if (mine == 0) [[unlikely]]
            mine = Next();
        return mine - 1;
    }
    static std::size_t Next();

    const std::size_t width_;  // lines of a copy
    const std::unique_ptr<Line[]> lines_;
};

// Counts what happens, by one label or without any.
class Counter final : public Metric {
 public:
    Counter(std::string_view name, std::string_view help);
    // kCounted: of the values, only those that have been counted are written.
    enum class Shown { kAll, kCounted };
    Counter(std::string_view name, std::string_view help, std::string_view label,
            std::vector<std::string_view> values, Shown shown = Shown::kAll);

    void Add(std::uint64_t by = 1) { tally_.Add(0, by); }
    // By its place among the values.
    void AddTo(std::size_t value, std::uint64_t by = 1) { tally_.Add(value, by); }
    // Words that are not among them are the last one, "other".
    std::size_t PlaceOf(std::string_view value) const;
    std::uint64_t Value(std::size_t value = 0) const { return tally_.Sum(value); }
    void Write(MetricsText& text) const override;

 private:
    const std::string_view label_;
    const std::vector<std::string_view> values_;
    const Shown shown_ = Shown::kAll;
    Tally tally_;
};

// How much there is now. What many have a share of, see GaugeShare.
class Gauge final : public Metric {
 public:
    Gauge(std::string_view name, std::string_view help) : Metric(name, help) {}
    void Add(std::int64_t by) { value_.fetch_add(by, std::memory_order_relaxed); }
    std::int64_t Value() const { return value_.load(std::memory_order_relaxed); }
    void Write(MetricsText& text) const override;

 private:
    std::atomic<std::int64_t> value_{0};
};

// What one object has of a gauge; given back when it dies. One thread at a time writes, any thread reads.
class GaugeShare {
 public:
    explicit GaugeShare(Gauge& gauge) : gauge_(gauge) {}
    ~GaugeShare() { Set(0); }
    GaugeShare(const GaugeShare&) = delete;
    GaugeShare& operator=(const GaugeShare&) = delete;

    void Set(std::int64_t value) {
        const std::int64_t by = value - share_.load(std::memory_order_relaxed);
        if (by == 0) return;
        share_.store(value, std::memory_order_relaxed);
        gauge_.Add(by);
    }
    void Add(std::int64_t by) { Set(value() + by); }
    std::int64_t value() const { return share_.load(std::memory_order_relaxed); }

 private:
    Gauge& gauge_;
    std::atomic<std::int64_t> share_{0};
};

// How long things took, by one label: a histogram with a few buckets.
class Latencies final : public Metric {
 public:
    Latencies(std::string_view name, std::string_view help, std::string_view label,
              std::vector<std::string_view> values);
    void Add(std::size_t value, Duration took);
    std::uint64_t Count(std::size_t value) const;
    void Write(MetricsText& text) const override;

 private:
    struct Bound {
        Duration most;
        std::string_view text;
    };
    static constexpr std::array<Bound, 7> kBounds{{{std::chrono::microseconds(100), "0.0001"},
                                                   {std::chrono::milliseconds(1), "0.001"},
                                                   {std::chrono::milliseconds(5), "0.005"},
                                                   {std::chrono::milliseconds(25), "0.025"},
                                                   {std::chrono::milliseconds(100), "0.1"},
                                                   {std::chrono::seconds(1), "1"},
                                                   {std::chrono::seconds(10), "10"}}};
    // Of a value: the buckets, one for what took longer, and the sum in nanoseconds.
    static constexpr std::size_t kCells = kBounds.size() + 2;

    const std::string_view label_;
    const std::vector<std::string_view> values_;
    Tally tally_;
};

// How often a step was made and how long all of them took, by one label: a summary without quantiles.
class Durations final : public Metric {
 public:
    Durations(std::string_view name, std::string_view help, std::string_view label,
              std::vector<std::string_view> values);
    // Words that are not among the values are the last one, "other".
    void Add(std::string_view value, Duration took);
    void Write(MetricsText& text) const override;

 private:
    const std::string_view label_;
    const std::vector<std::string_view> values_;
    Tally tally_;
};

}  // namespace sbxfs
