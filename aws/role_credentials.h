// Credentials of a role, asked for at STS: with the credentials of somebody who may assume it, or with a token in a file
// that the platform renews. Loop thread only; the token file is read there, it is small and local.
#pragma once

#include <memory>
#include <string>

#include "aws/sts.h"
#include "base/loop.h"

namespace sbxfs::aws {

class AssumedRole final : public CredentialProvider {
 public:
    // `sts` signs with the credentials that may assume the role, `source`.
    AssumedRole(Sts sts, RoleRequest request, CredentialProviderPtr source)
        : sts_(std::move(sts)), request_(std::move(request)), source_(std::move(source)) {}
    void Get(CredentialsDone done) override;
    void Distrust(const std::string& access_key_id) override { source_->Distrust(access_key_id); }

 private:
    Sts sts_;
    const RoleRequest request_;
    const CredentialProviderPtr source_;
};

class WebIdentity final : public CredentialProvider {
 public:
    // `sts` does not sign.
    WebIdentity(Loop& loop, Sts sts, RoleRequest request, std::string token_file)
        : loop_(loop),
          sts_(std::move(sts)),
          request_(std::move(request)),
          token_file_(std::move(token_file)) {}
    void Get(CredentialsDone done) override;
    void Distrust(const std::string& /*access_key_id*/) override {}

 private:
    Loop& loop_;
    Sts sts_;
    const RoleRequest request_;
    const std::string token_file_;
};

}  // namespace sbxfs::aws
