#include "aws/service.h"

#include <time.h>

#include <cstdlib>
#include <utility>

#include "aws/aws_metrics.h"
#include "base/log.h"
#include "base/strings.h"

namespace sbxfs::aws {
namespace {

// "Sat, 21 Nov 2026 19:25:00 GMT", HTTP's only form today.
std::optional<SystemTime> ParseHttpDate(const std::string& text) {
    std::tm parts{};
    const char* rest = ::strptime(text.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
    if (rest == nullptr || *rest != '\0') return std::nullopt;
    return std::chrono::system_clock::from_time_t(::timegm(&parts));
}

}  // namespace

struct Service::Running {
    ApiCall call;
    ApiDone done;
    int attempts = 0;
    bool refreshed = false;  // one more try with fresh credentials was made
    bool set_clock = false;  // one more try with the service's time was made
    bool maybe_done = false;
    std::string access_key_id{};
};

Service::Service(Loop& loop, HttpClient& http, ServiceSettings settings)
    : loop_(loop), http_(http), settings_(std::move(settings)) {
    for (const auto& [action, bucket] : settings_.buckets)
        lines_.emplace(action, Line(bucket));
}

void Service::Call(ApiCall call, ApiDone done) {
    Enter(std::make_shared<Running>(Running{std::move(call), std::move(done)}), Place::kLast);
}

Service::Line* Service::LineOf(const RunningPtr& running) {
    const auto line = lines_.find(running->call.action);
    return line == lines_.end() ? nullptr : &line->second;
}

void Service::Enter(const RunningPtr& running, Place place) {
    Line* line = LineOf(running);
    if (line == nullptr) return Begin(running);
    line->waiting.insert(place == Place::kFirst ? line->waiting.begin() : line->waiting.end(),
                         running);
    Serve(*line);
}

void Service::Serve(Line& line) {
    while (!line.timed && !line.waiting.empty()) {
        const Duration wait = line.bucket.Take(loop_.clock().Steady());
        if (wait > Duration::zero()) {
            line.timed = true;
            return RunLater(loop_, wait, [self = shared_from_this(), &line] {
                line.timed = false;
                self->Serve(line);
            });
        }
        const RunningPtr next = std::move(line.waiting.front());
        line.waiting.pop_front();
        Begin(next);
    }
}

void Service::Begin(const RunningPtr& running) {
    ++running->attempts;
    if (settings_.credentials == nullptr) return SignAndSend(running, nullptr);
    settings_.credentials->Get([self = shared_from_this(), running](Result<Credentials> got) {
        if (got) return self->SignAndSend(running, &*got);
        const std::string action =
            std::string(self->settings_.names.endpoint) + ":" + running->call.action;
        ++self->counters_[running->call.action].failed;
        aws_metrics.failed.AddTo(aws_metrics.failed.PlaceOf(running->call.action));
        const FailureKind kind = got.error().code() == Errno{EKEYEXPIRED} ? FailureKind::kExpired
                                                                          : FailureKind::kTransient;
        running->done(
            ApiFailure{got.error().While("getting credentials for " + action), kind, "", "", 0});
    });
}

void Service::SignAndSend(const RunningPtr& running, const Credentials* credentials) {
    const ApiCall& call = running->call;
    HttpRequest request;
    request.method = call.method;
    request.url = settings_.endpoint + call.path;
    request.headers = call.headers;
    request.body = call.body;
    if (credentials != nullptr) {
        running->access_key_id = credentials->access_key_id;
        const SigningScope scope{
            settings_.region, std::string(settings_.names.signing),
            loop_.clock().System() +
                std::chrono::duration_cast<SystemTime::duration>(clock_offset_)};
        if (auto made = Sign(request, scope, *credentials, call.style); !made) {
            ApiFailure failure{std::move(made).error(), FailureKind::kInvalid, "", "", 0};
            return loop_.Post([running, failure = std::move(failure)]() mutable {
                running->done(std::move(failure));
            });
        }
    }
    ++counters_[call.action].calls;
    aws_metrics.calls.AddTo(aws_metrics.calls.PlaceOf(call.action));
    http_.Send(std::move(request), [self = shared_from_this(), running](HttpOutcome outcome) {
        self->Answered(running, std::move(outcome));
    });
}

void Service::Answered(const RunningPtr& running, HttpOutcome outcome) {
    const std::string action = std::string(settings_.names.endpoint) + ":" + running->call.action;
    if (outcome.failure) {
        const bool retry_later = outcome.failure->error.code() != Errno{EACCES};
        ApiFailure failure{outcome.failure->error.While("calling " + action),
                           retry_later ? FailureKind::kTransient : FailureKind::kDenied, "", "", 0};
        return Failed(running, std::move(failure), outcome.failure->sent, nullptr);
    }
    HttpResponse& response = *outcome.response;
    if (response.status >= 200 && response.status < 300) {
        budget_.Earn(running->attempts > 1);
        if (Line* line = LineOf(running)) line->bucket.Accepted();
        return running->done(std::move(response));
    }
    ServiceError said = ReadServiceError(response);
    if (said.code.empty()) said.code = "HTTP " + std::to_string(response.status);
    const FailureKind kind = Classify(said.code, said.message, response.status);
    Error error = ToError(action, kind, said);
    if (!running->access_key_id.empty() &&
        (kind == FailureKind::kExpired || kind == FailureKind::kCredentials))
        error = Error(error.code(), error.what() + " [access key " + running->access_key_id + "]",
                      error.blame());
    ApiFailure failure{std::move(error), kind, std::move(said.code), std::move(said.message),
                       response.status};
    Failed(running, std::move(failure), Sent::kMaybe, &response);
}

void Service::Failed(const RunningPtr& running, ApiFailure failure, Sent sent,
                     const HttpResponse* response) {
    Counters& counters = counters_[running->call.action];
    if (failure.kind == FailureKind::kThrottled) {
        ++counters.throttled;
        aws_metrics.throttled.AddTo(aws_metrics.throttled.PlaceOf(running->call.action));
        if (Line* line = LineOf(running)) line->bucket.Throttled(loop_.clock().Steady());
    }
    if (failure.kind == FailureKind::kTransient && sent == Sent::kMaybe) running->maybe_done = true;
    // Two causes that one more try mends, whatever the call: it was refused before anything was done.
    if (failure.kind == FailureKind::kClockSkew && response != nullptr && !running->set_clock) {
        running->set_clock = true;
        LearnTime(*response);
        return Begin(running);
    }
    if (failure.kind == FailureKind::kExpired && settings_.credentials != nullptr &&
        !running->refreshed) {
        running->refreshed = true;
        settings_.credentials->Distrust(running->access_key_id);
        return Begin(running);
    }
    const Attempt attempt{running->attempts, failure.kind, sent, running->call.repeat};
    if (const auto pause = RetryAfter(attempt, budget_, settings_.random())) {
        Log(LogLevel::kDebug, "aws call again",
            {{"action", running->call.action}, {"why", failure.error}});
        return RunLater(loop_, *pause, [self = shared_from_this(), running] {
            self->Enter(running, Place::kFirst);
        });
    }
    ++counters.failed;
    aws_metrics.failed.AddTo(aws_metrics.failed.PlaceOf(running->call.action));
    failure.maybe_done = running->maybe_done;
    running->done(std::move(failure));
}

void Service::LearnTime(const HttpResponse& response) {
    const auto theirs = ParseHttpDate(response.Header("date").value_or(""));
    if (theirs)
        clock_offset_ = std::chrono::duration_cast<Duration>(*theirs - loop_.clock().System());
}

}  // namespace sbxfs::aws
