// How long the everyday steps take, measured inside one process through the mount, the way a client with
// open(2) and read(2) sees them. Usage: sbxfs_session_bench MOUNTPOINT DAEMON_PID [ROUNDS]. Prints one JSON
// object. bench/run.sh mounts a fresh file system and calls it.
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/files.h"
#include "base/json.h"
#include "base/strings.h"

namespace sbxfs {
namespace {

using SteadyClock = std::chrono::steady_clock;

double MsSince(SteadyClock::time_point start) {
    return std::chrono::duration<double, std::milli>(SteadyClock::now() - start).count();
}

std::string ReadAll(const std::string& path) {
    Result<std::string> text = ReadWholeFile(path);
    if (!text) {
        (void)std::fprintf(stderr, "%s\n", text.error().what().c_str());
        std::exit(1);
    }
    return *text;
}

// Median, spread and the 99th percentile of `values`, in milliseconds.
Json Summary(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const auto at = [&](double part) {
        return values[std::min(values.size() - 1, static_cast<std::size_t>(
                                                      part * static_cast<double>(values.size())))];
    };
    return Json::Object()
        .Set("runs", static_cast<std::int64_t>(values.size()))
        .Set("min_ms", Json::Real(values.front()))
        .Set("median_ms", Json::Real(at(0.5)))
        .Set("p99_ms", Json::Real(at(0.99)))
        .Set("max_ms", Json::Real(values.back()));
}

// Writes `true` to cmd, reads the number back on the same handle, reads `wait`.
double CommandRoundTrip(const std::string& box) {
    const auto start = SteadyClock::now();
    const int fd = ::open((box + "/cmd").c_str(), O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0 && ::write(fd, "true\n", 5) == 5);
    char number[32];
    const ssize_t got = ::read(fd, number, sizeof number);
    CHECK(got > 1);
    const std::string n(number, static_cast<std::size_t>(got - 1));
    const std::string outcome = ReadAll(box + "/events/" + n + "/wait");
    const double took = MsSince(start);
    (void)::close(fd);
    CHECK(outcome == "exited 0\n");
    return took;
}

struct Usage {
    double rss_mib = 0;
    double cpu_ms =
        0;  // of all threads, from the scheduler's nanoseconds: ticks are too coarse here
    std::int64_t threads = 0;
};

Usage UsageOf(const std::string& pid) {
    Usage usage;
    for (const std::string& line : Split(ReadAll("/proc/" + pid + "/status"), '\n')) {
        if (line.starts_with("VmRSS:")) usage.rss_mib = std::stod(line.substr(6)) / 1024;
    }
    for (const auto& task : std::filesystem::directory_iterator("/proc/" + pid + "/task")) {
        usage.cpu_ms += std::stod(ReadAll(task.path().string() + "/schedstat")) / 1e6;
        ++usage.threads;
    }
    return usage;
}

void Remove(const std::string& box) {
    CHECK(::rmdir(box.c_str()) == 0);
}

int Run(const std::string& mount, const std::string& pid, int rounds) {
    Json report = Json::Object();

    std::vector<double> make;
    std::vector<double> remove;
    std::vector<double> first_result;
    for (int i = 0; i < rounds; ++i) {
        const std::string box = mount + "/first" + std::to_string(i);
        const auto start = SteadyClock::now();
        CHECK(::mkdir(box.c_str(), 0700) == 0);
        make.push_back(MsSince(start));
        (void)CommandRoundTrip(box);
        first_result.push_back(MsSince(start));
        const auto end = SteadyClock::now();
        Remove(box);
        remove.push_back(MsSince(end));
    }
    report.Set("mkdir", Summary(make));
    report.Set("mkdir_to_first_result", Summary(first_result));
    report.Set("rmdir", Summary(remove));

    const std::string box = mount + "/bench";
    CHECK(::mkdir(box.c_str(), 0700) == 0);
    for (int i = 0; i < 20; ++i)
        (void)CommandRoundTrip(box);
    std::vector<double> commands;
    for (int i = 0; i < rounds * 20; ++i)
        commands.push_back(CommandRoundTrip(box));
    report.Set("true_to_wait", Summary(commands));
    Remove(box);

    constexpr int kIdle = 50;
    for (int i = 0; i < kIdle; ++i) {
        CHECK(::mkdir((mount + "/idle" + std::to_string(i)).c_str(), 0700) == 0);
    }
    for (int i = 0; i < kIdle; ++i) {
        CHECK(ReadAll(mount + "/idle" + std::to_string(i) + "/ready") == "ready\n");
    }
    const Usage before = UsageOf(pid);
    const timespec minute{60, 0};
    (void)::nanosleep(&minute, nullptr);
    const Usage after = UsageOf(pid);
    report.Set("idle", Json::Object()
                           .Set("sandboxes", std::int64_t{kIdle})
                           .Set("rss_mib", Json::Real(after.rss_mib))
                           .Set("threads", after.threads)
                           .Set("cpu_ms_in_60_s", Json::Real(after.cpu_ms - before.cpu_ms)));
    for (int i = 0; i < kIdle; ++i)
        Remove(mount + "/idle" + std::to_string(i));
    (void)std::printf("%s\n", report.Dump(2).c_str());
    return 0;
}

}  // namespace
}  // namespace sbxfs

int main(int argc, char** argv) {
    if (argc < 3) {
        (void)std::fprintf(stderr, "usage: %s MOUNTPOINT DAEMON_PID [ROUNDS]\n", argv[0]);
        return 2;
    }
    return sbxfs::Run(argv[1], argv[2], argc > 3 ? std::atoi(argv[3]) : 20);
}
