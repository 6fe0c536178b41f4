// The parts of a URL and their percent-encoding, as signing and sending need them. Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace sbxfs::aws {

using QueryParameters = std::vector<std::pair<std::string, std::string>>;

struct Url {
    std::string scheme;      // "https" or "http", lower case
    std::string host;        // lower case; an IPv6 address without its brackets
    std::uint16_t port = 0;  // never 0 once parsed: the scheme's default
    std::string path;        // as sent, begins with '/'
    QueryParameters query;   // decoded, in the order given

    // "https://host[:port]"; the port only where it is not the scheme's.
    std::string Origin() const;
    // The Host header's value.
    std::string HostHeader() const;
    std::string Text() const;
};

// EINVAL for anything but an http or https URL with a host. User names in URLs are refused: they would end up in logs.
Result<Url> ParseUrl(std::string_view text);

// Everything but RFC 3986's unreserved characters becomes %XX with upper-case digits; '/' stays when asked.
enum class Slash { kEncode, kKeep };
std::string PercentEncode(std::string_view text, Slash slash = Slash::kEncode);

// "a=1&b=2": encoded, in the order given. The body of a form, or a query.
std::string FormEncode(const QueryParameters& parameters);

}  // namespace sbxfs::aws
