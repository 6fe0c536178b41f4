#!/usr/bin/env python3
"""Checks that includes point downwards (main -> fs -> sandbox -> aws -> base), never sideways between
providers, and that each third-party library is included only where it belongs."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAYERS = ["base", "aws", "sandbox", "fs"]
# What may include a library. Paths are prefixes.
LIBRARIES = {
    r"fuse(_lowlevel)?\.h|linux/fuse\.h": ["fs/fuse_server.cc", "fs/fuse_channel.", "fs/fuse_ops.", "fs/fuse_reply."],
    r"libssh/": ["sandbox/ssh_link.cc", "sandbox/ssh_keys.cc", "sandbox/ssh_auth.cc"],
    r"sqlite3\.h": ["sandbox/store_database.cc"],
    r"nlohmann/": ["base/json.cc"],
    r"toml\+\+/": ["fs/config_toml.cc"],
    r"CLI/": ["fs/cli.cc"],
    r"(spdlog|fmt)/": ["fs/log_spdlog.cc"],
    r"curl/": ["aws/curl_http.cc"],
    r"openssl/": ["aws/crypto.cc"],
    r"pugixml": ["aws/xml.cc"],
}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def problems_of(path: pathlib.Path):
    name = path.relative_to(ROOT).as_posix()
    layer = name.split("/")[0]
    for kind, target in INCLUDE.findall(path.read_text()):
        top = target.split("/")[0]
        if kind == '"' and top in LAYERS and LAYERS.index(top) > LAYERS.index(layer):
            yield f"{name} includes {target}: upwards"
        own = re.match(r"sandbox/providers/([^/]+)/", name)
        other = re.match(r"sandbox/providers/([^/]+)/", target)
        if own and other and own[1] != other[1]:
            yield f"{name} includes {target}: sideways"
        if name.startswith("sandbox/") and not own and other:
            yield f"{name} includes {target}: the core knows no provider"
        for library, places in LIBRARIES.items():
            if kind == "<" and re.match(library, target) and not any(name.startswith(p) for p in places):
                yield f"{name} includes {target}: only {', '.join(places)} may"


def main():
    found = [
        problem
        for layer in LAYERS
        for path in sorted((ROOT / layer).rglob("*.[ch]*"))
        if path.suffix in (".h", ".cc")
        for problem in problems_of(path)
    ]
    print("\n".join(found) or "includes: fine")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
