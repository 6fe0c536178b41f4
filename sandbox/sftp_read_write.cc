// SftpFiles: file data. A range larger than the server takes at once is cut into parts that are all
// in flight at the same time; answers may come in any order. How much is in flight is the caller's
// to bound: it knows the link.
#include <algorithm>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "sandbox/sftp_files.h"

namespace sbxfs {
namespace {

constexpr std::uint64_t kLargestOffset = std::numeric_limits<std::int64_t>::max();

constexpr std::size_t kMostBytes = 1U << 30;  // of one Read: more is a caller's bug

bool IsFarOffset(std::uint64_t offset) {
    return offset > std::uint64_t{16} << 40;
}

}  // namespace

struct SftpFiles::Reading {
    struct Part {
        std::uint64_t offset = 0;
        std::size_t size = 0;
        std::string data;
        std::optional<SftpRefusal> refusal;  // not kEof, which only ends the part
    };
    std::shared_ptr<SftpFile> file;
    std::vector<Part> parts;
    std::size_t open = 0;
    BytesDone done;
};

// A Sync: waits for its own request and for the writes that were in flight when it came.
struct SftpFiles::Syncing {
    std::size_t open = 0;
    std::optional<Error> error;
    Done done;

    void CountOff(std::optional<Error> failed) {
        if (failed && !error) error = std::move(failed);
        if (--open != 0) return;
        if (error) return done(*std::move(error));
        done(Ok());
    }
};

struct SftpFile::Writing {
    std::size_t open = 0;
    SftpCase what;  // of the first part, by offset, that was refused
    std::optional<SftpRefusal> refusal;
    std::size_t refused_part = std::numeric_limits<std::size_t>::max();
    std::vector<std::shared_ptr<SftpFiles::Syncing>> waiting;
    Done done;
};

void SftpFiles::Read(const RemoteFilePtr& file, FileRange range, BytesDone done) {
    auto ours = std::dynamic_pointer_cast<SftpFile>(file);
    const Result<ClientPtr> client = Begin(ours.get());
    if (!client) return Later(std::move(done), client.error());
    if (range.offset > kLargestOffset) {
        return Later(std::move(done), SftpFaultError(SftpFault::kFarOffset, ours->path_));
    }
    CHECK(range.size <= kMostBytes);
    const std::uint64_t size = std::min<std::uint64_t>(range.size, kLargestOffset - range.offset);
    if (size == 0) return Later(std::move(done), std::string());

    const auto reading = std::make_shared<Reading>();
    reading->file = std::move(ours);
    reading->done = std::move(done);
    const std::size_t most = (*client)->limits().read;
    for (std::uint64_t at = 0; at < size; at += most) {
        const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(most, size - at));
        reading->parts.push_back({range.offset + at, part, {}, {}});
    }
    reading->open = reading->parts.size();
    for (std::size_t i = 0; i < reading->parts.size(); ++i)
        ReadPart(*client, reading, i);
}

void SftpFiles::ReadPart(const ClientPtr& client, const std::shared_ptr<Reading>& reading,
                         std::size_t index) {
    const Reading::Part& part = reading->parts[index];
    const auto left = static_cast<std::uint32_t>(part.size - part.data.size());
    client->Read(reading->file->handle_, part.offset + part.data.size(), left,
                 [self = shared_from_this(), reading, index](SftpAnswer<std::string> data) {
                     self->TakePart(reading, index, std::move(data));
                 });
}

void SftpFiles::TakePart(const std::shared_ptr<Reading>& reading, std::size_t index,
                         SftpAnswer<std::string> data) {
    Reading::Part& part = reading->parts[index];
    if (data && !data->empty()) {
        if (part.data.empty()) {
            part.data = std::move(*data);
        } else {
            part.data += *data;
        }
        // Less than asked for is not the end: a server answers what it likes to. Only EOF is the
        // end.
        const ClientPtr client = client_.lock();
        if (part.data.size() < part.size && client != nullptr)
            return ReadPart(client, reading, index);
    } else if (!data && data.refusal().status != SftpStatus::kEof) {
        part.refusal = std::move(data).refusal();
    }
    if (--reading->open == 0) FinishReading(reading);
}

