// SftpFiles over a scripted server: what each operation costs in round trips, that nothing depends
// on the order of answers, and what happens when the session ends at the worst moment. What a real
// server does is tests/contract's.
#include "sandbox/sftp_files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <random>
#include <thread>

#include "tests/fakes/fake_tree.h"
#include "tests/fakes/manual_loop.h"
#include "tests/fakes/sftp_peer.h"

namespace sbxfs {
namespace {

using testing::FileAttrs;
using testing::ManualLoop;
using testing::ModeChange;
using testing::PeerAttrs;
using testing::PeerData;
using testing::PeerHandle;
using testing::PeerNames;
using testing::PeerNumbers;
using testing::PeerRequest;
using testing::PeerStatus;
using testing::ReadyClient;
using testing::SizeChange;
using testing::TakeRequests;
using testing::TimesChange;

constexpr std::uint32_t kDirMode = 040755;

// The result of one operation. Callbacks may outlive it: a failed ASSERT leaves operations in
// flight.
template <class T>
class Got {
    struct State {
        std::optional<Result<T>> result;
        int times = 0;
    };
    const std::shared_ptr<State> state_ = std::make_shared<State>();

 public:
    std::optional<Result<T>>& result = state_->result;
    int& times = state_->times;

    UniqueFunction<void(Result<T>)> Done() {
        return [state = state_](Result<T> value) {
            state->result = std::move(value);
            ++state->times;
        };
    }
    bool ok() const { return result && result->has_value(); }
    int code() const { return result && !*result ? static_cast<int>(result->error().code()) : 0; }
};

// A session whose server is the test.
class SftpFilesTest : public ::testing::Test {
 protected:
    explicit SftpFilesTest(
        std::vector<std::pair<std::string, std::string>> extensions = testing::UsualExtensions())
        : client_(ReadyClient(extensions)), files_(SftpFiles::Make(client_, loop_)) {
        trips_ = client_->RoundTrips();
    }

    // The requests sent since the last call.
    std::vector<PeerRequest> Asked() {
        loop_.Run();
        return TakeRequests(*client_);
    }
    void Answer(const std::string& bytes) {
        const Status fed = client_->Feed(bytes);
        EXPECT_TRUE(fed.has_value()) << fed.error().what();
        loop_.Run();
    }
    std::uint64_t Trips() const { return client_->RoundTrips() - trips_; }
    void Cut() {
        client_->FailAll(Error(Errno{EHOSTUNREACH}, "cut", Blame::kRemote));
        loop_.Run();
    }
    // An open file of `size` bytes.
    RemoteFilePtr Open(const OpenHow& how = {.read = true, .write = true}, std::uint64_t size = 0) {
        Got<OpenedFile> got;
        files_->Open("/f", how, got.Done());
        const std::vector<PeerRequest> asked = Asked();
        EXPECT_EQ(asked.size(), 3U);
        Answer(PeerAttrs(asked[0].id, FileAttrs(size)) + PeerHandle(asked[1].id, "h") +
               PeerAttrs(asked[2].id, FileAttrs(size)));
        EXPECT_TRUE(got.ok());
        trips_ = client_->RoundTrips();
        return (*got.result)->file;
    }

