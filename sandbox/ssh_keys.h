// ed25519 pairs and public key lines. One pair lets the daemon in, one is a sandbox's own host key;
// both live as long as one generation of one sandbox. Together with ssh_link.cc the only user of
// libssh. Pure, any thread.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "sandbox/provider.h"

namespace sbxfs {

Result<SshKeyPair> GenerateSshKeyPair();

// "TYPE BASE64" of a public key line as in authorized_keys, known_hosts (without the names) or a
// .pub file: the comment is dropped, the key is decoded to see that it is one. EINVAL otherwise.
Result<std::string> ParsePublicLine(std::string_view line);

// Whether two lines carry the same key, whatever their comments. False when either is not a key.
bool SamePublicKey(std::string_view a, std::string_view b);

// Whether hosts can be checked by keys of this type ("ssh-ed25519").
bool IsHostKeyType(std::string_view type);

// Whether `hashed`, the "|1|SALT|HASH" of a known_hosts line, is that of `name`.
bool MatchesHashedName(std::string_view hashed, const std::string& name);

// The public line that belongs to a private key in OpenSSH's or PEM format, not encrypted.
Result<std::string> PublicLineOf(const Secret& private_pem);

}  // namespace sbxfs
