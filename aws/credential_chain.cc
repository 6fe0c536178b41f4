#include "aws/credential_chain.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "aws/cached_credentials.h"
#include "aws/endpoint.h"
#include "aws/metadata_credentials.h"
#include "aws/process_credentials.h"
#include "aws/role_credentials.h"
#include "aws/simple_credentials.h"
#include "base/strings.h"

namespace sbxfs::aws {
namespace {

class ChainBuilder {
 public:
    ChainBuilder(const ChainParts& parts, const ChainSettings& settings)
        : parts_(parts),
          settings_(settings),
          profile_(ProfileName(settings.profile, parts.environment)) {}

    Result<CredentialProviderPtr> Build() {
        CredentialProviderPtr base = TRY(Base());
        if (settings_.role_arn.empty()) return base;
        RoleRequest request{settings_.role_arn, SessionName(settings_.session_name),
                            settings_.external_id};
        return Assume(std::move(request), std::move(base));
    }

 private:
    std::string Env(const std::string& name) const { return Lookup(parts_.environment, name); }

    Result<CredentialProviderPtr> Base() {
        if (!settings_.access_key_id.empty())
            return Static({settings_.access_key_id,
                           settings_.secret_access_key,
                           settings_.session_token,
                           {},
                           "the configuration"});
        // As in the AWS tools a profile that was asked for by name beats the environment's keys.
        const bool named = !settings_.profile.empty();
        if (!named && !Env("AWS_ACCESS_KEY_ID").empty()) return FromEnvironment();
        if (!named && !Env("AWS_WEB_IDENTITY_TOKEN_FILE").empty() && !Env("AWS_ROLE_ARN").empty())
            return FromToken({Env("AWS_ROLE_ARN"), SessionName(Env("AWS_ROLE_SESSION_NAME"))},
                             Env("AWS_WEB_IDENTITY_TOKEN_FILE"));
        const Profile* profile = parts_.shared.Find(profile_);
        if (profile == nullptr && (named || !Env("AWS_PROFILE").empty()))
            return NoSuchProfile(profile_);
        if (profile != nullptr && Says(*profile)) return FromProfile(profile_);
        return FromPlatform();
    }

    // Whether a profile says anything about credentials: one with a region only does not.
    static bool Says(const Profile& profile) {
        const std::vector<std::string> keys = {
            "role_arn",    "aws_access_key_id", "credential_process",     "aws_secret_access_key",
            "sso_session", "sso_start_url",     "web_identity_token_file"};
        return std::any_of(keys.begin(), keys.end(),
                           [&](const std::string& key) { return !profile.Get(key).empty(); });
    }

    Error NoSuchProfile(const std::string& name) const {
        return Error(Errno{EINVAL}, "there is no profile \"" + Printable(name, 60) + "\" in " +
                                        parts_.shared.config_path + " or " +
                                        parts_.shared.credentials_path);
    }
    Error InProfile(const std::string& name, const std::string& what) const {
        return Error(Errno{EINVAL}, "profile \"" + Printable(name, 60) + "\" in " +
                                        parts_.shared.config_path + ": " + what);
    }

    static std::string SessionName(const std::string& wanted) {
        return wanted.empty() ? "sbxfs" : wanted;
    }

    CredentialProviderPtr Static(Credentials credentials) const {
        return std::make_shared<StaticCredentials>(parts_.loop, std::move(credentials));
    }
    CredentialProviderPtr Cached(CredentialProviderPtr source) const {
        return std::make_shared<CachedCredentials>(parts_.loop, std::move(source));
    }

    Result<CredentialProviderPtr> FromEnvironment() const {
        if (Env("AWS_SECRET_ACCESS_KEY").empty())
            return Error(
                Errno{EKEYEXPIRED},
                "AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not: set both, or none");
        return Static({Env("AWS_ACCESS_KEY_ID"),
                       Secret(Env("AWS_SECRET_ACCESS_KEY")),
                       Secret(Env("AWS_SESSION_TOKEN")),
                       {},
                       "the environment"});
    }

    // For signing at STS with `source`; null: unsigned.
    Result<Sts> StsWith(CredentialProviderPtr source) const {
        ServiceSettings service;
        service.names = kSts;
        service.region = parts_.region;
        service.endpoint =
            TRY(ResolveEndpoint(kSts, parts_.region, settings_.sts_endpoint, parts_.environment,
                                parts_.shared, parts_.shared.Find(profile_)));
        service.credentials = std::move(source);
        service.random = parts_.random;
        return Sts(std::make_shared<Service>(parts_.loop, parts_.http, std::move(service)));
    }
    Result<CredentialProviderPtr> Assume(RoleRequest request, CredentialProviderPtr source) const {
        Sts sts = TRY(StsWith(source));
        return Cached(
            std::make_shared<AssumedRole>(std::move(sts), std::move(request), std::move(source)));
    }
    Result<CredentialProviderPtr> FromToken(RoleRequest request, std::string file) const {
        Sts sts = TRY(StsWith(nullptr));
        return Cached(std::make_shared<WebIdentity>(parts_.loop, std::move(sts), std::move(request),
                                                    std::move(file)));
    }

    Result<CredentialProviderPtr> FromProfile(const std::string& name) {
        const Profile* profile = parts_.shared.Find(name);
        if (profile == nullptr) return NoSuchProfile(name);
        if (!profile->Get("role_arn").empty()) return FromRole(name, *profile);
        return FromKeys(name, *profile);
    }

