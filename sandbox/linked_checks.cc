#include "sandbox/linked_checks.h"

#include <errno.h>
#include <sys/stat.h>

namespace sbxfs {
namespace {

bool IsMissing(const Result<RemoteStat>& stat) {
    return !stat && (stat.error().code() == Errno{ENOENT} || stat.error().code() == Errno{ENOTDIR});
}

bool Alike(const RemoteStat& one, const RemoteStat& other) {
    return one.mode == other.mode && one.size == other.size && one.mtime == other.mtime &&
           one.uid == other.uid && one.gid == other.gid;
}

// Looks at two paths in one flight.
using BothDone = UniqueFunction<void(Result<RemoteStat>, Result<RemoteStat>)>;
void LookAtBoth(RemoteFiles& files, const std::string& first, const std::string& second,
                BothDone done) {
    struct Both {
        std::optional<Result<RemoteStat>> first;
        std::optional<Result<RemoteStat>> second;
        BothDone done;
        void Finish() {
            if (first && second) done(std::move(*first), std::move(*second));
        }
    };
    const auto both = std::make_shared<Both>();
    both->done = std::move(done);
    files.Lstat(first, [both](Result<RemoteStat> stat) {
        both->first = std::move(stat);
        both->Finish();
    });
    files.Lstat(second, [both](Result<RemoteStat> stat) {
        both->second = std::move(stat);
        both->Finish();
    });
}

}  // namespace

Error Exists(const std::string& path) {
    return {Errno{EEXIST}, path + ": it exists"};
}

void CheckMakeDir(RemoteFiles& files, const std::string& path, VerdictDone<RemoteStat> done) {
    using Found = Verdict<RemoteStat>;
    files.Lstat(path, [path, done = std::move(done)](const Result<RemoteStat>& stat) {
        if (IsMissing(stat)) return done(Found::Repeat());
        if (!stat) return done(Found::Unknown());
        done(Found::Finished(S_ISDIR(stat->mode) ? stat : Result<RemoteStat>(Exists(path))));
    });
}

void CheckSymlink(RemoteFiles& files, const std::string& target, const std::string& path,
                  VerdictDone<RemoteStat> done) {
    using Found = Verdict<RemoteStat>;
    files.Lstat(
        path, [&files, target, path, done = std::move(done)](Result<RemoteStat> stat) mutable {
            if (IsMissing(stat)) return done(Found::Repeat());
            if (!stat) return done(Found::Unknown());
            if (!S_ISLNK(stat->mode)) return done(Found::Finished(Exists(path)));
            files.ReadLink(path, [target, path, stat = *stat,
                                  done = std::move(done)](const Result<std::string>& found) {
                if (!found) return done(Found::Unknown());
                done(Found::Finished(*found == target ? Result<RemoteStat>(stat)
                                                      : Result<RemoteStat>(Exists(path))));
            });
        });
}

void CheckLink(RemoteFiles& files, const std::string& from, const std::string& to,
               VerdictDone<RemoteStat> done) {
    using Found = Verdict<RemoteStat>;
    LookAtBoth(
        files, from, to,
        [to, done = std::move(done)](const Result<RemoteStat>& source,
                                     const Result<RemoteStat>& made) {
            if (source && IsMissing(made)) return done(Found::Repeat());
            if (!source || !made) return done(Found::Unknown());
            done(Found::Finished(Alike(*source, *made) ? made : Result<RemoteStat>(Exists(to))));
        });
}

void CheckRemoval(RemoteFiles& files, const std::string& path, Alone alone,
                  VerdictDone<Unit> done) {
    using Found = Verdict<Unit>;
    files.Lstat(path, [alone, done = std::move(done)](const Result<RemoteStat>& stat) {
        if (IsMissing(stat)) return done(Found::Finished(Ok()));
        done(stat && alone == Alone::kYes ? Found::Repeat() : Found::Unknown());
    });
}

void CheckRename(RemoteFiles& files, const std::string& from, const std::string& to,
                 RemoteFiles::Replace replace, const Renamed& sent, Alone alone,
                 VerdictDone<Unit> done) {
    using Found = Verdict<Unit>;
    LookAtBoth(files, from, to,
               [replace, sent, alone, done = std::move(done)](const Result<RemoteStat>& source,
                                                              const Result<RemoteStat>& target) {
                   // Where we are alone it can have gone nowhere else, also if nobody has heard
                   // what it was, and whatever was done to it since.
                   const bool arrived =
                       target && (alone == Alone::kYes || (sent.was && Alike(*sent.was, *target)));
                   // The server makes a new file with O_EXCL only when the name has become free, and nothing is
                   // written to it before its maker has been answered.
                   const bool followed =
                       source && sent.size > 0 && S_ISREG(source->mode) && source->size == 0;
                   if ((IsMissing(source) || followed) && arrived)
                       return done(Found::Finished(Ok()));
                   // Without replacing, a server links and unlinks: both may be one file.
                   // What is at the old name may be somebody's new file.
                   const bool untouched =
                       source && alone == Alone::kYes &&
                       (replace == RemoteFiles::Replace::kYes || IsMissing(target));
                   done(untouched ? Found::Repeat() : Found::Unknown());
               });
}

void CheckExclusive(RemoteFiles& files, const std::string& path, const OpenHow& how, Alone alone,
                    VerdictDone<OpenedFile> done) {
    using Found = Verdict<OpenedFile>;
    files.Lstat(path, [&files, path, how, alone,
                       done = std::move(done)](const Result<RemoteStat>& stat) mutable {
        if (IsMissing(stat)) return done(Found::Repeat());
        if (!stat) return done(Found::Unknown());
        // Nothing is written to it before its maker has been answered.
        if (!S_ISREG(stat->mode) || stat->size != 0) return done(Found::Finished(Exists(path)));
        if (alone == Alone::kNo) return done(Found::Unknown());
        OpenHow again = how;
        again.create = again.exclusive = again.truncate = false;
        files.Open(path, again,
                   [&files, path, how, done = std::move(done)](Result<OpenedFile> opened) mutable {
                       if (!opened) return done(Found::Unknown());
                       if ((opened->stat.mode & 07777) == how.mode)
                           return done(Found::Finished(*opened));
                       StatChange mode;
                       mode.mode = how.mode;
                       files.SetFileStat(opened->file, mode,
                                         [opened = *opened, done = std::move(done)](
                                             const Result<RemoteStat>& changed) mutable {
                                             if (changed) opened.stat = *changed;
                                             done(Found::Finished(opened));
                                         });
                   });
    });
}

void CheckAppend(RemoteFiles& files, const RemoteFilePtr& file, const Appended& sent, Alone alone,
                 VerdictDone<Unit> done) {
    using Found = Verdict<Unit>;
    files.FileStat(file, [sent, alone, done = std::move(done)](const Result<RemoteStat>& stat) {
        if (!stat || !sent.before) return done(Found::Unknown());
        if (stat->size == *sent.before) return done(Found::Repeat());
        const std::uint64_t after = *sent.before + sent.count;
        const bool all = sent.others_follow ? stat->size >= after : stat->size == after;
        // Somebody else's line may be as long.
        const bool ours = alone == Alone::kYes && all;
        done(ours ? Found::Finished(Ok()) : Found::Unknown());
    });
}

}  // namespace sbxfs
