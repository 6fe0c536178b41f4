#include "sandbox/ssh_link.h"

#include <errno.h>
#include <fcntl.h>
#include <libssh/libssh.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "base/strings.h"

namespace sbxfs {
namespace {

// AES-GCM first: with AES instructions it carries about 1.7 times what chacha20-poly1305 does.
constexpr const char* kCiphers =
    "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr,aes256-"
    "ctr";
constexpr const char* kKeyExchanges =
    "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,diffie-hellman-group14-"
    "sha256";
// One read of a channel. Larger does not help: libssh hands out what one packet brought.
constexpr std::size_t kReadChunk = 64U << 10;
// What may be on its way to us on a channel of files. libssh alone grants 1.25 MiB, which is 64 MB/s at 20 ms; a read of
// so much makes it grant that (ssh_channel_read_timeout grows the window to what is asked for). Renewed
// each time an eighth of it has come. libssh 0.11 grants 2 MiB and no more, whatever is asked.
constexpr std::uint32_t kFilesWindow = 8U << 20;

// Of this thread and all its links: none reads while another does. Only what arrives in one read is ever touched of it.
char* ReadBuffer() {
    static thread_local const std::unique_ptr<char[]> buffer(new char[kFilesWindow]);
    return buffer.get();
}

// A dead peer behind a silent network is noticed after this long without an acknowledgement.
constexpr unsigned kTcpUserTimeoutMs = 30'000;

struct FreeKey {
    void operator()(ssh_key key) const { ssh_key_free(key); }
};
using KeyPtr = std::unique_ptr<std::remove_pointer_t<ssh_key>, FreeKey>;

Result<KeyPtr> PinnedKey(const std::string& line) {
    const std::vector<std::string> words = Split(line, ' ');
    ssh_key key = nullptr;
    if (words.size() < 2 ||
        ssh_pki_import_pubkey_base64(words[1].c_str(), ssh_key_type_from_name(words[0].c_str()),
                                     &key) != SSH_OK) {
        return Error(Errno{EINVAL}, "the pinned host key is not a public key line");
    }
    return KeyPtr(key);
}

// What the server may sign with, so that it shows a key of a type we have one of: a machine has
// several. An RSA key signs with SHA-2; "ssh-rsa" as an algorithm is the SHA-1 nobody offers any more.
std::string HostKeyAlgorithms(const std::vector<std::string>& lines) {
    std::vector<std::string> names;
    for (const std::string_view type : {"ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384",
                                        "ecdsa-sha2-nistp521", "ssh-rsa"}) {
        const bool pinned = std::any_of(lines.begin(), lines.end(), [&](const std::string& line) {
            return line.substr(0, line.find(' ')) == type;
        });
        if (pinned) names.emplace_back(type == "ssh-rsa" ? "rsa-sha2-512,rsa-sha2-256" : type);
    }
    return Join(names, ",");
}

}  // namespace

// What libssh itself needs while the session lives, which may be longer than the link (ssh_auth.h).
struct SessionCore {
    SessionCore() : ssh(ssh_new()) {
        CHECK(ssh != nullptr);
        ssh_set_counters(ssh, &counter, nullptr);
    }
    SessionCore(const SessionCore&) = delete;
    SessionCore& operator=(const SessionCore&) = delete;
    ~SessionCore() { ssh_free(ssh); }

    ssh_session ssh;
    struct ssh_counter_struct counter {
    };  // bytes libssh took from the socket, for whomever they were
};

// The libssh objects, so that the header needs none of their types.
struct SshLink::Session {
    std::shared_ptr<SessionCore> core = std::make_shared<SessionCore>();
    ssh_session ssh = core->ssh;
    const struct ssh_counter_struct& counter = core->counter;
    KeyPtr client_key;
    std::vector<Channel*> channels;  // in the order opened; each owned by its user
};

class SshLink::Channel {
 public:
    enum class Step { kOpen, kRequest, kUp, kClosed };

    Channel(SshLink& link, std::string command, ChannelUser& user)
        : link_(&link),
          command_(std::move(command)),
          user_(user),
          channel_(ssh_channel_new(link.session_->ssh)) {
        CHECK(channel_ != nullptr);
    }
    Channel(const Channel&) = delete;
    Channel& operator=(const Channel&) = delete;
    ~Channel() {
        if (link_ == nullptr) return;  // ssh_free has freed it with the session
        std::erase(link_->session_->channels, this);
        ssh_channel_free(channel_);  // sends CLOSE; libssh keeps it until the other side closes too
    }

    // The link is gone.
    void Orphan(const Error& why) {
        link_ = nullptr;
        if (step_ == Step::kClosed) return;
        step_ = Step::kClosed;
        user_.OnClosed(why, -1);
    }

