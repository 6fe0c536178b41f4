// Credentials that a program prints: credential_process of a profile. The program runs on a thread of its own, which is
// the only one that waits for it; it is started without a shell. Get() on the loop thread.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "aws/credentials.h"
#include "base/batch_thread.h"
#include "base/loop.h"
#include "base/sync.h"

namespace sbxfs::aws {

// A command line as words, with a shell's quotes and backslashes but nothing else of a shell. EINVAL for a quote that is
// not closed and for no words at all.
Result<std::vector<std::string>> SplitCommandLine(std::string_view line);

// The program's answer: a JSON document of Version 1.
Result<Credentials> ReadProcessAnswer(std::string_view text, const std::string& source);

class ProcessCredentials final : public CredentialProvider {
 public:
    ProcessCredentials(Loop& loop, std::vector<std::string> argv, std::string source);
    // Ends a program that still runs.
    ~ProcessCredentials() override;

    void Get(CredentialsDone done) override;
    void Distrust(const std::string& /*access_key_id*/) override {}

 private:
    void Answer(std::vector<CredentialsDone>& waiting);
    Result<std::string> RunProgram();
    // False when this object is being destroyed.
    bool Running(pid_t pid);

    Loop& loop_;
    const std::vector<std::string> argv_;
    const std::string source_;
    Mutex mu_{LockRank::kProvider};
    pid_t pid_ GUARDED_BY(mu_) = 0;  // 0: none runs
    bool ending_ GUARDED_BY(mu_) = false;
    BatchThread<CredentialsDone> thread_;
};

}  // namespace sbxfs::aws
