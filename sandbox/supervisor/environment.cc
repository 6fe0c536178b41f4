#include "sandbox/supervisor/environment.h"

#include "sandbox/supervisor/files.h"
#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {
namespace {

bool IsOfOneConnection(View name) {
    return name == "SSH_CLIENT" || name == "SSH_CONNECTION" || name == "SSH_TTY" ||
           name == "SSH_AUTH_SOCK" || name == "SSH_ORIGINAL_COMMAND" || name == "SHLVL" ||
           name == "OLDPWD" || name == "PWD" || name == "_" || name == "ENV" ||
           name == "BASH_ENV" || name.StartsWith("SBXFS_");
}

bool IsIdentity(View name) {
    return name == "USER" || name == "LOGNAME" || name == "SHELL" || name == "MAIL";
}

View NameOf(View pair) {
    return pair.First(pair.Find('='));
}

}  // namespace

bool IsVariableName(View name) {
    return !name.empty() && !name.Has('=') && !name.Has('\0');
}

bool IsShellName(View name) {
    const auto letter = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    };
    if (name.empty() || !letter(name[0])) return false;
    for (size_t i = 1; i < name.size; ++i) {
        if (!letter(name[i]) && !(name[i] >= '0' && name[i] <= '9')) return false;
    }
    return true;
}

size_t Environment::IndexOf(View name) const {
    for (size_t i = 0; i < entries_.size(); ++i) {
        if (NameOf(entries_[i].view()) == name) return i;
    }
    return entries_.size();
}

void Environment::Set(View name, View value) {
    Str pair(name);
    pair.append("=").append(value);
    const size_t at = IndexOf(name);
    if (at < entries_.size()) {
        entries_[at] = std::move(pair);
    } else {
        entries_.Add(std::move(pair));
    }
}

void Environment::SetPair(View pair) {
    const size_t equals = pair.Find('=');
    if (equals == 0 || equals == pair.size) return;
    Set(pair.First(equals), pair.From(equals + 1));
}

void Environment::Remove(View name) {
    const size_t at = IndexOf(name);
    if (at < entries_.size()) entries_.Remove(at);
}

bool Environment::Get(View name, View* value) const {
    const size_t at = IndexOf(name);
    if (at == entries_.size()) return false;
    *value = entries_[at].view().From(name.size + 1);
    return true;
}

View Environment::Or(View name, View otherwise) const {
    View value;
    return Get(name, &value) && !value.empty() ? value : otherwise;
}

Environment Environment::Copy() const {
    Environment copy;
    for (const Str& entry : entries_)
        copy.entries_.Add(Str(entry.view()));
    return copy;
}

void Environment::Pointers(Vec<const char*>* to) {
    to->clear();
    for (Str& entry : entries_)
        to->Add(entry.c_str());
    to->Add(nullptr);
}

bool ReadImageEnvironment(Environment* image) {
    Str text;
    if (ReadFile(AT_FDCWD, "/proc/1/environ", &text, 1 << 20) < 0) return false;
    for (size_t at = 0; at < text.size();) {
        const size_t end = text.view().Find('\0', at);
        const View pair(text.data() + at, end - at);
        if (!pair.StartsWith("SBXFS_")) image->SetPair(pair);
        at = end + 1;
    }
    return true;
}

Environment MergeEnvironment(char** login, const Environment& image, bool image_is_ours) {
    Environment merged;
    for (; *login != nullptr; ++login) {
        const View pair(static_cast<const char*>(*login));
        if (!IsOfOneConnection(NameOf(pair))) merged.SetPair(pair);
    }
    for (const Str& entry : image.Entries()) {
        const View name = NameOf(entry.view());
        View there;
        const bool keep_login =
            IsIdentity(name) || (name == "HOME" && !image_is_ours && merged.Get(name, &there));
        if (!keep_login && !IsOfOneConnection(name)) merged.SetPair(entry.view());
    }
    return merged;
}

}  // namespace sbxfs::supervisor
