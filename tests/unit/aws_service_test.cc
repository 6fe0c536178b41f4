// One call from signing to its end: what is sent again, what never, how long one waits.
#include <gtest/gtest.h>

#include <optional>

#include "aws/service.h"
#include "aws/simple_credentials.h"
#include "tests/fakes/fake_http.h"
#include "tests/fakes/manual_loop.h"

namespace sbxfs::aws {
namespace {

constexpr const char* kThrottled = R"({"__type":"ThrottlingException","message":"Rate exceeded"})";

class AwsService : public ::testing::Test {
 protected:
    AwsService() { service_ = Make({}); }

    std::shared_ptr<Service> Make(std::map<std::string, TokenBucket> buckets) {
        ServiceSettings settings;
        settings.names = kEcs;
        settings.region = "eu-west-1";
        settings.endpoint = "https://ecs.eu-west-1.amazonaws.com";
        settings.credentials = std::make_shared<StaticCredentials>(
            loop_, Credentials{"AKIDEXAMPLE", Secret("secret"), {}, {}, "test"});
        settings.random = [] { return 0.5; };
        settings.buckets = std::move(buckets);
        return std::make_shared<Service>(loop_, http_, std::move(settings));
    }
    void Call(Repeat repeat) {
        ApiCall call;
        call.action = "RunTask";
        call.body = "{}";
        call.repeat = repeat;
        service_->Call(std::move(call),
                       [this](Outcome<HttpResponse> answer) { answer_ = std::move(answer); });
        loop_.Run();
    }
    void Answer(int status, std::string body, HttpHeaders headers = {}) {
        http_.Answer(status, std::move(body), std::move(headers));
        loop_.Run();
    }
    const ApiFailure& failure() const { return answer_->failure(); }

