// What each shell makes of what scripts do to it: outcome, bytes, whether the shell survived, and
// that the next command works. The table is the facts that sandbox/supervisor/dialect.h rests on.

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "tests/supervisor/client.h"

namespace sbxfs::supervisor {
namespace {

enum class After { kLives, kEnded };

struct Fact {
    std::string name;
    std::string script;
    std::string out;
    std::uint32_t code = 0;
    After after = After::kLives;
    Outcome outcome = Outcome::kExited;
    std::string err = "*";  // anything
};

struct ShellKind {
    std::string name;
    std::string path;
    bool is(std::string_view other) const { return name == other; }
};

// Else its bytes are printed, with those of its strings that nobody has set.
void PrintTo(const ShellKind& kind, std::ostream* out) {
    *out << kind.name;
}

std::vector<ShellKind> Shells() {
    std::vector<ShellKind> found;
    for (const ShellKind& kind :
         {ShellKind{"dash", "/bin/dash"}, ShellKind{"bash", "/bin/bash"},
          ShellKind{"busybox", "/bin/busybox"}, ShellKind{"busybox", "/usr/bin/busybox"},
          ShellKind{"zsh", "/bin/zsh"}, ShellKind{"mksh", "/bin/mksh"},
          ShellKind{"ksh93", "/bin/ksh93"}, ShellKind{"yash", "/usr/bin/yash"}}) {
        const bool twice = !found.empty() && found.back().name == kind.name;
        if (!twice && access(kind.path.c_str(), X_OK) == 0) found.push_back(kind);
    }
    return found;
}

// Facts that hold for all; shells that differ get their own line.
std::vector<Fact> FactsOf(const ShellKind& sh) {
    const bool bash = sh.is("bash");
    const bool zsh = sh.is("zsh");
    // Errors that POSIX lets end a shell, and which of them `command eval` catches.
    const bool catches = sh.is("dash") || sh.is("busybox") || sh.is("ksh93");
    std::vector<Fact> facts = {
        {"Status", "(exit 7)", "", 7},
        {"StatusIsCarriedOver", "echo \"$?\"", "7\n", 0},
        {"Separate", "printf out; printf err >&2", "out", 0, After::kLives, Outcome::kExited,
         "err"},
        {"BytesOut", "printf 'a\\000\\377\\001\\177b'",
         std::string("a\0\xff\1\x7f"
                     "b",
                     6)},
        {"BytesIn", "printf %s 'x\x01\x7f\t'", "x\x01\x7f\t"},
        {"NotFound", "no-such-command-here", "", 127},
        {"SyntaxError", "if", "",
         sh.is("ksh93")         ? 3U
         : bash || catches      ? 2U
         : zsh || sh.is("mksh") ? 1U
                                : 2U,
         sh.is("mksh") || sh.is("yash") ? After::kEnded : After::kLives},
        {"TrailingBackslash", "echo a\\",
         bash || sh.is("dash") || sh.is("busybox") ? "a\\\n" : "a\n"},
        {"TrailingComment", "echo c # it's a comment", "c\n"},
        {"Quotes", "echo \"it's\" '\"'", "it's \"\n"},
        {"CarriageReturns", "echo a\r\necho b\r\n", "a\r\nb\r\n"},
        {"ManyLines", "a=1\nb=2\nfor i in 1 2\ndo\necho $i$a$b\ndone\n", "112\n212\n"},
        {"Empty", "", ""},
        {"Comment", "# nothing", ""},
        {"InputIsAtItsEnd", "read x; echo \"$?\"; cat", "1\n"},
        {"Assignment", "x=5; export y=6; f() { echo \"f$x\"; }; umask 027; cd /usr", ""},
        {"CarriedOver", "f; echo \"$y\"; sh -c 'echo $y'; umask; pwd",
         std::string("f5\n6\n6\n") + (zsh || sh.is("mksh") ? "027" : "0027") + "\n/usr\n"},
        {"BackToRoot", "cd /; umask 022", ""},
        {"Exec", "exec sh -c 'echo in; exit 5'", "in\n", 5, After::kEnded},
        {"Exit", "exit 3; echo no", "", 3, After::kEnded},
        {"ExitZero", "exit 0", "", 0, After::kEnded},
        {"KillNine", "kill -9 $$", "", 9, After::kEnded, Outcome::kSignaled},
        {"Errexit", "set -e; false; echo no", "", 1, After::kEnded},
        {"ErrexitLater", "set -e", ""},
        {"ErrexitLives", "true; echo yes", "yes\n"},
        {"ErrexitEnds", "echo a; (exit 6); echo no", "a\n", 6, After::kEnded},
        {"Trace", "set -x; echo hi", "hi\n"},
        {"TraceDoesNotShowUs", "true", "", 0, After::kLives, Outcome::kExited, "~sbxfs"},
        {"TraceOff", "set +x", ""},
        {"TraceThenExit", "set -x; exit 4", "", 4, After::kEnded, Outcome::kExited,
         sh.is("mksh") || sh.is("ksh93") || sh.is("yash") ? "*" : "~sbxfs"},
        {"NoClobberNoGlob", "set -C; set -o noglob; echo *", "*\n"},
        {"StillWorks", "echo ok", "ok\n"},
        {"ClobberAgain", "set +C; set +o noglob", ""},
        {"FieldSeparators", "IFS=0123456789", ""},
        {"StatusWithSeparators", "(exit 10)", "", 10},
        {"StatusCarriedWithSeparators", "echo \"$?\"", "10\n"},
        {"SeparatorsAgain", "unset IFS", ""},
        {"RedirectsItself", "exec >/dev/null 2>&1; echo gone", ""},
        {"NextIsHeard", "echo here; echo there >&2", "here\n", 0, After::kLives, Outcome::kExited,
         "there\n"},
        {"ClosesDescriptors", "exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; echo ok", "ok\n"},
        {"KeepsItsDescriptors", "exec 8>/dev/null", ""},
        {"UsesThem", "echo x >&8; echo ok", "ok\n"},
        {"Aliases",
         "alias exec=false eval=false command=false builtin=false echo=false "
         "export=false unset=false return=false true=false",
         ""},
        {"AliasesDoNotMatter", "printf %s ok", "ok"},
        {"AliasesGo", "\\unalias -a", ""},
        {"Functions", "echo() { printf 'E:%s\\n' \"$*\"; }; printf2() { :; }", ""},
        {"FunctionsAreUsed", "echo q", "E:q\n"},
        {"FunctionsGo", "unset -f echo; echo q", "q\n"},
        {"Break", "break 2>/dev/null; continue 2>/dev/null; echo ok", zsh ? "" : "ok\n",
         zsh ? 1U : 0U},
        {"TrapOnTerm", "trap 'echo caught' TERM; kill -TERM $$; echo on", "caught\non\n"},
        {"TrapsStay", "trap - TERM; echo ok", "ok\n"},
        {"ExitTrap", "trap 'echo bye; echo oops >&2' EXIT; cd /usr; exit 2", "bye\n", 2,
         After::kEnded, Outcome::kExited, zsh ? "*" : "oops\n"},
        {"ErrexitWithExitTrap", sh.is("mksh") ? "exit 9" : "trap 'echo bye' EXIT; set -e; (exit 9)",
         sh.is("mksh") ? "" : "bye\n", 9, After::kEnded},
        {"Background", "sleep 60 & echo started", "started\n"},
        {"KillsIt", "kill -9 $!; wait $!; echo done", "done\n"},
    };
    if (bash || catches || zsh) {
        facts.push_back({"UnterminatedQuote", "echo \"abc", "",
                         zsh               ? 1U
                         : sh.is("ksh93")  ? 3U
                         : bash || catches ? 2U
                                           : 1U});
        facts.push_back({"HereDocumentWithoutEnd", "cat <<X\nhey\n",
                         sh.is("busybox") || sh.is("dash") ? "hey\n" : "hey\n"});
    }
    if (bash || catches) {
        const bool posix = sh.is("dash") || sh.is("busybox");
        facts.push_back({"MissingSource", ". /no/such/file; echo \"$?\"",
                         posix || sh.is("ksh93") ? "" : "1\n",
                         posix            ? 2U
                         : sh.is("ksh93") ? 1U
                                          : 0U});
        facts.push_back(
            {"Unset", "echo ${nope:?}", "", posix ? 2U : 1U, bash ? After::kEnded : After::kLives});
        facts.push_back({"Nounset", "set -u; echo $nope", "", posix ? 2U : 1U,
                         bash ? After::kEnded : After::kLives});
        facts.push_back({"NounsetOff", "set +u; echo ok", "ok\n"});
    }
    if (sh.is("dash") || sh.is("busybox") || sh.is("mksh") || sh.is("ksh93")) {
        facts.push_back({"TopLevelReturn", "return 3", "", 3, After::kEnded});
        facts.push_back({"CommandFunction", "command() { echo mine; }; command", "mine\n"});
        facts.push_back({"CommandFunctionDoesNotMatter", "echo ok", "ok\n"});
    }
    if (bash) {
        facts.push_back({"LineNumbers", "true\nno-such-command", "", 127, After::kLives,
                         Outcome::kExited, "bash: line 2: no-such-command: command not found\n"});
        facts.push_back({"Overrides",
                         "echo() { :; }; printf() { :; }; command() { :; }; eval() { :; }; "
                         "export() { :; }; unset() { :; }; return() { :; }; trap() { :; }",
                         ""});
        facts.push_back({"OverridesDoNotMatter", "builtin echo ok; (exit 4)", "ok\n", 4});
        facts.push_back({"StatusWithOverrides", "builtin echo \"$?\"", "4\n"});
        facts.push_back({"OverridesGo",
                         "builtin unset -f echo printf command eval export unset "
                         "return trap",
                         ""});
        facts.push_back({"Posix", "POSIXLY_CORRECT=1; echo ok", "ok\n"});
        facts.push_back({"PosixSyntaxError", "if", "", 2, After::kEnded});
        facts.push_back({"ExpandedAliases", "shopt -s expand_aliases", ""});
        facts.push_back({"AliasesAgain", "alias builtin=false exec=false command=false", ""});
        facts.push_back({"AliasesStillDoNotMatter", "echo ok; unalias -a", "ok\n"});
        facts.push_back({"DebugTrap", "trap 'echo D' DEBUG", ""});
        facts.push_back({"DebugTrapIsNotHeardForUs", "true", "D\n"});
        facts.push_back({"DebugTrapOff", "trap - DEBUG", "D\n"});
        facts.push_back({"ErrTrap", "trap 'echo E' ERR", ""});
        facts.push_back({"ErrTrapOnce", "false; true", "E\n"});
        facts.push_back({"ErrTrapOff", "trap - ERR", ""});
        facts.push_back(
            {"KillTerm", "kill $$; sleep 5", "", 15, After::kEnded, Outcome::kSignaled});
        facts.push_back({"NonUtf8", "printf %s 'x\x80\xff'", "x\x80\xff"});
    }
    if (sh.is("dash") || sh.is("busybox")) {
        facts.push_back(
            {"KillTerm", "kill $$; sleep 5", "", 15, After::kEnded, Outcome::kSignaled});
        facts.push_back({"NonUtf8", "printf %s 'x\x80\xff'", "x\x80\xff"});
    }
    return facts;
}

class ShellFacts : public testing::TestWithParam<ShellKind> {};

TEST_P(ShellFacts, HoldOneAfterTheOther) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    StartOptions options;
    options.shell = GetParam().path;
    bool ended_before = false;
    for (const Fact& fact : FactsOf(GetParam())) {
        SCOPED_TRACE(GetParam().name + ": " + fact.name);
        const Heard& heard = client.Run(fact.script, options);
        ASSERT_EQ(heard.done, 1);
        EXPECT_EQ(heard.out[0], fact.out);
        EXPECT_EQ(heard.end.fields.outcome, fact.outcome) << heard.end.reason;
        EXPECT_EQ(heard.end.fields.code, fact.code) << heard.out[1];
        const bool ended = (heard.end.fields.shell_restarted & kShellEnded) != 0;
        EXPECT_EQ(ended, fact.after == After::kEnded) << heard.end.reason;
        EXPECT_EQ((heard.end.fields.shell_restarted & kShellFresh) != 0, ended_before);
        EXPECT_EQ(heard.end.reason.empty(), !ended && !ended_before) << heard.end.reason;
        if (fact.err.starts_with("~")) {
            EXPECT_EQ(heard.out[1].find(fact.err.substr(1)), std::string::npos) << heard.out[1];
        } else if (fact.err != "*") {
            EXPECT_EQ(heard.out[1], fact.err);
        }
        EXPECT_EQ(heard.size_at_done[0], heard.end.fields.stdout_size) << "output goes before Done";
        ended_before = ended;
        client.Forget(client.last_n);
    }
    EXPECT_TRUE(client.Shutdown(true));
    EXPECT_FALSE(std::filesystem::exists(spool.Path()));
}

// Directories are kept across the ways a shell can end, where it can still say so.
TEST_P(ShellFacts, TheNextShellStartsInTheSameDirectory) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    StartOptions options;
    options.shell = GetParam().path;
    EXPECT_EQ(client.Run("cd /usr", options).end.cwd, "/usr");
    client.Run("kill -9 $$", options);
    EXPECT_EQ(client.Run("pwd", options).out[0], "/usr\n");
    client.Run("exec true", options);
    EXPECT_EQ(client.Run("pwd", options).out[0], "/usr\n");
    if (!GetParam().is("mksh") && !GetParam().is("ksh93")) {
        EXPECT_EQ(client.Run("cd /usr/lib; exit 3", options).end.cwd, "/usr/lib");
        EXPECT_EQ(client.Run("pwd", options).out[0], "/usr/lib\n");
    }
    // One that is gone: back to where Start says.
    const std::string doomed = spool.Root() + "/doomed";
    client.Run("mkdir " + doomed + "; cd " + doomed, options);
    client.Run("rmdir " + doomed + "; kill -9 $$", options);
    EXPECT_EQ(client.Run("pwd", options).out[0], "/\n");
}

