"""RunTask: what is accepted, what is refused and in which words, and what a clientToken promises."""

import json

from frame import ROLE, AwsCase, main


class RunTask(AwsCase):
    settings = {"real": False, "rates": {"run_task": [1e6, 1e6], "launch": [1e6, 1e6], "register": [1e6, 1e6]}}

    def refuse(self, code, words, **request):
        return self.refused(code, words, self.ask, **request)

    def override(self, **parts):
        return {"containerOverrides": [{"name": "main", **parts}]}

    # --- accepted

    def test_a_task_is_what_was_asked_for(self):
        said = self.ask(
            startedBy="sbxfs/m1", tags=[{"key": "box", "value": "b1"}], enableExecuteCommand=True,
            overrides={"cpu": "1024", "memory": "2048", "ephemeralStorage": {"sizeInGiB": 30}, "taskRoleArn": ROLE,
                       **self.override(environment=[{"name": "A", "value": "1"}])})
        task = said["tasks"][0]
        self.assertEqual((task["lastStatus"], task["desiredStatus"]), ("PROVISIONING", "RUNNING"))
        self.assertEqual((task["cpu"], task["memory"], task["ephemeralStorage"]), ("1024", "2048", {"sizeInGiB": 30}))
        self.assertEqual((task["startedBy"], task["group"]), ("sbxfs/m1", "family:f"))
        self.assertEqual(task["taskDefinitionArn"], self.definition)
        self.assertEqual(task["tags"], [{"key": "box", "value": "b1"}])
        self.assertTrue(task["enableExecuteCommand"])

    def test_count_gives_every_task_the_same_overrides(self):
        said = self.ask(environment={"BOX": "one"}, count=3)
        self.assertEqual(len({task["taskArn"] for task in said["tasks"]}), 3)
        for task in said["tasks"]:
            self.assertEqual(task["overrides"]["containerOverrides"][0]["environment"], [{"name": "BOX", "value": "one"}])

    def test_spot_is_a_capacity_provider_and_excludes_a_launch_type(self):
        strategy = [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]
        task = self.ask(launchType=None, capacityProviderStrategy=strategy)["tasks"][0]
        self.assertEqual(task["capacityProviderName"], "FARGATE_SPOT")
        self.refuse("InvalidParameterException", "both a launch type and capacity provider", capacityProviderStrategy=strategy)

    def test_a_definition_without_revision_is_its_newest(self):
        self.register("newest")
        newest = self.register("newest")
        self.assertEqual(self.ask(taskDefinition="newest")["tasks"][0]["taskDefinitionArn"], newest)

    # --- clientToken

    def test_the_same_token_never_starts_a_second_task(self):
        first = self.run_task(clientToken="t-1", environment={"A": "1"})
        self.assertEqual(self.run_task(clientToken="t-1", environment={"A": "1"}), first)
        self.assertNotEqual(self.run_task(clientToken="t-2", environment={"A": "1"}), first)

    def test_the_same_token_finds_a_task_that_has_stopped(self):
        first = self.run_task(clientToken="t-stopped")
        self.ecs.stop_task(cluster="sandboxes", task=first)
        self.await_status(first, "STOPPED")
        said = self.ask(clientToken="t-stopped")["tasks"][0]
        self.assertEqual((said["taskArn"], said["lastStatus"]), (first, "STOPPED"))

    def test_a_token_with_other_parameters_is_a_conflict_that_names_the_tasks(self):
        first = self.run_task(clientToken="t-conflict", environment={"A": "1"})
        error = self.refuse("ConflictException", "clientToken", clientToken="t-conflict", environment={"A": "2"})
        self.assertEqual(error.response["resourceIds"], [first])

    def test_a_refused_launch_does_not_use_its_token_up(self):
        self.fault(on="ecs:RunTask", do="capacity")
        said = self.ask(clientToken="t-capacity")
        self.assertEqual(said["tasks"], [])
        self.assertIn("Capacity is unavailable", said["failures"][0]["reason"])
        self.run_task(clientToken="t-capacity")

    def test_a_token_has_64_printable_characters(self):
        self.refuse("InvalidParameterException", "clientToken", clientToken="x" * 65)
        self.refuse("InvalidParameterException", "clientToken", clientToken="with space")
        self.run_task(clientToken="~" * 64)

    # --- refused

    def test_overrides_have_8192_characters(self):
        rest = len(json.dumps(self.override(environment=[{"name": "A", "value": ""}]), separators=(",", ":")))
        self.run_task(environment={"A": "x" * (8192 - rest)})
        self.refuse("InvalidParameterException", "at most 8192", environment={"A": "x" * (8193 - rest)})

    def test_only_the_sizes_of_fargate(self):
        for cpu, memory in (("256", "512"), ("1024", "8192"), ("4096", "30720"), ("8192", "16384"), ("16384", "122880")):
            self.ask(overrides={"cpu": cpu, "memory": memory})
        for cpu, memory in (("256", "4096"), ("300", "512"), ("4096", "8193"), ("8192", "17408"), ("16384", "16384"), ("1 vCPU", "2048")):
            with self.subTest(cpu=cpu, memory=memory):
                self.refuse("InvalidParameterException", "", overrides={"cpu": cpu, "memory": memory})
        self.refuse("InvalidParameterException", "between 21 and 200", overrides={"ephemeralStorage": {"sizeInGiB": 20}})

    def test_what_does_not_exist_is_named(self):
        self.refuse("ClusterNotFoundException", "Cluster not found", cluster="nowhere")
        self.refuse("ClientException", "TaskDefinition not found", taskDefinition="nothing:1")
        self.refuse("InvalidParameterException", "subnet-x", networkConfiguration={"awsvpcConfiguration": {"subnets": ["subnet-x"]}})
        self.refuse("InvalidParameterException", "sg-x", networkConfiguration={
            "awsvpcConfiguration": {"subnets": ["subnet-1"], "securityGroups": ["sg-x"]}})
        self.refuse("InvalidParameterException", "container named other", overrides={"containerOverrides": [{"name": "other"}]})
        self.refuse("InvalidParameterException", "Network Configuration must be provided", networkConfiguration=None)
        self.refuse("PlatformUnknownException", "does not exist", platformVersion="9.9.9")

    def test_an_inactive_definition_starts_nothing(self):
        old = self.register("old")
        self.ecs.deregister_task_definition(taskDefinition=old)
        self.refuse("ClientException", "inactive", taskDefinition=old)

    def test_the_rules_of_tags(self):
        for tags in ([{"key": "aws:x", "value": "1"}], [{"key": "AWS:x", "value": "1"}], [{"key": "a" * 129, "value": "1"}],
                     [{"key": "a", "value": "v" * 257}], [{"key": "a", "value": "née!"}], [{"key": "a"}, {"key": "a"}],
                     [{"key": f"k{i}", "value": "1"} for i in range(51)]):
            with self.subTest(tags=str(tags)[:40]):
                self.refuse("InvalidParameterException", "ag", tags=tags)
        self.ask(tags=[{"key": "k" * 128, "value": "été + - = . _ : / @"}])
        self.ask(tags=[{"key": f"k{i}", "value": "v" * 256} for i in range(50)])

    def test_started_by_has_its_alphabet(self):
        self.ask(startedBy="a/B_9-" + "x" * 122)
        for text in ("x" * 129, "with space", "colon:"):
            self.refuse("InvalidParameterException", "startedBy", startedBy=text)

    def test_exec_needs_a_task_role(self):
        self.refuse("InvalidParameterException", "taskRoleArn", enableExecuteCommand=True)

    def test_a_role_that_ecs_cannot_assume(self):
        self.set(roles_not_assumable=[ROLE])
        self.refuse("ClientException", "unable to assume the role")

    def test_the_accounts_vcpus(self):
        self.set(vcpus=0.2)
        self.refuse("ClientException", "reached the limit on the number of vCPUs")

    def test_what_the_model_does_not_know_is_refused(self):
        """Sent past botocore's own checks."""
        client = self.client("ecs", parameter_validation=False)
        self.refuse("InvalidParameterException", "taskDefinition", taskDefinition=None, client=client)
        self.refuse("SerializationException", "count", count="two", client=client)
        self.refuse("InvalidParameterException", "launchType", launchType="LAMBDA", client=client)
        self.refuse("InvalidParameterException", "between 1 and 10", count=11)


