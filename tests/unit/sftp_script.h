// SftpFiles over a session whose server is the test: it sees each request and says each answer.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sandbox/sftp_files.h"
#include "tests/fakes/manual_loop.h"
#include "tests/fakes/sftp_peer.h"

namespace sbxfs::testing {

inline constexpr std::uint32_t kDirMode = 040755;

// The result of one operation. Callbacks may outlive it: a failed ASSERT leaves operations in
// flight.
template <class T>
class Got {
    struct State {
        std::optional<Result<T>> result;
        int times = 0;
    };
    const std::shared_ptr<State> state_ = std::make_shared<State>();

 public:
    std::optional<Result<T>>& result = state_->result;
    int& times = state_->times;

    UniqueFunction<void(Result<T>)> Done() {
        return [state = state_](Result<T> value) {
            state->result = std::move(value);
            ++state->times;
        };
    }
    bool ok() const { return result && result->has_value(); }
    int code() const { return result && !*result ? static_cast<int>(result->error().code()) : 0; }
};

// A session whose server is the test.
class SftpScript : public ::testing::Test {
 protected:
    explicit SftpScript(
        std::vector<std::pair<std::string, std::string>> extensions = UsualExtensions())
        : client_(ReadyClient(extensions)), files_(SftpFiles::Make(client_, loop_)) {
        trips_ = client_->RoundTrips();
    }

    // The requests sent since the last call.
    std::vector<PeerRequest> Asked() {
        loop_.Run();
        return TakeRequests(*client_);
    }
    void Answer(const std::string& bytes) {
        const Status fed = client_->Feed(bytes);
        EXPECT_TRUE(fed.has_value()) << fed.error().what();
        loop_.Run();
    }
    std::uint64_t Trips() const { return client_->RoundTrips() - trips_; }
    void Cut() {
        client_->FailAll(Error(Errno{EHOSTUNREACH}, "cut", Blame::kRemote));
        loop_.Run();
    }
    // An open file of `size` bytes.
    RemoteFilePtr Open(const OpenHow& how = {.read = true, .write = true}, std::uint64_t size = 0) {
        Got<OpenedFile> got;
        files_->Open("/f", how, got.Done());
        const std::vector<PeerRequest> asked = Asked();
        EXPECT_EQ(asked.size(), 3U);
        Answer(PeerAttrs(asked[0].id, FileAttrs(size)) + PeerHandle(asked[1].id, "h") +
               PeerAttrs(asked[2].id, FileAttrs(size)));
        EXPECT_TRUE(got.ok());
        trips_ = client_->RoundTrips();
        return (*got.result)->file;
    }

    ManualLoop loop_;
    std::shared_ptr<SftpClient> client_;
    std::shared_ptr<SftpFiles> files_;
    std::uint64_t trips_ = 0;
};

}  // namespace sbxfs::testing
