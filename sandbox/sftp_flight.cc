#include "sandbox/sftp_flight.h"

#include <optional>
#include <utility>

namespace sbxfs {
namespace {

struct Flight {
    std::weak_ptr<SftpClient> client;
    UniqueFunction<void(SftpClient&, SftpClient::AttrsBack)> look_again;
    UniqueFunction<void(SftpLooked)> done;
    std::optional<SftpAnswer<Unit>> change;
    std::optional<SftpAnswer<SftpAttrs>> look;
    bool looked_first = false;
};

void Land(const std::shared_ptr<Flight>& flight) {
    if (!flight->change || !flight->look) return;
    const std::shared_ptr<SftpClient> client = flight->client.lock();
    const bool changed = flight->change->has_value();
    const bool seen = flight->look->has_value() && !flight->looked_first;
    const bool lost = !*flight->look && flight->look->refusal().lost;
    if (!changed || seen || lost || client == nullptr) {
        return flight->done(SftpLooked{std::move(*flight->change), std::move(*flight->look)});
    }
    flight->look_again(*client, [flight](SftpAnswer<SftpAttrs> look) {
        flight->done(SftpLooked{std::move(*flight->change), std::move(look)});
    });
}

}  // namespace

SftpKind KindOfLook(const SftpAnswer<SftpAttrs>& look) {
    if (look) return KindOf(*look);
    const bool missing = look.refusal().status == SftpStatus::kNoSuchFile;
    return missing ? SftpKind::kMissing : SftpKind::kUnknown;
}

void ChangeAndLook(const std::shared_ptr<SftpClient>& client,
                   UniqueFunction<void(SftpClient&, SftpClient::DoneBack)> change,
                   UniqueFunction<void(SftpClient&, SftpClient::AttrsBack)> look,
                   UniqueFunction<void(SftpLooked)> done) {
    const auto flight = std::make_shared<Flight>();
    flight->client = client;
    flight->look_again = std::move(look);
    flight->done = std::move(done);
    change(*client, [flight](SftpAnswer<Unit> answer) {
        flight->change = std::move(answer);
        Land(flight);
    });
    flight->look_again(*client, [flight](SftpAnswer<SftpAttrs> answer) {
        flight->looked_first = !flight->change.has_value();
        flight->look = std::move(answer);
        Land(flight);
    });
}

}  // namespace sbxfs
