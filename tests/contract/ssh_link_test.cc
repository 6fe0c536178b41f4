// SshLink against a real sshd.
#include "sandbox/ssh_link.h"

#include <dirent.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <chrono>
#include <future>
#include <memory>
#include <string>

#include "base/files.h"
#include "base/strings.h"
#include "sandbox/io_loop.h"
#include "tests/support/private_sshd.h"

namespace sbxfs {
namespace {

using testing::PrivateSshd;

int OpenDescriptors() {
    int count = 0;
    DIR* dir = ::opendir("/proc/self/fd");
    while (::readdir(dir) != nullptr)
        ++count;
    (void)::closedir(dir);
    return count;
}

// Sends `to_send`, collects everything until the channel closes.
class Collector final : public ChannelUser {
 public:
    explicit Collector(std::string to_send = "") : unsent_(std::move(to_send)) {}
    void OnOpen() override {}
    Status OnBytes(std::string_view bytes) override {
        received += bytes;
        return Ok();
    }
    void OnErrorText(std::string_view text) override { errors += text; }
    std::string_view Unsent() const override { return std::string_view(unsent_).substr(sent_); }
    void Sent(std::size_t count) override { sent_ += count; }
    void OnClosed(const Error&, int exit_status) override { closed.set_value(exit_status); }

    std::string received;
    std::string errors;
    std::promise<int> closed;

 private:
    std::string unsent_;
    std::size_t sent_ = 0;
};

class Listener final : public SshListener {
 public:
    void OnLoggedIn() override { state.set_value(Ok()); }
    void OnLinkLost(const Error& why) override {
        if (!lost_) lost.set_value(why);
        lost_ = true;
    }
    std::promise<Status> state;
    std::promise<Error> lost;

 private:
    bool lost_ = false;
};

class SshLinkTest : public ::testing::Test {
 protected:
    // Runs `job` on the loop and waits for it.
    void On(Job job) {
        std::promise<void> done;
        loop_->Post([&] {
            job();
            done.set_value();
        });
        done.get_future().wait();
    }
    SshLogin Login() { return {sshd_.user(), {sshd_.host_key()}, Secret(sshd_.client_private())}; }

