#include "sandbox/sftp_errno.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>

#include "base/check.h"
#include "base/strings.h"
#include "sandbox/spool_place.h"

namespace sbxfs {
namespace {

using Ops = std::uint32_t;
constexpr Ops In(SftpOp op) {
    return Ops{1} << static_cast<unsigned>(op);
}
template <class... More>
constexpr Ops In(SftpOp op, More... more) {
    return In(op) | In(more...);
}

using enum SftpOp;
using enum SftpStatus;

constexpr Ops kAny = ~Ops{0};
constexpr Ops kOnHandle =
    In(kReaddir, kRead, kWrite, kFstat, kFsetstat, kFtruncate, kFsync, kClose, kCopy);
constexpr Ops kFollowing = In(kOpenRead, kOpenWrite, kOpendir);
constexpr Ops kLooking = In(kLstat, kReadlink);  // ask nothing: the fast path of negative lookups
constexpr Ops kRenaming = In(kRename, kRenameNew, kRenameOver);
constexpr Ops kMoving = kRenaming | In(kLink);
constexpr Ops kTaking = kRenaming | In(kRemove, kRmdir);  // names out of a directory
constexpr Ops kMaking = In(kMkdir, kSymlink, kLink, kOpenExclusive, kOpenWrite);
constexpr Ops kChanging =
    kMaking | kTaking | In(kSetstat, kTruncate, kWrite, kFsetstat, kFtruncate);

enum class When {
    kAlways,
    kLongName,
    kManyHandles,
    kFarOffset,
    kPathExists,
    kPathIsDirectory,
    kPathIsFile,  // anything that is neither a directory nor a link
    kPathIsSymlink,
    kPathIsSpecial,
    kPathIsProgram,
    kToExists,
    kDirectoryOntoFile,
    kFileOntoDirectory,
    kDirectoryOntoDirectory,
    kThroughFile,
    kLoop,
    kSticky,
    kReadOnly,
    kNoRoom,
    kMountBetween,
};

struct Row {
    Ops ops;
    SftpStatus status;
    When when;
    int code;
    std::string_view words;  // empty: those of the errno
};

// The first row that fits decides, so the order within a status is Linux's own order of checks.
constexpr auto kTable = std::to_array<Row>({
    // NO_SUCH_FILE is what OpenSSH says for ENOENT, ENOTDIR, ELOOP and EBADF.
    {kOnHandle, kNoSuchFile, When::kAlways, EBADF, "the file is not open for this"},
    {kLooking, kNoSuchFile, When::kAlways, ENOENT, ""},
    {In(kRmdir), kNoSuchFile, When::kPathIsSymlink, ENOTDIR, ""},
    {In(kRmdir, kOpendir), kNoSuchFile, When::kPathIsFile, ENOTDIR, ""},
    {In(kRename), kNoSuchFile, When::kDirectoryOntoFile, ENOTDIR, ""},
    {kFollowing, kNoSuchFile, When::kLoop, ELOOP, ""},
    {kAny, kNoSuchFile, When::kThroughFile, ENOTDIR, ""},
    {kAny, kNoSuchFile, When::kAlways, ENOENT, ""},

    // PERMISSION_DENIED: EACCES and EPERM.
    {In(kSetstat), kPermissionDenied, When::kPathExists, EPERM, "only the owner may change this"},
    {In(kFsetstat), kPermissionDenied, When::kAlways, EPERM, "only the owner may change this"},
    {In(kRemove), kPermissionDenied, When::kPathIsDirectory, EISDIR, ""},
    {In(kLink), kPermissionDenied, When::kPathIsDirectory, EPERM,
     "directories cannot have hard links"},
    {kTaking, kPermissionDenied, When::kSticky, EPERM, "the directory is sticky"},
    {kAny, kPermissionDenied, When::kAlways, EACCES, ""},

    // BAD_MESSAGE: ENAMETOOLONG and EINVAL.
    {kAny, kBadMessage, When::kLongName, ENAMETOOLONG, ""},
    {In(kReadlink), kBadMessage, When::kAlways, EINVAL, "not a symbolic link"},
    {kRenaming, kBadMessage, When::kAlways, EINVAL, "a directory cannot move into itself"},
    {In(kWrite, kCopy), kBadMessage, When::kAlways, EFBIG, ""},
    {In(kFtruncate), kBadMessage, When::kAlways, EINVAL, "the file is not open for writing"},
    {kAny, kBadMessage, When::kAlways, EINVAL, ""},

    {kAny, kOpUnsupported, When::kAlways, EOPNOTSUPP, ""},

    // FAILURE is everything else.
    {In(kMkdir, kSymlink, kOpenExclusive), kFailure, When::kPathExists, EEXIST, ""},
    {In(kLink, kRenameNew), kFailure, When::kToExists, EEXIST, ""},
    {In(kRenameOver), kFailure, When::kToExists, EOPNOTSUPP,
     "the server lacks posix-rename@openssh.com and cannot replace a file in one step"},
    {kMoving, kFailure, When::kMountBetween, EXDEV, "a mount lies between the two names"},
    {In(kRemove), kFailure, When::kPathIsDirectory, EISDIR, ""},
    {kChanging, kFailure, When::kReadOnly, EROFS, ""},
    {In(kRename), kFailure, When::kFileOntoDirectory, EISDIR, ""},
    {In(kRename), kFailure, When::kDirectoryOntoDirectory, ENOTEMPTY, ""},
    {In(kRmdir), kFailure, When::kMountBetween, EBUSY, "it is a mount point"},
    {In(kOpenWrite, kTruncate), kFailure, When::kPathIsDirectory, EISDIR, ""},
    {In(kRead), kFailure, When::kPathIsDirectory, EISDIR, ""},
    {In(kOpenRead, kOpenWrite), kFailure, When::kPathIsSpecial, ENXIO,
     "sockets, pipes and devices are not opened from here"},
    {In(kOpenWrite, kTruncate), kFailure, When::kPathIsProgram, ETXTBSY,
     "it is probably being executed"},
    {In(kSetstat), kFailure, When::kPathIsSymlink, EOPNOTSUPP,
     "a symbolic link has no mode of its own"},
    {In(kTruncate, kFtruncate, kWrite, kCopy), kFailure, When::kFarOffset, EFBIG, ""},
    {kMaking | kMoving | In(kTruncate, kFtruncate, kWrite, kFsync, kClose, kCopy), kFailure,
     When::kNoRoom, ENOSPC, "the sandbox's disk is full"},
    {In(kOpenRead, kOpenWrite, kOpenExclusive, kOpendir), kFailure, When::kManyHandles, EMFILE,
     "the server holds no more open files"},
    {In(kRmdir), kFailure, When::kAlways, ENOTEMPTY, ""},
    {In(kRemove), kFailure, When::kAlways, EBUSY, "it is probably a mount point"},
    {kMoving, kFailure, When::kAlways, EXDEV,
     "the server refuses it without a reason: probably a mount or an image layer lies between"},
    {In(kCopy), kFailure, When::kAlways, EOPNOTSUPP, "the server does not copy this"},
});

struct RemedyRow {
    int code;
    std::string_view remedy;
};

constexpr auto kRemedies = std::to_array<RemedyRow>({
    {ENOENT, "check the path; what fs/ hides (/proc, /sys, /dev) a command can see"},
    {EEXIST, "choose another name, or remove that one first"},
    {ENOTDIR, "look at the path part by part, with stat"},
    {ENOTEMPTY, "remove what is in it first"},
    {EISDIR, "name a file in it; rmdir removes directories"},
    {EACCES, "ls -l shows owner and mode; a command may run as another user (config/user)"},
    {EPERM, "do it with a command in the sandbox"},
    {ELOOP, "readlink shows where the links lead"},
    {ENAMETOOLONG, "use a name of at most 255 bytes, a path of at most 4095"},
    {EINVAL, "stat says what it is; names have no / and no NUL"},
    {EXDEV, "copy it, then remove the old one"},
    {ENXIO, "use it with a command in the sandbox"},
    {ETXTBSY, "end that program, or write a new file and rename it over this one"},
    {EBUSY, "unmount it in the sandbox first"},
    {ENOSPC, "remove something there; df shows how full it is"},
    {EROFS, "write below the sandbox's working directory"},
    {EFBIG, "use a smaller offset or size"},
    {EMFILE, "close some files first"},
    {E2BIG, "list it with a command in the sandbox"},
    {EOVERFLOW, "look at it with a command in the sandbox"},
    {EOPNOTSUPP, "install OpenSSH's sftp-server there, or use a command in the sandbox"},
    {EBADF, "open it for reading, or for writing"},
    {ESTALE, "open it again"},
    {EIO, "read the sandbox's error file and .mount/log, then try again"},
});

struct FaultRow {
    SftpFault fault;
    int code;
    Blame blame;
    std::string_view words;
};

constexpr auto kFaults = std::to_array<FaultRow>({
    {SftpFault::kPathTooLong, ENAMETOOLONG, Blame::kCaller, ""},
    {SftpFault::kBadPath, EINVAL, Blame::kBug, "not an absolute path without NUL bytes"},
    {SftpFault::kStale, ESTALE, Blame::kRemote, "opened over a connection that was lost since"},
    {SftpFault::kClosed, EBADF, Blame::kBug, "the file is closed"},
    {SftpFault::kNoHandles, EMFILE, Blame::kCaller, "the server holds no more open files"},
    {SftpFault::kNotRegular, EINVAL, Blame::kCaller, "only regular files can be truncated"},
    {SftpFault::kIsDirectory, EISDIR, Blame::kCaller, ""},
    {SftpFault::kIsLink, EOPNOTSUPP, Blame::kCaller,
     "the server lacks lsetstat@openssh.com and would change what the link points to"},
    {SftpFault::kNotOffered, EOPNOTSUPP, Blame::kCaller, "the server does not offer this"},
    {SftpFault::kFarOffset, EFBIG, Blame::kCaller, ""},
    {SftpFault::kEndlessList, E2BIG, Blame::kRemote,
     "the server lists more entries than any directory has"},
    {SftpFault::kManyLists, ENOMEM, Blame::kRemote,
     "other large directories of the sandbox are being listed"},
    {SftpFault::kNoType, EIO, Blame::kRemote, "the server does not say what kind of file it is"},
    {SftpFault::kAbsurdSize, EOVERFLOW, Blame::kRemote, "the server claims an impossible size"},
    {SftpFault::kEmptyTarget, ENOENT, Blame::kCaller, "a link to nothing"},
    {SftpFault::kAbsurdTarget, EIO, Blame::kRemote, "the server claims an impossible link target"},
});

constexpr std::size_t kPathMax = 4095;  // PATH_MAX counts the NUL

constexpr unsigned Needs(When when) {
    switch (when) {
        case When::kAlways:
        case When::kLongName:
        case When::kManyHandles:
        case When::kFarOffset:
            return 0;
        case When::kPathExists:
        case When::kPathIsDirectory:
        case When::kPathIsFile:
        case When::kPathIsSymlink:
        case When::kPathIsSpecial:
        case When::kPathIsProgram:
            return kSftpAskPath;
        case When::kToExists:
            return kSftpAskTo;
        case When::kDirectoryOntoFile:
        case When::kFileOntoDirectory:
        case When::kDirectoryOntoDirectory:
            return kSftpAskPath | kSftpAskTo;
        case When::kThroughFile:
        case When::kSticky:
            return kSftpAskAbove;
        case When::kLoop:
            return kSftpAskPath | kSftpAskLinks;
        case When::kReadOnly:
        case When::kNoRoom:
            return kSftpAskRoom;
        case When::kMountBetween:
            return kSftpAskMounts;
    }
    return 0;
}

bool LongName(std::string_view path) {
    constexpr std::size_t kNameMax = 255;
    if (path.size() > kPathMax) return true;
    const std::vector<std::string> names = Split(path, '/');
    return std::any_of(names.begin(), names.end(),
                       [](const std::string& name) { return name.size() > kNameMax; });
}

bool Exists(SftpKind kind) {
    return kind != SftpKind::kUnknown && kind != SftpKind::kMissing;
}

bool NoRoom(const SftpCase& c) {
    if (!c.facts.room) return false;
    const SftpStatvfs& room = *c.facts.room;
    // File systems without a table of inodes say 0 files in all.
    const bool makes = (In(c.op) & (kMaking | kMoving)) != 0;
    if (makes && room.files != 0 && room.files_available == 0) return true;
    const std::uint64_t unit = std::max<std::uint64_t>(room.fragment_size, 1);
    return room.blocks_available < (c.facts.wanted + unit - 1) / unit;
}

bool Holds(When when, const SftpCase& c) {
    const SftpFacts& facts = c.facts;
    const bool from_directory = facts.path == SftpKind::kDirectory;
    switch (when) {
        case When::kAlways:
            return true;
        case When::kLongName:
            return LongName(c.path) || LongName(c.to);
        case When::kManyHandles:
            return facts.many_handles;
        case When::kFarOffset:
            return facts.far_offset;
        case When::kPathExists:
            return Exists(facts.path);
        case When::kPathIsDirectory:
            return from_directory;
        case When::kPathIsFile:
            return Exists(facts.path) && !from_directory && facts.path != SftpKind::kSymlink;
        case When::kPathIsSymlink:
            return facts.path == SftpKind::kSymlink;
        case When::kPathIsSpecial:
            return facts.path == SftpKind::kSpecial;
        case When::kPathIsProgram:
            return facts.path == SftpKind::kProgram;
        case When::kToExists:
            return Exists(facts.to);
        case When::kDirectoryOntoFile:
            return from_directory && Exists(facts.to) && facts.to != SftpKind::kDirectory;
        case When::kFileOntoDirectory:
            return Exists(facts.path) && !from_directory && facts.to == SftpKind::kDirectory;
        case When::kDirectoryOntoDirectory:
            return from_directory && facts.to == SftpKind::kDirectory;
        case When::kThroughFile:
            return facts.through_file;
        case When::kLoop:
            return facts.loop;
        case When::kSticky:
            return facts.sticky;
        case When::kReadOnly:
            return facts.room && facts.room->read_only();
        case When::kNoRoom:
            return NoRoom(c);
        case When::kMountBetween:
            return facts.mounts_differ;
    }
    return false;
}

std::string_view Verb(SftpOp op) {
    switch (op) {
        case kLstat:
            return "stat";
        case kReadlink:
            return "readlink";
        case kOpendir:
            return "open directory";
        case kReaddir:
            return "list";
        case kOpenRead:
            return "open";
        case kOpenWrite:
            return "open for writing";
        case kOpenExclusive:
            return "create";
        case kSetstat:
            return "change attributes of";
        case kTruncate:
            return "truncate";
        case kMkdir:
            return "mkdir";
        case kRmdir:
            return "rmdir";
        case kRemove:
            return "unlink";
        case kSymlink:
            return "symlink";
        case kLink:
            return "link";
        case kRename:
        case kRenameNew:
        case kRenameOver:
            return "rename";
        case kStatvfs:
            return "statfs";
        case kRead:
            return "read";
        case kWrite:
            return "write";
        case kFstat:
            return "stat";
        case kFsetstat:
            return "change attributes of";
        case kFtruncate:
            return "truncate";
        case kFsync:
            return "fsync";
        case kClose:
            return "close";
        case kCopy:
            return "copy";
    }
    return "use";
}

}  // namespace

SftpKind KindOf(const SftpAttrs& attrs) {
    return KindOfMode(attrs.permissions.value_or(0));
}

SftpKind KindOfMode(std::uint32_t mode) {
    switch (mode & S_IFMT) {
        case S_IFREG:
            return (mode & 0111) != 0 ? SftpKind::kProgram : SftpKind::kFile;
        case S_IFDIR:
            return SftpKind::kDirectory;
        case S_IFLNK:
            return SftpKind::kSymlink;
        case S_IFIFO:
        case S_IFSOCK:
        case S_IFCHR:
        case S_IFBLK:
            return SftpKind::kSpecial;
        default:
            return SftpKind::kUnknown;  // none was sent, or one that Linux does not know
    }
}

unsigned SftpQuestions(SftpOp op, SftpStatus status) {
    unsigned needed = 0;
    for (const Row& row : kTable) {
        if ((row.ops & In(op)) == 0 || row.status != status) continue;
        needed |= Needs(row.when);
        if (row.when == When::kAlways) break;  // no later row is looked at
    }
    return needed;
}

std::string_view SftpRemedy(Errno code) {
    const auto* row =
        std::find_if(kRemedies.begin(), kRemedies.end(),
                     [code](const RemedyRow& candidate) { return Errno{candidate.code} == code; });
    return row != kRemedies.end() ? row->remedy : std::string_view{};
}

Error SftpError(const SftpCase& refused) {
    std::string sentence(Verb(refused.op));
    sentence += ' ';
    sentence += Printable(refused.path);
    if (!refused.to.empty()) sentence += " to " + Printable(refused.to);
    sentence += ": ";
    for (const Row& row : kTable) {
        if ((row.ops & In(refused.op)) == 0 || row.status != refused.status) continue;
        if (!Holds(row.when, refused)) continue;
        sentence += row.words.empty() ? ErrnoText(Errno{row.code}) : row.words;
        sentence += ": ";
        sentence += SftpRemedy(Errno{row.code});
        return {Errno{row.code}, std::move(sentence), Blame::kCaller};
    }
    sentence += "the server refuses it without a reason (status " +
                std::to_string(static_cast<unsigned>(refused.status)) + ", '" +
                Printable(refused.text) + "'): " + std::string(SftpRemedy(Errno{EIO}));
    return {Errno{EIO}, std::move(sentence), Blame::kRemote};
}

Error SftpFaultError(SftpFault fault, const std::string& path) {
    const auto* row = std::find_if(kFaults.begin(), kFaults.end(), [&](const FaultRow& candidate) {
        return candidate.fault == fault;
    });
    CHECK(row != kFaults.end());
    const std::string_view words = row->words.empty() ? ErrnoText(Errno{row->code}) : row->words;
    const Errno code{row->code};
    return {code,
            Printable(path) + ": " + std::string(words) + ": " + std::string(SftpRemedy(code)),
            row->blame};
}

bool SftpTextFits(std::string_view text) {
    return !text.empty() && text.size() <= kPathMax && text.find('\0') == std::string_view::npos;
}

Status CheckSftpPath(const std::string& path) {
    if (path.size() > kPathMax) return SftpFaultError(SftpFault::kPathTooLong, path);
    // Below the login's home directory only what is ours.
    if ((!path.starts_with('/') && !IsBelowSpoolParent(path)) || !SftpTextFits(path)) {
        return SftpFaultError(SftpFault::kBadPath, path);
    }
    return Ok();
}

}  // namespace sbxfs
