#include "tests/contract/local_world.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <iostream>
#include <thread>

#include "base/check.h"
#include "base/files.h"
#include "base/strings.h"
#include "sandbox/providers/local/cgroups.h"
#include "sandbox/providers/local/helper.h"
#include "sandbox/providers/local/mounts.h"

namespace sbxfs::testing {
namespace {

constexpr uid_t kTestUser = 61234;
constexpr int kCannotBecomeUser = 98;
constexpr char kTestUserName[] = "sbxfs-tester";

// Where state directories of tests lie: in memory where programs may run from there. (ext4 looks at every inode
// removed in the last minutes before it makes a new one, and tests make and remove thousands.)
std::string Scratch() {
    if (const char* chosen = ::getenv("SBXFS_TEST_SCRATCH")) return chosen;
    struct statvfs shm {};
    const bool usable = ::statvfs("/dev/shm", &shm) == 0 && (shm.f_flag & ST_NOEXEC) == 0 &&
                        ::access("/dev/shm", W_OK) == 0;
    return usable ? "/dev/shm" : "/tmp";
}

std::string OwnProgram() {
    return "/proc/" + std::to_string(::getpid()) + "/exe";
}

void Pump(int from, int to, bool& open) {
    std::array<char, 65536> chunk{};
    const ssize_t got = ::read(from, chunk.data(), chunk.size());
    if (got <= 0 || !WriteAll(to, {chunk.data(), static_cast<std::size_t>(got)})) open = false;
}

// For ssh's ProxyCommand. The path may be longer than a socket address: connected from its directory.
int ConnectAndJoin(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    const std::string name = path.substr(slash + 1);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name.data(), name.size());
    const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::chdir(path.substr(0, slash).c_str()) != 0) return 1;
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return 1;
    bool in_open = true;
    bool socket_open = true;
    while (socket_open) {
        std::array<pollfd, 2> wait{pollfd{in_open ? 0 : -1, POLLIN, 0},
                                   pollfd{socket.get(), POLLIN, 0}};
        if (::poll(wait.data(), wait.size(), -1) < 0) continue;
        if (wait[1].revents != 0) Pump(socket.get(), 1, socket_open);
        if (wait[0].revents != 0) {
            Pump(0, socket.get(), in_open);
            if (!in_open) (void)::shutdown(socket.get(), SHUT_WR);
        }
    }
    return 0;
}

// Before main: gtest never sees these.
__attribute__((constructor)) void RunAsHelper(int argc, char** argv, char**) {
    if (argc < 2) return;
    if (std::strcmp(argv[1], "local-helper") == 0) ::_exit(LocalHelperMain(argc, argv));
    if (argc == 3 && std::strcmp(argv[1], "local-connect") == 0) ::_exit(ConnectAndJoin(argv[2]));
}

std::vector<char*> Pointers(std::vector<std::string>& words) {
    std::vector<char*> pointers;
    for (std::string& word : words)
        pointers.push_back(word.data());
    pointers.push_back(nullptr);
    return pointers;
}

std::string Slurp(int fd) {
    std::string text;
    std::array<char, 65536> chunk{};
    for (ssize_t got = 0;
         (got = ::pread(fd, chunk.data(), chunk.size(), static_cast<off_t>(text.size()))) > 0;) {
        text.append(chunk.data(), static_cast<std::size_t>(got));
    }
    return text;
}

UniqueFd TemporaryFile(const std::string& bytes = "") {
    UniqueFd file(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    CHECK(static_cast<bool>(file));
    CHECK(WriteAll(file.get(), bytes).has_value());
    CHECK(::lseek(file.get(), 0, SEEK_SET) == 0);
    return file;
}

pid_t Spawn(std::vector<std::string> argv, int in, int out, int err, short flags) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    CHECK(::posix_spawn_file_actions_init(&actions) == 0);
    CHECK(::posix_spawnattr_init(&attributes) == 0);
    CHECK(::posix_spawn_file_actions_adddup2(&actions, in, 0) == 0);
    CHECK(::posix_spawn_file_actions_adddup2(&actions, out, 1) == 0);
    CHECK(::posix_spawn_file_actions_adddup2(&actions, err, 2) == 0);
    CHECK(::posix_spawnattr_setflags(&attributes, flags) == 0);
    const std::vector<char*> pointers = Pointers(argv);
    pid_t pid = -1;
    const int failed =
        ::posix_spawnp(&pid, pointers[0], &actions, &attributes, pointers.data(), environ);
    (void)::posix_spawn_file_actions_destroy(&actions);
    (void)::posix_spawnattr_destroy(&attributes);
    return failed == 0 ? pid : -1;
}

