/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What a program on the model (`mana model exec -- PROGRAM`) can call to steer and read it. The
 * functions are in the library that is preloaded, not in one to link with: find them by
 * dlsym(RTLD_DEFAULT, "mana_model_step"), or declare them weak; without the model there are none.
 * All may be called from any thread, but not from a signal handler.
 */
#ifndef MANA_MODEL_H
#define MANA_MODEL_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Runs one command ("help" lists them; they are those of `mana model control`) and writes the
 * answer, lines that end with '\n', to `answer` as a string that ends with a zero.
 *
 * Returns the answer's length in bytes, without the zero. If that is `size` or more, the answer was
 * cut to size - 1 bytes; a call with a null `command` writes the whole answer of the last command of
 * this process again and runs nothing. With a null `answer` or a `size` of 0 nothing is written.
 *
 * Returns -1 if the command was not run, with the reason in `answer` and in errno: EINVAL for what
 * is no command, ENODEV for a port or device that the model does not have, other numbers are the
 * model's (EBUSY for a netdev that can't be UP). ENODEV without a reason: there is no model, the
 * library was loaded by something else than `mana model exec`.
 */
long mana_model_control(const char *command, char *answer, size_t size);
typedef long mana_model_control_t(const char *command, char *answer, size_t size);

/*
 * Lets the device do everything that is pending: with --doorbell=step, where doorbells are plain
 * memory, it reads them now. Returns the number of packets that moved, -1 with ENODEV as above.
 */
long mana_model_step(void);
typedef long mana_model_step_t(void);

#ifdef __cplusplus
}
#endif

#endif
