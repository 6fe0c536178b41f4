// S3: one small object put, one deleted. Codec only. Loop thread only.
#pragma once

#include <memory>
#include <string>

#include "aws/service.h"
#include "base/secret.h"

namespace sbxfs::aws {

class S3 {
 public:
    using PutDone = UniqueFunction<void(Outcome<Unit>)>;

    // The service's endpoint is used with the bucket in the path, which every S3 and every stand-in for it understands.
    explicit S3(std::shared_ptr<Service> service) : service_(std::move(service)) {}

    void PutObject(const std::string& bucket, const std::string& key, const Secret& bytes,
                   PutDone done);
    // Also done when there is none.
    void DeleteObject(const std::string& bucket, const std::string& key, PutDone done);

 private:
    void Send(std::string action, std::string method, const std::string& bucket,
              const std::string& key, std::string body, PutDone done);

    std::shared_ptr<Service> service_;
};

}  // namespace sbxfs::aws
