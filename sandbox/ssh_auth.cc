#include "sandbox/ssh_auth.h"

#include <errno.h>
#include <fcntl.h>
#include <libssh/libssh.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "base/strings.h"
#include "sandbox/ssh_agent.h"

namespace sbxfs {
namespace {

// One answer of the server. A person at an agent may take as long as the attachment allows.
constexpr long kServerSeconds = 20;

struct FreeIdentity {
    void operator()(ssh_key key) const { ssh_key_free(key); }
};
using IdentityPtr = std::unique_ptr<ssh_key_struct, FreeIdentity>;

Error Refused(std::string what) {
    return {Errno{EACCES}, std::move(what)};
}

// Called for the passphrase of an encrypted key. There is nobody to ask.
int NoPassphrase(const char*, char*, size_t, int, int, void* asked) {
    *static_cast<bool*>(asked) = true;
    return -1;
}

Result<IdentityPtr> ReadIdentity(const std::string& path) {
    struct stat found {};
    if (::stat(path.c_str(), &found) != 0) {
        return Refused("identity_file " + Printable(path) + ": " +
                       std::string(ErrnoText(Errno{errno})));
    }
    if (found.st_uid == ::geteuid() && (found.st_mode & 077) != 0) {
        return Refused("identity_file " + Printable(path) + " can be read by others: chmod 600 it");
    }
    bool asked = false;
    ssh_key key = nullptr;
    const int code =
        ssh_pki_import_privkey_file(path.c_str(), nullptr, &NoPassphrase, &asked, &key);
    if (code == SSH_OK) return IdentityPtr(key);
    if (asked) {
        return Refused("identity_file " + Printable(path) +
                       " is encrypted, and sbxfs asks nobody for a passphrase: `ssh-add` it to an "
                       "ssh-agent and set agent = true, or use a key without a passphrase");
    }
    return Refused("identity_file " + Printable(path) +
                   (::access(path.c_str(), R_OK) != 0 ? " cannot be read"
                                                      : " is not a private key that can be used"));
}

std::string SessionError(ssh_session session) {
    const char* text = ssh_get_error(session);
    return text == nullptr ? "" : Printable(text);
}

// Tries one way after the other; says of each that failed why.
class Login {
 public:
    Login(ssh_session session, const std::string& user) : session_(session), user_(user) {}

    Status Try(const std::vector<ClientAuth>& ways) {
        long seconds = kServerSeconds;
        (void)ssh_options_set(session_, SSH_OPTIONS_TIMEOUT, &seconds);
        ssh_set_blocking(session_, 1);
        for (const ClientAuth& way : ways) {
            const bool in = std::holds_alternative<Agent>(way)
                                ? TryAgent(*std::get_if<Agent>(&way))
                                : TryFile(*std::get_if<IdentityFile>(&way));
            if (in) {
                ssh_set_blocking(session_, 0);
                return Ok();
            }
            if (lost_) return *lost_;
        }
        return Error(Errno{EACCES},
                     "ssh: user " + Printable(user_) + " was not let in: " + Join(tried_, "; "),
                     Blame::kRemote);
    }

 private:
    bool TryFile(const IdentityFile& file) {
        const Result<IdentityPtr> key = ReadIdentity(file.path);
        if (!key) {
            tried_.push_back(key.error().what());
            return false;
        }
        return Judge(ssh_userauth_publickey(session_, nullptr, key->get()),
                     "the server does not accept identity_file " + Printable(file.path) +
                         " (is its public half in ~/.ssh/authorized_keys there?)");
    }

    bool TryAgent(const Agent& agent) {
        const Result<std::size_t> count = CountAgentKeys(agent.socket);
        if (!count) {
            tried_.push_back(count.error().what());
            return false;
        }
        if (*count == 0) {
            tried_.emplace_back("the ssh-agent holds no key: ssh-add one");
            return false;
        }
        const std::string socket = AgentSocket(agent.socket);
        (void)ssh_options_set(session_, SSH_OPTIONS_IDENTITY_AGENT, socket.c_str());
        return Judge(
            ssh_userauth_agent(session_, nullptr),
            "the server accepts none of the ssh-agent's " + std::to_string(*count) + " keys");
    }

    bool Judge(int code, const std::string& if_denied) {
        if (code == SSH_AUTH_SUCCESS) return true;
        if (code == SSH_AUTH_PARTIAL) {
            tried_.emplace_back(
                "the server took the key and wants more (a password, a code); sbxfs has only keys");
        } else if (code == SSH_AUTH_DENIED) {
            tried_.push_back(if_denied);
        } else {
            // Servers hang up after a few refused keys (MaxAuthTries).
            lost_ = Error(Errno{EHOSTUNREACH},
                          "ssh: link lost while logging in: " + SessionError(session_) +
                              (tried_.empty() ? "" : " (before: " + Join(tried_, "; ") + ")"),
                          Blame::kRemote);
        }
        return false;
    }

    ssh_session session_;
    const std::string& user_;
    std::vector<std::string> tried_;
    std::optional<Error> lost_;
};

}  // namespace

// Written by the thread before it writes to the pipe, read by the loop after it has read from it.
struct SshAuth::Outcome {
    std::optional<Status> status;
};

Result<std::unique_ptr<SshAuth>> SshAuth::Start(IoLoop& loop,
                                                std::shared_ptr<ssh_session_struct> session,
                                                std::string user, std::vector<ClientAuth> ways,
                                                AuthDone done) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) return SystemError(errno, "pipe");
    UniqueFd told(ends[0]);
    UniqueFd tell(ends[1]);
    auto outcome = std::make_shared<Outcome>();
    try {
        std::thread([session = std::move(session), user = std::move(user), ways = std::move(ways),
                     tell = std::move(tell), outcome]() mutable noexcept {
            outcome->status = Login(session.get(), user).Try(ways);
            session.reset();  // before the loop goes on with it
            (void)!::write(tell.get(), "x", 1);
        }).detach();
    } catch (const std::system_error& error) {
        return SystemError(error.code().value(), "starting a thread");
    }
    return std::unique_ptr<SshAuth>(
        new SshAuth(loop, std::move(outcome), std::move(told), std::move(done)));
}

SshAuth::SshAuth(IoLoop& loop, std::shared_ptr<Outcome> outcome, UniqueFd told, AuthDone done)
    : outcome_(std::move(outcome)), told_(std::move(told)), done_(std::move(done)) {
    watch_ = loop.Add(told_.get(), EPOLLIN, [this](std::uint32_t) { Told(); });
}

void SshAuth::Told() {
    char byte = 0;
    const ssize_t got = ::read(told_.get(), &byte, 1);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    watch_.reset();
    const AuthDone done = std::move(done_);
    done(outcome_->status.value_or(
        Error(Errno{EIO}, "the login ended without an answer", Blame::kBug)));  // may destroy this
}

Status CheckIdentityFile(const std::string& path) {
    (void)TRY(ReadIdentity(path));
    return Ok();
}

}  // namespace sbxfs
