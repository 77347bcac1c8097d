/* engine/model/conditioning.c -- embeddings and prompt keys and values, once per image. */
#include "engine/model/conditioning.h"

#include "engine/model/sinusoid.h"

#include <string.h>

void conditioning_vector(const unet_config *c, float *out, const float *pooled, const float *ids,
                         int n_ids)
{
    const int n_pooled = c->add_embed_dim - n_ids * c->id_embed_dim;
    memcpy(out, pooled, (size_t)n_pooled * sizeof *out);
    for (int i = 0; i < n_ids; i++)
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

    for (unet_level *l = u->level; l < u->level + u->n_levels; l++)
        for (unet_block *b = l->block; b < l->block + l->n; b++) {
            const tensor column = tensor_channels(table, b->res.emb_at, b->res.c_out);
            forward_linear(r, column, emb, b->res.emb, (epilogue){ 0 });
            transformer_project_prompt(r, &b->att, text);
        }
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
