#include "sandbox/scoped_script.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>

namespace sbxfs {
namespace {

CommandSpec Spec(const std::string& cwd, std::map<std::string, std::string> env) {
    CommandSpec spec;
    spec.cwd = cwd;
    spec.env = std::move(env);
    return spec;
}

TEST(ScopedScript, WithoutDirectoryAndVariablesTheScriptIsUntouched) {
    EXPECT_EQ(ScopedScript({}, "echo 'a'\n"), "echo 'a'\n");
}

TEST(ScopedScript, NothingOfADirectoryOrAValueIsReadAsShell) {
    const std::string scoped = ScopedScript(Spec("/a b;c", {{"A", "$(x)"}}), "echo $A");
    EXPECT_EQ(scoped, R"((CDPATH= \command cd '/a b;c' && \export A='$(x)' && \eval 'echo $A'))");
}

TEST(ScopedScript, ItBeginsOnTheScriptsOwnFirstLine) {
    const std::string scoped = ScopedScript(Spec("/", {}), "one\ntwo");
    EXPECT_EQ(scoped.find('\n'), scoped.find("one") + 3);
}

TEST(ScopedScript, ShellNames) {
    for (const char* good : {"A", "_", "a1_B"})
        EXPECT_TRUE(IsShellName(good)) << good;
    for (const char* bad : {"", "1a", "a.b", "a-b", "a b", "\xc3\xa4"})
        EXPECT_FALSE(IsShellName(bad)) << bad;
}

}  // namespace
}  // namespace sbxfs
