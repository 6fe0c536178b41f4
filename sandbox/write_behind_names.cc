// WriteBehind: names and attributes.
#include <errno.h>
#include <sys/stat.h>

#include <utility>

#include "sandbox/clean_path.h"
#include "sandbox/file_cache.h"
#include "sandbox/write_behind_state.h"

namespace sbxfs {
namespace {

// Blocks of a directory as most file systems have them; known better when somebody looks.
constexpr std::uint64_t kDirectorySize = 4096;
// What is known of the sandbox's clock is not exact. Later is the future, which somebody has set.
constexpr std::int64_t kClocksDifferNs = 50'000'000;

StatDone WithoutStat(Done done) {
    return [done = std::move(done)](const Result<RemoteStat>& stat) {
        done(stat ? Ok() : Status(stat.error()));
    };
}

bool IsDirectory(const RemoteStat& stat) {
    return S_ISDIR(stat.mode);
}

}  // namespace

RemoteStat WriteBehind::Shown(const std::string& path, RemoteStat stat) {
    Seen(stat.mtime);
    // It is open, and was shown with a time that the sandbox had not told.
    const StatePtr state = StateAt(path);
    if (state != nullptr && state->IsClean() && std::exchange(state->told, false))
        times_.Bind(path, stat.mtime, state->stat.mtime);
    return times_.Apply(path, stat);
}

void WriteBehind::Learned(FileState& state, const RemoteStat& real) {
    state.stat = state.path.empty() ? real : Shown(state.path, real);
    state.told = state.guessed = false;
    state.sure = true;
}

void WriteBehind::Seen(std::int64_t mtime) {
    const std::int64_t latest = (owner_->TheirNowNs() + kClocksDifferNs) / 1'000'000'000;
    if (mtime > newest_mtime_ && mtime <= latest) newest_mtime_ = mtime;
}

// Never before what has been seen: who compares two files, as git does its index with what it lists, takes the one that
// was written later for the older one otherwise, and the change for none.
const RemoteStat& WriteBehind::Tell(FileState& state) {
    state.told = true;
    // Not one that somebody has set.
    if (std::exchange(state.guessed, false))
        newest_mtime_ = state.stat.mtime = std::max(state.stat.mtime, newest_mtime_);
    return state.stat;
}

RemoteStat WriteBehind::NewStat(std::uint32_t type_and_mode,
                                const TrustedDirs::Directory& parent) const {
    RemoteStat stat;
    stat.mode = type_and_mode;
    stat.uid = dirs_.me()->uid;
    stat.gid = (parent.stat.mode & S_ISGID) != 0 ? parent.stat.gid : dirs_.me()->gid;
    stat.atime = stat.mtime = std::max(TheirNow(), newest_mtime_);
    return stat;
}

// A name in the directory of `path` has changed, as its callers see it.
void WriteBehind::Touched(const std::string& path) {
    TrustedDirs::Directory* parent = dirs_.Find(ParentOf(path));
    if (parent == nullptr) return;
    parent->stat.mtime = std::max({parent->stat.mtime, TheirNow(), newest_mtime_});
    parent->told = true;
}

// The sandbox has changed a name there and answered: its own mtime is asked for when somebody looks.
void WriteBehind::ChangedThere(const std::string& path) {
    TrustedDirs::Directory* parent = dirs_.Find(ParentOf(path));
    if (parent == nullptr) return;
    parent->told = false;
    parent->seen = loop_.clock().Steady() - FileCache::kQuietLife;
}

std::optional<RemoteStat> WriteBehind::Known(const std::string& path, const Before& before) {
    // Of one that is just being opened nothing is known yet.
    if (const StatePtr state = StateAt(path);
        state != nullptr && !state->error && state->stat.mode != 0)
        return state->stat;
    if (const TrustedDirs::Directory* directory = dirs_.Find(path)) return directory->stat;
    if (before.IsThere()) return **before.itself;
    return std::nullopt;
}

// The directory of `path`, if it is known to take a change.
TrustedDirs::Directory* WriteBehind::Trusted(const std::string& path, const Before& before) {
    // A directory that is being renamed is no longer there by the time this is sent.
    if (!IsSettled(path)) return nullptr;
    const std::string parent(ParentOf(path));
    if (TrustedDirs::Directory* known = dirs_.Find(parent)) return known;
    if (mode_ != Mode::kQuiet || lost_) return nullptr;
    changed_ = true;
    if (!view_) {
        AskForView(path);
        return nullptr;
    }
    if (!before.parent || !*before.parent) return nullptr;
    const RemoteStat& stat = **before.parent;
    const bool ours = view_->uid == 0 || stat.uid == view_->uid;
    const ServerView::Mount& mount = view_->MountOf(parent);
    if (!IsDirectory(stat) || !ours || !dirs_.MayWrite(stat) || !mount.writable) return nullptr;
    const VolumePtr volume = VolumeOf(path);
    if (volume->asked == SteadyTime{}) return nullptr;
    dirs_.Add(parent, {stat, volume, loop_.clock().Steady(), false});
    return dirs_.Find(parent);
}

// Who the server is, and which file systems it sees: once for each quiet time. Then, how much room there is where `path` is.
void WriteBehind::AskForView(const std::string& path) {
    if (mode_ == Mode::kOff || std::exchange(view_asked_, true)) return;
    ServerView::Ask(
        *files_, [weak = weak_from_this(), path, trusts = trusts_](std::optional<ServerView> view) {
            const auto self = weak.lock();
            if (self == nullptr || self->trusts_ != trusts || !view) return;
            self->dirs_.SetMe(view->uid, view->gid);
            self->view_ = std::move(view);
            (void)self->VolumeOf(path);
        });
}

// A change is likely to come where somebody looks: what it must know is asked along with that, three round trips ahead.
void WriteBehind::LookedAt(const std::string& path) {
    looked_ = true;
    if (mode_ == Mode::kQuiet && !lost_ && expects_changes_) AskForView(path);
}

// A change of a name has succeeded: the next one in this directory need not wait. What must be known for that
// is asked now, ahead of any other change there.
void WriteBehind::Trust(const std::string& path, const std::optional<RemoteStat>& made) {
    if (made && !view_) dirs_.SetMe(made->uid, made->gid);
    const std::string parent(ParentOf(path));
    if (mode_ != Mode::kQuiet || !dirs_.me() || dirs_.Find(parent) != nullptr) return;
    const auto found = std::make_shared<TrustedDirs::Directory>();
    files_->Lstat(parent, [found](const Result<RemoteStat>& stat) {
        if (stat) found->stat = *stat;
    });
    files_->Statfs(parent, [weak = weak_from_this(), parent, found,
                            trusts = trusts_](const Result<RemoteStatfs>& space) {
        const auto self = weak.lock();
        if (self == nullptr || self->trusts_ != trusts || !space) return;
        if (!IsDirectory(found->stat) || self->mode_ != Mode::kQuiet) return;
        found->stat = self->Shown(parent, found->stat);
        found->volume = std::make_shared<Volume>();
        found->volume->path = parent;
        found->volume->available = space->blocks_available * space->block_size;
        found->seen = found->volume->asked = self->loop_.clock().Steady();
        self->dirs_.Add(parent, *found);
    });
}

// --- Questions

void WriteBehind::Lstat(const Through_& to, const std::string& path, StatDone done) {
    LookedAt(path);
    const StatePtr state = StateAt(path);
    // Where others write too, the sandbox's own times alone tell what came first.
    if (state != nullptr && !state->IsClean() && !state->error && mode_ == Mode::kQuiet)
        return done(Tell(*state));
    if (state != nullptr && HasJustLetGo(*state)) return done(state->stat);
    TrustedDirs::Directory* directory = dirs_.Find(path);
    if (directory != nullptr && (loop_.clock().Steady() - directory->seen < FileCache::kQuietLife ||
                                 !Conflicts(path, Reach::kTree).empty()))
        return done(directory->stat);
    Question<RemoteStat>(
        path, Reach::kTree,
        [weak = weak_from_this(), to, path](StatDone answer) {
            to->Lstat(path, [weak, path, answer = std::move(answer)](Result<RemoteStat> stat) {
                const auto self = weak.lock();
                if (self == nullptr || !stat) return answer(std::move(stat));
                TrustedDirs::Directory* known = self->dirs_.Find(path);
                if (known != nullptr && known->told &&
                    self->Conflicts(path, Reach::kTree).empty()) {
                    // The first look since we changed it: nobody else has.
                    self->times_.Bind(path, stat->mtime, known->stat.mtime);
                    known->told = false;
                }
                *stat = self->Shown(path, *stat);
                if (known != nullptr && !known->told) {
                    known->stat = *stat;
                    known->seen = self->loop_.clock().Steady();
                }
                answer(std::move(stat));
            });
        },
        std::move(done));
}

void WriteBehind::List(const Through_& to, const std::string& path, EntriesDone done) {
    LookedAt(path);
    Question<std::vector<RemoteEntry>>(
        path, Reach::kTree,
        [weak = weak_from_this(), to, path](EntriesDone answer) {
            to->List(path, [weak, path,
                            answer = std::move(answer)](Result<std::vector<RemoteEntry>> entries) {
                const auto self = weak.lock();
                if (self != nullptr && entries) {
                    const std::string below = path == "/" ? path : path + "/";
                    for (RemoteEntry& entry : *entries)
                        entry.stat = self->Shown(below + entry.name, entry.stat);
                }
                answer(std::move(entries));
            });
        },
        std::move(done));
}

void WriteBehind::ReadLink(const Through_& to, const std::string& path, TextDone done) {
    Question<std::string>(
        path, Reach::kPath, [to, path](TextDone answer) { to->ReadLink(path, std::move(answer)); },
        std::move(done));
}

// --- Changes

// Of a name that is made while its caller waits.
StatDone WriteBehind::Making(const std::string& path, StatDone done) {
    return [this, self = shared_from_this(), path, trusts = trusts_,
            done = std::move(done)](Result<RemoteStat> stat) {
        if (stat) {
            ChangedThere(path);
            Trust(path, *stat);
            Made(path, trusts);
        }
        done(std::move(stat));
    };
}

// Whoever makes a file or directory owns it: its attributes are ours to change.
void WriteBehind::Made(const std::string& path, std::uint64_t trusts) {
    if (mode_ == Mode::kQuiet && trusts == trusts_ && !path.empty()) made_.insert(path);
}

void WriteBehind::MakeDir(const Through_& to, const std::string& path, std::uint32_t mode,
                          const Before& before, StatDone done) {
    if (auto refused = Refusal(to, Kind::kMakes)) return done(*std::move(refused));
    What what{.text = "mkdir " + path, .path = path, .other = {}};
    const TrustedDirs::Directory* parent = Trusted(path, before);
    if (MayDefer() && parent != nullptr && before.IsFree()) {
        RemoteStat stat = NewStat(S_IFDIR | mode | (parent->stat.mode & S_ISGID), *parent);
        stat.size = kDirectorySize;
        const VolumePtr volume = parent->volume;
        Touched(path);
        if (dirs_.MayWrite(stat)) dirs_.Add(path, {stat, volume, loop_.clock().Steady(), true});
        made_.insert(path);
        Defer(std::move(what), false, [this, path, mode](Done ended) {
            patient_->MakeDir(path, mode, WithoutStat(std::move(ended)));
        });
        return done(stat);
    }
    Through<RemoteStat>(
        std::move(what), [to, path, mode](StatDone d) { to->MakeDir(path, mode, std::move(d)); },
        Making(path, std::move(done)));
}

void WriteBehind::Symlink(const Through_& to, const std::string& target, const std::string& path,
                          const Before& before, StatDone done) {
    if (auto refused = Refusal(to, Kind::kMakes)) return done(*std::move(refused));
    What what{.text = "symlink " + path, .path = path, .other = {}};
    const TrustedDirs::Directory* parent = Trusted(path, before);
    if (MayDefer() && parent != nullptr && before.IsFree()) {
        RemoteStat stat = NewStat(S_IFLNK | 0777, *parent);
        stat.size = target.size();
        Touched(path);
        made_.insert(path);
        Defer(std::move(what), false, [this, target, path](Done ended) {
            patient_->Symlink(target, path, WithoutStat(std::move(ended)));
        });
        return done(stat);
    }
    Through<RemoteStat>(
        std::move(what),
        [to, target, path](StatDone d) { to->Symlink(target, path, std::move(d)); },
        Making(path, std::move(done)));
}

void WriteBehind::Link(const Through_& to, const std::string& from, const std::string& path,
                       StatDone done) {
    if (auto refused = Refusal(to, Kind::kMakes)) return done(*std::move(refused));
    OpenLetGo(from);
    Through<RemoteStat>(
        {.text = "link " + from + " to " + path, .path = from, .other = path},
        [to, from, path](StatDone d) { to->Link(from, path, std::move(d)); },
        [this, self = shared_from_this(), path, done = std::move(done)](Result<RemoteStat> stat) {
            if (stat) ChangedThere(path);
            done(std::move(stat));
        });
}

void WriteBehind::Unlink(const Through_& to, const std::string& path, const Before& before,
                         Done done) {
    if (auto refused = Refusal(to, Kind::kRemoves)) return done(*std::move(refused));
    OpenLetGo(path);
    What what{
        .text = "unlink " + path, .path = path, .other = {}, .removes = true, .vacates = true};
    const TrustedDirs::Directory* parent = Trusted(path, before);
    const std::optional<RemoteStat> itself = Known(path, before);
    if (MayDefer() && parent != nullptr && itself && !IsDirectory(*itself) &&
        dirs_.MayRemove(parent->stat, *itself)) {
        Touched(path);
        const StatePtr removed = StateAt(path);
        Unnamed(path);
        if (removed != nullptr) DropUnsent(removed);
        Defer(std::move(what), false,
              [this, path](Done ended) { patient_->Unlink(path, std::move(ended)); });
        return done(Ok());
    }
    Through<Unit>(
        std::move(what), [to, path](Done d) { to->Unlink(path, std::move(d)); },
        [this, self = shared_from_this(), path, done = std::move(done)](Status status) {
            if (status) {
                ChangedThere(path);
                Unnamed(path);
                Trust(path, std::nullopt);
            }
            done(std::move(status));
        });
}

void WriteBehind::RemoveDir(const Through_& to, const std::string& path, const Before& before,
                            Done done) {
    if (auto refused = Refusal(to, Kind::kRemoves)) return done(*std::move(refused));
    What what{
        .text = "rmdir " + path, .path = path, .other = {}, .reach = Reach::kTree, .vacates = true};
    const TrustedDirs::Directory* parent = Trusted(path, before);
    const std::optional<RemoteStat> itself = Known(path, before);
    const bool plain = before.empty && itself && IsDirectory(*itself) &&
                       (made_.contains(path) || (view_ && view_->MountOf(path).path != path));
    if (MayDefer() && parent != nullptr && plain && dirs_.MayRemove(parent->stat, *itself)) {
        Touched(path);
        dirs_.Drop(path);
        made_.erase(path);
        Defer(std::move(what), false,
              [this, path](Done ended) { patient_->RemoveDir(path, std::move(ended)); });
        return done(Ok());
    }
    Through<Unit>(
        std::move(what), [to, path](Done d) { to->RemoveDir(path, std::move(d)); },
        [this, self = shared_from_this(), path, done = std::move(done)](Status status) {
            if (status) {
                ChangedThere(path);
                dirs_.Drop(path);
                made_.erase(path);
                Trust(path, std::nullopt);
            }
            done(std::move(status));
        });
}

void WriteBehind::Rename(const Through_& to, const std::string& from, const std::string& path,
                         RemoteFiles::Replace replace, const Before& before_from,
                         const Before& before_to, Done done) {
    const bool replaces = !before_to.IsFree();
    if (auto refused = Refusal(to, replaces ? Kind::kMakes : Kind::kRemoves))
        return done(*std::move(refused));
    // Contract 5: if a write failed, the old file stays.
    if (replaces && damaged_.contains(from))
        return done(
            Error(Errno{EIO},
                  from + ": something that was written to it was lost, so it takes no other file's "
                         "place: write it again or remove it",
                  Blame::kRemote));
    OpenLetGo(from);
    OpenLetGo(path);
    // It may be a directory above one.
    if (!before_from.IsThere() || IsDirectory(**before_from.itself)) (void)OpenLetGo();
    What what{.text = "rename " + from + " to " + path,
              .path = from,
              .other = path,
              .reach = Reach::kTree,
              .removes = true,
              .vacates = true};
    const bool known_parent = Trusted(from, before_from) != nullptr;
    const TrustedDirs::Directory* new_parent = Trusted(path, before_to);
    const TrustedDirs::Directory* old_parent = known_parent ? dirs_.Find(ParentOf(from)) : nullptr;
    const std::optional<RemoteStat> moved = Known(from, before_from);
    const std::optional<RemoteStat> replaced =
        before_to.IsFree() ? std::nullopt : Known(path, before_to);
    const bool may_replace =
        replaced && !IsDirectory(*replaced) && replace == RemoteFiles::Replace::kYes;
    const bool plain = moved && !IsDirectory(*moved) && (before_to.IsFree() || may_replace) &&
                       !owner_->HasOtherNames(from) && !owner_->HasOtherNames(path);
    const bool trusted =
        old_parent != nullptr && new_parent != nullptr && old_parent->volume == new_parent->volume;
    if (MayDefer() && plain && trusted && dirs_.MayRemove(old_parent->stat, *moved) &&
        (!replaced || dirs_.MayRemove(new_parent->stat, *replaced))) {
        Touched(from);
        Touched(path);
        const std::optional<IdentityStat> stored = Stored(from);
        Moved(from, path);
        if (S_ISREG(moved->mode)) what.carries = moved->size;
        Defer(std::move(what), stored.has_value(),
              [this, from, path, replace, carries = what.carries, stored](Done ended) {
                  if (stored)
                      return patient_->RenameStored(from, path, replace, *stored, std::move(ended));
                  patient_->RenameFile(from, path, replace, carries, std::move(ended));
              });
        return done(Ok());
    }
    Through<Unit>(
        std::move(what),
        [to, from, path, replace](Done d) { to->Rename(from, path, replace, std::move(d)); },
        [this, self = shared_from_this(), from, path, done = std::move(done)](Status status) {
            if (status) {
                ChangedThere(from);
                ChangedThere(path);
                Moved(from, path);
                Trust(from, std::nullopt);
                Trust(path, std::nullopt);
            }
            done(std::move(status));
        });
}

void WriteBehind::SetStat(const Through_& to, const std::string& path, const StatChange& change,
                          const Before& before, StatDone done) {
    if (auto refused = Refusal(to, change.size ? Kind::kMakes : Kind::kRemoves))
        return done(*std::move(refused));
    What what{.text = "change of the attributes of " + path,
              .path = path,
              .other = {},
              .removes = change.size.has_value(),
              .named = false};
    const StatePtr state = StateAt(path);
    // fchmod(2) and its like come by the name.
    if (state != nullptr && state->gathers != nullptr)
        return SetFileStat(to, state->queue.front().file, change, std::move(done));
    TrustedDirs::Directory* directory = dirs_.Find(path);
    const std::optional<RemoteStat> known = Known(path, before);
    OpenLetGo(path);
    // By another mode or owner of a directory above it nothing might be opened again.
    if ((change.mode || change.uid) && (!known || IsDirectory(*known))) (void)OpenLetGo();
    // The owner's, since nobody else but root changes a mode.
    constexpr std::uint32_t kWays = S_IWUSR | S_IXUSR;
    if (change.mode && (*change.mode & kWays) != kWays && (!known || IsDirectory(*known))) {
        what.reach = Reach::kTree;
        what.shuts = true;
    }
    // What is still to be made in it moves its times. BehindWhole.ADirectoryKeepsTheTimeThatWasSetBehindItsFiles.
    if (change.mtime && known && IsDirectory(*known)) what.reach = Reach::kTree;
    if (MayDefer() && IsSettled(path) && !change.size && !change.uid && known &&
        made_.contains(path) && !owner_->HasOtherNames(path) && !S_ISLNK(known->mode) &&
        (state == nullptr || state->stat.mode != 0)) {
        RemoteStat stat = state == nullptr ? *known : Tell(*state);
        if (change.mode) stat.mode = (stat.mode & S_IFMT) | *change.mode;
        if (change.atime) stat.atime = *change.atime;
        if (change.mtime) stat.mtime = *change.mtime;
        if (directory != nullptr) {
            directory->stat = stat;
            if (change.mtime) directory->told = false;
            if (change.mode && !dirs_.MayWrite(stat)) dirs_.Drop(path);
        }
        const auto send = [this, path, change](Done ended) {
            patient_->SetStat(path, change, WithoutStat(std::move(ended)));
        };
        if (state == nullptr) {
            Defer(std::move(what), false, send);
        } else {
            // Behind what was written to it before: that moves its mtime.
            state->stat = stat;
            const ChangePtr queued = New(std::move(what), true);
            queued->send = [this, state, queued, send] {
                send([weak = weak_from_this(), state, queued](const Status& status) {
                    if (const auto self = weak.lock())
                        self->DataEnded(state, queued, nullptr, status);
                });
            };
            Queue(state, queued, nullptr);
        }
        return done(stat);
    }
    // As above, where others write, too.
    const FilePtr maker = state == nullptr ? nullptr : state->maker.lock();
    if (maker != nullptr && MaySetBehind(*maker, change))
        return SetFileStat(to, maker, change, std::move(done));
    Through<RemoteStat>(
        std::move(what),
        [to, path, change](StatDone d) { to->SetStat(path, change, std::move(d)); },
        [this, self = shared_from_this(), path, change,
         done = std::move(done)](Result<RemoteStat> stat) {
            if (stat) {
                if (const StatePtr open = StateAt(path)) open->Learn(*stat);
                if (TrustedDirs::Directory* trusted = dirs_.Find(path)) {
                    trusted->stat = *stat;
                    trusted->told = false;
                }
                if (change.mode) dirs_.Drop(path);
            }
            done(std::move(stat));
        });
}

}  // namespace sbxfs
