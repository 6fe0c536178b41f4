#include "sandbox/providers/fargate/fargate_settings.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/did_you_mean.h"
#include "base/strings.h"
#include "sandbox/backends.h"
#include "sandbox/providers/fargate/fargate_price.h"

namespace sbxfs {
namespace {

constexpr int kSmallestDisk = 21;  // GiB; 20 is what a task has without asking
constexpr int kLargestDisk = 200;

struct SizeRow {
    std::int64_t cpu;
    std::int64_t from, to, step;  // MiB; the first row's steps double
};
// "Task CPU and memory", Amazon ECS Developer Guide.
constexpr std::array kSizes = {
    SizeRow{256, 512, 2048, 0},          SizeRow{512, 1024, 4096, 1024},
    SizeRow{1024, 2048, 8192, 1024},     SizeRow{2048, 4096, 16384, 1024},
    SizeRow{4096, 8192, 30720, 1024},    SizeRow{8192, 16384, 61440, 4096},
    SizeRow{16384, 32768, 122880, 8192},
};

std::optional<std::int64_t> FitMemory(const SizeRow& row, std::int64_t memory) {
    if (memory > row.to) return std::nullopt;
    std::int64_t fit = row.from;
    while (fit < memory)
        fit = row.step == 0 ? fit * 2 : fit + row.step;
    return fit;
}

Error Wrong(std::string what) {
    return {Errno{EINVAL}, std::move(what)};
}

bool OnlyHas(std::string_view text, std::string_view others) {
    return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
        const bool word =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        return word || others.find(c) != std::string_view::npos;
    });
}

bool IsVariable(std::string_view name) {
    return OnlyHas(name, "_") && !(name.front() >= '0' && name.front() <= '9');
}

bool IsArn(std::string_view text) {
    return text.starts_with("arn:") && std::count(text.begin(), text.end(), ':') >= 5 &&
           text.find_first_of(" \t\n\"") == text.npos;
}

class Reader {
 public:
    Reader(const Template& what, const aws::Environment& environment)
        : what_(what), environment_(environment) {}

    Result<FargateSettings> Read() {
        (void)TRY(CheckKnown());
        FargateSettings settings;
        (void)TRY(ReadAccount(settings.account));
        (void)TRY(ReadPlace(settings));
        (void)TRY(ReadTask(settings));
        (void)TRY(ReadContainer(settings));
        (void)TRY(ReadAccess(settings));
        (void)TRY(PriceOf(what_));
        return settings;
    }

 private:
    // A [providers.NAME] alone is checked, too: what is missing there a template may have.
    bool Whole() const { return !what_.name.empty(); }

    const OptionValue* Find(const std::string& key) const {
        const auto it = what_.options.find(key);
        return it == what_.options.end() ? nullptr : &it->second;
    }

    Status CheckKnown() const {
        const std::vector<std::string_view> known = NamesOf(BackendOptions("fargate"));
        for (const auto& [key, value] : what_.options) {
            if (std::find(known.begin(), known.end(), key) != known.end()) continue;
            return Wrong("unknown option `" + Printable(key, 64) + "` for provider fargate" +
                         DidYouMean(key, known, "; docs/fargate.md lists them", '`'));
        }
        return Ok();
    }

