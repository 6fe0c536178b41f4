#include "fs/refusals.h"

#include "base/strings.h"
#include "fs/errno_table.h"

namespace sbxfs {

void Refusals::Add(pid_t pid, const std::string& path, const Error& error, Alike alike) {
    Refusal refusal{clock_.System(), pid, path, error.code(), error.what(), 1, alike};
    const MutexLock lock(mu_);
    if (!refusals_.empty()) {
        const Refusal& last = refusals_.front();
        const bool same = last.path == path && last.sentence == error.what();
        const bool one_process = alike == Alike::kOfOneProcess && last.alike == alike;
        if (last.pid == pid && last.code == error.code() && (same || one_process)) {
            refusal.times = last.times + 1;
            refusals_.pop_front();
        }
    }
    refusals_.push_front(std::move(refusal));
    if (refusals_.size() > kKept) refusals_.pop_back();
}

std::string Refusals::Text() const {
    const MutexLock lock(mu_);
    std::string text;
    for (const Refusal& refusal : refusals_) {
        text += Rfc3339(refusal.time) + " pid " + std::to_string(refusal.pid) + " " +
                Printable(refusal.path, 512) + " " + ErrnoName(refusal.code) + ": " +
                Printable(refusal.sentence, 1024);
        if (refusal.times > 1) text += " (" + std::to_string(refusal.times) + " times)";
        text += "\n";
    }
    return text;
}

SystemTime Refusals::Newest() const {
    const MutexLock lock(mu_);
    return refusals_.empty() ? SystemTime{} : refusals_.front().time;
}

}  // namespace sbxfs
