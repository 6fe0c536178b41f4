#include "sandbox/sftp_wire.h"

#include <cerrno>
#include <utility>

namespace sbxfs {
namespace {

constexpr std::uint32_t kHasSize = 0x01;
constexpr std::uint32_t kHasOwner = 0x02;
constexpr std::uint32_t kHasPermissions = 0x04;
constexpr std::uint32_t kHasTimes = 0x08;
constexpr std::uint32_t kHasExtended = 0x80000000;
constexpr std::uint32_t kKnownAttrs =
    kHasSize | kHasOwner | kHasPermissions | kHasTimes | kHasExtended;

Error Malformed(std::string_view what) {
    return {Errno{EIO}, "sftp: malformed packet: " + std::string(what), Blame::kRemote};
}

}  // namespace

std::uint32_t Get32(std::string_view bytes) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i)
        value = value << 8 | static_cast<unsigned char>(bytes[i]);
    return value;
}

void Put32(std::uint32_t value, std::string& out) {
    for (int shift = 24; shift >= 0; shift -= 8)
        out += static_cast<char>(value >> shift & 0xff);
}

void Put64(std::uint64_t value, std::string& out) {
    Put32(static_cast<std::uint32_t>(value >> 32), out);
    Put32(static_cast<std::uint32_t>(value), out);
}

void PutText(std::string_view text, std::string& out) {
    Put32(static_cast<std::uint32_t>(text.size()), out);
    out += text;
}

void PutAttrs(const SftpAttrs& attrs, std::string& out) {
    std::uint32_t flags = 0;
    if (attrs.size) flags |= kHasSize;
    if (attrs.owner) flags |= kHasOwner;
    if (attrs.permissions) flags |= kHasPermissions;
    if (attrs.times) flags |= kHasTimes;
    Put32(flags, out);
    if (attrs.size) Put64(*attrs.size, out);
    if (attrs.owner) {
        Put32(attrs.owner->uid, out);
        Put32(attrs.owner->gid, out);
    }
    if (attrs.permissions) Put32(*attrs.permissions, out);
    if (attrs.times) {
        Put32(attrs.times->atime, out);
        Put32(attrs.times->mtime, out);
    }
}

Result<std::uint32_t> PacketReader::U32() {
    if (rest_.size() < 4) return Malformed("it ends inside a number");
    const std::uint32_t value = Get32(rest_);
    rest_.remove_prefix(4);
    return value;
}

Result<std::uint64_t> PacketReader::U64() {
    if (rest_.size() < 8) return Malformed("it ends inside a number");
    const std::uint64_t high = Get32(rest_);
    const std::uint64_t low = Get32(rest_.substr(4));
    rest_.remove_prefix(8);
    return high << 32 | low;
}

Result<std::string_view> PacketReader::Text() {
    const std::size_t length = TRY(U32());
    if (length > rest_.size()) return Malformed("a string longer than the packet");
    const std::string_view text = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return text;
}

Result<SftpAttrs> PacketReader::Attrs() {
    const std::uint32_t flags = TRY(U32());
    if ((flags & ~kKnownAttrs) != 0) return Malformed("unknown attribute flags");
    SftpAttrs attrs;
    if ((flags & kHasSize) != 0) attrs.size = TRY(U64());
    if ((flags & kHasOwner) != 0) {
        const std::uint32_t uid = TRY(U32());
        attrs.owner = SftpAttrs::Owner{.uid = uid, .gid = TRY(U32())};
    }
    if ((flags & kHasPermissions) != 0) attrs.permissions = TRY(U32());
    if ((flags & kHasTimes) != 0) {
        const std::uint32_t atime = TRY(U32());
        attrs.times = SftpAttrs::Times{.atime = atime, .mtime = TRY(U32())};
    }
    if ((flags & kHasExtended) != 0) {
        const std::uint32_t count = TRY(U32());
        // Two empty strings are eight bytes: a larger count cannot be true, and must not be looped
        // over.
        if (count > rest_.size() / 8) return Malformed("more extended attributes than bytes");
        for (std::uint32_t i = 0; i < 2 * count; ++i)
            (void)TRY(Text());
    }
    return attrs;
}

Result<std::vector<SftpName>> PacketReader::Names() {
    const std::uint32_t count = TRY(U32());
    // A name, a long name and attribute flags are at least twelve bytes.
    if (count > rest_.size() / 12) return Malformed("more names than bytes");
    std::vector<SftpName> names;
    names.reserve(count);
    for (std::uint32_t i = 0; i < count; ++i) {
        SftpName entry;  // g++ 12 leaks the members of an aggregate when TRY leaves its initialiser
        entry.name = TRY(Text());
        (void)TRY(Text());
        entry.attrs = TRY(Attrs());
        names.push_back(std::move(entry));
    }
    return names;
}

Result<SftpStatvfs> PacketReader::Statvfs() {
    SftpStatvfs space;
    for (std::uint64_t* field :
         {&space.block_size, &space.fragment_size, &space.blocks, &space.blocks_free,
          &space.blocks_available, &space.files, &space.files_free, &space.files_available,
          &space.fsid, &space.flags, &space.name_max}) {
        *field = TRY(U64());
    }
    return space;
}

Result<std::vector<SftpExtension>> ParseExtensions(PacketReader& in) {
    std::vector<SftpExtension> extensions;
    while (in.left() != 0) {
        const std::string_view name = TRY(in.Text());
        extensions.push_back({name, TRY(in.Text())});
    }
    return extensions;
}

}  // namespace sbxfs
