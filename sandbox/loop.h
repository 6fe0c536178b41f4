#pragma once
#include "base/loop.h"
