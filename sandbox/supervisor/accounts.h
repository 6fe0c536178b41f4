// Users and groups from /etc/passwd and /etc/group, without NSS: what a command under another user
// needs. Pure.
#pragma once

#include <stdint.h>

#include "sandbox/supervisor/bytes.h"

namespace sbxfs::supervisor {

struct Account {
    Str name;
    Str home;
    Str shell;
    uint32_t uid = 0;
    uint32_t gid = 0;
    Vec<uint32_t> groups;  // supplementary
};

// `who` is a name, or a number where no name matches. False when there is no such line.
bool FindAccount(View passwd, View who, Account* to);
bool FindAccountByUid(View passwd, uint32_t uid, Account* to);
// Adds the groups that list the account as a member, at most 1024.
void AddGroups(View group, Account* to);

}  // namespace sbxfs::supervisor
