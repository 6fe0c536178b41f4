// What the calls to AWS count (base/metrics.h), by action: throttling concerns the account, and so all sandboxes.
#pragma once

#include "base/metrics.h"

namespace sbxfs::aws {

struct AwsMetrics {
    Counter calls;  // requests sent, retries included
    Counter throttled;
    Counter failed;  // calls that came to nothing in the end

    AwsMetrics();
};
extern AwsMetrics aws_metrics;

}  // namespace sbxfs::aws
