#include "sandbox/providers/fargate/host_key.h"

#include <set>
#include <utility>

#include "aws/crypto.h"
#include "base/files.h"
#include "base/log.h"
#include "base/strings.h"
#include "sandbox/ssh_keys.h"

namespace sbxfs {
namespace {

Result<PreparedHostKey> FromSecret(const aws::SecretValue& value) {
    auto line = PublicLineOf(value.text);
    if (!line)
        return Error(Errno{EINVAL}, "the secret " + value.arn +
                                        " holds no private ssh key: " + line.error().what());
    return PreparedHostKey{*line, value.arn, "", ""};
}

// Errors of Secrets Manager and S3 carry no secret; the action is named by the client.
std::string WhileReading(const std::string& id) {
    return "reading the host key of this mount's sandboxes from secret " + id;
}

}  // namespace

void HostKeys::Prepare(const FargateSettings& settings, const std::string& token,
                       const SshKeyPair& own, KeyDone done) {
    switch (settings.host_key) {
        case HostKeyMode::kOverride:
            return loop_.Post([done = std::move(done), line = own.public_line] {
                done(PreparedHostKey{line, "", "", ""});
            });
        case HostKeyMode::kLogs:
            return loop_.Post([done = std::move(done)] { done(PreparedHostKey{}); });
        case HostKeyMode::kS3: {
            const std::string object = settings.host_key_prefix + token + ".env";
            const std::string arn = "arn:" + std::string(aws::PartitionOf(client_->region()).name) +
                                    ":s3:::" + settings.host_key_bucket + "/" + object;
            const Secret file("SBXFS_HOST_KEY=" + aws::Base64(own.private_pem.Reveal()) + "\n");
            return client_->s3().PutObject(settings.host_key_bucket, object, file,
                                           [done = std::move(done), line = own.public_line, arn,
                                            object](aws::Outcome<Unit> put) {
                                               if (!put) return done(put.failure().error);
                                               done(PreparedHostKey{line, "", arn, object});
                                           });
        }
        case HostKeyMode::kShared:
            break;
    }
    Shared& shared = shared_[settings.host_key_secret];
    if (!shared.key.public_line.empty())
        return loop_.Post([done = std::move(done), key = shared.key] { done(key); });
    shared.waiting.push_back(std::move(done));
    if (shared.waiting.size() == 1) AskSecret(settings.host_key_secret);
}

void HostKeys::AskSecret(const std::string& id) {
    client_->secrets().GetSecretValue(
        id, [self = shared_from_this(), id](aws::Outcome<aws::SecretValue> value) {
            if (value) return self->HaveSecret(id, FromSecret(*value));
            const bool absent = value.failure().kind == aws::FailureKind::kNotFound;
            if (absent && !id.starts_with("arn:")) return self->MakeSecret(id);
            self->HaveSecret(id, value.failure().error.While(WhileReading(id)));
        });
}

void HostKeys::MakeSecret(const std::string& id) {
    auto pair = GenerateSshKeyPair();
    if (!pair) return HaveSecret(id, std::move(pair).error());
    client_->secrets().CreateSecret(
        id, pair->private_pem, Hex(RandomBytes(16)),
        [self = shared_from_this(), id](aws::Outcome<std::string> made) {
            if (made) {
                Log(LogLevel::kInfo, "host key secret created", {{"arn", *made}});
                return self->AskSecret(id);
            }
            // Another mount was faster: its key serves as well.
            if (made.failure().code == "ResourceExistsException") return self->AskSecret(id);
            self->HaveSecret(id, made.failure().error);
        });
}

void HostKeys::HaveSecret(const std::string& id, Result<PreparedHostKey> key) {
    Shared& shared = shared_[id];
    if (key) shared.key = *key;
    for (KeyDone& done : std::exchange(shared.waiting, {}))
        done(key);
}

void HostKeys::AwaitPrinted(const FargateSettings& settings, const std::string& stream,
                            LineDone done) {
    awaited_[stream] = {settings.log_group, std::move(done)};
    // Lines may be a few seconds old by the time they can be read, and clocks differ.
    since_.emplace(settings.log_group, loop_.clock().System() - std::chrono::minutes(5));
    if (timer_ == nullptr && reading_ == 0) ReadLogs();
}

void HostKeys::StopAwaiting(const std::string& stream) {
    awaited_.erase(stream);
}

void HostKeys::ReadLogs() {
    timer_.reset();
    std::set<std::string> groups;
    for (const auto& [stream, awaited] : awaited_)
        groups.insert(awaited.group);
    if (groups.empty()) return since_.clear();
    reading_ = groups.size();
    for (const std::string& group : groups) {
        aws::FilterLogRequest request;
        request.group = group;
        request.pattern = std::string("\"") + kPrinted + "\"";
        request.since = since_[group];
        client_->logs().FilterLogEvents(
            request, [weak = weak_from_this()](aws::Outcome<std::vector<aws::LogLine>> lines) {
                const auto self = weak.lock();
                if (!self) return;
                if (lines) {
                    self->Printed(*lines);
                } else {
                    Log(LogLevel::kWarning, "host keys not read from the log",
                        {{"why", lines.failure().error}});
                }
                if (--self->reading_ > 0) return;
                self->timer_ = self->loop_.After(kLogPause, [weak] {
                    if (const auto again = weak.lock()) again->ReadLogs();
                });
            });
    }
}

void HostKeys::Printed(const std::vector<aws::LogLine>& lines) {
    for (const aws::LogLine& line : lines) {
        const auto awaited = awaited_.find(line.stream);
        const std::size_t at = line.text.find(kPrinted);
        if (awaited == awaited_.end() || at == std::string::npos) continue;
        LineDone done = std::move(awaited->second.done);
        awaited_.erase(awaited);
        done(ParsePublicLine(
            Trim(std::string_view(line.text).substr(at + std::string_view(kPrinted).size()))));
    }
}

void HostKeys::Remove(const std::string& bucket, const std::string& object, Done done) {
    if (object.empty()) return loop_.Post([done = std::move(done)] { done(Ok()); });
    client_->s3().DeleteObject(bucket, object, [done = std::move(done)](aws::Outcome<Unit> gone) {
        if (gone || gone.failure().kind == aws::FailureKind::kNotFound) return done(Ok());
        done(gone.failure().error);
    });
}

}  // namespace sbxfs
