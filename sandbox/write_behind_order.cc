// WriteBehind: what is done to one file is sent in the order it was given, whichever handle it came through; writes of a large
// one by two ways (docs/WRITE_BEHIND.md, "Two ways").
#include <errno.h>

#include <algorithm>
#include <utility>

#include "sandbox/write_behind_state.h"

namespace sbxfs {
namespace {

// Less has no way of its own, and this much goes the first way before anything takes the second.
constexpr std::uint64_t kLeastAside = 64U << 10;

// Its maker was told that the file is there: that another was is a lost write to who goes on with it (contract 10).
Error AsLoss(const Error& why) {
    if (why.code() != Errno{EEXIST}) return why;
    return {Errno{EIO}, why.what(), why.blame()};
}

}  // namespace

void WriteBehind::Queue(const StatePtr& state, const ChangePtr& change, const FilePtr& file) {
    change->data = change->deferred;
    change->what.path = state->path;
    change->state = state;
    // One whose caller waits is nobody else's to wait for.
    if (change->deferred) state->under_way.insert(change->id);
    state->queue.push_back({change, file});
    state->EndTail();
    // By its name: behind what makes that name the file's.
    if (file == nullptr) DependOnConflicts(change, Reach::kPath);
    Enter(change);
    Pump(state);
}

void WriteBehind::Pump(const StatePtr& state) {
    while (!state->queue.empty() && !state->opening) {
        const FileState::Queued next = state->queue.front();
        if (next.change->apart) return PumpWhole(state);
        if (!next.change->ended) {
            if (next.change->waits > 0) return;
            if (!MayFollow(*state, *next.change, next.file)) {
                state->fenced = true;
                return;
            }
            const bool aside = MayGoAside(*state, *next.change, next.file);
            const std::uint64_t before = aside ? aside_ : in_flight_ - aside_;
            if (next.change->bytes > 0 && !window_.HasRoom(before)) {
                if (std::find(stalled_.begin(), stalled_.end(), state) == stalled_.end())
                    stalled_.push_back(state);
                return;
            }
            next.change->sent_at = loop_.clock().Steady();
            in_flight_ += next.change->bytes;
            if (aside) {
                next.change->aside = true;
                aside_ += next.change->bytes;
                ++state->asides;
            }
            if (!next.change->plain) ++state->fences;
            state->flying.emplace(next.change->id, next.change);
        }
        state->queue.pop_front();
        if (state->queue.empty()) {
            state->EndTail();
        }
        Send(next.change);
    }
}

bool WriteBehind::Overlaps(const FileState& state, const Change& change, bool asides_only) {
    return std::any_of(state.flying.begin(), state.flying.end(), [&](const auto& entry) {
        const Change& other = *entry.second;
        if (!other.plain || (asides_only && !other.aside)) return false;
        return change.offset < other.offset + other.bytes &&
               other.offset < change.offset + change.bytes;
    });
}

// Two channels have no order: what went by the second way has been acknowledged before anything that touches the same
// bytes, or the file as a whole, is sent.
bool WriteBehind::MayFollow(const FileState& state, const Change& change,
                            const FilePtr& file) const {
    if (state.asides == 0) return true;
    // Through a handle that has no second way only one server would be asked.
    if (change.syncs) return file->inner != nullptr && files_->IsWide(file->inner);
    return change.plain && !Overlaps(state, change, true);
}

bool WriteBehind::MayGoAside(const FileState& state, const Change& change, const FilePtr& file) {
    if (mode_ != Mode::kQuiet || !change.deferred || !change.plain) return false;
    if (state.path.empty() || !IsSettled(state.path)) return false;
    if (state.fences != 0 || file == nullptr || file->inner == nullptr) return false;
    if (change.bytes < kLeastAside || aside_ + kLeastAside > in_flight_ - aside_) return false;
    if (files_->IsWide(file->inner)) return !Overlaps(state, change, false);
    if (state.unacknowledged > kWide) files_->MakeWide(file->inner);
    return false;
}

// Has ended: its bytes are on their way no more.
void WriteBehind::Discount(FileState& state, const Change& change) {
    state.under_way.erase(change.id);
    state.unacknowledged -= change.bytes;
    if (change.sent) in_flight_ -= change.bytes;
    if (change.aside) {
        aside_ -= change.bytes;
        --state.asides;
    }
    if (state.flying.erase(change.id) > 0 && !change.plain) --state.fences;
    if (change.deferred) SetDirty(dirty_ - change.bytes);
}

void WriteBehind::DataEnded(const StatePtr& state, const ChangePtr& change, const FilePtr& file,
                            const Status& status) {
    Discount(*state, *change);
    if (!status) state->sure = false;
    if (!status && file != nullptr && !file->error && change->deferred)
        file->error = AsLoss(status.error()).While(change->what.text);
    Ended(change, status);
    if (change->bytes > 0) {
        if (status) Measure(*change);
        PumpStalled();
        LetRoom();
    }
    if (std::exchange(state->fenced, false)) Pump(state);
    DropIfIdle(state);
}

void WriteBehind::PumpStalled() {
    for (std::size_t turns = stalled_.size(); turns > 0 && !stalled_.empty(); --turns) {
        const StatePtr next = std::move(stalled_.front());
        stalled_.pop_front();
        Pump(next);
    }
}

// Nothing can be sent to a file that is not there. Its creation has been reported; with it goes what follows.
void WriteBehind::CreationFailed(const StatePtr& state, const Error& why) {
    state->error = AsLoss(why);
    // All of it at once: what waits for one of these must not be sent when that one ends.
    for (const FileState::Queued& next : std::exchange(state->queue, {})) {
        const ChangePtr& change = next.change;
        if (!change->ended) Discount(*state, *change);
        const auto fail = std::move(change->fail);
        Ended(change, Ok());
        if (fail) fail(*state->error);
    }
    state->EndTail();
    // Some of it may have been on its way, as parts of a whole.
    PumpStalled();
    LetRoom();
    DropIfIdle(state);
}

// The file is being removed, and nobody has it open: what has not left need not travel. Its CLOSE does.
void WriteBehind::DropUnsent(const StatePtr& state) {
    if (state->open != 0 || !state->made) return;
    std::deque<FileState::Queued> kept;
    for (const FileState::Queued& next : std::exchange(state->queue, {})) {
        if (next.change->bytes == 0 || !next.change->deferred) {
            kept.push_back(next);
            continue;
        }
        Discount(*state, *next.change);
        Ended(next.change, Ok());
    }
    state->queue = std::move(kept);
    state->EndTail();
    LetRoom();
}

void WriteBehind::DependOnUnderWay(const ChangePtr& change, const FileState& state) {
    for (const std::uint64_t id : state.under_way) {
        const auto it = pending_.find(id);
        if (it != pending_.end()) DependOn(change, it->second, After::kEnded);
    }
}

void WriteBehind::WhenClean(const StatePtr& state, Done done) {
    if (state->IsClean()) return done(Ok());
    const ChangePtr question =
        New({.text = "look at " + state->path, .path = {}, .other = {}, .named = false}, false);
    const auto answer = std::make_shared<Done>(std::move(done));
    question->send = [weak = weak_from_this(), question, answer] {
        if (const auto self = weak.lock()) self->Ended(question, Ok());
        (*answer)(Ok());
    };
    question->fail = [answer](const Error& why) { (*answer)(why); };
    DependOnUnderWay(question, *state);
    pending_.emplace(question->id, question);
    question->deadline = loop_.clock().Steady() + limits_.wait;
    ArmDeadline();
}

// What the sandbox says of a file that was written, when nothing has been written to it since.
void WriteBehind::Settle(const StatePtr& state, std::uint64_t change, const RemoteStat& real) {
    if (!state->IsLast(change)) return;
    const bool as_told = real.size == state->stat.size && real.mode == state->stat.mode;
    const std::int64_t shown = state->told ? state->stat.mtime : real.mtime;
    if (!state->path.empty()) times_.Bind(state->path, real.mtime, shown);
    state->told = state->guessed = false;
    Seen(real.mtime);
    state->stat = real;
    state->stat.mtime = shown;
    state->seen = loop_.clock().Steady();
    state->sure = true;
    if (!as_told && !state->path.empty()) owner_->OnSettled(state->path);
}

}  // namespace sbxfs