    testing::ManualLoop loop_;
    testing::FakeHttp http_{loop_};
    std::shared_ptr<Service> service_;
    std::optional<Outcome<HttpResponse>> answer_;
};

TEST_F(AwsService, SendsASignedRequestToTheEndpoint) {
    Call(Repeat::kSafe);
    ASSERT_EQ(http_.waiting(), 1U);
    EXPECT_EQ(http_.request().url, "https://ecs.eu-west-1.amazonaws.com/");
    EXPECT_EQ(http_.request().headers.back().first, "Authorization");
    Answer(200, "{}");
    ASSERT_TRUE(answer_ && answer_->has_value());
    EXPECT_EQ((*answer_)->body, "{}");
}

TEST_F(AwsService, ThrottlingIsWaitedOutAlsoForCallsThatMustNotBeRepeated) {
    Call(Repeat::kNever);
    Answer(400, kThrottled);
    EXPECT_FALSE(answer_);
    EXPECT_EQ(http_.waiting(), 0U);
    loop_.Advance(std::chrono::milliseconds(250));  // half of the first 0.5 s
    ASSERT_EQ(http_.waiting(), 1U);
    Answer(200, "{}");
    EXPECT_TRUE(answer_ && answer_->has_value());
    EXPECT_EQ(service_->counters().at("RunTask").throttled, 1U);
    EXPECT_EQ(service_->counters().at("RunTask").calls, 2U);
}

TEST_F(AwsService, AnAnswerThatNeverCameIsNotAskedAgainWithoutAToken) {
    Call(Repeat::kNever);
    http_.Fail(Errno{ETIMEDOUT}, Sent::kMaybe);
    loop_.Run();
    ASSERT_TRUE(answer_);
    EXPECT_EQ(failure().error.code(), Errno{ETIMEDOUT});
    EXPECT_EQ(http_.sent(), 1U);
}

TEST_F(AwsService, WhatWasNeverSentIsSentAgainWithoutAToken) {
    Call(Repeat::kNever);
    http_.Fail(Errno{EHOSTUNREACH}, Sent::kNo);
    loop_.Run();
    loop_.Advance(std::chrono::seconds(1));
    EXPECT_EQ(http_.sent(), 2U);
}

TEST_F(AwsService, WithATokenServerTroubleIsTriedEightTimes) {
    Call(Repeat::kSafe);
    for (int i = 0; i < kMaxAttempts; ++i) {
        ASSERT_EQ(http_.waiting(), 1U) << i;
        Answer(500, "");
        loop_.Advance(std::chrono::minutes(1));
    }
    ASSERT_TRUE(answer_);
    EXPECT_EQ(failure().kind, FailureKind::kTransient);
    EXPECT_EQ(failure().error.code(), Errno{EHOSTUNREACH});
    EXPECT_EQ(http_.sent(), static_cast<std::size_t>(kMaxAttempts));
}

TEST_F(AwsService, ADeniedCallNamesTheActionAndTheRemedyAndIsNotRepeated) {
    Call(Repeat::kSafe);
    Answer(
        400,
        R"({"__type":"com.amazonaws.ecs#AccessDeniedException","message":"User: x is not authorized to perform: ecs:RunTask"})");
    ASSERT_TRUE(answer_);
    EXPECT_EQ(failure().error.code(), Errno{EACCES});
    EXPECT_EQ(failure().code, "AccessDeniedException");
    EXPECT_NE(failure().error.what().find("ecs:RunTask was refused: AccessDeniedException"),
              std::string::npos);
    EXPECT_NE(failure().error.what().find("sbxfs iam-policy"), std::string::npos);
    EXPECT_EQ(http_.sent(), 1U);
}

TEST_F(AwsService, AWrongClockIsSetByTheServicesAnswerOnce) {
    const SystemTime theirs = loop_.clock().System() + std::chrono::hours(3);
    const std::string date = [&] {
        const std::time_t seconds = std::chrono::system_clock::to_time_t(theirs);
        std::array<char, 64> text{};
        std::tm parts{};
        (void)gmtime_r(&seconds, &parts);
        return std::string(text.data(), std::strftime(text.data(), text.size(),
                                                      "%a, %d %b %Y %H:%M:%S GMT", &parts));
    }();
    Call(Repeat::kNever);
    Answer(403, R"({"__type":"InvalidSignatureException","message":"Signature expired: ..."})",
           {{"date", date}});
    ASSERT_EQ(http_.waiting(), 1U);
    std::string sent_date;
    for (const auto& [name, value] : http_.request().headers)
        if (name == "X-Amz-Date") sent_date = value;
    EXPECT_EQ(sent_date, AmzDate(theirs));
    Answer(403, R"({"__type":"InvalidSignatureException","message":"Signature expired: ..."})",
           {{"date", date}});
    ASSERT_TRUE(answer_);
    EXPECT_EQ(failure().kind, FailureKind::kClockSkew);
    EXPECT_EQ(failure().error.code(), Errno{EKEYEXPIRED});
}

TEST_F(AwsService, ExpiredCredentialsAreAskedForOnceMore) {
    Call(Repeat::kNever);
    Answer(
        400,
        R"({"__type":"ExpiredTokenException","message":"The security token included in the request is expired"})");
    ASSERT_EQ(http_.waiting(), 1U);
    Answer(
        400,
        R"({"__type":"ExpiredTokenException","message":"The security token included in the request is expired"})");
    ASSERT_TRUE(answer_);
    EXPECT_EQ(failure().error.code(), Errno{EKEYEXPIRED});
    EXPECT_NE(failure().error.what().find("AKIDEXAMPLE"), std::string::npos);
}

TEST_F(AwsService, ABurstWaitsHereInsteadOfBeingThrottledThere) {
    service_ = Make({{"RunTask", TokenBucket(2, 10)}});
    for (int i = 0; i < 4; ++i)
        Call(Repeat::kSafe);
    EXPECT_EQ(http_.sent(), 2U);
    loop_.Advance(std::chrono::milliseconds(100));
    EXPECT_EQ(http_.sent(), 3U);
    loop_.Advance(std::chrono::milliseconds(100));
    EXPECT_EQ(http_.sent(), 4U);
}

TEST_F(AwsService, WhoWaitsInABurstIsNotHeldToTheRateOfAMomentThatWasThrottled) {
    service_ = Make({{"RunTask", TokenBucket(10, 10)}});
    for (int i = 0; i < 10; ++i)
        Call(Repeat::kSafe);
    for (int i = 0; i < 8; ++i)
        Answer(400, kThrottled);
    for (int i = 0; i < 40; ++i)
        Call(Repeat::kSafe);
    // 48 at 10/s, after one halving and with what a moment of throttling takes.
    for (int i = 0; i < 160 && service_->counters().at("RunTask").calls < 58; ++i) {
        while (http_.waiting() > 0)
            Answer(200, "{}");
        loop_.Advance(std::chrono::milliseconds(50));
    }
    EXPECT_EQ(service_->counters().at("RunTask").calls, 58U);
}

TEST_F(AwsService, AnOutageUsesUpTheBudgetAndThenFailsAtOnce) {
    // 500 in all, 5 a retry: a hundred retries, then each call is made once.
    std::size_t before = 0;
    for (int call = 0; call < 30; ++call) {
        before = http_.sent();
        Call(Repeat::kSafe);
        while (http_.waiting() > 0) {
            Answer(503, "");
            loop_.Advance(std::chrono::minutes(1));
        }
    }
    EXPECT_EQ(http_.sent() - before, 1U);
    EXPECT_EQ(http_.sent(), 130U);
}

}  // namespace
}  // namespace sbxfs::aws
