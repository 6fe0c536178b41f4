#include "sandbox/sftp_diagnosis.h"

#include <sys/stat.h>

#include <cstddef>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "base/strings.h"

namespace sbxfs {
namespace {

constexpr std::size_t kMostAbove = 64;  // directories asked about above one path
constexpr std::size_t kMostHops = 40;   // the kernel's own limit of links in a chain

// One refused request while questions about it are out. Kept alive by the callbacks of the
// questions.
class Diagnosis : public std::enable_shared_from_this<Diagnosis> {
 public:
    Diagnosis(std::weak_ptr<SftpClient> client, SftpCase refused, std::string handle,
              UniqueFunction<void(Error)> done)
        : client_(std::move(client)),
          case_(std::move(refused)),
          handle_(std::move(handle)),
          done_(std::move(done)) {}

    void Ask(SftpClient& client);

 private:
    using Above = std::vector<std::optional<SftpAttrs>>;  // nearest first

    // Counts one question; the returned callback counts it off and finishes with the last one.
    template <class T, class F>
    SftpClient::Callback<T> Question(F take) {
        ++open_;
        return [self = shared_from_this(), take = std::move(take)](SftpAnswer<T> answer) mutable {
            if (!answer && answer.refusal().lost) self->lost_ = answer.refusal().lost;
            take(answer);
            self->CountOff();
        };
    }

    void AskKind(SftpClient& client, const std::string& path, SftpKind& kind);
    void AskAbove(SftpClient& client, const std::string& path, Above& above);
    void AskRoom(SftpClient& client);
    void AskMounts(SftpClient& client);
    void CountOff();
    void Conclude();
    void FollowLink(const std::string& link);

    bool Follows() const {
        return case_.op == SftpOp::kOpenRead || case_.op == SftpOp::kOpenWrite ||
               case_.op == SftpOp::kOpendir;
    }
    bool TwoPaths() const { return !case_.to.empty() && case_.op != SftpOp::kSymlink; }

