// EC2, as far as a Fargate task's network needs it. Codec only. Loop thread only.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "aws/service.h"

namespace sbxfs::aws {

struct NetworkInterface {
    std::string id;
    std::string status;  // "in-use", ...
    std::string private_address;
    std::string public_address;  // empty: none
    std::string subnet;
};

struct Subnet {
    std::string id;
    std::string vpc;
    std::string zone;
};

// Which connections a security group lets in.
struct IngressRule {
    std::string protocol;  // "tcp", "-1" for all
    int from_port = -1;    // with "-1": all
    int to_port = -1;
    std::vector<std::string> sources;  // address ranges, groups and prefix lists
};
struct SecurityGroup {
    std::string id;
    std::string vpc;
    std::vector<IngressRule> ingress;
};

class Ec2 {
 public:
    using InterfacesDone = UniqueFunction<void(Outcome<std::vector<NetworkInterface>>)>;

    explicit Ec2(std::shared_ptr<Service> service) : service_(std::move(service)) {}

    // All of `ids` in one call. Found by a filter, so that one that is gone does not fail the rest.
    void DescribeNetworkInterfaces(const std::vector<std::string>& ids, InterfacesDone done);

    // Whether each subnet exists, and in which VPC. All of `ids`, or a failure that names the unknown one.
    using SubnetsDone = UniqueFunction<void(Outcome<std::vector<Subnet>>)>;
    void DescribeSubnets(const std::vector<std::string>& ids, SubnetsDone done);
    using GroupsDone = UniqueFunction<void(Outcome<std::vector<SecurityGroup>>)>;
    void DescribeSecurityGroups(const std::vector<std::string>& ids, GroupsDone done);

    const std::shared_ptr<Service>& service() const { return service_; }

 private:
    std::shared_ptr<Service> service_;
};

}  // namespace sbxfs::aws
