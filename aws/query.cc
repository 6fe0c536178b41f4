#include "aws/query.h"

namespace sbxfs::aws {

ApiCall QueryCall(const std::string& action, const std::string& version, QueryParameters parameters,
                  Repeat repeat) {
    parameters.insert(parameters.begin(), {{"Action", action}, {"Version", version}});
    ApiCall call;
    call.action = action;
    call.headers = {{"Content-Type", "application/x-www-form-urlencoded; charset=utf-8"}};
    call.body = FormEncode(parameters);
    call.repeat = repeat;
    return call;
}

ApiFailure Malformed(const std::string& action, const std::string& what) {
    return {Error(Errno{EIO}, "the answer to " + action + " is not what AWS documents: " + what,
                  Blame::kRemote),
            FailureKind::kOther, "", "", 200};
}

}  // namespace sbxfs::aws
