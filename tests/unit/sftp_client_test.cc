// The SFTP engine on byte strings: what it sends, how it matches answers, what it counts, how it
// ends.
#include "sandbox/sftp_client.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "base/strings.h"
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
using testing::TakeBytes;
using testing::TakeRequests;

// Keeps the answer of one request. Callbacks may outlive it: a client that dies answers what is
// left.
template <class T>
class Kept {
    struct State {
        std::optional<SftpAnswer<T>> answer;
        int times = 0;
    };
    const std::shared_ptr<State> state_ = std::make_shared<State>();

 public:
    std::optional<SftpAnswer<T>>& answer = state_->answer;
    int& times = state_->times;

    SftpClient::Callback<T> Back() {
        return [state = state_](SftpAnswer<T> got) {
            state->answer = std::move(got);
            ++state->times;
        };
    }
    bool ok() const { return answer && answer->has_value(); }
    SftpStatus status() const { return answer->refusal().status; }
};

const Error kCut(Errno{EHOSTUNREACH}, "cut", Blame::kRemote);

TEST(SftpClient, SaysHelloAndAsksForLimits) {
    const auto client = SftpClient::Make(1);
    std::optional<Status> ready;
    int wakes = 0;
    client->SetWake([&] { ++wakes; });
    client->Start([&](Status status) { ready = std::move(status); });
    EXPECT_EQ(wakes, 1);
    EXPECT_EQ(Hex(TakeBytes(*client)), "000000050100000003");
    ASSERT_TRUE(client->Feed(PeerVersion({{"limits@openssh.com", "1"}, {"fsync@openssh.com", "1"}}))
                    .has_value());
    ASSERT_TRUE(ready && ready->has_value());
    EXPECT_TRUE(client->Usable());
    EXPECT_EQ(client->RoundTrips(), 2U);  // the second goes along with whatever is asked first
    client->Stat("/", [](const SftpAnswer<SftpAttrs>&) {});
    const std::vector<PeerRequest> asked = TakeRequests(*client);
    ASSERT_EQ(asked.size(), 2U);
    EXPECT_EQ(asked[0].extension, "limits@openssh.com");
    ASSERT_TRUE(client->Feed(PeerNumbers(asked[0].id, {262144, 261120, 261120, 1019})).has_value());
    EXPECT_TRUE(client->extensions().fsync);
    EXPECT_FALSE(client->extensions().statvfs);
    EXPECT_EQ(client->limits().read, 261120U);
    EXPECT_EQ(client->limits().write, 261120U);
    EXPECT_EQ(client->limits().handles, 1019U);
    EXPECT_EQ(client->RoundTrips(), 2U);
}

SftpLimits LimitsAfter(const std::vector<std::uint64_t>& said) {
    const auto client = SftpClient::Make(1);
    client->Start([](const Status&) {});
    (void)TakeBytes(*client);
    EXPECT_TRUE(client->Feed(PeerVersion({{"limits@openssh.com", "1"}})).has_value());
    const std::uint32_t id = TakeRequests(*client).at(0).id;
    EXPECT_TRUE(client->Feed(PeerNumbers(id, said)).has_value());
    EXPECT_TRUE(client->Usable());
    return client->limits();
}

TEST(SftpClient, AbsurdLimitsAreNotBelieved) {
    const std::uint64_t huge = ~std::uint64_t{0};
    const SftpLimits large = LimitsAfter({huge, huge, huge, huge});
    EXPECT_LE(large.packet, 257U << 10);
    EXPECT_LE(large.read, 256U << 10);
    EXPECT_LE(large.write + 500, large.packet);
    const SftpLimits none = LimitsAfter({0, 0, 0, 0});
    EXPECT_EQ(none.packet, 34000U);
    EXPECT_EQ(none.read, 32768U);
    EXPECT_EQ(none.write, 32768U);
    EXPECT_EQ(none.handles, 0U);
    EXPECT_EQ(LimitsAfter({1, 1, 1, 1}).write, 32768U);  // the draft guarantees that much
}

