// What a Fargate sandbox is made from, and what is said of its price: pure functions. What is sent is checked against the
// service models by the emulator (tests/aws_emulator).
#include <errno.h>
#include <gtest/gtest.h>

#include <string>

#include "sandbox/providers/fargate/fargate_price.h"
#include "sandbox/providers/fargate/launch_request.h"
#include "sandbox/providers/fargate/task_definition.h"

namespace sbxfs {
namespace {

Json Base(const std::string& cpu, const std::string& memory, std::int64_t disk) {
    const Json container = Json::Object().Set("name", "main").Set("image", "base:1");
    return Json::Object()
        .Set("cpu", cpu)
        .Set("memory", memory)
        .Set("ephemeralStorage", Json::Object().Set("sizeInGiB", disk))
        .Set("containerDefinitions", Json::Array().Append(container));
}

TEST(FargateDefinition, AClonedBaseIsNeverMadeSmaller) {
    FargateSettings settings;
    settings.size = {512, 1024};
    settings.ephemeral_storage_gib = 30;
    const auto made = DefineFromBase(settings, "", Base("2048", "8192", 50));
    ASSERT_TRUE(made) << made.error().what();
    EXPECT_EQ(made->body.GetString("cpu"), "2048");
    EXPECT_EQ(made->body.GetString("memory"), "8192");
    EXPECT_EQ(made->body.Find("ephemeralStorage")->GetNumber("sizeInGiB"), 50);
}

TEST(FargateDefinition, AClonedBaseGrowsToWhatIsAskedForInSizesThatFargateHas) {
    FargateSettings settings;
    settings.size = {1024, 2048};
    settings.ephemeral_storage_gib = 60;
    // 1024 of the template with 1024 MiB of the base's 512: at least 2048.
    const auto made = DefineFromBase(settings, "", Base("512", "1024", 21));
    ASSERT_TRUE(made) << made.error().what();
    EXPECT_EQ(made->body.GetString("cpu"), "1024");
    EXPECT_EQ(made->body.GetString("memory"), "2048");
    EXPECT_EQ(made->body.Find("ephemeralStorage")->GetNumber("sizeInGiB"), 60);
}

TEST(FargateLaunch, AnotherSandboxWithTheSameNumberIsCalledOtherwise) {
    LaunchSpec one;
    one.token = "sbxfs-0123456789abcdef-7";
    one.client_key = "ssh-ed25519 AAAA";
    LaunchSpec other = one;
    other.client_key = "ssh-ed25519 BBBB";
    EXPECT_NE(ClientTokenFor(one), ClientTokenFor(other));
    EXPECT_TRUE(ClientTokenFor(one).starts_with(one.token));
    EXPECT_LE(ClientTokenFor(one).size(), 64U) << "what ECS takes";
}

TEST(FargatePrice, FollowsTheSizeThatFargateReallyGives) {
    Template what;
    what.cpu = 300;  // 512 and 1024
    const auto price = PriceOf(what);
    ASSERT_TRUE(price) << price.error().what();
    EXPECT_NEAR(price->hour, 0.04048 / 2 + 0.004445, 1e-9);
    EXPECT_NE(price->assumes.find("list price for Linux on x86 in us-east-1"), std::string::npos);
}

TEST(FargatePrice, IsTheConfiguredOneWhereThereIsOne) {
    Template what;
    what.cpu = 1024;
    what.memory = 2048;
    what.options["price_vcpu_hour"] = std::string("0.03");
    what.options["price_gb_hour"] = std::string("0.001");
    const auto price = PriceOf(what);
    ASSERT_TRUE(price) << price.error().what();
    EXPECT_NEAR(price->hour, 0.032, 1e-9);
    EXPECT_NE(price->assumes.find("as configured"), std::string::npos);
    for (const char* wrong : {"", "-1", "nan", "1e9", "0.1x", "1,5", "2000"}) {
        what.options["price_gb_hour"] = std::string(wrong);
        const auto refused = PriceOf(what);
        ASSERT_FALSE(refused) << wrong;
        EXPECT_EQ(refused.error().code(), Errno{EINVAL});
        EXPECT_NE(refused.error().what().find("price_gb_hour"), std::string::npos);
    }
}

TEST(FargatePrice, GrowsByTheSecondAfterTheFirstMinute) {
    FargatePrice price;
    price.hour = 3.6;
    EXPECT_EQ(CostJson(price, 1000, 2000).Find("so_far")->AsReal(), 0.06);
    EXPECT_EQ(CostJson(price, 1000, 101'000).Find("so_far")->AsReal(), 0.1);
    EXPECT_EQ(CostJson(price, 5000, 1000).Find("so_far")->AsReal(), 0.06)
        << "a clock that went back";
    EXPECT_EQ(CostJson(price, 1000, 2000).GetBool("estimated"), true);
}

}  // namespace
}  // namespace sbxfs
