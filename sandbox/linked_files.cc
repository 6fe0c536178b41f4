#include "sandbox/linked_files.h"

#include <errno.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/check.h"
#include "sandbox/clean_path.h"
#include "sandbox/linked_operation.h"

namespace sbxfs {
namespace {

// How late a deadline may be noticed. Only ticks while something waits.
constexpr Duration kTick = std::chrono::milliseconds(250);

Error TimedOut(bool sent_change) {
    return {
        Errno{ETIMEDOUT},
        sent_change
            ? "the sandbox did not answer in time; the change may or may not have been made: look "
              "before you repeat it"
            : "the sandbox did not answer in time; see its status and error files",
        Blame::kRemote};
}

Error Stale(const std::string& path) {
    return {
        Errno{ESTALE},
        path +
            ": the link was cut, and what is there now is not known to be the file that was open",
        Blame::kRemote};
}

}  // namespace

Error LinkedFiles::UnknownOutcome() {
    return {
        Errno{ETIMEDOUT},
        "the link to the sandbox was cut before it answered; the change may or may not have been "
        "made: look before you repeat it",
        Blame::kRemote};
}

Error LinkedFiles::NotInTime() {
    return TimedOut(false);
}

LinkedFiles::LinkedFiles(Loop& loop, Timeouts timeouts) : loop_(loop), timeouts_(timeouts) {}

LinkedFiles::~LinkedFiles() = default;

void LinkedFiles::ForAsker::Submit(std::unique_ptr<Operation> operation) {
    operation->wanted = wanted_;
    files_->Submit(std::move(operation));
}

void LinkedFiles::Patient::Submit(std::unique_ptr<Operation> operation) {
    operation->patient = true;
    files_->Submit(std::move(operation));
}

void LinkedFiles::Submit(std::unique_ptr<Operation> operation) {
    if (operation->patient) {
        operation->deadline = SteadyTime::max();
    } else {
        operation->deadline =
            loop_.clock().Steady() +
            (operation->kind == Kind::kNameChange ? timeouts_.name_change : timeouts_.operation);
    }
    loop_.Post([self = shared_from_this(), operation = std::move(operation)]() mutable {
        self->Accept(std::move(operation));
    });
}

void LinkedFiles::Accept(std::unique_ptr<Operation> operation) {
    const bool patient = operation->patient;
    if (down_ && (!patient || ended_)) return operation->Fail(*down_);
    const std::uint64_t id = next_++;
    operations_.emplace(id, std::move(operation));
    if (!patient) ArmDeadline();
    if (patient && (target_ == nullptr || !recovering_.empty())) {
        recovering_.insert(id);
        return;
    }
    if (target_ != nullptr) Start(id);
}

// The next patient operation that a cut has left open, when the one before it has ended.
void LinkedFiles::Recover() {
    while (target_ != nullptr && recovers_ == 0 && !recovering_.empty()) {
        const std::uint64_t id = *recovering_.begin();
        const auto it = operations_.find(id);
        if (it == operations_.end()) {
            recovering_.erase(recovering_.begin());
            continue;
        }
        if (it->second->sent) return;  // on the link that is gone, which is about to say so
        recovers_ = id;
        Start(id);
    }
}

void LinkedFiles::Start(std::uint64_t id) {
    Operation& operation = *operations_.at(id);
    // One that may have been made is still looked after, but never sent again.
    if (operation.Unwanted() && !operation.doubtful)
        return GiveUp(Take(id), Error(Errno{EINTR}, "interrupted"));
    if (operation.file != nullptr && operation.file->link != link_) {
        if (!IsMoving(id)) return Reach(operation.file, id);
        behind_moves_.push_back(id);
        return;
    }
    operation.sent = true;
    operation.sent_at = loop_.clock().Steady();
    if (operation.takes == Takes::kName) ++vacated_;
    if (operation.doubtful) return operation.Check(*this, id, *target_);
    const auto witness = witness_.lock();
    // A change of a name that nobody waits for was accepted while we were alone, and no command is started before it has
    // been acknowledged. After a cut nobody can tell for a while.
    const bool accepted_alone = operation.patient && operation.kind == Kind::kNameChange;
    const bool alone = accepted_alone || (witness != nullptr && witness->IsAlone());
    sending_ = operation.alone = alone ? Alone::kYes : Alone::kNo;
    operation.Run(*this, id, *target_);
}

// Nothing is under way that may take a name away, and nobody but us is there to do so.
bool LinkedFiles::MayWiden(const LinkedFile& file) const {
    const auto witness = witness_.lock();
    if (witness == nullptr || !witness->IsAlone() || unheard_on_ == link_) return false;
    if (!file.identity || file.how.append || !recovering_.empty()) return false;
    return std::none_of(operations_.begin(), operations_.end(), [](const auto& entry) {
        const Operation& other = *entry.second;
        return other.takes == Takes::kName && (other.sent || other.may_be_made);
    });
}

// Whether nobody knows yet at which path the file of this operation is: a rename may have been made before the cut. What
// is taken up before the rename itself does not wait for it.
bool LinkedFiles::IsMoving(std::uint64_t id) const {
    const Operation& operation = *operations_.at(id);
    return std::any_of(operations_.begin(), operations_.end(), [&](const auto& entry) {
        const auto& [number, move] = entry;
        if (operation.patient && move->patient && number > id) return false;
        return move->MayHaveMoved(operation.file->path);
    });
}

bool LinkedFiles::MayHaveMoved(const std::string& path) const {
    return std::any_of(operations_.begin(), operations_.end(),
                       [&](const auto& entry) { return entry.second->MayHaveMoved(path); });
}

void LinkedFiles::StartBehindMoves() {
    for (const std::uint64_t id : std::exchange(behind_moves_, {})) {
        if (target_ != nullptr && operations_.contains(id)) Start(id);
    }
}

// The link went away under an operation that had been sent.
void LinkedFiles::Lost(std::uint64_t id) {
    const auto it = operations_.find(id);
    if (it == operations_.end()) return;
    Operation& operation = *it->second;
    operation.sent = false;
    if (operation.kind != Kind::kQuestion) {
        operation.may_be_made = true;
        operation.doubtful = operation.CanCheck();
    }
    // What may have been made waits on: the next link tells, if it comes in time.
    const bool patient = operation.patient;
    if (down_ && (ended_ || !patient) && !operation.may_be_made) return Take(id)->Fail(*down_);
    if (!patient) {
        if (target_ != nullptr) Start(id);
        return;
    }
    recovering_.insert(id);
    if (recovers_ == id) recovers_ = 0;
    Recover();
}

// Ends an operation without an answer of the server.
void LinkedFiles::GiveUp(std::unique_ptr<Operation> operation, const Error& error) {
    const bool unknown =
        operation->kind != Kind::kQuestion && (operation->sent || operation->may_be_made);
    if (unknown) unheard_on_ = link_;
    if (const auto witness = witness_.lock(); unknown && witness != nullptr) {
        witness->OnUnknownOutcome();
    }
    operation->Fail(error);
}

// Its file cannot be told from another any more.
void LinkedFiles::FailStale(std::uint64_t id) {
    std::unique_ptr<Operation> operation = Take(id);
    const Error error = operation->may_be_made ? UnknownOutcome() : Stale(operation->file->path);
    GiveUp(std::move(operation), error);
}

std::unique_ptr<LinkedFiles::Operation> LinkedFiles::Take(std::uint64_t id) {
    const auto it = operations_.find(id);
    if (it == operations_.end()) return nullptr;
    std::unique_ptr<Operation> operation = std::move(it->second);
    operations_.erase(it);
    if (!operation->moves.empty() && !behind_moves_.empty()) {
        loop_.Post([weak = weak_from_this()] {
            if (const auto self = weak.lock()) self->StartBehindMoves();
        });
    }
    if (operation->patient && recovering_.erase(id) > 0) {
        if (recovers_ == id) recovers_ = 0;
        loop_.Post([weak = weak_from_this()] {
            if (const auto self = weak.lock()) self->Recover();
        });
    }
    return operation;
}

void LinkedFiles::Up(RemoteFiles& target) {
    DCHECK(loop_.OnThread());
    target_ = &target;
    ++link_;
    trip_ = Duration::max();
    births_.reset();
    down_.reset();
    std::vector<std::uint64_t> waiting;
    for (const auto& [id, operation] : operations_) {
        if (!operation->sent && !operation->patient) waiting.push_back(id);
    }
    for (const std::uint64_t id : waiting) {
        if (operations_.contains(id)) Start(id);
    }
    Recover();
}

void LinkedFiles::Cut() {
    DCHECK(loop_.OnThread());
    if (target_ == nullptr) return;
    target_ = nullptr;
    SetLane(nullptr);
    recovers_ = 0;
    behind_moves_.clear();
    for (const auto& [id, operation] : operations_) {
        if (operation->patient) recovering_.insert(id);
    }
    // Those that were sent hear of it from their session's end, each once: see Lost(). Those whose file
    // was being opened again hear of it here.
    DropReopens();
}

void LinkedFiles::Down(const Error& why) {
    Cut();
    down_ = why;
    FailWaiting(why);
}

void LinkedFiles::End(const Error& why) {
    ended_ = true;
    Down(why);
    recovering_.clear();
    std::vector<std::unique_ptr<Operation>> left;
    for (auto it = operations_.begin(); it != operations_.end();) {
        if (!it->second->may_be_made && !(it->second->patient && !it->second->sent)) {
            ++it;
            continue;
        }
        left.push_back(std::move(it->second));
        it = operations_.erase(it);
    }
    for (const auto& operation : left)
        operation->Fail(operation->may_be_made ? UnknownOutcome() : why);
}

void LinkedFiles::Reopen() {
    DCHECK(loop_.OnThread());
    ended_ = false;
    down_.reset();
}

void LinkedFiles::FailWaiting(const Error& why) {
    std::vector<std::unique_ptr<Operation>> failed;
    for (auto it = operations_.begin(); it != operations_.end();) {
        if (it->second->sent || it->second->may_be_made || it->second->patient) {
            ++it;
            continue;
        }
        failed.push_back(std::move(it->second));
        it = operations_.erase(it);
    }
    for (const auto& operation : failed)
        operation->Fail(why);
}

void LinkedFiles::ArmDeadline() {
    if (std::exchange(deadline_armed_, true)) return;
    RunLater(loop_, kTick, [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->CheckDeadlines();
    });
}

void LinkedFiles::CheckDeadlines() {
    deadline_armed_ = false;
    const SteadyTime now = loop_.clock().Steady();
    std::vector<std::unique_ptr<Operation>> late;
    for (auto it = operations_.begin(); it != operations_.end();) {
        if (it->second->deadline > now) {
            ++it;
            continue;
        }
        late.push_back(std::move(it->second));
        it = operations_.erase(it);
    }
    for (auto& operation : late) {
        const bool change = operation->kind != Kind::kQuestion;
        const Error error = TimedOut(change && (operation->sent || operation->may_be_made));
        GiveUp(std::move(operation), error);
    }
    StartBehindMoves();
    const bool more = std::any_of(operations_.begin(), operations_.end(),
                                  [](const auto& entry) { return !entry.second->patient; });
    if (more) ArmDeadline();
}

}  // namespace sbxfs