TEST_P(ShellFacts, AShellThatDoesNotReportIsRestarted) {
    if (GetParam().is("mksh") || GetParam().is("yash")) GTEST_SKIP() << "set -n does nothing there";
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    StartOptions options;
    options.shell = GetParam().path;
    client.Run("cd /usr; x=1", options);
    const Heard& silent = client.Run("echo before; set -n", options);
    if (GetParam().is("zsh") && silent.end.fields.outcome == Outcome::kExited) {
        GTEST_SKIP() << "set -n does nothing there";
    }
    EXPECT_EQ(silent.out[0], "before\n");
    EXPECT_EQ(silent.end.fields.outcome, Outcome::kSignaled);
    EXPECT_EQ(silent.end.fields.code, 9U);
    EXPECT_NE(silent.end.reason.find("did not report"), std::string::npos) << silent.end.reason;
    EXPECT_LT(silent.end.fields.duration_us, 4000000U);
    EXPECT_EQ(client.Run("pwd; echo \"[$x]\"", options).out[0], "/usr\n[]\n");
}

// What a shell says while it is between two commands would become late output of the first.
TEST_P(ShellFacts, NothingOfOursIsAddedAfterTheEnd) {
    if (GetParam().is("mksh") || GetParam().is("ksh93") || GetParam().is("yash")) {
        GTEST_SKIP() << "they trace redirections too";
    }
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    StartOptions options;
    options.shell = GetParam().path;
    client.Run("set -x; echo hi", options);
    client.Run("set -e; true", options);
    client.Run("true", options);
    client.Run("set +x; set +e", options);
    client.Run("true", options);
    ASSERT_TRUE(client.Sync());
    for (std::uint64_t n = 1; n <= 5; ++n) {
        const Heard& heard = client.heard[n];
        EXPECT_EQ(heard.next[0], heard.end.fields.stdout_size) << n << heard.out[0];
        EXPECT_EQ(heard.next[1], heard.end.fields.stderr_size) << n << heard.out[1];
        EXPECT_EQ(heard.out[1].find("exec"), std::string::npos) << heard.out[1];
        EXPECT_EQ(heard.out[1].find("sbxfs"), std::string::npos) << heard.out[1];
    }
}

