#include "tests/fakes/lying_server.h"

#include <algorithm>
#include <iterator>

#include "base/check.h"

namespace sbxfs::testing {
namespace {

constexpr std::string_view kContent = "0123456789";

SftpAttrs AttrsOf(std::string_view path) {
    if (path.ends_with("d") || path == "/") return FileAttrs(4096, 040755);
    if (path.ends_with("link")) return FileAttrs(6, 0120777);
    if (path.ends_with("fifo")) return FileAttrs(0, 010644);
    return FileAttrs(kContent.size());
}

std::string Number32(std::uint64_t value) {
    std::string out;
    Put32(static_cast<std::uint32_t>(value), out);
    return out;
}

std::string Number64(std::uint64_t value) {
    std::string out;
    Put64(value, out);
    return out;
}

const char* NameOf(SftpType type) {
    if (type == SftpType::kStatus) return "STATUS";
    if (type == SftpType::kHandle) return "HANDLE";
    if (type == SftpType::kData) return "DATA";
    if (type == SftpType::kName) return "NAME";
    if (type == SftpType::kAttrs) return "ATTRS";
    return "EXTENDED_REPLY";
}

// Walks a packet and notes what it passes.
class Walker {
 public:
    explicit Walker(std::string_view packet) : packet_(packet) {}

    std::uint32_t U32(const std::string& name) {
        Note(WireField::Kind::kU32, name);
        const std::uint32_t value = Get32(packet_.substr(at_));
        at_ += 4;
        return value;
    }
    void U64(const std::string& name) {
        Note(WireField::Kind::kU64, name);
        at_ += 8;
    }
    void Text(const std::string& name) {
        Note(WireField::Kind::kText, name);
        at_ += 4 + Get32(packet_.substr(at_));
    }
    void Attrs(const std::string& name) {
        const std::uint32_t flags = U32(name + ".flags");
        if ((flags & 1) != 0) U64(name + ".size");
        if ((flags & 2) != 0) {
            U32(name + ".uid");
            U32(name + ".gid");
        }
        if ((flags & 4) != 0) U32(name + ".permissions");
        if ((flags & 8) != 0) {
            U32(name + ".atime");
            U32(name + ".mtime");
        }
    }
    bool AtEnd() const { return at_ >= packet_.size(); }
    std::vector<WireField> Take() { return std::move(fields_); }

 private:
    void Note(WireField::Kind kind, const std::string& name) {
        fields_.push_back({kind, at_, name});
    }

