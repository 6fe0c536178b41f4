// Whether local sandboxes can be launched here: what they need, then one launch, taken away again.
#pragma once

#include "sandbox/doctor.h"
#include "sandbox/template.h"

namespace sbxfs {

void ExamineLocal(const Template& what, const Tell& tell);

}  // namespace sbxfs
