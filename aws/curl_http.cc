#include "aws/curl_http.h"

#include <curl/curl.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/strings.h"
#include "base/sync.h"

namespace sbxfs::aws {
namespace {

struct EasyDeleter {
    void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
struct MultiDeleter {
    void operator()(CURLM* multi) const { (void)curl_multi_cleanup(multi); }
};
struct ListDeleter {
    void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using CurlEasyPtr = std::unique_ptr<CURL, EasyDeleter>;
using CurlMultiPtr = std::unique_ptr<CURLM, MultiDeleter>;
using CurlListPtr = std::unique_ptr<curl_slist, ListDeleter>;

CurlMultiPtr MakeMulti() {
    static std::once_flag once;
    std::call_once(once, [] { CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK); });
    CurlMultiPtr multi(curl_multi_init());
    CHECK(multi != nullptr);  // out of memory
    return multi;
}

// Every setting below is of a kind and for a handle that curl accepts; a refusal would be a bug.
template <class Value>
void Set(CURL* easy, CURLoption option, Value value) {
    CHECK(curl_easy_setopt(easy, option, value) == CURLE_OK);
}

long Milliseconds(Duration time) {
    return static_cast<long>(std::chrono::duration_cast<std::chrono::milliseconds>(time).count());
}

// One request under way. Lives on the http thread once it was taken from the queue.
struct Exchange {
    HttpRequest request;
    HttpDone done;
    std::size_t largest_answer = 0;

    CurlEasyPtr easy{};
    CurlListPtr headers{};
    HttpResponse response{};
    bool too_large = false;
};

std::size_t OnBody(char* bytes, std::size_t size, std::size_t count, void* user) {
    auto& exchange = *static_cast<Exchange*>(user);
    const std::size_t length = size * count;
    if (exchange.response.body.size() + length > exchange.largest_answer) {
        exchange.too_large = true;
        return 0;  // ends the transfer
    }
    exchange.response.body.append(bytes, length);
    return length;
}

std::size_t OnHeader(char* bytes, std::size_t size, std::size_t count, void* user) {
    auto& headers = static_cast<Exchange*>(user)->response.headers;
    const std::string_view line(bytes, size * count);
    if (line.starts_with("HTTP/")) {
        headers.clear();  // of an earlier answer, such as 100 Continue or a proxy's
        return line.size();
    }
    const std::size_t colon = line.find(':');
    if (colon != std::string_view::npos && headers.size() < 256) {
        std::string name(line.substr(0, colon));
        std::transform(name.begin(), name.end(), name.begin(), [](char c) {
            return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        });
        headers.emplace_back(std::move(name), std::string(Trim(line.substr(colon + 1))));
    }
    return line.size();
}

HttpFailure ToFailure(const Exchange& exchange, CURLcode code) {
    const std::string to = "no answer from " + Printable(exchange.request.url, 200);
    const std::string why = std::string(": ") + curl_easy_strerror(code);
    if (exchange.too_large)
        return {Error(Errno{EFBIG}, to + ": it sends more than fits", Blame::kRemote),
                Sent::kMaybe};
    long sent = 0;
    (void)curl_easy_getinfo(exchange.easy.get(), CURLINFO_REQUEST_SIZE, &sent);
    const Sent reached = sent == 0 ? Sent::kNo : Sent::kMaybe;
    if (code == CURLE_OPERATION_TIMEDOUT)
        return {Error(Errno{ETIMEDOUT}, to + why, Blame::kRemote), reached};
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
        code == CURLE_SSL_ISSUER_ERROR) {
        const std::string remedy =
            " (a proxy that looks into TLS needs its certificate in AWS_CA_BUNDLE)";
        return {Error(Errno{EACCES}, to + why + remedy, Blame::kRemote), Sent::kNo};
    }
    return {Error(Errno{EHOSTUNREACH}, to + why, Blame::kRemote), reached};
}

}  // namespace

class CurlHttp::Worker {
 public:
    Worker(Loop& loop, Settings settings)
        : loop_(loop),
          settings_(std::move(settings)),
          multi_(MakeMulti()),
          thread_([this] { Run(); }) {
        CHECK(curl_multi_setopt(multi_.get(), CURLMOPT_MAX_HOST_CONNECTIONS,
                                settings_.connections_per_host) == CURLM_OK);
    }
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;
    ~Worker() {
        stopping_ = true;
        (void)curl_multi_wakeup(multi_.get());
        thread_.join();
        for (auto& [easy, exchange] : exchanges_)
            (void)curl_multi_remove_handle(multi_.get(), easy);
        for (auto& [easy, exchange] : exchanges_)
            Cancel(*exchange);
        for (auto& exchange : TakeQueue())
            Cancel(*exchange);
    }

    void Send(HttpRequest request, HttpDone done) {
        auto exchange = std::make_unique<Exchange>(Exchange{std::move(request), std::move(done)});
        exchange->largest_answer = settings_.largest_answer;
        {
            const MutexLock lock(mu_);
            queue_.push_back(std::move(exchange));
        }
        (void)curl_multi_wakeup(multi_.get());
    }

 private:
    using ExchangePtr = std::unique_ptr<Exchange>;

    std::vector<ExchangePtr> TakeQueue() {
        const MutexLock lock(mu_);
        return std::exchange(queue_, {});
    }

