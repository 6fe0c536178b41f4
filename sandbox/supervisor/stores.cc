#include "sandbox/supervisor/stores.h"

#include <linux/prctl.h>

#include "sandbox/supervisor/stats.h"
#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {
namespace {

constexpr size_t kMaxChildren = 8;
// Each is an open file. The daemon waits for what it has asked for before it comes near that.
constexpr size_t kMaxSaving = 256;

// A file system without modes is no reason to say that the file is not there.
long SetMode(int file, unsigned mode) {
    const long error = sys::ChangeModeFd(file, mode);
    const bool without =
        error == -EPERM || error == -EOPNOTSUPP || error == -ENOSYS || error == -EINVAL;
    return without ? 0 : error;
}

// Everything but the disk. The mode comes after the bytes: a write takes the set-user-ID bit away; then the times, which
// both would change.
long Fill(int file, const StoreFields& order) {
    long error = WriteAll(file, order.bytes);
    if (error == 0) error = SetMode(file, order.mode);
    if (error == 0 && order.times != 0) error = sys::ChangeTimesFd(file, order.atime, order.mtime);
    return error;
}

// The last that is seen of it. Network file systems, and quotas, may say only now that it did not fit.
void Close(Fd file, long error, StoreOkFields* answer) {
    answer->file = StatOfFd(file.get());
    const long closed = sys::Close(file.release());
    if (error == 0) error = closed;
    answer->error = static_cast<uint32_t>(-error);
}

}  // namespace

bool Stores::Make(const StoreFields& order, StoreOkFields* answer) {
    answer->request = order.request;
    const bool sync = (order.flags & kStoreSync) != 0;
    answer->error = WhyNoPath(order.path);
    if (answer->error == 0 && sync && saving_.size() >= kMaxSaving) answer->error = EAGAIN;
    if (answer->error != 0) return true;
    Str name{View(order.path)};
    const long opened = sys::OpenAt(AT_FDCWD, name.c_str(),
                                    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, order.mode & 0700);
    if (opened < 0) {
        answer->error = static_cast<uint32_t>(-opened);
        return true;
    }
    Fd file(opened);
    answer->made = 1;
    const long error = Fill(file.get(), order);
    if (error != 0 || !sync) {
        Close(std::move(file), error, answer);
        return true;
    }
    Saving saving;
    saving.file = std::move(file);
    saving.answer = *answer;
    saving_.Add(std::move(saving));
    SaveNext();
    return false;
}

void Stores::SaveNext() {
    for (size_t i = 0; i < saving_.size() && children_ < kMaxChildren;) {
        Saving& next = saving_[i];
        if (next.pid != 0) {
            ++i;
            continue;
        }
        const long pid = sys::Fork();
        if (pid == 0) SaveAsChild(next.file.get());
        if (pid > 0) {
            next.pid = static_cast<int>(pid);
            ++children_;
            ++i;
        } else if (children_ > 0) {
            return;  // again when one of them ends
        } else {
            // There is no memory or no room for a process, and perhaps there never will be: everything waits for the
            // disk then, rather than this one for ever.
            End(i, sys::SyncFd(next.file.get()));
        }
    }
}

void Stores::SaveAsChild(int file) {
    sys::Prctl(PR_SET_PDEATHSIG, sys::kKill);
    sys::Close(runtime_.lock);
    CloseAllBut(&file, 1);
    sys::Exit(static_cast<int>(-sys::SyncFd(file)));
}

void Stores::End(size_t index, long error) {
    Saving ended = std::move(saving_[index]);
    saving_.Remove(index);
    Close(std::move(ended.file), error, &ended.answer);
    if (ended.wanted) answers_.Add(ended.answer);
}

bool Stores::OnExit(int pid, int wait_status) {
    for (size_t i = 0; i < saving_.size(); ++i) {
        if (saving_[i].pid != pid) continue;
        --children_;
        const bool exited = (wait_status & 0x7f) == 0;
        End(i, exited ? -((wait_status >> 8) & 0xff) : -EIO);
        SaveNext();
        return true;
    }
    return false;
}

bool Stores::TakeAnswer(StoreOkFields* answer) {
    if (answers_.empty()) return false;
    *answer = answers_[0];
    answers_.Remove(0);
    return true;
}

void Stores::Forget() {
    answers_.clear();
    for (size_t i = saving_.size(); i > 0; --i) {
        if (saving_[i - 1].pid == 0) {
            saving_.Remove(i - 1);
        } else {
            saving_[i - 1].wanted = false;
        }
    }
}

}  // namespace sbxfs::supervisor
