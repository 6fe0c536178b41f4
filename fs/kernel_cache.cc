#include "fs/kernel_cache.h"

#include <utility>

namespace sbxfs {
namespace {

// Beyond this many grants a second none is given any more: taking them back delays a command's start.
constexpr std::size_t kMostGrants = 4096;
// The kernel counts from when the answer arrives, we from when it was made.
constexpr Duration kRemembered = 2 * KernelCache::kLease;
constexpr Duration kPruneEvery = kRemembered / 8;

}  // namespace

void KernelCache::RunAll(std::vector<Job>& jobs) {
    for (const Job& job : jobs)
        job();
}

void KernelCache::Connect(std::unique_ptr<KernelNotifier> notifier) {
    std::shared_ptr<KernelNotifier> shared = std::move(notifier);
    {
        const MutexLock lock(mu_);
        notifier_ = shared;
    }
    Job probe = [this, shared] {
        const bool works = shared->ForgetNames();
        const MutexLock lock(mu_);
        names_ = works;
    };
    (void)grants_.Add(probe);
}

void KernelCache::Stop() {
    grants_.Stop();
    pages_.Stop();
}

Lease KernelCache::Grant(Generation box, Ino ino) {
    const SteadyTime now = clock_.Steady();
    const MutexLock lock(mu_);
    const auto it = boxes_.find(box);
    if (it == boxes_.end() || !it->second.open || notifier_ == nullptr) return {};
    Box& of = it->second;
    if (of.attributes.size() >= kMostGrants) {
        // Not for each file of a walk through a large tree.
        if (now - of.pruned < kPruneEvery) return {};
        of.pruned = now;
        std::erase_if(of.attributes,
                      [&](const auto& grant) { return now - grant.second > kRemembered; });
        if (of.attributes.size() >= kMostGrants) return {};
    }
    of.attributes[ino] = now;
    if (!names_) return {Duration{0}, kLease};
    of.named = now;
    return {kLease, kLease};
}

void KernelCache::Recall(Generation box, Ino ino, Job done) {
    bool granted = false;
    std::shared_ptr<KernelNotifier> notifier;
    {
        const SteadyTime now = clock_.Steady();
        const MutexLock lock(mu_);
        notifier = notifier_;
        const auto it = boxes_.find(box);
        if (it != boxes_.end()) {
            const auto grant = it->second.attributes.find(ino);
            granted = grant != it->second.attributes.end() && now - grant->second <= kRemembered;
            if (granted) it->second.attributes.erase(grant);
        }
    }
    if (!granted || notifier == nullptr) return done();
    Job forget = [notifier = std::move(notifier), ino, done = std::move(done)] {
        notifier->ForgetAttributes(ino);
        done();
    };
    (void)grants_.Add(forget);
}

void KernelCache::Opened(Generation box, Ino ino) {
    const MutexLock lock(mu_);
    ++boxes_[box].files[ino];
}

void KernelCache::Released(Generation box, Ino ino) {
    const MutexLock lock(mu_);
    const auto it = boxes_.find(box);
    if (it == boxes_.end()) return;
    const auto file = it->second.files.find(ino);
    if (file == it->second.files.end() || --file->second > 0) return;
    it->second.files.erase(file);
    if (!it->second.open && it->second.files.empty() && it->second.attributes.empty())
        boxes_.erase(it);
}

void KernelCache::Allow(Generation box) {
    const MutexLock lock(mu_);
    if (notifier_ != nullptr) boxes_[box].open = true;
}

void KernelCache::Revoke(Generation box, Job done) {
    std::vector<Ino> granted;
    bool named = false;
    std::shared_ptr<KernelNotifier> notifier;
    {
        const SteadyTime now = clock_.Steady();
        const MutexLock lock(mu_);
        notifier = notifier_;
        const auto it = boxes_.find(box);
        if (it != boxes_.end()) {
            Box& of = it->second;
            of.open = false;
            named = names_ && now - of.named <= kRemembered;
            for (const auto& [ino, when] : of.attributes) {
                if (now - when <= kRemembered) granted.push_back(ino);
            }
            of.attributes.clear();
            if (of.files.empty()) boxes_.erase(it);
        }
    }
    if (notifier == nullptr || (!named && granted.empty())) return done();
    Job forget = [notifier = std::move(notifier), named, granted = std::move(granted),
                  done = std::move(done)] {
        if (named) (void)notifier->ForgetNames();
        for (const Ino ino : granted)
            notifier->ForgetAttributes(ino);
        done();
    };
    (void)grants_.Add(forget);
}

std::vector<Ino> KernelCache::OpenFiles(Generation box) {
    std::vector<Ino> open;
    const MutexLock lock(mu_);
    const auto it = boxes_.find(box);
    if (it == boxes_.end()) return open;
    for (const auto& [ino, count] : it->second.files)
        open.push_back(ino);
    return open;
}

void KernelCache::DropPages(Generation box, Job done) {
    DropPagesOf(box, OpenFiles(box), std::move(done));
}

void KernelCache::DropPagesOf(Generation box, std::vector<Ino> files, Job done) {
    std::shared_ptr<KernelNotifier> notifier;
    {
        const MutexLock lock(mu_);
        notifier = notifier_;
    }
    if (notifier == nullptr || files.empty()) return done();
    Job drop = [notifier = std::move(notifier), files = std::move(files), done = std::move(done)] {
        for (const Ino ino : files)
            notifier->ForgetPages(ino);
        done();
    };
    pages_.Add(box, std::move(drop));
}

}  // namespace sbxfs
