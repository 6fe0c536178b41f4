#include "aws/json_call.h"

#include <cmath>
#include <utility>

#include "aws/query.h"

namespace sbxfs::aws {

ApiCall JsonCall(std::string_view target, const std::string& action, const Json& body,
                 Repeat repeat) {
    ApiCall call;
    call.action = action;
    call.headers = {{"Content-Type", "application/x-amz-json-1.1"},
                    {"X-Amz-Target", std::string(target) + "." + action}};
    call.body = body.Dump();
    call.repeat = repeat;
    return call;
}

ApiDone ExpectJson(std::string action, JsonDone done) {
    return [action = std::move(action), done = std::move(done)](Outcome<HttpResponse> answer) {
        if (!answer) return done(std::move(answer).failure());
        auto json = Json::Parse(answer->body);
        if (!json || !json->IsObject()) return done(Malformed(action, "it is no JSON object"));
        done(std::move(*json));
    };
}

std::optional<SystemTime> TimeAt(const Json& json, std::string_view key) {
    const auto value = json.Find(key);
    const auto seconds = value ? value->AsReal() : std::nullopt;
    // Nobody's task starts before 1970 or after 9999.
    if (!seconds || !std::isfinite(*seconds) || *seconds < 0 || *seconds > 253402300799.0)
        return std::nullopt;
    return FromEpochMs(static_cast<std::int64_t>(*seconds * 1000));
}

}  // namespace sbxfs::aws
