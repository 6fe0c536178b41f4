// The daemon's end of a supervisor's channel against a supervisor that lies: each field of each frame, each length, type
// and order, in each state of the conversation. The first violation ends the channel, whoever asked is answered once, and
// the listener hears of nothing that cannot be.
#include <gtest/gtest.h>

#include <cerrno>
#include <functional>
#include <iostream>
#include <variant>

#include "sandbox/supervisor_client.h"

namespace sbxfs {
namespace {

namespace sup = supervisor;

struct Field {
    enum class Kind { kU8, kU32, kU64, kText };
    Kind kind;
    std::uint64_t number = 0;
    std::string text = {};
};
Field U8(std::uint64_t n) {
    return {Field::Kind::kU8, n};
}
Field U32(std::uint64_t n) {
    return {Field::Kind::kU32, n};
}
Field U64(std::uint64_t n) {
    return {Field::Kind::kU64, n};
}
Field Text(std::string text) {
    return {Field::Kind::kText, 0, std::move(text)};
}

struct FrameTruth {
    std::string name;
    sup::Type type;
    std::vector<Field> fields;
};

std::string Bytes(sup::Type type, const std::vector<Field>& fields) {
    std::string bytes;
    sup::Writer<std::string> w(bytes, type);
    for (const Field& field : fields) {
        switch (field.kind) {
            case Field::Kind::kU8:
                w.U8(static_cast<std::uint8_t>(field.number));
                break;
            case Field::Kind::kU32:
                w.U32(static_cast<std::uint32_t>(field.number));
                break;
            case Field::Kind::kU64:
                w.U64(field.number);
                break;
            case Field::Kind::kText:
                w.String({field.text.data(), static_cast<std::uint32_t>(field.text.size())});
                break;
        }
    }
    return bytes;
}

// Every frame a supervisor says; 1, 2 and so on are the numbers of the questions in flight.
std::vector<FrameTruth> Truths() {
    std::vector<Field> stat = {U32(1), U32(2)};
    for (int i = 0; i < 2; ++i) {
        for (const Field& field :
             {U32(0), U64(1), U64(2), U32(0100644), U32(1), U32(0), U32(0), U64(5), U64(6), U64(7)})
            stat.push_back(field);
    }
    stat.push_back(U64(8));
    stat.push_back(U64(9));
    std::vector<Field> file = {U32(0), U64(1), U64(2), U32(0100644), U32(1),
                               U32(0), U32(0), U64(5), U64(6),       U64(7)};
    file.push_back(U64(8));
    std::vector<Field> stored = {U32(7), U32(ENOSPC), U8(1)};
    stored.insert(stored.end(), file.begin(), file.end());
    std::vector<Field> fetched = {U32(8), U32(1)};
    fetched.insert(fetched.end(), file.begin(), file.end());
    fetched.push_back(U8(1));
    fetched.push_back(Text("bytes"));
    return {
        {"HelloOk",
         sup::Type::kHelloOk,
         {U32(1), U64(7), U64(1000), U32(0), U32(0), Text("x86_64"), Text("b"), Text("/root"),
          Text("/bin/sh"), U64(3)}},
        {"Known", sup::Type::kKnown, {U64(1), U8(1), U64(0), U64(0)}},
        {"KnownEnd", sup::Type::kKnownEnd, {}},
        {"Started", sup::Type::kStarted, {U64(1), U32(42), U64(1000)}},
        {"Output", sup::Type::kOutput, {U64(1), U8(1), U64(0), Text("output")}},
        {"Hole", sup::Type::kHole, {U64(1), U8(2), U64(0), U64(10)}},
        {"Done",
         sup::Type::kDone,
         {U64(1), U8(1), U32(0), U64(6), U64(0), U64(1000), U64(1001), U64(999), U8(0), U32(0),
          Text("r"), Text("/")}},
        {"StatOk", sup::Type::kStatOk, stat},
        {"StoreOk", sup::Type::kStoreOk, stored},
        {"RenameOk", sup::Type::kRenameOk, {U32(9), U32(0)}},
        {"FetchOk", sup::Type::kFetchOk, fetched},
        {"ProcessesOk", sup::Type::kProcessesOk, {U32(2), U32(1), U32(42), U32(1), Text("sh")}},
        {"TimerOk", sup::Type::kTimerOk, {U32(4), U64(5), U64(6)}},
        {"Pong", sup::Type::kPong, {U32(5)}},
        {"EnvironOk", sup::Type::kEnvironOk, {U32(3), U32(2), Text("A=b"), Text("C=d")}},
        {"Error of a question", sup::Type::kError, {U32(1), U64(0), U32(EACCES), Text("no")}},
        {"Error of a command", sup::Type::kError, {U32(0), U64(1), U32(EEXIST), Text("no")}},
        {"Error of all", sup::Type::kError, {U32(0), U64(0), U32(ESTALE), Text("no")}},
    };
}

class Ear final : public SupervisorListener {
 public:
    bool greeted = false;
    std::size_t heard = 0;
    std::size_t bytes = 0;

