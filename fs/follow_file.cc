#include "fs/follow_file.h"

#include <sys/stat.h>

#include <algorithm>
#include <optional>

#include "fs/describe.h"

namespace sbxfs {
namespace {

class OpenFollow final : public OpenHandle, public std::enable_shared_from_this<OpenFollow> {
 public:
    explicit OpenFollow(const std::shared_ptr<FollowFile>& file)
        : OpenHandle(file),
          mount_(file->mount()),
          sandbox_(file->sandbox()),
          commands_(file->sandbox()->commands()),
          n_(file->n()) {}

    // The offset is ignored: a stream of its own, like a pipe.
    void Read(std::uint64_t, std::size_t size, DataReply reply) override {
        if (const auto said = TakeSaid(size)) return std::move(reply).Bytes(*said);
        auto [parked, id] = mount_.lot.ParkWithId(std::move(reply));
        Continue(std::make_shared<Reader>(std::move(parked), id, size));
    }

 private:
    // A read that waits.
    struct Reader {
        Reader(Parked<DataReply> p, std::uint64_t i, std::size_t s)
            : parked(std::move(p)), id(i), size(s) {}
        Parked<DataReply> parked;
        const std::uint64_t id;
        const std::size_t size;
        bool served = false;  // guarded by mu_: a change may come while it is being served
    };
    using ReaderPtr = std::shared_ptr<Reader>;
    struct Next {
        OutputStream stream = OutputStream::kStdout;
        FileRange range;  // empty: what is to be said, or the end
    };

    // Answers with what is there, or waits for more. What changes after the look is told: the watch comes
    // first.
    void Continue(const ReaderPtr& reader) {
        const std::uint64_t watch = commands_.changes().Watch(
            Raw(n_), [self = shared_from_this(), reader] { self->Continue(reader); });
        const std::optional<Next> next = TakeNext(*reader);
        if (!next) {
            mount_.lot.SetOnCancel(reader->id, [self = shared_from_this(), watch] {
                self->commands_.changes().Unwatch(Raw(self->n_), watch);
            });
            return;
        }
        commands_.changes().Unwatch(Raw(n_), watch);
        if (next->range.size != 0) return ReadNext(reader, *next);
        auto reply = reader->parked.Take();
        if (!reply) return;
        if (const auto said = TakeSaid(reader->size)) return std::move(*reply).Bytes(*said);
        std::move(*reply).End();
    }

    void ReadNext(const ReaderPtr& reader, const Next& next) {
        commands_.ReadOutput(n_, next.stream, next.range,
                             [self = shared_from_this(), reader](const Result<std::string>& bytes) {
                                 if (!bytes) return reader->parked.Fail(bytes.error());
                                 auto reply = reader->parked.Take();
                                 if (reply) return std::move(*reply).Bytes(*bytes);
                                 // Interrupted meanwhile: the next read gets them.
                                 const MutexLock lock(self->mu_);
                                 self->said_.insert(0, *bytes);
                             });
    }

    // What comes next, taken: stdout before stderr where both have something. Nothing: it must be waited for.
    std::optional<Next> TakeNext(Reader& reader) {
        const auto view = commands_.Find(n_);
        const MutexLock lock(mu_);
        if (reader.served) return std::nullopt;
        std::optional<Next> next = Next{};
        // Without a view: forgotten, or destroyed and its time is over.
        if (said_.empty() && view) next = NextOf(*view, reader.size);
        reader.served = next.has_value();
        return next;
    }

    std::optional<Next> NextOf(const EventView& view, std::size_t size) REQUIRES(mu_) {
        const EventState& state = view.record.state;
        const bool finished = IsFinished(state.status);
        for (const OutputStream stream : {OutputStream::kStdout, OutputStream::kStderr}) {
            const bool out = stream == OutputStream::kStdout;
            std::uint64_t end = out ? view.sizes.out : view.sizes.err;
            // Not what a background child adds after the end (contract 4).
            if (finished) end = std::min(end, out ? state.stdout_size : state.stderr_size);
            std::uint64_t& cursor = out ? out_ : err_;
            if (cursor >= end) continue;
            for (const OutputHole& hole : out ? view.stdout_holes : view.stderr_holes) {
                if (hole.from > cursor) end = std::min(end, hole.from);
                if (cursor < hole.from || cursor >= hole.to) continue;
                const std::uint64_t to = std::min(hole.to, end);
                said_ = "\n[sbxfs: " + std::to_string(to - cursor) + " bytes of " +
                        (out ? "stdout" : "stderr") + " are not kept]\n";
                cursor = to;
                return Next{};
            }
            const Next next{stream, {cursor, std::min<std::uint64_t>(size, end - cursor)}};
            cursor += next.range.size;
            return next;
        }
        if (finished) return Next{};
        return std::nullopt;
    }

    std::optional<std::string> TakeSaid(std::size_t size) {
        const MutexLock lock(mu_);
        if (said_.empty()) return std::nullopt;
        std::string said = said_.substr(0, size);
        said_.erase(0, said.size());
        return said;
    }

    MountContext& mount_;
    const SandboxPtr sandbox_;
    Commands& commands_;
    const EventNumber n_;
    Mutex mu_{LockRank::kHandle};
    std::uint64_t out_ GUARDED_BY(mu_) = 0;
    std::uint64_t err_ GUARDED_BY(mu_) = 0;
    std::string said_ GUARDED_BY(mu_);  // comes before anything else
};

}  // namespace

Attr FollowFile::Stat() const {
    Attr attr;
    attr.mode = S_IFREG | 0444;  // the length is not known before it is read
    const auto view = sandbox_->commands().Find(n_);
    if (view) attr.atime = attr.mtime = attr.ctime = EventTime(view->record);
    return attr;
}

void FollowFile::Open(const OpenRequest& request, OpenReply reply) {
    if (const auto refused = RefuseWriting(request, Name())) return std::move(reply).Fail(*refused);
    auto file =
        std::make_shared<OpenFollow>(std::static_pointer_cast<FollowFile>(shared_from_this()));
    AnswerOpen(mount(), std::move(file), Opened{.direct_io = true, .nonseekable = true},
               std::move(reply));
}

}  // namespace sbxfs
