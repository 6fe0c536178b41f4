"""What goes wrong on purpose does so: once, as said, in the words of the service."""

import threading
import time
import urllib.error

from botocore.exceptions import BotoCoreError, ConnectionClosedError, ReadTimeoutError

from frame import AwsCase, main, wait_until


class Faults(AwsCase):
    settings = {"real": False, "rates": {"run_task": [1e6, 1e6], "launch": [1e6, 1e6]}}

    def started(self):
        return len(self.control("GET", "tasks"))

    def test_a_throttled_call_does_nothing_and_the_next_is_taken(self):
        before = self.started()
        self.fault(on="ecs:RunTask", do="throttle")
        self.refused("ThrottlingException", "Rate exceeded", self.ask)
        self.assertEqual(self.started(), before)
        self.ask()

    def test_each_service_throttles_and_breaks_in_its_own_words(self):
        for service, call, throttled, broken in (
                ("ecs", lambda c: c.describe_clusters(), "ThrottlingException", "ServerException"),
                ("ec2", lambda c: c.describe_subnets(), "RequestLimitExceeded", "Unavailable"),
                ("sts", lambda c: c.get_caller_identity(), "Throttling", "ServiceUnavailable"),
                ("s3", lambda c: c.put_object(Bucket="sbxfs-bucket", Key="k", Body=b""), "SlowDown", "ServiceUnavailable"),
                ("logs", lambda c: c.describe_log_groups(), "ThrottlingException", "ServiceUnavailableException")):
            with self.subTest(service):
                client = self.client(service)
                self.fault(on=f"{service}:*", do="throttle")
                self.refused(throttled, "", call, client)
                self.fault(on=f"{service}:*", do="unavailable")
                error = self.refused(broken, "", call, client)
                self.assertGreaterEqual(error.response["ResponseMetadata"]["HTTPStatusCode"], 500)

    def test_any_error_can_be_scripted(self):
        self.fault(on="ecs:StopTask", do="error", code="ServerException", message="as scripted", status=500)
        self.refused("ServerException", "as scripted", self.ecs.stop_task, cluster="sandboxes", task="x")

    def test_rules_count_skip_and_match(self):
        self.fault(on="ecs:RunTask", do="throttle", skip=1, times=2, match="BAD")
        self.ask(environment={"BAD": "1"})
        self.ask()
        for _ in range(2):
            self.refused("ThrottlingException", "", self.ask, environment={"BAD": "1"})
        self.ask(environment={"BAD": "1"})
        self.assertEqual(self.control("GET", "faults")[0]["met"], 2)

    def test_a_reset_after_the_call_was_taken_leaves_a_task_that_its_token_finds(self):
        before = self.started()
        self.fault(on="ecs:RunTask", do="reset", when="after")
        with self.assertRaises(ConnectionClosedError):
            self.ask(clientToken="reset-after")
        self.assertEqual(self.started(), before + 1)
        arn = self.run_task(clientToken="reset-after")
        self.assertEqual(self.control("GET", "tasks")[-1]["arn"], arn)
        self.assertEqual(self.started(), before + 1)

    def test_a_reset_before_the_call_was_taken_leaves_nothing(self):
        before = self.started()
        self.fault(on="ecs:RunTask", do="reset")
        with self.assertRaises(ConnectionClosedError):
            self.ask()
        self.assertEqual(self.started(), before)

    def test_a_stalled_answer_comes_late_and_nobody_else_waits(self):
        self.fault(on="ecs:DescribeClusters", do="stall", seconds=30)
        with self.assertRaises(ReadTimeoutError):
            self.client("ecs", read_timeout=0.3).describe_clusters()
        self.fault(on="ecs:DescribeClusters", do="stall", seconds=0.5)
        took = []
        slow = threading.Thread(target=lambda: (self.client("ecs").describe_clusters(), took.append(time.monotonic())))
        started = time.monotonic()
        slow.start()
        wait_until(lambda: self.control("GET", "faults")[-1]["met"] == 1, "the call has met the fault")
        self.ecs.describe_clusters()
        self.assertLess(time.monotonic() - started, 0.5)
        slow.join()
        self.assertGreaterEqual(took[0] - started, 0.5)

    def test_answers_that_are_cut_or_are_something_else(self):
        before = self.started()
        for rule in ({"do": "truncate"}, {"do": "malformed", "body": "<html>proxy</html>"}):
            self.fault(on="ecs:RunTask", **rule)
            try:
                self.assertNotIn("tasks", self.ask())
            except BotoCoreError:
                pass  # what it makes of that differs between versions
        self.assertEqual(self.started(), before + 1)  # the cut answer was a real one
        self.assertIn("tasks", self.ask())

    def test_capacity_and_other_failures_come_with_status_200(self):
        self.fault(on="ecs:RunTask", do="capacity")
        said = self.ask()
        self.assertEqual((said["tasks"], said["ResponseMetadata"]["HTTPStatusCode"]), ([], 200))
        self.assertTrue(said["failures"][0]["reason"].startswith("Capacity is unavailable at this time"))
        self.fault(on="ecs:RunTask", do="failure", reason="RESOURCE:ENI", detail="none is free")
        self.assertEqual(self.ask()["failures"][0]["reason"], "RESOURCE:ENI")

    def test_a_task_can_be_missing_for_a_while(self):
        arn = self.run_task()
        self.await_status(arn, "RUNNING")
        self.fault(on="ecs:DescribeTasks", do="missing", times=2)
        self.assertEqual([bool(self.describe(arn)) for _ in range(3)], [False, False, True])

    def test_a_late_interface(self):
        self.fault(on="ecs:RunTask", do="task", delays={"eni": 10000})
        arn = self.run_task()
        other = self.run_task()
        self.await_status(other, "RUNNING")
        task = self.describe(arn)
        self.assertEqual((task["lastStatus"], task["attachments"][0]["status"]), ("PROVISIONING", "PRECREATED"))

    def test_counters_per_action_and_per_error(self):
        self.fault(on="ecs:RunTask", do="throttle", times=2)
        for _ in range(2):
            self.refused("ThrottlingException", "", self.ask)
        self.ask()
        said = self.control("GET", "calls")
        self.assertEqual((said["calls"], said["errors"]), ({"ecs:RunTask": 3}, {"ThrottlingException": 2}))
        self.assertEqual([one["code"] for one in self.control("GET", "history")], ["ThrottlingException"] * 2 + [""])

    def test_a_rule_that_says_nothing_is_refused(self):
        for rule in ({"on": "ecs:RunTask", "do": "explode"}, {"on": "x", "do": "throttle", "when": "never"},
                     {"on": "ecs:RunTask", "do": "task", "end": "whatever"}):
            with self.assertRaises(urllib.error.HTTPError) as caught:
                self.fault(**rule)
            self.assertEqual(caught.exception.code, 400)
        with self.assertRaises(urllib.error.HTTPError):
            self.control("POST", "settings", {"delays": {"pul": 1}})


if __name__ == "__main__":
    main()
