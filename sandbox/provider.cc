#include "sandbox/provider.h"

#include <errno.h>

#include <utility>

#include "sandbox/strict_json.h"

namespace sbxfs {
namespace {

Json ListOf(const std::vector<std::string>& texts) {
    Json list = Json::Array();
    for (const std::string& text : texts)
        list.Append(Json::String(text));
    return list;
}

// {"unix": PATH}, {"program": [WORD...], "shown": TEXT} or {"host": HOST, "port": PORT}
Json AddressToJson(const Address& address) {
    Json json = Json::Object();
    if (const auto* program = std::get_if<ProgramAddress>(&address)) {
        json.Set("program", ListOf(program->argv)).Set("shown", program->shown);
        return json;
    }
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
    if (json.Find("program")) {
        ProgramAddress program;
        in.Take("program", program.argv).Take("shown", program.shown);
        if (program.argv.empty()) in.Fail("program", "a list of words");
        (void)TRY(in.Finish());
        return Address(std::move(program));
    }
    TcpAddress tcp;
    std::int64_t port = tcp.port;
    in.Require("host").Take("host", tcp.host).Take("port", port);
    if (port < 1 || port > 65535) in.Fail("port", "1 to 65535");
    (void)TRY(in.Finish());
    tcp.port = static_cast<std::uint16_t>(port);
    return Address(std::move(tcp));
}

// {"identity_file": PATH} or {"agent": SOCKET}
Json AuthToJson(const ClientAuth& auth) {
    if (const auto* file = std::get_if<IdentityFile>(&auth))
        return Json::Object().Set("identity_file", file->path);
    return Json::Object().Set("agent", std::get<Agent>(auth).socket);
}

Result<ClientAuth> AuthFromJson(const Json& json) {
    StrictJson in(json, "client auth");
    if (json.Find("agent")) {
        Agent agent;
        in.Take("agent", agent.socket);
        (void)TRY(in.Finish());
        return ClientAuth(std::move(agent));
    }
    IdentityFile file;
    in.Require("identity_file").Take("identity_file", file.path);
    (void)TRY(in.Finish());
    return ClientAuth(std::move(file));
}

}  // namespace

void Provider::Stop(const std::string&, const std::string&, Done done) {
    done(Error(Errno{EOPNOTSUPP}, "this provider cannot stop a sandbox; rmdir ends it for good"));
}

void Provider::Start(const LaunchSpec&, LaunchPhase, LaunchDone done) {
    done(Error(Errno{EOPNOTSUPP}, "this provider cannot start a sandbox again"));
}

std::string AddressText(const Address& address) {
    if (const auto* tcp = std::get_if<TcpAddress>(&address)) {
        const bool v6 = tcp->host.find(':') != std::string::npos;
        return (v6 ? "[" + tcp->host + "]" : tcp->host) + ":" + std::to_string(tcp->port);
    }
    if (const auto* program = std::get_if<ProgramAddress>(&address)) return program->shown;
    return "unix:" + std::get<UnixAddress>(address).path;
}

Json ConnectInfo::ToJson() const {
    Json json = Json::Object();
    json.Set("address", AddressToJson(address)).Set("user", user);
    json.Set("host_key", host_key).Set("spool_dir", spool_dir);
    if (!other_host_keys.empty()) json.Set("other_host_keys", ListOf(other_host_keys));
    if (!proof_sha256.empty())
        json.Set("proof_files", ListOf(proof_files)).Set("proof_sha256", proof_sha256);
    if (auth.empty()) return json;
    Json ways = Json::Array();
    for (const ClientAuth& way : auth)
        ways.Append(AuthToJson(way));
    json.Set("auth", ways);
    return json;
}

Result<ConnectInfo> ConnectInfo::FromJson(const Json& json) {
    ConnectInfo info;
    StrictJson in(json, "connect info");
    in.Require("address").Require("user").Require("host_key");
    const auto address = in.TakeAny("address");
    in.Take("user", info.user).Take("host_key", info.host_key).Take("spool_dir", info.spool_dir);
    in.Take("other_host_keys", info.other_host_keys);
    in.Take("proof_files", info.proof_files).Take("proof_sha256", info.proof_sha256);
    const auto auth = in.TakeAny("auth");
    (void)TRY(in.Finish());
    info.address = TRY(AddressFromJson(*address));
    for (const Json& way : auth ? auth->Elements() : std::vector<Json>{}) {
        ClientAuth one = TRY(AuthFromJson(way));
        info.auth.push_back(std::move(one));
    }
    return info;
}

}  // namespace sbxfs
