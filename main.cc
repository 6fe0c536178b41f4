#include "fs/cli.h"

int main(int argc, char** argv) {
    return sbxfs::Main(argc, argv);
}
