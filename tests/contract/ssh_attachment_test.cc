// SshAttachment against a real sshd: the supervisor comes there, and how many round trips that takes.
#include "sandbox/ssh_attachment.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <future>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "aws/crypto.h"
#include "base/files.h"
#include "sandbox/io_loop.h"
#include "sandbox/no_commands.h"
#include "sandbox/supervisor/protocol.h"
#include "tests/support/private_sshd.h"
#include "tests/support/turn_relay.h"

namespace sbxfs {
namespace {

using testing::PrivateSshd;
using testing::TurnRelay;

// One attach until it is complete or has come to nothing. Everything but the future is the loop's.
class Attached final : public AttachmentListener {
 public:
    struct Outcome {
        Status status = Ok();
        std::vector<std::string> phases;
    };

    std::future<Outcome> Begin(IoLoop& loop, const AttachRequest& request) {
        attachment_ = attacher_.Attach(loop, request, *this, no_commands_);
        return told_.get_future();
    }
    void End() { attachment_.reset(); }
    SupervisorPort* port() { return port_; }
    RemoteFiles* files() { return files_; }

    void OnAttachPhase(std::string_view phase) override { outcome_.phases.emplace_back(phase); }
    void OnFiles(RemoteFiles& files) override {
        files_ = &files;
        if (port_ != nullptr) Tell(Ok());
    }
    void OnSupervisor(SupervisorPort& port, const SupervisorHello&, const std::string&) override {
        port_ = &port;
        if (files_ != nullptr) Tell(Ok());
    }
    void OnLane(RemoteFiles* lane) override {
        if (on_lane) on_lane(lane);
    }
    std::function<void(RemoteFiles*)> on_lane;
    void WantLane() { attachment_->WantLane(); }
    void OnSupervisorLost(const Error& why) override { Tell(why); }
    void OnDetached(const Error& why) override {
        Tell(why);
        if (on_detached) on_detached(why);
    }
    std::function<void(const Error&)> on_detached;

 private:
    void Tell(Status status) {
        if (std::exchange(is_told_, true)) return;
        outcome_.status = std::move(status);
        told_.set_value(outcome_);
    }

    SshAttacher attacher_;
    NoCommands no_commands_;
    Outcome outcome_;
    RemoteFiles* files_ = nullptr;
    bool is_told_ = false;
    SupervisorPort* port_ = nullptr;
    std::promise<Outcome> told_;
    std::unique_ptr<Attachment> attachment_;
};

class SshAttachmentTest : public ::testing::Test {
 protected:
    // What it came to, and how many round trips it took. `then` runs on the loop while it is attached.
    Attached::Outcome Attach(const std::function<void(Attached&)>& then = {}) {
        Attached attached;
        std::promise<std::future<Attached::Outcome>> begun;
        loop_->Post([&] {
            request_.epoch = ++epoch_;
            begun.set_value(attached.Begin(*loop_, request_));
        });
        Attached::Outcome outcome = begun.get_future().get().get();
        turns_ = relay_.turns();
        std::promise<void> over;
        loop_->Post([&] {
            if (then) then(attached);
        });
        if (then && outcome.status) cleared_.get_future().wait();
        loop_->Post([&] {
            attached.End();
            over.set_value();
        });
        over.get_future().wait();
        return outcome;
    }
    // Ends the supervisor, and leaves nothing of it there.
    Attached::Outcome AttachAndClear() {
        cleared_ = {};
        const Attached::Outcome outcome = Attach([this](Attached& attached) {
            if (attached.port() == nullptr) return;
            attached.port()->Shutdown(true, [this](const Status&) { cleared_.set_value(); });
        });
        std::filesystem::remove_all(spool_);
        return outcome;
    }
    // A busy machine can make a round trip look like two, never two like one: the best of a few tries.
    int FewestTurns(int wanted, const std::function<void()>& attach) {
        int fewest = std::numeric_limits<int>::max();
        for (int tries = 0; tries < 4 && fewest > wanted; ++tries) {
            attach();
            fewest = std::min(fewest, turns_);
        }
        return fewest;
    }
    static bool Has(const Attached::Outcome& outcome, const std::string& phase) {
        return std::find(outcome.phases.begin(), outcome.phases.end(), phase) !=
               outcome.phases.end();
    }
    // In place of what is asked for.
    void Serve(const std::string& for_exec, const std::string& for_sftp) {
        const std::string script = sshd_.directory() + "/serve";
        const std::string text = "#!/bin/sh\ncase $SSH_ORIGINAL_COMMAND in\n*attach*) " + for_exec +
                                 " ;;\n*) " + for_sftp + " ;;\nesac\n";
        ASSERT_TRUE(ReplaceFile(script, text, 0700).has_value());
        sshd_config_ = "ForceCommand " + script;
    }
    void Prove(const std::string& said) {
        const std::string file = sshd_.directory() + "/token";
        ASSERT_TRUE(ReplaceFile(file, said + "\n", 0600).has_value());
        request_.connect.proof_files = {sshd_.directory() + "/not-there", file};
        request_.connect.proof_sha256 = aws::Sha256Hex("token-of-this-one");
    }

