#include "fs/report_file.h"

#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "fs/describe.h"
#include "fs/output_file.h"

namespace sbxfs {
namespace {

std::string Seconds(std::int64_t us) {
    std::string text = std::to_string(us / 1000000) + ".";
    const std::string thousandths = std::to_string(us / 1000 % 1000);
    return text + std::string(3 - thousandths.size(), '0') + thousandths + " s";
}

// The top of the report. `script_size` of the command's bytes are shown where its text is not at hand.
std::string Heading(const EventView& view) {
    const CommandRecord& record = view.record;
    std::string text = "event " + ToString(record.n);
    if (!record.spec.name.empty()) text += " (" + record.spec.name + ")";
    std::string outcome = OutcomeLine(record.state);
    outcome.pop_back();
    text += ": " + outcome;
    if (record.state.signal != 0) text += " (signal " + std::to_string(record.state.signal) + ")";
    if (record.state.duration_us != 0) text += " after " + Seconds(record.state.duration_us);
    text += "\n";
    if (!record.state.reason.empty()) text += record.state.reason.substr(0, 1024) + "\n";
    return text + "command, " + std::to_string(record.script_size) + " bytes:\n";
}

std::string BelowScript(const EventView& view) {
    if (view.record.script_size <= kReportScript) return "\n";
    return "\n[" + std::to_string(view.record.script_size - kReportScript) +
           " bytes more in events/" + ToString(view.record.n) + "/cmd]\n";
}

// One stream in at most `room` bytes: whole, or its first 40 % and its newest 60 % around a line that says
// what is left out and where it is.
void AddStream(std::vector<ReportPart>& parts, const EventView& view, OutputStream stream,
               std::size_t room) {
    const bool out = stream == OutputStream::kStdout;
    const EventState& state = view.record.state;
    std::uint64_t size = out ? view.sizes.out : view.sizes.err;
    if (IsFinished(state.status))
        size = std::min(size, out ? state.stdout_size : state.stderr_size);
    const OutputHoles& holes = out ? view.stdout_holes : view.stderr_holes;
    const std::string name = out ? "stdout" : "stderr";
    parts.push_back({"--- " + name + ", " + std::to_string(size) + " bytes\n", stream, {}});
    if (size == 0) return;
    std::uint64_t head = size;
    std::uint64_t tail = size;  // where it goes on
    if (size > room || DroppedBytes(holes, 0, size) != 0) {
        const std::uint64_t shown = std::min<std::uint64_t>(room, size);
        head = shown * 2 / 5;
        tail = size - (shown - head);
        // Nothing that is not kept is shown.
        for (const OutputHole& hole : holes) {
            if (hole.from < head) head = hole.from;
            if (hole.to > tail) tail = std::min(hole.to, size);
        }
    }
    if (head != 0) parts.push_back({"", stream, {0, static_cast<std::size_t>(head)}});
    if (head == size) return parts.push_back({"\n", stream, {}});
    const std::uint64_t dropped = DroppedBytes(holes, head, tail);
    std::string left_out = "\n[" + std::to_string(tail - head) + " bytes left out: ";
    left_out += dropped == tail - head
                    ? "not kept"
                    : "bytes " + std::to_string(head) + " to " + std::to_string(tail) +
                          " of events/" + ToString(view.record.n) + "/" + name;
    if (dropped != 0 && dropped != tail - head)
        left_out += ", of which " + std::to_string(dropped) + " are not kept";
    parts.push_back({left_out + "]\n", stream, {}});
    if (tail != size) parts.push_back({"", stream, {tail, static_cast<std::size_t>(size - tail)}});
    parts.push_back({"\n", stream, {}});
}

// An open report: the streams' bytes are put between its own text when they have been read.
class ReportBuilder final : public std::enable_shared_from_this<ReportBuilder> {
 public:
    ReportBuilder(NodePtr node, SandboxPtr sandbox, EventNumber n, Parked<OpenReply> reply)
        : node_(std::move(node)), sandbox_(std::move(sandbox)), n_(n), reply_(std::move(reply)) {}

    void Start(std::vector<ReportPart> parts) {
        parts_ = std::move(parts);
        Next();
    }

