/* tests/offload/test_chunk_list.c -- one numbering over packs: each number is one chunk of one. */
#include "offload/chunk_list.h"

#include "engine/base/num.h"
#include "tests/support/stream_rig.h"

#include <criterion/criterion.h>
#include <string.h>

typedef struct listed_packs {
    rig r;
    chunk_list l, first_alone, second_alone;
} listed_packs;

static void open_listed_packs(listed_packs *t, fixture_codec a, fixture_codec b)
{
    rig_open_pack(&t->r, a);
    rig_open_second_pack(&t->r, b);
    const pack *const packs[] = { t->r.p, t->r.p2 };
    t->l = chunk_list_make(packs, 2);
    t->first_alone = chunk_list_make(packs, 1);
    t->second_alone = chunk_list_make(packs + 1, 1);
}

Test(offload_chunk_list, a_single_pack_keeps_its_numbers)
{
    listed_packs t;
    open_listed_packs(&t, FIXTURE_MIXED, FIXTURE_MIXED);
    cr_assert_eq(n_listed_chunks(&t.first_alone), n_pack_chunks(t.r.p));
    for (int i = 0; i < n_pack_chunks(t.r.p); i++) {
        cr_expect_eq(chunk_list_pack(&t.first_alone, i), 0);
        cr_expect_eq(chunk_list_at(&t.first_alone, i), pack_chunk_at(t.r.p, i));
    }
    rig_close(&t.r);
}

Test(offload_chunk_list, the_second_packs_chunks_follow_the_firsts)
{
    listed_packs t;
    open_listed_packs(&t, FIXTURE_MIXED, FIXTURE_SPLIT);
    const int n = n_pack_chunks(t.r.p), n2 = n_pack_chunks(t.r.p2);
    cr_assert_eq(n_listed_chunks(&t.l), n + n2);
    for (int i = 0; i < n + n2; i++) {
        const pack *p = i < n ? t.r.p : t.r.p2;
        const pack_chunk *c = pack_chunk_at(p, i < n ? i : i - n);
        cr_expect_eq(chunk_list_pack(&t.l, i), i >= n, "chunk %d", i);
        cr_expect_eq(chunk_list_at(&t.l, i), c, "chunk %d", i);
        cr_expect_str_eq(chunk_list_name(&t.l, i), pack_tensor_name(p, (int)c->tensor));
        for (uint32_t k = 0; k < c->n_frames; k++)
            cr_expect_eq(chunk_list_frame(&t.l, i, (int)k),
                         pack_frame_at(p, (int)(c->first_frame + k)), "frame %d of chunk %d",
                         (int)k, i);
    }
    rig_close(&t.r);
}

Test(offload_chunk_list, the_largest_is_the_largest_of_all)
{
    listed_packs t;
    open_listed_packs(&t, FIXTURE_RAW, FIXTURE_SPLIT);
    const chunk_list *const of[] = { &t.l, &t.first_alone, &t.second_alone };
    size_t plain[3], stored[3], split[3];
    for (int i = 0; i < 3; i++) {
        plain[i] = chunk_list_biggest(of[i]);
        stored[i] = chunk_list_biggest_stored(of[i]);
        split[i] = chunk_list_biggest_split(of[i]);
    }
    cr_expect_eq(plain[0], num_max(plain[1], plain[2]));
    cr_expect_eq(stored[0], num_max(stored[1], stored[2]));
    cr_expect_neq(plain[1], plain[2]);
    cr_expect_eq(split[1], 0, "a raw pack has no frame that is split");
    cr_expect_gt(split[2], 0);
    cr_expect_eq(split[0], split[2]);
    rig_close(&t.r);
}

Test(offload_chunk_list, no_more_packs_than_there_is_room_for, .signal = 6)
{
    const pack *const packs[PACKS_MAX + 1] = { 0 };
    (void)chunk_list_make(packs, PACKS_MAX + 1);
}
