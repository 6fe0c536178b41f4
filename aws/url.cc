#include "aws/url.h"

#include <algorithm>
#include <cctype>
#include <optional>

#include "base/strings.h"

namespace sbxfs::aws {
namespace {

constexpr std::string_view kDigits = "0123456789ABCDEF";

bool Unreserved(char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

std::optional<int> HexDigit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return std::nullopt;
}

std::string PercentDecode(std::string_view text) {
    std::string decoded;
    for (std::size_t at = 0; at < text.size(); ++at) {
        if (text[at] == '%' && at + 2 < text.size()) {
            const auto high = HexDigit(text[at + 1]);
            const auto low = HexDigit(text[at + 2]);
            if (high && low) {
                decoded += static_cast<char>(*high * 16 + *low);
                at += 2;
                continue;
            }
        }
        decoded += text[at];
    }
    return decoded;
}

std::string Lower(std::string_view text) {
    std::string lower(text);
    std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) {
        return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    });
    return lower;
}

QueryParameters ParseQuery(std::string_view text) {
    QueryParameters query;
    if (text.empty()) return query;
    for (const std::string& part : Split(text, '&')) {
        const std::size_t equals = part.find('=');
        const std::string_view name = std::string_view(part).substr(0, equals);
        const std::string_view value = equals == std::string::npos
                                           ? std::string_view()
                                           : std::string_view(part).substr(equals + 1);
        query.emplace_back(PercentDecode(name), PercentDecode(value));
    }
    return query;
}

Error NotAUrl(std::string_view text, std::string_view why) {
    return Error(Errno{EINVAL}, "\"" + Printable(text) +
                                    "\" is not a URL to send requests to: " + std::string(why));
}

}  // namespace

std::string Url::HostHeader() const {
    const std::string name = host.find(':') == std::string::npos ? host : "[" + host + "]";
    const bool usual = port == (scheme == "https" ? 443 : 80);
    return usual ? name : name + ":" + std::to_string(port);
}

std::string Url::Origin() const {
    return scheme + "://" + HostHeader();
}

std::string Url::Text() const {
    return Origin() + path + (query.empty() ? "" : "?" + FormEncode(query));
}

Result<Url> ParseUrl(std::string_view text) {
    Url url;
    const std::size_t scheme_end = text.find("://");
    if (scheme_end == std::string_view::npos)
        return NotAUrl(text, "it begins with neither https:// nor http://");
    url.scheme = Lower(text.substr(0, scheme_end));
    if (url.scheme != "https" && url.scheme != "http")
        return NotAUrl(text, "only https and http are spoken");
    for (const char c : text)
        if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f)
            return NotAUrl(text, "it holds a blank or control character");

    std::string_view rest = text.substr(scheme_end + 3);
    const std::size_t fragment = rest.find('#');
    if (fragment != std::string_view::npos) rest = rest.substr(0, fragment);
    const std::size_t authority_end = std::min(rest.find_first_of("/?"), rest.size());
    std::string_view authority = rest.substr(0, authority_end);
    rest.remove_prefix(authority_end);
    if (authority.find('@') != std::string_view::npos)
        return NotAUrl("...", "user names and passwords in URLs are not accepted");

    std::string_view port;
    if (authority.starts_with('[')) {
        const std::size_t close = authority.find(']');
        if (close == std::string_view::npos) return NotAUrl(text, "its '[' is not closed");
        url.host = Lower(authority.substr(1, close - 1));
        port = authority.substr(close + 1);
    } else {
        const std::size_t colon = std::min(authority.find(':'), authority.size());
        url.host = Lower(authority.substr(0, colon));
        port = authority.substr(colon);
    }
    if (url.host.empty()) return NotAUrl(text, "it names no host");
    url.port = url.scheme == "https" ? 443 : 80;
    if (!port.empty()) {
        const auto number =
            port.starts_with(':') ? ParseNumber<std::uint16_t>(port.substr(1)) : std::nullopt;
        if (!number || *number == 0)
            return NotAUrl(text, "its port is not a number from 1 to 65535");
        url.port = *number;
    }

    const std::size_t question = std::min(rest.find('?'), rest.size());
    url.path = question == 0 ? "/" : std::string(rest.substr(0, question));
    if (question < rest.size()) url.query = ParseQuery(rest.substr(question + 1));
    return url;
}

std::string PercentEncode(std::string_view text, Slash slash) {
    std::string encoded;
    encoded.reserve(text.size());
    for (const char c : text) {
        if (Unreserved(c) || (c == '/' && slash == Slash::kKeep)) {
            encoded += c;
            continue;
        }
        const auto byte = static_cast<unsigned char>(c);
        encoded += '%';
        encoded += kDigits[byte >> 4U];
        encoded += kDigits[byte & 15U];
    }
    return encoded;
}

std::string FormEncode(const QueryParameters& parameters) {
    std::string text;
    for (const auto& [name, value] : parameters) {
        if (!text.empty()) text += '&';
        text += PercentEncode(name) + "=" + PercentEncode(value);
    }
    return text;
}

}  // namespace sbxfs::aws