    void OnKnown(EventNumber, bool, OutputSizes) override { Hear(); }
    void OnKnownEnd() override { Hear(); }
    void OnStarted(EventNumber, std::int64_t at_ms) override {
        Hear();
        EXPECT_GE(at_ms, 0);
    }
    void OnOutput(EventNumber, OutputStream, std::uint64_t offset, std::string said) override {
        Hear();
        bytes += said.size();
        EXPECT_LE(said.size(), sup::kMaxOutputChunk);
        EXPECT_GE(offset + said.size(), offset);
    }
    void OnHole(EventNumber, OutputStream, std::uint64_t offset, std::uint64_t length) override {
        Hear();
        EXPECT_GE(offset + length, offset);
    }
    void OnDone(EventNumber, const CommandEnd& end) override {
        Hear();
        EXPECT_GE(end.code, 0);
        EXPECT_LE(end.code, 4096);
        EXPECT_GE(end.duration_us, 0);
        EXPECT_GE(end.started_ms, 0);
        EXPECT_EQ(end.reason.find('\n'), std::string::npos);
        EXPECT_LE(end.reason.size(), 1100U);
    }
    void OnCommandError(EventNumber, const Error& error) override {
        Hear();
        EXPECT_GT(static_cast<int>(error.code()), 0);
    }

