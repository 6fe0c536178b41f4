#include "fs/new_order.h"

#include <errno.h>

#include <map>
#include <vector>

#include "base/did_you_mean.h"
#include "base/json.h"
#include "base/strings.h"
#include "fs/config_keys.h"
#include "fs/root_dir.h"
#include "sandbox/backends.h"
#include "sandbox/names.h"

namespace sbxfs {
namespace {

Error Bad(const std::string& what) {
    return {Errno{EINVAL}, what + "; nothing was launched"};
}

// JSON's strings are TOML's basic strings.
std::string Quoted(std::string_view text) {
    return Json::String(text).Dump();
}

bool TakesText(std::string_view key) {
    for (const std::string_view known :
         {"provider", "workdir", "fs_root", "image", "max_lifetime", "idle_timeout", "shell"}) {
        if (key == known) return true;
    }
    return false;
}

// A word as TOML: numbers and truth values as they are where the key may want them, all else text.
std::string LiteralOf(std::string_view key, std::string_view word) {
    const bool plain = word == "true" || word == "false" || ParseNumber<std::int64_t>(word);
    return plain && !TakesText(key) ? std::string(word) : Quoted(word);
}

std::string LiteralOf(const Json& value) {
    if (!value.IsObject()) return value.Dump();  // strings, numbers, lists are written alike
    std::vector<std::string> members;
    for (const auto& [key, member] : value.Members())
        members.push_back(Quoted(key) + " = " + LiteralOf(member));
    return "{ " + Join(members, ", ") + " }";
}

struct Words {
    std::string name;
    std::string template_name;
    std::map<std::string, std::string> literals;  // key, TOML
    std::map<std::string, std::string> env;
};

Result<Words> ReadJson(const Json& json) {
    Words words;
    for (const auto& [key, value] : json.Members()) {
        if (key == "name" || key == "template") {
            const auto text = value.AsString();
            if (!text) return Bad("\"" + key + "\" must be a string");
            (key == "name" ? words.name : words.template_name) = *text;
        } else {
            words.literals[key] = LiteralOf(value);
        }
    }
    return words;
}

Result<Words> ReadWords(std::string_view text) {
    Words words;
    std::string line(text);
    for (char& c : line) {
        if (c == '\t' || c == '\n' || c == '\r') c = ' ';
    }
    for (const std::string& word : Split(line, ' ')) {
        if (word.empty()) continue;
        const std::size_t at = word.find('=');
        if ((at == std::string::npos || at == 0) && !words.env.empty()) {
            // It may be the rest of a value, and that a secret.
            return Bad("what follows env." + Printable(words.env.rbegin()->first, 64) +
                       "=... is not KEY=VALUE; values with blanks need a JSON object");
        }
        if (at == std::string::npos || at == 0) {
            return Bad("'" + Printable(word, 64) +
                       "' is not KEY=VALUE; like this: name=b1 template=default cpu=1024, or, for "
                       "values with blanks, a JSON object");
        }
        const std::string key = word.substr(0, at);
        const std::string value = word.substr(at + 1);
        if (key == "name") {
            words.name = value;
        } else if (key == "template") {
            words.template_name = value;
        } else if (key.starts_with("env.")) {
            words.env[key.substr(4)] = value;
        } else {
            words.literals[key] = LiteralOf(key, value);
        }
    }
    return words;
}

Status CheckKey(const std::string& key, const Template& base) {
    std::vector<std::string_view> known = {"name", "template"};
    for (const std::string_view name : NamesOf(TemplateKeys()))
        known.push_back(name);
    for (const std::string_view name : NamesOf(BackendOptions(base.backend)))
        known.push_back(name);
    if (std::find(known.begin(), known.end(), key) != known.end()) return Ok();
    return Bad("unknown key '" + Printable(key, 64) + "'" + DidYouMean(key, known));
}

}  // namespace

Result<NewOrder> ParseNewOrder(const Config& config, std::string_view text) {
    text = Trim(text);
    Words words;
    if (text.starts_with('{')) {
        const auto json = Json::Parse(text);
        if (!json || !json->IsObject()) return Bad("that is not one JSON object");
        words = TRY(ReadJson(*json));
    } else {
        words = TRY(ReadWords(text));
    }
    SandboxName name;
    if (!words.name.empty()) name = TRY(ParseSandboxName(words.name));
    if (!words.template_name.empty()) {
        if (!name.template_name.empty() && name.template_name != words.template_name) {
            return Bad("the name asks for template '" + name.template_name +
                       "' and template= for '" + Printable(words.template_name, 64) + "'");
        }
        name.template_name = words.template_name;
    }
    Template base = TRY(ChooseTemplate(config, name));
    std::string toml;
    for (const auto& [key, literal] : words.literals) {
        // With a provider of its own the backend's keys are another's; they are checked with its template.
        if (!words.literals.contains("provider")) (void)TRY(CheckKey(key, base));
        toml += Quoted(key) + " = " + literal + "\n";
    }
    for (const auto& [key, value] : words.env)
        toml += "env." + Quoted(key) + " = " + Quoted(value) + "\n";
    Result<Template> what = OverrideTemplate(config, std::move(base), toml);
    if (!what) return Bad(what.error().what());
    return NewOrder{words.name, std::move(*what)};
}

}  // namespace sbxfs
