#include "fs/errno_table.h"

#include <string.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdint>

#include "sandbox/sftp_errno.h"

namespace sbxfs {
namespace {

using enum FileOp;

using Ops = std::uint32_t;
constexpr Ops In(FileOp op) {
    return Ops{1} << static_cast<unsigned>(op);
}
template <class... More>
constexpr Ops In(FileOp op, More... more) {
    return In(op) | In(more...);
}

constexpr Ops kEvery = (Ops{1} << kFileOps) - 1;
constexpr Ops kOnOpen =
    In(kRead, kWrite, kCopyRange, kFlush, kFsync, kReaddir, kPoll, kGetattr, kSetattr);
// Below fs/: all that may have to ask the sandbox.
constexpr Ops kAsking = kEvery & ~In(kRelease, kStatfs, kPoll);
constexpr Ops kMaking = In(kMkdir, kSymlink, kLink, kCreate, kRename, kMknod);
constexpr Ops kNaming = kMaking | In(kUnlink, kRmdir);
constexpr Ops kStoring = In(kWrite, kCopyRange, kFlush, kFsync);
constexpr Ops kOpening = In(kOpen, kCreate, kMknod, kOpendir, kReaddir);
constexpr Ops kChanging = kNaming | kStoring | In(kSetattr);
// Of control files: a command, a value or an order is taken by any of these (docs/SEMANTICS.md, 3).
constexpr Ops kSubmitting = In(kOpen, kCreate, kRead, kWrite, kFlush, kFsync, kSetattr);
constexpr Ops kOrdering = In(kRead, kWrite, kFlush, kFsync);  // .mount/new makes sandboxes too
constexpr Ops kJournaling = kSubmitting | In(kMkdir, kRmdir, kUnlink);

struct Row {
    int code;
    Ops ops;
    std::string_view cause;
    std::string_view remedy;
};

// In each tree the first row that fits decides, so what is special to an operation comes first. An empty remedy is
// SftpRemedy()'s.
constexpr auto kFilesRows = std::to_array<Row>({
    {ENOENT, In(kSymlink), "its directory is not there, or the link would lead to nothing", {}},
    {ENOENT, kAsking, "there is no such file in the sandbox", {}},
    {EEXIST, kMaking, "the name is there already", {}},
    {ENOTDIR, kAsking, "a part of the path is no directory", {}},
    {ENOTEMPTY, In(kRmdir, kRename), "the directory is not empty", {}},
    {EISDIR, In(kUnlink, kRename, kOpen, kCreate, kRead, kSetattr), "it is a directory", {}},
    {EACCES, kAsking, "the sandbox's login may not do this there", {}},
    {EPERM,
     In(kSetattr),
     "owners, set-user-id bits and other people's files are not changed from here",
     {}},
    {EPERM,
     kNaming,
     "the name is one that is hidden here, or only its owner may change it in that directory",
     {}},
    {ELOOP, kAsking, "symbolic links lead in a circle", {}},
    {ENAMETOOLONG, kAsking, "a name has more than 255 bytes, or a path more than 4095", {}},
    {EINVAL,
     In(kRename),
     "a directory cannot move into itself, nor can two names be exchanged",
     {}},
    {EINVAL, In(kReadlink), "it is not a symbolic link", {}},
    {EINVAL, In(kSetattr), "only regular files that are open for writing change their size", {}},
    {EINVAL, kAsking, "the sandbox's server takes no such name or value", {}},
    {EXDEV,
     In(kRename, kLink),
     "the two names are in different sandboxes, or on different file systems of one",
     {}},
    {ENXIO, In(kOpen, kCreate), "it is a socket, pipe or device of the sandbox", {}},
    {ETXTBSY, In(kOpen, kCreate, kSetattr), "it is probably a program that is being executed", {}},
    {EBUSY, In(kUnlink, kRmdir, kRename), "it is probably a mount point in the sandbox", {}},
    {ENOSPC, kMaking | kStoring | In(kOpen, kSetattr), "the sandbox's disk is full", {}},
    {EROFS, kChanging | In(kOpen), "the file system there is read-only", {}},
    {EFBIG, kStoring | In(kRead, kSetattr), "no file can be that long", {}},
    {EMFILE, kOpening, "the sandbox's server holds no more open files", {}},
    {E2BIG, In(kOpendir, kReaddir), "the server lists more entries than any directory has", {}},
    {ENOMEM, In(kOpendir, kReaddir), "other large directories of the sandbox are being listed",
     "list it again when they are, or with a command in the sandbox"},
    {EOVERFLOW, kAsking, "the sandbox claims a size that no file can have", {}},
    {EOPNOTSUPP, In(kMknod), "SFTP cannot make pipes, sockets and devices",
     "make it with a command in the sandbox"},
    {EOPNOTSUPP, In(kCopyRange), "the sandbox cannot copy this by itself",
     "read and write it, as the kernel and cp do then"},
    {EOPNOTSUPP, kAsking, "the sandbox's server does not offer this", {}},
    {EBADF, kAsking | In(kPoll), "the file is not open for this", {}},
    {ESTALE, kOnOpen, "what was open is not what is there now", "open it again"},
    {ESTALE, kEvery, "it was replaced meanwhile", "look it up again"},
    {EHOSTDOWN, kAsking, "the sandbox is stopped or has ended",
     "see its status and error: `echo start > ctl` where it is stopped, else rmdir"},
    {EHOSTUNREACH, kAsking, "the link to the sandbox is down",
     "it is tried again by itself: wait until its status is ready"},
    {ETIMEDOUT, kChanging, "there was no answer in time, so whether it was done is not known",
     "look before you repeat it"},
    {ETIMEDOUT, kAsking, "the sandbox did not answer in time",
     "try again when its status is ready; op_timeout= sets how long is waited"},
    {EINTR, kEvery, "a signal came while it waited",
     "do it again if the signal was not meant to end it"},
    {ENOTCONN, kEvery, "the file system is being unmounted", "mount it again: sbxfs mount"},
    {EIO, kChanging | In(kOpen),
     "data did not arrive, or the sandbox's disk or server failed without a reason",
     "read the sandbox's error file, then write it again"},
    {EIO, kEvery, "the sandbox's server failed without a reason, or sbxfs has a bug",
     "try again; .mount/log has more"},
});

constexpr auto kControlRows = std::to_array<Row>({
    {ENOENT, In(kMkdir), "there is no such template or snapshot",
     "ls .mount/templates shows which there are"},
    {ENOENT, In(kRmdir), "there is no such sandbox, event or snapshot", "ls shows which there are"},
    {ENOENT, In(kUnlink), "there is no such template, variable or snapshot",
     "ls shows which there are"},
    {ENOENT, kOrdering, "a template, event or snapshot that it names is not there",
     "ls .mount/templates, events and .mount/snapshots show which there are"},
    {ENOENT, kEvery, "there is no such entry", "ls shows what there is"},
    {EEXIST, In(kMkdir), "a sandbox or file of this name is there",
     "choose another name, or rmdir that one first"},
    {EEXIST, In(kCreate), "a command of this name was given before",
     "its result is in events/NAME; another command needs another name"},
    {EEXIST, kOrdering, "the name that it gives is used", "choose another one"},
    {ENOTDIR, In(kRmdir), "it is no directory that can be forgotten",
     "rmdir takes sandboxes, and events by their number"},
    {ENOTDIR, kEvery, "it is no directory", "read it as a file"},
    {EACCES, In(kMkdir), "the provider denies it", "sbxfs doctor says what is missing"},
    {EACCES, In(kOpen, kCreate), "the file can only be read",
     "what takes writes: cmd, cmd.json, run/NAME, ctl, ttl, config/"},
    {EACCES, kOrdering, "the provider denies it", "sbxfs doctor says what is missing"},
    {EPERM, In(kSetattr), "mode and owner of control entries are fixed", "leave them as they are"},
    {EPERM, In(kRmdir), "it belongs to the mount, or its entries were being removed one by one",
     "rmdir NAME destroys a sandbox, umount ends the mount"},
    {EPERM, kNaming | In(kOpen),
     "control entries cannot be created, linked, renamed or removed by hand",
     "mkdir NAME in the mount launches a sandbox, rmdir destroys it; its files are below NAME/fs"},
    {EINVAL, In(kMkdir), "the name cannot be used, or its template is wrong",
     "letters, digits, '.', '_' and '-', at most 63; sbxfs config check looks at templates"},
    {EINVAL, In(kCreate, kOpen), "the name cannot be used",
     "letters, digits, '.', '_' and '-', not a number, not 'latest'"},
    {EINVAL, In(kReadlink), "it is not a symbolic link", "read it as a file"},
    {EINVAL, In(kRename), "names cannot be exchanged", "rename without RENAME_EXCHANGE"},
    {EINVAL, kSubmitting, "what was written cannot be taken",
     "the sentence in last_error says what is wrong in it"},
    {ENAMETOOLONG, kOrdering, "directories lie too deep in each other to be copied",
     "flatten them, then write it again"},
    {EFBIG, kSubmitting, "what was written is too long", "put more into a file below fs/"},
    {EAGAIN, kSubmitting, "as many commands as may wait are waiting",
     "let some end: cat events/latest/wait"},
    {EDQUOT, In(kMkdir), "the mount has as many sandboxes as it may",
     "rmdir one, or raise max_sandboxes"},
    {EDQUOT, In(kCreate), "the sandbox has as many variables as it may", "rm one in config/env"},
    {EDQUOT, kJournaling, "a limit is reached", "remove something, or raise the limit"},
    {ENOSPC, kJournaling, "the disk of the state directory is full",
     "free some space there; sbxfs status says where it is"},
    {EKEYEXPIRED, In(kMkdir) | kOrdering, "the provider's credentials have expired or are missing",
     "log in again; sbxfs doctor checks them"},
    {EOPNOTSUPP, In(kMkdir), "this machine or this sbxfs lacks what the template's provider needs",
     "sbxfs doctor says what, and how to install it"},
    {EOPNOTSUPP, In(kCopyRange), "control files are not copied by the kernel",
     "read and write them, as cp does then"},
    {EOPNOTSUPP, kOrdering, "it is no verb here, or the provider has no such thing",
     "reading ctl lists the verbs; sbxfs doctor says what a provider lacks"},
    {ESRCH, kOrdering, "the command has finished already", "its outcome is in the event"},
    {EBUSY, In(kRmdir), "the sandbox is protected, or the command has not finished",
     "`echo unprotect > ctl`, or end the command first"},
    {EBUSY, In(kUnlink), "it is in use", "the sentence in last_error says by what"},
    {EBUSY, kOrdering, "the sandbox is on its way from one state to another, or is being copied",
     "wait until that is over, then write it again"},
    {ECANCELED, kSubmitting, "whoever opened the file was killed before it was closed, or gave up",
     "nothing was taken: write it again"},
    {EHOSTDOWN, In(kRmdir, kUnlink) | kSubmitting, "the sandbox is stopped or has ended",
     "see its status and error: `echo start > ctl` where it is stopped, else rmdir"},
    {EHOSTUNREACH, kSubmitting, "the link to the sandbox is down, and nothing was changed",
     "write it again when its status is ready"},
    {ETIMEDOUT, kSubmitting, "the sandbox did not answer in time",
     "read the value, then write it again if it is not there"},
    {EBADF, kOnOpen, "the file is not open for this", "open it for reading, or for writing"},
    {ESTALE, kEvery, "the entry has gone meanwhile", "look it up again"},
    {EMFILE, kJournaling, "the daemon has no descriptor left",
     "raise LimitNOFILE or ulimit -n, then mount again"},
    {ENFILE, kJournaling, "this machine has no descriptor left", "raise fs.file-max"},
    {ENOMEM, kJournaling, "this machine has no memory left", "end something"},
    {EROFS, kJournaling, "the disk of the state directory is read-only",
     "see why with dmesg; sbxfs status says where it is"},
    {EINTR, kEvery, "a signal came while it waited",
     "do it again if the signal was not meant to end it"},
    {ENOTCONN, kEvery, "the file system is being unmounted", "mount it again: sbxfs mount"},
    {EIO, kEvery, "the journal or a kept output cannot be read or written, or sbxfs has a bug",
     "check the disk of the state directory; .mount/log has more"},
});

struct OpWords {
    FileOp op;
    std::string_view name;
    std::string_view doing;
    std::string_view calls;  // what programs call
};
constexpr auto kOpWords = std::to_array<OpWords>({
    {kLookup, "lookup", "looking up a name", "any call that takes a path"},
    {kGetattr, "getattr", "reading attributes", "stat, fstat"},
    {kSetattr, "setattr", "changing attributes", "chmod, chown, truncate, utimensat"},
    {kReadlink, "readlink", "reading a link", "readlink"},
    {kMknod, "mknod", "making a special file", "mknod, mkfifo"},
    {kMkdir, "mkdir", "making a directory", "mkdir"},
    {kUnlink, "unlink", "removing a file", "unlink"},
    {kRmdir, "rmdir", "removing a directory", "rmdir"},
    {kSymlink, "symlink", "making a symbolic link", "symlink"},
    {kRename, "rename", "renaming", "rename"},
    {kLink, "link", "making a hard link", "link"},
    {kOpen, "open", "opening a file", "open of what is there"},
    {kCreate, "create", "creating a file", "open with O_CREAT"},
    {kRead, "read", "reading", "read, pread, mmap"},
    {kWrite, "write", "writing", "write, pwrite, msync"},
    {kCopyRange, "copy_file_range", "copying a range", "copy_file_range"},
    {kFlush, "flush", "closing a file", "close"},
    {kFsync, "fsync", "syncing", "fsync, fdatasync"},
    {kRelease, "release", "letting go of an open file", "the last close; nobody hears it"},
    {kOpendir, "opendir", "opening a directory", "opendir"},
    {kReaddir, "readdir", "listing", "readdir"},
    {kStatfs, "statfs", "asking for free space", "statfs, df"},
    {kPoll, "poll", "polling", "poll, select, epoll"},
});
static_assert(kOpWords.size() == kFileOps);

const OpWords& WordsOf(FileOp op) {
    return kOpWords[static_cast<unsigned>(op)];
}

std::vector<Errno> CodesOf(Tree tree) {
    std::vector<Errno> codes;
    const auto add = [&codes](const auto& rows) {
        for (const Row& row : rows) {
            if (std::find(codes.begin(), codes.end(), Errno{row.code}) == codes.end())
                codes.push_back(Errno{row.code});
        }
    };
    if (tree == Tree::kFiles) add(kFilesRows);
    if (tree == Tree::kControl) add(kControlRows);
    return codes;
}

constexpr std::string_view kDocumentHead = R"(# Every errno, by operation

What a request on a mount can end with; nothing else leaves the daemon. A number that a sandbox claims and that is not
listed for the operation becomes EIO, and `.mount/log` keeps what it was. This page is made from `fs/errno_table.cc`, and a
test fails when they differ.

Every refusal leaves a line in `.mount/last_error`: time, pid, path, errno, and a sentence with cause and remedy. Left out is
what programs ask for in order to decide what to do, as on any file system:

* EINTR;
* below `fs/`: ENOENT, EEXIST, ENOTEMPTY, ENOTDIR, EISDIR, ELOOP, ENAMETOOLONG;
* elsewhere: a look-up of a name that is not there;
* EOPNOTSUPP of copy_file_range, since the kernel then reads and writes by itself.

EACCES below `fs/` is told once for all that one process meets in a row, with their number and the newest path.

| operation | what programs call |
|---|---|
)";

// "mkdir, unlink"; of most of them: "any but read, poll".
std::string OpsText(Ops ops) {
    const bool most = std::popcount(ops) > static_cast<int>(kFileOps / 2);
    std::string names;
    for (const OpWords& words : kOpWords) {
        if (((ops & In(words.op)) != 0) == most) continue;
        names += (names.empty() ? "" : ", ") + std::string(words.name);
    }
    if (!most) return names;
    return names.empty() ? "any" : "any but " + names;
}

std::string DocumentTable(Tree tree) {
    std::string text = "| errno | while | cause | remedy |\n|---|---|---|---|\n";
    for (const Errno code : CodesOf(tree)) {
        // Operations for which the same is said share a line.
        std::vector<std::pair<ErrnoMeaning, Ops>> lines;
        for (const OpWords& words : kOpWords) {
            const auto meaning = MeaningOf(tree, words.op, code);
            if (!meaning) continue;
            const auto line = std::find_if(lines.begin(), lines.end(), [&meaning](const auto& one) {
                return one.first.cause == meaning->cause;
            });
            if (line == lines.end()) {
                lines.emplace_back(*meaning, In(words.op));
            } else {
                line->second |= In(words.op);
            }
        }
        for (const auto& [meaning, ops] : lines) {
            text += "| " + ErrnoName(code) + " | " + OpsText(ops) + " | " +
                    std::string(meaning.cause) + " | " + std::string(meaning.remedy) + " |\n";
        }
    }
    return text;
}

}  // namespace

