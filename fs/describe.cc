#include "fs/describe.h"

#include <algorithm>
#include <utility>

#include "base/json.h"
#include "sandbox/backends.h"
#include "sandbox/event_json.h"
#include "sandbox/providers/fargate/fargate_price.h"

namespace sbxfs {
namespace {

Json PhasesJson(const SandboxRecord& record) {
    Json phases = Json::Array();
    std::int64_t before = record.created_ms;
    for (const auto& [name, at_ms] : record.phases) {
        Json phase = Json::Object();
        phase.Set("phase", name);
        SetTime(phase, "at", at_ms);
        phase.Set("took_ms", at_ms - before);
        phases.Append(phase);
        before = at_ms;
    }
    return phases;
}

}  // namespace

std::string StatusText(const SandboxSnapshot& snapshot) {
    return std::string(ToString(snapshot.status)) + "\n";
}

std::string ErrorText(const SandboxSnapshot& snapshot) {
    return (snapshot.error.empty() ? "" : snapshot.error + "\n") + snapshot.lost;
}

std::string InfoJson(const SandboxSnapshot& snapshot, const MountSettings& settings,
                     SystemTime now) {
    const SandboxRecord& record = snapshot.record;
    Json json = Json::Object();
    json.Set("name", record.name);
    json.Set("generation", static_cast<std::int64_t>(Raw(record.generation)));
    json.Set("status", ToString(snapshot.status));
    json.Set("template", record.what.name);
    json.Set("provider", record.what.provider);
    json.Set("backend", record.what.backend);
    json.Set("paid", IsPaid(record.what.backend));
    json.Set("id", record.provider_id);
    json.Set("image", record.what.image);
    json.Set("workdir", record.what.workdir);
    json.Set("fs_root", record.what.fs_root);
    json.Set("cpu", record.what.cpu);
    json.Set("memory_mib", record.what.memory);
    json.Set("exclusive", record.what.exclusive);
    json.Set("protected", record.is_protected);
    if (record.connect) {
        json.Set("address", AddressText(record.connect->address));
        json.Set("user", record.connect->user);
        json.Set("host_key", record.connect->host_key);
    }
    SetTime(json, "created", record.created_ms);
    SetTime(json, "ended", record.ended_ms);
    SetTime(json, "expires", record.lifetime_end_ms);
    json.Set("idle_timeout_seconds",
             record.idle_timeout_s == 0 ? Json() : Json::Number(record.idle_timeout_s));
    if (record.what.backend == "fargate") {
        const std::int64_t until = record.ended_ms > 0 ? record.ended_ms : EpochMs(now);
        if (const auto price = PriceOf(record.what))
            json.Set("cost", CostJson(*price, record.created_ms, until));
    }
    if (snapshot.supervisor) {
        json.Set("machine", snapshot.supervisor->machine);
        json.Set("clock_skew_ms", snapshot.clock_skew_ms);
    }
    json.Set("phases", PhasesJson(record));
    for (const std::string& key : record.facts.Keys()) {
        if (!json.Find(key)) json.Set(key, record.facts.Find(key).value_or(Json()));
    }
    json.Set("path", settings.mountpoint + "/" + record.name);
    json.Set("error", snapshot.error);
    return json.Dump(2) + "\n";
}

std::string OutcomeLine(const EventState& state) {
    std::string line(ToString(state.status));
    if (state.exit_code) line += " " + std::to_string(*state.exit_code);
    return line + "\n";
}

std::string ResultJson(const EventView& view) {
    return EventToJson(view).Dump(2) + "\n";
}

std::string EventErrorText(const EventState& state) {
    return state.reason.empty() ? "" : state.reason + "\n";
}

SystemTime EventTime(const CommandRecord& record) {
    return FromEpochMs(
        std::max({record.accepted_ms, record.state.started_ms, record.state.finished_ms}));
}

}  // namespace sbxfs
