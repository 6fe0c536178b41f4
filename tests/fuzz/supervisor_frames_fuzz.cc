// The daemon's end of a supervisor's channel: any bytes, and frames whose fields lie. The first violation ends it; each
// question is answered once; nobody hears of anything before the hello.
#include <cerrno>

#include "base/check.h"
#include "sandbox/supervisor_client.h"
#include "tests/fuzz/fuzz_bytes.h"

namespace sbxfs::fuzz {
namespace {

namespace sup = supervisor;

class Listener final : public SupervisorListener {
 public:
    bool greeted = false;
    int heard = 0;

    void OnKnown(EventNumber, bool, OutputSizes) override { Heard(); }
    void OnKnownEnd() override { Heard(); }
    void OnStarted(EventNumber, std::int64_t at_ms) override {
        Heard();
        CHECK(at_ms >= 0);
    }
    void OnOutput(EventNumber, OutputStream, std::uint64_t offset, std::string bytes) override {
        Heard();
        CHECK(bytes.size() <= sup::kMaxOutputChunk && offset + bytes.size() >= offset);
    }
    void OnHole(EventNumber, OutputStream, std::uint64_t offset, std::uint64_t length) override {
        Heard();
        CHECK(offset + length >= offset);
    }
    void OnDone(EventNumber, const CommandEnd& end) override {
        Heard();
        CHECK(end.code >= 0 && end.code <= 4096 && end.duration_us >= 0);
        CHECK(end.reason.find('\n') == std::string::npos);
    }
    void OnCommandError(EventNumber, const Error& error) override {
        Heard();
        CHECK(static_cast<int>(error.code()) > 0);
    }

 private:
    void Heard() {
        CHECK(greeted);
        ++heard;
    }
};

class Channel {
 public:
    explicit Channel(FuzzBytes& in) : in_(in) {
        client_.Hello(5);
        if (in_.Below(8) != 0) Feed(std::string(sup::kMagic, sizeof sup::kMagic - 1));
        if (in_.Below(8) != 0) SayHello();
    }
    void Run() {
        for (int step = 0; step < 300 && !in_.empty() && up_; ++step) {
            switch (in_.Below(8)) {
                case 0:
                    Feed(in_.Text());
                    break;
                case 1:
                case 2:
                    Ask();
                    break;
                default:
                    Feed(Frame());
                    break;
            }
            client_.Sent(client_.Unsent().size());
        }
        client_.FailAll(Error(Errno{EHOSTUNREACH}, "cut"));
        CHECK(asked_ == answered_);
    }

