// CloudWatch Logs: what containers printed. Codec only. Loop thread only.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "aws/service.h"

namespace sbxfs::aws {

struct LogLine {
    std::string stream;
    SystemTime time;
    std::string text;
};

struct FilterLogRequest {
    std::string group;
    std::string stream_prefix{};
    std::string pattern{};  // CloudWatch's filter pattern
    std::optional<SystemTime> since{};
};

class Logs {
 public:
    using LinesDone = UniqueFunction<void(Outcome<std::vector<LogLine>>)>;

    explicit Logs(std::shared_ptr<Service> service) : service_(std::move(service)) {}

    // All pages, at most 10,000 lines; pages without end are a failure.
    void FilterLogEvents(const FilterLogRequest& request, LinesDone done);
    // The last `limit` lines of one stream, oldest first.
    void GetLogEvents(const std::string& group, const std::string& stream, int limit,
                      LinesDone done);

 private:
    void NextPage(std::string token, std::size_t pages_read, FilterLogRequest request,
                  std::vector<LogLine> found, LinesDone done);

    std::shared_ptr<Service> service_;
};

}  // namespace sbxfs::aws
