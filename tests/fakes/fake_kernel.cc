#include "tests/fakes/fake_kernel.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <utility>

#include "base/check.h"
#include "fs/file_system.h"
#include "fs/fuse_channel.h"
#include "fs/fuse_ops.h"

namespace sbxfs::testing {
namespace {

constexpr std::chrono::seconds kPatience{30};

void SetBuffers(int fd) {
    const int size = 4 << 20;  // a WRITE of 1 MiB is one packet
    (void)::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    (void)::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

}  // namespace

FakeKernel::FakeKernel(FileSystem& fs, std::function<void()> idle)
    : idle_(std::move(idle)), pid_(static_cast<std::uint32_t>(::getpid())) {
    (void)::signal(SIGPIPE, SIG_IGN);  // answers after Close()
    std::array<int, 2> ends{};
    CHECK(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0);
    end_.reset(ends[1]);
    for (const int end : ends)
        SetBuffers(end);
    fuse_args args = FUSE_ARGS_INIT(0, nullptr);
    CHECK(fuse_opt_add_arg(&args, "sbxfs") == 0);
    session_ = fuse_session_new(&args, &FuseOps(), sizeof(fuse_lowlevel_ops), &fs);
    fuse_opt_free_args(&args);
    CHECK(session_ != nullptr);
    const fuse_custom_io io = FuseChannel();
    CHECK(fuse_session_custom_io(session_, &io, ends[0]) == 0);
    loop_ = std::thread([this] {
        fuse_loop_config* config = fuse_loop_cfg_create();
        fuse_loop_cfg_set_max_threads(config, 4);
        fuse_loop_cfg_set_clone_fd(config, 0);
        result_ = fuse_session_loop_mt(session_, config);
        fuse_loop_cfg_destroy(config);
    });
}

FakeKernel::~FakeKernel() {
    if (loop_.joinable()) (void)Close();
    fuse_session_destroy(session_);
}

int FakeKernel::Close() {
    end_.reset();
    loop_.join();
    return result_;
}

fuse_init_out FakeKernel::Init(std::uint32_t flags, std::uint32_t minor) {
    fuse_init_in init{};
    init.major = FUSE_KERNEL_VERSION;
    init.minor = minor;
    init.max_readahead = 128 << 10;
    init.flags = flags;
    const Answer answer = Ask(FUSE_INIT, 0, Pack(init));
    CHECK(answer.error == 0);
    return answer.As<fuse_init_out>();
}

std::uint64_t FakeKernel::Send(std::uint32_t opcode, std::uint64_t node, std::string_view body) {
    fuse_in_header header{};
    header.len = static_cast<std::uint32_t>(sizeof header + body.size());
    header.opcode = opcode;
    header.unique = next_;
    next_ += 2;  // the kernel's are even; odd ones mark interrupts
    header.nodeid = node;
    header.uid = 1000;
    header.gid = 1001;
    header.pid = pid_;
    if (opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET) asked_.emplace(header.unique, false);
    SendRaw(Pack(header) + std::string(body));
    return header.unique;
}

void FakeKernel::SendRaw(std::string_view packet) {
    CHECK(::send(end_.get(), packet.data(), packet.size(), MSG_NOSIGNAL) ==
          static_cast<ssize_t>(packet.size()));
}

bool FakeKernel::Receive(int wait_ms) {
    pollfd wait{end_.get(), POLLIN, 0};
    if (::poll(&wait, 1, wait_ms) <= 0) return false;
    std::string packet((1U << 20) + 4096, '\0');
    const ssize_t got = ::recv(end_.get(), packet.data(), packet.size(), MSG_DONTWAIT);
    if (got <= 0) return false;
    packet.resize(static_cast<std::size_t>(got));
    Answer answer;
    fuse_out_header header{};
    CHECK(packet.size() >= sizeof header);
    packet.copy(reinterpret_cast<char*>(&header), sizeof header);
    CHECK(header.len == packet.size());
    answer.unique = header.unique;
    answer.error = -header.error;
    answer.body = packet.substr(sizeof header);
    if ((header.unique & 1) != 0)
        return true;  // an interrupt that came too late is said to be repeated
    if (header.unique == 0) {
        notifications_.push_back({header.error, packet.substr(sizeof header)});
        return true;
    }
    const auto asked = asked_.find(header.unique);
    if (asked == asked_.end() || asked->second) {
        ++surplus_;
    } else {
        asked->second = true;
        answers_.emplace(header.unique, std::move(answer));
    }
    return true;
}

std::optional<FakeKernel::Answer> FakeKernel::Look(std::uint64_t unique) {
    if (idle_) idle_();
    while (Receive(0)) {
    }
    const auto it = answers_.find(unique);
    if (it == answers_.end()) return std::nullopt;
    Answer answer = std::move(it->second);
    answers_.erase(it);
    return answer;
}

FakeKernel::Answer FakeKernel::Await(std::uint64_t unique) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    for (;;) {
        if (auto answer = Look(unique)) return *std::move(answer);
        CHECK(std::chrono::steady_clock::now() < deadline);  // never answered
        (void)Receive(2);
    }
}

FakeKernel::Answer FakeKernel::AwaitAny() {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (answers_.empty()) {
        CHECK(std::chrono::steady_clock::now() < deadline);  // nothing is answered
        if (idle_) idle_();
        (void)Receive(2);
    }
    return std::move(answers_.extract(answers_.begin()).mapped());
}

void FakeKernel::Interrupt(std::uint64_t unique) {
    fuse_in_header header{};
    header.len = sizeof header + sizeof(fuse_interrupt_in);
    header.opcode = FUSE_INTERRUPT;
    header.unique = unique | 1;
    SendRaw(Pack(header) + Pack(fuse_interrupt_in{unique}));
}

void FakeKernel::Forget(std::uint64_t node, std::uint64_t count) {
    (void)Send(FUSE_FORGET, node, Pack(fuse_forget_in{count}));
}

FakeKernel::Notification FakeKernel::AwaitNotification() {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (notifications_.empty()) {
        CHECK(std::chrono::steady_clock::now() < deadline);  // nothing is told
        if (idle_) idle_();
        (void)Receive(2);
    }
    Notification first = std::move(notifications_.front());
    notifications_.erase(notifications_.begin());
    return first;
}

std::size_t FakeKernel::Unclaimed() {
    while (Receive(0)) {
    }
    return answers_.size();
}

}  // namespace sbxfs::testing
