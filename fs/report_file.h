// events/N/report: a command, its outcome and the ends of its output, at most 16 KiB, for a reader with a
// small window (contract 4). And events/log.jsonl.
#pragma once

#include <string>
#include <utility>

#include "fs/control_node.h"

namespace sbxfs {

// How a report is put together: text of its own and ranges of the outputs, in order. The length is known
// before a byte of output is read. Pure.
struct ReportPart {
    std::string text;
    OutputStream stream = OutputStream::kStdout;
    FileRange range;  // where `text` is empty
    std::size_t size() const { return text.empty() ? range.size : text.size(); }
};
inline constexpr std::size_t kReportLimit = 16384;
// `script` is the beginning of the command, at most kReportScript bytes of it.
inline constexpr std::size_t kReportScript = 1024;
std::vector<ReportPart> ComposeReport(const EventView& view, std::string_view script);
std::size_t ReportSize(const EventView& view);

class ReportFile final : public ControlNode {
 public:
    ReportFile(MountContext& mount, Ino ino, NodePtr parent, std::string name, SandboxPtr sandbox,
               EventNumber n)
        : ControlNode(mount, ino, std::move(parent), std::move(name)),
          sandbox_(std::move(sandbox)),
          n_(n) {}
    Attr Stat() const override;
    void Open(const OpenRequest& request, OpenReply reply) override;

 private:
    const SandboxPtr sandbox_;
    const EventNumber n_;
};

// One line of JSON per finished event, append-only; poll(2) waits for the next line.
class EventLogFile final : public ControlNode {
 public:
    EventLogFile(MountContext& mount, Ino ino, NodePtr parent, std::string name, SandboxPtr sandbox)
        : ControlNode(mount, ino, std::move(parent), std::move(name)),
          sandbox_(std::move(sandbox)) {}
    Attr Stat() const override;
    void Open(const OpenRequest& request, OpenReply reply) override;

 private:
    const SandboxPtr sandbox_;
};

}  // namespace sbxfs
