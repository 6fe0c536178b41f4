#include "base/result.h"

#include <string.h>

namespace sbxfs {

std::string_view ErrnoText(Errno code) {
    // strerrordesc_np returns a static string without touching the locale (glibc 2.32), unlike
    // strerror.
    const char* text = strerrordesc_np(static_cast<int>(code));
    return text != nullptr ? text : "unknown error";
}

Error Error::While(std::string_view doing) const& {
    std::string text = "while ";
    text += doing;
    text += ": ";
    text += what_;
    return {code_, std::move(text), blame_};
}

Error SystemError(int code, std::string_view what, Blame blame) {
    std::string text(what);
    text += ": ";
    text += ErrnoText(Errno{code});
    return {Errno{code}, std::move(text), blame};
}

}  // namespace sbxfs
