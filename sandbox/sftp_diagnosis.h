// Finds out why a request was refused: asks what the errno table (sftp_errno.h) wants to know, all
// questions in one flight (a chain of links one hop a flight), then says what the refusal means.
// Only refused requests pay for it. Loop thread only.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "base/unique_function.h"
#include "sandbox/sftp_client.h"
#include "sandbox/sftp_errno.h"

namespace sbxfs {

// `handle`: of operations on an open file, else empty. `done` runs once, perhaps within the call;
// when the session ends meanwhile, with that error.
void DiagnoseSftp(const std::shared_ptr<SftpClient>& client, SftpCase refused, std::string handle,
                  UniqueFunction<void(Error)> done);

// "/a/b" -> "/a"; "/a" and "/" -> "/".
std::string ParentPath(const std::string& path);
// Where `target`, met in a link at `link`, points: absolute, "." and ".." collapsed.
std::string ResolveLink(const std::string& link, const std::string& target);

}  // namespace sbxfs
