// The grammars of names, and the small text functions everything is written with.
#include "sandbox/names.h"

#include <gtest/gtest.h>

#include "base/strings.h"

namespace sbxfs {
namespace {

TEST(SandboxNames, AreAWordAndOptionallyATemplate) {
    for (const char* good : {"a", "9", "A.b_c-d", "box@py", "a@b.c"})
        EXPECT_TRUE(ParseSandboxName(good)) << good;
    EXPECT_EQ(ParseSandboxName("box@py")->template_name, "py");
    EXPECT_EQ(ParseSandboxName("box@py")->full, "box@py");
    EXPECT_EQ(ParseSandboxName("box")->template_name, "");
    EXPECT_TRUE(ParseSandboxName(std::string(63, 'a')));
    EXPECT_TRUE(ParseSandboxName(std::string(63, 'a') + "@" + std::string(63, 'b')));
}

TEST(SandboxNames, AreRefusedWithTheRule) {
    for (const std::string& bad :
         {std::string(), std::string("."), std::string(".a"), std::string("-a"), std::string("_a"),
          std::string("a/b"), std::string("a b"), std::string("a\n"), std::string("a\0b", 3),
          std::string("@py"), std::string("a@"), std::string("a@b@c"), std::string("a@.b"),
          std::string("\xc3\xa4"), std::string(64, 'a'), std::string(1 << 20, 'a')}) {
        const auto parsed = ParseSandboxName(bad);
        ASSERT_FALSE(parsed) << bad.substr(0, 20);
        EXPECT_EQ(parsed.error().code(), Errno{EINVAL});
        EXPECT_NE(parsed.error().what().find("at most 63"), std::string::npos);
        EXPECT_LT(parsed.error().what().size(), 600U);
        EXPECT_EQ(parsed.error().what().find('\n'), std::string::npos);
    }
}

TEST(EventNames, CannotBeTakenForANumberOrLatestOrAnEditorsFile) {
    for (const char* good : {"t1", "1a", "0x1", "latest1", "Latest", "a.swp.b", "a.swo"})
        EXPECT_TRUE(CheckEventName(good)) << good;
    for (const char* bad : {"", "1", "0", "123456", "latest", "a~", "a.swp", ".t.swp", "a@b"}) {
        const Status status = CheckEventName(bad);
        ASSERT_FALSE(status) << bad;
        EXPECT_EQ(status.error().code(), Errno{EINVAL});
    }
}

TEST(Strings, NumbersAreWholeAndFit) {
    EXPECT_EQ(ParseNumber<std::uint32_t>("4294967295"), 4294967295U);
    for (const char* bad : {"", " 1", "1 ", "+1", "-1", "1.0", "0x10", "4294967296", "a"})
        EXPECT_EQ(ParseNumber<std::uint32_t>(bad), std::nullopt) << bad;
    EXPECT_EQ(ParseNumber<int>("-5"), -5);
}

TEST(Strings, DurationsHaveAUnitOrAreSeconds) {
    EXPECT_EQ(ParseSeconds("90"), 90);
    EXPECT_EQ(ParseSeconds("90s"), 90);
    EXPECT_EQ(ParseSeconds("30m"), 1800);
    EXPECT_EQ(ParseSeconds("4h"), 14400);
    EXPECT_EQ(ParseSeconds("2d"), 172800);
    EXPECT_EQ(ParseSeconds("0"), 0);
    EXPECT_EQ(ParseSeconds("3650d"), 315360000);
    for (const char* bad : {"", "s", "-1", "1w", "1.5h", "3651d", "99999999999", "1 h", "1hh"})
        EXPECT_EQ(ParseSeconds(bad), std::nullopt) << bad;
}

TEST(Strings, PrintableIsOneLineWithoutControlBytesAndBounded) {
    EXPECT_EQ(Printable("plain \xc3\xa4 text"), "plain \xc3\xa4 text");
    EXPECT_EQ(Printable(std::string_view("a\nb\0\x1b[31m\x7f", 10)), "a\\x0ab\\x00\\x1b[31m\\x7f");
    for (const char* bad : {"\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82"})
        EXPECT_EQ(Printable(bad).substr(0, 2), "\\x") << Printable(bad);
    EXPECT_LT(Printable(std::string(1 << 20, 'x')).size(), 300U);
    EXPECT_LT(Printable(std::string(1 << 20, '\n'), 64).size(), 80U);
}

TEST(Strings, ShellQuoteIsReadBackAsItWas) {
    EXPECT_EQ(ShellQuote("plain-1.2/x"), "plain-1.2/x");
    EXPECT_EQ(ShellQuote(""), "''");
    EXPECT_EQ(ShellQuote("a b"), "'a b'");
    EXPECT_EQ(ShellQuote("it's $HOME `x`"), "'it'\\''s $HOME `x`'");
    EXPECT_EQ(ShellQuote("~"), "'~'");
}

TEST(Strings, NearestKnowsWhatWasMeantAndKeepsQuietOtherwise) {
    const std::vector<std::string_view> words = {"timeout", "cwd", "env", "parallel"};
    EXPECT_EQ(Nearest("timout", words), "timeout");
    EXPECT_EQ(Nearest("cmd", words), "cwd");
    EXPECT_EQ(Nearest("paralel", words), "parallel");
    EXPECT_EQ(Nearest("zzzzzzz", words), "");
    EXPECT_EQ(Nearest("", {}), "");
}

TEST(Strings, SplitAndJoinAreEachOthersInverse) {
    for (const char* text : {"", "a", "a,b", ",a,,b,", ","})
        EXPECT_EQ(Join(Split(text, ','), ","), text);
    EXPECT_EQ(Trim(" \t\r\n a b \v\f"), "a b");
    EXPECT_EQ(Trim(" \n"), "");
}

TEST(Strings, NumbersMadeOfNamesNeverChange) {
    EXPECT_EQ(Fnv1a(""), 0xcbf29ce484222325ULL);
    EXPECT_EQ(Fnv1a("/box/status"), Fnv1a("/status", Fnv1a("/box")));
    EXPECT_EQ(Fnv1a("foobar"), 0x85944171f73967e8ULL);  // published vector
}

}  // namespace
}  // namespace sbxfs
