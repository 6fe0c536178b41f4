// SHA-256 and HMAC-SHA-256 for signing requests: the only door to OpenSSL. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

#include "base/secret.h"

namespace sbxfs::aws {

// 32 raw bytes.
std::string Sha256(std::string_view bytes);
// 64 lower-case hex digits.
std::string Sha256Hex(std::string_view bytes);
// 32 raw bytes, which are a key themselves in SigV4's chain.
Secret HmacSha256(const Secret& key, std::string_view bytes);

// RFC 4648 with padding.
std::string Base64(std::string_view bytes);

}  // namespace sbxfs::aws
