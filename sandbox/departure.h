// How a sandbox leaves a machine that stays (Provider::OwnsMachine is false): one attempt over a link
// of its own. The supervisor is told to kill what it runs, to clear its spool and to end; then what is
// left of the spool is removed over SFTP, and the directory all spools lie in when it is empty.
// Nothing else is touched. Owned by its Sandbox, which tries again. Loop thread only.
//
//     attach -+- there is no spool ------------------------------------------+
//             +- supervisor -> Shutdown(clear) -> Pong -+                    |
//             +- it cannot run there (noexec) ----------+-> remove the spool +-> remove ~/.sbxfs
//
// A supervisor that is not there any more is brought once more, because only it knows which processes
// of the commands still live; but where there is no spool nothing is made, so that an attempt that
// was cut off after its work was done finds that it is done.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "base/loop.h"
#include "sandbox/attachment.h"
#include "sandbox/no_commands.h"

namespace sbxfs {

class Departure final : public AttachmentListener, private NoCommands {
 public:
    // `done` runs once, never from within, and may destroy this. `next_epoch` outlives it.
    Departure(Loop& loop, Attacher& attacher, AttachRequest request,
              std::atomic<std::uint64_t>& next_epoch, Done done);
    ~Departure() override;

 private:
    void OnAttachPhase(std::string_view) override {}
    void OnFiles(RemoteFiles& files) override;
    void OnSupervisor(SupervisorPort& port, const SupervisorHello& hello,
                      const std::string& spool_dir) override;
    void OnSupervisorLost(const Error& why) override;
    void OnDetached(const Error& why) override;

    void Attach();
    void RemoveSpool();
    void RemoveParent();
    void Finish(Status status);

    Loop& loop_;
    Attacher& attacher_;
    AttachRequest request_;
    std::atomic<std::uint64_t>& next_epoch_;
    Done done_;
    RemoteFiles* files_ = nullptr;
    bool supervisor_ended_ = false;
    bool without_supervisor_ = false;
    bool finished_ = false;
    TimerPtr limit_;
    std::shared_ptr<Departure*> self_;  // cleared by the destructor: answers may come after it
    std::unique_ptr<Attachment> attachment_;
};

}  // namespace sbxfs
