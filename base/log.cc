#include "base/log.h"

#include <atomic>
#include <cstdio>

namespace sbxfs {
namespace {

std::atomic<LogSink*> the_sink{nullptr};
std::atomic<LogLevel> the_level{LogLevel::kInfo};

}  // namespace

void SetLogSink(LogSink* sink) {
    the_sink.store(sink);
}

void SetLogLevel(LogLevel level) {
    the_level.store(level);
}

bool LogEnabled(LogLevel level) {
    return level >= the_level.load(std::memory_order_relaxed);
}

void Log(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) {
    if (!LogEnabled(level)) return;
    if (LogSink* sink = the_sink.load()) {
        sink->Write(level, event, {fields.begin(), fields.size()});
        return;
    }
    if (level < LogLevel::kWarning) return;
    std::string line = "sbxfs: ";
    line += event;
    for (const LogField& field : fields) {
        line += ' ';
        line += field.key;
        line += '=';
        line += field.value;
    }
    line += '\n';
    (void)std::fwrite(line.data(), 1, line.size(), stderr);
}

LogLevel LevelFor(Blame blame) {
    switch (blame) {
        case Blame::kCaller:
            return LogLevel::kDebug;
        case Blame::kRemote:
            return LogLevel::kWarning;
        case Blame::kBug:
            return LogLevel::kError;
    }
    return LogLevel::kError;
}

}  // namespace sbxfs
