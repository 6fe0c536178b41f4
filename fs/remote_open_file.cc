#include "fs/remote_open_file.h"

#include <errno.h>
#include <sys/stat.h>

#include <algorithm>

#include "fs/remote_paths.h"

namespace sbxfs {

void RemoteOpenFile::Read(std::uint64_t offset, std::size_t size, DataReply reply) {
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
    auto parked = node()->mount().lot.Park(std::move(reply));
    // libfuse's buffer ends with this call: the one copy on this side.
    remote_->FilesFor(parked.id())
        .Write(file_, offset, std::string(bytes.data(), bytes.size()),
               [parked = std::move(parked), size = bytes.size()](const Status& status) mutable {
                   if (!status) return parked.Fail(status.error());
                   if (auto taken = parked.Take()) std::move(*taken).Wrote(size);
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
    // Everything was acknowledged when it was written; what CLOSE says cannot be heard any more.
    remote_->sandbox()->files().Close(file_, [](const Status&) {});
}

void RemoteOpenDir::ReadDir(std::uint64_t offset, bool plus, PagePtr page, DataReply reply) {
    bool again = false;
    {
        const MutexLock lock(mu_);
        again = offset == 0 && read_;
        read_ = true;
    }
    if (!again) {
        Fill(offset, plus, *page);
        return std::move(reply).Bytes(page->bytes());
    }
    // rewinddir(3): what is there now.
    auto parked = node()->mount().lot.Park(std::move(reply));
    remote_->sandbox()->files().List(
        remote_->RemotePath(),
        [self = shared_from_this(), plus, page = std::move(page),
         parked = std::move(parked)](Result<std::vector<RemoteEntry>> entries) mutable {
            if (!entries) return parked.Fail(entries.error());
            auto taken = parked.Take();
            if (!taken) return;
            {
                const MutexLock lock(self->mu_);
                self->entries_ = std::move(*entries);
            }
            self->Fill(0, plus, *page);
            std::move(*taken).Bytes(page->bytes());
        });
}

void RemoteOpenDir::Fill(std::uint64_t offset, bool plus, DirectoryPage& page) {
    std::vector<RemoteEntry> entries;
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
    for (const RemoteEntry& found : entries) {
        ++at;
        if (IsHidden(what, spool, JoinPath(here, found.name))) continue;
        // The same number as a look-up would show, and its own node, counted before it is told.
        const Child child = remote_->ChildNode(found.name, ShownMode(found.stat.mode));
        const NodePtr node = inodes.Enter(remote_, child);
        const Entry entry = remote_->ToEntry(*node, found.stat);
        const Listed listed{found.name, entry.attr.mode & S_IFMT, entry.attr.st_ino};
        const bool fits = plus ? page.AddPlus(listed, entry, at) : page.Add(listed, at);
        if (!plus || !fits) inodes.Forget(node->ino(), 1);
        if (!fits) return;
    }
}

}  // namespace sbxfs
