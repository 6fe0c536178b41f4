// The launch of one local sandbox, from an order to an sshd that answers; its stop, and its start after that. Runs in the helper, which
// may wait. It can be killed at any point and called again: what it finds half made it takes away
// and makes anew, what it finds alive it reports.
#pragma once

#include "base/json.h"
#include "base/result.h"
#include "base/unique_function.h"
#include "sandbox/providers/local/launch_order.h"

namespace sbxfs {

using TellPhase = UniqueFunction<void(std::string_view phase)>;

// The members `id`, `connect` and `facts` of Launched.
Result<Json> LaunchBox(const LaunchOrder& order, const TellPhase& tell);

// The same of one that was stopped. EHOSTDOWN when its files are gone.
Result<Json> StartBox(const LaunchOrder& order);
// Ends what runs; the files stay, and the ids they belong to. Success when nothing runs.
Status StopBox(const StopOrder& order);

// Where the programs are that a local sandbox needs; empty when absent.
struct Tools {
    std::string bwrap;
    std::string sshd;
};
Tools FindTools();

}  // namespace sbxfs
