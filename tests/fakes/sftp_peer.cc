#include "tests/fakes/sftp_peer.h"

#include "base/check.h"

namespace sbxfs::testing {

std::string PeerRequest::Text() const {
    PacketReader in(body);
    return std::string(in.Text().has_value() ? *PacketReader(body).Text() : std::string_view());
}

std::uint64_t PeerRequest::Offset() const {
    PacketReader in(body);
    CHECK(in.Text().has_value());
    return *in.U64();
}

std::uint32_t PeerRequest::Size() const {
    PacketReader in(body);
    CHECK(in.Text().has_value() && in.U64().has_value());
    return *in.U32();
}

std::string PeerRequest::Data() const {
    PacketReader in(body);
    CHECK(in.Text().has_value() && in.U64().has_value());
    return std::string(*in.Text());
}

std::string TakeBytes(SftpClient& client) {
    std::string bytes;
    while (!client.Unsent().empty()) {
        const std::string_view piece = client.Unsent();
        bytes += piece;
        client.Sent(piece.size());
    }
    return bytes;
}

std::vector<PeerRequest> ParseRequests(std::string_view bytes) {
    std::vector<PeerRequest> requests;
    while (!bytes.empty()) {
        CHECK(bytes.size() >= 9);
        const std::size_t length = Get32(bytes);
        CHECK(length >= 5 && bytes.size() >= 4 + length);
        PeerRequest request;
        request.type = SftpType{static_cast<unsigned char>(bytes[4])};
        request.id = Get32(bytes.substr(5));
        request.body = bytes.substr(9, length - 5);
        if (request.type == SftpType::kExtended) {
            request.extension = request.Text();
            request.body.erase(0, 4 + request.extension.size());
        }
        requests.push_back(std::move(request));
        bytes.remove_prefix(4 + length);
    }
    return requests;
}

std::vector<PeerRequest> TakeRequests(SftpClient& client) {
    return ParseRequests(TakeBytes(client));
}

std::string PeerPacket(SftpType type, std::uint32_t id, std::string_view body) {
    std::string packet;
    Put32(static_cast<std::uint32_t>(5 + body.size()), packet);
    packet += static_cast<char>(type);
    Put32(id, packet);
    packet += body;
    return packet;
}

std::string PeerVersion(const std::vector<std::pair<std::string, std::string>>& extensions,
                        std::uint32_t version) {
    std::string body;
    for (const auto& [name, value] : extensions) {
        PutText(name, body);
        PutText(value, body);
    }
    return PeerPacket(SftpType::kVersion, version, body);
}

std::string PeerStatus(std::uint32_t id, SftpStatus status) {
    std::string body;
    Put32(static_cast<std::uint32_t>(status), body);
    PutText("words", body);
    PutText("en", body);
    return PeerPacket(SftpType::kStatus, id, body);
}

std::string PeerHandle(std::uint32_t id, std::string_view handle) {
    std::string body;
    PutText(handle, body);
    return PeerPacket(SftpType::kHandle, id, body);
}

std::string PeerData(std::uint32_t id, std::string_view data) {
    std::string body;
    PutText(data, body);
    return PeerPacket(SftpType::kData, id, body);
}

std::string PeerAttrs(std::uint32_t id, const SftpAttrs& attrs) {
    std::string body;
    PutAttrs(attrs, body);
    return PeerPacket(SftpType::kAttrs, id, body);
}

std::string PeerNames(std::uint32_t id, const std::vector<SftpName>& names) {
    std::string body;
    Put32(static_cast<std::uint32_t>(names.size()), body);
    for (const SftpName& name : names) {
        PutText(name.name, body);
        PutText("-rw-r--r-- 1 long name", body);
        PutAttrs(name.attrs, body);
    }
    return PeerPacket(SftpType::kName, id, body);
}

std::string PeerNumbers(std::uint32_t id, const std::vector<std::uint64_t>& numbers) {
    std::string body;
    for (const std::uint64_t number : numbers)
        Put64(number, body);
    return PeerPacket(SftpType::kExtendedReply, id, body);
}

std::vector<std::pair<std::string, std::string>> UsualExtensions() {
    return {{"posix-rename@openssh.com", "1"}, {"statvfs@openssh.com", "2"},
            {"fstatvfs@openssh.com", "2"},     {"hardlink@openssh.com", "1"},
            {"fsync@openssh.com", "1"},        {"lsetstat@openssh.com", "1"},
            {"expand-path@openssh.com", "1"},  {"copy-data", "1"}};
}

std::shared_ptr<SftpClient> ReadyClient(
    const std::vector<std::pair<std::string, std::string>>& extensions, std::uint32_t first_id) {
    std::shared_ptr<SftpClient> client = SftpClient::Make(7, first_id);
    bool ready = false;
    client->Start([&](const Status& status) { ready = status.has_value(); });
    (void)TakeBytes(*client);
    CHECK(client->Feed(PeerVersion(extensions)).has_value());
    CHECK(ready);
    return client;
}

SftpAttrs FileAttrs(std::uint64_t size, std::uint32_t mode) {
    SftpAttrs attrs;
    attrs.size = size;
    attrs.owner = SftpAttrs::Owner{.uid = 1000, .gid = 100};
    attrs.permissions = mode;
    attrs.times = SftpAttrs::Times{.atime = 11, .mtime = 22};
    return attrs;
}

}  // namespace sbxfs::testing
