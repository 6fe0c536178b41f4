// CachedFiles: what is fetched ahead of programs, for nobody in particular, and what the supervisor sees of paths.
#include <errno.h>

#include <utility>

#include "base/check.h"
#include "sandbox/cached_files.h"

namespace sbxfs {
namespace {

// How long the supervisor's view of a path is waited for. Then the server's must do.
constexpr Duration kLookLimit = std::chrono::seconds(1);

// Told to nobody: whoever waits asks for himself.
Error NoLink() {
    return {Errno{EAGAIN}, "there is no link"};
}

}  // namespace

std::function<bool()> CachedFiles::OnThisLink() const {
    DCHECK(loop_.OnThread());
    return [files = files_, link = files_->WhichLink()] { return files->WhichLink() == link; };
}

void CachedFiles::FetchRead(const RemoteFilePtr& real, FileRange range, BytesDone done) {
    if (!CanFetch()) return done(NoLink());
    For(OnThisLink()).ReadReal(real, range, std::move(done));
}

void CachedFiles::FetchList(const std::string& path, Done done) {
    if (!CanFetch()) return done(NoLink());
    For(OnThisLink())
        .AskList(path, [done = std::move(done)](Result<std::vector<RemoteEntry>> entries) {
            if (!entries) return done(std::move(entries).error());
            done(Ok());
        });
}

void CachedFiles::LookBehind(const std::string& directory, FileCache::Question question) {
    if (!CanFetch()) return cache_.Drop(question);
    // Past WriteBehind, where it would wait for the change.
    const auto files = std::make_shared<LinkedFiles::ForAsker>(files_, OnThisLink());
    files->Lstat(directory,
                 [self = shared_from_this(), directory, files, question](Result<RemoteStat> stat) {
                     if (stat) stat = self->behind_->Shown(directory, *stat);
                     self->cache_.PutStat(question, stat);
                 });
}

// A small file on its way into the cache.
struct CachedFiles::Fetching {
    std::shared_ptr<CachedFiles> owner;
    FileCache::Question question;
    RemoteStat stat;
    Done done;

