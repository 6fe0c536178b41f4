#include "aws/metadata_credentials.h"

#include <algorithm>
#include <array>

#include "aws/timestamp.h"
#include "aws/url.h"
#include "base/files.h"
#include "base/json.h"
#include "base/strings.h"

namespace sbxfs::aws {
namespace {

constexpr const char* kEcsHost = "http://169.254.170.2";
constexpr const char* kRolePath = "/latest/meta-data/iam/security-credentials/";

HttpRequest MetadataRequest(std::string method, std::string url, HttpHeaders headers) {
    HttpRequest request;
    request.method = std::move(method);
    request.url = std::move(url);
    request.headers = std::move(headers);
    // Close by, or not there at all: the SDKs wait one second, too.
    request.connect_timeout = std::chrono::seconds(1);
    request.timeout = std::chrono::seconds(5);
    request.direct = true;
    return request;
}

// The one document that both endpoints give.
Result<Credentials> ReadDocument(const HttpResponse& response, const std::string& source) {
    const auto json = Json::Parse(response.body);
    Credentials credentials;
    if (json) {
        credentials.access_key_id = json->GetString("AccessKeyId").value_or("");
        credentials.secret_access_key = Secret(json->GetString("SecretAccessKey").value_or(""));
        credentials.session_token = Secret(json->GetString("Token").value_or(""));
        credentials.expires = ParseIso8601(json->GetString("Expiration").value_or(""));
        credentials.source = source;
    }
    if (credentials.access_key_id.empty() || credentials.secret_access_key.empty()) {
        const std::string said =
            json ? json->GetString("Message").value_or(json->GetString("message").value_or(""))
                 : "";
        return Error(Errno{EKEYEXPIRED},
                     source + " gave no credentials" + (said.empty() ? "" : ": " + Printable(said)),
                     Blame::kRemote);
    }
    return credentials;
}

// The answer's body, or why there is none.
Result<HttpResponse> Expect200(HttpOutcome outcome, const std::string& source) {
    if (outcome.failure)
        return outcome.failure->error.While("asking " + source + " for credentials");
    if (outcome.response->status == 200) return std::move(*outcome.response);
    return Error(Errno{EKEYEXPIRED},
                 source + " gave no credentials: HTTP " + std::to_string(outcome.response->status) +
                     " " + Printable(Trim(outcome.response->body), 200),
                 Blame::kRemote);
}

bool IsOwnMachine(const std::string& host) {
    constexpr std::array<std::string_view, 5> kAllowed = {"localhost", "::1", "169.254.170.2",
                                                          "169.254.170.23", "fd00:ec2::23"};
    return host.starts_with("127.") ||
           std::find(kAllowed.begin(), kAllowed.end(), host) != kAllowed.end();
}

}  // namespace

Result<CredentialProviderPtr> ContainerCredentials::Make(Loop& loop, HttpClient& http,
                                                         const Environment& environment) {
    const std::string relative = Lookup(environment, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const std::string full = Lookup(environment, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
    const std::string text = relative.empty() ? full : kEcsHost + relative;
    const Url url = TRY(ParseUrl(text));
    if (url.scheme == "http" && !IsOwnMachine(url.host))
        return Error(Errno{EINVAL}, "AWS_CONTAINER_CREDENTIALS_FULL_URI leads to " +
                                        Printable(url.host) +
                                        " over plain HTTP: only this machine and the platform's "
                                        "own addresses are asked that way");
    return CredentialProviderPtr(std::make_shared<ContainerCredentials>(
        loop, http, url.Text(), Secret(Lookup(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN")),
        Lookup(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")));
}

void ContainerCredentials::Get(CredentialsDone done) {
    Secret token = token_;
    if (!token_file_.empty()) {
        auto text = ReadWholeFile(token_file_, 64U << 10);
        if (!text) {
            const Error error(
                Errno{EKEYEXPIRED},
                "the token for the container's credentials cannot be read: " + text.error().what());
            return loop_.Post([done = std::move(done), error] { done(error); });
        }
        token = Secret(std::string(Trim(*text)));
    }
    HttpHeaders headers;
    if (!token.empty()) headers.emplace_back("Authorization", std::string(token.Reveal()));
    http_.Send(MetadataRequest("GET", url_, std::move(headers)),
               [done = std::move(done)](HttpOutcome outcome) {
                   const std::string source = "the container's credential endpoint";
                   auto response = Expect200(std::move(outcome), source);
                   if (!response) return done(std::move(response).error());
                   done(ReadDocument(*response, source));
               });
}

void InstanceCredentials::Get(CredentialsDone done) {
    http_.Send(
        MetadataRequest("PUT", endpoint_ + "/latest/api/token",
                        {{"X-aws-ec2-metadata-token-ttl-seconds", "21600"}}),
        [self = shared_from_this(), done = std::move(done)](HttpOutcome outcome) mutable {
            auto token = Expect200(std::move(outcome), "the instance's metadata service");
            if (token) return self->AskRole(token->body, std::move(done));
            // Asked last: whoever is not on an instance has set up no credentials at all.
            done(Error(Errno{EKEYEXPIRED},
                       "no AWS credentials are set: run `aws configure`, or set AWS_PROFILE or "
                       "AWS_ACCESS_KEY_ID where the mount is started (" +
                           token.error().what() + ")",
                       Blame::kCaller));
        });
}

void InstanceCredentials::AskRole(const std::string& token, CredentialsDone done) {
    http_.Send(
        MetadataRequest("GET", endpoint_ + kRolePath, {{"X-aws-ec2-metadata-token", token}}),
        [self = shared_from_this(), token, done = std::move(done)](HttpOutcome outcome) mutable {
            auto role = Expect200(std::move(outcome), "the instance's metadata service");
            if (!role) return done(std::move(role).error());
            const std::string name(Trim(role->body.substr(0, role->body.find('\n'))));
            if (name.empty())
                return done(Error(Errno{EKEYEXPIRED},
                                  "this instance has no role: attach an instance profile to it"));
            self->AskKeys(token, name, std::move(done));
        });
}

void InstanceCredentials::AskKeys(const std::string& token, const std::string& role,
                                  CredentialsDone done) {
    http_.Send(MetadataRequest("GET", endpoint_ + kRolePath + PercentEncode(role),
                               {{"X-aws-ec2-metadata-token", token}}),
               [role, done = std::move(done)](HttpOutcome outcome) {
                   const std::string source = "the instance's role " + Printable(role, 64);
                   auto response = Expect200(std::move(outcome), source);
                   if (!response) return done(std::move(response).error());
                   done(ReadDocument(*response, source));
               });
}

}  // namespace sbxfs::aws
