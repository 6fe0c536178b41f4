// One AWS service in one region: signs calls, sends them, waits out throttling and trouble, and says what came of them.
// The typed clients (ecs.h, ec2.h, ...) build the bodies and read the answers.
//
// Loop thread only; `done` runs once, never from within the call. Shared by all sandboxes of one provider, because
// throttling concerns the account.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "aws/credentials.h"
#include "aws/endpoint.h"
#include "aws/http.h"
#include "aws/outcome.h"
#include "aws/retry.h"
#include "aws/sigv4.h"
#include "aws/token_bucket.h"
#include "base/loop.h"

namespace sbxfs::aws {

struct ServiceSettings {
    ServiceNames names;
    std::string region;
    std::string endpoint;               // ResolveEndpoint()'s
    CredentialProviderPtr credentials;  // null: calls are not signed
    std::function<double()> random;     // in [0, 1)
    std::map<std::string, TokenBucket>
        buckets{};  // by action; those that are not named are not limited here
};

// A call ready to be sent but for its signature.
struct ApiCall {
    std::string action;  // "RunTask": for messages, metrics and its bucket
    std::string method = "POST";
    std::string path = "/";  // below the endpoint, as sent
    HttpHeaders headers{};
    std::string body{};
    Repeat repeat = Repeat::kNever;
    PathStyle style = PathStyle::kEncodeTwice;
};

using ApiDone = UniqueFunction<void(Outcome<HttpResponse>)>;

class Service : public std::enable_shared_from_this<Service> {
 public:
    struct Counters {
        std::uint64_t calls = 0;  // requests sent, retries included
        std::uint64_t throttled = 0;
        std::uint64_t failed = 0;  // ends that were no answer with a status below 300
    };

    Service(Loop& loop, HttpClient& http, ServiceSettings settings);
    // Answers with a status below 300; everything else is a failure.
    void Call(ApiCall call, ApiDone done);

    const std::string& region() const { return settings_.region; }
    const std::map<std::string, Counters>& counters() const { return counters_; }

 private:
    struct Running;
    using RunningPtr = std::shared_ptr<Running>;

    // Calls of one action that is limited here; the first goes when there is a token.
    struct Line {
        explicit Line(const TokenBucket& its_bucket) : bucket(its_bucket) {}
        TokenBucket bucket;
        std::deque<RunningPtr> waiting{};
        bool timed = false;  // somebody looks again
    };

    enum class Place { kLast, kFirst };
    void Enter(const RunningPtr& running, Place place);
    void Serve(Line& line);
    Line* LineOf(const RunningPtr& running);
    void Begin(const RunningPtr& running);
    void SignAndSend(const RunningPtr& running, const Credentials* credentials);
    void Answered(const RunningPtr& running, HttpOutcome outcome);
    void Failed(const RunningPtr& running, ApiFailure failure, Sent sent,
                const HttpResponse* response);
    void LearnTime(const HttpResponse& response);

    Loop& loop_;
    HttpClient& http_;
    ServiceSettings settings_;
    std::map<std::string, Line> lines_;  // by action
    RetryBudget budget_;
    Duration clock_offset_{};  // the service's clock minus ours, once it complained
    std::map<std::string, Counters> counters_;
};

}  // namespace sbxfs::aws
