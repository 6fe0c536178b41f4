#include "aws/ec2.h"

#include <utility>

#include "aws/query.h"
#include "aws/xml.h"
#include "base/strings.h"

namespace sbxfs::aws {
namespace {

constexpr const char* kVersion = "2016-11-15";

ApiCall ByIds(const std::string& action, const std::string& parameter,
              const std::vector<std::string>& ids) {
    QueryParameters parameters;
    for (std::size_t i = 0; i < ids.size(); ++i)
        parameters.emplace_back(parameter + "." + std::to_string(i + 1), ids[i]);
    return QueryCall(action, kVersion, std::move(parameters), Repeat::kSafe);
}

std::vector<IngressRule> ReadIngress(const Xml& group) {
    std::vector<IngressRule> rules;
    const auto permissions = group.Child("ipPermissions");
    for (const Xml& one : permissions ? permissions->Children("item") : std::vector<Xml>()) {
        IngressRule rule;
        rule.protocol = one.TextAt("ipProtocol").value_or("");
        rule.from_port = ParseNumber<int>(one.TextAt("fromPort").value_or("")).value_or(-1);
        rule.to_port = ParseNumber<int>(one.TextAt("toPort").value_or("")).value_or(-1);
        // Where each kind of source has its name.
        const std::pair<const char*, const char*> kinds[] = {{"ipRanges", "cidrIp"},
                                                             {"ipv6Ranges", "cidrIpv6"},
                                                             {"groups", "groupId"},
                                                             {"prefixListIds", "prefixListId"}};
        for (const auto& [list, name] : kinds) {
            const auto sources = one.Child(list);
            for (const Xml& source : sources ? sources->Children("item") : std::vector<Xml>())
                rule.sources.push_back(source.TextAt(name).value_or(""));
        }
        rules.push_back(std::move(rule));
    }
    return rules;
}

}  // namespace

void Ec2::DescribeNetworkInterfaces(const std::vector<std::string>& ids, InterfacesDone done) {
    QueryParameters parameters = {{"Filter.1.Name", "network-interface-id"}};
    for (std::size_t i = 0; i < ids.size(); ++i)
        parameters.emplace_back("Filter.1.Value." + std::to_string(i + 1), ids[i]);
    service_->Call(
        QueryCall("DescribeNetworkInterfaces", kVersion, std::move(parameters), Repeat::kSafe),
        [done = std::move(done)](Outcome<HttpResponse> answer) {
            if (!answer) return done(std::move(answer).failure());
            const auto xml = Xml::Parse(answer->body);
            const auto set = xml ? xml->Child("networkInterfaceSet") : std::nullopt;
            if (!set)
                return done(
                    Malformed("ec2:DescribeNetworkInterfaces", "no networkInterfaceSet in it"));
            std::vector<NetworkInterface> found;
            for (const Xml& item : set->Children("item"))
                found.push_back({item.TextAt("networkInterfaceId").value_or(""),
                                 item.TextAt("status").value_or(""),
                                 item.TextAt("privateIpAddress").value_or(""),
                                 item.TextAt("association/publicIp").value_or(""),
                                 item.TextAt("subnetId").value_or("")});
            done(std::move(found));
        });
}

void Ec2::DescribeSubnets(const std::vector<std::string>& ids, SubnetsDone done) {
    service_->Call(ByIds("DescribeSubnets", "SubnetId", ids),
                   [done = std::move(done)](Outcome<HttpResponse> answer) {
                       if (!answer) return done(std::move(answer).failure());
                       const auto xml = Xml::Parse(answer->body);
                       const auto set = xml ? xml->Child("subnetSet") : std::nullopt;
                       if (!set)
                           return done(Malformed("ec2:DescribeSubnets", "no subnetSet in it"));
                       std::vector<Subnet> found;
                       for (const Xml& item : set->Children("item"))
                           found.push_back({item.TextAt("subnetId").value_or(""),
                                            item.TextAt("vpcId").value_or(""),
                                            item.TextAt("availabilityZone").value_or("")});
                       done(std::move(found));
                   });
}

void Ec2::DescribeSecurityGroups(const std::vector<std::string>& ids, GroupsDone done) {
    service_->Call(
        ByIds("DescribeSecurityGroups", "GroupId", ids),
        [done = std::move(done)](Outcome<HttpResponse> answer) {
            if (!answer) return done(std::move(answer).failure());
            const auto xml = Xml::Parse(answer->body);
            const auto set = xml ? xml->Child("securityGroupInfo") : std::nullopt;
            if (!set)
                return done(Malformed("ec2:DescribeSecurityGroups", "no securityGroupInfo in it"));
            std::vector<SecurityGroup> found;
            for (const Xml& item : set->Children("item"))
                found.push_back({item.TextAt("groupId").value_or(""),
                                 item.TextAt("vpcId").value_or(""), ReadIngress(item)});
            done(std::move(found));
        });
}

}  // namespace sbxfs::aws
