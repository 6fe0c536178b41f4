// LinkedFiles: open files over cuts of the link.
//
// The server forgets its handles with the connection. A file is opened again by its path, and taken for the
// same one when the supervisor sees the inode there that it saw when the file was opened first. While
// there is no supervisor to ask, operations on the file wait, within their bound.
#include <errno.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "sandbox/linked_files.h"

namespace sbxfs {
namespace {

Error Stale(const std::string& path) {
    return {
        Errno{ESTALE},
        path +
            ": the link was cut, and what is there now is not known to be the file that was open",
        Blame::kRemote};
}

Error CutAgain() {
    return {Errno{EHOSTUNREACH}, "the link was cut", Blame::kRemote};
}

}  // namespace

RemoteFilePtr LinkedFiles::Adopt(const std::string& path, const OpenHow& how,
                                 const OpenedFile& opened) {
    auto file = std::make_shared<LinkedFile>(path, how, opened.file, link_);
    std::erase_if(files_, [](const auto& weak) { return weak.expired(); });
    files_.push_back(file);
    if (const auto witness = witness_.lock()) {
        witness->IdentifyOpened(
            path, opened.stat,
            [weak = std::weak_ptr(file), path](std::optional<IdentityStat> seen) {
                const auto alive = weak.lock();
                if (alive != nullptr && alive->path == path) alive->identity = seen;
            });
    }
    return file;
}

void LinkedFiles::Reach(const LinkedFilePtr& file, LinkedFile::Reached reached) {
    DCHECK(target_ != nullptr);
    if (file->link == link_) return reached(file->inner);
    if (file->lost || !file->identity) {
        file->lost = true;
        return reached(Stale(file->path));
    }
    file->waiting.push_back(std::move(reached));
    if (std::exchange(file->reopening, link_) != link_) Reopen(file);
}

void LinkedFiles::Reopen(const LinkedFilePtr& file) {
    target_->Open(file->path, file->how,
                  [weak = weak_from_this(), file, link = link_](const Result<OpenedFile>& opened) {
                      const auto self = weak.lock();
                      if (self == nullptr || self->link_ != link || self->target_ == nullptr)
                          return;
                      if (opened) return self->Compare(file, opened->file);
                      file->lost = true;
                      Reached(file, Stale(file->path));
                  });
}

void LinkedFiles::Compare(const LinkedFilePtr& file, const RemoteFilePtr& opened) {
    const auto witness = witness_.lock();
    if (witness == nullptr) return;
    witness->Identify(file->path, [weak = weak_from_this(), file, opened,
                                   link = link_](const std::optional<IdentityStat>& now) {
        const auto self = weak.lock();
        if (self == nullptr || self->link_ != link || self->target_ == nullptr) return;
        if (!now) {
            file->reopening = 0;  // WitnessIsBack() goes on
            return;
        }
        if (!SameFile(*file->identity, *now)) {
            file->lost = true;
            return Reached(file, Stale(file->path));
        }
        file->inner = opened;
        file->link = link;
        Reached(file, opened);
    });
}

void LinkedFiles::Reached(const LinkedFilePtr& file, const Result<RemoteFilePtr>& inner) {
    file->reopening = 0;
    for (const LinkedFile::Reached& waiting : std::exchange(file->waiting, {}))
        waiting(inner);
}

void LinkedFiles::WitnessIsBack() {
    if (target_ == nullptr) return;
    for (const auto& weak : std::vector(files_)) {
        const auto file = weak.lock();
        if (file == nullptr || file->waiting.empty() || file->reopening == link_) continue;
        file->reopening = link_;
        Reopen(file);
    }
}

void LinkedFiles::Moved(const std::string& from, const std::string& to) {
    for (const auto& weak : files_) {
        const auto file = weak.lock();
        if (file == nullptr || !file->path.starts_with(from)) continue;
        if (file->path.size() == from.size() || file->path[from.size()] == '/')
            file->path.replace(0, from.size(), to);
    }
}

// What waits for a file to be opened again moves on to the next link: see TypedOperation::Run.
void LinkedFiles::DropReopens() {
    for (const auto& weak : std::vector(files_)) {
        if (const auto file = weak.lock()) Reached(file, CutAgain());
    }
}

}  // namespace sbxfs
