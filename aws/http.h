// Sending one HTTP request and hearing of its answer. Real: CurlHttp. Fake: FakeHttp (tests/fakes), which holds
// answers until the test says so. Knows nothing of AWS.
//
// Any thread may send. `done` runs exactly once, on the loop given to the client, never from within the call.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_function.h"

namespace sbxfs::aws {

// Names are compared without regard to case; written as given.
using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
    std::string method = "POST";
    std::string url;
    HttpHeaders headers{};
    std::string body{};
    // For the connection, and for all of it. An answer that does not come in time is ETIMEDOUT.
    Duration connect_timeout = std::chrono::seconds(10);
    Duration timeout = std::chrono::seconds(30);
    // Addresses that are the machine's own (169.254.169.254, 169.254.170.2) are never asked through a proxy.
    bool direct = false;
};

struct HttpResponse {
    int status = 0;
    HttpHeaders headers{};  // of the final answer, names in lower case
    std::string body{};

    // The first header of that name (lower case), if any.
    std::optional<std::string> Header(std::string_view name) const;
};

// How far a request got when no answer came: whether it may have been acted on.
enum class Sent { kNo, kMaybe };

// No answer at all: the network's doing. EHOSTUNREACH, ETIMEDOUT, or EACCES for a certificate that is not trusted.
struct HttpFailure {
    Error error;
    Sent sent = Sent::kMaybe;
};

struct HttpOutcome {
    std::optional<HttpResponse> response;  // any status
    std::optional<HttpFailure> failure;    // exactly one of the two
};

using HttpDone = UniqueFunction<void(HttpOutcome)>;

class HttpClient {
 public:
    HttpClient() = default;
    HttpClient(const HttpClient&) = delete;
    HttpClient& operator=(const HttpClient&) = delete;
    virtual ~HttpClient() = default;
    virtual void Send(HttpRequest request, HttpDone done) = 0;
};

}  // namespace sbxfs::aws
