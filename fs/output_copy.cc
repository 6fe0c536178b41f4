#include "fs/output_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/files.h"
#include "base/json.h"

namespace sbxfs {
namespace {

constexpr std::size_t kChunk = 256UL << 10;

}  // namespace

OutputCopy::OutputCopy(const std::string& event, std::string_view stream, int to,
                       UniqueFunction<void()> on_signal)
    : event_(event),
      stream_(stream),
      from_(::open((event_ + "/" + stream_).c_str(), O_RDONLY | O_CLOEXEC)),
      to_(to),
      on_signal_(std::move(on_signal)),
      chunk_(kChunk) {}

Result<std::uint64_t> OutputCopy::CopyNew() {
    std::uint64_t copied = 0;
    for (;;) {
        const ssize_t got =
            ::pread(from_.get(), chunk_.data(), chunk_.size(), static_cast<off_t>(offset_));
        if (got < 0 && errno == EINTR) {
            on_signal_();
            continue;
        }
        if (got <= 0) return copied;
        const std::string_view bytes(chunk_.data(), static_cast<std::size_t>(got));
        (void)TRY(WriteKept(bytes));
        offset_ += bytes.size();
        copied += bytes.size();
    }
}

// A hole reads as zeros, and is told of before it is made: where bytes just read have zeros, result.json says now
// whether they are the command's own.
Status OutputCopy::WriteKept(std::string_view bytes) {
    std::uint64_t at = offset_;
    if (bytes.find('\0') != std::string_view::npos) {
        for (const OutputHole& hole : HolesNow()) {
            const std::uint64_t from = std::max(hole.from, at);
            const std::uint64_t to = std::min(hole.to, offset_ + bytes.size());
            if (from >= to) continue;
            (void)TRY(Write(bytes.substr(at - offset_, from - at)));
            AddHole(left_out_, {from, to});
            at = to;
        }
    }
    return Write(bytes.substr(at - offset_));
}

OutputHoles OutputCopy::HolesNow() const {
    OutputHoles holes;
    const Result<std::string> text = ReadWholeFile(event_ + "/result.json");
    const auto result = text ? Json::Parse(*text) : std::nullopt;
    const auto listed = result ? result->Find(stream_ + "_holes") : std::nullopt;
    if (!listed) return holes;
    for (const Json& hole : listed->Elements()) {
        const std::vector<Json> ends = hole.Elements();
        if (ends.size() != 2) continue;
        AddHole(holes, {static_cast<std::uint64_t>(ends[0].AsNumber().value_or(0)),
                        static_cast<std::uint64_t>(ends[1].AsNumber().value_or(0))});
    }
    return holes;
}

Status OutputCopy::Write(std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t put = ::write(to_, bytes.data(), bytes.size());
        if (put >= 0) {
            bytes.remove_prefix(static_cast<std::size_t>(put));
        } else if (errno == EINTR) {
            on_signal_();
        } else if (errno == EAGAIN) {
            // Whoever shares the descriptor with us has made it non-blocking.
            pollfd room{.fd = to_, .events = POLLOUT, .revents = 0};
            if (::poll(&room, 1, -1) < 0 && errno == EINTR) on_signal_();
        } else {
            return SystemError(errno, "writing " + stream_);
        }
    }
    return Ok();
}

}  // namespace sbxfs
