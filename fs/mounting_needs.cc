#include "fs/mounting_needs.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <string>

#include "base/unique_fd.h"

namespace sbxfs {

Status CheckFuseDevice() {
    const UniqueFd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
    if (device) return Ok();
    const Errno code{errno};
    if (code == Errno{ENOENT}) {
        return Error(Errno{ENODEV},
                     "there is no /dev/fuse: load the module (modprobe fuse), or give the "
                     "container access to the device");
    }
    if (code == Errno{EACCES}) {
        return Error(code,
                     "/dev/fuse cannot be opened by this user: it should have mode 0666 (chmod 666 "
                     "/dev/fuse, as root)");
    }
    return Error(code, "/dev/fuse cannot be opened (" + std::string(ErrnoText(code)) +
                           "): give the container access to the device");
}

Status CheckFuseHelper() {
    if (::geteuid() == 0 || ::access("/usr/bin/fusermount3", X_OK) == 0 ||
        ::access("/bin/fusermount3", X_OK) == 0)
        return Ok();
    return Error(
        Errno{ENOENT},
        "fusermount3 is missing, which ordinary users need to mount: apt install fuse3");
}

}  // namespace sbxfs
