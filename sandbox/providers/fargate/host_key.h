// How a task's sshd gets the key by which it is known before the first connection (docs/fargate.md compares the ways).
// Loop thread only. One a client.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "sandbox/provider.h"
#include "sandbox/providers/fargate/fargate_client.h"

namespace sbxfs {

// What a launch needs to know of it.
struct PreparedHostKey {
    std::string public_line;  // to pin; empty in mode `logs` until the task has told it
    std::string secret_arn;   // mode `shared`
    std::string file_arn;     // mode `s3`
    std::string object;       // mode `s3`: to be removed again
};

class HostKeys : public std::enable_shared_from_this<HostKeys> {
 public:
    using KeyDone = UniqueFunction<void(Result<PreparedHostKey>)>;
    using LineDone = UniqueFunction<void(Result<std::string>)>;

    HostKeys(Loop& loop, std::shared_ptr<FargateClient> client)
        : loop_(loop), client_(std::move(client)) {}

    // `own`: the pair made for this sandbox, used by all modes but `shared` and `logs`.
    void Prepare(const FargateSettings& settings, const std::string& token, const SshKeyPair& own,
                 KeyDone done);

    // Mode `logs`: the key that this task printed. One FilterLogEvents for all that wait.
    void AwaitPrinted(const FargateSettings& settings, const std::string& stream, LineDone done);
    void StopAwaiting(const std::string& stream);

    // Removes what Prepare put somewhere. Done when it is gone, or was.
    void Remove(const std::string& bucket, const std::string& object, Done done);

    // What the entrypoint prints: "sbxfs-host-key ssh-ed25519 AAAA...".
    static constexpr const char* kPrinted = "sbxfs-host-key";
    static constexpr auto kLogPause = std::chrono::seconds(2);

 private:
    struct Shared {
        PreparedHostKey key;
        std::vector<KeyDone> waiting;
    };
    struct Awaited {
        std::string group;
        LineDone done;
    };

    void AskSecret(const std::string& id);
    void MakeSecret(const std::string& id);
    void HaveSecret(const std::string& id, Result<PreparedHostKey> key);
    void ReadLogs();
    void Printed(const std::vector<aws::LogLine>& lines);

    Loop& loop_;
    const std::shared_ptr<FargateClient> client_;
    std::map<std::string, Shared> shared_;     // by secret
    std::map<std::string, Awaited> awaited_;   // by log stream
    std::map<std::string, SystemTime> since_;  // by log group: how far it was read
    TimerPtr timer_;
    std::size_t reading_ = 0;
};

}  // namespace sbxfs
