#include "sandbox/providers/ssh/ssh_provider.h"

#include <errno.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/files.h"
#include "base/strings.h"
#include "sandbox/providers/ssh/known_hosts.h"
#include "sandbox/providers/ssh/proxy_jump.h"
#include "sandbox/spool_place.h"
#include "sandbox/ssh_auth.h"

namespace sbxfs {
namespace {

constexpr std::size_t kRememberedTokens = 4096;

Status CheckToken(const std::string& token) {
    const bool plain =
        !token.empty() && token.size() <= 64 && std::all_of(token.begin(), token.end(), [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
        });
    if (plain) return Ok();
    return Error(Errno{EINVAL}, "'" + Printable(token, 64) + "' is not a token", Blame::kBug);
}

Result<Launched> ReadRecord(const std::string& path) {
    const std::string text = TRY(ReadWholeFile(path, 1U << 20));
    const auto json = Json::Parse(text);
    const auto connect = json ? json->Find("connect") : std::nullopt;
    if (!connect) return Error(Errno{EIO}, path + " is damaged; remove it", Blame::kBug);
    Launched launched;
    launched.id = json->GetString("id").value_or("");
    launched.connect = TRY(ConnectInfo::FromJson(*connect));
    launched.facts = json->Find("facts").value_or(Json::Object());
    return launched;
}

Result<std::vector<std::string>> PinnedKeys(const SshSettings& settings) {
    if (!settings.host_keys.empty()) return settings.host_keys;
    KnownHost known;
    for (const std::string& file : settings.known_hosts_files) {
        const Result<std::string> text = ReadWholeFile(file, 64U << 20);
        if (text) {
            ReadKnownHosts(*text, settings.address.host, settings.address.port, known);
        } else if (text.error().code() != Errno{ENOENT} || settings.own_known_hosts) {
            return Error(Errno{EACCES}, "known_hosts_file: " + text.error().what());
        }
    }
    return KeysToPin(known, settings.address.host, settings.address.port,
                     Join(settings.known_hosts_files, " or "));
}

}  // namespace

Result<ConnectInfo> ResolveSsh(const SshSettings& settings, const std::string& token) {
    std::vector<std::string> keys = TRY(PinnedKeys(settings));
    // With a second way in, the first may fail: what is wrong with it is said when both have.
    if (const auto* file = std::get_if<IdentityFile>(&settings.auth.front());
        file != nullptr && settings.auth.size() == 1) {
        (void)TRY(CheckIdentityFile(file->path));
    }
    ConnectInfo connect;
    connect.address = settings.address;
    if (!settings.jumps.empty()) connect.address = ThroughJumps(settings);
    connect.user = settings.user;
    connect.host_key = keys.front();
    connect.other_host_keys.assign(keys.begin() + 1, keys.end());
    connect.auth = settings.auth;
    connect.spool_dir = settings.spool_base.empty() ? "" : settings.spool_base + "/";
    connect.spool_dir += std::string(kSpoolParent) + "/" + token;
    return connect;
}

Result<std::unique_ptr<SshProvider>> SshProvider::Open(Loop& loop, SshOptions options) {
    (void)TRY(MakeDirs(options.state_dir + "/ssh", 0700));
    return std::unique_ptr<SshProvider>(new SshProvider(loop, std::move(options)));
}

SshProvider::SshProvider(Loop& loop, SshOptions options)
    : loop_(loop),
      options_(std::move(options)),
      thread_("ssh-provider", LockRank::kProvider, [](std::vector<Job>& jobs) {
          for (const Job& job : jobs)
              job();
      }) {}

SshProvider::~SshProvider() = default;

Status SshProvider::Check(const Template& what) {
    (void)TRY(ReadSshSettings(what, options_.self));
    return Ok();
}

std::string SshProvider::RecordPath(const std::string& token) const {
    return options_.state_dir + "/ssh/" + token;
}

void SshProvider::Run(Job job) {
    (void)thread_.Add(job);  // stopped: what the job owns answers by its destructor
}

void SshProvider::Launch(const LaunchSpec& spec, LaunchPhase phase, LaunchDone done) {
    Run([this, token = spec.token, what = spec.what, phase = std::move(phase),
         done = std::move(done)]() mutable {
        Result<Launched> launched = LaunchNow(token, what);
        loop_.Post([phase = std::move(phase), done = std::move(done),
                    launched = std::move(launched)]() mutable {
            if (launched) phase("host_key");
            done(std::move(launched));
        });
    });
}

Result<Launched> SshProvider::LaunchNow(const std::string& token, const Template& what) {
    (void)TRY(CheckToken(token));
    if (destroyed_.contains(token)) {
        return Error(Errno{ECANCELED}, "this sandbox was destroyed; a new one needs a new launch");
    }
    const std::string path = RecordPath(token);
    if (::access(path.c_str(), F_OK) == 0) return ReadRecord(path);
    const SshSettings settings = TRY(ReadSshSettings(what, options_.self));
    Launched launched;
    launched.connect = TRY(ResolveSsh(settings, token));
    launched.id = settings.user + "@" + AddressText(settings.address);
    launched.facts = Json::Object();
    launched.facts.Set("spool_dir",
                       (settings.spool_base.empty() ? "~/" : "") + launched.connect.spool_dir);
    Json record = Json::Object();
    record.Set("id", launched.id).Set("connect", launched.connect.ToJson());
    record.Set("facts", launched.facts);
    (void)TRY(ReplaceFile(path, record.Dump() + "\n", 0600));
    return launched;
}

void SshProvider::Probe(const std::string& token, const std::string&, HealthDone done) {
    Run([this, token, done = std::move(done)]() mutable {
        Health health{Liveness::kAlive, ""};
        if (!CheckToken(token) || ::access(RecordPath(token).c_str(), F_OK) != 0) {
            health = {
                Liveness::kVanished,
                "nothing is known of this sandbox any more: its record was removed. Remove it "
                "with rmdir and make a new one"};
        }
        loop_.Post([done = std::move(done), health] { done(health); });
    });
}

void SshProvider::Destroy(const std::string& token, const std::string&, Done done) {
    Run([this, token, done = std::move(done)]() mutable {
        loop_.Post([done = std::move(done), status = DestroyNow(token)] { done(status); });
    });
}

Status SshProvider::DestroyNow(const std::string& token) {
    (void)TRY(CheckToken(token));
    if (destroyed_.insert(token).second) {
        destroyed_order_.push_back(token);
        if (destroyed_order_.size() > kRememberedTokens) {
            destroyed_.erase(destroyed_order_.front());
            destroyed_order_.pop_front();
        }
    }
    if (::unlink(RecordPath(token).c_str()) != 0 && errno != ENOENT)
        return SystemError(errno, "removing " + RecordPath(token));
    return Ok();
}

}  // namespace sbxfs
