#include "sandbox/file_cache.h"

#include <errno.h>
#include <sys/stat.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "sandbox/clean_path.h"

namespace sbxfs {
namespace {

std::string_view Base(std::string_view path) {
    return path.substr(path.rfind('/') + 1);
}

std::string Join(std::string_view directory, std::string_view name) {
    std::string path(directory);
    if (path.empty() || path.back() != '/') path += '/';
    path += name;
    return path;
}

// Where the paths below a directory begin and end in a sorted map: "/a/" and "/a0".
std::string Below(std::string_view directory) {
    return Join(directory, "");
}
std::string Behind(std::string_view directory) {
    std::string end = Below(directory);
    end.back() = '/' + 1;
    return end;
}

bool IsMissing(Errno code) {
    return code == Errno{ENOENT};
}

// Of a listing that is on its way: with more than these it is of no use.
constexpr std::size_t kMostChanged = 1024;

bool Alike(const RemoteStat& one, const RemoteStat& other) {
    return one.size == other.size && one.mtime == other.mtime && one.mode == other.mode;
}

}  // namespace

bool FileCache::Fresh(const Entry& entry, const Fact& fact) const {
    if (!fact.known || entry.era != era_) return false;
    return clock_.Steady() - fact.seen < (quiet_ ? kQuietLife : kSharedLife);
}

const FileCache::Entry* FileCache::Find(std::string_view path) const {
    const auto it = entries_.find(path);
    return it == entries_.end() ? nullptr : &it->second;
}

const FileCache::Entry* FileCache::FindNames(std::string_view directory) const {
    const Entry* entry = Find(directory);
    return entry != nullptr && Fresh(*entry, entry->names_fact) ? entry : nullptr;
}

std::optional<Result<RemoteStat>> FileCache::Stat(const std::string& path) const {
    const MutexLock lock(mu_);
    const Entry* entry = Find(path);
    if (entry != nullptr && Fresh(*entry, entry->stat_fact)) {
        if (IsLinked(path)) return std::nullopt;
        if (entry->stat) return *entry->stat;
        return Error(Errno{ENOENT}, "");
    }
    // A name that a whole listing lacks is not there.
    const Entry* names = path == "/" ? nullptr : FindNames(ParentOf(path));
    if (names != nullptr && !names->names.contains(Base(path))) return Error(Errno{ENOENT}, "");
    return std::nullopt;
}

std::optional<std::string> FileCache::Target(const std::string& path) const {
    const MutexLock lock(mu_);
    const Entry* entry = Find(path);
    if (entry == nullptr || !Fresh(*entry, entry->target_fact)) return std::nullopt;
    return entry->target;
}

std::optional<std::vector<FileCache::Name>> FileCache::List(const std::string& directory) const {
    const MutexLock lock(mu_);
    const Entry* entry = FindNames(directory);
    if (entry == nullptr) return std::nullopt;
    std::vector<Name> names;
    names.reserve(entry->names.size());
    for (const auto& [name, type] : entry->names)
        names.push_back({name, type});
    return names;
}

bool FileCache::KnowsWholly(const std::string& directory) const {
    const MutexLock lock(mu_);
    const Entry* entry = FindNames(directory);
    if (entry == nullptr) return false;
    for (const auto& [name, type] : entry->names) {
        const Entry* child = Find(Join(directory, name));
        if (child == nullptr || !Fresh(*child, child->stat_fact)) return false;
    }
    return true;
}

bool FileCache::IsQuiet() const {
    const MutexLock lock(mu_);
    return quiet_;
}

FileCache::Era FileCache::era() const {
    const MutexLock lock(mu_);
    return era_;
}

std::optional<IdentityStat> FileCache::Baseline(const std::string& path, Era era) const {
    const MutexLock lock(mu_);
    const Entry* entry = Find(path);
    if (entry == nullptr || !entry->baseline) return std::nullopt;
    if (era < entry->baseline_from || era > entry->era) return std::nullopt;
    return entry->baseline;
}

bool FileCache::HasOtherNames(const std::string& path) const {
    const MutexLock lock(mu_);
    return IsLinked(path);
}

bool FileCache::IsLinked(std::string_view path) const {
    return linked_everywhere_ || linked_.contains(path);
}

void FileCache::AddLinked(const std::string& path) {
    linked_.insert(path);
    if (linked_.size() <= limits_.entries) return;
    linked_everywhere_ = true;
    linked_.clear();
}

// --- Contents

// Handles that still have them see that they are no longer true.
void FileCache::DropContents(Entry& entry) {
    if (entry.contents != nullptr) entry.contents->Spoil();
    entry.contents.reset();
}

bool FileCache::MayHold(std::string_view path, const Entry& entry) const {
    return quiet_ && entry.single && Fresh(entry, entry.stat_fact) && entry.stat &&
           S_ISREG(entry.stat->mode) && !IsLinked(path);
}

std::optional<FileCache::Held> FileCache::Contents(const std::string& path) const {
    const MutexLock lock(mu_);
    const Entry* entry = Find(path);
    if (entry == nullptr || entry->contents == nullptr || !MayHold(path, *entry))
        return std::nullopt;
    return Held{entry->contents, *entry->stat, entry->baseline};
}

FileContentsPtr FileCache::ShareContents(const std::string& path, const RemoteStat& stat, Era era,
                                         ContentStore& store) {
    const MutexLock lock(mu_);
    const auto it = entries_.find(path);
    if (era != era_ || it == entries_.end()) return nullptr;
    Entry& entry = it->second;
    if (!MayHold(path, entry) || !Alike(*entry.stat, stat)) return nullptr;
    if (entry.contents == nullptr) {
        entry.contents = store.Make();
        entry.contents->SetEnd(stat.size);
        entry.contents->era = era_;
    }
    return entry.contents;
}

void FileCache::PutContents(Question question, const RemoteStat& stat, FileContentsPtr contents,
                            Names names) {
    const MutexLock lock(mu_);
    const auto asked = Answered(question);
    if (!asked || !quiet_) return;
    const auto it = entries_.find(asked->path);
    if (it == entries_.end() || it->second.era != era_) return;
    Entry& entry = it->second;
    if (!Fresh(entry, entry.stat_fact) || !entry.stat || !Alike(*entry.stat, stat)) return;
    contents->era = era_;
    DropContents(entry);
    entry.contents = std::move(contents);
    if (names == Names::kOne) entry.single = true;
}

bool FileCache::IsSingle(const std::string& path) const {
    const MutexLock lock(mu_);
    const Entry* entry = Find(path);
    return entry != nullptr && entry->era == era_ && entry->single;
}

std::vector<FileCache::Small> FileCache::SmallFiles(const std::string& directory,
                                                    std::uint64_t largest) const {
    std::vector<Small> files;
    const MutexLock lock(mu_);
    const Entry* entry = FindNames(directory);
    if (entry == nullptr) return files;
    for (const auto& [name, type] : entry->names) {
        if (type != S_IFREG) continue;
        std::string path = Join(directory, name);
        const Entry* file = Find(path);
        if (file == nullptr || !file->stat || !Fresh(*file, file->stat_fact)) continue;
        const bool here = file->contents != nullptr && file->single;
        if (here || file->stat->size > largest || IsLinked(path)) continue;
        files.push_back({std::move(path), *file->stat});
    }
    return files;
}

// --- Questions

FileCache::Question FileCache::Ask(const std::string& path) {
    const MutexLock lock(mu_);
    const Question question{next_question_++};
    asked_.emplace(question, Asked{path, era_});
    return question;
}

FileCache::Question FileCache::AskList(const std::string& directory) {
    const MutexLock lock(mu_);
    const Question question{next_question_++};
    asked_.emplace(question, Asked{directory, era_}).first->second.lists = true;
    return question;
}

FileCache::Question FileCache::AskBehind(const std::string& directory,
                                         std::vector<Question> changes) {
    const MutexLock lock(mu_);
    const Question question{next_question_++};
    asked_.emplace(question, Asked{directory, era_}).first->second.behind = std::move(changes);
    return question;
}

std::optional<FileCache::Asked> FileCache::Answered(Question question) {
    auto node = asked_.extract(question);
    if (node.empty() || node.mapped().spoiled || node.mapped().era != era_) return std::nullopt;
    // The change itself has not been answered yet: the server does not work in order.
    const auto& behind = node.mapped().behind;
    if (std::any_of(behind.begin(), behind.end(),
                    [&](Question change) REQUIRES(mu_) { return asked_.contains(change); }))
        return std::nullopt;
    return std::move(node.mapped());
}

FileCache::Entry& FileCache::Present(const std::string& path) {
    MakeRoom();
    const auto [found, is_new] = entries_.try_emplace(path);
    Entry& entry = found->second;
    if (is_new) texts_ += path.size();
    Counted();
    if (entry.era != era_) {
        entry = Entry{};
        entry.era = era_;
    }
    return entry;
}

void FileCache::Keep(const std::string& path, std::optional<RemoteStat> stat) {
    Entry& entry = Present(path);
    // Not by a change of ours, which would have been told: another file, or another of its names.
    if (entry.stat_fact.known && entry.stat && (!stat || !Alike(*stat, *entry.stat))) {
        DropContents(entry);
        entry.single = false;
    }
    entry.stat_fact = {clock_.Steady(), true};
    const bool other_type = !stat || !entry.stat || ((stat->mode ^ entry.stat->mode) & S_IFMT) != 0;
    if (other_type) {
        entry.names_fact = entry.target_fact = {};
        entry.names.clear();
    }
    entry.stat = stat;
}

void FileCache::PutStat(Question question, const Result<RemoteStat>& stat) {
    const MutexLock lock(mu_);
    const auto asked = Answered(question);
    if (!asked) return;
    if (stat) {
        Keep(asked->path, *stat);
    } else if (IsMissing(stat.error().code())) {
        Keep(asked->path, std::nullopt);
    }
}

void FileCache::PutList(Question question, const Result<std::vector<RemoteEntry>>& entries) {
    const MutexLock lock(mu_);
    const auto asked = Answered(question);
    if (!asked || !entries || entries->size() > limits_.entries / 2) return;
    std::size_t texts = entries->size() * (asked->path.size() + 1);
    for (const RemoteEntry& found : *entries)
        texts += found.name.size();
    if (texts > limits_.texts / 2) return;
    for (const RemoteEntry& found : *entries) {
        if (!asked->changed.contains(found.name)) Keep(Join(asked->path, found.name), found.stat);
    }
    if (asked->other_names) return;
    Entry& entry = Present(asked->path);
    entry.names.clear();
    for (const RemoteEntry& found : *entries)
        entry.names.emplace(found.name, found.stat.mode & S_IFMT);
    entry.names_fact = {clock_.Steady(), true};
}

void FileCache::PutTarget(Question question, const Result<std::string>& target) {
    const MutexLock lock(mu_);
    const auto asked = Answered(question);
    if (!asked || !target) return;
    Entry& entry = Present(asked->path);
    entry.target = *target;
    texts_ += target->size();
    entry.target_fact = {clock_.Steady(), true};
}

void FileCache::Drop(Question question) {
    const MutexLock lock(mu_);
    asked_.erase(question);
}

// --- Changes

// The attributes of a directory change with its names. A listing tells of all that is in it.
void FileCache::Spoil(std::string_view path, Of of, std::optional<Question> by) {
    const std::string_view parent = ParentOf(path);
    for (auto& [question, asked] : asked_) {
        const auto& behind = asked.behind;
        if (by && std::find(behind.begin(), behind.end(), *by) != behind.end()) continue;
        if (IsWithin(asked.path, path)) {
            asked.spoiled = true;
        } else if (asked.path == parent && asked.lists && asked.changed.size() < kMostChanged) {
            asked.changed.emplace(Base(path));
            asked.other_names |= of == Of::kName;
        } else if (asked.path == parent && (asked.lists || of == Of::kName)) {
            asked.spoiled = true;
        } else if (asked.lists && of == Of::kName && asked.path == ParentOf(parent)) {
            asked.changed.emplace(Base(parent));
        }
    }
}

void FileCache::ForgetStatOf(std::string_view directory) {
    const auto it = entries_.find(directory);
    if (it == entries_.end()) return;
    it->second.stat_fact = {};
    it->second.baseline.reset();
}

void FileCache::Changed(const std::string& path) {
    const MutexLock lock(mu_);
    Spoil(path, Of::kContent);
    const auto it = entries_.find(path);
    if (it == entries_.end()) return;
    it->second.stat_fact = it->second.target_fact = {};  // of a directory the names stay
    it->second.baseline.reset();
    DropContents(it->second);
}

FileCache::Question FileCache::ChangingName(const std::string& path) {
    const MutexLock lock(mu_);
    Spoil(path, Of::kName);
    // What is there may stay, with its other names: for an open with O_CREAT, or when the change fails.
    entries_.erase(path);
    entries_.erase(entries_.lower_bound(Below(path)), entries_.lower_bound(Behind(path)));
    Counted();
    ForgetStatOf(ParentOf(path));
    const Question question{next_question_++};
    asked_.emplace(question, Asked{path, era_});
    return question;
}

void FileCache::Made(Question question, const Result<RemoteStat>& stat, Directory directory,
                     FileContentsPtr contents) {
    const MutexLock lock(mu_);
    auto node = asked_.extract(question);
    if (node.empty()) return;
    const Asked& asked = node.mapped();
    const std::string_view parent = ParentOf(asked.path);
    Spoil(asked.path, Of::kName, question);
    entries_.erase(asked.path);
    Counted();
    ForgetStatOf(parent);
    if (directory == Directory::kForget) ForgetDirectory(parent, question);
    const auto above = entries_.find(parent);
    if (asked.spoiled || asked.era != era_ || !stat) {
        // Nobody can tell what is there now.
        if (above != entries_.end()) above->second.names_fact = {};
        return;
    }
    if (above != entries_.end())
        above->second.names.insert_or_assign(std::string(Base(asked.path)), stat->mode & S_IFMT);
    Keep(asked.path, *stat);
    // A directory that was made here has no names yet.
    if (S_ISDIR(stat->mode)) Present(asked.path).names_fact = {clock_.Steady(), true};
    if (contents == nullptr || !quiet_ || contents->era != era_) return;
    Entry& entry = Present(asked.path);
    entry.contents = std::move(contents);
    entry.single = true;
}

bool FileCache::Gone(Question question, const Status& status, Directory directory) {
    const MutexLock lock(mu_);
    auto node = asked_.extract(question);
    if (node.empty()) return false;
    const Asked& asked = node.mapped();
    const std::string_view parent = ParentOf(asked.path);
    Spoil(asked.path, Of::kName, question);
    entries_.erase(asked.path);
    Counted();
    if (status) linked_.erase(asked.path);
    ForgetStatOf(parent);
    if (directory == Directory::kForget) ForgetDirectory(parent, question);
    const auto above = entries_.find(parent);
    if (asked.spoiled || asked.era != era_ || !status) {
        if (above != entries_.end()) above->second.names_fact = {};
        return false;
    }
    if (above != entries_.end()) {
        const auto name = above->second.names.find(Base(asked.path));
        if (name != above->second.names.end()) above->second.names.erase(name);
    }
    Keep(asked.path, std::nullopt);
    return true;
}

void FileCache::Linked(const std::string& path) {
    const MutexLock lock(mu_);
    AddLinked(path);
}

std::vector<std::string> FileCache::LinkedBelow(const std::string& directory) const {
    const MutexLock lock(mu_);
    std::vector<std::string> paths;
    const auto end = linked_.lower_bound(Behind(directory));
    for (auto it = linked_.lower_bound(Below(directory)); it != end; ++it)
        paths.push_back(*it);
    return paths;
}

// --- Eras

void FileCache::BeginEra(Quiet quiet) {
    const MutexLock lock(mu_);
    ++era_;
    quiet_ = quiet == Quiet::kYes;
}

void FileCache::ForgetAll() {
    Entries doomed;  // dies after the lock
    const MutexLock lock(mu_);
    doomed.swap(entries_);
    texts_ = 0;
    Counted();
    for (auto& [question, asked] : asked_)
        asked.spoiled = true;
}

// With what is in it.
void FileCache::ForgetDirectory(std::string_view directory, Question by) {
    const auto itself = entries_.find(directory);
    if (itself != entries_.end()) entries_.erase(itself);
    for (auto& [question, asked] : asked_) {
        const auto& behind = asked.behind;
        if (std::find(behind.begin(), behind.end(), by) != behind.end()) continue;
        if (asked.path == directory || ParentOf(asked.path) == directory) asked.spoiled = true;
    }
    const auto end = entries_.lower_bound(Behind(directory));
    for (auto it = entries_.lower_bound(Below(directory)); it != end;) {
        it = ParentOf(it->first) == directory ? entries_.erase(it) : std::next(it);
    }
    Counted();
}

// What nobody can be served with goes first; then everything: a tree larger than this is not cached well
// anyway.
void FileCache::MakeRoom() {
    if (entries_.size() < limits_.entries && texts_ < limits_.texts) return;
    const SteadyTime now = clock_.Steady();
    std::erase_if(entries_, [now, era = era_](const auto& item) {
        const Entry& entry = item.second;
        const SteadyTime seen =
            std::max({entry.stat_fact.seen, entry.names_fact.seen, entry.target_fact.seen});
        return now - seen >= kQuietLife || (entry.era != era && !entry.baseline);
    });
    texts_ = Texts();
    // Half full it is too full to be counted again soon.
    if (entries_.size() < limits_.entries && texts_ < limits_.texts / 2) return;
    entries_.clear();
    texts_ = 0;
}

std::size_t FileCache::Texts() const {
    std::size_t bytes = 0;
    for (const auto& [path, entry] : entries_)
        bytes += path.size() + entry.target.size();
    return bytes;
}

// --- Identities

std::vector<std::string> FileCache::WithoutBaseline(std::size_t most) const {
    const MutexLock lock(mu_);
    std::vector<std::string> paths;
    for (const auto& [path, entry] : entries_) {
        if (paths.size() == most) break;
        const bool known = Fresh(entry, entry.stat_fact) || Fresh(entry, entry.names_fact);
        if (known && !entry.baseline) paths.push_back(path);
    }
    return paths;
}

void FileCache::SetBaselines(Era era, const std::vector<std::string>& paths,
                             const std::vector<IdentityStat>& stats, std::int64_t read_at_ns) {
    const MutexLock lock(mu_);
    for (std::size_t i = 0; i < paths.size() && i < stats.size(); ++i) {
        const auto it = entries_.find(paths[i]);
        if (it == entries_.end() || it->second.era != era) continue;
        Entry& entry = it->second;
        const IdentityStat& stat = stats[i];
        if (stat.error == 0 && stat.nlink > 1 && S_ISREG(stat.mode)) AddLinked(paths[i]);
        entry.single = stat.error == 0 && stat.nlink == 1 && S_ISREG(stat.mode);
        if (entry.baseline) continue;
        const bool missing = entry.stat_fact.known && !entry.stat;
        const bool agrees =
            missing ? stat.error == ENOENT : !entry.stat_fact.known || Agrees(stat, *entry.stat);
        if (!agrees || (stat.error != 0 && !missing)) continue;
        if (stat.error == 0 && IsRecent(stat, read_at_ns)) continue;
        entry.baseline = stat;
        entry.baseline_from = era;
    }
}

std::vector<std::string> FileCache::Marked(const std::string& path, std::size_t most) const {
    const MutexLock lock(mu_);
    const auto can = [&](const Entry& entry)
                         REQUIRES(mu_) { return entry.era != era_ && entry.baseline.has_value(); };
    std::vector<std::string> paths;
    const Entry* wanted = Find(path);
    if (wanted == nullptr || !can(*wanted)) return paths;
    paths.push_back(path);
    for (auto it = entries_.lower_bound(ParentOf(path)); it != entries_.end(); ++it) {
        if (paths.size() >= most) break;
        if (it->first != path && can(it->second)) paths.push_back(it->first);
    }
    return paths;
}

void FileCache::Recheck(Era era, const std::vector<std::string>& paths,
                        const std::vector<IdentityStat>& stats) {
    const MutexLock lock(mu_);
    if (era != era_) return;
    const SteadyTime now = clock_.Steady();
    for (std::size_t i = 0; i < paths.size() && i < stats.size(); ++i) {
        const auto it = entries_.find(paths[i]);
        if (it == entries_.end() || it->second.era == era_ || !it->second.baseline) continue;
        Entry& entry = it->second;
        if (!SameAndUnchanged(*entry.baseline, stats[i])) {
            entries_.erase(it);
            continue;
        }
        entry.era = era_;
        if (entry.contents != nullptr) entry.contents->era = era_;
        for (Fact* fact : {&entry.stat_fact, &entry.names_fact, &entry.target_fact}) {
            if (fact->known) fact->seen = now;
        }
    }
    Counted();
}

std::size_t FileCache::Count() const {
    const MutexLock lock(mu_);
    return entries_.size();
}

}  // namespace sbxfs
