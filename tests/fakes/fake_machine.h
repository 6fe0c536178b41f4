// The inside of one sandbox: its files (FakeFiles), its supervisor (FakeSupervisor), and the link to
// it, which the test makes and cuts. FakeMachines hands them out by the address a FakeProvider gave,
// as the Attacher of the daemon under test. Machines outlive links and daemons.
//
// Loop thread (which is the test's) only.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "sandbox/attachment.h"
#include "tests/fakes/fake_files.h"
#include "tests/fakes/fake_lane.h"
#include "tests/fakes/fake_supervisor.h"

namespace sbxfs::testing {

class FakeMachine {
 public:
    explicit FakeMachine(Loop& loop) : files_(loop), supervisor_(loop), loop_(loop) {
        supervisor_.look = [this](const std::string& path) { return files_.Identity(path); };
        supervisor_.read = [this](const std::string& path) { return files_.Content(path); };
        supervisor_.rename = [this](const RenameRequest& request) {
            return files_.RenameApart(request);
        };
        supervisor_.store = [this](const StoreRequest& request) { return files_.Store(request); };
        supervisor_.hello.fetches = true;
    }
    FakeMachine(const FakeMachine&) = delete;
    FakeMachine& operator=(const FakeMachine&) = delete;

    FakeFiles& files() { return files_; }
    FakeLane& lane() { return lane_; }
    // Whether a second way is made when one is wanted.
    void OfferLanes(bool offer) { offers_lanes_ = offer; }
    // Only the second way ends.
    void CutLane(const Error& why = Error(Errno{EHOSTUNREACH}, "lane cut", Blame::kRemote));
    FakeSupervisor& supervisor() { return supervisor_; }

    enum class Answers { kAtOnce, kHeld };
    // Whether attaches to come are completed by themselves.
    void SetAttaches(Answers answers) { answers_ = answers; }
    // Completes the attach that waits: the files, then the supervisor.
    void Connect();
    void ConnectFiles();
    void ConnectSupervisor();
    // The link is cut, or the attach that waits fails.
    void Cut(const Error& why = Error(Errno{EHOSTUNREACH}, "link cut", Blame::kRemote));
    // Only the supervisor's channel.
    void CutSupervisor(const Error& why = Error(Errno{EHOSTUNREACH}, "channel cut",
                                                Blame::kRemote));
    bool attached() const { return link_ != nullptr; }
    std::size_t attaches() const { return attaches_; }

    // For FakeMachines.
    std::unique_ptr<Attachment> Attach(const AttachRequest& request, AttachmentListener& listener,
                                       SupervisorListener& supervisor_listener);

 private:
    class Link;
    FakeFiles files_;
    FakeSupervisor supervisor_;
    FakeLane lane_{files_};
    bool offers_lanes_ = true;
    Loop& loop_;
    Answers answers_ = Answers::kAtOnce;
    Link* link_ = nullptr;
    std::size_t attaches_ = 0;
    std::uint64_t last_epoch_ = 0;
};

class FakeMachines final : public Attacher {
 public:
    explicit FakeMachines(Loop& loop) : loop_(loop) {}

    // The machine of a token; made on first sight.
    FakeMachine& Of(const std::string& token);
    // What every machine made from now on begins with.
    std::function<void(FakeMachine&)> furnish;

    std::unique_ptr<Attachment> Attach(Loop& loop, const AttachRequest& request,
                                       AttachmentListener& listener,
                                       SupervisorListener& supervisor_listener) override;

 private:
    Loop& loop_;
    std::map<std::string, std::unique_ptr<FakeMachine>> machines_;
};

}  // namespace sbxfs::testing
