#include "aws/crypto.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/check.h"
#include "base/strings.h"

namespace sbxfs::aws {
namespace {

const unsigned char* Bytes(std::string_view text) {
    return reinterpret_cast<const unsigned char*>(text.data());
}

}  // namespace

std::string Sha256(std::string_view bytes) {
    std::string digest(EVP_MAX_MD_SIZE, '\0');
    unsigned int size = 0;
    CHECK(EVP_Digest(bytes.data(), bytes.size(), reinterpret_cast<unsigned char*>(digest.data()),
                     &size, EVP_sha256(), nullptr) == 1);
    digest.resize(size);
    return digest;
}

std::string Sha256Hex(std::string_view bytes) {
    return Hex(Sha256(bytes));
}

Secret HmacSha256(const Secret& key, std::string_view bytes) {
    std::string digest(EVP_MAX_MD_SIZE, '\0');
    unsigned int size = 0;
    const std::string_view secret = key.Reveal();
    CHECK(HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()), Bytes(bytes),
               bytes.size(), reinterpret_cast<unsigned char*>(digest.data()), &size) != nullptr);
    digest.resize(size);
    return Secret(std::move(digest));
}

std::string Base64(std::string_view bytes) {
    std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');  // EVP_EncodeBlock ends with a NUL
    const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), Bytes(bytes),
                                     static_cast<int>(bytes.size()));
    text.resize(static_cast<std::size_t>(size));
    return text;
}

}  // namespace sbxfs::aws
