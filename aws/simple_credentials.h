// Credentials that need nobody to be asked: keys that are written down, and the sentence why there are none. Loop thread
// only.
#pragma once

#include <string>
#include <utility>

#include "aws/credentials.h"
#include "base/loop.h"

namespace sbxfs::aws {

class StaticCredentials final : public CredentialProvider {
 public:
    StaticCredentials(Loop& loop, Result<Credentials> what) : loop_(loop), what_(std::move(what)) {}

    void Get(CredentialsDone done) override {
        loop_.Post([done = std::move(done), what = what_]() mutable { done(std::move(what)); });
    }
    // Nobody can be asked for others.
    void Distrust(const std::string& /*access_key_id*/) override {}

 private:
    Loop& loop_;
    const Result<Credentials> what_;
};

}  // namespace sbxfs::aws
