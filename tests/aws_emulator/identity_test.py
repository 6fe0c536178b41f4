"""Who may ask: signatures, clocks, temporary credentials, permissions, in the words of each service."""

import http.client
from datetime import datetime, timedelta, timezone

from frame import ROLE, AwsCase, main


class Identity(AwsCase):
    # What each service says when something is wrong with who asks: unknown key, wrong secret, skewed clock, denied.
    WORDS = {
        "ecs": ("UnrecognizedClientException", "InvalidSignatureException", "InvalidSignatureException",
                "AccessDeniedException"),
        "logs": ("UnrecognizedClientException", "InvalidSignatureException", "InvalidSignatureException",
                 "AccessDeniedException"),
        "secretsmanager": ("UnrecognizedClientException", "InvalidSignatureException", "InvalidSignatureException",
                           "AccessDeniedException"),
        "sts": ("InvalidClientTokenId", "SignatureDoesNotMatch", "SignatureDoesNotMatch", "AccessDenied"),
        "ec2": ("AuthFailure", "AuthFailure", "RequestExpired", "UnauthorizedOperation"),
        "s3": ("InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "AccessDenied"),
    }

    def call(self, service, **who):
        client = self.client(service, **who)
        return {
            "ecs": lambda: client.describe_clusters(clusters=["sandboxes"]),
            "logs": lambda: client.describe_log_groups(),
            "secretsmanager": lambda: client.create_secret(Name=f"s{id(client)}", SecretString="x"),
            "sts": lambda: client.get_caller_identity(),
            "ec2": lambda: client.describe_subnets(),
            "s3": lambda: client.put_object(Bucket="sbxfs-bucket", Key="a b/c~d+e", Body=b"x"),
        }[service]

    def test_a_good_signature_is_taken_by_every_service(self):
        for service in self.WORDS:
            with self.subTest(service):
                self.call(service)()

    def test_an_unknown_key_is_refused_in_the_services_words(self):
        for service, (code, _, _, _) in self.WORDS.items():
            with self.subTest(service):
                self.refused(code, "", self.call(service, key="AKIDSTRANGER"))

    def test_a_wrong_secret_is_refused(self):
        for service, (_, code, _, _) in self.WORDS.items():
            with self.subTest(service):
                self.refused(code, "", self.call(service, secret="wrong"))

    def test_a_wrong_clock_is_refused_and_the_date_tells_the_right_one(self):
        self.addCleanup(self.control, "POST", "clock", {"skew_s": 0})
        for skew in (600, -600):
            self.control("POST", "clock", {"skew_s": skew})
            for service, (_, _, code, _) in self.WORDS.items():
                with self.subTest(service=service, skew=skew):
                    error = self.refused(code, "", self.call(service))
                    date = error.response["ResponseMetadata"]["HTTPHeaders"]["date"]
                    told = datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=timezone.utc)
                    off = told - datetime.now(timezone.utc)
                    self.assertLess(abs(off - timedelta(seconds=skew)), timedelta(seconds=30))
        self.control("POST", "clock", {"skew_s": 240})
        self.call("ecs")()

    def test_the_words_of_a_skewed_clock_are_those_clients_look_for(self):
        self.addCleanup(self.control, "POST", "clock", {"skew_s": 0})
        self.control("POST", "clock", {"skew_s": 600})
        self.refused("InvalidSignatureException", "Signature expired", self.call("ecs"))
        self.control("POST", "clock", {"skew_s": -600})
        self.refused("InvalidSignatureException", "Signature not yet current", self.call("ecs"))

    def test_a_denied_action_names_who_what_and_where(self):
        self.control("POST", "keys", {"id": "AKIDDENIED", "denied": ["*"]})
        for service, (_, _, _, code) in self.WORDS.items():
            with self.subTest(service):
                self.refused(code, "", self.call(service, key="AKIDDENIED"))
        self.control("POST", "keys", {"id": "AKIDDENIED", "denied": ["ecs:RunTask"]})
        client = self.client("ecs", key="AKIDDENIED")
        client.describe_clusters(clusters=["sandboxes"])
        self.refused("AccessDeniedException", "is not authorized to perform: ecs:RunTask on resource", self.ask,
                     client=client)

    def test_tags_at_creation_need_their_own_permission(self):
        self.control("POST", "keys", {"id": "AKIDDENIED", "denied": ["ecs:TagResource"]})
        client = self.client("ecs", key="AKIDDENIED")
        self.ask(client=client)
        self.refused("AccessDeniedException", "ecs:TagResource", self.ask, client=client,
                     tags=[{"key": "a", "value": "b"}])

    def test_roles_need_pass_role(self):
        self.control("POST", "keys", {"id": "AKIDDENIED", "denied": ["iam:PassRole"]})
        self.refused("AccessDeniedException", f"iam:PassRole on resource: {ROLE}", self.register, "other",
                     self.client("ecs", key="AKIDDENIED"))

    def test_credentials_of_a_role_work_until_they_expire(self):
        sts = self.client("sts")
        made = sts.assume_role(RoleArn=ROLE, RoleSessionName="box", DurationSeconds=900)["Credentials"]
        who = {"key": made["AccessKeyId"], "secret": made["SecretAccessKey"], "token": made["SessionToken"]}
        self.assertEqual(self.call("sts", **who)()["Arn"], "arn:aws:sts::123456789012:assumed-role/tasks/box")
        self.refused("UnrecognizedClientException", "", self.call("ecs", **{**who, "token": "another"}))
        self.refused("UnrecognizedClientException", "", self.call("ecs", **{**who, "token": None}))
        self.control("POST", "keys", {"id": made["AccessKeyId"], "expires_in_s": -1})
        self.refused("ExpiredTokenException", "expired", self.call("ecs", **who))
        self.refused("ExpiredToken", "expired", self.call("sts", **who))
        self.refused("ExpiredToken", "expired", self.call("s3", **who))

    def test_a_role_is_assumed_with_its_external_id_only(self):
        self.set(external_id="xyz")
        sts = self.client("sts")
        self.refused("AccessDenied", "sts:AssumeRole", sts.assume_role, RoleArn=ROLE, RoleSessionName="box")
        sts.assume_role(RoleArn=ROLE, RoleSessionName="box", ExternalId="xyz")

    def test_a_web_identity_needs_no_signature(self):
        sts = self.client("sts", key="AKIDSTRANGER")
        said = sts.assume_role_with_web_identity(RoleArn=ROLE, RoleSessionName="web", WebIdentityToken="web-identity-token")
        self.assertTrue(said["Credentials"]["SessionToken"])
        self.refused("InvalidIdentityToken", "", sts.assume_role_with_web_identity, RoleArn=ROLE, RoleSessionName="web",
                     WebIdentityToken="forged")

    def test_another_region_is_refused(self):
        self.refused("InvalidSignatureException", "valid region", self.call("ecs", region="eu-west-1"))

    def test_what_was_signed_must_arrive(self):
        """A changed body, a changed header and no signature at all, sent by hand."""
        host = self.aws.url.removeprefix("http://")
        taken = {}
        client = self.client("ecs")
        client.meta.events.register("before-send.ecs", lambda request, **_: taken.update(request.headers) or None)
        client.describe_clusters(clusters=["sandboxes"])
        headers = {name: value.decode() if isinstance(value, bytes) else value for name, value in taken.items()}
        body = '{"clusters": ["sandboxes"]}'

        def send(text, **changes):
            connection = http.client.HTTPConnection(host, timeout=10)
            wanted = {**headers, "Content-Length": str(len(text)), **changes}
            connection.request("POST", "/", text, {name: value for name, value in wanted.items() if value})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

        self.assertEqual(send(body)[0], 200)
        self.assertIn("InvalidSignatureException", send(body.replace("sandboxes", "sandboxen"))[1])
        self.assertIn("InvalidSignatureException", send(body, **{"X-Amz-Extra": "unsigned"})[1])
        self.assertIn("MissingAuthenticationTokenException", send(body, Authorization=None)[1])

    def test_iam_simulates_what_a_key_may_do(self):
        self.control("POST", "keys", {"id": "AKIDDENIED", "arn": "arn:aws:iam::123456789012:user/denied",
                                      "denied": ["ecs:StopTask"]})
        said = self.client("iam").simulate_principal_policy(
            PolicySourceArn="arn:aws:iam::123456789012:user/denied", ActionNames=["ecs:RunTask", "ecs:StopTask"])
        decisions = {one["EvalActionName"]: one["EvalDecision"] for one in said["EvaluationResults"]}
        self.assertEqual(decisions, {"ecs:RunTask": "allowed", "ecs:StopTask": "implicitDeny"})


if __name__ == "__main__":
    main()
