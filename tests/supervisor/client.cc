#include "tests/supervisor/client.h"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace sbxfs::supervisor {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

UniqueFd StartAttach(const std::string& spool, const AttachOptions& options, pid_t* pid) {
    std::array<int, 2> ends{};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    std::vector<std::string> words = options.prefix;
    words.push_back(options.program.empty() ? NativeProgram() : options.program);
    words.insert(words.end(), {"attach", "--spool", spool});
    words.insert(words.end(), options.extra.begin(), options.extra.end());
    std::vector<std::string> env = {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
        "LC_ALL=C.UTF-8", "SSH_CONNECTION=1 2 3 4"};
    env.insert(env.end(), options.environment.begin(), options.environment.end());
    const auto pointers = [](std::vector<std::string>& from) {
        std::vector<char*> to;
        to.reserve(from.size() + 1);
        for (std::string& word : from)
            to.push_back(word.data());
        to.push_back(nullptr);
        return to;
    };
    const std::vector<char*> argv = pointers(words);
    const std::vector<char*> envp = pointers(env);
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 0);
        dup2(ends[1], 1);
        execvpe(argv[0], argv.data(), envp.data());
        _exit(126);
    }
    *pid = child;
    close(ends[1]);
    UniqueFd ours(ends[0]);
    return ours;
}

}  // namespace

std::string NativeProgram() {
    if (const char* other = std::getenv("SBXFS_TEST_SUPERVISOR"))
        return other;  // scripts/coverage.sh
#if defined(__aarch64__)
    return SBXFS_SUPERVISOR_DIR "/sbxfs-supervisor-arm64";
#else
    return SBXFS_SUPERVISOR_DIR "/sbxfs-supervisor-amd64";
#endif
}

std::string Frame(Type type, const std::function<void(Writer<std::string>&)>& payload) {
    std::string bytes;
    {
        Writer<std::string> writer(bytes, type);
        payload(writer);
    }
    return bytes;
}

Text AsText(std::string_view text) {
    return Text{text.data(), static_cast<std::uint32_t>(text.size())};
}

std::string AsString(Text text) {
    return std::string(text.data, text.size);
}

Client::Client(std::string spool, const AttachOptions& options) : spool_(std::move(spool)) {
    fd_ = StartAttach(spool_, options, &attach_);
}

Client::~Client() {
    fd_.reset();
    if (attach_ > 0) {
        kill(attach_, SIGKILL);
        waitpid(attach_, nullptr, 0);
    }
}

bool Client::ReadSome(int timeout_ms) {
    pollfd poll_fd{fd_.get(), POLLIN, 0};
    if (closed || poll(&poll_fd, 1, timeout_ms) <= 0) return false;
    std::array<char, 65536> page{};
    const ssize_t got = read(fd_.get(), page.data(), page.size());
    if (got <= 0) {
        closed = true;
        return false;
    }
    in_.append(page.data(), static_cast<std::size_t>(got));
    return true;
}

bool Client::AwaitMagic() {
    const auto end = steady_clock::now() + std::chrono::seconds(15);
    while (steady_clock::now() < end && !closed) {
        ReadSome(100);
        const std::size_t at = in_.find(static_cast<const char*>(kMagic));
        if (at != std::string::npos) {
            noise = in_.substr(0, at);
            in_.erase(0, at + sizeof kMagic - 1);
            return true;
        }
    }
    return false;
}

bool Client::Greet(std::uint64_t epoch) {
    if (!AwaitMagic()) return false;
    const int before = known_ends;
    Send(Frame(Type::kHello, [&](auto& w) { w.U32(kOldestProtocol).U32(kProtocol).U64(epoch); }));
    return Await([&] { return known_ends > before || closed; }) && !closed;
}

bool Client::TrySend(const std::string& bytes) {
    std::string_view left = bytes;
    while (!left.empty()) {
        const ssize_t put = send(fd_.get(), left.data(), left.size(), MSG_NOSIGNAL);
        if (put < 0) return false;
        left.remove_prefix(static_cast<std::size_t>(put));
    }
    return true;
}

void Client::Send(const std::string& frame) {
    EXPECT_TRUE(TrySend(frame));
}

void Client::Start(std::uint64_t n, const std::string& script, const StartOptions& options) {
    last_n = std::max(last_n, n);
    StartFields fields;
    fields.n = n;
    fields.lane = options.lane;
    fields.login_shell = options.login ? 1 : 0;
    fields.timeout_ms = options.timeout_ms;
    fields.output_limit = options.output_limit;
    fields.shell = AsText(options.shell);
    fields.cwd = AsText(options.cwd);
    fields.user = AsText(options.user);
    fields.script = AsText(script);
    Send(Frame(Type::kStart, [&](auto& w) {
        PutStartFields(w, fields);
        w.U32(static_cast<std::uint32_t>(options.env.size()));
        for (const auto& [name, value] : options.env)
            w.String(AsText(name)).String(AsText(value));
    }));
}