std::string_view OpName(FileOp op) {
    return WordsOf(op).name;
}

std::optional<ErrnoMeaning> MeaningOf(Tree tree, FileOp op, Errno code) {
    const auto find = [op, code](const auto& rows) -> std::optional<ErrnoMeaning> {
        for (const Row& row : rows) {
            if (Errno{row.code} == code && (row.ops & In(op)) != 0)
                return ErrnoMeaning{row.cause, row.remedy};
        }
        return std::nullopt;
    };
    if (tree == Tree::kControl) return find(kControlRows);
    std::optional<ErrnoMeaning> meaning = find(kFilesRows);
    if (meaning && meaning->remedy.empty()) meaning->remedy = SftpRemedy(code);
    return meaning;
}

std::optional<std::string> ErrnoSentence(Tree tree, FileOp op, Errno code) {
    const auto meaning = MeaningOf(tree, op, code);
    if (!meaning) return std::nullopt;
    return std::string(WordsOf(op).doing) + ": " + std::string(meaning->cause) + ": " +
           std::string(meaning->remedy);
}

bool IsOrdinaryAnswer(Tree tree, Errno code) {
    if (code == Errno{EINTR}) return true;
    if (tree != Tree::kFiles) return false;
    switch (static_cast<int>(code)) {
        case ENOENT:
        case EEXIST:
        case ENOTEMPTY:
        case ENOTDIR:
        case EISDIR:
        case ELOOP:
        case ENAMETOOLONG:
            return true;
        default:
            return false;
    }
}

