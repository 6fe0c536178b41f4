#include "aws/http.h"

#include <algorithm>

namespace sbxfs::aws {

std::optional<std::string> HttpResponse::Header(std::string_view name) const {
    const auto found = std::find_if(headers.begin(), headers.end(),
                                    [&](const auto& header) { return header.first == name; });
    if (found == headers.end()) return std::nullopt;
    return found->second;
}

}  // namespace sbxfs::aws
