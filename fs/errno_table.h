// Every errno that a request on the mount can end with, by operation and by tree, each with its cause and what to do:
// the one table that user-visible errors are checked against. Three places use it:
//
//   * FileSystem::OnFailure: what is not listed here does not leave the daemon (a sandbox may claim any number), and who
//     refused without a word is given the words from here;
//   * the errno tables of the mount's README.md, docs/SEMANTICS.md and docs/ERRNO.md;
//   * tests/unit/errno_table_test.cc, which walks through it and through the tables below it (sftp_errno.h).
//
// Who refuses chooses the errno and says why in its own words (base/result.h). A new pair gets a row here first.
// Pure functions, any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sbxfs {

// A request of the kernel. In the order of docs/ERRNO.md.
enum class FileOp : unsigned {
    kLookup,
    kGetattr,
    kSetattr,
    kReadlink,
    kMknod,
    kMkdir,
    kUnlink,
    kRmdir,
    kSymlink,
    kRename,
    kLink,
    kOpen,
    kCreate,
    kRead,
    kWrite,
    kCopyRange,
    kFlush,
    kFsync,
    kRelease,
    kOpendir,
    kReaddir,
    kStatfs,
    kPoll,
};
inline constexpr unsigned kFileOps = static_cast<unsigned>(FileOp::kPoll) + 1;

// "lookup", as in logs.
std::string_view OpName(FileOp op);

enum class Tree {
    kControl,  // what sbxfs itself shows
    kFiles,    // fs/ of a sandbox
};

struct ErrnoMeaning {
    std::string_view cause;
    std::string_view remedy;
};
// Nothing: this cannot be an answer.
std::optional<ErrnoMeaning> MeaningOf(Tree tree, FileOp op, Errno code);
// "making a directory: " + cause + ": " + remedy.
std::optional<std::string> ErrnoSentence(Tree tree, FileOp op, Errno code);

// Answers about ordinary files that programs ask for in order to decide what to do, as on any file system: they leave no
// line in last_error, which would hold nothing else.
bool IsOrdinaryAnswer(Tree tree, Errno code);

// What an errno means wherever it comes from, for people.
struct ErrnoSummary {
    Errno code{};
    std::string_view brief;  // for the mount's README.md; empty: not shown there
    std::string_view when;
    std::string_view remedy;  // may be empty
};
const std::vector<ErrnoSummary>& ErrnoSummaries();
// "EACCES"; "?" for a number that is none.
std::string ErrnoName(Errno code);

std::string ReadmeErrnoTable();     // two columns of plain text
std::string SemanticsErrnoTable();  // Markdown
std::string ErrnoDocument();        // docs/ERRNO.md as a whole

}  // namespace sbxfs
