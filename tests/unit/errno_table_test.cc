// The one table of what a request may end with: every (operation, errno) has a sentence of its own with a remedy, what
// the tables below it can say is in it, and the pages that show it agree with it. Core and protocol tests fail on an
// answer that it lacks (tests/support/client.cc), mount tests on the warning that the daemon logs.
#include "fs/errno_table.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/files.h"
#include "sandbox/sftp_errno.h"

namespace sbxfs {
namespace {

constexpr int kLastErrno = 133;

template <class F>
void ForEveryPair(F look) {
    for (const Tree tree : {Tree::kControl, Tree::kFiles}) {
        for (unsigned op = 0; op < kFileOps; ++op) {
            for (int code = 1; code <= kLastErrno; ++code) {
                const auto meaning = MeaningOf(tree, FileOp{op}, Errno{code});
                if (meaning) look(tree, FileOp{op}, Errno{code}, *meaning);
            }
        }
    }
}

TEST(ErrnoTable, EveryOperationAndErrnoHasASentenceOfItsOwnWithARemedy) {
    std::map<Tree, std::map<std::string, std::string>> sentences;
    std::size_t pairs = 0;
    ForEveryPair([&](Tree tree, FileOp op, Errno code, const ErrnoMeaning& meaning) {
        const std::string pair = std::string(OpName(op)) + " " + ErrnoName(code);
        ++pairs;
        EXPECT_FALSE(meaning.cause.empty()) << pair;
        EXPECT_FALSE(meaning.remedy.empty()) << pair;
        EXPECT_NE(meaning.cause, ErrnoText(code)) << pair << " says no more than its number";
        const auto sentence = ErrnoSentence(tree, op, code);
        ASSERT_TRUE(sentence) << pair;
        EXPECT_EQ(sentence->find('\n'), std::string::npos) << pair;
        const auto [first, is_new] = sentences[tree].emplace(*sentence, pair);
        EXPECT_TRUE(is_new) << pair << " says the same as " << first->second << ": " << *sentence;
    });
    EXPECT_GT(pairs, 400U);
}

TEST(ErrnoTable, TheSameCauseIsNotGivenForTwoErrnosOfAnOperation) {
    std::map<std::string, std::string> seen;
    ForEveryPair([&](Tree tree, FileOp op, Errno code, const ErrnoMeaning& meaning) {
        const std::string key = std::to_string(static_cast<int>(tree)) + std::string(OpName(op)) +
                                ": " + std::string(meaning.cause);
        const auto [first, is_new] = seen.emplace(key, ErrnoName(code));
        EXPECT_TRUE(is_new) << key << " explains " << first->second << " and " << ErrnoName(code);
    });
}

// What the server of a sandbox is asked for each of the kernel's requests.
const std::map<FileOp, std::vector<SftpOp>>& Asked() {
    using enum SftpOp;
    static const std::map<FileOp, std::vector<SftpOp>> asked = {
        {FileOp::kLookup, {kLstat}},
        {FileOp::kGetattr, {kLstat, kFstat}},
        {FileOp::kSetattr, {kSetstat, kTruncate, kFsetstat, kFtruncate, kLstat, kFstat}},
        {FileOp::kReadlink, {kReadlink}},
        {FileOp::kMknod, {kOpenExclusive, kFstat, kFsetstat, kClose, kLstat}},
        {FileOp::kMkdir, {kMkdir, kLstat, kSetstat}},
        {FileOp::kUnlink, {kRemove}},
        {FileOp::kRmdir, {kRmdir}},
        {FileOp::kSymlink, {kSymlink, kLstat}},
        {FileOp::kRename, {kRename, kRenameNew, kRenameOver}},
        {FileOp::kLink, {kLink, kLstat}},
        {FileOp::kOpen, {kOpenRead, kOpenWrite, kFstat, kLstat}},
        {FileOp::kCreate, {kOpenRead, kOpenWrite, kOpenExclusive, kFstat, kFsetstat, kLstat}},
        {FileOp::kRead, {kRead}},
        {FileOp::kWrite, {kWrite}},
        {FileOp::kCopyRange, {kCopy, kFstat}},
        {FileOp::kFlush, {kWrite, kFsync, kClose}},
        {FileOp::kFsync, {kWrite, kFsync, kClose}},
        {FileOp::kOpendir, {kOpendir, kReaddir}},
        {FileOp::kReaddir, {kOpendir, kReaddir}},
    };
    return asked;
}

// Each fact that a row of sftp_errno.cc asks for, alone; of two paths, every pair of kinds.
std::vector<SftpFacts> EveryFact() {
    std::vector<SftpFacts> all(1);
    const auto add = [&all](auto change) {
        SftpFacts facts;
        change(facts);
        all.push_back(facts);
    };
    for (unsigned path = 0; path <= static_cast<unsigned>(SftpKind::kSpecial); ++path) {
        for (unsigned to = 0; to <= static_cast<unsigned>(SftpKind::kSpecial); ++to) {
            add([&](SftpFacts& facts) {
                facts.path = SftpKind{static_cast<int>(path)};
                facts.to = SftpKind{static_cast<int>(to)};
            });
        }
    }
    add([](SftpFacts& facts) { facts.many_handles = true; });
    add([](SftpFacts& facts) { facts.far_offset = true; });
    add([](SftpFacts& facts) { facts.through_file = true; });
    add([](SftpFacts& facts) { facts.loop = true; });
    add([](SftpFacts& facts) { facts.sticky = true; });
    add([](SftpFacts& facts) { facts.mounts_differ = true; });
    add([](SftpFacts& facts) { facts.room = SftpStatvfs{}; });  // none
    add([](SftpFacts& facts) {
        facts.room = SftpStatvfs{};
        facts.room->blocks_available = 1000;
        facts.room->flags = 1;  // read-only
    });
    return all;
}

TEST(ErrnoTable, WhateverASandboxesServerRefusesIsInIt) {
    const std::vector<SftpFacts> facts = EveryFact();
    const std::string long_name = "/" + std::string(300, 'x');
    std::set<int> met;
    for (const auto& [op, asked] : Asked()) {
        for (const SftpOp question : asked) {
            for (unsigned status = 1; status <= 9; ++status) {
                for (const SftpFacts& fact : facts) {
                    for (const std::string& path : {std::string("/a"), long_name}) {
                        const Error error = SftpError({.op = question,
                                                       .status = SftpStatus{status},
                                                       .path = path,
                                                       .to = "/b",
                                                       .facts = fact});
                        met.insert(static_cast<int>(error.code()));
                        const std::string_view remedy = SftpRemedy(error.code());
                        EXPECT_FALSE(remedy.empty()) << error.what();
                        EXPECT_TRUE(error.what().ends_with(remedy)) << error.what();
                        EXPECT_TRUE(MeaningOf(Tree::kFiles, op, error.code()))
                            << OpName(op) << " " << ErrnoName(error.code()) << ": " << error.what();
                    }
                }
            }
        }
    }
    EXPECT_GT(met.size(), 15U);
}

TEST(ErrnoTable, WhateverIsRefusedBeforeTheServerIsAskedIsInIt) {
    using enum SftpFault;
    const std::map<SftpFault, std::vector<FileOp>> where = {
        {kPathTooLong, {FileOp::kLookup, FileOp::kMkdir, FileOp::kSymlink, FileOp::kRename}},
        {kBadPath, {FileOp::kLookup, FileOp::kMkdir, FileOp::kRename}},
        {kStale, {FileOp::kRead, FileOp::kWrite, FileOp::kFsync, FileOp::kGetattr}},
        {kClosed, {FileOp::kRead, FileOp::kWrite, FileOp::kFsync, FileOp::kGetattr}},
        {kNoHandles, {FileOp::kOpen, FileOp::kCreate, FileOp::kOpendir, FileOp::kReaddir}},
        {kNotRegular, {FileOp::kSetattr}},
        {kIsDirectory, {FileOp::kSetattr}},
        {kIsLink, {FileOp::kSetattr}},
        {kNotOffered, {FileOp::kLink, FileOp::kCopyRange, FileOp::kStatfs}},
        {kFarOffset, {FileOp::kRead, FileOp::kWrite}},
        {kEndlessList, {FileOp::kOpendir, FileOp::kReaddir}},
        {kManyLists, {FileOp::kOpendir, FileOp::kReaddir}},
        {kNoType, {FileOp::kLookup, FileOp::kGetattr, FileOp::kOpen}},
        {kAbsurdSize, {FileOp::kLookup, FileOp::kGetattr, FileOp::kOpen, FileOp::kCreate}},
        {kEmptyTarget, {FileOp::kSymlink}},
        {kAbsurdTarget, {FileOp::kReadlink}},
    };
    EXPECT_EQ(where.size(), static_cast<std::size_t>(kAbsurdTarget) + 1);
    for (const auto& [fault, ops] : where) {
        const Error error = SftpFaultError(fault, "/a");
        for (const FileOp op : ops) {
            if (op == FileOp::kStatfs) continue;  // answered from memory then
            EXPECT_TRUE(MeaningOf(Tree::kFiles, op, error.code()))
                << OpName(op) << " " << error.what();
        }
    }
}

TEST(ErrnoTable, EverythingThatCanEndARequestIsInIt) {
    for (const Tree tree : {Tree::kControl, Tree::kFiles}) {
        for (unsigned op = 0; op < kFileOps; ++op) {
            for (const int code : {EIO, EINTR, ENOTCONN, ESTALE}) {
                EXPECT_TRUE(MeaningOf(tree, FileOp{op}, Errno{code})) << OpName(FileOp{op});
            }
            // Never for an operation that works elsewhere: the kernel would not ask again in the whole mount.
            EXPECT_FALSE(MeaningOf(tree, FileOp{op}, Errno{ENOSYS})) << OpName(FileOp{op});
            EXPECT_FALSE(MeaningOf(tree, FileOp{op}, Errno{0})) << OpName(FileOp{op});
        }
    }
}

TEST(ErrnoTable, WhatNobodyIsToldOfIsWhatProgramsAskForToDecide) {
    for (const int code : {EHOSTDOWN, EHOSTUNREACH, ETIMEDOUT, EACCES, EPERM, EINVAL, ENOSPC, EROFS,
                           EIO, ESTALE, EOPNOTSUPP, EXDEV, EBUSY, EFBIG, EMFILE}) {
        EXPECT_FALSE(IsOrdinaryAnswer(Tree::kFiles, Errno{code})) << ErrnoName(Errno{code});
        EXPECT_FALSE(IsOrdinaryAnswer(Tree::kControl, Errno{code})) << ErrnoName(Errno{code});
    }
    EXPECT_FALSE(IsOrdinaryAnswer(Tree::kControl, Errno{EEXIST}));
}

TEST(ErrnoTable, SummariesAreOfExactlyWhatItHolds) {
    std::set<int> held;
    ForEveryPair([&](Tree, FileOp, Errno code, const ErrnoMeaning&) {
        held.insert(static_cast<int>(code));
    });
    std::set<int> told;
    for (const ErrnoSummary& summary : ErrnoSummaries()) {
        EXPECT_TRUE(told.insert(static_cast<int>(summary.code)).second) << summary.when;
        EXPECT_FALSE(summary.when.empty()) << ErrnoName(summary.code);
    }
    EXPECT_EQ(held, told);
}

// --- The pages

std::string PathOf(const std::string& name) {
    return SBXFS_SOURCE_DIR "/docs/" + name;
}

std::string Page(const std::string& name) {
    const auto text = ReadWholeFile(PathOf(name), 1U << 20);
    return text ? *text : "";
}

// SBXFS_WRITE_DOCS=1 makes the pages anew instead of comparing them.
bool WriteDocs() {
    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread.
    return std::getenv("SBXFS_WRITE_DOCS") != nullptr;
}

void Write(const std::string& name, const std::string& text) {
    std::ofstream(PathOf(name), std::ios::trunc) << text;
}

TEST(ErrnoTable, SemanticsShowsIt) {
    std::string page = Page("SEMANTICS.md");
    const std::string table = SemanticsErrnoTable();
    const std::string head = table.substr(0, table.find('\n') + 1);
    const std::size_t at = page.find(head);
    ASSERT_NE(at, std::string::npos);
    const std::size_t end = page.find("\n\n", at);
    ASSERT_NE(end, std::string::npos);
    if (WriteDocs()) Write("SEMANTICS.md", page.replace(at, end + 1 - at, table));
    EXPECT_EQ(Page("SEMANTICS.md").substr(at, table.size()), table);
    EXPECT_EQ(Page("SEMANTICS.md").substr(at + table.size(), 1), "\n");
}

TEST(ErrnoTable, ErrnoPageIsMadeOfIt) {
    if (WriteDocs()) Write("ERRNO.md", ErrnoDocument());
    EXPECT_EQ(Page("ERRNO.md"), ErrnoDocument());
}

TEST(ErrnoTable, TheReadmeOfAMountShowsWhatSbxfsAddsToTheUsual) {
    const std::string table = ReadmeErrnoTable();
    for (const char* name :
         {"EHOSTDOWN", "EHOSTUNREACH", "ETIMEDOUT", "EKEYEXPIRED", "EACCES", "EDQUOT", "EAGAIN",
          "EEXIST", "EINVAL", "EFBIG", "EPERM", "EOPNOTSUPP", "ESTALE", "EIO"}) {
        EXPECT_NE(table.find(name), std::string::npos) << name;
    }
}

}  // namespace
}  // namespace sbxfs