void Client::Read(std::uint64_t n, std::uint64_t out, std::uint64_t err) {
    Heard& command = heard[n];
    command.out = {};
    command.holes.clear();
    command.next = {out, err};
    Send(Frame(Type::kRead, [&](auto& w) { w.U64(n).U64(out).U64(err); }));
}

void Client::Credit(std::uint32_t bytes) {
    Send(Frame(Type::kCredit, [&](auto& w) { w.U32(bytes); }));
}

void Client::Signal(std::uint64_t n, int signal) {
    Send(Frame(Type::kSignal, [&](auto& w) { w.U64(n).U32(static_cast<std::uint32_t>(signal)); }));
}

void Client::Forget(std::uint64_t n) {
    Send(Frame(Type::kForget, [&](auto& w) { w.U64(n); }));
}

void Client::Number(Type type, std::uint32_t request) {
    Send(Frame(type, [&](auto& w) { w.U32(request); }));
}

bool Client::Await(const std::function<bool()>& true_now, milliseconds limit) {
    const auto end = steady_clock::now() + limit;
    while (!true_now()) {
        while (in_.size() >= 4) {
            Reader reader(in_.data(), 4);
            const std::uint32_t length = reader.U32();
            EXPECT_GE(length, 1U);
            EXPECT_LE(length, kMaxFrame);
            if (length < 1 || length > kMaxFrame || in_.size() - 4 < length) break;
            const std::string frame = in_.substr(4, length);
            in_.erase(0, 4 + static_cast<std::size_t>(length));
            Handle(static_cast<Type>(static_cast<std::uint8_t>(frame[0])),
                   std::string_view(frame).substr(1));
        }
        if (true_now()) return true;
        const auto left = std::chrono::duration_cast<milliseconds>(end - steady_clock::now());
        if (left.count() <= 0 || closed) {
            ADD_FAILURE() << (closed ? "closed: " : "too late: ") << Describe();
            return false;
        }
        ReadSome(static_cast<int>(left.count()));
    }
    return true;
}

bool Client::AwaitDone(std::uint64_t n, milliseconds limit) {
    // With all its output: Done may come first when the credit is short.
    return Await(
        [this, n] {
            const auto found = heard.find(n);
            return found != heard.end() && found->second.done > 0;
        },
        limit);
}

bool Client::AwaitStarted(std::uint64_t n) {
    return Await([&] { return heard[n].started > 0; });
}

bool Client::AwaitOutput(std::uint64_t n, int stream, std::string_view text) {
    return Await([&] {
        return heard[n].out.at(static_cast<std::size_t>(stream)).find(text) != std::string::npos;
    });
}

bool Client::AwaitPong(std::uint32_t request) {
    return Await([&] { return std::find(pongs.begin(), pongs.end(), request) != pongs.end(); });
}

bool Client::Sync() {
    Number(Type::kPing, ++next_sync_);
    return AwaitPong(next_sync_);
}

bool Client::AwaitClosed() {
    const auto end = steady_clock::now() + std::chrono::seconds(10);
    while (!closed && steady_clock::now() < end) {
        in_.clear();
        ReadSome(50);
    }
    return closed;
}

Heard& Client::Run(const std::string& script, const StartOptions& options) {
    const std::uint64_t n = last_n + 1;
    Start(n, script, options);
    AwaitDone(n, std::chrono::seconds(20));
    return heard[n];
}

bool Client::Shutdown(bool remove_spool) {
    constexpr std::uint32_t kRequest = 4242;
    if (!TrySend(
            Frame(Type::kShutdown, [&](auto& w) { w.U32(kRequest).U8(remove_spool ? 1 : 0); }))) {
        return false;
    }
    return AwaitPong(kRequest);
}

