#include "sandbox/remote_removal.h"

#include <errno.h>
#include <sys/stat.h>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace sbxfs {
namespace {

// Deeper than anything of ours is: somebody makes directories while we remove them.
constexpr std::size_t kDeepest = 32;

bool IsGone(const Status& status) {
    return status || status.error().code() == Errno{ENOENT};
}

class Removal : public std::enable_shared_from_this<Removal> {
 public:
    Removal(RemoteFiles& files, const std::string& path, Done done)
        : files_(files), path_{path}, done_(std::move(done)) {}

    // Lists the innermost directory: files go at once, of the directories the first is next.
    void Next() {
        if (path_.empty()) return done_(Ok());
        if (path_.size() > kDeepest)
            return done_(Error(Errno{ELOOP}, path_.front() + " is too deep to be ours"));
        files_.List(path_.back(),
                    [self = shared_from_this()](const Result<std::vector<RemoteEntry>>& entries) {
                        if (entries) return self->Listed(*entries);
                        if (entries.error().code() != Errno{ENOENT})
                            return self->done_(entries.error());
                        self->path_.pop_back();
                        self->Next();
                    });
    }

 private:
    void Listed(const std::vector<RemoteEntry>& entries) {
        std::optional<std::string> inner;
        waiting_ = 1;
        first_.reset();
        for (const RemoteEntry& entry : entries) {
            const std::string path = path_.back() + "/" + entry.name;
            if ((entry.stat.mode & S_IFMT) == S_IFDIR) {
                if (!inner) inner = path;
                continue;
            }
            ++waiting_;
            files_.Unlink(path, [self = shared_from_this(), inner](const Status& status) {
                if (!IsGone(status) && !self->first_) self->first_ = status.error();
                self->OneLess();
            });
        }
        inner_ = std::move(inner);
        OneLess();
    }

    void OneLess() {
        if (--waiting_ > 0) return;
        if (first_) return done_(*first_);
        if (inner_) {
            path_.push_back(*std::exchange(inner_, std::nullopt));
            return Next();
        }
        files_.RemoveDir(path_.back(), [self = shared_from_this()](const Status& status) {
            if (!IsGone(status)) return self->done_(status);
            self->path_.pop_back();
            self->Next();
        });
    }

    RemoteFiles& files_;
    std::vector<std::string> path_;  // from the top to the innermost
    const Done done_;
    std::size_t waiting_ = 0;
    std::optional<std::string> inner_;
    std::optional<Error> first_;
};

}  // namespace

void RemoveRemoteTree(RemoteFiles& files, const std::string& path, Done done) {
    std::make_shared<Removal>(files, path, std::move(done))->Next();
}

}  // namespace sbxfs
