// SftpFiles: copies within the sandbox, by the extension copy-data (OpenSSH 9.0). The server says only
// whether it went well. How much there was to copy is what the source's size says, asked for in the same
// flight before the copy and behind it.
#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "sandbox/sftp_files.h"

namespace sbxfs {
namespace {

// Some milliseconds of a disk; over a link of 20 ms no slower than much larger ones.
constexpr std::size_t kMostAtOnce = std::size_t{16} << 20;

}  // namespace

struct SftpFiles::Copying {
    std::uint64_t from = 0;
    std::uint64_t copied = 0;  // at most
    std::optional<SftpRefusal> refusal;
    CopiedDone done;

    void Look(const SftpAnswer<SftpAttrs>& attrs) {
        const std::uint64_t size = attrs && attrs->size ? *attrs->size : 0;
        copied = size > from ? std::min(copied, size - from) : 0;
    }
};

void SftpFiles::Copy(const RemoteFilePtr& from, FileRange range, const RemoteFilePtr& to,
                     std::uint64_t offset, CopiedDone done) {
    const auto source = std::dynamic_pointer_cast<SftpFile>(from);
    const auto target = std::dynamic_pointer_cast<SftpFile>(to);
    Result<ClientPtr> client = Begin(source.get());
    if (client) client = Begin(target.get());
    if (!client) return Later(std::move(done), client.error());
    // A length of 0 would mean all there is. An appending handle has its own idea of the offset.
    if (!(*client)->extensions().copy_data || range.size == 0 || target->how_.append)
        return Later(std::move(done), SftpFaultError(SftpFault::kNotOffered, target->path_));

    const auto copying = std::make_shared<Copying>();
    copying->from = range.offset;
    copying->copied = std::min(range.size, kMostAtOnce);
    copying->done = std::move(done);
    const std::uint64_t wanted = copying->copied;
    (*client)->Fstat(source->handle_,
                     [copying](const SftpAnswer<SftpAttrs>& attrs) { copying->Look(attrs); });
    (*client)->CopyData(source->handle_, range.offset, wanted, target->handle_, offset,
                        [copying](SftpAnswer<Unit> answer) {
                            // A source that ends early is no failure.
                            if (!answer && answer.refusal().status != SftpStatus::kEof)
                                copying->refusal = std::move(answer).refusal();
                        });
    (*client)->Fstat(source->handle_, [self = shared_from_this(), source, target, copying,
                                       wanted](const SftpAnswer<SftpAttrs>& attrs) {
        copying->Look(attrs);
        if (!copying->refusal) return copying->done(copying->copied);
        SftpCase what{.op = SftpOp::kCopy, .path = source->path_, .to = target->path_};
        what.facts.wanted = wanted;
        self->Refuse(std::move(what), *std::move(copying->refusal), target->handle_,
                     Failing(std::move(copying->done)));
    });
}

}  // namespace sbxfs
