#include "fs/output_file.h"

#include <sys/stat.h>

#include <algorithm>

#include "fs/describe.h"

namespace sbxfs {
namespace {

class OpenOutput final : public OpenHandle {
 public:
    explicit OpenOutput(const std::shared_ptr<OutputFile>& file) : OpenHandle(file), file_(file) {}
    void Read(std::uint64_t offset, std::size_t size, DataReply reply) override {
        file_->ReadRange(offset, size, std::move(reply));
    }

 private:
    const std::shared_ptr<OutputFile> file_;
};

Attr FileAttr(const std::optional<EventView>& view, std::uint64_t size) {
    Attr attr;
    attr.mode = S_IFREG | 0444;
    attr.size = size;
    if (view) attr.atime = attr.mtime = attr.ctime = EventTime(view->record);
    return attr;
}

}  // namespace

Attr OutputFile::Stat() const {
    const auto view = sandbox_->commands().Find(n_);
    if (!view) return FileAttr(view, 0);
    return FileAttr(view, stream_ == OutputStream::kStdout ? view->sizes.out : view->sizes.err);
}

void OutputFile::Open(const OpenRequest& request, OpenReply reply) {
    if (const auto refused = RefuseWriting(request, Name())) return std::move(reply).Fail(*refused);
    auto file =
        std::make_shared<OpenOutput>(std::static_pointer_cast<OutputFile>(shared_from_this()));
    AnswerOpen(mount(), std::move(file), Opened{.direct_io = true}, std::move(reply));
}

void OutputFile::ReadRange(std::uint64_t offset, std::size_t size, DataReply reply) {
    // Not past what is complete here: the copy may be ahead of what has been told.
    const std::uint64_t end = Stat().size;
    if (offset >= end) return std::move(reply).End();
    const FileRange range{offset, std::min<std::uint64_t>(size, end - offset)};
    auto parked = mount().lot.Park(std::move(reply));
    sandbox_->commands().ReadOutput(
        n_, stream_, range, [parked = std::move(parked)](const Result<std::string>& bytes) mutable {
            if (!bytes) return parked.Fail(bytes.error());
            if (auto taken = parked.Take()) std::move(*taken).Bytes(*bytes);
        });
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
