#include "sandbox/providers/fargate/fargate_doctor.h"

#include <algorithm>
#include <future>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "aws/curl_http.h"
#include "base/strings.h"
#include "sandbox/io_loop.h"
#include "sandbox/providers/fargate/fargate_client.h"
#include "sandbox/providers/fargate/iam_actions.h"
#include "sandbox/providers/fargate/task_definition.h"

namespace sbxfs {
namespace {

// One account looked at from the command line: calls are made on a loop of its own, and waited for.
class Examination {
 public:
    Examination(const FargateSettings& settings, const aws::Environment& environment,
                const Tell& tell)
        : settings_(settings), environment_(environment), tell_(tell) {}

    void Run() {
        if (!Connect() || !Identity()) return;
        Cluster();
        Network();
        Definition();
        HostKey();
        Permissions();
    }

 private:
    // `ask` is run on the loop with a callback; what it is given is returned here.
    template <class T>
    aws::Outcome<T> Ask(UniqueFunction<void(UniqueFunction<void(aws::Outcome<T>)>)> ask) {
        auto answer = std::make_shared<std::promise<aws::Outcome<T>>>();
        auto future = answer->get_future();
        loop_->Post([ask = std::move(ask), answer] {
            ask([answer](aws::Outcome<T> outcome) { answer->set_value(std::move(outcome)); });
        });
        return future.get();
    }

    void Say(bool good, std::string check, std::string text) {
        tell_({good, std::move(check), std::move(text)});
    }

    bool Connect() {
        auto loop = IoLoop::Start("doctor", RealClock());
        if (!loop) return TellStatus(tell_, "client", loop.error(), "");
        loop_ = *std::move(loop);
        aws::CurlHttp::Settings http;
        http.ca_bundle = aws::Lookup(environment_, "AWS_CA_BUNDLE");
        http_ = std::make_unique<aws::CurlHttp>(*loop_, http);
        const auto shared = aws::LoadSharedConfig(environment_);
        if (!shared) return TellStatus(tell_, "AWS files", shared.error(), "");
        std::promise<Result<std::shared_ptr<FargateClient>>> made;
        loop_->Post([&] {
            made.set_value(
                FargateClient::Make(*loop_, *http_, environment_, *shared, settings_.account));
        });
        auto client = made.get_future().get();
        if (!client) return TellStatus(tell_, "credentials", client.error(), "");
        client_ = *std::move(client);
        settings_.account.region = client_->region();
        Say(true, "region", client_->region());
        return true;
    }

    bool Identity() {
        const auto who = Ask<aws::CallerIdentity>(
            [this](auto done) { client_->sts().GetCallerIdentity(std::move(done)); });
        Say(static_cast<bool>(who), "credentials", who ? who->arn : who.failure().error.what());
        if (who) identity_ = *who;
        return static_cast<bool>(who);
    }

    void Cluster() {
        const auto answer = Ask<Json>([this](auto done) {
            client_->ecs().DescribeCluster(settings_.cluster, std::move(done));
        });
        if (!answer) return Say(false, "cluster", answer.failure().error.what());
        const auto clusters = answer->Find("clusters");
        const auto all = clusters ? clusters->Elements() : std::vector<Json>();
        const bool active = !all.empty() && all.front().GetString("status") == "ACTIVE";
        Say(active, "cluster",
            active ? settings_.cluster + " is there"
                   : settings_.cluster +
                         " is not there or not active: aws ecs create-cluster --cluster-name " +
                         ShellQuote(settings_.cluster));
    }

    void Network() {
        const auto subnets = Ask<std::vector<aws::Subnet>>([this](auto done) {
            client_->ec2().DescribeSubnets(settings_.subnets, std::move(done));
        });
        Say(static_cast<bool>(subnets), "subnets",
            subnets ? Join(settings_.subnets, ", ") + " are there"
                    : subnets.failure().error.what());
        if (settings_.security_groups.empty())
            return Say(false, "security groups",
                       "none is set: the VPC's default group lets nothing in from outside. Set "
                       "security_groups");
        const auto groups = Ask<std::vector<aws::SecurityGroup>>([this](auto done) {
            client_->ec2().DescribeSecurityGroups(settings_.security_groups, std::move(done));
        });
        if (!groups) return Say(false, "security groups", groups.failure().error.what());
        const std::string vpc = subnets && !subnets->empty() ? subnets->front().vpc : "";
        for (const aws::SecurityGroup& group : *groups)
            if (!vpc.empty() && group.vpc != vpc)
                Say(false, "security groups",
                    group.id + " is in another VPC (" + group.vpc + ") than the subnets (" + vpc +
                        ")");
        SayWhoMayEnter(*groups);
    }