    // `otherwise` when it is absent.
    Result<std::string> Text(const std::string& key, std::string otherwise = "") const {
        const OptionValue* value = Find(key);
        if (value == nullptr) return otherwise;
        const auto* text = std::get_if<std::string>(value);
        if (text == nullptr || text->empty() ||
            text->find_first_of(std::string_view("\0\n", 2)) != std::string::npos)
            return Wrong("`" + key + "` must be a string of one line");
        return *text;
    }
    Result<bool> Flag(const std::string& key, bool otherwise) const {
        const OptionValue* value = Find(key);
        if (value == nullptr) return otherwise;
        const auto* flag = std::get_if<bool>(value);
        if (flag == nullptr) return Wrong("`" + key + "` must be true or false");
        return *flag;
    }
    // Nothing when it is absent.
    Result<std::optional<std::int64_t>> Number(const std::string& key, std::int64_t from,
                                               std::int64_t to) const {
        const OptionValue* value = Find(key);
        if (value == nullptr) return std::optional<std::int64_t>();
        const auto* number = std::get_if<std::int64_t>(value);
        if (number == nullptr || *number < from || *number > to)
            return Wrong("`" + key + "` must be a whole number from " + std::to_string(from) +
                         " to " + std::to_string(to));
        return std::optional<std::int64_t>(*number);
    }
    // One string stands for a list of one.
    Result<std::vector<std::string>> List(const std::string& key) const {
        const OptionValue* value = Find(key);
        if (value == nullptr) return std::vector<std::string>();
        if (const auto* one = std::get_if<std::string>(value))
            return std::vector<std::string>{*one};
        if (const auto* list = std::get_if<std::vector<std::string>>(value)) return *list;
        return Wrong("`" + key + "` must be a list of strings");
    }
    // "A=b" each.
    Result<std::map<std::string, std::string>> Pairs(const std::string& key) const {
        std::map<std::string, std::string> pairs;
        for (const std::string& text : TRY(List(key))) {
            const std::size_t equals = text.find('=');
            if (equals == std::string::npos || equals == 0)
                return Wrong("`" + key + "`: \"" + Printable(text, 80) + "\" is not NAME=VALUE");
            pairs[text.substr(0, equals)] = text.substr(equals + 1);
        }
        return pairs;
    }
    // The environment's comma list wins, so that one configuration serves several networks.
    Result<std::vector<std::string>> Ids(const std::string& key, const std::string& variable,
                                         std::string_view prefix) const {
        std::vector<std::string> ids = TRY(List(key));
        std::string from = "`" + key + "`";
        if (const std::string text = aws::Lookup(environment_, variable); !text.empty()) {
            ids = Split(text, ',');
            from = variable;
        }
        for (std::string& id : ids) {
            id = Trim(id);
            if (!id.starts_with(prefix) || !OnlyHas(id, "-"))
                return Wrong(from + ": \"" + Printable(id, 60) + "\" is not an id such as " +
                             std::string(prefix) + "0123456789abcdef0");
        }
        return ids;
    }

    Status ReadAccount(FargateAccount& account) const {
        account.region = TRY(Text("aws_region"));
        account.profile = TRY(Text("aws_profile"));
        account.role_arn = TRY(Text("aws_role_arn"));
        account.external_id = TRY(Text("aws_external_id"));
        account.role_session_name = TRY(Text("aws_role_session_name"));
        account.endpoint_url = TRY(Text("aws_endpoint_url"));
        if (!account.role_arn.empty() && !IsArn(account.role_arn))
            return Wrong("`aws_role_arn` must be an ARN");
        return Ok();
    }

    Status ReadPlace(FargateSettings& settings) const {
        settings.cluster = TRY(Text("ecs_cluster"));
        if (settings.cluster.empty() && Whole())
            return Wrong("`ecs_cluster` is missing: the name or ARN of an ECS cluster");
        settings.subnets = TRY(Ids("subnets", "SBXFS_FARGATE_SUBNETS", "subnet-"));
        if (settings.subnets.empty() && Whole())
            return Wrong(
                "`subnets` is missing: at least one, such as [\"subnet-0123456789abcdef0\"], or "
                "SBXFS_FARGATE_SUBNETS");
        settings.security_groups =
            TRY(Ids("security_groups", "SBXFS_FARGATE_SECURITY_GROUPS", "sg-"));
        if (settings.subnets.size() > 16 || settings.security_groups.size() > 5)
            return Wrong("ECS takes at most 16 subnets and 5 security groups");
        settings.assign_public_ip = TRY(Flag("assign_public_ip", true));
        const std::string address = TRY(Text("address", "auto"));
        if (address == "auto") {
            settings.address = AddressChoice::kAuto;
        } else if (address == "public") {
            settings.address = AddressChoice::kPublic;
        } else if (address == "private") {
            settings.address = AddressChoice::kPrivate;
        } else {
            return Wrong("`address` must be auto, public or private");
        }
        if (settings.address == AddressChoice::kPublic && !settings.assign_public_ip)
            return Wrong("`address` = \"public\" needs assign_public_ip = true");
        return Ok();
    }

