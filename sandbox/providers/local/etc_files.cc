#include "sandbox/providers/local/etc_files.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <string_view>

#include "base/files.h"
#include "base/strings.h"
#include "sandbox/providers/local/remover.h"
#include "sandbox/providers/local/sshd_config.h"

namespace sbxfs {
namespace {

// What programs in /usr look for and no administrator puts secrets into. Left out on purpose,
// although often readable: gitconfig, npmrc, pip.conf, environment, apt (tokens in URLs), hosts,
// machine-id (who we are).
constexpr std::string_view kCopied[] = {
    "alternatives",
    "bash_completion.d",
    "ca-certificates.conf",
    "ca-certificates",
    "crypto-policies",
    "debian_version",
    "fonts",
    "fpc.cfg",
    "gai.conf",
    "host.conf",
    "inputrc",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "java-25-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "localtime",
    "login.defs",
    "lsb-release",
    "magic",
    "magic.mime",
    "manpath.config",
    "mime.types",
    "os-release",
    "perl",
    "pki/ca-trust/extracted",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "pki/tls/openssl.cnf",
    "protocols",
    "python3",
    "python3.9",
    "python3.10",
    "python3.11",
    "python3.12",
    "python3.13",
    "rpc",
    "services",
    "shells",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
    "vim",
    "xml",
    "sgml",
};

// The accounts every Debian has, under the numbers every Debian gives them, so that files of /usr
// and programs that drop privileges find their names; sshd needs one of its own.
struct Account {
    std::string_view name;
    uid_t uid;
    gid_t gid;
    std::string_view home;
};
constexpr Account kAccounts[] = {
    {"daemon", 1, 1, "/usr/sbin"},
    {"bin", 2, 2, "/bin"},
    {"sys", 3, 3, "/dev"},
    {"man", 6, 12, "/var/cache/man"},
    {"mail", 8, 8, "/var/mail"},
    {"www-data", 33, 33, "/var/www"},
    {"backup", 34, 34, "/var/backups"},
    {"_apt", 42, 65534, "/nonexistent"},
    {"sshd", 102, 65534, "/run/sshd"},
    {"nobody", 65534, 65534, "/nonexistent"},
};
struct Group {
    std::string_view name;
    gid_t gid;
};
constexpr Group kGroups[] = {
    {"daemon", 1},  {"bin", 2},         {"sys", 3},   {"adm", 4},    {"tty", 5},
    {"disk", 6},    {"mail", 8},        {"man", 12},  {"sudo", 27},  {"www-data", 33},
    {"backup", 34}, {"shadow", 42},     {"utmp", 43}, {"staff", 50}, {"games", 60},
    {"users", 100}, {"nogroup", 65534},
};

constexpr std::string_view kNsswitch =
    "passwd: files\n"
    "group: files\n"
    "shadow: files\n"
    "hosts: files dns\n"
    "networks: files\n"
    "protocols: files\n"
    "services: files\n"
    "ethers: files\n"
    "rpc: files\n";

std::string Profile() {
    return "export PATH=" + std::string(kSandboxPath) +
           "\n"
           "for part in /etc/profile.d/*.sh; do [ -r \"$part\" ] && . \"$part\"; done\n"
           "unset part\n";
}

std::string Hosts(const std::string& hostname) {
    return "127.0.0.1 localhost\n"
           "::1 localhost ip6-localhost ip6-loopback\n"
           "127.0.1.1 " +
           hostname + "\n";
}

Status FillSsh(TreeMaker& tree, const EtcPlan& plan) {
    const std::string dir = std::string(kSshDir).substr(std::string_view("/etc/").size());
    (void)TRY(tree.Dirs(dir));
    (void)TRY(tree.File(dir + "/sshd_config", SshdConfig(plan.login.name), 0644));
    (void)TRY(tree.File(dir + "/authorized_keys", plan.client_key + "\n", 0644));
    // OpenSSH wants the last line of a key ended.
    std::string pem(plan.host_private->Reveal());
    if (!pem.ends_with('\n')) pem += '\n';
    Status written = tree.File(dir + "/host_key", pem, 0600);
    const Secret wiped(std::move(pem));
    return written;
}

Status FillNames(TreeMaker& tree, const EtcPlan& plan) {
    (void)TRY(tree.File("hostname", plan.hostname + "\n", 0644));
    (void)TRY(tree.File("hosts", Hosts(plan.hostname), 0644));
    (void)TRY(tree.File("machine-id", Hex(RandomBytes(16)) + "\n", 0444));
    if (!plan.own_network) {
        // Often a link into /run: what it says counts, not where it lies.
        const auto resolv = ReadWholeFile("/etc/resolv.conf", 64U << 10);
        if (resolv) (void)TRY(tree.File("resolv.conf", *resolv, 0644));
    }
    return FillSsh(tree, plan);
}

}  // namespace

std::string PasswdText(const Login& login) {
    // '*' and no shadow file: nobody has a password, and sshd does not take it for a locked account
    // ('!').
    std::string text = "root:*:0:0:root:/root:" + (login.uid == 0 ? login.shell : "/bin/sh") + "\n";
    for (const Account& account : kAccounts) {
        if (account.uid == login.uid || account.name == login.name) continue;
        text += std::string(account.name) + ":*:" + std::to_string(account.uid) + ":" +
                std::to_string(account.gid) + "::" + std::string(account.home) +
                ":/usr/sbin/nologin\n";
    }
    if (login.uid != 0) {
        text += login.name + ":*:" + std::to_string(login.uid) + ":" + std::to_string(login.gid) +
                "::" + login.home + ":" + login.shell + "\n";
    }
    return text;
}

std::string GroupText(const Login& login) {
    std::string text = "root:*:0:\n";
    for (const Group& group : kGroups) {
        if (group.gid == login.gid || group.name == login.name) continue;
        text += std::string(group.name) + ":*:" + std::to_string(group.gid) + ":\n";
    }
    if (login.gid != 0) text += login.name + ":*:" + std::to_string(login.gid) + ":\n";
    return text;
}

std::span<const std::string_view> CopiedFromEtc() {
    return kCopied;
}

Status FillCommonEtc(TreeMaker& tree) {
    (void)TRY(tree.File("nsswitch.conf", kNsswitch, 0644));
    (void)TRY(tree.File("profile", Profile(), 0644));
    (void)TRY(tree.Dir("profile.d", 0755));
    (void)TRY(tree.Link("mtab", "../proc/self/mounts"));
    for (const char* parent : {"ssl", "pki", "pki/ca-trust", "pki/tls"})
        (void)TRY(tree.Dir(parent, 0755));
    for (const std::string_view name : kCopied) {
        tree.CopyPublic("/etc/" + std::string(name), std::string(name));
    }
    return Ok();
}

Status FillOwnEtc(TreeMaker& tree, const EtcPlan& plan) {
    (void)TRY(tree.File("passwd", PasswdText(plan.login), 0644));
    (void)TRY(tree.File("group", GroupText(plan.login), 0644));
    return FillNames(tree, plan);
}

Status RenewOwnEtc(int etc, Owner owner, const EtcPlan& plan) {
    for (const char* name : {"hostname", "hosts", "machine-id", "resolv.conf"})
        (void)TRY(RemoveTree(etc, name));
    struct stat found {};
    if (::fstatat(etc, "ssh", &found, AT_SYMLINK_NOFOLLOW) == 0) {
        if (S_ISDIR(found.st_mode)) {
            const UniqueFd ssh(
                ::openat(etc, "ssh", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
            if (!ssh) return SystemError(errno, "opening /etc/ssh of the snapshot");
            (void)TRY(RemoveTree(ssh.get(), "sbxfs"));
        } else {
            (void)TRY(RemoveTree(etc, "ssh"));
        }
    }
    TreeMaker tree(etc, owner);
    return FillNames(tree, plan);
}

}  // namespace sbxfs
