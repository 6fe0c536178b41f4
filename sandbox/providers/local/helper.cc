#include "sandbox/providers/local/helper.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "base/files.h"
#include "base/json.h"
#include "sandbox/providers/local/destroyer.h"
#include "sandbox/providers/local/launch_order.h"
#include "sandbox/providers/local/launcher.h"
#include "sandbox/providers/local/snapshots.h"

namespace sbxfs {
namespace {

constexpr std::size_t kMaxOrder = 4U << 20;

// A daemon that has gone does not read any more; the work goes on without it (SIGPIPE is ignored).
void Say(const Json& json) {
    (void)WriteAll(STDOUT_FILENO, json.Dump() + "\n");
}

std::string_view BlameText(Blame blame) {
    switch (blame) {
        case Blame::kCaller:
            return "caller";
        case Blame::kRemote:
            return "remote";
        case Blame::kBug:
            return "bug";
    }
    return "bug";
}

int Fail(const Error& error) {
    Json json = Json::Object();
    json.Set("errno", static_cast<std::int64_t>(error.code())).Set("error", error.what());
    Say(json.Set("blame", BlameText(error.blame())));
    return 1;
}

Result<Json> ReadOrder() {
    std::string text;
    std::array<char, 16384> chunk{};
    while (text.size() <= kMaxOrder) {
        const ssize_t got = ::read(STDIN_FILENO, chunk.data(), chunk.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return SystemError(errno, "reading the order");
        if (got == 0) break;
        text.append(chunk.data(), static_cast<std::size_t>(got));
    }
    auto json = Json::Parse(text);
    // A daemon killed while it wrote leaves half an order: not one.
    if (!json) return Error(Errno{EINVAL}, "no order on stdin; this command is for sbxfs itself");
    return *std::move(json);
}

Result<Json> RunLaunch(const Json& json) {
    const LaunchOrder order = TRY(LaunchOrder::FromJson(json));
    const auto tell = [](std::string_view phase) { Say(Json::Object().Set("phase", phase)); };
    return Json::Object().Set("launched", TRY(LaunchBox(order, tell)));
}

Result<Json> RunStart(const Json& json) {
    const LaunchOrder order = TRY(LaunchOrder::FromJson(json));
    return Json::Object().Set("launched", TRY(StartBox(order)));
}

Result<Json> RunStop(const Json& json) {
    const StopOrder order = TRY(StopOrder::FromJson(json));
    (void)TRY(StopBox(order));
    return Json::Object().Set("stopped", true);
}

Result<Json> RunDestroy(const Json& json) {
    const DestroyOrder order = TRY(DestroyOrder::FromJson(json));
    (void)TRY(DestroyBox(order));
    return Json::Object().Set("destroyed", true);
}

Result<Json> RunSnapshot(const Json& json) {
    const SnapshotOrder order = TRY(SnapshotOrder::FromJson(json));
    const auto wanted = [] {
        pollfd answer{.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
        return ::poll(&answer, 1, 0) <= 0 || (answer.revents & (POLLERR | POLLHUP)) == 0;
    };
    return Json::Object().Set("snapshot", ToJson(TRY(TakeSnapshot(order, wanted))));
}

Result<Json> RunDrop(const Json& json) {
    const DropOrder order = TRY(DropOrder::FromJson(json));
    (void)TRY(DropSnapshot(order));
    return Json::Object().Set("dropped", true);
}

constexpr std::array<std::pair<std::string_view, Result<Json> (*)(const Json&)>, 6> kKinds = {
    {{"launch", RunLaunch},
     {"stop", RunStop},
     {"start", RunStart},
     {"destroy", RunDestroy},
     {"snapshot", RunSnapshot},
     {"drop-snapshot", RunDrop}}};

}  // namespace

int LocalHelperMain(int argc, char** argv) {
    (void)::signal(SIGPIPE, SIG_IGN);
    (void)::umask(022);  // what must be private says so itself; a sandbox's own files must not be
    // A key is in this process's memory for a while: no core dump of it. The hard limit is left for
    // the sandbox.
    rlimit core{};
    if (::getrlimit(RLIMIT_CORE, &core) == 0) {
        core.rlim_cur = 0;
        (void)::setrlimit(RLIMIT_CORE, &core);
    }
    const std::string_view what = argc == 3 ? argv[2] : "";
    const auto kind = std::find_if(kKinds.begin(), kKinds.end(),
                                   [what](const auto& one) { return one.first == what; });
    if (kind == kKinds.end())
        return Fail(
            Error(Errno{EINVAL},
                  "usage: sbxfs local-helper launch|stop|start|destroy|snapshot|drop-snapshot"));
    const auto order = ReadOrder();
    if (!order) return Fail(order.error());
    const auto result = kind->second(*order);
    if (!result) return Fail(result.error());
    Say(*result);
    return 0;
}

}  // namespace sbxfs
