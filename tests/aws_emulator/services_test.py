"""Secrets Manager, CloudWatch Logs, S3 and EC2, as far as they are there."""

import threading

from frame import AwsCase, main, wait_until
from aws_emulator.logs import pattern


class Secrets(AwsCase):
    def test_a_secret_is_read_by_name_and_by_arn(self):
        client = self.client("secretsmanager")
        made = client.create_secret(Name="sbxfs/host", SecretString="text\nof two lines")
        self.assertRegex(made["ARN"], r"^arn:aws:secretsmanager:us-east-1:123456789012:secret:sbxfs/host-\w{6}$")
        for name in ("sbxfs/host", made["ARN"], made["ARN"][:-7]):
            self.assertEqual(client.get_secret_value(SecretId=name)["SecretString"], "text\nof two lines")

    def test_a_repeated_creation_makes_nothing_twice(self):
        client = self.client("secretsmanager")
        token = "t" * 32
        first = client.create_secret(Name="once", SecretString="a", ClientRequestToken=token)
        self.assertEqual(client.create_secret(Name="once", SecretString="a", ClientRequestToken=token)["ARN"], first["ARN"])
        self.refused("ResourceExistsException", "once already exists", client.create_secret, Name="once", SecretString="b")

    def test_what_is_not_there_or_deleted(self):
        client = self.client("secretsmanager")
        self.refused("ResourceNotFoundException", "can't find", client.get_secret_value, SecretId="nothing")
        client.create_secret(Name="gone", SecretString="a")
        client.delete_secret(SecretId="gone")
        self.refused("InvalidRequestException", "marked for deletion", client.get_secret_value, SecretId="gone")


class Objects(AwsCase):
    def test_an_object_is_put_read_and_deleted(self):
        client = self.client("s3")
        for key in ("plain", "with space/and~tilde+plus", "ü/ß"):
            client.put_object(Bucket="sbxfs-bucket", Key=key, Body=b"A=1\n")
            self.assertEqual(client.get_object(Bucket="sbxfs-bucket", Key=key)["Body"].read(), b"A=1\n")
            client.delete_object(Bucket="sbxfs-bucket", Key=key)
            client.delete_object(Bucket="sbxfs-bucket", Key=key)
            self.refused("NoSuchKey", "", client.get_object, Bucket="sbxfs-bucket", Key=key)

    def test_a_bucket_must_be_there(self):
        client = self.client("s3")
        self.refused("NoSuchBucket", "does not exist", client.put_object, Bucket="nowhere", Key="k", Body=b"")
        client.create_bucket(Bucket="nowhere")
        client.put_object(Bucket="nowhere", Key="k", Body=b"")


