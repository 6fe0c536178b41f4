// WriteBehind: small new files that go as a whole. The creation is held back for a moment; when the file is closed or synced
// meanwhile, and all that was done to it is to have been written from its beginning on, and to have been given a mode and times, the
// supervisor is told all of it in one message (LinkedFiles::Patient::Store): a round trip in place of three, and one
// program's work in place of two's.
//
// What goes the supervisor's way has no order with what goes the server's: it waits until what it builds on has been
// acknowledged, and is waited for. So whoever waits for a file that gathers has it made by the server at once (DependOn).
#include <algorithm>
#include <utility>

#include "sandbox/supervisor/protocol.h"
#include "sandbox/write_behind_state.h"

namespace sbxfs {
namespace {

// Who writes a file bit by bit has it made meanwhile; contract 5 wants nothing unsent for more than a second.
constexpr Duration kGather = std::chrono::milliseconds(50);

// Saves are moved over the old file as soon as they are written.
constexpr std::size_t kMostStored = 64;

}  // namespace

struct WriteBehind::Parts {
    ChangePtr creation;
    std::vector<ChangePtr> rest;  // in the order they were given, up to its CLOSE
};

bool WriteBehind::MayGather(const OpenHow& how) const {
    return how.write && !how.append && files_->MayStore();
}

void WriteBehind::Gather(const StatePtr& state, const ChangePtr& creation, const FilePtr& file) {
    creation->apart = true;
    creation->state = state;
    creation->waits = 1;
    DependOnConflicts(creation, Reach::kPath);
    state->under_way.insert(creation->id);
    state->queue.push_back({creation, file});
    state->gathers = creation;
    Enter(creation);
    gathering_.emplace_back(loop_.clock().Steady() + kGather, state);
    ArmGather();
}

void WriteBehind::ArmGather() {
    if (std::exchange(gather_armed_, true)) return;
    const Duration left = gathering_.front().first - loop_.clock().Steady();
    RunLater(loop_, std::max(left, Duration::zero()), [weak = weak_from_this()] {
        const auto self = weak.lock();
        if (self == nullptr) return;
        self->gather_armed_ = false;
        self->UngatherUntil(self->loop_.clock().Steady());
        if (!self->gathering_.empty()) self->ArmGather();
    });
}

void WriteBehind::UngatherUntil(SteadyTime until) {
    while (!gathering_.empty() && gathering_.front().first <= until) {
        const StatePtr state = gathering_.front().second.lock();
        gathering_.pop_front();
        if (state != nullptr) Ungather(state);
    }
}

// The server makes it, and has what is in its queue as it comes.
void WriteBehind::Ungather(const StatePtr& state) {
    const ChangePtr creation = std::exchange(state->gathers, nullptr);
    if (creation == nullptr) return;
    creation->apart = false;
    // That has another order with what goes the supervisor's way.
    DependOnConflicts(creation, Reach::kPath);
    Release(creation);
}

// Somebody waits for it.
void WriteBehind::MakeAtOnce(const Change& awaited) {
    if (const StatePtr file = awaited.state.lock(); file != nullptr) Ungather(file);
}

// Nothing that was given before this can be waited for any longer.
void WriteBehind::Seal(const StatePtr& state) {
    if (state->gathers == nullptr) return;
    std::uint64_t size = 0;
    const auto fits = [&](const FileState::Queued& next) {
        const Change& change = *next.change;
        if (change.payload == nullptr)
            return change.attributes.has_value() || change.syncs || change.closes ||
                   next.change == state->gathers;
        const bool in_order = change.payload->offset == size;
        size += change.payload->bytes.size();
        return in_order;
    };
    const bool all = std::all_of(state->queue.begin(), state->queue.end(), fits);
    if (!all || size > supervisor::kMaxStored || state->path != state->gathers->what.path ||
        !MayDefer() || !files_->MayStore())
        return Ungather(state);
    for (const FileState::Queued& part : state->queue)
        part.change->apart = true;
    BehindFile& file = *state->queue.front().file;
    // It will be closed there by then: who does something with it from here on has it opened again behind this.
    file.gone = !file.closed;
    // The server holds no handle for it.
    if (std::exchange(file.counted, false)) --open_files_;
    Release(std::exchange(state->gathers, nullptr));
}

void WriteBehind::PumpWhole(const StatePtr& state) {
    if (state->queue.front().change->waits > 0) return;
    if (state->unacknowledged > 0 && !window_.HasRoom(in_flight_ - aside_)) {
        if (std::find(stalled_.begin(), stalled_.end(), state) == stalled_.end())
            stalled_.push_back(state);
        return;
    }
    SendWhole(state);
}

void WriteBehind::SendWhole(const StatePtr& state) {
    const FilePtr file = state->queue.front().file;
    auto parts = std::make_shared<Parts>();
    StoreRequest what;
    what.path = state->queue.front().change->what.path;
    what.mode = file->how.mode & 07777;
    while (!state->queue.empty() && state->queue.front().change->apart) {
        const ChangePtr part = std::move(state->queue.front().change);
        state->queue.pop_front();
        if (parts->creation == nullptr) {
            parts->creation = part;
            continue;
        }
        if (part->ended) continue;    // whoever waited for it has stopped
        part->sent = part->deferred;  // others wait within their bound
        part->sent_at = loop_.clock().Steady();
        in_flight_ += part->bytes;
        if (part->payload != nullptr) {
            if (what.bytes.empty()) {
                what.bytes = std::move(part->payload->bytes);
            } else {
                what.bytes.Append(part->payload->bytes.view());
            }
            // A write moves the times.
            what.atime = what.mtime = std::nullopt;
        }
        if (part->attributes && part->attributes->mode) what.mode = *part->attributes->mode;
        if (part->attributes && part->attributes->mtime) {
            what.atime = part->attributes->atime;
            what.mtime = part->attributes->mtime;
        }
        what.sync = what.sync || part->syncs;
        parts->rest.push_back(part);
    }
    if (state->queue.empty()) state->EndTail();
    state->opening = true;
    parts->creation->send = [this, state, file, parts, what = std::move(what)] {
        patient_->Store(what, TheirNow(),
                        [weak = weak_from_this(), state, file, parts](Result<MadeFile> made) {
                            if (const auto self = weak.lock())
                                self->WholeEnded(state, file, *parts, std::move(made));
                        });
    };
    Send(parts->creation);
}

void WriteBehind::WholeEnded(const StatePtr& state, const FilePtr& file, const Parts& parts,
                             Result<MadeFile> made) {
    if (!made) {
        for (auto part = parts.rest.rbegin(); part != parts.rest.rend(); ++part)
            state->queue.push_front({*part, file});
        file->let_go = file->gone = false;  // nobody can open it again
        // What waits for it must not be sent now that it ends.
        DataEnded(state, parts.creation, file, made.error());
        state->opening = false;
        return CreationFailed(state, made.error());
    }
    state->opening = false;
    file->inner = std::move(made->file);
    std::optional<Error>& incomplete = made->incomplete;
    if (!incomplete && state->made) RememberStored(state->path, made->identity);
    if (!incomplete) Settle(state, parts.rest.back()->id, made->stat);
    DataEnded(state, parts.creation, file, Ok());
    // Something that was told to have been made: its bytes, if there were any. Its CLOSE is always there.
    const auto told = [](const ChangePtr& part) { return part->deferred; };
    const auto written = std::find_if(parts.rest.begin(), parts.rest.end(),
                                      [](const ChangePtr& part) { return part->bytes > 0; });
    const ChangePtr blamed = written != parts.rest.end()
                                 ? *written
                                 : *std::find_if(parts.rest.begin(), parts.rest.end(), told);
    for (const ChangePtr& part : parts.rest) {
        const Status status = incomplete && part == blamed ? Status(*incomplete) : Ok();
        if (part->ended) continue;
        if (part->as_part) {
            std::exchange(part->as_part, {})(status);
        } else {
            DataEnded(state, part, file, status);
        }
    }
    Pump(state);
}

// While nobody else is there, it stays what is at `path` until we change that.
void WriteBehind::RememberStored(const std::string& path,
                                 const std::optional<IdentityStat>& identity) {
    if (!identity || path.empty()) return;
    if (stored_.size() >= kMostStored) stored_.pop_front();
    stored_.emplace_back(path, *identity);
}

std::optional<IdentityStat> WriteBehind::Stored(const std::string& path) const {
    if (stored_.empty() || !files_->MayStore()) return std::nullopt;
    const auto it = std::find_if(stored_.begin(), stored_.end(),
                                 [&](const auto& one) { return one.first == path; });
    return it == stored_.end() ? std::nullopt : std::optional(it->second);
}

}  // namespace sbxfs
