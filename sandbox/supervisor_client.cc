#include "sandbox/supervisor_client.h"

#include <errno.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/strings.h"
#include "sandbox/sandbox_metrics.h"

namespace sbxfs {
namespace {

namespace sup = supervisor;
using SupWriter = sup::Writer<std::string>;

constexpr std::string_view kMagic(sup::kMagic, sizeof sup::kMagic - 1);
// Room for what a frame may carry beyond its texts.
constexpr std::size_t kHeader = 5;
// Of the kernel's errno values, MAX_ERRNO in its err.h is the last.
constexpr std::uint32_t kMostErrno = 4096;
// Of what waits to be sent: that much memory is kept for the next frames.
constexpr std::size_t kKeptBuffer = 64U << 10;

sup::Text ToText(std::string_view text) {
    return {text.data(), static_cast<std::uint32_t>(text.size())};
}

std::string_view View(sup::Text text) {
    return {text.data, text.size};
}

Error Violation(std::string_view what) {
    return {Errno{EIO}, "supervisor: " + std::string(what), Blame::kRemote};
}

// Numbers of milliseconds come from the sandbox: kept where RFC 3339 can show them.
std::int64_t SaneMs(std::uint64_t ms) {
    constexpr std::uint64_t kYear9999 = 253'402'300'799'000;
    return static_cast<std::int64_t>(std::min(ms, kYear9999));
}

std::optional<OutputStream> ToStream(std::uint8_t value) {
    switch (static_cast<sup::Stream>(value)) {
        case sup::Stream::kStdout:
            return OutputStream::kStdout;
        case sup::Stream::kStderr:
            return OutputStream::kStderr;
    }
    return std::nullopt;
}

std::optional<CommandOutcome> ToOutcome(sup::Outcome outcome) {
    switch (outcome) {
        case sup::Outcome::kExited:
            return CommandOutcome::kExited;
        case sup::Outcome::kSignaled:
            return CommandOutcome::kSignaled;
        case sup::Outcome::kTimedOut:
            return CommandOutcome::kTimedOut;
        case sup::Outcome::kLost:
            return CommandOutcome::kLost;
        case sup::Outcome::kNotStarted:
            return CommandOutcome::kNotStarted;
    }
    return std::nullopt;
}

IdentityStat ToIdentity(const sup::StatFields& f) {
    return {.error = static_cast<int>(f.error & 0xfff),
            .dev = f.dev,
            .ino = f.ino,
            .mode = f.mode,
            .nlink = f.nlink,
            .uid = f.uid,
            .gid = f.gid,
            .size = f.size,
            .mtime_ns = f.mtime_ns,
            .ctime_ns = f.ctime_ns,
            .birth_ns = f.birth_ns};
}

IdentityStat GetIdentity(sup::Reader& frame) {
    return ToIdentity(sup::GetStatFields(frame));
}

}  // namespace

std::string& SupervisorClient::Out(sup::Type type) {
    sandbox_metrics.supervisor_requests.AddTo(static_cast<std::size_t>(type) - 1);
    if (wake_) wake_();
    return out_;
}

void SupervisorClient::Hello(std::uint64_t epoch) {
    SupWriter(Out(sup::Type::kHello), sup::Type::kHello)
        .U32(sup::kOldestProtocol)
        .U32(sup::kProtocol)
        .U64(epoch);
}

void SupervisorClient::Sent(std::size_t count) {
    out_sent_ += count;
    if (out_sent_ == out_.size()) {
        out_.clear();
        if (out_.capacity() > kKeptBuffer) out_.shrink_to_fit();
        out_sent_ = 0;
    } else if (out_sent_ >= kKeptBuffer && out_sent_ >= out_.size() - out_sent_) {
        // More than is moved has gone out since the last time: a byte is moved once, however much waits.
        out_.erase(0, out_sent_);
        out_sent_ = 0;
    }
}

Status SupervisorClient::FindMagic(std::string_view& bytes) {
    noise_ += bytes;
    const std::size_t at = noise_.find(kMagic);
    if (at == std::string::npos) {
        bytes = {};
        if (noise_.size() > kMaxNoise) {
            return Violation(
                "the login shell prints without end before it starts; check its start-up files");
        }
        return Ok();
    }
    recognised_ = true;
    in_ = noise_.substr(at + kMagic.size());
    noise_.resize(at);
    bytes = {};
    return Ok();
}

Status SupervisorClient::Feed(std::string_view bytes) {
    if (!recognised_) {
        (void)TRY(FindMagic(bytes));
        if (!recognised_) return Ok();
    }
    in_ += bytes;
    std::size_t at = 0;
    while (in_.size() - at >= kHeader) {
        sup::Reader header(in_.data() + at, kHeader);
        const std::uint32_t length = header.U32();
        if (length < 1 || length > sup::kMaxFrame) return Violation("frame of absurd length");
        if (in_.size() - at < 4 + std::size_t{length}) break;
        const auto type = static_cast<sup::Type>(header.U8());
        const sup::Reader payload(in_.data() + at + kHeader, length - 1);
        at += 4 + std::size_t{length};
        (void)TRY(HandleFrame(type, payload));
    }
    in_.erase(0, at);
    return Ok();
}

Status SupervisorClient::HandleFrame(sup::Type type, Frame frame) {
    if (!hello_seen_ && type != sup::Type::kHelloOk && type != sup::Type::kError) {
        return Violation("spoke before it said hello");
    }
    switch (type) {
        case sup::Type::kHelloOk:
            return HandleHello(frame);
        case sup::Type::kKnown: {
            const EventNumber n{frame.U64()};
            const auto state = static_cast<sup::State>(frame.U8());
            OutputSizes sizes;
            sizes.out = frame.U64();
            sizes.err = frame.U64();
            const bool known = state == sup::State::kRunning || state == sup::State::kDone;
            if (!frame.ok() || !known) return Violation("malformed Known");
            listener_.OnKnown(n, state == sup::State::kDone, sizes);
            return Ok();
        }
        case sup::Type::kKnownEnd:
            listener_.OnKnownEnd();
            return Ok();
        case sup::Type::kStarted: {
            const EventNumber n{frame.U64()};
            (void)frame.U32();  // pid
            const std::int64_t at_ms = SaneMs(frame.U64());
            if (!frame.ok()) return Violation("malformed Started");
            listener_.OnStarted(n, at_ms);
            return Ok();
        }
        case sup::Type::kOutput:
            return HandleOutput(frame);
        case sup::Type::kHole: {
            const EventNumber n{frame.U64()};
            const auto stream = ToStream(frame.U8());
            const std::uint64_t offset = frame.U64();
            const std::uint64_t length = frame.U64();
            if (!frame.ok() || !stream || offset + length < offset)
                return Violation("malformed Hole");
            listener_.OnHole(n, *stream, offset, length);
            return Ok();
        }
        case sup::Type::kDone:
            return HandleDone(frame);
        case sup::Type::kStatOk:
        case sup::Type::kFetchOk:
        case sup::Type::kStoreOk:
        case sup::Type::kRenameOk:
        case sup::Type::kProcessesOk:
        case sup::Type::kTimerOk:
        case sup::Type::kPong:
        case sup::Type::kEnvironOk:
            return HandleAnswer(type, frame);
        case sup::Type::kError:
            return HandleError(frame);
        case sup::Type::kHello:
        case sup::Type::kStart:
        case sup::Type::kRead:
        case sup::Type::kCredit:
        case sup::Type::kSignal:
        case sup::Type::kForget:
        case sup::Type::kStat:
        case sup::Type::kFetch:
        case sup::Type::kStore:
        case sup::Type::kRename:
        case sup::Type::kProcesses:
        case sup::Type::kTimer:
        case sup::Type::kUse:
        case sup::Type::kPing:
        case sup::Type::kShutdown:
        case sup::Type::kEnviron:
            break;
    }
    return Violation("unknown frame type");
}

Status SupervisorClient::HandleHello(Frame& frame) {
    if (hello_seen_) return Violation("said hello twice");
    const sup::HelloOkFields fields = sup::GetHelloOkFields(frame);
    if (!frame.ok() || fields.spool == 0) return Violation("malformed HelloOk");
    if (fields.protocol < sup::kOldestProtocol || fields.protocol > sup::kProtocol) {
        return Violation("speaks protocol " + std::to_string(fields.protocol));
    }
    SupervisorHello hello;
    hello.spool_id = fields.spool;
    hello.boot_id = fields.boot;
    hello.clock_ms = SaneMs(fields.clock_ms);
    hello.uid = fields.uid;
    hello.gid = fields.gid;
    hello.machine = View(fields.machine);
    hello.build = View(fields.build);
    hello.home = View(fields.home);
    hello.shell = View(fields.default_shell);
    hello.fetches = fields.protocol >= 2;
    hello.stores = fields.protocol >= 3;
    hello_seen_ = true;
    std::exchange(on_hello_, {})(hello);
    return Ok();
}

Status SupervisorClient::HandleOutput(Frame& frame) {
    const EventNumber n{frame.U64()};
    const auto stream = ToStream(frame.U8());
    const std::uint64_t offset = frame.U64();
    const sup::Text bytes = frame.String();
    if (!frame.ok() || !stream || bytes.size > sup::kMaxOutputChunk ||
        offset + bytes.size < offset) {
        return Violation("malformed Output");
    }
    listener_.OnOutput(n, *stream, offset, std::string(View(bytes)));
    return Ok();
}

Status SupervisorClient::HandleDone(Frame& frame) {
    const sup::DoneFields fields = sup::GetDoneFields(frame);
    const auto outcome = ToOutcome(fields.outcome);
    if (!frame.ok() || !outcome || fields.code > 4096) return Violation("malformed Done");
    CommandEnd end;
    end.outcome = *outcome;
    end.code = static_cast<int>(fields.code);
    end.sizes = {fields.stdout_size, fields.stderr_size};
    end.started_ms = SaneMs(fields.started_ms);
    end.finished_ms = SaneMs(fields.finished_ms);
    end.duration_us =
        static_cast<std::int64_t>(std::min<std::uint64_t>(fields.duration_us, INT64_MAX));
    end.shell_restarted = fields.shell_restarted != 0;
    end.others = fields.others;
    end.reason = Printable(View(fields.reason), 1024);
    end.cwd = View(fields.cwd);
    listener_.OnDone(EventNumber{fields.n}, end);
    return Ok();
}

Status SupervisorClient::HandleAnswer(sup::Type type, Frame& frame) {
    const std::uint32_t request = frame.U32();
    const auto it = frame.ok() ? waiting_.find(request) : waiting_.end();
    if (it == waiting_.end()) return Violation("answer to nobody");
    if (it->second.answer != type) return Violation("answer of the wrong type");
    const auto done = std::move(it->second.done);
    waiting_.erase(it);  // before the call: it may ask the next question
    done(&frame);
    return frame.ok() ? Ok() : Status(Violation("malformed answer"));
}

Status SupervisorClient::HandleError(Frame& frame) {
    const std::uint32_t request = frame.U32();
    const std::uint64_t n = frame.U64();
    const std::uint32_t code = frame.U32();
    std::string text = Printable(View(frame.String()), 1024);
    if (!frame.ok() || code == 0 || code > 4095) return Violation("malformed Error");
    if (text.empty()) text = "the supervisor refused it without saying why";
    const Error error(Errno{static_cast<int>(code)}, text, Blame::kRemote);
    if (const auto it = waiting_.find(request); request != 0 && it != waiting_.end()) {
        const auto done = std::move(it->second.done);
        waiting_.erase(it);
        done(error);
    } else if (n != 0 && hello_seen_) {
        listener_.OnCommandError(EventNumber{n}, error);
    } else {
        return Error(Errno{static_cast<int>(code)}, "supervisor: " + text,
                     Blame::kRemote);  // the end of it
    }
    return Ok();
}

void SupervisorClient::FailAll(const Error& error) {
    const auto failed = std::exchange(waiting_, {});
    for (const auto& [request, waiting] : failed)
        waiting.done(error);
}

std::uint32_t SupervisorClient::NextRequest(sup::Type answer,
                                            UniqueFunction<void(Result<Frame*>)> done) {
    while (next_request_ == 0 || waiting_.contains(next_request_))
        ++next_request_;
    const std::uint32_t request = next_request_++;
    waiting_.emplace(request, Waiting{answer, std::move(done)});
    return request;
}

void SupervisorClient::Start(const StartRequest& request) {
    sup::StartFields fields;
    fields.n = Raw(request.n);
    fields.lane = request.parallel ? sup::Lane::kParallel : sup::Lane::kSerial;
    fields.login_shell = request.login_shell ? 1 : 0;
    fields.timeout_ms = static_cast<std::uint64_t>(std::max<std::int64_t>(request.timeout_ms, 0));
    fields.output_limit = request.output_limit;
    fields.shell = ToText(request.shell);
    fields.cwd = ToText(request.cwd);
    fields.user = ToText(request.user);
    fields.script = ToText(request.script);
    SupWriter writer(Out(sup::Type::kStart), sup::Type::kStart);
    sup::PutStartFields(writer, fields);
    writer.U32(static_cast<std::uint32_t>(request.env.size()));
    for (const auto& [name, value] : request.env)
        writer.String(ToText(name)).String(ToText(value));
}

void SupervisorClient::Read(EventNumber n, OutputSizes from) {
    SupWriter(Out(sup::Type::kRead), sup::Type::kRead).U64(Raw(n)).U64(from.out).U64(from.err);
}

void SupervisorClient::Credit(std::uint32_t bytes) {
    SupWriter(Out(sup::Type::kCredit), sup::Type::kCredit).U32(bytes);
}

void SupervisorClient::Signal(EventNumber n, int signal) {
    SupWriter(Out(sup::Type::kSignal), sup::Type::kSignal)
        .U64(Raw(n))
        .U32(static_cast<std::uint32_t>(signal));
}

void SupervisorClient::Forget(EventNumber n) {
    SupWriter(Out(sup::Type::kForget), sup::Type::kForget).U64(Raw(n));
}

void SupervisorClient::Use() {
    SupWriter(Out(sup::Type::kUse), sup::Type::kUse);
}

void SupervisorClient::StatBatch(const std::vector<std::string>& paths,
                                 UniqueFunction<void(Result<std::vector<IdentityStat>>)> done) {
    const std::size_t asked = paths.size();
    const std::uint32_t request =
        NextRequest(sup::Type::kStatOk, [asked, done = std::move(done)](Result<Frame*> answer) {
            if (!answer) return done(std::move(answer).error());
            Frame& frame = **answer;
            if (frame.U32() != asked) return done(Violation("stat of other paths"));
            std::vector<IdentityStat> stats(asked);
            for (IdentityStat& stat : stats)
                stat = GetIdentity(frame);
            if (!frame.at_end()) {
                for (IdentityStat& stat : stats)
                    stat.birth_ns = static_cast<std::int64_t>(frame.U64());
            }
            if (!frame.ok()) return done(Violation("malformed StatOk"));
            done(std::move(stats));
        });
    SupWriter writer(Out(sup::Type::kStat), sup::Type::kStat);
    writer.U32(request).U32(static_cast<std::uint32_t>(asked));
    for (const std::string& path : paths)
        writer.String(ToText(path));
}

void SupervisorClient::Fetch(const std::vector<std::string>& paths, std::uint32_t most,
                             UniqueFunction<void(Result<std::vector<FetchedFile>>)> done) {
    const std::size_t asked = paths.size();
    const std::uint32_t request = NextRequest(
        sup::Type::kFetchOk, [asked, most, done = std::move(done)](Result<Frame*> answer) {
            if (!answer) return done(std::move(answer).error());
            Frame& frame = **answer;
            if (frame.U32() != asked) return done(Violation("other paths were fetched"));
            std::vector<FetchedFile> files(asked);
            bool good = true;
            for (FetchedFile& file : files) {
                file.identity = GetIdentity(frame);
                file.identity.birth_ns = static_cast<std::int64_t>(frame.U64());
                const bool whole = frame.U8() != 0;
                const sup::Text bytes = frame.String();
                if (!whole) {
                    good = good && bytes.size == 0;
                    continue;
                }
                good = good && bytes.size <= most && bytes.size == file.identity.size;
                file.bytes = View(bytes);
            }
            if (!frame.ok() || !good) return done(Violation("malformed FetchOk"));
            done(std::move(files));
        });
    SupWriter writer(Out(sup::Type::kFetch), sup::Type::kFetch);
    writer.U32(request).U32(most).U32(static_cast<std::uint32_t>(asked));
    for (const std::string& path : paths)
        writer.String(ToText(path));
}

void SupervisorClient::Store(const StoreRequest& request,
                             UniqueFunction<void(Result<StoredFile>)> done) {
    DCHECK(request.bytes.size() <= sup::kMaxStored);
    sup::StoreFields fields;
    fields.request = NextRequest(
        sup::Type::kStoreOk,
        [size = request.bytes.size(), done = std::move(done)](Result<Frame*> answer) {
            if (!answer) return done(std::move(answer).error());
            Frame& frame = **answer;
            const sup::StoreOkFields ok = sup::GetStoreOkFields(0, frame);
            const bool whole = ok.error != 0 || ok.file.error != 0 || ok.file.size == size;
            const bool good = frame.at_end() && ok.error < kMostErrno && ok.made <= 1 && whole &&
                              (ok.made == 1 || ok.error != 0) && ok.file.error < kMostErrno &&
                              (ok.made == 0 || ok.file.error != 0 || S_ISREG(ok.file.mode));
            if (!good) {
                frame.Fail();
                return done(Violation("malformed StoreOk"));
            }
            StoredFile stored;
            stored.error = static_cast<int>(ok.error);
            stored.made = ok.made == 1;
            if (stored.made) stored.identity = ToIdentity(ok.file);
            done(std::move(stored));
        });
    fields.flags = request.sync ? sup::kStoreSync : 0;
    fields.mode = request.mode & 07777;
    if (request.atime && request.mtime) {
        fields.times = 1;
        fields.atime = *request.atime;
        fields.mtime = *request.mtime;
    }
    fields.path = ToText(request.path);
    fields.bytes = ToText(request.bytes.view());
    SupWriter writer(Out(sup::Type::kStore), sup::Type::kStore);
    sup::PutStoreFields(writer, fields);
}

void SupervisorClient::Rename(const RenameRequest& request,
                              UniqueFunction<void(Result<int>)> done) {
    const std::uint32_t number =
        NextRequest(sup::Type::kRenameOk, [done = std::move(done)](Result<Frame*> answer) {
            if (!answer) return done(std::move(answer).error());
            Frame& frame = **answer;
            const std::uint32_t error = frame.U32();
            if (!frame.at_end() || error >= kMostErrno) {
                frame.Fail();
                return done(Violation("malformed RenameOk"));
            }
            done(static_cast<int>(error));
        });
    SupWriter writer(Out(sup::Type::kRename), sup::Type::kRename);
    writer.U32(number).U8(request.replace ? 1 : 0);
    writer.String(ToText(request.from)).String(ToText(request.to));
}

void SupervisorClient::Processes(UniqueFunction<void(Result<std::vector<RemoteProcess>>)> done) {
    const std::uint32_t request =
        NextRequest(sup::Type::kProcessesOk, [done = std::move(done)](Result<Frame*> answer) {
            if (!answer) return done(std::move(answer).error());
            Frame& frame = **answer;
            const std::uint32_t count = frame.U32();
            if (count > sup::kMaxBatch) return done(Violation("absurd number of processes"));
            std::vector<RemoteProcess> processes(count);
            for (RemoteProcess& process : processes) {
                process.pid = frame.U32();
                process.parent = frame.U32();
                process.name = Printable(View(frame.String()), 64);
            }
            if (!frame.ok()) return done(Violation("malformed ProcessesOk"));
            done(std::move(processes));
        });
    SupWriter(Out(sup::Type::kProcesses), sup::Type::kProcesses).U32(request);
}

void SupervisorClient::Environment(UniqueFunction<void(Result<std::vector<std::string>>)> done) {
    const std::uint32_t request =
        NextRequest(sup::Type::kEnvironOk, [done = std::move(done)](Result<Frame*> answer) {
            if (!answer) return done(std::move(answer).error());
            Frame& frame = **answer;
            const std::uint32_t count = frame.U32();
            if (count > sup::kMaxBatch) return done(Violation("absurd environment"));
            std::vector<std::string> variables(count);
            for (std::string& variable : variables)
                variable = View(frame.String());
            if (!frame.ok()) return done(Violation("malformed EnvironOk"));
            done(std::move(variables));
        });
    SupWriter(Out(sup::Type::kEnviron), sup::Type::kEnviron).U32(request);
}

void SupervisorClient::SetTimer(std::int64_t lifetime_ms, std::int64_t idle_ms, ExpiryAction action,
                                UniqueFunction<void(Result<TimerState>)> done) {
    const std::uint32_t request =
        NextRequest(sup::Type::kTimerOk, [done = std::move(done)](Result<Frame*> answer) {
            if (!answer) return done(std::move(answer).error());
            TimerState state;
            state.lifetime_left_ms = SaneMs((*answer)->U64());
            state.idle_left_ms = SaneMs((*answer)->U64());
            if (!(*answer)->ok()) return done(Violation("malformed TimerOk"));
            done(state);
        });
    SupWriter(Out(sup::Type::kTimer), sup::Type::kTimer)
        .U32(request)
        .U64(static_cast<std::uint64_t>(lifetime_ms))
        .U64(static_cast<std::uint64_t>(idle_ms))
        .U8(static_cast<std::uint8_t>(action));
}

void SupervisorClient::Ping(Done done) {
    const std::uint32_t request =
        NextRequest(sup::Type::kPong, [done = std::move(done)](const Result<Frame*>& answer) {
            done(answer ? Ok() : Status(answer.error()));
        });
    SupWriter(Out(sup::Type::kPing), sup::Type::kPing).U32(request);
}

void SupervisorClient::Shutdown(bool clear_spool, Done done) {
    const std::uint32_t request =
        NextRequest(sup::Type::kPong, [done = std::move(done)](const Result<Frame*>& answer) {
            done(answer ? Ok() : Status(answer.error()));
        });
    SupWriter(Out(sup::Type::kShutdown), sup::Type::kShutdown).U32(request).U8(clear_spool ? 1 : 0);
}

}  // namespace sbxfs
