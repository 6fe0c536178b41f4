#include "aws/sts.h"

#include "aws/query.h"
#include "aws/timestamp.h"
#include "aws/xml.h"

namespace sbxfs::aws {
namespace {

constexpr const char* kVersion = "2011-06-15";

QueryParameters RoleParameters(const RoleRequest& request) {
    QueryParameters parameters = {{"RoleArn", request.role_arn},
                                  {"RoleSessionName", request.session_name},
                                  {"DurationSeconds", std::to_string(request.duration_s)}};
    if (!request.external_id.empty()) parameters.emplace_back("ExternalId", request.external_id);
    return parameters;
}

Outcome<Credentials> ReadCredentials(const std::string& action, const std::string& role,
                                     const HttpResponse& response) {
    const auto xml = Xml::Parse(response.body);
    const auto found = xml ? xml->Find(action + "Result/Credentials") : std::nullopt;
    if (!found) return Malformed("sts:" + action, "no credentials in it");
    Credentials credentials;
    credentials.access_key_id = found->TextAt("AccessKeyId").value_or("");
    credentials.secret_access_key = Secret(found->TextAt("SecretAccessKey").value_or(""));
    credentials.session_token = Secret(found->TextAt("SessionToken").value_or(""));
    credentials.expires = ParseIso8601(found->TextAt("Expiration").value_or(""));
    credentials.source = "role " + role;
    if (credentials.access_key_id.empty() || credentials.secret_access_key.empty() ||
        !credentials.expires)
        return Malformed("sts:" + action, "its credentials lack a key or an expiry");
    return credentials;
}

}  // namespace

void Sts::GetCallerIdentity(IdentityDone done) {
    service_->Call(QueryCall("GetCallerIdentity", kVersion, {}, Repeat::kSafe),
                   [done = std::move(done)](Outcome<HttpResponse> answer) {
                       if (!answer) return done(std::move(answer).failure());
                       const auto xml = Xml::Parse(answer->body);
                       const auto found =
                           xml ? xml->Child("GetCallerIdentityResult") : std::nullopt;
                       if (!found)
                           return done(Malformed("sts:GetCallerIdentity", "no identity in it"));
                       done(CallerIdentity{found->TextAt("Account").value_or(""),
                                           found->TextAt("Arn").value_or(""),
                                           found->TextAt("UserId").value_or("")});
                   });
}

void Sts::AssumeRole(const RoleRequest& request, RoleDone done) {
    service_->Call(QueryCall("AssumeRole", kVersion, RoleParameters(request), Repeat::kSafe),
                   [role = request.role_arn, done = std::move(done)](Outcome<HttpResponse> answer) {
                       if (!answer) return done(std::move(answer).failure());
                       done(ReadCredentials("AssumeRole", role, *answer));
                   });
}

void Sts::AssumeRoleWithWebIdentity(const RoleRequest& request, const Secret& token,
                                    RoleDone done) {
    QueryParameters parameters = RoleParameters(request);
    parameters.emplace_back("WebIdentityToken", std::string(token.Reveal()));
    service_->Call(
        QueryCall("AssumeRoleWithWebIdentity", kVersion, std::move(parameters), Repeat::kSafe),
        [role = request.role_arn, done = std::move(done)](Outcome<HttpResponse> answer) {
            if (!answer) return done(std::move(answer).failure());
            done(ReadCredentials("AssumeRoleWithWebIdentity", role, *answer));
        });
}

}  // namespace sbxfs::aws