    Result<CredentialProviderPtr> FromKeys(const std::string& name, const Profile& profile) {
        const std::string id = profile.Get("aws_access_key_id");
        if (!id.empty()) {
            const std::string secret = profile.Get("aws_secret_access_key");
            if (secret.empty())
                return InProfile(name, "aws_access_key_id without aws_secret_access_key");
            return Static({id,
                           Secret(secret),
                           Secret(profile.Get("aws_session_token")),
                           {},
                           "profile " + name});
        }
        if (const std::string command = profile.Get("credential_process"); !command.empty()) {
            auto argv = SplitCommandLine(command);
            if (!argv) return InProfile(name, argv.error().what());
            return Cached(std::make_shared<ProcessCredentials>(
                parts_.loop, std::move(*argv), "credential_process of profile " + name));
        }
        if (!profile.Get("sso_session").empty() || !profile.Get("sso_start_url").empty())
            return InProfile(
                name,
                "it logs in through a browser (sso), which a daemon cannot: make a profile with "
                "credential_process = aws configure export-credentials --profile " +
                    name + " --format process");
        return InProfile(name,
                         "it has no credentials: none of aws_access_key_id, role_arn, "
                         "credential_process is there");
    }

    Result<CredentialProviderPtr> FromRole(const std::string& name, const Profile& profile) {
        // A profile may name itself as its source for its own keys; any other way back is a circle.
        if (std::find(visited_.begin(), visited_.end(), name) != visited_.end())
            return InProfile(name, "source_profile leads in a circle: " + Join(visited_, " -> ") +
                                       " -> " + name);
        visited_.push_back(name);
        RoleRequest request{profile.Get("role_arn"), SessionName(profile.Get("role_session_name")),
                            profile.Get("external_id")};
        if (const std::string duration = profile.Get("duration_seconds"); !duration.empty()) {
            const auto seconds = ParseNumber<int>(duration);
            if (!seconds || *seconds < 900 || *seconds > 43200)
                return InProfile(name, "duration_seconds is not a number from 900 to 43200");
            request.duration_s = *seconds;
        }
        if (const std::string file = profile.Get("web_identity_token_file"); !file.empty())
            return FromToken(std::move(request), file);
        if (!profile.Get("mfa_serial").empty())
            return InProfile(name,
                             "mfa_serial needs somebody to type a code, which a daemon cannot ask "
                             "for: use credential_process");
        const std::string source = profile.Get("source_profile");
        const std::string kind = profile.Get("credential_source");
        if (source.empty() == kind.empty())
            return InProfile(name,
                             "role_arn needs exactly one of source_profile and credential_source");
        if (!kind.empty()) return Assume(std::move(request), TRY(FromCredentialSource(name, kind)));
        const Profile* other = parts_.shared.Find(source);
        if (other == nullptr)
            return InProfile(name,
                             "its source_profile \"" + Printable(source, 60) + "\" is not there");
        CredentialProviderPtr base =
            source == name ? TRY(FromKeys(source, *other)) : TRY(FromProfile(source));
        return Assume(std::move(request), std::move(base));
    }

    Result<CredentialProviderPtr> FromCredentialSource(const std::string& name,
                                                       const std::string& kind) const {
        if (kind == "Environment") return FromEnvironment();
        if (kind == "EcsContainer")
            return Cached(
                TRY(ContainerCredentials::Make(parts_.loop, parts_.http, parts_.environment)));
        if (kind == "Ec2InstanceMetadata") return Instance();
        return InProfile(
            name, "credential_source is none of Environment, EcsContainer, Ec2InstanceMetadata");
    }

    CredentialProviderPtr Instance() const {
        std::string endpoint = Env("AWS_EC2_METADATA_SERVICE_ENDPOINT");
        if (endpoint.empty()) endpoint = InstanceCredentials::kAddress;
        while (endpoint.ends_with('/'))
            endpoint.pop_back();
        return Cached(std::make_shared<InstanceCredentials>(parts_.http, std::move(endpoint)));
    }

    Result<CredentialProviderPtr> FromPlatform() const {
        if (!Env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").empty() ||
            !Env("AWS_CONTAINER_CREDENTIALS_FULL_URI").empty())
            return Cached(
                TRY(ContainerCredentials::Make(parts_.loop, parts_.http, parts_.environment)));
        if (Env("AWS_EC2_METADATA_DISABLED") == "true")
            return CredentialProviderPtr(std::make_shared<StaticCredentials>(
                parts_.loop, Error(Errno{EKEYEXPIRED},
                                   "no AWS credentials are set: run `aws configure`, or set "
                                   "AWS_PROFILE or AWS_ACCESS_KEY_ID")));
        return Instance();
    }

    const ChainParts& parts_;
    const ChainSettings& settings_;
    const std::string profile_;
    std::vector<std::string> visited_;
};

}  // namespace

std::string ProfileName(std::string_view wanted, const Environment& environment) {
    if (!wanted.empty()) return std::string(wanted);
    for (const char* variable : {"AWS_PROFILE", "AWS_DEFAULT_PROFILE"})
        if (const std::string name = Lookup(environment, variable); !name.empty()) return name;
    return "default";
}

Result<CredentialProviderPtr> MakeCredentialChain(const ChainParts& parts,
                                                  const ChainSettings& settings) {
    return ChainBuilder(parts, settings).Build();
}

}  // namespace sbxfs::aws
