#include "fs/backend_check.h"

#include "sandbox/providers/ssh/ssh_settings.h"

namespace sbxfs {

Status CheckBackendSettings(const Template& what) {
    if (what.backend == "ssh") {
        // Whether there is an agent is a matter of where the mount is started.
        SshSelf self = SshSelf::Now();
        self.agent = true;
        (void)TRY(ReadSshSettings(what, self));
    }
    return Ok();
}

}  // namespace sbxfs
