#include "sandbox/providers/fargate/fargate_client.h"

#include <random>
#include <utility>

namespace sbxfs {
namespace {

// AWS's default rates for one account and region (docs/fargate.md); the rate is lowered when AWS says so. A launch that is
// refused costs more than the little that is left unused: at the very rate some always come too early.
std::map<std::string, aws::TokenBucket> EcsBuckets() {
    std::map<std::string, aws::TokenBucket> buckets;
    buckets.emplace("RunTask", aws::TokenBucket(18, 19));
    buckets.emplace("RegisterTaskDefinition", aws::TokenBucket(1, 1));
    buckets.emplace("DescribeTasks", aws::TokenBucket(20, 20));
    buckets.emplace("StopTask", aws::TokenBucket(40, 40));
    return buckets;
}

}  // namespace

Result<std::shared_ptr<FargateClient>> FargateClient::Make(Loop& loop, aws::HttpClient& http,
                                                           const aws::Environment& environment,
                                                           const aws::SharedConfig& shared,
                                                           const FargateAccount& account) {
    std::shared_ptr<FargateClient> client(new FargateClient(loop));
    const aws::Profile* profile = shared.Find(aws::ProfileName(account.profile, environment));
    client->region_ = TRY(aws::ResolveRegion(account.region, environment, profile));
    const auto generator = std::make_shared<std::mt19937_64>(std::random_device{}());
    const auto random = [generator] {
        return std::uniform_real_distribution<double>(0, 1)(*generator);
    };

    aws::ChainSettings chain;
    chain.profile = account.profile;
    chain.role_arn = account.role_arn;
    chain.external_id = account.external_id;
    chain.session_name = account.role_session_name;
    chain.sts_endpoint = account.endpoint_url;
    const aws::ChainParts parts{loop, http, environment, shared, client->region_, random};
    const aws::CredentialProviderPtr credentials = TRY(aws::MakeCredentialChain(parts, chain));

    for (const aws::ServiceNames& names : {aws::kEcs, aws::kEc2, aws::kSts, aws::kIam, aws::kLogs,
                                           aws::kSimpleStorage, aws::kSecretsManager}) {
        aws::ServiceSettings service;
        service.names = names;
        service.region = client->region_;
        service.endpoint = TRY(aws::ResolveEndpoint(names, client->region_, account.endpoint_url,
                                                    environment, shared, profile));
        service.credentials = credentials;
        service.random = random;
        if (names.endpoint == aws::kEcs.endpoint) service.buckets = EcsBuckets();
        client->services_[std::string(names.endpoint)] =
            std::make_shared<aws::Service>(loop, http, std::move(service));
    }
    const auto& services = client->services_;
    client->ecs_ = std::make_unique<aws::Ecs>(services.at("ecs"));
    client->ec2_ = std::make_unique<aws::Ec2>(services.at("ec2"));
    client->iam_ = std::make_unique<aws::Iam>(services.at("iam"));
    client->sts_ = std::make_unique<aws::Sts>(services.at("sts"));
    client->logs_ = std::make_unique<aws::Logs>(services.at("logs"));
    client->s3_ = std::make_unique<aws::S3>(services.at("s3"));
    client->secrets_ = std::make_unique<aws::SecretsManager>(services.at("secretsmanager"));
    client->definitions_ = std::make_shared<DefinitionCache>(*client->ecs_);
    return client;
}

TaskWatch& FargateClient::watch(const std::string& cluster) {
    auto& watch = watches_[cluster];
    if (watch == nullptr) watch = std::make_shared<TaskWatch>(loop_, *ecs_, *ec2_, cluster);
    return *watch;
}

std::map<std::string, aws::Service::Counters> FargateClient::Counters() const {
    std::map<std::string, aws::Service::Counters> all;
    for (const auto& [name, service] : services_)
        for (const auto& [action, counters] : service->counters())
            all[name + ":" + action] = counters;
    return all;
}

}  // namespace sbxfs
