// A real sshd of the test's own: keys and configuration in a temporary directory, one `sshd -i` per
// connection on a socketpair, no port. For tests of everything that speaks SSH.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace sbxfs::testing {

class PrivateSshd {
 public:
    // Aborts with a reason when sshd is missing or the directory cannot be made.
    PrivateSshd();
    // Kills what is left of it and removes the directory.
    ~PrivateSshd();
    PrivateSshd(const PrivateSshd&) = delete;
    PrivateSshd& operator=(const PrivateSshd&) = delete;

    // A new connection, non-blocking. `extra` are more sshd_config lines ("Ciphers ...").
    UniqueFd Connect(const std::string& extra = "");
    // The sshd process of the newest connection.
    pid_t newest() const { return children_.back(); }
    void KillNewest();

    const std::string& directory() const { return directory_; }
    const std::string& user() const { return user_; }
    const std::string& host_key() const { return host_key_; }              // public line
    const std::string& client_private() const { return client_private_; }  // OpenSSH's format

 private:
    std::string directory_;
    std::string user_;
    std::string host_key_;
    std::string client_private_;
    std::vector<pid_t> children_;
    int configs_ = 0;
};

}  // namespace sbxfs::testing
