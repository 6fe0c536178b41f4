#include "fs/config_keys.h"

namespace sbxfs {

const std::vector<FileKey>& TopKeys() {
    static const std::vector<FileKey> kKeys = {
        {"default_template", "\"default\"", "the template of a mkdir whose name has no @TEMPLATE"},
        {"max_sandboxes", "1000", "how many a mount may have at a time; more are EDQUOT"},
        {"cache_mib", "256",
         "MiB of the sandboxes' files kept in memory, for all together; read when the mount "
         "starts"},
        {"templates", "[templates.NAME]", "what a sandbox is made of"},
        {"providers", "[providers.NAME]", "where sandboxes come from, for several templates"},
    };
    return kKeys;
}

const std::vector<FileKey>& TemplateKeys() {
    static const std::vector<FileKey> kKeys = {
        {"provider", "\"local\"", "a [providers.NAME], or a backend"},
        {"workdir", "\"/workspace\"",
         "where commands start, and what work/ leads to; made where the provider makes the "
         "sandbox"},
        {"fs_root", "\"/\"", "what fs/ shows"},
        {"image", "\"\"", "the image, where the provider has images"},
        {"cpu", "0", "CPU units, 1024 a core; 0: the provider's default"},
        {"memory", "0", "MiB; 0: the provider's default"},
        {"max_lifetime", "\"4h\"", "the sandbox ends itself so long after its launch; 0: never"},
        {"idle_timeout", "0", "and so long after its last use; 0: never"},
        {"exclusive", "true", "nobody but sbxfs and its commands writes there (ssh: false)"},
        {"list_fs", "false", "fs/ is listed, so that find and grep -r of the mount go in"},
        {"max_parallel", "16", "how many run/ commands run at a time, 1 to 1024"},
        {"shell", "\"\"", "the shell of cmd; empty: bash where the sandbox has it, else sh"},
        {"login_shell", "false", "shell start-up files are read"},
        {"env", "{ NAME = \"value\" }",
         "added to the environment of every command; shown as <set>"},
    };
    return kKeys;
}

const std::vector<FileKey>& ProviderKeys() {
    static const std::vector<FileKey> kKeys = {
        {"backend", "\"local\"", "the kind of provider; the keys it has may be given here as well"},
    };
    return kKeys;
}

}  // namespace sbxfs
