// Texts about hosts and keys: known_hosts, public keys, jumps, the options of a template for ssh. A key that is pinned
// is a key, was not revoked, and was in the file.
#include <algorithm>

#include "base/check.h"
#include "base/secret.h"
#include "sandbox/providers/ssh/known_hosts.h"
#include "sandbox/providers/ssh/ssh_settings.h"
#include "sandbox/ssh_keys.h"
#include "tests/fuzz/fuzz_bytes.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sbxfs;
    fuzz::FuzzBytes in(data, size);
    switch (in.Below(4)) {
        case 0: {
            const std::uint16_t port = in.Chance() ? 22 : in.U16();
            const std::string host(in.Text(40));
            const std::string_view text = in.Rest();
            KnownHost known;
            ReadKnownHosts(text, host, port, known);
            for (const std::string& key : known.keys)
                CHECK(ParsePublicLine(key).has_value());
            const auto pinned = KeysToPin(known, host, port, "known_hosts");
            if (!pinned) break;
            CHECK(!pinned->empty());
            for (const std::string& key : *pinned) {
                CHECK(std::find(known.revoked.begin(), known.revoked.end(), key) ==
                      known.revoked.end());
            }
            break;
        }
        case 1: {
            const std::string line(in.Rest());
            if (const auto key = ParsePublicLine(line)) {
                CHECK(ParsePublicLine(*key).has_value());
                CHECK(SamePublicKey(*key, line));
                CHECK(key->find('\n') == std::string::npos);
            }
            (void)MatchesHashedName(line, "host");
            (void)PublicLineOf(Secret(line));
            break;
        }
        case 2: {
            const auto jumps = ParseJumps(in.Rest());
            if (!jumps) break;
            for (const Jump& jump : *jumps) {
                // They become words of a command line.
                CHECK(!jump.host.starts_with('-') && !jump.user.starts_with('-'));
                CHECK(jump.host.find_first_of(" \t\n'\"`$;&|<>\\") == std::string::npos);
            }
            break;
        }
        default: {
            constexpr const char* kKeys[] = {
                "host",     "port",      "user",       "identity_file",    "agent",
                "host_key", "spool_dir", "proxy_jump", "known_hosts_file", "strange"};
            Template what;
            what.backend = "ssh";
            for (std::size_t i = in.Below(8); i > 0; --i) {
                const char* key = kKeys[in.Below(std::size(kKeys))];
                switch (in.Below(4)) {
                    case 0:
                        what.options[key] = static_cast<std::int64_t>(in.Odd());
                        break;
                    case 1:
                        what.options[key] = in.Chance();
                        break;
                    case 2:
                        what.options[key] = std::vector<std::string>{std::string(in.Text(30))};
                        break;
                    default:
                        what.options[key] = std::string(in.Text(40));
                        break;
                }
            }
            const auto settings = ReadSshSettings(what, {"/home/me", "me", true});
            if (!settings) {
                CHECK(!settings.error().what().empty());
                break;
            }
            CHECK(!settings->auth.empty() && !settings->address.host.empty());
            CHECK(!settings->address.host.starts_with('-'));
            CHECK(settings->spool_base.empty() || settings->spool_base.starts_with('/'));
            break;
        }
    }
    return 0;
}
