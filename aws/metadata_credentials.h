// Credentials that the platform hands out over plain HTTP to what runs on it: the endpoint of a container (ECS, EKS) and
// that of an EC2 instance (IMDSv2 only: version 1 answers anybody who can make us fetch a URL). Loop thread only.
#pragma once

#include <string>

#include "aws/credentials.h"
#include "aws/http.h"
#include "aws/shared_config.h"
#include "base/loop.h"

namespace sbxfs::aws {

class ContainerCredentials final : public CredentialProvider {
 public:
    // From AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI. EINVAL when the full one is plain HTTP and leads neither
    // to this machine nor to the platform's own addresses.
    static Result<CredentialProviderPtr> Make(Loop& loop, HttpClient& http,
                                              const Environment& environment);
    void Get(CredentialsDone done) override;
    void Distrust(const std::string& /*access_key_id*/) override {}

    ContainerCredentials(Loop& loop, HttpClient& http, std::string url, Secret token,
                         std::string token_file)
        : loop_(loop),
          http_(http),
          url_(std::move(url)),
          token_(std::move(token)),
          token_file_(std::move(token_file)) {}

 private:
    Loop& loop_;
    HttpClient& http_;
    const std::string url_;
    const Secret token_;
    const std::string token_file_;  // read at each question: the platform renews it
};

class InstanceCredentials final : public CredentialProvider,
                                  public std::enable_shared_from_this<InstanceCredentials> {
 public:
    // `endpoint`: AWS_EC2_METADATA_SERVICE_ENDPOINT or the fixed address.
    InstanceCredentials(HttpClient& http, std::string endpoint)
        : http_(http), endpoint_(std::move(endpoint)) {}
    void Get(CredentialsDone done) override;
    void Distrust(const std::string& /*access_key_id*/) override {}

    static constexpr const char* kAddress = "http://169.254.169.254";

 private:
    void AskRole(const std::string& token, CredentialsDone done);
    void AskKeys(const std::string& token, const std::string& role, CredentialsDone done);

    HttpClient& http_;
    const std::string endpoint_;
};

}  // namespace sbxfs::aws