const std::vector<ErrnoSummary>& ErrnoSummaries() {
    static const std::vector<ErrnoSummary> summaries = {
        {Errno{EHOSTDOWN}, "it is stopped, or has ended (failed, expired, lost)",
         "the sandbox is stopped, or has ended: failed, expired, lost",
         "`error` says why; `echo start > ctl` where it is stopped, else `rmdir` it"},
        {Errno{EHOSTUNREACH}, "it cannot be reached now; tried again by itself", "the link is down",
         "it is tried again by itself; `status` turns from `unreachable` to `ready`"},
        {Errno{ETIMEDOUT}, "no answer in time, the outcome is not known",
         "a bound has passed; whether it was done is not known", "look before you repeat it"},
        {Errno{EKEYEXPIRED}, "credentials: log in again",
         "the provider's credentials have expired or are missing",
         "log in again; `sbxfs doctor` checks them"},
        {Errno{EACCES}, "denied, or somebody else answers at its address",
         "denied by the provider or the sandbox, another host key than the known one, or a control "
         "file that is not to be written",
         "`last_error`, `error`"},
        {Errno{EDQUOT}, "a limit is reached", "a limit of the mount or the sandbox is reached",
         "remove something, or raise the limit"},
        {Errno{ENOSPC}, "a disk is full",
         "the sandbox's disk, or that of the state directory, is full",
         "`last_error` says which: free some space there"},
        {Errno{EAGAIN}, "queue full", "the queue is full", "wait for a command to end"},
        {Errno{EEXIST}, "name in use", "the name is used", "choose another one"},
        {Errno{EINVAL}, "bad name or value", "a bad name or value", "`last_error` names it"},
        {Errno{EFBIG}, "script over 1 MiB", "a script over 1 MiB, a value or a file too long",
         "put a script into a file, and run that"},
        {Errno{EPERM}, "a control entry", "a control entry; an owner that is not shown",
         "`rmdir` destroys a sandbox; owners are changed by a command"},
        {Errno{EOPNOTSUPP}, "not offered (xattrs, FIFOs, a verb)",
         "not offered: extended attributes, FIFOs, a verb that the provider lacks (the same number "
         "as ENOTSUP)",
         "reading `ctl` lists the verbs; FIFOs are made by a command"},
        {Errno{EXDEV}, "", "from one sandbox to another", "copy"},
        {Errno{ESTALE}, "open from before the link was cut: reopen",
         "an open file of an earlier identity", "open it again"},
        {Errno{ENXIO}, "", "a FIFO or device of the sandbox", "use it by a command"},
        {Errno{EBUSY}, "protected, running, or on its way",
         "a protected sandbox, a running command, `stop`, `start` or `snapshot` of one that is on "
         "its way from one state to another",
         "wait for its end, or unprotect it"},
        {Errno{ESRCH}, "", "a signal to a command that has finished",
         "its outcome is in the event"},
        {Errno{ECANCELED}, "",
         "nothing was taken: whoever wrote was killed before the close, or gave up",
         "write it again"},
        {Errno{EIO}, "lost writes, corrupt data, a bug", "lost writes, corrupt data, a bug",
         "`error`, `.mount/log`"},
        {Errno{EINTR}, "", "a signal came while it waited", "do it again"},
        {Errno{ENOTCONN}, "", "the mount is being unmounted, or its daemon is gone",
         "`sbxfs mount` again"},
        {Errno{ENOENT}, "", "no such file, sandbox, template, event or variable", "`ls`"},
        {Errno{ENOTDIR}, "", "a part of the path is no directory", ""},
        {Errno{EISDIR}, "", "it is a directory", ""},
        {Errno{ENOTEMPTY}, "", "a directory that is not empty", ""},
        {Errno{ELOOP}, "", "symbolic links lead in a circle", "`readlink`"},
        {Errno{ENAMETOOLONG}, "", "a name over 255 bytes, a path over 4095", "use a shorter one"},
        {Errno{ETXTBSY}, "", "writing to a program that is being executed",
         "write a new file and rename it over"},
        {Errno{EROFS}, "", "a read-only file system, in the sandbox or below the state directory",
         "`last_error` says which"},
        {Errno{EBADF}, "", "the file is not open for this", "open it for it"},
        {Errno{EMFILE}, "", "the sandbox's server, or the daemon, holds no more open files",
         "close some"},
        {Errno{ENFILE}, "", "this machine has no descriptor left", "raise `fs.file-max`"},
        {Errno{ENOMEM}, "",
         "this machine has no memory left, or large directories are being listed", ""},
        {Errno{E2BIG}, "", "a directory that lists more than any can hold", "list it by a command"},
        {Errno{EOVERFLOW}, "", "a size that no file can have", "look at it by a command"},
    };
    return summaries;
}

