/* engine/base/io.h -- reads and writes that go on until all their bytes have moved.
 *
 * A system call may be interrupted (EINTR) or move fewer bytes than it was asked for: a signal, a
 * pipe, a disk that fills up.  Each function here repeats it until all bytes have moved, the file
 * has ended or the call fails, and returns how many bytes moved:
 *
 *     all of them     done; errno says nothing
 *     fewer           errno says why; 0: the call moved nothing, so the file ended
 *
 * The caller knows the file's name and what it is good for, so the caller words the error.
 */
#ifndef REFINE_IO_H
#define REFINE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

size_t io_read_at(int fd, void *dst, size_t bytes, uint64_t at);
size_t io_write_at(int fd, const void *src, size_t bytes, uint64_t at);

/* From where the file or pipe stands. */
size_t io_read(int fd, void *dst, size_t bytes);
size_t io_write(int fd, const void *src, size_t bytes);

/* All of a file or pipe that has just been opened, and a zero byte behind it that *len does not
 * count; *out is the caller's to mem_free.  False, and errno says why: EFBIG, there are more than
 * `most` bytes (of which most + 1 fit into memory); ENOMEM; or it cannot be read. */
bool io_read_whole(char **out, size_t *len, int fd, size_t most);

/* One call to the system: up to `bytes` at `memory`, to or from byte `at` of a file.  Returns how
 * many moved, or -1 and errno. */
typedef ssize_t io_attempt(void *context, void *memory, size_t bytes, uint64_t at);

/* The loop behind all of the above, for a caller with calls of its own. */
size_t io_move(io_attempt *attempt, void *context, void *memory, size_t bytes, uint64_t at);

#endif