 private:
    void Feed(std::string_view bytes) {
        const std::size_t step = in_.Below(4) == 0 ? in_.Below(32) + 1 : bytes.size();
        while (up_ && !bytes.empty()) {
            const std::string_view piece = bytes.substr(0, step);
            const Status fed = client_.Feed(piece);
            up_ = fed.has_value();
            if (!up_) CHECK(!fed.error().what().empty());
            CHECK(client_.Noise().size() <= SupervisorClient::kMaxNoise + bytes.size());
            bytes.remove_prefix(piece.size());
        }
    }
    void SayHello() {
        std::string bytes;
        {
            sup::Writer<std::string> w(bytes, sup::Type::kHelloOk);
            sup::HelloOkFields f;
            f.protocol = in_.Below(8) == 0 ? in_.U8() : sup::kProtocol;
            f.spool = in_.Below(8) == 0 ? 0 : 7;
            f.clock_ms = in_.Odd();
            sup::PutHelloOkFields(w, f);
        }
        Feed(bytes);
    }
    sup::Text Text() {
        const std::string_view text = in_.Text(40);
        return {text.data(), static_cast<std::uint32_t>(text.size())};
    }
    std::uint32_t Request() { return static_cast<std::uint32_t>(in_.Below(6)); }
    std::string Frame() {
        constexpr std::uint8_t kTypes[] = {64, 65, 66, 67, 68, 68, 69, 70, 70, 71,
                                           71, 72, 73, 74, 75, 76, 77, 1,  78, 79};
        const std::uint8_t type = kTypes[in_.Below(sizeof kTypes)];
        std::string bytes;
        {
            sup::Writer<std::string> w(bytes, static_cast<sup::Type>(type));
            switch (type) {
                case 64: {
                    sup::HelloOkFields f;
                    f.protocol = 1;
                    f.spool = 7;
                    sup::PutHelloOkFields(w, f);
                    break;
                }
                case 65:
                    w.U64(in_.Odd()).U8(in_.U8() % 4).U64(in_.Odd()).U64(in_.Odd());
                    break;
                case 66:
                    break;
                case 67:
                    w.U64(in_.Odd()).U32(in_.U32()).U64(in_.Odd());
                    break;
                case 68:
                    w.U64(in_.Odd()).U8(in_.U8() % 4).U64(in_.Odd()).String(Text());
                    break;
                case 69:
                    w.U64(in_.Odd()).U8(in_.U8() % 4).U64(in_.Odd()).U64(in_.Odd());
                    break;
                case 70: {
                    sup::DoneFields f;
                    f.n = in_.Odd();
                    f.outcome = static_cast<sup::Outcome>(in_.Below(7));
                    f.code = static_cast<std::uint32_t>(in_.Odd());
                    f.stdout_size = in_.Odd();
                    f.stderr_size = in_.Odd();
                    f.started_ms = in_.Odd();
                    f.finished_ms = in_.Odd();
                    f.duration_us = in_.Odd();
                    f.others = in_.U8();
                    f.reason = Text();
                    f.cwd = Text();
                    sup::PutDoneFields(w, f);
                    break;
                }
                case 71: {
                    const std::uint32_t count = static_cast<std::uint32_t>(in_.Below(4));
                    w.U32(Request()).U32(in_.Below(8) == 0 ? in_.U32() : count);
                    for (std::uint32_t i = 0; i < count; ++i) {
                        sup::StatFields f;
                        f.error = in_.U32();
                        f.ino = in_.Odd();
                        f.mode = in_.U32();
                        f.size = in_.Odd();
                        sup::PutStatFields(w, f);
                    }
                    break;
                }
                case 72:
                case 75: {
                    const std::uint32_t count = static_cast<std::uint32_t>(in_.Below(4));
                    w.U32(Request()).U32(in_.Below(8) == 0 ? in_.U32() : count);
                    for (std::uint32_t i = 0; i < count; ++i) {
                        if (type == 72) w.U32(in_.U8()).U32(in_.U8());
                        w.String(Text());
                    }
                    break;
                }
                case 78: {
                    sup::StoreOkFields f;
                    f.request = Request();
                    f.error = in_.Chance() ? 0 : static_cast<std::uint32_t>(in_.Odd());
                    f.made = in_.U8() % 3;
                    f.file.error = in_.Chance() ? 0 : in_.U32();
                    f.file.mode = in_.Chance() ? 0100644 : in_.U32();
                    sup::PutStoreOkFields(w, f);
                    break;
                }
                case 79:
                    w.U32(Request()).U32(in_.Chance() ? 0 : static_cast<std::uint32_t>(in_.Odd()));
                    break;
                case 73:
                    w.U32(Request()).U64(in_.Odd()).U64(in_.Odd());
                    break;
                case 76:
                    w.U32(Request())
                        .U64(in_.Odd())
                        .U32(static_cast<std::uint32_t>(in_.Odd()))
                        .String(Text());
                    break;
                default:
                    w.U32(Request());
                    break;
            }
        }
        if (in_.Below(8) == 0) bytes[in_.Below(bytes.size())] = static_cast<char>(in_.U8());
        return bytes;
    }
    template <class T>
    UniqueFunction<void(Result<T>)> Back() {
        ++asked_;
        return [this](const Result<T>& value) {
            ++answered_;
            if (!value) CHECK(!value.error().what().empty());
        };
    }
    void Ask() {
        switch (in_.Below(10)) {
            case 0:
                return client_.StatBatch({"/a", "/b"}, Back<std::vector<IdentityStat>>());
            case 1:
                return client_.StatBatch({}, Back<std::vector<IdentityStat>>());
            case 2:
                return client_.Processes(Back<std::vector<RemoteProcess>>());
            case 3:
                return client_.Environment(Back<std::vector<std::string>>());
            case 4:
                return client_.SetTimer(1, 2, ExpiryAction::kEndSandbox, Back<TimerState>());
            case 5:
                return client_.Ping(Back<Unit>());
            case 6:
                return client_.Shutdown(true, Back<Unit>());
            case 7: {
                StoreRequest request;
                request.path = "/a";
                request.bytes = std::string(in_.Text(20));
                return client_.Store(request, Back<StoredFile>());
            }
            case 8:
                return client_.Rename({"/a", "/b", in_.Chance()}, Back<int>());
            default: {
                StartRequest request;
                request.n = EventNumber{in_.U8()};
                request.script = in_.Text(20);
                return client_.Start(request);
            }
        }
    }

    FuzzBytes& in_;
    Listener listener_;
    bool up_ = true;
    int asked_ = 0;
    int answered_ = 0;
    SupervisorClient client_{
        listener_, [this](const SupervisorHello& hello) {
            CHECK(!listener_.greeted && hello.spool_id != 0 && hello.clock_ms >= 0);
            listener_.greeted = true;
        }};
};

}  // namespace
}  // namespace sbxfs::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    sbxfs::fuzz::FuzzBytes in(data, size);
    sbxfs::fuzz::Channel(in).Run();
    return 0;
}
