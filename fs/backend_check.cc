#include "fs/backend_check.h"

#include "aws/shared_config.h"
#include "sandbox/providers/fargate/fargate_settings.h"
#include "sandbox/providers/local/local_settings.h"
#include "sandbox/providers/ssh/ssh_settings.h"

namespace sbxfs {

Status CheckBackendSettings(const Template& what) {
    // What its binds may not show, and which snapshots there are, depends on the mount.
    if (what.backend == "local") (void)TRY(ReadLocalSettings(what, {}));
    if (what.backend == "ssh") {
        // Whether there is an agent is a matter of where the mount is started.
        SshSelf self = SshSelf::Now();
        self.agent = true;
        (void)TRY(ReadSshSettings(what, self));
    }
    if (what.backend == "fargate") (void)TRY(ReadFargateSettings(what, aws::CurrentEnvironment()));
    return Ok();
}

}  // namespace sbxfs
