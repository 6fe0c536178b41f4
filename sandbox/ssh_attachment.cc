#include "sandbox/ssh_attachment.h"

#include <errno.h>

#include <algorithm>
#include <utility>

#include "aws/crypto.h"
#include "base/check.h"
#include "base/files.h"
#include "base/log.h"
#include "base/strings.h"
#include "sandbox/spool_place.h"
#include "sandbox/supervisor/image.h"
#include "sandbox/supervisor_bootstrap.h"

namespace sbxfs {
namespace {

// From connected to the supervisor's hello; bringing it starts it anew.
constexpr Duration kAttachLimit = std::chrono::seconds(30);
constexpr Duration kFirstExecRetry = std::chrono::milliseconds(20);
constexpr Duration kLongestExecRetry = std::chrono::seconds(5);
// An idle TCP link is proved this often by a question that crosses the whole path; a Unix socket
// needs no proof.
constexpr Duration kKeepAlive = std::chrono::seconds(15);
constexpr std::size_t kMaxErrorText = 4096;
// A second channel of files that nobody uses is looked at this often, and closed.
constexpr Duration kLaneTick = std::chrono::seconds(15);
// A server that refuses it, or ends it, is not asked for ever.
constexpr int kMostLaneLosses = 3;
// What a shell says of a program it cannot find (127) or not execute (126).
constexpr int kNotFound = 127;
constexpr int kNotExecutable = 126;

// One name for all machines: which program it is depends on the machine, not the name.
std::string ProgramName() {
    std::string hashes;
    for (const SupervisorImage& image : SupervisorImages())
        hashes += image.hash;
    const std::uint64_t all = Fnv1a(hashes);
    const std::string bytes(reinterpret_cast<const char*>(&all), sizeof all);
    return "sbxfs-supervisor-" + Hex(bytes);
}

const SupervisorImage* ImageFor(std::string_view machine) {
    for (const SupervisorImage& image : SupervisorImages()) {
        if (image.machine == machine) return &image;
    }
    return nullptr;
}

Error TooMuchNoise() {
    return {Errno{EIO},
            "the login shell prints without end before it starts; check its start-up files",
            Blame::kRemote};
}

Error StoppedInsideAnAnswer() {
    return {Errno{EHOSTUNREACH}, "the file server there has stopped inside an answer",
            Blame::kRemote};
}

std::string Machines() {
    std::vector<std::string> names;
    for (const SupervisorImage& image : SupervisorImages())
        names.emplace_back(image.machine);
    return Join(names, ", ");
}

}  // namespace

class SshAttachment::SftpChannel final : public ChannelUser {
 public:
    explicit SftpChannel(SshAttachment& owner)
        : owner_(owner), watch_(owner.loop_, owner.sftp_, owner.AskSupervisor(), [&owner] {
              owner.Detach(StoppedInsideAnAnswer());
          }) {}
    void OnOpen() override {
        if (owner_.detached_) return;
        owner_.sftp_->Start([this](const Status& status) { owner_.SftpReady(status); });
    }
    Status OnBytes(std::string_view bytes) override {
        owner_.heard_ += bytes.size();
        const Status fed = owner_.sftp_->Feed(bytes);
        if (fed) watch_.Heard();
        return fed;
    }
    void OnErrorText(std::string_view text) override {
        if (errors_.size() < kMaxErrorText) errors_ += text;
    }
    std::string_view Unsent() const override { return owner_.sftp_->Unsent(); }
    void Sent(std::size_t count) override { owner_.sftp_->Sent(count); }
    void OnClosed(const Error& why, int) override {
        const std::string words = errors_.empty() ? "" : " (" + Printable(Trim(errors_)) + ")";
        owner_.Detach(
            Error(why.code(), "the sftp channel ended: " + why.what() + words, why.blame()));
    }

