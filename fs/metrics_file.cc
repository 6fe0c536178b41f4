#include "fs/metrics_file.h"

#include <dirent.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <map>
#include <memory>
#include <optional>

#include "base/files.h"
#include "base/metrics.h"
#include "base/strings.h"
#include "fs/slow_watch.h"

namespace sbxfs {
namespace {

using enum SandboxStatus;
constexpr std::array kStatuses{kLaunching, kReady,  kUnreachable, kExpiring, kStopping,
                               kStopped,   kFailed, kExpired,     kLost};

void WriteBuild(MetricsText& text, const MountContext& mount) {
    text.Family("sbxfs_build_info", "gauge", "What runs: always 1.");
    text.Sample("", MetricLabel("version", SBXFS_VERSION), 1);
    text.Family("sbxfs_mounted_timestamp_seconds", "gauge", "When it was mounted.");
    text.Seconds("", "", static_cast<double>(EpochMs(mount.mounted)) / 1000);
}

void WriteRequests(MetricsText& text, MountContext& mount) {
    const auto totals = mount.lot.Totals();
    const auto label = [](std::size_t i) {
        return MetricLabel("for", ToString(static_cast<ParkingLot::For>(i)));
    };
    text.Family("sbxfs_requests_waiting", "gauge",
                "Requests that wait: for a sandbox, for what they were asked to wait for, for a "
                "disk here.");
    for (std::size_t i = 0; i < totals.size(); ++i)
        text.Sample("", label(i), totals[i].count);
    text.Family("sbxfs_requests_waiting_oldest_seconds", "gauge",
                "How long the oldest of them has waited.");
    const SteadyTime now = mount.clock.Steady();
    for (std::size_t i = 0; i < totals.size(); ++i) {
        const Duration age = totals[i].oldest ? now - *totals[i].oldest : Duration::zero();
        text.Seconds("", label(i), std::chrono::duration<double>(age).count());
    }
}

void WriteTables(MetricsText& text, const MountContext& mount) {
    text.Family("sbxfs_inodes", "gauge", "Files and directories that the kernel knows.");
    text.Sample(mount.inodes.Count());
    text.Family("sbxfs_open_handles", "gauge", "Files and directories that are open in the mount.");
    text.Sample(mount.handles.Count());
}

void WriteSandboxes(MetricsText& text, const MountContext& mount) {
    std::map<SandboxStatus, std::uint64_t> counts;
    for (const SandboxPtr& sandbox : mount.sandboxes.List())
        ++counts[sandbox->status()];
    std::uint64_t going = 0;
    const std::vector<SandboxPtr> history = mount.sandboxes.History();
    for (const SandboxPtr& sandbox : history)
        going += sandbox->IsGone() ? 0 : 1;
    text.Family("sbxfs_sandboxes", "gauge",
                "Sandboxes by status, and those that are being destroyed.");
    for (const SandboxStatus status : kStatuses)
        text.Sample("", MetricLabel("status", ToString(status)), counts[status]);
    text.Sample("", MetricLabel("status", "destroying"), going);
    text.Family("sbxfs_past_sandboxes", "gauge", "Sandboxes that are gone, in .mount/history.");
    text.Sample(history.size() - going);
}

struct CloseDirectory {
    void operator()(DIR* directory) const { (void)::closedir(directory); }
};

// Without the one that counts them.
std::uint64_t OpenDescriptors() {
    const std::unique_ptr<DIR, CloseDirectory> directory(::opendir("/proc/self/fd"));
    if (directory == nullptr) return 0;
    std::uint64_t count = 0;
    while (const dirent* entry = ::readdir(directory.get()))
        count += entry->d_name[0] == '.' ? 0 : 1;
    return count - 1;
}

double SecondsOf(const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

// Not under the names that every Prometheus client gives them: node_exporter, whose textfile collector brings these, has those
// of its own.
void WriteProcess(MetricsText& text) {
    text.Family("sbxfs_process_open_fds", "gauge", "Open descriptors.");
    text.Sample(OpenDescriptors());
    struct rlimit files {};
    (void)::getrlimit(RLIMIT_NOFILE, &files);
    text.Family("sbxfs_process_max_fds", "gauge", "How many there may be.");
    text.Sample(files.rlim_cur);
    std::uint64_t pages = 0;
    if (const Result<std::string> statm = ReadWholeFile("/proc/self/statm")) {
        const std::vector<std::string> fields = Split(*statm, ' ');
        if (fields.size() > 1) pages = ParseNumber<std::uint64_t>(fields[1]).value_or(0);
    }
    text.Family("sbxfs_process_resident_memory_bytes", "gauge", "Resident memory.");
    text.Sample(pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)));
    // Of what is resident: the rest is kept for what will be allocated.
    const struct mallinfo2 heap = ::mallinfo2();
    text.Family("sbxfs_heap_bytes", "gauge", "Memory that is allocated.");
    text.Sample(heap.uordblks + heap.hblkhd);
    struct rusage usage {};
    (void)::getrusage(RUSAGE_SELF, &usage);
    text.Family("sbxfs_process_cpu_seconds_total", "counter", "Processor time, user and system.");
    text.Seconds("", "", SecondsOf(usage.ru_utime) + SecondsOf(usage.ru_stime));
}

}  // namespace

std::string MetricsOf(MountContext& mount) {
    MetricsText text;
    WriteBuild(text, mount);
    WriteProcess(text);
    WriteSandboxes(text, mount);
    WriteTables(text, mount);
    WriteRequests(text, mount);
    WriteMetrics(text);
    return std::move(text).Take();
}

}  // namespace sbxfs
