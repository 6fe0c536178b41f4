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

namespace sbxfs {
namespace {

// From connected to the supervisor's hello; an upload starts it anew.
constexpr Duration kAttachLimit = std::chrono::seconds(30);
constexpr Duration kFirstExecRetry = std::chrono::milliseconds(20);
constexpr Duration kLongestExecRetry = std::chrono::seconds(5);
// An idle TCP link is proved this often by a question that crosses the whole path; a Unix socket
// needs no proof.
constexpr Duration kKeepAlive = std::chrono::seconds(15);
constexpr std::size_t kUploadPart = 256U << 10;
constexpr std::size_t kMaxErrorText = 4096;
constexpr std::size_t kLongestProof = 256;
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

std::string Machines() {
    std::vector<std::string> names;
    for (const SupervisorImage& image : SupervisorImages())
        names.emplace_back(image.machine);
    return Join(names, ", ");
}

}  // namespace

class SshAttachment::SftpChannel final : public ChannelUser {
 public:
    explicit SftpChannel(SshAttachment& owner) : owner_(owner) {}
    void OnOpen() override {
        owner_.sftp_->Start([this](const Status& status) { owner_.SftpReady(status); });
    }
    Status OnBytes(std::string_view bytes) override {
        owner_.heard_ += bytes.size();
        return owner_.sftp_->Feed(bytes);
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
    std::string errors_;
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
    // The first line the login shell printed on its way: that of uname -m, behind whatever start-up
    // files print.
    std::string Machine() const {
        std::string last;
        for (const std::string& line : Split(client_.Noise(), '\n')) {
            if (const std::string_view word = Trim(line); !word.empty()) last = word;
        }
        return last;
    }
    std::string Words() const { return Printable(Trim(errors_), 500); }

    void OnOpen() override {}
    Status OnBytes(std::string_view bytes) override {
        owner_.heard_ += bytes.size();
        const bool before = client_.Recognised();
        const Status status = client_.Feed(bytes);
        if (!before && client_.Recognised()) client_.Hello(owner_.request_.epoch);
        return status;
    }
    void OnErrorText(std::string_view text) override {
        if (errors_.size() < kMaxErrorText) errors_ += text;
    }
    std::string_view Unsent() const override { return client_.Unsent(); }
    void Sent(std::size_t count) override { client_.Sent(count); }
    void OnClosed(const Error& why, int exit_status) override {
        owner_.ExecClosed(why, exit_status);
    }

 private:
    SshAttachment& owner_;
    SupervisorClient client_;
    bool said_hello_ = false;
    std::string errors_;
};

// An upload on its way, step by step; each step's callback holds it.
struct SshAttachment::Upload {
    SshAttachment* owner = nullptr;  // cleared when it goes away
    std::shared_ptr<SftpFiles> files;
    std::string directory;
    std::string temporary;
    std::string program;
    std::string_view bytes;

