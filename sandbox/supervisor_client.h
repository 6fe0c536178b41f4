// The daemon's end of supervisor/protocol.h: a state machine without I/O. Bytes in by Feed(), bytes
// out by Unsent() and Sent(), meaning to the listener and to callbacks. Lives as long as one exec
// channel, on its loop.
//
// Everything fed is hostile: lengths, enums, answers to nobody, floods. The first violation ends
// the channel. Tested with bytes (tests/unit/supervisor_client_test.cc) and against the real
// program (tests/supervisor).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/loop.h"
#include "base/result.h"
#include "sandbox/supervisor/protocol.h"
#include "sandbox/supervisor_port.h"

namespace sbxfs {

class SupervisorClient final : public SupervisorPort {
 public:
    using HelloDone = UniqueFunction<void(const SupervisorHello&)>;

    // `on_hello` runs once, before the listener hears of anything.
    SupervisorClient(SupervisorListener& listener, HelloDone on_hello)
        : listener_(listener), on_hello_(std::move(on_hello)) {}

    // Called when there is something to send; it may only take a note (post, kick).
    void SetWake(Job wake) { wake_ = std::move(wake); }

    // The first thing to say; `epoch` is higher than any used with this sandbox before.
    void Hello(std::uint64_t epoch);

    // What arrived. An error ends the channel: call FailAll() and drop the client.
    Status Feed(std::string_view bytes);
    std::string_view Unsent() const { return std::string_view(out_).substr(out_sent_); }
    void Sent(std::size_t count);
    // Whether the magic has been seen: what comes before it is noise of shells' start-up files.
    bool Recognised() const { return recognised_; }
    // What came before the magic, at most kMaxNoise bytes of it.
    std::string_view Noise() const { return noise_; }
    void FailAll(const Error& error);

    void Start(const StartRequest& request) override;
    void Read(EventNumber n, OutputSizes from) override;
    void Credit(std::uint32_t bytes) override;
    void Signal(EventNumber n, int signal) override;
    void Forget(EventNumber n) override;
    void Use() override;
    void StatBatch(const std::vector<std::string>& paths,
                   UniqueFunction<void(Result<std::vector<IdentityStat>>)> done) override;
    void Fetch(const std::vector<std::string>& paths, std::uint32_t most,
               UniqueFunction<void(Result<std::vector<FetchedFile>>)> done) override;
    void Store(const StoreRequest& request, UniqueFunction<void(Result<StoredFile>)> done) override;
    void Rename(const RenameRequest& request, UniqueFunction<void(Result<int>)> done) override;
    void Processes(UniqueFunction<void(Result<std::vector<RemoteProcess>>)> done) override;
    void Environment(UniqueFunction<void(Result<std::vector<std::string>>)> done) override;
    void SetTimer(std::int64_t lifetime_ms, std::int64_t idle_ms, ExpiryAction action,
                  UniqueFunction<void(Result<TimerState>)> done) override;
    void Ping(Done done) override;
    void Shutdown(bool clear_spool, Done done) override;

    static constexpr std::size_t kMaxNoise = 64 << 10;

 private:
    using Frame = supervisor::Reader;
    struct Waiting {
        supervisor::Type answer;
        UniqueFunction<void(Result<Frame*>)> done;  // the frame's payload after the request number
    };

    std::string& Out(supervisor::Type type);  // to write a frame of that type to
    std::uint32_t NextRequest(supervisor::Type answer, UniqueFunction<void(Result<Frame*>)> done);
    Status FindMagic(std::string_view& bytes);
    Status HandleFrame(supervisor::Type type, Frame frame);
    Status HandleHello(Frame& frame);
    Status HandleOutput(Frame& frame);
    Status HandleDone(Frame& frame);
    Status HandleAnswer(supervisor::Type type, Frame& frame);
    Status HandleError(Frame& frame);

    SupervisorListener& listener_;
    HelloDone on_hello_;
    Job wake_;
    bool recognised_ = false;
    bool hello_seen_ = false;
    std::string noise_;
    std::string in_;
    std::string out_;
    std::size_t out_sent_ = 0;
    std::uint32_t next_request_ = 1;
    std::map<std::uint32_t, Waiting> waiting_;
};

}  // namespace sbxfs