    void SayWhoMayEnter(const std::vector<aws::SecurityGroup>& groups) {
        std::set<std::string> sources;
        for (const aws::SecurityGroup& group : groups)
            for (const aws::IngressRule& rule : group.ingress) {
                const bool all = rule.protocol == "-1";
                const bool ours = rule.protocol == "tcp" && rule.from_port <= settings_.ssh_port &&
                                  settings_.ssh_port <= rule.to_port;
                if (all || ours) sources.insert(rule.sources.begin(), rule.sources.end());
            }
        const std::string port = std::to_string(settings_.ssh_port);
        if (sources.empty())
            return Say(false, "route",
                       "no security group lets TCP port " + port +
                           " in: add a rule for the address of this machine");
        const std::vector<std::string> list(sources.begin(), sources.end());
        const bool open = sources.contains("0.0.0.0/0") || sources.contains("::/0");
        Say(true, "route",
            "port " + port + " is open to " + Join(list, ", ") +
                (open ? ": everybody; name this machine's address instead" : ""));
    }

    void Definition() {
        if (settings_.task_definition.empty()) return;
        const auto base = Ask<Json>([this](auto done) {
            client_->ecs().DescribeTaskDefinition(settings_.task_definition, std::move(done));
        });
        if (!base) return Say(false, "task definition", base.failure().error.what());
        const auto made = DefineFromBase(settings_, settings_.image, *base);
        Say(static_cast<bool>(made), "task definition",
            made ? settings_.task_definition + " can be cloned" : made.error().what());
    }

    void HostKey() {
        const std::string mode(ToString(settings_.host_key));
        if (settings_.host_key == HostKeyMode::kOverride)
            return Say(
                true, "host key",
                "override: anybody who may call ecs:DescribeTasks can read it; shared is safer");
        if (settings_.host_key != HostKeyMode::kShared) return Say(true, "host key", mode);
        const auto value = Ask<aws::SecretValue>([this](auto done) {
            client_->secrets().GetSecretValue(settings_.host_key_secret, std::move(done));
        });
        const bool absent = !value && value.failure().kind == aws::FailureKind::kNotFound &&
                            !settings_.host_key_secret.starts_with("arn:");
        if (absent)
            return Say(
                true, "host key",
                settings_.host_key_secret + " is not there yet; it is made at the first launch");
        Say(static_cast<bool>(value), "host key",
            value ? "shared, in " + value->arn : value.failure().error.what());
    }

    void Permissions() {
        const std::string partition(aws::PartitionOf(client_->region()).name);
        const auto needed = ActionsNeeded(settings_, partition, identity_.account);
        std::vector<std::string> names;
        for (const NeededAction& one : needed)
            if (std::find(names.begin(), names.end(), one.action) == names.end())
                names.push_back(one.action);
        const auto decisions =
            Ask<std::map<std::string, aws::Iam::Decision>>([this, &names](auto done) {
                client_->iam().SimulatePrincipalPolicy(aws::PolicyPrincipal(identity_.arn), names,
                                                       std::move(done));
            });
        if (!decisions) {
            const bool not_allowed = decisions.failure().kind == aws::FailureKind::kDenied;
            return Say(not_allowed, "permissions",
                       not_allowed ? "not checked: iam:SimulatePrincipalPolicy is not allowed; "
                                     "`sbxfs iam-policy` prints what is needed"
                                   : decisions.failure().error.what());
        }
        for (const std::string& name : names) {
            const auto found = decisions->find(name);
            const bool allowed = found != decisions->end() && found->second.allowed;
            const auto why =
                std::find_if(needed.begin(), needed.end(),
                             [&](const NeededAction& one) { return one.action == name; });
            if (!allowed)
                Say(false, "permissions",
                    name + " is not allowed (" + why->why +
                        "): `sbxfs iam-policy` prints what is needed");
        }
        const bool all = std::all_of(names.begin(), names.end(), [&](const std::string& name) {
            return decisions->contains(name) && decisions->at(name).allowed;
        });
        if (all) Say(true, "permissions", std::to_string(names.size()) + " actions are allowed");
    }

    FargateSettings settings_;
    const aws::Environment& environment_;
    const Tell& tell_;
    aws::CallerIdentity identity_;
    // Destroyed from the last to the first: the loop stops before what runs on it goes.
    std::shared_ptr<FargateClient> client_;
    std::unique_ptr<aws::CurlHttp> http_;
    std::unique_ptr<IoLoop> loop_;
};

}  // namespace

void ExamineFargate(const Template& what, const aws::Environment& environment, const Tell& tell) {
    const auto settings = ReadFargateSettings(what, environment);
    if (!TellStatus(tell, "settings", settings ? Ok() : Status(settings.error()), "complete"))
        return;
    Examination(*settings, environment, tell).Run();
}

Result<Json> FargatePolicy(const std::vector<Template>& templates,
                           const aws::Environment& environment) {
    std::vector<FargateSettings> all;
    std::string partition = "aws";
    for (const Template& what : templates) {
        if (what.backend != "fargate") continue;
        auto settings = ReadFargateSettings(what, environment);
        if (!settings) return std::move(settings).error().While("reading template " + what.name);
        partition = aws::PartitionOf(settings->account.region).name;
        all.push_back(*std::move(settings));
    }
    if (all.empty())
        return Error(Errno{EINVAL},
                     "no template of the configuration uses a provider with backend = \"fargate\"");
    return PolicyFor(all, partition, "*");
}

}  // namespace sbxfs
