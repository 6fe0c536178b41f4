// What a known_hosts file says of one host, as sshd(8) describes the format: names and patterns,
// hashed names, [host]:port, several keys of several types, @revoked, @cert-authority. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sbxfs {

struct KnownHost {
    std::vector<std::string> keys;  // public lines, in the order found, each once
    std::vector<std::string> revoked;
    std::vector<std::string> unusable;  // key types found that sbxfs cannot check ("ssh-dss")
    bool by_authority = false;          // some line trusts a certificate authority for it
};

// Adds what `text` says of the host to `known`. As ssh(1) does, keys written for the host without a
// port are used when none is written for [host]:port.
void ReadKnownHosts(std::string_view text, std::string_view host, std::uint16_t port,
                    KnownHost& known);

// The keys to pin, none of them revoked. EACCES with what to do when there is none; `files` names
// where was looked.
Result<std::vector<std::string>> KeysToPin(const KnownHost& known, const std::string& host,
                                           std::uint16_t port, const std::string& files);

}  // namespace sbxfs
