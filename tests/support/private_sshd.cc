#include "tests/support/private_sshd.h"

#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>

#include "base/check.h"
#include "base/files.h"
#include "base/strings.h"

namespace sbxfs::testing {
namespace {

std::string MakeKey(const std::string& path) {
    const std::string command = "ssh-keygen -q -t ed25519 -N '' -C '' -f " + path;
    CHECK(::system(command.c_str()) == 0);
    Result<std::string> line = ReadWholeFile(path + ".pub");
    CHECK(line.has_value());
    return std::string(Trim(*line));
}

}  // namespace

PrivateSshd::PrivateSshd() {
    std::array<char, 32> name{"/tmp/sbxfs-sshd-XXXXXX"};
    CHECK(::mkdtemp(name.data()) != nullptr);
    directory_ = name.data();
    if (::geteuid() == 0) (void)::mkdir("/run/sshd", 0755);
    const struct passwd* me = ::getpwuid(::geteuid());
    CHECK(me != nullptr);
    user_ = me->pw_name;
    host_key_ = MakeKey(directory_ + "/host");
    const std::string client = MakeKey(directory_ + "/client");
    CHECK(ReplaceFile(directory_ + "/authorized", client + "\n", 0600).has_value());
    client_private_ = *ReadWholeFile(directory_ + "/client");
}

PrivateSshd::~PrivateSshd() {
    for (const pid_t child : children_) {
        (void)::kill(child, SIGKILL);
        (void)::waitpid(child, nullptr, 0);
    }
    std::error_code ignored;
    (void)std::filesystem::remove_all(directory_, ignored);
}

UniqueFd PrivateSshd::Connect(const std::string& extra) {
    const std::string config = directory_ + "/config" + std::to_string(configs_++);
    CHECK(ReplaceFile(config,
                      extra + "\nHostKey " + directory_ + "/host\nAuthorizedKeysFile " +
                          directory_ +
                          "/authorized\nStrictModes no\nPasswordAuthentication no\nUsePAM no\n"
                          "PermitRootLogin prohibit-password\nPidFile none\nLogLevel QUIET\n"
                          "Subsystem sftp internal-sftp\n",
                      0600)
              .has_value());
    std::array<int, 2> ends{};
    CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
    const pid_t child = ::fork();
    CHECK(child >= 0);
    if (child == 0) {
        (void)::dup2(ends[1], 0);
        (void)::dup2(ends[1], 1);
        const int null = ::open("/dev/null", O_WRONLY);
        (void)::dup2(null, 2);
        ::execl("/usr/sbin/sshd", "/usr/sbin/sshd", "-i", "-f", config.c_str(), nullptr);
        ::_exit(127);
    }
    (void)::close(ends[1]);
    (void)::fcntl(ends[0], F_SETFL, O_NONBLOCK);
    children_.push_back(child);
    return UniqueFd(ends[0]);
}

void PrivateSshd::KillNewest() {
    (void)::kill(children_.back(), SIGKILL);
}

}  // namespace sbxfs::testing
