/* tests/support/opened_cpu.c -- in place of dev_open_cpu. */
#include "tests/support/opened_cpu.h"

dev *__real_dev_open_cpu(const dev_options *o, refine_error *err);
dev *__wrap_dev_open_cpu(const dev_options *o, refine_error *err);

dev *__wrap_dev_open_cpu(const dev_options *o, refine_error *err)
{
    static struct dev_ops changed;
    dev *d = __real_dev_open_cpu(o, err);
    if (!d)
        return NULL;
    changed = *d->ops;
    opened_cpu(d, &changed, d->ops);
    d->ops = &changed;
    return d;
}