class Definitions(AwsCase):
    settings = {"real": False, "rates": {"register": [1e6, 1e6]}}

    def refuse(self, words, **changes):
        self.refused("ClientException", words, self.register, "bad", **changes)

    def test_revisions_and_what_is_active(self):
        arns = [self.register("rev") for _ in range(3)]
        self.assertEqual([arn.rsplit("/", 1)[1] for arn in arns], ["rev:1", "rev:2", "rev:3"])
        self.ecs.deregister_task_definition(taskDefinition="rev:3")
        self.assertEqual(self.ecs.describe_task_definition(taskDefinition="rev")["taskDefinition"]["revision"], 2)
        listed = self.ecs.list_task_definitions(familyPrefix="rev", status="ACTIVE", sort="DESC")["taskDefinitionArns"]
        self.assertEqual(listed, [arns[1], arns[0]])
        said = self.ecs.delete_task_definitions(taskDefinitions=["rev:3", "rev:2"]) if hasattr(
            self.ecs, "delete_task_definitions") else None
        if said is not None:
            self.assertEqual([one["revision"] for one in said["taskDefinitions"]], [3])
            self.assertEqual(len(said["failures"]), 1)

    def test_tags_are_told_only_when_asked_for(self):
        arn = self.register("tagged", tags=[{"key": "hash", "value": "abc"}])
        self.assertNotIn("tags", self.ecs.describe_task_definition(taskDefinition=arn))
        said = self.ecs.describe_task_definition(taskDefinition=arn, include=["TAGS"])
        self.assertEqual(said["tags"], [{"key": "hash", "value": "abc"}])

    def test_what_fargate_does_not_run(self):
        self.refuse("No Fargate configuration exists", cpu="256", memory="4096")
        self.refuse("awsvpc", networkMode="bridge")
        self.refuse("execution role", container={"secrets": [{"name": "A", "valueFrom": "arn:x"}]}, executionRoleArn="")
        self.refuse("Privileged", container={"privileged": True})
        self.refuse("stopTimeout", container={"stopTimeout": 121})
        self.refuse("SYS_PTRACE", container={"linuxParameters": {"capabilities": {"add": ["SYS_ADMIN"]}}})
        self.refuse("unique", container={"environment": [{"name": "A", "value": "1"}],
                                         "secrets": [{"name": "A", "valueFrom": "arn:x"}]})
        self.refuse("awslogs requires options", container={"logConfiguration": {"logDriver": "awslogs", "options": {}}})
        self.refuse("essential", container={"essential": False})

    def test_tags_of_tasks_can_be_changed_later(self):
        arn = self.run_task(tags=[{"key": "a", "value": "1"}])
        self.ecs.tag_resource(resourceArn=arn, tags=[{"key": "b", "value": "2"}, {"key": "a", "value": "3"}])
        self.ecs.untag_resource(resourceArn=arn, tagKeys=["b"])
        self.assertEqual(self.ecs.list_tags_for_resource(resourceArn=arn)["tags"], [{"key": "a", "value": "3"}])

    def test_clusters_that_do_not_exist_are_failures(self):
        said = self.ecs.describe_clusters(clusters=["sandboxes", "nowhere"])
        self.assertEqual([one["clusterName"] for one in said["clusters"]], ["sandboxes"])
        self.assertEqual(said["failures"][0]["reason"], "MISSING")


if __name__ == "__main__":
    main()
