// STS: who we are, and other roles' credentials. Codec only. Loop thread only.
#pragma once

#include <memory>
#include <string>

#include "aws/service.h"

namespace sbxfs::aws {

struct CallerIdentity {
    std::string account;
    std::string arn;
    std::string user_id;
};

struct RoleRequest {
    std::string role_arn;
    std::string session_name;  // 2..64 of [A-Za-z0-9+=,.@-]
    std::string external_id{};
    int duration_s = 3600;
};

class Sts {
 public:
    using IdentityDone = UniqueFunction<void(Outcome<CallerIdentity>)>;
    using RoleDone = UniqueFunction<void(Outcome<Credentials>)>;

    explicit Sts(std::shared_ptr<Service> service) : service_(std::move(service)) {}

    void GetCallerIdentity(IdentityDone done);
    void AssumeRole(const RoleRequest& request, RoleDone done);
    // Not signed: `token` is what lets in.
    void AssumeRoleWithWebIdentity(const RoleRequest& request, const Secret& token, RoleDone done);

 private:
    std::shared_ptr<Service> service_;
};

}  // namespace sbxfs::aws
