"""A task's way from PROVISIONING to forgotten, as DescribeTasks and ListTasks tell it. No processes: states only."""

import time

from frame import AwsCase, ClientError, main, wait_until

LADDER = ["MISSING", "PROVISIONING", "PENDING", "RUNNING", "DEACTIVATING", "STOPPING", "DEPROVISIONING", "STOPPED"]


class Lifecycle(AwsCase):
    # A step takes at least 60 ms here, so that polling sees each.
    scale = 10.0
    settings = {"real": False, "forget_s": 5,
                "delays": {"missing": 0.6, "listed": 1.2, "eni": 1.0, "provisioning": 1.6, "pull": 1.5, "running": 0.2,
                           "deactivating": 0.6, "stopping": 0.8, "deprovisioning": 0.8, "log": 1}}

    def follow(self, arn, until, seen=None):
        """Every status that polling sees on the way, with the task at its end."""
        seen = seen if seen is not None else []

        def step():
            task = self.describe(arn)
            status = task.get("lastStatus", "MISSING")
            if not seen or seen[-1] != status:
                seen.append(status)
            return task if status == until else None
        return seen, wait_until(step, f"{arn} is {until}", pause=0.01)

    def test_every_step_is_seen_in_its_order(self):
        arn = self.run_task()
        seen, task = self.follow(arn, "RUNNING")
        self.assertEqual(seen, LADDER[:4])
        for earlier, later in (("createdAt", "connectivityAt"), ("connectivityAt", "pullStartedAt"),
                               ("pullStartedAt", "pullStoppedAt"), ("pullStoppedAt", "startedAt")):
            self.assertLessEqual(task[earlier], task[later])
        self.assertEqual(task["connectivity"], "CONNECTED")
        self.assertEqual(task["containers"][0]["lastStatus"], "RUNNING")
        self.ecs.stop_task(cluster="sandboxes", task=arn, reason="enough")
        seen, task = self.follow(arn, "STOPPED")
        self.assertEqual([status for status in seen if status != "RUNNING"], LADDER[4:])
        self.assertEqual((task["stopCode"], task["stoppedReason"]), ("UserInitiated", "enough"))
        self.assertEqual(task["containers"][0]["exitCode"], 143)
        self.assertLessEqual(task["stoppingAt"], task["executionStoppedAt"])
        self.assertLessEqual(task["executionStoppedAt"], task["stoppedAt"])

    def test_a_new_task_is_missing_and_not_listed_at_first(self):
        self.set(delays={"missing": 4, "listed": 8, "provisioning": 12})  # also where this machine is busy
        arn = self.run_task(startedBy="late")
        said = self.ecs.describe_tasks(cluster="sandboxes", tasks=[arn])
        self.assertEqual((said["tasks"], said["failures"]), ([], [{"arn": arn, "reason": "MISSING"}]))
        listed = lambda: self.ecs.list_tasks(cluster="sandboxes", startedBy="late")["taskArns"]
        self.assertEqual(listed(), [])
        self.await_status(arn, "PROVISIONING")
        wait_until(lambda: listed() == [arn], "the task is listed")

    def test_the_interface_is_attached_before_the_task_runs_and_its_address_is_in_the_task(self):
        self.set(delays={"missing": 0.1, "eni": 5, "provisioning": 6, "pull": 5})
        arn = self.run_task()
        attachment = lambda: self.describe(arn).get("attachments", [{}])[0]
        wait_until(lambda: attachment().get("status") == "PRECREATED", "the interface is on its way")
        self.assertEqual([one["name"] for one in attachment()["details"]], ["subnetId"])
        wait_until(lambda: attachment()["status"] == "ATTACHED", "the interface is attached")
        task = self.describe(arn)
        self.assertIn(task["lastStatus"], ("PROVISIONING", "PENDING"))
        details = {one["name"]: one["value"] for one in task["attachments"][0]["details"]}
        self.assertEqual(sorted(details), ["macAddress", "networkInterfaceId", "privateDnsName", "privateIPv4Address", "subnetId"])
        self.assertTrue(details["privateIPv4Address"].startswith("127."))
        self.assertEqual(task["containers"][0]["networkInterfaces"][0]["privateIpv4Address"], details["privateIPv4Address"])

    def test_the_public_address_is_known_to_ec2_only(self):
        network = {"awsvpcConfiguration": {"subnets": ["subnet-2"], "assignPublicIp": "ENABLED"}}
        arn = self.run_task(networkConfiguration=network)
        task = self.await_status(arn, "RUNNING")
        interface = task["attachments"][0]["details"][1]["value"]
        filters = [{"Name": "network-interface-id", "Values": [interface, "eni-unknown"]}]
        ec2 = self.client("ec2")
        found = ec2.describe_network_interfaces(Filters=filters)["NetworkInterfaces"]
        self.assertEqual(len(found), 1)
        public = found[0]["Association"]["PublicIp"]
        self.assertNotIn(public, str(task))
        self.refused("InvalidNetworkInterfaceID.NotFound", "eni-unknown", ec2.describe_network_interfaces,
                     NetworkInterfaceIds=["eni-unknown"])
        self.ecs.stop_task(cluster="sandboxes", task=arn)
        self.await_status(arn, "STOPPED")
        self.assertEqual(ec2.describe_network_interfaces(Filters=filters)["NetworkInterfaces"], [])

    def test_a_task_can_be_stopped_before_it_runs(self):
        arn = self.run_task()
        self.ecs.stop_task(cluster="sandboxes", task=arn)
        task = self.await_status(arn, "STOPPED")
        self.assertEqual((task["stopCode"], task["stoppedReason"]), ("UserInitiated", "Task stopped by user"))
        self.assertNotIn("exitCode", task["containers"][0])
        self.assertNotIn("startedAt", task)

    def test_stopping_what_has_stopped_is_harmless_and_changes_nothing(self):
        arn = self.run_task()
        self.ecs.stop_task(cluster="sandboxes", task=arn, reason="first")
        self.await_status(arn, "STOPPED")
        said = self.ecs.stop_task(cluster="sandboxes", task=arn, reason="second")["task"]
        self.assertEqual((said["lastStatus"], said["stoppedReason"]), ("STOPPED", "first"))

    def test_a_stopped_task_is_listed_as_stopped_then_forgotten(self):
        arn = self.run_task(startedBy="gone")
        self.await_status(arn, "RUNNING")
        self.ecs.stop_task(cluster="sandboxes", task=arn)
        listed = lambda status: self.ecs.list_tasks(cluster="sandboxes", startedBy="gone", desiredStatus=status)["taskArns"]
        self.assertEqual((listed("RUNNING"), listed("STOPPED")), ([], [arn]))
        self.await_status(arn, "STOPPED")
        wait_until(lambda: self.describe(arn) == {}, "ECS has forgotten it")
        self.assertEqual(listed("STOPPED"), [])
        self.refused("InvalidParameterException", "not found", self.ecs.stop_task, cluster="sandboxes", task=arn)
        ever = {task["arn"]: task["status"] for task in self.control("GET", "tasks")}
        self.assertEqual(ever[arn], "STOPPED")

    def test_startedby_is_the_only_filter(self):
        self.refused("InvalidParameterException", "only filter", self.ecs.list_tasks, cluster="sandboxes", startedBy="a",
                     family="f")

    def test_describe_takes_a_hundred(self):
        self.refused("InvalidParameterException", "100", self.ecs.describe_tasks, cluster="sandboxes",
                     tasks=[f"{i:032x}" for i in range(101)])
        said = self.ecs.describe_tasks(cluster="sandboxes", tasks=["0" * 32])
        self.assertEqual(said["failures"][0]["reason"], "MISSING")

    def test_tags_are_told_only_when_asked_for(self):
        arn = self.run_task(tags=[{"key": "box", "value": "b1"}])
        self.await_status(arn, "RUNNING")
        self.assertEqual(self.describe(arn)["tags"], [])
        self.assertEqual(self.describe(arn, include=["TAGS"])["tags"], [{"key": "box", "value": "b1"}])


