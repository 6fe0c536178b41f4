// The floor that reading and writing over SFTP is compared with: one libssh session, one channel, a fixed number of
// requests of the server's own size in flight, and nothing else. No cache, no FUSE, no engine of ours: its packets are
// put together here.
//
// Usage: sbxfs_sftp_loop read|write PORT IDENTITY_FILE USER PATH BYTES [REQUESTS_IN_FLIGHT]
// Prints one JSON object: seconds from the open to the close's answer, and the CPU seconds of this process in them.
#include <libssh/libssh.h>
#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

constexpr std::size_t kBlock = 255U << 10;  // OpenSSH's limit on the data of one request
constexpr std::uint8_t kInit = 1, kOpen = 3, kClose = 4, kRead = 5, kWrite = 6, kFsync = 200;
constexpr std::uint8_t kStatus = 101, kHandle = 102, kData = 103;

[[noreturn]] void Fail(const std::string& why) {
    (void)std::fprintf(stderr, "sbxfs_sftp_loop: %s\n", why.c_str());
    std::exit(1);
}

std::string Number(std::uint64_t value, int bytes) {
    std::string out;
    while (bytes-- > 0)
        out += static_cast<char>(value >> (8 * bytes));
    return out;
}

std::string Text(std::string_view text) {
    return Number(text.size(), 4).append(text);
}

std::uint32_t Read32(std::string_view bytes) {
    std::uint32_t value = 0;
    for (const char byte : bytes.substr(0, 4))
        value = value << 8 | static_cast<std::uint8_t>(byte);
    return value;
}

