"""scripts/infra: the template's references resolve, nothing is allowed that is not needed, and the policy it makes for who
mounts is the one of client-policy.json, which has what the client calls and no more."""

import json
import re
import tomllib
import unittest
from pathlib import Path

from frame import main, skip

try:
    import yaml
except ImportError as missing:
    skip(f"{missing} (apt-get install python3-yaml)")

SOURCE = Path(__file__).resolve().parents[2]
INFRA = SOURCE / "scripts" / "infra"
PSEUDO = {"AWS::AccountId", "AWS::NoValue", "AWS::Partition", "AWS::Region", "AWS::StackName"}
# What has no resources in IAM, so that "*" is all one can say.
WITHOUT_RESOURCE = {"ecr:GetAuthorizationToken", "ecs:DescribeTaskDefinition", "ecs:ListTaskDefinitions", "ecs:ListTasks",
                    "ecs:RegisterTaskDefinition", "ec2:DescribeNetworkInterfaces", "ec2:DescribeRouteTables",
                    "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets"}


class NoAliases(yaml.SafeLoader):
    """CloudFormation does not take them."""

    def compose_node(self, parent, index):
        assert not self.check_event(yaml.events.AliasEvent), "an alias"
        return super().compose_node(parent, index)


def template():
    return yaml.load((INFRA / "fargate.yaml").read_text(), NoAliases)


def references(node, guards=frozenset()):
    """(name, conditions that hold there) of every Ref, GetAtt and Sub below a node."""
    if isinstance(node, list):
        for one in node:
            yield from references(one, guards)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key == "Ref":
            yield value, guards
        elif key == "Fn::GetAtt":
            yield value[0], guards
        elif key == "Fn::Sub":
            text, given = value if isinstance(value, list) else (value, {})
            for name in re.findall(r"\$\{([^}]+)\}", text):
                if name not in given:
                    yield name.split(".")[0], guards
            yield from references(given, guards)
        elif key == "Fn::If":
            yield f"condition {value[0]}", guards
            yield from references(value[1], guards | {value[0]})
            yield from references(value[2], guards)
        else:
            yield from references(value, guards)


def render(node):
    """The client's policy with every condition true, in the words of client-policy.json."""
    words = {"AWS::Partition": "${partition}", "AWS::Region": "${region}", "AWS::AccountId": "${account}",
             "ClusterName": "${cluster}", "FamilyPrefix": "${family_prefix}", "LogGroupName": "${log_group}",
             "HostKeySecretName": "${host_key_secret}", "HostKeyBucket": "${host_key_bucket}",
             "ExecutionRole.Arn": "${execution_role_arn}", "TaskRole.Arn": "${task_role_arn}"}
    if isinstance(node, list):
        return [render(one) for one in node]
    if not isinstance(node, dict):
        return node
    if "Fn::Sub" in node:
        return re.sub(r"\$\{([^}]+)\}", lambda found: words[found[1]], node["Fn::Sub"])
    if "Fn::GetAtt" in node:
        return words[".".join(node["Fn::GetAtt"])]
    if "Fn::If" in node:
        return render(node["Fn::If"][1])
    return {key: render(value) for key, value in node.items()}


def client_policy():
    return json.loads((INFRA / "client-policy.json").read_text())


