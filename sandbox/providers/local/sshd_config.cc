#include "sandbox/providers/local/sshd_config.h"

namespace sbxfs {

std::string SshdConfig(const std::string& user) {
    const std::string dir = kSshDir;
    std::string text;
    text += "HostKey " + dir + "/host_key\n";
    text += "AuthorizedKeysFile " + dir + "/authorized_keys\n";
    text += "AllowUsers " + user + "\n";
    // One exchange and no DH group file: the first packet comes 4 ms after the connection. AES-GCM
    // first, it is twice as fast as chacha20 wherever the processor has AES.
    text +=
        "KexAlgorithms curve25519-sha256,curve25519-sha256@libssh.org\n"
        "Ciphers aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,"
        "aes128-ctr,aes256-ctr\n"
        "PubkeyAuthentication yes\n"
        "PasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\n"
        "UsePAM no\n"
        "PermitRootLogin prohibit-password\n"
        "PermitUserEnvironment no\n"
        // Modes in the sandbox are the sandbox's own affair; its root could change all of this
        // anyway.
        "StrictModes no\n"
        "X11Forwarding no\n"
        "AllowAgentForwarding no\n"
        "PermitTunnel no\n"
        "AllowTcpForwarding yes\n"
        "AllowStreamLocalForwarding yes\n"
        "Subsystem sftp internal-sftp\n"
        "MaxSessions 16\n"
        "LoginGraceTime 30\n"
        "LogLevel ERROR\n"
        "PrintMotd no\n"
        "PrintLastLog no\n"
        "UseDNS no\n"
        "PidFile none\n";
    text += "SetEnv PATH=" + std::string(kSandboxPath) + " LANG=C.UTF-8\n";
    return text;
}

}  // namespace sbxfs
