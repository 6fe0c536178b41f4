// The real Attachment: an SSH link with two channels, one for SFTP, one for the supervisor, and while much is written a
// third, again for SFTP. Brings
// the supervisor there when it is missing, and back when it ended. Made by SshAttacher for one
// Sandbox; loop thread only.
//
// The way in, with what goes side by side; each arrow is a round trip, but "connect" and "log in", which are several:
//
//     connect -> log in -> two channels -+-> sftp: INIT -> files ------------------------------------+-> ready
//                                        +-> exec: what is there -> run or bring it (-> Hello) ------+
//                                                  (a machine that stays: -> files -> bring it)
//
// Where the host key is shared by several sandboxes (ConnectInfo::proof_sha256), what the sandbox says first shows which
// one it is, before anything else is done there. How many round trips it takes is guarded by
// tests/contract/ssh_attachment_test.cc.
//
// The supervisor's file name carries the hash of the programs this daemon has, so a newer daemon
// brings its own and takes over what an older supervisor runs (supervisor/protocol.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "sandbox/attachment.h"
#include "sandbox/dialer.h"
#include "sandbox/io_loop.h"
#include "sandbox/sftp_client.h"
#include "sandbox/sftp_files.h"
#include "sandbox/ssh_link.h"
#include "sandbox/stall_watch.h"
#include "sandbox/supervisor_bootstrap.h"
#include "sandbox/supervisor_client.h"

namespace sbxfs {

class SshAttachment final : public Attachment, public SshListener {
 public:
    SshAttachment(IoLoop& loop, const AttachRequest& request, AttachmentListener& listener,
                  SupervisorListener& supervisor_listener);
    ~SshAttachment() override;

    void LeaveSupervisor() override { supervisor_wanted_ = false; }
    void WantLane() override;
    void OnLoggedIn() override;
    void OnLinkLost(const Error& why) override;

 private:
    class SftpChannel;
    class ExecChannel;
    class LaneChannel;

    void Dialed(Result<Connected> connected);
    void SftpReady(const Status& status);
    void SiteKnown(const SupervisorSite& site);
    bool Prove();
    void Decide();
    void FilesReady();
    void OpenExec();
    void ExecClosed(const Error& why, int exit_status);
    void SupervisorReady(const SupervisorHello& hello);
    void Brought();
    void RetryExec(const Error& why);
    void Limit(const Error& why);
    void Detach(const Error& reason);
    void KeepAlive();
    void OpenLane();
    void LaneReady(const Status& status);
    void LaneLost(const Error& why);
    void WatchLane();
    StallWatch::Ask AskSupervisor();
    std::string ProgramPath() const;

    IoLoop& loop_;
    AttachRequest request_;
    AttachmentListener& listener_;
    SupervisorListener& supervisor_listener_;
    const std::string directory_;  // of the spool, as this login sees it

    bool detached_ = false;
    bool files_up_ = false;
    bool proven_;             // which sandbox it is
    bool undecided_ = false;  // whether to bring the supervisor: the files are waited for
    bool brought_ = false;    // by this attachment, and not known to run yet
    bool unusable_ = false;   // the program that was there
    bool supervisor_wanted_ = true;
    int exec_failures_ = 0;
    std::uint64_t heard_ = 0;         // bytes received so far
    std::uint64_t heard_before_ = 0;  // at the last keepalive tick
    std::unique_ptr<Dialing> dialing_;
    std::unique_ptr<Carrier> carrier_;  // outlives the link on it
    std::unique_ptr<SshLink> link_;
    std::shared_ptr<SftpClient> sftp_;
    std::shared_ptr<SftpFiles> files_;
    std::unique_ptr<SftpChannel> sftp_user_;
    std::unique_ptr<ExecChannel> exec_user_;
    SupervisorSite site_;
    SshLink::ChannelPtr sftp_channel_;
    SshLink::ChannelPtr exec_channel_;
    TimerPtr limit_;  // until the supervisor answered
    TimerPtr retry_;  // of the exec channel
    TimerPtr keepalive_;
    // The second channel of files. What is left of one that has ended stays until the next: its end is told from within it.
    bool lane_up_ = false;
    bool lane_ended_ = true;
    int lane_losses_ = 0;
    std::uint64_t lane_requests_ = 0;  // at the last tick
    std::shared_ptr<SftpClient> lane_;
    std::shared_ptr<SftpFiles> lane_files_;
    std::unique_ptr<LaneChannel> lane_user_;
    SshLink::ChannelPtr lane_channel_;
    TimerPtr lane_timer_;
};

// Attaches over SSH; `loop` must be an IoLoop.
class SshAttacher final : public Attacher {
 public:
    std::unique_ptr<Attachment> Attach(Loop& loop, const AttachRequest& request,
                                       AttachmentListener& listener,
                                       SupervisorListener& supervisor_listener) override;
};

}  // namespace sbxfs
