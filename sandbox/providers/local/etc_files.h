// The sandbox's /etc in two parts. The common one is made once per state directory and shared as an
// overlay's lower layer (base_layer.h): what programs in /usr need of this machine's /etc
// (certificates, alternatives, the linker's cache), by a fixed list, and only what everybody may
// read. The sandbox's own part names users, hosts and keys.
#pragma once

#include <sys/types.h>

#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/secret.h"
#include "sandbox/providers/local/tree_maker.h"

namespace sbxfs {

// Who logs in. Inside a range-mapped sandbox that is root, else the caller under the own name and
// number.
struct Login {
    std::string name = "root";
    uid_t uid = 0;
    gid_t gid = 0;
    std::string home = "/root";
    std::string shell = "/bin/sh";
};

struct EtcPlan {
    Login login;
    std::string hostname;
    bool own_network = false;
    std::string client_key;
    const Secret* host_private = nullptr;
};

// Into the directory that is to become /etc.
Status FillCommonEtc(TreeMaker& tree);
Status FillOwnEtc(TreeMaker& tree, const EtcPlan& plan);
// What tells this sandbox from another one, in an /etc that another one has used: names, keys and resolvers, whatever
// lies there. Its users and groups stay.
Status RenewOwnEtc(int etc, Owner owner, const EtcPlan& plan);

// What FillCommonEtc copies, below /etc.
std::span<const std::string_view> CopiedFromEtc();

// Pure.
std::string PasswdText(const Login& login);
std::string GroupText(const Login& login);

}  // namespace sbxfs
