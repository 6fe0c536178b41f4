// The SFTP engine against servers that break the protocol: every breach ends the session, tells
// everyone once, and costs no more memory than a packet.
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <random>

#include "sandbox/sftp_client.h"
#include "tests/fakes/sftp_peer.h"

namespace sbxfs {
namespace {

using testing::FileAttrs;
using testing::PeerAttrs;
using testing::PeerData;
using testing::PeerHandle;
using testing::PeerNames;
using testing::PeerNumbers;
using testing::PeerPacket;
using testing::PeerRequest;
using testing::PeerStatus;
using testing::PeerVersion;
using testing::ReadyClient;
using testing::TakeRequests;

std::string Number(std::uint32_t value) {
    std::string out;
    Put32(value, out);
    return out;
}

// A session with one request of each kind in flight.
struct Victim {
    int answered = 0;
    int lost = 0;
    std::shared_ptr<SftpClient> client = ReadyClient();
    std::vector<PeerRequest> asked;

    Victim() {
        client->Lstat("/a", Back<SftpAttrs>());
        client->Open("/a", kSftpRead, {}, Back<std::string>());
        client->Read("h", 0, 16, Back<std::string>());
        client->Readdir("h", Back<std::vector<SftpName>>());
        client->Rmdir("/a", Back<Unit>());
        client->Readlink("/a", Back<std::string>());
        client->Statvfs("/a", Back<SftpStatvfs>());
        asked = TakeRequests(*client);
    }
    template <class T>
    SftpClient::Callback<T> Back() {
        return [this](const SftpAnswer<T>& answer) {
            ++answered;
            if (!answer && answer.refusal().lost) ++lost;
        };
    }
    std::uint32_t Id(SftpType type) const {
        for (const PeerRequest& request : asked) {
            if (request.type == type) return request.id;
        }
        return 0;
    }
    void ExpectEndedBy(std::string_view bytes, const char* what) {
        const Status fed = client->Feed(bytes);
        ASSERT_FALSE(fed.has_value()) << what;
        EXPECT_EQ(fed.error().code(), Errno{EIO}) << what;
        EXPECT_EQ(fed.error().blame(), Blame::kRemote) << what;
        EXPECT_EQ(answered, 7) << what;
        EXPECT_EQ(lost, 7) << what;
        EXPECT_FALSE(client->Usable());
    }
};

TEST(SftpHostile, AbsurdLengthsEndTheSession) {
    for (const std::uint32_t length : {0U, 1U, 4U, 300000U, 0x7fffffffU, 0xffffffffU}) {
        Victim().ExpectEndedBy(Number(length), "length");
        Victim victim;  // also when it comes in pieces
        ASSERT_TRUE(victim.client->Feed(Number(length).substr(0, 3)).has_value());
        victim.ExpectEndedBy(Number(length).substr(3), "length in pieces");
    }
}

TEST(SftpHostile, AnswersToNobodyEndTheSession) {
    Victim().ExpectEndedBy(PeerStatus(99, SftpStatus::kOk), "an id never used");
    Victim victim;
    const std::string answer = PeerAttrs(victim.Id(SftpType::kLstat), FileAttrs(1));
    ASSERT_TRUE(victim.client->Feed(answer).has_value());
    EXPECT_EQ(victim.answered, 1);
    victim.lost = 1;  // that one was not lost
    victim.ExpectEndedBy(answer, "the same answer again");
}

TEST(SftpHostile, AnswersOfTheWrongTypeEndTheSession) {
    const Victim ids;
    const std::uint32_t lstat = ids.Id(SftpType::kLstat);
    const std::uint32_t open = ids.Id(SftpType::kOpen);
    const std::uint32_t read = ids.Id(SftpType::kRead);
    const std::uint32_t rmdir = ids.Id(SftpType::kRmdir);
    const std::uint32_t link = ids.Id(SftpType::kReadlink);
    const std::uint32_t space = ids.Id(SftpType::kExtended);
    Victim().ExpectEndedBy(PeerData(lstat, "x"), "DATA for LSTAT");
    Victim().ExpectEndedBy(PeerHandle(lstat, "x"), "HANDLE for LSTAT");
    Victim().ExpectEndedBy(PeerAttrs(open, FileAttrs(1)), "ATTRS for OPEN");
    Victim().ExpectEndedBy(PeerHandle(rmdir, "h"), "HANDLE for RMDIR");
    Victim().ExpectEndedBy(PeerStatus(open, SftpStatus::kOk), "OK for OPEN");
    Victim().ExpectEndedBy(PeerStatus(read, SftpStatus::kOk), "OK for READ");
    Victim().ExpectEndedBy(PeerNames(link, {}), "no name for READLINK");
    Victim().ExpectEndedBy(PeerNames(link, {{"a", {}}, {"b", {}}}), "two names for READLINK");
    Victim().ExpectEndedBy(PeerNumbers(space, {1, 2, 3}), "a short STATVFS");
    Victim().ExpectEndedBy(PeerNumbers(lstat, {1, 2, 3}), "EXTENDED_REPLY for LSTAT");
    Victim().ExpectEndedBy(PeerVersion({}), "VERSION again");
    Victim().ExpectEndedBy(PeerPacket(SftpType{77}, lstat, "x"), "an unknown type");
    Victim().ExpectEndedBy(PeerPacket(SftpType::kLstat, lstat, "x"), "a request");
}

TEST(SftpHostile, MalformedAnswersEndTheSession) {
    const Victim ids;
    const std::uint32_t lstat = ids.Id(SftpType::kLstat);
    const std::uint32_t open = ids.Id(SftpType::kOpen);
    const std::uint32_t read = ids.Id(SftpType::kRead);
    const std::uint32_t list = ids.Id(SftpType::kReaddir);
    const std::uint32_t rmdir = ids.Id(SftpType::kRmdir);
    Victim().ExpectEndedBy(PeerPacket(SftpType::kAttrs, lstat, Number(0) + "x"), "ATTRS and more");
    Victim().ExpectEndedBy(PeerPacket(SftpType::kAttrs, lstat, Number(0x10)), "unknown flags");
    Victim().ExpectEndedBy(PeerPacket(SftpType::kAttrs, lstat, Number(0x80000000) + Number(~0U)),
                           "endless attributes");
    Victim().ExpectEndedBy(PeerHandle(open, ""), "an empty handle");
    Victim().ExpectEndedBy(PeerHandle(open, std::string(257, 'h')), "a long handle");
    Victim().ExpectEndedBy(PeerPacket(SftpType::kHandle, open, Number(1) + "hh"),
                           "HANDLE and more");
    Victim().ExpectEndedBy(PeerData(read, std::string(17, 'x')), "more DATA than asked for");
    Victim().ExpectEndedBy(PeerPacket(SftpType::kData, read, Number(3) + "xx"), "DATA too short");
    Victim().ExpectEndedBy(PeerPacket(SftpType::kData, read, Number(1) + "xx"), "DATA and more");
    Victim().ExpectEndedBy(PeerPacket(SftpType::kData, read, ""), "DATA without a length");
    Victim().ExpectEndedBy(PeerPacket(SftpType::kName, list, Number(~0U)), "endless names");
    Victim().ExpectEndedBy(PeerPacket(SftpType::kStatus, rmdir, ""), "STATUS without a code");
    Victim().ExpectEndedBy(PeerPacket(SftpType::kStatus, rmdir, Number(4) + Number(~0U)),
                           "STATUS with an endless text");
    const std::string more = PeerStatus(rmdir, SftpStatus::kFailure);
    Victim().ExpectEndedBy(PeerPacket(SftpType::kStatus, rmdir, more.substr(9) + "x"),
                           "STATUS and more");
}

TEST(SftpHostile, DataIsCheckedBeforeItIsCollected) {
    const Victim ids;
    const std::string data = PeerData(ids.Id(SftpType::kRead), std::string(16, 'x'));
    Victim victim;
    std::string lying = data;
    lying[12] = 15;  // the inner length
    ASSERT_TRUE(victim.client->Feed(lying.substr(0, 12)).has_value());
    victim.ExpectEndedBy(lying.substr(12, 1), "two lengths that disagree");
}

TEST(SftpHostile, StatusesFromTheFutureAreFailures) {
    for (const std::uint32_t code : {6U, 7U, 9U, 31U, 0xffffffffU}) {
        const auto client = ReadyClient();
        std::optional<SftpStatus> status;
        client->Rmdir("/a",
                      [&](const SftpAnswer<Unit>& answer) { status = answer.refusal().status; });
        const std::uint32_t id = TakeRequests(*client).at(0).id;
        ASSERT_TRUE(client->Feed(PeerStatus(id, SftpStatus{code})).has_value());
        EXPECT_EQ(status, SftpStatus::kFailure);
    }
}

TEST(SftpHostile, StatusesMayLackTheirWords) {
    const auto client = ReadyClient();
    bool refused = false;
    client->Rmdir("/a", [&](const SftpAnswer<Unit>& answer) { refused = !answer.has_value(); });
    const std::uint32_t id = TakeRequests(*client).at(0).id;
    ASSERT_TRUE(client->Feed(PeerPacket(SftpType::kStatus, id, Number(3))).has_value());
    EXPECT_TRUE(refused);
}

TEST(SftpHostile, AMalformedVersionEndsTheSession) {
    const auto client = SftpClient::Make(1);
    std::optional<Status> ready;
    client->Start([&](Status status) { ready = std::move(status); });
    EXPECT_FALSE(client->Feed(PeerPacket(SftpType::kVersion, 3, Number(9))).has_value());
    EXPECT_TRUE(ready && !ready->has_value());
}

TEST(SftpHostile, NothingButVersionMayComeFirst) {
    for (const std::string& first :
         {PeerStatus(3, SftpStatus::kOk),
          std::string("Welcome to the sandbox! (an rc file that talks)")}) {
        const auto client = SftpClient::Make(1);
        std::optional<Status> ready;
        client->Start([&](Status status) { ready = std::move(status); });
        const Status fed = client->Feed(first);
        ASSERT_FALSE(fed.has_value());
        EXPECT_NE(fed.error().what().find("login shell"), std::string::npos);
        EXPECT_TRUE(ready && !ready->has_value());
    }
}

// What an attacker sends is mostly right: answers to what was asked, then broken at random. Nothing
// may crash, nobody may be told twice or never, and no more than a packet may be kept.
TEST(SftpHostile, RandomMutationsNeitherCrashNorCostMemory) {
    const char* given =
        std::getenv("SBXFS_TEST_SEED");  // NOLINT(concurrency-mt-unsafe): one thread
    const unsigned seed =
        given != nullptr ? static_cast<unsigned>(std::atoi(given)) : std::random_device{}();
    SCOPED_TRACE("SBXFS_TEST_SEED=" + std::to_string(seed));
    std::mt19937 random(seed);
    const auto below = [&](std::size_t limit) {
        return static_cast<std::size_t>(random() % limit);
    };
    std::string filler(900, '\0');
    for (char& byte : filler)
        byte = static_cast<char>(random());
    for (int round = 0; round < 400; ++round) {
        Victim victim;
        std::string bytes =
            PeerAttrs(victim.Id(SftpType::kLstat), FileAttrs(below(1000))) +
            PeerHandle(victim.Id(SftpType::kOpen), "h") +
            PeerData(victim.Id(SftpType::kRead), filler.substr(0, below(17))) +
            PeerNames(victim.Id(SftpType::kReaddir), {{"a", FileAttrs(1)}, {"b", {}}}) +
            PeerStatus(victim.Id(SftpType::kRmdir), SftpStatus::kOk) +
            PeerNames(victim.Id(SftpType::kReadlink), {{"target", {}}}) +
            PeerNumbers(victim.Id(SftpType::kExtended), std::vector<std::uint64_t>(11, 1));
        for (std::size_t i = below(4); i < 4; ++i) {
            const std::size_t at = below(bytes.size());
            switch (below(4)) {
                case 0:
                    bytes[at] = static_cast<char>(random());
                    break;
                case 1:
                    bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
                    break;
                case 2:
                    bytes.insert(at, filler.substr(0, below(40)));
                    break;
                default:
                    bytes.erase(at, below(20));
                    break;
            }
        }
        std::string_view rest = bytes;
        while (!rest.empty()) {
            const std::size_t piece = std::min(rest.size(), 1 + below(200));
            if (!victim.client->Feed(rest.substr(0, piece))) break;
            EXPECT_LE(victim.client->HeldBytes(), kSftpMaxPacket + 4);
            rest.remove_prefix(piece);
        }
        victim.client->FailAll(Error(Errno{EHOSTUNREACH}, "cut"));
        ASSERT_EQ(victim.answered, 7);
    }
}

}  // namespace
}  // namespace sbxfs
