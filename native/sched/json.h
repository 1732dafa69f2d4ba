/* Whether a text is an event that may go to a guest unseen: JSON (RFC 8259) in ASCII. */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { JSON_DEPTH = 128 }; /* arrays and objects in each other at most: within what any parser in a guest goes down */

/* Stricter than the RFC where parsers differ: nothing but ASCII, no half of a surrogate pair, no deeper than
 * JSON_DEPTH. So what passes is JSON to everybody; what does not may still be, and is to be asked for elsewhere. */
bool json_plain(const uint8_t *text, size_t size);

#endif