    // Does what can be done now; `progress` becomes true when something was. An error is the
    // link's.
    Status Pump(bool& progress) {
        if (step_ == Step::kOpen || step_ == Step::kRequest) (void)TRY(Establish(progress));
        if (step_ != Step::kUp) return Ok();
        (void)TRY(ReadAll(progress));
        if (step_ == Step::kUp) (void)TRY(WriteAll(progress));
        return Ok();
    }

 private:
    Status Establish(bool& progress) {
        if (step_ == Step::kOpen) {
            const int code = ssh_channel_open_session(channel_);
            if (code == SSH_AGAIN) return Ok();
            if (code != SSH_OK) return Refused("the server refuses another channel");
            step_ = Step::kRequest;
            progress = true;
        }
        const int code = command_.empty() ? ssh_channel_request_sftp(channel_)
                                          : ssh_channel_request_exec(channel_, command_.c_str());
        if (code == SSH_AGAIN) return Ok();
        if (code != SSH_OK) {
            return Refused(command_.empty()
                               ? "the server has no sftp subsystem: enable it in sshd_config"
                               : "the server refuses to run programs");
        }
        step_ = Step::kUp;
        progress = true;
        user_.OnOpen();
        return Ok();
    }

    // The channel failed, not the link, unless the link did.
    Status Refused(std::string_view what) {
        if (ssh_is_connected(link_->session_->ssh) == 0) return link_->Failure("opening a channel");
        Close(Error(Errno{EHOSTUNREACH}, std::string(what), Blame::kRemote), -1);
        return Ok();
    }

    // How much has arrived, or a code of libssh's.
    int ReadSome(char* buffer, int is_stderr) {
        if (!command_.empty() || is_stderr != 0 || since_grant_ < kFilesWindow / 8)
            return ssh_channel_read_nonblocking(channel_, buffer, kReadChunk, is_stderr);
        since_grant_ = 0;
        return ssh_channel_read(channel_, buffer, kFilesWindow, 0);
    }

    Status ReadAll(bool& progress) {
        char* const buffer = ReadBuffer();
        for (const int is_stderr : {0, 1}) {
            for (;;) {
                const int got = ReadSome(buffer, is_stderr);
                if (got == SSH_ERROR) return link_->Failure("reading");
                if (got <= 0) break;  // SSH_AGAIN, SSH_EOF or nothing
                progress = true;
                since_grant_ += static_cast<std::uint32_t>(got);
                const std::string_view bytes(buffer, static_cast<std::size_t>(got));
                if (is_stderr != 0) {
                    user_.OnErrorText(bytes);
                    continue;
                }
                if (const Status status = user_.OnBytes(bytes); !status) {
                    Close(status.error(), -1);
                    return Ok();
                }
            }
        }
        if (ssh_channel_is_eof(channel_) != 0 || ssh_channel_is_closed(channel_) != 0) {
            // The exit status comes as a packet of its own, before or after EOF, always before
            // CLOSE.
            const int status = ssh_channel_get_exit_status(channel_);
            if (status < 0 && ssh_channel_is_closed(channel_) == 0) return Ok();
            Close(Error(Errno{EHOSTUNREACH}, "the remote program ended", Blame::kRemote), status);
        }
        return Ok();
    }

    Status WriteAll(bool& progress) {
        for (;;) {
            const std::string_view out = user_.Unsent();
            if (out.empty()) return Ok();
            const int put = ssh_channel_write(
                channel_, out.data(),
                static_cast<std::uint32_t>(std::min<std::size_t>(out.size(), 1U << 20)));
            if (put == SSH_ERROR) return link_->Failure("writing");
            if (put <= 0) return Ok();  // the window is full; an adjustment wakes us
            user_.Sent(static_cast<std::size_t>(put));
            progress = true;
        }
    }

    void Close(const Error& why, int exit_status) {
        step_ = Step::kClosed;
        user_.OnClosed(why, exit_status);
    }

    SshLink* link_;
    const std::string command_;
    ChannelUser& user_;
    ssh_channel channel_;
    Step step_ = Step::kOpen;
    std::uint32_t since_grant_ = kFilesWindow;  // bytes that have come since the window was renewed
};

void SshLink::CloseChannel::operator()(Channel* channel) const {
    delete channel;
}

SshLink::SshLink(IoLoop& loop, UniqueFd socket, const SshLogin& login, SshListener& listener)
    : loop_(loop),
      listener_(listener),
      login_(login),
      socket_(std::move(socket)),
      session_(std::make_unique<Session>()),
      self_(std::make_shared<SshLink*>(this)) {
    DCHECK(loop_.OnThread());
    ssh_session ssh = session_->ssh;
    // Only meaningful for TCP; fails harmlessly elsewhere.
    const int one = 1;
    (void)::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)::setsockopt(socket_.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &kTcpUserTimeoutMs,
                       sizeof kTcpUserTimeoutMs);

