#include "fs/cli.h"

namespace sbxfs {

int Main(int, char**) {
    return 2;
}

}  // namespace sbxfs
