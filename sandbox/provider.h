// What makes, finds and destroys sandboxes: one class per backend (sandbox/providers/), none
// includes another. The contract every provider keeps is tested once, on all of them
// (tests/contract/provider_contract.h).
//
// Callbacks run once each, on the loop the provider was given, never from within the call. A
// provider may be asked about a sandbox it has never heard of, or twice: every call is safe to
// repeat after a crash of the daemon, because `token` (one per generation) names the sandbox before
// it exists.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/json.h"
#include "base/loop.h"
#include "base/result.h"
#include "base/secret.h"
#include "base/unique_fd.h"
#include "base/unique_function.h"
#include "sandbox/names.h"
#include "sandbox/supervisor_port.h"
#include "sandbox/template.h"

namespace sbxfs {

class Snapshotter;

// An ed25519 pair. `public_line` is "ssh-ed25519 AAAA..." without a comment; `private_pem` is
// OpenSSH's format.
struct SshKeyPair {
    std::string public_line;
    Secret private_pem;
};

struct LaunchSpec {
    std::string token;  // unique per mount and generation, [a-z0-9-], at most 64 characters;
                        // repeats are harmless
    SandboxName name;
    Generation generation{};
    std::int64_t created_ms =
        0;  // of the mkdir: what is counted from it is the same at every repeat
    Template what;
    std::string client_key;  // public line to be let in
    SshKeyPair
        host_key;  // the sandbox's own, where the backend can install one; pinned in ConnectInfo
};

// Where sshd answers.
struct TcpAddress {
    std::string host;  // a numeric address or a name; names are resolved off the I/O threads
    std::uint16_t port = 22;
};
struct UnixAddress {
    std::string path;  // of any length; connected through its directory
};
// A program whose stdin and stdout are the connection, as OpenSSH's ProxyCommand. Started anew for
// each link, ended with it.
struct ProgramAddress {
    std::vector<std::string> argv;
    std::string shown;  // where it leads, for people: "192.0.2.7:22 via gate"
};
using Address = std::variant<TcpAddress, UnixAddress, ProgramAddress>;
// For people: "192.0.2.7:22", "unix:/path", or what a program says of itself.
std::string AddressText(const Address& address);

// What the daemon proves itself with when it logs in. None of these is a secret.
struct IdentityFile {
    std::string path;  // a private key on this machine, read at each login
};
struct Agent {
    std::string socket;  // empty: the daemon's SSH_AUTH_SOCK
};
using ClientAuth = std::variant<IdentityFile, Agent>;

// All that is needed to reach a launched sandbox, now and after a restart of the daemon.
struct ConnectInfo {
    Address address;
    std::string user;
    std::string
        host_key;  // the pinned public line; a server that shows another one is not spoken to
    std::vector<std::string>
        other_host_keys;           // more of the same server, of other types: any of them will do
    std::vector<ClientAuth> auth;  // tried in order; empty: the sandbox's own client key
    std::string spool_dir;         // where the supervisor lives, 0700; empty: ~/.sbxfs
    // Where others share the host key, the sandbox must show a text that only it was given: the file
    // it is in (the first that is there), and its SHA-256 in hex. Empty: the host key is the
    // sandbox's own.
    std::vector<std::string> proof_files;
    std::string proof_sha256;

    Json ToJson() const;
    static Result<ConnectInfo> FromJson(const Json& json);
};

struct Launched {
    std::string id;  // the provider's own name for it (task ARN, instance id); may be the token
    ConnectInfo connect;
    Json facts;  // an object merged into info.json: address, image, limits that could not be set
                 // and why
};

enum class Liveness {
    kAlive,
    kEnded,     // it is gone; `why` says what is known
    kExpired,   // its own timer ended it
    kVanished,  // nothing is known of it: whether and how it ended nobody can tell
    kUnknown,   // cannot tell now (API down); ask again
};
struct Health {
    Liveness liveness = Liveness::kUnknown;
    std::string why;  // a sentence with a remedy
};

// What runs, costs, and belongs to this mount without being in its journal: the state directory was restored from an
// older copy, or copied. It is shown, and left alone.
struct Stranger {
    std::string id;              // the provider's own name for it
    std::string name;            // of its sandbox, as far as it says
    std::string since;           // RFC 3339; empty: not known
    std::string remove_command;  // what a user runs to end it
};

using LaunchDone = UniqueFunction<void(Result<Launched>)>;
using LaunchPhase =
    UniqueFunction<void(std::string_view phase)>;  // named points on the way, for info.json
using HealthDone = UniqueFunction<void(Health)>;

class Provider {
 public:
    Provider() = default;
    Provider(const Provider&) = delete;
    Provider& operator=(const Provider&) = delete;
    virtual ~Provider() = default;

    // What can be told at once, before anything is journaled: EINVAL, EKEYEXPIRED, EOPNOTSUPP with
    // a remedy.
    virtual Status Check(const Template& what) = 0;
    // Starts it, or finds what an earlier call with this token started. Done when ConnectInfo is
    // known; sshd may still be starting. ETIME: it was started before, and its own timer has ended it.
    virtual void Launch(const LaunchSpec& spec, LaunchPhase phase, LaunchDone done) = 0;
    // Is it still there, and if not, why. `id` may be empty when Launch never answered.
    virtual void Probe(const std::string& token, const std::string& id, HealthDone done) = 0;
    // Ends everything that runs there; its files stay. Done when the provider confirms; idempotent. Asked, as
    // Start is, only where Verbs() says so, and only of what was launched.
    virtual void Stop(const std::string& token, const std::string& id, Done done);
    // A stopped one again, with its files, or what an earlier call started. `spec` is that of the launch, but for
    // max_lifetime_s, which is what is left of it. A failure leaves it stopped.
    virtual void Start(const LaunchSpec& spec, LaunchPhase phase, LaunchDone done);
    // Ends it and frees everything it used. Done when the provider confirms; idempotent; also
    // cancels a Launch or a Start.
    virtual void Destroy(const std::string& token, const std::string& id, Done done) = 0;
    // The verbs of `ctl` beyond the common ones: stop, start.
    virtual std::vector<std::string> Verbs() const = 0;
    // Whether a sandbox of this kind costs money while it lives (list --paid).
    virtual bool Paid() const = 0;
    // As of the last look, which is some minutes old at most. Any thread.
    virtual std::vector<Stranger> Strangers() const { return {}; }
    // Where it can keep copies of sandboxes' files: with `snapshot` among its verbs.
    virtual Snapshotter* snapshotter() { return nullptr; }
    // False: sandboxes live on a machine that was there before and stays. Destroy() then only
    // forgets; before it, the sandbox ends its supervisor and clears its spool over a link
    // (departure.h), which Destroy() could not do. A refused login of one that was never ready is
    // final, since nothing there is still starting, and its workdir must exist.
    virtual bool OwnsMachine() const { return true; }
    // What the supervisor does when the sandbox's time is up.
    virtual ExpiryAction OnExpiry() const { return ExpiryAction::kEndSandbox; }
};

}  // namespace sbxfs