 private:
    SshAttachment& owner_;
    StallWatch watch_;
    std::string errors_;
};

// Its end is not the link's.
class SshAttachment::LaneChannel final : public ChannelUser {
 public:
    explicit LaneChannel(SshAttachment& owner)
        : owner_(owner), watch_(owner.loop_, owner.lane_, owner.AskSupervisor(), [&owner] {
              owner.LaneLost(StoppedInsideAnAnswer());
          }) {}
    void OnOpen() override {
        // The link may have been given up while this was on its way.
        if (owner_.detached_ || owner_.lane_ended_) return;
        owner_.lane_->Start([this](const Status& status) { owner_.LaneReady(status); });
    }
    Status OnBytes(std::string_view bytes) override {
        owner_.heard_ += bytes.size();
        const Status fed = owner_.lane_->Feed(bytes);
        if (fed) watch_.Heard();
        return fed;
    }
    void OnErrorText(std::string_view) override {}
    std::string_view Unsent() const override { return owner_.lane_->Unsent(); }
    void Sent(std::size_t count) override { owner_.lane_->Sent(count); }
    void OnClosed(const Error& why, int) override { owner_.LaneLost(why); }

 private:
    SshAttachment& owner_;
    StallWatch watch_;
};

class SshAttachment::ExecChannel final : public ChannelUser {
 public:
    explicit ExecChannel(SshAttachment& owner)
        : owner_(owner), client_(owner.supervisor_listener_, [this](const SupervisorHello& hello) {
              said_hello_ = true;
              owner_.SupervisorReady(hello);
          }) {}

    SupervisorClient& client() { return client_; }
    bool said_hello() const { return said_hello_; }
    std::string Words() const { return Printable(Trim(errors_), 500); }

    // Nothing that follows this word is lost, so the supervisor can be greeted before it is there.
    void Run() {
        word_ = kRunWord;
        Greet();
    }
    // What follows may be lost together with the program's end (kScript): greeted when it has spoken.
    void Bring(const SupervisorImage& image) {
        brings_ = true;
        word_ = BringWords(image.bytes.size(), Hex(RandomBytes(6)));
        program_ = image.bytes;
        owner_.link_->Kick();
    }
    void Leave() {
        word_ = kLeaveWord;
        owner_.link_->Kick();
    }
    bool brings() const { return brings_; }

    void OnOpen() override {}
    Status OnBytes(std::string_view bytes) override {
        owner_.heard_ += bytes.size();
        // Nobody is taken for the supervisor before it is known where this is.
        std::string behind;
        if (!site_known_) {
            before_site_ += bytes;
            const auto site = TakeSite(before_site_);
            if (!site && before_site_.size() > SupervisorClient::kMaxNoise) return TooMuchNoise();
            if (!site) return Ok();
            site_known_ = true;
            owner_.SiteKnown(*site);
            if (owner_.detached_) return Ok();
            behind = std::move(before_site_);
            bytes = behind;
        }
        const bool before = client_.Recognised();
        const Status status = client_.Feed(bytes);
        if (!status) return status;
        if (!before && client_.Recognised() && brings_) {
            owner_.Brought();
            Greet();
        }
        return status;
    }
    void OnErrorText(std::string_view text) override {
        if (errors_.size() < kMaxErrorText) errors_ += text;
    }
    std::string_view Unsent() const override {
        if (!word_.empty()) return word_;
        return program_.empty() ? client_.Unsent() : program_;
    }
    void Sent(std::size_t count) override {
        if (!word_.empty()) {
            word_.erase(0, count);
        } else if (!program_.empty()) {
            program_.remove_prefix(count);
        } else {
            client_.Sent(count);
        }
    }
    void OnClosed(const Error& why, int exit_status) override {
        owner_.ExecClosed(why, exit_status);
    }

 private:
    void Greet() { client_.Hello(owner_.request_.epoch); }