std::string ErrnoName(Errno code) {
    const char* name = strerrorname_np(static_cast<int>(code));
    if (code == Errno{EOPNOTSUPP}) name = "EOPNOTSUPP";  // glibc says ENOTSUP, the same number
    return name != nullptr ? name : "?";
}

std::string ReadmeErrnoTable() {
    std::vector<std::string> cells;
    for (const ErrnoSummary& summary : ErrnoSummaries()) {
        if (summary.brief.empty()) continue;
        std::string cell = ErrnoName(summary.code);
        cell.resize(14, ' ');
        cells.push_back(cell + std::string(summary.brief));
    }
    const std::size_t rows = (cells.size() + 1) / 2;
    std::size_t width = 0;
    for (std::size_t i = 0; i < rows; ++i)
        width = std::max(width, cells[i].size() + 3);
    std::string text;
    for (std::size_t i = 0; i < rows; ++i) {
        std::string line = "    " + cells[i];
        if (i + rows < cells.size()) {
            line.resize(4 + width, ' ');
            line += cells[i + rows];
        }
        text += line + "\n";
    }
    return text;
}

std::string SemanticsErrnoTable() {
    std::string text = "| errno | when | remedy |\n|---|---|---|\n";
    for (const ErrnoSummary& summary : ErrnoSummaries()) {
        text += "| " + ErrnoName(summary.code) + " | " + std::string(summary.when) + " | " +
                std::string(summary.remedy) + " |\n";
    }
    return text;
}

std::string ErrnoDocument() {
    std::string text(kDocumentHead);
    for (const OpWords& words : kOpWords)
        text += "| " + std::string(words.name) + " | " + std::string(words.calls) + " |\n";
    text += "\n## The files of a sandbox: `NAME/fs`\n\n" + DocumentTable(Tree::kFiles);
    text += "\n## Everything else: the control files\n\n" + DocumentTable(Tree::kControl);
    return text;
}

}  // namespace sbxfs
