#include "fs/status_file.h"

#include <poll.h>
#include <sys/stat.h>

#include <algorithm>

namespace sbxfs {
namespace {

class OpenStatus final : public OpenHandle {
 public:
    OpenStatus(NodePtr node, std::shared_ptr<const StatusSource> source)
        : OpenHandle(std::move(node)),
          shown_(std::make_shared<Shown>(std::move(source))),
          poll_(std::make_shared<PollSlot>(shown_->source->keeper, *shown_->source->signal,
                                           shown_->source->key,
                                           [shown = shown_] { return shown->Events(); })) {}

    void Read(std::uint64_t offset, std::size_t size, DataReply reply) override {
        const std::string text = shown_->TextFor(offset);
        const std::size_t at = std::min<std::uint64_t>(offset, text.size());
        std::move(reply).Bytes(std::span(text).subspan(at, std::min(size, text.size() - at)));
    }
    void Poll(PollWaker waker, PollReply reply) override {
        poll_->Poll(std::move(waker), std::move(reply));
    }

 private:
    struct Shown {
        explicit Shown(std::shared_ptr<const StatusSource> s)
            : source(std::move(s)), text(source->text()) {}

        std::string TextFor(std::uint64_t offset) {
            std::string now = offset == 0 ? source->text() : std::string();
            const MutexLock lock(mu);
            if (offset == 0) {
                text = std::move(now);
                was_read = true;
            }
            return text;
        }
        // Something new is what was not read yet.
        std::uint32_t Events() {
            const std::string now = source->text();
            const bool over = source->is_final();
            const MutexLock lock(mu);
            const bool fresh = !was_read || now != text;
            return (fresh || over ? POLLIN | POLLRDNORM | POLLPRI : 0U) | (over ? POLLHUP : 0U);
        }

        const std::shared_ptr<const StatusSource> source;
        Mutex mu{LockRank::kHandle};
        std::string text GUARDED_BY(mu);
        bool was_read GUARDED_BY(mu) = false;
    };

    const std::shared_ptr<Shown> shown_;
    const std::shared_ptr<PollSlot> poll_;
};

}  // namespace

Attr StatusFile::Stat() const {
    Attr attr;
    attr.mode = S_IFREG | 0444;
    attr.size = source_->text().size();
    attr.atime = attr.mtime = attr.ctime = source_->mtime();
    return attr;
}

void StatusFile::Open(const OpenRequest& request, OpenReply reply) {
    if (const auto refused = RefuseWriting(request, Name())) return std::move(reply).Fail(*refused);
    AnswerOpen(mount(), std::make_shared<OpenStatus>(shared_from_this(), source_),
               Opened{.direct_io = true}, std::move(reply));
}

Child StatusChild(MountContext& mount, std::string name, StatusSource source) {
    const std::string identity = name;
    return MakeChild<StatusFile>(mount, std::move(name), identity,
                                 std::make_shared<const StatusSource>(std::move(source)));
}

}  // namespace sbxfs