    ManualLoop loop_;
    std::shared_ptr<SftpClient> client_;
    std::shared_ptr<SftpFiles> files_;
    std::uint64_t trips_ = 0;
};

class SftpFilesPlainTest : public SftpFilesTest {
 protected:
    SftpFilesPlainTest() : SftpFilesTest({}) {}
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

// --- Making names

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

// --- Opening

TEST_F(SftpFilesTest, OpenCostsOneRoundTripWhenBothLooksAgree) {
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

TEST_F(SftpFilesTest, OpenAsksTheHandleWhenTheLooksCannotBeTrusted) {
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

TEST_F(SftpFilesTest, CreatingTriesExclusivelyFirstAndCostsOneRoundTrip) {
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

TEST_F(SftpFilesTest, CreatingUndoesTheServersUmask) {
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

TEST_F(SftpFilesTest, CreatingWhatExistsOpensItAndKeepsItsMode) {
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

TEST_F(SftpFilesTest, ExclusiveCreationOfWhatExistsIsRefused) {
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

TEST_F(SftpFilesTest, AFileThatCannotBeDescribedIsClosedAgain) {
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

TEST_F(SftpFilesTest, DroppingAFileClosesItOnceFromAnyThread) {
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

TEST_F(SftpFilesTest, AClosedFileIsNotClosedAgainNorUsed) {
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

TEST_F(SftpFilesTest, FilesMayOutliveTheirSession) {
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

TEST_F(SftpFilesTest, OpenFilesAreBoundedByTheServersHandles) {
    const auto client = SftpClient::Make(3);
    client->Start([](const Status&) {});
    (void)testing::TakeBytes(*client);
    ASSERT_TRUE(client->Feed(testing::PeerVersion({{"limits@openssh.com", "1"}})).has_value());
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

// --- Data

TEST_F(SftpFilesTest, LargeReadsAreInFlightAtOnceAndAssembledInAnyOrder) {
    const RemoteFilePtr file = Open();
    std::string content;
    for (int i = 0; i < 100000; ++i)
        content += static_cast<char>(i * 7 + i / 256);
    Got<std::string> got;
    files_->Read(file, {10, 90000}, got.Done());
    auto asked = Asked();
    ASSERT_EQ(asked.size(), 3U);
    for (const std::size_t i : {2, 0, 1}) {
        Answer(PeerData(asked[i].id, content.substr(asked[i].Offset(), asked[i].Size())));
    }
    ASSERT_TRUE(got.ok());
    EXPECT_TRUE(**got.result == content.substr(10, 90000));
    EXPECT_EQ(Trips(), 1U);
}

TEST_F(SftpFilesTest, ShortAnswersAreContinuedAndOnlyEofEnds) {
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

TEST_F(SftpFilesTest, AnEmptyAnswerEndsInsteadOfSpinning) {
    const RemoteFilePtr file = Open();
    Got<std::string> got;
    files_->Read(file, {0, 10}, got.Done());
    Answer(PeerData(Asked()[0].id, ""));
    ASSERT_TRUE(got.ok());
    EXPECT_EQ(**got.result, "");
}

TEST_F(SftpFilesTest, NothingFollowsAHoleAtTheEnd) {
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

TEST_F(SftpFilesTest, ReadsOfNothingAndFromNowhereAreAnsweredHere) {
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

TEST_F(SftpFilesTest, WritesAreInFlightAtOnceAndAnsweredTogether) {
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

TEST_F(SftpFilesTest, AFullDiskIsRecognised) {
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

TEST_F(SftpFilesTest, WritesBeyondAllOffsetsAreNotSent) {
    const RemoteFilePtr file = Open();
    Got<Unit> far;
    Got<Unit> none;
    files_->Write(file, (1ULL << 63) - 2, "abc", far.Done());
    files_->Write(file, 0, "", none.Done());
    EXPECT_TRUE(Asked().empty());
    EXPECT_EQ(far.code(), EFBIG);
    EXPECT_TRUE(none.ok());
}

TEST_F(SftpFilesTest, SyncReportsTheWritesBeforeIt) {
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

TEST_F(SftpFilesPlainTest, WithoutFsyncItEndsWhenAllIsAcknowledged) {
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

TEST_F(SftpFilesTest, AFileDroppedWithWritesInFlightIsClosedBehindThem) {
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

// --- Listing

SftpName Entry(const std::string& name) {
    return {name, FileAttrs(1)};
}

TEST_F(SftpFilesTest, ListingWithTheStatOfEachEntryCostsTwoRoundTrips) {
    Got<std::vector<RemoteEntry>> got;
    files_->List("/d", got.Done());
    Answer(PeerHandle(Asked()[0].id, "h"));
    const auto asked = Asked();
    ASSERT_EQ(asked.size(), 4U);
    std::string answers = PeerNames(asked[0].id, {Entry("."), Entry(".."), Entry("a"), Entry("b")});
    for (std::size_t i = 1; i < 4; ++i)
        answers += PeerStatus(asked[i].id, SftpStatus::kEof);
    const auto surplus = [&] {  // what the first answer made it ask besides
        std::string bytes;
        for (const PeerRequest& request : Asked()) {
            if (request.type == SftpType::kReaddir)
                bytes += PeerStatus(request.id, SftpStatus::kEof);
            if (request.type == SftpType::kClose) bytes += PeerStatus(request.id, SftpStatus::kOk);
        }
        return bytes;
    };
    Answer(answers);
    Answer(surplus());
    ASSERT_TRUE(got.ok());
    Answer(surplus());
    ASSERT_EQ((*got.result)->size(), 2U);
    EXPECT_EQ((**got.result)[1].name, "b");
    EXPECT_EQ((**got.result)[1].stat.mode, 0100644U);
    EXPECT_EQ(files_->DroppedEntries(), 0U);
    EXPECT_EQ(files_->OpenHandles(), 0U);
    EXPECT_LE(Trips(), 3U);
}

// Answers a listing until it is done; `batch(n)` are the entries of the n-th READDIR, none at the
// end.
void Serve(SftpClient& client, ManualLoop& loop,
           const std::function<std::vector<SftpName>(std::size_t)>& batch) {
    std::size_t next = 0;
    for (int round = 0; round < 100000; ++round) {
        loop.Run();
        const auto asked = TakeRequests(client);
        if (asked.empty()) return;
        for (const PeerRequest& request : asked) {
            std::string answer = PeerStatus(request.id, SftpStatus::kOk);
            if (request.type == SftpType::kOpendir) answer = PeerHandle(request.id, "h");
            if (request.type == SftpType::kLstat)
                answer = PeerAttrs(request.id, FileAttrs(3, kDirMode));
            if (request.type == SftpType::kReaddir) {
                const std::vector<SftpName> names = batch(next++);
                answer = names.empty() ? PeerStatus(request.id, SftpStatus::kEof)
                                       : PeerNames(request.id, names);
            }
            ASSERT_TRUE(client.Feed(answer).has_value());
        }
    }
}

TEST_F(SftpFilesTest, TenThousandEntriesTakeFewRoundTrips) {
    Got<std::vector<RemoteEntry>> got;
    files_->List("/d", got.Done());
    Serve(*client_, loop_, [](std::size_t n) {
        std::vector<SftpName> names;
        if (n >= 100) return names;
        for (int i = 0; i < 100; ++i)
            names.push_back(Entry(std::to_string(n) + "-" + std::to_string(i)));
        return names;
    });
    ASSERT_TRUE(got.ok());
    EXPECT_EQ((*got.result)->size(), 10000U);
    EXPECT_LE(Trips(), 8U);
}

TEST_F(SftpFilesTest, HostileNamesAreDroppedAndCounted) {
    Got<std::vector<RemoteEntry>> got;
    files_->List("/d", got.Done());
    Serve(*client_, loop_, [](std::size_t n) {
        std::vector<SftpName> names;
        if (n > 0) return names;
        names = {Entry(""),
                 Entry("."),
                 Entry(".."),
                 Entry("a/b"),
                 Entry("/"),
                 Entry("../up"),
                 Entry(std::string("n\0l", 3)),
                 Entry(std::string(256, 'x')),
                 Entry("twice"),
                 Entry("twice"),
                 Entry("ok\n"),
                 {"huge", FileAttrs(1ULL << 63)}};
        return names;
    });
    ASSERT_TRUE(got.ok());
    std::vector<std::string> names;
    for (const RemoteEntry& entry : **got.result)
        names.push_back(entry.name);
    EXPECT_EQ(names, (std::vector<std::string>{"twice", "ok\n"}));
    EXPECT_EQ(files_->DroppedEntries(), 7U);
}

TEST_F(SftpFilesTest, EntriesWithoutATypeAreAskedAbout) {
    Got<std::vector<RemoteEntry>> got;
    files_->List("/", got.Done());
    Serve(*client_, loop_, [](std::size_t n) {
        std::vector<SftpName> names;
        for (int i = 0; n == 0 && i < 100; ++i)
            names.push_back({"e" + std::to_string(i), {}});
        return names;
    });
    ASSERT_TRUE(got.ok());
    ASSERT_EQ((*got.result)->size(), 100U);
    for (const RemoteEntry& entry : **got.result)
        EXPECT_EQ(entry.stat.mode, kDirMode);
}

TEST_F(SftpFilesTest, EndlessListingsAreGivenUp) {
    files_->BoundListings(1000, 1 << 20);
    Got<std::vector<RemoteEntry>> got;
    files_->List("/d", got.Done());
    Serve(*client_, loop_, [](std::size_t) { return std::vector<SftpName>(10, Entry("same")); });
    EXPECT_EQ(got.code(), E2BIG);
    EXPECT_EQ(got.times, 1);
    EXPECT_EQ(files_->OpenHandles(), 0U);
    files_->BoundListings(1000000, 10000);
    Got<std::vector<RemoteEntry>> bytes;
    files_->List("/d", bytes.Done());
    Serve(*client_, loop_,
          [](std::size_t) { return std::vector<SftpName>(10, Entry(std::string(255, 'x'))); });
    EXPECT_EQ(bytes.code(), E2BIG);
}

TEST_F(SftpFilesTest, AListingThatFailsHalfWayFails) {
    Got<std::vector<RemoteEntry>> got;
    files_->List("/d", got.Done());
    Answer(PeerHandle(Asked()[0].id, "h"));
    for (const PeerRequest& request : Asked())
        Answer(PeerStatus(request.id, SftpStatus::kPermissionDenied));
    EXPECT_EQ(got.code(), EACCES);
    EXPECT_EQ(got.times, 1);
}

// --- The end of the session

// Starts every operation there is; `count` counts what was answered.
int StartAll(SftpFiles& files, const RemoteFilePtr& file, int& count) {
    const auto any = [&count](const auto&) { ++count; };
    files.Lstat("/a", any);
    files.List("/d", any);
    files.ReadLink("/l", any);
    files.SetStat("/a", ModeChange(0600), any);
    files.SetStat("/a", SizeChange(5), any);
    files.MakeDir("/d2", 0777, any);
    files.RemoveDir("/d", any);
    files.Unlink("/a", any);
    files.Symlink("t", "/s", any);
    files.Link("/a", "/b", any);
    files.Rename("/a", "/c", RemoteFiles::Replace::kYes, any);
    files.Rename("/a", "/c", RemoteFiles::Replace::kNo, any);
    files.Statfs("/", any);
    files.Open("/o", {.read = true}, any);
    files.Open("/p", {.write = true, .create = true, .mode = 0666}, any);
    files.Open("/q", {.write = true, .create = true, .exclusive = true, .mode = 0666}, any);
    files.Read(file, {0, 100000}, any);
    files.Write(file, 0, std::string(100000, 'x'), any);
    files.FileStat(file, any);
    files.SetFileStat(file, SizeChange(1), any);
    files.Sync(file, any);
    return 21;
}

TEST_F(SftpFilesTest, ALostLinkAnswersEveryOperationOnceWhereverItIs) {
    // Answers k requests as a server would that refuses what can be refused, then cuts the link.
    for (int k = 0; k < 60; ++k) {
        const auto client = ReadyClient();
        const auto files = SftpFiles::Make(client, loop_);
        Got<OpenedFile> opened;
        files->Open("/f", {.read = true}, opened.Done());
        auto asked = TakeRequests(*client);
        ASSERT_TRUE(client
                        ->Feed(PeerAttrs(asked[0].id, FileAttrs(1)) + PeerHandle(asked[1].id, "h") +
                               PeerAttrs(asked[2].id, FileAttrs(1)))
                        .has_value());
        int count = 0;
        const int all = StartAll(*files, (*opened.result)->file, count);
        asked = TakeRequests(*client);
        for (int i = 0; i < k && i < static_cast<int>(asked.size()); ++i) {
            const PeerRequest request = asked[static_cast<std::size_t>(i)];
            ASSERT_TRUE(client
                            ->Feed(request.type == SftpType::kOpendir
                                       ? PeerHandle(request.id, "d")
                                       : PeerStatus(request.id, SftpStatus::kFailure))
                            .has_value());
            for (PeerRequest& more : TakeRequests(*client))
                asked.push_back(std::move(more));
        }
        client->FailAll(Error(Errno{EHOSTUNREACH}, "cut"));
        loop_.Run();
        EXPECT_EQ(count, all) << k;
        EXPECT_EQ(client->InFlight(), 0U);
    }
}

std::string RandomAnswer(const PeerRequest& request, std::mt19937& random) {
    const auto below = [&](std::uint32_t limit) {
        return static_cast<std::uint32_t>(random() % limit);
    };
    const std::uint32_t modes[] = {0100644, 0100755, kDirMode, 0120777, 0010600, 0};
    const SftpAttrs attrs = FileAttrs(below(3) == 0 ? 0 : below(100), modes[below(6)]);
    if (request.type == SftpType::kClose) return PeerStatus(request.id, SftpStatus::kOk);
    if (below(3) == 0) {
        const SftpStatus statuses[] = {SftpStatus::kEof,        SftpStatus::kNoSuchFile,
                                       SftpStatus::kFailure,    SftpStatus::kPermissionDenied,
                                       SftpStatus::kBadMessage, SftpStatus::kOpUnsupported};
        return PeerStatus(request.id, statuses[below(6)]);
    }
    const bool vfs = request.extension.find("statvfs") != std::string::npos;
    if (vfs) return PeerNumbers(request.id, std::vector<std::uint64_t>(11, below(100)));
    if (request.type == SftpType::kOpen || request.type == SftpType::kOpendir) {
        return PeerHandle(request.id, "h");
    }
    if (request.type == SftpType::kRead)
        return PeerData(request.id, std::string(below(request.Size()) + 1, 'x'));
    if (request.type == SftpType::kReaddir)
        return PeerNames(request.id, {{"n" + std::to_string(below(9)), attrs}});
    if (request.type == SftpType::kReadlink)
        return PeerNames(request.id, {{below(2) == 0 ? "/l" : "x/../y", {}}});
    if (request.type == SftpType::kLstat || request.type == SftpType::kStat ||
        request.type == SftpType::kFstat) {
        return PeerAttrs(request.id, attrs);
    }
    return PeerStatus(request.id, SftpStatus::kOk);
}

// A server that keeps to the protocol and to nothing else: any answer that fits, in any order.
TEST_F(SftpFilesTest, ServersThatMakeNoSenseAnswerEveryOperationOnce) {
    const char* given =
        std::getenv("SBXFS_TEST_SEED");  // NOLINT(concurrency-mt-unsafe): one thread
    const unsigned seed =
        given != nullptr ? static_cast<unsigned>(std::atoi(given)) : std::random_device{}();
    SCOPED_TRACE("SBXFS_TEST_SEED=" + std::to_string(seed));
    std::mt19937 random(seed);
    for (int round = 0; round < 10; ++round) {
        RemoteFilePtr file = Open({.read = true}, 1);
        int count = 0;
        const int all = StartAll(*files_, file, count);
        file.reset();
        std::vector<PeerRequest> asked = Asked();
        for (int step = 0; !asked.empty() && step < 20000; ++step) {
            std::swap(asked[random() % asked.size()], asked.back());
            const PeerRequest request = std::move(asked.back());
            asked.pop_back();
            Answer(RandomAnswer(request, random));
            for (PeerRequest& more : Asked())
                asked.push_back(std::move(more));
        }
        ASSERT_TRUE(asked.empty());
        EXPECT_EQ(count, all);
        EXPECT_EQ(files_->OpenHandles(), 0U);
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
}  // namespace sbxfs
