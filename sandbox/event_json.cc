#include "sandbox/event_json.h"

namespace sbxfs {

void SetTime(Json& json, const std::string& name, std::int64_t ms) {
    if (ms == 0) {
        json.Set(name, Json()).Set(name + "_ms", Json());
        return;
    }
    json.Set(name, Rfc3339(FromEpochMs(ms))).Set(name + "_ms", ms);
}

namespace {

// [[from, to], ...]: where a stream reads as zeros that the command did not write.
Json HolesToJson(const OutputHoles& holes) {
    Json list = Json::Array();
    for (const OutputHole& hole : holes) {
        Json ends = Json::Array();
        ends.Append(Json::Number(static_cast<std::int64_t>(hole.from)));
        ends.Append(Json::Number(static_cast<std::int64_t>(hole.to)));
        list.Append(ends);
    }
    return list;
}

}  // namespace

Json EventToJson(const EventView& view) {
    const CommandRecord& record = view.record;
    const EventState& state = record.state;
    const auto number = [](std::uint64_t value) { return static_cast<std::int64_t>(value); };
    Json json = Json::Object();
    json.Set("n", number(Raw(record.n)));
    if (!record.spec.name.empty()) json.Set("name", record.spec.name);
    json.Set("status", ToString(state.status));
    json.Set("exit_code", state.exit_code ? Json::Number(*state.exit_code) : Json());
    json.Set("signal", state.signal == 0 ? Json() : Json::Number(state.signal));
    json.Set("parallel", record.spec.lane == CommandLane::kParallel);
    SetTime(json, "accepted", record.accepted_ms);
    SetTime(json, "started", state.started_ms);
    SetTime(json, "finished", state.finished_ms);
    json.Set("duration_us", state.duration_us);
    const bool finished = IsFinished(state.status);
    json.Set("stdout_bytes", number(finished ? state.stdout_size : view.sizes.out));
    json.Set("stderr_bytes", number(finished ? state.stderr_size : view.sizes.err));
    const std::uint64_t out = DroppedBytes(view.stdout_holes);
    const std::uint64_t err = DroppedBytes(view.stderr_holes);
    json.Set("dropped_bytes", number(out + err));
    if (out + err != 0) {
        json.Set("stdout_dropped_bytes", number(out));
        json.Set("stderr_dropped_bytes", number(err));
        json.Set("stdout_holes", HolesToJson(view.stdout_holes));
        json.Set("stderr_holes", HolesToJson(view.stderr_holes));
    }
    json.Set("shell_restarted", state.shell_restarted);
    json.Set("reason", state.reason);
    return json;
}

}  // namespace sbxfs
