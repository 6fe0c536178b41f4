#include "aws/s3.h"

#include <utility>

#include "aws/url.h"

namespace sbxfs::aws {

void S3::PutObject(const std::string& bucket, const std::string& key, const Secret& bytes,
                   PutDone done) {
    Send("PutObject", "PUT", bucket, key, std::string(bytes.Reveal()), std::move(done));
}

void S3::DeleteObject(const std::string& bucket, const std::string& key, PutDone done) {
    Send("DeleteObject", "DELETE", bucket, key, "", std::move(done));
}

void S3::Send(std::string action, std::string method, const std::string& bucket,
              const std::string& key, std::string body, PutDone done) {
    ApiCall call;
    call.action = std::move(action);
    call.method = std::move(method);
    call.path = "/" + PercentEncode(bucket) + "/" + PercentEncode(key, Slash::kKeep);
    call.body = std::move(body);
    call.headers = {{"Content-Type", "text/plain"}};
    call.repeat = Repeat::kSafe;  // the same bytes under the same key
    call.style = PathStyle::kS3;
    service_->Call(std::move(call), [done = std::move(done)](Outcome<HttpResponse> answer) {
        if (!answer) return done(std::move(answer).failure());
        done(Unit{});
    });
}

}  // namespace sbxfs::aws
