#include "fs/cli_doctor.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <set>
#include <vector>

#include "aws/shared_config.h"
#include "base/strings.h"
#include "fs/config.h"
#include "fs/mounting_needs.h"
#include "sandbox/backends.h"
#include "sandbox/doctor.h"
#include "sandbox/providers/fargate/fargate_doctor.h"
#include "sandbox/providers/local/local_doctor.h"
#include "sandbox/providers/ssh/ssh_doctor.h"

namespace sbxfs {
namespace {

class Report {
 public:
    void Begin(const std::string& subject) { (void)std::printf("%s\n", subject.c_str()); }
    void Say(const Finding& finding) {
        all_good_ = all_good_ && finding.good;
        (void)std::printf("  %-4s  %-16s %s\n", finding.good ? "ok" : "FAIL", finding.check.c_str(),
                          Printable(finding.text, 1000).c_str());
        (void)std::fflush(stdout);
    }
    bool all_good() const { return all_good_; }

 private:
    bool all_good_ = true;
};

// What every mount needs, whatever its sandboxes are.
void ExamineMounting(Report& report) {
    report.Begin("mount");
    const Status device = CheckFuseDevice();
    report.Say({device.has_value(), "/dev/fuse", device ? "can be opened" : device.error().what()});
    if (::geteuid() == 0) return;
    const Status helper = CheckFuseHelper();
    report.Say({helper.has_value(), "fusermount3", helper ? "installed" : helper.error().what()});
}

void Examine(const Template& what, Report& report) {
    report.Begin("provider " + what.provider + ", template " + what.name);
    const Tell tell = [&report](const Finding& finding) { report.Say(finding); };
    if (what.backend == "local") return ExamineLocal(what, tell);
    if (what.backend == "ssh") return ExamineSsh(what, SshSelf::Now(), tell);
    if (what.backend == "fargate") return ExamineFargate(what, aws::CurrentEnvironment(), tell);
    report.Say({true, "backend", "'" + what.backend + "' has no checks of its own"});
}

// The templates to look at: one for each provider asked for.
Result<std::vector<Template>> Choose(const Config& config, const std::string& provider) {
    std::vector<Template> chosen;
    std::set<std::string> names;
    for (const auto& [name, what] : config.templates) {
        if (provider.empty() || what.provider == provider || what.backend == provider)
            chosen.push_back(what);
        names.insert(what.provider);
    }
    if (!chosen.empty()) return chosen;
    if (provider == "local") {  // works without any configuration
        Template what;
        what.name = "default";
        return std::vector<Template>{what};
    }
    return Error(
        Errno{ENOENT},
        "no template uses a provider '" + Printable(provider, 64) +
            "'; there are: " + Join(std::vector<std::string>(names.begin(), names.end()), ", ") +
            ". Add a [templates.NAME] with provider = \"" + Printable(provider, 64) + "\"");
}

}  // namespace

int DoctorCommand(const DoctorRequest& request) {
    (void)::signal(SIGPIPE, SIG_IGN);
    Report report;
    const Result<Config> config = LoadConfig(request.config);
    if (!config) {
        report.Begin("configuration");
        report.Say({false, "configuration", config.error().what()});
        return 1;
    }
    const Result<std::vector<Template>> templates = Choose(*config, request.provider);
    if (!templates) {
        (void)std::fprintf(stderr, "sbxfs: %s\n", templates.error().what().c_str());
        return 1;
    }
    ExamineMounting(report);
    for (const Template& what : *templates)
        Examine(what, report);
    return report.all_good() ? 0 : 1;
}

}  // namespace sbxfs
