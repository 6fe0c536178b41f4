// Reads one JSON object member by member and is strict about it: a member of the wrong type, a
// missing one that is required, or one nobody asked for is EINVAL with the member named. Used for
// what we wrote ourselves and must not misread later: journal records, the letter to a local
// helper. One object, one reader, one thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace sbxfs {

class StrictJson {
 public:
    // `what` names the object in errors ("template"). `json` outlives the reader.
    StrictJson(const Json& json, std::string_view what);

    // An absent member leaves `out` as it is; so does one of the wrong type, which Finish()
    // reports.
    StrictJson& Take(std::string_view key, std::string& out);
    StrictJson& Take(std::string_view key, std::int64_t& out);
    StrictJson& Take(std::string_view key, bool& out);
    StrictJson& Take(std::string_view key, std::vector<std::string>& out);
    StrictJson& Take(std::string_view key, std::map<std::string, std::string>& out);
    // Any value; the caller looks into it.
    std::optional<Json> TakeAny(std::string_view key);
    // From here on the named member must be there.
    StrictJson& Require(std::string_view key);

    // The first thing that was wrong, else the first member that was never asked for.
    Status Finish() const;

    void Fail(std::string_view key, std::string_view should_be);

 private:
    std::optional<Json> Find(std::string_view key);

    const Json& json_;
    const std::string what_;
    std::vector<std::string> asked_;
    std::optional<Error> error_;
};

}  // namespace sbxfs