TEST(SftpClient, DraftSizesHoldWhenLimitsAreRefused) {
    const auto client = SftpClient::Make(1);
    client->Start([](const Status&) {});
    (void)TakeBytes(*client);
    ASSERT_TRUE(client->Feed(PeerVersion({{"limits@openssh.com", "1"}})).has_value());
    const std::uint32_t id = TakeRequests(*client).at(0).id;
    ASSERT_TRUE(client->Feed(PeerStatus(id, SftpStatus::kOpUnsupported)).has_value());
    EXPECT_TRUE(client->Usable());
    EXPECT_EQ(client->limits().read, 32768U);
}

TEST(SftpClient, OtherVersionsAreRefusedWithARemedy) {
    const auto client = SftpClient::Make(1);
    std::optional<Status> ready;
    client->Start([&](Status status) { ready = std::move(status); });
    const Status fed = client->Feed(PeerVersion({}, 2));
    ASSERT_FALSE(fed.has_value());
    EXPECT_NE(fed.error().what().find("version 2"), std::string::npos);
    ASSERT_TRUE(ready && !ready->has_value());
}

TEST(SftpClient, ExtensionsOfUnknownVersionsAreNotUsed) {
    const auto client =
        ReadyClient({{"posix-rename@openssh.com", "2"}, {"statvfs@openssh.com", "1"}});
    EXPECT_FALSE(client->extensions().posix_rename);
    EXPECT_FALSE(client->extensions().statvfs);
}

TEST(SftpClient, RequestsAreWrittenAsTheDraftSays) {
    const auto client = ReadyClient(testing::UsualExtensions(), 0x11223344);
    const auto sent = [&] { return Hex(TakeBytes(*client)); };
    Kept<std::string> text;
    Kept<Unit> done;
    Kept<SftpAttrs> attrs;
    SftpAttrs mode;
    mode.permissions = 0600;
    client->Open("/a", kSftpWrite | kSftpCreate, mode, text.Back());
    EXPECT_EQ(sent(),
              "00000017"
              "03"
              "11223344"
              "000000022f61"
              "0000000a"
              "00000004"
              "00000180");
    client->Read("h", 0x100000002ULL, 16, text.Back());
    EXPECT_EQ(sent(),
              "00000016"
              "05"
              "11223345"
              "0000000168"
              "0000000100000002"
              "00000010");
    client->Write("h", 1, "xyz", "xyz", done.Back());
    EXPECT_EQ(sent(),
              "00000019"
              "06"
              "11223346"
              "0000000168"
              "0000000000000001"
              "00000003"
              "78797a");
    client->Lstat("/", attrs.Back());
    EXPECT_EQ(sent(),
              "0000000a"
              "07"
              "11223347"
              "000000012f");
    client->Symlink("to", "/l", done.Back());  // OpenSSH's order: the target first
    EXPECT_EQ(sent(),
              "00000011"
              "14"
              "11223348"
              "00000002746f"
              "000000022f6c");
    client->Rename("/a", "/b", done.Back());
    EXPECT_EQ(sent(),
              "00000011"
              "12"
              "11223349"
              "000000022f61"
              "000000022f62");
    client->Fsync("h", done.Back());
    EXPECT_EQ(sent(),
              "0000001f"
              "c8"
              "1122334a"
              "00000011" +
                  Hex("fsync@openssh.com") + "0000000168");
    client->Close("h", SftpClient::Awaited::kYes, done.Back());
    EXPECT_EQ(sent(),
              "0000000a"
              "04"
              "1122334b"
              "0000000168");
    EXPECT_EQ(client->InFlight(), 8U);
}

TEST(SftpClient, AnswersFindTheirRequestInAnyOrder) {
    const auto client = ReadyClient();
    Kept<SftpAttrs> a;
    Kept<SftpAttrs> b;
    Kept<std::string> c;
    client->Lstat("/a", a.Back());
    client->Lstat("/b", b.Back());
    client->Read("h", 0, 10, c.Back());
    const std::vector<PeerRequest> asked = TakeRequests(*client);
    ASSERT_TRUE(client->Feed(PeerData(asked[2].id, "data")).has_value());
    ASSERT_TRUE(client
                    ->Feed(PeerAttrs(asked[1].id, FileAttrs(2)) +
                           PeerStatus(asked[0].id, SftpStatus::kNoSuchFile))
                    .has_value());
    EXPECT_EQ(**c.answer, "data");
    EXPECT_EQ((*b.answer)->size, 2U);
    EXPECT_EQ(a.status(), SftpStatus::kNoSuchFile);
    EXPECT_EQ(a.times + b.times + c.times, 3);
    EXPECT_EQ(client->InFlight(), 0U);
}

