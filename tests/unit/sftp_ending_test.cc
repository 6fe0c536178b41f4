// SftpFiles when the session ends at the worst moment, and when the server makes no sense: every
// operation is answered once.

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>
#include <random>

#include "tests/fakes/fake_tree.h"
#include "tests/unit/sftp_script.h"

namespace sbxfs::testing {
namespace {

class SftpEndingTest : public SftpScript {};

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

TEST_F(SftpEndingTest, ALostLinkAnswersEveryOperationOnceWhereverItIs) {
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
TEST_F(SftpEndingTest, ServersThatMakeNoSenseAnswerEveryOperationOnce) {
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

}  // namespace
}  // namespace sbxfs::testing