double Seconds(clockid_t clock) {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

class Loop {
 public:
    Loop(int port, const char* identity, const char* user) : session_(ssh_new()) {
        const int off = 0;
        const bool on = true;
        (void)ssh_options_set(session_, SSH_OPTIONS_PROCESS_CONFIG, &off);
        (void)ssh_options_set(session_, SSH_OPTIONS_HOST, "127.0.0.1");
        (void)ssh_options_set(session_, SSH_OPTIONS_PORT, &port);
        (void)ssh_options_set(session_, SSH_OPTIONS_USER, user);
        (void)ssh_options_set(session_, SSH_OPTIONS_NODELAY, &on);
        (void)ssh_options_set(session_, SSH_OPTIONS_CIPHERS_C_S, "aes128-gcm@openssh.com");
        (void)ssh_options_set(session_, SSH_OPTIONS_CIPHERS_S_C, "aes128-gcm@openssh.com");
        ssh_key key = nullptr;
        if (ssh_pki_import_privkey_file(identity, nullptr, nullptr, nullptr, &key) != SSH_OK)
            Fail("no key");
        if (ssh_connect(session_) != SSH_OK) Fail(ssh_get_error(session_));
        // The server is the benchmark's own, started a moment ago on loopback: its host key is not checked.
        if (ssh_userauth_publickey(session_, nullptr, key) != SSH_AUTH_SUCCESS) Fail("not let in");
        ssh_key_free(key);
        channel_ = ssh_channel_new(session_);
        if (channel_ == nullptr || ssh_channel_open_session(channel_) != SSH_OK ||
            ssh_channel_request_sftp(channel_) != SSH_OK)
            Fail("no sftp");
        Send(kInit, Number(3, 4));
        (void)Receive();
    }
    ~Loop() {
        ssh_channel_free(channel_);
        ssh_disconnect(session_);
        ssh_free(session_);
    }
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;

    void Read(const char* path, std::uint64_t size, int in_flight) {
        const std::string handle = Open(path, 1);
        std::uint64_t asked = 0, got = 0;
        int waiting = 0;
        while (got < size) {
            for (; waiting < in_flight && asked < size; ++waiting, asked += kBlock)
                Send(kRead, Number(0, 4) + Text(handle) + Number(asked, 8) +
                                Number(std::min<std::uint64_t>(kBlock, size - asked), 4));
            const std::string_view answer = Receive();
            if (static_cast<std::uint8_t>(answer[0]) != kData) Fail("READ refused");
            got += Read32(answer.substr(5));
            --waiting;
        }
        Close(handle);
    }

    void Write(const char* path, std::uint64_t size, int in_flight) {
        const std::string handle = Open(path, 2 | 8 | 16);
        const std::string block(kBlock, 'x');
        std::uint64_t sent = 0;
        int waiting = 0;
        while (sent < size || waiting > 0) {
            for (; waiting < in_flight && sent < size; ++waiting) {
                const std::size_t part = std::min<std::uint64_t>(kBlock, size - sent);
                Send(kWrite, Number(0, 4) + Text(handle) + Number(sent, 8) + Number(part, 4),
                     std::string_view(block).substr(0, part));
                sent += part;
            }
            Expect(kStatus);
            --waiting;
        }
        Send(kFsync, Number(0, 4) + Text("fsync@openssh.com") + Text(handle));
        Expect(kStatus);
        Close(handle);
    }

 private:
    std::string Open(const char* path, std::uint32_t flags) {
        Send(kOpen, Number(0, 4) + Text(path) + Number(flags, 4) + Number(0, 4));
        const std::string_view answer = Receive();
        if (static_cast<std::uint8_t>(answer[0]) != kHandle) Fail("OPEN refused");
        return std::string(answer.substr(9, Read32(answer.substr(5))));
    }

    void Close(const std::string& handle) {
        Send(kClose, Number(0, 4) + Text(handle));
        Expect(kStatus);
    }

    void Expect(std::uint8_t type) {
        const std::string_view answer = Receive();
        if (static_cast<std::uint8_t>(answer[0]) != type || Read32(answer.substr(5)) != 0)
            Fail("refused");
    }

    void Put(std::string_view bytes) {
        while (!bytes.empty()) {
            const int put =
                ssh_channel_write(channel_, bytes.data(), static_cast<std::uint32_t>(bytes.size()));
            if (put < 0) Fail(ssh_get_error(session_));
            bytes.remove_prefix(static_cast<std::size_t>(put));
        }
    }

    void Send(std::uint8_t type, const std::string& body, std::string_view data = {}) {
        Put(Number(1 + body.size() + data.size(), 4) + static_cast<char>(type) + body);
        if (!data.empty()) Put(data);
    }

    // The next packet without its length; valid until the next call.
    std::string_view Receive() {
        begin_ += current_;
        current_ = 0;
        if (begin_ == end_) begin_ = end_ = 0;
        while (end_ - begin_ < 4 || end_ - begin_ < 4 + Read32(Held()))
            Fill();
        current_ = 4 + Read32(Held());
        return Held().substr(4, current_ - 4);
    }

    std::string_view Held() const {
        return std::string_view(buffer_).substr(begin_, end_ - begin_);
    }

    void Fill() {
        if (begin_ > 0 && buffer_.size() - end_ < (64U << 10)) {
            buffer_.replace(0, end_ - begin_, buffer_, begin_, end_ - begin_);
            end_ -= begin_;
            begin_ = 0;
        }
        const int got = ssh_channel_read(channel_, buffer_.data() + end_,
                                         static_cast<std::uint32_t>(buffer_.size() - end_), 0);
        if (got <= 0) Fail("the session has ended");
        end_ += static_cast<std::size_t>(got);
    }

    ssh_session session_;
    ssh_channel channel_ = nullptr;
    std::string buffer_ = std::string(1U << 20, '\0');
    std::size_t begin_ = 0, end_ = 0, current_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
    if (argc < 7)
        Fail(
            "usage: sbxfs_sftp_loop read|write PORT IDENTITY_FILE USER PATH BYTES "
            "[REQUESTS_IN_FLIGHT]");
    Loop loop(std::atoi(argv[2]), argv[3], argv[4]);
    const std::uint64_t size = std::strtoull(argv[6], nullptr, 10);
    const int in_flight = argc > 7 ? std::atoi(argv[7]) : 32;
    const double wall = Seconds(CLOCK_MONOTONIC);
    const double cpu = Seconds(CLOCK_PROCESS_CPUTIME_ID);
    if (std::string_view(argv[1]) == "read") {
        loop.Read(argv[5], size, in_flight);
    } else {
        loop.Write(argv[5], size, in_flight);
    }
    rusage usage{};
    (void)getrusage(RUSAGE_SELF, &usage);
    std::printf("{\"seconds\": %.6f, \"cpu_seconds\": %.6f, \"peak_kib\": %ld}\n",
                Seconds(CLOCK_MONOTONIC) - wall, Seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu,
                usage.ru_maxrss);
    return 0;
}
