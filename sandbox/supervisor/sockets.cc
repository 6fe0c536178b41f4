#include "sandbox/supervisor/sockets.h"

#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {
namespace {

// <sys/socket.h> belongs to libc; these are the kernel's own shapes and numbers, the same on both
// machines.
constexpr int kUnix = 1;
constexpr int kStream = 1;
constexpr int kSolSocket = 1;
constexpr int kPeerCred = 17;
constexpr int kScmRights = 1;
constexpr int kMsgCloseOnExec = 0x40000000;
constexpr int kMsgDontWait = 0x40;

struct Address {
    uint16_t family = kUnix;
    char path[108] = {};
};

struct Vector {
    void* base;
    size_t size;
};

struct Message {
    void* name;
    int name_size;
    Vector* vectors;
    size_t vector_count;
    void* control;
    size_t control_size;
    unsigned flags;
};

struct ControlHeader {
    size_t size;
    int level;
    int type;
};

long AddressOf(const char* name, Address* address) {
    const size_t length = Length(name);
    if (length >= sizeof address->path) return -ENAMETOOLONG;
    __builtin_memcpy(address->path, name, length);
    return static_cast<long>(sizeof address->family + length + 1);
}

}  // namespace

long ListenAt(const char* name) {
    Address address;
    const long size = AddressOf(name, &address);
    const long fd = sys::Call(__NR_socket, kUnix, kStream | O_CLOEXEC | O_NONBLOCK, 0);
    if (fd < 0) return fd;
    Fd socket(fd);
    sys::UnlinkAt(AT_FDCWD, name);
    long error = sys::Call(__NR_bind, fd, sys::AsLong(&address), size);
    if (error == 0) error = sys::Call(__NR_listen, fd, 16);
    return error < 0 ? error : socket.release();
}

long ConnectTo(const char* name) {
    Address address;
    const long size = AddressOf(name, &address);
    const long fd = sys::Call(__NR_socket, kUnix, kStream | O_CLOEXEC, 0);
    if (fd < 0) return fd;
    Fd socket(fd);
    const long error = sys::Call(__NR_connect, fd, sys::AsLong(&address), size);
    return error < 0 ? error : socket.release();
}

long AcceptFrom(int listener) {
    return sys::Call(__NR_accept4, listener, 0, 0, O_CLOEXEC | O_NONBLOCK);
}

bool PeerIsTrusted(int fd, uint32_t uid) {
    struct {
        int pid;
        uint32_t uid;
        uint32_t gid;
    } peer{};
    int size = sizeof peer;
    const long error = sys::Call(__NR_getsockopt, fd, kSolSocket, kPeerCred, sys::AsLong(&peer),
                                 sys::AsLong(&size));
    return error == 0 && (peer.uid == uid || peer.uid == 0);
}

long SendFds(int socket, const int* fds, int count) {
    char byte = 'A';
    Vector vector{&byte, 1};
    alignas(ControlHeader) char control[sizeof(ControlHeader) + 4 * sizeof(int)];
    auto* header = reinterpret_cast<ControlHeader*>(control);
    header->size = sizeof *header + static_cast<size_t>(count) * sizeof(int);
    header->level = kSolSocket;
    header->type = kScmRights;
    __builtin_memcpy(control + sizeof *header, fds, static_cast<size_t>(count) * sizeof(int));
    const size_t control_size = (header->size + 7) & ~size_t{7};
    const Message message{nullptr, 0, &vector, 1, control, control_size, 0};
    return sys::Call(__NR_sendmsg, socket, sys::AsLong(&message), 0);
}

long ReceiveTwoFds(int socket, Fd* first, Fd* second) {
    char byte = 0;
    Vector vector{&byte, 1};
    alignas(ControlHeader) char control[sizeof(ControlHeader) + 16 * sizeof(int)] = {};
    Message message{nullptr, 0, &vector, 1, control, sizeof control, 0};
    const long got =
        sys::Call(__NR_recvmsg, socket, sys::AsLong(&message), kMsgCloseOnExec | kMsgDontWait);
    if (got < 0) return got;
    const auto* header = reinterpret_cast<const ControlHeader*>(control);
    int fds[16] = {};
    size_t count = 0;
    if (message.control_size >= sizeof *header && header->type == kScmRights) {
        count = (header->size - sizeof *header) / sizeof(int);
        __builtin_memcpy(fds, control + sizeof *header, count * sizeof(int));
    }
    for (size_t i = 0; i < count; ++i) {
        Fd fd(fds[i]);
        if (i == 0) *first = std::move(fd);
        if (i == 1) *second = std::move(fd);
    }
    return got == 1 && byte == 'A' && count == 2 ? 0 : -EPROTO;
}

}  // namespace sbxfs::supervisor
