// How an error about a word that nobody knows goes on.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/strings.h"

namespace sbxfs {

// "; did you mean 'x'?" with the candidate nearest to `word`; `otherwise` when none is near.
inline std::string DidYouMean(std::string_view word, const std::vector<std::string_view>& known,
                              std::string_view otherwise = "", char quote = '\'') {
    const std::string_view nearest = Nearest(word, known);
    if (nearest.empty()) return std::string(otherwise);
    return "; did you mean " + std::string(1, quote) + std::string(nearest) + quote + "?";
}

}  // namespace sbxfs
