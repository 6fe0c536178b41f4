#include "aws/ec2.h"

#include "aws/query.h"
#include "aws/xml.h"

namespace sbxfs::aws {

void Ec2::DescribeNetworkInterfaces(const std::vector<std::string>& ids, InterfacesDone done) {
    QueryParameters parameters = {{"Filter.1.Name", "network-interface-id"}};
    for (std::size_t i = 0; i < ids.size(); ++i)
        parameters.emplace_back("Filter.1.Value." + std::to_string(i + 1), ids[i]);
    service_->Call(
        QueryCall("DescribeNetworkInterfaces", "2016-11-15", std::move(parameters), Repeat::kSafe),
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

}  // namespace sbxfs::aws
