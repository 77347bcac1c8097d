/* tests/fuzz/fuzz_pack.c -- any bytes as a pack: it opens or says why, and never crashes.
 *
 * Twice: as the bytes are, and with every hash but those of frames made right, since an
 * attacker would.  What opens is read whole.
 */
#define _GNU_SOURCE /* memfd_create */
#include "offload/pack.h"

#include "tests/support/pack_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { READ_MAX = 4 << 20 };

static void read_whole_pack(const pack *p)
{
    static char out[READ_MAX];
    static uint16_t row[READ_MAX / 2];
    size_t len;

    (void)pack_meta(p, &len);
    (void)pack_merges(p, &len);
    for (int i = 0; i < n_pack_chunks(p); i++)
        if (pack_chunk_at(p, i)->bytes <= READ_MAX)
            (void)pack_read_chunk(p, i, out, NULL);
    for (int i = 0; i < n_pack_tensors(p); i++) {
        const pack_tensor *t = pack_tensor_at(p, i);
        (void)pack_tensor_name(p, i);
        if (t->segment == PACK_SEGMENT_TOKENS && t->dtype == 1 && t->kh == 1 && t->kw == 1 &&
            t->c_in <= READ_MAX / 2)
            (void)pack_read_row(p, i, (int)t->rows - 1, row, NULL);
    }
}

static void open_and_read(const uint8_t *data, size_t size)
{
    char path[64];
    refine_error err;
    pack *p;
    const int fd = memfd_create("fuzz", 0);

    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (pack_open(&p, path, &err) == REFINE_OK)
        read_whole_pack(p);
    pack_close(p);
    (void)close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = calloc(1, size + 1);

    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    open_and_read(copy, size);
    if (size >= sizeof(pack_superblock)) {
        pack_superblock s;
        memcpy(&s, copy, sizeof s);
        memcpy(s.magic, PACK_MAGIC, sizeof s.magic);
        s.version = PACK_VERSION;
        s.file_bytes = size;
        memcpy(copy, &s, sizeof s);
        pack_fixture_rehash(copy, size);
        open_and_read(copy, size);
    }
    free(copy);
    return 0;
}
