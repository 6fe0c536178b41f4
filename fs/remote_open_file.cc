#include "fs/remote_open_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "fs/remote_paths.h"

namespace sbxfs {

RemoteOpenFile::RemoteOpenFile(const std::shared_ptr<RemoteNode>& node,
                               const CachedFiles::Opened& opened, std::uint64_t changes, int flags)
    : OpenHandle(node),
      remote_(node),
      file_(opened.file),
      opened_in_(opened.era),
      identity_(opened.identity),
      changes_before_(changes),
      sets_before_(remote_->sets()),
      direct_(AppendsOnly(flags)),
      appends_((flags & O_APPEND) != 0) {
    node->mount().kernel_cache.Opened(node->sandbox()->generation(), node->ino());
    // Somebody may have written since the sandbox said so.
    Keep(opened.stat, opened.era, changes);
}

RemoteOpenFile::~RemoteOpenFile() {
    remote_->mount().kernel_cache.Released(remote_->sandbox()->generation(), remote_->ino());
}

void RemoteOpenFile::Keep(const RemoteStat& stat, FileCache::Era era, std::uint64_t changes) {
    const MutexLock lock(mu_);
    seen_ = Seen{stat, era, changes, remote_->mount().clock.Steady(), changes_, 0};
}

void RemoteOpenFile::WereSet(const RemoteStat& stat, FileCache::Era era, std::uint64_t changes) {
    if (remote_->files().cache().IsQuiet()) return;
    const MutexLock lock(mu_);
    // What is told of its size may be as old as what was known before.
    const SteadyTime when =
        seen_ && seen_->era == era ? seen_->when : remote_->mount().clock.Steady();
    seen_ = Seen{stat, era, changes, when, changes_, 0};
}

// It may have others that nobody here can find any more.
bool RemoteOpenFile::HasOneName() const {
    return !remote_->HasLostItsName() &&
           !remote_->files().cache().HasOtherNames(remote_->RemotePath());
}

bool RemoteOpenFile::IsFileOf(const CachedFiles::Opened& opened) const {
    if (opened_in_ == opened.era) return true;
    return identity_ && opened.identity && SameFile(*identity_, *opened.identity);
}

std::optional<Result<RemoteStat>> RemoteOpenFile::KnownStat() const {
    const FileCache& cache = remote_->files().cache();
    if (!HasOneName()) return std::nullopt;
    const FileCache::Era era = cache.era();
    const Duration life = cache.IsQuiet() ? FileCache::kQuietLife : FileCache::kSharedLife;
    const MutexLock lock(mu_);
    if (!seen_ || seen_->era != era || seen_->changes != remote_->changes()) return std::nullopt;
    if (remote_->mount().clock.Steady() - seen_->when >= life) return std::nullopt;
    return seen_->stat;
}

std::optional<Result<RemoteStat>> RemoteOpenFile::KnownToWriter() const {
    const FileCache& cache = remote_->files().cache();
    // Where an append ends is the sandbox's to say.
    if (appends_ || cache.IsQuiet() || !HasOneName()) return std::nullopt;
    const FileCache::Era era = cache.era();
    const MutexLock lock(mu_);
    const bool alone =
        seen_ && seen_->era == era && remote_->changes() - seen_->changes == changes_ - seen_->own;
    if (!alone || remote_->mount().clock.Steady() - seen_->when >= FileCache::kSharedLife)
        return std::nullopt;
    RemoteStat stat = seen_->stat;
    stat.size = std::max(stat.size, seen_->written_to);
    return stat;
}

void RemoteOpenFile::Stat(CachedFiles::Asker& asker, StatDone done) {
    const FileCache::Era era = remote_->files().cache().era();
    asker.FileStat(file_, [self = shared_from_this(), era, changes = remote_->changes(),
                           done = std::move(done)](Result<RemoteStat> stat) {
        if (stat) self->Keep(*stat, era, changes);
        done(std::move(stat));
    });
}

void RemoteOpenFile::Read(std::uint64_t offset, std::size_t size, DataReply reply) {
    remote_->sandbox()->Used();
    // Where it may have another name that nobody here can find, its bytes change unseen.
    const BytesAsked asked{{offset, size}, remote_->changes(), HasOneName()};
    if (const auto known = CachedFiles::KnownBytes(file_, asked)) {
        if (known->empty()) return std::move(reply).Bytes({});
        if (known->size() == 1) {
            const ContentSlice& only = known->front();
            return std::move(reply).Bytes({only.bytes->data() + only.at, only.size});
        }
        std::string bytes;
        for (const ContentSlice& slice : *known)
            bytes.append(*slice.bytes, slice.at, slice.size);
        return std::move(reply).Bytes(bytes);
    }
    auto parked = node()->mount().lot.Park(std::move(reply));
    remote_->FilesFor(parked.id())
        .Read(file_, FileRange{offset, size},
              [parked = std::move(parked)](const Result<std::string>& bytes) mutable {
                  if (!bytes) return parked.Fail(bytes.error());
                  if (auto taken = parked.Take()) std::move(*taken).Bytes(*bytes);
              });
}

void RemoteOpenFile::Write(std::uint64_t offset, std::span<const char> bytes, bool,
                           WrittenReply reply) {
    remote_->sandbox()->Used();
    auto parked = node()->mount().lot.Park(std::move(reply));
    wrote_ = true;
    ++changes_;
    remote_->Changed();
    // libfuse's buffer ends with this call: the one copy on this side.
    remote_->FilesFor(parked.id())
        .Write(file_, offset, std::string(bytes.data(), bytes.size()),
               [self = shared_from_this(), parked = std::move(parked), offset,
                size = bytes.size()](const Status& status) mutable {
                   ++self->changes_;
                   self->remote_->Changed();
                   if (!status) return parked.Fail(status.error());
                   self->Wrote(offset + size);
                   self->remote_->DropTwins();
                   if (auto taken = parked.Take()) std::move(*taken).Wrote(size);
               });
}

void RemoteOpenFile::Wrote(std::uint64_t end) {
    const MutexLock lock(mu_);
    if (seen_) seen_->written_to = std::max(seen_->written_to, end);
}

void RemoteOpenFile::CopyTo(FileRange range, const OpenHandlePtr& to, std::uint64_t offset,
                            WrittenReply reply) {
    const auto target = std::dynamic_pointer_cast<RemoteOpenFile>(to);
    if (target == nullptr || target->remote_->sandbox() != remote_->sandbox() || range.size == 0)
        return OpenHandle::CopyTo(range, to, offset, std::move(reply));
    remote_->sandbox()->Used();
    auto parked = node()->mount().lot.Park(std::move(reply));
    target->wrote_ = true;
    const std::shared_ptr<RemoteNode> changed = target->remote_;
    changed->Changed();
    remote_->FilesFor(parked.id())
        .Copy(file_, range, target->file_, offset,
              [changed, parked = std::move(parked)](const Result<std::uint64_t>& copied) mutable {
                  changed->Changed();
                  if (!copied) {
                      // Not worth a line in last_error: the kernel reads and writes instead.
                      const bool offered = copied.error().code() != Errno{EOPNOTSUPP};
                      return parked.Fail(offered ? copied.error() : Error(Errno{EOPNOTSUPP}, ""));
                  }
                  changed->DropTwins();
                  if (auto taken = parked.Take()) std::move(*taken).Wrote(*copied);
              });
}

// FLUSH cannot be interrupted while it is queued: what was not written through this file does not wait.
void RemoteOpenFile::Flush(const Caller&, EmptyReply reply) {
    if (!wrote_) return std::move(reply).Ok();
    auto parked = node()->mount().lot.Park(std::move(reply));
    remote_->FilesFor(parked.id())
        .Flush(file_, [parked = std::move(parked)](const Status& status) mutable {
            if (auto taken = parked.Take()) std::move(*taken).Done(status);
        });
}

void RemoteOpenFile::Fsync(EmptyReply reply) {
    auto parked = node()->mount().lot.Park(std::move(reply));
    remote_->FilesFor(parked.id())
        .Sync(file_, [parked = std::move(parked)](const Status& status) mutable {
            if (auto taken = parked.Take()) std::move(*taken).Done(status);
        });
}

void RemoteOpenFile::Release() {
    // What CLOSE says cannot be heard here any more: WriteBehind reports it.
    CachedFiles::Asker files = remote_->files().For({});
    FileCache& cache = remote_->files().cache();
    // Opened before a command, it may not be what its name leads to now.
    if (wrote_ && !remote_->HasLostItsName() && opened_in_ == cache.era()) {
        // In the same flight: what a reader will ask next.
        const FileCache::Question question = cache.Ask(remote_->RemotePath());
        const FileCache::Question contents = cache.Ask(remote_->RemotePath());
        const std::uint64_t changes = remote_->changes();
        const std::uint64_t sets = remote_->sets() - sets_before_;
        const bool alone = changes == changes_before_ + changes_ + sets;
        files.FileStat(file_, [remote = remote_, file = file_, question, contents, changes, alone,
                               era = cache.era(), quiet = cache.IsQuiet(),
                               direct = direct_](const Result<RemoteStat>& stat) {
            FileCache& known = remote->files().cache();
            known.PutStat(question, stat);
            const bool present =
                stat && quiet && known.era() == era && remote->changes() == changes;
            if (direct) remote->ForgetPages();
            if (present && !direct) remote->WroteAll(era, *stat);
            if (present && alone) return remote->files().PutWritten(file, contents, *stat);
            known.Drop(contents);
        });
    }
    files.Close(file_, [](const Status&) {});
}

void RemoteOpenDir::Fsync(EmptyReply reply) {
    auto parked = node()->mount().lot.Park(std::move(reply));
    remote_->FilesFor(parked.id())
        .Drain([parked = std::move(parked)](const Status& status) mutable {
            if (auto taken = parked.Take()) std::move(*taken).Done(status);
        });
}

std::vector<FileCache::Name> NamesOf(const std::vector<RemoteEntry>& entries) {
    std::vector<FileCache::Name> names;
    names.reserve(entries.size());
    for (const RemoteEntry& entry : entries)
        names.push_back({entry.name, entry.stat.mode & S_IFMT});
    return names;
}

void RemoteOpenDir::ReadDir(std::uint64_t offset, bool plus, PagePtr page, DataReply reply) {
    bool again = false;
    {
        const MutexLock lock(mu_);
        again = offset == 0 && read_;
        read_ = true;
    }
    std::optional<std::vector<FileCache::Name>> known;
    if (again) known = remote_->files().KnownList(remote_->RemotePath());
    if (known) {
        const MutexLock lock(mu_);
        entries_.swap(*known);
    }
    if (!again || known) {
        Fill(offset, plus, *page);
        return std::move(reply).Bytes(page->bytes());
    }
    // rewinddir(3): what is there now.
    auto parked = node()->mount().lot.Park(std::move(reply));
    remote_->FilesFor(parked.id())
        .List(remote_->RemotePath(),
              [self = shared_from_this(), plus, page = std::move(page), parked = std::move(parked)](
                  const Result<std::vector<RemoteEntry>>& entries) mutable {
                  if (!entries) return parked.Fail(entries.error());
                  auto taken = parked.Take();
                  if (!taken) return;
                  {
                      const MutexLock lock(self->mu_);
                      self->entries_ = NamesOf(*entries);
                  }
                  self->Fill(0, plus, *page);
                  std::move(*taken).Bytes(page->bytes());
              });
}

void RemoteOpenDir::Fill(std::uint64_t offset, bool plus, DirectoryPage& page) {
    std::vector<FileCache::Name> entries;
    {
        const MutexLock lock(mu_);
        // At most what a page can hold: 1 MiB of the shortest entries.
        const std::uint64_t from = offset < 2 ? 0 : offset - 2;
        const std::uint64_t to = std::min<std::uint64_t>(entries_.size(), from + 4096);
        if (from < to) {
            entries.assign(entries_.begin() + static_cast<std::ptrdiff_t>(from),
                           entries_.begin() + static_cast<std::ptrdiff_t>(to));
        }
    }
    std::uint64_t at = offset;
    for (; at < 2; ++at) {
        const NodePtr parent = at == 0 ? nullptr : remote_->Parent();
        const Listed dots{at == 0 ? "." : "..", S_IFDIR,
                          parent != nullptr ? parent->StableIno() : remote_->StableIno()};
        if (!(plus ? page.AddPlus(dots, Entry{}, at + 1) : page.Add(dots, at + 1))) return;
    }
    InodeTable& inodes = remote_->mount().inodes;
    const Template& what = remote_->sandbox()->what();
    const std::string spool = remote_->sandbox()->SpoolDir();
    const std::string here = remote_->RemotePath();
    for (const FileCache::Name& found : entries) {
        ++at;
        const std::string path = JoinPath(here, found.name);
        if (IsHidden(what, spool, path)) continue;
        // The same number as a look-up would show, and its own node, counted before it is told.
        const std::uint32_t type = ShownMode(found.type) & S_IFMT;
        const Child child = remote_->ChildNode(found.name, type);
        const bool known = inodes.Peek(remote_, child.identity) != nullptr;
        const NodePtr node = inodes.Enter(remote_, child);
        const Listed listed{found.name, type, node->StableIno()};
        // Attributes are told as they are now, not as they were when the directory was opened.
        std::optional<Result<RemoteStat>> stat;
        if (plus) stat = remote_->files().KnownStat(path);
        const bool tell = stat && *stat && (ShownMode((*stat)->mode) & S_IFMT) == type;
        bool fits = false;
        if (tell) {
            Entry entry = remote_->ToEntry(*node, **stat);
            // The kernel takes over what a page says when it gets to it, not as of its request: names
            // and what is new to it could outlive a Revoke() that came in between.
            if (known)
                entry.lease.attributes =
                    remote_->mount()
                        .kernel_cache.Grant(remote_->sandbox()->generation(), node->ino())
                        .attributes;
            fits = page.AddPlus(listed, entry, at);
        } else {
            fits = plus ? page.AddPlus(listed, Entry{}, at) : page.Add(listed, at);
        }
        if (!tell || !fits) inodes.Forget(node->ino(), 1);
        if (!fits) return;
    }
}

}  // namespace sbxfs