    static void MakeDirectories(const std::shared_ptr<Upload>& self) {
        // One flight; that they exist is as good as making them.
        if (const std::string parent = SpoolParentOf(self->directory); !parent.empty())
            self->files->MakeDir(parent, 0700, [](const Result<RemoteStat>&) {});
        self->files->MakeDir(self->directory, 0700, [](const Result<RemoteStat>&) {});
        self->files->MakeDir(self->directory + "/bin", 0700,
                             [self](const Result<RemoteStat>&) { OpenTemporary(self); });
    }
    static void OpenTemporary(const std::shared_ptr<Upload>& self) {
        OpenHow how;
        how.write = how.create = how.exclusive = true;
        how.mode = 0700;
        self->files->Open(self->temporary, how, [self](Result<OpenedFile> opened) {
            if (!opened) return self->Finish(std::move(opened).error());
            WriteParts(self, opened->file);
        });
    }
    static void WriteParts(const std::shared_ptr<Upload>& self, const RemoteFilePtr& file) {
        struct Progress {
            std::size_t left = 0;
            std::optional<Error> first;
        };
        auto progress = std::make_shared<Progress>();
        progress->left = (self->bytes.size() + kUploadPart - 1) / kUploadPart;
        for (std::size_t at = 0; at < self->bytes.size(); at += kUploadPart) {
            self->files->Write(file, at, std::string(self->bytes.substr(at, kUploadPart)),
                               [self, file, progress](const Status& status) {
                                   if (!status && !progress->first)
                                       progress->first = status.error();
                                   if (--progress->left > 0) return;
                                   if (progress->first) return self->Finish(*progress->first);
                                   CloseAndRename(self, file);
                               });
        }
    }
    static void CloseAndRename(const std::shared_ptr<Upload>& self, const RemoteFilePtr& file) {
        self->files->Close(file, [self](Status status) {
            if (!status) return self->Finish(std::move(status));
            self->files->Rename(self->temporary, self->program, RemoteFiles::Replace::kYes,
                                [self](Status renamed) { self->Finish(std::move(renamed)); });
        });
    }
    void Finish(const Status& status) const {
        if (owner != nullptr) owner->Uploaded(status);
    }
};

SshAttachment::SshAttachment(IoLoop& loop, const AttachRequest& request,
                             AttachmentListener& listener, SupervisorListener& supervisor_listener)
    : loop_(loop),
      request_(request),
      listener_(listener),
      supervisor_listener_(supervisor_listener),
      directory_(SpoolDirOf(request.connect)) {
    dialing_ = Dial(loop_, request_.connect.address, request_.dial_limit,
                    [this](Result<Connected> connected) { Dialed(std::move(connected)); });
}

SshAttachment::~SshAttachment() {
    detached_ = true;  // nobody is to hear of what follows
    proving_.reset();
    if (upload_ != nullptr) upload_->owner = nullptr;
    const Error gone(Errno{EHOSTUNREACH}, "the link was closed", Blame::kRemote);
    if (sftp_ != nullptr) sftp_->FailAll(gone);
    if (exec_user_ != nullptr) exec_user_->client().FailAll(gone);
    exec_channel_.reset();
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
    if (upload_ != nullptr) upload_->owner = nullptr;
    // First the sandbox, so that it holds what fails next back for another link.
    listener_.OnDetached(why);
    if (sftp_ != nullptr) sftp_->FailAll(why);
    if (exec_user_ != nullptr) exec_user_->client().FailAll(why);
}

void SshAttachment::Dialed(Result<Connected> connected) {
    if (!connected) return Detach(connected.error());
    carrier_ = std::move(connected->carrier);
    listener_.OnAttachPhase("connected");
    limit_ = loop_.After(kAttachLimit, [this] {
        Detach(Error(Errno{ETIMEDOUT}, "the sandbox's sshd or supervisor did not answer in time",
                     Blame::kRemote));
    });
    SshLogin login{request_.connect.user,
                   {request_.connect.host_key},
                   request_.client_key,
                   request_.connect.auth};
    login.host_keys.insert(login.host_keys.end(), request_.connect.other_host_keys.begin(),
                           request_.connect.other_host_keys.end());
    link_ = std::make_unique<SshLink>(loop_, std::move(connected->socket), login, *this);
}

void SshAttachment::OnLoggedIn() {
    listener_.OnAttachPhase("logged_in");
    sftp_ = SftpClient::Make(request_.epoch);
    sftp_->SetWake([this] { link_->Kick(); });
    sftp_user_ = std::make_unique<SftpChannel>(*this);
    sftp_channel_ = link_->Open("", *sftp_user_);
    if (request_.connect.proof_sha256.empty()) OpenExec();
}

void SshAttachment::OnLinkLost(const Error& why) {
    Detach(why);
}

void SshAttachment::SftpReady(const Status& status) {
    if (detached_) return;
    if (!status) return Detach(status.error());
    files_ = SftpFiles::Make(sftp_, loop_);
    if (request_.connect.proof_sha256.empty()) return FilesReady();
    proving_ = std::make_shared<Proving>();
    ReadProof(0);
}

void SshAttachment::ReadProof(std::size_t which) {
    const std::vector<std::string>& places = request_.connect.proof_files;
    OpenHow how;
    how.read = true;
    const auto opened_next = [this, which,
                              weak = std::weak_ptr(proving_)](Result<OpenedFile> opened) {
        if (weak.expired() || detached_) return;
        const bool elsewhere = !opened && opened.error().code() == Errno{ENOENT} &&
                               which + 1 < request_.connect.proof_files.size();
        if (elsewhere) return ReadProof(which + 1);
        if (!opened) return Proven(opened.error());
        files_->Read(opened->file, {0, kLongestProof},
                     [this, weak, file = opened->file](const Result<std::string>& text) {
                         if (!weak.expired() && !detached_) Proven(text);
                     });
    };
    files_->Open(which < places.size() ? places[which] : "", how, opened_next);
}

void SshAttachment::Proven(const Result<std::string>& shown) {
    // An answer that failed because the link did says nothing about the sandbox.
    if (!shown && shown.error().code() == Errno{EHOSTUNREACH}) return Detach(shown.error());
    if (!shown || aws::Sha256Hex(Trim(*shown)) != request_.connect.proof_sha256) {
        return Detach(Error(Errno{EACCES},
                            "another sandbox answers at " + AddressText(request_.connect.address) +
                                ": it has the shared host key but not this sandbox's token",
                            Blame::kRemote));
    }
    listener_.OnAttachPhase("proven");
    OpenExec();
    FilesReady();
}

void SshAttachment::FilesReady() {
    files_up_ = true;
    if (exec_user_ != nullptr && exec_user_->said_hello()) limit_.reset();
    listener_.OnAttachPhase(kFilesPhase);
    listener_.OnFiles(*files_);
    if (want_upload_) StartUpload();
}

std::string SshAttachment::ProgramPath() const {
    return directory_ + "/bin/" + ProgramName();
}

void SshAttachment::OpenExec() {
    if (detached_ || !supervisor_wanted_) return;
    exec_channel_.reset();
    exec_user_ = std::make_unique<ExecChannel>(*this);
    exec_user_->client().SetWake([this] { link_->Kick(); });
    // Works in any login shell: nothing but words, quotes and the one variable all have.
    exec_channel_ = link_->Open(
        "uname -m; exec " + InShell(ProgramPath()) + " attach --spool " + InShell(directory_),
        *exec_user_);
}

// The supervisor wants an absolute spool; what SFTP takes as relative is below the home directory.
std::string SshAttachment::InShell(const std::string& path) const {
    return directory_.starts_with('/') ? ShellQuote(path) : "\"$HOME\"/" + ShellQuote(path);
}

void SshAttachment::SupervisorReady(const SupervisorHello& hello) {
    if (detached_) return;
    if (files_up_) limit_.reset();  // else the files' channel is still to be waited for
    exec_failures_ = 0;
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
    exec_user_->client().FailAll(why);
    if (!supervisor_wanted_) return;
    if (was_up) {
        listener_.OnSupervisorLost(Error(Errno{EHOSTUNREACH},
                                         "the supervisor in the sandbox ended; it is started again",
                                         Blame::kRemote));
        return RetryExec(why);
    }
    if (exit_status == kNotFound || (exit_status == kNotExecutable && !uploaded_)) {
        return SupervisorMissing();
    }
    const std::string words = exec_user_->Words();
    RetryExec(Error(
        Errno{EHOSTUNREACH},
        "the supervisor does not start in the sandbox" +
            (words.empty() ? " (exit status " + std::to_string(exit_status) + ")" : ": " + words),
        Blame::kRemote));
}

void SshAttachment::SupervisorMissing() {
    if (uploaded_) {
        return RetryExec(Error(Errno{EHOSTUNREACH},
                               "the supervisor was brought to " + ProgramPath() +
                                   " but cannot be run there: is that directory mounted noexec?",
                               Blame::kRemote));
    }
    want_upload_ = true;
    if (files_up_) StartUpload();
}

void SshAttachment::UploadIfSpool() {
    files_->Lstat(directory_, [this](const Result<RemoteStat>& spool) {
        if (detached_ || !supervisor_wanted_) return;
        if (spool || spool.error().code() != Errno{ENOENT}) {
            request_.bring = AttachRequest::Bring::kAlways;
            return StartUpload();
        }
        limit_.reset();
        listener_.OnSupervisorLost(spool.error());
    });
}

void SshAttachment::StartUpload() {
    want_upload_ = false;
    if (request_.bring == AttachRequest::Bring::kIfSpool) return UploadIfSpool();
    const std::string machine = exec_user_->Machine();
    const SupervisorImage* image = ImageFor(machine);
    if (image == nullptr) {
        return Detach(Error(Errno{EOPNOTSUPP},
                            "the sandbox is a '" + Printable(machine, 32) +
                                "' machine; sbxfs can run commands on " + Machines() + " only",
                            Blame::kRemote));
    }
    upload_ = std::make_shared<Upload>();
    upload_->owner = this;
    upload_->files = files_;
    upload_->directory = directory_;
    upload_->program = ProgramPath();
    upload_->temporary = upload_->program + ".new-" + Hex(RandomBytes(6));
    upload_->bytes = image->bytes;
    Upload::MakeDirectories(upload_);
}

void SshAttachment::Uploaded(const Status& status) {
    upload_.reset();
    if (detached_) return;
    if (!status) {
        return RetryExec(status.error().While("bringing the supervisor to " + directory_));
    }
    uploaded_ = true;
    listener_.OnAttachPhase("uploaded");
    retry_ = loop_.After(Duration::zero(),
                         [this] { OpenExec(); });  // not from within a channel's callback
}

void SshAttachment::RetryExec(const Error& why) {
    if (!supervisor_wanted_) return;
    Log(LogLevel::kDebug, "supervisor channel closed", {{"why", why}});
    ++exec_failures_;
    // The sandbox asks its provider what is wrong.
    if (exec_failures_ > 6) return Detach(Error(Errno{ENOEXEC}, why.what(), why.blame()));
    if (limit_ == nullptr) {
        limit_ = loop_.After(kAttachLimit, [this, why] { Detach(why); });
    }
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

std::unique_ptr<Attachment> SshAttacher::Attach(Loop& loop, const AttachRequest& request,
                                                AttachmentListener& listener,
                                                SupervisorListener& supervisor_listener) {
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-static-cast-downcast): every real loop is an
    // IoLoop.
    return std::make_unique<SshAttachment>(static_cast<IoLoop&>(loop), request, listener,
                                           supervisor_listener);
}

}  // namespace sbxfs