int Client::AwaitExit() {
    int status = 0;
    const bool ended = AwaitTrue([&] { return waitpid(attach_, &status, WNOHANG) == attach_; });
    if (!ended) return -1;
    attach_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void Client::CloseChannel() {
    fd_.reset();
}

void Client::Handle(Type type, std::string_view payload) {
    Reader reader(payload.data(), payload.size());
    if (type == Type::kHelloOk) {
        hello_bytes_ = payload;
        Reader kept(hello_bytes_.data(), hello_bytes_.size());
        hello = GetHelloOkFields(kept);
        EXPECT_TRUE(kept.at_end());
    } else if (type == Type::kKnown) {
        Heard& command = heard[reader.U64()];
        ++command.known;
        command.state = static_cast<State>(reader.U8());
        command.known_size = {reader.U64(), reader.U64()};
        EXPECT_TRUE(reader.at_end());
    } else if (type == Type::kKnownEnd) {
        ++known_ends;
    } else if (type == Type::kStarted) {
        Heard& command = heard[reader.U64()];
        ++command.started;
        command.pid = reader.U32();
        EXPECT_GT(reader.U64(), 1500000000000U);
        EXPECT_TRUE(reader.at_end());
    } else if (type == Type::kOutput || type == Type::kHole) {
        HandleOutput(type, reader);
    } else if (type == Type::kDone) {
        const DoneFields fields = GetDoneFields(reader);
        EXPECT_TRUE(reader.at_end());
        Heard& command = heard[fields.n];
        ++command.done;
        command.end.fields = fields;
        command.end.reason = AsString(fields.reason);
        command.end.cwd = AsString(fields.cwd);
        command.size_at_done = command.next;
        command.order += 'D';
    } else if (type == Type::kError) {
        Refusal refusal;
        refusal.request = reader.U32();
        refusal.n = reader.U64();
        refusal.error = reader.U32();
        refusal.text = AsString(reader.String());
        EXPECT_TRUE(reader.at_end());
        refusals.push_back(refusal);
    } else if (type == Type::kPong) {
        pongs.push_back(reader.U32());
    } else {
        answers.push_back(std::string(1, static_cast<char>(type)) + std::string(payload));
    }
}

void Client::HandleOutput(Type type, Reader& reader) {
    const std::uint64_t n = reader.U64();
    const std::size_t stream = reader.U8() - 1U;
    const std::uint64_t offset = reader.U64();
    ASSERT_LT(stream, 2U);
    Heard& command = heard[n];
    EXPECT_EQ(offset, command.next.at(stream)) << "of command " << n;
    if (type == Type::kHole) {
        const std::uint64_t length = reader.U64();
        EXPECT_TRUE(reader.at_end());
        command.holes.push_back({stream, offset, length});
        command.next.at(stream) = offset + length;
        return;
    }
    const Text text = reader.String();
    EXPECT_TRUE(reader.at_end());
    EXPECT_LE(text.size, kMaxOutputChunk);
    if (keep_output) command.out.at(stream).append(text.data, text.size);
    command.next.at(stream) = offset + text.size;
    command.order += stream == 0 ? 'o' : 'e';
    received += text.size;
    if (auto_credit) Credit(text.size);
}

std::string Client::Describe() const {
    std::ostringstream text;
    text << "known ends " << known_ends << ", received " << received << '\n';
    for (const auto& [n, command] : heard) {
        text << "  " << n << ": known " << command.known << " started " << command.started
             << " done " << command.done << " reason '" << command.end.reason << "' out '"
             << command.out[0].substr(0, 200) << "' err '" << command.out[1].substr(0, 200)
             << "'\n";
        if (n > 50) break;
    }
    for (const Refusal& refusal : refusals) {
        text << "  refused " << refusal.n << ' ' << refusal.error << ' ' << refusal.text << '\n';
    }
    return text.str();
}

SpoolDir::SpoolDir() {
    std::string name = "/tmp/sbxfs-supervisor-test-XXXXXX";
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
}

SpoolDir::~SpoolDir() {
    for (const pid_t pid : HoldersOf(Path() + "/lock"))
        kill(pid, SIGTERM);
    AwaitTrue([this] { return HoldersOf(Path() + "/lock").empty(); });
    for (const pid_t pid : HoldersOf(Path() + "/lock"))
        kill(pid, SIGKILL);
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
}

std::vector<pid_t> HoldersOf(const std::string& path) {
    std::vector<pid_t> holders;
    std::error_code error;
    for (const auto& process : std::filesystem::directory_iterator("/proc", error)) {
        const std::string name = process.path().filename();
        if (name.find_first_not_of("0123456789") != std::string::npos) continue;
        std::error_code gone;
        for (const auto& fd : std::filesystem::directory_iterator(process.path() / "fd", gone)) {
            std::error_code unreadable;
            if (std::filesystem::read_symlink(fd.path(), unreadable) != path) continue;
            holders.push_back(std::stoi(name));
            break;
        }
    }
    return holders;
}

bool IsAlive(pid_t pid) {
    const std::string stat = ReadText("/proc/" + std::to_string(pid) + "/stat");
    const std::size_t close = stat.rfind(')');
    return close != std::string::npos && stat.size() > close + 2 && stat[close + 2] != 'Z';
}

bool AwaitTrue(const std::function<bool()>& true_now, milliseconds limit) {
    const auto end = steady_clock::now() + limit;
    while (!true_now()) {
        if (steady_clock::now() > end) return false;
        poll(nullptr, 0, 5);
    }
    return true;
}

std::string ReadText(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace sbxfs::supervisor
