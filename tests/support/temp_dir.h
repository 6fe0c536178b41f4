// A directory of the test's own, removed with all that is in it.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>
#include <system_error>

#include "base/check.h"

namespace sbxfs::testing {

class TempDir {
 public:
    TempDir() {
        std::string path = (std::filesystem::temp_directory_path() / "sbxfs-test-XXXXXX").string();
        CHECK(::mkdtemp(path.data()) != nullptr);
        path_ = path;
    }
    ~TempDir() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TempDir(const TempDir&) = delete;
    TempDir& operator=(const TempDir&) = delete;

    const std::string& path() const { return path_; }
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
    std::string path_;
};

}  // namespace sbxfs::testing