    Status ReadTask(FargateSettings& settings) const {
        settings.task_definition = TRY(Text("task_definition"));
        settings.family_prefix = TRY(Text("task_definition_family_prefix", settings.family_prefix));
        if (!OnlyHas(settings.family_prefix, "-_") || settings.family_prefix.size() > 200)
            return Wrong("`task_definition_family_prefix` may hold letters, digits, - and _");
        settings.size = TRY(FitTaskSize(what_.cpu, what_.memory));
        const auto disk = TRY(Number("ephemeral_storage_gib", 1, kLargestDisk));
        if (disk && *disk >= kSmallestDisk)
            settings.ephemeral_storage_gib = static_cast<int>(*disk);
        settings.platform_version = TRY(Text("platform_version"));
        settings.execution_role_arn = TRY(Text("execution_role_arn"));
        settings.task_role_arn = TRY(Text("task_role_arn"));
        settings.capacity_provider = TRY(Text("capacity_provider"));
        settings.enable_execute_command = TRY(Flag("enable_execute_command", false));
        settings.tags = TRY(Pairs("tags"));
        settings.startup_timeout_s =
            TRY(Number("startup_timeout", 10, 3600)).value_or(settings.startup_timeout_s);
        return CheckTags(settings.tags);
    }

    static Status CheckTags(const std::map<std::string, std::string>& tags) {
        constexpr std::string_view kMarks = " +-=._:/@";
        if (tags.size() > 40) return Wrong("`tags`: at most 40");
        for (const auto& [key, value] : tags) {
            const bool fits = key.size() <= 128 && value.size() <= 256 && OnlyHas(key, kMarks) &&
                              (value.empty() || OnlyHas(value, kMarks));
            const bool reserved = key.size() >= 4 && (key[0] == 'a' || key[0] == 'A') &&
                                  (key[1] == 'w' || key[1] == 'W') &&
                                  (key[2] == 's' || key[2] == 'S') && key[3] == ':';
            if (!fits || reserved || key.starts_with("sbxfs:"))
                return Wrong("`tags`: \"" + Printable(key, 60) +
                             "\" cannot be a tag: letters, digits, blanks and +-=._:/@, not "
                             "beginning with aws: or sbxfs:");
        }
        return Ok();
    }

    Status ReadContainer(FargateSettings& settings) const {
        settings.container_name = TRY(Text("container_name", settings.container_name));
        if (!OnlyHas(settings.container_name, "-_"))
            return Wrong("`container_name` may hold letters, digits, - and _");
        settings.image = TRY(Text("image_template", what_.image));
        if (settings.image.empty() && settings.task_definition.empty() && Whole())
            return Wrong("`image` is missing: name one, or a task_definition whose image is used");
        settings.bootstrap = TRY(Flag("bootstrap", false));
        settings.log_group = TRY(Text("log_group"));
        settings.log_stream_prefix = TRY(Text("log_stream_prefix", settings.log_stream_prefix));
        settings.secrets = TRY(Pairs("secrets"));
        for (const auto& [name, arn] : settings.secrets)
            if (!IsVariable(name) || !IsArn(arn))
                return Wrong("`secrets`: \"" + Printable(name, 60) +
                             "\" must be VARIABLE=ARN of a secret or parameter");
        for (const auto& [name, value] : what_.env)
            if (settings.secrets.contains(name))
                return Wrong("`" + Printable(name, 60) + "` is in both env and secrets");
        const bool needs_role = Whole() && settings.task_definition.empty() &&
                                (!settings.log_group.empty() || !settings.secrets.empty());
        if (needs_role && settings.execution_role_arn.empty())
            return Wrong(
                "`execution_role_arn` is missing: without it ECS may neither write logs nor read "
                "secrets");
        return Ok();
    }

