#include "aws/failure.h"

#include <algorithm>
#include <array>

#include "aws/xml.h"
#include "base/json.h"
#include "base/strings.h"

namespace sbxfs::aws {
namespace {

struct CodeRow {
    std::string_view code;
    FailureKind kind;
};

// Codes as the services document them: the common errors of AWS APIs, then those of ECS, EC2, STS, Secrets Manager,
// CloudWatch Logs and S3.
constexpr std::array kCodes = {
    CodeRow{"BandwidthLimitExceeded", FailureKind::kThrottled},
    CodeRow{"EC2ThrottledException", FailureKind::kThrottled},
    CodeRow{"LimitExceededException", FailureKind::kQuota},
    CodeRow{"PriorRequestNotComplete", FailureKind::kThrottled},
    CodeRow{"ProvisionedThroughputExceededException", FailureKind::kThrottled},
    CodeRow{"RequestLimitExceeded", FailureKind::kThrottled},
    CodeRow{"RequestThrottled", FailureKind::kThrottled},
    CodeRow{"RequestThrottledException", FailureKind::kThrottled},
    CodeRow{"SlowDown", FailureKind::kThrottled},
    CodeRow{"ThrottledException", FailureKind::kThrottled},
    CodeRow{"Throttling", FailureKind::kThrottled},
    CodeRow{"ThrottlingException", FailureKind::kThrottled},
    CodeRow{"TooManyRequestsException", FailureKind::kThrottled},

    CodeRow{"IDPCommunicationError", FailureKind::kTransient},
    CodeRow{"InternalError", FailureKind::kTransient},
    CodeRow{"InternalFailure", FailureKind::kTransient},
    CodeRow{"InternalServiceError", FailureKind::kTransient},
    CodeRow{"RequestTimeout", FailureKind::kTransient},
    CodeRow{"RequestTimeoutException", FailureKind::kTransient},
    CodeRow{"ServerException", FailureKind::kTransient},
    CodeRow{"ServiceUnavailable", FailureKind::kTransient},
    CodeRow{"ServiceUnavailableException", FailureKind::kTransient},
    CodeRow{"Unavailable", FailureKind::kTransient},

    CodeRow{"ExpiredToken", FailureKind::kExpired},
    CodeRow{"ExpiredTokenException", FailureKind::kExpired},
    CodeRow{"TokenRefreshRequired", FailureKind::kExpired},

    CodeRow{"AuthFailure", FailureKind::kCredentials},
    CodeRow{"IncompleteSignature", FailureKind::kCredentials},
    CodeRow{"IncompleteSignatureException", FailureKind::kCredentials},
    CodeRow{"InvalidAccessKeyId", FailureKind::kCredentials},
    CodeRow{"InvalidClientTokenId", FailureKind::kCredentials},
    CodeRow{"InvalidIdentityToken", FailureKind::kCredentials},
    CodeRow{"InvalidSecurity", FailureKind::kCredentials},
    CodeRow{"InvalidToken", FailureKind::kCredentials},
    CodeRow{"MissingAuthenticationToken", FailureKind::kCredentials},
    CodeRow{"MissingAuthenticationTokenException", FailureKind::kCredentials},
    CodeRow{"NotSignedUp", FailureKind::kCredentials},
    CodeRow{"OptInRequired", FailureKind::kCredentials},
    CodeRow{"SignatureDoesNotMatch", FailureKind::kCredentials},
    CodeRow{"UnrecognizedClientException", FailureKind::kCredentials},

    CodeRow{"RequestExpired", FailureKind::kClockSkew},
    CodeRow{"RequestInTheFuture", FailureKind::kClockSkew},
    CodeRow{"RequestTimeTooSkewed", FailureKind::kClockSkew},

    CodeRow{"AccessDenied", FailureKind::kDenied},
    CodeRow{"AccessDeniedException", FailureKind::kDenied},
    CodeRow{"AllAccessDisabled", FailureKind::kDenied},
    CodeRow{"BlockedException", FailureKind::kDenied},
    CodeRow{"NotAuthorized", FailureKind::kDenied},
    CodeRow{"UnauthorizedOperation", FailureKind::kDenied},

    CodeRow{"ConflictException", FailureKind::kConflict},
    CodeRow{"IdempotentParameterMismatch", FailureKind::kConflict},

    CodeRow{"ClusterNotFoundException", FailureKind::kNotFound},
    CodeRow{"NoSuchBucket", FailureKind::kNotFound},
    CodeRow{"NoSuchKey", FailureKind::kNotFound},
    CodeRow{"PlatformUnknownException", FailureKind::kInvalid},
    CodeRow{"ResourceNotFoundException", FailureKind::kNotFound},

    CodeRow{"InstanceLimitExceeded", FailureKind::kQuota},
    CodeRow{"ServiceQuotaExceededException", FailureKind::kQuota},
    CodeRow{"VcpuLimitExceeded", FailureKind::kQuota},
    CodeRow{"InsufficientInstanceCapacity", FailureKind::kCapacity},

    CodeRow{"ClientException", FailureKind::kInvalid},
    CodeRow{"InvalidParameterException", FailureKind::kInvalid},
    CodeRow{"InvalidParameterValue", FailureKind::kInvalid},
    CodeRow{"InvalidRequestException", FailureKind::kInvalid},
    CodeRow{"MalformedPolicyDocument", FailureKind::kInvalid},
    CodeRow{"PlatformTaskDefinitionIncompatibilityException", FailureKind::kInvalid},
    CodeRow{"SerializationException", FailureKind::kInvalid},
    CodeRow{"UnsupportedFeatureException", FailureKind::kInvalid},
    CodeRow{"ValidationError", FailureKind::kInvalid},
    CodeRow{"ValidationException", FailureKind::kInvalid},
};

struct KindRow {
    FailureKind kind;
    int code;
    std::string_view remedy;
};

constexpr std::array kKinds = {
    KindRow{FailureKind::kThrottled, EAGAIN,
            "the account's request rate is used up: try again in a minute"},
    KindRow{FailureKind::kTransient, EHOSTUNREACH, "AWS had trouble or gave no answer: try again"},
    KindRow{FailureKind::kExpired, EKEYEXPIRED,
            "renew the credentials (for example `aws sso login`) and try again"},
    KindRow{FailureKind::kCredentials, EKEYEXPIRED,
            "the credentials are not valid: `sbxfs doctor fargate` shows which ones are used"},
    KindRow{FailureKind::kClockSkew, EKEYEXPIRED,
            "set this machine's clock: requests are only taken within 5 minutes of the right time"},
    KindRow{FailureKind::kDenied, EACCES,
            "allow it: `sbxfs iam-policy` prints the permissions that are needed"},
    KindRow{FailureKind::kConflict, EEXIST, "the same launch was made before with other settings"},
    KindRow{FailureKind::kNotFound, ENOENT, "check the name, the region and the account"},
    KindRow{FailureKind::kQuota, EDQUOT,
            "a limit of the AWS account is reached: destroy something, or ask AWS for more"},
    KindRow{FailureKind::kCapacity, EAGAIN,
            "AWS has no free capacity there now: try again, or use other subnets"},
    KindRow{FailureKind::kInvalid, EINVAL, "correct the template or the provider's settings"},
    KindRow{FailureKind::kOther, EIO, "see what AWS says"},
};

const KindRow& RowFor(FailureKind kind) {
    return *std::find_if(kKinds.begin(), kKinds.end(),
                         [&](const KindRow& row) { return row.kind == kind; });
}

bool Contains(std::string_view text, std::string_view part) {
    return text.find(part) != std::string_view::npos;
}

// "com.amazonaws.ecs#ClientException", "ClientException:http://internal/...": the name in the middle.
std::string BareCode(std::string_view text) {
    const std::size_t hash = text.rfind('#');
    if (hash != std::string_view::npos) text.remove_prefix(hash + 1);
    return Printable(text.substr(0, text.find(':')), 128);
}

ServiceError FromXml(const Xml& root) {
    // EC2: Response/Errors/Error. STS: ErrorResponse/Error. S3: Error.
    for (const std::string_view path : {"Errors/Error", "Error"})
        if (const auto error = root.Find(path))
            return {BareCode(error->TextAt("Code").value_or("")),
                    Printable(error->TextAt("Message").value_or(""), 1024)};
    if (root.Name() == "Error")
        return {BareCode(root.TextAt("Code").value_or("")),
                Printable(root.TextAt("Message").value_or(""), 1024)};
    return {};
}

}  // namespace

ServiceError ReadServiceError(const HttpResponse& response) {
    ServiceError said;
    const std::string_view body = Trim(response.body);
    if (body.starts_with('{')) {
        if (const auto json = Json::Parse(body)) {
            said.code =
                BareCode(json->GetString("__type").value_or(json->GetString("code").value_or("")));
            said.message = Printable(
                json->GetString("message").value_or(json->GetString("Message").value_or("")), 1024);
        }
    } else if (body.starts_with('<')) {
        if (const auto xml = Xml::Parse(body)) said = FromXml(*xml);
    }
    if (said.code.empty()) said.code = BareCode(response.Header("x-amzn-errortype").value_or(""));
    return said;
}

FailureKind Classify(std::string_view code, std::string_view message, int http_status) {
    // One code, several meanings.
    if (code == "InvalidSignatureException" || code == "SignatureDoesNotMatch") {
        const bool about_time = Contains(message, "Signature expired") ||
                                Contains(message, "Signature not yet current");
        return about_time ? FailureKind::kClockSkew : FailureKind::kCredentials;
    }
    if (code == "ClientException" || code == "InvalidParameterException") {
        if (Contains(message, "concurrent") || Contains(message, "Rate exceeded"))
            return FailureKind::kThrottled;
        if (Contains(message, "reached the limit")) return FailureKind::kQuota;
        if (Contains(message, "Capacity is unavailable")) return FailureKind::kCapacity;
    }
    if (code.starts_with("Invalid") && Contains(code, ".NotFound")) return FailureKind::kNotFound;
    const auto row = std::find_if(kCodes.begin(), kCodes.end(),
                                  [&](const CodeRow& r) { return r.code == code; });
    if (row != kCodes.end()) return row->kind;
    if (http_status == 429) return FailureKind::kThrottled;
    if (http_status >= 500) return FailureKind::kTransient;
    if (http_status == 403 || http_status == 401) return FailureKind::kDenied;
    if (http_status == 404) return FailureKind::kNotFound;
    return http_status >= 400 ? FailureKind::kInvalid : FailureKind::kOther;
}

FailureKind ClassifyReason(std::string_view reason) {
    if (Contains(reason, "Capacity is unavailable") || reason.starts_with("RESOURCE:"))
        return FailureKind::kCapacity;
    if (Contains(reason, "limit on the number of") || Contains(reason, "quota"))
        return FailureKind::kQuota;
    if (reason == "MISSING") return FailureKind::kNotFound;
    return FailureKind::kInvalid;
}

Errno ErrnoFor(FailureKind kind) {
    return Errno{RowFor(kind).code};
}

Error ToError(std::string_view action, FailureKind kind, const ServiceError& said) {
    std::string text(action);
    text += " was refused";
    if (!said.code.empty()) text += ": " + said.code;
    if (!said.message.empty()) text += ": " + said.message;
    text += " (" + std::string(RowFor(kind).remedy) + ")";
    return Error(ErrnoFor(kind), std::move(text), Blame::kRemote);
}

}  // namespace sbxfs::aws
