/* tools/batch/size_wish.c -- sides from words, and the arithmetic of shapes. */
#include "tools/batch/size_wish.h"

#include "tools/cli/numbers.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const double PIXELS_PER_MP = 1024.0 * 1024.0;

static bool is_side(int v)
{
    return v >= SIZE_SIDE_MIN && v <= SIZE_SIDE_MAX && v % SIZE_UNIT == 0;
}

static bool parse_area(size_wish *w, const char *text)
{
    char digits[24];
    const size_t n = strlen(text);
    if (n < 3 || n - 2 >= sizeof digits || strcasecmp(text + n - 2, "MP") != 0)
        return false;
    (void)snprintf(digits, sizeof digits, "%.*s", (int)(n - 2), text);
    w->kind = SIZE_AREA;
    return numbers_real(digits, 0.01, 256, &w->megapixels);
}

bool size_wish_parse(size_wish *w, const char *text)
{
    w->kind = SIZE_OWN;
    if (strcmp(text, "input") == 0)
        return true;
    if (numbers_int(text, SIZE_SIDE_MIN, SIZE_SIDE_MAX, &w->width)) {
        w->kind = SIZE_LONGER;
        w->height = w->width;
        return true;
    }
    if (parse_area(w, text))
        return true;
    w->kind = SIZE_SIDES;
    return numbers_pair(text, 'x', 1, SIZE_SIDE_MAX, &w->width, &w->height) && is_side(w->width) &&
           is_side(w->height);
}

/* The nearest side there is. */
static int nearest_side(double v)
{
    const double side = SIZE_UNIT * floor(v / SIZE_UNIT + 0.5);
    return side < SIZE_SIDE_MIN ? SIZE_SIDE_MIN : side > SIZE_SIDE_MAX ? SIZE_SIDE_MAX : (int)side;
}

/* The sides asked for, of an image of this shape. */
static void target_sides(size_fit *out, const size_wish *w, double width, double height)
{
    double scale = 1;
    if (w->kind == SIZE_SIDES) {
        out->width = w->width;
        out->height = w->height;
        return;
    }
    if (w->kind == SIZE_LONGER)
        scale = w->width / fmax(width, height);
    else if (w->kind == SIZE_AREA)
        scale = sqrt(w->megapixels * PIXELS_PER_MP / (width * height));
    out->width = nearest_side(width * scale);
    out->height = nearest_side(height * scale);
}

/* The largest part in the middle that has the shape of the result. */
static void cut_middle(size_fit *out, int width, int height)
{
    const double w = width, h = height, shape = (double)out->width / out->height;
    if (w > h * shape)
        out->cut_width = (int)fmax(1, floor(h * shape + 0.5));
    else
        out->cut_height = (int)fmax(1, floor(w / shape + 0.5));
    out->x = (width - out->cut_width) / 2;
    out->y = (height - out->cut_height) / 2;
}

/* A result of the image's shape within the sides there are. */
static bool shrink_result(size_fit *out, int width, int height)
{
    const double scale = fmin((double)out->width / width, (double)out->height / height);
    const double w = width * scale, h = height * scale;
    out->width = nearest_side(w);
    out->height = nearest_side(h);
    return w > SIZE_SIDE_MIN - SIZE_UNIT / 2 && h > SIZE_SIDE_MIN - SIZE_UNIT / 2;
}

bool size_wish_apply(size_fit *out, const size_wish *w, int width, int height)
{
    *out = (size_fit){ .cut_width = width, .cut_height = height };
    if (w->kind == SIZE_OWN) { /* downwards, as diffusers does */
        out->width = width / SIZE_UNIT * SIZE_UNIT;
        out->height = height / SIZE_UNIT * SIZE_UNIT;
        return out->width >= SIZE_SIDE_MIN && out->height >= SIZE_SIDE_MIN;
    }
    target_sides(out, w, width, height);
    if (w->fit == FIT_COVER)
        cut_middle(out, width, height);
    return w->fit != FIT_CONTAIN || shrink_result(out, width, height);
}
