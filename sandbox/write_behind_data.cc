// WriteBehind: files that are open, and what is written to them.
#include <errno.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "sandbox/clean_path.h"
#include "sandbox/file_cache.h"
#include "sandbox/supervisor/protocol.h"
#include "sandbox/write_behind_state.h"

namespace sbxfs {
namespace {

// Writes that lie side by side are sent as one, up to this.
constexpr std::size_t kMostMerged = 1U << 20;
// Appended at once: one WRITE of most servers.
constexpr std::size_t kMostAppended = 128U << 10;

Error NotOpen(const std::string& path) {
    return {Errno{EIO}, path + ": it could not be opened in the sandbox", Blame::kRemote};
}

}  // namespace

WriteBehind::StatePtr WriteBehind::StateAt(const std::string& path) const {
    const auto it = states_.find(path);
    return it == states_.end() ? nullptr : it->second;
}

void WriteBehind::DropIfIdle(const StatePtr& state) {
    if (state->handles != 0 || !state->IsClean()) return;
    const auto it = states_.find(state->path);
    if (it != states_.end() && it->second == state) states_.erase(it);
}

void WriteBehind::Moved(const std::string& from, const std::string& to) {
    Unnamed(to);
    dirs_.Drop(from);
    dirs_.Drop(to);
    times_.Moved(from, to);
    if (made_.erase(from) > 0) made_.insert(to);
    const std::optional<IdentityStat> stored = Stored(from);
    std::erase_if(stored_, [&](const auto& one) { return IsWithin(one.first, from); });
    RememberStored(to, stored);
    if (damaged_.erase(from) > 0) damaged_.insert(to);
    std::vector<StatePtr> moved;
    const std::string below = from + "/";
    if (const StatePtr itself = StateAt(from)) moved.push_back(itself);
    for (auto it = states_.lower_bound(below); it != states_.end() && it->first.starts_with(below);
         ++it)
        moved.push_back(it->second);
    for (const StatePtr& state : moved) {
        states_.erase(state->path);
        state->path = to + state->path.substr(from.size());
        states_[state->path] = state;
    }
}

void WriteBehind::Unnamed(const std::string& path) {
    made_.erase(path);
    std::erase_if(stored_, [&](const auto& one) { return one.first == path; });
    damaged_.erase(path);
    times_.Forget(path);
    const auto it = states_.find(path);
    if (it == states_.end()) return;
    it->second->path.clear();
    states_.erase(it);
}

// --- Operations

void WriteBehind::Open(const Through_& to, const std::string& path, const OpenHow& how,
                       const Before& before, OpenDone done) {
    if (how.create || how.truncate) {
        if (auto refused = Refusal(to, Kind::kMakes)) return done(*std::move(refused));
    }
    const TrustedDirs::Directory* parent = how.create ? Trusted(path, before) : nullptr;
    if (before.IsFree() && MayDefer() && parent != nullptr && HasRoom(parent->volume, 0)) {
        if (open_files_ < limits_.open_files)
            return CreateBehind(path, how, *parent, std::move(done));
        // The server's handles are not for us alone: those that are being closed go first.
        return Drain(limits_.name_wait, [self = shared_from_this(), to, path, how,
                                         done = std::move(done)](const Status& status) mutable {
            if (!status) return done(status.error());
            self->Open(to, path, how, {}, std::move(done));
        });
    }
    // Taken now: by the time of the answer the name may be another file's.
    StatePtr state = StateAt(path);
    if (state == nullptr) {
        state = std::make_shared<FileState>();
        state->path = path;
        states_[path] = state;
    }
    ++state->handles;
    ++state->open;
    const bool anew = how.create && (how.exclusive || before.IsFree());
    OpenDone opened = [self = shared_from_this(), state, how, anew, trusts = trusts_,
                       done = std::move(done)](Result<OpenedFile> result) {
        if (result && anew) self->damaged_.erase(state->path);
        if (result && how.create && how.exclusive && LinkedFiles::OutlivesACut(*result->file)) {
            self->Made(state->path, trusts);
            state->made = self->made_.contains(state->path);
        }
        if (result) return self->Opened(state, how, std::move(*result), done);
        --state->handles;
        --state->open;
        self->DropIfIdle(state);
        done(std::move(result).error());
    };
    if (!how.create && !how.truncate)
        return Question<OpenedFile>(
            path, Reach::kPath, [to, path, how](OpenDone d) { to->Open(path, how, std::move(d)); },
            std::move(opened));
    Through<OpenedFile>(
        {.text = "open " + path,
         .path = path,
         .other = {},
         .removes = how.truncate,
         .named = how.create},
        [to, path, how](OpenDone d) { to->Open(path, how, std::move(d)); }, std::move(opened));
}

void WriteBehind::CreateBehind(const std::string& path, const OpenHow& how,
                               const TrustedDirs::Directory& parent, OpenDone done) {
    const auto state = std::make_shared<FileState>();
    state->path = path;
    state->stat = NewStat(S_IFREG | how.mode, parent);
    state->volume = parent.volume;
    state->made = state->told = true;
    Unnamed(path);
    states_[path] = state;
    made_.insert(path);
    Touched(path);
    const auto file = std::make_shared<BehindFile>(loop_, weak_from_this(), state, how);
    ++state->handles;
    ++state->open;
    ++open_files_;
    file->counted = file->wrote = true;

    const ChangePtr change = New({.text = "create " + path, .path = path, .other = {}}, true);
    change->data = true;
    OpenHow exclusively = how;
    exclusively.exclusive =
        true;  // it is known to be free; if somebody has been faster, nothing of his is lost
    exclusively.truncate = false;
    change->send = [this, state, change, file, path, exclusively] {
        state->opening = true;
        patient_->Open(path, exclusively,
                       [weak = weak_from_this(), state, change, file](Result<OpenedFile> opened) {
                           const auto self = weak.lock();
                           if (self == nullptr) return;
                           if (opened) file->inner = std::move(opened->file);
                           const Status status = opened ? Ok() : Status(opened.error());
                           self->DataEnded(state, change, file, status);
                           state->opening = false;
                           if (!status) return self->CreationFailed(state, status.error());
                           self->Pump(state);
                       });
    };
    const RemoteStat stat = state->stat;
    if (MayGather(how)) {
        Gather(state, change, file);
        return done(OpenedFile{file, stat});
    }
    state->opening = true;
    state->under_way.insert(change->id);
    DependOnConflicts(change, Reach::kPath);
    Enter(change);
    if (change->waits == 0) ready_.push_back(change);
    Run();
    done(OpenedFile{file, stat});
}

// `state` counts this handle already.
void WriteBehind::Opened(const StatePtr& state, const OpenHow& how, OpenedFile opened,
                         const OpenDone& done) {
    const std::string path = state->path;
    state->let_go = false;
    if (how.truncate) {
        damaged_.erase(path);
        times_.Forget(path);
        // What was told of it before is no time of what it is now.
        state->told = state->guessed = false;
    }
    FindVolume(*state);
    const bool still = state->IsStill();
    if (still) {
        Learned(*state, opened.stat);
    } else if (how.truncate) {
        // What is on its way was sent behind that.
        state->stat.size = state->EndOfWrites();
    }
    if (path.empty()) {
        // It has lost its name meanwhile.
    } else if (how.create) {
        ChangedThere(path);
        Trust(path, opened.stat);
    } else if (how.write && mode_ == Mode::kQuiet && state->volume == nullptr) {
        Trust(path, std::nullopt);
    }
    const auto file = std::make_shared<BehindFile>(loop_, weak_from_this(), state, how);
    file->inner = std::move(opened.file);
    file->made = how.create && how.exclusive;
    if (file->made) state->maker = file;
    state->seen = loop_.clock().Steady();
    file->counted = true;
    ++open_files_;
    if (still) return done(OpenedFile{file, state->stat});
    if (mode_ == Mode::kQuiet) return done(OpenedFile{file, Tell(*state)});
    RemoteStat stat = state->stat;
    stat.mtime = opened.stat.mtime;
    done(OpenedFile{file, stat});
}

void WriteBehind::Read(const Through_& to, const FilePtr& file, FileRange range, BytesDone done) {
    Keep(file);
    WhenClean(file->state, [to, file, range, done = std::move(done)](const Status& status) mutable {
        if (!status) return done(status.error());
        if (file->inner == nullptr)
            return done(file->state->error.value_or(NotOpen(file->state->path)));
        to->Read(file->inner, range, std::move(done));
    });
}

void WriteBehind::Write(const Through_& to, const FilePtr& file, std::uint64_t offset,
                        FileBytes bytes, Done done) {
    if (file->error) return done(*file->error);
    if (auto refused = Refusal(to, Kind::kMakes)) return done(*std::move(refused));
    changed_ = true;
    // Where nothing was known of its file system yet when it was opened.
    FindVolume(*file->state);
    Payload payload{offset, std::move(bytes)};
    if (room_.empty() && dirty_ + payload.bytes.size() <= DirtyBound())
        return WriteNow(to, file, std::move(payload), std::move(done));
    if (!MayDefer(*file->state, payload.bytes.size()))
        return WriteNow(to, file, std::move(payload), std::move(done));
    const SteadyTime deadline = loop_.clock().Steady() + limits_.wait;
    room_.push_back({deadline, [self = shared_from_this(), to, file, payload = std::move(payload),
                                done = std::move(done)](const Status& room) mutable {
                         if (!room) return done(room);
                         if (file->error) return done(*file->error);
                         if (auto refused = self->Refusal(to, Kind::kMakes))
                             return done(*std::move(refused));
                         self->WriteNow(to, file, std::move(payload), std::move(done));
                     }});
    ArmDeadline();
}

void WriteBehind::WriteNow(const Through_& to, const FilePtr& file, Payload payload, Done done) {
    const StatePtr& state = file->state;
    if (state->error) return done(*state->error);
    Keep(file);
    // What could not be repeated after a cut is not told before it has arrived.
    const bool lasts = file->inner == nullptr || LinkedFiles::OutlivesACut(*file->inner);
    // Behind a truncation that is under way nobody knows where an append will lie.
    const bool settled = IsSettled(state->path);
    if (!settled) state->sure = false;
    const bool deferred = lasts && settled && (state->sure || !file->how.append) &&
                          MayDefer(*state, payload.bytes.size());
    if (deferred && file->how.append && payload.bytes.size() > kMostAppended) {
        // Each arrives as a whole or not at all, which a cut of the link makes necessary to know.
        const std::string_view all = payload.bytes.view();
        Payload first{0, std::string(all.substr(0, kMostAppended))};
        Payload rest{0, std::string(all.substr(kMostAppended))};
        WriteNow(to, file, std::move(first), [](const Status&) {});
        return WriteNow(to, file, std::move(rest), std::move(done));
    }
    file->written = true;
    const std::uint64_t size = payload.bytes.size();
    if (deferred && file->how.append) payload.offset = state->stat.size;
    const std::uint64_t from = file->how.append ? state->stat.size : payload.offset;
    state->stat.size = std::max(state->stat.size, from + size);
    state->stat.mtime = TheirNow();
    state->told = false;
    state->guessed = true;
    times_.Forget(state->path);
    state->unacknowledged += size;
    if (state->unacknowledged > supervisor::kMaxStored) Ungather(state);
    if (state->volume != nullptr) state->volume->used += size;
    if (deferred) {
        SetDirty(dirty_ + size);
        file->wrote = true;
        if (mode_ == Mode::kQuiet && !file->how.append && state->unacknowledged > kWide)
            files_->WantLane();
        const auto tail = state->tail.lock();
        if (tail != nullptr && state->tail_file == file && !file->how.append &&
            tail->offset + tail->bytes.size() == payload.offset &&
            tail->bytes.size() + size <= kMostMerged) {
            tail->bytes.Append(payload.bytes.view());
            state->queue.back().change->bytes += size;
            return done(Ok());
        }
    }
    const ChangePtr change =
        New({.text = "write " + state->path, .path = {}, .other = {}, .named = false}, deferred);
    change->bytes = size;
    change->offset = payload.offset;
    change->plain = !file->how.append;
    const auto held = std::make_shared<Payload>(std::move(payload));
    change->payload = held;
    const auto answer = std::make_shared<Done>();
    if (!deferred) *answer = std::move(done);
    const Through_ way = deferred ? Through_(patient_) : to;
    // Who waits for an append need not hear that nobody knows, either.
    std::optional<std::uint64_t> end;
    if (!deferred && file->how.append && mode_ == Mode::kQuiet && settled && state->sure &&
        !owner_->HasOtherNames(state->path))
        end = from;
    change->send = [this, way, state, change, file, held, end, answer] {
        if (file->inner == nullptr) {
            const Error error = state->error.value_or(NotOpen(state->path));
            DataEnded(state, change, file, error);
            if (*answer) (*answer)(error);
            return;
        }
        auto ended = [weak = weak_from_this(), state, change, file, answer](Status status) {
            const auto self = weak.lock();
            if (self != nullptr) self->DataEnded(state, change, file, status);
            if (*answer) (*answer)(std::move(status));
        };
        if (end) return way->Append(file->inner, std::move(held->bytes), end, std::move(ended));
        if (change->aside)
            return patient_->WriteAside(file->inner, held->offset, std::move(held->bytes),
                                        std::move(ended));
        way->Write(file->inner, held->offset, std::move(held->bytes), std::move(ended));
    };
    if (!deferred) {
        change->fail = [answer](const Error& why) { (*answer)(why); };
        // After a cut what was told is repeated in its own time: this must not come before it.
        DependOnUnderWay(change, *state);
    }
    Queue(state, change, file);
    if (!deferred) {
        if (change->sent) return;
        change->deadline = loop_.clock().Steady() + limits_.wait;
        return ArmDeadline();
    }
    if (!change->sent) {
        state->tail = held;
        state->tail_file = file;
    }
    done(Ok());
}

void WriteBehind::FileStat(const Through_& to, const FilePtr& file, StatDone done) {
    const StatePtr& state = file->state;
    if (HasJustLetGo(*state)) return done(state->stat);
    if (!state->IsClean() && !state->error) {
        if (mode_ == Mode::kQuiet) return done(Tell(*state));
        return WhenClean(state, [self = shared_from_this(), to, file,
                                 done = std::move(done)](const Status& clean) mutable {
            if (!clean) return done(clean.error());
            self->AskFileStat(to, file, std::move(done));
        });
    }
    AskFileStat(to, file, std::move(done));
}

void WriteBehind::AskFileStat(const Through_& to, const FilePtr& file, StatDone done) {
    const StatePtr& state = file->state;
    if (file->inner == nullptr) return done(state->error.value_or(NotOpen(state->path)));
    if (file->let_go && !state->path.empty()) return Lstat(to, state->path, std::move(done));
    to->FileStat(file->inner,
                 [weak = weak_from_this(), state, done = std::move(done)](Result<RemoteStat> stat) {
                     const auto self = weak.lock();
                     if (self == nullptr || !stat) return done(std::move(stat));
                     state->seen = self->loop_.clock().Steady();
                     if (!state->IsStill() && self->mode_ == Mode::kQuiet)
                         return done(self->Tell(*state));
                     // It is being written to again: as large as its callers know it to be.
                     if (!state->IsStill()) {
                         stat->size = state->stat.size = std::max(stat->size, state->EndOfWrites());
                         return done(std::move(stat));
                     }
                     self->Learned(*state, *stat);
                     done(state->stat);
                 });
}

// Where others write, too: of a file that this handle has just made and written, before its close, which waits for it.
// No time that we guessed is told with it, and no size that is older than attributes may be there.
bool WriteBehind::MaySetBehind(const BehindFile& file, const StatChange& change) {
    const FileState& state = *file.state;
    return mode_ == Mode::kShared && !change.size && !change.uid && file.made && file.written &&
           !state.error && file.inner != nullptr && LinkedFiles::OutlivesACut(*file.inner) &&
           IsSettled(state.path) && MayDefer(state, 0) && (change.mtime || !state.guessed) &&
           loop_.clock().Steady() - state.seen < FileCache::kSharedLife;
}

void WriteBehind::SetFileStat(const Through_& to, const FilePtr& file, const StatChange& change,
                              StatDone done) {
    const StatePtr& state = file->state;
    if (auto refused = Refusal(to, change.size ? Kind::kMakes : Kind::kRemoves))
        return done(*std::move(refused));
    Keep(file);
    const bool shared = MaySetBehind(*file, change);
    const bool quiet = !change.size && !change.uid && IsSettled(state->path) && state->made &&
                       MayDefer() && !state->error;
    if (shared || quiet) {
        if (shared) {
            state->guessed = false;
            if (change.mtime) times_.Forget(state->path);
        } else {
            (void)Tell(*state);
        }
        if (change.mode) state->stat.mode = (state->stat.mode & S_IFMT) | *change.mode;
        if (change.atime) state->stat.atime = *change.atime;
        if (change.mtime) state->stat.mtime = *change.mtime;
        const ChangePtr queued = New({.text = "change of the attributes of " + state->path,
                                      .path = {},
                                      .other = {},
                                      .named = false},
                                     true);
        queued->attributes = change;
        queued->send = [this, state, queued, file, change] {
            patient_->SetFileStat(
                file->inner, change,
                [weak = weak_from_this(), state, queued, file](const Result<RemoteStat>& set) {
                    const Status status = set ? Ok() : Status(set.error());
                    if (const auto self = weak.lock()) self->DataEnded(state, queued, file, status);
                });
        };
        file->wrote = true;
        const RemoteStat stat = state->stat;
        Queue(state, queued, file);
        return done(stat);
    }
    WhenClean(state, [self = shared_from_this(), to, file, change,
                      done = std::move(done)](const Status& clean) mutable {
        const FileState& now = *file->state;
        if (!clean) return done(clean.error());
        if (file->inner == nullptr) return done(now.error.value_or(NotOpen(now.path)));
        self->Through<RemoteStat>(
            {.text = "change of the attributes of " + now.path,
             .path = now.path,
             .other = {},
             .removes = change.size.has_value(),
             .named = false},
            [to, file, change](StatDone d) { to->SetFileStat(file->inner, change, std::move(d)); },
            [self, file, change, done = std::move(done)](Result<RemoteStat> stat) {
                if (change.size || change.mtime) self->times_.Forget(file->state->path);
                if (stat) file->state->Learn(*stat);
                done(std::move(stat));
            });
    });
}

void WriteBehind::Copy(const Through_& to, const FilePtr& from, FileRange range,
                       const FilePtr& target, std::uint64_t offset, CopiedDone done) {
    if (auto refused = Refusal(to, Kind::kMakes)) return done(*std::move(refused));
    Keep(from);
    Keep(target);
    WhenClean(from->state, [self = shared_from_this(), to, from, range, target, offset,
                            done = std::move(done)](const Status& clean) mutable {
        if (!clean) return done(clean.error());
        self->WhenClean(target->state, [self, to, from, range, target, offset,
                                        done = std::move(done)](const Status& ready) mutable {
            if (!ready) return done(ready.error());
            if (from->inner == nullptr || target->inner == nullptr)
                return done(Error(Errno{EOPNOTSUPP}, "not open in the sandbox"));
            self->Through<std::uint64_t>(
                {.text = "copy to " + target->state->path,
                 .path = target->state->path,
                 .other = {},
                 .named = false},
                [to, from, range, target, offset](CopiedDone d) {
                    to->Copy(from->inner, range, target->inner, offset, std::move(d));
                },
                [self, target, offset, done = std::move(done)](Result<std::uint64_t> copied) {
                    if (copied) {
                        RemoteStat& stat = target->state->stat;
                        stat.size = std::max(stat.size, offset + *copied);
                        target->wrote = true;
                    }
                    done(std::move(copied));
                });
        });
    });
}

void WriteBehind::Sync(const Through_& to, const FilePtr& file, Done done) {
    Keep(file);
    const StatePtr& state = file->state;
    const ChangePtr change =
        New({.text = "sync " + state->path, .path = {}, .other = {}, .named = false}, false);
    change->syncs = true;
    const auto answer = std::make_shared<Done>(std::move(done));
    change->fail = [answer](const Error& why) { (*answer)(why); };
    change->as_part = [this, state, change, file, answer](const Status& status) {
        DataEnded(state, change, file, status);
        (*answer)(file->error ? Status(*file->error) : status);
    };
    change->send = [this, to, state, change, file, answer] {
        if (file->inner == nullptr) {
            const Error error = state->error.value_or(NotOpen(state->path));
            DataEnded(state, change, file, error);
            return (*answer)(error);
        }
        to->Sync(file->inner, [weak = weak_from_this(), to, state, change, file, answer,
                               link = files_->WhichLink()](const Status& status) {
            const auto self = weak.lock();
            if (self == nullptr) return (*answer)(status);
            self->DataEnded(state, change, file, status);
            if (file->error) return (*answer)(*file->error);
            const bool all = state->under_way.empty() || *state->under_way.begin() > change->id;
            if (!status || all) return (*answer)(status);
            self->WhenClean(state, [weak, to, file, answer, link](const Status& clean) {
                const auto later = weak.lock();
                if (!clean || later == nullptr) return (*answer)(clean);
                // The server works its channel off in order; only what a cut has left open was written later.
                if (later->files_->WhichLink() == link)
                    return (*answer)(file->error ? Status(*file->error) : Ok());
                later->Sync(to, file, [answer](Status last) { (*answer)(std::move(last)); });
            });
        });
    };
    Queue(state, change, file);
    if (!change->sent) {
        change->deadline = loop_.clock().Steady() + limits_.wait;
        ArmDeadline();
    }
    if (MayLetGo(*file)) LetGo(file);
    Ungather(state);
}

void WriteBehind::Flush(const FilePtr& file, Done done) {
    const StatePtr& state = file->state;
    const auto told = [file](const Status& status) -> Status {
        if (file->error) return *file->error;
        return status;
    };
    const bool waits = !state->IsClean() && file->wrote &&
                       (mode_ != Mode::kQuiet || state->unacknowledged > limits_.at_close ||
                        !HasRoom(state->volume, 0));
    if (!waits) return done(told(Ok()));
    WhenClean(state, [told, done = std::move(done)](const Status& status) { done(told(status)); });
}

void WriteBehind::Close(const FilePtr& file) {
    --file->state->open;
    file->closed = true;
    if (file->state->error || file->let_go) return;
    if (file->wrote) return QueueClose(file);
    if (file->inner != nullptr) patient_->Close(file->inner, [](const Status&) {});
}

void WriteBehind::QueueClose(const FilePtr& file) {
    const StatePtr& state = file->state;
    const ChangePtr change =
        New({.text = "close " + state->path, .path = {}, .other = {}, .named = false}, true);
    if (const ChangePtr before = file->opens_again.lock()) DependOn(change, before, After::kEnded);
    change->send = [this, state, change, file, early = file->let_go] {
        if (early && file->inner != nullptr && !LinkedFiles::OutlivesACut(*file->inner)) Keep(file);
        // Something was done to it since.
        const bool kept = early && !file->let_go;
        if (file->inner == nullptr || kept) return DataEnded(state, change, file, Ok());
        file->gone = early;
        patient_->FileStat(file->inner, [weak = weak_from_this(), state,
                                         id = change->id](const Result<RemoteStat>& stat) {
            if (const auto self = weak.lock(); self != nullptr && stat)
                self->Settle(state, id, *stat);
        });
        patient_->Close(file->inner,
                        [weak = weak_from_this(), state, change, file](const Status& status) {
                            const auto self = weak.lock();
                            if (self == nullptr) return;
                            // A sandbox that is gone has closed it, and its writes have spoken for themselves.
                            const bool gone = self->files_->HasEnded();
                            self->DataEnded(state, change, file, gone ? Ok() : status);
                        });
    };
    change->closes = true;
    Queue(state, change, file);
    Seal(state);
}

}  // namespace sbxfs