// One answer of each kind.
std::string AllAnswers(const std::vector<PeerRequest>& asked) {
    return PeerAttrs(asked[0].id, FileAttrs(5)) + PeerHandle(asked[1].id, "handle") +
           PeerData(asked[2].id, "four") +
           PeerNames(asked[3].id, {{"x", FileAttrs(1)}, {"yy", FileAttrs(2, 040755)}}) +
           PeerStatus(asked[4].id, SftpStatus::kOk) +
           PeerNumbers(asked[5].id, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}) +
           PeerData(asked[6].id, "");
}

struct AllKinds {
    std::shared_ptr<SftpClient> client = ReadyClient();
    Kept<SftpAttrs> attrs;
    Kept<std::string> handle;
    Kept<std::string> data;
    Kept<std::vector<SftpName>> names;
    Kept<Unit> done;
    Kept<SftpStatvfs> space;
    Kept<std::string> empty;
    std::vector<PeerRequest> asked;

    AllKinds() {
        client->Lstat("/a", attrs.Back());
        client->Opendir("/a", handle.Back());
        client->Read("h", 0, 100, data.Back());
        client->Readdir("h", names.Back());
        client->Rmdir("/a", done.Back());
        client->Statvfs("/a", space.Back());
        client->Read("h", 0, 100, empty.Back());
        asked = TakeRequests(*client);
    }
    int Times() const {
        return attrs.times + handle.times + data.times + names.times + done.times + space.times +
               empty.times;
    }
    void ExpectAll() const {
        EXPECT_EQ((**attrs.answer).size, 5U);
        EXPECT_EQ(**handle.answer, "handle");
        EXPECT_EQ(**data.answer, "four");
        ASSERT_EQ((**names.answer).size(), 2U);
        EXPECT_EQ((**names.answer)[1].name, "yy");
        EXPECT_TRUE(done.ok());
        EXPECT_EQ((**space.answer).fsid, 9U);
        EXPECT_EQ(**empty.answer, "");
        EXPECT_EQ(Times(), 7);
    }
};

TEST(SftpClient, PacketsMayBeCutAnywhere) {
    const std::size_t size = AllAnswers(AllKinds().asked).size();
    for (std::size_t cut = 0; cut <= size; ++cut) {
        AllKinds kinds;
        const std::string bytes = AllAnswers(kinds.asked);
        ASSERT_TRUE(kinds.client->Feed(std::string_view(bytes).substr(0, cut)).has_value());
        ASSERT_TRUE(kinds.client->Feed(std::string_view(bytes).substr(cut)).has_value());
        kinds.ExpectAll();
        EXPECT_EQ(kinds.client->HeldBytes(), 0U);
    }
}

TEST(SftpClient, PacketsMayComeByteByByte) {
    AllKinds kinds;
    for (const char byte : AllAnswers(kinds.asked)) {
        ASSERT_TRUE(kinds.client->Feed(std::string_view(&byte, 1)).has_value());
    }
    kinds.ExpectAll();
}

TEST(SftpClient, IdsWrapAround) {
    const auto client = ReadyClient(testing::UsualExtensions(), 0xffffffff);
    Kept<SftpAttrs> last;
    Kept<SftpAttrs> first;
    client->Lstat("/a", last.Back());
    client->Lstat("/b", first.Back());
    const std::vector<PeerRequest> asked = TakeRequests(*client);
    EXPECT_EQ(asked[0].id, 0xffffffffU);
    EXPECT_EQ(asked[1].id, 0U);
    ASSERT_TRUE(
        client->Feed(PeerAttrs(0, FileAttrs(1)) + PeerAttrs(0xffffffff, FileAttrs(2))).has_value());
    EXPECT_TRUE(first.ok() && last.ok());
}