TEST_P(ShellFacts, AMebibyteOfScriptRuns) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    StartOptions options;
    options.shell = GetParam().path;
    std::string script = "x='";
    script.append((1 << 20) - 40, 'q');
    script += "'\necho ${#x}";
    const Heard& heard = client.Run(script, options);
    EXPECT_EQ(heard.out[0], std::to_string((1 << 20) - 40) + "\n");
    options.lane = Lane::kParallel;
    EXPECT_EQ(client.Run(script, options).out[0], std::to_string((1 << 20) - 40) + "\n");
    EXPECT_EQ(client.Run("echo ok", options).out[0], "ok\n");
}

TEST_P(ShellFacts, ParallelCommandsSpeakTheSame) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    StartOptions options;
    options.shell = GetParam().path;
    options.lane = Lane::kParallel;
    options.cwd = "/usr";
    options.env = {{"A", "b c"}};
    const Heard& heard = client.Run("pwd; echo \"$A\"; echo err >&2; cat; exit 9", options);
    EXPECT_EQ(heard.out[0], "/usr\nb c\n");
    EXPECT_EQ(heard.out[1], "err\n");
    EXPECT_EQ(heard.end.fields.outcome, Outcome::kExited);
    EXPECT_EQ(heard.end.fields.code, 9U);
    EXPECT_EQ(client.Run("kill -9 $$", options).end.fields.code, 9U);
    EXPECT_EQ(client.heard[2].end.fields.outcome, Outcome::kSignaled);
}

