#include "aws/secrets_manager.h"

#include "aws/json_call.h"
#include "aws/query.h"

namespace sbxfs::aws {
namespace {

constexpr std::string_view kTarget = "secretsmanager";

}  // namespace

void SecretsManager::GetSecretValue(const std::string& id, ValueDone done) {
    const Json body = Json::Object().Set("SecretId", id);
    service_->Call(
        JsonCall(kTarget, "GetSecretValue", body, Repeat::kSafe),
        ExpectJson("secretsmanager:GetSecretValue", [done = std::move(done)](Outcome<Json> answer) {
            if (!answer) return done(std::move(answer).failure());
            auto text = answer->GetString("SecretString");
            if (!text)
                return done(Malformed("secretsmanager:GetSecretValue",
                                      "it has no SecretString: the secret must be text"));
            done(SecretValue{answer->GetString("ARN").value_or(""),
                             answer->GetString("VersionId").value_or(""),
                             Secret(std::move(*text))});
        }));
}

void SecretsManager::CreateSecret(const std::string& name, const Secret& text,
                                  const std::string& token, ArnDone done) {
    const Json body = Json::Object()
                          .Set("Name", name)
                          .Set("SecretString", text.Reveal())
                          .Set("ClientRequestToken", token)
                          .Set("Description", "sbxfs: the host key of one mount's sandboxes");
    service_->Call(
        JsonCall(kTarget, "CreateSecret", body, Repeat::kSafe),
        ExpectJson("secretsmanager:CreateSecret", [done = std::move(done)](Outcome<Json> answer) {
            if (!answer) return done(std::move(answer).failure());
            done(answer->GetString("ARN").value_or(""));
        }));
}

}  // namespace sbxfs::aws