TEST(SftpClient, OutputIsCutAnywhereAndKeepsItsOrder) {
    const auto client = ReadyClient();
    Kept<Unit> done;
    std::string expected;
    for (int i = 0; i < 40; ++i) {
        const std::string data(20000 + static_cast<std::size_t>(i),
                               static_cast<char>('a' + i % 26));
        const FileBytes whole(data);
        client->Write("h", 0, whole, whole.view(), done.Back());
        expected += data;
    }
    std::string sent;
    std::size_t piece = 1;
    while (!client->Unsent().empty()) {
        const std::string_view out = client->Unsent().substr(0, piece);
        sent += out;
        client->Sent(out.size());
        piece = piece * 7 % 65521 + 1;
    }
    std::string data;
    for (const PeerRequest& request : testing::ParseRequests(sent))
        data += request.Data();
    EXPECT_EQ(data, expected);
    EXPECT_EQ(client->counters().bytes_out, sent.size() + 9);  // and INIT
    EXPECT_EQ(client->UnsentBytes(), 0U);
}

TEST(SftpClient, WakesOnceForAllThatIsSentTogether) {
    const auto client = ReadyClient();
    int wakes = 0;
    client->SetWake([&] { ++wakes; });
    Kept<SftpAttrs> attrs;
    client->Lstat("/a", attrs.Back());
    client->Lstat("/b", attrs.Back());
    EXPECT_EQ(wakes, 1);
    (void)TakeBytes(*client);
    client->Lstat("/c", attrs.Back());
    EXPECT_EQ(wakes, 2);
}

TEST(SftpClient, CountsChainsOfAnswersNotRequests) {
    const auto client = ReadyClient();
    const std::uint64_t before = client->RoundTrips();
    Kept<SftpAttrs> attrs;
    client->Lstat("/a", attrs.Back());
    client->Lstat("/b", attrs.Back());
    std::vector<PeerRequest> asked = TakeRequests(*client);
    EXPECT_EQ(client->RoundTrips() - before, 1U);
    ASSERT_TRUE(client->Feed(PeerAttrs(asked[0].id, FileAttrs(1))).has_value());
    client->Lstat("/c", attrs.Back());  // follows an answer, though /b is still out
    EXPECT_EQ(client->RoundTrips() - before, 2U);
    ASSERT_TRUE(client->Feed(PeerAttrs(asked[1].id, FileAttrs(1))).has_value());
    client->Lstat("/d", attrs.Back());  // follows an answer of the first flight: in the second
    EXPECT_EQ(client->RoundTrips() - before, 2U);
    Kept<Unit> closed;
    client->Close("h", SftpClient::Awaited::kNo, closed.Back());
    EXPECT_EQ(client->RoundTrips() - before, 2U);
    EXPECT_EQ(client->counters().requests, 5U);
}

TEST(SftpClient, FailAllTellsEveryoneOnceInOrder) {
    const auto client = ReadyClient();
    std::vector<int> told;
    for (int i = 0; i < 50; ++i) {
        client->Lstat("/a", [&told, i](const SftpAnswer<SftpAttrs>& answer) {
            EXPECT_EQ(answer.refusal().lost->code(), Errno{EHOSTUNREACH});
            told.push_back(i);
        });
    }
    client->FailAll(kCut);
    client->FailAll(kCut);
    ASSERT_EQ(told.size(), 50U);
    EXPECT_TRUE(std::is_sorted(told.begin(), told.end()));
    EXPECT_TRUE(client->Unsent().empty());
    EXPECT_FALSE(client->Feed("x").has_value());
}

TEST(SftpClient, RequestsOfAnEndedSessionFailOnTheSpot) {
    const auto client = ReadyClient();
    client->FailAll(kCut);
    Kept<SftpAttrs> attrs;
    client->Lstat("/a", attrs.Back());
    EXPECT_EQ(attrs.times, 1);
    EXPECT_EQ(attrs.status(), SftpStatus::kConnectionLost);
}

