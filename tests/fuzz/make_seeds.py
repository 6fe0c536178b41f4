#!/usr/bin/env python3
"""Writes the seeds of the corpora: texts that are right, or nearly, and stories that go on for a while. The same every
time; what was found besides is beside them under names of its own. Usage: make_seeds.py [DIRECTORY]"""

import pathlib
import random
import struct
import sys

ROOT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "corpus")
KEY = ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl")


def write(target, name, *parts):
    directory = ROOT / target
    directory.mkdir(parents=True, exist_ok=True)
    data = b"".join(bytes([p]) if isinstance(p, int) else p.encode() if isinstance(p, str) else p for p in parts)
    (directory / name).write_bytes(data)


def text(value):
    """As FuzzBytes::Text reads it."""
    data = value.encode() if isinstance(value, str) else value
    return bytes([len(data)]) + data


def stories(target, count, size, seed):
    dice = random.Random(seed)
    for i in range(count):
        write(target, f"story-{i}", bytes(dice.randrange(256) for _ in range(size)))


def paths():
    targets = ["a", "../x", "../../../../etc/passwd", "/etc/passwd", "a/../../b", "./..//../x", "..\0/x", "", "/srv/data/f"]
    for i, target in enumerate(targets):
        write("paths", f"link-{i}", 2, text("d1"), text("d2"), i % 2, 1, text("srv"), 0, 1, text("home"),
              text(target)[:0], struct.pack(">H", len(target)), target, "box@py")


def config_toml():
    good = """default_template = "py"
[templates.py]
provider = "fargate"
image = "python:3.12"
cpu = 1024
memory = 2048
max_lifetime = "4h"
env = { PIP_NO_INPUT = "1", KEY = "${SECRET}" }
[providers.fargate]
backend = "fargate"
aws_region = "us-east-1"
ecs_cluster = "sandboxes"
subnets = ["subnet-1"]
security_groups = ["sg-1"]
"""
    write("config_toml", "config", 0, good)
    write("config_toml", "config-ssh", 0, '[providers.lab]\nbackend = "ssh"\nhost = "h"\nport = 22\n[templates.l]\n'
          'provider = "lab"\nfs_root = "/srv"\nworkdir = "/srv/w"\nexclusive = true\n')
    write("config_toml", "config-unknown", 0, '[templates.x]\nprovidr = "local"\n')
    write("config_toml", "template", 1, 'provider = "local"\nworkdir = "/w"\nbinds = ["/a:/b:ro"]\nnetwork = "none"\npids = 5\n')
    write("config_toml", "template-named", 1, '[templates.one]\nworkdir = "/w\\u00e4"\nenv = { A = "<set>", "b c" = "x" }\n')
    write("config_toml", "override", 2, 'cpu = 5\nidle_timeout = "90s"\n')
    write("config_toml", "order-words", 3, "name=b1 template=default cpu=1024 env.A=b")
    write("config_toml", "order-json", 3, '{"name": "b1", "memory": 5, "env": {"A": "b"}, "binds": ["/a:/b"]}')
    write("config_toml", "options", 4, "ro,allow_other,uid=1,gid=2,umask=077,exec,writeback=off,op_timeout=5,idmap=none,"
          "on_unmount=destroy,state_dir=/x,_netdev,x-systemd.automount")


def json():
    documents = [
        '{"cmd": "make -j4", "id": "t1", "cwd": "/w", "env": {"A": "b"}, "timeout": 5, "parallel": true}',
        '{"cmd": "x", "timeout": -1}', '{"cmd": 5}', '[[[[1]]]]', '"text"', '{"cmd": "a\\u0000b"}', '{"cmd":"x"', "{}",
        '{"token": "t", "state_dir": "/s"}', '{"name": "s", "state_dir": "/s"}',
        '{"token": "t", "state_dir": "/s", "init": "1 2 b"}',
        '{"cwd": "/w", "shell": "/bin/sh", "user": "me", "timeout_s": 5, "env": {"KEY": "secret"}, "changed_ms": 7}',
        '{"name":"default","provider":"local","backend":"local","workdir":"/w","fs_root":"/","image":"","cpu":0,'
        '"memory":0,"max_lifetime_s":5,"idle_timeout_s":0,"exclusive":true,"list_fs":false,"max_parallel":16,'
        '"shell":"","login_shell":false,"env":{},"options":{"binds":["a"],"n":5,"b":true,"s":"x"}}',
    ]
    for i, document in enumerate(documents):
        write("json", f"document-{i}", 7 * i, document)


