#include "fs/slow_watch.h"

#include <algorithm>
#include <string>

#include "fs/caller.h"
#include "fs/mount_context.h"
#include "fs/request_metrics.h"

namespace sbxfs {
namespace {

// Several that come to be late at about the same time are one look.
constexpr Duration kShortestPause = std::chrono::milliseconds(250);
// Of one look; a cut link makes all that are under way late at once.
constexpr std::size_t kMostLines = 8;

struct WaitingFacts {
    std::string op;
    std::string path;
    std::string box;  // empty: none
    pid_t pid = 0;
    std::int64_t ms = 0;
};

WaitingFacts FactsOf(MountContext& mount, const ParkingLot::Waiting& waiting) {
    WaitingFacts facts;
    facts.ms =
        std::chrono::duration_cast<std::chrono::milliseconds>(mount.clock.Steady() - waiting.since)
            .count();
    facts.op = facts.path = "?";
    if (!waiting.facts) return facts;
    const RequestFacts& request = *waiting.facts;
    facts.op = OpName(request.op);
    const pid_t group = LookUpCaller(request.who.tid).group;
    facts.pid = group != 0 ? group : request.who.tid;
    const NodePtr node = mount.inodes.Find(request.ino);
    facts.path = node != nullptr ? node->Path() : "inode " + std::to_string(Raw(request.ino));
    if (!request.name.empty()) facts.path += (facts.path == "/" ? "" : "/") + request.name;
    if (node == nullptr) return facts;
    const std::size_t end = facts.path.find('/', 1);
    const std::string first = facts.path.substr(1, end == std::string::npos ? end : end - 1);
    if (first != ".mount") facts.box = first;
    return facts;
}

}  // namespace

std::string_view ToString(ParkingLot::For what) {
    switch (what) {
        case ParkingLot::For::kSandbox:
            return "sandbox";
        case ParkingLot::For::kAsked:
            return "asked";
        case ParkingLot::For::kJournal:
            return "journal";
    }
    return "?";
}

void LogWaiting(LogLevel level, std::string_view event, MountContext& mount,
                const ParkingLot::Waiting& waiting) {
    const WaitingFacts facts = FactsOf(mount, waiting);
    Log(level, event,
        {{"op", facts.op},
         {"path", facts.path},
         {"box", facts.box},
         {"pid", facts.pid},
         {"for", ToString(waiting.what)},
         {"ms", facts.ms}});
}

void SlowWatch::Start() {
    mount_.lot.SetOnWaiting([weak = weak_from_this()] {
        const auto self = weak.lock();
        if (self == nullptr) return;
        self->mount_.timer_loop.Post([weak] {
            if (const auto there = weak.lock()) there->LookIn(kSlow);
        });
    });
}

void SlowWatch::LookIn(Duration delay) {
    RunLater(mount_.timer_loop, delay, [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->Look();
    });
}

void SlowWatch::Look() {
    const SteadyTime now = mount_.clock.Steady();
    const ParkingLot::Late late = mount_.lot.TakeLate(now - kSlow);
    for (const ParkingLot::Waiting& waiting : late.requests) {
        if (waiting.facts) request_metrics.slow.AddTo(static_cast<std::size_t>(waiting.facts->op));
    }
    const std::size_t lines = std::min(late.requests.size(), kMostLines);
    for (std::size_t i = 0; i < lines; ++i)
        LogWaiting(LogLevel::kWarning, "a request waits", mount_, late.requests[i]);
    if (late.requests.size() > lines)
        Log(LogLevel::kWarning, "more requests wait", {{"count", late.requests.size() - lines}});
    if (late.next) LookIn(std::max(kShortestPause, *late.next + kSlow - now));
}

}  // namespace sbxfs
