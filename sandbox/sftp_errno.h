// What an SFTP refusal means to a program here: the one table from status x operation x facts to
// errno. SFTP v3 has eight status codes where Linux has a hundred errnos; OpenSSH sends FAILURE for
// EEXIST, ENOTEMPTY, EISDIR, EXDEV, EROFS, ENOSPC and more. So the table also says which cheap
// questions can settle a case (SftpQuestions), and sftp_diagnosis.cc asks them, only after a
// refusal. Pure functions, no thread rules.
//
// What stays ambiguous, and how it is decided:
//   * A missing name met by LSTAT or READLINK is ENOENT without further questions: negative lookups
//   must stay one round
//     trip. (The kernel has looked the parents up, so ENOTDIR and ELOOP do not reach us.)
//   * PERMISSION_DENIED is EACCES or EPERM: EPERM where only an owner may (chmod, chown, utimens),
//   in sticky
//     directories, and for hard links to directories; immutable files and protected_hardlinks look
//     like EACCES.
//   * FAILURE of a rename or link that nothing explains is EXDEV: overlay file systems refuse to
//   rename a directory of
//     the image that way, bind mounts of one file system look the same from both sides, and mv(1)
//     then copies.
//   * FAILURE of unlink that nothing explains is EBUSY, of rmdir ENOTEMPTY, of opening an existing
//   program for
//     writing ETXTBSY.
//   * EDQUOT, EMLINK and real I/O errors cannot be told apart: EIO.
// Each row is guarded by tests/unit/sftp_errno_test.cc, those that a real server can be made to
// show by tests/contract/remote_files_errno_test.cc.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "sandbox/sftp_wire.h"

namespace sbxfs {

enum class SftpOp : unsigned {
    kLstat,
    kReadlink,
    kOpendir,
    kReaddir,
    kOpenRead,       // an existing file, for reading
    kOpenWrite,      // for writing, creating or truncating
    kOpenExclusive,  // O_CREAT | O_EXCL
    kSetstat,        // mode, owner, times by path
    kTruncate,       // size by path
    kMkdir,
    kRmdir,
    kRemove,
    kSymlink,
    kLink,
    kRename,      // may replace
    kRenameNew,   // must not replace
    kRenameOver,  // shall replace, by a server that only knows how not to
    kStatvfs,
    kRead,
    kWrite,
    kFstat,
    kFsetstat,
    kFtruncate,
    kFsync,
    kClose,
    kCopy,
};

enum class SftpKind { kUnknown, kMissing, kFile, kProgram, kDirectory, kSymlink, kSpecial };

SftpKind KindOf(const SftpAttrs& attrs);
SftpKind KindOfMode(std::uint32_t mode);

// What is known about a refused request beyond its status.
struct SftpFacts {
    // Known without asking.
    bool many_handles = false;  // as many are open as the server may hold
    bool far_offset = false;    // beyond what file systems allow (16 TiB)
    std::uint64_t wanted = 1;   // bytes that were to be written
    // Found out by SftpQuestions.
    SftpKind path = SftpKind::kUnknown;
    SftpKind to = SftpKind::kUnknown;  // of two-path operations
    bool through_file = false;         // the path leads through something that is no directory
    bool loop = false;
    bool sticky = false;  // a directory to be changed lets only owners remove names
    bool mounts_differ = false;
    std::optional<SftpStatvfs> room;
};

// A refused request. The initialisers let designated ones leave members out.
struct SftpCase {
    SftpOp op{};
    SftpStatus status{};
    std::string text{};  // the server's words
    std::string path{};
    std::string to{};
    SftpFacts facts{};
};

// Bits of SftpQuestions.
inline constexpr unsigned kSftpAskPath = 1;     // what is at path
inline constexpr unsigned kSftpAskTo = 2;       // what is at to
inline constexpr unsigned kSftpAskAbove = 4;    // the directories above both
inline constexpr unsigned kSftpAskLinks = 8;    // where links at path lead
inline constexpr unsigned kSftpAskRoom = 16;    // free space, read-only
inline constexpr unsigned kSftpAskMounts = 32;  // whether a mount lies between

// What would have to be known to decide; 0 when the status says enough.
unsigned SftpQuestions(SftpOp op, SftpStatus status);
// What to do about an errno of a sandbox's file; empty for one that no row here gives.
std::string_view SftpRemedy(Errno code);
// "open /a: it is probably being executed: end that program, or ...".
Error SftpError(const SftpCase& refused);

// What we refuse ourselves, before a request or for an answer that makes no sense.
enum class SftpFault {
    kPathTooLong,  // PATH_MAX
    kBadPath,    // empty, relative (but in .sbxfs), or with a NUL, which ends OpenSSH's sftp-server
    kStale,      // a file of an earlier connection
    kClosed,     // a file after Close
    kNoHandles,  // as many files are open as the server may hold
    kNotRegular,    // truncating what is no file
    kIsDirectory,   // truncating a directory
    kIsLink,        // attributes of a link, on a server that would change what it points to
    kNotOffered,    // an extension that the server lacks
    kFarOffset,     // beyond 2^63
    kEndlessList,   // more entries than any directory has
    kManyLists,     // other listings hold the memory there is for all of them
    kNoType,        // attributes without a file type
    kAbsurdSize,    // a size that no off_t can hold
    kEmptyTarget,   // of a link to be made
    kAbsurdTarget,  // a link target that no system allows
};
Error SftpFaultError(SftpFault fault, const std::string& path);

// Whether `text` may be sent as a path or link target: not empty, shorter than PATH_MAX, no NUL.
bool SftpTextFits(std::string_view text);
// The same with the reason, for absolute paths.
Status CheckSftpPath(const std::string& path);

}  // namespace sbxfs