class Template(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.template = template()

    def policies(self):
        """Name and statements of each."""
        for name, resource in self.template["Resources"].items():
            properties = resource.get("Properties", {})
            for policy in properties.get("Policies", []):
                policy = policy.get("Fn::If", [None, policy])[1]
                yield f"{name}/{policy['PolicyName']}", policy["PolicyDocument"]["Statement"]
            if "PolicyDocument" in properties:
                yield name, [one.get("Fn::If", [None, one])[1] for one in properties["PolicyDocument"]["Statement"]]

    def test_every_reference_resolves_and_holds_under_its_conditions(self):
        known = set(self.template["Parameters"]) | set(self.template["Resources"]) | PSEUDO
        conditions = set(self.template["Conditions"])
        for section in ("Resources", "Outputs", "Conditions"):
            for name, body in self.template[section].items():
                own = {body["Condition"]} if isinstance(body.get("Condition"), str) else set()
                self.assertLessEqual(own, conditions, name)
                for wanted, guards in references(body, frozenset(own)):
                    with self.subTest(where=name, wanted=wanted):
                        if wanted.startswith("condition "):
                            self.assertIn(wanted.split()[1], conditions)
                            continue
                        self.assertIn(wanted, known)
                        needed = self.template["Resources"].get(wanted, {}).get("Condition")
                        self.assertTrue(needed is None or needed in guards, f"{wanted} is there only if {needed}")

    def test_every_parameter_is_used_and_every_condition(self):
        used = {name for name, _ in references(self.template)}
        for name in self.template["Parameters"]:
            self.assertIn(name, used)
        for resource in self.template["Resources"].values():
            used.add(f"condition {resource.get('Condition')}")
        for name in self.template["Conditions"]:
            self.assertIn(f"condition {name}", used)

    def test_ssh_is_let_in_from_one_network_and_never_from_everywhere(self):
        ingress = self.template["Resources"]["SecurityGroup"]["Properties"]["SecurityGroupIngress"]
        self.assertEqual([(rule["IpProtocol"], rule["FromPort"], rule["ToPort"], rule["CidrIp"]) for rule in ingress],
                         [("tcp", {"Ref": "SshPort"}, {"Ref": "SshPort"}, {"Ref": "SshFrom"})])
        self.assertNotIn("Default", self.template["Parameters"]["SshFrom"])
        allowed = re.compile(self.template["Parameters"]["SshFrom"]["AllowedPattern"])
        for good in ("198.51.100.7/32", "10.0.0.0/8", "192.0.2.0/24"):
            self.assertTrue(allowed.match(good), good)
        for bad in ("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "0.0.0.0/7", "198.51.100.7", "anywhere", "::/0", "", "1.2.3.4/33"):
            self.assertFalse(allowed.match(bad), bad)

    def test_nothing_is_allowed_by_wildcard(self):
        for name, statements in self.policies():
            for statement in statements:
                with self.subTest(policy=name, sid=statement["Sid"]):
                    self.assertEqual(statement["Effect"], "Allow")
                    for action in statement["Action"]:
                        self.assertRegex(action, r"^[a-z0-9]+:[A-Za-z]+$")
                    if "*" in statement["Resource"]:
                        self.assertLessEqual(set(statement["Action"]), WITHOUT_RESOURCE)

    def test_roles_are_for_tasks_of_this_account_and_the_sandboxs_own_has_no_rights(self):
        for name in ("ExecutionRole", "TaskRole"):
            for statement in self.template["Resources"][name]["Properties"]["AssumeRolePolicyDocument"]["Statement"]:
                self.assertEqual(statement["Principal"], {"Service": "ecs-tasks.amazonaws.com"})
                self.assertEqual(statement["Condition"], {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}})
        self.assertEqual(set(self.template["Resources"]["TaskRole"]["Properties"]), {"AssumeRolePolicyDocument"})

    def test_the_policy_of_who_mounts_is_client_policy_json(self):
        made = render(self.template["Resources"]["ClientPolicy"]["Properties"]["PolicyDocument"])
        text = json.dumps(client_policy()).replace("${host_key_prefix}", "sbxfs/")
        self.assertEqual(made, json.loads(text))


class Configuration(unittest.TestCase):
    def test_what_the_stack_prints_is_a_configuration_of_documented_keys(self):
        text, given = template()["Outputs"]["Configuration"]["Value"]["Fn::Sub"]
        self.assertEqual(list(given), ["Subnets"])
        values = {"SshPort": "22", "Subnets": 'subnet-1", "subnet-2'}
        said = tomllib.loads(re.sub(r"\$\{([^}]+)\}", lambda found: values.get(found[1], "x"), text))
        settings = said["providers"]["fargate"]
        self.assertEqual((settings["subnets"], settings["ssh_port"]), (["subnet-1", "subnet-2"], 22))
        documented = set(re.findall(r"`([a-z_]+)`", (SOURCE / "docs" / "fargate.md").read_text()))
        self.assertLessEqual(set(settings) - {"backend"}, documented)


class ClientPolicy(unittest.TestCase):
    def test_it_has_what_the_client_calls_and_no_more(self):
        """What is not a call of its own: roles handed on, tags at creation. What doctor alone asks is in the list."""
        calls = set()
        for service, file in (("ecs", "ecs"), ("ec2", "ec2"), ("logs", "logs"), ("s3", "s3"), ("secretsmanager", "secrets_manager")):
            text = (SOURCE / "aws" / f"{file}.cc").read_text()
            calls |= {f"{service}:{name}" for name in re.findall(r'(?:Send|NextPage|Call)\((?:kTarget, )?"(\w+)"', text)}
        self.assertIn("ecs:RunTask", calls)
        self.assertIn("logs:FilterLogEvents", calls)
        allowed = {action for statement in client_policy()["Statement"] for action in statement["Action"]}
        doctor = {"ec2:DescribeRouteTables", "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets"}
        self.assertEqual(allowed - doctor, (calls - doctor) | {"ecs:TagResource", "iam:PassRole"})

    def test_its_places_are_named(self):
        places = set(re.findall(r"\$\{(\w+)\}", json.dumps(client_policy())))
        self.assertEqual(places, {"account", "cluster", "execution_role_arn", "family_prefix", "host_key_bucket",
                                  "host_key_prefix", "host_key_secret", "log_group", "partition", "region", "task_role_arn"})


if __name__ == "__main__":
    main()
