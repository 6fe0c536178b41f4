#include "fs/output_file.h"

#include <poll.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>

#include "fs/describe.h"

namespace sbxfs {
namespace {

class OpenGrowing final : public OpenHandle {
 public:
    OpenGrowing(const NodePtr& node, std::shared_ptr<const GrowingSource> source)
        : OpenHandle(node),
          source_(std::move(source)),
          read_to_(std::make_shared<std::atomic<std::uint64_t>>(0)),
          poll_(std::make_shared<PollSlot>(
              source_->keeper, *source_->signal, source_->key,
              [source = source_, read_to = read_to_] { return Events(*source, *read_to); })) {}

    void Read(std::uint64_t offset, std::size_t size, DataReply reply) override {
        // Not past what is complete here: the copy may be ahead of what has been told.
        const std::uint64_t end = source_->size();
        if (offset >= end) return std::move(reply).End();
        const FileRange range{offset, std::min<std::uint64_t>(size, end - offset)};
        read_to_->store(std::max(read_to_->load(), offset + range.size));
        auto parked = node()->mount().lot.Park(std::move(reply));
        source_->read(range,
                      [parked = std::move(parked)](const Result<std::string>& bytes) mutable {
                          if (!bytes) return parked.Fail(bytes.error());
                          if (auto taken = parked.Take()) std::move(*taken).Bytes(*bytes);
                      });
    }
    void Poll(PollWaker waker, PollReply reply) override {
        poll_->Poll(std::move(waker), std::move(reply));
    }

 private:
    static std::uint32_t Events(const GrowingSource& source, std::uint64_t read_to) {
        const bool over = source.is_final();  // asked first: what it added is in the size
        if (source.size() > read_to) return POLLIN | POLLRDNORM;
        return over ? POLLIN | POLLRDNORM | POLLHUP : 0U;
    }

    const std::shared_ptr<const GrowingSource> source_;
    const std::shared_ptr<std::atomic<std::uint64_t>> read_to_;  // how far somebody has read
    const std::shared_ptr<PollSlot> poll_;
};

Attr FileAttr(const std::optional<EventView>& view, std::uint64_t size) {
    Attr attr;
    attr.mode = S_IFREG | 0444;
    attr.size = size;
    if (view) attr.atime = attr.mtime = attr.ctime = EventTime(view->record);
    return attr;
}

}  // namespace

OpenHandlePtr MakeGrowingFile(const NodePtr& node, std::shared_ptr<const GrowingSource> source) {
    return std::make_shared<OpenGrowing>(node, std::move(source));
}

Attr OutputFile::Stat() const {
    const auto view = sandbox_->commands().Find(n_);
    if (!view) return FileAttr(view, 0);
    const bool out = stream_ == OutputStream::kStdout;
    const EventState& state = view->record.state;
    const std::uint64_t size = out ? view->sizes.out : view->sizes.err;
    Attr attr = FileAttr(view, size);
    // Of one that has finished only what a child left behind wrote later is newer than its end.
    if (!IsFinished(state.status) || size > (out ? state.stdout_size : state.stderr_size)) {
        const std::int64_t arrived = out ? view->arrived.out_ms : view->arrived.err_ms;
        attr.mtime = attr.ctime = std::max(attr.mtime, FromEpochMs(arrived));
    }
    return attr;
}

void OutputFile::Open(const OpenRequest& request, OpenReply reply) {
    if (const auto refused = RefuseWriting(request, Name())) return std::move(reply).Fail(*refused);
    const auto self = std::static_pointer_cast<OutputFile>(shared_from_this());
    const auto source = std::make_shared<GrowingSource>();
    source->keeper = sandbox_;
    source->signal = &sandbox_->commands().changes();
    source->key = Raw(n_);
    source->size = [self] { return self->Stat().size; };
    source->is_final = [box = sandbox_, n = n_] {
        const auto view = box->commands().Find(n);
        return !view || IsFinished(view->record.state.status);
    };
    source->read = [box = sandbox_, n = n_, stream = stream_](FileRange range, BytesDone done) {
        box->commands().ReadOutput(n, stream, range, std::move(done));
    };
    AnswerOpen(mount(), MakeGrowingFile(self, source), Opened{.direct_io = true}, std::move(reply));
}

Attr ScriptFile::Stat() const {
    const auto view = sandbox_->commands().Find(n_);
    Attr attr = FileAttr(view, view ? view->record.script_size : 0);
    if (view) attr.mtime = attr.ctime = FromEpochMs(view->record.accepted_ms);
    return attr;
}

void ScriptFile::Open(const OpenRequest& request, OpenReply reply) {
    if (const auto refused = RefuseWriting(request, Name())) return std::move(reply).Fail(*refused);
    auto parked = mount().lot.Park(std::move(reply));
    sandbox_->commands().ReadScript(n_, [self = shared_from_this(), parked = std::move(parked)](
                                            Result<std::string> script) mutable {
        if (!script) return parked.Fail(script.error());
        auto taken = parked.Take();
        if (!taken) return;
        auto file = std::make_shared<SnapshotFile>(self, std::move(*script));
        AnswerOpen(self->mount(), std::move(file), Opened{.direct_io = true}, std::move(*taken));
    });
}

}  // namespace sbxfs
