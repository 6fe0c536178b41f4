// SFTP version 3 on the wire (draft-ietf-secsh-filexfer-02, as OpenSSH speaks it): its numbers, its
// attributes, and the primitives to write and read packets. Everything read is hostile: each length
// and count is checked against the bytes that are there before it is used. Pure values and
// functions; no thread rules.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sbxfs {

enum class SftpType : std::uint8_t {
    kInit = 1,
    kVersion = 2,
    kOpen = 3,
    kClose = 4,
    kRead = 5,
    kWrite = 6,
    kLstat = 7,
    kFstat = 8,
    kSetstat = 9,
    kFsetstat = 10,
    kOpendir = 11,
    kReaddir = 12,
    kRemove = 13,
    kMkdir = 14,
    kRmdir = 15,
    kRealpath = 16,
    kStat = 17,
    kRename = 18,
    kReadlink = 19,
    kSymlink = 20,
    kStatus = 101,
    kHandle = 102,
    kData = 103,
    kName = 104,
    kAttrs = 105,
    kExtended = 200,
    kExtendedReply = 201,
};

enum class SftpStatus : std::uint32_t {
    kOk = 0,
    kEof = 1,
    kNoSuchFile = 2,
    kPermissionDenied = 3,
    kFailure = 4,
    kBadMessage = 5,
    kNoConnection = 6,
    kConnectionLost = 7,  // never from a server: our word for an answer that will not come
    kOpUnsupported = 8,
};

// Bits of SSH_FXP_OPEN.
inline constexpr std::uint32_t kSftpRead = 0x01;
inline constexpr std::uint32_t kSftpWrite = 0x02;
inline constexpr std::uint32_t kSftpAppend = 0x04;
inline constexpr std::uint32_t kSftpCreate = 0x08;
inline constexpr std::uint32_t kSftpTruncate = 0x10;
inline constexpr std::uint32_t kSftpExclusive = 0x20;

inline constexpr std::uint32_t kSftpVersion = 3;
// What follows a packet's length field: at most 256 KiB, as in OpenSSH, and room for a server that
// counts the header apart.
inline constexpr std::size_t kSftpMaxPacket = (256U << 10) + 1024;
// The draft's bound on handles.
inline constexpr std::size_t kSftpMaxHandle = 256;

// Absent members were not sent, or shall not be changed.
struct SftpAttrs {
    struct Owner {
        std::uint32_t uid = 0;
        std::uint32_t gid = 0;
        bool operator==(const Owner&) const = default;
    };
    struct Times {
        std::uint32_t atime = 0;
        std::uint32_t mtime = 0;
        bool operator==(const Times&) const = default;
    };
    std::optional<std::uint64_t> size;
    std::optional<Owner> owner;
    std::optional<std::uint32_t> permissions;  // type and permission bits, as in st_mode
    std::optional<Times> times;

    bool operator==(const SftpAttrs&) const = default;
};

// One entry of a NAME answer. The long name, made for people, is not kept.
struct SftpName {
    std::string name;
    SftpAttrs attrs;
};

// The answer to statvfs@openssh.com, in its order.
struct SftpStatvfs {
    std::uint64_t block_size = 0;
    std::uint64_t fragment_size = 0;  // the unit of the counts
    std::uint64_t blocks = 0;
    std::uint64_t blocks_free = 0;
    std::uint64_t blocks_available = 0;
    std::uint64_t files = 0;
    std::uint64_t files_free = 0;
    std::uint64_t files_available = 0;
    std::uint64_t fsid = 0;
    std::uint64_t flags = 0;  // 1: read-only
    std::uint64_t name_max = 0;

    bool read_only() const { return (flags & 1U) != 0; }
};

std::uint32_t Get32(std::string_view bytes);  // the first four
void Put32(std::uint32_t value, std::string& out);
void Put64(std::uint64_t value, std::string& out);
void PutText(std::string_view text, std::string& out);  // with its length in front
void PutAttrs(const SftpAttrs& attrs, std::string& out);

// Reads the body of one packet from front to back. An error means the packet is malformed.
class PacketReader {
 public:
    explicit PacketReader(std::string_view body) : rest_(body) {}

    Result<std::uint32_t> U32();
    Result<std::uint64_t> U64();
    Result<std::string_view> Text();  // a view into the packet
    Result<SftpAttrs> Attrs();
    Result<std::vector<SftpName>> Names();
    Result<SftpStatvfs> Statvfs();
    std::size_t left() const { return rest_.size(); }

 private:
    std::string_view rest_;
};

// The bytes of one message before its id: extension names of a VERSION packet with their versions.
struct SftpExtension {
    std::string_view name;
    std::string_view version;
};
Result<std::vector<SftpExtension>> ParseExtensions(PacketReader& in);

}  // namespace sbxfs
