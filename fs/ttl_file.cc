#include "fs/ttl_file.h"

#include <errno.h>

#include "base/strings.h"

namespace sbxfs {

std::string TtlFile::Text() const {
    const auto left = sandbox_->TimeLeftMs();
    return left ? std::to_string(*left / 1000) + "\n" : "none\n";
}

Status TtlFile::Check(std::string_view text, Part part) const {
    if (text.ends_with('\n')) {
        text.remove_suffix(1);
        part = Part::kWhole;
    }
    if (text.starts_with('+')) text.remove_prefix(1);
    if (text.empty()) return Ok();  // emptied by a shell: the number is still to come
    if (ParseSeconds(text)) return Ok();
    const bool digits = text.find_first_not_of("0123456789") == std::string_view::npos;
    if (part == Part::kBeginning && digits && text.size() < 10) return Ok();
    return Error(Errno{EINVAL},
                 "write a number of seconds, like 3600 or 1h, or + and a number to add: +3600");
}

void TtlFile::Commit(std::string text, Done done) {
    const std::string_view line = Trim(text);
    const bool add = line.starts_with('+');
    const auto seconds = ParseSeconds(line.substr(add ? 1 : 0));
    if (!seconds) return done(Ok());  // empty
    sandbox_->SetTtl({*seconds, add}, std::move(done));
}

}  // namespace sbxfs
