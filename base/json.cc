#include "base/json.h"

#include <nlohmann/json.hpp>

#include <utility>
#include <vector>

namespace sbxfs {

struct Json::Value {
    nlohmann::ordered_json json;
};

Json::Json() : value_(std::make_unique<Value>()) {}
Json::Json(std::unique_ptr<Value> value) : value_(std::move(value)) {}
Json::Json(const Json& other) : value_(std::make_unique<Value>(*other.value_)) {}
Json::Json(Json&& other) noexcept
    : value_(std::exchange(other.value_, std::make_unique<Value>())) {}
Json& Json::operator=(const Json& other) {
    if (this != &other) value_ = std::make_unique<Value>(*other.value_);
    return *this;
}
Json& Json::operator=(Json&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
}
Json::~Json() = default;

Json Json::Object() {
    return Json(std::make_unique<Value>(Value{nlohmann::ordered_json::object()}));
}
Json Json::Object(const std::map<std::string, std::string>& members) {
    // Not by Set(), which looks for each name first: these are distinct.
    return Json(std::make_unique<Value>(
        Value{nlohmann::ordered_json::object_t(members.begin(), members.end())}));
}
Json Json::Array() {
    return Json(std::make_unique<Value>(Value{nlohmann::ordered_json::array()}));
}
Json Json::String(std::string_view text) {
    return Json(std::make_unique<Value>(Value{std::string(text)}));
}
Json Json::Number(std::int64_t value) {
    return Json(std::make_unique<Value>(Value{value}));
}
Json Json::Real(double value) {
    return Json(std::make_unique<Value>(Value{value}));
}
Json Json::Bool(bool value) {
    return Json(std::make_unique<Value>(Value{value}));
}

namespace {

constexpr int kDeepest = 100;

bool TooDeep(std::string_view text) {
    int depth = 0;
    bool quoted = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (quoted) {
            if (c == '\\') ++i;
            if (c == '"') quoted = false;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            if (++depth > kDeepest) return true;
        } else if (c == '}' || c == ']') {
            --depth;
        }
    }
    return false;
}

// Takes everything, keeps only where the parser gave up.
struct Looker {
    using Real = nlohmann::json::number_float_t;
    std::size_t stopped_at = 0;

    bool null() { return true; }
    bool boolean(bool) { return true; }
    bool number_integer(std::int64_t) { return true; }
    bool number_unsigned(std::uint64_t) { return true; }
    bool number_float(Real, const std::string&) { return true; }
    bool string(std::string&) { return true; }
    bool binary(std::vector<std::uint8_t>&) { return true; }
    bool start_object(std::size_t) { return true; }
    bool key(std::string&) { return true; }
    bool end_object() { return true; }
    bool start_array(std::size_t) { return true; }
    bool end_array() { return true; }
    bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) {
        stopped_at = position;
        return false;
    }
};

}  // namespace

std::optional<Json> Json::Parse(std::string_view text) {
    if (TooDeep(text)) return std::nullopt;
    // Not at once into an ordered_json: that looks for each new member among all earlier ones, which
    // makes half a minute of a mebibyte of short members.
    const auto json = nlohmann::json::parse(text.begin(), text.end(), nullptr, false);
    if (json.is_discarded()) return std::nullopt;
    return Json(std::make_unique<Value>(Value{json}));
}

Json::Text Json::Look(std::string_view text) {
    if (TooDeep(text)) return Text::kInvalid;
    Looker looker;
    if (nlohmann::json::sax_parse(text.begin(), text.end(), &looker)) return Text::kWhole;
    // The parser counts from 1 and reads one past the end to find that there is no more.
    return looker.stopped_at > text.size() ? Text::kBeginning : Text::kInvalid;
}

Json& Json::Set(std::string_view key, const Json& value) {
    if (!value_->json.is_object()) value_->json = nlohmann::ordered_json::object();
    value_->json[std::string(key)] = value.value_->json;
    return *this;
}

Json& Json::Append(const Json& value) {
    if (!value_->json.is_array()) value_->json = nlohmann::ordered_json::array();
    value_->json.push_back(value.value_->json);
    return *this;
}

bool Json::IsNull() const {
    return value_->json.is_null();
}
bool Json::IsObject() const {
    return value_->json.is_object();
}
bool Json::IsArray() const {
    return value_->json.is_array();
}

std::optional<std::string> Json::AsString() const {
    if (!value_->json.is_string()) return std::nullopt;
    return value_->json.get<std::string>();
}

std::optional<std::int64_t> Json::AsNumber() const {
    if (!value_->json.is_number_integer()) return std::nullopt;
    if (value_->json.is_number_unsigned() && value_->json.get<std::uint64_t>() > INT64_MAX) {
        return std::nullopt;
    }
    return value_->json.get<std::int64_t>();
}

std::optional<double> Json::AsReal() const {
    if (!value_->json.is_number()) return std::nullopt;
    return value_->json.get<double>();
}

std::optional<bool> Json::AsBool() const {
    if (!value_->json.is_boolean()) return std::nullopt;
    return value_->json.get<bool>();
}

std::vector<std::string> Json::Keys() const {
    std::vector<std::string> keys;
    if (!value_->json.is_object()) return keys;
    for (const auto& member : value_->json.items())
        keys.push_back(member.key());
    return keys;
}

std::vector<Json> Json::Elements() const {
    std::vector<Json> elements;
    if (!value_->json.is_array()) return elements;
    for (const auto& element : value_->json) {
        elements.push_back(Json(std::make_unique<Value>(Value{element})));
    }
    return elements;
}

std::optional<Json> Json::Find(std::string_view key) const {
    if (!value_->json.is_object()) return std::nullopt;
    const auto it = value_->json.find(std::string(key));
    if (it == value_->json.end()) return std::nullopt;
    return Json(std::make_unique<Value>(Value{*it}));
}

std::vector<std::pair<std::string, Json>> Json::Members() const {
    std::vector<std::pair<std::string, Json>> members;
    if (!value_->json.is_object()) return members;
    for (const auto& member : value_->json.items()) {
        members.emplace_back(member.key(), Json(std::make_unique<Value>(Value{member.value()})));
    }
    return members;
}

std::optional<std::string> Json::GetString(std::string_view key) const {
    const auto member = Find(key);
    return member ? member->AsString() : std::nullopt;
}

std::optional<std::int64_t> Json::GetNumber(std::string_view key) const {
    const auto member = Find(key);
    return member ? member->AsNumber() : std::nullopt;
}

std::optional<bool> Json::GetBool(std::string_view key) const {
    const auto member = Find(key);
    return member ? member->AsBool() : std::nullopt;
}

std::string Json::Dump(int indent) const {
    return value_->json.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace sbxfs
