#include "aws/role_credentials.h"

#include "base/files.h"
#include "base/strings.h"

namespace sbxfs::aws {
namespace {

constexpr std::size_t kLargestToken = 20'000;  // STS takes no longer ones

Sts::RoleDone AsCredentials(const std::string& role, CredentialsDone done) {
    return [role, done = std::move(done)](Outcome<Credentials> answer) {
        if (answer) return done(std::move(*answer));
        done(answer.failure().error.While("assuming the role " + role));
    };
}

}  // namespace

void AssumedRole::Get(CredentialsDone done) {
    sts_.AssumeRole(request_, AsCredentials(request_.role_arn, std::move(done)));
}

void WebIdentity::Get(CredentialsDone done) {
    auto token = ReadWholeFile(token_file_, kLargestToken);
    if (!token) {
        const Error error(Errno{EKEYEXPIRED},
                          "the web identity token cannot be read: " + token.error().what());
        return loop_.Post([done = std::move(done), error] { done(error); });
    }
    const Secret secret{std::string(Trim(*token))};
    sts_.AssumeRoleWithWebIdentity(request_, secret,
                                   AsCredentials(request_.role_arn, std::move(done)));
}

}  // namespace sbxfs::aws
