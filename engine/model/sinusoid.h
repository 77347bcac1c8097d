/* engine/model/sinusoid.h -- one number as sines and cosines: timesteps and micro-conditioning. */
#ifndef REFINE_SINUSOID_H
#define REFINE_SINUSOID_H

/* out[0 .. dim/2) are cosines, out[dim/2 .. dim) sines.  dim is even. */
void embed_sinusoid(float *out, float v, int dim);

#endif
