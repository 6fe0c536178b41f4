// Credentials kept until shortly before they expire. One question to the source at a time, however many callers wait;
// while the old ones still work they are given out and fresh ones fetched behind. Loop thread only.
//
// The margins are those of the AWS SDKs: from 15 minutes before the expiry a refresh is tried, from 10 minutes before it
// nobody gets the old ones any more.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "aws/credentials.h"
#include "base/loop.h"

namespace sbxfs::aws {

class CachedCredentials final : public CredentialProvider,
                                public std::enable_shared_from_this<CachedCredentials> {
 public:
    CachedCredentials(Loop& loop, CredentialProviderPtr source)
        : loop_(loop), source_(std::move(source)) {}

    void Get(CredentialsDone done) override;
    void Distrust(const std::string& access_key_id) override;

 private:
    static constexpr auto kAdvisory = std::chrono::minutes(15);
    static constexpr auto kMandatory = std::chrono::minutes(10);
    // After a failure with usable credentials at hand, the source has peace for this long.
    static constexpr auto kPause = std::chrono::seconds(60);

    void Refresh();
    void Arrived(Result<Credentials> fresh);

    Loop& loop_;
    const CredentialProviderPtr source_;
    std::optional<Credentials> kept_;
    bool asking_ = false;
    SteadyTime not_before_{};
    std::vector<CredentialsDone> waiting_;
};

}  // namespace sbxfs::aws
