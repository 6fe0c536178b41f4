// Local sandboxes for tests: a provider over a state directory of the test's own, OpenSSH's client to go in, and a
// look from outside at what is left. The test program is its own helper: started as `... local-helper launch` it is
// one, and as `... local-connect PATH` it joins its stdin and stdout to a Unix socket for ssh's ProxyCommand.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/unique_fd.h"
#include "sandbox/io_loop.h"
#include "sandbox/provider.h"
#include "sandbox/providers/local/launch_order.h"
#include "sandbox/providers/local/local_provider.h"
#include "sandbox/ssh_keys.h"

namespace sbxfs::testing {

struct Output {
    int exit_code = -1;
    std::string out;
    std::string err;
};
// Runs a program to its end.
Output RunProgram(const std::vector<std::string>& argv, const std::string& input = "");

class LocalWorld {
 public:
    static std::string WhySkipped();

    // `below`: more directories between the temporary one and the state directory.
    explicit LocalWorld(const std::string& below = "");
    ~LocalWorld();
    LocalWorld(const LocalWorld&) = delete;
    LocalWorld& operator=(const LocalWorld&) = delete;

    IoLoop& loop() { return *loop_; }
    Provider& provider() { return *provider_; }
    Template SomeTemplate() const;
    LaunchSpec Spec(const std::string& token) const { return Spec(token, SomeTemplate()); }
    LaunchSpec Spec(const std::string& token, const Template& what) const;
    // What the provider would tell its helper.
    LaunchOrder Order(const std::string& token) const;
    std::string LeftOf(const std::string& token) const;

    // A shell command in the sandbox, through ssh with the host key pinned.
    Output Ssh(const Launched& box, const std::string& command,
               const std::string& input = "") const;
    Output Sftp(const Launched& box, const std::string& batch) const;
    std::vector<std::string> SshArgv(const Launched& box, const std::string& program) const;

    const std::string& directory() const {
        return directory_;
    }  // outside the state directory, for the test's files
    const std::string& state_dir() const { return state_dir_; }
    std::string BoxPath(const std::string& token) const { return state_dir_ + "/boxes/" + token; }

 private:
    std::string directory_;
    std::string state_dir_;
    SshKeyPair client_key_;
    SshKeyPair host_key_;
    std::unique_ptr<IoLoop> loop_;
    std::unique_ptr<LocalProvider> provider_;
};

// Starts this program as a helper, in a session of its own, with `order` on stdin and nobody reading its stdout.
pid_t StartHelper(const std::string& mode, const std::string& order);

// Starts a program, its output thrown away.
pid_t StartProgram(const std::vector<std::string>& argv);

// Every test of local sandboxes runs twice: as root, and as a user without rights. In a test program that root
// runs, the second is this program again under another uid, with the one test.
enum class Who { kRoot, kUser };
std::string WhoName(Who who);
// True when the test is over for this process (run elsewhere, or skipped with a reason).
bool RanElsewhere(Who who);
// Runs the tests that `filter` selects as a user without rights and fails with their output.
void RunAsUser(const std::string& filter);

// Polls until `holds`; false after 20 s.
bool Eventually(const std::function<bool()>& holds);

}  // namespace sbxfs::testing
