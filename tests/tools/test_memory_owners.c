/* tests/tools/test_memory_owners.c -- every byte of the plan has one owner, in every phase. */
#include "tools/report/memory_owners.h"

#include <criterion/criterion.h>
#include <string.h>

static const refine_memory MEMORY = { .resident = 1,
                                      .ring = 2,
                                      .prompt = 4,
                                      .activations = 8 + 4,
                                      .workspace = 16,
                                      .vectors = 32,
                                      .device_overhead = 64,
                                      .device_planned = 127,
                                      .staging = 256,
                                      .cached = 512,
                                      .spill_host = 1024 };

static uint64_t held_by(const memory_owner owners[], const uint64_t bytes[], int n, const char *key)
{
    for (int i = 0; i < n; i++)
        if (strcmp(owners[i].key, key) == 0)
            return bytes[i];
    cr_assert_fail("there is no owner %s", key);
    return 0;
}

static uint64_t device_holds(refine_phase phase, uint64_t activations, const char *key)
{
    uint64_t bytes[DEVICE_OWNERS];
    owners_of_device(bytes, &MEMORY, phase, activations);
    return held_by(device_owners, bytes, DEVICE_OWNERS, key);
}

/* What the device takes for itself is in `device_planned`, and so in what its owners hold. */
Test(tools_memory_owners, are_of_every_byte_of_the_device)
{
    uint64_t bytes[DEVICE_OWNERS], sum = 0;
    owners_of_device(bytes, &MEMORY, REFINE_DENOISING, MEMORY.activations);
    for (int i = 0; i < DEVICE_OWNERS; i++)
        sum += bytes[i];
    cr_expect_eq(sum, MEMORY.device_planned);
}

Test(tools_memory_owners, hold_residents_and_prompts_while_denoising)
{
    cr_expect_eq(device_holds(REFINE_DENOISING, 12, "resident"), 1u);
    cr_expect_eq(device_holds(REFINE_DENOISING, 12, "prompt"), 4u);
    cr_expect_eq(device_holds(REFINE_DENOISING, 12, "activations"), 8u);
    cr_expect_eq(device_holds(REFINE_DECODING, 12, "resident"), 0u);
    cr_expect_eq(device_holds(REFINE_DECODING, 12, "prompt"), 0u);
    cr_expect_eq(device_holds(REFINE_DECODING, 12, "activations"), 12u);
    cr_expect_eq(device_holds(REFINE_DECODING, 12, "ring"), 2u);
}

/* A phase begins before its activations are there. */
Test(tools_memory_owners, hold_no_more_of_a_prompt_than_is_in_use)
{
    cr_expect_eq(device_holds(REFINE_DENOISING, 3, "prompt"), 3u);
    cr_expect_eq(device_holds(REFINE_DENOISING, 3, "activations"), 0u);
}

Test(tools_memory_owners, hold_their_own_of_the_host)
{
    uint64_t bytes[HOST_OWNERS];
    owners_of_host(bytes, &MEMORY);
    cr_expect_eq(held_by(host_owners, bytes, HOST_OWNERS, "staging"), 256u);
    cr_expect_eq(held_by(host_owners, bytes, HOST_OWNERS, "cached"), 512u);
    cr_expect_eq(held_by(host_owners, bytes, HOST_OWNERS, "spill"), 1024u);
}
