#include "aws/sigv4.h"

#include <time.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <vector>

#include "aws/crypto.h"
#include "base/strings.h"

namespace sbxfs::aws {
namespace {

constexpr std::string_view kAlgorithm = "AWS4-HMAC-SHA256";
// Changed on the way by proxies or by curl itself: never signed.
constexpr std::array<std::string_view, 6> kUnsigned = {
    "authorization", "connection", "expect", "user-agent", "accept", "transfer-encoding"};

std::string Lower(std::string_view text) {
    std::string lower(text);
    std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) {
        return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    });
    return lower;
}

// Trimmed, and inner runs of blanks one blank.
std::string CanonicalValue(std::string_view value) {
    std::string canonical;
    bool blank = false;
    for (const char c : Trim(value)) {
        const bool is_blank = c == ' ' || c == '\t';
        if (!(is_blank && blank)) canonical += is_blank ? ' ' : c;
        blank = is_blank;
    }
    return canonical;
}

// Sorted by name; values of one name joined by commas in the order given.
std::map<std::string, std::string> CanonicalHeaders(const HttpHeaders& headers) {
    std::map<std::string, std::string> canonical;
    for (const auto& [name, value] : headers) {
        const std::string lower = Lower(name);
        if (std::find(kUnsigned.begin(), kUnsigned.end(), lower) != kUnsigned.end()) continue;
        const auto [entry, fresh] = canonical.emplace(lower, CanonicalValue(value));
        if (!fresh) entry->second += "," + CanonicalValue(value);
    }
    return canonical;
}

// Without "", "." and "..", as RFC 3986 section 6.2.2.3 has it.
std::string NormalPath(std::string_view path) {
    std::vector<std::string> kept;
    for (std::string& part : Split(path, '/')) {
        if (part.empty() || part == ".") continue;
        if (part == "..") {
            if (!kept.empty()) kept.pop_back();
            continue;
        }
        kept.push_back(std::move(part));
    }
    std::string normal = "/" + Join(kept, "/");
    const bool directory = path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..");
    if (directory && normal != "/") normal += '/';
    return normal;
}

std::string CanonicalPath(std::string_view path, PathStyle style) {
    // `path` is as sent, so encoded once already.
    if (style == PathStyle::kS3) return path.empty() ? "/" : std::string(path);
    return PercentEncode(NormalPath(path), Slash::kKeep);
}

std::string CanonicalQuery(const QueryParameters& query) {
    QueryParameters encoded;
    for (const auto& [name, value] : query)
        encoded.emplace_back(PercentEncode(name), PercentEncode(value));
    std::sort(encoded.begin(), encoded.end());
    std::string text;
    for (const auto& [name, value] : encoded) {
        if (!text.empty()) text += '&';
        text += name + "=" + value;
    }
    return text;
}

std::string Day(SystemTime time) {
    return AmzDate(time).substr(0, 8);
}

bool Has(const HttpHeaders& headers, std::string_view lower_name) {
    return std::any_of(headers.begin(), headers.end(),
                       [&](const auto& header) { return Lower(header.first) == lower_name; });
}

}  // namespace

std::string AmzDate(SystemTime time) {
    const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
    std::tm parts{};
    (void)::gmtime_r(&seconds, &parts);
    std::array<char, 32> text{};
    const std::size_t size = std::strftime(text.data(), text.size(), "%Y%m%dT%H%M%SZ", &parts);
    return {text.data(), size};
}

std::string SignedHeaders(const HttpHeaders& headers) {
    std::string names;
    for (const auto& [name, value] : CanonicalHeaders(headers)) {
        if (!names.empty()) names += ';';
        names += name;
    }
    return names;
}

std::string CanonicalRequest(std::string_view method, const Url& url, const HttpHeaders& headers,
                             std::string_view payload_hash, PathStyle style) {
    std::string text(method);
    text += "\n" + CanonicalPath(url.path, style) + "\n" + CanonicalQuery(url.query) + "\n";
    for (const auto& [name, value] : CanonicalHeaders(headers))
        text += name + ":" + value + "\n";
    text += "\n" + SignedHeaders(headers) + "\n";
    text += payload_hash;
    return text;
}

std::string ScopeText(const SigningScope& scope) {
    return Day(scope.time) + "/" + scope.region + "/" + scope.service + "/aws4_request";
}

std::string StringToSign(const SigningScope& scope, std::string_view canonical_request) {
    return std::string(kAlgorithm) + "\n" + AmzDate(scope.time) + "\n" + ScopeText(scope) + "\n" +
           Sha256Hex(canonical_request);
}

Secret SigningKey(const SigningScope& scope, const Secret& secret_access_key) {
    const Secret first("AWS4" + std::string(secret_access_key.Reveal()));
    const Secret day = HmacSha256(first, Day(scope.time));
    const Secret region = HmacSha256(day, scope.region);
    const Secret service = HmacSha256(region, scope.service);
    return HmacSha256(service, "aws4_request");
}

std::string Signature(const Secret& signing_key, std::string_view string_to_sign) {
    return Hex(HmacSha256(signing_key, string_to_sign).Reveal());
}

Status Sign(HttpRequest& request, const SigningScope& scope, const Credentials& credentials,
            PathStyle style) {
    const Url url = TRY(ParseUrl(request.url));
    const std::string payload_hash = Sha256Hex(request.body);
    if (!Has(request.headers, "host")) request.headers.emplace_back("Host", url.HostHeader());
    request.headers.emplace_back("X-Amz-Date", AmzDate(scope.time));
    if (!credentials.session_token.empty())
        request.headers.emplace_back("X-Amz-Security-Token",
                                     std::string(credentials.session_token.Reveal()));
    if (style == PathStyle::kS3) request.headers.emplace_back("X-Amz-Content-Sha256", payload_hash);

    const std::string canonical =
        CanonicalRequest(request.method, url, request.headers, payload_hash, style);
    const std::string signature =
        Signature(SigningKey(scope, credentials.secret_access_key), StringToSign(scope, canonical));
    std::string authorization(kAlgorithm);
    authorization += " Credential=" + credentials.access_key_id + "/" + ScopeText(scope) +
                     ", SignedHeaders=" + SignedHeaders(request.headers) +
                     ", Signature=" + signature;
    request.headers.emplace_back("Authorization", std::move(authorization));
    return Ok();
}

}  // namespace sbxfs::aws
