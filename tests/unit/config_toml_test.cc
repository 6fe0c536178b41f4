// The configuration file: what is taken, and what an error says (file, line, key, the nearest known one).
#include <errno.h>
#include <gtest/gtest.h>

#include "base/files.h"
#include "fs/config.h"
#include "fs/config_keys.h"
#include "tests/support/temp_dir.h"

namespace sbxfs {
namespace {

std::optional<std::string> Variable(const std::string& name) {
    if (name == "SET") return "value";
    if (name == "QUOTES") return "a\"b\\c";
    return std::nullopt;
}

Result<Config> Parse(std::string_view text) {
    return ParseConfig(text, "/etc/x.toml", &Variable);
}

TEST(ConfigFile, SaysWhatTheContractsExampleSays) {
    const auto config = Parse(R"(
default_template = "py"

[templates.default]
provider = "local"
workdir = "/workspace"

[templates.py]
provider = "here"
cpu = 1024
memory = 2048
max_lifetime = "4h"
idle_timeout = 60
exclusive = false
list_fs = true
max_parallel = 3
shell = "/bin/sh"
login_shell = true
fs_root = "/srv/"
env = { PIP_NO_INPUT = "1", X = "${SET}/x" }
network = "none"

[providers.here]
backend = "local"
binds = ["/a:/a"]

[templates.cloud]
provider = "fargate"
image = "python:3.12"

[providers.fargate]
backend = "fargate"
aws_region = "us-east-1"
ecs_cluster = "sandboxes"
subnets = ["subnet-0a1b2c3d"]
security_groups = ["sg-0a1b2c3d"]
host_key = "override"
)");
    ASSERT_TRUE(config) << config.error().what();
    EXPECT_EQ(config->default_template, "py");
    const Template& py = config->templates.at("py");
    EXPECT_EQ(py.backend, "local");
    EXPECT_EQ(py.cpu, 1024);
    EXPECT_EQ(py.memory, 2048);
    EXPECT_EQ(py.max_lifetime_s, 14400);
    EXPECT_EQ(py.idle_timeout_s, 60);
    EXPECT_FALSE(py.exclusive);
    EXPECT_TRUE(py.list_fs);
    EXPECT_EQ(py.max_parallel, 3);
    EXPECT_EQ(py.shell, "/bin/sh");
    EXPECT_TRUE(py.login_shell);
    EXPECT_EQ(py.fs_root, "/srv");
    EXPECT_EQ(py.env.at("X"), "value/x");
    EXPECT_EQ(std::get<std::string>(py.options.at("network")), "none");
    EXPECT_EQ(std::get<std::vector<std::string>>(py.options.at("binds")).front(), "/a:/a");
    EXPECT_EQ(config->templates.at("default").workdir, "/workspace");
    EXPECT_EQ(config->templates.at("cloud").backend, "fargate");
    EXPECT_EQ(config->templates.at("cloud").image, "python:3.12");
}

constexpr const char* kLab = R"([providers.lab]
backend = "ssh"
host = "192.0.2.7"
port = 22
user = "dev"
identity_file = "~/.ssh/id_ed25519"
known_hosts_file = "~/.ssh/known_hosts"
)";

TEST(ConfigFile, AMachineOneAlreadyHasIsNotExclusiveAndDoesNotExpire) {
    const auto config = Parse(std::string(kLab) + R"(
[templates.lab]
provider = "lab"
fs_root = "/srv/data"
workdir = "/srv/data"
exclusive = true
[templates.shared]
provider = "lab"
fs_root = "/srv/data"
port = 2222
max_lifetime = "1h"
)");
    ASSERT_TRUE(config) << config.error().what();
    const Template& lab = config->templates.at("lab");
    EXPECT_EQ(lab.backend, "ssh");
    EXPECT_EQ(lab.workdir, "/srv/data");
    EXPECT_TRUE(lab.exclusive);
    EXPECT_EQ(lab.max_lifetime_s, 0);
    EXPECT_EQ(std::get<std::string>(lab.options.at("host")), "192.0.2.7");
    const Template& shared = config->templates.at("shared");
    EXPECT_FALSE(shared.exclusive);
    EXPECT_EQ(shared.workdir, "/srv/data");  // fs_root, where nothing else is said
    EXPECT_EQ(shared.max_lifetime_s, 3600);
    EXPECT_EQ(std::get<std::int64_t>(shared.options.at("port")), 2222);
    // What is shown can be read back.
    const auto again = Parse(config->Text());
    ASSERT_TRUE(again) << again.error().what();
    EXPECT_EQ(again->Text(), config->Text());
    EXPECT_EQ(std::get<std::string>(again->providers.at("lab").options.at("host")), "192.0.2.7");
}

TEST(ConfigFile, SettingsOfAProviderAreCheckedWhenTheyAreRead) {
    const auto error = [](const std::string& more) {
        const auto config = Parse(std::string(kLab) + more);
        return config ? "" : config.error().what();
    };
    EXPECT_EQ(
        error("[templates.lab]\nprovider = \"lab\"\n"),
        "/etc/x.toml:8: [templates.lab] needs workdir = \"/...\", a directory that is there on "
        "that machine: nothing is made there");
    EXPECT_EQ(error("[templates.lab]\nprovider = \"lab\"\nworkdir = \"/w\"\nport = 0\n"),
              "/etc/x.toml:8: [templates.lab]: `port` must be a whole number from 1 to 65535");
    EXPECT_EQ(error("hosst = \"x\"\n"),
              "/etc/x.toml:8: unknown key 'hosst' in [providers.lab]; did you mean 'host'?");
    EXPECT_EQ(error("[providers.other]\nbackend = \"ssh\"\n"),
              "/etc/x.toml:8: [providers.other]: `host` is missing: the name or address of the "
              "machine");
}

TEST(ConfigFile, NothingAtAllIsTheBuiltInOne) {
    const auto config = Parse("");
    ASSERT_TRUE(config);
    EXPECT_EQ(config->templates.size(), 1U);
    EXPECT_EQ(config->templates.at("default").backend, "local");
}

struct Wrong {
    const char* text;
    const char* line;
    const char* sentence;
};

TEST(ConfigFile, EveryErrorNamesFileLineAndKey) {
    const std::vector<Wrong> table = {
        {"x = ", ":1: ", ""},
        {"a = 1\na = 2\n", ":2: ", ""},
        {"\ndefault_templat = \"a\"", ":2: ",
         "unknown key 'default_templat' in the configuration; did you mean 'default_template'?"},
        {"qqqqqqqqq = 1", ":1: ", "unknown key 'qqqqqqqqq' in the configuration"},
        {"default_template = 5", ":1: ", "default_template must be a string"},
        {"default_template = \"no\"", ":1: ", "there is no [templates.no]"},
        {"[templates.a]\n\nworkdr = \"/\"",
         ":3: ", "unknown key 'workdr' in [templates.a]; did you mean 'workdir'?"},
        {"[templates.a]\nworkdir = \"x\"", ":2: ", "workdir must be an absolute path"},
        {"[templates.a]\nworkdir = \"/a/../b\"", ":2: ", "workdir must be an absolute path"},
        {"[templates.a]\nfs_root = \"/a//b\"", ":2: ", "fs_root must be an absolute path"},
        {"[templates.a]\nworkdir = \"/a\\u0000b\"", ":2: ", "workdir must be an absolute path"},
        {"[templates.a]\ncpu = \"4\"", ":2: ", "cpu must be a whole number from 0"},
        {"[templates.a]\ncpu = -1", ":2: ", "cpu must be a whole number from 0"},
        {"[templates.a]\nmax_parallel = 0", ":2: ", "max_parallel must be a whole number from 1"},
        {"[templates.a]\nmax_lifetime = \"4 hours\"", ":2: ", "max_lifetime must be a duration"},
        {"[templates.a]\nmax_lifetime = -4", ":2: ", "max_lifetime must be a duration"},
        {"[templates.a]\nexclusive = \"yes\"", ":2: ", "exclusive must be true or false"},
        {"[templates.a]\nenv = \"A=1\"", ":2: ", "env must be a table"},
        {"[templates.a]\nenv = { A = 1 }", ":2: ", "env.A must be a string"},
        {"[templates.a]\nenv = { \"A=B\" = \"\" }", ":2: ", "'A=B' cannot name a variable"},
        {"[templates.a]\nenv = { A = \"${UNSET}\" }",
         ":2: ", "environment variable UNSET is not set"},
        {"[templates.a]\nimage = \"${SET\"", ":2: ", "'${' without '}'"},
        {"[templates.a]\nprovider = \"mars\"", ":2: ", "there is no [providers.mars]"},
        {"templates = 5", ":1: ", "templates must be tables"},
        {"[templates]\na = 5", ":2: ", "[templates.a] must be a table"},
        {"[templates.\".a\"]", ":1: ", "'.a' cannot name a template"},
        {"[templates.\"a@b\"]", ":1: ", "'a@b' cannot name a template"},
        {"providers = 5", ":1: ", "providers must be tables"},
        {"[providers.x]\n", ":1: ", "[providers.x] needs backend"},
        {"[providers.x]\nbackend = \"mars\"", ":2: ", "there is no backend 'mars'"},
        {"[providers.x]\nbackend = \"local\"\nbind = []",
         ":3: ", "unknown key 'bind' in [providers.x]; did you mean 'binds'?"},
        {"[providers.x]\nbackend = \"local\"\nbinds = [1]", ":3: ", "binds must be a string"},
        {"[providers.x]\nbackend = \"local\"\nbinds = 1.5", ":3: ", "binds must be a string"},
    };
    for (const Wrong& wrong : table) {
        const auto config = Parse(wrong.text);
        ASSERT_FALSE(config) << wrong.text;
        EXPECT_EQ(config.error().code(), Errno{EINVAL});
        const std::string what = config.error().what();
        EXPECT_TRUE(what.starts_with("/etc/x.toml" + std::string(wrong.line))) << what;
        EXPECT_NE(what.find(wrong.sentence), std::string::npos) << what;
    }
}

TEST(ConfigFile, WhatIsShownIsReadBackAndHidesValues) {
    const auto config = Parse(
        "[templates.a]\nenv = { TOKEN = \"hunter2\", \"odd name\" = \"${QUOTES}\" }\n"
        "workdir = \"/a\\\"b\\\\c\"\nmax_lifetime = \"4h\"\nbinds = [\"/a:/a\"]");
    ASSERT_TRUE(config) << config.error().what();
    const std::string text = config->Text();
    EXPECT_EQ(text.find("hunter2"), std::string::npos);
    EXPECT_NE(text.find("<set>"), std::string::npos);
    const auto again = Parse(text);
    ASSERT_TRUE(again) << again.error().what() << "\n" << text;
    EXPECT_EQ(again->Text(), text);
    EXPECT_EQ(again->templates.at("a").workdir, "/a\"b\\c");
    EXPECT_EQ(again->templates.at("a").max_lifetime_s, 14400);
}

TEST(ConfigFile, WhatIsNoTomlIsAnErrorWithItsLine) {
    for (const std::string& bad :
         {std::string("[="), std::string("[[["), std::string("[\x01]"), std::string("[]"),
          std::string("[[]]"), std::string("["), std::string("[["), std::string("=1"),
          std::string("a.=1"), std::string("a={=}"), std::string("a={,}"), std::string("a=[,]"),
          std::string("a=\"\\u12\""), std::string("a='''"), std::string("\xff=1"),
          std::string("a=1979-99-99"), std::string("a=0x"), std::string("a=1e"),
          std::string("a.b=1\n[a]\nb=2")}) {
        const auto config = Parse("\n" + bad);
        ASSERT_FALSE(config) << bad;
        EXPECT_TRUE(config.error().what().starts_with("/etc/x.toml:")) << config.error().what();
    }
}

TEST(ConfigFile, AMebibyteOfNonsenseIsAnError) {
    EXPECT_FALSE(Parse(std::string(1 << 20, '[')));
    EXPECT_FALSE(Parse("a = " + std::string(1 << 18, '[')));
    EXPECT_FALSE(Parse("a = " + std::string(1 << 20, '"')));
    EXPECT_FALSE(Parse(std::string_view("a = \"\0\"", 7)));
}

TEST(ConfigFile, OneThatHoldsASecretIsForItsOwnerOnly) {
    const testing::TempDir dir;
    const std::string path = dir / "c.toml";
    const auto load = [&path](const std::string& env, mode_t mode) {
        EXPECT_TRUE(ReplaceFile(path, "[templates.default]\nenv = { " + env + " }\n", mode));
        return LoadConfig(path);
    };
    const auto refused = load("API_TOKEN = \"hunter2\"", 0644);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errno{EACCES});
    EXPECT_EQ(refused.error().what().find("hunter2"), std::string::npos);
    EXPECT_NE(refused.error().what().find(path + ":2: env.API_TOKEN"), std::string::npos)
        << refused.error().what();
    EXPECT_TRUE(load("API_TOKEN = \"hunter2\"", 0600));
    EXPECT_TRUE(load("API_TOKEN = \"${PATH}\"", 0644));  // it stands somewhere else
    EXPECT_TRUE(load("MONKEY = \"banana\"", 0644));
    const auto shown = load("API_TOKEN = \"hunter2\"", 0600);
    EXPECT_EQ(shown->Text().find("hunter2"), std::string::npos);
}

