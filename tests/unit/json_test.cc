// Json: what foreign texts can do to us, and what is read of them.
#include "base/json.h"

#include <gtest/gtest.h>

#include <chrono>

#include "sandbox/strict_json.h"

namespace sbxfs {
namespace {

TEST(Json, WhatMayStillGrowIsABeginningAtEveryByte) {
    const std::string text = R"({"a": [1, -2.5e3, "x\n\u00e4", true, null], "b": {"c": {}}})";
    EXPECT_EQ(Json::Look(text), Json::Text::kWhole);
    EXPECT_EQ(Json::Look(text + " \n"), Json::Text::kWhole);
    for (std::size_t cut = 0; cut < text.size(); ++cut)
        EXPECT_EQ(Json::Look(text.substr(0, cut)), Json::Text::kBeginning) << cut;
    for (const char* bad : {"}", "{]", "{a", "{\"a\" 1", "[1 2", "{} {}", "nul!", "\"\n"})
        EXPECT_EQ(Json::Look(bad), Json::Text::kInvalid) << bad;
}

TEST(Json, NestingIsBoundedAndBracketsInStringsAreNot) {
    const auto nested = [](std::size_t depth) {
        return std::string(depth, '[') + std::string(depth, ']');
    };
    EXPECT_TRUE(Json::Parse(nested(100)));
    EXPECT_FALSE(Json::Parse(nested(101)));
    EXPECT_FALSE(Json::Parse(nested(1'000'000)));
    EXPECT_EQ(Json::Look(std::string(1'000'000, '[')), Json::Text::kInvalid);
    const std::string quoted =
        "\"" + std::string(1000, '[') + "\\\"" + std::string(1000, '{') + "\"";
    EXPECT_TRUE(Json::Parse(quoted));
    std::string flat = "[";
    for (int i = 0; i < 1000; ++i)
        flat += "[],";
    EXPECT_TRUE(Json::Parse(flat + "[]]"));
}

TEST(Json, ManyMembersAreReadInNoTime) {
    std::string text = "{";
    for (int i = 0; i < 60'000; ++i)
        text += "\"k" + std::to_string(i) + "\":\"v\",";
    text += "\"last\":\"v\"}";
    const auto start = std::chrono::steady_clock::now();
    std::map<std::string, std::string> members;
    const Json whole = Json::Object().Set("m", *Json::Parse(text));
    EXPECT_TRUE(StrictJson(whole, "test").Take("m", members).Finish());
    EXPECT_EQ(members.size(), 60'001U);
    EXPECT_EQ(Json::Object(members).Members().size(), 60'001U);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST(Json, OfTwoMembersWithOneNameTheLastCounts) {
    const auto json = Json::Parse(R"({"a": 1, "a": 2})");
    EXPECT_EQ(json->GetNumber("a"), 2);
    EXPECT_EQ(json->Members().size(), 1U);
}

TEST(Json, AWrongTypeReadsAsAbsentAndNothingIsConverted) {
    const auto json =
        Json::Parse(R"({"s": "5", "n": 5, "r": 5.5, "b": true, "big": 18446744073709551615})");
    EXPECT_EQ(json->GetNumber("s"), std::nullopt);
    EXPECT_EQ(json->GetString("n"), std::nullopt);
    EXPECT_EQ(json->GetNumber("r"), std::nullopt);
    EXPECT_EQ(json->GetNumber("big"), std::nullopt);
    EXPECT_EQ(json->GetBool("n"), std::nullopt);
    EXPECT_EQ(json->Find("n")->AsReal(), 5.0);
    EXPECT_EQ(json->Find("absent"), std::nullopt);
    EXPECT_TRUE(Json::Parse("5")->Keys().empty());
    EXPECT_TRUE(Json::Parse("5")->Members().empty());
    EXPECT_FALSE(Json::Parse("5")->Find("a"));
}

TEST(Json, OursKeepTheOrderTheyWereSetInAndStayValidUtf8) {
    Json json = Json::Object();
    json.Set("z", std::int64_t{1})
        .Set("a", std::string_view("\xff\x00", 2))
        .Set("z", std::int64_t{2});
    EXPECT_EQ(json.Dump(), "{\"z\":2,\"a\":\"\xef\xbf\xbd\\u0000\"}");
    EXPECT_TRUE(Json::Parse(json.Dump()));
}

}  // namespace
}  // namespace sbxfs
