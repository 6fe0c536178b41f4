#include "tests/fakes/fake_machine.h"

#include <utility>
#include <variant>

#include "base/check.h"

namespace sbxfs::testing {

// One attachment of the daemon. Its death is a link closed from our side: nobody hears of it.
class FakeMachine::Link final : public Attachment {
 public:
    Link(FakeMachine& machine, AttachmentListener& listener, SupervisorListener& supervisor)
        : machine_(machine), listener_(listener), supervisor_listener_(supervisor) {}
    ~Link() override {
        if (machine_.link_ != this) return;
        machine_.link_ = nullptr;
        if (up_) machine_.files_.Cut(Error(Errno{EHOSTUNREACH}, "the link was closed"));
        machine_.supervisor_.Disconnect();
        CutLane(Error(Errno{EHOSTUNREACH}, "the link was closed"));
    }

    void WantLane() override {
        if (!machine_.offers_lanes_ || std::exchange(has_lane_, true)) return;
        machine_.loop_.Post([&machine = machine_, this] {
            if (machine.link_ != this) return;
            machine.lane_.Mend();
            listener_.OnLane(&machine.lane_);
        });
    }
    // Who uses it hears of its end first.
    void EndLane(const Error& why) {
        listener_.OnLane(nullptr);
        CutLane(why);
    }
    void CutLane(const Error& why) {
        if (std::exchange(has_lane_, false)) machine_.lane_.Cut(why);
    }
    void ConnectFiles() {
        machine_.files_.Mend();
        up_ = true;
        listener_.OnAttachPhase("sftp");
        listener_.OnFiles(machine_.files_);
    }
    void ConnectSupervisor() {
        SupervisorPort& port = machine_.supervisor_.Connect(supervisor_listener_);
        listener_.OnAttachPhase("supervisor");
        SupervisorHello hello = machine_.supervisor_.hello;
        if (hello.clock_ms == 0) hello.clock_ms = EpochMs(machine_.loop_.clock().System());
        listener_.OnSupervisor(port, hello, "/home/user/.sbxfs");
        machine_.supervisor_.Speak();
    }
    void Cut(const Error& why) {
        machine_.link_ = nullptr;
        machine_.supervisor_.Disconnect();
        listener_.OnDetached(why);
        if (up_) machine_.files_.Cut(why);
        CutLane(why);
    }
    void CutSupervisor(const Error& why) {
        machine_.supervisor_.Disconnect();
        listener_.OnSupervisorLost(why);
    }

 private:
    FakeMachine& machine_;
    AttachmentListener& listener_;
    SupervisorListener& supervisor_listener_;
    bool up_ = false;
    bool has_lane_ = false;
};

std::unique_ptr<Attachment> FakeMachine::Attach(const AttachRequest& request,
                                                AttachmentListener& listener,
                                                SupervisorListener& supervisor_listener) {
    CHECK(request.epoch > last_epoch_);  // a supervisor refuses an epoch it has seen
    last_epoch_ = request.epoch;
    ++attaches_;
    auto link = std::make_unique<Link>(*this, listener, supervisor_listener);
    link_ = link.get();
    if (answers_ == Answers::kAtOnce) {
        loop_.Post([this, number = attaches_] {
            if (link_ != nullptr && attaches_ == number) Connect();
        });
    }
    return link;
}

void FakeMachine::Connect() {
    ConnectFiles();
    ConnectSupervisor();
}

void FakeMachine::ConnectFiles() {
    CHECK(link_ != nullptr);  // nobody attaches
    link_->ConnectFiles();
}

void FakeMachine::ConnectSupervisor() {
    CHECK(link_ != nullptr);
    link_->ConnectSupervisor();
}

void FakeMachine::Cut(const Error& why) {
    CHECK(link_ != nullptr);
    link_->Cut(why);
}

void FakeMachine::CutSupervisor(const Error& why) {
    CHECK(link_ != nullptr);
    link_->CutSupervisor(why);
}

void FakeMachine::CutLane(const Error& why) {
    CHECK(link_ != nullptr);
    link_->EndLane(why);
}

FakeMachine& FakeMachines::Of(const std::string& token) {
    std::unique_ptr<FakeMachine>& machine = machines_[token];
    if (machine == nullptr) {
        machine = std::make_unique<FakeMachine>(loop_);
        machine->supervisor().hello.spool_id = 7;
        machine->supervisor().hello.boot_id = 100;
        machine->supervisor().hello.home = "/home/user";
        if (furnish) furnish(*machine);
    }
    return *machine;
}

std::unique_ptr<Attachment> FakeMachines::Attach(Loop&, const AttachRequest& request,
                                                 AttachmentListener& listener,
                                                 SupervisorListener& supervisor_listener) {
    const auto* address = std::get_if<UnixAddress>(&request.connect.address);
    CHECK(address != nullptr);
    return Of(address->path).Attach(request, listener, supervisor_listener);
}

}  // namespace sbxfs::testing
