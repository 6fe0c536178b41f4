// Where credentials are found, in which order, and how they are kept.
#include <gtest/gtest.h>

#include <optional>

#include "aws/cached_credentials.h"
#include "aws/credential_chain.h"
#include "aws/process_credentials.h"
#include "aws/simple_credentials.h"
#include "aws/timestamp.h"
#include "base/files.h"
#include "tests/fakes/fake_http.h"
#include "tests/fakes/manual_loop.h"

namespace sbxfs::aws {
namespace {

class AwsCredentials : public ::testing::Test {
 protected:
    void Ask() { Ask(ChainSettings{}); }
    void Ask(const ChainSettings& settings) {
        got_.reset();
        shared_.config_path = "~/.aws/config";
        shared_.credentials_path = "~/.aws/credentials";
        const ChainParts parts{loop_,   http_,       environment_,
                               shared_, "us-east-1", [] { return 0.0; }};
        auto made = MakeCredentialChain(parts, settings);
        if (!made) {
            got_ = made.error();
            return;
        }
        chain_ = *made;
        chain_->Get([this](Result<Credentials> credentials) { got_ = std::move(credentials); });
        loop_.Run();
    }
    void Answer(int status, std::string body) {
        http_.Answer(status, std::move(body));
        loop_.Run();
    }
    std::string Key() const { return got_ && *got_ ? (*got_)->access_key_id : ""; }
    std::string Why() const { return got_ && !*got_ ? got_->error().what() : ""; }
    std::string RoleAnswer(const std::string& action) const {
        return "<" + action + "Response><" + action +
               "Result><Credentials><AccessKeyId>ASIAROLE</AccessKeyId>"
               "<SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>" +
               Rfc3339(loop_clock() + std::chrono::hours(1)) + "</Expiration></Credentials></" +
               action + "Result></" + action + "Response>";
    }
    SystemTime loop_clock() const {
        return const_cast<testing::ManualLoop&>(loop_).clock().System();
    }

