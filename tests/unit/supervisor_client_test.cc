// The daemon's end of the supervisor's protocol, fed with bytes: cut anywhere, and hostile.
#include "sandbox/supervisor_client.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <optional>
#include <random>

namespace sbxfs {
namespace {

namespace sup = supervisor;
using Frame = sup::Writer<std::string>;

const std::string kMagic(sup::kMagic, sizeof sup::kMagic - 1);

sup::Text ToText(std::string_view text) {
    return {text.data(), static_cast<std::uint32_t>(text.size())};
}

class Heard final : public SupervisorListener {
 public:
    void OnKnown(EventNumber n, bool done, OutputSizes sizes) override {
        Note("known " + ToString(n) + (done ? " done " : " running ") + std::to_string(sizes.out));
    }
    void OnKnownEnd() override { Note("known end"); }
    void OnStarted(EventNumber n, std::int64_t ms) override {
        Note("started " + ToString(n) + " " + std::to_string(ms));
    }
    void OnOutput(EventNumber n, OutputStream stream, std::uint64_t offset,
                  std::string bytes) override {
        Note("output " + ToString(n) + (stream == OutputStream::kStdout ? " out " : " err ") +
             std::to_string(offset) + " " + bytes);
    }
    void OnHole(EventNumber n, OutputStream, std::uint64_t offset, std::uint64_t size) override {
        Note("hole " + ToString(n) + " " + std::to_string(offset) + "+" + std::to_string(size));
    }
    void OnDone(EventNumber n, const CommandEnd& end) override {
        Note("done " + ToString(n) + " " + std::to_string(end.code) + " " + end.reason);
        last = end;
    }
    void OnCommandError(EventNumber n, const Error& error) override {
        Note("error " + ToString(n) + " " + error.what());
    }
    void Note(std::string what) { log.push_back(std::move(what)); }
    std::vector<std::string> log;
    std::optional<CommandEnd> last;
};

std::string HelloOk(std::uint64_t spool = 5, std::uint32_t protocol = sup::kProtocol) {
    std::string out;
    {
        Frame frame(out, sup::Type::kHelloOk);
        sup::HelloOkFields fields;
        fields.protocol = protocol;
        fields.spool = spool;
        fields.clock_ms = 1000;
        fields.machine = ToText("x86_64");
        fields.boot = 9;
        sup::PutHelloOkFields(frame, fields);
    }
    return out;
}

std::string DoneFrame(sup::Outcome outcome, std::uint32_t code, std::string_view reason = "") {
    std::string out;
    {
        Frame frame(out, sup::Type::kDone);
        sup::DoneFields fields;
        fields.n = 1;
        fields.outcome = outcome;
        fields.code = code;
        fields.duration_us = UINT64_MAX;
        fields.started_ms = UINT64_MAX;
        fields.reason = ToText(reason);
        sup::PutDoneFields(frame, fields);
    }
    return out;
}

template <class... Numbers>
std::string Simple(sup::Type type, Numbers... numbers) {
    std::string out;
    {
        Frame frame(out, type);
        (..., (sizeof(numbers) == 8   ? frame.U64(static_cast<std::uint64_t>(numbers))
               : sizeof(numbers) == 4 ? frame.U32(static_cast<std::uint32_t>(numbers))
                                      : frame.U8(static_cast<std::uint8_t>(numbers))));
    }
    return out;
}

std::string Output(std::uint64_t n, std::uint8_t stream, std::uint64_t offset,
                   std::string_view bytes) {
    std::string out;
    {
        Frame frame(out, sup::Type::kOutput);
        frame.U64(n).U8(stream).U64(offset).String(ToText(bytes));
    }
    return out;
}

class SupervisorBytes : public ::testing::Test {
 protected:
    SupervisorBytes() { Renew(); }
    void Renew() {
        heard_.log.clear();
        client_.emplace(heard_, [this](const SupervisorHello& hello) {
            heard_.Note("hello " + std::to_string(hello.spool_id));
        });
        client_->Hello(3);
    }
    void Greet() {
        ASSERT_TRUE(client_->Feed(kMagic + HelloOk()));
        (void)TakeOut();
        heard_.log.clear();
    }
    std::string TakeOut() {
        std::string out(client_->Unsent());
        client_->Sent(out.size());
        return out;
    }
    Heard heard_;
    std::optional<SupervisorClient> client_;
    std::string frame_;  // what TakeOut()'s fields point into
};

TEST_F(SupervisorBytes, AConversationIsTheSameHoweverItIsCut) {
    const std::string bytes =
        "motd of the day\n" + kMagic + HelloOk() +
        Simple(sup::Type::kKnown, std::uint64_t{1}, std::uint8_t{1}, std::uint64_t{3},
               std::uint64_t{0}) +
        Simple(sup::Type::kKnownEnd) +
        Simple(sup::Type::kStarted, std::uint64_t{1}, std::uint32_t{77}, std::uint64_t{123}) +
        Output(1, 1, 0, "abc") + Output(1, 2, 0, "err") +
        DoneFrame(sup::Outcome::kExited, 3, "why");
    ASSERT_TRUE(client_->Feed(bytes));
    const std::vector<std::string> whole = heard_.log;
    EXPECT_EQ(whole, (std::vector<std::string>{"hello 5", "known 1 running 3", "known end",
                                               "started 1 123", "output 1 out 0 abc",
                                               "output 1 err 0 err", "done 1 3 why"}));
    EXPECT_EQ(client_->Noise(), "motd of the day\n");
    for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
        Renew();
        ASSERT_TRUE(client_->Feed(std::string_view(bytes).substr(0, cut)));
        ASSERT_TRUE(client_->Feed(std::string_view(bytes).substr(cut)));
        ASSERT_EQ(heard_.log, whole) << cut;
    }
    Renew();
    for (const char byte : bytes)
        ASSERT_TRUE(client_->Feed(std::string_view(&byte, 1)));
    EXPECT_EQ(heard_.log, whole);
}

TEST_F(SupervisorBytes, NoiseBeforeTheMagicIsBounded) {
    EXPECT_TRUE(client_->Feed(std::string(60'000, 'x')));
    EXPECT_FALSE(client_->Recognised());
    const Status status = client_->Feed(std::string(60'000, 'x'));
    ASSERT_FALSE(status);
    EXPECT_NE(status.error().what().find("start-up files"), std::string::npos);
}

TEST_F(SupervisorBytes, TheFirstViolationEndsTheChannel) {
    const auto raw = [](std::uint32_t length, char type) {
        std::string out(4, '\0');
        for (unsigned i = 0; i < 4; ++i)
            out[i] = static_cast<char>((length >> (8 * i)) & 0xff);
        return out + type;
    };
    const std::vector<std::pair<const char*, std::string>> hostile = {
        {"a length of 0", raw(0, 'x')},
        {"an absurd length", raw(sup::kMaxFrame + 1, 'x')},
        {"the largest length", raw(UINT32_MAX, 'x')},
        {"an unknown type", raw(1, '\xff')},
        {"a request of ours", Simple(sup::Type::kStart)},
        {"hello twice", HelloOk()},
        {"a short Known", Simple(sup::Type::kKnown, std::uint64_t{1})},
        {"a state that is none", Simple(sup::Type::kKnown, std::uint64_t{1}, std::uint8_t{9},
                                        std::uint64_t{0}, std::uint64_t{0})},
        {"a short Started", Simple(sup::Type::kStarted, std::uint64_t{1})},
        {"a stream that is none", Output(1, 3, 0, "x")},
        {"an output that is too long", Output(1, 1, 0, std::string(sup::kMaxOutputChunk + 1, 'x'))},
        {"an output behind the end of numbers", Output(1, 1, UINT64_MAX, "xx")},
        {"a hole behind the end of numbers",
         Simple(sup::Type::kHole, std::uint64_t{1}, std::uint8_t{1}, ~std::uint64_t{0},
                std::uint64_t{2})},
        {"an outcome that is none", DoneFrame(static_cast<sup::Outcome>(99), 0)},
        {"a code that is none", DoneFrame(sup::Outcome::kExited, 5000)},
        {"an answer to nobody", Simple(sup::Type::kPong, std::uint32_t{99})},
        {"an answer without a number", Simple(sup::Type::kPong)},
        {"an error that is none", Simple(sup::Type::kError, std::uint32_t{0}, std::uint64_t{1},
                                         std::uint32_t{0}, std::uint32_t{0})},
        {"a text longer than its frame",
         Simple(sup::Type::kOutput, std::uint64_t{1}, std::uint8_t{1}, std::uint64_t{0},
                std::uint32_t{4'000'000'000})},
    };
    for (const auto& [what, bytes] : hostile) {
        Renew();
        Greet();
        const Status status = client_->Feed(bytes);
        ASSERT_FALSE(status) << what;
        EXPECT_TRUE(heard_.log.empty()) << what << ": " << heard_.log.front();
        client_->FailAll(status.error());
    }
}

TEST_F(SupervisorBytes, NothingButHelloOrAnErrorMayComeFirst) {
    EXPECT_FALSE(client_->Feed(kMagic + Simple(sup::Type::kKnownEnd)));
    Renew();
    EXPECT_FALSE(client_->Feed(kMagic + HelloOk(0)));
    Renew();
    EXPECT_FALSE(client_->Feed(kMagic + HelloOk(5, sup::kProtocol + 1)));
    Renew();
    std::string stale;
    {
        Frame frame(stale, sup::Type::kError);
        frame.U32(0).U64(0).U32(ESTALE).String(ToText("an older epoch\n"));
    }
    const Status status = client_->Feed(kMagic + stale);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code(), Errno{ESTALE});
    EXPECT_EQ(status.error().what(), "supervisor: an older epoch\\x0a");
}

TEST_F(SupervisorBytes, NumbersAreKeptWhereTheyCanBeShown) {
    Greet();
    ASSERT_TRUE(client_->Feed(DoneFrame(sup::Outcome::kSignaled, 9, std::string(5000, '\n'))));
    EXPECT_EQ(heard_.last->started_ms, 253'402'300'799'000);
    EXPECT_EQ(heard_.last->duration_us, INT64_MAX);
    EXPECT_LT(heard_.last->reason.size(), 1100U);
    EXPECT_EQ(heard_.last->reason.find('\n'), std::string::npos);
}

TEST_F(SupervisorBytes, AnAnswerOfTheWrongTypeOrAboutSomethingElseIsAViolation) {
    Greet();
    std::optional<Status> pong;
    client_->Ping([&](Status status) { pong = std::move(status); });
    EXPECT_FALSE(client_->Feed(
        Simple(sup::Type::kTimerOk, std::uint32_t{1}, std::uint64_t{0}, std::uint64_t{0})));
    EXPECT_FALSE(pong);
    client_->FailAll(Error(Errno{EHOSTUNREACH}, "gone"));
    ASSERT_TRUE(pong);
    EXPECT_EQ(pong->error().code(), Errno{EHOSTUNREACH});

    Renew();
    Greet();
    bool failed = false;
    client_->StatBatch({"/a", "/b"}, [&](const auto& stats) { failed = !stats.has_value(); });
    // Of one path, and with an absurd count.
    (void)client_->Feed(Simple(sup::Type::kStatOk, std::uint32_t{1}, std::uint32_t{1}));
    EXPECT_TRUE(failed);
    failed = false;
    client_->Processes([&](const auto& processes) { failed = !processes.has_value(); });
    (void)client_->Feed(
        Simple(sup::Type::kProcessesOk, std::uint32_t{2}, std::uint32_t{0xffffffff}));
    EXPECT_TRUE(failed);
    failed = false;
    client_->Environment([&](const auto& words) { failed = !words.has_value(); });
    EXPECT_FALSE(client_->Feed(
        Simple(sup::Type::kEnvironOk, std::uint32_t{3}, std::uint32_t{2}, std::uint32_t{77})));
    EXPECT_TRUE(failed);
}

// What the supervisor says it read of one file.
std::string FetchOk(std::uint32_t request, std::uint64_t size, std::uint8_t whole,
                    std::string_view bytes, std::uint32_t count = 1) {
    std::string out;
    {
        Frame frame(out, sup::Type::kFetchOk);
        frame.U32(request).U32(count);
        sup::StatFields fields;
        fields.size = size;
        fields.mode = S_IFREG | 0644;
        sup::PutStatFields(frame, fields);
        frame.U64(0).U8(whole).String(ToText(bytes));
    }
    return out;
}

TEST_F(SupervisorBytes, FetchedFilesAreAsLargeAsTheySayAndNoLargerThanWanted) {
    Greet();
    std::optional<Result<std::vector<FetchedFile>>> got;
    const auto fetch = [&] {
        got.reset();
        client_->Fetch({"/a"}, 4,
                       [&](Result<std::vector<FetchedFile>> files) { got = std::move(files); });
    };
    fetch();
    ASSERT_TRUE(client_->Feed(FetchOk(1, 3, 1, "abc")));
    ASSERT_TRUE(got && *got);
    EXPECT_EQ((**got)[0].bytes, "abc");
    EXPECT_EQ((**got)[0].identity.size, 3U);
    fetch();
    ASSERT_TRUE(client_->Feed(FetchOk(2, 3, 0, "")));
    ASSERT_TRUE(got && *got);
    EXPECT_FALSE((**got)[0].bytes);
    std::uint32_t request = 3;
    for (const std::string& bad :
         {FetchOk(3, 5, 1, "abcde"), FetchOk(4, 3, 1, "ab"), FetchOk(5, 3, 0, "abc"),
          FetchOk(6, 3, 1, "abc", 2), FetchOk(7, 3, 1, "abc", 0)}) {
        fetch();
        (void)client_->Feed(bad);
        ASSERT_TRUE(got) << request;
        EXPECT_FALSE(*got) << request;
        ++request;
    }
}

// It does not know the questions, and would end the connection.
TEST_F(SupervisorBytes, AnOlderOneSaysThatItFetchesNothingAndStoresNothing) {
    for (const std::uint32_t protocol : {1U, 2U, 3U}) {
        std::optional<SupervisorHello> said;
        client_.emplace(heard_, [&](const SupervisorHello& hello) { said = hello; });
        ASSERT_TRUE(client_->Feed(kMagic + HelloOk(5, protocol)));
        ASSERT_TRUE(said);
        EXPECT_EQ(said->fetches, protocol >= 2) << protocol;
        EXPECT_EQ(said->stores, protocol >= 3) << protocol;
    }
}

std::string StoreOk(std::uint32_t request, std::uint32_t error, std::uint8_t made,
                    std::uint32_t mode = S_IFREG | 0640, std::uint32_t file_error = 0) {
    std::string out;
    {
        Frame frame(out, sup::Type::kStoreOk);
        sup::StoreOkFields fields;
        fields.request = request;
        fields.error = error;
        fields.made = made;
        fields.file.error = file_error;
        fields.file.mode = mode;
        fields.file.ino = 12;
        fields.file.size = 5;
        fields.file.birth_ns = 77;
        sup::PutStoreOkFields(frame, fields);
    }
    return out;
}

TEST_F(SupervisorBytes, AStoreSaysAllOfTheFileInOneFrame) {
    Greet();
    StoreRequest request;
    request.path = "/a/b";
    request.mode = 06751;
    request.bytes = std::string("by\0es", 5);
    const auto said = [&] {
        client_->Store(request, [](const Result<StoredFile>&) {});
        frame_ = TakeOut();
        sup::Reader reader(frame_.data(), frame_.size());
        EXPECT_EQ(reader.U32(), frame_.size() - 4);
        EXPECT_EQ(static_cast<sup::Type>(reader.U8()), sup::Type::kStore);
        const sup::StoreFields fields = sup::GetStoreFields(reader);
        EXPECT_TRUE(reader.at_end());
        return fields;
    };
    sup::StoreFields fields = said();
    EXPECT_EQ(fields.request, 1U);
    EXPECT_EQ(fields.flags, 0U);
    EXPECT_EQ(fields.mode, 06751U);
    EXPECT_EQ(fields.times, 0U);
    EXPECT_EQ(std::string(fields.path.data, fields.path.size), "/a/b");
    EXPECT_EQ(std::string(fields.bytes.data, fields.bytes.size), std::string("by\0es", 5));
    request.sync = true;
    request.atime = -1;
    EXPECT_EQ(said().times, 0U);  // only both
    request.mtime = std::int64_t{1} << 40;
    fields = said();
    EXPECT_EQ(fields.flags, sup::kStoreSync);
    EXPECT_EQ(fields.times, 1U);
    EXPECT_EQ(fields.atime, -1);
    EXPECT_EQ(fields.mtime, std::int64_t{1} << 40);
    client_->FailAll(Error(Errno{EHOSTUNREACH}, "gone"));
}

TEST_F(SupervisorBytes, AStoreIsDoneOrNotMadeOrMadeInPart) {
    Greet();
    std::optional<Result<StoredFile>> got;
    const auto store = [&] {
        got.reset();
        client_->Store({.path = "/a", .bytes = "bytes"},
                       [&](Result<StoredFile> stored) { got = std::move(stored); });
    };
    store();
    ASSERT_TRUE(client_->Feed(StoreOk(1, 0, 1)));
    ASSERT_TRUE(got && *got);
    EXPECT_EQ((*got)->error, 0);
    EXPECT_TRUE((*got)->made);
    EXPECT_EQ((*got)->identity.ino, 12U);
    EXPECT_EQ((*got)->identity.mode, S_IFREG | 0640U);
    EXPECT_EQ((*got)->identity.birth_ns, 77);
    store();
    ASSERT_TRUE(client_->Feed(StoreOk(2, EEXIST, 0)));
    ASSERT_TRUE(got && *got);
    EXPECT_EQ((*got)->error, EEXIST);
    EXPECT_FALSE((*got)->made);
    EXPECT_EQ((*got)->identity.ino, 0U);
    store();
    ASSERT_TRUE(client_->Feed(StoreOk(3, ENOSPC, 1)));
    ASSERT_TRUE(got && *got);
    EXPECT_EQ((*got)->error, ENOSPC);
    EXPECT_TRUE((*got)->made);
    EXPECT_EQ((*got)->identity.size, 5U);
    store();  // it could not be looked at
    ASSERT_TRUE(client_->Feed(StoreOk(4, EIO, 1, 0, ESTALE)));
    ASSERT_TRUE(got && *got);
    EXPECT_EQ((*got)->identity.error, ESTALE);
    store();
    client_->FailAll(Error(Errno{EHOSTUNREACH}, "gone"));
    ASSERT_TRUE(got && !*got);
    EXPECT_EQ(got->error().code(), Errno{EHOSTUNREACH});
}

TEST_F(SupervisorBytes, ARenameIsAnsweredByAnErrno) {
    Greet();
    std::optional<Result<int>> got;
    const auto keep = [&](Result<int> error) { got = std::move(error); };
    const auto answer = [](std::uint32_t request, std::uint32_t error) {
        std::string out;
        Frame(out, sup::Type::kRenameOk).U32(request).U32(error);
        return out;
    };
    client_->Rename({"/a", "/b", false}, keep);
    const std::string frame = TakeOut();
    sup::Reader reader(frame.data() + 4, frame.size() - 4);
    EXPECT_EQ(static_cast<sup::Type>(reader.U8()), sup::Type::kRename);
    EXPECT_EQ(reader.U32(), 1U);
    EXPECT_EQ(reader.U8(), 0U);
    const sup::Text from = reader.String();
    const sup::Text to = reader.String();
    EXPECT_TRUE(reader.at_end());
    EXPECT_EQ(std::string(from.data, from.size), "/a");
    EXPECT_EQ(std::string(to.data, to.size), "/b");
    ASSERT_TRUE(client_->Feed(answer(1, EEXIST)));
    ASSERT_TRUE(got && *got);
    EXPECT_EQ(**got, EEXIST);
    client_->Rename({"/a", "/b"}, keep);
    ASSERT_TRUE(client_->Feed(answer(2, 0)));
    EXPECT_EQ(**got, 0);
    client_->Rename({"/a", "/b"}, keep);
    EXPECT_FALSE(client_->Feed(answer(3, 4096)));
}

TEST_F(SupervisorBytes, AStoreThatCannotBeTrueEndsTheChannel) {
    std::string trailing = StoreOk(1, 0, 1) + "x";
    ++trailing[0];
    const std::string whole = StoreOk(1, 0, 1);
    std::string cut = whole.substr(0, whole.size() - 1);
    --cut[0];
    for (const auto& [what, bytes] : std::vector<std::pair<const char*, std::string>>{
             {"done and not made", StoreOk(1, 0, 0)},
             {"half made", StoreOk(1, 0, 2)},
             {"no errno", StoreOk(1, 4096, 1)},
             {"no errno of the file", StoreOk(1, EIO, 1, 0, 5000)},
             {"a directory", StoreOk(1, 0, 1, S_IFDIR | 0755)},
             {"more than there is", trailing},
             {"less than there is", cut}}) {
        Renew();
        Greet();
        int answers = 0;
        client_->Store({.path = "/a", .bytes = "b"},
                       [&, what = what](const Result<StoredFile>& stored) {
                           ++answers;
                           EXPECT_FALSE(stored) << what;
                       });
        EXPECT_FALSE(client_->Feed(bytes)) << what;
        client_->FailAll(Error(Errno{EHOSTUNREACH}, "gone"));
        EXPECT_EQ(answers, 1) << what;
    }
}

// What had gone out stayed in front of what had not until all had; moved at each piece it would be a minute of work.
TEST_F(SupervisorBytes, ManyStoresThatWaitGoOutInPiecesAsTheyCame) {
    Greet();
    StoreRequest request;
    request.path = "/a";
    std::size_t put = 0;
    std::string expected;
    std::string all;
    const auto store = [&] {
        request.bytes = std::string(sup::kMaxStored, static_cast<char>('a' + put++ % 26));
        client_->Store(request, [](const Result<StoredFile>&) {});
        expected += request.bytes.view();
    };
    const auto send = [&](std::size_t most) {
        const std::size_t part = std::min(client_->Unsent().size(), most);
        all += client_->Unsent().substr(0, part);
        client_->Sent(part);
    };
    for (int i = 0; i < 60; ++i)
        store();
    for (int i = 0; i < 60; ++i) {
        store();
        while (!client_->Unsent().empty() && all.size() < expected.size() - 30 * sup::kMaxStored)
            send(1777);
    }
    while (!client_->Unsent().empty())
        send(4099);
    std::string heard;
    for (std::size_t at = 0; at < all.size();) {
        sup::Reader reader(all.data() + at, all.size() - at);
        const std::uint32_t length = reader.U32();
        EXPECT_EQ(static_cast<sup::Type>(reader.U8()), sup::Type::kStore);
        const sup::StoreFields fields = sup::GetStoreFields(reader);
        ASSERT_TRUE(reader.ok());
        heard.append(fields.bytes.data, fields.bytes.size);
        at += 4 + length;
    }
    EXPECT_TRUE(heard == expected);
    client_->FailAll(Error(Errno{EHOSTUNREACH}, "gone"));
}

TEST_F(SupervisorBytes, AnAnswerMayAskTheNextQuestion) {
    Greet();
    int answers = 0;
    client_->Ping([&](const Status&) {
        ++answers;
        client_->Ping([&](const Status&) { ++answers; });
    });
    ASSERT_TRUE(client_->Feed(Simple(sup::Type::kPong, std::uint32_t{1}) +
                              Simple(sup::Type::kPong, std::uint32_t{2})));
    EXPECT_EQ(answers, 2);
}

TEST_F(SupervisorBytes, WhatIsSentCanBeSentInPieces) {
    Greet();
    StartRequest request;
    request.n = EventNumber{7};
    request.script = std::string(100'000, 's');
    request.env = {{"A", "1"}};
    client_->Start(request);
    std::string all;
    while (!client_->Unsent().empty()) {
        const std::size_t part = std::min<std::size_t>(client_->Unsent().size(), 777);
        all += client_->Unsent().substr(0, part);
        client_->Sent(part);
    }
    sup::Reader reader(all.data(), all.size());
    EXPECT_EQ(reader.U32(), all.size() - 4);
    EXPECT_EQ(static_cast<sup::Type>(reader.U8()), sup::Type::kStart);
    const sup::StartFields fields = sup::GetStartFields(reader);
    EXPECT_EQ(fields.n, 7U);
    EXPECT_EQ(fields.script.size, 100'000U);
    EXPECT_EQ(reader.U32(), 1U);
}

TEST_F(SupervisorBytes, RandomBytesEndTheChannelOrMeanNothing) {
    const auto seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    for (int round = 0; round < 300; ++round) {
        Renew();
        Greet();
        std::string bytes;
        for (int frames = 0; frames < 20; ++frames) {
            std::string payload(random() % 60, '\0');
            for (char& byte : payload)
                byte = static_cast<char>(random() % 4 == 0 ? random() % 256 : random() % 3);
            const auto length = static_cast<std::uint32_t>(payload.size() + 1);
            for (unsigned i = 0; i < 4; ++i)
                bytes += static_cast<char>((length >> (8 * i)) & 0xff);
            bytes += static_cast<char>(64 + random() % 15);
            bytes += payload;
        }
        const Status status = client_->Feed(bytes);
        client_->FailAll(Error(Errno{EIO}, "end"));
        (void)status;
    }
}

}  // namespace
}  // namespace sbxfs
