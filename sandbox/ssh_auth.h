// A login that may wait: for a disk, an agent, a person who touches a security key. libssh's calls
// for that block, so it runs on a thread of its own, which has the session to itself until it has
// told the loop how it went. Used by SshLink for identity files and agents; the sandbox's own key,
// which is in memory, needs no thread.
//
// The thread holds the session, so destroying the login (or the whole link) never waits for it.
// Loop thread only.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "base/unique_function.h"
#include "sandbox/io_loop.h"
#include "sandbox/provider.h"

struct ssh_session_struct;  // libssh's

namespace sbxfs {

class SshAuth {
 public:
    using AuthDone = UniqueFunction<void(Status)>;

    // Nobody touches `session` until `done`, which runs once, never from within Start. EACCES with
    // what was tried and a remedy; EHOSTUNREACH when the link broke meanwhile.
    static Result<std::unique_ptr<SshAuth>> Start(IoLoop& loop,
                                                  std::shared_ptr<ssh_session_struct> session,
                                                  std::string user, std::vector<ClientAuth> ways,
                                                  AuthDone done);

 private:
    struct Outcome;
    SshAuth(IoLoop& loop, std::shared_ptr<Outcome> outcome, UniqueFd told, AuthDone done);
    void Told();

    std::shared_ptr<Outcome> outcome_;
    UniqueFd told_;
    AuthDone done_;
    IoLoop::WatchPtr watch_;
};

// Whether a private key can be used without asking anybody: EACCES when it is encrypted, open to
// others or no key, with the remedy. Blocks on the disk.
Status CheckIdentityFile(const std::string& path);

}  // namespace sbxfs
