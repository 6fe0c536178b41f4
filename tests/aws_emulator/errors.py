"""What an action raises to answer with an error of the service."""

from typing import Any


class ApiError(Exception):
    """`members` go into the answer beside code and message, as ConflictException's resourceIds do."""

    def __init__(self, code: str, message: str, status: int = 400, **members: Any) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.members = members


class Words:
    """How each service words the refusals that every service has: by its protocol, since that is what differs."""

    def __init__(self, service: str) -> None:
        self._json = service in ("ecs", "logs", "secretsmanager")
        self._service = service

    def unknown_key(self) -> ApiError:
        if self._json:
            return ApiError("UnrecognizedClientException", "The security token included in the request is invalid.")
        if self._service == "ec2":
            return ApiError("AuthFailure", "AWS was not able to validate the provided access credentials", 401)
        if self._service == "s3":
            return ApiError("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.", 403)
        return ApiError("InvalidClientTokenId", "The security token included in the request is invalid.", 403)

    def unsigned(self) -> ApiError:
        if self._json:
            return ApiError("MissingAuthenticationTokenException", "Missing Authentication Token")
        if self._service == "s3":
            return ApiError("AccessDenied", "Access Denied", 403)
        if self._service == "ec2":
            return ApiError("MissingParameter", "The request must contain the parameter AWSAccessKeyId")
        return ApiError("MissingAuthenticationToken", "Request is missing Authentication Token", 403)

    def wrong_signature(self, why: str) -> ApiError:
        if self._json:
            return ApiError("InvalidSignatureException", why)
        if self._service == "ec2":
            return ApiError("AuthFailure", "AWS was not able to validate the provided access credentials", 401)
        return ApiError("SignatureDoesNotMatch", why, 403)

    def skewed(self, why: str) -> ApiError:
        if self._service == "s3":
            return ApiError("RequestTimeTooSkewed",
                            "The difference between the request time and the current time is too large.", 403)
        if self._service == "ec2":
            return ApiError("RequestExpired", "Request has expired.")
        return self.wrong_signature(why)

    def expired(self) -> ApiError:
        text = "The security token included in the request is expired"
        if self._json:
            return ApiError("ExpiredTokenException", text)
        if self._service == "s3":
            return ApiError("ExpiredToken", "The provided token has expired.")
        if self._service == "ec2":
            return ApiError("RequestExpired", "Request has expired.")
        return ApiError("ExpiredToken", text, 403)

    def denied(self, who: str, action: str, resource: str) -> ApiError:
        text = (f"User: {who} is not authorized to perform: {action} on resource: {resource} "
                f"because no identity-based policy allows the {action} action")
        if self._service == "ec2":
            return ApiError("UnauthorizedOperation", f"You are not authorized to perform this operation. {text}", 403)
        if self._json:
            return ApiError("AccessDeniedException", text)
        return ApiError("AccessDenied", text, 403)

    def throttled(self) -> ApiError:
        if self._service == "ec2":
            return ApiError("RequestLimitExceeded", "Request limit exceeded.", 503)
        if self._service == "s3":
            return ApiError("SlowDown", "Please reduce your request rate.", 503)
        return ApiError("ThrottlingException" if self._json else "Throttling", "Rate exceeded")

    def broken(self) -> ApiError:
        if self._service == "ecs":
            return ApiError("ServerException", "Service Unavailable. Please try again later.", 500)
        if self._service == "ec2":
            return ApiError("Unavailable", "The service is unavailable. Please try again shortly", 503)
        if self._json:
            return ApiError("ServiceUnavailableException", "The service is temporarily unavailable.", 503)
        return ApiError("ServiceUnavailable", "Service is unable to handle request.", 503)

    def invalid(self, text: str, missing: bool = False) -> ApiError:
        """A parameter that the service's model does not allow."""
        if self._service in ("ecs", "logs"):
            return ApiError("InvalidParameterException", text)
        if self._service == "secretsmanager":
            return ApiError("ValidationException", text)
        if self._service == "ec2":
            return ApiError("MissingParameter" if missing else "InvalidParameterValue", text)
        if self._service == "s3":
            return ApiError("InvalidRequest", text)
        return ApiError("ValidationError", text)