def ssh_texts():
    hosts = (f"# comment\nhost,192.0.2.* {KEY} me@x\n[host]:2222 {KEY}\n@revoked host {KEY}\n@cert-authority *.x {KEY}\n"
             f"|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= {KEY}\n!host,* ssh-dss AAAA\n")
    write("ssh_texts", "hosts", 0, 1, text("host"), hosts)
    write("ssh_texts", "hosts-port", 0, 0, struct.pack(">H", 2222), text("host"), hosts)
    write("ssh_texts", "key", 1, KEY, " a comment")
    write("ssh_texts", "key-hashed", 1, "|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg=")
    write("ssh_texts", "key-private", 1, "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----\n")
    write("ssh_texts", "jumps", 2, "me@a:22,[::1]:2222,b")
    write("ssh_texts", "jumps-option", 2, "-oProxyCommand=x")
    write("ssh_texts", "settings", 3, 3, 0, 3, text("host.example"), 2, 3, text("me"), 5, 3, text(KEY))


def machine_texts():
    mounts = ("21 1 0:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n22 21 0:5 / /mnt\\040x ro,nosuid - fuse.sbxfs sbxfs "
              "rw,user_id=1000,group_id=1000,allow_other\n23 21 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    write("machine_texts", "view", 0, text("Name:\tsftp\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n"), mounts)
    write("machine_texts", "site", 1, "motd\nsbxfs-attach 1 x86_64 present token\nrest")
    write("machine_texts", "record", 2, "12345 678 0c3e3a4e-7f5e-4b5c-9d5e-1d1f0a0b0c0d\n")
    write("machine_texts", "mounts", 3, mounts)
    write("machine_texts", "mounts-below", 4, text("/mnt"), mounts)
    write("machine_texts", "groups", 5, text(mounts[-70:]), "0::/user.slice/a.service\n4:memory:/x\n")
    write("machine_texts", "bind", 6, "/srv/data:/data:ro")
    write("machine_texts", "accounts", 7, "root:x:0:0::/root:/bin/sh\nme:x:5:6:,,:/home/me:/bin/sh\nusers:x:7:me,you\n")
    write("machine_texts", "stat", 8, "42 (a (b) c) S 1 42 42 0 -1 4194304 1 0 0 0 5 6 0 0 20 0 1 0 777 1 1\n")
    write("machine_texts", "report", 9, "R 5 0 -")
    write("machine_texts", "report-directory", 9, "C 12 /a/dir //E")
    write("machine_texts", "shebang", 10, "#!/usr/bin/env python3 -u\nprint(1)\n")
    write("machine_texts", "account", 11, 5, "root:x:0:0::/root:/bin/sh\nme:x:5:6:,,:/home/me:/bin/sh\n")


def aws():
    # case, call, how many answers less one, then each: status, text; the last without its count
    def answers(name, call, *bodies):
        parts = [4, call, len(bodies) - 1]
        for body in bodies[:-1]:
            parts += [0, struct.pack(">H", len(body)), body]
        write("aws_answers", name, *parts, 0, bodies[-1])

    task = ('{"taskArn":"arn:t","lastStatus":"RUNNING","desiredStatus":"RUNNING","stopCode":"","createdAt":1.7e9,'
            '"attachments":[{"type":"ElasticNetworkInterface","status":"ATTACHED","details":[{"name":"networkInterfaceId",'
            '"value":"eni-1"},{"name":"privateIPv4Address","value":"10.0.0.1"}]}],"containers":[{"name":"c","lastStatus":'
            '"RUNNING","exitCode":0}],"tags":[{"key":"a","value":"b"}]}')
    tasks = '{"tasks":[' + task + '],"failures":[{"arn":"a","reason":"MISSING"}]}'
    answers("run-task", 0, '{"__type":"ThrottlingException","message":"Rate exceeded"}', tasks)
    answers("describe-tasks", 1, tasks)
    answers("stop-task", 2, '{"task":' + task + "}")
    answers("list-tasks", 3, '{"taskArns":["a"],"nextToken":"n"}', '{"taskArns":["b"]}')
    answers("list-tasks-forever", 3, '{"taskArns":["a"],"nextToken":"n"}')
    answers("register", 4, '{"taskDefinition":{"revision":1}}')
    answers("definition", 5, '{"taskDefinition":{"family":"t"},"tags":[]}')
    answers("definitions-forever", 6, '{"taskDefinitionArns":[],"nextToken":"n"}')
    answers("cluster", 7, '{"clusters":[{"status":"ACTIVE"}],"failures":[]}')
    answers("interfaces", 8, '<R><networkInterfaceSet><item><networkInterfaceId>eni</networkInterfaceId><status>in-use</status>'
            '<privateIpAddress>10.0.0.1</privateIpAddress><association><publicIp>192.0.2.1</publicIp></association></item>'
            '</networkInterfaceSet></R>')
    answers("subnets", 9, '<R><subnetSet><item><subnetId>s</subnetId><vpcId>v</vpcId></item></subnetSet></R>')
    answers("groups", 10, '<R><securityGroupInfo><item><groupId>g</groupId><ipPermissions><item><ipProtocol>tcp</ipProtocol>'
            '<fromPort>22</fromPort><toPort>22</toPort><ipRanges><item><cidrIp>0.0.0.0/0</cidrIp></item></ipRanges></item>'
            '</ipPermissions></item></securityGroupInfo></R>')
    answers("identity", 11, "<R><GetCallerIdentityResult><Account>1</Account><Arn>arn:aws:sts::1:assumed-role/r/s</Arn>"
            "<UserId>u</UserId></GetCallerIdentityResult></R>")
    answers("role", 12, "<R><AssumeRoleResult><Credentials><AccessKeyId>A</AccessKeyId><SecretAccessKey>S</SecretAccessKey>"
            "<SessionToken>T</SessionToken><Expiration>2026-11-21T19:25:00Z</Expiration></Credentials></AssumeRoleResult></R>")
    answers("simulate", 13, "<R><SimulatePrincipalPolicyResult><EvaluationResults><member><EvalActionName>ecs:RunTask"
            "</EvalActionName><EvalDecision>allowed</EvalDecision></member></EvaluationResults></SimulatePrincipalPolicyResult></R>")
    answers("logs", 14, '{"events":[{"logStreamName":"s","timestamp":1,"message":"sbxfs-host-key x"}],"nextToken":"n"}')
    answers("log-events", 15, '{"events":[{"timestamp":1,"message":"x"}]}')
    answers("secret", 16, '{"ARN":"a","VersionId":"v","SecretString":"s"}')
    answers("object", 17, "")
    answers("metadata", 18, "token", "role",
            '{"Code":"Success","AccessKeyId":"A","SecretAccessKey":"S","Token":"T","Expiration":"2026-11-21T19:25:00Z"}')
    write("aws_answers", "xml", 0, '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "y">]><a b="c">t&amp;&x;<b><c>d</c></b></a>')
    write("aws_answers", "process", 1, '{"Version":1,"AccessKeyId":"A","SecretAccessKey":"S","Expiration":"2026-11-21T19:25:00Z"}')
    write("aws_answers", "url", 2, "https://Host.example:8443/a%20b?x=1&y=%2F#f")
    write("aws_answers", "time", 3, "2026-11-21T19:25:00.123+02:00")
    config = ("[default]\nregion = us-east-1\n[profile a]\nrole_arn = arn:r\nsource_profile=default\ns3 =\n  endpoint_url = http://x\n"
              "[services s]\necs =\n  endpoint_url = http://y # comment\n[sso-session z]\nsso_region=x\n")
    write("aws_config", "files", 0, struct.pack(">H", len(config)), config, "[a]\naws_access_key_id = A\naws_secret_access_key=S\n")
    write("aws_config", "command", 1, """/bin/x --arg "a b" 'c d' e\\ f""")


def supervisor_program():
    def frame(kind, payload):
        return struct.pack("<IB", 1 + len(payload), kind) + payload

    def string(value):
        return struct.pack("<I", len(value)) + value.encode()

    hello = frame(1, struct.pack("<IIQ", 1, 1, 5))

    def start(n, lane, script):
        return frame(2, struct.pack("<QBBQQ", n, lane, 0, 0, 0) + string("") + string("/") + string("") + string(script) +
                     struct.pack("<I", 0))

    # As Story::Step reads it: 11 attaches, 0 says, 7 ends a process, 8 reports, 9 appends output, 6 lets time pass, 14 is
    # a death, 15 a process that appears, 16 a fault. With one connection nothing says which.
    def say(data):
        return bytes([0]) + text(data)

    begin = bytes([11]) + say(hello)
    serial = start(1, 0, "true")
    parallel = start(2, 1, "#!/bin/sh\necho")
    forget = frame(6, struct.pack("<Q", 1))
    read = frame(3, struct.pack("<QQQ", 2, 0, 0))
    report = bytes([8, 1]) + text("R 1 0 -")
    output = bytes([9, 1, 0, 0, 200])  # of command 1, to stdout
    process = bytes([15, 1, 0, 5, 0, 0]) + text("sleep") + text("SBXFS_EVENT=5a5a5a5a5a5a5a5a-1") + b"\0"
    write("supervisor_program", "serial", begin, say(serial), output, report, say(read), say(forget))
    write("supervisor_program", "parallel", begin, say(parallel), bytes([9, 2, 0, 0, 200, 7, 1, 3]), say(read), 14, begin)
    write("supervisor_program", "signals", begin, say(serial), process, say(frame(5, struct.pack("<QI", 1, 15))), 6, 7, process,
          say(frame(5, struct.pack("<QI", 1, 9))), say(frame(5, struct.pack("<QI", 1, 9))))
    write("supervisor_program", "deaths", begin, say(serial), say(parallel), 14, begin, report, 14, begin, say(forget))
    for kind in range(6):
        write("supervisor_program", f"fault-{kind}", begin, bytes([16, 0, kind, 9]), say(serial), output, bytes([16, 0, kind, 3]),
              report, bytes([16, 0, kind, 1]), say(parallel), 14, begin)
    write("supervisor_program", "facts", begin,
          say(frame(7, struct.pack("<II", 1, 2) + string("/") + string("x"))),
          say(frame(14, struct.pack("<III", 1, 100, 1) + string("/etc/hostname"))), process,
          say(frame(8, struct.pack("<I", 2))), say(frame(13, struct.pack("<I", 3))),
          say(frame(9, struct.pack("<IQQB", 4, 1000, 5, 1))), 6, 12, 6, 13, say(frame(12, struct.pack("<IB", 1, 1))))
    def store(request, flags, path):
        return frame(15, struct.pack("<IBIBqq", request, flags, 0o644, 1, 5, 6) + string(path) + string("bytes"))

    write("supervisor_program", "stores", begin, say(store(1, 0, "/a")), say(store(2, 1, "/proc/none/a")), say(store(3, 1, "a")),
          say(store(4, 2, "/a")))

    def rename(request, replace, old, new):
        return frame(16, struct.pack("<IB", request, replace) + string(old) + string(new))

    # Of the test's directory, whose name only the target knows: frames 0 and 1 of those that it makes, 19 and 20.
    made = bytes([1, 19, 1, 0, 0, 0, 1, 5, 6, 0, 3, 0, 9])
    moved = bytes([1, 20, 0, 3, 0, 4, 2, 1])
    write("supervisor_program", "renames", begin, say(rename(1, 1, "/a", "/b")), say(rename(2, 0, "/etc/passwd", "/etc/group")),
          say(rename(3, 1, "a", "/b")), say(rename(4, 2, "/a", "/b")), made, moved, moved, made, moved)
    write("supervisor_program", "nonsense", 11, say(b"\xff\xff\xff\xffx"))


paths()
config_toml()
json()
ssh_texts()
machine_texts()
aws()
supervisor_program()
stories("supervisor_program", 12, 600, 1)
stories("sftp_session", 16, 700, 2)
stories("supervisor_frames", 12, 600, 3)
stories("fuse_ops", 12, 500, 4)
