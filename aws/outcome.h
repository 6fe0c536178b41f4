// What an API call comes to: a T, or why not, with the service's own code so that a caller can tell a conflict from a
// denial. Value types; no thread rules.
#pragma once

#include <string>
#include <utility>
#include <variant>

#include "aws/failure.h"

namespace sbxfs::aws {

struct ApiFailure {
    Error error;  // errno and sentence, for whoever asked for the sandbox
    FailureKind kind = FailureKind::kOther;
    std::string code;     // "ConflictException"; empty when no answer came
    std::string message;  // the service's words
    int http_status = 0;  // 0 when no answer came
    // Some attempt had no answer and may have been acted on, whatever the last one says.
    bool maybe_done = false;
};

template <class T>
class [[nodiscard]] Outcome {
 public:
    // Implicit, as Result<T> is.
    // NOLINTNEXTLINE(google-explicit-constructor): see above.
    Outcome(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    // NOLINTNEXTLINE(google-explicit-constructor): see above.
    Outcome(ApiFailure failure) : state_(std::in_place_index<1>, std::move(failure)) {}

    bool has_value() const { return state_.index() == 0; }
    explicit operator bool() const { return has_value(); }
    T& operator*() & { return *std::get_if<0>(&state_); }
    const T& operator*() const& { return *std::get_if<0>(&state_); }
    T&& operator*() && { return std::move(*std::get_if<0>(&state_)); }
    T* operator->() { return std::get_if<0>(&state_); }
    const T* operator->() const { return std::get_if<0>(&state_); }
    ApiFailure& failure() & { return *std::get_if<1>(&state_); }
    const ApiFailure& failure() const& { return *std::get_if<1>(&state_); }
    ApiFailure&& failure() && { return std::move(*std::get_if<1>(&state_)); }

 private:
    std::variant<T, ApiFailure> state_;
};

}  // namespace sbxfs::aws