class Endings(AwsCase):
    scale = 500.0

    def ended(self, **script):
        self.fault(on="ecs:RunTask", do="task", **script)
        return self.await_status(self.run_task(), "STOPPED")

    def test_each_way_a_task_ends_has_its_stop_code_and_reason(self):
        for ending, code, words in (
                ("cannot_pull", "TaskFailedToStart", "CannotPullContainerError"),
                ("registry_auth", "TaskFailedToStart", "ResourceInitializationError"),
                ("eni_timeout", "TaskFailedToStart", "network interface"),
                ("out_of_memory", "EssentialContainerExited", "Essential container in task exited"),
                ("exited", "EssentialContainerExited", "Essential container in task exited"),
                ("spot", "SpotInterruption", "Your Spot Task was interrupted."),
                ("termination_notice", "TerminationNotice", "maintenance"),
                ("scheduler", "ServiceSchedulerInitiated", "Scaling")):
            with self.subTest(ending):
                task = self.ended(end=ending)
                self.assertEqual(task["stopCode"], code)
                self.assertIn(words, task["stoppedReason"])

    def test_containers_say_why_and_with_which_code(self):
        container = self.ended(end="out_of_memory")["containers"][0]
        self.assertEqual(container["exitCode"], 137)
        self.assertIn("OutOfMemoryError", container["reason"])
        container = self.ended(end="cannot_pull")["containers"][0]
        self.assertNotIn("exitCode", container)
        self.assertIn("debian: not found", container["reason"])
        self.assertEqual(self.ended(end={"like": "exited", "exit_code": 3})["containers"][0]["exitCode"], 3)

    def test_an_image_that_cannot_be_pulled(self):
        self.control("POST", "images", {"nosuch": {"error": "CannotPullContainerError: pull access denied for nosuch"}})
        arn = self.run_task(taskDefinition=self.register("nosuch", container={"image": "nosuch"}))
        task = self.await_status(arn, "STOPPED")
        self.assertEqual(task["stopCode"], "TaskFailedToStart")
        self.assertIn("pull access denied", task["containers"][0]["reason"])

    def test_a_secret_or_log_group_that_is_not_there_stops_the_task(self):
        for container, words in (
                ({"secrets": [{"name": "A", "valueFrom": "arn:aws:secretsmanager:us-east-1:123456789012:secret:no-AAAAAA"}]},
                 "ResourceNotFoundException: Secrets Manager can't find"),
                ({"environmentFiles": [{"type": "s3", "value": "arn:aws:s3:::sbxfs-bucket/none.env"}]}, "NoSuchKey"),
                ({"logConfiguration": {"logDriver": "awslogs", "options": {
                    "awslogs-group": "/none", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "p"}}},
                 "log group does not exist")):
            arn = self.run_task(taskDefinition=self.register("incomplete", container=container))
            task = self.await_status(arn, "STOPPED")
            self.assertEqual(task["stopCode"], "TaskFailedToStart")
            self.assertIn("ResourceInitializationError", task["stoppedReason"])
            self.assertIn(words, task["stoppedReason"])

    def test_a_living_task_is_ended_from_outside(self):
        arn = self.run_task()
        self.await_status(arn, "RUNNING")
        self.control("POST", f"tasks/{arn.rsplit('/', 1)[1]}", {"end": "spot"})
        self.assertEqual(self.await_status(arn, "STOPPED")["stopCode"], "SpotInterruption")

    def test_an_address_is_used_again_at_once_where_that_is_wanted(self):
        address = lambda task: task["containers"][0]["networkInterfaces"][0]["privateIpv4Address"]
        self.set(reuse="newest")
        first = self.run_task()
        was = address(self.await_status(first, "RUNNING"))
        self.ecs.stop_task(cluster="sandboxes", task=first)
        self.await_status(first, "STOPPED")
        self.assertEqual(address(self.await_status(self.run_task(), "RUNNING")), was)
        self.set(reuse="oldest")
        self.assertNotEqual(address(self.await_status(self.run_task(), "RUNNING")), was)


