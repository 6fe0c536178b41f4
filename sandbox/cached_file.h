// An open file as CachedFiles hands it out: the sandbox's own open file, and what is known of its bytes.
// Reads are answered from memory where they can be, else from what is fetched in pieces, many in
// flight, ahead of the reader (ReadAhead).
//
// A *lazy* one has not been opened there: all of it is known, and while the sandbox is quiet nobody
// changes it but us. It is opened when something else is wanted of it than its bytes, and before
// its name may mean another file: ahead of our own change of the name, and of a command
// (LazyFiles). When it is found changed by then, it is ESTALE.
//
// Which bytes are true: those of the path's contents (FileCache) in the era they are of; else those
// fetched through this file since `version`, its node's count of changes, last moved. While not
// quiet those are true for a second, and for another whenever the supervisor finds the identity that the
// file had when it was opened. Any thread, but where said.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/sync.h"
#include "base/unique_function.h"
#include "sandbox/content_store.h"
#include "sandbox/file_cache.h"
#include "sandbox/file_identity.h"
#include "sandbox/read_ahead.h"
#include "sandbox/remote_files.h"

namespace sbxfs {

class CachedFiles;

class CachedFile final : public RemoteFile, public std::enable_shared_from_this<CachedFile> {
 public:
    struct Setup {
        std::weak_ptr<CachedFiles> owner;
        std::string path;
        OpenHow how;
        RemoteFilePtr real;  // none: lazy
        RemoteStat stat;     // at the open
        FileContentsPtr
            contents;  // the path's, if they may be shared; else what was fetched with the open
        std::optional<IdentityStat> identity;  // of the path, seen while it was opened
        bool recent = false;  // it had just changed: what was fetched then may be older
        ReadAhead::Limits limits;
        FileContentsPtr written{};  // if the file was empty when it was opened, to be written
        FileCache::Names names = FileCache::Names::kUnknown;
        std::uint64_t connection = 0;  // to the supervisor: no cut since, if it is the same
        SteadyTime since{};            // when `contents` were asked for
    };
    explicit CachedFile(Setup setup);

    const std::string& path() const { return path_; }
    bool IsLazy() const;
    // The sandbox's own; nothing while it is not open there.
    RemoteFilePtr Real() const;
    // `use` gets it, opened first where it must be; on the loop then.
    using Use = UniqueFunction<void(Result<RemoteFilePtr>)>;
    void WithReal(Use use);

    // Of BytesAsked, when it was opened. Contents that are not the path's any more hear of no change.
    void SetVersion(std::uint64_t version);
    // What is in memory of the range, cut at the end of the file; nothing when the sandbox must be
    // asked.
    std::optional<ContentSlices> Known(const BytesAsked& asked);
    // After Known() had nothing: what was asked for there, as soon as it is here.
    void Read(FileRange range, std::function<bool()> wanted, BytesDone done);

    // About to be sent. Whether it is kept, so that the caller must tell if it failed.
    bool KeepWritten(std::uint64_t offset, std::string_view bytes);
    void DropWritten();
    // All of a file of that size, if it was written through this handle, in order.
    FileContentsPtr TakeWritten(std::uint64_t size);
    FileCache::Names names() const { return names_; }

 private:
    struct Waiter {
        FileRange range;
        SteadyTime since{};
        std::function<bool()> wanted;
        BytesDone done;
    };
    bool IsTrue(const FileContents& contents, SteadyTime since) const;
    // Loop thread only.
    void Renew();
    void Await(Waiter waiter);
    void FetchMissing(FileRange wanted);
    void Fetch(const FileContentsPtr& contents, FileRange piece);
    void Fetched(const FileContentsPtr& contents, FileRange piece, Result<std::string> bytes);
    void Serve();
    void ReadThrough(Waiter waiter);
    void Compare(Result<OpenedFile> opened);
    void Opened(Result<OpenedFile> opened, bool same);

    const std::weak_ptr<CachedFiles> owner_;
    const std::string path_;
    const OpenHow how_;
    const RemoteStat stat_;
    const FileCache::Names names_;
    const std::uint64_t connection_;
    const std::optional<FileCache::Era> lazy_in_;  // opened lazily in that era
    const std::optional<IdentityStat> seen_;       // when it was opened

    mutable Mutex mu_{LockRank::kFileCache};
    RemoteFilePtr real_ GUARDED_BY(mu_);
    bool opening_ GUARDED_BY(mu_) = false;
    bool changed_here_ GUARDED_BY(mu_) = false;  // through this mount, since it was opened lazily
    std::optional<Error> stale_ GUARDED_BY(mu_);
    std::vector<Use> uses_ GUARDED_BY(mu_);
    FileContentsPtr contents_ GUARDED_BY(mu_);
    SteadyTime since_ GUARDED_BY(mu_){};  // when they were begun
    bool cacheable_ GUARDED_BY(mu_) = true;
    std::optional<std::uint64_t> version_ GUARDED_BY(mu_);
    std::optional<IdentityStat> identity_ GUARDED_BY(mu_);
    bool recent_ GUARDED_BY(mu_);  // it says nothing yet of the contents
    std::int64_t begun_ns_ GUARDED_BY(mu_) =
        0;  // the contents, by the sandbox's clock; 0: with the open
    ReadAhead ahead_ GUARDED_BY(mu_);
    FileContentsPtr written_ GUARDED_BY(mu_);
    std::uint64_t written_to_ GUARDED_BY(mu_) = 0;

    // Loop thread's own: what is on its way, by offset, and who waits.
    std::map<std::uint64_t, std::pair<std::size_t, FileContentsPtr>> flying_;
    std::vector<Waiter> waiters_;
    bool renewing_ = false;
};

// Those that are lazy, of one sandbox. Any thread.
class LazyFiles {
 public:
    // Beyond so many at a time none is lazy: each must be opened before a command may start.
    static constexpr std::size_t kMost = 512;

    bool Add(const std::shared_ptr<CachedFile>& file);
    // Those at `path` and below it.
    std::vector<std::shared_ptr<CachedFile>> At(const std::string& path);
    std::vector<std::shared_ptr<CachedFile>> All();

 private:
    Mutex mu_{LockRank::kFileCache};
    std::multimap<std::string, std::weak_ptr<CachedFile>> files_ GUARDED_BY(mu_);
};

}  // namespace sbxfs
