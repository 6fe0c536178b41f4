#include "sandbox/supervisor_bootstrap.h"

#include "base/strings.h"

namespace sbxfs {
namespace {

constexpr std::string_view kSiteMark = "sbxfs-attach 1 ";

// For sh. One line without ' and !, so that any login shell, csh and fish among them, passes it on as it is.
//
// umask is changed in a subshell: commands inherit that of the supervisor. `head` may take more than it was asked for
// (busybox does), so nothing may follow the program before the supervisor has spoken. A link that is cut ends `head`
// early, and what is not whole must not get the program's name.
constexpr std::string_view kScript =
    "p=$1 d=$2 t=; shift 2; "
    "for f in \"$@\"; do if [ -e \"$f\" ]; then read -r t <\"$f\"; break; fi; done; "
    "if [ -x \"$p\" ]; then s=present; elif [ -e \"$d\" ]; then s=missing; else s=nowhere; fi; "
    "echo \"sbxfs-attach 1 $(uname -m) $s $t\"; "
    "read -r w n x || exit 0; "
    "case $w in "
    "run) ;; "
    "bring) (umask 077; n=$((n)) x=$p.new-$x; mkdir -p \"${p%/*}\" && head -c $n >\"$x\" && "
    "[ $(($(wc -c <\"$x\"))) = $n ] && chmod 700 \"$x\" && mv -f \"$x\" \"$p\" || "
    "{ rm -f \"$x\"; exit 1; }) || exit 97 ;; "
    "*) exit 0 ;; "
    "esac; "
    "exec \"$p\" attach --spool \"$d\"";

// The supervisor wants an absolute spool; what SFTP takes as relative is below the home directory.
std::string InShell(const std::string& path) {
    return path.starts_with('/') ? ShellQuote(path) : "\"$HOME\"/" + ShellQuote(path);
}

}  // namespace

std::string BootstrapCommand(const std::string& program, const std::string& spool,
                             const std::vector<std::string>& proof_files) {
    std::string command =
        "exec sh -c '" + std::string(kScript) + "' sh " + InShell(program) + " " + InShell(spool);
    for (const std::string& file : proof_files)
        command += " " + InShell(file);
    return command;
}

std::optional<SupervisorSite> TakeSite(std::string& said) {
    const std::size_t mark = said.find(kSiteMark);
    if (mark == std::string::npos) return std::nullopt;
    const std::size_t at = mark + kSiteMark.size();
    const std::size_t end = said.find('\n', at);
    if (end == std::string::npos) return std::nullopt;
    const std::vector<std::string> words = Split(std::string_view(said).substr(at, end - at), ' ');
    said.erase(0, end + 1);
    SupervisorSite site;
    site.machine = words[0];
    if (words.size() > 1 && words[1] == "present") site.program = SupervisorSite::Program::kPresent;
    if (words.size() > 1 && words[1] == "nowhere") site.program = SupervisorSite::Program::kNoSpool;
    if (words.size() > 2) site.proof = words[2];
    return site;
}

std::string BringWords(std::size_t program_size, const std::string& nonce) {
    return "bring " + std::to_string(program_size) + " " + nonce + "\n";
}

}  // namespace sbxfs