void SftpFiles::FinishReading(const std::shared_ptr<Reading>& reading) {
    std::string bytes;
    for (Reading::Part& part : reading->parts) {
        if (part.refusal) {
            const SftpFile& file = *reading->file;
            SftpCase what{.op = SftpOp::kRead, .path = file.path_};
            what.facts.path = KindOfMode(file.opened_.mode);
            return Refuse(std::move(what), *std::move(part.refusal), file.handle_,
                          Failing(std::move(reading->done)));
        }
        if (reading->parts.size() == 1) return reading->done(std::move(part.data));  // not copied
        if (bytes.empty()) bytes.reserve(part.data.size() * reading->parts.size());
        bytes += part.data;
        const bool ended = part.data.size() < part.size;
        part.data = std::string();
        if (ended) break;  // what other parts found behind the end was written meanwhile
    }
    reading->done(std::move(bytes));
}

void SftpFiles::Write(const RemoteFilePtr& file, std::uint64_t offset, FileBytes bytes,
                      Done done) {
    auto ours = std::dynamic_pointer_cast<SftpFile>(file);
    const Result<ClientPtr> client = Begin(ours.get());
    if (!client) return Later(std::move(done), client.error());
    if (bytes.empty()) return Later(std::move(done), Ok());
    const bool append = ours->how_.append;
    if (!append && (offset > kLargestOffset || bytes.size() > kLargestOffset - offset)) {
        return Later(std::move(done), SftpFaultError(SftpFault::kFarOffset, ours->path_));
    }

    const auto writing = std::make_shared<SftpFile::Writing>();
    writing->done = std::move(done);
    writing->what = {.op = SftpOp::kWrite, .path = ours->path_};
    ours->writing_.push_back(writing);
    const std::size_t most = (*client)->limits().write;
    writing->open = (bytes.size() + most - 1) / most;
    for (std::size_t at = 0, part = 0; at < bytes.size(); at += most, ++part) {
        const std::string_view piece = bytes.view().substr(at, most);
        // An appending server ignores offsets, but they must be possible ones.
        const std::uint64_t to = append ? 0 : offset + at;
        (*client)->Write(ours->handle_, to, bytes, piece,
                         [self = shared_from_this(), ours, writing, part, to,
                          size = piece.size()](SftpAnswer<Unit> answer) {
                             if (!answer && part < writing->refused_part) {
                                 writing->refused_part = part;
                                 writing->refusal = std::move(answer).refusal();
                                 writing->what.facts.wanted = size;
                                 writing->what.facts.far_offset = IsFarOffset(to + size);
                             }
                             // Answered only when no part can have an effect any more.
                             if (--writing->open == 0) self->FinishWriting(ours, writing);
                         });
    }
}

void SftpFiles::FinishWriting(const std::shared_ptr<SftpFile>& file,
                              const std::shared_ptr<SftpFile::Writing>& writing) {
    file->writing_.remove(writing);
    const auto end = [writing](std::optional<Error> error) {
        writing->done(error ? Status(*error) : Ok());
        for (const std::shared_ptr<Syncing>& sync : writing->waiting)
            sync->CountOff(error);
    };
    if (!writing->refusal) return end(std::nullopt);
    Refuse(std::move(writing->what), *std::move(writing->refusal), file->handle_,
           [end](Error error) { end(std::move(error)); });
}

void SftpFiles::Sync(const RemoteFilePtr& file, Done done) {
    const auto ours = std::dynamic_pointer_cast<SftpFile>(file);
    const Result<ClientPtr> client = Begin(ours.get());
    if (!client) return Later(std::move(done), client.error());
    const bool ask = (*client)->extensions().fsync;
    if (!ask && ours->writing_.empty()) return Later(std::move(done), Ok());

    const auto sync = std::make_shared<Syncing>();
    sync->done = std::move(done);
    for (const auto& writing : ours->writing_) {
        writing->waiting.push_back(sync);
        ++sync->open;
    }
    if (!ask) return;
    ++sync->open;
    // Sent behind the writes: even the draft promises order for requests of one file.
    (*client)->Fsync(
        ours->handle_, [self = shared_from_this(), ours, sync](SftpAnswer<Unit> answer) {
            if (answer) return sync->CountOff(std::nullopt);
            self->Refuse({.op = SftpOp::kFsync, .path = ours->path_}, std::move(answer).refusal(),
                         ours->handle_, [sync](Error error) { sync->CountOff(std::move(error)); });
        });
}

}  // namespace sbxfs
