#include "fs/service_manager.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

namespace sbxfs {

ServiceManager::ServiceManager(std::string address) : address_(std::move(address)) {
    const bool known = address_.starts_with('/') || address_.starts_with('@');
    if (!known || address_.size() < 2 || address_.size() >= sizeof(sockaddr_un::sun_path)) return;
    socket_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

ServiceManager ServiceManager::FromEnvironment() {
    constexpr const char* kName = "NOTIFY_SOCKET";
    const char* value = ::getenv(kName);  // NOLINT(concurrency-mt-unsafe): before threads start
    std::string address = value == nullptr ? "" : value;
    (void)::unsetenv(kName);  // NOLINT(concurrency-mt-unsafe): before threads start
    return ServiceManager(std::move(address));
}

void ServiceManager::Tell(std::string_view assignments) const {
    if (!socket_) return;
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    std::memcpy(to.sun_path, address_.data(), address_.size());
    if (to.sun_path[0] == '@') to.sun_path[0] = '\0';
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size());
    (void)::sendto(socket_.get(), assignments.data(), assignments.size(), MSG_NOSIGNAL,
                   reinterpret_cast<const sockaddr*>(&to), size);
}

void ServiceManager::TellReloading() const {
    timespec now{};
    (void)::clock_gettime(CLOCK_MONOTONIC, &now);
    const std::int64_t usec = std::int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
    Tell("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(usec));
}

}  // namespace sbxfs
