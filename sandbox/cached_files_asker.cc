// CachedFiles::Asker: the operations of a parked request, past what is known and into it.
#include <errno.h>
#include <sys/stat.h>

#include <utility>

#include "sandbox/cached_file.h"
#include "sandbox/cached_files.h"
#include "sandbox/clean_path.h"
#include "sandbox/prefetcher.h"

namespace sbxfs {

namespace {

// A name that was made or moved where others work may be a lock that was taken.
FileCache::Directory AfterLocking(const FileCache& cache, bool made) {
    return made && !cache.IsQuiet() ? FileCache::Directory::kForget : FileCache::Directory::kKeep;
}

}  // namespace

// --- Asker: what asks

void CachedFiles::Asker::AskStat(const std::string& path, StatDone done) {
    const FileCache::Question question = owner_->cache_.Ask(path);
    files_.Lstat(path, [owner = owner_, question, done = std::move(done)](Result<RemoteStat> stat) {
        owner->cache_.PutStat(question, stat);
        done(std::move(stat));
    });
}

void CachedFiles::Asker::Lstat(const std::string& path, StatDone done) {
    owner_->OnLoop([parent = std::string(ParentOf(path))](CachedFiles& owner) {
        owner.prefetcher_->Looked(parent);
    });
    if (owner_->cache_.Marked(path, 1).empty()) return AskStat(path, std::move(done));
    owner_->OnLoop([wanted = wanted_, path, done = std::move(done)](CachedFiles& owner) mutable {
        owner.Recheck(path, [&owner, wanted, path, done = std::move(done)]() mutable {
            if (auto known = owner.cache_.Stat(path)) return done(std::move(*known));
            owner.For(wanted).AskStat(path, std::move(done));
        });
    });
}

void CachedFiles::Asker::AskList(const std::string& path, EntriesDone done) {
    const FileCache::Question question = owner_->cache_.AskList(path);
    files_.List(path, [owner = owner_, question, path,
                       done = std::move(done)](Result<std::vector<RemoteEntry>> entries) {
        owner->cache_.PutList(question, entries);
        owner->prefetcher_->Arrived(path);
        done(std::move(entries));
    });
}

void CachedFiles::Asker::List(const std::string& path, EntriesDone done) {
    owner_->OnLoop([wanted = wanted_, path, done = std::move(done)](CachedFiles& owner) mutable {
        const auto answer = std::make_shared<EntriesDone>(std::move(done));
        const auto tell = [owner = owner.shared_from_this(), wanted, path, answer] {
            auto entries = owner->KnownEntries(path);
            if (!entries) return owner->For(wanted).AskList(path, std::move(*answer));
            owner->prefetcher_->Arrived(path);
            (*answer)(std::move(*entries));
        };
        // Where it is being listed ahead, that is it.
        if (!owner.prefetcher_->WhenListed(path, tell)) return owner.Recheck(path, tell);
        *answer = owner.Bounded(std::move(*answer), owner.setup_.timeouts.operation);
    });
}

void CachedFiles::Asker::ReadLink(const std::string& path, TextDone done) {
    const FileCache::Question question = owner_->cache_.Ask(path);
    files_.ReadLink(path,
                    [owner = owner_, question, done = std::move(done)](Result<std::string> target) {
                        owner->cache_.PutTarget(question, target);
                        done(std::move(target));
                    });
}

void CachedFiles::Asker::Statfs(const std::string& path, StatfsDone done) {
    owner_->space_.Ask(path);
    files_.Statfs(path, [owner = owner_, path, done = std::move(done)](Result<RemoteStatfs> space) {
        owner->space_.Answered(path, space);
        done(std::move(space));
    });
}

// --- Asker: open files

template <class D, class F>
void CachedFiles::Asker::On(const RemoteFilePtr& file, D done, F use) {
    const auto cached = std::dynamic_pointer_cast<CachedFile>(file);
    if (cached == nullptr) return use(files_, file, std::move(done));
    if (const RemoteFilePtr real = cached->Real()) return use(files_, real, std::move(done));
    cached->WithReal([owner = owner_, wanted = wanted_, done = std::move(done),
                      use = std::move(use)](const Result<RemoteFilePtr>& real) mutable {
        if (!real) return done(real.error());
        Asker asker = owner->For(wanted);
        use(asker.files_, *real, std::move(done));
    });
}

void CachedFiles::Asker::Read(const RemoteFilePtr& file, FileRange range, BytesDone done) {
    if (const auto cached = std::dynamic_pointer_cast<CachedFile>(file))
        return cached->Read(range, wanted_, std::move(done));
    files_.Read(file, range, std::move(done));
}

void CachedFiles::Asker::FileStat(const RemoteFilePtr& file, StatDone done) {
    On(file, std::move(done), [](auto& files, const RemoteFilePtr& real, StatDone answer) {
        files.FileStat(real, std::move(answer));
    });
}

// --- Asker: what changes

// Before the cache is told of the change: that makes it forget.
WriteBehind::Before CachedFiles::Asker::BeforeChange(const std::string& path) const {
    if (!owner_->setup_.write_behind || !owner_->cache_.IsQuiet()) return {};
    return {owner_->cache_.Stat(path), owner_->cache_.Stat(std::string(ParentOf(path)))};
}

void CachedFiles::Asker::SetStat(const std::string& path, const StatChange& change, StatDone done) {
    WriteBehind::Before before = BeforeChange(path);
    owner_->cache_.Changed(path);
    files_.SetStat(path, change, std::move(before),
                   [owner = owner_, path, done = std::move(done)](Result<RemoteStat> stat) {
                       owner->cache_.Changed(path);
                       done(std::move(stat));
                   });
}

// What waits for its answer makes the attributes of the directory unknown, which the kernel asks for with the next
// name in it: they come in the same flight. Called when the change itself is on its way.
void CachedFiles::Asker::LookBehind(const std::string& path,
                                    const std::vector<FileCache::Question>& changes) {
    if (owner_->setup_.write_behind && owner_->cache_.IsQuiet()) return;
    const std::string directory(ParentOf(path));
    const FileCache::Question question = owner_->cache_.AskBehind(directory, changes);
    owner_->OnLoop(
        [directory, question](CachedFiles& owner) { owner.LookBehind(directory, question); });
}

StatDone CachedFiles::Asker::Making(FileCache::Question question, StatDone done) {
    return [owner = owner_, question, done = std::move(done)](Result<RemoteStat> stat) mutable {
        owner->cache_.Made(question, stat);
        owner->AfterLook(std::move(done), std::move(stat));
    };
}

Done CachedFiles::Asker::Removing(FileCache::Question question, Done done) {
    return [owner = owner_, question, done = std::move(done)](Status status) mutable {
        owner->cache_.Gone(question, status);
        owner->AfterLook(std::move(done), std::move(status));
    };
}

void CachedFiles::Asker::MakeDir(const std::string& path, std::uint32_t mode, StatDone done) {
    WriteBehind::Before before = BeforeChange(path);
    const FileCache::Question question = owner_->cache_.ChangingName(path);
    files_.MakeDir(path, mode, std::move(before), Making(question, std::move(done)));
    LookBehind(path, {question});
}

void CachedFiles::Asker::RemoveDir(const std::string& path, Done done) {
    WriteBehind::Before before = BeforeChange(path);
    const auto names = owner_->cache_.List(path);
    before.empty = names && names->empty();
    const FileCache::Question question = owner_->cache_.ChangingName(path);
    files_.RemoveDir(path, std::move(before), Removing(question, std::move(done)));
    LookBehind(path, {question});
}

void CachedFiles::Asker::Unlink(const std::string& path, Done done) {
    WriteBehind::Before before = BeforeChange(path);
    const FileCache::Question question = owner_->cache_.ChangingName(path);
    Done removed = Removing(question, std::move(done));
    auto lazy = owner_->lazy_->At(path);
    if (lazy.empty()) {
        files_.Unlink(path, std::move(before), std::move(removed));
        return LookBehind(path, {question});
    }
    AfterOpening(std::move(lazy), [owner = owner_, wanted = wanted_, path,
                                   removed = std::move(removed)](Status opened) mutable {
        if (!opened) return removed(std::move(opened));
        owner->For(wanted).files_.Unlink(path, {}, std::move(removed));
    });
}

// What has been opened here alone stays open when its name goes: it is opened there first, and nothing about
// the name is taken for known any more by then.
void CachedFiles::Asker::AfterOpening(std::vector<std::shared_ptr<CachedFile>> lazy, Done go) {
    owner_->OnLoop([lazy = std::move(lazy), go = std::move(go)](CachedFiles& owner) mutable {
        Done bounded = owner.Bounded(std::move(go), owner.setup_.timeouts.name_change);
        owner.OpenLazy(std::move(lazy), [bounded = std::move(bounded)] { bounded(Ok()); });
    });
}

void CachedFiles::Asker::Symlink(const std::string& target, const std::string& path,
                                 StatDone done) {
    WriteBehind::Before before = BeforeChange(path);
    const FileCache::Question question = owner_->cache_.ChangingName(path);
    files_.Symlink(target, path, std::move(before), Making(question, std::move(done)));
    LookBehind(path, {question});
}

void CachedFiles::Asker::Link(const std::string& from, const std::string& to, StatDone done) {
    owner_->cache_.Changed(from);
    const FileCache::Question question = owner_->cache_.ChangingName(to);
    files_.Link(from, to,
                [owner = owner_, question, from, to,
                 done = std::move(done)](Result<RemoteStat> stat) mutable {
                    FileCache& known = owner->cache_;
                    known.Made(question, stat, AfterLocking(known, stat.has_value()));
                    known.Changed(from);
                    if (stat) {
                        known.Linked(from);
                        known.Linked(to);
                    }
                    owner->AfterLook(std::move(done), std::move(stat));
                });
    LookBehind(to, {question});
}

void CachedFiles::Asker::Rename(const std::string& from, const std::string& to, Replace replace,
                                Done done) {
    FileCache& cache = owner_->cache_;
    const bool linked = cache.HasOtherNames(from);
    WriteBehind::Before before_from = BeforeChange(from);
    WriteBehind::Before before_to = BeforeChange(to);
    // What arrives is what was there before, with all its attributes but those that nobody is shown.
    Result<RemoteStat> arrives = Error(Errno{EAGAIN}, "");
    if (before_from.IsThere() && !S_ISDIR((*before_from.itself)->mode) && !linked)
        arrives = **before_from.itself;
    const auto held = cache.Contents(from);
    FileContentsPtr contents = held ? held->contents : nullptr;
    std::vector<std::string> below = cache.LinkedBelow(from);
    const FileCache::Question gone = cache.ChangingName(from);
    const FileCache::Question came = cache.ChangingName(to);
    auto lazy = owner_->lazy_->At(from);
    for (auto& file : owner_->lazy_->At(to))
        lazy.push_back(std::move(file));
    Done renamed = [owner = owner_, from, to, linked, below = std::move(below), gone, came,
                    arrives = std::move(arrives), contents = std::move(contents),
                    done = std::move(done)](Status status) mutable {
        FileCache& known = owner->cache_;
        const FileCache::Directory directory = AfterLocking(known, status.has_value());
        const bool arrived = status && directory == FileCache::Directory::kKeep;
        const Result<RemoteStat> unknown = Error(Errno{EAGAIN}, "");
        // Where both names lead to one file rename(2) does nothing, and says that all is well.
        if (linked) {
            known.Made(gone, unknown, directory);
        } else {
            // Written to meanwhile it is another file's, or no longer what it was.
            if (!known.Gone(gone, status, directory)) contents.reset();
        }
        // Else what is there now is known by type at best; the next look tells all.
        known.Made(came, arrived ? arrives : unknown, directory, std::move(contents));
        if (status && linked) known.Linked(to);
        if (status) {
            for (const std::string& path : below)
                known.Linked(to + path.substr(from.size()));
        }
        owner->AfterLook(std::move(done), std::move(status));
    };
    if (lazy.empty()) {
        files_.Rename(from, to, replace, std::move(before_from), std::move(before_to),
                      std::move(renamed));
        LookBehind(from, {gone, came});
        if (ParentOf(from) != ParentOf(to)) LookBehind(to, {gone, came});
        return;
    }
    AfterOpening(std::move(lazy), [owner = owner_, wanted = wanted_, from, to, replace,
                                   renamed = std::move(renamed)](Status opened) mutable {
        if (!opened) return renamed(std::move(opened));
        owner->For(wanted).files_.Rename(from, to, replace, {}, {}, std::move(renamed));
    });
}

void CachedFiles::Asker::Write(const RemoteFilePtr& file, std::uint64_t offset, FileBytes bytes,
                               Done done) {
    const auto cached = std::dynamic_pointer_cast<CachedFile>(file);
    if (cached != nullptr && cached->KeepWritten(offset, bytes.view())) {
        done = [cached, done = std::move(done)](Status status) {
            if (!status) cached->DropWritten();
            done(std::move(status));
        };
    }
    On(file, std::move(done),
       [offset, bytes = std::move(bytes)](auto& files, const RemoteFilePtr& real,
                                          Done answer) mutable {
           files.Write(real, offset, std::move(bytes), std::move(answer));
       });
}

void CachedFiles::Asker::SetFileStat(const RemoteFilePtr& file, const StatChange& change,
                                     StatDone done) {
    On(file, std::move(done), [change](auto& files, const RemoteFilePtr& real, StatDone answer) {
        files.SetFileStat(real, change, std::move(answer));
    });
}

void CachedFiles::Asker::Copy(const RemoteFilePtr& from, FileRange range, const RemoteFilePtr& to,
                              std::uint64_t offset, CopiedDone done) {
    On(from, std::move(done),
       [owner = owner_, wanted = wanted_, range, to, offset](auto&, const RemoteFilePtr& source,
                                                             CopiedDone answer) {
           owner->For(wanted).On(to, std::move(answer),
                                 [source, range, offset](auto& files, const RemoteFilePtr& target,
                                                         CopiedDone copied) {
                                     files.Copy(source, range, target, offset, std::move(copied));
                                 });
       });
}

void CachedFiles::Asker::Sync(const RemoteFilePtr& file, Done done) {
    On(file, std::move(done), [](auto& files, const RemoteFilePtr& real, Done answer) {
        files.Sync(real, std::move(answer));
    });
}

void CachedFiles::Asker::Close(const RemoteFilePtr& file, Done done) {
    const auto cached = std::dynamic_pointer_cast<CachedFile>(file);
    const RemoteFilePtr real = cached == nullptr ? file : cached->Real();
    if (real != nullptr) files_.Close(real);
    done(Ok());
}

void CachedFiles::Asker::Flush(const RemoteFilePtr& file, Done done) {
    On(file, std::move(done), [](auto& files, const RemoteFilePtr& real, Done answer) {
        files.Flush(real, std::move(answer));
    });
}

void CachedFiles::Asker::Drain(Done done) {
    files_.Drain(std::move(done));
}

// --- Asker: open

void CachedFiles::Asker::Open(const std::string& path, const OpenHow& how, OpenDone done) {
    OpenVerified(path, how, Verify::kNo, [done = std::move(done)](Result<Opened> opened) {
        if (!opened) return done(std::move(opened).error());
        done(OpenedFile{std::move(opened->file), opened->stat});
    });
}

// What the server and the supervisor say of an open, until both have.
struct CachedFiles::Opening {
    std::shared_ptr<CachedFiles> owner;
    std::string path;
    OpenHow how;
    std::optional<Result<OpenedFile>> server;
    bool looked = false;
    std::int64_t looked_at_ns = 0;
    SteadyTime asked{};
    std::optional<FileCache::Question> contents;
    std::optional<std::string> bytes;  // all of a small file, as the supervisor found it
    FileCache::Names names = FileCache::Names::kUnknown;
    Opened opened;
    OpenedDone done;