    PrivateSshd sshd_;
    std::string sshd_config_;
    std::string Path() const { return sshd_.directory() + "/relay"; }
    TurnRelay relay_{Path(),
                     "io-test",
                     {[this] { return sshd_.Connect(sshd_config_); },
                      [this] { return testing::RunsAnything(sshd_.newest(), "sbxfs-superviso"); }}};
    const std::string spool_ = sshd_.directory() + "/.sbxfs/spool of a box";
    AttachRequest request_ = [this] {
        AttachRequest request;
        request.connect.address = UnixAddress{Path()};
        request.connect.user = sshd_.user();
        request.connect.host_key = sshd_.host_key();
        request.connect.spool_dir = spool_;
        request.client_key = Secret(sshd_.client_private());
        request.bring = AttachRequest::Bring::kAtOnce;
        return request;
    }();
    std::uint64_t epoch_ = 0;
    int turns_ = 0;
    std::promise<void> cleared_;
    std::unique_ptr<IoLoop> loop_ = *IoLoop::Start("io-test", RealClock());
};

// Hellos and keys, service, login, channels, what is there, bringing it, the supervisor's hello.
constexpr int kToBring = 8;
constexpr int kToFind = 7;
constexpr int kToBringRemovable = 9;

TEST_F(SshAttachmentTest, BringsTheSupervisorAndFindsItAgainInFewRoundTrips) {
    int to_bring = 0;
    const int to_find = FewestTurns(kToFind, [this, &to_bring] {
        to_bring = FewestTurns(kToBring, [this] {
            if (std::filesystem::exists(spool_)) (void)AttachAndClear();
            const Attached::Outcome brought = Attach();
            ASSERT_TRUE(brought.status.has_value());
            EXPECT_TRUE(Has(brought, "uploaded"));
        });
        struct stat made {};
        ASSERT_EQ(::stat((spool_ + "/bin").c_str(), &made), 0);
        EXPECT_EQ(made.st_mode & 0777, 0700U);
        const Attached::Outcome found = AttachAndClear();
        ASSERT_TRUE(found.status.has_value());
        EXPECT_FALSE(Has(found, "uploaded"));
    });
    EXPECT_LE(to_bring, kToBring);
    EXPECT_LE(to_find, kToFind);
}

TEST_F(SshAttachmentTest, ToShowWhichSandboxItIsCostsNoRoundTrip) {
    Prove("token-of-this-one");
    EXPECT_LE(FewestTurns(kToBring,
                          [this] {
                              const Attached::Outcome outcome = AttachAndClear();
                              ASSERT_TRUE(outcome.status.has_value());
                              EXPECT_TRUE(Has(outcome, "proven"));
                          }),
              kToBring);
}

TEST_F(SshAttachmentTest, AnotherSandboxIsLeftAsItWas) {
    Prove("token-of-another");
    const Attached::Outcome outcome = Attach();
    ASSERT_FALSE(outcome.status.has_value());
    EXPECT_EQ(outcome.status.error().code(), Errno{EACCES});
    EXPECT_FALSE(Has(outcome, "sftp"));
    EXPECT_FALSE(std::filesystem::exists(sshd_.directory() + "/.sbxfs"));
}

// It may say whatever it likes before it was asked to: nothing is heard of it until it has shown which sandbox it is.
TEST_F(SshAttachmentTest, ASupervisorThatSpeaksBeforeTheProofIsNotBelieved) {
    Prove("token-of-this-one");
    std::string greeting(supervisor::kMagic, sizeof supervisor::kMagic - 1);
    {
        supervisor::Writer<std::string> frame(greeting, supervisor::Type::kHelloOk);
        supervisor::HelloOkFields fields;
        fields.protocol = supervisor::kProtocol;
        fields.spool = fields.boot = 5;
        fields.machine = {"x86_64", 6};
        supervisor::PutHelloOkFields(frame, fields);
    }
    const std::string said = sshd_.directory() + "/greeting";
    ASSERT_TRUE(ReplaceFile(said, greeting, 0600).has_value());
    Serve("cat '" + said + "'; sleep 1; echo 'sbxfs-attach 1 x86_64 present other'; sleep 9",
          "exec /usr/lib/openssh/sftp-server");
    bool believed = true;
    const Attached::Outcome outcome =
        Attach([&](Attached& attached) { believed = attached.port() != nullptr; });
    ASSERT_FALSE(outcome.status.has_value());
    EXPECT_EQ(outcome.status.error().code(), Errno{EACCES});
    EXPECT_FALSE(believed);
}

TEST_F(SshAttachmentTest, WhatStaysIsBroughtOnlyWhereItCanBeRemoved) {
    request_.bring = AttachRequest::Bring::kRemovable;
    EXPECT_LE(FewestTurns(kToBringRemovable,
                          [this] { ASSERT_TRUE(AttachAndClear().status.has_value()); }),
              kToBringRemovable);
    std::filesystem::remove_all(sshd_.directory() + "/.sbxfs");
    Serve("exec sh -c \"$SSH_ORIGINAL_COMMAND\"", "sleep 1; exit 1");
    const Attached::Outcome outcome = Attach();
    ASSERT_FALSE(outcome.status.has_value());
    EXPECT_FALSE(std::filesystem::exists(sshd_.directory() + "/.sbxfs"));
}

TEST_F(SshAttachmentTest, NoSpoolIsMadeWhereNoneIsWanted) {
    request_.bring = AttachRequest::Bring::kIfSpool;
    const Attached::Outcome outcome = Attach();
    ASSERT_FALSE(outcome.status.has_value());
    EXPECT_EQ(outcome.status.error().code(), Errno{ENOENT});
    EXPECT_FALSE(std::filesystem::exists(sshd_.directory() + "/.sbxfs"));
}

TEST_F(SshAttachmentTest, AProgramThatCannotRunThereIsReplaced) {
    ASSERT_TRUE(Attach().status.has_value());
    const std::string name = std::filesystem::directory_iterator(spool_ + "/bin")->path().string();
    (void)AttachAndClear();
    // A program of the same name for another machine.
    std::filesystem::create_directories(spool_ + "/bin");
    ASSERT_TRUE(ReplaceFile(name, std::string("\177ELF\2\1\1\0\0\0\0\0\0\0\0\0\2\0\0\0", 20), 0700)
                    .has_value());
    const Attached::Outcome outcome = AttachAndClear();
    ASSERT_TRUE(outcome.status.has_value());
    EXPECT_TRUE(Has(outcome, "uploaded"));
}

TEST_F(SshAttachmentTest, ASecondChannelOfFilesIsMadeWhenItIsWanted) {
    const std::string path = sshd_.directory() + "/written";
    ASSERT_TRUE(ReplaceFile(path, "....", 0600).has_value());
    cleared_ = {};
    Status written = Error(Errno{EAGAIN}, "not yet");
    const Attached::Outcome outcome = Attach([&](Attached& attached) {
        attached.on_lane = [&](RemoteFiles* lane) {
            if (lane == nullptr) return;
            OpenHow how;
            how.write = true;
            lane->Open(path, how, [&, lane](const Result<OpenedFile>& opened) {
                ASSERT_TRUE(opened.has_value());
                lane->Write(opened->file, 1, std::string("ab"), [&](Status status) {
                    written = std::move(status);
                    cleared_.set_value();
                });
            });
        };
        attached.WantLane();
    });
    ASSERT_TRUE(outcome.status.has_value());
    EXPECT_TRUE(written.has_value());
    EXPECT_EQ(*ReadWholeFile(path), ".ab.");
}

// So many bytes of what each file server says, and then nothing more.
class StoppedServer : public SshAttachmentTest {
 protected:
    StoppedServer() {
        loop_ = *IoLoop::Start("io-test", clock_);
        EXPECT_TRUE(ReplaceFile(path_, std::string(20'000, 'x'), 0600).has_value());
        Serve("exec sh -c \"$SSH_ORIGINAL_COMMAND\"",
              "/usr/lib/openssh/sftp-server | { dd bs=1 count=3000 status=none; exec sleep 99; }");
        cleared_ = {};
    }
    void TearDown() override { loop_.reset(); }  // before its clock

    // More than it will ever say.
    void ReadAll(RemoteFiles& files, BytesDone done) {
        OpenHow how;
        how.read = true;
        files.Open(path_, how,
                   [&files, done = std::move(done)](const Result<OpenedFile>& opened) mutable {
                       ASSERT_TRUE(opened.has_value());
                       files.Read(opened->file, {0, 20'000}, std::move(done));
                   });
    }
    // Time passes until `over_`, and what comes of it is waited for: the supervisor has answered this behind all else.
    void PassTime(SupervisorPort& port) {
        if (over_ || ++ticks_ > 2000) return cleared_.set_value();
        clock_.Advance(StallWatch::kTick);
        loop_->Post([this, &port] {
            if (over_) return cleared_.set_value();
            port.Ping([this, &port](const Status&) { PassTime(port); });
        });
    }

    ManualClock clock_;
    const std::string path_ = sshd_.directory() + "/long";
    bool over_ = false;
    int ticks_ = 0;
};

TEST_F(StoppedServer, EndsTheLinkWhenItStopsInsideAnAnswer) {
    Status detached = Ok();
    Status read = Ok();
    const Attached::Outcome outcome = Attach([&](Attached& attached) {
        attached.on_detached = [&](const Error& why) { detached = why; };
        ReadAll(*attached.files(), [&](const Result<std::string>& got) {
            read = got ? Ok() : Status(got.error());
            over_ = true;
        });
        PassTime(*attached.port());
    });
    ASSERT_TRUE(outcome.status.has_value());
    ASSERT_FALSE(detached.has_value());
    EXPECT_NE(detached.error().what().find("stopped inside an answer"), std::string::npos);
    ASSERT_FALSE(read.has_value());
    EXPECT_EQ(read.error().code(), Errno{EHOSTUNREACH});
}

TEST_F(StoppedServer, OfTheSecondChannelEndsThatAlone) {
    bool read = true;
    bool laned = false;
    bool goes_on = false;
    const Attached::Outcome outcome = Attach([&](Attached& attached) {
        attached.on_detached = [&](const Error&) { over_ = true; };
        attached.on_lane = [&](RemoteFiles* lane) {
            laned = lane != nullptr;
            if (!laned) {
                return attached.files()->Lstat("/", [&](const Result<RemoteStat>& stat) {
                    goes_on = stat.has_value();
                    over_ = true;
                });
            }
            ReadAll(*lane, [&](const Result<std::string>& got) { read = got.has_value(); });
            PassTime(*attached.port());
        };
        attached.WantLane();
    });
    ASSERT_TRUE(outcome.status.has_value());
    EXPECT_FALSE(read);
    EXPECT_FALSE(laned);
    EXPECT_TRUE(goes_on);
}

// Two sessions are the files and the supervisor.
TEST_F(SshAttachmentTest, AServerThatRefusesASecondChannelOfFilesKeepsTheFirst) {
    sshd_config_ = "MaxSessions 2";
    cleared_ = {};
    bool laned = false;
    bool detached = false;
    const Attached::Outcome outcome = Attach([&](Attached& attached) {
        attached.on_lane = [&](RemoteFiles*) { laned = true; };
        attached.WantLane();
        // The answer comes behind the refusal.
        attached.files()->Lstat("/", [&](const Result<RemoteStat>& stat) {
            detached = !stat.has_value();
            attached.WantLane();
            attached.files()->Lstat("/", [&](const Result<RemoteStat>& again) {
                detached = detached || !again.has_value();
                cleared_.set_value();
            });
        });
    });
    ASSERT_TRUE(outcome.status.has_value());
    EXPECT_FALSE(laned);
    EXPECT_FALSE(detached);
}

}  // namespace
}  // namespace sbxfs
