#include "sandbox/supervisor/late_signals.h"

#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {
namespace {

// From fork to exec is less than a millisecond, but a busy machine may put a scheduler's turn or more between them.
constexpr int64_t kLateMs = 1000;
// Whoever dies of a signal does so sooner. Who ends later had another reason.
constexpr int64_t kDyingMs = 100;
constexpr int64_t kFirstStepMs = 2;
constexpr int64_t kMostStepMs = 64;
// A storm of forks is not followed; SIGKILL ends it.
constexpr size_t kMost = 256;

bool IsAlive(const ProcessId& id, Process* process) {
    return ReadProcess(id.pid, process) && process->start == id.start && process->IsLiving();
}

}  // namespace

void LateSignals::SelectMissed(const Vec<Process>& before, const Vec<ProcessId>& members,
                               const Vec<Process>& after, const Vec<ProcessId>& members_after,
                               int self, Vec<Missed>* missed) {
    for (const ProcessId& id : members) {
        const Process* process = FindProcess(before, id.pid);
        if (process != nullptr && process->IsCopy()) missed->Add({id, {}});
    }
    for (const ProcessId& id : members_after) {
        if (Contains(members, id)) continue;
        const Process* process = FindProcess(after, id.pid);
        if (process == nullptr) continue;
        if (process->parent == self || process->parent <= 1) {
            missed->Add({id, {self, 0}});  // an orphan already
            continue;
        }
        for (const ProcessId& parent : members) {
            if (parent.pid == process->parent) missed->Add({id, parent});
        }
    }
}

void LateSignals::Add(int signal, int64_t now_ms, Vec<Missed> missed) {
    // Nobody can take a SIGSTOP, and one after a later SIGCONT would be the last word.
    if (signal >= sys::kCont && signal <= sys::kTtou) return;
    for (const Missed& who : missed) {
        const int64_t life = who.parent.pid == 0 ? kLateMs : kDyingMs;
        if (all_.size() < kMost) all_.Add({signal, now_ms + life, who});
    }
    if (all_.empty()) return;
    step_ms_ = kFirstStepMs;
    next_ms_ = now_ms;
}

bool LateSignals::Look(Late& late) {
    Process process;
    if (!IsAlive(late.who.id, &process)) return true;
    if (late.who.parent.pid == 0) {
        if (process.IsCopy()) return false;
        sys::Kill(late.who.id.pid, late.signal);
        return true;
    }
    Process parent;
    if (IsAlive(late.who.parent, &parent)) return false;
    sys::Kill(late.who.id.pid, late.signal);
    late.who.parent = {};
    return !process.IsCopy();
}

void LateSignals::Tick(int64_t now_ms) {
    if (now_ms < next_ms_) return;
    for (size_t i = 0; i < all_.size();) {
        if (Look(all_[i]) || now_ms >= all_[i].until_ms) {
            all_.Remove(i);
        } else {
            ++i;
        }
    }
    next_ms_ = all_.empty() ? kNever : now_ms + step_ms_;
    step_ms_ = step_ms_ * 2 < kMostStepMs ? step_ms_ * 2 : kMostStepMs;
}

}  // namespace sbxfs::supervisor
