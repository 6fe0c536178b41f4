// sshd's sftp subsystem in lying_server_test.py: a real sftp-server whose answers pass through here, where the one that the
// control file asks for is replaced by a lie about it (tests/fakes/lying_server.h).
//
//   lying_sftp CONTROL TOLD SERVER ARGS...
//
// CONTROL: `off`; `lie TYPE WHICH TIMES`, TYPE the number of a request, WHICH counted round; `endless`: listings do not end;
// `names`: they have HostileTexts() for names, once; `stop`: half of the next answer is the last that is said.
// TOLD gets a line for each lie that was told: TYPE, WHICH, how many there are, what it says.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "sandbox/sftp_wire.h"
#include "tests/fakes/lying_server.h"

namespace sbxfs::testing {
namespace {

constexpr int kNamesAtOnce = 500;

void WriteAll(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t count = ::write(fd, bytes.data(), bytes.size());
        if (count <= 0) std::_Exit(0);  // nobody listens any more
        bytes.remove_prefix(static_cast<std::size_t>(count));
    }
}

// Hands `each` one whole packet after the other, its length included.
template <class Each>
void ForEachPacket(int fd, Each each) {
    std::string held;
    std::vector<char> piece(1 << 16);
    for (;;) {
        while (held.size() >= 4 && held.size() >= 4 + std::size_t{Get32(held)}) {
            each(held.substr(0, 4 + std::size_t{Get32(held)}));
            held.erase(0, 4 + std::size_t{Get32(held)});
        }
        const ssize_t count = ::read(fd, piece.data(), piece.size());
        if (count <= 0) return;
        held.append(piece.data(), static_cast<std::size_t>(count));
    }
}

class Liar {
 public:
    Liar(std::string control, std::string told)
        : control_(std::move(control)), told_(std::move(told)) {}

    // Whether the server is to see it.
    bool Request(const std::string& packet) {
        if (packet.size() < 9) return true;
        const auto type = SftpType{static_cast<unsigned char>(packet[4])};
        const std::uint32_t id = Get32(std::string_view(packet).substr(5));
        const std::lock_guard lock(mu_);
        if (type == SftpType::kInit) return true;
        if (type == SftpType::kReaddir && Invented(id)) return false;
        types_[id] = type;
        return true;
    }

    void Answer(const std::string& packet) {
        const std::lock_guard lock(mu_);
        const auto type = SftpType{static_cast<unsigned char>(packet[4])};
        if (type == SftpType::kVersion || packet.size() < 9) return WriteAll(STDOUT_FILENO, packet);
        const std::uint32_t id = Get32(std::string_view(packet).substr(5));
        const SftpType of = types_[id];
        types_.erase(id);
        if (stopped_) return;
        stopped_ = Asked() == "stop";
        if (stopped_) return WriteAll(STDOUT_FILENO, packet.substr(0, packet.size() / 2));
        WriteAll(STDOUT_FILENO, Said(packet, of));
        if (type == SftpType::kHandle) handle_ = packet.substr(13);
    }

 private:
    // A listing without a server.
    bool Invented(std::uint32_t id) {
        const std::string asked = Asked();
        std::vector<SftpName> names;
        if (asked == "endless") {
            for (int i = 0; i < kNamesAtOnce; ++i)
                names.push_back({"endless" + std::to_string(made_++), FileAttrs(1)});
        } else if (asked == "names" && listed_++ % 2 == 0) {
            for (const std::string& text : HostileTexts())
                names.push_back({text, FileAttrs(1, text.size() % 2 == 0 ? 0100644 : 040755)});
        } else if (asked == "names") {
            WriteAll(STDOUT_FILENO, PeerStatus(id, SftpStatus::kEof));
            return true;
        } else {
            return false;
        }
        WriteAll(STDOUT_FILENO, PeerNames(id, names));
        return true;
    }

    std::string Asked() const {
        std::string line;
        std::getline(std::ifstream(control_) >> std::ws, line);
        return line;
    }

    std::string Said(const std::string& truth, SftpType of) {
        std::istringstream asked(Asked());
        std::string word;
        unsigned type = 0;
        std::size_t which = 0;
        int times = 0;
        if (!(asked >> word >> type >> which >> times) || word != "lie" || times <= 0 ||
            SftpType{static_cast<unsigned char>(type)} != of)
            return truth;
        const std::uint32_t other = types_.empty() ? 0 : types_.begin()->first;
        const std::size_t count = LieAbout(truth, other, handle_, ~std::size_t{0}).count;
        const Lie lie = LieAbout(truth, other, handle_, which % count).told;
        // In one step: the test may look at any time.
        const std::string next = control_ + ".next";
        std::ofstream(next) << "lie " << type << ' ' << which << ' ' << times - 1 << '\n';
        (void)std::rename(next.c_str(), control_.c_str());
        std::ofstream(told_, std::ios::app)
            << type << ' ' << which % count << ' ' << count << ' ' << lie.what << std::endl;
        return lie.bytes;
    }

    const std::string control_;
    const std::string told_;
    std::mutex mu_;
    std::map<std::uint32_t, SftpType> types_;  // of the requests in flight, by id
    std::string handle_;                       // one that was given
    bool stopped_ = false;
    std::uint64_t made_ = 0;
    std::uint64_t listed_ = 0;
};

int Run(std::vector<char*> words) {
    Liar liar(words[1], words[2]);
    std::array<int, 2> to{};
    std::array<int, 2> from{};
    if (::pipe(to.data()) != 0 || ::pipe(from.data()) != 0) return 1;
    words.push_back(nullptr);
    const pid_t server = ::fork();
    if (server == 0) {
        (void)::dup2(to[0], STDIN_FILENO);
        (void)::dup2(from[1], STDOUT_FILENO);
        for (const int fd : {to[0], to[1], from[0], from[1]})
            (void)::close(fd);
        ::execv(words[3], &words[3]);
        ::_exit(127);
    }
    (void)::close(to[0]);
    (void)::close(from[1]);
    std::thread([&liar, fd = to[1]] {
        ForEachPacket(STDIN_FILENO, [&liar, fd](const std::string& packet) {
            if (liar.Request(packet)) WriteAll(fd, packet);
        });
        (void)::close(fd);
    }).detach();
    ForEachPacket(from[0], [&liar](const std::string& packet) { liar.Answer(packet); });
    (void)::waitpid(server, nullptr, 0);
    std::_Exit(0);  // the other thread may be waiting for its client
}

}  // namespace
}  // namespace sbxfs::testing

int main(int argc, char** argv) {
    if (argc < 4) return 2;
    return sbxfs::testing::Run({argv, argv + argc});
}
