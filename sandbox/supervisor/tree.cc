#include "sandbox/supervisor/tree.h"

#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {
namespace {

bool OrphanBelongs(const Process& orphan, const Tree& tree, MarkReader read_mark) {
    if (orphan.start < tree.since) return false;
    Str mark;
    if (read_mark(orphan.pid, &mark)) return mark.view() == tree.mark.view();
    // A subshell that never called exec shows the environment its shell was started with, which has
    // no mark.
    return orphan.session == tree.session && tree.session != 0;
}

bool Belongs(const Process& process, const Vec<Process>& all, const Tree& tree, int self,
             MarkReader read_mark) {
    const Process* at = &process;
    // Parents form no cycle, but the table is not one instant: the depth is bounded.
    for (size_t depth = 0; depth < all.size(); ++depth) {
        if (at->pid == tree.root.pid && at->start == tree.root.start) return true;
        if (at->pid == self || Contains(tree.before, {at->pid, at->start})) return false;
        // After a supervisor's death orphans may hang below any subreaper, so each step is looked
        // at.
        if (tree.root.pid == 0 && OrphanBelongs(*at, tree, read_mark)) return true;
        if (at->parent == self || at->parent <= 1) return OrphanBelongs(*at, tree, read_mark);
        const Process* parent = FindProcess(all, at->parent);
        if (parent == nullptr) return OrphanBelongs(*at, tree, read_mark);  // it just died
        at = parent;
    }
    return false;
}

}  // namespace

void SelectTree(const Vec<Process>& all, const Tree& tree, int self, WithRoot with_root,
                MarkReader read_mark, Vec<ProcessId>* members) {
    members->clear();
    for (const Process& process : all) {
        if (!process.IsLiving() || process.pid == 1 || process.pid == self) continue;
        const bool is_root = process.pid == tree.root.pid && process.start == tree.root.start;
        if (is_root ? with_root == WithRoot::kYes : Belongs(process, all, tree, self, read_mark)) {
            members->Add({process.pid, process.start});
        }
    }
}

Scan::Scan(const Tree& tree, int self, WithRoot with_root) {
    ListProcesses(&all);
    SelectTree(all, tree, self, with_root, &ReadMark, &members);
}

void SignalAll(const Vec<ProcessId>& members, int signal) {
    for (const ProcessId& member : members)
        sys::Kill(member.pid, signal);
    // A stopped process takes a TERM only when it runs again.
    if (signal == sys::kTerm || signal == sys::kHup) {
        for (const ProcessId& member : members)
            sys::Kill(member.pid, sys::kCont);
    }
}

size_t KillTree(const Tree& tree, int self, WithRoot with_root, int budget_ms) {
    const int64_t end = sys::MonotonicMs() + budget_ms;
    Vec<Process> all;
    Vec<ProcessId> members;
    Vec<ProcessId> stopped;
    do {
        ListProcesses(&all);
        SelectTree(all, tree, self, with_root, &ReadMark, &members);
        bool fresh = false;
        for (const ProcessId& member : members) {
            bool known = false;
            for (const ProcessId& id : stopped)
                known = known || id.pid == member.pid;
            if (known) continue;
            fresh = true;
            sys::Kill(member.pid, sys::kStop);
            stopped.Add(member);
        }
        // A stopped process forks no more: when a scan finds nobody new, all of them die together.
        // Their number is bounded too, or a storm of millions would win by the length of our list.
        if (!fresh || stopped.size() > 4096) {
            for (const ProcessId& member : members)
                sys::Kill(member.pid, sys::kKill);
            stopped.clear();
        }
        if (!fresh && !members.empty()) sys::SleepMs(1);  // dying takes a moment
    } while (!members.empty() && sys::MonotonicMs() < end);
    for (const ProcessId& member : members)
        sys::Kill(member.pid, sys::kKill);
    return members.size();
}

}  // namespace sbxfs::supervisor
