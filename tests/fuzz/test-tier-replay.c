/* SPDX-License-Identifier: BSD-3-Clause */

/* Runs tier.c once for each input in tier-corpus.  See test-replay.c. */

#define FUZZ_CORPUS "tier-corpus"
#include "test-replay.c"