    // libssh closes the descriptor it is given, in ssh_free or at the first error: it gets one of
    // its own, so that ours never names somebody else's file
    // (SshLinkTest.ALostLink...LeaksNoDescriptor).
    const int fd = ::fcntl(socket_.get(), F_DUPFD_CLOEXEC, 0);
    const int no = 0;
    (void)ssh_options_set(ssh, SSH_OPTIONS_PROCESS_CONFIG,
                          &no);  // the user's ssh_config is not ours
    (void)ssh_options_set(ssh, SSH_OPTIONS_HOST,
                          "sandbox");  // a name for messages; the socket decides
    (void)ssh_options_set(ssh, SSH_OPTIONS_USER, login_.user.c_str());
    (void)ssh_options_set(ssh, SSH_OPTIONS_FD, &fd);
    (void)ssh_options_set(ssh, SSH_OPTIONS_CIPHERS_C_S, kCiphers);
    (void)ssh_options_set(ssh, SSH_OPTIONS_CIPHERS_S_C, kCiphers);
    (void)ssh_options_set(ssh, SSH_OPTIONS_KEY_EXCHANGE, kKeyExchanges);
    (void)ssh_options_set(ssh, SSH_OPTIONS_HOSTKEYS, HostKeyAlgorithms(login_.host_keys).c_str());
    ssh_set_blocking(ssh, 0);
    WatchSocket();
}

void SshLink::WatchSocket() {
    watch_ = loop_.Add(socket_.get(), EPOLLIN | EPOLLOUT, [this](std::uint32_t) { Pump(); });
}

SshLink::~SshLink() {
    DCHECK(loop_.OnThread());
    *self_ = nullptr;
    const Error gone(Errno{EHOSTUNREACH}, "the link was closed", Blame::kRemote);
    for (Channel* channel : std::exchange(session_->channels, {}))
        channel->Orphan(gone);
    watch_.reset();
    // Hurries a login that a thread still waits for; the thread then frees the session.
    if (step_ == Step::kLogin) (void)::shutdown(socket_.get(), SHUT_RDWR);
    auth_.reset();
    session_.reset();  // before the socket: libssh says goodbye on it
}

SshLink::ChannelPtr SshLink::Open(const std::string& command, ChannelUser& user) {
    DCHECK(step_ == Step::kUp);
    ChannelPtr channel(new Channel(*this, command, user));
    session_->channels.push_back(channel.get());
    Kick();
    return channel;
}

void SshLink::Kick() {
    DCHECK(loop_.OnThread());
    if (kicked_ || step_ == Step::kDead) return;
    kicked_ = true;
    loop_.Post([self = self_] {
        if (*self != nullptr) (*self)->Pump();
    });
}

void SshLink::Pump() {
    kicked_ = false;
    if (pumping_ || step_ == Step::kDead || step_ == Step::kLogin) return;
    pumping_ = true;
    Status status = Ok();
    bool progress = true;
    // Until nothing moves: libssh reads whole packets ahead, so the socket may look empty while it
    // is not. What one channel's turn took from the socket may be for a channel whose turn is over:
    // go round again (SshLinkTest.CarriesMegabytesBothWaysOnTwoChannelsAtOnce).
    while (status && progress && step_ != Step::kDead && step_ != Step::kLogin) {
        const std::uint64_t taken = session_->counter.in_bytes;
        progress = false;
        status = PumpStep(progress);
        // (Not while a thread may be counting.)
        if (step_ != Step::kLogin && session_->counter.in_bytes != taken) progress = true;
    }
    pumping_ = false;
    if (!status) return Lose(status.error());
    UpdateWatch();
}

Status SshLink::PumpStep(bool& progress) {
    const Step before = step_;
    switch (step_) {
        case Step::kConnect:
            (void)TRY(Connect());
            break;
        case Step::kAuth:
            (void)TRY(Authenticate());
            break;
        case Step::kLogin:
            return Ok();
        case Step::kUp:
            (void)TRY(PumpChannels(progress));
            break;
        case Step::kDead:
            return Ok();
    }
    if (before != step_) progress = true;
    return Ok();
}

