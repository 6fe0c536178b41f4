"""AWS as far as sbxfs speaks to it, on this machine: STS, ECS, EC2, Secrets Manager, CloudWatch Logs, S3, IAM. The tasks
it runs are real sandboxes. README.md says how to start it, script it and make it fail."""