INSTANTIATE_TEST_SUITE_P(All, ShellFacts, testing::ValuesIn(Shells()),
                         [](const auto& shell) { return shell.param.name; });

TEST(Shells, AllThreeOfTheContractAreHere) {
    EXPECT_GE(Shells().size(), 3U) << "apt-get install dash bash busybox";
}

TEST(Shells, StrangersAreRefusedWithTheNamesOfThoseThatWork) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    StartOptions options;
    const std::string fish = spool.Root() + "/fish";
    std::filesystem::copy("/bin/true", fish);
    options.shell = fish;
    const Heard& refused = client.Run("true", options);
    EXPECT_EQ(refused.end.fields.outcome, Outcome::kNotStarted);
    EXPECT_EQ(refused.end.fields.code, static_cast<std::uint32_t>(EINVAL));
    EXPECT_NE(refused.end.reason.find("bash, dash"), std::string::npos) << refused.end.reason;
    options.shell = "/no/such/bash";
    const Heard& missing = client.Run("true", options);
    EXPECT_EQ(missing.end.fields.outcome, Outcome::kNotStarted);
    EXPECT_EQ(missing.end.fields.code, static_cast<std::uint32_t>(ENOENT));
    EXPECT_NE(missing.end.reason.find("/no/such/bash"), std::string::npos) << missing.end.reason;
    options.shell.clear();
    options.cwd = "/no/such/place";
    const Heard& nowhere = client.Run("true", options);
    EXPECT_EQ(nowhere.end.fields.outcome, Outcome::kNotStarted);
    EXPECT_EQ(nowhere.end.fields.code, static_cast<std::uint32_t>(ENOENT));
    EXPECT_NE(nowhere.end.reason.find("/no/such/place"), std::string::npos) << nowhere.end.reason;
    EXPECT_EQ(nowhere.end.fields.started_ms, 0U);
    options.cwd = "/usr";
    EXPECT_EQ(client.Run("pwd", options).out[0], "/usr\n");
}

