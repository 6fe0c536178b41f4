// LinkedFiles: open files over cuts of the link.
//
// The server forgets its handles with the connection. A file is opened again by its path, and taken for the
// same one when the supervisor sees the inode there that it saw when the file was opened first. While
// there is no supervisor to ask, operations on the file wait, within their bound.
#include <errno.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "sandbox/clean_path.h"
#include "sandbox/linked_operation.h"

namespace sbxfs {
namespace {

// How soon a path is looked at again that nobody could look at.
constexpr Duration kLookAgain = std::chrono::milliseconds(250);

// What is at the path of a file that we have made, and whose identity nobody read before the link was cut: a
// file of that very second with one name and nothing in it that we cannot have sent.
bool IsOurs(const LinkedFile& file, const IdentityStat& now) {
    if (!file.made || now.error != 0 || !S_ISREG(now.mode) || now.nlink != 1) return false;
    const std::int64_t birth = now.birth_ns / 1'000'000'000;
    return now.size <= file.most && birth >= file.made_at - 1 && birth <= file.made_at + 1;
}

// Whoever tries again may find the file, if the server had no handle left.
bool IsForGood(const Error& why) {
    constexpr std::array kForGood = {ENOENT, ENOTDIR, EISDIR, EACCES, EPERM, ELOOP, ENXIO};
    return std::any_of(kForGood.begin(), kForGood.end(),
                       [&](int code) { return why.code() == Errno{code}; });
}

void LogLost(const LinkedFile& file, std::string_view why) {
    Log(LogLevel::kDebug, "an open file was not found again", {{"path", file.path}, {"why", why}});
}

}  // namespace

void LinkedFiles::Remember(const LinkedFilePtr& file) {
    if (files_.size() >= prune_at_) {
        std::erase_if(files_, [](const auto& weak) { return weak.expired(); });
        prune_at_ = 2 * files_.size() + 64;
    }
    files_.push_back(file);
}

RemoteFilePtr LinkedFiles::Adopt(const std::string& path, const OpenHow& how,
                                 const OpenedFile& opened, Alone alone) {
    auto file = std::make_shared<LinkedFile>(path, how, opened.file, link_);
    Remember(file);
    // Not whether we are alone by now: the supervisor's channel may have been cut first.
    file->made = how.create && how.exclusive && alone == Alone::kYes;
    file->made_at = opened.stat.mtime;
    if (const auto witness = witness_.lock()) {
        witness->IdentifyOpened(
            path, opened.stat,
            [owner = weak_from_this(), weak = std::weak_ptr(file), path,
             link = link_](const std::optional<IdentityStat>& seen) {
                const auto alive = weak.lock();
                if (alive == nullptr || alive->path != path) return;
                alive->identity = seen;
                const auto self = owner.lock();
                // Files of /proc have none anywhere.
                if (self == nullptr || self->link_ != link || !alive->made || !seen) return;
                self->births_ = seen->birth_ns != 0 && self->births_.value_or(true);
            });
    }
    return file;
}

bool LinkedFiles::OutlivesACut(const RemoteFile& file) {
    const auto& linked = static_cast<const LinkedFile&>(file);
    // Without the time of its birth it is told from another by its ctime, which a write moves.
    const bool known = linked.identity ? linked.identity->birth_ns != 0 : linked.made;
    return !linked.lost && known;
}

void LinkedFiles::Reach(const LinkedFilePtr& file, std::uint64_t id) {
    DCHECK(target_ != nullptr);
    if (file->lost || (!file->identity && !file->made)) {
        if (!file->lost) LogLost(*file, "its identity had not been read");
        file->lost = true;
        return FailStale(id);
    }
    file->waiting.push_back(id);
    if (std::exchange(file->reopening, link_) != link_) Reopen(file);
}

void LinkedFiles::Reopen(const LinkedFilePtr& file) {
    target_->Open(file->path, file->how,
                  [weak = weak_from_this(), file, link = link_](const Result<OpenedFile>& opened) {
                      const auto self = weak.lock();
                      if (self == nullptr || self->link_ != link || self->target_ == nullptr)
                          return;
                      if (opened) {
                          file->reopened = opened->file;
                          return self->Compare(file);
                      }
                      LogLost(*file, opened.error().what());
                      if (!IsForGood(opened.error())) return self->Reached(file, opened.error());
                      file->lost = true;
                      self->Reached(file);
                  });
}

void LinkedFiles::Compare(const LinkedFilePtr& file) {
    const auto witness = witness_.lock();
    if (witness == nullptr) return;
    file->comparing = true;
    witness->Identify(file->path, [weak = weak_from_this(), file, path = file->path,
                                   link = link_](const std::optional<IdentityStat>& now) {
        const auto self = weak.lock();
        if (self == nullptr || self->link_ != link || self->target_ == nullptr) return;
        file->comparing = false;
        if (!now) return self->CompareLater(file);
        if (file->identity ? SameFile(*file->identity, *now) : IsOurs(*file, *now)) {
            file->inner = file->reopened;
            file->link = link;
        } else if (file->path != path || self->MayHaveMoved(path)) {
            // A rename of ours was on its way by another channel than the question.
            return self->CompareLater(file);
        } else {
            LogLost(*file, file->identity ? "another file is there" : "it may be another file");
            file->lost = true;
        }
        self->Reached(file);
    });
}

// Runs `look`, which is given nothing when the link has gone meanwhile.
void LinkedFiles::LookLater(UniqueFunction<void(LinkedFiles*)> look) {
    RunLater(loop_, kLookAgain, [weak = weak_from_this(), link = link_, look = std::move(look)] {
        const auto self = weak.lock();
        look(self != nullptr && self->link_ == link ? self.get() : nullptr);
    });
}

// Nobody can look now, or would not. The supervisor's return is told at once: WitnessIsBack().
void LinkedFiles::CompareLater(const LinkedFilePtr& file) {
    LookLater([file](LinkedFiles* self) {
        if (self == nullptr || self->target_ == nullptr) return;
        if (file->reopened == nullptr || file->comparing) return;
        if (self->IsAwaited(*file)) return self->Compare(file);
        self->Reached(file);  // who uses it next begins anew
    });
}

bool LinkedFiles::IsAwaited(const LinkedFile& file) const {
    return std::any_of(file.waiting.begin(), file.waiting.end(),
                       [this](std::uint64_t id) { return operations_.contains(id); });
}

void LinkedFiles::Reached(const LinkedFilePtr& file, const std::optional<Error>& why) {
    file->reopening = 0;
    file->reopened.reset();
    for (const std::uint64_t id : std::exchange(file->waiting, {})) {
        if (!operations_.contains(id)) continue;
        if (why) {
            GiveUp(Take(id), *why);
        } else if (file->lost) {
            FailStale(id);
        } else {
            Start(id);
        }
    }
}

void LinkedFiles::WitnessIsBack() {
    if (target_ == nullptr) return;
    for (const auto& weak : std::vector(files_)) {
        const auto file = weak.lock();
        if (file != nullptr && file->reopened != nullptr && !file->comparing) Compare(file);
    }
}

void LinkedFiles::Moved(const std::string& from, const std::string& to) {
    for (const auto& weak : files_) {
        const auto file = weak.lock();
        if (file != nullptr && IsWithin(file->path, from)) file->path.replace(0, from.size(), to);
    }
}

// What waits for a file to be opened again has not been sent, and begins anew on the next link.
void LinkedFiles::DropReopens() {
    for (const auto& weak : files_) {
        const auto file = weak.lock();
        if (file == nullptr) continue;
        file->reopening = 0;
        file->comparing = false;
        file->waiting.clear();
        file->reopened.reset();
    }
}

}  // namespace sbxfs
