// One SSH connection to one sandbox: login with a pinned host key, then byte streams over channels.
// Everything is non-blocking and happens on one I/O loop, the link's for life. The only file
// besides ssh_keys.cc and ssh_auth.cc that knows libssh; what the bytes mean is the ChannelUser's business.
//
// Owned by SshAttachment. A link that failed once is dead: it tells its listener and every
// channel's user once, and the owner makes a new one.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/secret.h"
#include "base/unique_fd.h"
#include "sandbox/io_loop.h"
#include "sandbox/provider.h"
#include "sandbox/ssh_auth.h"

namespace sbxfs {

// One end of a channel. All calls come on the link's loop; none may destroy the link or a channel:
// post that.
class ChannelUser {
 public:
    ChannelUser() = default;
    ChannelUser(const ChannelUser&) = delete;
    ChannelUser& operator=(const ChannelUser&) = delete;
    virtual ~ChannelUser() = default;

    virtual void OnOpen() = 0;
    // Bytes of the remote stdout. An error closes the channel with that error.
    virtual Status OnBytes(std::string_view bytes) = 0;
    // Bytes of the remote stderr: words for people, never trusted.
    virtual void OnErrorText(std::string_view text) = 0;
    // What waits to be sent, and how much of it was taken.
    virtual std::string_view Unsent() const = 0;
    virtual void Sent(std::size_t count) = 0;
    // The last call. `exit_status` is that of an exec channel's program, -1 when it is not known.
    virtual void OnClosed(const Error& why, int exit_status) = 0;
};

class SshListener {
 public:
    SshListener() = default;
    SshListener(const SshListener&) = delete;
    SshListener& operator=(const SshListener&) = delete;
    virtual ~SshListener() = default;

    virtual void OnLoggedIn() = 0;
    // The last call; the channels' users have heard already. EACCES: wrong host key or key refused.
    virtual void OnLinkLost(const Error& why) = 0;
};

struct SshLogin {
    std::string user;
    std::vector<std::string> host_keys;  // pinned public lines: the server must show one of them
    Secret client_key;                   // OpenSSH's private format; used where `auth` is empty
    std::vector<ClientAuth> auth{};      // tried in order
};

class SshLink {
 public:
    class Channel;
    struct CloseChannel {
        void operator()(Channel* channel) const;
    };
    // Destroying it closes the channel; its user hears nothing more.
    using ChannelPtr = std::unique_ptr<Channel, CloseChannel>;

    // `socket` is connected. The listener outlives the link. Loop thread only, like everything
    // here.
    SshLink(IoLoop& loop, UniqueFd socket, const SshLogin& login, SshListener& listener);
    ~SshLink();
    SshLink(const SshLink&) = delete;
    SshLink& operator=(const SshLink&) = delete;

    // After OnLoggedIn. An empty `command` asks for the sftp subsystem, else it is executed by the
    // login shell.
    ChannelPtr Open(const std::string& command, ChannelUser& user);

    // Some user has bytes to send: a pump follows soon, once for all who ask in this round.
    void Kick();

 private:
    struct Session;  // libssh's state
    // kLogin: a thread has the session (ssh_auth.h); nothing here may touch it.
    enum class Step { kConnect, kAuth, kLogin, kUp, kDead };

    void Pump();
    Status PumpStep(bool& progress);
    Status Connect();
    Status CheckHostKey();
    Error ConnectFailure() const;
    Status Authenticate();
    Status StartLogin();
    void LoggedIn(const Status& status);
    void WatchSocket();
    Status PumpChannels(bool& progress);
    void Lose(const Error& why);
    void UpdateWatch();
    Error Failure(std::string_view doing) const;

    IoLoop& loop_;
    SshListener& listener_;
    const SshLogin login_;
    UniqueFd socket_;
    Step step_ = Step::kConnect;
    bool kicked_ = false;
    bool pumping_ = false;
    std::unique_ptr<Session> session_;
    std::unique_ptr<SshAuth> auth_;
    IoLoop::WatchPtr watch_;
    std::shared_ptr<SshLink*> self_;  // cleared by the destructor: a posted kick may come after it
};

}  // namespace sbxfs
