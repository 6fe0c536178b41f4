#include "sandbox/write_behind.h"

#include <errno.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "sandbox/clean_path.h"
#include "sandbox/write_behind_state.h"

namespace sbxfs {
namespace {

// How late it may be noticed that somebody has waited too long.
constexpr Duration kTick = std::chrono::milliseconds(250);
// Files that are remembered to lack something.
constexpr std::size_t kMostDamaged = 4096;

Error TooLate(const std::string& first) {
    return {Errno{ETIMEDOUT},
            "the sandbox did not acknowledge earlier changes in time, the first of them: " + first +
                ". They are still on their way; see its status and error files",
            Blame::kRemote};
}

}  // namespace

WriteBehind::WriteBehind(Loop& loop, std::shared_ptr<LinkedFiles> files, Limits limits)
    : loop_(loop),
      files_(std::move(files)),
      patient_(std::make_shared<LinkedFiles::Patient>(files_)),
      limits_(limits) {}

WriteBehind::~WriteBehind() {
    // They hold one another.
    for (auto& [id, change] : pending_) {
        change->after_sent.clear();
        change->after_ended.clear();
        change->send = {};
        change->fail = {};
        change->as_part = {};
        if (const StatePtr state = change->state.lock()) {
            state->queue.clear();
            state->gathers.reset();
            state->tail_file.reset();
        }
    }
}

std::optional<std::string> WriteBehind::FirstUnacknowledged() const {
    const MutexLock lock(mu_);
    if (unacknowledged_.empty()) return std::nullopt;
    return unacknowledged_.begin()->second;
}

void WriteBehind::Acknowledge() {
    loop_.Post([weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->lost_.reset();
    });
}

void WriteBehind::SetMode(Mode mode) {
    DCHECK(loop_.OnThread());
    mode_ = mode;
    dirs_.Clear();
    ++trusts_;
    view_.reset();
    view_asked_ = false;
    if (std::exchange(looked_, false)) expects_changes_ = changed_;
    changed_ = false;
    volumes_.clear();
    made_.clear();
    stored_.clear();
    for (const auto& [path, state] : states_)
        state->made = state->let_go = false;
}

void WriteBehind::ForgetShown() {
    DCHECK(loop_.OnThread());
    times_.Clear();
    for (const auto& [path, state] : states_) {
        state->let_go = false;
        if (state->IsClean()) state->told = false;
    }
}

bool WriteBehind::IsClean() const {
    const MutexLock lock(mu_);
    return unacknowledged_.empty();
}

// Whether a change of a name may be told before it is made.
bool WriteBehind::MayDefer() const {
    return mode_ == Mode::kQuiet && !lost_ && files_->IsUp() && pending_.size() < limits_.changes;
}

// What makes or writes something waits until somebody has heard of what was lost.
std::optional<Error> WriteBehind::Refusal(const Through_& to, Kind kind) const {
    if (!to->IsWanted()) return Error(Errno{EINTR}, "interrupted");
    if (kind == Kind::kMakes) return Unheard();
    return std::nullopt;
}

std::optional<Error> WriteBehind::Unheard() const {
    if (!lost_) return std::nullopt;
    return Error(
        Errno{EIO},
        "an earlier change was lost: " + lost_->what() + ". Read the sandbox's error file to go on",
        Blame::kRemote);
}

bool WriteBehind::IsSettled(std::string_view path) const {
    const std::vector<ChangePtr> changes = Conflicts(path, Reach::kPath);
    // What is written to a file moves no name.
    return std::all_of(changes.begin(), changes.end(), [](const ChangePtr& change) {
        return change->deferred || !change->state.expired();
    });
}

// --- Order

WriteBehind::ChangePtr WriteBehind::New(What what, bool deferred) {
    auto change = std::make_shared<Change>();
    change->id = next_++;
    change->what = std::move(what);
    change->deferred = deferred;
    return change;
}

void WriteBehind::Enter(const ChangePtr& change) {
    pending_.emplace(change->id, change);
    if (change->data) data_.insert(change->id);
    for (const std::string& path : {change->what.path, change->what.other}) {
        if (!path.empty()) by_path_[path].push_back(change);
    }
    if (!change->deferred) return;
    const MutexLock lock(mu_);
    unacknowledged_.emplace(change->id, change->what.text);
    dirty_changes_.Add(1);
}

void WriteBehind::DependOn(const ChangePtr& change, const ChangePtr& earlier, After when) {
    MakeAtOnce(*earlier);
    if (earlier->ended || (when == After::kSent && earlier->sent)) return;
    (when == After::kSent ? earlier->after_sent : earlier->after_ended).push_back(change);
    ++change->waits;
}

// Changes that make, move or remove `path` or a directory above it, or write to it; with kTree also those below.
std::vector<WriteBehind::ChangePtr> WriteBehind::Conflicts(std::string_view path,
                                                           Reach reach) const {
    std::vector<ChangePtr> found;
    if (by_path_.empty() || path.empty()) return found;
    for (std::string_view at = path;; at = ParentOf(at)) {
        const auto it = by_path_.find(at);
        if (it != by_path_.end()) found.insert(found.end(), it->second.begin(), it->second.end());
        if (at == "/") break;
    }
    if (reach == Reach::kPath) return found;
    const std::string below = path == "/" ? "/" : std::string(path) + "/";
    for (auto it = by_path_.lower_bound(below);
         it != by_path_.end() && it->first.starts_with(below); ++it) {
        if (it->first != path) found.insert(found.end(), it->second.begin(), it->second.end());
    }
    return found;
}

void WriteBehind::DependOnConflicts(const ChangePtr& change, Reach reach) {
    for (const std::string& path : {change->what.path, change->what.other}) {
        for (const ChangePtr& earlier : Conflicts(path, reach)) {
            if (earlier->id >= change->id) continue;
            // Two whose callers wait may come in either order.
            if (!change->deferred && !earlier->deferred) continue;
            // Which way it goes is decided now.
            MakeAtOnce(*earlier);
            // The server works its channel off in order, and so does the supervisor. Data of a file goes its own way: removals wait
            // for all of it anyway, and what is deferred needs no more.
            // Where a directory is shut that is not enough: some take a second request, and all are
            // repeated after a cut (Behind.ADirectoryIsShutWhenWhatWasDoneBelowItHasArrived).
            const bool in_order = change->deferred && earlier->deferred && !change->what.shuts &&
                                  change->apart == earlier->apart;
            if (in_order && earlier->data && earlier->sent) continue;
            // After a cut a look at the name tells what became of the one only while nothing else has used it.
            const bool same_name = earlier->what.path == path || earlier->what.other == path;
            const bool moves = change->what.vacates || earlier->what.vacates;
            // A new file in the place of a removed one: removed once more, it is made once more, and nothing is written to it
            // before. In the place of a renamed one: it is empty, and that was not (CheckRename).
            const bool left = earlier->what.other.empty() ||
                              (earlier->what.path == path && earlier->what.carries > 0);
            const bool instead =
                change->data && change->what.named && earlier->what.removes && left;
            const bool told_apart = !same_name || !moves || instead;
            DependOn(change, earlier, in_order && told_apart ? After::kSent : After::kEnded);
        }
    }
}

// Contract 5: what removes or replaces data is not sent before what may take its place has been acknowledged.
void WriteBehind::Hold(const ChangePtr& change) {
    if (data_.empty()) return;
    UngatherUntil(SteadyTime::max());
    ++change->waits;
    held_.push_back(change);
}

void WriteBehind::Release(const ChangePtr& change) {
    if (change->ended || --change->waits != 0) return;
    if (const StatePtr state = change->state.lock()) return Pump(state);
    ready_.push_back(change);
}

void WriteBehind::Run() {
    if (running_) return;
    running_ = true;
    while (!ready_.empty()) {
        const ChangePtr change = std::move(ready_.front());
        ready_.pop_front();
        Send(change);
    }
    running_ = false;
}

void WriteBehind::Send(const ChangePtr& change) {
    if (change->ended || std::exchange(change->sent, true)) return;
    const auto send = std::move(change->send);
    send();
    for (const ChangePtr& next : std::exchange(change->after_sent, {}))
        Release(next);
}

void WriteBehind::Ended(const ChangePtr& change, const Status& status) {
    if (std::exchange(change->ended, true)) return;
    change->sent = true;
    pending_.erase(change->id);
    data_.erase(change->id);
    for (const std::string& path : {change->what.path, change->what.other}) {
        const auto it = by_path_.find(path);
        if (it == by_path_.end()) continue;
        std::erase(it->second, change);
        if (it->second.empty()) by_path_.erase(it);
    }
    if (change->deferred) {
        const MutexLock lock(mu_);
        unacknowledged_.erase(change->id);
        dirty_changes_.Add(-1);
    }
    if (!status && change->deferred) Lost(*change, status.error());
    for (auto* followers : {&change->after_sent, &change->after_ended}) {
        for (const ChangePtr& next : std::exchange(*followers, {}))
            Release(next);
    }
    while (!held_.empty() && (data_.empty() || *data_.begin() > held_.front()->id)) {
        const ChangePtr next = std::move(held_.front());
        held_.pop_front();
        Release(next);
    }
    change->send = {};
    change->fail = {};
    change->as_part = {};
    CheckWaiters();
    Run();
}

// A change of its own: removals behind it would take away what it was to replace.
void WriteBehind::Lost(const Change& change, const Error& why) {
    const Error error = Error(why.code(), why.what(), why.blame()).While(change.what.text);
    Log(LogLevel::kWarning, "a change was lost", {{"change", change.what.text}, {"why", why}});
    if (!lost_) lost_ = error;
    newest_ = error;
    ++losses_;
    sandbox_metrics.lost_changes.Add();
    if (change.data && !change.what.path.empty() && damaged_.size() < kMostDamaged)
        damaged_.insert(change.what.path);
    dirs_.Clear();
    ++trusts_;
    view_.reset();
    view_asked_ = false;
    if (std::exchange(looked_, false)) expects_changes_ = changed_;
    changed_ = false;
    volumes_.clear();
    made_.clear();
    stored_.clear();
    if (owner_ != nullptr) owner_->OnLost(change.what.path, error);
    FailHeld(error);
}

// Also what waits for another change of the same names: it would move or remove the wrong file.
void WriteBehind::FailHeld(const Error& why) {
    std::vector<ChangePtr> doomed;
    for (const auto& [id, change] : pending_) {
        if (change->deferred && change->what.removes && !change->sent) doomed.push_back(change);
    }
    for (const ChangePtr& change : doomed)
        change->sent = true;  // each is told of once
    std::erase_if(held_, [](const ChangePtr& change) { return change->deferred; });
    for (const ChangePtr& change : doomed) {
        Ended(change,
              Error(Errno{EIO}, "not sent, since something before it was lost: " + why.what(),
                    Blame::kRemote));
    }
}

// Sends `change` behind what it builds on; `done` of `send` has the sandbox's answer.
void WriteBehind::Defer(What what, bool apart, UniqueFunction<void(Done)> send) {
    const ChangePtr change = New(std::move(what), true);
    change->apart = apart;
    change->send = [this, change, send = std::move(send)] {
        send([weak = weak_from_this(), change](const Status& status) {
            if (const auto self = weak.lock()) self->Ended(change, status);
        });
    };
    DependOnConflicts(change, change->what.reach);
    if (change->what.removes) Hold(change);
    Enter(change);
    if (change->waits == 0) ready_.push_back(change);
    Run();
}

// --- Waiting

void WriteBehind::Drain(std::optional<Duration> bound, Done done) {
    DCHECK(loop_.OnThread());
    if (IsClean()) return done(Ok());
    UngatherUntil(SteadyTime::max());
    const SteadyTime deadline = bound ? loop_.clock().Steady() + *bound : SteadyTime::max();
    waiters_.push_back({next_ - 1, losses_, deadline, std::move(done)});
    if (bound) ArmDeadline();
}

void WriteBehind::CheckWaiters() {
    if (waiters_.empty()) return;
    std::uint64_t first = next_;
    {
        const MutexLock lock(mu_);
        if (!unacknowledged_.empty()) first = unacknowledged_.begin()->first;
    }
    std::vector<std::pair<Done, bool>> over;
    std::erase_if(waiters_, [&](Waiter& waiter) {
        if (waiter.last >= first) return false;
        over.emplace_back(std::move(waiter.done), waiter.losses == losses_);
        return true;
    });
    for (const auto& [done, all] : over)
        done(all ? Ok() : Status(*newest_));
}

void WriteBehind::ArmDeadline() {
    if (std::exchange(deadline_armed_, true)) return;
    RunLater(loop_, kTick, [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->CheckDeadlines();
    });
}

void WriteBehind::CheckDeadlines() {
    deadline_armed_ = false;
    const SteadyTime now = loop_.clock().Steady();
    std::vector<ChangePtr> late;
    bool more = false;
    for (const auto& [id, change] : pending_) {
        if (change->deferred || change->sent || change->deadline == SteadyTime::max()) continue;
        if (change->deadline > now) {
            more = true;
        } else {
            late.push_back(change);
        }
    }
    const std::string first = FirstUnacknowledged().value_or("none");
    for (const ChangePtr& change : late) {
        std::erase(held_, change);
        const StatePtr state = change->state.lock();
        if (state != nullptr) Discount(*state, *change);
        const auto fail = std::move(change->fail);
        Ended(change, Error(Errno{ETIMEDOUT}, ""));
        if (fail) fail(TooLate(first));
        // What was given behind it does not wait for it any more (Behind.AWriteThatWasGivenUpDuringACutHoldsNothingUp).
        if (state != nullptr) Pump(state);
    }
    std::vector<Done> over;
    std::erase_if(waiters_, [&](Waiter& waiter) {
        more = more || waiter.deadline != SteadyTime::max();
        if (waiter.deadline > now) return false;
        over.push_back(std::move(waiter.done));
        return true;
    });
    std::erase_if(room_, [&](RoomWaiter& waiter) {
        more = true;
        if (waiter.deadline > now) return false;
        over.push_back(std::move(waiter.go));
        return true;
    });
    for (const Done& done : over)
        done(TooLate(first));
    if (more) ArmDeadline();
}

// --- ForAsker

WriteBehind::ForAsker::ForAsker(std::shared_ptr<WriteBehind> owner,
                                const std::function<bool()>& wanted)
    : owner_(std::move(owner)),
      to_(std::make_shared<LinkedFiles::ForAsker>(owner_->files_, wanted)) {}

template <class F>
void WriteBehind::ForAsker::OnLoop(F job) {
    owner_->loop_.Post(
        [owner = owner_, to = to_, job = std::move(job)]() mutable { job(*owner, to); });
}

void WriteBehind::ForAsker::Lstat(const std::string& path, StatDone done) {
    OnLoop([path, done = std::move(done)](WriteBehind& owner, const Through_& to) mutable {
        owner.Lstat(to, path, std::move(done));
    });
}

void WriteBehind::ForAsker::List(const std::string& path, EntriesDone done) {
    OnLoop([path, done = std::move(done)](WriteBehind& owner, const Through_& to) mutable {
        owner.List(to, path, std::move(done));
    });
}

void WriteBehind::ForAsker::ReadLink(const std::string& path, TextDone done) {
    OnLoop([path, done = std::move(done)](WriteBehind& owner, const Through_& to) mutable {
        owner.ReadLink(to, path, std::move(done));
    });
}

void WriteBehind::ForAsker::Statfs(const std::string& path, StatfsDone done) {
    to_->Statfs(path, std::move(done));
}

void WriteBehind::ForAsker::SetStat(const std::string& path, const StatChange& change,
                                    Before before, StatDone done) {
    OnLoop([path, change, before = std::move(before), done = std::move(done)](
               WriteBehind& owner, const Through_& to) mutable {
        owner.SetStat(to, path, change, before, std::move(done));
    });
}

void WriteBehind::ForAsker::MakeDir(const std::string& path, std::uint32_t mode, Before before,
                                    StatDone done) {
    OnLoop([path, mode, before = std::move(before), done = std::move(done)](
               WriteBehind& owner, const Through_& to) mutable {
        owner.MakeDir(to, path, mode, before, std::move(done));
    });
}

void WriteBehind::ForAsker::RemoveDir(const std::string& path, Before before, Done done) {
    OnLoop([path, before = std::move(before), done = std::move(done)](WriteBehind& owner,
                                                                      const Through_& to) mutable {
        owner.RemoveDir(to, path, before, std::move(done));
    });
}

void WriteBehind::ForAsker::Unlink(const std::string& path, Before before, Done done) {
    OnLoop([path, before = std::move(before), done = std::move(done)](WriteBehind& owner,
                                                                      const Through_& to) mutable {
        owner.Unlink(to, path, before, std::move(done));
    });
}

void WriteBehind::ForAsker::Symlink(const std::string& target, const std::string& path,
                                    Before before, StatDone done) {
    OnLoop([target, path, before = std::move(before), done = std::move(done)](
               WriteBehind& owner, const Through_& to) mutable {
        owner.Symlink(to, target, path, before, std::move(done));
    });
}

void WriteBehind::ForAsker::Link(const std::string& from, const std::string& path, StatDone done) {
    OnLoop([from, path, done = std::move(done)](WriteBehind& owner, const Through_& to) mutable {
        owner.Link(to, from, path, std::move(done));
    });
}

void WriteBehind::ForAsker::Rename(const std::string& from, const std::string& path,
                                   RemoteFiles::Replace replace, Before before_from,
                                   Before before_to, Done done) {
    OnLoop([from, path, replace, before_from = std::move(before_from),
            before_to = std::move(before_to),
            done = std::move(done)](WriteBehind& owner, const Through_& to) mutable {
        owner.Rename(to, from, path, replace, before_from, before_to, std::move(done));
    });
}

void WriteBehind::ForAsker::Open(const std::string& path, const OpenHow& how, Before before,
                                 OpenDone done) {
    OnLoop([path, how, before = std::move(before), done = std::move(done)](
               WriteBehind& owner, const Through_& to) mutable {
        owner.Open(to, path, how, before, std::move(done));
    });
}

void WriteBehind::ForAsker::Read(const RemoteFilePtr& file, FileRange range, BytesDone done) {
    OnLoop([file, range, done = std::move(done)](WriteBehind& owner, const Through_& to) mutable {
        owner.Read(to, std::static_pointer_cast<BehindFile>(file), range, std::move(done));
    });
}

void WriteBehind::ForAsker::Write(const RemoteFilePtr& file, std::uint64_t offset, FileBytes bytes,
                                  Done done) {
    OnLoop([file, offset, bytes = std::move(bytes), done = std::move(done)](
               WriteBehind& owner, const Through_& to) mutable {
        owner.Write(to, std::static_pointer_cast<BehindFile>(file), offset, std::move(bytes),
                    std::move(done));
    });
}

void WriteBehind::ForAsker::FileStat(const RemoteFilePtr& file, StatDone done) {
    OnLoop([file, done = std::move(done)](WriteBehind& owner, const Through_& to) mutable {
        owner.FileStat(to, std::static_pointer_cast<BehindFile>(file), std::move(done));
    });
}

void WriteBehind::ForAsker::SetFileStat(const RemoteFilePtr& file, const StatChange& change,
                                        StatDone done) {
    OnLoop([file, change, done = std::move(done)](WriteBehind& owner, const Through_& to) mutable {
        owner.SetFileStat(to, std::static_pointer_cast<BehindFile>(file), change, std::move(done));
    });
}

void WriteBehind::ForAsker::Copy(const RemoteFilePtr& from, FileRange range,
                                 const RemoteFilePtr& target, std::uint64_t offset,
                                 CopiedDone done) {
    OnLoop([from, range, target, offset, done = std::move(done)](WriteBehind& owner,
                                                                 const Through_& to) mutable {
        owner.Copy(to, std::static_pointer_cast<BehindFile>(from), range,
                   std::static_pointer_cast<BehindFile>(target), offset, std::move(done));
    });
}

void WriteBehind::ForAsker::Sync(const RemoteFilePtr& file, Done done) {
    OnLoop([file, done = std::move(done)](WriteBehind& owner, const Through_& to) mutable {
        owner.Sync(to, std::static_pointer_cast<BehindFile>(file), std::move(done));
    });
}

void WriteBehind::ForAsker::Flush(const RemoteFilePtr& file, Done done) {
    OnLoop([file, done = std::move(done)](WriteBehind& owner, const Through_&) mutable {
        owner.Flush(std::static_pointer_cast<BehindFile>(file), std::move(done));
    });
}

void WriteBehind::ForAsker::Close(const RemoteFilePtr& file) {
    OnLoop([file](WriteBehind& owner, const Through_&) {
        owner.Close(std::static_pointer_cast<BehindFile>(file));
    });
}

void WriteBehind::ForAsker::Drain(Done done) {
    OnLoop([done = std::move(done)](WriteBehind& owner, const Through_&) mutable {
        // Also with an error to tell: what is still on its way may be lost, too.
        owner.Drain(owner.limits_.wait,
                    [unheard = owner.Unheard(), done = std::move(done)](const Status& status) {
                        done(unheard ? Status(*unheard) : status);
                    });
    });
}

}  // namespace sbxfs
