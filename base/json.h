// JSON documents: building ours, reading foreign ones without exceptions. The only door to
// nlohmann-json. Reading never throws and never converts: a member of the wrong type reads as
// absent, and the reader says so. Value type; copies are deep.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sbxfs {

class Json {
 public:
    // null
    Json();
    Json(const Json& other);
    Json(Json&& other) noexcept;
    Json& operator=(const Json& other);
    Json& operator=(Json&& other) noexcept;
    ~Json();

    static Json Object();
    static Json Object(const std::map<std::string, std::string>& members);
    static Json Array();
    static Json String(std::string_view text);
    static Json Number(std::int64_t value);
    static Json Real(double value);
    static Json Bool(bool value);
    // Nothing when `text` is not one JSON document, or nested deeper than anybody means: copies of a
    // document recurse. Members come in the order of their names; of two with one name the last counts.
    static std::optional<Json> Parse(std::string_view text);

    // What a text that may still grow is: a whole document, the beginning of one, or neither.
    enum class Text { kWhole, kBeginning, kInvalid };
    static Text Look(std::string_view text);

    // Members keep the order they were set in.
    Json& Set(std::string_view key, const Json& value);
    Json& Set(std::string_view key, std::string_view text) { return Set(key, String(text)); }
    Json& Set(std::string_view key, const char* text) { return Set(key, String(text)); }
    Json& Set(std::string_view key, std::int64_t value) { return Set(key, Number(value)); }
    Json& Set(std::string_view key, bool value) { return Set(key, Bool(value)); }
    Json& Append(const Json& value);

    bool IsNull() const;
    bool IsObject() const;
    bool IsArray() const;
    std::optional<std::string> AsString() const;
    std::optional<std::int64_t> AsNumber() const;  // integers only
    std::optional<double> AsReal() const;          // any number
    std::optional<bool> AsBool() const;
    // Members of an object, elements of an array; empty for anything else.
    std::vector<std::string> Keys() const;
    std::vector<Json> Elements() const;
    std::optional<Json> Find(std::string_view key) const;
    // All members of an object in one pass: Find() looks at every member before the one it wants.
    std::vector<std::pair<std::string, Json>> Members() const;

    // Shorthands: Find(key), then the conversion.
    std::optional<std::string> GetString(std::string_view key) const;
    std::optional<std::int64_t> GetNumber(std::string_view key) const;
    std::optional<bool> GetBool(std::string_view key) const;

    // Invalid UTF-8 becomes U+FFFD. `indent` < 0 is one line without blanks.
    std::string Dump(int indent = -1) const;

 private:
    struct Value;
    explicit Json(std::unique_ptr<Value> value);
    std::unique_ptr<Value> value_;
};

}  // namespace sbxfs
