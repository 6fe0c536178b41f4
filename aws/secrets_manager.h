// Secrets Manager: the shared host key of a mount. Codec only. Loop thread only.
#pragma once

#include <memory>
#include <string>

#include "aws/service.h"
#include "base/secret.h"

namespace sbxfs::aws {

struct SecretValue {
    std::string arn;
    std::string version_id;
    Secret text;
};

class SecretsManager {
 public:
    using ValueDone = UniqueFunction<void(Outcome<SecretValue>)>;
    using ArnDone = UniqueFunction<void(Outcome<std::string>)>;

    explicit SecretsManager(std::shared_ptr<Service> service) : service_(std::move(service)) {}

    // `id`: name or ARN. FailureKind::kNotFound when there is none.
    void GetSecretValue(const std::string& id, ValueDone done);
    // `token`: 32..64 characters; the same one makes nothing twice. Code ResourceExistsException when the name is taken.
    void CreateSecret(const std::string& name, const Secret& text, const std::string& token,
                      ArnDone done);

 private:
    std::shared_ptr<Service> service_;
};

}  // namespace sbxfs::aws