class Lines(AwsCase):
    scale = 20.0
    settings = {"real": False, "delays": {"log": 5}, "rates": {"logs_read": [1e6, 1e6]}}

    def put(self, stream, *lines):
        """As a container would print them."""
        with self.aws.world.lock:
            for line in lines:
                self.aws.world.logs.add("/boxes", stream, line, self.aws.world.draw(self.aws.world.settings.delays.log))

    def setUp(self):
        super().setUp()
        self.logs = self.client("logs")
        self.logs.create_log_group(logGroupName="/boxes")
        self.addCleanup(self.logs.delete_log_group, logGroupName="/boxes")

    def texts(self, **request):
        pages = self.logs.get_paginator("filter_log_events").paginate(logGroupName="/boxes", **request)
        return [event["message"] for page in pages for event in page["events"]]

    def test_a_line_is_read_five_seconds_after_it_was_printed(self):
        self.put("p/main/1", "hello")
        self.assertEqual(self.texts(), [])
        self.assertEqual(wait_until(self.texts, "the line is there"), ["hello"])

    def test_lines_are_found_by_stream_pattern_and_time(self):
        self.put("p/main/1", "sbxfs-host-key one", "noise")
        self.put("q/main/2", "sbxfs-host-key two")
        wait_until(lambda: len(self.texts()) == 3, "the lines are there")
        self.assertEqual(self.texts(filterPattern='"sbxfs-host-key"'), ["sbxfs-host-key one", "sbxfs-host-key two"])
        self.assertEqual(self.texts(logStreamNamePrefix="q/"), ["sbxfs-host-key two"])
        self.assertEqual(self.texts(logStreamNames=["p/main/1"], filterPattern="noise"), ["noise"])
        self.assertEqual(self.texts(startTime=2**42), [])

    def test_pages_may_be_empty_with_more_to_come(self):
        self.set(log_empty_pages=2)
        self.put("p/main/1", *(f"line {i}" for i in range(25)))
        wait_until(self.texts, "the lines are there")
        self.assertEqual(self.logs.filter_log_events(logGroupName="/boxes")["events"], [])
        self.assertEqual(self.texts(limit=10), [f"line {i}" for i in range(25)])

    def test_the_last_lines_of_a_stream(self):
        self.put("p/main/1", *(f"line {i}" for i in range(5)))
        read = lambda: [event["message"] for event in self.logs.get_log_events(
            logGroupName="/boxes", logStreamName="p/main/1", limit=2, startFromHead=False)["events"]]
        self.assertEqual(wait_until(read, "the lines are there"), ["line 3", "line 4"])
        self.refused("ResourceNotFoundException", "stream does not exist", self.logs.get_log_events, logGroupName="/boxes",
                     logStreamName="other")

    def test_a_group_is_made_once(self):
        self.refused("ResourceAlreadyExistsException", "exists", self.logs.create_log_group, logGroupName="/boxes")
        self.refused("ResourceNotFoundException", "group does not exist", self.logs.filter_log_events, logGroupName="/none")

    def test_filter_patterns(self):
        for text, line, found in (("", "anything", True), ("a b", "b and a", True), ("a b", "only b", False),
                                  ('"a b"', "b a", False), ('"a b"', "xa by", True), ("?a ?z", "a", True),
                                  ("?a ?z", "b", False), ("a -b", "a b", False), ("a -b", "a c", True)):
            self.assertEqual(pattern(text)(line), found, (text, line))
        self.refused("InvalidParameterException", "", self.logs.filter_log_events, logGroupName="/boxes",
                     filterPattern="sbxfs-host-key")


class Addresses(AwsCase):
    def test_subnets_groups_and_routes_for_who_checks_them(self):
        ec2 = self.client("ec2")
        subnets = ec2.describe_subnets(SubnetIds=["subnet-1"])["Subnets"]
        self.assertEqual([one["AvailabilityZone"] for one in subnets], ["us-east-1a"])
        self.refused("InvalidSubnetID.NotFound", "subnet-x", ec2.describe_subnets, SubnetIds=["subnet-x"])
        ports = {group["GroupId"]: [rule["FromPort"] for rule in group["IpPermissions"]]
                 for group in ec2.describe_security_groups()["SecurityGroups"]}
        self.assertEqual(ports, {"sg-1": [22], "sg-closed": []})
        self.refused("InvalidGroup.NotFound", "sg-x", ec2.describe_security_groups, GroupIds=["sg-x"])
        tables = ec2.describe_route_tables(Filters=[{"Name": "association.subnet-id", "Values": ["subnet-1"]}])
        self.assertEqual(tables["RouteTables"][0]["Routes"][0]["GatewayId"], "igw-1")

    def test_what_it_does_not_know_is_said(self):
        self.refused("NotImplemented", "ec2:DescribeVpcs", self.client("ec2").describe_vpcs)


class ManyClients(AwsCase):
    scale = 100.0

    def test_calls_side_by_side_are_all_counted(self):
        def work():
            client = self.client("sts")
            for _ in range(20):
                client.get_caller_identity()
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.control("GET", "calls")["calls"], {"sts:GetCallerIdentity": 160})


if __name__ == "__main__":
    main()