// The other half of RanElsewhere: this program again, as a user with a name but no rights. The name exists in this
// child's mount namespace only.
[[noreturn]] void BecomeUserAndRun(const std::string& test) {
    const std::string passwd = "/tmp/sbxfs-passwd-" + std::to_string(::getpid());
    auto accounts = ReadWholeFile("/etc/passwd");
    if (!accounts) ::_exit(kCannotBecomeUser);
    *accounts += std::string(kTestUserName) + ":x:" + std::to_string(kTestUser) + ":" +
                 std::to_string(kTestUser) + "::/tmp:/bin/sh\n";
    const bool named = ReplaceFile(passwd, *accounts, 0644).has_value() &&
                       MakeMountsPrivate().has_value() &&
                       ::mount(passwd.c_str(), "/etc/passwd", nullptr, MS_BIND, nullptr) == 0;
    (void)::unlink(passwd.c_str());
    if (!named) ::_exit(kCannotBecomeUser);
    // The program may lie where the user cannot go: opened now, executed later.
    const int program = ::open("/proc/self/exe", O_RDONLY);
    if (::setgroups(0, nullptr) != 0 || ::setresgid(kTestUser, kTestUser, kTestUser) != 0 ||
        ::setresuid(kTestUser, kTestUser, kTestUser) != 0 || ::chdir("/tmp") != 0) {
        ::_exit(kCannotBecomeUser);
    }
    std::vector<std::string> words = {"sbxfs-tests", "--gtest_filter=" + test, "--gtest_brief=1"};
    const std::vector<char*> argv = Pointers(words);
    std::vector<std::string> variables = {"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
                                          "HOME=/tmp"};
    for (const char* name :
         {"ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS", "SBXFS_TEST_SCRATCH"}) {
        if (const char* value = ::getenv(name))
            variables.push_back(std::string(name) + "=" + value);
    }
    const std::vector<char*> environment = Pointers(variables);
    (void)::fexecve(program, argv.data(), environment.data());
    ::_exit(99);
}

}  // namespace

