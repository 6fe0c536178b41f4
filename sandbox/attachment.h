// One way in to a launched sandbox: a link with its files and its supervisor, as an interface.
// Real: SshAttachment (libssh, SFTP, the supervisor's exec channel). Fake: FakeAttachment in
// tests/fakes. Loop thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/loop.h"
#include "base/result.h"
#include "base/secret.h"
#include "sandbox/provider.h"
#include "sandbox/remote_files.h"
#include "sandbox/supervisor_port.h"

namespace sbxfs {

struct AttachRequest {
    ConnectInfo connect;
    Secret client_key;        // OpenSSH's private format; used where connect.auth is empty
    std::uint64_t epoch = 0;  // higher than any used for this sandbox before
    Duration dial_limit = std::chrono::seconds(10);
    // kAtOnce: on a machine that ends with the sandbox. kRemovable: not before the files can be reached,
    // so that whatever is brought can be removed again. kIfSpool: besides, where there is no spool, none
    // is made; OnSupervisorLost(ENOENT) says so.
    enum class Bring { kAtOnce, kRemovable, kIfSpool };
    Bring bring = Bring::kRemovable;
};

// The phase without which nothing of ours can have been brought there, but by Bring::kAtOnce.
inline constexpr std::string_view kFilesPhase = "sftp";

// What an attachment tells its sandbox. None of these calls may destroy the attachment: post that.
class AttachmentListener {
 public:
    AttachmentListener() = default;
    AttachmentListener(const AttachmentListener&) = delete;
    AttachmentListener& operator=(const AttachmentListener&) = delete;
    virtual ~AttachmentListener() = default;

    // A named point on the way, for info.json: "connected", "logged_in", "sftp", "uploaded",
    // "supervisor".
    virtual void OnAttachPhase(std::string_view phase) = 0;
    // Files can be used until OnDetached().
    virtual void OnFiles(RemoteFiles& files) = 0;
    // A second way to the same files (Attachment::WantLane), until it is gone: null. Nothing when the link ends.
    virtual void OnLane(RemoteFiles* /*lane*/) {}
    // The supervisor answered; its listener hears what it knows next. Usable until
    // OnSupervisorLost/OnDetached.
    virtual void OnSupervisor(SupervisorPort& port, const SupervisorHello& hello,
                              const std::string& spool_dir) = 0;
    // Only the supervisor's channel ended; a new one follows, or OnDetached().
    virtual void OnSupervisorLost(const Error& why) = 0;
    // The last call.
    virtual void OnDetached(const Error& why) = 0;
};

class Attachment {
 public:
    Attachment() = default;
    Attachment(const Attachment&) = delete;
    Attachment& operator=(const Attachment&) = delete;
    virtual ~Attachment() = default;
    // The supervisor was told to end, or is not wanted: its channel is not opened again. Files stay.
    virtual void LeaveSupervisor() {}
    // A second channel of files would be of use: OnLane() says when it is there. Where the server refuses one, nothing follows.
    virtual void WantLane() {}
};

class Attacher {
 public:
    Attacher() = default;
    Attacher(const Attacher&) = delete;
    Attacher& operator=(const Attacher&) = delete;
    virtual ~Attacher() = default;
    // Starts connecting; the listeners outlive the attachment. Nothing is called from within.
    virtual std::unique_ptr<Attachment> Attach(Loop& loop, const AttachRequest& request,
                                               AttachmentListener& listener,
                                               SupervisorListener& supervisor_listener) = 0;
};

}  // namespace sbxfs
