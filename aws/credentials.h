// What AWS lets a caller in with, and who provides it. Values; providers say for themselves.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "base/secret.h"
#include "base/unique_function.h"

namespace sbxfs::aws {

struct Credentials {
    std::string access_key_id;  // an identifier, not a secret: error messages name it
    Secret secret_access_key;
    Secret session_token;                 // empty for long-lived keys
    std::optional<SystemTime> expires{};  // absent: never
    std::string source;  // for people: "environment", "profile lab in ~/.aws/config"
};

using CredentialsDone = UniqueFunction<void(Result<Credentials>)>;

// Where credentials come from. `done` runs once, on the loop the provider was given, never from within the call.
// EKEYEXPIRED with a remedy when there are none or they are refused; EHOSTUNREACH or ETIMEDOUT when whoever has them
// cannot be asked now.
class CredentialProvider {
 public:
    CredentialProvider() = default;
    CredentialProvider(const CredentialProvider&) = delete;
    CredentialProvider& operator=(const CredentialProvider&) = delete;
    virtual ~CredentialProvider() = default;
    virtual void Get(CredentialsDone done) = 0;
    // A service says that the credentials with this key have expired: the next Get() asks their source again.
    virtual void Distrust(const std::string& access_key_id) = 0;
};
using CredentialProviderPtr = std::shared_ptr<CredentialProvider>;

}  // namespace sbxfs::aws