TEST(SftpClient, CallbacksMaySendWhileEveryoneIsBeingFailed) {
    const auto client = ReadyClient();
    int first = 0;
    int second = 0;
    for (int i = 0; i < 5; ++i) {
        client->Lstat("/a", [&](const SftpAnswer<SftpAttrs>&) {
            ++first;
            client->Lstat("/again", [&](const SftpAnswer<SftpAttrs>& answer) {
                EXPECT_TRUE(answer.refusal().lost.has_value());
                ++second;
            });
        });
    }
    client->FailAll(kCut);
    EXPECT_EQ(first, 5);
    EXPECT_EQ(second, 5);
    EXPECT_EQ(client->InFlight(), 0U);
}

TEST(SftpClient, CallbacksMaySendTheNextRequest) {
    const auto client = ReadyClient();
    Kept<std::string> data;
    client->Open("/a", kSftpRead, {},
                 [&](SftpAnswer<std::string> handle) { client->Read(*handle, 0, 4, data.Back()); });
    const std::vector<PeerRequest> open = TakeRequests(*client);
    ASSERT_TRUE(client->Feed(PeerHandle(open[0].id, "h")).has_value());
    const std::vector<PeerRequest> read = TakeRequests(*client);
    ASSERT_EQ(read.size(), 1U);
    ASSERT_TRUE(client->Feed(PeerData(read[0].id, "abcd")).has_value());
    EXPECT_EQ(**data.answer, "abcd");
}

TEST(SftpClient, CallbacksMayEndTheSession) {
    const auto client = ReadyClient();
    Kept<SftpAttrs> other;
    client->Lstat("/a", [&](const SftpAnswer<SftpAttrs>&) { client->FailAll(kCut); });
    client->Lstat("/b", other.Back());
    const std::vector<PeerRequest> asked = TakeRequests(*client);
    const Status fed =
        client->Feed(PeerAttrs(asked[0].id, FileAttrs(1)) + PeerAttrs(asked[1].id, FileAttrs(1)));
    EXPECT_FALSE(fed.has_value());
    EXPECT_EQ(other.times, 1);
    EXPECT_EQ(other.status(), SftpStatus::kConnectionLost);
}

TEST(SftpClient, CallbacksMayDropTheClient) {
    std::shared_ptr<SftpClient> client = ReadyClient();
    Kept<SftpAttrs> other;
    client->Lstat("/a", [&](const SftpAnswer<SftpAttrs>&) { client.reset(); });
    client->Lstat("/b", other.Back());
    const std::vector<PeerRequest> asked = TakeRequests(*client);
    (void)client->Feed(PeerAttrs(asked[0].id, FileAttrs(1)));
    EXPECT_EQ(client, nullptr);
    EXPECT_EQ(other.times, 1);  // by the destructor
}

TEST(SftpClient, TheDestructorTellsWhoeverWaits) {
    std::shared_ptr<SftpClient> client = ReadyClient();
    std::optional<Status> ready;
    auto starting = SftpClient::Make(2);
    starting->Start([&](Status status) { ready = std::move(status); });
    Kept<SftpAttrs> attrs;
    client->Lstat("/a", attrs.Back());
    client.reset();
    starting.reset();
    EXPECT_EQ(attrs.status(), SftpStatus::kConnectionLost);
    EXPECT_TRUE(ready && !ready->has_value());
}

TEST(SftpClient, ALinkLostInTheMiddleOfAPacketFailsItsReader) {
    const auto client = ReadyClient();
    Kept<std::string> data;
    client->Read("h", 0, 1000, data.Back());
    const std::vector<PeerRequest> asked = TakeRequests(*client);
    const std::string bytes = PeerData(asked[0].id, std::string(1000, 'x'));
    ASSERT_TRUE(client->Feed(std::string_view(bytes).substr(0, 500)).has_value());
    EXPECT_GT(client->HeldBytes(), 400U);
    client->FailAll(kCut);
    EXPECT_EQ(data.times, 1);
    EXPECT_EQ(data.status(), SftpStatus::kConnectionLost);
}

}  // namespace
}  // namespace sbxfs
