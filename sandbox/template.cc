#include "sandbox/template.h"

#include <utility>

#include "sandbox/strict_json.h"

namespace sbxfs {
namespace {

Json OptionToJson(const OptionValue& value) {
    if (const auto* text = std::get_if<std::string>(&value)) return Json::String(*text);
    if (const auto* number = std::get_if<std::int64_t>(&value)) return Json::Number(*number);
    if (const auto* flag = std::get_if<bool>(&value)) return Json::Bool(*flag);
    Json list = Json::Array();
    for (const std::string& text : *std::get_if<std::vector<std::string>>(&value)) {
        list.Append(Json::String(text));
    }
    return list;
}

std::optional<OptionValue> OptionFromJson(const Json& json) {
    if (auto text = json.AsString()) return OptionValue(*std::move(text));
    if (const auto number = json.AsNumber()) return OptionValue(*number);
    if (const auto flag = json.AsBool()) return OptionValue(*flag);
    if (!json.IsArray()) return std::nullopt;
    std::vector<std::string> list;
    for (const Json& element : json.Elements()) {
        auto text = element.AsString();
        if (!text) return std::nullopt;
        list.push_back(*std::move(text));
    }
    return OptionValue(std::move(list));
}

}  // namespace

Json Template::ToJson() const {
    Json json = Json::Object();
    json.Set("name", name).Set("provider", provider).Set("backend", backend);
    json.Set("workdir", workdir).Set("fs_root", fs_root).Set("image", image);
    json.Set("cpu", cpu).Set("memory", memory);
    json.Set("max_lifetime_s", max_lifetime_s).Set("idle_timeout_s", idle_timeout_s);
    json.Set("exclusive", exclusive).Set("list_fs", list_fs).Set("max_parallel", max_parallel);
    json.Set("shell", shell).Set("login_shell", login_shell);
    Json environment = Json::Object();
    for (const auto& [key, value] : env)
        environment.Set(key, value);
    json.Set("env", environment);
    Json own = Json::Object();
    for (const auto& [key, value] : options)
        own.Set(key, OptionToJson(value));
    json.Set("options", own);
    return json;
}

Result<Template> Template::FromJson(const Json& json) {
    Template t;
    StrictJson in(json, "template");
    in.Take("name", t.name).Take("provider", t.provider).Take("backend", t.backend);
    in.Take("workdir", t.workdir).Take("fs_root", t.fs_root).Take("image", t.image);
    in.Take("cpu", t.cpu).Take("memory", t.memory);
    in.Take("max_lifetime_s", t.max_lifetime_s).Take("idle_timeout_s", t.idle_timeout_s);
    in.Take("exclusive", t.exclusive).Take("list_fs", t.list_fs);
    in.Take("max_parallel", t.max_parallel);
    in.Take("shell", t.shell).Take("login_shell", t.login_shell).Take("env", t.env);
    if (const auto options = in.TakeAny("options")) {
        if (!options->IsObject()) in.Fail("options", "an object");
        for (const std::string& key : options->Keys()) {
            auto value = OptionFromJson(*options->Find(key));
            if (value) {
                t.options[key] = *std::move(value);
            } else {
                in.Fail("options." + key,
                        "a string, an integer, true or false, or a list of strings");
            }
        }
    }
    (void)TRY(in.Finish());
    return t;
}

}  // namespace sbxfs
