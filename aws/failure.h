// What went wrong with a call, and what that means: the one table from service codes to kinds, and from kinds to errno
// and remedy. Pure; any thread. Guarded by tests/unit/aws_failure_test.cc.
#pragma once

#include <string>
#include <string_view>

#include "aws/http.h"
#include "base/result.h"

namespace sbxfs::aws {

enum class FailureKind {
    kThrottled,    // too fast; nothing was done
    kTransient,    // the service's own trouble, or no answer; may have been done
    kExpired,      // the credentials were good once
    kCredentials,  // no good at all: unknown key, wrong signature
    kClockSkew,    // our clock differs from the service's by more than it allows
    kDenied,       // known, and not allowed
    kConflict,     // this token was used with other parameters
    kNotFound,
    kQuota,     // a limit of the account
    kCapacity,  // nothing free now
    kInvalid,   // the request is wrong
    kOther,
};

// What an error answer says of itself, whichever of the formats it has.
struct ServiceError {
    std::string
        code;  // without namespace or suffix: "AccessDeniedException"; empty when the body says nothing
    std::string message;  // the service's words, one line
};
ServiceError ReadServiceError(const HttpResponse& response);

// `message` decides only where one code stands for several kinds.
FailureKind Classify(std::string_view code, std::string_view message, int http_status);

// For `failures[].reason` of a RunTask that answered 200.
FailureKind ClassifyReason(std::string_view reason);

Errno ErrnoFor(FailureKind kind);

// "ecs:RunTask was refused: AccessDeniedException: User ... (remedy)".
Error ToError(std::string_view action, FailureKind kind, const ServiceError& said);

}  // namespace sbxfs::aws
