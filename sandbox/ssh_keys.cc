#include "sandbox/ssh_keys.h"

#include <libssh/libssh.h>
#include <string.h>

#include <memory>
#include <utility>

#include "base/strings.h"

namespace sbxfs {
namespace {

struct FreeOwnedKey {
    void operator()(ssh_key key) const { ssh_key_free(key); }
};
using OwnedKey = std::unique_ptr<ssh_key_struct, FreeOwnedKey>;

struct TextFree {
    void operator()(char* text) const { ssh_string_free_char(text); }
};
using TextPtr = std::unique_ptr<char, TextFree>;

std::string Line(ssh_key key, const char* base64) {
    return std::string(ssh_key_type_to_char(ssh_key_type(key))) + " " + base64;
}

Result<std::string> PublicLine(ssh_key key) {
    char* base64 = nullptr;
    if (ssh_pki_export_pubkey_base64(key, &base64) != SSH_OK) {
        return Error(Errno{EIO}, "ssh key: cannot be written as text", Blame::kBug);
    }
    const TextPtr owner(base64);
    return Line(key, base64);
}

// Nothing when `line` is not a public key.
OwnedKey Import(std::string_view line) {
    const std::vector<std::string> words = Split(Trim(line), ' ');
    if (words.size() < 2) return nullptr;
    const enum ssh_keytypes_e type = ssh_key_type_from_name(words[0].c_str());
    if (type == SSH_KEYTYPE_UNKNOWN) return nullptr;
    ssh_key key = nullptr;
    if (ssh_pki_import_pubkey_base64(words[1].c_str(), type, &key) != SSH_OK) return nullptr;
    return OwnedKey(key);
}

}  // namespace

Result<SshKeyPair> GenerateSshKeyPair() {
    ssh_key raw = nullptr;
    if (ssh_pki_generate(SSH_KEYTYPE_ED25519, 0, &raw) != SSH_OK) {
        return Error(Errno{EIO}, "ssh key: the library cannot make an ed25519 key", Blame::kBug);
    }
    const OwnedKey key(raw);
    SshKeyPair pair;
    pair.public_line = TRY(PublicLine(key.get()));
    char* pem = nullptr;
    if (ssh_pki_export_privkey_base64(key.get(), nullptr, nullptr, nullptr, &pem) != SSH_OK) {
        return Error(Errno{EIO}, "ssh key: the private half cannot be written", Blame::kBug);
    }
    const TextPtr owner(pem);
    pair.private_pem = Secret(std::string(pem));
    explicit_bzero(pem, strlen(pem));
    return pair;
}

Result<std::string> ParsePublicLine(std::string_view line) {
    const OwnedKey key = Import(line);
    if (!key) {
        return Error(Errno{EINVAL}, "`" + Printable(Trim(line), 40) +
                                        "` is not a public key line (TYPE BASE64 [COMMENT])");
    }
    return PublicLine(key.get());
}

bool SamePublicKey(std::string_view a, std::string_view b) {
    const OwnedKey left = Import(a);
    const OwnedKey right = Import(b);
    return left && right && ssh_key_cmp(left.get(), right.get(), SSH_KEY_CMP_PUBLIC) == 0;
}

bool IsHostKeyType(std::string_view type) {
    return type == "ssh-ed25519" || type == "ssh-rsa" || type == "ecdsa-sha2-nistp256" ||
           type == "ecdsa-sha2-nistp384" || type == "ecdsa-sha2-nistp521";
}

bool MatchesHashedName(std::string_view hashed, const std::string& name) {
    // The library looks at whole lines: any key will do.
    static constexpr std::string_view kAnyKey =
        " ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBmyu5vWU3XqmVgXBBYyAPmQbUyLT4ivoYDZSVUGvXgh";
    if (!hashed.starts_with("|1|")) return false;
    const std::string line = std::string(hashed) + std::string(kAnyKey);
    struct ssh_knownhosts_entry* entry = nullptr;
    if (ssh_known_hosts_parse_line(name.c_str(), line.c_str(), &entry) != SSH_OK) return false;
    ssh_knownhosts_entry_free(entry);
    return true;
}

Result<std::string> PublicLineOf(const Secret& private_pem) {
    ssh_key raw = nullptr;
    std::string pem(private_pem.Reveal());  // libssh wants a terminated string
    const int imported =
        ssh_pki_import_privkey_base64(pem.c_str(), nullptr, nullptr, nullptr, &raw);
    explicit_bzero(pem.data(), pem.size());
    if (imported != SSH_OK) {
        return Error(Errno{EINVAL},
                     "not a private key, or one with a passphrase; use a key without one");
    }
    const OwnedKey key(raw);
    return PublicLine(key.get());
}

}  // namespace sbxfs
