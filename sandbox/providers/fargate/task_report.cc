#include "sandbox/providers/fargate/task_report.h"

#include <algorithm>
#include <array>

#include "base/strings.h"

namespace sbxfs {
namespace {

struct Remedy {
    std::string_view sign;  // in the reasons
    std::string_view text;
};

// What people find in the console, in the order of how telling it is.
constexpr std::array kRemedies = {
    Remedy{"CannotPullContainerError",
           "check the image's name, that execution_role_arn may pull it, and that the subnet has a "
           "route to the registry (a public address or NAT)"},
    Remedy{"ResourceInitializationError",
           "ECS could not fetch secrets or set up logs: check execution_role_arn and the subnet's "
           "route to Secrets Manager and CloudWatch"},
    Remedy{"CannotStartContainerError",
           "the image's entry point cannot be started: see scripts/image for what an image needs"},
    Remedy{"OutOfMemory", "give the template more `memory`"},
    Remedy{"Timeout waiting for network interface", "AWS was slow: make the sandbox again"},
    Remedy{"Capacity is unavailable",
           "AWS has no free capacity there now: try again, or use other subnets"},
    Remedy{"SpotInterruption",
           "the spot capacity was taken back: use FARGATE, or make the sandbox again"},
};

std::string Describe(const aws::EcsContainer& container) {
    std::string text = "container " + Printable(container.name, 60) + ":";
    if (container.exit_code) text += " exit code " + std::to_string(*container.exit_code);
    if (!container.reason.empty()) text += " " + Printable(container.reason, 400);
    return text;
}

}  // namespace

Json TaskFacts(const aws::EcsTask& task) {
    Json facts = Json::Object();
    facts.Set("task_arn", task.arn).Set("task_definition", task.task_definition);
    facts.Set("cpu", task.cpu)
        .Set("memory", task.memory)
        .Set("platform_version", task.platform_version);
    if (!task.capacity_provider.empty()) facts.Set("capacity_provider", task.capacity_provider);
    facts.Set("private_address", task.private_address).Set("network_interface", task.interface_id);
    Json times = Json::Object();
    for (const auto& [name, time] : task.times)
        times.Set(name, Rfc3339(time));
    facts.Set("task_times", times);
    return facts;
}

std::string WhyStopped(const aws::EcsTask& task, const std::vector<aws::LogLine>& last_lines) {
    std::string text = "the task stopped";
    if (!task.stop_code.empty()) text += ": " + Printable(task.stop_code, 60);
    if (!task.stopped_reason.empty()) text += ": " + Printable(task.stopped_reason, 600);
    std::string all = task.stopped_reason + task.stop_code;
    for (const aws::EcsContainer& container : task.containers) {
        if (!container.exit_code && container.reason.empty()) continue;
        text += "; " + Describe(container);
        all += container.reason;
    }
    const auto remedy = std::find_if(kRemedies.begin(), kRemedies.end(), [&](const Remedy& one) {
        return all.find(one.sign) != std::string::npos;
    });
    if (remedy != kRemedies.end()) text += ". What helps: " + std::string(remedy->text);
    if (!last_lines.empty()) text += "\nlast lines of its log:";
    for (const aws::LogLine& line : last_lines)
        text += "\n  " + Printable(line.text, 300);
    return text;
}

bool EndedByTimer(const aws::EcsTask& task) {
    return std::any_of(
        task.containers.begin(), task.containers.end(), [](const aws::EcsContainer& container) {
            return container.exit_code == kLifetimeExitCode || container.exit_code == kIdleExitCode;
        });
}

std::string LogStream(const std::string& prefix, const std::string& container,
                      const std::string& arn) {
    return prefix + "/" + container + "/" + arn.substr(arn.rfind('/') + 1);
}

}  // namespace sbxfs