    std::string_view packet_;
    std::size_t at_ = 5;
    std::vector<WireField> fields_;
};

std::string WithLength(std::string packet) {
    const std::string length = Number32(packet.size() - 4);
    packet.replace(0, 4, length);
    return packet;
}

}  // namespace

std::string HonestServer::PathOf(const std::string& handle) const {
    const auto found = paths_.find(handle);
    return found == paths_.end() ? "/x" : found->second;
}

std::string HonestServer::Answer(const PeerRequest& request) {
    const SftpType type = request.type;
    const std::uint32_t id = request.id;
    if (type == SftpType::kLstat || type == SftpType::kStat) {
        if (request.Text().ends_with("absent")) return PeerStatus(id, SftpStatus::kNoSuchFile);
        return PeerAttrs(id, AttrsOf(request.Text()));
    }
    if (type == SftpType::kFstat) return PeerAttrs(id, AttrsOf(PathOf(request.Text())));
    if (type == SftpType::kOpen || type == SftpType::kOpendir) {
        if (request.Text().ends_with("absent")) return PeerStatus(id, SftpStatus::kNoSuchFile);
        const std::string handle = "h" + std::to_string(opened_++);
        paths_[handle] = request.Text();
        return PeerHandle(id, handle);
    }
    if (type == SftpType::kRead) {
        if (request.Offset() >= kContent.size()) return PeerStatus(id, SftpStatus::kEof);
        return PeerData(id, kContent.substr(request.Offset(), request.Size()));
    }
    if (type == SftpType::kReaddir) {
        if (listed_[request.Text()]++ > 0) return PeerStatus(id, SftpStatus::kEof);
        return PeerNames(id, {{".", AttrsOf("/")}, {"a", AttrsOf("a")}, {"d", AttrsOf("d")}});
    }
    if (type == SftpType::kReadlink) return PeerNames(id, {{"target", {}}});
    if (type == SftpType::kRealpath) return PeerNames(id, {{request.Text(), {}}});
    if (type == SftpType::kExtended) return AnswerExtended(request);
    return PeerStatus(id, SftpStatus::kOk);
}

std::string HonestServer::AnswerExtended(const PeerRequest& request) {
    if (request.extension == "statvfs@openssh.com" || request.extension == "fstatvfs@openssh.com")
        return PeerNumbers(request.id, {4096, 4096, 1000, 500, 400, 100, 50, 50, 7, 0, 255});
    if (request.extension == "limits@openssh.com")
        return PeerNumbers(request.id, {262144, 261120, 261120, 1019});
    if (request.extension == "expand-path@openssh.com")
        return PeerNames(request.id, {{"/home/me", {}}});
    return PeerStatus(request.id, SftpStatus::kOk);
}

std::vector<WireField> FieldsOf(std::string_view packet) {
    CHECK(packet.size() >= 9);
    const auto type = SftpType{static_cast<unsigned char>(packet[4])};
    Walker walker(packet);
    walker.U32("id");
    if (type == SftpType::kStatus) {
        walker.U32("code");
        walker.Text("text");
        walker.Text("language");
    } else if (type == SftpType::kHandle || type == SftpType::kData) {
        walker.Text(type == SftpType::kData ? "data" : "handle");
    } else if (type == SftpType::kName) {
        const std::uint32_t count = walker.U32("count");
        for (std::uint32_t i = 0; i < count; ++i) {
            walker.Text("name");
            walker.Text("long name");
            walker.Attrs("attrs");
        }
    } else if (type == SftpType::kAttrs) {
        walker.Attrs("attrs");
    } else {
        while (!walker.AtEnd())
            walker.U64("number");
    }
    return walker.Take();
}

std::string WithNumber(std::string_view packet, const WireField& field, std::uint64_t value) {
    std::string lie(packet);
    if (field.kind == WireField::Kind::kU64) return lie.replace(field.offset, 8, Number64(value));
    return lie.replace(field.offset, 4, Number32(value));
}

std::string WithText(std::string_view packet, const WireField& field, std::string_view text) {
    CHECK(field.kind == WireField::Kind::kText);
    std::string lie(packet);
    lie.replace(field.offset, 4 + Get32(packet.substr(field.offset)),
                Number32(text.size()) + std::string(text));
    return WithLength(std::move(lie));
}

std::vector<std::string> HostileTexts() {
    return {"",
            ".",
            "..",
            "/",
            "/etc/passwd",
            "../../../../../../etc/passwd",
            "a/../../b",
            "a/b",
            std::string("a\0b", 3),
            std::string("..\0x", 4),
            "a\nb",
            "\x1b[2J\x07",
            "\xff\xfe\x80",
            "-rf",
            std::string(255, 'n'),
            std::string(256, 'n'),
            std::string(4095, 'p'),
            std::string(4096, 'p'),
            std::string(70000, 'x')};
}

// Only the one that is wanted is made: there are hundreds, and some are long.
#define SBXFS_LIE(what, ...)                                                 \
    do {                                                                     \
        if (lies.count++ == which) lies.told = {name + (what), __VA_ARGS__}; \
    } while (false)

Lies LieAbout(std::string_view truth, std::uint32_t other, std::string_view handle,
              std::size_t which) {
    Lies lies;
    const auto type = SftpType{static_cast<unsigned char>(truth[4])};
    const std::string name = NameOf(type);
    const std::uint32_t id = Get32(truth.substr(5));
    static const std::vector<std::string> hostile = HostileTexts();
    // Each field.
    for (const WireField& field : FieldsOf(truth)) {
        if (field.name == "id") {
            for (const std::uint32_t wrong : {other, 0U, id + 1, id - 1, id + 1000, ~0U})
                SBXFS_LIE(".id", WithNumber(truth, field, wrong));
            continue;
        }
        std::vector<std::uint64_t> values = {0,          1,          2,          4,      8,
                                             0x7fffffff, 0x80000000, 0xffffffff, 0xffff, 0x10000};
        if (field.kind == WireField::Kind::kU64) {
            for (const int bit : {32, 40, 44, 62, 63})
                values.push_back(std::uint64_t{1} << bit);
            values.insert(values.end(), {~std::uint64_t{0}, ~std::uint64_t{0} >> 1});
        }
        if (field.name.ends_with(".permissions")) {
            for (const std::uint32_t mode : {010644U, 020600U, 040755U, 060600U, 0100644U, 0120777U,
                                             0140755U, 0170000U, 07777U})
                values.push_back(mode);
        }
        if (field.name.ends_with(".flags")) {
            for (int bit = 0; bit < 32; ++bit)
                values.push_back(std::uint64_t{1} << bit);
        }
        if (field.kind != WireField::Kind::kText) {
            for (const std::uint64_t value : values)
                SBXFS_LIE("." + field.name + " = " + std::to_string(value),
                          WithNumber(truth, field, value));
            continue;
        }
        // The length alone, the packet staying as it is.
        const std::uint32_t length = Get32(truth.substr(field.offset));
        for (const std::uint32_t wrong :
             {0U, length - 1, length + 1, length + 9, 0x7fffffffU, ~0U}) {
            std::string lie(truth);
            lie.replace(field.offset, 4, Number32(wrong));
            SBXFS_LIE("." + field.name + ".length = " + std::to_string(wrong), lie);
        }
        for (const std::string& text : hostile)
            SBXFS_LIE("." + field.name + " text", WithText(truth, field, text));
        if (type == SftpType::kHandle)
            SBXFS_LIE(".handle of another", WithText(truth, field, handle));
    }
    // The packet's length.
    for (const std::uint32_t wrong : {0U, 1U, 4U, 5U, static_cast<std::uint32_t>(truth.size() - 5),
                                      static_cast<std::uint32_t>(truth.size() - 3),
                                      static_cast<std::uint32_t>(truth.size() + 100), 34000U,
                                      300000U, 0x7fffffffU, 0x80000000U, ~0U}) {
        SBXFS_LIE(" packet length = " + std::to_string(wrong),
                  std::string(truth).replace(0, 4, Number32(wrong)));
    }
    // Its type: the same bytes as another, and well-formed others.
    for (int other_type = 0; other_type < 256;
         other_type += other_type < 22 || other_type >= 95 ? 1 : 8) {
        std::string lie(truth);
        lie[4] = static_cast<char>(other_type);
        if (lie != truth) SBXFS_LIE(" as type " + std::to_string(other_type), lie);
    }
    for (std::uint32_t status = 0; status < 33; ++status)
        SBXFS_LIE(" told as STATUS " + std::to_string(status), PeerStatus(id, SftpStatus{status}));
    SBXFS_LIE(" told as STATUS of nothing", PeerPacket(SftpType::kStatus, id, Number32(3)));
    SBXFS_LIE(" told as HANDLE", PeerHandle(id, "h"));
    SBXFS_LIE(" told as HANDLE of another", PeerHandle(id, handle));
    SBXFS_LIE(" told as DATA", PeerData(id, "x"));
    SBXFS_LIE(" told as empty DATA", PeerData(id, ""));
    SBXFS_LIE(" told as much DATA", PeerData(id, std::string(300000, 'x')));
    SBXFS_LIE(" told as ATTRS", PeerAttrs(id, FileAttrs(1)));
    SBXFS_LIE(" told as ATTRS of nothing", PeerAttrs(id, {}));
    SBXFS_LIE(" told as ATTRS of a link", PeerAttrs(id, FileAttrs(1, 0120777)));
    SBXFS_LIE(" told as no NAME", PeerNames(id, {}));
    SBXFS_LIE(" told as one NAME", PeerNames(id, {{"a", FileAttrs(1)}}));
    SBXFS_LIE(" told as NAMES without attributes", PeerNames(id, {{"a", {}}, {"b", {}}}));
    SBXFS_LIE(" told as the same NAME twice",
              PeerNames(id, {{"a", FileAttrs(1)}, {"a", FileAttrs(2)}}));
    SBXFS_LIE(" told as numbers",
              PeerNumbers(id, std::vector<std::uint64_t>(11, ~std::uint64_t{0})));
    SBXFS_LIE(" told as VERSION", PeerVersion(UsualExtensions()));
    // More than was asked for, in other orders.
    SBXFS_LIE(" twice", std::string(truth) + std::string(truth));
    SBXFS_LIE(" after another's", PeerStatus(other, SftpStatus::kOk) + std::string(truth));
    SBXFS_LIE(" before nobody's", std::string(truth) + PeerStatus(id + 5000, SftpStatus::kOk));
    SBXFS_LIE(" behind noise", "Welcome!\n" + std::string(truth));
    SBXFS_LIE(" and one byte", WithLength(std::string(truth) + "x"));
    // Cut, and then nothing.
    for (std::size_t size = 0; size < truth.size(); ++size)
        SBXFS_LIE(" cut at " + std::to_string(size), std::string(truth.substr(0, size)));
    // Shorter than it says it is, in step with its length.
    for (std::size_t size = 9; size < truth.size(); ++size)
        SBXFS_LIE(" short at " + std::to_string(size),
                  WithLength(std::string(truth.substr(0, size))));
    return lies;
}
#undef SBXFS_LIE

}  // namespace sbxfs::testing
