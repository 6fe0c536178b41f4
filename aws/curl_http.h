// HttpClient over libcurl: one thread with one multi handle, connections kept and shared by all requests. The only door
// to libcurl. Owned by whoever owns the AWS clients; outlives them. Send() from any thread.
#pragma once

#include <memory>
#include <string>

#include "aws/http.h"
#include "base/loop.h"
#include "base/sync.h"

namespace sbxfs::aws {

class CurlHttp final : public HttpClient {
 public:
    struct Settings {
        std::string ca_bundle;                   // PEM file; empty: the system's
        std::size_t largest_answer = 16U << 20;  // bytes of a body; longer ones are refused, EFBIG
        long connections_per_host = 8;
    };
    // Answers are posted to `loop`, which outlives this. Proxies are taken from https_proxy,
    // http_proxy and no_proxy. Costs nothing until something is sent.
    CurlHttp(Loop& loop, Settings settings);
    // What has not been answered is: ECANCELED.
    ~CurlHttp() override;

    void Send(HttpRequest request, HttpDone done) override;

 private:
    class Worker;
    Loop& loop_;
    const Settings settings_;
    Mutex mu_{LockRank::kProvider};
    std::unique_ptr<Worker> worker_ GUARDED_BY(mu_);  // made by the first Send
};

}  // namespace sbxfs::aws
