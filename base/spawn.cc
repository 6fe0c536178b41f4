#include "base/spawn.h"

#include <signal.h>
#include <spawn.h>
#include <unistd.h>

#include "base/check.h"

namespace sbxfs {
namespace {

struct Actions {
    Actions() { CHECK(::posix_spawn_file_actions_init(&value) == 0); }
    Actions(const Actions&) = delete;
    Actions& operator=(const Actions&) = delete;
    ~Actions() { (void)::posix_spawn_file_actions_destroy(&value); }
    posix_spawn_file_actions_t value{};
};

struct Attributes {
    Attributes() { CHECK(::posix_spawnattr_init(&value) == 0); }
    Attributes(const Attributes&) = delete;
    Attributes& operator=(const Attributes&) = delete;
    ~Attributes() { (void)::posix_spawnattr_destroy(&value); }
    posix_spawnattr_t value{};
};

// As execve(2) wants them; they point into `words`.
std::vector<char*> Pointers(std::vector<std::string>& words) {
    std::vector<char*> pointers;
    pointers.reserve(words.size() + 1);
    for (std::string& word : words)
        pointers.push_back(word.data());
    pointers.push_back(nullptr);
    return pointers;
}

}  // namespace

Result<pid_t> Spawn(const SpawnRequest& request) {
    Actions actions;
    Attributes attributes;
    sigset_t all;
    sigset_t none;
    (void)::sigfillset(&all);
    (void)::sigemptyset(&none);
    int failed = ::posix_spawn_file_actions_adddup2(&actions.value, request.in, STDIN_FILENO);
    failed |= ::posix_spawn_file_actions_adddup2(&actions.value, request.out, STDOUT_FILENO);
    failed |= ::posix_spawn_file_actions_adddup2(&actions.value, request.err, STDERR_FILENO);
    // Close-on-exec should have left nothing; a library's descriptor without it must not reach a
    // sandbox.
    failed |= ::posix_spawn_file_actions_addclosefrom_np(&actions.value, 3);
    failed |= ::posix_spawnattr_setsigmask(&attributes.value, &none);
    failed |= ::posix_spawnattr_setsigdefault(&attributes.value, &all);
    failed |= ::posix_spawnattr_setflags(
        &attributes.value, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    CHECK(failed == 0);

    std::vector<std::string> words = request.argv;
    const std::vector<char*> argv = Pointers(words);
    std::vector<std::string> variables = request.environment.value_or(std::vector<std::string>());
    const std::vector<char*> environment = Pointers(variables);
    pid_t pid = 0;
    const int code =
        ::posix_spawnp(&pid, argv.front(), &actions.value, &attributes.value, argv.data(),
                       request.environment ? environment.data() : environ);
    if (code != 0) return SystemError(code, "starting " + words.front());
    return pid;
}

}  // namespace sbxfs
