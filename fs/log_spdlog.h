// Where log lines go: to stderr in front, to a file in the state directory behind, and always the newest
// ones into memory for .mount/log. The only door to spdlog. Made by main before threads start.
#pragma once

#include <memory>
#include <string>

#include "base/log.h"
#include "base/result.h"

namespace sbxfs {

class Logger {
 public:
    // An empty `file` means stderr. Two files of at most 8 MiB are kept.
    static Result<std::unique_ptr<Logger>> Make(const std::string& file);
    ~Logger();
    Logger(const Logger&) = delete;
    Logger& operator=(const Logger&) = delete;

    LogSink& sink();
    // The newest lines, oldest first.
    std::string Recent() const;

 private:
    class Sink;
    explicit Logger(std::unique_ptr<Sink> sink);
    std::unique_ptr<Sink> sink_;
};

}  // namespace sbxfs