 private:
    void Next() {
        for (; at_ < parts_.size(); ++at_) {
            const ReportPart& part = parts_[at_];
            if (!part.text.empty()) {
                text_ += part.text;
                continue;
            }
            return sandbox_->commands().ReadOutput(
                n_, part.stream, part.range,
                [self = shared_from_this()](const Result<std::string>& bytes) {
                    if (!bytes) return self->reply_.Fail(bytes.error());
                    self->text_ += *bytes;
                    ++self->at_;
                    self->Next();
                });
        }
        auto reply = reply_.Take();
        if (!reply) return;
        AnswerOpen(node_->mount(), std::make_shared<SnapshotFile>(node_, std::move(text_)),
                   Opened{.direct_io = true}, std::move(*reply));
    }

    const NodePtr node_;
    const SandboxPtr sandbox_;
    const EventNumber n_;
    Parked<OpenReply> reply_;
    std::vector<ReportPart> parts_;
    std::size_t at_ = 0;
    std::string text_;
};

}  // namespace

std::vector<ReportPart> ComposeReport(const EventView& view, std::string_view script) {
    std::vector<ReportPart> parts;
    std::string top = Heading(view);
    top += script.substr(0, kReportScript);
    top += BelowScript(view);
    parts.push_back({top, {}, {}});
    // What the two headings and the two notes of what is left out need, at the most.
    constexpr std::size_t kNotes = 600;
    const std::size_t room = kReportLimit - kNotes - std::min(top.size(), kReportLimit / 2);
    const std::uint64_t err = view.sizes.err;
    // stderr is short as a rule; where both are long, each gets half.
    const std::size_t err_room =
        std::min<std::uint64_t>(err, view.sizes.out > room / 2 ? room / 2 : room - view.sizes.out);
    const std::size_t out_room = room - err_room;
    AddStream(parts, view, OutputStream::kStdout, out_room);
    AddStream(parts, view, OutputStream::kStderr, err_room);
    return parts;
}

std::size_t ReportSize(const EventView& view) {
    const std::string script(std::min<std::uint64_t>(view.record.script_size, kReportScript), 'x');
    std::size_t size = 0;
    for (const ReportPart& part : ComposeReport(view, script))
        size += part.size();
    return size;
}

Attr ReportFile::Stat() const {
    const auto view = sandbox_->commands().Find(n_);
    Attr attr;
    attr.mode = S_IFREG | 0444;
    if (!view) return attr;
    attr.size = ReportSize(*view);
    attr.atime = attr.mtime = attr.ctime = EventTime(view->record);
    return attr;
}

void ReportFile::Open(const OpenRequest& request, OpenReply reply) {
    if (const auto refused = RefuseWriting(request, Name())) return std::move(reply).Fail(*refused);
    auto builder = std::make_shared<ReportBuilder>(shared_from_this(), sandbox_, n_,
                                                   mount().lot.Park(std::move(reply)));
    sandbox_->commands().ReadScript(
        n_, [builder, sandbox = sandbox_, n = n_](const Result<std::string>& script) {
            const auto view = sandbox->commands().Find(n);
            if (!view) return builder->Start({});
            builder->Start(ComposeReport(*view, script ? *script : std::string()));
        });
}

Attr EventLogFile::Stat() const {
    Attr attr;
    attr.mode = S_IFREG | 0444;
    attr.size = sandbox_->commands().LogSize();
    attr.atime = attr.mtime = attr.ctime = FromEpochMs(sandbox_->created_ms());
    return attr;
}

void EventLogFile::Open(const OpenRequest& request, OpenReply reply) {
    if (const auto refused = RefuseWriting(request, Name())) return std::move(reply).Fail(*refused);
    const auto source = std::make_shared<GrowingSource>();
    source->keeper = sandbox_;
    source->signal = &sandbox_->commands().changes();
    source->key = Commands::kLogChanged;
    source->size = [box = sandbox_] { return box->commands().LogSize(); };
    source->is_final = [box = sandbox_] { return box->commands().IsOver(); };
    source->read = [box = sandbox_](FileRange range, BytesDone done) {
        box->commands().ReadLog(range, std::move(done));
    };
    AnswerOpen(mount(), MakeGrowingFile(shared_from_this(), source), Opened{.direct_io = true},
               std::move(reply));
}

}  // namespace sbxfs
