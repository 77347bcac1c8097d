/* engine/plan/ring_size.c -- rings between the smallest and the largest of use. */
#include "engine/plan/ring_size.h"

#include "engine/base/num.h"
#include "offload/stream.h"

size_t ring_size_smallest(const pack *p, size_t inside)
{
    return num_align(stream_ring_min(p, inside), SCRATCH_ALIGN);
}

static bool needs_transfer(const phases *p, uint32_t seg)
{
    return seg != SEG_VECTORS && seg != SEG_TOKENS && (seg != SEG_VAE_ENCODE || p->encodes) &&
           (seg != SEG_VAE_DECODE || p->decodes);
}

/* More than everything that ever travels is of no use. */
static size_t useful_ring(const phases *pipe, const bool *resident)
{
    const pack *p = pipe->m->p;
    size_t sum = stream_span(pack_biggest(p));
    for (int i = 0; i < n_pack_chunks(p); i++)
        if (needs_transfer(pipe, pack_chunk_at(p, i)->segment) && !(resident && resident[i]))
            sum += stream_span(pack_chunk_at(p, i)->bytes);
    return num_align(sum, SCRATCH_ALIGN);
}

size_t ring_size_fit(const phases *p, const refine_options *o, size_t wish, size_t smallest,
                     const bool *resident)
{
    const size_t asked = o->ring_bytes ? (size_t)o->ring_bytes : wish;
    const size_t ring = num_min(asked, useful_ring(p, resident));
    return num_align(num_max(ring, smallest), SCRATCH_ALIGN);
}

int ring_size_together(const pack *p, size_t ring, int asked, int most)
{
    const size_t chunk = stream_span(pack_biggest(p));
    int n = asked > 0 && asked < most ? asked : most;
    while (n > 1 && stream_ring_min(p, 2 * (size_t)n * chunk) > ring)
        n /= 2;
    return n;
}

size_t ring_size_of_launch(const pack *p, int together)
{
    return stream_ring_min(p, (size_t)together * stream_span(pack_biggest(p)));
}
