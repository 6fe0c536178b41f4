#include "sandbox/cached_file.h"

#include <errno.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "sandbox/cached_files.h"
#include "sandbox/clean_path.h"

namespace sbxfs {
namespace {

// What one request fetches: what one READ of the kernel asks for, so that it is answered without a copy.
constexpr std::size_t kPiece = 128U << 10;

// Of a larger file that is written, nothing is kept.
constexpr std::uint64_t kMostWritten = 4U << 20;

std::string Joined(const ContentSlices& slices) {
    std::string bytes;
    for (const ContentSlice& slice : slices)
        bytes.append(*slice.bytes, slice.at, slice.size);
    return bytes;
}

Error Stale(const std::string& path) {
    return {Errno{ESTALE},
            path +
                ": it was replaced or changed before it could be opened in the sandbox; open it "
                "again",
            Blame::kRemote};
}

bool Overlap(FileRange one, FileRange other) {
    return one.offset < other.offset + other.size && other.offset < one.offset + one.size;
}

}  // namespace

CachedFile::CachedFile(Setup setup)
    : owner_(std::move(setup.owner)),
      path_(std::move(setup.path)),
      how_(setup.how),
      stat_(setup.stat),
      names_(setup.names),
      connection_(setup.connection),
      lazy_in_(setup.real == nullptr && setup.contents != nullptr
                   ? std::optional<FileCache::Era>(setup.contents->era.load())
                   : std::nullopt),
      seen_(setup.identity),
      real_(std::move(setup.real)),
      contents_(std::move(setup.contents)),
      since_(setup.since),
      identity_(setup.identity),
      recent_(setup.recent),
      ahead_(setup.limits),
      written_(std::move(setup.written)) {}

bool CachedFile::IsLazy() const {
    const MutexLock lock(mu_);
    return real_ == nullptr;
}

RemoteFilePtr CachedFile::Real() const {
    const MutexLock lock(mu_);
    return real_;
}

// --- Opened there, or not yet

void CachedFile::WithReal(Use use) {
    RemoteFilePtr real;
    std::optional<Error> stale;
    bool open = false;
    {
        const MutexLock lock(mu_);
        real = real_;
        stale = stale_;
        if (real == nullptr && !stale) {
            uses_.push_back(std::move(use));
            open = !std::exchange(opening_, true);
        }
    }
    if (real != nullptr) return use(std::move(real));
    if (stale) return use(*stale);
    if (!open) return;
    const auto owner = owner_.lock();
    if (owner == nullptr) return Opened(Error(Errno{ENOTCONN}, "the sandbox is gone"), false);
    owner->OpenLate(path_, how_, [self = shared_from_this()](Result<OpenedFile> opened) {
        self->Compare(std::move(opened));
    });
}

// After a cut of the link somebody may have put another file there: the supervisor tells, where it can.
void CachedFile::Compare(Result<OpenedFile> opened) {
    const auto owner = owner_.lock();
    const bool alike =
        opened && opened->stat.size == stat_.size && opened->stat.mtime == stat_.mtime;
    const bool cut = owner == nullptr || owner->connection() != connection_;
    // While nobody else is there it is what we made of it, whatever mtime is shown of that.
    const bool ours = !cut && owner->cache().IsQuiet() && lazy_in_ == owner->cache().era();
    if (!opened || !cut || owner == nullptr || !seen_)
        return Opened(std::move(opened), alike || ours);
    owner->LookAt(path_, [self = shared_from_this(), opened = std::move(opened),
                          alike](const std::optional<IdentityStat>& now) mutable {
        self->Opened(std::move(opened), now ? SameFile(*self->seen_, *now) : alike);
    });
}

void CachedFile::Opened(Result<OpenedFile> opened, bool same) {
    std::vector<Use> uses;
    Result<RemoteFilePtr> result = Stale(path_);
    {
        const MutexLock lock(mu_);
        opening_ = false;
        uses.swap(uses_);
        // Written through another handle meanwhile it is the same file, and looks changed.
        const bool ours = changed_here_ || contents_ == nullptr || contents_->spoiled();
        if (opened && (same || ours)) {
            real_ = opened->file;
            result = real_;
        } else if (!opened && opened.error().code() != Errno{ENOENT}) {
            result = opened.error();  // asked for again next time
        } else {
            stale_ = Stale(path_);
        }
    }
    for (const Use& use : uses)
        use(result);
}

// --- What is known

bool CachedFile::IsTrue(const FileContents& contents, SteadyTime since) const {
    const auto owner = owner_.lock();
    if (owner == nullptr || contents.spoiled()) return false;
    const FileCache& cache = owner->cache();
    const bool quiet = cache.IsQuiet();
    if (contents.era != cache.era()) return false;
    return quiet || owner->Now() - since < FileCache::kSharedLife;
}

void CachedFile::SetVersion(std::uint64_t version) {
    const MutexLock lock(mu_);
    version_ = version;
}

std::optional<ContentSlices> CachedFile::Known(const BytesAsked& asked) {
    FileContentsPtr contents;
    SteadyTime since{};
    {
        const MutexLock lock(mu_);
        cacheable_ = asked.cacheable;
        if (version_ && version_ != asked.version) {
            contents_.reset();
            identity_.reset();
            changed_here_ = true;
            ahead_.Restart();
        }
        version_ = asked.version;
        if (!asked.cacheable) contents_.reset();
        contents = contents_;
        since = since_;
    }
    if (!asked.cacheable) return std::nullopt;
    std::optional<ContentSlices> known;
    if (contents != nullptr && IsTrue(*contents, since)) known = contents->Read(asked.range);
    std::optional<FileRange> wanted;
    {
        const MutexLock lock(mu_);
        wanted = ahead_.OnRead(asked.range, known ? ReadAhead::Known::kYes : ReadAhead::Known::kNo,
                               stat_.size);
    }
    const auto owner = owner_.lock();
    if (owner == nullptr) return known;
    if (known && !owner->cache().IsQuiet() && owner->Now() - since > FileCache::kSharedLife / 2)
        owner->OnLoop([self = shared_from_this()](CachedFiles&) { self->Renew(); });
    if (!wanted) return known;
    // What is waited for goes first.
    const FileRange first = known ? FileRange{} : asked.range;
    owner->OnLoop([self = shared_from_this(), first, wanted = *wanted](CachedFiles&) {
        self->FetchMissing(first);
        self->FetchMissing(wanted);
    });
    return known;
}

void CachedFile::Read(FileRange range, std::function<bool()> wanted, BytesDone done) {
    const auto owner = owner_.lock();
    if (owner == nullptr) return done(Error(Errno{ENOTCONN}, "the sandbox is gone"));
    owner->OnLoop([self = shared_from_this(), range, wanted = std::move(wanted),
                   done = std::move(done)](CachedFiles& files) mutable {
        self->Await(
            {range, files.Now(), std::move(wanted), files.Bounded(std::move(done), files.bound())});
    });
}

// --- Fetching. On the loop.

// ctime cannot be set back: a file that looks as it did when it was opened has not changed since.
void CachedFile::Renew() {
    const auto owner = owner_.lock();
    FileContentsPtr contents;
    std::optional<IdentityStat> identity;
    {
        const MutexLock lock(mu_);
        contents = contents_;
        identity = identity_;
        // Changed and fetched within one tick of the clock, they may differ. What is fetched later is what was seen.
        if (recent_ && identity && begun_ns_ != 0) recent_ = IsRecent(*identity, begun_ns_);
        if (recent_) return;
    }
    if (owner == nullptr || contents == nullptr || !identity || renewing_) return;
    renewing_ = true;
    owner->LookAt(path_, [self = shared_from_this(), contents, identity = *identity,
                          now = owner->Now()](const std::optional<IdentityStat>& seen) {
        self->renewing_ = false;
        if (!seen) return;
        const MutexLock lock(self->mu_);
        if (self->contents_ != contents) return;
        if (SameAndUnchanged(identity, *seen)) {
            self->since_ = now;
        } else {
            self->contents_.reset();
            self->identity_.reset();
        }
    });
}

void CachedFile::Await(Waiter waiter) {
    bool cacheable = false;
    {
        const MutexLock lock(mu_);
        cacheable = cacheable_;
    }
    if (!cacheable) return ReadThrough(std::move(waiter));
    FetchMissing(waiter.range);
    waiters_.push_back(std::move(waiter));
    Serve();
}

// Begins contents of its own where there are none that are true.
void CachedFile::FetchMissing(FileRange wanted) {
    const auto owner = owner_.lock();
    if (owner == nullptr || wanted.size == 0) return;
    FileContentsPtr contents;
    SteadyTime since{};
    {
        const MutexLock lock(mu_);
        if (!cacheable_) return;
        contents = contents_;
        since = since_;
    }
    if (contents == nullptr || !IsTrue(*contents, since)) {
        contents = owner->store().Make();
        contents->era = owner->cache().era();
        const MutexLock lock(mu_);
        changed_here_ = changed_here_ || (contents_ != nullptr && contents_->spoiled());
        contents_ = contents;
        since_ = owner->Now();
        begun_ns_ = owner->TheirNowNs();
    }
    for (const FileRange& missing : contents->Missing(wanted)) {
        const std::uint64_t end = missing.offset + missing.size;
        for (std::uint64_t at = missing.offset; at < end;) {
            const std::uint64_t cut = std::min(end, (at / kPiece + 1) * kPiece);
            // What is on its way already.
            const auto other = std::find_if(flying_.begin(), flying_.end(), [&](const auto& one) {
                return one.second.second == contents && one.first <= at &&
                       at < one.first + one.second.first;
            });
            if (other != flying_.end()) {
                at = other->first + other->second.first;
                continue;
            }
            const FileRange piece{at, static_cast<std::size_t>(cut - at)};
            at = cut;
            if (!flying_.contains(piece.offset)) Fetch(contents, piece);
        }
    }
}

void CachedFile::Fetch(const FileContentsPtr& contents, FileRange piece) {
    flying_[piece.offset] = {piece.size, contents};
    WithReal([self = shared_from_this(), contents, piece](Result<RemoteFilePtr> real) {
        const auto owner = self->owner_.lock();
        if (!real || owner == nullptr) {
            self->flying_.erase(piece.offset);
            return self->Serve();
        }
        owner->FetchRead(*real, piece, [self, contents, piece](Result<std::string> bytes) {
            self->Fetched(contents, piece, std::move(bytes));
        });
    });
}

void CachedFile::Fetched(const FileContentsPtr& contents, FileRange piece,
                         Result<std::string> bytes) {
    flying_.erase(piece.offset);
    if (bytes) {
        const std::size_t got = bytes->size();
        contents->Put(piece.offset, std::move(*bytes));
        if (got < piece.size) contents->SetEnd(piece.offset + got);
    }
    Serve();
}

// Those whose bytes are here. Those that nothing is on its way for any more ask for themselves.
void CachedFile::Serve() {
    const auto owner = owner_.lock();
    FileContentsPtr contents;
    SteadyTime since{};
    {
        const MutexLock lock(mu_);
        contents = contents_;
        since = since_;
    }
    const bool is_true = contents != nullptr && IsTrue(*contents, since);
    std::vector<std::pair<BytesDone, std::string>> answers;
    std::vector<Waiter> through;
    for (auto it = waiters_.begin(); it != waiters_.end();) {
        std::optional<ContentSlices> slices;
        if (is_true) slices = contents->Read(it->range);
        const bool coming =
            is_true && std::any_of(flying_.begin(), flying_.end(), [&](const auto& one) {
                return one.second.second == contents &&
                       Overlap({one.first, one.second.first}, it->range);
            });
        if (!slices && coming) {
            ++it;
            continue;
        }
        if (slices) {
            answers.emplace_back(std::move(it->done), Joined(*slices));
            if (owner != nullptr) {
                const MutexLock lock(mu_);
                ahead_.Waited(owner->Now() - it->since);
            }
        } else {
            through.push_back(std::move(*it));
        }
        it = waiters_.erase(it);
    }
    for (auto& [done, bytes] : answers)
        done(std::move(bytes));
    for (Waiter& waiter : through)
        ReadThrough(std::move(waiter));
}

void CachedFile::ReadThrough(Waiter waiter) {
    WithReal([weak = owner_, waiter = std::move(waiter)](Result<RemoteFilePtr> real) mutable {
        const auto owner = weak.lock();
        if (!real) return waiter.done(real.error());
        if (owner == nullptr) return waiter.done(Error(Errno{ENOTCONN}, "the sandbox is gone"));
        owner->For(std::move(waiter.wanted)).ReadReal(*real, waiter.range, std::move(waiter.done));
    });
}

// --- What was written

bool CachedFile::KeepWritten(std::uint64_t offset, std::string_view bytes) {
    FileContentsPtr written;  // dies after the lock
    const MutexLock lock(mu_);
    if (written_ == nullptr) return false;
    const bool follows = offset == written_to_ && offset + bytes.size() <= kMostWritten;
    if (!follows) {
        written.swap(written_);
        return false;
    }
    written_->Put(offset, std::string(bytes));
    written_to_ += bytes.size();
    return true;
}

void CachedFile::DropWritten() {
    FileContentsPtr written;  // dies after the lock
    const MutexLock lock(mu_);
    written.swap(written_);
}

FileContentsPtr CachedFile::TakeWritten(std::uint64_t size) {
    FileContentsPtr written;
    {
        const MutexLock lock(mu_);
        if (written_to_ == size) written.swap(written_);
    }
    if (written == nullptr) return nullptr;
    written->SetEnd(size);
    return written->IsWhole() ? written : nullptr;
}

// --- Lazy ones

bool LazyFiles::Add(const std::shared_ptr<CachedFile>& file) {
    const MutexLock lock(mu_);
    if (files_.size() >= kMost)
        std::erase_if(files_, [](const auto& item) { return item.second.expired(); });
    if (files_.size() >= kMost) return false;
    files_.emplace(file->path(), file);
    return true;
}

std::vector<std::shared_ptr<CachedFile>> LazyFiles::At(const std::string& path) {
    std::vector<std::shared_ptr<CachedFile>> found;
    {
        const MutexLock lock(mu_);
        for (auto it = files_.lower_bound(path); it != files_.end() && it->first.starts_with(path);
             ++it) {
            if (!IsWithin(it->first, path)) continue;
            if (auto file = it->second.lock()) found.push_back(std::move(file));
        }
    }
    std::erase_if(found, [](const auto& file) { return !file->IsLazy(); });
    return found;
}

std::vector<std::shared_ptr<CachedFile>> LazyFiles::All() {
    std::vector<std::shared_ptr<CachedFile>> all;
    {
        const MutexLock lock(mu_);
        for (const auto& [path, weak] : files_) {
            if (auto file = weak.lock()) all.push_back(std::move(file));
        }
    }
    std::erase_if(all, [](const auto& file) { return !file->IsLazy(); });
    return all;
}

}  // namespace sbxfs
