// Signing, stage by stage, against the examples that AWS publishes ("Signature Version 4 signing process" and the
// aws-sig-v4-test-suite). tests/aws/ compares whole requests with another implementation.
#include <gtest/gtest.h>

#include "aws/crypto.h"
#include "aws/sigv4.h"
#include "base/strings.h"

namespace sbxfs::aws {
namespace {

const Secret kKey("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
const SystemTime kTime = FromEpochMs(1440938160'000);  // 2015-08-30 12:36:00
constexpr const char* kEmptyHash =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

Url ToUrl(std::string_view text) {
    auto url = ParseUrl(text);
    EXPECT_TRUE(url.has_value());
    return *url;
}

// The published example: IAM ListUsers.
const HttpHeaders kIamHeaders = {
    {"Content-Type", "application/x-www-form-urlencoded; charset=utf-8"},
    {"Host", "iam.amazonaws.com"},
    {"X-Amz-Date", "20150830T123600Z"}};

TEST(SigV4, CanonicalRequestOfThePublishedExample) {
    const std::string canonical = CanonicalRequest(
        "GET", ToUrl("https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08"), kIamHeaders,
        kEmptyHash, PathStyle::kEncodeTwice);
    EXPECT_EQ(
        canonical,
        "GET\n/\nAction=ListUsers&Version=2010-05-08\n"
        "content-type:application/x-www-form-urlencoded; charset=utf-8\nhost:iam.amazonaws.com\n"
        "x-amz-date:20150830T123600Z\n\ncontent-type;host;x-amz-date\n" +
            std::string(kEmptyHash));
    EXPECT_EQ(Sha256Hex(canonical),
              "f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59");
}

TEST(SigV4, StringToSignAndKeyOfThePublishedExample) {
    const SigningScope scope{"us-east-1", "iam", kTime};
    const std::string canonical = CanonicalRequest(
        "GET", ToUrl("https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08"), kIamHeaders,
        kEmptyHash, PathStyle::kEncodeTwice);
    const std::string text = StringToSign(scope, canonical);
    EXPECT_EQ(text,
              "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\n"
              "f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59");
    const Secret key = SigningKey(scope, kKey);
    EXPECT_EQ(Hex(key.Reveal()),
              "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
    EXPECT_EQ(Signature(key, text),
              "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7");
}

TEST(SigV4, WholeRequestOfTheTestSuite) {
    HttpRequest request;
    request.method = "GET";
    request.url = "https://example.amazonaws.com/";
    const Credentials credentials{"AKIDEXAMPLE", kKey, {}, {}, "test"};
    ASSERT_TRUE(Sign(request, {"us-east-1", "service", kTime}, credentials).has_value());
    EXPECT_EQ(request.headers.back().second,
              "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
              "SignedHeaders=host;x-amz-date, "
              "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
}

TEST(SigV4, HeadersAreTrimmedMergedAndSorted) {
    const HttpHeaders headers = {{"Zeta", "  a   b "},
                                 {"Host", "h"},
                                 {"My-Header", "1"},
                                 {"my-header", "2"},
                                 {"User-Agent", "x"}};
    EXPECT_EQ(SignedHeaders(headers), "host;my-header;zeta");
    const std::string canonical =
        CanonicalRequest("POST", ToUrl("https://h/"), headers, kEmptyHash, PathStyle::kEncodeTwice);
    EXPECT_NE(canonical.find("\nhost:h\nmy-header:1,2\nzeta:a b\n"), std::string::npos);
}

TEST(SigV4, QueryIsSortedByNameThenValueAfterEncoding) {
    const std::string canonical =
        CanonicalRequest("GET", ToUrl("https://h/?b=2&a=%2F&a=~&B=1"), {{"Host", "h"}}, kEmptyHash,
                         PathStyle::kEncodeTwice);
    EXPECT_NE(canonical.find("\nB=1&a=%2F&a=~&b=2\n"), std::string::npos);
}

TEST(SigV4, PathsAreNormalisedAndEncodedTwiceButForS3) {
    const auto path_of = [](std::string_view url, PathStyle style) {
        const std::string text =
            CanonicalRequest("GET", ToUrl(url), {{"Host", "h"}}, kEmptyHash, style);
        return Split(text, '\n')[1];
    };
    EXPECT_EQ(path_of("https://h/a/./b/../c//d/", PathStyle::kEncodeTwice), "/a/c/d/");
    EXPECT_EQ(path_of("https://h/a%20b", PathStyle::kEncodeTwice), "/a%2520b");
    EXPECT_EQ(path_of("https://h/a%20b/../c", PathStyle::kS3), "/a%20b/../c");
    EXPECT_EQ(path_of("https://h", PathStyle::kEncodeTwice), "/");
}

TEST(SigV4, SessionTokenIsSentAndSigned) {
    HttpRequest request;
    request.url = "https://ecs.us-east-1.amazonaws.com/";
    const Credentials credentials{"AKIDEXAMPLE", kKey, Secret("token"), {}, "test"};
    ASSERT_TRUE(Sign(request, {"us-east-1", "ecs", kTime}, credentials).has_value());
    EXPECT_NE(
        request.headers.back().second.find("SignedHeaders=host;x-amz-date;x-amz-security-token"),
        std::string::npos);
}

TEST(SigV4, AnAddressThatIsNoUrlIsRefusedBeforeItIsSigned) {
    HttpRequest request;
    request.url = "ecs.us-east-1.amazonaws.com";
    const auto made =
        Sign(request, {"us-east-1", "ecs", kTime}, {"AKIDEXAMPLE", kKey, {}, {}, "test"});
    ASSERT_FALSE(made.has_value());
    EXPECT_EQ(made.error().code(), Errno{EINVAL});
}

}  // namespace
}  // namespace sbxfs::aws
