/* tests/support/cuda/emulation_memory.cpp -- the card's memory, in pages of its own.
 *
 *     | guard | slack | the allocation, aligned to 256 | slack, < 256 | guard |
 *
 * The slack is filled like the allocation and looked at when that is given back; under
 * AddressSanitizer it may not be touched at all.  What was given back is not mapped.  Outside of
 * kernels and copies nothing of it may be touched: the host has no business there.
 */
#include "emulation_memory.h"

#include "emulation_card.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <sys/mman.h>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

namespace emulation {

namespace {

const size_t PAGE = 4096, ALIGNMENT = 256;

struct allocation {
    size_t bytes;
    unsigned char *pages;
    size_t page_bytes; /* without the guards */
    bool is_open;
};

std::map<uintptr_t, allocation> allocations;
std::map<uintptr_t, size_t> registered;
std::map<char *, std::vector<char>> symbols;
size_t taken;

size_t round_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

uintptr_t pointer_address(const void *p)
{
    return reinterpret_cast<uintptr_t>(p);
}

void protect_pages(const allocation &a, int how)
{
    if (mprotect(a.pages, a.page_bytes, how) != 0)
        abort();
}

void set_open(allocation &a, bool open)
{
    if (a.is_open == open)
        return;
    protect_pages(a, open ? PROT_READ | PROT_WRITE : PROT_NONE);
    a.is_open = open;
}

void check_slack(const unsigned char *begin, const unsigned char *end)
{
    ASAN_UNPOISON_MEMORY_REGION(begin, static_cast<size_t>(end - begin));
    for (const unsigned char *p = begin; p < end; p++)
        if (*p != 0xff) {
            fprintf(stderr, "emulation: a kernel has written beside an allocation\n");
            abort();
        }
}

void unmap_allocation(uintptr_t start, allocation &a)
{
    unsigned char *p = reinterpret_cast<unsigned char *>(start);
    set_open(a, true);
    check_slack(a.pages, p);
    check_slack(p + a.bytes, a.pages + a.page_bytes);
    munmap(a.pages - PAGE, a.page_bytes + 2 * PAGE);
    taken -= a.bytes;
}

/* What holds all of it, or NULL. */
allocation *find_holder(const void *p, size_t bytes)
{
    auto at = allocations.upper_bound(pointer_address(p));
    if (at == allocations.begin())
        return nullptr;
    --at;
    const size_t offset = pointer_address(p) - at->first;
    return offset < at->second.bytes && bytes <= at->second.bytes - offset ? &at->second : nullptr;
}

} /* namespace */

void *memory_take(size_t bytes)
{
    allocation a = { bytes, nullptr, round_up(round_up(bytes, ALIGNMENT), PAGE), false };
    void *all = mmap(nullptr, a.page_bytes + 2 * PAGE, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED)
        return nullptr;
    a.pages = static_cast<unsigned char *>(all) + PAGE;
    unsigned char *p = a.pages + a.page_bytes - round_up(bytes, ALIGNMENT);
    (void)madvise(a.pages, a.page_bytes, MADV_HUGEPAGE); /* cheaper to open and to close */
    set_open(a, true);
    memset(a.pages, 0xff, a.page_bytes);
    if (card.listener)
        memset(p, 0, bytes);
    ASAN_POISON_MEMORY_REGION(a.pages, static_cast<size_t>(p - a.pages));
    ASAN_POISON_MEMORY_REGION(p + bytes, static_cast<size_t>(a.pages + a.page_bytes - p) - bytes);
    set_open(a, false);
    allocations[pointer_address(p)] = a;
    taken += bytes;
    return p;
}

bool memory_give(void *p)
{
    const auto at = allocations.find(pointer_address(p));
    if (at == allocations.end())
        return false;
    unmap_allocation(at->first, at->second);
    allocations.erase(at);
    return true;
}

bool memory_has(const void *p, size_t bytes)
{
    return find_holder(p, bytes) != nullptr;
}

size_t memory_taken()
{
    return taken;
}

int memory_live()
{
    return static_cast<int>(allocations.size() + registered.size());
}

bool memory_open(const void *p, size_t bytes)
{
    allocation *a = find_holder(p, bytes);
    if (a)
        set_open(*a, true);
    return a != nullptr;
}

void memory_open_all()
{
    for (auto &at : allocations)
        set_open(at.second, true);
}

void memory_close_all()
{
    for (auto &at : allocations)
        set_open(at.second, false);
}

bool host_register(const void *p, size_t bytes)
{
    if (host_kind_of(p, bytes) != HOST_PAGEABLE)
        return false;
    registered[pointer_address(p)] = bytes;
    return true;
}

bool host_unregister(const void *p)
{
    return registered.erase(pointer_address(p)) != 0;
}

host_kind host_kind_of(const void *p, size_t bytes)
{
    const uintptr_t begin = pointer_address(p), end = begin + bytes;
    for (const auto &at : registered)
        if (at.first < end && begin < at.first + at.second)
            return at.first <= begin && end <= at.first + at.second ? HOST_PINNED
                                                                    : HOST_PARTLY_PINNED;
    return HOST_PAGEABLE;
}

void symbol_note(void *symbol, size_t bytes)
{
    char *p = static_cast<char *>(symbol);
    symbols.emplace(p, std::vector<char>(p, p + bytes));
}

void symbols_restore()
{
    for (const auto &at : symbols)
        memcpy(at.first, at.second.data(), at.second.size());
    symbols.clear();
}

void memory_reset()
{
    for (auto &at : allocations)
        unmap_allocation(at.first, at.second);
    allocations.clear();
    registered.clear();
}

} /* namespace emulation */