TEST(Shells, ABrokenOneDoesNotTakeTheNextCommandWithIt) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    StartOptions options;
    options.shell = "/bin/bash";
    // bash cannot give its stdin back, and dies when it looks for the next command: which never
    // ran, so it may run in a new shell.
    client.Run("for fd in 10 11 12 13 14 15; do eval \"exec $fd<&-\"; done; exec 0<&-", options);
    const Heard& next = client.Run("echo ran", options);
    EXPECT_EQ(next.out[0], "ran\n");
    EXPECT_EQ(next.end.fields.outcome, Outcome::kExited);
    // One that ends before it reads anything is not tried for ever.
    const std::string broken = spool.Root() + "/bash";
    std::filesystem::copy("/bin/false", broken);
    client.Run("exit", options);
    options.shell = broken;
    const Heard& never = client.Run("echo no", options);
    EXPECT_EQ(never.end.fields.outcome, Outcome::kNotStarted);
    EXPECT_EQ(never.out[0], "");
    options.shell = "/bin/bash";
    EXPECT_EQ(client.Run("echo ok", options).out[0], "ok\n");
}

TEST(Shells, LoginShellsReadTheirFilesAndOthersDoNot) {
    const SpoolDir spool;
    std::filesystem::create_directory(spool.Root() + "/home");
    for (const char* file : {"/.profile", "/.bashrc", "/.bash_profile"}) {
        FILE* profile = fopen((spool.Root() + "/home" + file).c_str(), "we");
        ASSERT_NE(profile, nullptr);
        fputs("FROM_PROFILE=yes\n", profile);
        fclose(profile);
    }
    AttachOptions attach;
    attach.environment = {"HOME=" + spool.Root() + "/home",
                          "ENV=" + spool.Root() + "/home/.profile",
                          "BASH_ENV=" + spool.Root() + "/home/.profile", "SSH_CLIENT=1 2 3"};
    Client client(spool.Path(), attach);
    ASSERT_TRUE(client.Greet(1));
    StartOptions options;
    for (const Lane lane : {Lane::kSerial, Lane::kParallel}) {
        options.lane = lane;
        options.login = false;
        EXPECT_EQ(client.Run("echo \"[$FROM_PROFILE]\"", options).out[0], "[]\n");
        options.login = true;
        if (lane == Lane::kSerial) client.Run("exit", options);
        options.env = {{"HOME", spool.Root() + "/home"}};
        EXPECT_EQ(client.Run("echo \"[$FROM_PROFILE]\"", options).out[0], "[yes]\n");
    }
}

}  // namespace
}  // namespace sbxfs::supervisor