TEST(ConfigFile, EveryKeyOfTheManualIsTaken) {
    // Each with the value the manual shows for it.
    for (const std::string_view backend : BackendNames()) {
        std::string text;
        for (const FileKey& key : TemplateKeys()) {
            if (key.name != "provider")
                text += std::string(key.name) + " = " + std::string(key.form) + "\n";
        }
        for (const FileKey& key : BackendOptions(backend))
            text += std::string(key.name) + " = " + std::string(key.form) + "\n";
        std::string whole = "max_sandboxes = 5\n[templates.default]\nprovider = \"";
        whole += std::string(backend) + "\"\n" + text;
        for (const char* empty : {"image = \"\"\n", "shell = \"\"\n"})
            whole.erase(whole.find(empty), std::string(empty).size());
        // Of these two only one may be given.
        if (const std::size_t at = whole.find("host_key"); at != std::string::npos)
            whole.erase(at, whole.find('\n', at) + 1 - at);
        const auto config = Parse(whole);
        EXPECT_TRUE(config) << config.error().what() << "\n" << whole;
    }
}

// toml++ has undefined behaviour on some of them: found by tests/fuzz/config_toml_fuzz.cc.
TEST(ConfigToml, LettersBeyondAsciiOutsideOfQuotesAreRefusedAndInsideAreTaken) {
    const Config built_in = BuiltInConfig();
    for (const char* text : {"\u00d2 = 1\n", "env.\u00d2 = \"x\"\n", "cpu = \u0492\n",
                             "cpu = 1 \u00a1", "\"a\" = 'b' \u00d2"}) {
        const auto what = ParseTemplate(built_in, "t", text);
        ASSERT_FALSE(what.has_value()) << text;
    }
    const auto good = ParseTemplate(built_in, "t",
                                    "# \u00d2\nworkdir = \"/\u00d2\"\nshell = '/bin/sh' # \u0492\n"
                                    "env = { A = \"\"\"\n\u00d2 \\\" \"\"\", B = '''\u0492''' }\n");
    ASSERT_TRUE(good.has_value()) << good.error().what();
    EXPECT_EQ(good->workdir, "/\u00d2");
}

}  // namespace
}  // namespace sbxfs
