// Commands: what commands print, on its way from the supervisor to the copies here, and events/log.jsonl.
#include <algorithm>
#include <unordered_set>
#include <utility>

#include "base/log.h"
#include "base/strings.h"
#include "sandbox/command_event.h"
#include "sandbox/event_json.h"
#include "sandbox/supervisor/output_limit.h"

namespace sbxfs {
namespace {

// A full disk here is tried again this often; nothing is lost meanwhile.
constexpr Duration kRetry = std::chrono::seconds(1);
// Not a system call for each page above the limit.
constexpr std::uint64_t kSlack = 256U << 10;

constexpr std::string_view kLineStart = "{\"n\":";

}  // namespace

void Commands::ReadOutput(EventNumber n, OutputStream stream, FileRange range, BytesDone done) {
    outputs_.Read(generation_, n, stream, range, std::move(done));
}

// Whether what begins at `offset` is what was asked for next. If it is around a gap, the gap is asked for.
bool Commands::Continues(const EventPtr& event, OutputStream stream, std::uint64_t offset) {
    if (event == nullptr || !event->sent) return false;
    if (offset > event->Taken(stream)) Reread(event);
    if (offset != event->Taken(stream)) return false;
    event->rereading = false;
    return true;
}

void Commands::OnOutput(EventNumber n, OutputStream stream, std::uint64_t offset,
                        std::string bytes) {
    const auto size = static_cast<std::uint32_t>(bytes.size());
    const EventPtr event = FindEvent(n);
    if (!Continues(event, stream, offset)) {
        port_->Credit(size);  // what it used is given back
        return;
    }
    event->Taken(stream) += size;
    sandbox_metrics.output_bytes.Add(size);
    outputs_.Write(generation_, n, stream, offset, std::move(bytes),
                   [self = shared_from_this(), event,
                    piece = Piece{stream, offset, size, true}](const Status& status) {
                       self->Post([event, piece, status](Commands& commands) {
                           commands.Written(event, piece, status);
                       });
                   });
}

void Commands::OnHole(EventNumber n, OutputStream stream, std::uint64_t offset,
                      std::uint64_t length) {
    const EventPtr event = FindEvent(n);
    // A sandbox's word for how long it is: no file here ends beyond what off_t holds.
    constexpr auto kLongest = static_cast<std::uint64_t>(INT64_MAX);
    if (event == nullptr || !event->sent || offset > kLongest - std::min(length, kLongest)) return;
    const std::uint64_t from = event->Taken(stream);
    const std::uint64_t to = offset + length;
    if (offset > from || to <= from) return;
    // Cut out by the limit, or by somebody there. Behind what is on its way to the disk, like any other piece.
    event->rereading = false;
    event->Taken(stream) = to;
    outputs_.Skip(generation_, n, stream, to,
                  [self = shared_from_this(), event,
                   piece = Piece{stream, from, to - from, false}](const Status& status) {
                      self->Post([event, piece, status](Commands& commands) {
                          commands.Written(event, piece, status);
                      });
                  });
}

void Commands::Written(const EventPtr& event, const Piece& piece, const Status& status) {
    const EventNumber n = event->record.n;
    if (port_ != nullptr && piece.kept) port_->Credit(static_cast<std::uint32_t>(piece.size));
    bool gap = false;
    {
        const MutexLock lock(mu_);
        std::uint64_t& have = event->Have(piece.stream);
        gap = !status || piece.offset > have;
        if (!gap) {
            have = std::max(have, piece.offset + piece.size);
            event->Arrived(piece.stream) = EpochMs(loop_.clock().System());
            if (!piece.kept)
                AddHole(event->Holes(piece.stream), {piece.offset, piece.offset + piece.size});
        }
    }
    if (!gap) {
        KeepToLimit(event, piece.stream);
        TellBudget(event);
        FinishIfComplete(event);
        if (event->repairing) ReleaseSpool(n);
        changes_.Fire(Raw(n));
        return;
    }
    // The disk is full, or was for an earlier piece. Nothing is lost: the supervisor has it, and is
    // asked again.
    if (!status) {
        Log(LogLevel::kError, "output not stored", {{"event", Raw(n)}, {"why", status.error()}});
    }
    if (std::exchange(event->retrying, true)) return;
    Later(kRetry, [event](Commands& commands) {
        {
            const MutexLock lock(commands.mu_);
            // What is fetched once more because nobody knows what of it is on the disk is fetched as a whole.
            event->taken = event->repairing ? OutputSizes{} : event->have;
        }
        event->retrying = false;
        event->rereading = false;
        commands.Reread(event);
    });
}

void Commands::Reread(const EventPtr& event) {
    if (event->rereading || port_ == nullptr) return;
    event->rereading = true;
    port_->Read(event->record.n, event->taken);
}

void Commands::KeepToLimit(const EventPtr& event, OutputStream stream) {
    OutputHole hole;
    {
        const MutexLock lock(mu_);
        const supervisor::Hole cut = supervisor::HoleFor(event->Have(stream), limits_.output);
        hole = {cut.from, cut.to};
        OutputHoles& holes = event->Holes(stream);
        if (hole.to - hole.from - DroppedBytes(holes, hole.from, hole.to) < kSlack) return;
        AddHole(holes, hole);
    }
    outputs_.Punch(generation_, event->record.n, stream, hole);
}

// Those of its journal, and those that came after it was written.
void Commands::RestoreHoles(Event& event) const {
    event.stdout_holes = event.record.state.stdout_holes;
    event.stderr_holes = event.record.state.stderr_holes;
    if (limits_.output == 0) return;
    for (const OutputStream stream : {OutputStream::kStdout, OutputStream::kStderr}) {
        if (event.Have(stream) <= limits_.output) continue;
        for (const OutputHole& hole : outputs_.HolesNow(generation_, event.record.n, stream))
            AddHole(event.Holes(stream), hole);
    }
}

void Commands::TellBudget(const EventPtr& event) {
    if (budget_ == nullptr) return;
    std::uint64_t kept = 0;
    std::int64_t finished_ms = 0;
    {
        const MutexLock lock(mu_);
        kept = event->have.out + event->have.err - DroppedBytes(event->stdout_holes) -
               DroppedBytes(event->stderr_holes);
        if (IsFinished(event->record.state.status))
            finished_ms = std::max<std::int64_t>(event->record.state.finished_ms, 1);
    }
    budget_->Keeps(generation_, event->record.n, finished_ms, kept, weak_from_this());
}

void Commands::GiveUpOutput(EventNumber n) {
    Post([n](Commands& commands) { commands.DropOutput(n); });
}

void Commands::DropOutput(EventNumber n) {
    const EventPtr event = FindEvent(n);
    if (event == nullptr || !IsFinished(StatusOf(event))) return;
    EventState state;
    {
        const MutexLock lock(mu_);
        event->stdout_holes.clear();
        event->stderr_holes.clear();
        AddHole(event->stdout_holes, {0, event->have.out});
        AddHole(event->stderr_holes, {0, event->have.err});
        event->record.state.stdout_holes = event->stdout_holes;
        event->record.state.stderr_holes = event->stderr_holes;
        state = event->record.state;
    }
    Log(LogLevel::kInfo, "output given up: the mount keeps no more",
        {{"generation", Raw(generation_)}, {"event", Raw(n)}});
    outputs_.GiveUp(generation_, n);
    store_.UpdateCommand(generation_, n, state, {});
    changes_.Fire(Raw(n));
}

// --- log.jsonl

std::uint64_t Commands::LogSize() const {
    const MutexLock lock(mu_);
    return log_kept_ + log_tail_.size();
}

bool Commands::IsOver() const {
    const MutexLock lock(mu_);
    return closed_ && unfinished_ == 0;
}

// What is not in the file yet is read from memory.
void Commands::ReadLog(FileRange range, BytesDone done) {
    std::string newest;
    {
        const MutexLock lock(mu_);
        const std::uint64_t from = std::max(range.offset, log_kept_);
        const std::uint64_t to = std::min(range.offset + range.size, log_kept_ + log_tail_.size());
        if (from < to) newest = log_tail_.substr(from - log_kept_, to - from);
        const std::uint64_t kept = log_kept_ - std::min(range.offset, log_kept_);
        range.size = static_cast<std::size_t>(std::min<std::uint64_t>(range.size, kept));
    }
    if (range.size == 0) return done(std::move(newest));
    outputs_.ReadLog(generation_, range,
                     [newest = std::move(newest), size = range.size,
                      done = std::move(done)](Result<std::string> bytes) mutable {
                         if (bytes && bytes->size() == size) *bytes += newest;
                         done(std::move(bytes));
                     });
}

// The journal knows what finished and in which order; the file may lack the newest lines.
void Commands::RestoreLog(const std::vector<CommandRecord>& records) {
    const std::string text = outputs_.LogNow(generation_);
    std::unordered_set<std::uint64_t> there;
    for (std::string_view rest = text; !rest.empty();) {
        const std::string_view line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(std::min(line.size() + 1, rest.size()));
        if (!line.starts_with(kLineStart)) continue;
        const std::size_t end = line.find(',');
        const auto n =
            ParseNumber<std::uint64_t>(line.substr(kLineStart.size(), end - kLineStart.size()));
        if (n) there.insert(*n);
    }
    std::map<std::uint64_t, const CommandRecord*> missing;
    for (const CommandRecord& record : records) {
        const std::uint64_t order = record.state.finish_order;
        next_finish_ = std::max(next_finish_, order + 1);
        if (order != 0 && !there.contains(Raw(record.n))) missing[order] = &record;
    }
    const MutexLock lock(mu_);
    log_kept_ = text.size();
    for (const auto& [order, record] : missing)
        log_tail_ += LogLine(*record);
}

std::string Commands::LogLine(const CommandRecord& finished) {
    EventView view;
    view.record = finished;
    view.stdout_holes = finished.state.stdout_holes;
    view.stderr_holes = finished.state.stderr_holes;
    return EventToJson(view).Dump() + "\n";
}

void Commands::WriteLog() {
    DCHECK(loop_.OnThread());
    if (log_writing_) return;
    std::string lines;
    std::uint64_t at = 0;
    {
        const MutexLock lock(mu_);
        lines = log_tail_;
        at = log_kept_;
    }
    if (lines.empty()) return;
    log_writing_ = true;
    const std::size_t size = lines.size();
    outputs_.WriteLog(
        generation_, at, std::move(lines), [self = shared_from_this(), size](const Status& status) {
            self->Post([size, ok = status.has_value()](Commands& commands) {
                commands.log_writing_ = false;
                if (!ok) return commands.Later(kRetry, [](Commands& again) { again.WriteLog(); });
                {
                    const MutexLock lock(commands.mu_);
                    commands.log_kept_ += size;
                    commands.log_tail_.erase(0, size);
                }
                commands.WriteLog();
            });
        });
}

}  // namespace sbxfs
