#include "aws/logs.h"

#include <utility>

#include "aws/json_call.h"
#include "aws/query.h"

namespace sbxfs::aws {
namespace {

constexpr std::string_view kTarget = "Logs_20140328";
constexpr std::size_t kMostLines = 10'000;
constexpr std::size_t kMostPages = 1000;

void ReadLines(const Json& json, const std::string& stream, std::vector<LogLine>& lines) {
    const auto events = json.Find("events");
    if (!events) return;
    for (const Json& event : events->Elements())
        lines.push_back({event.GetString("logStreamName").value_or(stream),
                         FromEpochMs(event.GetNumber("timestamp").value_or(0)),
                         event.GetString("message").value_or("")});
}

}  // namespace

void Logs::FilterLogEvents(const FilterLogRequest& request, LinesDone done) {
    NextPage("", 0, request, {}, std::move(done));
}

void Logs::NextPage(std::string token, std::size_t pages_read, FilterLogRequest request,
                    std::vector<LogLine> found, LinesDone done) {
    Json body = Json::Object().Set("logGroupName", request.group);
    if (!request.stream_prefix.empty()) body.Set("logStreamNamePrefix", request.stream_prefix);
    if (!request.pattern.empty()) body.Set("filterPattern", request.pattern);
    if (request.since) body.Set("startTime", EpochMs(*request.since));
    if (!token.empty()) body.Set("nextToken", token);
    service_->Call(
        JsonCall(kTarget, "FilterLogEvents", body, Repeat::kSafe),
        ExpectJson("logs:FilterLogEvents", [logs = *this, token = std::move(token), pages_read,
                                            request = std::move(request), found = std::move(found),
                                            done = std::move(done)](Outcome<Json> answer) mutable {
            if (!answer) return done(std::move(answer).failure());
            ReadLines(*answer, "", found);
            std::string next = answer->GetString("nextToken").value_or("");
            // Pages may be empty with more to come; the same token twice is the end.
            if (next.empty() || next == token || found.size() >= kMostLines)
                return done(std::move(found));
            if (pages_read + 1 >= kMostPages)
                return done(Malformed("logs:FilterLogEvents", "its pages do not end"));
            logs.NextPage(std::move(next), pages_read + 1, std::move(request), std::move(found),
                          std::move(done));
        }));
}

void Logs::GetLogEvents(const std::string& group, const std::string& stream, int limit,
                        LinesDone done) {
    const Json body = Json::Object()
                          .Set("logGroupName", group)
                          .Set("logStreamName", stream)
                          .Set("limit", std::int64_t{limit})
                          .Set("startFromHead", false);
    service_->Call(
        JsonCall(kTarget, "GetLogEvents", body, Repeat::kSafe),
        ExpectJson("logs:GetLogEvents", [stream, done = std::move(done)](Outcome<Json> answer) {
            if (!answer) return done(std::move(answer).failure());
            std::vector<LogLine> lines;
            ReadLines(*answer, stream, lines);
            done(std::move(lines));
        }));
}

}  // namespace sbxfs::aws