    // Of the file that the server has opened, `same` as the supervisor's as far as anybody can tell.
    FileContentsPtr Contents(bool same) {
        if (!bytes || !same) return nullptr;
        // Another name of it may have changes on their way that are not known to be its own.
        if (opened.identity->nlink > 1) {
            owner->cache_.Linked(path);
            return nullptr;
        }
        FileContentsPtr whole = owner->Whole(std::move(*bytes));
        whole->era = opened.era;
        return whole;
    }

    void Finish() {
        if (!server || !looked) return;
        FileCache& cache = owner->cache_;
        // Somebody there may have put another file in its place between the two looks.
        const bool same =
            *server && opened.identity && owner->IsOf(*opened.identity, path, (*server)->stat);
        if (*server && !same && !opened.quiet) opened.identity.reset();
        if (opened.identity) opened.recent = IsRecent(*opened.identity, looked_at_ns);
        const FileContentsPtr whole = Contents(same);
        if (*server && opened.identity && opened.quiet)
            cache.SetBaselines(opened.era, {path}, {*opened.identity}, looked_at_ns);
        if (contents && whole != nullptr && opened.quiet) {
            cache.PutContents(*contents, (*server)->stat, whole, names);
        } else if (contents) {
            cache.Drop(*contents);
        }
        if (!*server) return done(std::move(*server).error());
        opened.file = owner->Wrap(path, how, **server, opened, names, {whole, asked});
        opened.stat = (*server)->stat;
        done(std::move(opened));
    }
};

void CachedFiles::Asker::OpenVerified(const std::string& path, const OpenHow& how, Verify verify,
                                      OpenedDone done) {
    if (!CachedFiles::IsPlainRead(how) || !owner_->cache_.IsQuiet())
        return OpenPlain(path, how, verify, std::move(done));
    // Where it is being fetched ahead, that is it.
    owner_->OnLoop([wanted = wanted_, path, how, verify,
                    done = std::move(done)](CachedFiles& owner) mutable {
        const auto answer = std::make_shared<OpenedDone>(std::move(done));
        const auto open = [owner = owner.shared_from_this(), wanted, path, how, verify, answer] {
            if (auto known = owner->KnownOpen(path, how)) return (*answer)(std::move(*known));
            owner->For(wanted).OpenPlain(path, how, verify, std::move(*answer));
        };
        if (!owner.prefetcher_->WhenFetched(path, open))
            return owner.For(wanted).OpenPlain(path, how, verify, std::move(*answer));
        *answer = owner.Bounded(std::move(*answer), owner.setup_.timeouts.operation);
    });
}

void CachedFiles::Asker::OpenPlain(const std::string& path, const OpenHow& how, Verify verify,
                                   OpenedDone done) {
    FileCache& cache = owner_->cache_;
    const auto opening = std::make_shared<Opening>();
    opening->owner = owner_;
    opening->path = path;
    opening->how = how;
    opening->done = std::move(done);
    opening->opened.era = cache.era();
    opening->opened.quiet = cache.IsQuiet();
    // In the same flight: that it has no other names, so that it can be told unasked next time.
    // So are the bytes of a small file: the read that follows has them.
    if (CachedFiles::IsPlainRead(how)) {
        const auto known = cache.Stat(path);
        const bool small = !known || (*known && (*known)->size <= kMostFetched);
        if (small) opening->contents = cache.Ask(path);
        if (small || (opening->opened.quiet && !cache.IsSingle(path))) verify = Verify::kYes;
    }
    opening->looked = verify == Verify::kNo;
    if (verify == Verify::kYes) {
        owner_->OnLoop([path, opening, asked = owner_->Now()](CachedFiles& owner) {
            opening->looked_at_ns = owner.TheirNowNs();
            opening->asked = asked;
            auto seen = [opening](std::optional<FetchedFile> file) {
                opening->looked = true;
                if (file && file->identity.error == 0) {
                    opening->opened.identity = file->identity;
                    opening->bytes = std::move(file->bytes);
                }
                opening->Finish();
            };
            if (opening->contents) return owner.LookInto(path, std::move(seen));
            owner.LookAt(path, [seen](const std::optional<IdentityStat>& identity) {
                seen(identity ? std::optional(FetchedFile{*identity, std::nullopt}) : std::nullopt);
            });
        });
    }
    WriteBehind::Before before;
    if (how.create) {
        before = BeforeChange(path);
        const auto itself = cache.Stat(path);
        const bool is_free = itself && !*itself;
        if (is_free || how.exclusive) opening->names = FileCache::Names::kOne;
    }
    if (how.truncate) cache.Changed(path);
    const FileCache::Question question = how.create ? cache.ChangingName(path) : cache.Ask(path);
    files_.Open(path, how, std::move(before),
                [owner = owner_, path, how, question, opening](Result<OpenedFile> file) {
                    FileCache& known = owner->cache_;
                    const Result<RemoteStat> stat =
                        file ? Result<RemoteStat>(file->stat) : Result<RemoteStat>(file.error());
                    if (how.truncate && !how.create) known.Changed(path);
                    if (how.create) {
                        known.Made(question, stat,
                                   AfterLocking(known, file.has_value() && how.exclusive));
                    } else if (how.truncate) {
                        known.Drop(question);
                    } else {
                        known.PutStat(question, stat);
                    }
                    Opened& opened = opening->opened;
                    if (file) opened.recent = IsRecent(file->stat, owner->TheirNowNs());
                    opening->server = std::move(file);
                    if (!how.create) return opening->Finish();
                    owner->AfterLook([opening](const Status&) { opening->Finish(); }, Ok());
                });
    if (how.create) LookBehind(path, {question});
}

}  // namespace sbxfs