    testing::ManualLoop loop_;
    testing::FakeHttp http_{loop_};
    Environment environment_{{"AWS_EC2_METADATA_DISABLED", "true"}};
    SharedConfig shared_;
    CredentialProviderPtr chain_;
    std::optional<Result<Credentials>> got_;
};

TEST_F(AwsCredentials, WithoutAnyTheSentenceSaysWhatToDo) {
    Ask();
    ASSERT_TRUE(got_ && !*got_);
    EXPECT_EQ(got_->error().code(), Errno{EKEYEXPIRED});
    EXPECT_NE(Why().find("aws configure"), std::string::npos);
}

TEST_F(AwsCredentials, TheEnvironmentBeatsTheDefaultProfile) {
    shared_ =
        ParseSharedConfig("", "[default]\naws_access_key_id = FILE\naws_secret_access_key = s\n");
    environment_["AWS_ACCESS_KEY_ID"] = "ENV";
    environment_["AWS_SECRET_ACCESS_KEY"] = "s";
    Ask();
    EXPECT_EQ(Key(), "ENV");
}

TEST_F(AwsCredentials, AProfileNamedInTheConfigurationBeatsTheEnvironment) {
    shared_ = ParseSharedConfig("", "[lab]\naws_access_key_id = FILE\naws_secret_access_key = s\n");
    environment_["AWS_ACCESS_KEY_ID"] = "ENV";
    environment_["AWS_SECRET_ACCESS_KEY"] = "s";
    ChainSettings settings;
    settings.profile = "lab";
    Ask(settings);
    EXPECT_EQ(Key(), "FILE");
    settings.profile = "nowhere";
    Ask(settings);
    EXPECT_NE(Why().find("there is no profile \"nowhere\""), std::string::npos);
}

TEST_F(AwsCredentials, HalfAKeyIsNamed) {
    environment_["AWS_ACCESS_KEY_ID"] = "ENV";
    Ask();
    EXPECT_NE(Why().find("AWS_SECRET_ACCESS_KEY is not"), std::string::npos);
}

TEST_F(AwsCredentials, ARoleIsAssumedWithItsSourceProfile) {
    shared_ = ParseSharedConfig(
        "[profile admin]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = base\nexternal_id = "
        "x1\nrole_session_name = me\n",
        "[base]\naws_access_key_id = BASE\naws_secret_access_key = s\n");
    environment_["AWS_PROFILE"] = "admin";
    Ask();
    ASSERT_EQ(http_.waiting(), 1U);
    EXPECT_EQ(http_.request().url, "https://sts.us-east-1.amazonaws.com/");
    EXPECT_NE(http_.request().body.find(
                  "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr"),
              std::string::npos);
    EXPECT_NE(http_.request().body.find("ExternalId=x1"), std::string::npos);
    EXPECT_NE(http_.request().body.find("RoleSessionName=me"), std::string::npos);
    EXPECT_NE(http_.request().headers.back().second.find("Credential=BASE/"), std::string::npos);
    Answer(200, RoleAnswer("AssumeRole"));
    EXPECT_EQ(Key(), "ASIAROLE");
}

TEST_F(AwsCredentials, RolesMayBeChainedButNotInACircle) {
    shared_ = ParseSharedConfig(
        "[profile a]\nrole_arn = arn:aws:iam::1:role/a\nsource_profile = b\n"
        "[profile b]\nrole_arn = arn:aws:iam::1:role/b\nsource_profile = a\n",
        "");
    environment_["AWS_PROFILE"] = "a";
    Ask();
    EXPECT_NE(Why().find("in a circle: a -> b -> a"), std::string::npos);
}

TEST_F(AwsCredentials, ABrowserLoginIsExplained) {
    shared_ = ParseSharedConfig("[default]\nsso_session = corp\nsso_account_id = 1\n", "");
    Ask();
    EXPECT_NE(Why().find("aws configure export-credentials"), std::string::npos);
}

TEST_F(AwsCredentials, AWebIdentityTokenIsReadAtEachQuestionAndNotSigned) {
    environment_["AWS_WEB_IDENTITY_TOKEN_FILE"] = "/nowhere/token";
    environment_["AWS_ROLE_ARN"] = "arn:aws:iam::1:role/r";
    Ask();
    EXPECT_NE(Why().find("the web identity token cannot be read"), std::string::npos);
    EXPECT_EQ(http_.sent(), 0U);
}

TEST_F(AwsCredentials, AContainersEndpointIsAskedDirectly) {
    environment_["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = "/v2/credentials/abc";
    Ask();
    ASSERT_EQ(http_.waiting(), 1U);
    EXPECT_EQ(http_.request().url, "http://169.254.170.2/v2/credentials/abc");
    EXPECT_TRUE(http_.request().direct);
    Answer(
        200,
        R"({"AccessKeyId":"ASIATASK","SecretAccessKey":"s","Token":"t","Expiration":"2999-01-01T00:00:00Z"})");
    EXPECT_EQ(Key(), "ASIATASK");
}

TEST_F(AwsCredentials, AFullUriOverPlainHttpMustLeadToThisMachine) {
    environment_["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://evil.example/creds";
    Ask();
    ASSERT_TRUE(got_ && !*got_);
    EXPECT_EQ(got_->error().code(), Errno{EINVAL});
    EXPECT_EQ(http_.sent(), 0U);
}

TEST_F(AwsCredentials, AnInstancesRoleNeedsTheTokenOfVersion2) {
    environment_.erase("AWS_EC2_METADATA_DISABLED");
    Ask();
    ASSERT_EQ(http_.waiting(), 1U);
    EXPECT_EQ(http_.request().method, "PUT");
    EXPECT_EQ(http_.request().url, "http://169.254.169.254/latest/api/token");
    Answer(200, "TOKEN");
    EXPECT_EQ(http_.request().url,
              "http://169.254.169.254/latest/meta-data/iam/security-credentials/");
    EXPECT_EQ(http_.request().headers.at(0).second, "TOKEN");
    Answer(200, "worker\n");
    EXPECT_EQ(http_.request().url,
              "http://169.254.169.254/latest/meta-data/iam/security-credentials/worker");
    Answer(
        200,
        R"({"Code":"Success","AccessKeyId":"ASIAEC2","SecretAccessKey":"s","Token":"t","Expiration":"2999-01-01T00:00:00Z"})");
    EXPECT_EQ(Key(), "ASIAEC2");
}

TEST_F(AwsCredentials, ARoleInTheConfigurationIsAssumedWithWhateverIsFound) {
    environment_["AWS_ACCESS_KEY_ID"] = "ENV";
    environment_["AWS_SECRET_ACCESS_KEY"] = "s";
    ChainSettings settings;
    settings.role_arn = "arn:aws:iam::1:role/cfg";
    Ask(settings);
    ASSERT_EQ(http_.waiting(), 1U);
    EXPECT_NE(http_.request().body.find("RoleSessionName=sbxfs"), std::string::npos);
    Answer(403,
           "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not authorized to perform: "
           "sts:AssumeRole</Message></Error></ErrorResponse>");
    EXPECT_EQ(got_->error().code(), Errno{EACCES});
    EXPECT_NE(Why().find("assuming the role arn:aws:iam::1:role/cfg"), std::string::npos);
}

// --- kept ---

struct CountingSource final : CredentialProvider {
    void Get(CredentialsDone done) override {
        ++asked;
        waiting.push_back(std::move(done));
    }
    void Distrust(const std::string& key) override { distrusted = key; }
    void Give(const std::string& key, std::optional<SystemTime> expires) {
        auto done = std::move(waiting.front());
        waiting.erase(waiting.begin());
        done(Credentials{key, Secret("s"), {}, expires, "source"});
    }
    void Refuse() {
        auto done = std::move(waiting.front());
        waiting.erase(waiting.begin());
        done(Error(Errno{EHOSTUNREACH}, "no answer"));
    }
    int asked = 0;
    std::string distrusted;
    std::vector<CredentialsDone> waiting;
};

class KeptCredentials : public ::testing::Test {
 protected:
    // A question that is never answered holds who asked it, which holds the source.
    ~KeptCredentials() override { source_->waiting.clear(); }
    void Get() {
        kept_->Get([this](Result<Credentials> got) {
            answers_.push_back(got ? got->access_key_id : got.error().what());
        });
        loop_.Run();
    }
    testing::ManualLoop loop_;
    std::shared_ptr<CountingSource> source_ = std::make_shared<CountingSource>();
    std::shared_ptr<CachedCredentials> kept_ = std::make_shared<CachedCredentials>(loop_, source_);
    std::vector<std::string> answers_;
};

TEST_F(KeptCredentials, ManyCallersAskTheSourceOnce) {
    Get();
    Get();
    Get();
    EXPECT_EQ(source_->asked, 1);
    source_->Give("A", loop_.clock().System() + std::chrono::hours(1));
    EXPECT_EQ(answers_, (std::vector<std::string>{"A", "A", "A"}));
    Get();
    EXPECT_EQ(source_->asked, 1);
}

TEST_F(KeptCredentials, AreRenewedBehindWhileTheOldOnesStillWork) {
    Get();
    source_->Give("A", loop_.clock().System() + std::chrono::hours(1));
    loop_.Advance(std::chrono::minutes(46));
    Get();
    EXPECT_EQ(source_->asked, 2);
    EXPECT_EQ(answers_.back(), "A");
    source_->Give("B", loop_.clock().System() + std::chrono::hours(1));
    Get();
    EXPECT_EQ(answers_.back(), "B");
}

TEST_F(KeptCredentials, OutliveAFailedRenewalUntilTheyExpire) {
    Get();
    source_->Give("A", loop_.clock().System() + std::chrono::hours(1));
    loop_.Advance(std::chrono::minutes(52));
    Get();
    source_->Refuse();
    EXPECT_EQ(answers_.back(), "A");
    loop_.Advance(std::chrono::minutes(9));
    Get();
    source_->Refuse();
    EXPECT_EQ(answers_.back(), "no answer");
}

TEST_F(KeptCredentials, ShortLivedOnesAreNotAskedForAtEachCall) {
    Get();
    source_->Give("A", loop_.clock().System() + std::chrono::minutes(14));
    for (int i = 0; i < 5; ++i)
        Get();
    EXPECT_EQ(source_->asked, 1);
}

TEST_F(KeptCredentials, WhatAServiceCallsExpiredIsNotGivenOutAgain) {
    Get();
    source_->Give("A", std::nullopt);
    kept_->Distrust("A");
    EXPECT_EQ(source_->distrusted, "A");
    Get();
    EXPECT_EQ(source_->asked, 2);
}

// --- programs that print them ---

TEST(CredentialProcess, CommandLinesAreSplitWithoutAShell) {
    const auto words = SplitCommandLine(R"(/bin/tool --name "a b" 'c $HOME' d\ e "q\"r" "")");
    ASSERT_TRUE(words.has_value());
    EXPECT_EQ(*words, (std::vector<std::string>{"/bin/tool", "--name", "a b", "c $HOME", "d e",
                                                "q\"r", ""}));
    EXPECT_FALSE(SplitCommandLine("tool 'open").has_value());
    EXPECT_FALSE(SplitCommandLine("   ").has_value());
}

TEST(CredentialProcess, AnswersAreChecked) {
    EXPECT_TRUE(ReadProcessAnswer(R"({"Version":1,"AccessKeyId":"A","SecretAccessKey":"s"})", "p")
                    .has_value());
    for (const char* bad :
         {"", "[]", R"({"Version":2,"AccessKeyId":"A","SecretAccessKey":"s"})", R"({"Version":1})",
          R"({"Version":1,"AccessKeyId":"A","SecretAccessKey":"s","Expiration":"soon"})"})
        EXPECT_EQ(ReadProcessAnswer(bad, "p").error().code(), Errno{EKEYEXPIRED}) << bad;
}

class WaitingLoop final : public Loop {  // runs on the test's thread, filled by another one
 public:
    void Post(Job job) override {
        const MutexLock lock(mu_);
        jobs_.push_back(std::move(job));
        wake_.NotifyOne();
    }
    TimerPtr After(Duration, Job) override { return nullptr; }
    bool OnThread() const override { return true; }
    Clock& clock() override { return RealClock(); }
    void RunOne() {
        Job job;
        {
            const MutexLock lock(mu_);
            while (jobs_.empty())
                wake_.Wait(mu_);
            job = std::move(jobs_.front());
            jobs_.erase(jobs_.begin());
        }
        job();
    }

 private:
    Mutex mu_{LockRank::kLog};
    CondVar wake_;
    std::vector<Job> jobs_ GUARDED_BY(mu_);
};

TEST(CredentialProcess, RunsTheProgramAndReadsWhatItPrints) {
    WaitingLoop loop;
    ProcessCredentials process(
        loop,
        {"/bin/sh", "-c", R"(echo '{"Version":1,"AccessKeyId":"FROMTOOL","SecretAccessKey":"s"}')"},
        "p");
    std::string key;
    process.Get(
        [&](Result<Credentials> got) { key = got ? got->access_key_id : got.error().what(); });
    loop.RunOne();
    EXPECT_EQ(key, "FROMTOOL");
}

TEST(CredentialProcess, AFailingProgramsWordsArePassedOn) {
    WaitingLoop loop;
    ProcessCredentials process(loop, {"/bin/sh", "-c", "echo 'log in first' >&2; exit 3"},
                               "the tool");
    std::string why;
    process.Get([&](Result<Credentials> got) { why = got.error().what(); });
    loop.RunOne();
    EXPECT_EQ(why, "the tool failed: log in first");
}

TEST(CredentialProcess, AProgramThatHangsIsEndedWithTheDaemon) {
    WaitingLoop loop;
    {
        ProcessCredentials process(loop, {"/bin/sleep", "1000"}, "p");
        process.Get([](Result<Credentials>) {});
    }
    SUCCEED();
}

// --- the files ---

TEST(AwsSharedConfig, ReadsProfilesCommentsAndNestedSettings) {
    const SharedConfig shared = ParseSharedConfig(
        "# top\n[default]\nregion = eu-west-1  # here\n\n[profile lab]\nregion=us-east-2\nservices "
        "= local\n"
        "s3 =\n  addressing_style = path\n[services local]\necs =\n  endpoint_url = "
        "http://127.0.0.1:1\nec2 =\n\tendpoint_url = http://127.0.0.1:2\n",
        "[lab]\naws_access_key_id = A#1\n[other]\nx = y\n");
    ASSERT_NE(shared.Find("lab"), nullptr);
    EXPECT_EQ(shared.Find("default")->Get("region"), "eu-west-1");
    EXPECT_EQ(shared.Find("lab")->Get("s3.addressing_style"), "path");
    EXPECT_EQ(shared.Find("lab")->Get("aws_access_key_id"), "A#1");
    EXPECT_EQ(shared.services.at("local").Get("ecs.endpoint_url"), "http://127.0.0.1:1");
    EXPECT_EQ(shared.services.at("local").Get("ec2.endpoint_url"), "http://127.0.0.1:2");
    EXPECT_EQ(shared.Find("nobody"), nullptr);
}

TEST(AwsTimestamp, UnderstandsWhatTheServicesWrite) {
    const SystemTime expected = FromEpochMs(1440938160'000);
    for (const char* text : {"2015-08-30T12:36:00Z", "2015-08-30T12:36:00.123Z",
                             "2015-08-30T14:36:00+02:00", "2015-08-30T12:36:00+0000"})
        EXPECT_EQ(ParseIso8601(text), expected) << text;
    for (const char* text :
         {"", "2015-08-30", "2015-08-30T12:36:00", "2015-08-30T12:36:00+x", "tomorrow"})
        EXPECT_EQ(ParseIso8601(text), std::nullopt) << text;
}

}  // namespace
}  // namespace sbxfs::aws