    std::weak_ptr<SftpClient> client_;
    SftpCase case_;
    const std::string handle_;
    UniqueFunction<void(Error)> done_;
    unsigned open_ = 0;
    std::optional<Error> lost_;
    Above above_path_;
    Above above_to_;
    std::optional<SftpStatvfs> one_side_;
    std::optional<SftpStatvfs> other_side_;
    std::optional<SftpKind> behind_link_;
    std::set<std::string> followed_;
};

void Diagnosis::Ask(SftpClient& client) {
    const unsigned questions = SftpQuestions(case_.op, case_.status);
    ++open_;  // ours: nothing is concluded while questions are still being sent
    if ((questions & kSftpAskPath) != 0 && case_.facts.path == SftpKind::kUnknown) {
        AskKind(client, case_.path, case_.facts.path);
    }
    if ((questions & kSftpAskTo) != 0 && case_.facts.to == SftpKind::kUnknown && TwoPaths()) {
        AskKind(client, case_.to, case_.facts.to);
    }
    if ((questions & kSftpAskAbove) != 0) {
        AskAbove(client, case_.path, above_path_);
        if (TwoPaths()) AskAbove(client, case_.to, above_to_);
    }
    if ((questions & kSftpAskRoom) != 0) AskRoom(client);
    if ((questions & kSftpAskMounts) != 0) AskMounts(client);
    CountOff();
}

void Diagnosis::AskKind(SftpClient& client, const std::string& path, SftpKind& kind) {
    client.Lstat(path, Question<SftpAttrs>([&kind](const SftpAnswer<SftpAttrs>& attrs) {
                     if (attrs) {
                         kind = KindOf(*attrs);
                     } else if (attrs.refusal().status == SftpStatus::kNoSuchFile) {
                         kind = SftpKind::kMissing;
                     }
                 }));
    if (!Follows()) return;
    client.Stat(path, Question<SftpAttrs>([this](const SftpAnswer<SftpAttrs>& attrs) {
                    if (attrs) behind_link_ = KindOf(*attrs);
                }));
}

void Diagnosis::AskAbove(SftpClient& client, const std::string& path, Above& above) {
    std::vector<std::string> directories;
    for (std::string at = path; at != "/" && at != "." && directories.size() < kMostAbove;) {
        at = ParentPath(at);
        directories.push_back(at);
    }
    above.resize(directories.size());
    for (std::size_t i = 0; i < directories.size(); ++i) {
        client.Stat(directories[i],
                    Question<SftpAttrs>([&above, i](const SftpAnswer<SftpAttrs>& attrs) {
                        if (attrs) above[i] = *attrs;
                    }));
    }
}

void Diagnosis::AskRoom(SftpClient& client) {
    auto take = [this](const SftpAnswer<SftpStatvfs>& space) {
        if (space) case_.facts.room = *space;
    };
    if (!handle_.empty() && client.extensions().fstatvfs) {
        client.Fstatvfs(handle_, Question<SftpStatvfs>(take));
        return;
    }
    if (!client.extensions().statvfs) return;
    const bool path_is_there =
        !handle_.empty() || case_.op == SftpOp::kSetstat || case_.op == SftpOp::kTruncate;
    const std::string& target = TwoPaths() ? case_.to : case_.path;
    client.Statvfs(path_is_there ? target : ParentPath(target), Question<SftpStatvfs>(take));
}

void Diagnosis::AskMounts(SftpClient& client) {
    if (!client.extensions().statvfs) return;
    const auto into = [](std::optional<SftpStatvfs>& side) {
        return [&side](const SftpAnswer<SftpStatvfs>& space) {
            if (space) side = *space;
        };
    };
    client.Statvfs(ParentPath(case_.path), Question<SftpStatvfs>(into(one_side_)));
    client.Statvfs(TwoPaths() ? ParentPath(case_.to) : case_.path,
                   Question<SftpStatvfs>(into(other_side_)));
}

void Diagnosis::CountOff() {
    if (--open_ != 0) return;
    if (behind_link_) case_.facts.path = *behind_link_;  // that is what the operation met
    const bool wants_links =
        (SftpQuestions(case_.op, case_.status) & kSftpAskLinks) != 0 && followed_.empty();
    if (wants_links && case_.facts.path == SftpKind::kSymlink && !lost_) {
        FollowLink(case_.path);
    } else {
        Conclude();
    }
}

// The server says NO_SUCH_FILE for a chain of links that ends nowhere and for one that never ends.
void Diagnosis::FollowLink(const std::string& link) {
    const std::shared_ptr<SftpClient> client = client_.lock();
    if (client == nullptr) return Conclude();
    if (!followed_.insert(link).second || followed_.size() > kMostHops) {
        case_.facts.loop = true;
        return Conclude();
    }
    client->Readlink(link,
                     [self = shared_from_this(), link](const SftpAnswer<std::string>& target) {
                         if (!target && target.refusal().lost) self->lost_ = target.refusal().lost;
                         if (!target || !SftpTextFits(*target)) return self->Conclude();
                         const std::string next = ResolveLink(link, *target);
                         if (!SftpTextFits(next)) return self->Conclude();
                         self->FollowLink(next);
                     });
}

void Diagnosis::Conclude() {
    if (lost_) return done_(*lost_);
    SftpFacts& facts = case_.facts;
    for (const Above* above : {&above_path_, &above_to_}) {
        for (const std::optional<SftpAttrs>& directory : *above) {
            if (!directory) continue;
            if (KindOf(*directory) != SftpKind::kDirectory) facts.through_file = true;
            break;  // the nearest that exists
        }
        if (!above->empty() && above->front()) {
            facts.sticky |= (above->front()->permissions.value_or(0) & S_ISVTX) != 0;
        }
    }
    if (one_side_ && other_side_) facts.mounts_differ = one_side_->fsid != other_side_->fsid;
    done_(SftpError(case_));
}

}  // namespace

std::string ParentPath(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos) return ".";  // the login's home directory (CheckSftpPath)
    if (slash == 0) return "/";
    return path.substr(0, slash);
}

std::string ResolveLink(const std::string& link, const std::string& target) {
    const std::string joined = target.starts_with('/') ? target : ParentPath(link) + "/" + target;
    std::vector<std::string> names;
    for (std::string& name : Split(joined, '/')) {
        if (name.empty() || name == ".") continue;
        if (name != "..") {
            names.push_back(std::move(name));
        } else if (!names.empty()) {
            names.pop_back();
        }
    }
    std::string resolved = "/";
    resolved += Join(names, "/");
    return resolved;
}

void DiagnoseSftp(const std::shared_ptr<SftpClient>& client, SftpCase refused, std::string handle,
                  UniqueFunction<void(Error)> done) {
    if (client == nullptr || SftpQuestions(refused.op, refused.status) == 0) {
        return done(SftpError(refused));
    }
    const auto diagnosis =
        std::make_shared<Diagnosis>(client, std::move(refused), std::move(handle), std::move(done));
    diagnosis->Ask(*client);
}

}  // namespace sbxfs
