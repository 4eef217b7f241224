/* SPDX-License-Identifier: BSD-3-Clause */

/* Arguments common to the programs: numbers, and a seed where none is given. */

#ifndef MODEL_ARGUMENTS_H
#define MODEL_ARGUMENTS_H

#include <stdint.h>

extern uint64_t fresh_seed (void);
/* An argument as a number; ends the program if it is none. */
extern uint64_t number (const char *text);

#endif /* MODEL_ARGUMENTS_H */
