// What the provider keeps: one record a task, in memory and on disk, and the clients of the accounts in use. The loop owns
// it; the disk is touched on a thread of its own, and every answer comes back to the loop.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "aws/http.h"
#include "base/batch_thread.h"
#include "base/loop.h"
#include "sandbox/providers/fargate/fargate_client.h"
#include "sandbox/providers/fargate/fargate_record.h"
#include "sandbox/providers/fargate/host_key.h"
#include "sandbox/providers/fargate/launch_request.h"

namespace sbxfs {

// One account's client and what goes with it.
struct FargateAccess {
    std::shared_ptr<FargateClient> client;
    std::shared_ptr<HostKeys> host_keys;
};

class FargateBooks {
 public:
    using AccessDone = UniqueFunction<void(Result<FargateAccess>)>;

    // Blocks on the disk. EIO when a record cannot be read.
    static Result<std::unique_ptr<FargateBooks>> Open(Loop& loop, aws::HttpClient& http,
                                                      aws::Environment environment,
                                                      FargateOwner owner, const std::string& dir);
    ~FargateBooks();

    Loop& loop() { return loop_; }
    const aws::Environment& environment() const { return environment_; }
    const FargateOwner& owner() const { return owner_; }
    // By which sandboxes prove who they are; made with the directory.
    const Secret& mount_secret() const { return mount_secret_; }

    // nullptr: nothing was ever asked for it.
    const FargateRecord* Find(const std::string& token) const;
    const std::map<std::string, FargateRecord>& all() const { return records_; }
    // In memory at once; `done` when it is on disk.
    void Write(const FargateRecord& record, Done done);
    void Remove(const std::string& token, Done done);

    // Reads the AWS tools' files when there is no client for this account yet. Failures are not kept.
    void Access(const FargateAccount& account, AccessDone done);

 private:
    FargateBooks(Loop& loop, aws::HttpClient& http, aws::Environment environment,
                 FargateOwner owner, FargateRecords records, Secret mount_secret);
    void OnDisk(UniqueFunction<Status()> work, Done done);
    Result<FargateAccess> MakeAccess(const FargateAccount& account,
                                     const aws::SharedConfig& shared);

    Loop& loop_;
    aws::HttpClient& http_;
    const aws::Environment environment_;
    const FargateOwner owner_;
    const FargateRecords disk_;
    const Secret mount_secret_;
    std::map<std::string, FargateRecord> records_;
    std::map<FargateAccount, FargateAccess> access_;
    BatchThread<Job> thread_;  // last: joined before all it uses
};

}  // namespace sbxfs
