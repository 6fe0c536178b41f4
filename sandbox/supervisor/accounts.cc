#include "sandbox/supervisor/accounts.h"

namespace sbxfs::supervisor {
namespace {

// Cuts the next line, or field, off the front of `text`.
View Cut(View* text, char separator) {
    const size_t end = text->Find(separator);
    const View first = text->First(end);
    *text = text->From(end + 1);
    return first;
}

bool ParseId(View text, uint32_t* id) {
    uint64_t number = 0;
    if (!ParseNumber(text, &number) || number >= UINT32_MAX) return false;
    *id = static_cast<uint32_t>(number);
    return true;
}

// name:password:uid:gid:comment:home:shell
bool ParseLine(View line, Account* to) {
    const View name = Cut(&line, ':');
    Cut(&line, ':');
    if (name.empty() || !ParseId(Cut(&line, ':'), &to->uid) ||
        !ParseId(Cut(&line, ':'), &to->gid)) {
        return false;
    }
    Cut(&line, ':');
    to->name.Assign(name);
    to->home.Assign(Cut(&line, ':'));
    to->shell.Assign(Cut(&line, ':'));
    return true;
}

template <class Matches>
bool Search(View passwd, Account* to, Matches matches) {
    while (!passwd.empty()) {
        Account found;
        if (ParseLine(Cut(&passwd, '\n'), &found) && matches(found)) {
            *to = std::move(found);
            return true;
        }
    }
    return false;
}

}  // namespace

bool FindAccount(View passwd, View who, Account* to) {
    if (Search(passwd, to, [who](const Account& a) { return a.name.view() == who; })) return true;
    uint32_t uid = 0;
    return ParseId(who, &uid) && FindAccountByUid(passwd, uid, to);
}

bool FindAccountByUid(View passwd, uint32_t uid, Account* to) {
    return Search(passwd, to, [uid](const Account& a) { return a.uid == uid; });
}

void AddGroups(View group, Account* to) {
    while (!group.empty() && to->groups.size() < 1024) {
        View line = Cut(&group, '\n');
        uint32_t gid = 0;
        Cut(&line, ':');
        Cut(&line, ':');
        if (!ParseId(Cut(&line, ':'), &gid)) continue;
        while (!line.empty()) {
            if (Cut(&line, ',') == to->name.view()) {
                to->groups.Add(gid);
                break;
            }
        }
    }
}

}  // namespace sbxfs::supervisor
