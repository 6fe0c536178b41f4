// SftpFiles over a scripted server: file data.

#include <gtest/gtest.h>

#include <cerrno>

#include "tests/fakes/fake_tree.h"
#include "tests/unit/sftp_script.h"

namespace sbxfs::testing {
namespace {

class SftpReadWriteTest : public SftpScript {};
class SftpReadWritePlainTest : public SftpScript {
 protected:
    SftpReadWritePlainTest() : SftpScript({}) {}
};

TEST_F(SftpReadWriteTest, LargeReadsAreInFlightAtOnceAndAssembledInAnyOrder) {
    const RemoteFilePtr file = Open();
    std::string content;
    for (int i = 0; i < 100000; ++i)
        content += static_cast<char>(i * 7 + i / 256);
    Got<std::string> got;
    files_->Read(file, {10, 90000}, got.Done());
    auto asked = Asked();
    ASSERT_EQ(asked.size(), 3U);
    for (const std::size_t i : {2UL, 0UL, 1UL}) {
        Answer(PeerData(asked[i].id, content.substr(asked[i].Offset(), asked[i].Size())));
    }
    ASSERT_TRUE(got.ok());
    EXPECT_TRUE(**got.result == content.substr(10, 90000));
    EXPECT_EQ(Trips(), 1U);
}

TEST_F(SftpReadWriteTest, ShortAnswersAreContinuedAndOnlyEofEnds) {
    const RemoteFilePtr file = Open();
    Got<std::string> got;
    files_->Read(file, {0, 10}, got.Done());
    Answer(PeerData(Asked()[0].id, "abc"));
    EXPECT_EQ(got.times, 0);
    const auto rest = Asked();
    ASSERT_EQ(rest.size(), 1U);
    EXPECT_EQ(rest[0].Offset(), 3U);
    EXPECT_EQ(rest[0].Size(), 7U);
    Answer(PeerData(rest[0].id, "de"));
    Answer(PeerStatus(Asked()[0].id, SftpStatus::kEof));
    ASSERT_TRUE(got.ok());
    EXPECT_EQ(**got.result, "abcde");
}

TEST_F(SftpReadWriteTest, AnEmptyAnswerEndsInsteadOfSpinning) {
    const RemoteFilePtr file = Open();
    Got<std::string> got;
    files_->Read(file, {0, 10}, got.Done());
    Answer(PeerData(Asked()[0].id, ""));
    ASSERT_TRUE(got.ok());
    EXPECT_EQ(**got.result, "");
}

TEST_F(SftpReadWriteTest, NothingFollowsAHoleAtTheEnd) {
    const RemoteFilePtr file = Open();
    Got<std::string> got;
    files_->Read(file, {0, 70000}, got.Done());
    const auto asked = Asked();
    ASSERT_EQ(asked.size(), 3U);
    Answer(PeerData(asked[0].id, std::string(32768, 'a')));
    Answer(PeerStatus(asked[1].id, SftpStatus::kEof));
    Answer(PeerData(asked[2].id, std::string(4464, 'c')));  // the file grew meanwhile
    ASSERT_TRUE(got.ok());
    EXPECT_EQ((*got.result)->size(), 32768U);
}

TEST_F(SftpReadWriteTest, ReadsOfNothingAndFromNowhereAreAnsweredHere) {
    const RemoteFilePtr file = Open();
    Got<std::string> nothing;
    Got<std::string> nowhere;
    files_->Read(file, {5, 0}, nothing.Done());
    files_->Read(file, {~std::uint64_t{0}, 5}, nowhere.Done());
    EXPECT_TRUE(Asked().empty());
    EXPECT_TRUE(nothing.ok());
    EXPECT_EQ(nowhere.code(), EFBIG);
    Got<std::string> edge;
    files_->Read(file, {(1ULL << 63) - 3, 100}, edge.Done());
    const auto asked = Asked();
    ASSERT_EQ(asked.size(), 1U);
    EXPECT_EQ(asked[0].Size(), 2U);
    Cut();
}

TEST_F(SftpReadWriteTest, WritesAreInFlightAtOnceAndAnsweredTogether) {
    const RemoteFilePtr file = Open();
    const std::string bytes(90000, 'w');
    Got<Unit> got;
    files_->Write(file, 5, bytes, got.Done());
    const auto asked = Asked();
    ASSERT_EQ(asked.size(), 3U);
    std::uint64_t end = 5;
    for (const PeerRequest& request : asked) {
        EXPECT_EQ(request.Offset(), end);
        end += request.Data().size();
    }
    EXPECT_EQ(end, 90005U);
    Answer(PeerStatus(asked[1].id, SftpStatus::kPermissionDenied));
    Answer(PeerStatus(asked[2].id, SftpStatus::kOk));
    EXPECT_EQ(got.times, 0);  // a later effect must not race the reply
    Answer(PeerStatus(asked[0].id, SftpStatus::kOk));
    EXPECT_EQ(got.code(), EACCES);
    EXPECT_EQ(Trips(), 1U);
}

TEST_F(SftpReadWriteTest, AFullDiskIsRecognised) {
    const RemoteFilePtr file = Open();
    Got<Unit> got;
    files_->Write(file, 0, "0123456789", got.Done());
    Answer(PeerStatus(Asked()[0].id, SftpStatus::kFailure));
    const auto asked = Asked();
    ASSERT_EQ(asked.size(), 1U);
    EXPECT_EQ(asked[0].extension, "fstatvfs@openssh.com");
    Answer(PeerNumbers(asked[0].id, {4096, 4096, 100, 0, 0, 50, 50, 50, 1, 0, 255}));
    EXPECT_EQ(got.code(), ENOSPC);
}

TEST_F(SftpReadWriteTest, WritesBeyondAllOffsetsAreNotSent) {
    const RemoteFilePtr file = Open();
    Got<Unit> far;
    Got<Unit> none;
    files_->Write(file, (1ULL << 63) - 2, "abc", far.Done());
    files_->Write(file, 0, "", none.Done());
    EXPECT_TRUE(Asked().empty());
    EXPECT_EQ(far.code(), EFBIG);
    EXPECT_TRUE(none.ok());
}

TEST_F(SftpReadWriteTest, SyncReportsTheWritesBeforeIt) {
    const RemoteFilePtr file = Open();
    Got<Unit> write;
    Got<Unit> sync;
    files_->Write(file, 0, "a", write.Done());
    files_->Sync(file, sync.Done());
    const auto asked = Asked();
    ASSERT_EQ(asked.size(), 2U);
    EXPECT_EQ(asked[1].extension, "fsync@openssh.com");
    Answer(PeerStatus(asked[1].id, SftpStatus::kOk));
    EXPECT_EQ(sync.times, 0);
    Answer(PeerStatus(asked[0].id, SftpStatus::kPermissionDenied));
    EXPECT_EQ(write.code(), EACCES);
    EXPECT_EQ(sync.code(), EACCES);
    EXPECT_EQ(Trips(), 1U);
}

TEST_F(SftpReadWritePlainTest, WithoutFsyncItEndsWhenAllIsAcknowledged) {
    const RemoteFilePtr file = Open();
    Got<Unit> write;
    Got<Unit> sync;
    Got<Unit> idle;
    files_->Sync(file, idle.Done());
    files_->Write(file, 0, "a", write.Done());
    files_->Sync(file, sync.Done());
    const auto asked = Asked();
    ASSERT_EQ(asked.size(), 1U);
    EXPECT_TRUE(idle.ok());
    EXPECT_EQ(sync.times, 0);
    Answer(PeerStatus(asked[0].id, SftpStatus::kOk));
    EXPECT_TRUE(sync.ok());
}

TEST_F(SftpReadWriteTest, AFileDroppedWithWritesInFlightIsClosedBehindThem) {
    RemoteFilePtr file = Open();
    Got<Unit> write;
    files_->Write(file, 0, "a", write.Done());
    file.reset();
    auto asked = Asked();
    ASSERT_EQ(asked.size(), 1U);
    Answer(PeerStatus(asked[0].id, SftpStatus::kOk));
    EXPECT_TRUE(write.ok());
    asked = Asked();
    ASSERT_EQ(asked.size(), 1U);
    EXPECT_EQ(asked[0].type, SftpType::kClose);
}

}  // namespace
}  // namespace sbxfs::testing