Status SshLink::Connect() {
    const int code = ssh_connect(session_->ssh);
    // libssh makes the socket blocking once it is connected; a full socket would then stop the
    // whole loop. With O_NONBLOCK it still never sees EAGAIN, because it writes only after POLLOUT.
    (void)::fcntl(socket_.get(), F_SETFL, ::fcntl(socket_.get(), F_GETFL) | O_NONBLOCK);
    if (code == SSH_AGAIN) return Ok();
    if (code != SSH_OK) return ConnectFailure();
    (void)TRY(CheckHostKey());
    if (!login_.auth.empty()) return StartLogin();
    ssh_key key = nullptr;
    const std::string pem(login_.client_key.Reveal());
    const int imported =
        ssh_pki_import_privkey_base64(pem.c_str(), nullptr, nullptr, nullptr, &key);
    if (imported != SSH_OK)
        return Error(Errno{EACCES}, "ssh: the client key is unreadable", Blame::kBug);
    session_->client_key.reset(key);
    step_ = Step::kAuth;
    return Ok();
}

Error SshLink::ConnectFailure() const {
    const std::string_view text = ssh_get_error(session_->ssh);
    if (text.find("server host key algo") == std::string_view::npos) return Failure("connecting");
    return {Errno{EACCES},
            "ssh: the server has no host key of a type that is pinned for this sandbox (" +
                HostKeyAlgorithms(login_.host_keys) +
                "): it is another machine, or its keys were changed. Nothing was sent",
            Blame::kRemote};
}

Status SshLink::CheckHostKey() {
    ssh_key shown_raw = nullptr;
    if (ssh_get_server_publickey(session_->ssh, &shown_raw) != SSH_OK)
        return Failure("reading the host key");
    const KeyPtr shown(shown_raw);
    for (const std::string& line : login_.host_keys) {
        const KeyPtr pinned = TRY(PinnedKey(line));
        if (ssh_key_cmp(shown.get(), pinned.get(), SSH_KEY_CMP_PUBLIC) == 0) return Ok();
    }
    return Error(
        Errno{EACCES},
        "ssh: the server shows another host key than the one pinned for this sandbox; somebody "
        "else answers at its address, or its keys were changed. Nothing was sent; destroy the "
        "sandbox with rmdir if it is gone",
        Blame::kRemote);
}

Status SshLink::Authenticate() {
    const int code = ssh_userauth_publickey(session_->ssh, nullptr, session_->client_key.get());
    if (code == SSH_AUTH_AGAIN) return Ok();
    if (code == SSH_AUTH_ERROR) return Failure("logging in");
    if (code != SSH_AUTH_SUCCESS) {
        return Error(
            Errno{EACCES},
            "ssh: the server does not accept the client key for user " + Printable(login_.user),
            Blame::kRemote);
    }
    step_ = Step::kUp;
    listener_.OnLoggedIn();
    return Ok();
}

Status SshLink::StartLogin() {
    watch_.reset();
    step_ = Step::kLogin;
    // The session with all it points to.
    std::shared_ptr<ssh_session_struct> session(session_->core, session_->ssh);
    auth_ = TRY(SshAuth::Start(loop_, std::move(session), login_.user, login_.auth,
                               [this](const Status& status) { LoggedIn(status); }));
    return Ok();
}

void SshLink::LoggedIn(const Status& status) {
    // No shadow of the login is kept: it is over when this returns, also when that ends the link.
    const std::unique_ptr<SshAuth> over = std::move(auth_);
    step_ = Step::kAuth;
    if (!status) return Lose(status.error());
    step_ = Step::kUp;
    WatchSocket();
    listener_.OnLoggedIn();
    Pump();
}

Status SshLink::PumpChannels(bool& progress) {
    // By position: a user may open another channel from within a callback.
    for (std::size_t i = 0; i < session_->channels.size(); ++i) {
        (void)TRY(session_->channels[i]->Pump(progress));
    }
    if (session_->channels.empty()) {
        // Nobody reads: still notice the end of the connection.
        if (ssh_is_connected(session_->ssh) == 0) return Failure("waiting");
    }
    return Ok();
}

void SshLink::Lose(const Error& why) {
    if (step_ == Step::kDead) return;
    step_ = Step::kDead;
    watch_.reset();
    for (Channel* channel : std::exchange(session_->channels, {}))
        channel->Orphan(why);
    listener_.OnLinkLost(why);
}

void SshLink::UpdateWatch() {
    if (!watch_ || step_ == Step::kLogin) return;
    const bool write_pending = (ssh_get_poll_flags(session_->ssh) & SSH_WRITE_PENDING) != 0;
    watch_->Want(write_pending ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

Error SshLink::Failure(std::string_view doing) const {
    const char* text = ssh_get_error(session_->ssh);
    std::string what = "ssh: link lost while " + std::string(doing);
    if (text != nullptr && *text != '\0') what += ": " + Printable(text);
    return {Errno{EHOSTUNREACH}, std::move(what), Blame::kRemote};
}

}  // namespace sbxfs
