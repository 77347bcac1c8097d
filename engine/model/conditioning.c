/* engine/model/conditioning.c -- embeddings and prompt keys and values, once per image. */
#include "engine/model/conditioning.h"

#include "engine/model/sinusoid.h"

#include <string.h>

void conditioning_vector(const unet_config *c, float *out, const float *pooled,
                         const float ids[MICRO_IDS])
{
    const int n_pooled = c->add_embed_dim - MICRO_IDS * c->id_embed_dim;
    memcpy(out, pooled, (size_t)n_pooled * sizeof *out);
    for (int i = 0; i < MICRO_IDS; i++)
        embed_sinusoid(out + n_pooled + i * c->id_embed_dim, ids[i], c->id_embed_dim);
}

static tensor upload_embedding(forward_ctx *r, int n, int w, int c, const float *src)
{
    tensor t = scratch_alloc(&r->mem, DT_F32, n, 1, w, c);
    dev_put(r->d, t.data, src, tensor_bytes(t));
    return t;
}

/* second(silu(first(x))) with `e`; x is consumed. */
static tensor mlp_forward(forward_ctx *r, tensor x, affine_ref first, affine_ref second, int c,
                          epilogue e)
{
    tensor hidden = scratch_alloc(&r->mem, DT_F32, x.n, 1, x.w, c);
    forward_linear(r, hidden, x, first, (epilogue){ .act = ACT_SILU });
    scratch_free(&r->mem, x);
    tensor y = scratch_alloc(&r->mem, DT_F32, x.n, 1, x.w, c);
    forward_linear(r, y, hidden, second, e);
    scratch_free(&r->mem, hidden);
    return y;
}

/* What the walk over the blocks carries. */
typedef struct visit {
    forward_ctx *r;
    tensor emb, table, text;
} visit;

static void project_embedding(void *context, resnet *b)
{
    visit *v = context;
    forward_linear(v->r, tensor_channels(v->table, b->emb_at, b->c_out), v->emb, b->emb,
                   (epilogue){ 0 });
}

static void attend_prompt(void *context, transformer *t)
{
    visit *v = context;
    transformer_attend_prompt(v->r, t, v->text);
}

tensor conditioning_forward(forward_ctx *r, unet *u, tensor text, const float *vectors,
                            const float *sinusoids, int steps)
{
    const int n = text.n, base = u->c->channels[0], c_emb = 4 * base;

    tensor table = scratch_alloc(&r->mem, DT_F32, n, 1, steps, u->emb_channels);
    tensor add = mlp_forward(r, upload_embedding(r, n, 1, u->c->add_embed_dim, vectors), u->add1,
                             u->add2, c_emb, (epilogue){ 0 });
    tensor emb = mlp_forward(r, upload_embedding(r, n, steps, base, sinusoids), u->time1, u->time2,
                             c_emb, (epilogue){ .per_image = add, .act = ACT_SILU });
    scratch_free(&r->mem, add);

    visit v = { r, emb, table, text };
    unet_visit_layers(u, &v, project_embedding, attend_prompt);
    scratch_free(&r->mem, emb);
    return table;
}

tensor conditioning_step(tensor table, int step)
{
    table.data = (char *)table.data + (size_t)step * (size_t)table.stride * sizeof(float);
    table.stride *= table.w;
    table.w = 1;
    return table;
}
