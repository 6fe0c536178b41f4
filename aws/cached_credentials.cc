#include "aws/cached_credentials.h"

#include <utility>

#include "base/log.h"

namespace sbxfs::aws {

void CachedCredentials::Get(CredentialsDone done) {
    if (kept_) {
        const SystemTime now = loop_.clock().System();
        // Short-lived ones (15 minutes is the least) would be due for a refresh at once, again and again.
        const bool due = kept_->expires && now + kAdvisory >= *kept_->expires &&
                         loop_.clock().Steady() >= not_before_;
        const bool usable = !kept_->expires || now + kMandatory < *kept_->expires;
        if (due && !asking_) Refresh();
        if (usable)
            return loop_.Post(
                [done = std::move(done), copy = *kept_]() mutable { done(std::move(copy)); });
    }
    waiting_.push_back(std::move(done));
    if (!asking_) Refresh();
}

void CachedCredentials::Distrust(const std::string& access_key_id) {
    if (kept_ && kept_->access_key_id == access_key_id) kept_.reset();
    source_->Distrust(access_key_id);
}

void CachedCredentials::Refresh() {
    asking_ = true;
    source_->Get([self = shared_from_this()](Result<Credentials> fresh) {
        self->Arrived(std::move(fresh));
    });
}

void CachedCredentials::Arrived(Result<Credentials> fresh) {
    asking_ = false;
    not_before_ = loop_.clock().Steady() + kPause;
    if (fresh) {
        kept_ = *fresh;
    } else {
        Log(LogLevel::kWarning, "aws credentials cannot be renewed", {{"why", fresh.error()}});
    }
    // What is fresh may be short-lived, and what is kept may outlive a failed renewal.
    const bool alive = kept_ && (!kept_->expires || loop_.clock().System() < *kept_->expires);
    for (CredentialsDone& done : std::exchange(waiting_, {})) {
        if (alive) {
            done(*kept_);
        } else if (fresh) {
            done(Error(Errno{EKEYEXPIRED},
                       "the credentials from " + fresh->source + " have expired: renew them"));
        } else {
            done(fresh.error());
        }
    }
}

}  // namespace sbxfs::aws
