// URLs, regions, endpoints, error tables: what is decided from text alone.
#include <gtest/gtest.h>

#include "aws/crypto.h"
#include "aws/ecs.h"
#include "aws/endpoint.h"
#include "aws/failure.h"
#include "aws/url.h"
#include "aws/xml.h"

namespace sbxfs::aws {
namespace {

TEST(AwsUrl, IsTakenApart) {
    const auto url = ParseUrl("HTTPS://Host.Example:8443/a%20b/c?x=1%2F2&y#part");
    ASSERT_TRUE(url.has_value());
    EXPECT_EQ(url->scheme, "https");
    EXPECT_EQ(url->HostHeader(), "host.example:8443");
    EXPECT_EQ(url->path, "/a%20b/c");
    EXPECT_EQ(url->query, (QueryParameters{{"x", "1/2"}, {"y", ""}}));
    EXPECT_EQ(ParseUrl("http://[::1]:80/")->HostHeader(), "[::1]");
}

TEST(AwsUrl, WhatIsNoneIsRefused) {
    for (const char* bad :
         {"", "ecs.amazonaws.com", "ftp://h/", "https://", "https://h:0/", "https://h:99999/",
          "https://[::1/", "https://user:pw@h/", "https://h/a b", "https://h/\r\nX: y"})
        EXPECT_EQ(ParseUrl(bad).error().code(), Errno{EINVAL}) << bad;
}

TEST(AwsUrl, SecretsInAUrlAreNotRepeatedInTheMessage) {
    EXPECT_EQ(ParseUrl("https://user:pw@h/").error().what().find("pw"), std::string::npos);
}

TEST(AwsEndpoint, FollowsThePartition) {
    const auto endpoint = [](const ServiceNames& service, const char* region) {
        return *ResolveEndpoint(service, region, "", {}, {}, nullptr);
    };
    EXPECT_EQ(endpoint(kEcs, "us-east-1"), "https://ecs.us-east-1.amazonaws.com");
    EXPECT_EQ(endpoint(kSecretsManager, "cn-north-1"),
              "https://secretsmanager.cn-north-1.amazonaws.com.cn");
    EXPECT_EQ(endpoint(kLogs, "us-isob-east-1"), "https://logs.us-isob-east-1.sc2s.sgov.gov");
    EXPECT_EQ(PartitionOf("us-gov-west-1").name, "aws-us-gov");
}

TEST(AwsEndpoint, IsTakenFromTheNearestPlaceThatNamesOne) {
    const SharedConfig shared = ParseSharedConfig(
        "[profile p]\nendpoint_url = http://profile/\nservices = s\n[services s]\necs =\n  "
        "endpoint_url = http://services/\n",
        "");
    const Profile* profile = shared.Find("p");
    Environment environment;
    EXPECT_EQ(*ResolveEndpoint(kEcs, "us-east-1", "", environment, shared, profile),
              "http://services");
    EXPECT_EQ(*ResolveEndpoint(kEc2, "us-east-1", "", environment, shared, profile),
              "http://profile");
    environment["AWS_ENDPOINT_URL"] = "http://all:4566/base/";
    EXPECT_EQ(*ResolveEndpoint(kEcs, "us-east-1", "", environment, shared, profile),
              "http://all:4566/base");
    environment["AWS_ENDPOINT_URL_ECS"] = "http://own";
    EXPECT_EQ(*ResolveEndpoint(kEcs, "us-east-1", "", environment, shared, profile), "http://own");
    EXPECT_EQ(*ResolveEndpoint(kEcs, "us-east-1", "http://wanted", environment, shared, profile),
              "http://wanted");
    environment["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] = "true";
    EXPECT_EQ(*ResolveEndpoint(kEcs, "us-east-1", "", environment, shared, profile),
              "https://ecs.us-east-1.amazonaws.com");
}

TEST(AwsRegion, CannotSmuggleAnotherHostIn) {
    EXPECT_EQ(ResolveRegion("us-east-1.evil.example/#", {}, nullptr).error().code(), Errno{EINVAL});
    EXPECT_EQ(ResolveRegion("", {}, nullptr).error().code(), Errno{EINVAL});
    EXPECT_EQ(*ResolveRegion("", {{"AWS_DEFAULT_REGION", "eu-north-1"}}, nullptr), "eu-north-1");
    EXPECT_EQ(*ResolveRegion("us-west-2", {{"AWS_REGION", "eu-north-1"}}, nullptr), "us-west-2");
}

TEST(AwsFailure, EveryFormatOfAnErrorIsRead) {
    struct Case {
        HttpResponse response;
        const char* code;
        const char* message;
    };
    const Case cases[] = {
        {{400, {}, R"({"__type":"com.amazonaws.ecs#ClientException","message":"m"})"},
         "ClientException",
         "m"},
        {{400, {}, R"({"__type":"ClientException","Message":"M"})"}, "ClientException", "M"},
        {{400, {{"x-amzn-errortype", "ThrottlingException:http://x/"}}, "{}"},
         "ThrottlingException",
         ""},
        {{403,
          {},
          "<?xml "
          "version=\"1.0\"?><Response><Errors><Error><Code>UnauthorizedOperation</"
          "Code><Message>no</Message></Error></Errors></Response>"},
         "UnauthorizedOperation",
         "no"},
        {{403,
          {},
          "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</"
          "Message></Error></ErrorResponse>"},
         "AccessDenied",
         "no"},
        {{404, {}, "<Error><Code>NoSuchBucket</Code><Message>gone</Message></Error>"},
         "NoSuchBucket",
         "gone"},
        {{502, {}, "<html>Bad Gateway"}, "", ""},
        {{502, {}, ""}, "", ""},
    };
    for (const Case& c : cases) {
        const ServiceError said = ReadServiceError(c.response);
        EXPECT_EQ(said.code, c.code) << c.response.body;
        EXPECT_EQ(said.message, c.message) << c.response.body;
    }
}

TEST(AwsFailure, CodesHaveTheirErrno) {
    struct Case {
        const char* code;
        const char* message;
        int status;
        int expected;
    };
    constexpr Case kCases[] = {
        {"ThrottlingException", "Rate exceeded", 400, EAGAIN},
        {"RequestLimitExceeded", "", 503, EAGAIN},
        {"ServerException", "", 500, EHOSTUNREACH},
        {"ExpiredTokenException", "", 400, EKEYEXPIRED},
        {"UnrecognizedClientException", "", 400, EKEYEXPIRED},
        {"InvalidSignatureException", "Signature expired: 1 is now earlier than 2", 403,
         EKEYEXPIRED},
        {"AccessDeniedException", "", 400, EACCES},
        {"UnauthorizedOperation", "", 403, EACCES},
        {"ConflictException", "", 400, EEXIST},
        {"ClusterNotFoundException", "", 400, ENOENT},
        {"InvalidSubnetID.NotFound", "", 400, ENOENT},
        {"InvalidParameterException", "No Fargate configuration exists", 400, EINVAL},
        {"ClientException",
         "You've reached the limit on the number of tasks you can run concurrently", 400, EAGAIN},
        {"ClientException", "You've reached the limit of vCPUs", 400, EDQUOT},
        {"ClientException", "Capacity is unavailable at this time", 400, EAGAIN},
        {"SomethingNew", "", 503, EHOSTUNREACH},
        {"SomethingNew", "", 429, EAGAIN},
        {"SomethingNew", "", 403, EACCES},
        {"SomethingNew", "", 400, EINVAL},
        {"", "", 302, EIO},
    };
    for (const Case& c : kCases)
        EXPECT_EQ(ErrnoFor(Classify(c.code, c.message, c.status)), Errno{c.expected})
            << c.code << " " << c.message;
}

TEST(AwsFailure, ClockSkewIsToldFromAWrongKey) {
    EXPECT_EQ(Classify("SignatureDoesNotMatch", "Signature not yet current: ...", 403),
              FailureKind::kClockSkew);
    EXPECT_EQ(Classify("SignatureDoesNotMatch",
                       "The request signature we calculated does not match", 403),
              FailureKind::kCredentials);
}

TEST(AwsXml, HostileDocumentsAreRefusedOrHarmless) {
    EXPECT_FALSE(Xml::Parse("").has_value());
    EXPECT_FALSE(Xml::Parse("<a><b></a>").has_value());
    const auto entity =
        Xml::Parse("<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>");
    EXPECT_TRUE(!entity || entity->Text().find("root") == std::string::npos);
    std::string deep;
    for (int i = 0; i < 100'000; ++i)
        deep += "<a>";
    EXPECT_FALSE(Xml::Parse(deep).has_value());
}

TEST(AwsCrypto, KnownAnswers) {
    EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(Base64("any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw==");
    EXPECT_EQ(Base64(""), "");
}

TEST(AwsEcs, OverridesHoldTheSandboxesOwnSettingsOnly) {
    RunTaskRequest request;
    request.cpu = "1024";
    request.memory = "2048";
    request.containers = {{"agent", {{"B", "2"}, {"A", "1"}}, {}, {}}};
    EXPECT_EQ(
        OverridesJson(request).Dump(),
        R"({"cpu":"1024","memory":"2048","containerOverrides":[{"name":"agent","environment":[{"name":"A","value":"1"},{"name":"B","value":"2"}]}]})");
}

}  // namespace
}  // namespace sbxfs::aws
