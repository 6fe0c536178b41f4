// Counting, and the text that is made of it (base/metrics.h); the names that the subsystems give.
#include "base/metrics.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <thread>
#include <vector>

#include "aws/aws_metrics.h"
#include "sandbox/sandbox_metrics.h"
#include "sandbox/sftp_wire.h"
#include "sandbox/supervisor/protocol.h"

namespace sbxfs::testing {
namespace {

std::string TextOf(const Metric& metric) {
    MetricsText text;
    metric.Write(text);
    return std::move(text).Take();
}

// Metrics are there for good, also those of tests: each is written with the others from then on.
template <class T, class... Args>
T& Make(Args... args) {
    static std::vector<std::unique_ptr<T>> made;
    made.push_back(std::make_unique<T>(std::move(args)...));
    return *made.back();
}

TEST(Metrics, NothingIsLostOfWhatManyThreadsCount) {
    Counter& counter = Make<Counter>("test_threads_total", "Help.");
    std::vector<std::thread> threads;
    for (int i = 0; i < 12; ++i) {  // more than there are copies
        threads.emplace_back([&counter] {
            for (int n = 0; n < 10'000; ++n)
                counter.Add();
        });
    }
    for (std::thread& thread : threads)
        thread.join();
    EXPECT_EQ(counter.Value(), 120'000U);
}

TEST(Metrics, ValuesAreAlignedSoThatTheLengthStays) {
    Counter& counter =
        Make<Counter>("test_width_total", "Help.", "kind", std::vector<std::string_view>{"a", "b"});
    const std::string before = TextOf(counter);
    counter.AddTo(1, 123'456'789);
    const std::string after = TextOf(counter);
    EXPECT_EQ(before.size(), after.size());
    EXPECT_EQ(after,
              "# HELP sbxfs_test_width_total Help.\n"
              "# TYPE sbxfs_test_width_total counter\n"
              "sbxfs_test_width_total{kind=\"a\"}                    0\n"
              "sbxfs_test_width_total{kind=\"b\"}            123456789\n");
    Gauge& gauge = Make<Gauge>("test_width", "Help.");
    const std::size_t size = TextOf(gauge).size();
    gauge.Add(-5);
    EXPECT_EQ(TextOf(gauge).size(), size);
}

TEST(Metrics, WhatWasNotCountedIsNotWrittenWhereThatIsWanted) {
    Counter& counter =
        Make<Counter>("test_shown_total", "Help.", "kind", std::vector<std::string_view>{"a", "b"},
                      Counter::Shown::kCounted);
    EXPECT_EQ(TextOf(counter).find('{'), std::string::npos);
    counter.AddTo(counter.PlaceOf("b"));
    EXPECT_NE(TextOf(counter).find("{kind=\"b\"}"), std::string::npos);
    EXPECT_EQ(TextOf(counter).find("{kind=\"a\"}"), std::string::npos);
}

TEST(Metrics, ForeignWordsAreOther) {
    Durations& steps = Make<Durations>("test_steps_seconds", "Help.", "step",
                                       std::vector<std::string_view>{"a", "other"});
    steps.Add("x\"}\n# TYPE", std::chrono::milliseconds(1500));
    EXPECT_NE(TextOf(steps).find("_sum{step=\"other\"}             1.500000\n"), std::string::npos);
    EXPECT_NE(TextOf(steps).find("_count{step=\"other\"}                    1\n"),
              std::string::npos);
}

TEST(Metrics, BucketsAreCumulativeAndTheLastIsTheCount) {
    Latencies& latencies =
        Make<Latencies>("test_seconds", "Help.", "op", std::vector<std::string_view>{"read"});
    for (const int us : {100, 101, 30'000, 60'000'000})
        latencies.Add(0, std::chrono::microseconds(us));
    const std::string text = TextOf(latencies);
    const auto has = [&text](const std::string& bound, int count) {
        const std::regex line("_bucket\\{op=\"read\",le=\"" + bound + "\"\\} +" +
                              std::to_string(count) + "\n");
        return std::regex_search(text, line);
    };
    EXPECT_TRUE(has("0\\.0001", 1)) << text;
    EXPECT_TRUE(has("0\\.001", 2)) << text;
    EXPECT_TRUE(has("0\\.1", 3)) << text;
    EXPECT_TRUE(has("10", 3)) << text;
    EXPECT_TRUE(has("\\+Inf", 4)) << text;
    EXPECT_TRUE(std::regex_search(text, std::regex("_count\\{op=\"read\"\\} +4\n")));
    EXPECT_TRUE(std::regex_search(text, std::regex("_sum\\{op=\"read\"\\} +60\\.030201\n")));
}

TEST(Metrics, AShareIsGivenBackByItsOwnersEnd) {
    Gauge& gauge = Make<Gauge>("test_shares", "Help.");
    GaugeShare first(gauge);
    first.Set(5);
    {
        GaugeShare second(gauge);
        second.Add(7);
        EXPECT_EQ(gauge.Value(), 12);
        second.Add(-3);
        EXPECT_EQ(second.value(), 4);
    }
    EXPECT_EQ(gauge.Value(), 5);
}

TEST(Metrics, TypesOfRequestsHaveTheirOwnPlaces) {
    const auto place = [](SftpType type) {
        return static_cast<std::size_t>(type) - static_cast<std::size_t>(SftpType::kOpen);
    };
    const Counter& sftp = sandbox_metrics.sftp_requests;
    EXPECT_EQ(sftp.PlaceOf("open"), place(SftpType::kOpen));
    EXPECT_EQ(sftp.PlaceOf("lstat"), place(SftpType::kLstat));
    EXPECT_EQ(sftp.PlaceOf("readdir"), place(SftpType::kReaddir));
    EXPECT_EQ(sftp.PlaceOf("symlink"), place(SftpType::kSymlink));
    EXPECT_EQ(sftp.PlaceOf("nonsense"), sftp.PlaceOf("other"));
    const Counter& supervisor = sandbox_metrics.supervisor_requests;
    EXPECT_EQ(supervisor.PlaceOf("hello"), static_cast<std::size_t>(supervisor::Type::kHello) - 1);
    EXPECT_EQ(supervisor.PlaceOf("environ"),
              static_cast<std::size_t>(supervisor::Type::kEnviron) - 1);
    EXPECT_EQ(supervisor.PlaceOf("store"), static_cast<std::size_t>(supervisor::Type::kStore) - 1);
    EXPECT_EQ(supervisor.PlaceOf("rename"),
              static_cast<std::size_t>(supervisor::Type::kRename) - 1);
}

// An action that no name was given to would be counted as "other".
TEST(Metrics, EveryActionOfAwsHasAName) {
    const std::regex call(
        "(?:Send|NextPage|ByIds|QueryCall|JsonCall\\(kTarget)\\(?,? ?\"([A-Z]\\w+)\"");
    std::set<std::string> actions;
    for (const auto& entry :
         std::filesystem::directory_iterator(std::string(SBXFS_SOURCE_DIR) + "/aws")) {
        if (entry.path().extension() != ".cc") continue;
        std::ifstream file(entry.path());
        std::stringstream text;
        text << file.rdbuf();
        const std::string source = text.str();
        for (std::sregex_iterator it(source.begin(), source.end(), call), end; it != end; ++it)
            actions.insert((*it)[1]);
    }
    EXPECT_GE(actions.size(), 15U);
    const Counter& calls = aws::aws_metrics.calls;
    for (const std::string& action : actions)
        EXPECT_NE(calls.PlaceOf(action), calls.PlaceOf("other")) << action;
}

}  // namespace
}  // namespace sbxfs::testing
