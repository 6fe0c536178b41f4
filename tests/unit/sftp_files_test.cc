// SftpFiles over a scripted server: names and attributes. What each operation costs in round trips,
// and that nothing depends on the order of answers.
#include "sandbox/sftp_files.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "tests/fakes/fake_tree.h"
#include "tests/unit/sftp_script.h"

namespace sbxfs::testing {
namespace {

class SftpFilesTest : public SftpScript {};
class SftpFilesPlainTest : public SftpScript {
 protected:
    SftpFilesPlainTest() : SftpScript({}) {}
};

TEST_F(SftpFilesTest, StatCostsOneRoundTripAndAMissingNameNoMore) {
    Got<RemoteStat> there;
    Got<RemoteStat> missing;
    files_->Lstat("/a", there.Done());
    files_->Lstat("/b", missing.Done());
    const auto asked = Asked();
    ASSERT_EQ(asked.size(), 2U);
    Answer(PeerAttrs(asked[0].id, FileAttrs(5)) + PeerStatus(asked[1].id, SftpStatus::kNoSuchFile));
    ASSERT_TRUE(there.ok());
    EXPECT_EQ((*there.result)->size, 5U);
    EXPECT_EQ((*there.result)->mode, 0100644U);
    EXPECT_EQ((*there.result)->mtime, 22);
    EXPECT_EQ(missing.code(), ENOENT);
    EXPECT_TRUE(Asked().empty());
    EXPECT_EQ(Trips(), 1U);
}

TEST_F(SftpFilesTest, AttributesWithoutATypeOrWithAnImpossibleSizeAreErrors) {
    Got<RemoteStat> untyped;
    Got<RemoteStat> absurd;
    files_->Lstat("/a", untyped.Done());
    files_->Lstat("/b", absurd.Done());
    const auto asked = Asked();
    SftpAttrs attrs;
    attrs.size = 1;
    Answer(PeerAttrs(asked[0].id, attrs) + PeerAttrs(asked[1].id, FileAttrs(1ULL << 63)));
    EXPECT_EQ(untyped.code(), EIO);
    EXPECT_EQ(absurd.code(), EOVERFLOW);
}

TEST_F(SftpFilesTest, AbsentTimesAndOwnersAreZero) {
    Got<RemoteStat> got;
    files_->Lstat("/a", got.Done());
    SftpAttrs attrs;
    attrs.permissions = 0100600;
    Answer(PeerAttrs(Asked()[0].id, attrs));
    ASSERT_TRUE(got.ok());
    EXPECT_EQ(
        (*got.result)->size + (*got.result)->uid + static_cast<std::uint64_t>((*got.result)->mtime),
        0U);
}

TEST_F(SftpFilesTest, BadPathsAreNotSent) {
    Got<RemoteStat> nul;
    Got<RemoteStat> relative;
    Got<RemoteStat> endless;
    files_->Lstat(std::string("/a\0b", 4), nul.Done());
    files_->Lstat("a", relative.Done());
    files_->Lstat("/" + std::string(5000, 'a'), endless.Done());
    EXPECT_EQ(nul.times, 0);  // never from within the call
    EXPECT_TRUE(Asked().empty());
    EXPECT_EQ(nul.code(), EINVAL);
    EXPECT_EQ(relative.code(), EINVAL);
    EXPECT_EQ(endless.code(), ENAMETOOLONG);
}

TEST_F(SftpFilesTest, MkdirCostsOneRoundTrip) {
    Got<RemoteStat> got;
    files_->MakeDir("/d", 0755, got.Done());
    const auto asked = Asked();
    ASSERT_EQ(asked.size(), 2U);
    Answer(PeerStatus(asked[0].id, SftpStatus::kOk) +
           PeerAttrs(asked[1].id, FileAttrs(0, kDirMode)));
    ASSERT_TRUE(got.ok());
    EXPECT_EQ((*got.result)->mode, kDirMode);
    EXPECT_TRUE(Asked().empty());
    EXPECT_EQ(Trips(), 1U);
}

TEST_F(SftpFilesTest, MkdirLooksAgainWhenTheLookWasAnsweredFirst) {
    Got<RemoteStat> got;
    files_->MakeDir("/d", 0755, got.Done());
    const auto asked = Asked();
    Answer(PeerStatus(asked[1].id, SftpStatus::kNoSuchFile) +
           PeerStatus(asked[0].id, SftpStatus::kOk));
    EXPECT_EQ(got.times, 0);
    const auto again = Asked();
    ASSERT_EQ(again.size(), 1U);
    Answer(PeerAttrs(again[0].id, FileAttrs(0, kDirMode)));
    EXPECT_TRUE(got.ok());
}

TEST_F(SftpFilesTest, MkdirUndoesTheServersUmask) {
    Got<RemoteStat> got;
    files_->MakeDir("/d", 0775, got.Done());
    auto asked = Asked();
    // The set-group-id bit came from the directory above and stays.
    Answer(PeerStatus(asked[0].id, SftpStatus::kOk) + PeerAttrs(asked[1].id, FileAttrs(0, 042700)));
    EXPECT_EQ(got.times, 0);
    asked = Asked();
    ASSERT_EQ(asked.size(), 2U);
    EXPECT_EQ(asked[0].extension, "lsetstat@openssh.com");
    Answer(PeerStatus(asked[0].id, SftpStatus::kOk) + PeerAttrs(asked[1].id, FileAttrs(0, 042775)));
    ASSERT_TRUE(got.ok());
    EXPECT_EQ((*got.result)->mode, 042775U);
    EXPECT_EQ(Trips(), 2U);
}

TEST_F(SftpFilesTest, ALockGivenBackBetweenTheRefusalAndTheLookIsTriedAgain) {
    enum { kMkdir, kSymlink, kLink };
    for (const int how : {kMkdir, kSymlink, kLink}) {
        Got<RemoteStat> got;
        if (how == kMkdir) files_->MakeDir("/lock", 0755, got.Done());
        if (how == kSymlink) files_->Symlink("me", "/lock", got.Done());
        if (how == kLink) files_->Link("/mine", "/lock", got.Done());
        auto asked = Asked();
        ASSERT_EQ(asked.size(), 2U) << how;
        Answer(PeerStatus(asked[0].id, SftpStatus::kFailure) +
               PeerStatus(asked[1].id, SftpStatus::kNoSuchFile));
        asked = Asked();
        ASSERT_EQ(asked.size(), 2U) << how;
        Answer(PeerStatus(asked[0].id, SftpStatus::kOk) +
               PeerAttrs(asked[1].id, FileAttrs(0, kDirMode)));
        EXPECT_TRUE(got.ok()) << how;
    }
}

TEST_F(SftpFilesTest, ANameRefusedForAnotherReasonIsNotTriedForEver) {
    Got<RemoteStat> got;
    files_->Symlink("me", "/lock", got.Done());
    std::size_t attempts = 0;
    for (auto asked = Asked(); !asked.empty(); asked = Asked()) {
        for (const PeerRequest& request : asked) {
            const bool change = request.type == SftpType::kSymlink;
            if (change) ++attempts;
            Answer(PeerStatus(request.id, change ? SftpStatus::kFailure : SftpStatus::kNoSuchFile));
        }
    }
    EXPECT_EQ(got.code(), EIO);
    EXPECT_EQ(attempts, 4U);
}

TEST_F(SftpFilesTest, MkdirOfAnExistingNameKnowsItFromItsOwnLook) {
    Got<RemoteStat> got;
    files_->MakeDir("/d", 0755, got.Done());
    auto asked = Asked();
    Answer(PeerStatus(asked[0].id, SftpStatus::kFailure) +
           PeerAttrs(asked[1].id, FileAttrs(0, kDirMode)));
    asked = Asked();  // only whether the disk is read-only or full
    ASSERT_EQ(asked.size(), 1U);
    EXPECT_EQ(asked[0].extension, "statvfs@openssh.com");
    Answer(PeerStatus(asked[0].id, SftpStatus::kFailure));
    EXPECT_EQ(got.code(), EEXIST);
}

TEST_F(SftpFilesTest, LinksCostOneRoundTrip) {
    Got<RemoteStat> symlink;
    Got<RemoteStat> link;
    files_->Symlink("../x", "/l", symlink.Done());
    files_->Link("/a", "/b", link.Done());
    const auto asked = Asked();
    ASSERT_EQ(asked.size(), 4U);
    EXPECT_EQ(asked[0].Text(), "../x");
    EXPECT_EQ(asked[3].Text(), "/b");
    Answer(PeerStatus(asked[0].id, SftpStatus::kOk) +
           PeerAttrs(asked[1].id, FileAttrs(4, 0120777)) +
           PeerStatus(asked[2].id, SftpStatus::kOk) + PeerAttrs(asked[3].id, FileAttrs(9)));
    EXPECT_TRUE(symlink.ok());
    EXPECT_EQ((*link.result)->size, 9U);
    EXPECT_EQ(Trips(), 1U);
}

TEST_F(SftpFilesPlainTest, WhatTheServerLacksIsNotOffered) {
    Got<RemoteStat> link;
    Got<RemoteStatfs> space;
    Got<Unit> rename;
    files_->Link("/a", "/b", link.Done());
    files_->Statfs("/", space.Done());
    files_->Rename("/a", "/b", RemoteFiles::Replace::kYes, rename.Done());
    auto asked = Asked();
    ASSERT_EQ(asked.size(), 1U);
    EXPECT_EQ(asked[0].type, SftpType::kRename);
    EXPECT_EQ(link.code(), EOPNOTSUPP);
    EXPECT_EQ(space.code(), EOPNOTSUPP);
    // It does not replace, and nothing that is not atomic is tried instead.
    Answer(PeerStatus(asked[0].id, SftpStatus::kFailure));
    for (const PeerRequest& request : Asked())
        Answer(PeerAttrs(request.id, FileAttrs(1)));
    EXPECT_EQ(rename.code(), EOPNOTSUPP);
    EXPECT_NE(rename.result->error().what().find("posix-rename"), std::string::npos);
}

TEST_F(SftpFilesPlainTest, AttributesOfALinkAreNotSetThroughIt) {
    Got<RemoteStat> of_link;
    Got<RemoteStat> of_file;
    files_->SetStat("/l", ModeChange(0600), of_link.Done());
    files_->SetStat("/f", ModeChange(0600), of_file.Done());
    auto asked = Asked();
    ASSERT_EQ(asked.size(), 2U);
    Answer(PeerAttrs(asked[0].id, FileAttrs(1, 0120777)) + PeerAttrs(asked[1].id, FileAttrs(1)));
    EXPECT_EQ(of_link.code(), EOPNOTSUPP);
    asked = Asked();
    ASSERT_EQ(asked.size(), 2U);
    EXPECT_EQ(asked[0].type, SftpType::kSetstat);
    EXPECT_EQ(asked[0].Text(), "/f");
    Answer(PeerStatus(asked[0].id, SftpStatus::kOk) +
           PeerAttrs(asked[1].id, FileAttrs(1, 0100600)));
    EXPECT_EQ((*of_file.result)->mode, 0100600U);
}

TEST_F(SftpFilesTest, SetStatCostsOneRoundTrip) {
    Got<RemoteStat> got;
    files_->SetStat("/f", TimesChange(-5, 1LL << 40), got.Done());
    const auto asked = Asked();
    ASSERT_EQ(asked.size(), 2U);
    PacketReader in(asked[0].body);
    ASSERT_TRUE(in.Text().has_value());
    EXPECT_EQ(in.Attrs()->times, (SftpAttrs::Times{.atime = 0, .mtime = 0xffffffff}));  // clamped
    Answer(PeerStatus(asked[0].id, SftpStatus::kOk) + PeerAttrs(asked[1].id, FileAttrs(1)));
    EXPECT_TRUE(got.ok());
    EXPECT_EQ(Trips(), 1U);
}

TEST_F(SftpFilesTest, ChmodGoesOnWhereTheServerHasNoProc) {
    Got<RemoteStat> got;
    files_->SetStat("/f", ModeChange(0600), got.Done());
    auto asked = Asked();
    Answer(PeerStatus(asked[0].id, SftpStatus::kFailure) + PeerAttrs(asked[1].id, FileAttrs(1)));
    asked = Asked();
    ASSERT_EQ(asked.size(), 2U);
    EXPECT_EQ(asked[0].type, SftpType::kSetstat);
    Answer(PeerStatus(asked[0].id, SftpStatus::kOk) +
           PeerAttrs(asked[1].id, FileAttrs(1, 0100600)));
    EXPECT_EQ((*got.result)->mode, 0100600U);
}

TEST_F(SftpFilesTest, TruncatingByPathTouchesRegularFilesOnly) {
    const std::vector<std::pair<std::uint32_t, int>> cases{
        {0120777, EINVAL}, {kDirMode, EISDIR}, {0010644, EINVAL}, {0100644, 0}};
    for (const auto& [mode, code] : cases) {
        Got<RemoteStat> got;
        files_->SetStat("/x", SizeChange(3), got.Done());
        auto asked = Asked();
        ASSERT_EQ(asked.size(), 1U);
        EXPECT_EQ(asked[0].type, SftpType::kLstat);
        Answer(PeerAttrs(asked[0].id, FileAttrs(9, mode)));
        asked = Asked();
        EXPECT_EQ(got.code(), code);
        if (code != 0) continue;
        ASSERT_EQ(asked.size(), 2U);
        Answer(PeerStatus(asked[0].id, SftpStatus::kOk) + PeerAttrs(asked[1].id, FileAttrs(3)));
        EXPECT_EQ((*got.result)->size, 3U);
    }
}

TEST_F(SftpFilesTest, AbsurdLinkTargetsAreErrors) {
    for (const std::string& target :
         {std::string(), std::string("a\0b", 3), std::string(5000, 'x')}) {
        Got<std::string> got;
        files_->ReadLink("/l", got.Done());
        Answer(PeerNames(Asked()[0].id, {{target, {}}}));
        EXPECT_EQ(got.code(), EIO);
    }
}

TEST_F(SftpFilesTest, LoopsOfLinksAreFollowedToTheirEnd) {
    const std::vector<std::pair<std::string, int>> cases{
        {"/l", ELOOP}, {"l2", ENOENT}, {"a/../l", ELOOP}};
    for (const auto& [target, code] : cases) {
        Got<OpenedFile> got;
        files_->Open("/l", {.read = true}, got.Done());
        for (int round = 0; round < 100; ++round) {
            const auto asked = Asked();
            if (asked.empty()) break;
            for (const PeerRequest& request : asked) {
                std::string answer = PeerStatus(request.id, SftpStatus::kNoSuchFile);
                if (request.type == SftpType::kLstat)
                    answer = PeerAttrs(request.id, FileAttrs(1, 0120777));
                if (request.Text() == "/") answer = PeerAttrs(request.id, FileAttrs(1, kDirMode));
                if (request.type == SftpType::kReadlink && request.Text() == "/l") {
                    answer = PeerNames(request.id, {{target, {}}});
                }
                Answer(answer);
            }
        }
        EXPECT_EQ(got.code(), code) << target;
    }
}

}  // namespace
}  // namespace sbxfs::testing
