// AWS Signature Version 4 in the Authorization header, in its four published stages, each callable by itself so that a
// test that fails says which one is wrong. Pure; any thread.
//
// Source: "Signature Version 4 signing process", AWS General Reference; the vectors in tests/unit/sigv4_test.cc and, made
// at test time by another implementation, tests/aws/sigv4_peer_test.py.
#pragma once

#include <string>
#include <string_view>

#include "aws/credentials.h"
#include "aws/http.h"
#include "aws/url.h"

namespace sbxfs::aws {

struct SigningScope {
    std::string region;   // "us-east-1"
    std::string service;  // signing name: "ecs", "ec2", "s3", ...
    SystemTime time;      // by the server's clock, as far as its offset is known
};

// S3 wants its path encoded once and the payload's hash as a header; all others want the path normalised and encoded
// twice.
enum class PathStyle { kEncodeTwice, kS3 };

// Method, path, query, headers and payload hash in canonical form. `headers` are those to sign, Host among them.
std::string CanonicalRequest(std::string_view method, const Url& url, const HttpHeaders& headers,
                             std::string_view payload_hash, PathStyle style);
// "host;x-amz-date;...": sorted, lower case.
std::string SignedHeaders(const HttpHeaders& headers);
// "20150830/us-east-1/iam/aws4_request"
std::string ScopeText(const SigningScope& scope);
std::string StringToSign(const SigningScope& scope, std::string_view canonical_request);
// The day's key for one region and service, derived from the secret key.
Secret SigningKey(const SigningScope& scope, const Secret& secret_access_key);
// 64 lower-case hex digits.
std::string Signature(const Secret& signing_key, std::string_view string_to_sign);

// "20150830T123600Z", the form of X-Amz-Date.
std::string AmzDate(SystemTime time);

// Adds Host, X-Amz-Date, X-Amz-Security-Token, X-Amz-Content-Sha256 (S3) and Authorization to `request`, whose url must
// be one that ParseUrl() takes. Headers that are there already are signed, except those that proxies change.
Status Sign(HttpRequest& request, const SigningScope& scope, const Credentials& credentials,
            PathStyle style = PathStyle::kEncodeTwice);

}  // namespace sbxfs::aws
