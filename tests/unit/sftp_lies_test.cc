// SftpFiles and SftpClient against a server that lies about each answer of each operation in each way there is
// (tests/fakes/lying_server.h): whoever asked is answered once or hears of the end of the session, what is kept is
// bounded, what is handed on is what it says it is, and a session that goes on is in step.
#include <gtest/gtest.h>

#include <cerrno>
#include <functional>
#include <map>

#include "base/log.h"
#include "fs/remote_paths.h"
#include "tests/fakes/lying_server.h"
#include "tests/unit/sftp_script.h"

namespace sbxfs::testing {
namespace {

struct LyingCase;
using Operation = std::function<void(LyingCase&)>;

// One session, an operation on it, and what became of that.
struct LyingCase {
    ManualLoop loop;
    std::shared_ptr<SftpClient> client;
    std::shared_ptr<SftpFiles> files;
    HonestServer server;
    RemoteFilePtr file;
    RemoteFilePtr target;
    int asked = 0;
    int answered = 0;

    explicit LyingCase(bool bare) {
        client = ReadyClient(bare ? std::vector<std::pair<std::string, std::string>>{}
                                  : UsualExtensions());
        files = SftpFiles::Make(client, loop);
        files->BoundListings(2000, 1 << 20);
        for (RemoteFilePtr* to : {&file, &target}) {
            files->Open("/open", {.read = true, .write = true}, [to](Result<OpenedFile> opened) {
                if (opened) *to = opened->file;
            });
            Serve();
        }
        CHECK(file != nullptr && target != nullptr);
    }
    ~LyingCase() {
        file.reset();
        target.reset();
        loop.Run();
        files.reset();
        client.reset();
        loop.Clear();
    }
    void Serve() {
        for (loop.Run();; loop.Run()) {
            const auto requests = TakeRequests(*client);
            if (requests.empty()) return;
            for (const PeerRequest& request : requests)
                CHECK(client->Feed(server.Answer(request)).has_value());
        }
    }
    template <class T>
    UniqueFunction<void(Result<T>)> Back(std::function<void(const T&)> check = {}) {
        ++asked;
        return [this, check](Result<T> value) {
            ++answered;
            if (!value) {
                EXPECT_GT(static_cast<int>(value.error().code()), 0);
                EXPECT_FALSE(value.error().what().empty());
            } else if (check) {
                check(*value);
            }
        };
    }
    UniqueFunction<void(Result<RemoteStat>)> BackStat() {
        return Back<RemoteStat>([](const RemoteStat& stat) {
            EXPECT_NE(stat.mode & S_IFMT, 0U);
            EXPECT_LE(stat.size, static_cast<std::uint64_t>(INT64_MAX));
        });
    }
};

const std::map<std::string, Operation>& Operations() {
    static const std::map<std::string, Operation> operations = {
        {"Lstat", [](LyingCase& c) { c.files->Lstat("/a", c.BackStat()); }},
        {"List",
         [](LyingCase& c) {
             c.files->List("/d", c.Back<std::vector<RemoteEntry>>([](const auto& entries) {
                 for (const RemoteEntry& entry : entries) {
                     EXPECT_TRUE(IsComponent(entry.name));
                     EXPECT_NE(entry.stat.mode & S_IFMT, 0U);
                 }
             }));
         }},
        {"ReadLink",
         [](LyingCase& c) {
             c.files->ReadLink("/link", c.Back<std::string>([](const std::string& text) {
                 EXPECT_FALSE(ContainLink(text, "/a", "/").starts_with('/'));
                 EXPECT_EQ(ContainLink(text, "/", "/").find(".."), std::string::npos) << text;
             }));
         }},
        {"SetStat", [](LyingCase& c) { c.files->SetStat("/a", {.mode = 0600}, c.BackStat()); }},
        {"SetStat of times",
         [](LyingCase& c) {
             c.files->SetStat("/a", {.uid = 1, .gid = 2, .atime = 5, .mtime = 6}, c.BackStat());
         }},
        {"Truncate",
         [](LyingCase& c) { c.files->SetStat("/a", {.size = 3, .mode = 0600}, c.BackStat()); }},
        {"MakeDir", [](LyingCase& c) { c.files->MakeDir("/newd", 0751, c.BackStat()); }},
        {"RemoveDir", [](LyingCase& c) { c.files->RemoveDir("/d", c.Back<Unit>()); }},
        {"Unlink", [](LyingCase& c) { c.files->Unlink("/a", c.Back<Unit>()); }},
        {"Symlink", [](LyingCase& c) { c.files->Symlink("to", "/newlink", c.BackStat()); }},
        {"Link", [](LyingCase& c) { c.files->Link("/a", "/b", c.BackStat()); }},
        {"Rename",
         [](LyingCase& c) {
             c.files->Rename("/a", "/b", RemoteFiles::Replace::kYes, c.Back<Unit>());
         }},
        {"Rename without replacing",
         [](LyingCase& c) {
             c.files->Rename("/a", "/absent", RemoteFiles::Replace::kNo, c.Back<Unit>());
         }},
        {"Statfs", [](LyingCase& c) { c.files->Statfs("/", c.Back<RemoteStatfs>()); }},
        {"Open", [](LyingCase& c) { c.files->Open("/a", {.read = true}, c.Back<OpenedFile>()); }},
        {"Create",
         [](LyingCase& c) {
             c.files->Open("/a", {.write = true, .create = true, .truncate = true, .mode = 0600},
                           c.Back<OpenedFile>());
         }},
        {"Create alone",
         [](LyingCase& c) {
             c.files->Open("/a", {.write = true, .create = true, .exclusive = true},
                           c.Back<OpenedFile>());
         }},
        {"Append",
         [](LyingCase& c) {
             c.files->Open("/a", {.write = true, .append = true, .create = true},
                           c.Back<OpenedFile>());
         }},
        {"Read",
         [](LyingCase& c) {
             c.files->Read(c.file, {2, 2500}, c.Back<std::string>([](const std::string& bytes) {
                 EXPECT_LE(bytes.size(), 2500U);
             }));
         }},
        {"Write",
         [](LyingCase& c) {
             c.files->Write(c.file, 4, FileBytes(std::string(40000, 'w')), c.Back<Unit>());
         }},
        {"Copy",
         [](LyingCase& c) {
             c.files->Copy(c.file, {0, 10}, c.target, 5,
                           c.Back<std::uint64_t>([](std::uint64_t n) { EXPECT_LE(n, 10U); }));
         }},
        {"FileStat", [](LyingCase& c) { c.files->FileStat(c.file, c.BackStat()); }},
        {"SetFileStat",
         [](LyingCase& c) { c.files->SetFileStat(c.file, {.size = 1}, c.BackStat()); }},
        {"Sync", [](LyingCase& c) { c.files->Sync(c.file, c.Back<Unit>()); }},
        {"Close", [](LyingCase& c) { c.files->Close(c.file, c.Back<Unit>()); }},
    };
    return operations;
}

enum class Telling { kOnce, kAlways };

// Runs `what`; the answer to request number `nth` is lie number `number`, or all from there on are. How many lies there
// are about it, 0 when there is no such request.
std::size_t RunCase(const Operation& what, bool bare, std::size_t nth, std::size_t number,
                    Telling telling) {
    LyingCase c(bare);
    what(c);
    std::size_t count = 0;
    std::size_t lies = 0;
    bool ended = false;
    std::string what_was_said;
    for (int round = 0; !ended; ++round) {
        c.loop.Run();
        const std::vector<PeerRequest> requests = TakeRequests(*c.client);
        if (requests.empty()) break;
        // It may ask on for as long as there is something to ask; nothing asked here is longer than that.
        if (round > 3000) {
            ADD_FAILURE() << "never comes to an end";
            break;
        }
        for (const PeerRequest& request : requests) {
            if (ended) break;
            const std::string truth = c.server.Answer(request);
            std::string said = truth;
            if (count == nth || (telling == Telling::kAlways && count > nth)) {
                const std::uint32_t other =
                    requests.back().id == request.id ? requests.front().id : requests.back().id;
                Lies all = LieAbout(truth, other, "h0", number);
                if (count == nth) lies = all.count;
                if (number < all.count) {
                    said = std::move(all.told.bytes);
                    what_was_said = std::move(all.told.what);
                }
            }
            ++count;
            ended = !c.client->Feed(said).has_value();
            EXPECT_LE(c.client->HeldBytes(), kSftpMaxPacket + 4);
        }
    }
    c.loop.Run();
    const bool usable = c.client->Usable();
    EXPECT_NE(usable, ended);
    if (usable && c.answered == c.asked && c.client->HeldBytes() == 0 &&
        c.client->InFlight() == 0) {
        // It goes on, and in step.
        bool seen = false;
        c.files->Lstat("/a", [&](const Result<RemoteStat>& stat) { seen = stat.has_value(); });
        c.Serve();
        EXPECT_TRUE(seen);
    }
    c.client->FailAll(Error(Errno{EHOSTUNREACH}, "cut", Blame::kRemote));
    c.loop.Run();
    EXPECT_EQ(c.answered, c.asked) << what_was_said;
    if (::testing::Test::HasFailure()) std::cout << what_was_said << '\n';
    return lies;
}

// A lie in answer to a CLOSE that nobody waits for is a warning in the log.
class SilentLog final : public LogSink {
 public:
    SilentLog() { SetLogSink(this); }
    ~SilentLog() override { SetLogSink(nullptr); }
    void Write(LogLevel, std::string_view, std::span<const LogField>) override {}
};

void TellEveryLie(Telling telling) {
    const SilentLog silent;
    std::size_t cases = 0;
    for (const auto& [name, what] : Operations()) {
        SCOPED_TRACE(name);
        for (const bool bare : {false, true}) {
            SCOPED_TRACE(bare ? "a server without extensions" : "OpenSSH's extensions");
            std::size_t lies = 1;
            for (std::size_t nth = 0; lies > 0; ++nth) {
                SCOPED_TRACE("request " + std::to_string(nth));
                lies = 1;
                for (std::size_t number = 0; number < lies; ++number) {
                    lies = RunCase(what, bare, nth, number, telling);
                    ++cases;
                    if (::testing::Test::HasFailure()) {
                        GTEST_FAIL() << "lie " << number;
                    }
                }
            }
        }
    }
    std::cout << cases << " lies told\n";
    EXPECT_GT(cases, 10000U);
}

TEST(SftpLies, EachToldOnceIsAnsweredOrEndsTheSession) {
    TellEveryLie(Telling::kOnce);
}

TEST(SftpLies, EachToldEverAgainIsAnsweredOrEndsTheSession) {
    TellEveryLie(Telling::kAlways);
}

// VERSION: its number, its extensions, and what they claim.
TEST(SftpLies, VersionsThatLieEndTheSessionOrAreNotBelieved) {
    const std::string truth = PeerVersion(UsualExtensions());
    std::size_t cases = 0;
    std::size_t refused = 0;
    const auto hear = [&](const std::string& bytes) {
        ++cases;
        const auto client = SftpClient::Make(1);
        int heard = 0;
        bool good = false;
        client->Start([&](const Status& status) {
            ++heard;
            good = status.has_value();
        });
        (void)TakeBytes(*client);
        const bool fed = client->Feed(bytes).has_value();
        EXPECT_LE(client->HeldBytes(), kSftpMaxPacket + 4);
        if (!fed) {
            ++refused;
            EXPECT_EQ(heard, 1);
            EXPECT_EQ(good,
                      bytes.starts_with(truth));  // what comes behind a good one ends it later
        }
        client->FailAll(Error(Errno{EHOSTUNREACH}, "cut"));
        EXPECT_EQ(heard, 1);
    };
    for (const std::uint32_t version : {0U, 1U, 2U, 3U, 4U, 5U, 6U, 0x7fffffffU, ~0U})
        hear(PeerVersion(UsualExtensions(), version));
    for (std::size_t at = 0; at < truth.size(); ++at) {
        for (const int value : {0, 1, 3, 0x7f, 0x80, 0xff}) {
            std::string lie = truth;
            lie[at] = static_cast<char>(value);
            hear(lie);
        }
        hear(truth.substr(0, at));
    }
    for (const std::string& text : HostileTexts()) {
        hear(PeerVersion({{text, "1"}}));
        hear(PeerVersion({{"posix-rename@openssh.com", text}}));
    }
    hear(truth + truth);
    std::cout << cases << " versions, " << refused << " refused\n";
    EXPECT_GT(refused, 100U);
}

// limits@openssh.com: what is claimed there never makes an answer or a request larger than we hold.
TEST(SftpLies, LimitsThatLieAreNotBelieved) {
    auto extensions = UsualExtensions();
    extensions.emplace_back("limits@openssh.com", "1");
    const std::vector<std::uint64_t> numbers = {
        0, 1, 9, 1024, 32768, 34000, 261120, 1U << 31, ~std::uint64_t{0} >> 1, ~std::uint64_t{0}};
    std::size_t cases = 0;
    for (std::size_t field = 0; field < 4; ++field) {
        for (const std::uint64_t number : numbers) {
            const auto client = ReadyClient(extensions);
            bool answered = false;
            client->Lstat("/a", [&](const SftpAnswer<SftpAttrs>&) { answered = true; });
            HonestServer server;
            for (const PeerRequest& request : TakeRequests(*client)) {
                std::vector<std::uint64_t> said = {262144, 261120, 261120, 1019};
                said[field] = number;
                ASSERT_TRUE(client
                                ->Feed(request.type == SftpType::kExtended
                                           ? PeerNumbers(request.id, said)
                                           : server.Answer(request))
                                .has_value());
            }
            EXPECT_TRUE(answered);
            EXPECT_LE(client->limits().packet, kSftpMaxPacket);
            EXPECT_GE(client->limits().read, 32768U);
            EXPECT_LE(client->limits().read, kSftpMaxPacket);
            EXPECT_GE(client->limits().write, 32768U);
            EXPECT_LT(client->limits().write, client->limits().packet);
            ++cases;
        }
    }
    std::cout << cases << " limits\n";
}

}  // namespace
}  // namespace sbxfs::testing
