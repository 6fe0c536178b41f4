#include "sandbox/supervisor/main.h"

#include <linux/prctl.h>

#include "sandbox/supervisor/attach.h"
#include "sandbox/supervisor/build.h"
#include "sandbox/supervisor/files.h"
#include "sandbox/supervisor/init.h"
#include "sandbox/supervisor/protocol.h"
#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {
namespace {

int Usage() {
    WriteAll(2,
             "usage: sbxfs-supervisor attach --spool DIR [--kill-grace-ms N]\n"
             "       sbxfs-supervisor init --listen-fd N --go-fd N --note-fd N [--lock-fd N]\n"
             "                             --lifetime-ms N -- PROGRAM [ARGUMENT...]\n"
             "       sbxfs-supervisor version\n");
    return 2;
}

bool ParseFd(View text, int* fd) {
    uint64_t number = 0;
    if (!ParseNumber(text, &number) || number > 1000000) return false;
    *fd = static_cast<int>(number);
    return true;
}

int RunAttach(char** arguments, char** environment) {
    View spool;
    int grace_ms = 10000;
    for (; arguments[0] != nullptr; arguments += 2) {
        const View name(static_cast<const char*>(arguments[0]));
        if (arguments[1] == nullptr) return Usage();
        const View value(static_cast<const char*>(arguments[1]));
        if (name == "--spool") {
            spool = value;
        } else if (!(name == "--kill-grace-ms") || !ParseFd(value, &grace_ms)) {
            return Usage();
        }
    }
    if (spool.empty()) return Usage();
    return Attach(spool, grace_ms, environment);
}

int RunInit(char** arguments, char** environment) {
    InitOptions options;
    options.environment = environment;
    for (; arguments[0] != nullptr; arguments += 2) {
        const View name(static_cast<const char*>(arguments[0]));
        if (name == "--") {
            options.program = arguments + 1;
            break;
        }
        if (arguments[1] == nullptr) return Usage();
        const View value(static_cast<const char*>(arguments[1]));
        bool good = false;
        if (name == "--listen-fd") good = ParseFd(value, &options.listen_fd);
        if (name == "--go-fd") good = ParseFd(value, &options.go_fd);
        if (name == "--note-fd") good = ParseFd(value, &options.note_fd);
        if (name == "--lock-fd") good = ParseFd(value, &options.lock_fd);
        if (name == "--lifetime-ms") good = ParseNumber(value, &options.lifetime_ms);
        if (!good) return Usage();
    }
    constexpr uint64_t kLongest = uint64_t{1} << 48;
    if (options.lifetime_ms > kLongest) options.lifetime_ms = kLongest;
    if (options.listen_fd < 0 || options.program == nullptr || options.program[0] == nullptr) {
        return Usage();
    }
    return Init(options);
}

}  // namespace

int Main(int argc, char** argv, char** envp) {
    // process.cc knows our sessions by this name, whatever the file is called.
    sys::Prctl(PR_SET_NAME, reinterpret_cast<unsigned long>("sbxfs-supervisor"));
    if (argc < 2) return Usage();
    const View mode(static_cast<const char*>(argv[1]));
    if (mode == "attach") return RunAttach(argv + 2, envp);
    if (mode == "init") return RunInit(argv + 2, envp);
    if (mode == "version") {
        Str line;
        line.append("sbxfs-supervisor protocol ").Number(kProtocol).append(" build ");
        line.append(View(static_cast<const char*>(kBuild))).append(" ");
        line.append(View(static_cast<const char*>(sys::kMachine))).append("\n");
        WriteAll(1, line.view());
        return 0;
    }
    return Usage();
}

}  // namespace sbxfs::supervisor
