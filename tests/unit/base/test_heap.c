/* Pairing heaps against a list that is searched. */
#include "base/heap.h"

#include <check.h>

#include "base/list.h"
#include "draw.h"
#include "unit.h"

#define ITEMS 200

struct item {
    struct heap_node node;
    uint64_t value;
    bool in;
};

static struct item items[ITEMS];

static bool less(struct heap_node *a, struct heap_node *b)
{
    return LIST_ENTRY(a, struct item, node)->value < LIST_ENTRY(b, struct item, node)->value;
}

static uint64_t least(void)
{
    uint64_t value = UINT64_MAX;

    for (unsigned i = 0; i < ITEMS; i++)
        if (items[i].in && items[i].value < value)
            value = items[i].value;
    return value;
}

START_TEST(the_first_is_the_least_whatever_comes_and_goes)
{
    struct heap h;

    draw_begin(1, 1);
    heap_init(&h, less);
    for (unsigned step = 0; step < 50000; step++) {
        struct item *it = &items[below(ITEMS)];

        if (it->in) {
            heap_remove(&h, &it->node);
        } else {
            it->value = below(1 + below(1000));
            heap_add(&h, &it->node);
        }
        it->in = !it->in;
        if (step % 5000 < 500 && h.first) { /* now and then it runs empty */
            it = LIST_ENTRY(h.first, struct item, node);
            heap_remove(&h, h.first);
            it->in = false;
        }
        if (!h.first)
            ck_assert_uint_eq(least(), UINT64_MAX);
        else if (LIST_ENTRY(h.first, struct item, node)->value != least())
            ck_abort_msg("step %u", step);
    }
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "heap");

    tcase_add_test(tcase, the_first_is_the_least_whatever_comes_and_goes);
}
