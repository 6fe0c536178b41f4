#include "sandbox/sftp_client.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/check.h"

namespace sbxfs {
namespace {

// No more than OpenSSH gives, whatever a server claims: it is what one answer may cost us in
// memory.
constexpr std::size_t kMaxData = (256U << 10) - 1024;
// A handle, an offset and lengths around the data of a WRITE.
constexpr std::size_t kWriteOverhead = 1024;

// In the versions whose requests we know how to write.
struct KnownExtension {
    std::string_view name;
    std::string_view version;
    bool SftpExtensions::*member;
};
constexpr auto kKnownExtensions = std::to_array<KnownExtension>({
    {"posix-rename@openssh.com", "1", &SftpExtensions::posix_rename},
    {"hardlink@openssh.com", "1", &SftpExtensions::hardlink},
    {"fsync@openssh.com", "1", &SftpExtensions::fsync},
    {"statvfs@openssh.com", "2", &SftpExtensions::statvfs},
    {"fstatvfs@openssh.com", "2", &SftpExtensions::fstatvfs},
    {"lsetstat@openssh.com", "1", &SftpExtensions::lsetstat},
    {"limits@openssh.com", "1", &SftpExtensions::limits},
    {"copy-data", "1", &SftpExtensions::copy_data},
    {"expand-path@openssh.com", "1", &SftpExtensions::expand_path},
});

Error Broken(std::string_view what) {
    return {Errno{EIO}, "sftp: the server broke the protocol: " + std::string(what),
            Blame::kRemote};
}

// SSH_FXP_STATUS: the code, then (in version 3, but not from every server) words and their
// language.
Result<SftpRefusal> ParseStatus(std::string_view body) {
    PacketReader in(body);
    const std::uint32_t code = TRY(in.U32());
    SftpRefusal refusal;
    if (in.left() != 0) refusal.text = TRY(in.Text());
    if (in.left() != 0) (void)TRY(in.Text());
    if (in.left() != 0) return Broken("bytes behind the end of a STATUS");
    switch (code) {
        case 0:
        case 1:
        case 2:
        case 3:
        case 5:
        case 8:
            refusal.status = SftpStatus{code};
            break;
        default:  // 6 and 7 are not a server's to say, later versions' codes mean failures we have
                  // no word for
            refusal.status = SftpStatus::kFailure;
    }
    return refusal;
}

Result<SftpLimits> ParseLimits(std::string_view body) {
    PacketReader in(body);
    const std::uint64_t packet = TRY(in.U64());
    const std::uint64_t read = TRY(in.U64());
    const std::uint64_t write = TRY(in.U64());
    SftpLimits limits;
    limits.handles = TRY(in.U64());
    // 0 means "no idea". Less than the draft guarantees is not believed, more than we would hold is
    // not used.
    const auto between = [](std::uint64_t said, std::size_t least, std::size_t most) {
        return static_cast<std::size_t>(std::clamp<std::uint64_t>(said, least, most));
    };
    limits.packet = between(packet, limits.packet, kSftpMaxPacket);
    limits.read = between(read, limits.read, kMaxData);
    limits.write = between(write, limits.write, std::min(kMaxData, limits.packet - kWriteOverhead));
    return limits;
}

// Before the first packet the usual reason is not the server.
Error WithShellRemedy(const Error& error) {
    return {
        error.code(),
        error.what() + "; if a start-up file of the login shell there prints something, silence it",
        error.blame()};
}

template <class T>
Result<T> Whole(PacketReader& in, Result<T> value) {
    if (value && in.left() != 0) return Broken("bytes behind the end of an answer");
    return value;
}

Result<std::string> OneHandle(PacketReader& in) {
    const std::string_view handle = TRY(Whole(in, in.Text()));
    if (handle.empty() || handle.size() > kSftpMaxHandle) return Broken("an absurd handle");
    return std::string(handle);
}

Result<std::string> OneName(PacketReader& in) {
    std::vector<SftpName> names = TRY(Whole(in, in.Names()));
    if (names.size() != 1) return Broken("not exactly one name");
    return std::move(names.front().name);
}

}  // namespace

std::shared_ptr<SftpClient> SftpClient::Make(std::uint64_t link, std::uint32_t first_id) {
    return std::shared_ptr<SftpClient>(new SftpClient(link, first_id));
}

// NOLINTNEXTLINE(bugprone-exception-escape): as declared.
SftpClient::~SftpClient() {
    FailAll(Error(Errno{EHOSTUNREACH}, "sftp: the connection was closed", Blame::kRemote));
}

void SftpClient::Start(UniqueFunction<void(Status)> ready) {
    CHECK(state_ == State::kNew);
    state_ = State::kGreeting;
    ready_ = std::move(ready);
    std::string init;
    Put32(5, init);
    init += static_cast<char>(SftpType::kInit);
    Put32(kSftpVersion, init);
    output_.Append(init);
    counters_.round_trips = 1;
    sandbox_metrics.sftp_requests.AddTo(sandbox_metrics.sftp_requests.PlaceOf("init"));
    Wake();
}

Status SftpClient::Feed(std::string_view bytes) {
    CHECK(!feeding_);
    const std::shared_ptr<SftpClient> keep =
        shared_from_this();  // a callback may drop the owner's reference
    counters_.bytes_in += bytes.size();
    sandbox_metrics.sftp_bytes.AddTo(static_cast<std::size_t>(Direction::kReceived), bytes.size());
    while (state_ != State::kEnded) {
        Result<std::optional<SftpPacket>> packet = input_.Next(bytes);
        if (packet && !*packet) return Ok();
        ++counters_.packets_in;
        feeding_ = true;
        const bool greeting = state_ == State::kGreeting;
        Status taken = Ok();
        if (!packet) {
            taken = greeting ? WithShellRemedy(packet.error()) : packet.error();
        } else if (greeting) {
            taken = TakeVersion(**packet);
        } else {
            taken = TakeAnswer(std::move(**packet));
        }
        feeding_ = false;
        if (!taken) FailAll(taken.error());
    }
    return *failure_;
}

void SftpClient::Sent(std::size_t count) {
    if (state_ == State::kEnded) return;  // what waited is gone already
    counters_.bytes_out += count;
    sandbox_metrics.sftp_bytes.AddTo(static_cast<std::size_t>(Direction::kSent), count);
    output_.Sent(count);
}

void SftpClient::FailAll(const Error& why) {
    if (state_ == State::kEnded) return;
    const std::shared_ptr<SftpClient> keep = weak_from_this().lock();  // none within the destructor
    state_ = State::kEnded;
    failure_ = why;
    output_.Clear();
    // From here on new requests are refused on the spot, so nothing is added to what is told now.
    std::vector<Waiting> doomed;
    doomed.reserve(waiting_.size());
    for (auto& [id, waiting] : waiting_)
        doomed.push_back(std::move(waiting));
    waiting_.clear();
    in_flight_.Set(0);
    std::sort(doomed.begin(), doomed.end(),
              [](const Waiting& a, const Waiting& b) { return a.order < b.order; });
    if (ready_) std::exchange(ready_, {})(why);
    for (Waiting& waiting : doomed)
        Refuse(waiting.back, SftpRefusal::Lost(why));
}

// --- Answers

Status SftpClient::TakeVersion(const SftpPacket& packet) {
    if (packet.type != SftpType::kVersion) {
        return WithShellRemedy(Broken("something else than VERSION came first"));
    }
    if (packet.id != kSftpVersion) {
        return Error(Errno{EIO},
                     "sftp: the server speaks only version " + std::to_string(packet.id) +
                         ", not 3: install OpenSSH's sftp-server there",
                     Blame::kRemote);
    }
    PacketReader in(packet.body);
    for (const SftpExtension& offered : TRY(ParseExtensions(in))) {
        for (const KnownExtension& known : kKnownExtensions) {
            if (offered.name == known.name && offered.version == known.version) {
                extensions_.*known.member = true;
            }
        }
    }
    answered_trip_ = 1;
    state_ = State::kReady;
    if (extensions_.limits) AskLimits();
    if (ready_) std::exchange(ready_, {})(Ok());
    return Ok();
}

void SftpClient::AskLimits() {
    (void)BeginExtended("limits@openssh.com");
    // Nobody waits for it: until it is answered, and where it is refused, the draft's own sizes hold.
    Finish(Want::kLimits, Callback<SftpLimits>([this](SftpAnswer<SftpLimits> limits) {
               if (limits) limits_ = *limits;
           }));
}

Status SftpClient::TakeAnswer(SftpPacket packet) {
    const auto at = waiting_.find(packet.id);
    if (at == waiting_.end()) {
        return Broken("an answer to nobody (id " + std::to_string(packet.id) + ")");
    }
    if (packet.type != SftpType::kStatus) return TakeValue(at, std::move(packet));
    SftpRefusal status = TRY(ParseStatus(packet.body));
    if (status.status != SftpStatus::kOk) {
        Refuse(Claim(at).back, std::move(status));
        return Ok();
    }
    if (at->second.want != Want::kStatus) return Broken("OK without what was asked for");
    std::get<DoneBack>(Claim(at).back)(Unit{});
    return Ok();
}

// Nothing leaves waiting_ before its answer has been understood: whoever waits for a malformed one
// is told by FailAll, like everybody else.
Status SftpClient::TakeValue(WaitingMap::iterator at, SftpPacket packet) {
    const Want want = at->second.want;
    if (packet.type != AnswerTo(want)) {
        return Broken("an answer of the wrong type (" +
                      std::to_string(static_cast<int>(packet.type)) + ")");
    }
    PacketReader in(packet.body);
    switch (want) {
        case Want::kStatus:
            break;  // STATUS does not come here
        case Want::kAttrs:
            return Deliver(at, Whole(in, in.Attrs()));
        case Want::kNames:
            return Deliver(at, Whole(in, in.Names()));
        case Want::kStatvfs:
            return Deliver(at, Whole(in, in.Statvfs()));
        case Want::kLimits:
            return Deliver(at, ParseLimits(packet.body));
        case Want::kHandle:
            return Deliver(at, OneHandle(in));
        case Want::kOneName:
            return Deliver(at, OneName(in));
        case Want::kData:
            if (packet.data.size() > at->second.asked)
                return Broken("more data than was asked for");
            sandbox_metrics.file_bytes.AddTo(static_cast<std::size_t>(Direction::kReceived),
                                             packet.data.size());
            return Deliver<std::string>(at, std::move(packet.data));
    }
    return Broken("a value for a request that has none");
}

template <class T>
Status SftpClient::Deliver(WaitingMap::iterator at, Result<T> value) {
    if (!value) return std::move(value).error();
    std::get<Callback<T>>(Claim(at).back)(std::move(*value));
    return Ok();
}

SftpClient::Waiting SftpClient::Claim(WaitingMap::iterator at) {
    Waiting waiting = std::move(at->second);
    waiting_.erase(at);
    in_flight_.Set(static_cast<std::int64_t>(waiting_.size()));
    answered_trip_ = std::max(answered_trip_, waiting.trip);
    return waiting;
}

SftpType SftpClient::AnswerTo(Want want) {
    switch (want) {
        case Want::kStatus:
            return SftpType::kStatus;
        case Want::kAttrs:
            return SftpType::kAttrs;
        case Want::kHandle:
            return SftpType::kHandle;
        case Want::kData:
            return SftpType::kData;
        case Want::kOneName:
        case Want::kNames:
            return SftpType::kName;
        case Want::kStatvfs:
        case Want::kLimits:
            return SftpType::kExtendedReply;
    }
    return SftpType::kStatus;
}

void SftpClient::Refuse(const Back& back, SftpRefusal refusal) {
    std::visit([&](const auto& done) { done(std::move(refusal)); }, back);
}

void SftpClient::Wake() {
    if (wake_) wake_();
}

}  // namespace sbxfs
