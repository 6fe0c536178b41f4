#include "sandbox/providers/local/local_doctor.h"

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "base/files.h"
#include "base/strings.h"
#include "sandbox/io_loop.h"
#include "sandbox/providers/local/init_program.h"
#include "sandbox/providers/local/launcher.h"
#include "sandbox/providers/local/local_provider.h"
#include "sandbox/providers/local/userns.h"
#include "sandbox/ssh_keys.h"

namespace sbxfs {
namespace {

void TellTool(const Tell& tell, const std::string& name, const std::string& path,
              const std::string& package) {
    tell({!path.empty(), name, path.empty() ? "not installed: apt install " + package : path});
}

// A directory for one launch, away again at the end.
class Scratch {
 public:
    Scratch() {
        std::error_code error;
        path_ = (std::filesystem::temp_directory_path(error) / "sbxfs-doctor-XXXXXX").string();
        if (error || ::mkdtemp(path_.data()) == nullptr) path_.clear();
    }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    ~Scratch() {
        std::error_code ignored;
        if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
    }
    const std::string& path() const { return path_; }

 private:
    std::string path_;
};

template <class T>
UniqueFunction<void(T)> Into(const std::shared_ptr<std::promise<T>>& promise) {
    return [promise](T value) { promise->set_value(std::move(value)); };
}

// The limits of the template are asked for, too: what cannot be had is in the facts.
void TellLaunch(const Template& what, LocalProvider& provider, const Tell& tell) {
    LaunchSpec spec;
    spec.token = "doctor-" + Hex(RandomBytes(6));
    spec.name = SandboxName{"doctor", ""};
    spec.what = what;
    Result<SshKeyPair> client = GenerateSshKeyPair();
    Result<SshKeyPair> host = GenerateSshKeyPair();
    if (!client || !host) return tell({false, "launch", "no key can be made"});
    spec.client_key = client->public_line;
    spec.host_key = *std::move(host);
    auto launched = std::make_shared<std::promise<Result<Launched>>>();
    const auto before = std::chrono::steady_clock::now();
    provider.Launch(
        spec, [](std::string_view) {}, Into(launched));
    const Result<Launched> result = launched->get_future().get();
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::steady_clock::now() - before);
    tell({result.has_value(), "launch",
          result ? "in " + std::to_string(took.count()) + " ms" : result.error().what()});
    if (result) {
        for (const char* fact : {"programs", "limits", "abstract_sockets"}) {
            if (const auto text = result->facts.GetString(fact)) tell({true, fact, *text});
        }
    }
    auto destroyed = std::make_shared<std::promise<Status>>();
    provider.Destroy(spec.token, "", Into(destroyed));
    const Status gone = destroyed->get_future().get();
    if (!gone) tell({false, "clean up", gone.error().what()});
}

}  // namespace

void ExamineLocal(const Template& what, const Tell& tell) {
    (void)TellStatus(tell, "machine", CheckMachine(), "a program for it is carried");
    const Tools tools = FindTools();
    TellTool(tell, "bubblewrap", tools.bwrap, "bubblewrap");
    TellTool(tell, "sshd", tools.sshd, "openssh-server");
    const bool namespaces =
        TellStatus(tell, "user namespaces", CheckUserNamespaces(::geteuid()), "allowed");
    if (!namespaces || tools.bwrap.empty() || tools.sshd.empty()) return;
    const Scratch scratch;
    if (scratch.path().empty())
        return tell({false, "launch", "no temporary directory can be made"});
    auto loop = IoLoop::Start("io-doctor", RealClock());
    if (!loop) return tell({false, "launch", loop.error().what()});
    LocalOptions options;
    options.state_dir = scratch.path();
    auto provider = LocalProvider::Open(**loop, std::move(options));
    if (!provider) return tell({false, "launch", provider.error().what()});
    if (!TellStatus(tell, "template", (*provider)->Check(what), what.name)) return;
    TellLaunch(what, **provider, tell);
}

}  // namespace sbxfs
