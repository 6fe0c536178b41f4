// Lists that come in pages: from a service that lies about where they end.
#include <gtest/gtest.h>

#include <optional>

#include "aws/ecs.h"
#include "aws/logs.h"
#include "aws/simple_credentials.h"
#include "tests/fakes/fake_http.h"
#include "tests/fakes/manual_loop.h"

namespace sbxfs::aws {
namespace {

class AwsPages : public ::testing::Test {
 protected:
    AwsPages() {
        ServiceSettings settings;
        settings.names = kEcs;
        settings.region = "eu-west-1";
        settings.endpoint = "https://aws.test";
        settings.credentials = std::make_shared<StaticCredentials>(
            loop_, Credentials{"AKIDEXAMPLE", Secret("secret"), {}, {}, "test"});
        settings.random = [] { return 0.5; };
        service_ = std::make_shared<Service>(loop_, http_, std::move(settings));
    }
    // Says `page` with another token each time, for as long as anybody asks. How many pages were asked for.
    std::size_t Serve(const std::string& page) {
        loop_.Run();
        for (std::size_t count = 0;; ++count) {
            if (http_.waiting() == 0) return count;
            if (count > 5000) ADD_FAILURE() << "asks for ever";
            if (count > 5000) return count;
            http_.Answer(200, "{" + page + R"("nextToken":"t)" + std::to_string(count) + R"("})");
            loop_.Run();
        }
    }

    testing::ManualLoop loop_;
    testing::FakeHttp http_{loop_};
    std::shared_ptr<Service> service_;
};

TEST_F(AwsPages, EmptyPagesOfTasksWithoutEndAreAFailure) {
    std::optional<Outcome<std::vector<std::string>>> answer;
    Ecs(service_).ListTasks({.cluster = "c"}, [&](Outcome<std::vector<std::string>> arns) {
        answer = std::move(arns);
    });
    EXPECT_LE(Serve(R"("taskArns":[],)"), 1000U);
    ASSERT_TRUE(answer.has_value());
    ASSERT_FALSE(answer->has_value());
    EXPECT_NE(answer->failure().error.what().find("its pages do not end"), std::string::npos);
}

TEST_F(AwsPages, EmptyPagesOfLogLinesWithoutEndAreAFailure) {
    std::optional<Outcome<std::vector<LogLine>>> answer;
    Logs(service_).FilterLogEvents(
        {.group = "g"}, [&](Outcome<std::vector<LogLine>> lines) { answer = std::move(lines); });
    EXPECT_LE(Serve(R"("events":[],)"), 1000U);
    ASSERT_TRUE(answer.has_value());
    ASSERT_FALSE(answer->has_value());
    EXPECT_NE(answer->failure().error.what().find("its pages do not end"), std::string::npos);
}

}  // namespace
}  // namespace sbxfs::aws
