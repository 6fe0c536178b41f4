// What the channel makes of the end of a real connection to the kernel.
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fuse.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <string>

#include "fs/fuse_channel.h"

namespace sbxfs::testing {
namespace {

constexpr int kSkipped = 77;

// "MAJOR:MINOR" of what is mounted on `point` names the connection by its minor number.
std::string ConnectionOf(const std::string& point) {
    std::ifstream mounts("/proc/self/mountinfo");
    for (std::string line; std::getline(mounts, line);) {
        if (line.find(" " + point + " ") == std::string::npos) continue;
        const std::size_t colon = line.find(':');
        return line.substr(colon + 1, line.find(' ', colon) - colon - 1);
    }
    return "";
}

// In a child, whose mounts nobody sees. 0 when a reader of an aborted connection is told ENODEV.
int ReadFromAnAbortedConnection(const std::string& point, const std::string& connections) {
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
        return kSkipped;
    const int fd = ::open("/dev/fuse", O_RDWR | O_CLOEXEC);
    const std::string options = "fd=" + std::to_string(fd) + ",rootmode=40000,user_id=0,group_id=0";
    if (fd < 0 || ::mount("none", point.c_str(), "fuse", 0, options.c_str()) != 0) return kSkipped;
    if (::mount("none", connections.c_str(), "fusectl", 0, nullptr) != 0) return kSkipped;

    const fuse_custom_io io = FuseChannel();
    std::array<char, 1U << 17> request{};
    if (io.read(fd, request.data(), request.size(), nullptr) <= 0) return 1;
    fuse_in_header header{};
    std::copy_n(request.data(), sizeof header, reinterpret_cast<char*>(&header));
    if (header.opcode != FUSE_INIT) return 2;
    // With this flag the kernel tells the reader of an abort what it tells a reader that an unmount has overtaken.
    struct {
        fuse_out_header header;
        fuse_init_out init;
    } answer{};
    answer.header = {.len = sizeof answer, .error = 0, .unique = header.unique};
    answer.init.major = FUSE_KERNEL_VERSION;
    answer.init.minor = FUSE_KERNEL_MINOR_VERSION;
    answer.init.flags = FUSE_ABORT_ERROR;
    answer.init.max_write = 4096;
    if (::write(fd, &answer, sizeof answer) != sizeof answer) return 3;
    std::ofstream(connections + "/" + ConnectionOf(point) + "/abort") << "1\n";
    if (::read(fd, request.data(), request.size()) != -1 || errno != ECONNABORTED) return 4;
    if (io.read(fd, request.data(), request.size(), nullptr) != -1) return 5;
    return errno == ENODEV ? 0 : 6;
}

TEST(Channel, AConnectionThatEndsUnderAReaderReadsAsUnmounted) {
    std::string point = "/tmp/sbxfs-channel-XXXXXX";
    std::string connections = "/tmp/sbxfs-channel-XXXXXX";
    ASSERT_NE(::mkdtemp(point.data()), nullptr);
    ASSERT_NE(::mkdtemp(connections.data()), nullptr);
    const pid_t child = ::fork();
    if (child == 0) ::_exit(ReadFromAnAbortedConnection(point, connections));
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    (void)::rmdir(point.c_str());
    (void)::rmdir(connections.c_str());
    ASSERT_TRUE(WIFEXITED(status));
    if (WEXITSTATUS(status) == kSkipped) GTEST_SKIP() << "needs root, /dev/fuse and fusectl";
    EXPECT_EQ(WEXITSTATUS(status), 0) << "the step that failed";
}

}  // namespace
}  // namespace sbxfs::testing