    PrivateSshd sshd_;
    std::unique_ptr<IoLoop> loop_ = *IoLoop::Start("io-test", RealClock());
};

TEST_F(SshLinkTest, RunsAProgramAndReportsItsExitStatus) {
    Listener listener;
    Collector user("hello");
    std::unique_ptr<SshLink> link;
    SshLink::ChannelPtr channel;
    On([&] { link = std::make_unique<SshLink>(*loop_, sshd_.Connect(), Login(), listener); });
    ASSERT_TRUE(listener.state.get_future().get().has_value());
    On([&] { channel = link->Open("head -c 5; echo oops >&2; exit 7", user); });
    EXPECT_EQ(user.closed.get_future().get(), 7);
    EXPECT_EQ(user.received, "hello");
    EXPECT_EQ(user.errors, "oops\n");
    On([&] {
        channel.reset();
        link.reset();
    });
}

TEST_F(SshLinkTest, CarriesMegabytesBothWaysOnTwoChannelsAtOnce) {
    const std::string data = [] {
        std::string bytes;
        for (int i = 0; bytes.size() < (8U << 20); ++i)
            bytes += std::to_string(i) + ",";
        return bytes;
    }();
    for (const char* extra : {"", "RekeyLimit 1M"}) {
        Listener listener;
        std::unique_ptr<SshLink> link;
        const std::string count = "head -c " + std::to_string(data.size());
        Collector one(data);
        Collector two(data);
        SshLink::ChannelPtr first;
        SshLink::ChannelPtr second;
        On([&] {
            link = std::make_unique<SshLink>(*loop_, sshd_.Connect(extra), Login(), listener);
        });
        ASSERT_TRUE(listener.state.get_future().get().has_value());
        On([&] {
            first = link->Open(count, one);
            second = link->Open(count, two);
        });
        EXPECT_EQ(one.closed.get_future().get(), 0);
        EXPECT_EQ(two.closed.get_future().get(), 0);
        EXPECT_TRUE(one.received == data);
        EXPECT_TRUE(two.received == data);
        On([&] {
            first.reset();
            second.reset();
            link.reset();
        });
    }
}

TEST_F(SshLinkTest, WrongHostKeyIsRefusedBeforeAnyAuthentication) {
    PrivateSshd other;
    Listener listener;
    std::unique_ptr<SshLink> link;
    SshLogin login = Login();
    login.host_keys = {other.host_key()};
    On([&] { link = std::make_unique<SshLink>(*loop_, sshd_.Connect(), login, listener); });
    EXPECT_EQ(listener.lost.get_future().get().code(), Errno{EACCES});
    On([&] { link.reset(); });
}

TEST_F(SshLinkTest, UnknownClientKeyIsRefused) {
    PrivateSshd other;
    Listener listener;
    std::unique_ptr<SshLink> link;
    SshLogin login = Login();
    login.client_key = Secret(other.client_private());
    On([&] { link = std::make_unique<SshLink>(*loop_, sshd_.Connect(), login, listener); });
    EXPECT_EQ(listener.lost.get_future().get().code(), Errno{EACCES});
    On([&] { link.reset(); });
}

TEST_F(SshLinkTest, AnyOfThePinnedHostKeysWillDo) {
    PrivateSshd other;
    Listener listener;
    std::unique_ptr<SshLink> link;
    SshLogin login = Login();
    login.host_keys = {other.host_key(), sshd_.host_key()};
    On([&] { link = std::make_unique<SshLink>(*loop_, sshd_.Connect(), login, listener); });
    EXPECT_TRUE(listener.state.get_future().get().has_value());
    On([&] { link.reset(); });
}

TEST_F(SshLinkTest, AServerWithoutAKeyOfAPinnedTypeIsRefusedAsAWrongOne) {
    Listener listener;
    std::unique_ptr<SshLink> link;
    SshLogin login = Login();
    const std::string rsa = sshd_.directory() + "/rsa";
    ASSERT_EQ(::system(("ssh-keygen -q -t rsa -b 2048 -N '' -C '' -f " + rsa).c_str()), 0);
    login.host_keys = {std::string(Trim(*ReadWholeFile(rsa + ".pub")))};
    On([&] { link = std::make_unique<SshLink>(*loop_, sshd_.Connect(), login, listener); });
    const Error why = listener.lost.get_future().get();
    EXPECT_EQ(why.code(), Errno{EACCES}) << why.what();
    On([&] { link.reset(); });
}

TEST_F(SshLinkTest, AnIdentityFileLetsIn) {
    Listener listener;
    Collector user;
    std::unique_ptr<SshLink> link;
    SshLink::ChannelPtr channel;
    SshLogin login = Login();
    login.auth = {IdentityFile{sshd_.directory() + "/nothing"},
                  IdentityFile{sshd_.directory() + "/client"}};
    On([&] { link = std::make_unique<SshLink>(*loop_, sshd_.Connect(), login, listener); });
    const Status in = listener.state.get_future().get();
    ASSERT_TRUE(in.has_value());
    On([&] { channel = link->Open("exit 5", user); });
    EXPECT_EQ(user.closed.get_future().get(), 5);
    On([&] {
        channel.reset();
        link.reset();
    });
}

TEST_F(SshLinkTest, EveryWayThatFailedIsNamedWithItsRemedy) {
    const std::string locked = sshd_.directory() + "/locked";
    ASSERT_EQ(::system(("ssh-keygen -q -t ed25519 -N secret -C '' -f " + locked).c_str()), 0);
    const std::string open = sshd_.directory() + "/open";
    ASSERT_EQ(::system(("ssh-keygen -q -t ed25519 -N '' -C '' -f " + open).c_str()), 0);
    ASSERT_EQ(::chmod(open.c_str(), 0644), 0);
    Listener listener;
    std::unique_ptr<SshLink> link;
    SshLogin login = Login();
    login.auth = {IdentityFile{locked}, IdentityFile{open}, IdentityFile{sshd_.directory()},
                  Agent{sshd_.directory() + "/no-agent"}};
    On([&] { link = std::make_unique<SshLink>(*loop_, sshd_.Connect(), login, listener); });
    const Error why = listener.lost.get_future().get();
    EXPECT_EQ(why.code(), Errno{EACCES});
    for (const char* words : {"ssh-add", "chmod 600", "no ssh-agent answers"})
        EXPECT_NE(why.what().find(words), std::string::npos) << why.what();
    On([&] { link.reset(); });
}

TEST_F(SshLinkTest, ALinkThatDiesWhileItLogsInWaitsForNobody) {
    // An agent that takes connections and never answers, as one that asks a person.
    const std::string path = sshd_.directory() + "/agent";
    const int listening = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    (void)path.copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(listening, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(::listen(listening, 4), 0);
    Listener listener;
    std::unique_ptr<SshLink> link;
    SshLogin login = Login();
    login.auth = {Agent{path}};
    On([&] { link = std::make_unique<SshLink>(*loop_, sshd_.Connect(), login, listener); });
    const UniqueFd asked(::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC));
    ASSERT_TRUE(static_cast<bool>(asked));
    const auto before = std::chrono::steady_clock::now();
    On([&] { link.reset(); });
    EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(1));
    (void)::close(listening);
}

TEST_F(SshLinkTest, ALostLinkTellsChannelsAndListenerOnceAndLeaksNoDescriptor) {
    const int before = OpenDescriptors();
    for (int round = 0; round < 3; ++round) {
        Listener listener;
        Collector user;
        std::unique_ptr<SshLink> link;
        SshLink::ChannelPtr channel;
        On([&] { link = std::make_unique<SshLink>(*loop_, sshd_.Connect(), Login(), listener); });
        ASSERT_TRUE(listener.state.get_future().get().has_value());
        On([&] { channel = link->Open("kill -9 $PPID; sleep 5", user); });  // the session's sshd
        if (::geteuid() == 0) sshd_.KillNewest();
        EXPECT_EQ(user.closed.get_future().get(), -1);
        EXPECT_EQ(listener.lost.get_future().get().code(), Errno{EHOSTUNREACH});
        On([&] {
            channel.reset();
            link.reset();
        });
    }
    EXPECT_EQ(OpenDescriptors(), before);
}

}  // namespace
}  // namespace sbxfs
