// Compute devices' drivers, found when the program runs: nothing is linked, and no header of theirs is needed to build.
#pragma once

#include "../../FeedbackDevice/Kernels/Phase.cl"
#include "CUDA.h"
#include "OpenCL.h"
