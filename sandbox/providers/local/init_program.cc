#include "sandbox/providers/local/init_program.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <string_view>

#include "base/files.h"
#include "sandbox/supervisor/image.h"

namespace sbxfs {
namespace {

Result<const SupervisorImage*> ImageForThisMachine() {
    utsname machine{};
    (void)::uname(&machine);
    for (const SupervisorImage& image : SupervisorImages()) {
        if (image.machine == std::string_view(machine.machine)) return &image;
    }
    return Error(Errno{EOPNOTSUPP},
                 std::string("local sandboxes run on x86_64 and aarch64, not on ") +
                     static_cast<const char*>(machine.machine));
}

}  // namespace

Result<std::string> InstallInitProgram(const std::string& state_dir) {
    const SupervisorImage* image = TRY(ImageForThisMachine());
    std::string path = state_dir + "/local-init-" + std::string(image->hash.substr(0, 16));
    struct stat found {};
    if (::stat(path.c_str(), &found) == 0 &&
        found.st_size == static_cast<off_t>(image->bytes.size()))
        return path;
    // Not readable for whoever runs it: that makes the process one its sandbox's root cannot trace
    // or look into (ptrace(2), PR_SET_DUMPABLE), so the lifetime it keeps cannot be talked away.
    (void)TRY(ReplaceFile(path, image->bytes, 0111));
    return path;
}

Status CheckMachine() {
    (void)TRY(ImageForThisMachine());
    return Ok();
}

}  // namespace sbxfs
