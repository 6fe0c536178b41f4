// An event as JSON: result.json and the lines of log.jsonl. Pure functions of copies.
#pragma once

#include <string>

#include "base/json.h"
#include "sandbox/commands.h"

namespace sbxfs {

// Sets `name` as RFC 3339 and `name_ms` as epoch milliseconds; both null for 0.
void SetTime(Json& json, const std::string& name, std::int64_t ms);

Json EventToJson(const EventView& view);

}  // namespace sbxfs
