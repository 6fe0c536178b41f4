// SftpFiles over a scripted server: opening, creating, closing.

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "tests/fakes/fake_tree.h"
#include "tests/unit/sftp_script.h"

namespace sbxfs::testing {
namespace {

class SftpOpenTest : public SftpScript {};

TEST_F(SftpOpenTest, OpenCostsOneRoundTripWhenBothLooksAgree) {
    Got<OpenedFile> got;
    files_->Open("/f", {.read = true}, got.Done());
    const auto asked = Asked();
    ASSERT_EQ(asked.size(), 3U);
    EXPECT_EQ(asked[0].type, SftpType::kLstat);
    EXPECT_EQ(asked[1].type, SftpType::kOpen);
    EXPECT_EQ(asked[2].type, SftpType::kLstat);
    Answer(PeerAttrs(asked[0].id, FileAttrs(5)) + PeerHandle(asked[1].id, "h") +
           PeerAttrs(asked[2].id, FileAttrs(5)));
    ASSERT_TRUE(got.ok());
    EXPECT_EQ((*got.result)->stat.size, 5U);
    EXPECT_EQ(Trips(), 1U);
    const auto& file = static_cast<const SftpFile&>(*(*got.result)->file);
    EXPECT_EQ(file.path(), "/f");
    EXPECT_EQ(file.link(), 7U);
    EXPECT_EQ(file.opened().size, 5U);
    EXPECT_TRUE(file.how().read);
}

TEST_F(SftpOpenTest, OpenAsksTheHandleWhenTheLooksCannotBeTrusted) {
    enum { kChanged, kLink, kDisorder, kGone };
    for (const int why : {kChanged, kLink, kDisorder, kGone}) {
        Got<OpenedFile> got;
        files_->Open("/f", {.read = true}, got.Done());
        auto asked = Asked();
        std::erase_if(asked, [](const auto& one) { return one.type == SftpType::kClose; });
        ASSERT_EQ(asked.size(), 3U);
        const std::uint32_t mode = why == kLink ? 0120777 : 0100644;
        const std::string before = PeerAttrs(asked[0].id, FileAttrs(5, mode));
        const std::string open = PeerHandle(asked[1].id, "h");
        const std::string after =
            why == kGone ? PeerStatus(asked[2].id, SftpStatus::kNoSuchFile)
                         : PeerAttrs(asked[2].id, FileAttrs(why == kChanged ? 6 : 5, mode));
        Answer(why == kDisorder ? open + before + after : before + open + after);
        asked = Asked();
        ASSERT_EQ(asked.size(), 1U) << why;
        EXPECT_EQ(asked[0].type, SftpType::kFstat);
        Answer(PeerAttrs(asked[0].id, FileAttrs(8)));
        ASSERT_TRUE(got.ok());
        EXPECT_EQ((*got.result)->stat.size, 8U);
    }
}

TEST_F(SftpOpenTest, CreatingTriesExclusivelyFirstAndCostsOneRoundTrip) {
    Got<OpenedFile> got;
    files_->Open("/f", {.write = true, .create = true, .mode = 0644}, got.Done());
    const auto asked = Asked();
    ASSERT_EQ(asked.size(), 2U);
    PacketReader in(asked[0].body);
    ASSERT_TRUE(in.Text().has_value());
    EXPECT_EQ(*in.U32(), kSftpWrite | kSftpCreate | kSftpExclusive);
    EXPECT_EQ(in.Attrs()->permissions, 0644U);
    Answer(PeerHandle(asked[0].id, "h") + PeerAttrs(asked[1].id, FileAttrs(0)));
    EXPECT_TRUE(got.ok());
    EXPECT_EQ(Trips(), 1U);
}

TEST_F(SftpOpenTest, CreatingUndoesTheServersUmask) {
    Got<OpenedFile> got;
    files_->Open("/f", {.write = true, .create = true, .mode = 0664}, got.Done());
    auto asked = Asked();
    Answer(PeerHandle(asked[0].id, "h") + PeerAttrs(asked[1].id, FileAttrs(0, 0100600)));
    asked = Asked();
    ASSERT_EQ(asked.size(), 2U);
    EXPECT_EQ(asked[0].type, SftpType::kFsetstat);
    EXPECT_EQ(asked[1].type, SftpType::kFstat);
    Answer(PeerStatus(asked[0].id, SftpStatus::kOk) +
           PeerAttrs(asked[1].id, FileAttrs(0, 0100664)));
    ASSERT_TRUE(got.ok());
    EXPECT_EQ((*got.result)->stat.mode, 0100664U);
    EXPECT_EQ(Trips(), 2U);
}

TEST_F(SftpOpenTest, CreatingWhatExistsOpensItAndKeepsItsMode) {
    Got<OpenedFile> got;
    files_->Open("/f", {.write = true, .create = true, .mode = 0664}, got.Done());
    auto asked = Asked();
    Answer(PeerStatus(asked[0].id, SftpStatus::kFailure) +
           PeerAttrs(asked[1].id, FileAttrs(5, 0100600)));
    asked = Asked();
    ASSERT_EQ(asked.size(), 3U);
    PacketReader in(asked[1].body);
    ASSERT_TRUE(in.Text().has_value());
    EXPECT_EQ(*in.U32(), kSftpWrite | kSftpCreate);
    Answer(PeerAttrs(asked[0].id, FileAttrs(5, 0100600)) + PeerHandle(asked[1].id, "h") +
           PeerAttrs(asked[2].id, FileAttrs(5, 0100600)));
    ASSERT_TRUE(got.ok());
    EXPECT_EQ((*got.result)->stat.mode, 0100600U);
    EXPECT_EQ(Trips(), 2U);
}

TEST_F(SftpOpenTest, ExclusiveCreationOfWhatExistsIsRefused) {
    Got<OpenedFile> got;
    files_->Open("/f", {.write = true, .create = true, .exclusive = true}, got.Done());
    auto asked = Asked();
    Answer(PeerStatus(asked[0].id, SftpStatus::kFailure) + PeerAttrs(asked[1].id, FileAttrs(5)));
    for (const PeerRequest& request : Asked()) {
        EXPECT_EQ(request.extension, "statvfs@openssh.com");
        Answer(PeerStatus(request.id, SftpStatus::kFailure));
    }
    EXPECT_EQ(got.code(), EEXIST);
    EXPECT_EQ(files_->OpenHandles(), 0U);
}

TEST_F(SftpOpenTest, ALockGivenBackBetweenTheRefusalAndTheLookIsTriedAgain) {
    Got<OpenedFile> got;
    files_->Open("/lock", {.write = true, .create = true, .exclusive = true, .mode = 0644},
                 got.Done());
    auto asked = Asked();
    Answer(PeerStatus(asked[0].id, SftpStatus::kFailure) +
           PeerStatus(asked[1].id, SftpStatus::kNoSuchFile));
    asked = Asked();
    ASSERT_EQ(asked.size(), 2U);
    Answer(PeerHandle(asked[0].id, "h") + PeerAttrs(asked[1].id, FileAttrs(0, 0100644)));
    ASSERT_TRUE(got.ok());
}

TEST_F(SftpOpenTest, CreationRefusedForAnotherReasonIsNotTriedForEver) {
    Got<OpenedFile> got;
    files_->Open("/f", {.write = true, .create = true, .exclusive = true}, got.Done());
    std::size_t attempts = 0;
    for (auto asked = Asked(); !asked.empty(); asked = Asked()) {
        for (const PeerRequest& request : asked) {
            if (request.type == SftpType::kOpen) ++attempts;
            Answer(PeerStatus(request.id, request.type == SftpType::kOpen
                                              ? SftpStatus::kFailure
                                              : SftpStatus::kNoSuchFile));
        }
    }
    EXPECT_EQ(got.code(), EIO);
    EXPECT_EQ(attempts, 4U);
    EXPECT_EQ(files_->OpenHandles(), 0U);
}

TEST_F(SftpOpenTest, AFileThatCannotBeDescribedIsClosedAgain) {
    Got<OpenedFile> got;
    files_->Open("/f", {.read = true}, got.Done());
    auto asked = Asked();
    Answer(PeerAttrs(asked[0].id, {}) + PeerHandle(asked[1].id, "h") + PeerAttrs(asked[2].id, {}));
    asked = Asked();
    ASSERT_EQ(asked.size(), 1U);
    Answer(PeerAttrs(asked[0].id, {}));
    EXPECT_EQ(got.code(), EIO);
    asked = Asked();
    ASSERT_EQ(asked.size(), 1U);
    EXPECT_EQ(asked[0].type, SftpType::kClose);
    Answer(PeerStatus(asked[0].id, SftpStatus::kOk));
    EXPECT_EQ(files_->OpenHandles(), 0U);
}

TEST_F(SftpOpenTest, DroppingAFileClosesItOnceFromAnyThread) {
    RemoteFilePtr file = Open();
    EXPECT_EQ(files_->OpenHandles(), 1U);
    std::thread([&] { file.reset(); }).join();
    const auto asked = Asked();
    ASSERT_EQ(asked.size(), 1U);
    EXPECT_EQ(asked[0].type, SftpType::kClose);
    EXPECT_EQ(Trips(), 0U);  // nobody waits
    Answer(PeerStatus(asked[0].id, SftpStatus::kOk));
    EXPECT_EQ(files_->OpenHandles(), 0U);
}

TEST_F(SftpOpenTest, AClosedFileIsNotClosedAgainNorUsed) {
    RemoteFilePtr file = Open();
    Got<Unit> closed;
    Got<std::string> read;
    files_->Close(file, closed.Done());
    files_->Read(file, {0, 5}, read.Done());
    auto asked = Asked();
    ASSERT_EQ(asked.size(), 1U);
    EXPECT_EQ(read.code(), EBADF);
    Answer(PeerStatus(asked[0].id, SftpStatus::kFailure));
    for (const PeerRequest& request : Asked())
        Answer(PeerStatus(request.id, SftpStatus::kFailure));
    EXPECT_EQ(closed.code(), EIO);  // a failed CLOSE counts
    file.reset();
    EXPECT_TRUE(Asked().empty());
}

TEST_F(SftpOpenTest, FilesMayOutliveTheirSession) {
    RemoteFilePtr file = Open();
    RemoteFilePtr other = file;
    Cut();
    Got<std::string> read;
    files_->Read(file, {0, 5}, read.Done());
    loop_.Run();
    EXPECT_EQ(read.code(), ESTALE);
    Got<RemoteStat> stat;
    files_->Lstat("/f", stat.Done());
    EXPECT_EQ(stat.times, 0);
    loop_.Run();
    EXPECT_EQ(stat.code(), EHOSTUNREACH);
    client_.reset();
    Got<RemoteStat> later;
    files_->Lstat("/f", later.Done());
    loop_.Run();
    EXPECT_EQ(later.code(), EHOSTUNREACH);
    files_.reset();
    file.reset();
    other.reset();
    loop_.Run();
}

TEST_F(SftpOpenTest, OpenFilesAreBoundedByTheServersHandles) {
    const auto client = SftpClient::Make(3);
    client->Start([](const Status&) {});
    (void)TakeBytes(*client);
    ASSERT_TRUE(client->Feed(PeerVersion({{"limits@openssh.com", "1"}})).has_value());
    ASSERT_TRUE(
        client->Feed(PeerNumbers(TakeRequests(*client).at(0).id, {262144, 261120, 261120, 12}))
            .has_value());
    const auto files = SftpFiles::Make(client, loop_);
    std::vector<Got<OpenedFile>> got(9);
    for (Got<OpenedFile>& one : got)
        files->Open("/f", {.read = true}, one.Done());
    loop_.Run();
    EXPECT_EQ(
        std::count_if(got.begin(), got.end(), [](const auto& one) { return one.code() == EMFILE; }),
        1);
    Got<std::vector<RemoteEntry>> listing;  // four are left for listings
    files->List("/", listing.Done());
    loop_.Run();
    EXPECT_EQ(listing.times, 0);
    client->FailAll(Error(Errno{EHOSTUNREACH}, "cut"));
}

}  // namespace
}  // namespace sbxfs::testing