    void Fail(Status why) const {
        owner->cache_.Drop(question);
        done(std::move(why));
    }
    void Keep(std::string bytes) const {
        if (bytes.size() != stat.size) return Fail(Error(Errno{EAGAIN}, "its size has changed"));
        owner->cache_.PutContents(question, stat, owner->Whole(std::move(bytes)),
                                  FileCache::Names::kUnknown);
        done(Ok());
    }
};

void CachedFiles::FetchWhole(const std::string& path, const RemoteStat& stat, Done done) {
    const auto whole = std::make_shared<Fetching>(
        Fetching{shared_from_this(), cache_.Ask(path), stat, std::move(done)});
    if (stat.size == 0) return whole->Keep({});
    if (!CanFetch()) return whole->Fail(NoLink());
    OpenHow how;
    how.read = true;
    For(OnThisLink()).OpenReal(path, how, [whole](Result<OpenedFile> opened) {
        if (!opened) return whole->Fail(opened.error());
        if (opened->stat.size != whole->stat.size || opened->stat.mtime != whole->stat.mtime)
            return whole->Fail(Error(Errno{EAGAIN}, "it has changed"));
        whole->owner->FetchRead(opened->file, {0, static_cast<std::size_t>(whole->stat.size)},
                                [whole, file = opened->file](Result<std::string> bytes) {
                                    if (!bytes) return whole->Fail(bytes.error());
                                    whole->Keep(std::move(*bytes));
                                });
    });
}

bool CachedFiles::CanFetchMany(const FileCache::Small& file) const {
    DCHECK(loop_.OnThread());
    return port_ != nullptr && fetches_ && file.stat.size > 0 && file.stat.size <= kMostFetched &&
           !behind_->HasChanges(file.path);
}

void CachedFiles::FetchMany(std::vector<FileCache::Small> files, Job done) {
    DCHECK(loop_.OnThread());
    if (port_ == nullptr) return done();
    std::vector<std::string> paths;
    std::vector<FileCache::Question> questions;
    for (const FileCache::Small& file : files) {
        paths.push_back(file.path);
        questions.push_back(cache_.Ask(file.path));
    }
    port_->Fetch(
        paths, kMostFetched,
        InTime<FetchedFile>([weak = weak_from_this(), files = std::move(files), paths, questions,
                             era = cache_.era(), at = TheirNowNs(), done = std::move(done)](
                                std::optional<std::vector<FetchedFile>> found) {
            const auto self = weak.lock();
            if (self == nullptr) return;
            std::vector<IdentityStat> identities;
            if (found) {
                for (const FetchedFile& one : *found)
                    identities.push_back(one.identity);
                self->cache_.SetBaselines(era, paths, identities, at);
            }
            for (std::size_t i = 0; i < files.size(); ++i) {
                if (!found || !(*found)[i].bytes ||
                    !self->IsOf((*found)[i].identity, paths[i], files[i].stat)) {
                    self->cache_.Drop(questions[i]);
                    continue;
                }
                self->cache_.PutContents(questions[i], files[i].stat,
                                         self->Whole(std::move(*(*found)[i].bytes)),
                                         FileCache::Names::kUnknown);
            }
            done();
        }));
}

// As Agrees(), where the mtime may be one that was shown before the sandbox told its own.
bool CachedFiles::IsOf(const IdentityStat& identity, const std::string& path,
                       const RemoteStat& shown) {
    DCHECK(loop_.OnThread());
    if (Agrees(identity, shown)) return true;
    RemoteStat real = shown;
    real.mtime = identity.mtime_ns / 1'000'000'000;
    return Agrees(identity, real) && behind_->Shown(path, real).mtime == shown.mtime;
}

FileContentsPtr CachedFiles::Whole(std::string bytes) const {
    FileContentsPtr contents = store_->Make();
    contents->SetEnd(bytes.size());
    contents->Put(0, std::move(bytes));
    return contents;
}

// --- What the supervisor sees

void CachedFiles::LookAtNames(const std::vector<std::string>& paths, Job done) {
    Look(paths, [weak = weak_from_this(), paths, era = cache_.era(), at = TheirNowNs(),
                 done = std::move(done)](const std::optional<std::vector<IdentityStat>>& stats) {
        const auto self = weak.lock();
        if (self != nullptr && stats) self->cache_.SetBaselines(era, paths, *stats, at);
        done();
    });
}

void CachedFiles::LookAt(const std::string& path, Identified done) {
    Look({path}, [done = std::move(done)](std::optional<std::vector<IdentityStat>> stats) {
        if (!stats || stats->size() != 1) return done(std::nullopt);
        done(stats->front());
    });
}

template <class T>
CachedFiles::SeenDone<Result<std::vector<T>>> CachedFiles::InTime(
    SeenDone<std::optional<std::vector<T>>> done) {
    struct Looking {
        SeenDone<std::optional<std::vector<T>>> done;
        TimerPtr limit;
        void End(std::optional<std::vector<T>> seen) {
            limit.reset();
            if (done) std::exchange(done, {})(std::move(seen));
        }
    };
    const auto looking = std::make_shared<Looking>();
    looking->done = std::move(done);
    looking->limit = loop_.After(kLookLimit, [weak = std::weak_ptr(looking)] {
        if (const auto late = weak.lock()) late->End(std::nullopt);
    });
    return [looking](Result<std::vector<T>> seen) {
        if (!seen) return looking->End(std::nullopt);
        looking->End(std::move(*seen));
    };
}

void CachedFiles::Look(const std::vector<std::string>& paths,
                       SeenDone<std::optional<std::vector<IdentityStat>>> done) {
    DCHECK(loop_.OnThread());
    if (port_ == nullptr) return done(std::nullopt);
    port_->StatBatch(paths, InTime<IdentityStat>(std::move(done)));
}

// What is on its way to the file does not go the supervisor's way: it could look before.
void CachedFiles::LookInto(const std::string& path,
                           UniqueFunction<void(std::optional<FetchedFile>)> done) {
    DCHECK(loop_.OnThread());
    if (port_ == nullptr) return done(std::nullopt);
    const auto stat = cache_.Stat(path);
    const bool large = stat && *stat && (*stat)->size > kMostFetched;
    if (!fetches_ || large || behind_->HasChanges(path)) {
        return LookAt(path, [done = std::move(done)](const std::optional<IdentityStat>& seen) {
            if (!seen) return done(std::nullopt);
            done(FetchedFile{*seen, std::nullopt});
        });
    }
    port_->Fetch({path}, kMostFetched,
                 InTime<FetchedFile>(
                     [done = std::move(done)](std::optional<std::vector<FetchedFile>> files) {
                         if (!files || files->size() != 1) return done(std::nullopt);
                         done(std::move(files->front()));
                     }));
}

}  // namespace sbxfs
