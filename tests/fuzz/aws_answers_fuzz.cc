// Answers of AWS, and of whoever stands where AWS should: each call ends once, with a value or an errno and a sentence.
#include <optional>

#include "aws/ec2.h"
#include "aws/ecs.h"
#include "aws/iam.h"
#include "aws/logs.h"
#include "aws/metadata_credentials.h"
#include "aws/process_credentials.h"
#include "aws/s3.h"
#include "aws/secrets_manager.h"
#include "aws/simple_credentials.h"
#include "aws/sts.h"
#include "aws/timestamp.h"
#include "aws/url.h"
#include "aws/xml.h"
#include "base/check.h"
#include "tests/fakes/fake_http.h"
#include "tests/fakes/manual_loop.h"
#include "tests/fuzz/fuzz_bytes.h"

namespace sbxfs::fuzz {
namespace {

using namespace aws;  // NOLINT(google-build-using-namespace)

class Caller {
 public:
    explicit Caller(FuzzBytes& in) : in_(in) {
        ServiceSettings settings;
        settings.names = kEcs;
        settings.region = "us-east-1";
        settings.endpoint = "https://aws.test";
        settings.credentials = std::make_shared<StaticCredentials>(
            loop_, Credentials{"AKID", Secret("secret"), {}, {}, "test"});
        settings.random = [] { return 0.5; };
        service_ = std::make_shared<Service>(loop_, http_, std::move(settings));
    }

    void Run() {
        Ask(in_.Below(19));
        const std::size_t kinds = in_.Below(4) + 1;
        std::vector<std::pair<int, std::string>> answers;
        for (std::size_t i = 0; i < kinds; ++i) {
            constexpr int kStatus[] = {200, 200, 200, 200, 400, 403, 404, 429, 500, 503, 301, 100};
            const int status = kStatus[in_.Below(std::size(kStatus))];
            answers.emplace_back(status, i + 1 == kinds ? in_.Rest() : in_.Text(2000));
        }
        // The last answer again and again: whatever repeats or turns pages comes to an end.
        for (std::size_t round = 0; ended_ == 0; ++round) {
            CHECK(round < 3000);  // the longest list of pages is 1000
            loop_.Run();
            if (http_.waiting() == 0) {
                if (ended_ == 0) loop_.Advance(std::chrono::minutes(5));
                continue;
            }
            const auto& [status, body] = answers[std::min(round, answers.size() - 1)];
            http_.Answer(status, body);
        }
        loop_.Advance(std::chrono::hours(1));
        loop_.Run();
        CHECK(ended_ == 1);
    }

 private:
    template <class T>
    auto End() {
        return [this](Outcome<T> outcome) {
            ++ended_;
            if (outcome) return;
            CHECK(!outcome.failure().error.what().empty());
            CHECK(static_cast<int>(outcome.failure().error.code()) > 0);
        };
    }
    CredentialsDone EndCredentials() {
        return [this](Result<Credentials> got) {
            ++ended_;
            if (!got) CHECK(!got.error().what().empty());
        };
    }
    void Ask(std::size_t which) {
        RunTaskRequest run;
        run.cluster = "c";
        run.task_definition = "t:1";
        switch (which) {
            case 0:
                return Ecs(service_).RunTask(run, End<EcsTasks>());
            case 1:
                return Ecs(service_).DescribeTasks("c", {"arn"}, Ecs::WithTags::kYes,
                                                   End<EcsTasks>());
            case 2:
                return Ecs(service_).StopTask("c", "arn", "why", End<EcsTasks>());
            case 3:
                return Ecs(service_).ListTasks({.cluster = "c"}, End<std::vector<std::string>>());
            case 4:
                return Ecs(service_).RegisterTaskDefinition(Json::Object(), End<Json>());
            case 5:
                return Ecs(service_).DescribeTaskDefinition("t", End<Json>());
            case 6:
                return Ecs(service_).ListTaskDefinitions("t", End<std::vector<std::string>>());
            case 7:
                return Ecs(service_).DescribeCluster("c", End<Json>());
            case 8:
                return Ec2(service_).DescribeNetworkInterfaces(
                    {"eni"}, End<std::vector<NetworkInterface>>());
            case 9:
                return Ec2(service_).DescribeSubnets({"s"}, End<std::vector<Subnet>>());
            case 10:
                return Ec2(service_).DescribeSecurityGroups({"g"},
                                                            End<std::vector<SecurityGroup>>());
            case 11:
                return Sts(service_).GetCallerIdentity(End<CallerIdentity>());
            case 12:
                return Sts(service_).AssumeRole({"arn:r", "session"}, End<Credentials>());
            case 13:
                return Iam(service_).SimulatePrincipalPolicy(
                    "arn:p", {"ecs:RunTask"}, End<std::map<std::string, Iam::Decision>>());
            case 14:
                return Logs(service_).FilterLogEvents({.group = "g"}, End<std::vector<LogLine>>());
            case 15:
                return Logs(service_).GetLogEvents("g", "s", 10, End<std::vector<LogLine>>());
            case 16:
                return SecretsManager(service_).GetSecretValue("id", End<SecretValue>());
            case 17:
                return S3(service_).PutObject("b", "k", Secret("x"), End<Unit>());
            default:
                instance_ = std::make_shared<InstanceCredentials>(http_, "http://metadata.test");
                return instance_->Get(EndCredentials());
        }
    }

    FuzzBytes& in_;
    testing::ManualLoop loop_;
    testing::FakeHttp http_{loop_};
    std::shared_ptr<Service> service_;
    std::shared_ptr<InstanceCredentials> instance_;
    int ended_ = 0;
};

void WalkXml(const Xml& element, int& budget) {
    (void)element.Text();
    for (const Xml& child : element.Children()) {
        if (--budget < 0) return;
        WalkXml(child, budget);
    }
}

}  // namespace
}  // namespace sbxfs::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sbxfs;
    fuzz::FuzzBytes in(data, size);
    switch (in.Below(8)) {
        case 0:
            if (const auto xml = aws::Xml::Parse(in.Rest())) {
                int budget = 100000;
                fuzz::WalkXml(*xml, budget);
                (void)xml->TextAt("a/b/c");
            }
            break;
        case 1:
            (void)aws::ReadProcessAnswer(in.Rest(), "test");
            break;
        case 2: {
            const auto url = aws::ParseUrl(in.Rest());
            if (!url) break;
            CHECK(url->port != 0 && url->path.starts_with('/') && !url->host.empty());
            CHECK(aws::ParseUrl(url->Text()).has_value());
            break;
        }
        case 3:
            (void)aws::ParseIso8601(std::string(in.Rest()));
            break;
        default:
            fuzz::Caller(in).Run();
            break;
    }
    return 0;
}