    SshAttachment& owner_;
    SupervisorClient client_;
    std::string before_site_;
    bool site_known_ = false;
    bool brings_ = false;
    bool said_hello_ = false;
    std::string word_;          // what of it is unsent
    std::string_view program_;  // likewise, where it is brought
    std::string errors_;
};

SshAttachment::SshAttachment(IoLoop& loop, const AttachRequest& request,
                             AttachmentListener& listener, SupervisorListener& supervisor_listener)
    : loop_(loop),
      request_(request),
      listener_(listener),
      supervisor_listener_(supervisor_listener),
      directory_(SpoolDirOf(request.connect)),
      proven_(request.connect.proof_sha256.empty()) {
    dialing_ = Dial(loop_, request_.connect.address, request_.dial_limit,
                    [this](Result<Connected> connected) { Dialed(std::move(connected)); });
}

SshAttachment::~SshAttachment() {
    detached_ = true;  // nobody is to hear of what follows
    const Error gone(Errno{EHOSTUNREACH}, "the link was closed", Blame::kRemote);
    if (sftp_ != nullptr) sftp_->FailAll(gone);
    if (lane_ != nullptr) lane_->FailAll(gone);
    if (exec_user_ != nullptr) exec_user_->client().FailAll(gone);
    exec_channel_.reset();
    lane_channel_.reset();
    sftp_channel_.reset();
    link_.reset();
}

void SshAttachment::Detach(const Error& reason) {
    if (std::exchange(detached_, true)) return;
    const std::string words = carrier_ == nullptr ? "" : carrier_->Words();
    const Error why(reason.code(),
                    words.empty() ? reason.what()
                                  : reason.what() + " (" + AddressText(request_.connect.address) +
                                        ": " + words + ")",
                    reason.blame());
    limit_.reset();
    retry_.reset();
    keepalive_.reset();
    lane_timer_.reset();
    // First the sandbox, so that it holds what fails next back for another link.
    listener_.OnDetached(why);
    if (sftp_ != nullptr) sftp_->FailAll(why);
    if (lane_ != nullptr) lane_->FailAll(why);
    if (exec_user_ != nullptr) exec_user_->client().FailAll(why);
}

void SshAttachment::Dialed(Result<Connected> connected) {
    if (!connected) return Detach(connected.error());
    carrier_ = std::move(connected->carrier);
    listener_.OnAttachPhase("connected");
    Limit(Error(Errno{ETIMEDOUT}, "the sandbox's sshd or supervisor did not answer in time",
                Blame::kRemote));
    SshLogin login{request_.connect.user,
                   {request_.connect.host_key},
                   request_.client_key,
                   request_.connect.auth};
    login.host_keys.insert(login.host_keys.end(), request_.connect.other_host_keys.begin(),
                           request_.connect.other_host_keys.end());
    link_ = std::make_unique<SshLink>(loop_, std::move(connected->socket), login, *this);
}

void SshAttachment::Limit(const Error& why) {
    limit_ = loop_.After(kAttachLimit, [this, why] { Detach(why); });
}

void SshAttachment::OnLoggedIn() {
    listener_.OnAttachPhase("logged_in");
    sftp_ = SftpClient::Make(request_.epoch);
    sftp_->SetWake([this] { link_->Kick(); });
    sftp_user_ = std::make_unique<SftpChannel>(*this);
    sftp_channel_ = link_->Open("", *sftp_user_);
    OpenExec();
}

void SshAttachment::OnLinkLost(const Error& why) {
    Detach(why);
}

void SshAttachment::SftpReady(const Status& status) {
    if (detached_) return;
    if (!status) return Detach(status.error());
    files_ = SftpFiles::Make(sftp_, loop_);
    if (proven_) FilesReady();
}

void SshAttachment::FilesReady() {
    files_up_ = true;
    if (exec_user_ != nullptr && exec_user_->said_hello()) limit_.reset();
    listener_.OnAttachPhase(kFilesPhase);
    listener_.OnFiles(*files_);
    if (undecided_) Decide();
}

std::string SshAttachment::ProgramPath() const {
    return directory_ + "/bin/" + ProgramName();
}

void SshAttachment::OpenExec() {
    if (detached_ || !supervisor_wanted_) return;
    exec_channel_.reset();
    undecided_ = false;
    exec_user_ = std::make_unique<ExecChannel>(*this);
    exec_user_->client().SetWake([this] { link_->Kick(); });
    exec_channel_ = link_->Open(
        BootstrapCommand(ProgramPath(), directory_, request_.connect.proof_files), *exec_user_);
}

void SshAttachment::SiteKnown(const SupervisorSite& site) {
    if (detached_) return;
    site_ = site;
    if (proven_ || Prove()) Decide();
}

void SshAttachment::Decide() {
    using Bring = AttachRequest::Bring;
    using Program = SupervisorSite::Program;
    undecided_ = false;
    if (!supervisor_wanted_) return exec_user_->Leave();
    const bool usable = site_.program == Program::kPresent && !unusable_;
    // Brought before and still missing: running it says why.
    if (usable || brought_) return exec_user_->Run();
    if (request_.bring != Bring::kAtOnce && !files_up_) {
        undecided_ = true;
        return;
    }
    if (site_.program == Program::kNoSpool && request_.bring == Bring::kIfSpool) {
        exec_user_->Leave();
        supervisor_wanted_ = false;
        limit_.reset();
        return listener_.OnSupervisorLost(
            Error(Errno{ENOENT}, "there is no " + directory_, Blame::kRemote));
    }
    const SupervisorImage* image = ImageFor(site_.machine);
    if (image == nullptr) {
        return Detach(Error(Errno{EOPNOTSUPP},
                            "the sandbox is a '" + Printable(site_.machine, 32) +
                                "' machine; sbxfs can run commands on " + Machines() + " only",
                            Blame::kRemote));
    }
    Limit(Error(Errno{ETIMEDOUT}, "bringing the supervisor took too long", Blame::kRemote));
    exec_user_->Bring(*image);
}

bool SshAttachment::Prove() {
    if (aws::Sha256Hex(site_.proof) != request_.connect.proof_sha256) {
        Detach(Error(Errno{EACCES},
                     "another sandbox answers at " + AddressText(request_.connect.address) +
                         ": it has the shared host key but not this sandbox's token",
                     Blame::kRemote));
        return false;
    }
    proven_ = true;
    listener_.OnAttachPhase("proven");
    if (files_ != nullptr) FilesReady();
    return !detached_;
}

void SshAttachment::SupervisorReady(const SupervisorHello& hello) {
    if (detached_) return;
    if (files_up_) limit_.reset();  // else the files' channel is still to be waited for
    exec_failures_ = 0;
    brought_ = unusable_ =
        false;  // should it be gone when it is started again, it is missing as before
    listener_.OnAttachPhase("supervisor");
    const bool absolute = directory_.starts_with('/');
    listener_.OnSupervisor(exec_user_->client(), hello,
                           absolute ? directory_ : hello.home + "/" + directory_);
    if (!std::holds_alternative<UnixAddress>(request_.connect.address) && keepalive_ == nullptr)
        KeepAlive();
}

void SshAttachment::ExecClosed(const Error& why, int exit_status) {
    if (detached_) return;
    const bool was_up = exec_user_->said_hello();
    // Before its questions fail: who hears of one must not ask the next.
    if (was_up && supervisor_wanted_) {
        listener_.OnSupervisorLost(Error(Errno{EHOSTUNREACH},
                                         "the supervisor in the sandbox ended; it is started again",
                                         Blame::kRemote));
    }
    exec_user_->client().FailAll(why);
    if (!supervisor_wanted_) return;
    if (was_up) return RetryExec(why);
    const bool ours = exec_user_->brings() || brought_;
    if (ours && (exit_status == kNotFound || exit_status == kNotExecutable)) {
        brought_ = true;
        return RetryExec(Error(Errno{EHOSTUNREACH},
                               "the supervisor was brought to " + ProgramPath() +
                                   " but cannot be run there: is that directory mounted noexec?",
                               Blame::kRemote));
    }
    // What was there may be another machine's, which a shell may even take for a script.
    unusable_ = !ours;
    const std::string words = exec_user_->Words();
    RetryExec(Error(
        Errno{EHOSTUNREACH},
        (exit_status == kNotBrought ? "bringing the supervisor to " + directory_ + " failed"
                                    : "the supervisor does not start in the sandbox") +
            (words.empty() ? " (exit status " + std::to_string(exit_status) + ")" : ": " + words),
        Blame::kRemote));
}

void SshAttachment::Brought() {
    brought_ = true;
    listener_.OnAttachPhase("uploaded");
}

void SshAttachment::RetryExec(const Error& why) {
    if (!supervisor_wanted_) return;
    Log(LogLevel::kDebug, "supervisor channel closed", {{"why", why}});
    ++exec_failures_;
    // The sandbox asks its provider what is wrong.
    if (exec_failures_ > 6) return Detach(Error(Errno{ENOEXEC}, why.what(), why.blame()));
    if (limit_ == nullptr) Limit(why);
    const Duration delay =
        std::min(kLongestExecRetry, kFirstExecRetry * (1 << (exec_failures_ * 2 - 2)));
    retry_ = loop_.After(delay, [this] { OpenExec(); });
}

void SshAttachment::KeepAlive() {
    keepalive_ = loop_.After(kKeepAlive, [this] {
        if (heard_ != heard_before_ || exec_user_ == nullptr || !exec_user_->said_hello()) {
            heard_before_ = heard_;
            return KeepAlive();
        }
        exec_user_->client().Ping([](const Status&) {});
        keepalive_ = loop_.After(kKeepAlive, [this] {
            if (heard_ != heard_before_) {
                heard_before_ = heard_;
                return KeepAlive();
            }
            Detach(Error(Errno{EHOSTUNREACH}, "the link is silent", Blame::kRemote));
        });
    });
}

StallWatch::Ask SshAttachment::AskSupervisor() {
    return [this](Job answered) {
        if (exec_user_ == nullptr || !exec_user_->said_hello()) return;
        exec_user_->client().Ping([answered = std::move(answered)](const Status& status) {
            if (status) answered();
        });
    };
}

void SshAttachment::WantLane() {
    if (detached_ || !files_up_ || !lane_ended_ || lane_losses_ >= kMostLaneLosses) return;
    lane_ended_ = false;
    // Not from within another channel's turn: what is left of an earlier lane is destroyed.
    lane_timer_ = loop_.After(Duration::zero(), [this] { OpenLane(); });
}

void SshAttachment::OpenLane() {
    lane_channel_.reset();
    lane_ = SftpClient::Make(request_.epoch);
    lane_->SetWake([this] { link_->Kick(); });
    lane_user_ = std::make_unique<LaneChannel>(*this);
    lane_channel_ = link_->Open("", *lane_user_);
    // A server that accepts it and says nothing must not keep it.
    lane_timer_ = loop_.After(kLaneTick, [this] {
        LaneLost(Error(Errno{ETIMEDOUT}, "the second channel was not answered", Blame::kRemote));
    });
}

void SshAttachment::LaneReady(const Status& status) {
    if (detached_ || !status) return;  // its end follows
    lane_files_ = SftpFiles::Make(lane_, loop_);
    lane_up_ = true;
    lane_requests_ = lane_->counters().requests;
    WatchLane();
    listener_.OnLane(lane_files_.get());
}

void SshAttachment::LaneLost(const Error& why) {
    if (std::exchange(lane_ended_, true)) return;
    ++lane_losses_;
    Log(LogLevel::kDebug, "the second channel of files ended", {{"why", why}});
    lane_timer_.reset();
    // First its user, so that what fails next is known to be the lane's alone.
    if (std::exchange(lane_up_, false) && !detached_) listener_.OnLane(nullptr);
    lane_->FailAll(why);
    // Not from within its own turn. Closed there, too: what the server has not begun to write it must not write later.
    if (!detached_) lane_timer_ = loop_.After(Duration::zero(), [this] { lane_channel_.reset(); });
}

void SshAttachment::WatchLane() {
    lane_timer_ = loop_.After(kLaneTick, [this] {
        const std::uint64_t requests = lane_->counters().requests;
        if (requests != std::exchange(lane_requests_, requests) || lane_->InFlight() != 0)
            return WatchLane();
        // A program less there; the handles it still holds are closed with it.
        lane_ended_ = true;
        lane_up_ = false;
        listener_.OnLane(nullptr);
        lane_->FailAll(Error(Errno{EHOSTUNREACH}, "it was not used", Blame::kRemote));
        lane_channel_.reset();
    });
}

std::unique_ptr<Attachment> SshAttacher::Attach(Loop& loop, const AttachRequest& request,
                                                AttachmentListener& listener,
                                                SupervisorListener& supervisor_listener) {
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-static-cast-downcast): every real loop is an
    // IoLoop.
    return std::make_unique<SshAttachment>(static_cast<IoLoop&>(loop), request, listener,
                                           supervisor_listener);
}

}  // namespace sbxfs
