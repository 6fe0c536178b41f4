#include "sandbox/providers/local/launch_order.h"

#include <cerrno>
#include <utility>

#include "base/strings.h"
#include "sandbox/providers/local/box.h"
#include "sandbox/providers/local/snapshots.h"
#include "sandbox/strict_json.h"

namespace sbxfs {
namespace {

Json Texts(const std::vector<std::string>& texts) {
    Json list = Json::Array();
    for (const std::string& text : texts)
        list.Append(Json::String(text));
    return list;
}

std::string BindText(const HostBind& bind) {
    return bind.source + ":" + bind.target + (bind.writable ? ":rw" : ":ro");
}

}  // namespace

Json LaunchOrder::ToRecord() const {
    Json json = Json::Object();
    json.Set("token", token).Set("state_dir", state_dir).Set("hostname", hostname);
    json.Set("workdir", workdir).Set("cpu", cpu).Set("memory", memory);
    json.Set("lifetime_ms", lifetime_ms);
    json.Set("own_network", settings.own_network).Set("pids", settings.pids);
    std::vector<std::string> binds;
    for (const HostBind& bind : settings.binds)
        binds.push_back(BindText(bind));
    json.Set("binds", Texts(binds)).Set("forbidden", Texts(forbidden));
    json.Set("init_program", init_program).Set("snapshot", settings.snapshot);
    return json;
}

Json LaunchOrder::ToJson() const {
    Json json = ToRecord();
    json.Set("client_key", client_key).Set("host_public", host_key.public_line);
    json.Set("host_private", host_key.private_pem.Reveal()).Set("init", init);
    return json;
}

Result<LaunchOrder> LaunchOrder::FromJson(const Json& json) {
    LaunchOrder order;
    std::vector<std::string> binds;
    std::string host_private;
    StrictJson in(json, "launch order");
    in.Require("token").Require("state_dir").Require("client_key").Require("host_private");
    in.Take("token", order.token).Take("state_dir", order.state_dir);
    in.Take("hostname", order.hostname).Take("workdir", order.workdir);
    in.Take("client_key", order.client_key).Take("host_public", order.host_key.public_line);
    in.Take("host_private", host_private);
    in.Take("cpu", order.cpu).Take("memory", order.memory).Take("lifetime_ms", order.lifetime_ms);
    in.Take("own_network", order.settings.own_network).Take("pids", order.settings.pids);
    in.Take("binds", binds).Take("forbidden", order.forbidden);
    in.Take("init_program", order.init_program).Take("init", order.init);
    in.Take("snapshot", order.settings.snapshot);
    (void)TRY(in.Finish());
    (void)TRY(CheckToken(order.token));
    order.host_key.private_pem = Secret(std::move(host_private));
    for (const std::string& text : binds)
        order.settings.binds.push_back(TRY(ParseBind(text)));
    return order;
}

Json StopOrder::ToJson() const {
    Json json = Json::Object();
    json.Set("token", token).Set("state_dir", state_dir).Set("init", init);
    return json;
}

Result<StopOrder> StopOrder::FromJson(const Json& json) {
    StopOrder order;
    StrictJson in(json, "stop order");
    in.Require("token").Require("state_dir").Require("init");
    in.Take("token", order.token).Take("state_dir", order.state_dir).Take("init", order.init);
    (void)TRY(in.Finish());
    (void)TRY(CheckToken(order.token));
    return order;
}

Json SnapshotOrder::ToJson() const {
    Json json = Json::Object();
    json.Set("token", token).Set("state_dir", state_dir).Set("init", init);
    return json.Set("facts", sbxfs::ToJson(facts));
}

Result<SnapshotOrder> SnapshotOrder::FromJson(const Json& json) {
    SnapshotOrder order;
    order.token = json.GetString("token").value_or("");
    order.state_dir = json.GetString("state_dir").value_or("");
    order.init = json.GetString("init").value_or("");
    (void)TRY(CheckToken(order.token));
    const auto facts = json.Find("facts");
    if (!facts) return Error(Errno{EINVAL}, "snapshot order without facts");
    order.facts = TRY(SnapshotFromJson(*facts));
    return order;
}

Json DropOrder::ToJson() const {
    Json json = Json::Object();
    return json.Set("name", name).Set("state_dir", state_dir);
}

Result<DropOrder> DropOrder::FromJson(const Json& json) {
    DropOrder order;
    StrictJson in(json, "drop order");
    in.Require("name").Require("state_dir");
    in.Take("name", order.name).Take("state_dir", order.state_dir);
    (void)TRY(in.Finish());
    return order;
}

Json DestroyOrder::ToJson() const {
    Json json = Json::Object();
    json.Set("token", token).Set("state_dir", state_dir);
    return json;
}

Result<DestroyOrder> DestroyOrder::FromJson(const Json& json) {
    DestroyOrder order;
    StrictJson in(json, "destroy order");
    in.Require("token").Require("state_dir");
    in.Take("token", order.token).Take("state_dir", order.state_dir);
    (void)TRY(in.Finish());
    (void)TRY(CheckToken(order.token));
    return order;
}

std::string HostnameFor(std::string_view sandbox_name) {
    std::string name;
    for (const char c : sandbox_name.substr(0, 63)) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c >= '0' && c <= '9') || c == '-' || c == '.';
        name += plain ? c : '-';
    }
    return name.empty() ? "sandbox" : name;
}

}  // namespace sbxfs
