#include "sandbox/strict_json.h"

#include <algorithm>
#include <utility>

#include "base/strings.h"

namespace sbxfs {

StrictJson::StrictJson(const Json& json, std::string_view what) : json_(json), what_(what) {
    if (!json.IsObject()) error_ = Error(Errno{EINVAL}, what_ + ": not a JSON object");
}

StrictJson& StrictJson::Take(std::string_view key, std::string& out) {
    const auto member = Find(key);
    if (!member) return *this;
    if (auto text = member->AsString()) {
        out = *std::move(text);
    } else {
        Fail(key, "a string");
    }
    return *this;
}

StrictJson& StrictJson::Take(std::string_view key, std::int64_t& out) {
    const auto member = Find(key);
    if (!member) return *this;
    if (const auto number = member->AsNumber()) {
        out = *number;
    } else {
        Fail(key, "an integer");
    }
    return *this;
}

StrictJson& StrictJson::Take(std::string_view key, bool& out) {
    const auto member = Find(key);
    if (!member) return *this;
    if (const auto value = member->AsBool()) {
        out = *value;
    } else {
        Fail(key, "true or false");
    }
    return *this;
}

StrictJson& StrictJson::Take(std::string_view key, std::vector<std::string>& out) {
    const auto member = Find(key);
    if (!member) return *this;
    std::vector<std::string> texts;
    bool good = member->IsArray();
    for (const Json& element : member->Elements()) {
        const auto text = element.AsString();
        good = good && text.has_value();
        if (text) texts.push_back(*text);
    }
    if (good) {
        out = std::move(texts);
    } else {
        Fail(key, "a list of strings");
    }
    return *this;
}

StrictJson& StrictJson::Take(std::string_view key, std::map<std::string, std::string>& out) {
    const auto member = Find(key);
    if (!member) return *this;
    std::map<std::string, std::string> texts;
    bool good = member->IsObject();
    for (const auto& [name, value] : member->Members()) {
        const auto text = value.AsString();
        good = good && text.has_value();
        if (text) texts[name] = *text;
    }
    if (good) {
        out = std::move(texts);
    } else {
        Fail(key, "an object of strings");
    }
    return *this;
}

std::optional<Json> StrictJson::TakeAny(std::string_view key) {
    return Find(key);
}

StrictJson& StrictJson::Require(std::string_view key) {
    if (!error_ && !json_.Find(key)) {
        error_ = Error(Errno{EINVAL}, what_ + ": member `" + std::string(key) + "` is missing");
    }
    return *this;
}

Status StrictJson::Finish() const {
    if (error_) return *error_;
    for (const std::string& key : json_.Keys()) {
        if (std::find(asked_.begin(), asked_.end(), key) != asked_.end()) continue;
        return Error(Errno{EINVAL}, what_ + ": unknown member `" + Printable(key, 64) + "`");
    }
    return Ok();
}

void StrictJson::Fail(std::string_view key, std::string_view should_be) {
    if (error_) return;
    error_ = Error(Errno{EINVAL},
                   what_ + ": member `" + std::string(key) + "` must be " + std::string(should_be));
}

std::optional<Json> StrictJson::Find(std::string_view key) {
    asked_.emplace_back(key);
    return json_.Find(key);
}

}  // namespace sbxfs
