#include "fs/mounting_needs.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <string>

#include "base/unique_fd.h"

namespace sbxfs {

Status CheckFuseDevice() {
    if (::access("/dev/fuse", F_OK) != 0) {
        return Error(Errno{ENODEV},
                     "there is no /dev/fuse: load the module (modprobe fuse), or give the "
                     "container access to the device");
    }
    if (::access("/dev/fuse", R_OK | W_OK) != 0) {
        return Error(Errno{EACCES},
                     "/dev/fuse cannot be opened by this user: it should have mode 0666 (chmod 666 "
                     "/dev/fuse, as root)");
    }
    const UniqueFd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
    if (!device) {
        return Error(Errno{errno},
                     "/dev/fuse cannot be opened (" + std::string(ErrnoText(Errno{errno})) +
                         "): give the container access to the device");
    }
    return Ok();
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
