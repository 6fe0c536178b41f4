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

class Ec2 {
 public:
    using InterfacesDone = UniqueFunction<void(Outcome<std::vector<NetworkInterface>>)>;

    explicit Ec2(std::shared_ptr<Service> service) : service_(std::move(service)) {}

    // All of `ids` in one call. Found by a filter, so that one that is gone does not fail the rest.
    void DescribeNetworkInterfaces(const std::vector<std::string>& ids, InterfacesDone done);

    const std::shared_ptr<Service>& service() const { return service_; }

 private:
    std::shared_ptr<Service> service_;
};

}  // namespace sbxfs::aws
