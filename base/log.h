// Structured log lines: a level, an event name, fields. Everyone logs through Log(); what a line
// looks like and where it goes is the sink's business (fs/log_spdlog.cc in the daemon).
// Thread-safe. A Secret has no LogField.
#pragma once

#include <concepts>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sbxfs {

enum class LogLevel : int { kDebug, kInfo, kWarning, kError };

struct LogField {
    LogField(std::string_view k, std::string_view v) : key(k), value(v) {}
    LogField(std::string_view k, const char* v) : key(k), value(v) {}
    template <std::integral T>
    LogField(std::string_view k, T v) : key(k), value(std::to_string(v)) {}
    LogField(std::string_view k, const Error& e) : key(k), value(e.what()) {}

    std::string_view key;
    std::string value;
};

class LogSink {
 public:
    LogSink() = default;
    LogSink(const LogSink&) = delete;
    LogSink& operator=(const LogSink&) = delete;
    virtual ~LogSink() = default;
    // Called from any thread. `event` and the keys are literals.
    virtual void Write(LogLevel level, std::string_view event,
                       std::span<const LogField> fields) = 0;
};

// The sink must outlive every Log() call; nullptr (the default) drops lines below kWarning and
// prints the rest to stderr. Set once, before threads start.
void SetLogSink(LogSink* sink);
void SetLogLevel(LogLevel level);
bool LogEnabled(LogLevel level);

// Log(LogLevel::kInfo, "sandbox ready", {{"box", name}, {"ms", took}});
void Log(LogLevel level, std::string_view event, std::initializer_list<LogField> fields = {});

// The level an error deserves: debug for the caller's, warning for the remote side's, error for our
// own.
LogLevel LevelFor(Blame blame);

}  // namespace sbxfs
