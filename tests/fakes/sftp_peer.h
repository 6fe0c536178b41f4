// The server's side of an SFTP session, as bytes in a test's hand: reads what a client sends,
// writes what a server may answer, right or wrong.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sandbox/sftp_client.h"
#include "sandbox/sftp_wire.h"

namespace sbxfs::testing {

// One request as it was on the wire.
struct PeerRequest {
    SftpType type{};
    std::uint32_t id = 0;  // of INIT: the version
    std::string body;      // after the id; of an extension: after its name
    std::string extension;

    std::string Text() const;      // the first string of the body
    std::uint64_t Offset() const;  // of READ and WRITE
    std::uint32_t Size() const;    // of READ
    std::string Data() const;      // of WRITE
};

// All that `client` has to send, taken off it.
std::string TakeBytes(SftpClient& client);
std::vector<PeerRequest> ParseRequests(std::string_view bytes);
std::vector<PeerRequest> TakeRequests(SftpClient& client);

// Answers.
std::string PeerPacket(SftpType type, std::uint32_t id, std::string_view body);
std::string PeerVersion(const std::vector<std::pair<std::string, std::string>>& extensions,
                        std::uint32_t version = 3);
std::string PeerStatus(std::uint32_t id, SftpStatus status);
std::string PeerHandle(std::uint32_t id, std::string_view handle);
std::string PeerData(std::uint32_t id, std::string_view data);
std::string PeerAttrs(std::uint32_t id, const SftpAttrs& attrs);
std::string PeerNames(std::uint32_t id, const std::vector<SftpName>& names);
std::string PeerNumbers(std::uint32_t id,
                        const std::vector<std::uint64_t>& numbers);  // statvfs@, limits@

// Every extension of OpenSSH 9.2 but limits@openssh.com.
std::vector<std::pair<std::string, std::string>> UsualExtensions();
// A client that has been told `extensions` and is ready.
std::shared_ptr<SftpClient> ReadyClient(
    const std::vector<std::pair<std::string, std::string>>& extensions = UsualExtensions(),
    std::uint32_t first_id = 1);

SftpAttrs FileAttrs(std::uint64_t size, std::uint32_t mode = 0100644);

}  // namespace sbxfs::testing
