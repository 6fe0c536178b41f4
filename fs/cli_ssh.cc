#include "fs/cli_ssh.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>

#include "base/files.h"
#include "base/result.h"
#include "base/strings.h"
#include "fs/mounts.h"
#include "fs/ssh_dir.h"
#include "sandbox/dialer.h"

namespace sbxfs {
namespace {

int GiveUp(const std::string& what) {
    (void)std::fprintf(stderr, "sbxfs: %s\n", what.c_str());
    return kSshFailed;
}

// Waits until the sandbox can be reached; a Ctrl-C ends that like everything.
Status AwaitReady(const std::string& directory, const std::string& box) {
    const Result<std::string> status = ReadWholeFile(directory + "/status", 64);
    if (!status) {
        return Error(Errno{ENOENT},
                     "no sandbox '" + box + "' in " + directory.substr(0, directory.rfind('/')));
    }
    if (*status != "launching\n") return Ok();
    const Result<std::string> ready = ReadWholeFile(directory + "/ready");
    if (!ready) return ready.error();
    if (*ready == "ready\n") return Ok();
    return Error(Errno{EHOSTDOWN}, box + ": " + std::string(Trim(*ready)));
}

// ssh(1) runs what its configuration says (ProxyCommand): one that another user wrote is not followed.
Status MayFollow(const std::string& mountpoint) {
    const SbxfsMount mount = TRY(FindMount(mountpoint));
    if (IsTrusted(mount)) return Ok();
    return Error(Errno{EPERM}, mount.path + " is of user " + std::to_string(mount.user) +
                                   ", and ssh would run what its configuration says: ask them for "
                                   "a login of your own");
}

}  // namespace

int SshCommand(const SshRequest& request) {
    const Result<std::string> mount = ChooseMount(request.mountpoint, "ssh", request.box);
    if (!mount) return GiveUp(mount.error().what());
    if (const Status may = MayFollow(*mount); !may) return GiveUp(may.error().what());
    const std::string directory = *mount + "/" + request.box;
    if (const Status ready = AwaitReady(directory, request.box); !ready)
        return GiveUp(ready.error().what());
    std::vector<std::string> words = {"ssh", "-F", directory + "/ssh/config", "--",
                                      SshAlias(request.box)};
    // As ssh itself does: the words are joined, and the sandbox's shell reads them.
    words.insert(words.end(), request.command.begin(), request.command.end());
    std::vector<char*> argv;
    for (std::string& word : words)
        argv.push_back(word.data());
    argv.push_back(nullptr);
    ::execvp("ssh", argv.data());
    return GiveUp("ssh: " + std::string(ErrnoText(Errno{errno})) + ": apt install openssh-client");
}

int ConnectSocketCommand(const std::string& path) {
    const Result<UniqueFd> socket = ConnectUnix(path);
    if (!socket) return GiveUp(socket.error().what());
    char byte = 0;
    iovec part{&byte, 1};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    const int fd = socket->get();
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
    while (::sendmsg(STDOUT_FILENO, &message, 0) < 0) {
        if (errno != EINTR)
            return GiveUp("connect-socket is for ssh's ProxyCommand with ProxyUseFdpass: " +
                          std::string(ErrnoText(Errno{errno})));
    }
    return 0;
}

}  // namespace sbxfs
