// HttpClient that holds every request until the test answers it. Answers run on the test's loop, as the real ones do.
#pragma once

#include <deque>
#include <string>
#include <utility>

#include "aws/http.h"
#include "base/loop.h"

namespace sbxfs::testing {

class FakeHttp final : public aws::HttpClient {
 public:
    explicit FakeHttp(Loop& loop) : loop_(loop) {}

    void Send(aws::HttpRequest request, aws::HttpDone done) override {
        ++sent_;
        waiting_.push_back({std::move(request), std::move(done)});
    }

    std::size_t sent() const { return sent_; }
    std::size_t waiting() const { return waiting_.size(); }
    // The oldest request that has no answer yet.
    const aws::HttpRequest& request() const { return waiting_.front().request; }

    void Answer(int status, std::string body, aws::HttpHeaders headers = {}) {
        aws::HttpOutcome outcome;
        outcome.response = aws::HttpResponse{status, std::move(headers), std::move(body)};
        End(std::move(outcome));
    }
    void Fail(Errno code, aws::Sent sent) {
        aws::HttpOutcome outcome;
        outcome.failure =
            aws::HttpFailure{Error(code, "the test cut the line", Blame::kRemote), sent};
        End(std::move(outcome));
    }

 private:
    struct Waiting {
        aws::HttpRequest request;
        aws::HttpDone done;
    };

    void End(aws::HttpOutcome outcome) {
        Waiting first = std::move(waiting_.front());
        waiting_.pop_front();
        loop_.Post([done = std::move(first.done), outcome = std::move(outcome)]() mutable {
            done(std::move(outcome));
        });
    }

    Loop& loop_;
    std::deque<Waiting> waiting_;
    std::size_t sent_ = 0;
};

}  // namespace sbxfs::testing
