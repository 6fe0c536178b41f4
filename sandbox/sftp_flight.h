// A change and a look at what it made, sent in one flight. Over a server that works strictly in
// order (OpenSSH) one round trip answers both; over one that does not, the answers come in another
// order and the look is repeated, so nothing depends on the order but the time it takes. Loop
// thread only.
#pragma once

#include <memory>

#include "base/result.h"
#include "base/unique_function.h"
#include "sandbox/sftp_client.h"
#include "sandbox/sftp_errno.h"

namespace sbxfs {

struct SftpLooked {
    SftpAnswer<Unit> change;
    // After the change, if that succeeded; else whatever was seen, perhaps the reason.
    SftpAnswer<SftpAttrs> look;
};

// What a look saw, as a fact for the errno table.
SftpKind KindOfLook(const SftpAnswer<SftpAttrs>& look);

// Both functions send one request each; `look` may be called again. `done` runs once, not within
// the call while the session lives.
void ChangeAndLook(const std::shared_ptr<SftpClient>& client,
                   UniqueFunction<void(SftpClient&, SftpClient::DoneBack)> change,
                   UniqueFunction<void(SftpClient&, SftpClient::AttrsBack)> look,
                   UniqueFunction<void(SftpLooked)> done);

}  // namespace sbxfs