    void Run() noexcept {
        (void)::pthread_setname_np(::pthread_self(), "http");
        sigset_t all;
        (void)::sigfillset(&all);
        (void)::pthread_sigmask(SIG_BLOCK, &all, nullptr);  // main takes signals
        while (!stopping_) {
            for (auto& exchange : TakeQueue())
                Begin(std::move(exchange));
            int running = 0;
            (void)curl_multi_perform(multi_.get(), &running);
            Collect();
            (void)curl_multi_poll(multi_.get(), nullptr, 0, 60'000, nullptr);
        }
    }

    void Begin(ExchangePtr exchange) {
        exchange->easy.reset(curl_easy_init());
        CHECK(exchange->easy != nullptr);
        CURL* easy = exchange->easy.get();
        const HttpRequest& request = exchange->request;
        Set(easy, CURLOPT_URL, request.url.c_str());
        Set(easy, CURLOPT_PROTOCOLS_STR, "http,https");
        Set(easy, CURLOPT_FOLLOWLOCATION,
            0L);  // a redirect would carry the signature to a stranger
        Set(easy, CURLOPT_NOSIGNAL, 1L);
        Set(easy, CURLOPT_CONNECTTIMEOUT_MS, Milliseconds(request.connect_timeout));
        Set(easy, CURLOPT_TIMEOUT_MS, Milliseconds(request.timeout));
        Set(easy, CURLOPT_PATH_AS_IS, 1L);  // the path is signed as it is
        Set(easy, CURLOPT_USERAGENT, "sbxfs");
        if (!settings_.ca_bundle.empty()) Set(easy, CURLOPT_CAINFO, settings_.ca_bundle.c_str());
        if (request.direct) Set(easy, CURLOPT_NOPROXY, "*");
        if (request.method == "GET") {
            Set(easy, CURLOPT_HTTPGET, 1L);
        } else {
            Set(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
            Set(easy, CURLOPT_POSTFIELDS, request.body.c_str());
            Set(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());
        }
        curl_slist* list = nullptr;
        for (const auto& [name, value] : request.headers)
            list = curl_slist_append(list, (name + (value.empty() ? ";" : ": " + value)).c_str());
        list = curl_slist_append(list, "Expect:");  // no round trip for "100 Continue"
        exchange->headers.reset(list);
        Set(easy, CURLOPT_HTTPHEADER, list);
        Set(easy, CURLOPT_WRITEFUNCTION, &OnBody);
        Set(easy, CURLOPT_WRITEDATA, exchange.get());
        Set(easy, CURLOPT_HEADERFUNCTION, &OnHeader);
        Set(easy, CURLOPT_HEADERDATA, exchange.get());
        CHECK(curl_multi_add_handle(multi_.get(), easy) == CURLM_OK);
        exchanges_.emplace(easy, std::move(exchange));
    }

    void Collect() {
        int left = 0;
        while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
            if (message->msg != CURLMSG_DONE) continue;
            CURL* easy = message->easy_handle;
            const CURLcode code = message->data.result;  // `message` dies with the handle's removal
            (void)curl_multi_remove_handle(multi_.get(), easy);
            const auto found = exchanges_.find(easy);
            CHECK(found != exchanges_.end());
            const ExchangePtr exchange = std::move(found->second);
            exchanges_.erase(found);
            End(*exchange, code);
        }
    }

    void End(Exchange& exchange, CURLcode code) {
        HttpOutcome outcome;
        if (code == CURLE_OK) {
            long status = 0;
            (void)curl_easy_getinfo(exchange.easy.get(), CURLINFO_RESPONSE_CODE, &status);
            exchange.response.status = static_cast<int>(status);
            outcome.response = std::move(exchange.response);
        } else {
            outcome.failure = ToFailure(exchange, code);
        }
        Answer(exchange, std::move(outcome));
    }

    void Cancel(Exchange& exchange) {
        Answer(exchange, {std::nullopt,
                          HttpFailure{Error(Errno{ECANCELED}, "sbxfs is stopping"), Sent::kMaybe}});
    }

    void Answer(Exchange& exchange, HttpOutcome outcome) {
        loop_.Post([done = std::move(exchange.done), outcome = std::move(outcome)]() mutable {
            done(std::move(outcome));
        });
    }

    Loop& loop_;
    const Settings settings_;
    const CurlMultiPtr multi_;
    std::atomic<bool> stopping_ = false;
    Mutex mu_{LockRank::kProvider};
    std::vector<ExchangePtr> queue_ GUARDED_BY(mu_);
    std::unordered_map<CURL*, ExchangePtr> exchanges_;  // the http thread's own until it has ended
    std::thread thread_;  // last: started after, joined before all it uses
};

CurlHttp::CurlHttp(Loop& loop, Settings settings) : loop_(loop), settings_(std::move(settings)) {}
CurlHttp::~CurlHttp() = default;

void CurlHttp::Send(HttpRequest request, HttpDone done) {
    Worker* worker = nullptr;
    {
        const MutexLock lock(mu_);
        if (worker_ == nullptr) worker_ = std::make_unique<Worker>(loop_, settings_);
        worker = worker_.get();
    }
    worker->Send(std::move(request), std::move(done));
}

}  // namespace sbxfs::aws
