#include "sandbox/prefetcher.h"

#include <errno.h>
#include <sys/stat.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "sandbox/cached_files.h"
#include "sandbox/clean_path.h"
#include "sandbox/read_ahead.h"
#include "sandbox/spool_place.h"

namespace sbxfs {
namespace {

// How long ago the last step of a walk may be.
constexpr Duration kStep = std::chrono::seconds(5);
constexpr std::size_t kRecent = 16;
constexpr std::uint64_t kLargestDirectory = 512U << 10;
// Directories that wait for their turn to be listed.
constexpr std::size_t kMostQueued = 4096;
// Of the directories that a walk through files comes to next.
constexpr std::size_t kMostListed = 16;
// For so many times as long as it took, a listing that was of no use is not fetched ahead again.
constexpr int kSpoiled = 20;
// Files that are being opened there and read at a time.
constexpr std::size_t kMostHandles = 64;
// What the supervisor reads in one question, so that the first come soon, and in all of them: what it says of
// commands waits behind it.
constexpr std::size_t kMostTogether = 32;
constexpr std::size_t kBytesTogether = 128U << 10;
constexpr std::size_t kMostBytes = 1U << 20;
// Asked of the supervisor in one question.
constexpr std::size_t kMostLooks = 256;

std::string Join(const std::string& directory, const std::string& name) {
    return directory == "/" ? "/" + name : directory + "/" + name;
}

// Not shown in fs/, or not worth it.
bool IsPassedOver(const std::string& directory, const std::string& name) {
    if (name == kSpoolParent) return true;
    return directory == "/" && (name == "proc" || name == "sys" || name == "dev");
}

}  // namespace

Prefetcher::Prefetcher(CachedFiles& owner)
    : owner_(&owner),
      lists_(AheadKind::kListings, AheadWindow::Limits{.first = 32, .least = 4, .most = 512}),
      files_(AheadKind::kFiles, AheadWindow::Limits{.most_bytes = std::min<std::size_t>(
                                                        32U << 20, owner.store().most() / 8)}) {}

// --- Walks

bool Prefetcher::IsNear(const RecentList& recent, const std::string& directory, SteadyTime now) {
    const std::string parent(ParentOf(directory));
    return std::any_of(recent.begin(), recent.end(), [&](const Recent& one) {
        if (now - one.when > kStep || one.directory == directory) return false;
        const std::string other(ParentOf(one.directory));
        return one.directory == parent || other == parent || other == directory;
    });
}

void Prefetcher::Note(RecentList& recent, const std::string& directory, SteadyTime now) const {
    std::erase_if(recent, [&](const Recent& one) { return one.directory == directory; });
    recent.push_back({directory, now});
    if (recent.size() > kRecent) recent.pop_front();
}

void Prefetcher::Restart() {
    lists_.Forget();
    files_.Forget();
    to_list_.clear();
    to_fetch_.clear();
    walked_.clear();
    queued_.clear();
    to_walk_.clear();
    walked_through_.clear();
    theirs_.clear();
    spoiled_.clear();
    top_.clear();
    at_.clear();
}

// --- Listings

void Prefetcher::Listed(const std::string& directory) {
    if (owner_ == nullptr) return;
    const SteadyTime now = owner_->Now();
    lists_.Expire(now, owner_->cache().IsQuiet() ? FileCache::kQuietLife : FileCache::kSharedLife);
    const bool ahead = lists_.Use(directory);
    const bool walk = ahead || IsNear(recent_lists_, directory, now);
    Note(recent_lists_, directory, now);
    if (!owner_->cache().List(directory) && !listing_.contains(directory))
        theirs_.insert(directory);
    if (!walk) return;
    const std::string parent(ParentOf(directory));
    QueueChildren(parent);
    if (owner_->cache().List(directory)) {
        QueueChildren(directory);
    } else {
        walked_.insert(directory);
        if (!listing_.contains(directory)) ListNext(directory);
    }
    PumpLists();
}

// The walk has to wait at `directory`: those behind it come before all that its ways through other parts have left.
void Prefetcher::ListNext(const std::string& directory) {
    lists_.Missed();
    std::set<std::string> next;
    for (std::string& sibling : Directories(std::string(ParentOf(directory)))) {
        if (sibling > directory && !owner_->cache().List(sibling) && !IsListing(sibling))
            next.insert(std::move(sibling));
    }
    std::erase_if(to_list_, [&](const std::string& one) { return next.contains(one); });
    to_list_.insert(to_list_.begin(), next.begin(), next.end());
    if (to_list_.size() > kMostQueued) to_list_.resize(kMostQueued);
}

void Prefetcher::Arrived(const std::string& directory) {
    theirs_.erase(directory);
    if (owner_ == nullptr) return;
    if (walked_.erase(directory) > 0) {
        QueueChildren(directory);
        PumpLists();
    }
    if (!top_.empty()) PumpFiles();
}

void Prefetcher::Looked(const std::string& directory) {
    if (owner_ == nullptr || directory == "/") return;
    FileCache& cache = owner_->cache();
    if (cache.List(directory)) return;
    // Two names of it, or one after others of its parent: a walk by names.
    const SteadyTime now = owner_->Now();
    const bool again = std::any_of(
        recent_looks_.begin(), recent_looks_.end(),
        [&](const Recent& one) { return now - one.when <= kStep && one.directory == directory; });
    Note(recent_looks_, directory, now);
    if (!again && !cache.List(std::string(ParentOf(directory)))) return;
    if (IsListing(directory) || IsHuge(directory) || IsSpoiled(directory)) return;
    if (!owner_->CanFetch()) return;
    lists_.Missed();
    Listed(directory);
    theirs_.erase(directory);
    AskList(directory);
}

void Prefetcher::QueueChildren(const std::string& directory) {
    const SteadyTime now = owner_->Now();
    const Duration life =
        owner_->cache().IsQuiet() ? FileCache::kQuietLife : FileCache::kSharedLife;
    const auto before = queued_.find(directory);
    if (before != queued_.end() && now - before->second < life / 2) return;
    if (!owner_->cache().List(directory)) return;
    if (queued_.size() >= kMostQueued) queued_.clear();
    queued_[directory] = now;
    std::vector<std::string> found;
    for (std::string& child : Directories(directory)) {
        if (!owner_->cache().List(child) && !lists_.Has(child) && !IsListing(child))
            found.push_back(std::move(child));
    }
    // Those that are walked next come first. One that waits further back, too, has been listed when its turn comes.
    to_list_.insert(to_list_.begin(), std::make_move_iterator(found.begin()),
                    std::make_move_iterator(found.end()));
    if (to_list_.size() > kMostQueued) to_list_.resize(kMostQueued);
}

void Prefetcher::PumpLists() {
    if (!owner_->CanFetch()) return;
    while (!to_list_.empty() && lists_.Fits(0)) {
        const std::string directory = std::move(to_list_.front());
        to_list_.pop_front();
        if (owner_->cache().List(directory) || lists_.Has(directory) || IsListing(directory)) {
            continue;
        }
        lists_.Begin(directory, 0, owner_->Now());
        walked_.insert(directory);
        AskList(directory);
    }
}

void Prefetcher::AskList(const std::string& directory) {
    listing_[directory];
    const SteadyTime started = owner_->Now();
    owner_->FetchList(directory,
                      [self = shared_from_this(), directory, started](const Status& status) {
                          auto node = self->listing_.extract(directory);
                          if (!node.empty()) {
                              for (const Job& job : node.mapped())
                                  job();
                          }
                          if (self->owner_ == nullptr) return;
                          if (!status) {
                              self->walked_.erase(directory);
                              (void)self->lists_.Drop(directory);
                              return self->PumpLists();
                          }
                          self->Measure(directory, started);
                          self->Arrived(directory);
                      });
}

void Prefetcher::Measure(const std::string& directory, SteadyTime started) {
    const SteadyTime now = owner_->Now();
    if (spoiled_.size() >= kMostQueued) spoiled_.clear();
    if (owner_->cache().List(directory)) {
        spoiled_.erase(directory);
    } else {
        spoiled_[directory] = now + kSpoiled * (now - started);
    }
}

bool Prefetcher::IsListing(const std::string& directory) const {
    return listing_.contains(directory) || theirs_.contains(directory);
}

bool Prefetcher::WhenListed(const std::string& directory, Job job) {
    const auto it = listing_.find(directory);
    if (it == listing_.end()) return false;
    it->second.push_back(std::move(job));
    return true;
}

// --- Files

void Prefetcher::Opened(const std::string& path) {
    if (owner_ == nullptr || !owner_->cache().IsQuiet() || !owner_->CanFetch()) return;
    const SteadyTime now = owner_->Now();
    files_.Expire(now, FileCache::kQuietLife);
    const auto held = owner_->cache().Contents(path);
    const bool ahead = files_.Use(path);
    const bool here = ahead || fetching_.contains(path) || (held && held->contents->IsWhole());
    const std::string directory(ParentOf(path));
    if (lists_.Use(directory)) PumpLists();
    const bool again = !last_opened_.empty() && last_opened_.back() == path;
    if (!again) last_opened_.push_back(path);
    if (last_opened_.size() > kRecent) last_opened_.pop_front();
    const bool same = std::any_of(
        recent_opens_.begin(), recent_opens_.end(),
        [&](const Recent& one) { return now - one.when <= kStep && one.directory == directory; });
    const bool on = !top_.empty() && !recent_opens_.empty() &&
                    now - recent_opens_.back().when <= kStep && ParentOf(top_) != "/" &&
                    IsWithin(directory, ParentOf(top_));
    const bool walk = ahead || (!again && (same || on || IsNear(recent_opens_, directory, now)));
    Note(recent_opens_, directory, now);
    if (!walk) return;
    if (!here) files_.Missed();
    if (top_.empty() || !IsWithin(directory, top_)) {
        // The walk is of what is above both.
        std::string above(top_.empty() ? std::string_view(directory) : ParentOf(top_));
        if (!IsWithin(directory, above)) above = directory;
        top_ = above;
        at_.clear();
        walked_through_.clear();
    }
    // It is somewhere else than thought, or its directory was not known.
    if (!here && (at_ != directory || to_fetch_.empty())) at_.clear();
    if (!owner_->cache().List(directory) && !IsListing(directory) && !IsHuge(directory) &&
        !IsSpoiled(directory)) {
        walked_.insert(directory);
        AskList(directory);
    }
    if (at_.empty()) StartWalk(directory, path);
    PumpFiles();
}

// Listing one with a million names would cost more than it can save. A directory's own size tells.
bool Prefetcher::IsHuge(const std::string& directory) const {
    const auto stat = owner_->cache().Stat(directory);
    return stat && *stat && (*stat)->size > kLargestDirectory;
}

bool Prefetcher::IsSpoiled(const std::string& directory) const {
    const auto it = spoiled_.find(directory);
    return it != spoiled_.end() && owner_->Now() < it->second;
}

std::vector<std::string> Prefetcher::Directories(const std::string& parent) const {
    std::vector<std::string> found;
    const auto names = owner_->cache().List(parent);
    if (!names) return found;
    for (const FileCache::Name& name : *names) {
        if ((name.type & S_IFMT) != S_IFDIR || IsPassedOver(parent, name.name)) continue;
        std::string path = Join(parent, name.name);
        if (!IsHuge(path)) found.push_back(std::move(path));
    }
    return found;
}

void Prefetcher::StartWalk(const std::string& directory, const std::string& path) {
    at_ = directory;
    to_fetch_.clear();
    to_walk_.clear();
    if (owner_->cache().List(at_)) {
        Take(at_);
        // Those behind the one that was opened come first.
        const auto behind = std::find_if(to_fetch_.begin(), to_fetch_.end(),
                                         [&](const File& one) { return one.path > path; });
        std::rotate(to_fetch_.begin(), behind, to_fetch_.end());
    } else {
        to_walk_.push_back(at_);
    }
    // Who goes by another order comes to those before, too.
    std::vector<std::string> before;
    for (std::string at = at_; at != top_ && IsWithin(at, top_); at = std::string(ParentOf(at))) {
        for (std::string& sibling : Directories(std::string(ParentOf(at)))) {
            if (sibling > at) {
                to_walk_.push_back(std::move(sibling));
            } else if (!walked_through_.contains(sibling) && sibling != at) {
                before.push_back(std::move(sibling));
            }
        }
    }
    to_walk_.insert(to_walk_.end(), std::make_move_iterator(before.begin()),
                    std::make_move_iterator(before.end()));
}

// Its files are fetched next, then what is below it.
void Prefetcher::Take(const std::string& directory) {
    if (walked_through_.size() >= kMostQueued) walked_through_.clear();
    walked_through_.insert(directory);
    for (File& file : owner_->cache().SmallFiles(directory, ReadAhead::kSmall))
        to_fetch_.push_back(std::move(file));
    std::vector<std::string> children = Directories(directory);
    to_walk_.insert(to_walk_.begin(), std::make_move_iterator(children.begin()),
                    std::make_move_iterator(children.end()));
}

bool Prefetcher::NextDirectory() {
    if (to_walk_.empty()) return false;
    const std::string next = to_walk_.front();
    if (!owner_->cache().List(next)) {
        // Several in one flight; Arrived() goes on.
        const std::size_t most = std::min(to_walk_.size(), kMostListed);
        const std::vector<std::string> first(
            to_walk_.begin(), std::next(to_walk_.begin(), static_cast<std::ptrdiff_t>(most)));
        if (!lists_.Fits(0) && !IsListing(next)) lists_.Missed();
        for (const std::string& directory : first) {
            if (!lists_.Fits(0)) break;
            if (owner_->cache().List(directory) || IsListing(directory)) continue;
            lists_.Begin(directory, 0, owner_->Now());
            walked_.insert(directory);
            AskList(directory);
        }
        return false;
    }
    to_walk_.pop_front();
    at_ = next;
    Take(at_);
    return true;
}

void Prefetcher::PumpFiles() {
    if (!owner_->cache().IsQuiet() || !owner_->CanFetch()) return;
    std::vector<std::string> looks;
    std::vector<File> many;
    std::size_t bytes = 0;
    while (handles_ < kMostHandles && many_bytes_ < kMostBytes) {
        if (to_fetch_.empty()) {
            if (!files_.Fits(0) || !NextDirectory()) break;
            continue;
        }
        if (!files_.Fits(to_fetch_.front().stat.size)) break;
        File file = std::move(to_fetch_.front());
        to_fetch_.pop_front();
        const bool opened =
            std::find(last_opened_.begin(), last_opened_.end(), file.path) != last_opened_.end();
        if (opened || files_.Has(file.path) || fetching_.contains(file.path)) continue;
        if (const auto held = owner_->cache().Contents(file.path);
            held && held->contents->IsWhole())
            continue;
        files_.Begin(file.path, file.stat.size, owner_->Now());
        fetching_[file.path];
        if (!owner_->CanFetchMany(file)) {
            looks.push_back(file.path);
            Fetch(file);
            if (looks.size() == kMostLooks) LookAt(std::exchange(looks, {}));
            continue;
        }
        bytes += file.stat.size;
        many_bytes_ += file.stat.size;
        many.push_back(std::move(file));
        if (many.size() < kMostTogether && bytes < kBytesTogether) continue;
        FetchMany(std::exchange(many, {}));
        bytes = 0;
    }
    if (!looks.empty()) LookAt(std::move(looks));
    if (!many.empty()) FetchMany(std::move(many));
}

void Prefetcher::Fetch(const File& file) {
    ++handles_;
    owner_->FetchWhole(file.path, file.stat,
                       [self = shared_from_this(), path = file.path](const Status& status) {
                           --self->handles_;
                           if (self->owner_ != nullptr && !status) (void)self->files_.Drop(path);
                           const auto it = self->fetching_.find(path);
                           if (it == self->fetching_.end()) return;
                           it->second.read = true;
                           self->FinishIfHere(path);
                       });
}

void Prefetcher::FetchMany(std::vector<File> files) {
    std::vector<File> asked = files;
    owner_->FetchMany(std::move(asked), [self = shared_from_this(), files = std::move(files)] {
        for (const File& file : files) {
            self->many_bytes_ -= file.stat.size;
            if (self->owner_ != nullptr && !self->owner_->cache().Contents(file.path))
                (void)self->files_.Drop(file.path);
        }
        for (const File& file : files)
            self->Finish(file.path);
        self->PumpLater();
    });
}

// How many names each has: without that, nobody may be told of it unasked.
void Prefetcher::LookAt(std::vector<std::string> paths) {
    owner_->LookAtNames(paths, [self = shared_from_this(), paths] {
        for (const std::string& path : paths) {
            const auto it = self->fetching_.find(path);
            if (it == self->fetching_.end()) continue;
            it->second.looked = true;
            self->FinishIfHere(path);
        }
    });
}

void Prefetcher::FinishIfHere(const std::string& path) {
    const auto it = fetching_.find(path);
    if (it == fetching_.end() || !it->second.read || !it->second.looked) return;
    Finish(path);
    PumpLater();
}

// Not from within an answer: it may be the failure of a supervisor that is just being given up, which must not be asked.
void Prefetcher::PumpLater() {
    if (owner_ == nullptr || top_.empty()) return;
    owner_->OnLoop([self = shared_from_this()](CachedFiles&) {
        if (self->owner_ != nullptr && !self->top_.empty()) self->PumpFiles();
    });
}

void Prefetcher::Finish(const std::string& path) {
    const auto node = fetching_.extract(path);
    if (node.empty()) return;
    for (const Job& job : node.mapped().waiting)
        job();
}

bool Prefetcher::WhenFetched(const std::string& path, Job job) {
    const auto it = fetching_.find(path);
    if (it == fetching_.end()) return false;
    it->second.waiting.push_back(std::move(job));
    return true;
}

}  // namespace sbxfs
