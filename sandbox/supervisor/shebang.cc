#include "sandbox/supervisor/shebang.h"

namespace sbxfs::supervisor {
namespace {

bool IsBlank(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

View Trim(View text) {
    while (!text.empty() && IsBlank(text[0]))
        text = text.From(1);
    while (!text.empty() && IsBlank(text[text.size - 1]))
        text = text.First(text.size - 1);
    return text;
}

}  // namespace

bool ParseShebang(View script, Shebang* to) {
    if (!script.StartsWith("#!")) return false;
    const View line = Trim(script.First(script.Find('\n')).From(2));
    size_t end = 0;
    while (end < line.size && !IsBlank(line[end]))
        ++end;
    if (end == 0 || end > 255 || line[0] != '/') return false;
    to->interpreter = line.First(end);
    to->argument = Trim(line.From(end));
    return true;
}

}  // namespace sbxfs::supervisor
