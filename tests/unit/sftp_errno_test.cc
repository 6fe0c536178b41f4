// The table from refusals to errno, row by row. What a real server says in each situation is
// tests/contract's to show.
#include "sandbox/sftp_errno.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cerrno>

namespace sbxfs {
namespace {

using enum SftpOp;

int Code(SftpOp op, SftpStatus status, const SftpFacts& facts = {},
         const std::string& path = "/a/b", const std::string& to = "") {
    return static_cast<int>(
        SftpError({.op = op, .status = status, .text = "", .path = path, .to = to, .facts = facts})
            .code());
}

SftpFacts At(SftpKind path, SftpKind to = SftpKind::kUnknown) {
    SftpFacts facts;
    facts.path = path;
    facts.to = to;
    return facts;
}

SftpStatvfs Space(std::uint64_t blocks_available, std::uint64_t files_available = 10) {
    SftpStatvfs space;
    space.fragment_size = 4096;
    space.blocks = 100;
    space.blocks_available = blocks_available;
    space.files = 100;
    space.files_available = files_available;
    return space;
}

SftpFacts Full() {
    SftpFacts facts;
    facts.room = Space(0);
    return facts;
}

SftpFacts ReadOnly() {
    SftpFacts facts;
    facts.room = Space(50);
    facts.room->flags = 1;
    return facts;
}

TEST(SftpErrno, NoSuchFile) {
    const SftpStatus status = SftpStatus::kNoSuchFile;
    EXPECT_EQ(Code(kLstat, status), ENOENT);
    EXPECT_EQ(Code(kOpenRead, status), ENOENT);
    EXPECT_EQ(Code(kOpenRead, status, At(SftpKind::kSymlink)), ENOENT);  // a dangling link
    SftpFacts facts;
    facts.through_file = true;
    EXPECT_EQ(Code(kOpenRead, status, facts), ENOTDIR);
    EXPECT_EQ(Code(kMkdir, status, facts), ENOTDIR);
    EXPECT_EQ(Code(kRename, status, facts), ENOTDIR);
    EXPECT_EQ(Code(kLstat, status, facts), ENOENT);
    facts = At(SftpKind::kSymlink);
    facts.loop = true;
    EXPECT_EQ(Code(kOpenRead, status, facts), ELOOP);
    EXPECT_EQ(Code(kRmdir, status, At(SftpKind::kFile)), ENOTDIR);
    EXPECT_EQ(Code(kRmdir, status, At(SftpKind::kSymlink)), ENOTDIR);
    EXPECT_EQ(Code(kRmdir, status, At(SftpKind::kMissing)), ENOENT);
    EXPECT_EQ(Code(kOpendir, status, At(SftpKind::kProgram)), ENOTDIR);
    EXPECT_EQ(Code(kRename, status, At(SftpKind::kDirectory, SftpKind::kFile)), ENOTDIR);
    EXPECT_EQ(Code(kRename, status, At(SftpKind::kMissing, SftpKind::kFile)), ENOENT);
    for (const SftpOp op : {kRead, kWrite, kFsync, kClose})
        EXPECT_EQ(Code(op, status), EBADF);
}

TEST(SftpErrno, PermissionDenied) {
    const SftpStatus status = SftpStatus::kPermissionDenied;
    EXPECT_EQ(Code(kOpenRead, status), EACCES);
    EXPECT_EQ(Code(kOpendir, status), EACCES);
    EXPECT_EQ(Code(kTruncate, status), EACCES);
    EXPECT_EQ(Code(kSetstat, status, At(SftpKind::kFile)), EPERM);
    EXPECT_EQ(Code(kSetstat, status), EACCES);  // not even seen
    EXPECT_EQ(Code(kFsetstat, status), EPERM);
    EXPECT_EQ(Code(kLink, status, At(SftpKind::kDirectory)), EPERM);
    EXPECT_EQ(Code(kLink, status, At(SftpKind::kFile)), EACCES);
    SftpFacts sticky;
    sticky.sticky = true;
    for (const SftpOp op : {kRemove, kRmdir, kRename, kRenameNew}) {
        EXPECT_EQ(Code(op, status, sticky), EPERM);
        EXPECT_EQ(Code(op, status), EACCES);
    }
    EXPECT_EQ(Code(kMkdir, status, sticky), EACCES);
}

TEST(SftpErrno, BadMessage) {
    const SftpStatus status = SftpStatus::kBadMessage;
    EXPECT_EQ(Code(kLstat, status, {}, "/" + std::string(255, 'n')), EINVAL);
    EXPECT_EQ(Code(kLstat, status, {}, "/" + std::string(256, 'n')), ENAMETOOLONG);
    EXPECT_EQ(Code(kMkdir, status, {}, "/" + std::string(256, 'n') + "/a"), ENAMETOOLONG);
    EXPECT_EQ(Code(kRename, status, {}, "/a", "/" + std::string(256, 'n')), ENAMETOOLONG);
    EXPECT_EQ(Code(kRename, status, {}, "/a", "/a/b"), EINVAL);
    EXPECT_EQ(Code(kReadlink, status), EINVAL);
    EXPECT_EQ(Code(kWrite, status), EFBIG);
    EXPECT_EQ(Code(kFtruncate, status), EINVAL);
}

TEST(SftpErrno, FailureOfWhatMakesNames) {
    const SftpStatus status = SftpStatus::kFailure;
    for (const SftpOp op : {kMkdir, kSymlink, kOpenExclusive}) {
        EXPECT_EQ(Code(op, status, At(SftpKind::kFile)), EEXIST);
        EXPECT_EQ(Code(op, status, Full()), ENOSPC);
        EXPECT_EQ(Code(op, status, ReadOnly()), EROFS);
        SftpFacts no_inodes;
        no_inodes.room = Space(50, 0);
        EXPECT_EQ(Code(op, status, no_inodes), ENOSPC);
        no_inodes.room->files = 0;  // a file system that does not count them
        EXPECT_EQ(Code(op, status, no_inodes), EIO);
        EXPECT_EQ(Code(op, status), EIO);
    }
    for (const SftpOp op : {kLink, kRenameNew}) {
        EXPECT_EQ(Code(op, status, At(SftpKind::kFile, SftpKind::kFile), "/a", "/b"), EEXIST);
        EXPECT_EQ(Code(op, status, At(SftpKind::kFile, SftpKind::kMissing), "/a", "/b"), EXDEV);
    }
    EXPECT_EQ(Code(kRenameOver, status, At(SftpKind::kFile, SftpKind::kFile), "/a", "/b"),
              EOPNOTSUPP);
}

TEST(SftpErrno, FailureOfRename) {
    const SftpStatus status = SftpStatus::kFailure;
    const SftpKind directory = SftpKind::kDirectory;
    const SftpKind file = SftpKind::kFile;
    EXPECT_EQ(Code(kRename, status, At(file, directory)), EISDIR);
    EXPECT_EQ(Code(kRename, status, At(directory, directory)), ENOTEMPTY);
    EXPECT_EQ(Code(kRename, status, At(directory, SftpKind::kMissing)), EXDEV);
    SftpFacts mounts = At(directory, directory);
    mounts.mounts_differ = true;
    EXPECT_EQ(Code(kRename, status, mounts), EXDEV);
    SftpFacts read_only = ReadOnly();
    read_only.path = read_only.to = directory;
    EXPECT_EQ(Code(kRename, status, read_only), EROFS);
    EXPECT_EQ(Code(kRename, status, Full()), ENOSPC);
}

TEST(SftpErrno, FailureOfRemoving) {
    const SftpStatus status = SftpStatus::kFailure;
    EXPECT_EQ(Code(kRmdir, status), ENOTEMPTY);
    EXPECT_EQ(Code(kRmdir, status, ReadOnly()), EROFS);
    SftpFacts mount;
    mount.mounts_differ = true;
    EXPECT_EQ(Code(kRmdir, status, mount), EBUSY);
    EXPECT_EQ(Code(kRemove, status, At(SftpKind::kDirectory)), EISDIR);
    EXPECT_EQ(Code(kRemove, status, ReadOnly()), EROFS);
    EXPECT_EQ(Code(kRemove, status, At(SftpKind::kFile)), EBUSY);
}

TEST(SftpErrno, FailureOfOpening) {
    const SftpStatus status = SftpStatus::kFailure;
    EXPECT_EQ(Code(kOpenWrite, status, At(SftpKind::kDirectory)), EISDIR);
    EXPECT_EQ(Code(kOpenWrite, status, At(SftpKind::kProgram)), ETXTBSY);
    EXPECT_EQ(Code(kOpenWrite, status, At(SftpKind::kSpecial)), ENXIO);
    EXPECT_EQ(Code(kOpenRead, status, At(SftpKind::kSpecial)), ENXIO);
    EXPECT_EQ(Code(kOpenWrite, status, ReadOnly()), EROFS);
    EXPECT_EQ(Code(kOpenRead, status, At(SftpKind::kFile)), EIO);
    SftpFacts handles = At(SftpKind::kFile);
    handles.many_handles = true;
    EXPECT_EQ(Code(kOpenRead, status, handles), EMFILE);
    EXPECT_EQ(Code(kOpendir, status, handles), EMFILE);
}

TEST(SftpErrno, FailureOfData) {
    const SftpStatus status = SftpStatus::kFailure;
    EXPECT_EQ(Code(kRead, status), EIO);
    EXPECT_EQ(Code(kRead, status, At(SftpKind::kDirectory)), EISDIR);
    SftpFacts facts;
    facts.room = Space(10);
    facts.wanted = 10 * 4096;
    EXPECT_EQ(Code(kWrite, status, facts), EIO);
    facts.wanted = 10 * 4096 + 1;
    EXPECT_EQ(Code(kWrite, status, facts), ENOSPC);
    EXPECT_EQ(Code(kWrite, status, ReadOnly()), EROFS);
    facts.far_offset = true;
    EXPECT_EQ(Code(kWrite, status, facts), EFBIG);
    EXPECT_EQ(Code(kFtruncate, status, facts), EFBIG);
    EXPECT_EQ(Code(kClose, status, Full()), ENOSPC);
    EXPECT_EQ(Code(kFsync, status), EIO);
    EXPECT_EQ(Code(kTruncate, status, At(SftpKind::kDirectory)), EISDIR);
    EXPECT_EQ(Code(kSetstat, status, At(SftpKind::kSymlink)), EOPNOTSUPP);
}

TEST(SftpErrno, NoQuestionsWhereTheyWouldSlowTheUsualDown) {
    EXPECT_EQ(SftpQuestions(kLstat, SftpStatus::kNoSuchFile), 0U);
    EXPECT_EQ(SftpQuestions(kReadlink, SftpStatus::kBadMessage), 0U);
    EXPECT_EQ(SftpQuestions(kRead, SftpStatus::kNoSuchFile), 0U);
    EXPECT_EQ(SftpQuestions(kMkdir, SftpStatus::kPermissionDenied), 0U);
    EXPECT_EQ(SftpQuestions(kStatvfs, SftpStatus::kOpUnsupported), 0U);
    EXPECT_EQ(SftpQuestions(kWrite, SftpStatus::kFailure), kSftpAskRoom);
    EXPECT_EQ(SftpQuestions(kOpenRead, SftpStatus::kNoSuchFile),
              kSftpAskPath | kSftpAskLinks | kSftpAskAbove);
}

TEST(SftpErrno, SentencesNameWhatAndWhyAndWhatToDo) {
    const Error full = SftpError(
        {.op = kWrite, .status = SftpStatus::kFailure, .path = "/w/a.c", .facts = Full()});
    EXPECT_EQ(full.what(),
              "write /w/a.c: the sandbox's disk is full: remove something there; df shows how full "
              "it is");
    EXPECT_EQ(full.blame(), Blame::kCaller);
    const Error odd =
        SftpError({.op = kRead, .status = SftpStatus::kFailure, .text = "bo\nom", .path = "/a"});
    EXPECT_EQ(odd.what(),
              "read /a: the server refuses it without a reason (status 4, 'bo\\x0aom'): read the "
              "sandbox's error file and .mount/log, then try again");
    EXPECT_EQ(odd.blame(), Blame::kRemote);
    const Error moved =
        SftpError({.op = kRename, .status = SftpStatus::kNoSuchFile, .path = "/a", .to = "/b"});
    EXPECT_EQ(moved.what(),
              "rename /a to /b: No such file or directory: check the path; what fs/ hides (/proc, "
              "/sys, /dev) a command can see");
}

TEST(SftpErrno, EveryFaultHasItsErrno) {
    for (int fault = 0; fault <= static_cast<int>(SftpFault::kAbsurdTarget); ++fault) {
        const Error error = SftpFaultError(static_cast<SftpFault>(fault), "/a");
        EXPECT_GT(static_cast<int>(error.code()), 0);
        EXPECT_TRUE(error.what().starts_with("/a: ")) << error.what();
    }
}

TEST(SftpErrno, PathsThatMustNotBeSent) {
    EXPECT_TRUE(CheckSftpPath("/").has_value());
    EXPECT_TRUE(CheckSftpPath("/" + std::string(4094, 'a')).has_value());
    EXPECT_EQ(CheckSftpPath("/" + std::string(4095, 'a')).error().code(), Errno{ENAMETOOLONG});
    EXPECT_FALSE(CheckSftpPath("").has_value());
    EXPECT_FALSE(CheckSftpPath("a").has_value());
    EXPECT_FALSE(CheckSftpPath(std::string("/a\0b", 4)).has_value());
}

}  // namespace
}  // namespace sbxfs