Output RunProgram(const std::vector<std::string>& argv, const std::string& input) {
    const UniqueFd in = TemporaryFile(input);
    const UniqueFd out = TemporaryFile();
    const UniqueFd err = TemporaryFile();
    const pid_t pid = Spawn(argv, in.get(), out.get(), err.get(), 0);
    Output output;
    int status = 0;
    if (pid > 0 && ::waitpid(pid, &status, 0) == pid) {
        output.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    output.out = Slurp(out.get());
    output.err = Slurp(err.get());
    return output;
}

std::string LocalWorld::WhySkipped() {
    const auto clock = &RealClock();
    auto loop = IoLoop::Start("check", *clock);
    LocalOptions options;
    options.state_dir = Scratch() + "/sbxfs-check-" + Hex(RandomBytes(4));
    const auto provider = LocalProvider::Open(**loop, options);
    const Status status = provider ? (*provider)->Check(Template()) : Status(provider.error());
    std::error_code ignored;
    std::filesystem::remove_all(options.state_dir, ignored);
    return status ? "" : status.error().what();
}

LocalWorld::LocalWorld(const std::string& below)
    : directory_(Scratch() + "/sbxfs-local-" + Hex(RandomBytes(6))),
      state_dir_(directory_ + below + "/state") {
    CHECK(MakeDirs(directory_, 0755).has_value());
    CHECK(MakeDirs(state_dir_, 0700).has_value());
    client_key_ = *GenerateSshKeyPair();
    host_key_ = *GenerateSshKeyPair();
    CHECK(ReplaceFile(directory_ + "/key", client_key_.private_pem.Reveal(), 0600).has_value());
    CHECK(ReplaceFile(directory_ + "/known_hosts", "box " + host_key_.public_line + "\n", 0600)
              .has_value());
    loop_ = *IoLoop::Start("local", RealClock());
    LocalOptions options;
    options.state_dir = state_dir_;
    options.forbidden = {directory_ + "/mount"};
    provider_ = *LocalProvider::Open(*loop_, std::move(options));
}

LocalWorld::~LocalWorld() {
    loop_->Stop();
    provider_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
}

Template LocalWorld::SomeTemplate() const {
    Template what;
    what.name = "default";
    what.max_lifetime_s = 300;  // what a killed test leaves behind ends itself
    return what;
}

LaunchSpec LocalWorld::Spec(const std::string& token, const Template& what) const {
    LaunchSpec spec;
    spec.token = token;
    spec.name = SandboxName{"box", ""};
    spec.generation = Generation{1};
    spec.what = what;
    spec.client_key = client_key_.public_line;
    spec.host_key = host_key_;
    return spec;
}

LaunchOrder LocalWorld::Order(const std::string& token) const {
    LaunchOrder order;
    order.token = token;
    order.state_dir = state_dir_;
    order.hostname = "box";
    order.workdir = "/workspace";
    order.client_key = client_key_.public_line;
    order.host_key = host_key_;
    order.lifetime_ms = 300'000;
    return order;
}

std::string LocalWorld::LeftOf(const std::string& token) const {
    const std::string box = BoxPath(token);
    std::string left;
    std::error_code ignored;
    if (std::filesystem::exists(std::filesystem::symlink_status(box, ignored)))
        left += "directory " + box + "; ";
    for (const MountPoint& point : MountPointsBelow(box))
        left += "mount " + point.path + "; ";
    for (const Hierarchy& hierarchy : FindHierarchies()) {
        for (const auto& entry : std::filesystem::directory_iterator(hierarchy.own, ignored)) {
            if (entry.path().filename() == "sbxfs-" + token)
                left += "control group " + entry.path().string() + "; ";
        }
    }
    for (const auto& process : std::filesystem::directory_iterator("/proc", ignored)) {
        const std::string name = process.path().filename().string();
        if (!ParseNumber<pid_t>(name) || name == std::to_string(::getpid())) continue;
        for (const auto& fd : std::filesystem::directory_iterator(process.path() / "fd", ignored)) {
            const auto target = std::filesystem::read_symlink(fd.path(), ignored).string();
            if (!target.starts_with(box + "/")) continue;
            left += "process " + name + " with " + target + "; ";
        }
    }
    return left;
}

std::vector<std::string> LocalWorld::SshArgv(const Launched& box,
                                             const std::string& program) const {
    const auto* address = std::get_if<UnixAddress>(&box.connect.address);
    CHECK(address != nullptr);
    std::vector<std::string> argv = {program};
    for (const std::string& option :
         {"IdentityFile=" + directory_ + "/key", std::string("IdentitiesOnly=yes"),
          "UserKnownHostsFile=" + directory_ + "/known_hosts",
          std::string("GlobalKnownHostsFile=/dev/null"), std::string("HostKeyAlias=box"),
          std::string("StrictHostKeyChecking=yes"), std::string("BatchMode=yes"),
          std::string("ConnectTimeout=20"),
          "ProxyCommand=" + OwnProgram() + " local-connect " + address->path,
          "User=" + box.connect.user}) {
        argv.push_back("-o");
        argv.push_back(option);
    }
    argv.insert(argv.end(), {"-F", "none"});
    return argv;
}

Output LocalWorld::Ssh(const Launched& box, const std::string& command,
                       const std::string& input) const {
    std::vector<std::string> argv = SshArgv(box, "ssh");
    argv.insert(argv.end(), {"box", command});
    return RunProgram(argv, input);
}

Output LocalWorld::Sftp(const Launched& box, const std::string& batch) const {
    std::vector<std::string> argv = SshArgv(box, "sftp");
    argv.insert(argv.end(), {"-b", "-", "box"});
    return RunProgram(argv, batch);
}

pid_t StartHelper(const std::string& mode, const std::string& order) {
    const UniqueFd in = TemporaryFile(order);
    const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    return Spawn({"/proc/self/exe", "local-helper", mode}, in.get(), null.get(), null.get(),
                 POSIX_SPAWN_SETSID);
}

pid_t StartProgram(const std::vector<std::string>& argv) {
    const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    return Spawn(argv, null.get(), null.get(), null.get(), 0);
}

std::string WhoName(Who who) {
    return who == Who::kRoot ? "AsRoot" : "AsUser";
}

bool RanElsewhere(Who who) {
    const bool root = ::geteuid() == 0;
    if (who == Who::kUser && root) {
        const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
        RunAsUser(std::string(info->test_suite_name()) + "." + info->name());
        return true;
    }
    const std::string why = who == Who::kRoot && !root ? "needs root" : LocalWorld::WhySkipped();
    if (why.empty()) return false;
    [&] { GTEST_SKIP() << why; }();
    return true;
}

void RunAsUser(const std::string& filter) {
    const UniqueFd out = TemporaryFile();
    const pid_t child = ::fork();
    if (child == 0) {
        (void)::dup2(out.get(), 1);
        (void)::dup2(out.get(), 2);
        BecomeUserAndRun(filter);
    }
    int status = 0;
    (void)::waitpid(child, &status, 0);
    const std::string text = Slurp(out.get());
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    if (code == kCannotBecomeUser) GTEST_SKIP() << "cannot become another user here";
    EXPECT_EQ(code, 0) << "as another user:\n" << text;
    for (const std::string& line : Split(text, '\n')) {
        if (line.find(" ms") != std::string::npos && line.front() != '[') std::cerr << line << "\n";
    }
    if (text.find("SKIPPED") != std::string::npos) GTEST_SKIP() << "as another user: " << text;
}

bool Eventually(const std::function<bool()>& holds) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!holds()) {
        if (std::chrono::steady_clock::now() > deadline) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return true;
}

}  // namespace sbxfs::testing
