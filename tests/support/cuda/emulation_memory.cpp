/* tests/support/cuda/emulation_memory.cpp -- the card's memory, in pages of its own.
 *
 *     | guard | slack | the allocation, aligned to 256 | slack, < 256 | guard |
 *
 * The slack is filled like the allocation and looked at when that is given back; under
 * AddressSanitizer it may not be touched at all.  What was given back is not mapped.  Outside of
 * kernels and copies nothing of it may be touched: the host has no business there.
 */
#include "emulation_memory.h"

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
};

std::map<uintptr_t, allocation> allocations;
std::map<uintptr_t, size_t> registered;
std::map<char *, std::vector<char>> symbols;
size_t taken;
bool is_open;

size_t round_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

uintptr_t number(const void *p)
{
    return reinterpret_cast<uintptr_t>(p);
}

void protect(const allocation &a, int how)
{
    if (mprotect(a.pages, a.page_bytes, how) != 0)
        abort();
}

void set_open(bool open)
{
    if (is_open == open)
        return;
    is_open = open;
    for (const auto &at : allocations)
        protect(at.second, open ? PROT_READ | PROT_WRITE : PROT_NONE);
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

void unmap(uintptr_t start, const allocation &a)
{
    unsigned char *p = reinterpret_cast<unsigned char *>(start);
    protect(a, PROT_READ | PROT_WRITE);
    check_slack(a.pages, p);
    check_slack(p + a.bytes, a.pages + a.page_bytes);
    munmap(a.pages - PAGE, a.page_bytes + 2 * PAGE);
    taken -= a.bytes;
}

/* The last that begins at or before p, or the end. */
template <class M> auto find_before(M &map, const void *p)
{
    auto at = map.upper_bound(number(p));
    return at == map.begin() ? map.end() : --at;
}

} /* namespace */

void *memory_take(size_t bytes)
{
    allocation a = { bytes, nullptr, round_up(round_up(bytes, ALIGNMENT), PAGE) };
    void *all = mmap(nullptr, a.page_bytes + 2 * PAGE, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED)
        return nullptr;
    a.pages = static_cast<unsigned char *>(all) + PAGE;
    unsigned char *p = a.pages + a.page_bytes - round_up(bytes, ALIGNMENT);
    protect(a, PROT_READ | PROT_WRITE);
    memset(a.pages, 0xff, a.page_bytes);
    ASAN_POISON_MEMORY_REGION(a.pages, static_cast<size_t>(p - a.pages));
    ASAN_POISON_MEMORY_REGION(p + bytes, static_cast<size_t>(a.pages + a.page_bytes - p) - bytes);
    if (!is_open)
        protect(a, PROT_NONE);
    allocations[number(p)] = a;
    taken += bytes;
    return p;
}

bool memory_give(void *p)
{
    const auto at = allocations.find(number(p));
    if (at == allocations.end())
        return false;
    unmap(at->first, at->second);
    allocations.erase(at);
    return true;
}

bool memory_has(const void *p, size_t bytes)
{
    const auto at = find_before(allocations, p);
    if (at == allocations.end())
        return false;
    const size_t offset = number(p) - at->first;
    return offset < at->second.bytes && bytes <= at->second.bytes - offset;
}

size_t memory_taken()
{
    return taken;
}

int memory_live()
{
    return static_cast<int>(allocations.size() + registered.size());
}

void memory_open()
{
    set_open(true);
}

void memory_close()
{
    set_open(false);
}

bool host_register(const void *p, size_t bytes)
{
    if (host_kind_of(p, bytes) != HOST_PAGEABLE)
        return false;
    registered[number(p)] = bytes;
    return true;
}

bool host_unregister(const void *p)
{
    return registered.erase(number(p)) != 0;
}

host_kind host_kind_of(const void *p, size_t bytes)
{
    const uintptr_t begin = number(p), end = begin + bytes;
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
    for (const auto &at : allocations)
        unmap(at.first, at.second);
    allocations.clear();
    registered.clear();
}

} /* namespace emulation */
