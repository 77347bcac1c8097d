/* tests/support/stream_rig.h -- a stream under test: its pack or two, its device, its schedule.
 *
 * Of each pack: text once, an empty segment, UNet STEPS times, VAE once.  Chunks go by their
 * numbers over both packs (offload/chunk_list.h); those of the first are the pack's own.
 */
#ifndef REFINE_TEST_STREAM_RIG_H
#define REFINE_TEST_STREAM_RIG_H

#include "offload/stream.h"
#include "tests/support/order_device.h"
#include "tests/support/pack_fixture.h"

/* Segments of the pack, and passes over the UNet's. */
enum { TEXT = 1, UNET = 4, VAE = 5, STEPS = 3 };

enum { RIG_PASSES = 4 }; /* of a pack */

typedef struct rig {
    pack_fixture f, f2;
    pack *p, *p2; /* the second: NULL, or used after the first */
    dev *d;
    char *ring, *residents; /* of both packs there */
    size_t ring_bytes, residents_bytes;
    bool resident[PACKS_MAX * FIXTURE_CHUNKS], cached[PACKS_MAX * FIXTURE_CHUNKS];
    stream_pass schedule[PACKS_MAX * RIG_PASSES];
    stream_config c;
    stream *s;
    refine_error err;
} rig;

/* Pack, or two, and nothing else; then one or several times rig_configure, rig_open_stream,
 * rig_stop. */
void rig_open_pack(rig *r, fixture_codec codec);
void rig_open_pack_of(rig *r, const fixture_tensor *t, int n, fixture_codec codec);
/* One more, with other tensors, to be used after the first. */
void rig_open_second_pack(rig *r, fixture_codec codec);
void rig_open_second_pack_of(rig *r, const fixture_tensor *t, int n, fixture_codec codec);
stream_pass rig_pass(const rig *r, int segment, int passes);
void rig_configure(rig *r, dev *d, size_t ring_bytes);
void rig_open_stream(rig *r);
/* What rig_configure and rig_open_stream made; packs stay. */
void rig_stop(rig *r);
void rig_close(rig *r);
/* Once more with a ring of another size. */
void rig_resize(rig *r, size_t ring_bytes);
const pack_chunk *rig_chunk(const rig *r, int chunk);
const uint8_t *rig_plain(const rig *r, int chunk); /* what it decodes to */
/* Compute comes to the chunk's pack, if it has not. */
void rig_enter(rig *r, int chunk);
const void *rig_acquire(rig *r, int chunk);
void rig_release(rig *r, int chunk);
/* What lies there is compared when the device comes to it (order_device.h). */
void rig_look(rig *r, int chunk, const void *at);
/* One pass over [first, end) of one pack, `inside` chunks at a time; false as soon as a chunk does
 * not come. */
bool rig_use(rig *r, int first, int end, int inside);
/* The whole schedule, likewise. */
bool rig_play(rig *r, int inside);
int rig_uses(const rig *r);
void rig_expect_right(rig *r, int runs);
/* Bytes of `inside` neighbouring chunks at most. */
size_t rig_biggest_group(const rig *r, int inside);
/* The whole schedule on a device whose memory can be looked at. */
void rig_compare_in_place(rig *r);
/* Half of each UNet and one chunk of each text. */
void rig_make_resident(rig *r);
/* The first `n` uses of the schedule, one at a time. */
void rig_begin_to_play(rig *r, int n);
/* The first `n` uses, a restart, and the whole schedule: each byte is right. */
void rig_expect_restart(rig *r, int n);
/* Every chunk that is not resident, but for some. */
void rig_make_cached(rig *r);
/* Flips a bit of the file in which chunk c lies. */
void rig_flip(rig *r, int c);
/* Stored bytes of a pass's chunks that are in `b`. */
uint64_t rig_stored(const rig *r, const bool *b, stream_pass p);

#endif
