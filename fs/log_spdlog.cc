#include "fs/log_spdlog.h"

#include <errno.h>
#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/ringbuffer_sink.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <utility>

#include "base/strings.h"

namespace sbxfs {
namespace {

constexpr std::size_t kFileBytes = 8U << 20;
constexpr std::size_t kRecentLines = 500;

spdlog::level::level_enum ToSpdlog(LogLevel level) {
    switch (level) {
        case LogLevel::kDebug:
            return spdlog::level::debug;
        case LogLevel::kInfo:
            return spdlog::level::info;
        case LogLevel::kWarning:
            return spdlog::level::warn;
        case LogLevel::kError:
            return spdlog::level::err;
    }
    return spdlog::level::err;
}

}  // namespace

class Logger::Sink final : public LogSink {
 public:
    Sink(spdlog::sink_ptr out, std::shared_ptr<spdlog::sinks::ringbuffer_sink_mt> recent)
        : recent_(std::move(recent)), logger_("sbxfs", {std::move(out), recent_}) {
        logger_.set_level(spdlog::level::trace);  // base/log.h decides what comes here
        logger_.flush_on(spdlog::level::info);
        logger_.set_formatter(std::make_unique<spdlog::pattern_formatter>(
            "%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc));
    }
    void Write(LogLevel level, std::string_view event, std::span<const LogField> fields) override {
        std::string line(event);
        for (const LogField& field : fields) {
            line += ' ';
            line += field.key;
            line += '=';
            const std::string value = Printable(field.value, 1024);
            const bool plain = !value.empty() && value.find_first_of(" \"=") == std::string::npos;
            line += plain ? value : "\"" + value + "\"";
        }
        logger_.log(ToSpdlog(level), spdlog::string_view_t(line.data(), line.size()));
    }
    std::string Recent() const {
        std::string text;
        for (const std::string& line : recent_->last_formatted())
            text += line;
        return text;
    }

 private:
    std::shared_ptr<spdlog::sinks::ringbuffer_sink_mt> recent_;
    spdlog::logger logger_;
};

Logger::Logger(std::unique_ptr<Sink> sink) : sink_(std::move(sink)) {}
Logger::~Logger() = default;

Result<std::unique_ptr<Logger>> Logger::Make(const std::string& file) {
    auto recent = std::make_shared<spdlog::sinks::ringbuffer_sink_mt>(kRecentLines);
    spdlog::sink_ptr out;
    try {
        if (file.empty()) {
            out = std::make_shared<spdlog::sinks::stderr_sink_mt>();
        } else {
            out = std::make_shared<spdlog::sinks::rotating_file_sink_mt>(file, kFileBytes, 1);
        }
    } catch (const spdlog::spdlog_ex& failure) {  // the only exceptions of spdlog end here
        return Error(Errno{EIO}, "the log file cannot be written: " + std::string(failure.what()));
    }
    return std::unique_ptr<Logger>(
        new Logger(std::make_unique<Sink>(std::move(out), std::move(recent))));
}

LogSink& Logger::sink() {
    return *sink_;
}

std::string Logger::Recent() const {
    return sink_->Recent();
}

}  // namespace sbxfs