class RateCase(AwsCase):
    """One class a bucket: each begins with a full one."""

    scale = 1.0

    def burst(self, call, count):
        """How many of `count` calls in a row are taken."""
        taken = 0
        for _ in range(count):
            try:
                call()
                taken += 1
            except ClientError as error:
                self.assertEqual(error.response["Error"]["Code"], "ThrottlingException")
        return taken


class RunTaskRate(RateCase):
    def test_run_task_is_taken_20_times_at_once_then_20_times_a_second(self):
        started = time.monotonic()
        taken = self.burst(self.run_task, 60)
        self.assertGreaterEqual(taken, 20)
        self.assertLessEqual(taken, 21 + 20 * (time.monotonic() - started))


class LaunchRate(RateCase):
    def test_a_hundred_tasks_are_launched_at_once_then_20_a_second(self):
        started = time.monotonic()
        taken = 10 * self.burst(lambda: self.ask(count=10), 14)
        self.assertGreaterEqual(taken, 100)
        self.assertLessEqual(taken, 100 + 20 * (time.monotonic() - started) + 10)


class RegisterRate(RateCase):
    def test_definitions_are_registered_once_a_second(self):
        started = time.monotonic()
        taken = self.burst(lambda: self.register("throttled"), 12)  # one was made before
        self.assertGreaterEqual(taken, 4)
        self.assertLessEqual(taken, 5 + time.monotonic() - started)


class FiveHundred(AwsCase):
    scale = 100.0

    def test_500_tasks_run_without_a_process(self):
        arns = []
        while len(arns) < 500:
            try:
                arns += [task["taskArn"] for task in self.ask(count=10)["tasks"]]
            except ClientError as error:
                self.assertEqual(error.response["Error"]["Code"], "ThrottlingException")
                time.sleep(0.01)
        def running():
            pages = [self.ecs.describe_tasks(cluster="sandboxes", tasks=arns[i:i + 100])["tasks"] for i in range(0, 500, 100)]
            return sum(task["lastStatus"] == "RUNNING" for page in pages for task in page) == 500
        wait_until(running, "all run")
        self.assertEqual(self.control("GET", "health")["processes"], 0)
        pages = self.ecs.get_paginator("list_tasks").paginate(cluster="sandboxes")
        self.assertEqual(sorted(arn for page in pages for arn in page["taskArns"]), sorted(arns))


if __name__ == "__main__":
    main()
