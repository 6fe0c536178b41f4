#include "base/metrics.h"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace sbxfs {
namespace {

constexpr std::string_view kPrefix = "sbxfs_";
constexpr std::size_t kValueWidth = 20;  // of any 64 bits

std::vector<const Metric*>& All() {
    static std::vector<const Metric*> all;
    return all;
}

std::size_t PlaceAmong(const std::vector<std::string_view>& values, std::string_view value) {
    const auto at = std::find(values.begin(), values.end(), value);
    return at == values.end() ? values.size() - 1 : static_cast<std::size_t>(at - values.begin());
}

double ToSeconds(std::uint64_t nanoseconds) {
    return static_cast<double>(nanoseconds) / 1e9;
}

std::uint64_t Nanoseconds(Duration took) {
    return static_cast<std::uint64_t>(std::max(Duration::zero(), took).count());
}

}  // namespace

std::string MetricLabel(std::string_view name, std::string_view value) {
    std::string text(name);
    text += "=\"";
    for (const char c : value) {
        if (c == '\\' || c == '"') text += '\\';
        text += c == '\n' ? ' ' : c;
    }
    return text + '"';
}

void MetricsText::Family(std::string_view name, std::string_view type, std::string_view help) {
    family_ = name;
    text_.append("# HELP ").append(family_).append(" ").append(help);
    text_.append("\n# TYPE ").append(family_).append(" ").append(type).append("\n");
}

void MetricsText::Sample(std::string_view suffix, std::string_view labels, std::uint64_t value) {
    Line(suffix, labels, std::to_string(value));
}

void MetricsText::Signed(std::string_view labels, std::int64_t value) {
    Line("", labels, std::to_string(value));
}

void MetricsText::Seconds(std::string_view suffix, std::string_view labels, double seconds) {
    std::array<char, 64> value{};
    const int length = std::snprintf(value.data(), value.size(), "%.6f", seconds);
    Line(suffix, labels, {value.data(), static_cast<std::size_t>(std::max(length, 0))});
}

void MetricsText::Line(std::string_view suffix, std::string_view labels, std::string_view value) {
    text_.append(family_).append(suffix);
    if (!labels.empty()) text_.append("{").append(labels).append("}");
    text_.append(1 + kValueWidth - std::min(kValueWidth, value.size()), ' ');
    text_.append(value).append("\n");
}

Metric::Metric(std::string_view name, std::string_view help) : name_(name), help_(help) {
    All().push_back(this);
}

void WriteMetrics(MetricsText& text) {
    for (const Metric* metric : All())
        metric->Write(text);
}

// --- Counting

Tally::Tally(std::size_t size)
    : width_((size + kInLine - 1) / kInLine), lines_(std::make_unique<Line[]>(kCopies * width_)) {}

std::size_t Tally::Next() {
    static std::atomic<std::size_t> next{0};
    return 1 + (next.fetch_add(1, std::memory_order_relaxed) % kCopies);
}

std::uint64_t Tally::Sum(std::size_t at) const {
    std::uint64_t sum = 0;
    for (std::size_t copy = 0; copy < kCopies; ++copy) {
        const Line& line = lines_[(copy * width_) + (at / kInLine)];
        sum += line.cells[at % kInLine].load(std::memory_order_relaxed);
    }
    return sum;
}

Counter::Counter(std::string_view name, std::string_view help)
    : Metric(name, help), values_{""}, tally_(1) {}

Counter::Counter(std::string_view name, std::string_view help, std::string_view label,
                 std::vector<std::string_view> values, Shown shown)
    : Metric(name, help),
      label_(label),
      values_(std::move(values)),
      shown_(shown),
      tally_(values_.size()) {}

std::size_t Counter::PlaceOf(std::string_view value) const {
    return PlaceAmong(values_, value);
}

void Counter::Write(MetricsText& text) const {
    text.Family(std::string(kPrefix).append(name_), "counter", help_);
    if (label_.empty()) return text.Sample(Value());
    for (std::size_t i = 0; i < values_.size(); ++i) {
        if (const std::uint64_t value = Value(i); shown_ == Shown::kAll || value != 0)
            text.Sample("", MetricLabel(label_, values_[i]), value);
    }
}

void Gauge::Write(MetricsText& text) const {
    text.Family(std::string(kPrefix).append(name_), "gauge", help_);
    text.Signed("", Value());
}

Latencies::Latencies(std::string_view name, std::string_view help, std::string_view label,
                     std::vector<std::string_view> values)
    : Metric(name, help),
      label_(label),
      values_(std::move(values)),
      tally_(values_.size() * kCells) {}

void Latencies::Add(std::size_t value, Duration took) {
    std::size_t bucket = 0;
    while (bucket < kBounds.size() && took > kBounds[bucket].most)
        ++bucket;
    tally_.Add((value * kCells) + bucket, 1);
    tally_.Add((value * kCells) + kCells - 1, Nanoseconds(took));
}

std::uint64_t Latencies::Count(std::size_t value) const {
    std::uint64_t count = 0;
    for (std::size_t i = 0; i <= kBounds.size(); ++i)
        count += tally_.Sum((value * kCells) + i);
    return count;
}

void Latencies::Write(MetricsText& text) const {
    text.Family(std::string(kPrefix).append(name_), "histogram", help_);
    for (std::size_t i = 0; i < values_.size(); ++i) {
        const std::string label = MetricLabel(label_, values_[i]);
        std::uint64_t count = 0;
        for (std::size_t bucket = 0; bucket <= kBounds.size(); ++bucket) {
            count += tally_.Sum((i * kCells) + bucket);
            const std::string_view bound =
                bucket < kBounds.size() ? kBounds[bucket].text : std::string_view("+Inf");
            text.Sample("_bucket", label + "," + MetricLabel("le", bound), count);
        }
        text.Seconds("_sum", label, ToSeconds(tally_.Sum((i * kCells) + kCells - 1)));
        text.Sample("_count", label, count);
    }
}

Durations::Durations(std::string_view name, std::string_view help, std::string_view label,
                     std::vector<std::string_view> values)
    : Metric(name, help), label_(label), values_(std::move(values)), tally_(values_.size() * 2) {}

void Durations::Add(std::string_view value, Duration took) {
    const std::size_t at = PlaceAmong(values_, value);
    tally_.Add(at * 2, 1);
    tally_.Add((at * 2) + 1, Nanoseconds(took));
}

void Durations::Write(MetricsText& text) const {
    text.Family(std::string(kPrefix).append(name_), "summary", help_);
    for (std::size_t i = 0; i < values_.size(); ++i) {
        const std::string label = MetricLabel(label_, values_[i]);
        text.Seconds("_sum", label, ToSeconds(tally_.Sum((i * 2) + 1)));
        text.Sample("_count", label, tally_.Sum(i * 2));
    }
}

}  // namespace sbxfs
