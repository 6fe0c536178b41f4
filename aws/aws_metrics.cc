#include "aws/aws_metrics.h"

namespace sbxfs::aws {
namespace {

// Every action that a client here calls; guarded by AwsMetrics.KnowEveryAction.
std::vector<std::string_view> Actions() {
    return {"AssumeRole",
            "AssumeRoleWithWebIdentity",
            "CreateSecret",
            "DeleteObject",
            "DescribeClusters",
            "DescribeNetworkInterfaces",
            "DescribeSecurityGroups",
            "DescribeSubnets",
            "DescribeTaskDefinition",
            "DescribeTasks",
            "FilterLogEvents",
            "GetCallerIdentity",
            "GetLogEvents",
            "GetSecretValue",
            "ListTaskDefinitions",
            "ListTasks",
            "PutObject",
            "RegisterTaskDefinition",
            "RunTask",
            "SimulatePrincipalPolicy",
            "StopTask",
            "other"};
}

}  // namespace

AwsMetrics::AwsMetrics()
    : calls("aws_calls_total", "Requests sent to AWS, retries included.", "action", Actions(),
            Counter::Shown::kCounted),
      throttled("aws_throttled_total", "Answers of AWS that asked for fewer requests.", "action",
                Actions(), Counter::Shown::kCounted),
      failed("aws_failed_total", "Calls to AWS that failed in the end.", "action", Actions(),
             Counter::Shown::kCounted) {}

AwsMetrics aws_metrics;

}  // namespace sbxfs::aws
