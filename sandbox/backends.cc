#include "sandbox/backends.h"

namespace sbxfs {

std::vector<std::string_view> BackendNames() {
    return {"local", "ssh", "fargate"};
}

std::vector<std::string_view> NamesOf(const std::vector<FileKey>& keys) {
    std::vector<std::string_view> names;
    for (const FileKey& key : keys)
        names.push_back(key.name);
    return names;
}

const std::vector<FileKey>& BackendOptions(std::string_view backend) {
    static const std::vector<FileKey> kNone;
    static const std::vector<FileKey> kLocal = {
        {"binds", "[\"/srv/data:/data:ro\"]", "directories of this machine that are shown inside"},
        {"network", "\"shared\"", "or \"none\""},
        {"pids", "4096", "how many processes and threads there may be, at least 16"},
        {"snapshot", "\"NAME\"", "what `snapshot NAME` has kept of another sandbox, to begin with"},
    };
    static const std::vector<FileKey> kSsh = {
        {"host", "\"192.0.2.7\"", "a name or an address; required"},
        {"port", "22", ""},
        {"user", "\"dev\"", "default: the name of the user who mounts"},
        {"identity_file", "\"~/.ssh/id_ed25519\"", "a private key without a passphrase"},
        {"agent", "true", "or false, or the path of an agent; default: the one of SSH_AUTH_SOCK"},
        {"known_hosts_file", "\"~/.ssh/known_hosts\"",
         "default: that one, then /etc/ssh/ssh_known_hosts"},
        {"host_key", "\"ssh-ed25519 AAAA...\"", "or a list, in place of a known_hosts file"},
        {"proxy_jump", "\"admin@192.0.2.1:22\"",
         "the way there, through ssh(1); several with commas"},
        {"spool_dir", "\"/scratch\"", "where .sbxfs/ is made; default: the home directory"},
    };
    static const std::vector<FileKey> kFargate = {
        {"aws_region", "\"us-east-1\"", "default: as the AWS tools find it"},
        {"aws_profile", "\"lab\"", "of ~/.aws/config; default: AWS_PROFILE, else \"default\""},
        {"aws_role_arn", "\"arn:aws:iam::123456789012:role/sandboxes\"",
         "assumed before anything is done"},
        {"aws_external_id", "\"lab-7\"", "for that role"},
        {"aws_role_session_name", "\"sbxfs\"", "shown in AWS's own logs"},
        {"aws_endpoint_url", "\"https://aws.example\"",
         "of all services, where it is not AWS's own"},
        {"ecs_cluster", "\"sandboxes\"", "a name or an ARN; required"},
        {"subnets", "[\"subnet-0123456789abcdef0\"]", "required; SBXFS_FARGATE_SUBNETS wins"},
        {"security_groups", "[\"sg-0123456789abcdef0\"]",
         "must let ssh_port in; SBXFS_FARGATE_SECURITY_GROUPS wins"},
        {"assign_public_ip", "true", ""},
        {"address", "\"auto\"", "where sshd is dialled: auto, public or private"},
        {"task_definition", "\"family:1\"", "a base to clone; default: from scratch"},
        {"task_definition_family_prefix", "\"sbxfs\"", "of the definitions that are registered"},
        {"container_name", "\"main\"", "which container of the base is the sandbox"},
        {"image_template", "\"repo/{name}:{id}\"",
         "in place of image; one task definition for each text"},
        {"bootstrap", "false", "true: the image has no sshd, it is installed at each start"},
        {"ephemeral_storage_gib", "21", "to 200; default: Fargate's 20"},
        {"platform_version", "\"1.4.0\"", "default: the latest"},
        {"execution_role_arn", "\"arn:aws:iam::123456789012:role/...\"",
         "with which ECS pulls, logs and reads secrets"},
        {"task_role_arn", "\"arn:aws:iam::123456789012:role/...\"",
         "what commands in the sandbox may do in AWS"},
        {"log_group", "\"/sbxfs\"", "made when missing; default: no log"},
        {"log_stream_prefix", "\"sbxfs\"", ""},
        {"secrets", "[\"TOKEN=arn:aws:secretsmanager:us-east-1:123456789012:secret:t\"]",
         "variables by reference"},
        {"capacity_provider", "\"FARGATE_SPOT\"", "default: launch type FARGATE"},
        {"enable_execute_command", "false", ""},
        {"ssh_port", "22", ""},
        {"ssh_user", "\"root\"", ""},
        {"host_key", "\"shared\"", "or s3, logs, override: how the host key is known beforehand"},
        {"host_key_secret", "\"sbxfs/host-key\"",
         "for shared: a name or an ARN; made when missing"},
        {"host_key_bucket", "\"bucket\"", "for s3"},
        {"host_key_prefix", "\"sbxfs/\"", "for s3"},
        {"tags", "[\"team=lab\"]", "of each task"},
        {"startup_timeout", "300", "seconds until the task has an address"},
        {"price_vcpu_hour", "\"0.04048\"", "US dollars, for the estimate in info.json"},
        {"price_gb_hour", "\"0.004445\"", ""},
    };
    if (backend == "local") return kLocal;
    if (backend == "fargate") return kFargate;
    if (backend == "ssh") return kSsh;
    return kNone;
}

bool IsPaid(std::string_view backend) {
    // What runs on this machine, or on one that is there anyway, costs nothing more.
    return backend != "local" && backend != "ssh" && backend != "docker";
}

void ApplyBackendDefaults(Template& what) {
    if (what.backend == "fargate") what.idle_timeout_s = 3600;  // nobody's money runs on unused
    if (what.backend != "ssh") return;
    // Others use the machine too, and it goes on when we are gone.
    what.exclusive = false;
    what.max_lifetime_s = 0;
    what.workdir.clear();  // must be said: nothing is made there
}

}  // namespace sbxfs