 private:
    void Hear() {
        EXPECT_TRUE(greeted);
        ++heard;
    }
};

enum class State { kNothingSaid, kMagicSaid, kGreeted, kAsked };

void Tell(State state, const std::string& what, const std::string& lie, bool in_pieces) {
    Ear ear;
    int asked = 0;
    int answered = 0;
    SupervisorClient client(ear, [&](const SupervisorHello& hello) {
        EXPECT_FALSE(ear.greeted);
        EXPECT_NE(hello.spool_id, 0U);
        EXPECT_GE(hello.clock_ms, 0);
        ear.greeted = true;
    });
    client.Hello(3);
    const std::string magic(sup::kMagic, sizeof sup::kMagic - 1);
    if (state != State::kNothingSaid) {
        ASSERT_TRUE(client.Feed(magic).has_value());
    }
    if (state == State::kGreeted || state == State::kAsked) {
        ASSERT_TRUE(client.Feed(Bytes(Truths()[0].type, Truths()[0].fields)).has_value());
    }
    const auto back = [&]<class T>(Result<T>*) {
        ++asked;
        return UniqueFunction<void(Result<T>)>([&](const Result<T>& value) {
            ++answered;
            if (!value) {
                EXPECT_FALSE(value.error().what().empty());
            }
        });
    };
    if (state == State::kAsked) {
        client.StatBatch({"/a", "/b"},
                         back(static_cast<Result<std::vector<IdentityStat>>*>(nullptr)));
        client.Processes(back(static_cast<Result<std::vector<RemoteProcess>>*>(nullptr)));
        client.Environment(back(static_cast<Result<std::vector<std::string>>*>(nullptr)));
        client.SetTimer(1, 2, ExpiryAction::kEndSandbox,
                        back(static_cast<Result<TimerState>*>(nullptr)));
        client.Ping(back(static_cast<Result<Unit>*>(nullptr)));
        client.Shutdown(true, back(static_cast<Result<Unit>*>(nullptr)));
        client.Store({.path = "/c", .bytes = "bytes"},
                     back(static_cast<Result<StoredFile>*>(nullptr)));
        client.Fetch({"/d"}, 5, back(static_cast<Result<std::vector<FetchedFile>>*>(nullptr)));
    }
    std::string_view rest = lie;
    while (!rest.empty()) {
        const std::size_t piece = in_pieces ? 1 : rest.size();
        const Status fed = client.Feed(rest.substr(0, piece));
        EXPECT_LE(client.Noise().size(), SupervisorClient::kMaxNoise + lie.size());
        if (!fed) {
            EXPECT_FALSE(fed.error().what().empty()) << what;
            break;
        }
        rest.remove_prefix(piece);
    }
    client.FailAll(Error(Errno{EHOSTUNREACH}, "cut"));
    EXPECT_EQ(asked, answered) << what;
}

std::vector<std::pair<std::string, std::string>> LiesAbout(const FrameTruth& truth) {
    std::vector<std::pair<std::string, std::string>> lies;
    const std::string whole = Bytes(truth.type, truth.fields);
    lies.emplace_back(truth.name, whole);
    for (std::size_t i = 0; i < truth.fields.size(); ++i) {
        const std::string where = truth.name + " field " + std::to_string(i);
        std::vector<Field> fields = truth.fields;
        if (fields[i].kind == Field::Kind::kText) {
            for (const std::string& text :
                 {std::string(), std::string("a\nb"), std::string("a\0b", 3),
                  std::string("\xff\xfe"), std::string("../../x"), std::string(4096, 'x'),
                  std::string(sup::kMaxOutputChunk, 'x'),
                  std::string(sup::kMaxOutputChunk + 1, 'x'), std::string(1 << 20, 'x')}) {
                fields[i].text = text;
                lies.emplace_back(where + " text", Bytes(truth.type, fields));
            }
            continue;
        }
        for (std::uint64_t number : std::vector<std::uint64_t>{0,
                                                               1,
                                                               2,
                                                               3,
                                                               4,
                                                               5,
                                                               6,
                                                               7,
                                                               127,
                                                               128,
                                                               255,
                                                               256,
                                                               4095,
                                                               4096,
                                                               4097,
                                                               0x7fffffff,
                                                               0x80000000,
                                                               0xffffffff,
                                                               std::uint64_t{1} << 32,
                                                               std::uint64_t{1} << 50,
                                                               std::uint64_t{1} << 62,
                                                               std::uint64_t{1} << 63,
                                                               ~std::uint64_t{0} - 5,
                                                               ~std::uint64_t{0} >> 1,
                                                               ~std::uint64_t{0}}) {
            fields[i].number = number;
            lies.emplace_back(where + " = " + std::to_string(number), Bytes(truth.type, fields));
        }
    }
    // Fields left out, and too many.
    for (std::size_t i = 0; i < truth.fields.size(); ++i) {
        std::vector<Field> fields = truth.fields;
        fields.erase(fields.begin() + static_cast<long>(i));
        lies.emplace_back(truth.name + " without field " + std::to_string(i),
                          Bytes(truth.type, fields));
        fields = truth.fields;
        fields.insert(fields.begin() + static_cast<long>(i), truth.fields[i]);
        lies.emplace_back(truth.name + " with field twice " + std::to_string(i),
                          Bytes(truth.type, fields));
    }
    for (std::size_t size = 0; size < whole.size(); ++size)
        lies.emplace_back(truth.name + " cut at " + std::to_string(size), whole.substr(0, size));
    for (int type = 0; type < 256; ++type)
        lies.emplace_back(truth.name + " as type " + std::to_string(type),
                          Bytes(static_cast<sup::Type>(type), truth.fields));
    for (const std::uint32_t length : {0U, 1U, 2U, static_cast<std::uint32_t>(whole.size()),
                                       sup::kMaxFrame, sup::kMaxFrame + 1, 0x7fffffffU, ~0U}) {
        std::string lie = whole;
        for (unsigned i = 0; i < 4; ++i)
            lie[i] = static_cast<char>(length >> (8 * i));
        lies.emplace_back(truth.name + " of length " + std::to_string(length), lie);
    }
    lies.emplace_back(truth.name + " twice", whole + whole);
    lies.emplace_back(truth.name + " behind noise", "noise" + whole);
    lies.emplace_back(truth.name + " behind another magic",
                      std::string(sup::kMagic, sizeof sup::kMagic - 1) + whole);
    return lies;
}

TEST(SupervisorLies, EachInEachStateIsHeardAsWhatItIsOrEndsTheChannel) {
    std::size_t cases = 0;
    for (const FrameTruth& truth : Truths()) {
        for (const auto& [what, lie] : LiesAbout(truth)) {
            for (const State state :
                 {State::kNothingSaid, State::kMagicSaid, State::kGreeted, State::kAsked}) {
                SCOPED_TRACE(what + " in state " + std::to_string(static_cast<int>(state)));
                Tell(state, what, lie, false);
                if (lie.size() < 200) Tell(state, what, lie, true);
                cases += lie.size() < 200 ? 2 : 1;
                if (HasFailure()) GTEST_FAIL();
            }
        }
    }
    // Each frame behind each other, as a replay would have it.
    for (const FrameTruth& first : Truths()) {
        for (const FrameTruth& second : Truths()) {
            for (const State state : {State::kMagicSaid, State::kGreeted, State::kAsked}) {
                Tell(state, first.name + " then " + second.name,
                     Bytes(first.type, first.fields) + Bytes(second.type, second.fields), false);
                ++cases;
            }
        }
    }
    std::cout << cases << " lies told\n";
    EXPECT_GT(cases, 20000U);
}

// What is neither noise nor magic, for ever: at most kMaxNoise is kept, then it ends.
TEST(SupervisorLies, NoiseWithoutEndIsGivenUp) {
    Ear ear;
    SupervisorClient client(ear, [](const SupervisorHello&) {});
    const std::string noise(1000, '.');
    std::size_t fed = 0;
    while (client.Feed(noise).has_value() && fed < (10U << 20))
        fed += noise.size();
    EXPECT_LE(fed, SupervisorClient::kMaxNoise + noise.size());
}

}  // namespace
}  // namespace sbxfs
