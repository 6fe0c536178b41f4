// What `sbxfs doctor` finds out about one backend, check by check. Each provider has its own checks
// (providers/*/..._doctor.h); they run in the command, not in a daemon, so they may block.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_function.h"

namespace sbxfs {

struct Finding {
    bool good = true;
    std::string check;  // "host key"
    std::string text;   // what was found, or what is wrong and the remedy; one line
};
// Told as they are found: the next check may take a while.
using Tell = UniqueFunction<void(const Finding&)>;

// Tells how a check went; true when well.
inline bool TellStatus(const Tell& tell, std::string check, const Status& status,
                       std::string if_good) {
    tell({status.has_value(), std::move(check),
          status ? std::move(if_good) : status.error().what()});
    return status.has_value();
}

}  // namespace sbxfs
