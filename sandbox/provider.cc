#include "sandbox/provider.h"

#include <utility>

#include "sandbox/strict_json.h"

namespace sbxfs {
namespace {

// {"unix": PATH} or {"host": HOST, "port": PORT}
Json AddressToJson(const Address& address) {
    Json json = Json::Object();
    if (const auto* local = std::get_if<UnixAddress>(&address)) {
        json.Set("unix", local->path);
        return json;
    }
    const auto& tcp = *std::get_if<TcpAddress>(&address);
    json.Set("host", tcp.host).Set("port", std::int64_t{tcp.port});
    return json;
}

Result<Address> AddressFromJson(const Json& json) {
    StrictJson in(json, "address");
    if (json.Find("unix")) {
        UnixAddress local;
        in.Take("unix", local.path);
        (void)TRY(in.Finish());
        return Address(std::move(local));
    }
    TcpAddress tcp;
    std::int64_t port = tcp.port;
    in.Require("host").Take("host", tcp.host).Take("port", port);
    if (port < 1 || port > 65535) in.Fail("port", "1 to 65535");
    (void)TRY(in.Finish());
    tcp.port = static_cast<std::uint16_t>(port);
    return Address(std::move(tcp));
}

}  // namespace

Json ConnectInfo::ToJson() const {
    Json json = Json::Object();
    json.Set("address", AddressToJson(address)).Set("user", user);
    json.Set("host_key", host_key).Set("spool_dir", spool_dir);
    return json;
}

Result<ConnectInfo> ConnectInfo::FromJson(const Json& json) {
    ConnectInfo info;
    StrictJson in(json, "connect info");
    in.Require("address").Require("user").Require("host_key");
    const auto address = in.TakeAny("address");
    in.Take("user", info.user).Take("host_key", info.host_key).Take("spool_dir", info.spool_dir);
    (void)TRY(in.Finish());
    info.address = TRY(AddressFromJson(*address));
    return info;
}

}  // namespace sbxfs