    Status ReadAccess(FargateSettings& settings) const {
        settings.ssh_port =
            static_cast<std::uint16_t>(TRY(Number("ssh_port", 1, 65535)).value_or(22));
        settings.ssh_user = TRY(Text("ssh_user", settings.ssh_user));
        if (!OnlyHas(settings.ssh_user, "._-"))
            return Wrong("`ssh_user` must be the name of a user");
        settings.host_key_secret = TRY(Text("host_key_secret"));
        settings.host_key_bucket = TRY(Text("host_key_bucket"));
        settings.host_key_prefix = TRY(Text("host_key_prefix", settings.host_key_prefix));
        const std::string mode =
            TRY(Text("host_key", settings.host_key_secret.empty() ? "" : "shared"));
        if (mode == "shared") {
            settings.host_key = HostKeyMode::kShared;
            if (settings.host_key_secret.empty())
                return Wrong(
                    "host_key = \"shared\" needs host_key_secret: the name or ARN of a secret");
        } else if (mode == "s3") {
            settings.host_key = HostKeyMode::kS3;
            if (settings.host_key_bucket.empty())
                return Wrong("host_key = \"s3\" needs host_key_bucket");
        } else if (mode == "logs") {
            settings.host_key = HostKeyMode::kLogs;
            if (settings.log_group.empty()) return Wrong("host_key = \"logs\" needs log_group");
        } else if (mode == "override") {
            settings.host_key = HostKeyMode::kOverride;
        } else if (mode.empty() && !Whole()) {
            return Ok();
        } else if (mode.empty()) {
            return Wrong(
                "`host_key` is missing: shared (with host_key_secret), s3, logs, or override, "
                "which lets anybody who may call "
                "ecs:DescribeTasks read the sandbox's host key");
        } else {
            return Wrong("`host_key` must be shared, s3, logs or override");
        }
        const bool needs_role =
            settings.host_key == HostKeyMode::kShared || settings.host_key == HostKeyMode::kS3;
        if (needs_role && settings.execution_role_arn.empty() && settings.task_definition.empty())
            return Wrong("host_key = \"" + std::string(ToString(settings.host_key)) +
                         "\" needs execution_role_arn: ECS reads the key with it");
        return Ok();
    }

    const Template& what_;
    const aws::Environment& environment_;
};

}  // namespace

std::string_view ToString(HostKeyMode mode) {
    switch (mode) {
        case HostKeyMode::kShared:
            return "shared";
        case HostKeyMode::kS3:
            return "s3";
        case HostKeyMode::kLogs:
            return "logs";
        case HostKeyMode::kOverride:
            return "override";
    }
    return "";
}

Result<TaskSize> FitTaskSize(std::int64_t cpu, std::int64_t memory) {
    std::string legal;
    for (const SizeRow& row : kSizes) {
        legal += (legal.empty() ? "" : "; ") + std::to_string(row.cpu) + ": " +
                 std::to_string(row.from) + ".." + std::to_string(row.to);
        if (row.cpu < cpu) continue;
        if (const auto fit = FitMemory(row, memory)) return TaskSize{row.cpu, *fit};
    }
    return Wrong("Fargate has no task with cpu = " + std::to_string(cpu) +
                 " and memory = " + std::to_string(memory) + "; it has (cpu: MiB) " + legal);
}

Result<FargateSettings> ReadFargateSettings(const Template& what,
                                            const aws::Environment& environment) {
    return Reader(what, environment).Read();
}

}  // namespace sbxfs
